"""The planner's two rounding models against executed plans: a search for the worst matrix in formats and libraries."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from nystrom_numerics import errors, pinv
from nystrom_numerics.backend import to_numpy
from nystrom_numerics.pinv import guarantee
from tests.thorough import many

LIBRARIES = {"numpy": np.asarray, "torch": torch.as_tensor}
pytestmark = pytest.mark.skipif(
    np.finfo(np.longdouble).eps > 1e-18, reason="no wider float to tell the truth in"
)


def residuals(a, schedule):
    """‖I − AZ‖₂ after each step, AZ in 64-bit significands."""
    exact = to_numpy(a).astype(np.longdouble)
    one = np.eye(len(exact), dtype=np.longdouble)
    bound = partial(pinv.known_norm, sigma_max=1.0)
    found = list(pinv.iterates(a, schedule.steps, norm_bound=bound))[1:]
    return [np.linalg.norm((one - exact @ to_numpy(z).astype(np.longdouble)).astype(float), 2) for z in found]


def hostile(rng, m, condition, dtype):
    """All of a few kinds that make rounding add up: values at the edges or in the middle, vectors alike or not."""
    kind = rng.integers(4)
    u, v = (np.linalg.qr(rng.standard_normal((m, m)) + 3 * (kind == 1))[0] for _ in range(2))
    if kind == 2:
        v = u
    sigma = condition ** -np.sort(rng.beta(*rng.choice([0.2, 1.0, 5.0], 2), m))
    sigma[0], sigma[-1] = 1.0, 1 / condition
    if kind == 3:
        sigma = np.where(np.arange(m) < rng.integers(1, m), 1.0, 1 / condition)
    # inside what is promised, the rounding of its own storage included
    slack = 4 * m * np.finfo(dtype).eps * condition
    low, high = (1 + slack) / condition, 1 - slack
    sigma = low + (sigma - 1 / condition) * (high - low) / (1 - 1 / condition)
    return ((u * sigma) @ v.T).astype(dtype)


def worst(schedule, wrap, dtype, m, condition, trials, seed):
    """The largest share of what is predicted that a step reaches where rounding rules: at random, then near the worst.

    That no step passes what is predicted is asserted on the way.
    """
    rng, broken = np.random.default_rng(seed), []

    def share(a):
        sigma = np.linalg.svd(a.astype(float), compute_uv=False)
        assert sigma[0] <= 1
        assert sigma[-1] >= 1 / condition
        found = residuals(wrap(a), schedule)
        told = list(zip(found, schedule.predicted, schedule.rounding, strict=True))
        broken.extend((f, p) for f, p, _ in told if f > p)
        return max(f / p for f, p, r in told if r > 0.5 * p)

    shares = sorted(
        ((share(a), i, a) for i, a in ((i, hostile(rng, m, condition, dtype)) for i in range(trials))),
        reverse=True,
    )
    best, _, a = shares[0]
    for _ in range(trials):
        tiny = np.finfo(dtype).eps * (rng.random(a.shape) < 0.3) * rng.choice([-1, 1], a.shape)
        try:
            found = share((a + tiny * np.abs(a)).astype(dtype))
        except AssertionError:  # out of what is promised
            continue
        if found > best:
            best, a = found, (a + tiny * np.abs(a)).astype(dtype)
    assert not broken
    return best


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(
    ("dtype", "m", "condition", "budget"),
    [
        ("float64", 8, 10.0, 24),
        ("float64", 8, 1e3, 40),
        ("float64", 48, 100.0, 30),
        ("float32", 8, 10.0, 24),
        ("float32", 4, 10.0, 12),
        ("float32", 48, 3.0, 20),
    ],
)
def test_no_plan_is_broken_in_execution(library, dtype, m, condition, budget):
    trials = many(200, 12)
    for size in (None, m):
        schedule = pinv.plan(condition=condition, budget=budget, dtype=dtype, size=size)
        assert schedule.size == size
        assert worst(schedule, LIBRARIES[library], dtype, m, condition, trials, seed=budget) <= 1


def test_the_guarantee_is_no_idle_one():
    """Within two orders of what is met for a few rows, and as m² for more."""
    for m, loose in ((4, 60), (16, 300)):
        schedule = pinv.plan(condition=30.0, budget=40, size=m)
        found = worst(schedule, np.asarray, "float64", m, 30.0, 30, seed=1)
        assert 1 / loose < found <= 1
    few, more = (pinv.plan(condition=30.0, budget=40, size=m).rounding[-1] for m in (16, 64))
    assert 10 < more / few < 20


def test_a_guaranteed_plan_meets_its_tolerance_and_costs_what_is_said():
    more = []
    for condition in (10.0, 30.0, 100.0, 300.0, 1e3):
        for tol in 10.0 ** -np.arange(2, 9):
            observed = pinv.plan(condition=condition, tol=tol)
            for size in (8, 64, 256):
                found = pinv.plan(condition=condition, tol=tol, size=size)
                assert found.predicted[-1] <= tol
                assert found.rounding[-1] > observed.rounding[-1] / 4
                more.append(found.products[-1] - observed.products[-1])
    assert sorted(more) == [0] * 104 + [1]


def test_execution_is_what_the_model_reads():
    """Coefficients by exact polynomials: the executed step is the ideal one to rounding, for every degree."""
    for degree in (2, 3, 5, 9):
        for low, high in ((1e-4, 1.0), (0.3, 1.2), (0.999, 1.001)):
            centre, constant, evaluate = pinv.steps.interval_parts(degree, low, high)
            x = guarantee._Polynomial((guarantee.Fraction(0), guarantee.Fraction(1)))
            executed = [float(c) for c in evaluate(x).coefficients]
            executed[0] += constant
            t0 = guarantee.Fraction(high + low) / guarantee.Fraction(high - low)
            ideal = [float(c) for c in guarantee._ideal(degree, t0, centre)]
            assert len(executed) == len(ideal) == degree
            assert np.allclose(executed, ideal, rtol=1e-12, atol=1e-12 * max(map(abs, ideal)))


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"condition": 1e6, "tol": 1e-3, "size": 64}, "condition"),
        ({"condition": 100.0, "tol": 1e-3, "size": 64, "dtype": "float32"}, "condition"),
        ({"condition": 100.0, "tol": 1e-12, "size": 64}, "tol"),
        ({"condition": 100.0, "tol": 1e-3, "size": 64, "dtype": "bfloat16"}, "dtype"),
        ({"condition": 100.0, "tol": 1e-3, "size": 64, "dtype": "complex128"}, "dtype"),
    ],
)
def test_what_cannot_be_guaranteed_is_refused(options, argument):
    with pytest.raises(errors.RangeError) as caught:
        pinv.plan(**options)
    assert caught.value.argument == argument


def test_reduced_products_are_refused():
    a = torch.eye(4) + 0.1
    pinv.interval_optimal(a, condition=3.0, tol=1e-3, guaranteed=True)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with pytest.raises(errors.RangeError) as caught:
            pinv.interval_optimal(a, condition=3.0, tol=1e-3, guaranteed=True)
        assert caught.value.argument == "guaranteed"
        pinv.interval_optimal(a.double(), condition=3.0, tol=1e-3, guaranteed=True)
    finally:
        torch.set_float32_matmul_precision(before)
    with pytest.raises(errors.ShapeError):
        pinv.interval_optimal(a[:2], condition=3.0, tol=1e-3, guaranteed=True)
