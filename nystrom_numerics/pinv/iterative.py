r"""Pseudoinverses by products alone: :math:`Z_{j+1} = Z_j\,p_j(AZ_j)` for polynomials p_j.

Every iteration starts from :math:`Z_0 = A^H/\beta^2` with :math:`\beta \ge \|A\|_2` taken per matrix (see
:mod:`~nystrom_numerics.pinv.norm_bounds`).  Then :math:`R(Z_0) = R(A^H)` and :math:`N(Z_0) = N(A^H)`, the
condition under which Lemma 1 of the paper holds for singular A as well.  A maximum over the batch, found in
several public implementations, would make one matrix depend on its batch-mates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat
from math import log
from typing import Any

import numpy as np

from nystrom_numerics.arguments import (
    require_callable,
    require_count,
    require_flag,
    require_instance,
    require_positive,
)
from nystrom_numerics.backend import (
    Array,
    compute_dtype,
    device_of,
    from_numpy,
    namespace,
    real_or_complex,
    require_finite,
    require_matrix,
    status_tells,
    unit_roundoff,
)
from nystrom_numerics.errors import ShapeError, Status
from nystrom_numerics.linalg import adjoint, all_finite, backward_residual, binary_scale
from nystrom_numerics.pinv.callables import require_array
from nystrom_numerics.pinv.norm_bounds import NormBound, one_sup_bound
from nystrom_numerics.pinv.result import PinvResult
from nystrom_numerics.pinv.steps import CHEBYSHEV, NEWTON_SCHULZ, RAZAVI, Step, hyperpower_step

__all__ = ["chebyshev", "hyperpower", "iterate", "iterates", "newton_schulz", "razavi"]


def razavi(
    a: Array,
    /,
    *,
    iterations: int = 6,
    tol: float | None = None,
    norm_bound: NormBound = one_sup_bound,
    check_every: int = 1,
    check_finite: bool = False,
    history: bool = False,
) -> PinvResult:
    r"""The paper's iteration, eq. (14), after Razavi et al. 2014.

    .. math:: Z_{j+1} = \tfrac14 Z_j(13I - AZ_j(15I - AZ_j(7I - AZ_j))).

    Residual eigenvalues follow :math:`e \mapsto \tfrac34e^3 + \tfrac14e^4`; four products a step; a
    small :math:`\sigma^2` grows by 13/4 a step.  Six steps, the paper's number, are an unfinished
    iteration: a filter that keeps :math:`\sigma \gtrsim 0.045\,\beta`.

    Parameters
    ----------
    a : array (..., m, n)
        Real or complex floating, any rank; 16-bit dtypes are computed in float32.  Each matrix is first divided
        by a power of two, which is exact, so that huge and tiny entries are harmless.
    iterations : int
        Steps to take, at least 0.
    tol : float, optional
        Stop a matrix as soon as its relative backward residual is at most ``tol``, or as soon as it
        stagnates.  Without it every step is taken, nothing is checked on the way (no synchronisation
        with the device), and the final residual is judged against the square root of the unit roundoff.
    norm_bound : callable
        β of :math:`Z_0 = A^H/\beta^2`; the default is the paper's :math:`\sqrt{\|A\|_1\|A\|_\infty}`.  Where it
        overflows, :math:`\sqrt{8mn}` times the power of two next below the largest entry takes its place.
    check_every : int
        With ``tol``: steps between checks.  A check costs one product and one synchronisation.
    check_finite : bool
        Raise on NaN and infinity, in place of a NaN value with status ``NON_FINITE``.
    history : bool
        Keep the residual after each step in the result, for one product more a step.

    Returns
    -------
    PinvResult
        With ``tol``, the value is the best iterate checked.  Status ``STAGNATED`` (only with ``tol``) means
        that the residual rose, or that the growth of the steps taken exceeds 1/u: by then every singular
        value that products can tell from rounding (:math:`\sigma^2 > u\beta^2`) has been resolved, and
        rounding error in the null space has grown as much.  Where a matrix converged after a growth g with
        :math:`gu > \mathrm{tol}`, a final :math:`Z \leftarrow ZAZ(3I - 2AZ)` (three products, e ↦ 3e² − 2e³)
        removes what has grown in the null space, if the residual allows.  The usual ZAZ would double e.

    Raises
    ------
    DTypeError, KindError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument; ``norm_bound`` also where it gives no real array (...).

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import pinv
    >>> a = np.diag([1.0, 0.5, 0.01])
    >>> six = pinv.razavi(a)
    >>> six.status.name, int(six.matmuls), round(float(six.value[2, 2] * 0.01), 2)
    ('MAX_ITERATIONS', 24, 0.11)
    """
    return _iterate(
        a,
        [RAZAVI] * require_count("iterations", iterations, 0),
        tol=tol,
        norm_bound=norm_bound,
        check_every=check_every,
        check_finite=check_finite,
        history=history,
    )


def newton_schulz(
    a: Array,
    /,
    *,
    iterations: int = 32,
    tol: float | None = None,
    norm_bound: NormBound = one_sup_bound,
    check_every: int = 1,
    check_finite: bool = False,
    history: bool = False,
) -> PinvResult:
    r"""The Newton–Schulz iteration :math:`Z_{j+1} = Z_j(2I - AZ_j)`.

    Residual eigenvalues follow :math:`e \mapsto e^2`; two products a step; a small
    :math:`\sigma^2` doubles a step.

    Source: Schulz 1933; Ben-Israel and Cohen 1966 for the pseudoinverse.

    Parameters
    ----------
    a, iterations, tol, norm_bound, check_every, check_finite, history
        As in :func:`razavi`.

    Returns
    -------
    PinvResult
        As from :func:`razavi`.

    Raises
    ------
    DTypeError, KindError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import pinv
    >>> result = pinv.newton_schulz(np.array([[2.0, 1.0], [1.0, 3.0]]), tol=1e-10)
    >>> result.status.name, bool(result.residual < 1e-10)
    ('CONVERGED', True)
    """
    return _iterate(
        a,
        [NEWTON_SCHULZ] * require_count("iterations", iterations, 0),
        tol=tol,
        norm_bound=norm_bound,
        check_every=check_every,
        check_finite=check_finite,
        history=history,
    )


def chebyshev(
    a: Array,
    /,
    *,
    iterations: int = 20,
    tol: float | None = None,
    norm_bound: NormBound = one_sup_bound,
    check_every: int = 1,
    check_finite: bool = False,
    history: bool = False,
) -> PinvResult:
    r"""Chebyshev's iteration :math:`Z_{j+1} = Z_j(3I - 3AZ_j + (AZ_j)^2)`.

    Residual eigenvalues follow :math:`e \mapsto e^3`; three products a step. Source: Li, Huang, Zhang, Liu
    and Gu 2011, eq. (2.3).

    Parameters
    ----------
    a, iterations, tol, norm_bound, check_every, check_finite, history
        As in :func:`razavi`.

    Returns
    -------
    PinvResult
        As from :func:`razavi`.

    Raises
    ------
    DTypeError, KindError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import pinv
    >>> result = pinv.chebyshev(np.diag([1.0, 0.1]), tol=1e-9)
    >>> result.status.name, int(result.iterations), int(result.matmuls)
    ('CONVERGED', 7, 21)
    """
    return _iterate(
        a,
        [CHEBYSHEV] * require_count("iterations", iterations, 0),
        tol=tol,
        norm_bound=norm_bound,
        check_every=check_every,
        check_finite=check_finite,
        history=history,
    )


def hyperpower(
    a: Array,
    /,
    *,
    order: int = 9,
    iterations: int = 10,
    tol: float | None = None,
    norm_bound: NormBound = one_sup_bound,
    check_every: int = 1,
    check_finite: bool = False,
    history: bool = False,
) -> PinvResult:
    r"""The hyperpower iteration of order p: :math:`e \mapsto e^p`, in the fewest products known.

    Products a step are 2, 3, 4, 4, 5, 5, 6, 5, so that orders 5 and 9 dominate.
    Source: Altman 1960; see :func:`hyperpower_step`.

    Parameters
    ----------
    a, iterations, tol, norm_bound, check_every, check_finite, history
        As in :func:`razavi`.
    order : int
        p, from 2 to 9.

    Returns
    -------
    PinvResult
        As from :func:`razavi`.

    Raises
    ------
    DTypeError, KindError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import pinv
    >>> int(pinv.hyperpower(np.diag([1.0, 0.1]), order=9, tol=1e-9).matmuls)
    20
    """
    return _iterate(
        a,
        [hyperpower_step(order)] * require_count("iterations", iterations, 0),
        tol=tol,
        norm_bound=norm_bound,
        check_every=check_every,
        check_finite=check_finite,
        history=history,
    )


def iterates(
    a: Array, steps: Step | Iterable[Step], /, *, norm_bound: NormBound = one_sup_bound
) -> Iterator[Array]:
    """The sequence Z_0, Z_1, … of an iteration, for a look inside; no stopping, no checks.

    Parameters
    ----------
    a : array (..., m, n)
    steps : Step or iterable of Step
        A single step is repeated without end; a sequence has at least one.
    norm_bound : callable
        As in :func:`razavi`.

    Returns
    -------
    iterator of array (..., n, m)

    Raises
    ------
    DTypeError, KindError, NamespaceError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: the products of a step for each iterate.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import pinv
    >>> from itertools import islice
    >>> [float(z[0, 0]) for z in islice(pinv.iterates(np.diag([2.0, 4.0]), pinv.NEWTON_SCHULZ), 4)]
    [0.125, 0.21875, 0.341796875, 0.44994354248046875]
    """
    needs = "a Step, or an iterable of Step"
    _require_steps(steps, (Step, Iterable), needs)
    require_callable("norm_bound", norm_bound, "a callable that gives β of a stack of matrices")
    xp = namespace(a=a)
    real_or_complex(xp, a=a)
    require_matrix("a", a)

    def sequence() -> Iterator[Array]:
        work, restore = _prepare(xp, a)
        z = _start(xp, a, work, norm_bound)
        yield restore(z)
        for step in repeat(steps) if isinstance(steps, Step) else steps:
            z = require_instance("steps", step, Step, needs).apply(z, work @ z)
            yield restore(z)

    return sequence()


def _prepare(xp: Any, a: Array) -> tuple[Array, Callable[[Array], Array]]:
    """A wide or square matrix of entries at most 2, and the map from its Z back to that of ``a``."""
    work = xp.astype(a, compute_dtype(xp, a.dtype), copy=False)
    scale = binary_scale(work)
    work = work / scale
    tall = work.shape[-2] > work.shape[-1]

    def restore(z: Array) -> Array:
        z = adjoint(z) if tall else z
        return xp.astype(z / scale, a.dtype, copy=False)

    return (adjoint(work) if tall else work), restore


def _start(xp: Any, a: Array, work: Array, norm_bound: NormBound) -> Array:
    """Z_0 = Aᴴ/β², zero for a zero matrix, in the units of ``work``."""
    wide = xp.astype(a, compute_dtype(xp, a.dtype), copy=False)
    bound = require_array("norm_bound", norm_bound(wide), wide, tuple(wide.shape[:-2]), real=True)
    bound = bound[..., None, None] / binary_scale(wide)
    rows, columns = wide.shape[-2:]
    largest = (8 * rows * columns) ** 0.5  # √(mn) max|a_ij|, of parts below 2
    bound = xp.where(xp.isinf(bound), largest, bound)
    bound = xp.where(bound == 0, 1.0, bound)
    return adjoint(work) / bound / bound


def iterate(
    a: Array,
    steps: Sequence[Step],
    /,
    *,
    tol: float | None = None,
    norm_bound: NormBound = one_sup_bound,
    check_every: int = 1,
    check_finite: bool = False,
    history: bool = False,
) -> PinvResult:
    """Any sequence of steps, such as a mixture of orders or a planned schedule.

    Parameters
    ----------
    a, tol, norm_bound, check_every, check_finite, history
        As in :func:`razavi`.
    steps : sequence of Step
        At least one.

    Returns
    -------
    PinvResult
        As from :func:`razavi`.

    Raises
    ------
    DTypeError, KindError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: the products of the steps, two for the residual, and one a check.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import pinv
    >>> steps = [pinv.hyperpower_step(9), pinv.NEWTON_SCHULZ]
    >>> int(pinv.iterate(np.diag([1.0, 0.5]), steps).matmuls)
    7
    """
    _require_steps(steps, Sequence, "a sequence of Step")
    return _iterate(
        a,
        steps,
        tol=tol,
        norm_bound=norm_bound,
        check_every=check_every,
        check_finite=check_finite,
        history=history,
    )


def _require_steps(steps: Any, kind: Any, needs: str) -> None:
    require_instance("steps", steps, kind, needs)
    if isinstance(steps, Sequence):
        if not steps:
            raise ShapeError("steps", "empty", "at least one Step")
        for step in steps:
            require_instance("steps", step, Step, needs)


@status_tells
def _iterate(
    a: Array,
    steps: Sequence[Step],
    /,
    *,
    tol: float | None,
    norm_bound: NormBound,
    check_every: int,
    check_finite: bool,
    history: bool,
) -> PinvResult:
    tol = None if tol is None else require_positive("tol", tol)
    require_callable("norm_bound", norm_bound, "a callable that gives β of a stack of matrices")
    check_every = require_count("check_every", check_every)
    xp = namespace(a=a)
    real_or_complex(xp, a=a)
    require_matrix("a", a)
    if require_flag("check_finite", check_finite):
        require_finite(xp, a=a)

    work, restore = _prepare(xp, a)
    z = _start(xp, a, work, norm_bound)
    seen: list[Array] | None = [] if require_flag("history", history) else None
    products = from_numpy(xp, _cumulative(step.matmuls for step in steps), a)
    if tol is None:
        for step in steps:
            y = work @ z
            if seen is not None:
                seen.append(backward_residual(work, z, y))
            z = step.apply(z, y)
        residual = backward_residual(work, z)
        if seen is not None:
            seen.append(residual)
        taken = xp.full(z.shape[:-2], len(steps), dtype=xp.int64, device=device_of(z))
        passed = residual <= unit_roundoff(xp, work.dtype) ** 0.5
        codes = xp.where(passed, taken * 0, int(Status.MAX_ITERATIONS))
        matmuls = taken * 0 + products[-1]
    else:
        z, residual, taken, codes, extra = _until(xp, work, z, steps, tol, check_every, seen)
        matmuls = xp.reshape(xp.take(products, xp.reshape(taken, (-1,)), axis=0), taken.shape) + extra

    value = restore(z)
    finite = xp.isfinite(residual) & all_finite(value)
    return PinvResult(
        value=xp.where(finite[..., None, None], value, xp.nan),
        residual=xp.where(finite, residual, xp.nan),
        iterations=taken,
        matmuls=matmuls,
        codes=xp.where(finite, codes, int(Status.NON_FINITE)),
        history=None if seen is None else xp.stack(seen),
    )


def _cumulative(counts: Iterable[int]) -> np.ndarray[Any, Any]:
    """0 and the running sums."""
    return np.cumsum([0, *counts], dtype=np.int64)


def _until(
    xp: Any, a: Array, z: Array, steps: Sequence[Step], tol: float, check_every: int, seen: list[Array] | None
) -> tuple[Array, Array, Array, Array, Array]:
    """Iterate until every matrix has met ``tol``, stagnated or run out of steps; keep the best iterate of each.

    What a matrix does after it has stopped, while its batch-mates go on, is not looked at.
    """
    u = unit_roundoff(xp, a.dtype)
    growth = np.cumsum([0.0, *(log(step.growth) for step in steps)])
    hopeless = log(1 / u) + 4 * log(max((step.growth for step in steps), default=1.0))
    taken = xp.zeros(z.shape[:-2], dtype=xp.int64, device=device_of(z))
    codes = taken + int(Status.MAX_ITERATIONS)
    active = taken == 0
    best_z, best, best_taken = z, xp.full_like(xp.abs(z[..., 0, 0]), xp.inf), taken
    for k in range(len(steps) + 1):
        y = a @ z
        checked = k % check_every == 0 or k == len(steps)
        if checked or seen is not None:
            residual = backward_residual(a, z, y)
        if seen is not None:
            seen.append(xp.where(active, residual, xp.nan))
        if checked:
            better = active & (residual < best)
            risen = active & ~(residual <= 2 * best)  # also true for NaN
            best_z = xp.where(better[..., None, None], z, best_z)
            best_taken = xp.where(better, taken, best_taken)
            best = xp.where(better, residual, best)
            stalled = risen | (active & (best > tol) & bool(growth[k] >= hopeless))
            codes = xp.where(stalled, int(Status.STAGNATED), codes)
            codes = xp.where(active & (best <= tol), int(Status.CONVERGED), codes)
            active = active & ~stalled & (best > tol)
            if k == len(steps) or not bool(xp.any(active)):
                break
        z = steps[k].apply(z, y)
        taken = taken + xp.astype(active, xp.int64)
    return _cleanse(xp, a, best_z, best, best_taken, codes, growth + log(u) > log(tol), tol)


def _cleanse(
    xp: Any,
    a: Array,
    z: Array,
    residual: Array,
    taken: Array,
    codes: Array,
    grown: np.ndarray[Any, Any],
    tol: float,
) -> tuple[Array, Array, Array, Array, Array]:
    """Z ← ZAZ(3I − 2AZ) for converged matrices whose steps let rounding grow beyond ``tol`` in the null space."""
    due = xp.reshape(xp.take(from_numpy(xp, grown, a), xp.reshape(taken, (-1,)), axis=0), taken.shape)
    due = due & (codes == int(Status.CONVERGED))
    extra = xp.zeros_like(taken)
    if not bool(xp.any(due)):
        return z, residual, taken, codes, extra
    y = a @ z
    zy = z @ y
    cleansed = 3.0 * zy - 2.0 * (zy @ y)
    after = backward_residual(a, cleansed)
    kept = due & (after <= tol)
    z = xp.where(kept[..., None, None], cleansed, z)
    return z, xp.where(kept, after, residual), taken, codes, extra + 3 * xp.astype(due, xp.int64)
