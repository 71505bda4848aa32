"""Masks of every shape that can be honoured, and the refusal of the rest; heads that share keys."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nystrom_numerics import attention, errors, landmarks, pinv
from nystrom_numerics.attention import exact, normalised, nystrom
from nystrom_numerics.backend import to_numpy
from tests import naive

CALLS = {
    "nystrom": lambda *x, **o: nystrom(*x, 4, **o),
    "normalised": lambda *x, **o: normalised(*x, 4, **o),
}
both = pytest.mark.parametrize("call", CALLS)


def qkv(rng, *batch, n_q=14, n_k=11, d=5, d_v=3):
    return tuple(rng.standard_normal((*batch, n, w)) for n, w in ((n_q, d), (n_k, d), (n_k, d_v)))


# ---------------------------------------------------------------- exact attention takes any mask


@pytest.mark.parametrize(
    "shape", [(), (11,), (14, 11), (14, 1), (1, 1), (2, 1, 14, 11), (3, 14, 11), (2, 3, 1, 11), (2, 3, 14, 1)]
)
@pytest.mark.parametrize("kind", ["boolean", "additive"])
def test_exact_attention_with_a_mask_of_any_shape(shape, kind, lane, rng):
    q, k, v = qkv(rng, 2, 3)
    mask = np.asarray(rng.random(shape) < 0.7) if kind == "boolean" else rng.standard_normal(shape)
    if kind == "additive" and shape:
        mask[..., 0] = -np.inf
    bias = np.where(mask, 0.0, -np.inf) if kind == "boolean" else mask
    scores = q @ np.swapaxes(k, -1, -2) / np.sqrt(5) + bias
    with np.errstate(invalid="ignore"):
        expected = np.where((scores == -np.inf).all(-1)[..., None], 0.0, naive.softmax(scores) @ v)
    got = exact(lane(q), lane(k), lane(v), attn_mask=lane(mask))
    lane.assert_close(got, expected, lane(v), rtol=1e-10, atol=1e-12)


# ---------------------------------------------------------------- what Nyström attention can honour


@both
@pytest.mark.parametrize("shape", [(11,), (1, 11), (2, 1, 1, 11), (2, 3, 1, 11), (3, 1, 11)])
def test_a_boolean_mask_of_keys_is_the_key_mask(call, shape, lane, rng):
    q, k, v = map(lane, qkv(rng, 2, 3))
    mask = rng.random(shape) < 0.7
    mask[..., :4] = True
    got = CALLS[call](q, k, v, attn_mask=lane(mask))
    tokens = np.broadcast_to(mask, (2, 3, 1, 11))[..., 0, :]
    lane.assert_close(
        got, to_numpy(CALLS[call](q, k, v, key_mask=lane(tokens.copy()))), v, rtol=1e-9, atol=1e-11
    )


@both
def test_minus_infinity_and_the_least_number_mask_a_key(call, lane, rng):
    q, k, v = map(lane, qkv(rng, 2))
    hidden = np.zeros(11)
    hidden[7:] = -np.inf
    least = np.zeros(11)
    least[7:] = np.finfo(float).min
    expected = to_numpy(CALLS[call](q, k, v, key_mask=lane(np.arange(11) < 7)))
    for mask in (hidden, least):
        lane.assert_close(CALLS[call](q, k, v, attn_mask=lane(mask)), expected, v, rtol=1e-9, atol=1e-11)


@both
def test_an_additive_mask_of_keys_is_one_more_coordinate(call, lane, rng):
    """Adding b_j to every score of key j is attention of [q, 1/s] to [k, b], landmarks included."""
    q, k, v = qkv(rng, 2, 3)
    bias, scale = rng.standard_normal((2, 1, 11)), 0.4
    wide_q = np.concatenate([q, np.full_like(q[..., :1], 1 / scale)], axis=-1)
    wide_k = np.concatenate([k, np.broadcast_to(bias[..., None], (2, 3, 11, 1))], axis=-1)
    expected = CALLS[call](wide_q, wide_k, v, scale=scale)
    got = CALLS[call](*map(lane, (q, k, v)), attn_mask=lane(bias[:, :, None]), scale=scale)
    lane.assert_close(got, expected, lane(v), rtol=1e-8, atol=1e-10)


def test_full_landmarks_with_an_additive_mask_are_exact(rng):
    q, k, v = qkv(rng, 2, n_q=11)
    bias = rng.standard_normal((2, 1, 11))
    got = nystrom(q, k, v, 11, attn_mask=bias, solver=pinv.rank_revealing)
    np.testing.assert_allclose(got, exact(q, k, v, attn_mask=bias), rtol=1e-6)


@both
def test_a_mask_of_queries_gives_rows_of_zeros(call, lane, rng):
    q, k, v = qkv(rng, 2)
    seen = rng.random((2, 14, 1)) < 0.7
    seen[:, :4] = True
    got = to_numpy(CALLS[call](*map(lane, (q, k, v)), attn_mask=lane(seen)))
    expected = CALLS[call](q, k, v, query_mask=seen[..., 0])
    np.testing.assert_allclose(got, np.where(seen, expected, 0.0), rtol=1e-9, atol=1e-11)
    finite = CALLS[call](q, k, v, attn_mask=rng.standard_normal((14, 1)))
    np.testing.assert_allclose(finite, CALLS[call](q, k, v), rtol=1e-9, atol=1e-11)


@both
def test_masks_add_up(call, rng):
    q, k, v = qkv(rng, 2)
    one, other = np.arange(11) < 9, np.arange(11) > 1
    got = CALLS[call](q, k, v, key_mask=one, attn_mask=other)
    np.testing.assert_allclose(got, CALLS[call](q, k, v, key_mask=one & other), rtol=1e-12)


@both
def test_an_item_without_any_key_gives_zeros_and_finite_gradients(call, rng):
    q, k, v = (torch.tensor(x, requires_grad=True) for x in qkv(rng, 2))
    mask = torch.ones(2, 11, dtype=torch.bool)
    mask[1] = False
    out = CALLS[call](q, k, v, key_mask=mask)
    assert not out[1].any()
    out.sum().backward()
    assert all(torch.isfinite(x.grad).all() for x in (q, k, v))


# ---------------------------------------------------------------- what it cannot

BAD = {
    "pairs": (np.ones((14, 11), bool), errors.ShapeError, "attn_mask"),
    "pairs of a batch": (np.zeros((2, 14, 11)), errors.ShapeError, "attn_mask"),
    "other keys": (np.ones((1, 10), bool), errors.ShapeError, "attn_mask"),
    "more axes": (np.ones((5, 2, 1, 11), bool), errors.ShapeError, "attn_mask"),
    "integers": (np.ones((1, 11), int), errors.DTypeError, "attn_mask"),
}


@both
@pytest.mark.parametrize("case", BAD)
def test_a_mask_that_cannot_be_honoured_is_refused_by_name(call, case, rng):
    mask, error, argument = BAD[case]
    with pytest.raises(error) as caught:
        CALLS[call](*qkv(rng, 2), attn_mask=mask)
    assert caught.value.argument == argument


def test_the_refusal_says_where_to_go(rng):
    with pytest.raises(errors.ShapeError, match=r"attention\.causal.*attention\.exact"):
        nystrom(*qkv(rng), 3, attn_mask=np.tri(14, 11, dtype=bool))


# ---------------------------------------------------------------- heads that share keys


@both
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_grouped_heads_are_repeated_heads(call, groups, lane, rng):
    q, _, _ = qkv(rng, 2, 6)
    _, k, v = qkv(rng, 2, groups)
    mask = rng.random((2, 1, 11)) < 0.8
    mask[..., :4] = True
    bias = rng.standard_normal((2, 6, 1, 11))
    got = CALLS[call](*map(lane, (q, k, v)), grouped=True, key_mask=lane(mask), attn_mask=lane(bias))
    k, v = (np.repeat(x, 6 // groups, axis=1) for x in (k, v))
    lane.assert_close(
        got, CALLS[call](q, k, v, key_mask=mask, attn_mask=bias), lane(v), rtol=1e-8, atol=1e-10
    )


def test_groups_that_do_not_divide_are_refused(rng):
    q, k, v = qkv(rng, 4)
    with pytest.raises(errors.ShapeError, match="`k` is of 3 heads"):
        nystrom(q, k[:3], v[:3], 4, grouped=True)
    with pytest.raises(errors.ShapeError, match="`q`"):
        nystrom(q[0], k[:2], v[:2], 4, grouped=True)
    with pytest.raises(errors.ShapeError, match="`key_mask` is of 3 heads"):
        nystrom(q, k[:2], v[:2], 4, grouped=True, key_mask=np.ones((3, 11), bool))


# ---------------------------------------------------------------- numbers of landmarks


@both
@pytest.mark.parametrize("counts", [(3, 5), (6, 2)])
def test_different_numbers_of_landmarks(call, counts, lane, rng):
    function = {"nystrom": nystrom, "normalised": normalised}[call]
    q, k, v = qkv(rng, 2)
    got = function(*map(lane, (q, k, v)), counts)
    lane.assert_close(got, function(q, k, v, counts), lane(v), rtol=1e-9, atol=1e-11)


def test_different_numbers_of_landmarks_against_the_formula(rng):
    q, k, v = qkv(rng)
    scale = 5**-0.5
    qt, kt = naive.segment_means(q, 3), naive.segment_means(k, 6)
    f, a, b = (naive.softmax(x @ y.T * scale) for x, y in ((q, kt), (qt, kt), (qt, k)))
    got = nystrom(q, k, v, (3, 6), solver=pinv.rank_revealing)
    np.testing.assert_allclose(got, f @ np.linalg.pinv(a) @ b @ v, rtol=1e-8)


@pytest.mark.parametrize("counts", [(15, 3), (3, 12), (0, 3)])
def test_too_many_landmarks_of_one_kind(counts, rng):
    with pytest.raises(errors.RangeError, match="`m`"):
        nystrom(*qkv(rng), counts)


# ---------------------------------------------------------------- equivariance


def test_permuting_queries_permutes_rows_given_the_same_landmarks(rng):
    q, k, v = qkv(rng)
    fixed = landmarks.LandmarkPoints(rng.standard_normal((4, 5)), None, entries=0, seed=None)
    perm = rng.permutation(14)
    call = lambda x: attention.nystrom(x, k, v, 4, landmarks=lambda y, m, mask=None: fixed)  # noqa: E731
    np.testing.assert_allclose(call(q[perm]), call(q)[perm], rtol=1e-12)
