"""The near field is exact, the far field Nyström's and never more than its share: against explicit matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nystrom_numerics import errors
from nystrom_numerics.attention import exact, near_field, nystrom, ridge
from nystrom_numerics.backend import to_numpy
from tests.naive import segment_means, softmax


def qkv(rng, *batch, n=50, d=4):
    return tuple(rng.standard_normal((*batch, n, d)) for _ in range(3))


def matrix(q, k, m, block, margin, scale):
    """Ŝ of one head, entry by entry as the docstring has it."""
    n = len(q)
    near = np.zeros((n, n), bool)
    for i in range(n):
        start = i // block * block
        near[i, max(0, start - margin) : start + block + margin] = True
    near[:, [0, -1]] = True
    qt, kt = segment_means(q, m), segment_means(k, m)
    f, a, b = (softmax(x @ y.T * scale) for x, y in ((q, kt), (qt, kt), (qt, k)))
    nystrom_part = np.where(near, 0, f @ np.linalg.solve(a.T @ a + 1e-3 * np.eye(m), a.T @ b))
    weights, stands = np.exp(scale * q @ k.T), np.exp(scale * q @ kt.T)
    segment = np.arange(n) * m // n
    beyond = sum((~near[:, segment == s]).sum(axis=1) * stands[:, s] for s in range(m))
    total = (weights * near).sum(axis=1) + beyond
    mass = nystrom_part.sum(axis=1)
    share = np.array([min(t / x, 1) if x > 0 else 0 for t, x in zip(beyond / total, mass, strict=True)])
    return weights * near / total[:, None] + share[:, None] * nystrom_part, share


@pytest.mark.parametrize(
    ("n", "block", "margin"), [(50, 8, 2), (50, 7, 0), (41, 5, 5), (50, 64, 16), (3, 1, 1), (2500, 64, 16)]
)
def test_it_is_its_formula(n, block, margin, rng):
    q, k, v = qkv(rng, n=n)
    m = min(6, n)
    expected, share = matrix(2 * q, k, m, block, margin, 0.7)
    got = near_field(2 * q, k, v, m, block=block, margin=margin, scale=0.7)
    np.testing.assert_allclose(got, expected @ v, rtol=1e-8, atol=1e-10)
    if n == 50 and block < 50:
        assert 0 < (share < 1).sum() < n, "both sides of the cut must be met"


def test_lanes(lane, dtype, rng):
    q, k, v = (x.astype(dtype) for x in qkv(rng, 2, 3))
    expected = near_field(*(x.astype("float64") for x in (q, k, v)), 6, block=8)
    mask = np.ones((2, 1, 50), bool)
    mask[1, :, 31:] = False
    shorter = near_field(*(x[1, :, :31].astype("float64") for x in (q, k, v)), 6, block=8)
    tol = 1e-3 if dtype == "float32" else 1e-9
    a, b, c = lane(q), lane(k), lane(v)
    lane.assert_close(near_field(a, b, c, 6, block=8), expected, a, rtol=tol, atol=tol)
    masked = to_numpy(near_field(a, b, c, 6, block=8, mask=lane(mask)))
    np.testing.assert_allclose(masked[0], expected[0], rtol=tol, atol=tol)
    np.testing.assert_allclose(masked[1, :, :31], shorter, rtol=tol, atol=tol)
    assert (masked[1, :, 31:] == 0).all()


def test_one_block_is_exact_attention(rng):
    q, k, v = qkv(rng, 2)
    np.testing.assert_allclose(near_field(q, k, v, 5, block=50), exact(q, k, v), rtol=1e-10)
    few = near_field(q[:, :2], k[:, :2], v[:, :2], 1, block=1)  # every token is an end
    np.testing.assert_allclose(few, exact(q[:, :2], k[:, :2], v[:, :2]), rtol=1e-10)


def test_rows_sum_to_one_at_most(rng):
    q, k, _ = qkv(rng, 3, n=300)
    sums = near_field(3 * q, k, np.ones((300, 1)), 20, block=16)
    assert (sums <= 1 + 1e-12).all()
    assert np.median(sums) > 0.9


@pytest.mark.parametrize(("left", "right"), [(0, 7), (7, 0), (3, 30), (0, 2000)])
def test_padding_changes_nothing(left, right, rng):
    q, k, v = qkv(rng, 2, n=40)
    mask = np.zeros((2, left + 40 + right), bool)
    mask[:, left : left + 40] = True

    def pad(x):
        junk = rng.standard_normal((2, left + right, 4)) * 1e3
        junk[:, ::2] = np.nan
        return np.concatenate([junk[:, :left], x, junk[:, left:]], axis=1)

    got = near_field(*(pad(x) for x in (q, k, v)), 6, block=8, mask=mask)
    np.testing.assert_allclose(
        got[mask].reshape(2, 40, 4), near_field(q, k, v, 6, block=8), rtol=1e-9, atol=1e-12
    )
    assert (got[~mask] == 0).all()


def test_tokens_masked_between_are_as_if_they_were_not_there(rng):
    q, k, v = qkv(rng, n=60)
    mask = rng.random(60) < 0.6
    got = near_field(q, k, v, 6, block=8, mask=mask)
    np.testing.assert_allclose(
        got[mask], near_field(q[mask], k[mask], v[mask], 6, block=8), rtol=1e-9, atol=1e-12
    )


def test_no_item_knows_its_batch_mates(rng):
    q, k, v = qkv(rng, 4)
    q[1] *= 40
    q[2, 3, 0] = np.nan
    mask = np.ones((4, 50), bool)
    mask[0, 20:], mask[3] = False, False
    together = near_field(q, k, v, 6, block=8, mask=mask)
    for i in (0, 1):
        np.testing.assert_allclose(
            near_field(q[i], k[i], v[i], 6, block=8, mask=mask[i]), together[i], rtol=1e-9, atol=1e-12
        )
    assert np.isnan(together[2]).all(), "a core that cannot be solved with is seen in every row"
    assert (together[3] == 0).all(), "no real token"


def test_grouped_heads_and_half_precision(rng):
    q, k, v = rng.standard_normal((2, 4, 50, 8)), *rng.standard_normal((2, 2, 2, 50, 8))
    repeated = near_field(q, np.repeat(k, 2, 1), np.repeat(v, 2, 1), 6, block=8)
    np.testing.assert_allclose(
        near_field(q, k, v, 6, block=8, grouped=True), repeated, rtol=1e-10, atol=1e-12
    )
    mask = np.arange(50) < np.array([[[50]], [[33]]])
    with_mask = near_field(q, k, v, 6, block=8, grouped=True, mask=mask)
    np.testing.assert_allclose(with_mask[0], repeated[0], rtol=1e-10, atol=1e-12)
    half = [torch.tensor(x, dtype=torch.bfloat16) for x in (q, k, v)]
    got = near_field(*half, 6, block=8, grouped=True)
    wide = near_field(*(x.float() for x in half), 6, block=8, grouped=True)
    assert torch.equal(got, wide.to(torch.bfloat16))


@pytest.mark.parametrize("masked", [False, True])
def test_gradcheck(masked, rng):
    inputs = [torch.tensor(x, requires_grad=True) for x in qkv(rng, 2, n=9)]
    mask = torch.tensor([[True] * 9, [True] * 7 + [False] * 2]) if masked else None
    assert torch.autograd.gradcheck(lambda *x: near_field(*x, 3, block=2, margin=1, mask=mask), inputs)


def test_it_beats_nystrom_with_the_same_kernel_entries_where_tokens_look_at_neighbours(rng):
    walk = np.cumsum(rng.standard_normal((3, 600, 16)), axis=1)
    q = walk / np.linalg.norm(walk, axis=-1, keepdims=True) * 5
    v = rng.standard_normal((3, 600, 16))
    s = exact(q, q, v)
    near, far = near_field(q, q, v, 15), nystrom(q, q, v, 64)
    assert 2 * 15 + 64 + 2 * 16 + 2 == 2 * 64
    assert np.linalg.norm(near - s) < 0.5 * np.linalg.norm(far - s)


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"block": 0}, "block"),
        ({"block": True}, "block"),
        ({"margin": -1}, "margin"),
        ({"margin": 9, "block": 8}, "margin"),
        ({"m": 0}, "m"),
        ({"m": 51}, "m"),
        ({"mask": np.ones(49, bool)}, "mask"),
        ({"k": np.zeros((40, 4))}, "k"),
    ],
)
def test_bad_arguments_are_named(options, argument, rng):
    given = dict(zip("qkv", qkv(rng), strict=True)) | {"m": 6} | options
    q, k, v, m = (given.pop(name) for name in ("q", "k", "v", "m"))
    with pytest.raises(errors.ArgumentError) as caught:
        near_field(q, k, v, m, **given)
    assert caught.value.argument == argument


def test_solver_is_the_callers(rng):
    q, k, v = qkv(rng)
    seen = []

    def solver(a, b):
        seen.append((a.shape, b.shape))
        return ridge(a, b, strength=1.0)

    assert not np.allclose(near_field(q, k, v, 6, block=8, solver=solver), near_field(q, k, v, 6, block=8))
    assert seen == [((6, 6), (6, 50))]
