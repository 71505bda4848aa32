"""Factorisations: against exact references, with NumPy's and SciPy's cutoffs, and solved without inverting."""

from __future__ import annotations

from functools import partial

import array_api_compat.numpy
import mpmath
import numpy as np
import pytest
import scipy.linalg
import torch

from nystrom_numerics import errors, linalg, pinv
from nystrom_numerics.backend import to_numpy
from nystrom_numerics.errors import Status

# LAPACK's last bits depend on where arrays lie in memory, so a repeated backward pass may differ by rounding
gradcheck = partial(torch.autograd.gradcheck, nondet_tol=1e-10)


def hilbert(n):
    return scipy.linalg.hilbert(n)


def kahan(n, theta=1.2):
    s, c = np.sin(theta), np.cos(theta)
    return np.diag(s ** np.arange(n)) @ (np.eye(n) - c * np.triu(np.ones((n, n)), 1))


def graded(n, condition, rng):
    u, w = (np.linalg.qr(rng.standard_normal((n, n)))[0] for _ in range(2))
    return (u * np.geomspace(1, 1 / condition, n)) @ w


def deficient(m, n, rank, rng):
    return rng.standard_normal((m, rank)) @ rng.standard_normal((rank, n))


EXACT = {
    "svd": pinv.svd,
    "complete_orthogonal": pinv.complete_orthogonal,
    "solve": lambda a, **o: pinv.solve(a, np.eye(len(a)), method=partial(pinv.rank_revealing, **o)),
    "two QR": lambda a, **o: _two_qr(a, **o),
}


def _two_qr(a, **options):
    from nystrom_numerics.pinv.solving import SolveResult, _by_two_qr

    cutoff = options.get("rtol", max(a.shape) * np.finfo(float).eps)
    value = _by_two_qr(array_api_compat.numpy, a, np.eye(len(a)), cutoff)
    return SolveResult(value, np.zeros((), int), a, np.eye(len(a)))


MATRICES = {
    "random": lambda rng: rng.standard_normal((7, 7)),
    "wide": lambda rng: rng.standard_normal((4, 9)),
    "tall": lambda rng: rng.standard_normal((9, 4)),
    "rank 3 of 8": lambda rng: deficient(8, 8, 3, rng),
    "rank 2, wide": lambda rng: deficient(5, 9, 2, rng),
    "rank 2, tall": lambda rng: deficient(9, 5, 2, rng),
    "orthogonal": lambda rng: np.linalg.qr(rng.standard_normal((6, 6)))[0],
    "projector": lambda rng: np.diag([1.0, 1, 1, 0, 0]),
    "zero": lambda rng: np.zeros((3, 5)),
    "1x1": lambda rng: np.array([[-4.0]]),
    "one row": lambda rng: rng.standard_normal((1, 6)),
    "duplicate columns": lambda rng: np.repeat(rng.standard_normal((6, 3)), 2, axis=1),
    "graded 1e8": lambda rng: graded(12, 1e8, rng),
    "graded 1e12": lambda rng: graded(12, 1e12, rng),
    "graded 1e14": lambda rng: graded(12, 1e14, rng),
    "Hilbert 8": lambda rng: hilbert(8),
    "Kahan 30": lambda rng: kahan(30),
}


@pytest.mark.parametrize("method", EXACT)
@pytest.mark.parametrize("name", MATRICES)
def test_penrose_conditions(method, name, rng):
    """The four conditions, each to a backward-stable algorithm's error, u ‖A‖ ‖Z‖ with a modest factor.

    A cutoff of 1e-15 keeps all of the graded matrices, so that their smallest values are inverted.
    """
    a = MATRICES[name](rng)
    z = EXACT[method](a, **({"rtol": 1e-15} if name == "graded 1e14" else {})).value
    az, za = a @ z, z @ a
    size_a, size_z = (max(np.linalg.norm(x), 1e-300) for x in (a, z))
    u = 1.2e-16 * 30 * max(a.shape) * max(size_a * size_z, 1.0)
    assert np.linalg.norm(az @ a - a) <= u * size_a
    assert np.linalg.norm(za @ z - z) <= u * size_z
    assert np.linalg.norm(az - az.T) <= u
    assert np.linalg.norm(za - za.T) <= u


@pytest.mark.parametrize("method", EXACT)
@pytest.mark.parametrize("name", ["random", "Hilbert 8", "Kahan 30", "graded 1e8"])
def test_against_a_60_digit_inverse(method, name, rng):
    """Relative forward error at most a modest multiple of κ u, the inverse by mpmath with 60 digits."""
    a = MATRICES[name](rng)
    with mpmath.workdps(60):
        exact = np.array((mpmath.matrix(a.tolist()) ** -1).tolist(), dtype=float)
    kappa = np.linalg.cond(a)
    error = np.linalg.norm(EXACT[method](a).value - exact) / np.linalg.norm(exact)
    assert error <= 30 * len(a) * 1.2e-16 * kappa


@pytest.mark.parametrize("method", EXACT)
@pytest.mark.parametrize(
    "name", ["wide", "rank 3 of 8", "rank 2, tall", "duplicate columns", "projector", "zero"]
)
def test_against_numpy_and_scipy(method, name, rng):
    a = MATRICES[name](rng)
    ours = EXACT[method](a).value
    np.testing.assert_allclose(ours, np.linalg.pinv(a, rtol=max(a.shape) * 2.3e-16), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(ours, scipy.linalg.pinv(a), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rtol", [0.0, 1e-9, 1e-8, 3e-6, 1e-4, 0.5])
def test_cutoffs_mean_what_numpy_and_scipy_document(rtol):
    """σ ≤ rtol σ₁ counts as zero; a cutoff of 0 drops nothing but zeros."""
    a = np.diag([1.0, 1e-3, 1e-5, 1e-8])
    expected = np.linalg.pinv(a, rtol=rtol)
    np.testing.assert_allclose(pinv.svd(a, rtol=rtol).value, expected, rtol=1e-12)
    np.testing.assert_allclose(pinv.hermitian(a, rtol=rtol).value, expected, rtol=1e-12)
    np.testing.assert_allclose(scipy.linalg.pinv(a, rtol=rtol), expected, rtol=1e-12)
    if rtol != 1e-8:  # a factorisation estimates σ, and may decide otherwise on equality
        ours = pinv.complete_orthogonal(a, rtol=rtol).value
        np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-300)


def test_default_cutoff_is_the_documented_one(rng):
    eps = np.finfo(float).eps
    for factor, kept in [(1.5, True), (0.5, False)]:
        a = np.diag([1.0, 1.0, 1.0, 4 * eps * factor])
        assert (pinv.svd(a).value[3, 3] > 0) == kept
        assert (scipy.linalg.pinv(a)[3, 3] > 0) == kept


def test_truncated_is_a_choice():
    a = np.diag([2.0, 0.3, 0.1])
    np.testing.assert_allclose(pinv.truncated(a, cutoff=0.1).value, np.diag([0.5, 1 / 0.3, 0.0]), rtol=1e-14)
    with pytest.raises(TypeError, match="cutoff"):
        pinv.truncated(a)


@pytest.mark.parametrize("shape", [(5, 5), (4, 7), (7, 4)])
def test_tikhonov_is_the_normal_equations(shape, lane, dtype, rng):
    a = rng.standard_normal((2, *shape))
    expected = np.stack([np.linalg.solve(x.T @ x + 0.3 * np.eye(shape[1]), x.T) for x in a])
    x = lane(a, dtype)
    lane.assert_close(
        pinv.tikhonov(x, ridge=0.3).value, expected, x, rtol=0, atol=1e-5 if dtype == "float32" else 1e-13
    )


@pytest.mark.parametrize("rank", [6, 3, 0])
def test_hermitian(rank, lane, dtype, rng):
    b = rng.standard_normal((2, 6, rank))
    a = b @ np.swapaxes(b, -1, -2) - 2 * b[..., :1] @ np.swapaxes(b[..., :1], -1, -2)  # indefinite
    a = (a + np.swapaxes(a, -1, -2)) / 2
    x = lane(a, dtype)
    options = {"rtol": 1e-5 if dtype == "float32" else 1e-12}
    expected = np.linalg.pinv(to_numpy(x).astype(float), **options)
    scale = max(np.abs(expected).max(), 1)
    tol = (3e-4 if dtype == "float32" else 1e-11) * scale**2
    lane.assert_close(pinv.hermitian(x, **options).value, expected, x, rtol=0, atol=tol)


def test_hermitian_refuses_what_is_not():
    with pytest.raises(errors.RangeError, match="`a` is asymmetric by"):
        pinv.hermitian(np.array([[1.0, 2.0], [0.0, 1.0]]))
    with pytest.raises(errors.ShapeError, match="square"):
        pinv.hermitian(np.zeros((2, 3)))


# ---------------------------------------------------------------- pivoted QR and solve


@pytest.mark.parametrize("shape", [(6, 6), (4, 7), (7, 4)])
@pytest.mark.parametrize("rank", [4, 2, 0])
def test_pivoted_qr(shape, rank, lane, rng):
    a = np.stack([deficient(*shape, rank, rng), rng.standard_normal(shape)])
    x = lane(a)
    q, r, order = (to_numpy(y) for y in linalg.pivoted_qr(x))
    k = min(shape)
    np.testing.assert_allclose(np.swapaxes(q, -1, -2) @ q, np.broadcast_to(np.eye(k), (2, k, k)), atol=1e-13)
    permuted = np.take_along_axis(a, np.broadcast_to(order[:, None, :], a.shape), axis=-1)
    np.testing.assert_allclose(q @ r, permuted, atol=1e-12)
    diagonal = np.abs(np.diagonal(r, axis1=-2, axis2=-1))
    assert (diagonal[:, :-1] >= diagonal[:, 1:] - 1e-12).all()
    assert np.abs(np.tril(r, -1)).max() < 1e-13
    assert (diagonal[0, rank:] < 1e-12).all()


SOLVERS = {
    "rank_revealing": pinv.rank_revealing,
    "svd": pinv.by_product(pinv.svd),
    "hyperpower": pinv.by_product(partial(pinv.hyperpower, tol=1e-6)),
}


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("shape", [(5, 5), (4, 7), (7, 4)])
def test_solve_on_every_lane(solver, shape, lane, dtype, rng):
    a, b = rng.standard_normal((2, *shape)), rng.standard_normal((2, shape[0], 3))
    a[0] = deficient(*shape, 2, rng)
    method = SOLVERS[solver]
    if solver == "rank_revealing":
        method = partial(pinv.rank_revealing, rtol=1e-5)
    if solver == "svd":
        method = pinv.by_product(partial(pinv.svd, rtol=1e-5))
    x, y = lane(a, dtype), lane(b, dtype)
    result = pinv.solve(x, y, method=method)
    expected = np.linalg.pinv(to_numpy(x).astype(float), rtol=1e-5) @ to_numpy(y)
    tol = (2e-4 if dtype == "float32" else 1e-5 if solver == "hyperpower" else 1e-10) * np.abs(expected).max()
    lane.assert_close(result.value, expected, y, rtol=0, atol=tol)
    assert result.status == Status.CONVERGED
    assert float(np.max(to_numpy(result.residual))) < 1e-5


def test_solve_broadcasts_and_keeps_half_precision(rng):
    a, b = rng.standard_normal((5, 5)), rng.standard_normal((3, 5, 2))
    np.testing.assert_allclose(pinv.solve(a, b).value, np.linalg.solve(a, b), rtol=1e-9)
    half = pinv.solve(torch.asarray(a, dtype=torch.bfloat16), torch.asarray(b, dtype=torch.bfloat16))
    assert half.value.dtype == torch.bfloat16
    assert half.residual.dtype == torch.float32


@pytest.mark.parametrize("solver", [*SOLVERS, "lu"])
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_solve_is_batch_independent_and_survives_nan(solver, library, rng):
    method = pinv.lu if solver == "lu" else SOLVERS[solver]
    as_array = np.asarray if library == "numpy" else torch.from_numpy
    a, b = rng.standard_normal((3, 6, 6)) + 3 * np.eye(6), rng.standard_normal((3, 6, 2))
    a[0], a[2] = np.eye(6) * 1e150, np.eye(6)
    a[2, 0, 0] = np.nan
    if solver == "lu":  # the NaN matrix counts as zero inside, and that one LU refuses
        a[2] = np.eye(6)
    together = pinv.solve(as_array(a), as_array(b), method=method)
    alone = pinv.solve(as_array(a[1]), as_array(b[1]), method=method)
    np.testing.assert_allclose(to_numpy(together.value)[1], to_numpy(alone.value), rtol=1e-13)
    if solver != "lu":
        assert to_numpy(together.codes).tolist() == [0, 0, int(Status.NON_FINITE)]
        assert np.isnan(to_numpy(together.value)[2]).all()


def test_solve_beats_the_six_iterations_on_the_residual(rng):
    a = np.exp(2 * rng.standard_normal((8, 64, 64))).astype("float32")
    a /= a.sum(-1, keepdims=True)
    b = rng.standard_normal((8, 64, 16)).astype("float32")
    six = pinv.solve(a, b, method=pinv.by_product(pinv.razavi))
    assert (pinv.solve(a, b).residual < 1e-2 * six.residual).all()


@pytest.mark.parametrize(
    ("a", "b", "error", "argument"),
    [
        (np.eye(3), np.ones((2, 1)), errors.ShapeError, "b"),
        (np.eye(3), np.ones(3), errors.ShapeError, "b"),
        (np.eye(3), np.ones((3, 1), "float32"), errors.DTypeError, "b"),
        (np.ones((2, 3, 3)), np.ones((5, 3, 1)), errors.ShapeError, "b"),
        (np.eye(3), torch.ones(3, 1), errors.NamespaceError, "b"),
    ],
)
def test_solve_bad_input(a, b, error, argument):
    with pytest.raises(error) as caught:
        pinv.solve(a, b)
    assert caught.value.argument == argument


@pytest.mark.parametrize("ridge", [0.0, -1.0, np.inf, np.nan])
def test_bad_ridge(ridge):
    with pytest.raises(errors.RangeError, match="`ridge`"):
        pinv.tikhonov(np.eye(2), ridge=ridge)


# ---------------------------------------------------------------- filters and gradients


def test_filter_responses_are_those_of_the_formulas():
    sigma = np.geomspace(1e-4, 1, 60)
    six = 1 - sigma**2
    for _ in range(6):
        six = 0.75 * six**3 + 0.25 * six**4
    np.testing.assert_allclose(pinv.filter_response(pinv.razavi, sigma), 1 - six, atol=1e-12)
    tikhonov = partial(pinv.tikhonov, ridge=1e-4)
    np.testing.assert_allclose(
        pinv.filter_response(tikhonov, sigma), sigma**2 / (sigma**2 + 1e-4), rtol=1e-11
    )
    cut = pinv.filter_response(partial(pinv.truncated, cutoff=0.01), sigma)
    np.testing.assert_allclose(cut, sigma > 0.01, atol=1e-12)


def test_six_iterations_resolve_down_to_0_045():
    """Where the filter of the paper's six iterations passes 0.9."""
    sigma = np.linspace(0.001, 1.0, 1000)
    response = pinv.filter_response(pinv.razavi, sigma)
    assert sigma[np.argmax(response > 0.9)] == pytest.approx(0.045, abs=0.002)


def test_filter_response_on_every_lane(lane, dtype):
    sigma = lane(np.linspace(0, 1, 5), dtype)
    response = pinv.filter_response(pinv.razavi, sigma)
    lane.assert_close(
        response, pinv.filter_response(pinv.razavi, np.linspace(0, 1, 5)), sigma, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    ("sigma", "error"),
    [
        (np.zeros((2, 2)), errors.ShapeError),
        (np.zeros(0), errors.ShapeError),
        (np.array([-1.0, 1.0]), errors.RangeError),
        (np.zeros(3), errors.RangeError),
        (np.array([np.nan, 1.0]), errors.RangeError),
        (np.array([1, 2]), errors.DTypeError),
    ],
)
def test_bad_sigma(sigma, error):
    with pytest.raises(error, match="`sigma`"):
        pinv.filter_response(pinv.svd, sigma)


REGULAR = {
    "svd": pinv.svd,
    "complete_orthogonal": pinv.complete_orthogonal,
    "tikhonov": partial(pinv.tikhonov, ridge=0.1),
    "implicit hyperpower": pinv.implicit(partial(pinv.hyperpower, tol=1e-13, iterations=20)),
}
REGULAR["solve"] = lambda a: pinv.solve(a, torch.eye(a.shape[-2], dtype=a.dtype))


@pytest.mark.parametrize("method", REGULAR)
@pytest.mark.parametrize("shape", [(4, 4), (2, 3, 5), (5, 3)])
def test_gradcheck_full_rank(method, shape, rng):
    a = torch.tensor(rng.standard_normal(shape), requires_grad=True)
    assert gradcheck(lambda x: REGULAR[method](x).value, (a,))


@pytest.mark.parametrize("method", REGULAR)
def test_gradcheck_at_repeated_singular_values(method):
    """Where the derivative of the SVD itself does not exist: the identity."""
    a = (2 * torch.eye(3, dtype=torch.float64)).requires_grad_()
    assert gradcheck(lambda x: REGULAR[method](x).value, (a,))


@pytest.mark.parametrize("method", ["svd", "complete_orthogonal", "solve", "implicit hyperpower"])
@pytest.mark.parametrize("shape", [(5, 5), (4, 6), (6, 4)])
def test_gradcheck_at_constant_rank(method, shape, rng):
    """Hypothesis: perturbations keep the rank.  A = X Yᵀ does, with X and Y as the variables."""
    x, y = (torch.tensor(rng.standard_normal((n, 2)), requires_grad=True) for n in shape)
    assert gradcheck(lambda x, y: REGULAR[method](x @ y.T).value, (x, y))


def test_gradcheck_tikhonov_needs_no_hypothesis(rng):
    a = torch.tensor(deficient(5, 4, 2, rng), requires_grad=True)
    assert gradcheck(lambda x: pinv.tikhonov(x, ridge=0.2).value, (a,))


@pytest.mark.parametrize("shape", [(5, 5), (4, 6), (6, 4)])
def test_gradcheck_truncated_with_something_dropped(shape, rng):
    """The exact derivative of what is computed, which Golub–Pereyra's formula is not."""
    u, s, vt = np.linalg.svd(rng.standard_normal(shape), full_matrices=False)
    a = (u * np.array([3.0, 2.0, 0.4, 0.3, 0.2][: len(s)])) @ vt
    a = torch.tensor(a, requires_grad=True)
    assert gradcheck(lambda x: pinv.truncated(x, cutoff=0.3).value, (a,))


@pytest.mark.parametrize("rtol", [None, 0.5])
def test_gradcheck_hermitian(rtol, rng):
    q, _ = np.linalg.qr(rng.standard_normal((5, 5)))
    a = torch.tensor((q * [3.0, -2.5, 0.4, -0.3, 0.2]) @ q.T, requires_grad=True)
    assert gradcheck(lambda x: pinv.hermitian((x + x.T) / 2, rtol=rtol).value, (a,))


@pytest.mark.parametrize("shape", [(4, 4), (2, 3, 5), (5, 3)])
@pytest.mark.parametrize("rank_deficient", [False, True])
def test_gradcheck_solve(shape, rank_deficient, rng):
    b = torch.tensor(rng.standard_normal((*shape[:-1], 2)), requires_grad=True)
    x = torch.tensor(rng.standard_normal((*shape[:-1], 2)), requires_grad=True)
    y = torch.tensor(rng.standard_normal((*shape[:-2], 2, shape[-1])), requires_grad=True)
    a = torch.tensor(rng.standard_normal(shape), requires_grad=True)
    if rank_deficient:
        assert gradcheck(lambda x, y, b: pinv.solve(x @ y, b).value, (x, y, b))
    else:
        assert gradcheck(lambda a, b: pinv.solve(a, b).value, (a, b))


def test_gradcheck_lu(rng):
    a = torch.tensor(rng.standard_normal((4, 4)), requires_grad=True)
    b = torch.tensor(rng.standard_normal((4, 2)), requires_grad=True)
    assert gradcheck(lambda a, b: pinv.solve(a, b, method=pinv.lu).value, (a, b))


def test_second_derivatives_are_refused_and_not_wrong(rng):
    a = torch.tensor(rng.standard_normal((3, 3)), requires_grad=True)
    with pytest.raises(errors.DerivativeError, match="only once"):
        torch.autograd.grad(pinv.svd(a).value.sum(), a, create_graph=True)
