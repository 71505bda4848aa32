r"""Planned schedules of interval-optimal steps: the fewest products to a residual, for a known condition.

Composed steps are globally optimal, since :math:`T_m \circ T_n = T_{mn}`: after degrees
:math:`d_1, \dots, d_s` the residual on [ℓ, 1] is :math:`1/T_D(t_0)` with :math:`D = \prod d_i`, the least
that any polynomial of degree D in AZ₀ can reach.  Only D matters, and the planner finds the cheapest degrees
that suffice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, product
from math import acosh, ceil, cosh, log, sqrt
from typing import Any

from nystrom_numerics.arguments import require_count, require_flag, require_number
from nystrom_numerics.backend import (
    Array,
    dtype_name,
    namespace,
    products_are_reduced,
    real_or_complex,
    require_matrix,
)
from nystrom_numerics.errors import RangeError, ShapeError
from nystrom_numerics.pinv.guarantee import State, advanced, begun
from nystrom_numerics.pinv.iterative import iterate
from nystrom_numerics.pinv.norm_bounds import NormBound, perron_bound
from nystrom_numerics.pinv.result import PinvResult
from nystrom_numerics.pinv.steps import Step, interval_step

__all__ = ["Schedule", "interval_optimal", "plan"]

PRODUCTS = {9: 5, 5: 4, 3: 3, 2: 2}
ROUNDOFF = {
    **{"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-24, "bfloat16": 2.0**-24},
    **{"complex128": 2.0**-53, "complex64": 2.0**-24},
}
"""Unit roundoff of the arithmetic: 16-bit storage is computed in float32."""
LEAST = {"float64": 2.0**-1022, "float32": 2.0**-126}
"""The least normal number of the formats that have a guarantee."""
STEP_ROUNDING, FLOOR_ROUNDING = 32.0, 8.0


@dataclass(frozen=True)
class Schedule:
    r"""Steps with what they promise.

    Attributes
    ----------
    steps : tuple of Step
        For :func:`~nystrom_numerics.pinv.iterate`.
    degrees : tuple of int
    lower : float
        ℓ: the schedule is made for eigenvalues of :math:`AZ_0` in [ℓ, 1]; those below meet a monotone filter.
    products : tuple of int
        Matrix products after each step.
    predicted : tuple of float
        Bound on :math:`\|AA^+ - AZ\|_2` after each step: :math:`1/T_D(t_0)`, as in exact arithmetic, plus
        ``rounding``.
    rounding : tuple of float
        The rounding model, :math:`\varepsilon_k = L_k\varepsilon_{k-1} + 32\,u g_k + 8\,u\min(\sqrt{G_k}, \kappa)`,
        with :math:`L_k` the Lipschitz constant of the step's residual map on its interval, :math:`g_k` its growth
        and :math:`G_k` the growth so far.  Each step works on an interval widened by it.  The form follows from
        one rounding error of size u in each eigenvalue and entry; the two constants are observed, with a factor
        of 1.7 in hand for m up to 400 on four spectra, and not proved.  With a ``size``, the one of
        :mod:`~nystrom_numerics.pinv.guarantee`, which is.
    size : int or None
        The rows up to which ``predicted`` is guaranteed; ``None`` where it rests on the observed model.

    Examples
    --------
    >>> from nystrom_numerics import pinv
    >>> schedule = pinv.plan(condition=10.0, budget=7)
    >>> schedule.degrees, schedule.products, [round(p, 4) for p in schedule.predicted]
    ((9, 2), (5, 7), [0.32, 0.054])
    """

    steps: tuple[Step, ...]
    degrees: tuple[int, ...]
    lower: float
    products: tuple[int, ...]
    predicted: tuple[float, ...]
    rounding: tuple[float, ...]
    size: int | None = None


def plan(
    *,
    condition: float | None = None,
    sigma_min: float | None = None,
    tol: float | None = None,
    budget: int | None = None,
    dtype: Any = "float64",
    size: int | None = None,
) -> Schedule:
    r"""The cheapest schedule of interval-optimal steps that meets a tolerance, or the best within a budget.

    Parameters
    ----------
    condition : float
        κ > 1: singular values from β/κ to β are to be inverted, with β the norm bound that the iteration
        starts from.  Those below β/κ are filtered.
    sigma_min : float
        In place of ``condition``: 1/κ, the least singular value to be inverted, relative to β.
    tol : float, optional
        Wanted bound on :math:`\|AA^+ - AZ\|_2`, in (0, 1).
    budget : int, optional
        Products allowed, at least 2.  With ``tol`` too, the plan stops at whichever comes first.
    dtype : dtype or str
        What the matrix is stored in, real or complex.
    size : int, optional
        Guarantee ``predicted`` for every non-singular square matrix with up to so many rows and its singular values
        in [β/κ, β], in float32 or float64 with full-precision products (no TF32, no Strassen), in any order of
        summation.

    Returns
    -------
    Schedule

    Raises
    ------
    RangeError
        Naming the argument; for ``tol`` also if rounding in this dtype does not allow it.

    Notes
    -----
    For large κ the products needed are about :math:`\tfrac{5}{\ln 9}\ln(\tfrac{\kappa}{2}\ln\tfrac{2}{tol})`.
    Source: Chebyshev polynomials are optimal by equioscillation and closed under composition (Rivlin 1974).

    The price of the guarantee: it allows for errors that add up in the worst way, some :math:`9m^2u\kappa/8` where the
    observed model has :math:`8u\kappa`.  The least ``tol`` is so 8 times the observed one for 8 rows, 500 times for 64
    and 8,000 times for 256: in float64 8e-13, 5e-11 and 7e-10 at κ = 10², and nothing is guaranteed at κ = 10⁶; in
    float32 5e-5 for 8 rows at κ = 10 and 7e-4 for 64 at κ = 3, nothing beyond.  Of 105 plans in
    float64 (κ from 10 to 10³, ``tol`` from 1e-2 to 1e-8, up to 8, 64 and 256 rows) one takes a product more, the others
    none.

    Examples
    --------
    >>> from nystrom_numerics import pinv
    >>> schedule = pinv.plan(condition=100.0, tol=1e-7)
    >>> schedule.degrees, schedule.products[-1]
    ((9, 9, 9, 2), 17)
    >>> pinv.plan(condition=100.0, tol=1e-7, size=64).products[-1]
    17
    """
    lower = _lower(condition, sigma_min)
    name = dtype_name(dtype)
    if name not in ROUNDOFF:
        raise RangeError("dtype", name, f"one of {', '.join(ROUNDOFF)}")
    if tol is None and budget is None:
        raise RangeError("tol", "None with `budget` None", "a tolerance, a budget, or both")
    tol = None if tol is None else require_number("tol", tol, lambda x: 0 < x < 1, "a number in (0, 1)")
    budget = None if budget is None else require_count("budget", budget, 2)
    most = (2 * STEP_ROUNDING * ROUNDOFF[name]) ** -0.5
    if lower < most**-2:
        needs = f"at most {most:.3g} in {name}: beyond, rounding drowns the smallest eigenvalue of AZ"
        raise RangeError("condition", f"{lower**-0.5:.6g}", needs)
    if size is not None:
        return _guaranteed(lower, tol, budget, name, require_count("size", size))
    found = _build(_cheapest(lower, tol, budget), lower, ROUNDOFF[name])
    if tol is not None and budget is None and found.predicted[-1] > tol:
        needs = f"more than about {found.rounding[-1]:.1e}, what rounding leaves at this condition in {name}"
        raise RangeError("tol", f"{tol}", needs)
    return found


def _guaranteed(lower: float, tol: float | None, budget: int | None, name: str, size: int) -> Schedule:
    """As :func:`plan`, by the model that is proved; rounding takes part of ``tol``, so less is aimed at."""
    if name not in LEAST:
        raise RangeError("dtype", name, f"one of {', '.join(LEAST)}, for a guarantee")
    tried = []
    for share in (1.0, 0.7, 0.4, 0.1, 1e-2, 1e-4, 1e-6) if tol is not None else (1.0,):
        degrees = _cheapest(lower, None if tol is None else share * tol, budget)
        tried.append(_build(degrees, lower, ROUNDOFF[name], LEAST[name], size))
        if tol is not None and tried[-1].predicted[-1] <= tol:
            return tried[-1]
    best = min(tried, key=lambda schedule: schedule.predicted[-1])
    if not best.rounding[-1] < 1:
        needs = f"a smaller one: for {size} rows in {name} nothing is guaranteed here"
        raise RangeError("condition", f"{lower**-0.5:.6g}", needs)
    if tol is not None and budget is None:
        needs = f"more than about {best.rounding[-1]:.1e}, what rounding may leave of {size} rows in {name}"
        raise RangeError("tol", f"{tol}", needs)
    return best


def _lower(condition: float | None, sigma_min: float | None) -> float:
    if (condition is None) == (sigma_min is None):
        raise RangeError("condition", f"{condition} with `sigma_min` {sigma_min}", "exactly one of the two")
    if condition is not None:
        needs = "a finite number above 1"
        return require_number("condition", condition, lambda x: 1 < x < float("inf"), needs) ** -2
    return require_number("sigma_min", sigma_min, lambda x: 0 < x < 1, "a number in (0, 1)") ** 2


def _cheapest(lower: float, tol: float | None, budget: int | None) -> tuple[int, ...]:
    """Degrees, largest first: fewest products to ``tol``, then largest total degree; within ``budget``."""
    angle = acosh((1 + lower) / (1 - lower))
    needed = acosh(1 / tol) / angle if tol is not None else float("inf")
    allowed = budget if budget is not None else 5 * ceil(log(max(needed, 2)) / log(9)) + 5
    best = (False, 0, 0, ())  # reaches, −products, total degree, degrees
    for degrees in _multisets(allowed):
        total, cost = _prod(degrees), sum(PRODUCTS[d] for d in degrees)
        reaches = total >= needed
        key = (reaches, -cost, total, degrees) if reaches else (False, total, -cost, degrees)
        if key[:3] > best[:3]:
            best = key  # type: ignore[assignment]
    return best[3]


def _multisets(allowed: int) -> Iterator[tuple[int, ...]]:
    """All multisets of degrees that cost at most ``allowed`` products; small degrees at most twice."""
    for n9, n5, n3, n2 in product(range(allowed // 5 + 1), range(3), range(3), range(3)):
        degrees = (9,) * n9 + (5,) * n5 + (3,) * n3 + (2,) * n2
        if 0 < sum(PRODUCTS[d] for d in degrees) <= allowed:
            yield degrees


def _prod(degrees: tuple[int, ...]) -> int:
    total = 1
    for d in degrees:
        total *= d
    return total


def _build(
    degrees: tuple[int, ...], lower: float, u: float, least: float = 0.0, size: int | None = None
) -> Schedule:
    """The steps on their shrinking intervals, each widened by what rounding can move an eigenvalue.

    By the observed model, or with a ``size`` by the one that is proved.
    """
    steps: list[Step] = []
    predicted: list[float] = []
    rounding: list[float] = []
    error, growth = FLOOR_ROUNDING * u, 1.0
    state: State | None = None
    if size is not None:
        state = begun(lower, u, least, size)
        error = state.error
    low, high = lower, 1.0 + error
    for degree in degrees:
        step = interval_step(degree, low, high)
        growth *= step.growth
        if state is not None and size is not None:
            state = advanced(state, degree, low, high, step.growth, lower, u, least, size)
            delta, error = state.residual, state.error
        else:
            delta = 1 / cosh(degree * acosh((high + low) / (high - low)))
            lipschitz = 2 * degree**2 * delta / (high - low)
            error = lipschitz * error + u * (
                STEP_ROUNDING * step.growth + FLOOR_ROUNDING * min(sqrt(growth), lower**-0.5)
            )
        steps.append(step)
        predicted.append(delta + error)
        rounding.append(error)
        # an interval too wide for its centre would be of no use; the spectrum stays within whatever it is widened by
        wide = min(error, 1.0)
        low, high = max(1 - delta - wide, low / 2), 1 + delta + wide
    products = tuple(accumulate(step.matmuls for step in steps))
    return Schedule(tuple(steps), degrees, lower, products, tuple(predicted), tuple(rounding), size)


def interval_optimal(
    a: Array,
    /,
    *,
    condition: float | None = None,
    sigma_min: float | None = None,
    tol: float | None = None,
    budget: int | None = None,
    norm_bound: NormBound = perron_bound,
    guaranteed: bool = False,
    check_finite: bool = False,
) -> PinvResult:
    r"""Plan a schedule for the dtype of ``a`` and carry it out: a designed soft ε-pseudoinverse.

    Singular values from β/κ to β are inverted to within ``tol``, those below meet the monotone filter of the
    schedule.  Nothing is checked on the way, so nothing synchronises with the device.  The norm bound β is by default
    the Collatz–Wielandt one, which for softmax cores is the norm itself.

    Parameters
    ----------
    a : array (..., m, n)
        As in :func:`razavi`; square where ``guaranteed``.
    condition, sigma_min, tol, budget
        As in :func:`plan`.
    norm_bound, check_finite
        As in :func:`razavi`.
    guaranteed : bool
        Plan for the ``size`` of ``a``; refuses float32 where Torch is set to reduce its products (TF32).

    Returns
    -------
    PinvResult
        As from :func:`razavi` without ``tol``.

    Raises
    ------
    DTypeError, KindError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: the products of the schedule, two more for the residual, and the planning, some milliseconds.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import pinv
    >>> result = pinv.interval_optimal(np.diag([1.0, 0.1, 1e-9]), condition=20.0, tol=1e-6)
    >>> int(result.matmuls), (np.diag(result.value) * [1.0, 0.1, 1e-9]).round(5)
    (12, array([1., 1., 0.]))
    """
    real_or_complex(namespace(a=a), a=a)
    require_matrix("a", a)
    size = None
    if require_flag("guaranteed", guaranteed):
        size = a.shape[-1]
        if a.shape[-2] != size:
            raise ShapeError("a", f"of shape {tuple(a.shape)}", "square matrices, for a guarantee")
        if products_are_reduced(a):
            needs = "full-precision products: `torch.set_float32_matmul_precision('highest')`"
            raise RangeError("guaranteed", "asked of reduced float32 products", needs)
    schedule = plan(
        condition=condition, sigma_min=sigma_min, tol=tol, budget=budget, dtype=a.dtype, size=size
    )
    return iterate(a, schedule.steps, norm_bound=norm_bound, check_finite=check_finite)
