r"""Pseudoinverses by products alone: :math:`Z_{j+1} = Z_j\,p(AZ_j)` for a polynomial p.

Every iteration starts from :math:`Z_0 = A^T/(\|A\|_1\|A\|_\infty)`, taken per matrix.  Then
:math:`R(Z_0) = R(A^T)` and :math:`N(Z_0) = N(A^T)`, the condition under which Lemma 1 of the paper
holds for singular A as well, and since :math:`\|A\|_2^2 \le \|A\|_1\|A\|_\infty` the non-zero
eigenvalues of :math:`AZ_0` lie in (0, 1].  A maximum over the batch, found in several public
implementations, would make one matrix depend on its batch-mates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil, log
from typing import Any

from nystrom_numerics.backend import (
    Array,
    compute_dtype,
    device_of,
    floating,
    namespace,
    require_finite,
    require_matrix,
    status_tells,
    unit_roundoff,
)
from nystrom_numerics.errors import RangeError, Status
from nystrom_numerics.linalg import backward_residual, binary_scale, one_norm, sup_norm, transpose
from nystrom_numerics.pinv.result import PinvResult

__all__ = ["NEWTON_SCHULZ", "RAZAVI", "Step", "iterates", "newton_schulz", "razavi"]


@dataclass(frozen=True)
class Step:
    r"""One step :math:`Z \mapsto Z\,p(Y)`, with :math:`Y = AZ` at hand.

    Attributes
    ----------
    apply : callable
        ``(z, y) -> z``.
    matmuls : int
        Products a step, the one that forms Y included.
    growth : float
        p(0): what a step multiplies a small eigenvalue of AZ by, and rounding error in the null space.
    """

    apply: Callable[[Array, Array], Array]
    matmuls: int
    growth: float


def _newton_schulz_step(z: Array, y: Array) -> Array:
    return 2.0 * z - z @ y


def _razavi_step(z: Array, y: Array) -> Array:
    inner = 15.0 * y - y @ (7.0 * y - y @ y)
    return 0.25 * (13.0 * z - z @ inner)


NEWTON_SCHULZ = Step(_newton_schulz_step, matmuls=2, growth=2.0)
RAZAVI = Step(_razavi_step, matmuls=4, growth=13 / 4)


def newton_schulz(
    a: Array,
    /,
    *,
    iterations: int = 32,
    tol: float | None = None,
    check_every: int = 1,
    check_finite: bool = False,
) -> PinvResult:
    r"""The Newton–Schulz iteration :math:`Z_{j+1} = Z_j(2I - AZ_j)`.

    Residual eigenvalues follow :math:`e \mapsto e^2`; two products a step; a small
    :math:`\sigma^2` doubles a step.

    Parameters, result and errors are those of :func:`razavi`.
    Source: Schulz 1933; Ben-Israel and Cohen 1966 for the pseudoinverse.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import pinv
    >>> result = pinv.newton_schulz(np.array([[2.0, 1.0], [1.0, 3.0]]), tol=1e-10)
    >>> result.status.name, bool(result.residual < 1e-10)
    ('CONVERGED', True)
    """
    return _run(a, NEWTON_SCHULZ, iterations, tol, check_every, check_finite)


def razavi(
    a: Array,
    /,
    *,
    iterations: int = 6,
    tol: float | None = None,
    check_every: int = 1,
    check_finite: bool = False,
) -> PinvResult:
    r"""The paper's iteration, eq. (14), after Razavi et al. 2014.

    .. math:: Z_{j+1} = \tfrac14 Z_j(13I - AZ_j(15I - AZ_j(7I - AZ_j))).

    Residual eigenvalues follow :math:`e \mapsto \tfrac34e^3 + \tfrac14e^4`; four products a step; a
    small :math:`\sigma^2` grows by 13/4 a step.  Six steps, the paper's number, are an unfinished
    iteration: a filter that keeps :math:`\sigma \gtrsim 0.045\sqrt{\|A\|_1\|A\|_\infty}`.

    Parameters
    ----------
    a : array (..., m, n)
        Real floating, any rank; 16-bit dtypes are computed in float32.  Each matrix is first divided
        by a power of two, which is exact, so that huge and tiny entries are harmless.
    iterations : int
        Steps to take, at least 0.
    tol : float, optional
        Stop a matrix as soon as its relative backward residual is at most ``tol``, or as soon as it
        stagnates.  Without it every step is taken, nothing is checked on the way (no synchronisation
        with the device), and the final residual is judged against the square root of the unit roundoff.
    check_every : int
        With ``tol``: steps between checks.  A check costs one product and one synchronisation.
    check_finite : bool
        Raise on NaN and infinity, in place of a NaN value with status ``NON_FINITE``.

    Returns
    -------
    PinvResult
        Status ``STAGNATED`` (only with ``tol``) means that the residual rose, in which case the value
        is the best one checked, or that
        :math:`\lceil\log(1/u)/\log g\rceil + 4` steps have passed, g the growth: by then every singular
        value that products can tell from rounding (:math:`\sigma^2 > u\sigma_1^2`) has been resolved, and
        rounding error in the null space has grown as much.

    Raises
    ------
    DTypeError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import pinv
    >>> a = np.diag([1.0, 0.5, 0.01])
    >>> six = pinv.razavi(a)
    >>> six.status.name, int(six.matmuls), round(float(six.value[2, 2] * 0.01), 2)
    ('MAX_ITERATIONS', 24, 0.11)
    """
    return _run(a, RAZAVI, iterations, tol, check_every, check_finite)


def iterates(a: Array, step: Step, /) -> Iterator[Array]:
    """The endless sequence Z_0, Z_1, … of an iteration, for a look inside; no stopping, no checks.

    Starts and scales as :func:`razavi` does.  Raises what it raises.
    """
    xp = namespace(a=a)
    floating(xp, a=a)
    require_matrix("a", a)
    work, restore = _prepare(xp, a)
    z = _start(xp, work)
    while True:
        yield restore(z)
        z = step.apply(z, work @ z)


def _prepare(xp: Any, a: Array) -> tuple[Array, Callable[[Array], Array]]:
    """A wide or square matrix of entries at most 2, and the map from its Z back to that of ``a``."""
    work = xp.astype(a, compute_dtype(xp, a.dtype), copy=False)
    scale = binary_scale(work)
    work = work / scale
    tall = work.shape[-2] > work.shape[-1]

    def restore(z: Array) -> Array:
        z = transpose(z) if tall else z
        return xp.astype(z / scale, a.dtype, copy=False)

    return (transpose(work) if tall else work), restore


def _start(xp: Any, a: Array) -> Array:
    """Z_0 = A^T/(‖A‖₁‖A‖_∞), zero for a zero matrix."""
    product = (one_norm(a) * sup_norm(a))[..., None, None]
    return transpose(a) / xp.where(product > 0, product, xp.ones_like(product))


@status_tells
def _run(
    a: Array, step: Step, iterations: int, tol: float | None, check_every: int, check_finite: bool
) -> PinvResult:
    xp = namespace(a=a)
    floating(xp, a=a)
    require_matrix("a", a)
    if check_finite:
        require_finite(xp, a=a)
    if iterations < 0:
        raise RangeError("iterations", f"{iterations}", "an integer of at least 0")
    if check_every < 1:
        raise RangeError("check_every", f"{check_every}", "an integer of at least 1")
    if tol is not None and not tol > 0:
        raise RangeError("tol", f"{tol}", "a number above 0, or None to take every step")

    work, restore = _prepare(xp, a)
    z = _start(xp, work)
    u = unit_roundoff(xp, work.dtype)
    if tol is None:
        for _ in range(iterations):
            z = step.apply(z, work @ z)
        residual = backward_residual(work, z)
        steps = xp.full(z.shape[:-2], iterations, dtype=xp.int64, device=device_of(z))
        codes = xp.where(residual <= u**0.5, steps * 0, int(Status.MAX_ITERATIONS))
    else:
        resolvable = ceil(log(1 / u) / log(step.growth)) + 4
        z, residual, steps, codes = _until(xp, work, z, step, iterations, tol, check_every, resolvable)

    value = restore(z)
    finite = xp.isfinite(residual) & xp.all(xp.isfinite(value), axis=(-2, -1))
    return PinvResult(
        value=xp.where(finite[..., None, None], value, xp.nan),
        residual=xp.where(finite, residual, xp.nan),
        iterations=steps,
        matmuls=steps * step.matmuls,
        codes=xp.where(finite, codes, int(Status.NON_FINITE)),
    )


def _until(
    xp: Any, a: Array, z: Array, step: Step, iterations: int, tol: float, check_every: int, resolvable: int
) -> tuple[Array, Array, Array, Array]:
    """Iterate each matrix until it meets ``tol``, stagnates or runs out of steps; keep its best iterate.

    A matrix that has stopped is left as it is while its batch-mates go on.
    """
    steps = xp.zeros(z.shape[:-2], dtype=xp.int64, device=device_of(z))
    codes = steps + int(Status.MAX_ITERATIONS)
    active = steps == 0
    best_z, best, best_steps = z, xp.full_like(z[..., 0, 0], xp.inf), steps
    for taken in range(iterations + 1):
        y = a @ z
        if taken % check_every == 0 or taken == iterations:
            residual = backward_residual(a, z, y)
            better = active & (residual < best)
            risen = active & ~(residual <= 2 * best)  # also true for NaN
            best_z = xp.where(better[..., None, None], z, best_z)
            best_steps = xp.where(better, steps, best_steps)
            best = xp.where(better, residual, best)
            stalled = risen | (active & (best > tol) & (taken >= resolvable))
            codes = xp.where(stalled, int(Status.STAGNATED), codes)
            codes = xp.where(active & (best <= tol), int(Status.CONVERGED), codes)
            active = active & ~stalled & (best > tol)
            if taken == iterations or not bool(xp.any(active)):
                break
        z = xp.where(active[..., None, None], step.apply(z, y), z)
        steps = steps + xp.astype(active, xp.int64)
    return best_z, best, best_steps, codes
