"""Exact and Nyström attention against the naive transcription, and the theorems they must obey."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from nystrom_numerics import attention, errors, landmarks, pinv
from nystrom_numerics.attention import exact, nystrom, nystrom_operator
from nystrom_numerics.backend import to_numpy
from tests import naive

STRATEGIES = {
    "segment_means": landmarks.segment_means,
    "strided": landmarks.strided,
    "uniform": landmarks.uniform,
    "kmeans": landmarks.kmeans,
}
CALLS = {
    "exact": exact,
    "paper": lambda q, k, v, **o: nystrom(q, k, v, 4, **o),
    "svd": lambda q, k, v, **o: nystrom(q, k, v, 4, pinv=partial(pinv.svd, rtol=1e-3), **o),
}


def qkv(rng, *shape, n_k=None, d_v=None):
    *batch, n, d = shape
    n_k, d_v = n_k or n, d_v or d
    return tuple(rng.standard_normal((*batch, rows, width)) for rows, width in ((n, d), (n_k, d), (n_k, d_v)))


# ---------------------------------------------------------------- against the formula


@pytest.mark.parametrize(("dtype", "tol"), [("float32", 1e-5), ("float64", 1e-10)])
@pytest.mark.parametrize(("n", "m"), [(32, 8), (64, 64), (96, 1)])
def test_parity_with_the_papers_formula(dtype, tol, n, m, rng):
    q, k, v = qkv(rng, n, 16)
    expected = naive.nystrom_matrix(q, k, m) @ v
    got = nystrom(*(x.astype(dtype) for x in (q, k, v)), m)
    assert np.linalg.norm(got - expected) <= tol * np.linalg.norm(expected)


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_parity_with_the_package_nystrom_attention(dtype, tol, rng):
    """Its projections set to the identity, one item and one head, no mask, m | n."""
    peer = pytest.importorskip("nystrom_attention", reason="the peer package nystrom-attention is absent")
    n, d, m = 128, 32, 16
    module = peer.NystromAttention(3 * d, dim_head=d, heads=1, num_landmarks=m, residual=False).to(dtype)
    with torch.no_grad():
        module.to_qkv.weight.copy_(torch.eye(3 * d))
        module.to_out[0].weight.copy_(torch.eye(3 * d)[:, :d])
        module.to_out[0].bias.zero_()
        x = torch.tensor(rng.standard_normal((1, n, 3 * d)), dtype=dtype)
        expected = module(x)[0, :, :d]
    got = nystrom(*x[0].split(d, dim=-1), m)
    assert torch.linalg.norm(got - expected) <= tol * torch.linalg.norm(expected)


@pytest.mark.parametrize("m", [3, 7, 10])
def test_any_length(m, rng):
    q, k, v = qkv(rng, 10, 4)
    np.testing.assert_allclose(nystrom(q, k, v, m), naive.nystrom_matrix(q, k, m) @ v, rtol=1e-9, atol=1e-11)


def test_cross_attention_and_scale(rng):
    q, k, v = qkv(rng, 10, 4, n_k=23, d_v=7)
    np.testing.assert_allclose(exact(q, k, v, scale=0.3), naive.attention(q, k, v, 0.3), rtol=1e-12)
    expected = naive.nystrom_matrix(q, k, 5, scale=0.3) @ v
    np.testing.assert_allclose(nystrom(q, k, v, 5, scale=0.3), expected, rtol=1e-9, atol=1e-11)


def test_streaming_over_many_blocks(rng):
    """Lengths that span several blocks, with the largest score in the last one and in the first."""
    q, k, v = qkv(rng, 1500, 3, n_k=2600, d_v=2)
    k[-1] *= 30
    k[0] *= -30
    np.testing.assert_allclose(exact(q, k, v), naive.attention(q, k, v), rtol=1e-10, atol=1e-12)


def test_huge_scores_do_not_overflow(rng):
    q, k, v = qkv(rng, 8, 4)
    np.testing.assert_allclose(
        exact(q * 1e150, k * 1e150, v, scale=1e-2), naive.attention(q * 1e148, k * 1e150, v, 1.0)
    )


# ---------------------------------------------------------------- lanes, batches, dtypes


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_lanes_agree(call, lane, dtype, batch, rng):
    """Tolerance: κ(A) of these cores is below 1e3 after the cutoff, so about 1e3·u."""
    x = [y.astype(dtype) for y in qkv(rng, *batch, 11, 5, n_k=9, d_v=3)]
    mask = rng.random((*batch, 9)) < 0.8
    mask[..., :4] = True
    expected = CALLS[call](*(y.astype("float64") for y in x), key_mask=mask)
    got = CALLS[call](*map(lane, x), key_mask=lane(mask))
    tol = 3e-4 if dtype == "float32" else 1e-12
    lane.assert_close(got, expected, lane(x[2]), rtol=tol, atol=tol)


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_on_every_lane(name, lane, rng):
    q, k, v = qkv(rng, 2, 12, 4)
    mask = np.ones((2, 12), bool)
    mask[0, 9:] = False
    options = {"landmarks": STRATEGIES[name], "pinv": partial(pinv.svd, rtol=1e-6)}
    expected = nystrom(q, k, v, 3, key_mask=mask, query_mask=mask, **options)
    got = nystrom(lane(q), lane(k), lane(v), 3, key_mask=lane(mask), query_mask=lane(mask), **options)
    lane.assert_close(got, expected, lane(q), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("call", CALLS)
def test_batch_independence(call, rng):
    q, k, v = qkv(rng, 3, 12, 4)
    q[1] *= 50  # a spiky neighbour
    together = CALLS[call](q, k, v)
    for i in range(3):
        np.testing.assert_allclose(CALLS[call](q[i], k[i], v[i]), together[i], rtol=1e-12, atol=1e-13)


def test_leading_axes_broadcast(rng):
    q, k, v = qkv(rng, 2, 3, 8, 4)
    got = nystrom(q, k[:, :1], v[:1, :1], 4)
    for i in range(2):
        for j in range(3):
            np.testing.assert_allclose(
                got[i, j], nystrom(q[i, j], k[i, 0], v[0, 0], 4), rtol=1e-10, atol=1e-12
            )
    mask = np.ones((2, 1, 8), bool)
    mask[1, :, 6:] = False
    masked = nystrom(q, k[:, :1], v[:1, :1], 4, key_mask=mask, query_mask=mask)
    np.testing.assert_allclose(masked[0], got[0], rtol=1e-10, atol=1e-12)
    short = nystrom(q[1, :, :6], k[1, :1, :6], v[0, :1, :6], 4)
    np.testing.assert_allclose(masked[1, :, :6], short, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("dtype16", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("call", CALLS)
def test_half_precision(call, dtype16, rng):
    """Storage of 16 bits, everything between in float32: one rounding at the end."""
    q, k, v = (torch.asarray(x, dtype=dtype16) for x in qkv(rng, 2, 40, 8))
    got = CALLS[call](q, k, v)
    wide = CALLS[call](*(x.to(torch.float32) for x in (q, k, v)))
    assert got.dtype == dtype16
    if call == "exact":
        assert torch.equal(got, wide.to(dtype16))
    else:  # landmarks are stored in 16 bits once
        assert torch.linalg.norm(got - wide) < 0.05 * torch.linalg.norm(wide)


# ---------------------------------------------------------------- masks


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(("left", "right"), [(0, 7), (7, 0), (3, 30), (0, 2000)])
def test_padding_changes_nothing(call, left, right, rng):
    q, k, v = qkv(rng, 2, 13, 4)

    def pad(x):
        junk = rng.standard_normal((2, left + right, x.shape[-1])) * 1e3
        junk[:, ::2] = np.nan
        return np.concatenate([junk[:, :left], x, junk[:, left:]], axis=1)

    mask = np.zeros((2, left + 13 + right), bool)
    mask[:, left : left + 13] = True
    options = {"key_mask": mask} if call == "exact" else {"key_mask": mask, "query_mask": mask}
    got = CALLS[call](pad(q), pad(k), pad(v), **options)[:, left : left + 13]
    np.testing.assert_allclose(got, CALLS[call](q, k, v), rtol=1e-9, atol=1e-11)


def test_fewer_real_tokens_than_landmarks_is_exact_with_the_true_inverse(rng):
    """Every real token is then a landmark, and Lemma 2 applies."""
    q, k, v = qkv(rng, 20, 4)
    mask = np.arange(20) < 5
    got = nystrom(q, k, v, 8, pinv=pinv.svd, key_mask=mask, query_mask=mask)
    np.testing.assert_allclose(got[:5], naive.attention(q[:5], k[:5], v[:5]), rtol=1e-8)


def test_fewer_query_landmarks_than_key_landmarks(rng):
    """5 real queries against 20 keys, m = 8: the core is 5 × 8, and what does not exist has no say in it."""
    q, k, v = qkv(rng, 12, 4, n_k=20)
    mask = np.arange(12) < 5
    kt = naive.segment_means(k, 8)
    f, a, b = (naive.softmax(x @ y.T / 2) for x, y in ((q[:5], kt), (q[:5], kt), (q[:5], k)))
    got = nystrom(q, k, v, 8, pinv=pinv.svd, query_mask=mask)
    np.testing.assert_allclose(got[:5], f @ np.linalg.pinv(a) @ b @ v, rtol=1e-8)
    paper = nystrom(q, k, v, 8, pinv=pinv.razavi, query_mask=mask)
    expected = f @ pinv.razavi(a).value @ b @ v
    np.testing.assert_allclose(paper[:5], expected, rtol=1e-8)


@pytest.mark.parametrize("call", CALLS)
def test_a_query_without_any_key_gives_zeros(call, lane, rng):
    q, k, v = qkv(rng, 2, 6, 3)
    mask = np.ones((2, 6), bool)
    mask[0] = False
    got = CALLS[call](lane(q), lane(k), lane(v), key_mask=lane(mask))
    np.testing.assert_array_equal(to_numpy(got)[0], 0.0)
    np.testing.assert_allclose(to_numpy(got)[1], CALLS[call](q[1], k[1], v[1]), rtol=1e-10, atol=1e-12)


# ---------------------------------------------------------------- theorems


@pytest.mark.parametrize("name", ["segment_means", "strided", "uniform"])
def test_lemma_2_full_landmarks_are_exact(name, rng):
    q, k, v = qkv(rng, 2, 10, 4)
    got = nystrom(q, k, v, 10, landmarks=STRATEGIES[name], pinv=pinv.svd)
    np.testing.assert_allclose(got, exact(q, k, v), rtol=1e-7)


def test_row_of_a_query_landmark_is_exact_for_any_key_landmarks(rng):
    """F_i A⁻¹ = e_p: row i is that of the exact attention, whatever the key landmarks are."""
    q, k, v = qkv(rng, 30, 6)

    def rule(x, m, *, mask=None):
        if x is q:
            return landmarks.strided(x, m)
        return landmarks.LandmarkPoints(rng.standard_normal((m, 6)), None, entries=0, seed=None)

    got = nystrom(q, k, v, 5, landmarks=rule, pinv=pinv.svd)
    rows = landmarks.strided(q, 5).indices
    np.testing.assert_allclose(got[rows], exact(q, k, v)[rows], rtol=1e-8)
    others = np.setdiff1d(np.arange(30), rows)
    assert np.linalg.norm(got[others] - exact(q, k, v)[others]) > 1e-2


def test_rows_sum_to_one_with_the_true_inverse_and_not_with_the_unfinished_one(rng):
    q, k, _ = qkv(rng, 40, 4)
    ones = np.ones((40, 1))
    np.testing.assert_allclose(nystrom(q, k, ones, 6, pinv=pinv.svd), 1.0, rtol=1e-8)
    assert np.abs(nystrom(q, k, ones, 6, pinv=partial(pinv.razavi, iterations=1)) - 1).max() > 1e-3


def test_permuting_keys_and_values_together_changes_nothing_for_uniform_means(rng):
    """Exact attention does not see the order of keys; nor does Nyström, given the same landmarks."""
    q, k, v = qkv(rng, 12, 4)
    perm = rng.permutation(12)
    np.testing.assert_allclose(exact(q, k[perm], v[perm]), exact(q, k, v), rtol=1e-12)
    fixed = landmarks.LandmarkPoints(rng.standard_normal((4, 4)), None, entries=0, seed=None)
    call = partial(nystrom, landmarks=lambda x, m, mask=None: fixed)
    np.testing.assert_allclose(call(q, k[perm], v[perm], 4), call(q, k, v, 4), rtol=1e-10)


def test_operator_applied_to_the_identity_is_the_matrix(rng):
    q, k, _ = qkv(rng, 14, 4)
    operator = nystrom_operator(q, k, 4)
    np.testing.assert_allclose(
        operator.apply(np.eye(14)), naive.nystrom_matrix(q, k, 4), rtol=1e-9, atol=1e-12
    )
    assert operator.core.shape == (4, 4)
    np.testing.assert_allclose(operator.core.sum(-1), 1.0, rtol=1e-14)
    assert operator.pinv.matmuls == 24


def test_a_failed_pseudoinverse_shows(rng):
    """NON_FINITE gives NaN in the item concerned and only there."""
    q, k, v = qkv(rng, 2, 8, 3)
    q[0, 0, 0] = np.nan
    got = nystrom(q, k, v, 4)
    assert np.isnan(got[0]).all()
    assert np.isfinite(got[1]).all()


@pytest.mark.parametrize("call", CALLS)
def test_gradcheck(call, rng):
    x = [torch.tensor(y, requires_grad=True) for y in qkv(rng, 6, 3)]
    mask = torch.tensor([True, True, True, True, True, False])
    fn = CALLS[call]
    assert torch.autograd.gradcheck(lambda q, k, v: fn(q, k, v, key_mask=mask), x)


# ---------------------------------------------------------------- bad input

Q = np.zeros((2, 6, 3))
BAD = {
    "q of one axis": ((np.zeros(3), Q, Q), {}, errors.ShapeError, "q"),
    "no queries": ((Q[:, :0], Q, Q), {}, errors.ShapeError, "q"),
    "no keys": ((Q, Q[:, :0], Q[:, :0]), {}, errors.ShapeError, "k"),
    "width": ((Q, Q[..., :2], Q), {}, errors.ShapeError, "k"),
    "values for other keys": ((Q, Q, Q[:, :4]), {}, errors.ShapeError, "v"),
    "batch": ((Q, np.zeros((3, 6, 3)), Q), {}, errors.ShapeError, "k"),
    "integer": ((Q, Q.astype(int), Q), {}, errors.DTypeError, "k"),
    "complex": ((Q.astype(complex), Q, Q), {}, errors.DTypeError, "q"),
    "mixed dtypes": ((Q, Q, Q.astype("float32")), {}, errors.DTypeError, "v"),
    "mixed libraries": ((Q, torch.zeros(2, 6, 3), Q), {}, errors.NamespaceError, "k"),
    "a list": ((Q, Q, Q.tolist()), {}, errors.NamespaceError, "v"),
    "float mask": ((Q, Q, Q), {"key_mask": np.ones(6)}, errors.DTypeError, "key_mask"),
    "short mask": ((Q, Q, Q), {"key_mask": np.ones(5, bool)}, errors.ShapeError, "key_mask"),
    "mask of another library": (
        (Q, Q, Q),
        {"key_mask": torch.ones(6, dtype=torch.bool)},
        errors.NamespaceError,
        "key_mask",
    ),
    "infinite scale": ((Q, Q, Q), {"scale": np.inf}, errors.RangeError, "scale"),
    "NaN": ((Q, Q, Q * np.nan), {"check_finite": True}, errors.NonFiniteError, "v"),
}


@pytest.mark.parametrize("call", ["exact", "paper"])
@pytest.mark.parametrize("case", BAD)
def test_bad_input(call, case):
    args, options, error, argument = BAD[case]
    with pytest.raises(error) as caught:
        CALLS[call](*args, **options)
    assert caught.value.argument == argument


@pytest.mark.parametrize("m", [0, -1, 7, 2.5])
def test_bad_number_of_landmarks(m):
    with pytest.raises(errors.RangeError, match="`m`"):
        nystrom(Q, Q, Q, m)


def test_query_mask_is_checked():
    with pytest.raises(errors.ShapeError, match="`query_mask`"):
        nystrom(Q, Q, Q, 2, query_mask=np.ones(5, bool))


def test_devices_must_agree():
    import array_api_strict as strict

    here, there = (strict.asarray(Q, device=strict.Device(name)) for name in ("CPU_DEVICE", "device1"))
    with pytest.raises(errors.DeviceError, match="`k`"):
        exact(here, there, here)


def test_operator_refuses_values_of_another_length():
    with pytest.raises(errors.ShapeError, match="`v`"):
        nystrom_operator(Q, Q, 2).apply(Q[:, :3])


def test_misspelt_option_is_refused():
    with pytest.raises(TypeError, match="key_msk"):
        attention.nystrom(Q, Q, Q, 2, key_msk=None)
