"""What holds for every landmark rule, and what each one promises."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nystrom_numerics import errors, landmarks
from nystrom_numerics.backend import to_numpy
from tests import naive

RULES = {
    "segment_means": landmarks.segment_means,
    "strided": landmarks.strided,
    "uniform": landmarks.uniform,
    "kmeans": landmarks.kmeans,
}


def padded(x, left, right, rng):
    """``x`` between masked tokens that hold garbage, NaN included, and the mask."""
    shape = (*x.shape[:-2], left + right, x.shape[-1])
    junk = rng.standard_normal(shape) * 1e6
    junk[..., ::3, :] = np.nan
    mask = np.zeros((*x.shape[:-2], left + x.shape[-2] + right), bool)
    mask[..., left : left + x.shape[-2]] = True
    return np.concatenate([junk[..., :left, :], x, junk[..., left:, :]], axis=-2), mask


def points(rule, x, m, **options):
    found = rule(x, m, **options)
    return to_numpy(found.gather(x)), found


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("n", "m"), [(12, 4), (13, 4), (7, 7), (5, 1), (1, 1)])
def test_lanes_agree(rule, lane, dtype, n, m, rng):
    """Same seed, same landmarks on every backend, up to rounding of sums."""
    x = rng.standard_normal((2, 3, n, 4)).astype(dtype)
    expected, _ = points(RULES[rule], x, m)
    found = RULES[rule](lane(x), m)
    lane.assert_close(found.gather(lane(x)), expected, lane(x), rtol=1e-5, atol=1e-6)
    assert expected.shape == (2, 3, m, 4)


@pytest.mark.parametrize("rule", RULES)
def test_masked_lanes_agree(rule, lane, rng):
    x, mask = padded(rng.standard_normal((2, 9, 3)), 2, 4, rng)
    mask[1, 5] = False
    expected, _ = points(RULES[rule], x, 4, mask=mask)
    found = RULES[rule](lane(x), 4, mask=lane(mask))
    lane.assert_close(found.gather(lane(x)), expected, lane(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("left", "right"), [(0, 5), (5, 0), (3, 9), (0, 64)])
@pytest.mark.parametrize("n", [8, 11])
def test_padding_changes_nothing(rule, left, right, n, rng):
    x = rng.standard_normal((2, n, 3))
    bare, _ = points(RULES[rule], x, 4)
    longer, mask = padded(x, left, right, rng)
    with_padding, found = points(RULES[rule], longer, 4, mask=mask)
    np.testing.assert_allclose(with_padding, bare, rtol=1e-13, atol=1e-13)
    assert found.valid.all()


@pytest.mark.parametrize("rule", RULES)
def test_fewer_real_tokens_than_landmarks(rule, rng):
    """Segments without a real token yield no landmark; the real ones are all there."""
    x, mask = padded(rng.standard_normal((3, 2)), 4, 5, rng)
    got, found = points(RULES[rule], x, 6, mask=mask)
    assert found.valid.sum() == 3
    order = np.lexsort(got[found.valid].T)
    real = x[mask]
    np.testing.assert_allclose(got[found.valid][order], real[np.lexsort(real.T)], rtol=1e-14)
    np.testing.assert_array_equal(got[~found.valid], 0.0)


@pytest.mark.parametrize("rule", RULES)
def test_no_real_token_at_all(rule, rng):
    got, found = points(RULES[rule], rng.standard_normal((2, 5, 2)), 3, mask=np.zeros((2, 5), bool))
    assert not found.valid.any()
    np.testing.assert_array_equal(got, 0.0)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("masked", [False, True])
def test_batch_independence(rule, masked, rng):
    x = rng.standard_normal((4, 10, 3))
    mask = rng.random((4, 10)) < 0.7 if masked else None
    if masked:
        mask[:, 0] = True
    together, _ = points(RULES[rule], x, 3, mask=mask)
    for i in range(4):
        alone, _ = points(RULES[rule], x[i], 3, mask=None if mask is None else mask[i])
        np.testing.assert_allclose(together[i], alone, rtol=1e-13, atol=1e-14)


@settings(deadline=None, max_examples=60)
@given(n=st.integers(1, 40), data=st.data())
def test_segments_are_balanced_and_contiguous(n, data):
    m = data.draw(st.integers(1, n))
    x = np.arange(n, dtype=float)[:, None]
    means = landmarks.segment_means(x, m).points
    np.testing.assert_allclose(means, naive.segment_means(x, m), rtol=1e-14)
    masked = landmarks.segment_means(x, m, mask=np.ones(n, bool)).points
    np.testing.assert_allclose(masked, means, rtol=1e-14)
    indices = landmarks.strided(x, m).indices
    assert (np.diff(indices) >= n // m - (1 if n % m else 0)).all()
    assert indices[0] >= 0
    assert indices[-1] < n


def test_paper_segments_where_m_divides_n(rng):
    x = rng.standard_normal((12, 3))
    np.testing.assert_allclose(
        landmarks.segment_means(x, 4).points, x.reshape(4, 3, 3).mean(axis=1), rtol=1e-15
    )


def test_uniform_is_uniform():
    """Every subset of size 2 of 5 tokens has probability 1/10: χ² over 10 cells, 20000 draws."""
    source = np.random.default_rng(1)
    x = np.zeros((5, 1))
    draws = np.stack([landmarks.uniform(x, 2, rng=source).indices for _ in range(20000)])
    assert (np.diff(draws, axis=-1) > 0).all()
    _, counts = np.unique(draws[:, 0] * 5 + draws[:, 1], return_counts=True)
    assert len(counts) == 10
    chi2 = ((counts - 2000) ** 2 / 2000).sum()
    assert chi2 < 27.9  # the 99.9 % point of χ² with 9 degrees of freedom


def test_uniform_seed_is_recorded_and_decides(rng):
    x = rng.standard_normal((50, 2))
    a, b, c = (landmarks.uniform(x, 10, rng=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(a.indices, b.indices)
    assert (a.indices != c.indices).any()
    assert (a.seed, a.entries) == (1, 0)


def test_kmeans_finds_separated_clusters(rng):
    centres = np.array([[0.0, 0], [100, 0], [0, 100], [100, 100]])
    x = centres[rng.integers(0, 4, 200)] + rng.standard_normal((200, 2))
    got = landmarks.kmeans(x, 4).points
    nearest = np.linalg.norm(got[:, None] - centres, axis=-1).min(axis=1)
    assert sorted(np.linalg.norm(got[:, None] - centres, axis=-1).argmin(axis=1)) == [0, 1, 2, 3]
    assert (nearest < 0.6).all()


def test_lloyd_never_raises_the_quantisation_error(rng):
    x = rng.standard_normal((2500, 5))  # more than one block of tokens

    def sse(iterations):
        c = landmarks.kmeans(x, 8, iterations=iterations).points
        return ((x[:, None] - c) ** 2).sum(-1).min(1).sum()

    errors_ = [sse(i) for i in range(6)]
    assert (np.diff(errors_) <= 1e-9).all()
    assert errors_[-1] < 0.95 * errors_[0]


def test_kmeans_seeding_has_the_law_of_d_squared():
    """Points 0, 1, 3 on a line and m = 2: the law of the pair, exactly, against 4000 draws."""
    x = np.array([[0.0], [1.0], [3.0]])
    d2 = (x - x.T) ** 2
    law = d2 / d2.sum(axis=1, keepdims=True) / 3
    source = np.random.default_rng(5)
    counts = np.zeros((3, 3))
    for _ in range(4000):
        a, b = landmarks.kmeans(x, 2, iterations=0, rng=source).points[:, 0]
        counts[[0, 1, 3].index(a), [0, 1, 3].index(b)] += 1
    expected = 4000 * law
    cells = expected > 0
    assert ((counts - expected)[cells] ** 2 / expected[cells]).sum() < 20.5  # 99.9 %, 5 degrees
    assert counts[~cells].sum() == 0


def test_kmeans_duplicates_end_with_the_number_of_distinct_points(rng):
    x = np.repeat(rng.standard_normal((3, 2)) * 1e3 + 0.1, 5, axis=0)
    found = landmarks.kmeans(x, 6)
    assert found.valid.tolist() == [True] * 3 + [False] * 3
    np.testing.assert_allclose(np.unique(found.points[:3], axis=0), np.unique(x, axis=0), rtol=1e-14)


@pytest.mark.parametrize("dtype16", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("rule", RULES)
def test_half_precision_keeps_storage_and_sums_wide(rule, dtype16, rng):
    x = torch.asarray(rng.standard_normal((64, 3)) * 100, dtype=dtype16)
    found = RULES[rule](x, 5)
    got = found.gather(x)
    wide = RULES[rule](x.to(torch.float32), 5).gather(x.to(torch.float32))
    assert got.dtype == dtype16
    assert torch.equal(got, wide.to(dtype16))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    ("x", "m", "options", "error", "argument"),
    [
        (np.zeros((4, 2)), 0, {}, errors.RangeError, "m"),
        (np.zeros((4, 2)), 5, {}, errors.RangeError, "m"),
        (np.zeros((4, 2)), 2.0, {}, errors.RangeError, "m"),
        (np.zeros((4, 2)), True, {}, errors.RangeError, "m"),
        (np.zeros((0, 2)), 1, {}, errors.ShapeError, "x"),
        (np.zeros((4, 0)), 1, {}, errors.ShapeError, "x"),
        (np.zeros(4), 1, {}, errors.ShapeError, "x"),
        (np.zeros((4, 2), int), 1, {}, errors.DTypeError, "x"),
        (np.zeros((4, 2)), 1, {"mask": np.ones(4)}, errors.DTypeError, "mask"),
        (np.zeros((4, 2)), 1, {"mask": np.ones(3, bool)}, errors.ShapeError, "mask"),
        (np.zeros((4, 2)), 1, {"mask": np.ones((2, 4), bool)}, errors.ShapeError, "mask"),
        (np.zeros((4, 2)), 1, {"mask": torch.ones(4, dtype=torch.bool)}, errors.NamespaceError, "mask"),
        (np.full((4, 2), np.nan), 1, {"check_finite": True}, errors.NonFiniteError, "x"),
    ],
)
def test_bad_input(rule, x, m, options, error, argument):
    with pytest.raises(error) as caught:
        RULES[rule](x, m, **options)
    assert caught.value.argument == argument


def test_numpy_integers_count_as_integers(rng):
    assert landmarks.strided(np.zeros((4, 2)), np.int64(2)).indices.shape == (2,)


def test_kmeans_bad_options():
    with pytest.raises(errors.RangeError, match="`iterations`"):
        landmarks.kmeans(np.zeros((4, 2)), 2, iterations=-1)


@pytest.mark.parametrize("rule", ["segment_means", "kmeans"])
def test_gradient(rule, rng):
    x = torch.tensor(rng.standard_normal((7, 2)), requires_grad=True)
    rule = partial(RULES[rule], **({"iterations": 2} if rule == "kmeans" else {}))
    assert torch.autograd.gradcheck(lambda t: rule(t, 3).points, (x,))
    mask = torch.tensor([True, False, True, True, True, True, False])
    assert torch.autograd.gradcheck(lambda t: rule(t, 3, mask=mask).points, (x,))
