"""Traces to an error asked for: it is reached, it is paid for by need, and what cannot be reached is not claimed."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from nystrom_numerics import bounds, errors

ESTIMATORS = (bounds.hutchpp, bounds.xtrace, bounds.xnystrace)


def matrix(n: int, decay: float) -> np.ndarray:
    q = np.linalg.qr(np.random.default_rng(0).standard_normal((n, n)))[0]
    return (q * (1.0 + np.arange(n)) ** -decay) @ q.T


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_error_asked_for_is_reached(estimator):
    a = matrix(240, 0.3)
    within = partial(bounds.trace_within, estimator, lambda x: a @ x, a)
    made = [within(rtol=0.01, rng=seed) for seed in range(60)]
    assert all(e.standard_error <= 0.01 * e.value for e in made)
    misses = np.array([e.value / np.trace(a) - 1 for e in made])
    assert np.sqrt((misses**2).mean()) < 0.015
    rough, fine = within(rtol=0.2, rng=1), within(rtol=0.005, rng=1)
    assert rough.matvecs < fine.matvecs


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_attempt_is_counted_and_the_last_says_what_it_reached(estimator):
    a = matrix(60, 0.0) + np.diag(np.random.default_rng(1).standard_normal(60))
    a = a @ a.T
    columns = []

    def apply(x):
        columns.append(x.shape[1])
        return a @ x

    found = bounds.trace_within(estimator, apply, a, rtol=1e-9, first=12)
    assert found.matvecs == sum(columns) == 12 + 24 + 48 + 60
    assert (
        found.standard_error is None or found.standard_error > 1e-9 * found.value or found.standard_error == 0
    )


@pytest.mark.parametrize(
    ("options", "argument"), [({"rtol": 0.0}, "rtol"), ({"rtol": np.nan}, "rtol"), ({"first": 7}, "first")]
)
def test_what_cannot_be_done_is_refused(options, argument):
    with pytest.raises(errors.RangeError) as caught:
        bounds.trace_within(bounds.xtrace, lambda x: x, np.eye(24), **options)
    assert caught.value.argument == argument
