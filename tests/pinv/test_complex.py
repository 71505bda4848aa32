"""Complex matrices: adjoints where the real formulas have transposes, moduli in norms, real residuals."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from nystrom_numerics import attention, errors, pinv
from nystrom_numerics.backend import to_numpy
from nystrom_numerics.errors import Status
from tests.thorough import many

FIELDS = ["complex64", "complex128"]
REAL = {"complex64": "float32", "complex128": "float64"}
UNIT = {"complex64": 2.0**-24, "complex128": 2.0**-53}


def gauss(shape, rng):
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


def with_spectrum(sigma, shape, rng):
    k = len(sigma)
    u, v = (np.linalg.qr(gauss((n, k), rng))[0] for n in shape)
    return (u * np.asarray(sigma)) @ np.conj(v.T)


def deficient(shape, rank, rng):
    return gauss((shape[0], rank), rng) @ gauss((rank, shape[1]), rng)


def tied(a):
    """A Hermitian matrix from any square one."""
    return (a + np.conj(np.swapaxes(a, -1, -2))) / 2


def inverse_by(solver):
    def run(a):
        xp_eye = np.broadcast_to(np.eye(a.shape[-2]), (*a.shape[:-2], a.shape[-2], a.shape[-2]))
        eye = torch.as_tensor(xp_eye.copy()).to(a) if isinstance(a, torch.Tensor) else _like(a, xp_eye)
        return pinv.solve(a, eye, method=solver)

    return run


def _like(a, x):
    from nystrom_numerics.backend import from_numpy, namespace

    xp = namespace(a=a)
    return xp.astype(from_numpy(xp, np.ascontiguousarray(x), a), a.dtype)


EXACT = {
    "svd": pinv.svd,
    "complete_orthogonal": pinv.complete_orthogonal,
    "solve": inverse_by(pinv.rank_revealing),
    "by_product": inverse_by(pinv.by_product(pinv.svd)),
}
ITERATIONS = {
    "newton_schulz": partial(pinv.newton_schulz, iterations=100),
    "razavi": partial(pinv.razavi, iterations=60),
    "chebyshev": partial(pinv.chebyshev, iterations=60),
    **{f"hyperpower {p}": partial(pinv.hyperpower, order=p, iterations=60) for p in (5, 8, 9)},
    "perron": partial(pinv.hyperpower, norm_bound=pinv.perron_bound),
    "implicit": lambda a, tol: pinv.implicit(partial(pinv.hyperpower, tol=tol))(a),
}


def check(lane, field, result, expected, like, tol):
    """The value in the dtype of A, a real residual and integer codes."""
    lane.assert_close(result.value, expected, like, rtol=0, atol=tol * np.abs(expected).max())
    assert to_numpy(result.residual).dtype == REAL[field]
    assert to_numpy(result.codes).dtype == np.int64
    assert result.status == Status.CONVERGED


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("method", EXACT)
@pytest.mark.parametrize("shape", [(5, 5), (4, 7), (7, 4)])
def test_exact_methods_on_every_lane(method, shape, lane, field, rng):
    a = np.stack([gauss(shape, rng), deficient(shape, 2, rng), deficient(shape, 2, rng)])
    a[2, :, 0] = 0
    a = a.astype(field)
    x = lane(a)
    expected = np.linalg.pinv(a.astype(complex), rtol=1e-5)
    result = EXACT[method](x)
    check(lane, field, result, expected, x, 3e3 * UNIT[field])
    assert to_numpy(result.residual).max() < 30 * UNIT[field]


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("method", ITERATIONS)
@pytest.mark.parametrize("shape", [(6, 6), (4, 6), (6, 4)])
def test_iterations_on_every_lane(method, shape, lane, field, rng):
    """κ = 10, to a tolerance that the residual is held to: ‖Z − A⁺‖ is at most κ² tol beside κ²u."""
    tol = 1e-5 if field == "complex64" else 1e-12
    a = np.stack([with_spectrum(np.geomspace(1, 0.1, 4), shape, rng) for _ in range(2)]).astype(field)
    x = lane(a)
    result = ITERATIONS[method](x, tol=tol)
    expected = np.linalg.pinv(a.astype(complex), rtol=1e-5)
    check(lane, field, result, expected, x, 100 * tol)


@pytest.mark.parametrize("field", FIELDS)
def test_tikhonov_and_truncated_on_every_lane(lane, field, rng):
    a = np.stack([with_spectrum([3.0, 1.0, 0.02], (5, 4), rng) for _ in range(2)]).astype(field)
    wide = a.astype(complex)
    ah = np.conj(np.swapaxes(wide, -1, -2))
    x = lane(a)
    smooth = np.linalg.solve(ah @ wide + 0.3 * np.eye(4), ah)
    lane.assert_close(pinv.tikhonov(x, ridge=0.3).value, smooth, x, rtol=0, atol=300 * UNIT[field])
    cut = np.linalg.pinv(wide, rtol=0.1)
    lane.assert_close(pinv.truncated(x, cutoff=0.1).value, cut, x, rtol=0, atol=300 * UNIT[field])


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("rank", [6, 3, 0])
def test_hermitian_on_every_lane(rank, lane, field, rng):
    b = gauss((2, 6, rank), rng)
    a = tied((b * rng.choice([-1.0, 1.0], rank)) @ np.conj(np.swapaxes(b, -1, -2))).astype(field)
    x = lane(a)
    rtol = 1e-5 if field == "complex64" else 1e-12
    expected = np.linalg.pinv(a.astype(complex), rtol=rtol, hermitian=True)
    tol = 3e3 * UNIT[field] * max(np.abs(expected).max(), 1) ** 2
    lane.assert_close(pinv.hermitian(x, rtol=rtol).value, expected, x, rtol=0, atol=tol)


def test_symmetric_is_not_hermitian():
    with pytest.raises(errors.RangeError, match=r"`a` is asymmetric by .*Hermitian"):
        pinv.hermitian(np.array([[1.0, 1j], [1j, 1.0]]))
    pinv.hermitian(np.array([[1.0, 1j], [-1j, 1.0]]))


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("method", ["lu", "rank_revealing"])
def test_solve_on_every_lane(method, lane, field, rng):
    a, b = gauss((2, 5, 5), rng).astype(field), gauss((2, 5, 3), rng).astype(field)
    result = pinv.solve(lane(a), lane(b), method=getattr(pinv, method))
    expected = np.linalg.solve(a.astype(complex), b)
    check(lane, field, result, expected, lane(b), 3e3 * UNIT[field])
    assert to_numpy(result.residual).max() < 30 * UNIT[field]


@pytest.mark.parametrize("field", FIELDS)
def test_planned_schedules_on_every_lane(lane, field, rng):
    a = np.stack([with_spectrum(np.geomspace(1, 0.1, 5), (6, 5), rng) for _ in range(2)]).astype(field)
    x = lane(a)
    result = pinv.interval_optimal(x, condition=30.0, tol=1e-3)
    lane.assert_close(result.value, np.linalg.pinv(a.astype(complex)), x, rtol=0, atol=2e-2)


METHODS = {
    **EXACT,
    **{name: partial(fn, tol=1e-13) for name, fn in ITERATIONS.items()},
    "paper": pinv.razavi,
    "tikhonov": partial(pinv.tikhonov, ridge=0.1),
    "interval-optimal": partial(pinv.interval_optimal, condition=30.0, tol=1e-3),
}


@pytest.mark.parametrize("method", METHODS)
def test_as_the_real_matrix_of_twice_the_size(method, rng):
    """B + iC acts as [[B, −C], [C, B]], whose pseudoinverse and whose iterates are the same function of it.

    Norm bounds differ between the two, so that a number of steps without tolerance is compared by one that does not.
    """
    a = with_spectrum(np.geomspace(1, 0.1, 4), (6, 5), rng)
    fn = METHODS[method]
    if method in ("paper", "interval-optimal"):
        fn = partial(fn, norm_bound=partial(pinv.known_norm, sigma_max=1.0))

    def doubled(x):
        return np.block([[x.real, -x.imag], [x.imag, x.real]])

    np.testing.assert_allclose(doubled(fn(a).value), fn(doubled(a)).value, atol=2e-10)


@pytest.mark.parametrize("method", METHODS)
def test_real_matrices_are_complex_ones_too(method, rng):
    a = with_spectrum(np.geomspace(1, 0.1, 4), (5, 5), rng).real
    real, found = METHODS[method](a), METHODS[method](a.astype(complex))
    np.testing.assert_allclose(found.value, real.value, atol=1e-9 * np.abs(real.value).max())


@pytest.mark.parametrize("method", ["svd", "complete_orthogonal", "solve", "hyperpower 9", "razavi"])
def test_penrose_conditions(method, rng):
    a = with_spectrum([1.0, 0.5, 0.3], (6, 5), rng)
    z = METHODS[method](a).value
    az, za = a @ z, z @ a
    for x, y in ((az @ a, a), (za @ z, z), (az, np.conj(az.T)), (za, np.conj(za.T))):
        np.testing.assert_allclose(x, y, atol=1e-11)


def test_the_papers_iteration(rng):
    a = gauss((8, 8), rng)
    z = np.conj(a.T) / (np.abs(a).sum(0).max() * np.abs(a).sum(1).max())
    eye = np.eye(8)
    for _ in range(6):
        z = 0.25 * z @ (13 * eye - a @ z @ (15 * eye - a @ z @ (7 * eye - a @ z)))
    np.testing.assert_allclose(pinv.razavi(a).value, z, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("bound", [pinv.one_sup_bound, pinv.perron_bound])
@pytest.mark.parametrize("field", FIELDS)
def test_norm_bounds_bound(bound, field, lane, rng):
    a = np.stack(
        [gauss((5, 7), rng), np.ones((5, 7)) * (1 + 1j), np.zeros((5, 7)), deficient((5, 7), 1, rng)]
    )
    found = to_numpy(bound(lane(a.astype(field))))
    assert found.dtype == REAL[field]
    truth = np.linalg.norm(a, 2, axis=(1, 2))
    assert (found >= truth * (1 - 1e-6)).all()
    assert found[1] == pytest.approx(truth[1], rel=1e-4)


@pytest.mark.parametrize("condition", [10.0, 300.0])
@pytest.mark.parametrize("field", FIELDS)
def test_execution_meets_the_prediction_after_each_step(condition, field, rng):
    """The rounding model of real matrices, whose constants have a factor in hand, serves complex ones."""
    options = {"tol": 1e-7} if field == "complex128" else {"budget": 19}
    for m in (8, 100):
        core = with_spectrum(np.geomspace(1, 1 / condition, m), (m, m), rng).astype(field)
        schedule = pinv.plan(condition=condition, dtype=field, **options)
        bound = partial(pinv.known_norm, sigma_max=1.0)
        found = [
            np.linalg.norm(np.eye(m) - core.astype(complex) @ z.astype(complex), 2)
            for z in pinv.iterates(core, schedule.steps, norm_bound=bound)
        ]
        assert all(f <= p for f, p in zip(found[1:], schedule.predicted, strict=True))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("mate", ["huge", "zero", "nan"])
def test_batch_independence(method, mate, rng):
    a = with_spectrum(np.geomspace(1, 0.1, 5), (5, 5), rng)
    other = {
        "huge": np.full((5, 5), 1e200j),
        "zero": np.zeros((5, 5)),
        "nan": np.full((5, 5), complex(0, np.nan)),
    }
    alone, beside = METHODS[method](a), METHODS[method](np.stack([other[mate], a, other[mate]]))
    np.testing.assert_array_equal(beside.value[1], alone.value)
    assert beside.residual[1] == alone.residual
    if mate == "nan":
        assert beside.codes.tolist()[::2] == [int(Status.NON_FINITE)] * 2
        assert np.isnan(beside.value[0]).all()


# ---------------------------------------------------------------- derivatives, in Torch's convention

# LAPACK's last bits depend on where arrays lie in memory, so a repeated backward pass may differ by rounding
gradcheck = partial(torch.autograd.gradcheck, nondet_tol=1e-10)
FULL_RANK = {
    **EXACT,
    "tikhonov": partial(pinv.tikhonov, ridge=0.1),
    "truncated": partial(pinv.truncated, cutoff=1e-6),
    "implicit hyperpower": pinv.implicit(partial(pinv.hyperpower, tol=1e-13, iterations=20)),
    "unrolled paper": partial(pinv.razavi, iterations=3),
    "unrolled hyperpower": partial(pinv.hyperpower, iterations=2),
    "unrolled schedule": partial(pinv.interval_optimal, condition=30.0, budget=9),
}


@pytest.mark.parametrize("method", FULL_RANK)
@pytest.mark.parametrize("shape", many([(3, 3), (2, 2, 3), (4, 3)], [(2, 2, 3)]))
def test_gradcheck_full_rank(method, shape, rng):
    a = torch.tensor(gauss(shape, rng), requires_grad=True)
    assert gradcheck(lambda x: FULL_RANK[method](x).value, (a,))


@pytest.mark.parametrize("method", ["svd", "complete_orthogonal", "solve", "implicit hyperpower"])
@pytest.mark.parametrize("shape", many([(4, 4), (3, 5), (5, 3)], [(3, 5)]))
def test_gradcheck_at_constant_rank(method, shape, rng):
    x, y = (torch.tensor(gauss((n, 2), rng), requires_grad=True) for n in shape)
    assert gradcheck(lambda x, y: FULL_RANK[method](x @ y.mH).value, (x, y))


@pytest.mark.parametrize("shape", many([(5, 5), (4, 6), (6, 4)], [(4, 6)]))
def test_gradcheck_truncated(shape, rng):
    a = with_spectrum([3.0, 2.0, 1.0, 0.2], shape, rng)
    assert gradcheck(lambda x: pinv.truncated(x, cutoff=0.3).value, (torch.tensor(a, requires_grad=True),))


@pytest.mark.parametrize("rtol", [None, 0.5])
def test_gradcheck_hermitian(rtol, rng):
    q, _ = np.linalg.qr(gauss((5, 5), rng))
    a = torch.tensor((q * [3.0, -2.5, 0.4, -0.3, 0.2]) @ np.conj(q.T), requires_grad=True)
    assert gradcheck(lambda x: pinv.hermitian((x + x.mH) / 2, rtol=rtol).value, (a,))


@pytest.mark.parametrize("method", [pinv.rank_revealing, pinv.lu])
def test_gradcheck_solve(method, rng):
    a, b = (torch.tensor(gauss((4, n), rng), requires_grad=True) for n in (4, 2))
    assert gradcheck(lambda a, b: pinv.solve(a, b, method=method).value, (a, b))
    assert gradcheck(lambda a, b: method(a, b), (a, b))


def test_second_derivatives_are_refused(rng):
    a = torch.tensor(gauss((3, 3), rng), requires_grad=True)
    with pytest.raises(errors.DerivativeError, match="only once"):
        torch.autograd.grad(pinv.svd(a).value.abs().sum(), a, create_graph=True)


# ---------------------------------------------------------------- what complex numbers have no place in


def test_what_is_not_served_says_so(rng):
    z = gauss((6, 3), rng)
    for call in (
        lambda: attention.exact(z, z, z),
        lambda: attention.nystrom(z, z, z, 3),
        lambda: pinv.filter_response(pinv.svd, gauss(3, rng)),
        lambda: pinv.svd(torch.zeros(2, 2, dtype=torch.complex32, device="meta")),
        lambda: pinv.solve(np.eye(2, dtype=complex), np.eye(2)),
        lambda: pinv.svd(np.eye(2, dtype=np.clongdouble)),
    ):
        with pytest.raises(errors.DTypeError):
            call()
