"""Bounds of rows of attention: attained where they say so, informative elsewhere, honest about their hypotheses."""

from __future__ import annotations

import numpy as np
import pytest

from nystrom_numerics import bounds
from tests.contracts.bound_trials import groups


def softmax(x):
    grown = np.exp(x - x.max(axis=1, keepdims=True))
    return grown / grown.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("r", [1e-3, 1.0, 8.0])
def test_the_range_of_scores_is_attained_by_two_keys(r):
    """p = (u, 1)/(1 + u) against (1, u)/(1 + u) with u² = e^r."""
    x, y = np.array([[r / 2, 0.0]]), np.array([[0.0, r / 2]])
    error = softmax(x) - softmax(y)
    largest, frobenius = bounds.softmax_range(x, y)
    assert largest.value == pytest.approx(np.abs(error).max(), rel=1e-12)
    assert frobenius.value == pytest.approx(np.linalg.norm(error), rel=1e-12)


def test_the_range_of_scores_beats_lipschitz_where_many_differ():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20, 200))
    y = x + rng.uniform(-1, 1, x.shape)
    assert bounds.softmax_range(x, y)[1].value < bounds.softmax_lipschitz(x, y).value / 4


@pytest.mark.parametrize("r", [0.5, 3.0, 10.0])
def test_sums_of_groups_are_attained_at_the_ends(r):
    """Below by equal scores; above by scores at both ends in the best share, p = 1/r − 1/(e^r − 1)."""
    share = 1 / r - 1 / np.expm1(r)
    scores = np.where(np.arange(100000) < share * 100000, r, 0.0)
    means, counts = np.array([[scores.mean()]]), np.array([100000.0])
    _, upper = bounds.group_sums(means, counts, np.array([[r]]))
    assert upper.value == pytest.approx(np.exp(scores).sum(), rel=1e-3)
    assert upper.value < 100000 * np.exp(scores.mean() + r**2 / 8)
    lower, same = bounds.group_sums(means, counts, np.array([[0.0]]))
    assert lower.value == same.value == pytest.approx(100000 * np.exp(scores.mean()))


def test_tangents_are_exact_at_their_pilot_and_of_first_order_beside_it():
    far = np.full(4, 0.3)
    assert bounds.tangent_rows(np.zeros(4), far).value == 0
    assert bounds.tangent_rows(np.full(4, 5.0), 0 * far).value == 0
    near = [bounds.tangent_rows(np.full(4, r), far).value for r in (1e-3, 2e-3)]
    assert near[1] / near[0] == pytest.approx(2, rel=1e-2)


def test_a_near_field_is_as_far_off_as_its_far_mass():
    error = np.array([[0.0, 0.4, -0.4]])
    assert bounds.near_rows(np.array([0.4]), np.array([0.4])).value == pytest.approx(np.linalg.norm(error))


@pytest.mark.parametrize("subject", [bounds.Subject.TANGENT, bounds.Subject.NEAR_FIELD, bounds.Subject.SUMS])
def test_the_median_bound_is_near_the_truth(subject):
    ratios = []
    for (outcome,) in groups(subject, bounds.Law.THESE):
        one = next(r for r in bounds.BOUNDS if r.subject is subject)
        b = one(outcome.problem)[-1]
        ratios.append(b.value / max(outcome.truth(b.norm), 1e-300))
    assert np.median(ratios) < {"TANGENT": 8, "NEAR_FIELD": 3, "SUMS": 1.5}[subject.name]


def test_what_does_not_hold_is_said():
    x = np.array([0.5, 0.5])
    assert "shares in [0, 1]" in str(bounds.near_rows(2 * x + 1, x))
    assert "distances" in str(bounds.tangent_rows(-x, x))
    assert "ranges" in str(bounds.group_sums(x[None], x, -x[None])[0])
