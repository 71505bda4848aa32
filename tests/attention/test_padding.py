"""Padding, wherever it stands and whatever it holds, changes neither results nor derivatives; axes broadcast."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nystrom_numerics import errors, landmarks, pinv
from nystrom_numerics.attention import causal, exact, near_field, normalised, nystrom, nystrom_operator
from nystrom_numerics.backend import to_numpy
from tests.conftest import LANES

N, D, D_V = 14, 4, 3


def both(function, *m, **options):
    """A call whose tokens are masked as keys and as queries."""
    return lambda q, k, v, mask=None: function(q, k, v, *m, key_mask=mask, query_mask=mask, **options)


def by_additive_mask(q, k, v, mask=None):
    bias = None if mask is None else torch.where(mask, 0.0, -torch.inf).to(q.dtype)[..., None, :]
    return nystrom(q, k, v, 3, attn_mask=bias, query_mask=mask)


def by_pairs(q, k, v, mask=None):
    return exact(q, k, v, attn_mask=None if mask is None else mask[..., None, :] & mask[..., None])


def applied(q, k, v, mask=None):
    return nystrom_operator(q, k, 3, key_mask=mask, query_mask=mask).apply(v)


CALLS = {
    "exact": lambda q, k, v, mask=None: exact(q, k, v, key_mask=mask),
    "exact, a mask of pairs": by_pairs,
    "causal": lambda q, k, v, mask=None: causal(q, k, v, block=4, near=3, key_mask=mask),
    "normalised": both(normalised, 3),
    "nystrom": both(nystrom, 3),
    "nystrom, the paper's core": both(nystrom, 3, pinv=pinv.razavi),
    "nystrom, rank-revealing": both(nystrom, 3, solver=pinv.rank_revealing),
    "nystrom, strided": both(nystrom, 3, landmarks=landmarks.strided),
    "nystrom, uniform": both(nystrom, 3, landmarks=landmarks.uniform),
    "nystrom, k-means": both(nystrom, 3, landmarks=landmarks.kmeans),
    "nystrom, farthest": both(nystrom, 3, landmarks=landmarks.farthest),
    "nystrom, additive mask": by_additive_mask,
    "an operator applied": applied,
    "near_field": lambda q, k, v, mask=None: near_field(q, k, v, 3, block=4, mask=mask),
    "near_field, no margin": lambda q, k, v, mask=None: near_field(q, k, v, 2, block=3, margin=0, mask=mask),
}
WHERE = {
    "left": np.r_[np.zeros(5, bool), np.ones(N, bool)],
    "right": np.r_[np.ones(N, bool), np.zeros(5, bool)],
    "inside": np.r_[np.ones(3, bool), np.zeros(4, bool), np.ones(N - 3, bool), np.zeros(1, bool)],
}
every = pytest.mark.parametrize("call", CALLS)


def tokens(rng, *batch, dtype=torch.float64):
    return [torch.tensor(rng.standard_normal((*batch, N, w)), dtype=dtype) for w in (D, D, D_V)]


def padded(x, mask, hostile):
    """``x`` at the real places of a longer array; elsewhere ones, or NaN, infinities and large numbers."""
    junk = torch.tensor([np.nan, np.inf, -np.inf, 1e30] if hostile else [1.0], dtype=x.dtype)
    rows = junk[torch.arange(len(mask)) % len(junk)]
    wide = rows[:, None].expand(*x.shape[:-2], len(mask), x.shape[-1]).clone()
    wide[..., mask, :] = x
    return wide


# ---------------------------------------------------------------- results and derivatives


@every
@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize(
    ("which", "dtype", "tol"),
    [("qkv", torch.float32, 2e-4), *((which, torch.float64, 1e-10) for which in ("q", "k", "v", "qkv"))],
)
def test_neither_outputs_nor_gradients_of_real_tokens_know_the_padding(call, where, which, dtype, tol, rng):
    """Tolerance: κ of the systems solved is at most about 10³, by the ridge or the cutoff, so 10³u and some."""
    mask = torch.tensor(WHERE[where])
    x = tokens(rng, 2, dtype=dtype)
    plain = [y.clone().requires_grad_() for y in x]
    wide = [padded(y, mask, name in which).requires_grad_() for name, y in zip("qkv", x, strict=True)]
    expected, got = CALLS[call](*plain), CALLS[call](*wide, mask)[..., mask, :]
    torch.testing.assert_close(got, expected, rtol=tol, atol=tol)
    weight = torch.tensor(rng.standard_normal(expected.shape), dtype=dtype)
    for one, y in ((expected, plain), (got, wide)):
        (one * weight).sum().backward()
        assert all(bool(torch.isfinite(z.grad).all()) for z in y)
    size = max(float(y.grad.abs().max()) for y in plain)
    for short, long in zip(plain, wide, strict=True):
        torch.testing.assert_close(long.grad[..., mask, :], short.grad, rtol=tol, atol=tol * size)
        assert not long.grad[..., ~mask, :].any()


@every
def test_each_item_has_padding_of_its_own(call, lane, rng):
    """Items padded left, right and inside in one batch, each as by itself without padding."""
    if call == "nystrom, additive mask":
        lane = LANES["torch"]  # where its mask is made
    x = [y.numpy() for y in tokens(rng, 3)]
    masks = np.stack(list(WHERE.values()))
    wide = [np.full((3, masks.shape[1], y.shape[-1]), np.nan) for y in x]
    for y, z in zip(wide, x, strict=True):
        y[masks] = z.reshape(-1, z.shape[-1])
    got = to_numpy(CALLS[call](*map(lane, wide), lane(masks)))
    for i, mask in enumerate(masks):
        alone = CALLS[call](*(torch.tensor(y[i]) for y in x)).numpy()
        np.testing.assert_allclose(got[i][mask], alone, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("left", [1, 3, 8, 11])
def test_causal_does_not_look_ahead_under_left_padding(left, rng):
    """Each place in turn holds something enormous: all outputs before it stay, those of padding are zero."""
    mask = np.arange(23) >= left
    x = [rng.standard_normal((23, w)) for w in (4, 4, 3)]
    call = lambda *y: causal(*y, block=4, near=3, key_mask=mask)  # noqa: E731
    whole = call(*x)
    assert not whole[:left].any()
    for t in range(23):
        changed = [y.copy() for y in x]
        for y in changed:
            y[t] = 1e3 * rng.standard_normal(y.shape[-1])
        got = call(*changed)
        if t < left:
            np.testing.assert_array_equal(got, whole)
        else:
            np.testing.assert_array_equal(got[:t], whole[:t])
            assert (got[t] != whole[t]).any()


def test_what_takes_part_in_no_pair_is_padding(rng):
    """Exact attention given one mask of causality and padding at once, as decoders are."""
    q, k, v = (y.requires_grad_() for y in tokens(rng))
    real = torch.arange(N) >= 3
    pairs = torch.ones(N, N, dtype=torch.bool).tril() & real[None, :]
    expected = exact(q[3:], k[3:], v[3:], attn_mask=pairs[3:, 3:])
    with torch.no_grad():
        wide = [torch.where(real[:, None], y, torch.nan) for y in (q, k, v)]
    for mask in (pairs, torch.where(pairs, 0.0, -torch.inf).to(q.dtype)):
        leaves = [y.clone().requires_grad_() for y in wide]
        got = exact(*leaves, attn_mask=mask)
        torch.testing.assert_close(got[3:], expected)
        assert not got[:3].any()
        got.sum().backward()
        assert all(bool(torch.isfinite(y.grad).all()) for y in leaves)


@every
def test_storage_of_16_bits_is_kept(call, rng):
    """Computed in float32: what is rounded are landmarks, once, and the result."""
    mask, dtype = torch.arange(N) != 2, torch.bfloat16
    x = [y.to(dtype) for y in tokens(rng, 2)]
    for one in (None, mask):
        got, wide = CALLS[call](*x, one), CALLS[call](*(y.float() for y in x), one)
        assert got.dtype == dtype
        assert wide.dtype == torch.float32
        real = slice(None) if one is None else one
        assert torch.linalg.norm((got - wide)[:, real]) < 0.05 * torch.linalg.norm(wide[:, real])


# ---------------------------------------------------------------- leading axes


@every
@pytest.mark.parametrize("owner", ["q", "k", "v", "kv"])
@pytest.mark.parametrize("masked", [None, "shared", "own"])
def test_leading_axes_may_be_anyones(call, owner, masked, rng):
    """Axes of queries, of keys or of values alone: each item is what it is by itself."""
    batch = (2, 1, 2) if masked is None else (2,)
    x = {
        name: rng.standard_normal((*(batch if name in owner else ()), N, w))
        for name, w in (("q", D), ("k", D), ("v", D_V))
    }
    mask = None
    if masked is not None:
        shape = (*(batch if masked == "own" else ()), N)
        mask = rng.random(shape) < 0.7
        mask[..., :4] = True
    if call == "an operator applied" and owner == "v" and masked == "own":
        pytest.skip("a mask of the operator has the axes of the operator")
    inputs = {name: torch.tensor(y) for name, y in x.items()}
    got = CALLS[call](*inputs.values(), None if mask is None else torch.tensor(mask))
    assert tuple(got.shape) == (*batch, N, D_V)
    for item in np.ndindex(*batch):
        alone = [torch.tensor(y[item] if y.ndim > 2 else y) for y in x.values()]
        of_mask = None if mask is None else torch.tensor(mask[item] if mask.ndim > 1 else mask)
        torch.testing.assert_close(got[item], CALLS[call](*alone, of_mask), rtol=1e-8, atol=1e-10)


@every
def test_a_mask_with_axes_that_no_token_has_is_refused(call, rng):
    mask = torch.ones(2, N, dtype=torch.bool)
    with pytest.raises(errors.ShapeError, match="mask"):
        CALLS[call](*tokens(rng), mask)
