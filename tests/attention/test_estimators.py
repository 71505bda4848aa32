"""The registry of estimators: each is made by its name, is what it says, and has the entries that it names."""

from __future__ import annotations

import numpy as np
import pytest

from nystrom_numerics import attention, errors
from nystrom_numerics.attention import ESTIMATORS, AttentionOperator, certify_operator

every = pytest.mark.parametrize("name", ESTIMATORS)


def tokens(rng, n):
    return rng.standard_normal((2, n, 8))


@every
def test_it_is_made_read_and_certified(name, rng):
    one, (q, k) = ESTIMATORS[name], tokens(rng, 160)
    made = one.make(q, k, 16, scale=0.2)
    assert isinstance(made, AttentionOperator)
    assert (made.causal, made.scale) == (one.causal, 0.2)
    s, u = made.rows(range(160)), rng.standard_normal((160, 2))
    np.testing.assert_allclose(made.apply(u), s @ u, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(made.T.apply(u), s.T @ u, rtol=1e-8, atol=1e-9)
    exact = attention.exact_operator(q, k, scale=0.2, causal=one.causal).rows(range(160))
    error = certify_operator(made, k, rows=160).matrix.estimate.value
    assert error == pytest.approx(np.linalg.norm(s - exact), rel=1e-6, abs=1e-12)
    assert error < np.linalg.norm(exact) or "inverse" in name  # which are no filters


@every
def test_entries_are_those_that_it_names(name, rng):
    one, m = ESTIMATORS[name], 16
    found = {n: one.make(*tokens(rng, n), m).entries / n for n in (512, 2048)}
    per_query = {
        "n": lambda n: n,
        "n/2": lambda n: n / 2,
        "2m": lambda n: 2 * m,
        "2m + m²/n": lambda n: 2 * m + m * m / n,
        "2m + (m/4 − 1)²/n": lambda n: 2 * m + (m // 4 - 1) ** 2 / n,
        "64 + 5m/2 + n/51 beyond the first blocks": lambda n: 64 + 5 * m / 2 + n / 51,
    }[one.entries]
    for n, entries in found.items():
        assert entries == pytest.approx(per_query(n), rel=0.002 if not one.causal else 0.15)
    assert one.quadratic == (found[2048] > 1.05 * found[512])


@every
def test_too_few_landmarks_are_refused(name, rng):
    one, (q, k) = ESTIMATORS[name], tokens(rng, 40)
    assert one.make(q, k, one.least).shape == (40, 40)
    with pytest.raises(errors.RangeError, match="`m`"):
        one.make(q, k, one.least - 1)


def test_titles_tell_them_apart_and_each_has_a_source():
    assert len({one.title for one in ESTIMATORS.values()}) == len(ESTIMATORS)
    assert all(one.source for one in ESTIMATORS.values())
    assert all(len(repr(one)) < 500 for one in ESTIMATORS.values())
