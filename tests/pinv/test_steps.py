"""Each step does to eigenvalues what its polynomial says, in the products it states."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from nystrom_numerics import errors, linalg, pinv

POWERS = {p: pinv.hyperpower_step(p) for p in range(2, 10)}


def scalar(step, y):
    """p(y) of a step: Z = 1, Y = y, on 1 × 1 matrices."""
    y = np.asarray(y, float)
    return step.apply(np.ones((*y.shape, 1, 1)), y[..., None, None])[..., 0, 0]


class Counting(np.ndarray):
    """A matrix that counts the products it takes part in."""

    products = 0

    def __matmul__(self, other):
        Counting.products += 1
        return np.asarray(self).__matmul__(np.asarray(other)).view(Counting)


@pytest.mark.parametrize(
    "step", [pinv.NEWTON_SCHULZ, pinv.CHEBYSHEV, pinv.RAZAVI, *POWERS.values()], ids=lambda s: s.name
)
def test_products_are_counted_right(step, monkeypatch, rng):
    """The step's own products plus the one that forms Y."""
    a = rng.standard_normal((3, 3)).view(Counting)
    monkeypatch.setattr(
        "nystrom_numerics.pinv.steps._shifted", lambda c, y: (c * np.eye(3) - np.asarray(y)).view(Counting)
    )
    Counting.products = 0
    step.apply(a, a)
    assert Counting.products + 1 == step.matmuls


def test_interval_products_are_those_stated():
    assert [pinv.interval_step(degree, 0.1, 1.0).matmuls for degree in (2, 3, 5, 9)] == [2, 3, 4, 5]


@pytest.mark.parametrize("order", range(2, 10))
def test_hyperpower_residual_is_a_power(order):
    y = np.linspace(0.0, 1.9, 40)
    np.testing.assert_allclose(1 - y * scalar(POWERS[order], y), (1 - y) ** order, atol=3e-15)
    assert POWERS[order].growth == order
    assert POWERS[order].matmuls == [2, 3, 4, 4, 5, 5, 6, 5][order - 2]


def test_hyperpower_on_matrices_and_not_just_scalars(rng):
    """The factorisations commute only because they are polynomials in one matrix; check on a full one."""
    a = np.eye(6) + 0.1 * rng.standard_normal((6, 6))
    z = np.eye(6)
    r = np.eye(6) - a
    for order, step in POWERS.items():
        expected = sum(np.linalg.matrix_power(r, k) for k in range(order))
        np.testing.assert_allclose(step.apply(z, a @ z), expected, atol=1e-13)


def test_five_dominates_the_papers_step():
    """Same four products, a residual e⁵ that is never larger than ¾e³ + ¼e⁴ on [0, 1], and more growth."""
    five = POWERS[5]
    e = np.linspace(0, 1, 1001)
    assert five.matmuls == pinv.RAZAVI.matmuls
    assert (e**5 <= 0.75 * e**3 + 0.25 * e**4).all()
    assert five.growth > pinv.RAZAVI.growth


@pytest.mark.parametrize("degree", [2, 3, 5, 9])
@pytest.mark.parametrize("lower", [1e-8, 1e-6, 1e-4, 1e-2, 0.3, 0.9, 0.999])
def test_interval_step_is_the_chebyshev_residual(degree, lower):
    """1 − y p(y) = T_d(t)/T_d(t₀), to rounding in the size that p has on the interval."""
    step = pinv.interval_step(degree, lower, 1.0)
    y = lower + (1.0 - lower) * np.linspace(1e-6, 1 - 1e-6, 400)
    t, t0 = (1 + lower - 2 * y) / (1 - lower), (1 + lower) / (1 - lower)
    expected = np.cos(degree * np.arccos(t)) / np.cosh(degree * np.arccosh(t0))
    p = scalar(step, y)
    error = np.abs(1 - y * p - expected)
    assert error.max() <= 40 * np.finfo(float).eps * max(1.0, np.abs(p).max())


@pytest.mark.parametrize("degree", [2, 3, 5, 9])
@pytest.mark.parametrize("lower", [1e-6, 1e-2, 0.5])
def test_interval_step_equioscillates_and_is_monotone_below(degree, lower):
    step = pinv.interval_step(degree, lower, 1.0)
    delta = 1 / np.cosh(degree * np.arccosh((1 + lower) / (1 - lower)))
    nodes = (1 + lower - (1 - lower) * np.cos(np.pi * np.arange(degree + 1) / degree)) / 2
    residual = 1 - nodes * scalar(step, nodes)
    np.testing.assert_allclose(residual, delta * (-1.0) ** np.arange(degree + 1), atol=1e-11)
    below = np.linspace(0, lower, 200)
    response = below * scalar(step, below)
    assert (np.diff(response) > 0).all()
    assert response[0] == 0
    assert response[-1] == pytest.approx(1 - delta, abs=1e-11)
    assert scalar(step, 1e-14 * lower) == pytest.approx(step.growth, rel=1e-9)


def test_interval_steps_compose():
    """T_3 ∘ T_3 = T_9: two steps of degree 3 do what one of degree 9 does."""
    lower, t0 = 0.01, 1.01 / 0.99
    delta = 1 / np.cosh(3 * np.arccosh(t0))
    y = np.linspace(0.001, 1, 100)
    first = y * scalar(pinv.interval_step(3, lower, 1.0), y)
    twice = first * scalar(pinv.interval_step(3, 1 - delta, 1 + delta), first)
    once = y * scalar(pinv.interval_step(9, lower, 1.0), y)
    np.testing.assert_allclose(twice, once, atol=1e-12)


def test_octic_coefficients_stay_small():
    from nystrom_numerics.pinv.steps import _interval_polynomial, _octic_coefficients

    for lower in np.geomspace(1e-8, 0.999, 60):
        c = _interval_polynomial(9, (1 + lower) / (1 - lower)) / ((1 + lower) / 2)
        assert max(np.abs(_octic_coefficients(c))) < 33


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda: pinv.hyperpower_step(10), "order"),
        (lambda: pinv.hyperpower_step(1), "order"),
        (lambda: pinv.interval_step(4, 0.1, 1.0), "degree"),
        (lambda: pinv.interval_step(3, 0.0, 1.0), "lower"),
        (lambda: pinv.interval_step(3, 1.0, 1.0), "lower"),
    ],
)
def test_bad_arguments(call, argument):
    with pytest.raises(errors.RangeError) as caught:
        call()
    assert caught.value.argument == argument


# ---------------------------------------------------------------- norm bounds

BOUNDS = {
    "one_sup": pinv.one_sup_bound,
    "frobenius": linalg.frobenius,
    "perron": pinv.perron_bound,
    "perron 0": partial(pinv.perron_bound, iterations=0),
}


@pytest.mark.parametrize("name", BOUNDS)
def test_norm_bounds_bound(name, lane, dtype, rng):
    """Valid on random, signed, sparse, graded, rank-one and zero matrices, wide and tall; tight on some."""
    stack = [rng.standard_normal((5, 7)), np.zeros((5, 7)), np.ones((5, 7)), np.eye(5, 7) * 1e-30]
    stack += [
        np.outer(10.0 ** -np.arange(5), 3.0 ** -np.arange(7)),
        rng.random((5, 7)) * (rng.random((5, 7)) < 0.3),
    ]
    stack += [np.diag([1, 2, 3, 4, 1e6]) @ np.eye(5, 7), np.full((5, 7), 1e30)]
    a = np.stack(stack).astype(dtype)
    for x in (a, np.swapaxes(a, 1, 2)):
        expected = np.linalg.norm(x.astype(float), ord=2, axis=(1, 2))
        found = BOUNDS[name](lane(x))
        assert found.dtype == lane(x).dtype
        found = np.asarray([float(v) for v in found])
        assert (found >= expected * (1 - 1e-6)).all()
        assert found[2] == pytest.approx(np.sqrt(35), rel=1e-4)


def test_perron_bound_is_tight_without_negative_entries_and_never_worse_than_the_papers(rng):
    a = np.exp(3 * rng.standard_normal((20, 32, 32)))
    a /= a.sum(-1, keepdims=True)
    truth = np.linalg.norm(a, ord=2, axis=(1, 2))
    perron, paper = pinv.perron_bound(a), pinv.one_sup_bound(a)
    assert (perron <= paper * (1 + 1e-12)).all()
    assert np.median(perron / truth) < 1.02
    assert np.median(paper / truth) > 1.2


def test_known_norm_is_checked(rng):
    a = rng.standard_normal((4, 4))
    norm = np.linalg.norm(a, 2)
    assert float(pinv.known_norm(a, sigma_max=norm)) == norm
    with pytest.raises(errors.RangeError, match="`sigma_max`"):
        pinv.known_norm(a, sigma_max=0.3 * norm)


def test_trace_scaling_diverges():
    """Why tr G/‖G‖_F² is not offered: one large singular value among many small ones exceeds 2/σ₁²."""
    sigma = np.array([1.0, *[0.3] * 63])
    scaling = (sigma**2).sum() / (sigma**4).sum()
    assert scaling > 3
    z = scaling * np.diag(sigma)
    for _ in range(8):
        z = pinv.NEWTON_SCHULZ.apply(z, np.diag(sigma) @ z)
    assert np.abs(np.diag(z) * sigma).max() > 1e6
