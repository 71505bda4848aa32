"""The row-normalised estimator: where it is exact, where it is guarded."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nystrom_numerics import errors, landmarks, pinv
from nystrom_numerics.attention import exact, normalised, nystrom


def qkv(rng, *batch, n=40, d=4):
    return tuple(rng.standard_normal((*batch, n, d)) for _ in range(3))


def test_exact_where_the_kernel_has_rank_m_and_the_papers_form_is_not(rng):
    """Few distinct keys: exp(s q kᵀ) has rank m, while D_A D_B⁻¹ stays inside Ŝ."""
    q, k, v = qkv(rng)
    k = np.repeat(k[:5], [1, 3, 6, 10, 20], axis=0)
    points = landmarks.LandmarkPoints(k[[0, 1, 4, 10, 20]], None, entries=0, seed=None)
    rule = lambda x, m, mask=None: points if x is k else landmarks.strided(x, m)  # noqa: E731
    options = {"landmarks": rule, "solver": pinv.rank_revealing}
    expected = exact(q, k, v)
    np.testing.assert_allclose(normalised(q, k, v, 5, guard=0.0, **options), expected, rtol=1e-7)
    assert np.linalg.norm(nystrom(q, k, v, 5, **options) - expected) > 0.01 * np.linalg.norm(expected)


def test_rows_sum_to_one_unless_guarded_and_never_to_more(rng):
    q, k, _ = qkv(rng, 3)
    sums = normalised(q * 3, k * 3, np.ones((40, 1)), 6)
    assert (sums <= 1 + 1e-12).all()
    free = normalised(q, k, np.ones((40, 1)), 6, guard=0.0, solver=pinv.rank_revealing)
    assert np.median(np.abs(free - 1)) < 1e-9


def test_the_guard_is_a_bound_for_segment_means(rng):
    """Jensen: all keys weigh at least n/m times what the means of m equal segments weigh."""
    q, k, _ = qkv(rng)
    means = landmarks.segment_means(k, 8).points
    assert (np.exp(q @ k.T).sum(-1) >= 5 * np.exp(q @ means.T).sum(-1)).all()


def test_scale_of_scores_is_harmless(rng):
    """Sums of exponentials far outside the range of the dtype."""
    q, k, v = (x.astype("float32") for x in qkv(rng))
    got = normalised(q * 30, k * 30, v, 6)
    assert np.isfinite(got).all()


def test_padding_changes_nothing(rng):
    q, k, v = qkv(rng, 2)
    wide = [np.concatenate([np.full_like(x[:, :7], np.nan), x], axis=1) for x in (q, k, v)]
    mask = np.arange(47) >= 7
    got = normalised(*wide, 6, key_mask=mask, query_mask=mask)[:, 7:]
    np.testing.assert_allclose(got, normalised(q, k, v, 6), rtol=1e-9, atol=1e-11)


def test_batch_independence(rng):
    q, k, v = qkv(rng, 3)
    q[1] *= 40
    together = normalised(q, k, v, 6)
    for i in range(3):
        np.testing.assert_allclose(normalised(q[i], k[i], v[i], 6), together[i], rtol=1e-10, atol=1e-12)


def test_gradcheck(rng):
    inputs = [torch.tensor(x, requires_grad=True) for x in qkv(rng, n=8)]
    mask = torch.arange(8) < 7
    assert torch.autograd.gradcheck(lambda *x: normalised(*x, 3, key_mask=mask, query_mask=mask), inputs)


def test_bad_guard(rng):
    with pytest.raises(errors.RangeError, match="`guard`"):
        normalised(*qkv(rng), 3, guard=-1.0)
