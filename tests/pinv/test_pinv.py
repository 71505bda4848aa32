"""What holds for every pseudoinverse: Penrose, batches, lanes, dtypes, bad input."""

from __future__ import annotations

from functools import partial
from itertools import islice

import numpy as np
import pytest
import torch

from nystrom_numerics import errors, linalg, pinv
from nystrom_numerics.backend import to_numpy
from nystrom_numerics.errors import Status
from tests import naive

DIRECT = {"svd": pinv.svd, "complete_orthogonal": pinv.complete_orthogonal}
METHODS = {
    **DIRECT,
    "newton_schulz": partial(pinv.newton_schulz, iterations=100, tol=1e-14),
    "razavi": partial(pinv.razavi, iterations=60, tol=1e-14),
    "chebyshev": partial(pinv.chebyshev, iterations=60, tol=1e-14),
    **{f"hyperpower {p}": partial(pinv.hyperpower, order=p, iterations=60, tol=1e-14) for p in (4, 5, 9)},
}


def core(m, condition, rng):
    """A random m × m matrix with geometric singular values from 1 to 1/condition."""
    u, _ = np.linalg.qr(rng.standard_normal((m, m)))
    w, _ = np.linalg.qr(rng.standard_normal((m, m)))
    return (u * np.geomspace(1, 1 / condition, m)) @ w.T


def penrose(a, z):
    """The largest relative violation of the four Penrose conditions."""
    az, za, size = a @ z, z @ a, np.linalg.norm
    return max(
        size(az @ a - a) / max(size(a), 1e-300),
        size(za @ z - z) / max(size(z), 1e-300),
        size(az - az.T),
        size(za - za.T),
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "a",
    [
        np.array([[3.0]]),
        np.array([[0.0]]),
        np.zeros((3, 3)),
        np.eye(4),
        np.diag([1.0, 0.0]),
        np.ones((5, 5)),
        np.arange(12.0).reshape(3, 4),
        np.arange(12.0).reshape(4, 3),
        np.array([[1.0, 1.0], [0.0, 1.0]]),
    ],
    ids=["1x1", "zero1", "zero3", "identity", "singular", "ones", "wide", "tall", "shear"],
)
def test_penrose_conditions(method, a):
    result = METHODS[method](a)
    assert result.value.shape == a.T.shape
    assert penrose(a, result.value) < 1e-11
    assert result.residual < 1e-12


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("factor", [1e-300, 1e-30, 1e30, 1e300])
def test_scale_equivariance_is_exact_in_effect(method, factor, rng):
    """pinv(cA) = pinv(A)/c, also where squares would overflow or vanish."""
    a = core(6, 50.0, rng)
    z = METHODS[method](a).value
    scaled = METHODS[method](a * factor)
    np.testing.assert_allclose(scaled.value * factor, z, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("method", [*METHODS, "paper"])
def test_lanes_agree(method, lane, dtype, rng):
    """Tolerance, κ = 30: ‖Z − A⁺‖ is about κ²u from rounding, and at most κ² tol where iteration stops at tol."""
    fn = {**METHODS, "paper": pinv.razavi}[method]
    stops_at = 1e-5 if dtype == "float32" and method not in (*DIRECT, "paper") else 0.0
    if stops_at:
        fn = partial(fn, tol=stops_at)
    a = np.stack([core(8, 30.0, rng), core(8, 3.0, rng)]).astype(dtype)
    reference = fn(a.astype("float64"))
    result = fn(lane(a))
    u = 6e-8 if dtype == "float32" else 1.2e-16
    lane.assert_close(result.value, reference.value, lane(a), rtol=0, atol=3e4 * u + 900 * stops_at)
    assert to_numpy(result.residual).shape == (2,)
    assert result.status == (Status.MAX_ITERATIONS if method == "paper" else Status.CONVERGED)


OPTIONS = {
    "paper": pinv.razavi,
    "tikhonov": partial(pinv.tikhonov, ridge=0.01),
    "truncated": partial(pinv.truncated, cutoff=0.1),
    "hermitian": pinv.hermitian,
    "interval-optimal": partial(pinv.interval_optimal, condition=100.0, tol=1e-3),
    "perron": partial(pinv.hyperpower, norm_bound=pinv.perron_bound, tol=1e-10),
    "checked seldom": partial(pinv.razavi, tol=1e-10, iterations=60, check_every=5),
}
SHORT_OF_TOLERANCE = ("paper", "tikhonov", "truncated", "interval-optimal")


@pytest.mark.parametrize("method", [*METHODS, *OPTIONS])
@pytest.mark.parametrize("mate", ["spiky", "huge", "zero", "nan", "singular"])
def test_batch_independence(method, mate, rng):
    """A matrix gives the same pseudoinverse alone and beside any other, whatever the method and its options."""
    fn = {**METHODS, **OPTIONS}[method]
    a = naive.softmax(rng.standard_normal((16, 16)))
    a = a + a.T  # symmetric, for the method that asks for it
    other = {
        "spiky": np.eye(16) * 100 + 1,
        "huge": np.full((16, 16), 1e200),
        "zero": np.zeros((16, 16)),
        "nan": np.full((16, 16), np.nan),
        "singular": np.ones((16, 16)),
    }[mate]
    alone, beside = fn(a), fn(np.stack([other, a, other]))
    np.testing.assert_array_equal(beside.value[1], alone.value)
    for field in ("residual", "iterations", "matmuls", "codes"):
        assert getattr(beside, field)[1] == getattr(alone, field), field
    expected = Status.NON_FINITE if mate == "nan" else Status.CONVERGED
    if method not in SHORT_OF_TOLERANCE or mate == "nan":
        assert Status(int(beside.codes[0])) == expected


def test_global_scaling_would_be_caught(rng):
    """The defect this guards against: a maximum over the batch changes a matrix's result."""
    a, spiky = naive.softmax(rng.standard_normal((32, 32))), np.eye(32) * 4 + 1
    batch = np.stack([a, spiky])
    one, sup = np.abs(batch).sum(-2).max(), np.abs(batch).sum(-1).max()
    z = a.T / (one * sup)
    for _ in range(6):
        z = pinv.RAZAVI.apply(z, a @ z)
    alone = pinv.razavi(a).value
    assert np.linalg.norm(z - alone) / np.linalg.norm(alone) > 0.1
    np.testing.assert_array_equal(pinv.razavi(batch).value[0], alone)


@pytest.mark.parametrize("iterations", [0, 1, 2, 6])
def test_razavi_is_the_papers_formula(iterations, rng):
    a = naive.softmax(rng.standard_normal((24, 24)) * 2)
    result = pinv.razavi(a, iterations=iterations)
    np.testing.assert_allclose(result.value, naive.pinv_iteration(a, iterations), rtol=1e-10, atol=1e-12)
    assert result.iterations == iterations
    assert result.matmuls == 4 * iterations


@pytest.mark.parametrize(
    ("step", "residual_map"),
    [(pinv.NEWTON_SCHULZ, lambda e: e**2), (pinv.RAZAVI, lambda e: 0.75 * e**3 + 0.25 * e**4)],
    ids=["newton_schulz", "razavi"],
)
def test_residual_map_and_growth(step, residual_map):
    """Each step sends the residual eigenvalue e = 1 − y to its polynomial; p(0) is the growth."""
    y = np.linspace(0.0, 1.5, 31)
    z = step.apply(np.diag(y), np.diag(y))  # a = I, so y = z
    np.testing.assert_allclose(1 - np.diag(z), residual_map(1 - y), atol=1e-14)
    tiny = 1e-9
    grown = step.apply(np.array([[tiny]]), np.array([[tiny]]))[0, 0] / tiny
    assert grown == pytest.approx(step.growth, rel=1e-6)


def test_iterates_agree_with_the_result(lane, rng):
    a = lane(np.stack([core(5, 10.0, rng), core(5, 3.0, rng)]))
    for count, z in zip(range(4), pinv.iterates(a, pinv.RAZAVI), strict=False):
        lane.assert_close(z, to_numpy(pinv.razavi(a, iterations=count).value), a, rtol=1e-12, atol=1e-14)


def test_stops_at_the_tolerance_and_not_before(rng):
    a = core(16, 100.0, rng)
    result = pinv.razavi(a, iterations=50, tol=1e-6)
    before = pinv.razavi(a, iterations=int(result.iterations) - 1)
    assert result.status == Status.CONVERGED
    assert result.residual <= 1e-6 < before.residual


def test_check_every_costs_steps_and_not_correctness(rng):
    a = core(16, 100.0, rng)
    often, seldom = (pinv.razavi(a, iterations=60, tol=1e-9, check_every=c) for c in (1, 4))
    assert often.iterations <= seldom.iterations < often.iterations + 4
    assert seldom.iterations % 4 == 0
    assert seldom.status == Status.CONVERGED


def test_stagnated_is_reached_and_keeps_the_best_iterate(rng):
    """κ = 1e10 in float64: σ² lies below rounding, and no product can resolve it."""
    a = core(32, 1e10, rng)
    result = pinv.razavi(a, iterations=200, tol=1e-14)
    assert result.status == Status.STAGNATED
    assert result.iterations < 40
    assert result.residual < 1e-7
    assert np.isfinite(result.value).all()
    assert "pinv.svd" in result.status.remedy
    seen = [linalg.backward_residual(a, z) for z in islice(pinv.iterates(a, pinv.RAZAVI), 40)]
    assert result.residual == pytest.approx(min(seen), rel=1e-6)


def test_what_grows_in_the_null_space_is_removed(rng):
    """Rank 16 of 32 with κ = 1e4: converging lets rounding grow by 1e8 where A has no say."""
    u, w = (np.linalg.qr(rng.standard_normal((32, 32)))[0][:, :16] for _ in range(2))
    a = (u * np.geomspace(1, 1e-4, 16)) @ w.T
    result = pinv.razavi(a, iterations=60, tol=1e-9)
    steps = int(result.iterations)
    (*_, plain) = zip(range(steps + 1), pinv.iterates(a, pinv.RAZAVI), strict=False)

    def in_the_null_space(z):
        return np.linalg.norm(z - w @ (w.T @ z)) / np.linalg.norm(z)

    assert result.status == Status.CONVERGED
    assert result.matmuls == 4 * steps + 3
    assert in_the_null_space(plain[1]) > 30 * in_the_null_space(result.value)
    assert np.linalg.norm(result.value @ a @ result.value - result.value) < 1e-9 * np.linalg.norm(
        result.value
    )
    regular = pinv.razavi(np.diag(np.linspace(1.0, 2.0, 8)), iterations=60, tol=1e-6)
    assert regular.matmuls == 4 * regular.iterations  # little has grown: nothing to remove, nothing to pay


def test_a_plateau_is_not_stagnation():
    """diag(1, 1e-5) idles at a residual of 1e-5 for many steps before the small one is resolved."""
    result = pinv.razavi(np.diag([1.0, 1e-5]), iterations=60, tol=1e-9)
    assert result.status == Status.CONVERGED
    assert result.iterations > 15


def test_max_iterations_is_reached():
    result = pinv.razavi(np.diag([1.0, 1e-3]), iterations=3, tol=1e-9)
    assert result.status == Status.MAX_ITERATIONS
    assert result.iterations == 3


@pytest.mark.parametrize("method", [*METHODS, "paper"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_input_is_said_and_shown(method, bad):
    fn = {**METHODS, "paper": pinv.razavi}[method]
    a = np.eye(3)
    a[1, 2] = bad
    result = fn(a)
    assert result.status == Status.NON_FINITE
    assert np.isnan(result.value).all()
    assert np.isnan(result.residual)
    with pytest.raises(errors.NonFiniteError, match="`a` is not finite in 1 of 9 entries"):
        fn(a, check_finite=True)


def test_overflow_of_the_inverse_is_said():
    assert pinv.razavi(np.array([[1e-42]], "float32")).status == Status.NON_FINITE
    assert pinv.svd(np.array([[1e-42]], "float32")).status == Status.NON_FINITE


@pytest.mark.parametrize("dtype16", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("method", METHODS)
def test_half_precision_is_computed_in_float32(method, dtype16, rng):
    a = torch.asarray(core(8, 10.0, rng), dtype=dtype16)
    fn = partial(METHODS[method], **({} if method in DIRECT else {"tol": 1e-5}))
    result = fn(a)
    assert result.value.dtype == dtype16
    assert result.residual.dtype == torch.float32
    assert float(result.residual) < 1e-5
    wide = fn(a.to(torch.float32)).value.to(dtype16)
    assert torch.equal(result.value, wide)


def test_rtol_has_numpys_meaning():
    a = np.diag([1.0, 1e-3, 1e-8, 0.0])
    for rtol in (0.0, 1e-9, 1e-8, 1e-4, 0.5):
        np.testing.assert_allclose(pinv.svd(a, rtol=rtol).value, np.linalg.pinv(a, rtol=rtol), rtol=1e-12)
    default = 4 * np.finfo(float).eps
    np.testing.assert_allclose(pinv.svd(a).value, np.linalg.pinv(a, rtol=default), rtol=1e-12)


def test_svd_residual_is_what_the_cutoff_dropped():
    result = pinv.svd(np.diag([3.0, 4.0, 0.05]), rtol=0.1)
    assert result.residual == pytest.approx(0.05 / np.hypot(5.0, 0.05), rel=1e-12)


@pytest.mark.parametrize("method", [pinv.svd, pinv.newton_schulz, pinv.razavi])
@pytest.mark.parametrize(
    ("a", "error", "text"),
    [
        (np.zeros(3), errors.ShapeError, "`a` is of shape (3,)"),
        (np.zeros((2, 0)), errors.ShapeError, "`a` is of shape (2, 0)"),
        (np.zeros((2, 2), int), errors.DTypeError, "`a` is of dtype int64"),
        (np.zeros((2, 2), np.longdouble), errors.DTypeError, "`a` is of dtype"),
        ([[1.0]], errors.NamespaceError, "`a` is a list"),
    ],
    ids=["rank", "empty", "int", "extended", "list"],
)
def test_bad_matrix(method, a, error, text):
    with pytest.raises(error) as caught:
        method(a)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("method", "options", "argument"),
    [
        (pinv.razavi, {"iterations": -1}, "iterations"),
        (pinv.razavi, {"tol": 0.0}, "tol"),
        (pinv.razavi, {"tol": np.nan}, "tol"),
        (pinv.newton_schulz, {"check_every": 0}, "check_every"),
        (pinv.svd, {"rtol": -1.0}, "rtol"),
        (pinv.svd, {"rtol": np.nan}, "rtol"),
    ],
)
def test_bad_option(method, options, argument):
    with pytest.raises(errors.RangeError) as caught:
        method(np.eye(2), **options)
    assert caught.value.argument == argument


def test_misspelt_option_is_refused():
    with pytest.raises(TypeError, match="itertions"):
        pinv.razavi(np.eye(2), itertions=3)


def test_empty_batch(lane):
    for method in METHODS.values():
        assert method(lane(np.zeros((0, 3, 3)))).value.shape == (0, 3, 3)


def test_gradient_flows_through_the_unrolled_iteration(rng):
    a = torch.tensor(core(4, 3.0, rng), requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: pinv.razavi(x, iterations=3).value, (a,))
