"""pinv(sA) = pinv(A)/s for every function, from one end of the number range to the other, in every lane and field."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nystrom_numerics import errors, linalg, pinv
from nystrom_numerics.backend import from_numpy, namespace, to_numpy
from nystrom_numerics.errors import Status

INVERSE, DIRECT, KEPT = -1, 1, 0
SINGLE = ("float32", "complex64")


def _eye(a):
    xp = namespace(a=a)
    return xp.astype(from_numpy(xp, np.stack([np.eye(a.shape[-2])] * a.shape[0]), a), a.dtype)


def _last(a, s):
    *_, z = pinv.iterates(a, [pinv.RAZAVI] * 12)
    return z


def by(fn, **options):
    return lambda a, s: fn(a, **options).value


# f(A, s) for A = sB, and how it scales with s
LAWS = {
    "svd": (by(pinv.svd), INVERSE),
    "truncated": (by(pinv.truncated, cutoff=1e-3), INVERSE),
    "hermitian": (lambda a, s: pinv.hermitian(linalg.adjoint(a) / 2 + a / 2).value, INVERSE),
    "complete_orthogonal": (by(pinv.complete_orthogonal), INVERSE),
    "tikhonov": (lambda a, s: pinv.tikhonov(a, ridge=0.1 * s**2).value, INVERSE),
    "solve": (lambda a, s: pinv.solve(a, _eye(a)).value, INVERSE),
    "rank_revealing": (lambda a, s: pinv.rank_revealing(a, _eye(a)), INVERSE),
    "lu": (lambda a, s: pinv.lu(a, _eye(a)), INVERSE),
    "by_product": (lambda a, s: pinv.solve(a, _eye(a), method=pinv.by_product(pinv.svd)).value, INVERSE),
    "newton_schulz": (by(pinv.newton_schulz, iterations=40), INVERSE),
    "razavi": (by(pinv.razavi, iterations=20), INVERSE),
    "chebyshev": (by(pinv.chebyshev, iterations=20), INVERSE),
    "hyperpower": (by(pinv.hyperpower, iterations=6), INVERSE),
    "interval_optimal": (by(pinv.interval_optimal, condition=30.0, budget=20), INVERSE),
    "iterate": (lambda a, s: pinv.iterate(a, [pinv.RAZAVI] * 12).value, INVERSE),
    "iterates": (_last, INVERSE),
    "implicit": (by(pinv.implicit(pinv.svd)), INVERSE),
    "one_sup_bound": (lambda a, s: pinv.one_sup_bound(a), DIRECT),
    "perron_bound": (lambda a, s: pinv.perron_bound(a), DIRECT),
    "known_norm": (lambda a, s: pinv.known_norm(a, sigma_max=10.0 * s), DIRECT),
    "convergence": (lambda a, s: pinv.convergence(a, products=24).traces[0].residual, KEPT),
    "filter_response": (lambda a, s: pinv.filter_response(pinv.svd, linalg.one_norm(a)), KEPT),
}
NO_MATRICES = {"verify", "Step", "Schedule", "plan", "hyperpower_step", "interval_step"}
RECORDS = {
    "Convergence",
    "METHODS",
    "Trace",
    "Verification",
    "PinvResult",
    "SolveResult",
    "Solver",
    "NormBound",
    "CHEBYSHEV",
    "NEWTON_SCHULZ",
    "RAZAVI",
}


def matrices(field, rng, square=True):
    """Singular values in [1, 2] or so, and Hermitian parts that are far from singular."""
    a = 0.2 * rng.standard_normal((2, 4, 4 if square else 3))
    if "complex" in field:
        a = a + 0.2j * rng.standard_normal(a.shape)
    return a + 1.5 * np.eye(*a.shape[1:])


def test_every_function_has_a_law():
    assert LAWS.keys() | NO_MATRICES | RECORDS == set(pinv.__all__)


@pytest.mark.parametrize("field", ["float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("name", LAWS)
def test_results_scale_with_the_matrix(name, lane, field, rng):
    """To rounding, at scales whose squares, or whose products with the inverse's, leave the range."""
    function, law = LAWS[name]
    a = matrices(field, rng)
    if name == "tikhonov":  # whose ridge, in the square of the scale, is a Python number
        scales = (1e-20, 1e19) if field in SINGLE else (1e-150, 1e150)
    else:
        scales = (
            (1e-37, 1e-25, 1e-20, 1e19, 1e25, 1e37) if field in SINGLE else (1e-300, 1e-160, 1e155, 1e300)
        )
    expected = to_numpy(function(lane(a.astype(field)), 1.0)).astype(complex)
    rtol = (3e-5 if field in SINGLE else 1e-12) * np.abs(expected).max()
    for s in scales:
        x = lane((a * s).astype(field))
        found = to_numpy(function(x, s)).astype(complex)
        np.testing.assert_allclose(found * float(s) ** -law if law else found, expected, rtol=0, atol=rtol)


@pytest.mark.parametrize("name", ["svd", "complete_orthogonal", "newton_schulz", "hyperpower", "razavi"])
@pytest.mark.parametrize("scale", [1e-37, 1e-20, 1e19, 1e38, "the largest"])
@pytest.mark.parametrize("square", [True, False])
def test_stories_do_not_change_with_the_scale(name, scale, square, lane, rng):
    """Also where the largest entry is next to the end of the range, so that even the norm bound overflows."""
    method = getattr(pinv, name)
    options = {} if name in ("svd", "complete_orthogonal") else {"iterations": 60, "tol": 1e-5}
    a = matrices("float32", rng, square)
    scale = 3.4e38 / np.abs(a).max() if scale == "the largest" else scale
    result = method(lane(a * scale, "float32"), **options)
    assert result.status == Status.CONVERGED
    assert to_numpy(result.residual).max() < 1e-5
    expected = np.linalg.pinv(a)
    np.testing.assert_allclose(to_numpy(result.value).astype(float) * scale, expected, atol=3e-5)


@pytest.mark.parametrize("scale", [1e-25, 1e-20, 1e19, 1e25])
def test_solve_and_its_residual(scale, lane, dtype, rng):
    """A x = A 1, whose answer needs no scale; a wrong x has a residual that does not vanish with the scale."""
    a = matrices(dtype, rng) * scale
    b = a @ np.ones((4, 1))
    result = pinv.solve(lane(a, dtype), lane(b, dtype))
    tol = 1e-5 if dtype == "float32" else 1e-13
    lane.assert_close(result.value, np.ones((2, 4, 1)), lane(a, dtype), rtol=tol)
    assert to_numpy(result.residual).max() < tol
    for wrong in (1.5, 1e-30, 0.0, 1e30 / scale if scale > 1 else 1e10):
        other = pinv.SolveResult(lane(np.full((2, 4, 1), wrong), dtype), result.finite, result.a, result.b)
        assert to_numpy(other.residual).min() > 0.05


def test_columns_of_the_right_hand_side_have_scales_of_their_own(lane, rng):
    a, powers = matrices("float32", rng), np.array([1e-30, 1.0, 1e-12, 1e30])
    b = (a @ (np.ones((4, 1)) * powers)).astype("float32")
    x = lane(a, "float32")
    lane.assert_close(pinv.solve(x, lane(b)).value, np.broadcast_to(powers, (2, 4, 4)), x, rtol=1e-5)


def test_subnormal_matrices_with_a_representable_inverse(lane, rng):
    """Entries below the least normal number, 1.2e-38, to the precision that they have."""
    a = (matrices("float32", rng) * 5e-39).astype("float32")
    if not bool((lane(a) != 0)[0, 0, 0]):
        pytest.skip("this library flushes subnormal numbers to zero")
    expected = np.linalg.pinv(a.astype(float))
    for result in (
        pinv.svd(lane(a)),
        pinv.complete_orthogonal(lane(a)),
        pinv.newton_schulz(lane(a), tol=1e-5),
    ):
        assert result.status == Status.CONVERGED
        lane.assert_close(result.value, expected, lane(a), rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("scale", "ridge"),
    [
        (1e-20, 1.0),
        (1e-37, 1e-10),
        (1.0, 1e-60),
        (1e10, 1e-30),
        (1e-10, 1e20),
        (1.0, 1e300),
        (1e37, 1e-300),
        (1e30, 1e30),
    ],
)
def test_ridges_of_another_scale_than_the_matrix(scale, ridge, lane, rng):
    """σ/(σ² + λ) in float32, where σ², λ or λ/σ² leave the range and the response need not."""
    a = (matrices("float32", rng) * scale).astype("float32")
    u, s, vt = np.linalg.svd(a.astype(np.float64), full_matrices=False)
    response = s / (s * s + ridge)
    expected = (np.swapaxes(vt, -1, -2) * response[:, None, :]) @ np.swapaxes(u, -1, -2)
    found = pinv.tikhonov(lane(a), ridge=ridge)
    assert found.status == Status.CONVERGED
    lane.assert_close(found.value, expected, lane(a), rtol=0, atol=1e-5 * response.max() + 2e-45)


def test_overflow_in_half_precision_is_said():
    """What float32 holds and float16 does not."""
    a, b = torch.eye(2, dtype=torch.float16) * 1e-3, torch.full((2, 1), 6e2, dtype=torch.float16)
    result = pinv.solve(a, b)
    assert result.status == Status.NON_FINITE
    assert bool(torch.isnan(result.value).all())


@pytest.mark.parametrize(
    "name", ["svd", "hermitian", "complete_orthogonal", "tikhonov", "solve", "lu", "razavi"]
)
@pytest.mark.parametrize("power", [-55, 50])
def test_gradients_scale_with_the_square(name, power, rng):
    function, _ = LAWS[name]
    a = torch.tensor(matrices("float32", rng), dtype=torch.float32)

    def gradient(s):
        x = (a * s).requires_grad_()
        function(x, s).sum().backward()
        return x.grad * s * s

    expected = gradient(1.0)
    torch.testing.assert_close(
        gradient(2.0**power), expected, rtol=0, atol=3e-5 * float(expected.abs().max())
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["svd", "complete_orthogonal", "hermitian", "newton_schulz"])
def test_entries_next_to_the_largest_number(name, dtype, lane):
    """Whose logarithm is that of infinity to rounding."""
    top = np.finfo(dtype).max
    for largest in (top, np.nextafter(top, 0, dtype=dtype)):
        found = getattr(pinv, name)(lane(np.diag([largest, largest]).astype(dtype)))
        assert found.status == Status.CONVERGED
        expected = np.diag([1 / largest] * 2).astype(dtype)
        lane.assert_close(found.value, expected, lane(expected), rtol=1e-2, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("n", [4, 30, 300])
def test_what_is_not_symmetric_is_refused_in_half_precision_too(n, dtype, rng):
    a = torch.tensor(rng.standard_normal((n, n))).to(dtype)
    with pytest.raises(errors.RangeError, match="asymmetric") as caught:
        pinv.hermitian(a)
    assert caught.value.argument == "a"
    assert pinv.hermitian(a + a.mT).status == Status.CONVERGED
