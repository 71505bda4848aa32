"""Plans: what they cost, what they promise, and that carrying them out keeps the promise."""

from __future__ import annotations

from functools import partial
from itertools import product

import numpy as np
import pytest
import torch

from experiments.inputs.synthetic import SPECTRA, prescribed_core
from nystrom_numerics import errors, pinv
from nystrom_numerics.backend import to_numpy

CONDITIONS = [10.0, 30.0, 100.0, 300.0, 1e3, 1e4]


def spectral_residual(a, z):
    """‖AA⁺ − AZ‖₂ for a non-singular A, in float64."""
    a, z = (to_numpy(x).astype(float) for x in (a, z))
    return np.linalg.norm(np.eye(len(a)) - a @ z, 2)


def products_needed(step, condition, tol):
    """Products of an iteration until the worst residual on [1/κ², 1] is at most tol: exact, on scalars."""
    y = np.array([condition**-2, 1.0])
    z, products = np.ones_like(y), 0
    y = np.concatenate([y, np.geomspace(condition**-2, 1, 2000)])
    z = np.ones_like(y)
    while np.abs(1 - y * z).max() > tol:
        z = step.apply(z[:, None, None], (y * z)[:, None, None])[:, 0, 0]
        products += step.matmuls
    return products


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("tol", [1e-3, 1e-7])
def test_at_most_45_percent_of_the_papers_products(condition, tol):
    best = pinv.plan(condition=condition, tol=tol).products[-1]
    assert best <= 0.45 * products_needed(pinv.RAZAVI, condition, tol)


def test_products_at_condition_1000_are_those_known():
    """To 1e-2 and 1e-10 at κ = 10³."""
    known = {
        (pinv.NEWTON_SCHULZ): (46, 50),
        (pinv.CHEBYSHEV): (42, 48),
        (pinv.RAZAVI): (56, 60),
        (pinv.hyperpower_step(5)): (40, 44),
        (pinv.hyperpower_step(9)): (35, 40),
    }
    for step, counts in known.items():
        assert tuple(products_needed(step, 1e3, tol) for tol in (1e-2, 1e-10)) == counts


@pytest.mark.parametrize("condition", [10.0, 1e3])
@pytest.mark.parametrize("tol", [1e-2, 1e-6])
def test_no_cheaper_schedule_exists(condition, tol):
    """Against all sequences of degrees of one product fewer."""
    found = pinv.plan(condition=condition, tol=tol)
    cost = {2: 2, 3: 3, 5: 4, 9: 5}
    t0 = (1 + found.lower) / (1 - found.lower)
    allowed = found.products[-1] - 1
    for counts in product(
        range(allowed // 2 + 1), range(allowed // 3 + 1), range(allowed // 4 + 1), range(allowed // 5 + 1)
    ):
        if sum(c * cost[d] for c, d in zip(counts, cost, strict=True)) <= allowed:
            total = int(np.prod([float(d) ** c for c, d in zip(counts, cost, strict=True)]))
            assert np.cosh(min(total * np.arccosh(t0), 700)) < 1 / tol


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize(
    ("dtype", "condition", "tol"),
    [
        *(("float64", c, 1e-7) for c in [*CONDITIONS, 1e6]),
        *(("float32", c, None) for c in (10.0, 100.0, 300.0, 500.0)),
    ],
)
@pytest.mark.parametrize("m", [8, 100, 256])
def test_execution_meets_the_prediction_after_each_step(spectrum, dtype, condition, tol, m):
    """With the interval exactly that of the spectrum, so that nothing but the model absorbs rounding."""
    core = prescribed_core(m, condition, spectrum=SPECTRA[spectrum], seed=1).matrix.astype(dtype)
    schedule = pinv.plan(condition=condition, tol=tol, budget=None if tol else 19, dtype=dtype)
    bound = partial(pinv.known_norm, sigma_max=1.0)
    found = [spectral_residual(core, z) for z in pinv.iterates(core, schedule.steps, norm_bound=bound)][1:]
    assert all(f <= p for f, p in zip(found, schedule.predicted, strict=True))
    if tol:
        assert schedule.predicted[-1] <= tol
    # and the prediction is no idle one: where rounding does not rule, the residual comes close to it
    ruled = [r > 0.1 * p for r, p in zip(schedule.rounding, schedule.predicted, strict=True)]
    if spectrum == "geometric" and m == 256:
        assert all(f > 0.5 * p for f, p, r in zip(found, schedule.predicted, ruled, strict=True) if not r)


@pytest.mark.parametrize("condition", [10.0, 100.0])
def test_bfloat16_stays_inside_its_rounding_model(condition, rng):
    """Stored in bfloat16, computed in float32: only the rounding of Z on the way out, u₁₆‖A‖_F‖Z‖_F, is added."""
    core = torch.asarray(prescribed_core(64, condition, seed=3).matrix, dtype=torch.bfloat16)
    truth = np.linalg.svd(to_numpy(core), compute_uv=False)
    kappa = float(truth[0] / truth[-1])
    schedule = pinv.plan(condition=kappa * 1.01, tol=5e-3, dtype=torch.bfloat16)
    bound = partial(pinv.known_norm, sigma_max=float(truth[0]) * 1.001)
    result = pinv.iterate(core, schedule.steps, norm_bound=bound)
    storage = 2.0**-9 * np.linalg.norm(to_numpy(core)) * np.linalg.norm(to_numpy(result.value).astype(float))
    assert result.value.dtype == torch.bfloat16
    assert spectral_residual(core, result.value) <= schedule.predicted[-1] + storage


def test_budget_and_tolerance():
    best = pinv.plan(condition=100.0, budget=12)
    assert best.products[-1] <= 12
    assert best.predicted[-1] < pinv.plan(condition=100.0, budget=10).predicted[-1]
    assert (
        pinv.plan(condition=100.0, tol=1e-3, budget=40).products
        == pinv.plan(condition=100.0, tol=1e-3).products
    )
    assert pinv.plan(condition=1e3, tol=1e-9, budget=10).products[-1] <= 10
    assert pinv.plan(sigma_min=0.01, tol=1e-7).degrees == pinv.plan(condition=100.0, tol=1e-7).degrees


def test_values_below_the_cutoff_meet_the_monotone_filter():
    sigma = np.concatenate([np.geomspace(1e-6, 0.0099, 100), np.geomspace(0.01, 1.0, 100)])
    response = pinv.filter_response(partial(pinv.interval_optimal, condition=100.0, tol=1e-3), sigma)
    assert (np.diff(response[:100]) > 0).all()
    assert (response > 0).all()
    assert response[:100].max() < 1
    assert np.abs(response[100:] - 1).max() <= 1e-3


@pytest.mark.parametrize("shape", [(3, 6, 6), (2, 4, 9), (2, 9, 4)])
def test_interval_optimal_on_every_lane(shape, lane, dtype, rng):
    a = np.abs(rng.standard_normal(shape)) + 4 * np.eye(*shape[1:])
    x = lane(a, dtype)
    sigma = np.linalg.svd(a, compute_uv=False)
    assert (sigma[:, 0] < 20 * sigma[:, -1]).all()
    result = pinv.interval_optimal(x, condition=30.0, tol=1e-3)
    expected = np.linalg.pinv(to_numpy(x).astype(float))
    lane.assert_close(result.value, expected, x, rtol=0, atol=2e-3 / sigma[:, -1].min())
    assert result.status.name in ("CONVERGED", "MAX_ITERATIONS")


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"tol": 1e-3}, "condition"),
        ({"condition": 10.0, "sigma_min": 0.1, "tol": 1e-3}, "condition"),
        ({"condition": 1.0, "tol": 1e-3}, "condition"),
        ({"condition": np.inf, "tol": 1e-3}, "condition"),
        ({"sigma_min": 1.5, "tol": 1e-3}, "sigma_min"),
        ({"condition": 10.0}, "tol"),
        ({"condition": 10.0, "tol": 1.0}, "tol"),
        ({"condition": 10.0, "budget": 1}, "budget"),
        ({"condition": 10.0, "tol": 1e-3, "dtype": "int64"}, "dtype"),
        ({"condition": 1e4, "tol": 1e-3, "dtype": np.float32}, "condition"),
        ({"condition": 100.0, "tol": 1e-6, "dtype": np.float32}, "tol"),
    ],
)
def test_bad_plans(options, argument):
    with pytest.raises(errors.RangeError) as caught:
        pinv.plan(**options)
    assert caught.value.argument == argument
