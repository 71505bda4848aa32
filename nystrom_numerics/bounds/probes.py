r"""Bounds after the fact: the norm of an error that can only be applied to vectors.

Operators are callables, v (p, c) to B v (n, c).  What they cost is counted in products with single vectors
(matvecs).  Draws are made in NumPy, so one seed gives the same value on every backend up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf, log, pi, sqrt
from typing import TypeAlias

import numpy as np

from nystrom_numerics.arguments import require_count, require_number
from nystrom_numerics.backend import (
    Array,
    floating,
    from_numpy,
    generator,
    namespace,
    to_numpy,
)
from nystrom_numerics.bounds.result import (
    Certificate,
    Estimate,
    Norm,
    Side,
    bound,
    require_failure,
)
from nystrom_numerics.errors import NonFiniteError, ShapeError
from nystrom_numerics.linalg import frobenius, transpose
from nystrom_numerics.lowrank.arguments import checked_operator

__all__ = [
    "Operator",
    "finite_lengths",
    "frobenius_probes",
    "gaussian_norm_bound",
    "lengths_of",
    "probes_of",
    "require_like",
    "require_trivial",
]

Operator: TypeAlias = Callable[[Array], Array]
"""B as v (p, c) to B v (n, c)."""


def gaussian_norm_bound(
    apply: Operator,
    like: Array,
    /,
    *,
    probes: int = 10,
    failure: float = 1e-10,
    trivial: float = inf,
    rng: np.random.Generator | int = 0,
) -> Certificate:
    r"""Halko, Martinsson and Tropp's bound of a spectral norm by Gaussian probes.

    .. math:: \|B\|_2 \le \alpha\sqrt{2/\pi}\max_{i\le r}\|B\omega_i\|_2,\qquad \alpha = \delta^{-1/r},

    with probability 1 − δ; and from below, with certainty, :math:`\max_i\|B\omega_i\|_2/\|\omega_i\|_2`.

    Parameters
    ----------
    apply : callable
        v (p, r) to B v.
    like : array (p, ...)
        Of the library, device, dtype and number of rows that ``apply`` takes.
    probes : int
        r.
    failure : float
        δ.
    trivial : float
        A known upper bound, to tell a vacuous one by.
    rng : numpy.random.Generator or int

    Returns
    -------
    Certificate

    Raises
    ------
    DTypeError, KindError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: r matvecs at once.  Source: Halko, Martinsson and Tropp 2011, Lemma 4.1 and eq. (4.3), for
    δ = 10⁻ʳ; derived anew: :math:`\|B\omega\| \ge \|B\|_2|g|`, and :math:`P(|g| \le x) \le \sqrt{2/\pi}x`.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds
    >>> found = bounds.gaussian_norm_bound(lambda v: np.diag([3.0, 1.0, 0.0]) @ v, np.zeros(3))
    >>> bool(found.lower.value <= 3.0 <= found.upper.value)
    True
    """
    require_failure(failure)
    trivial = require_trivial(trivial)
    omega = probes_of(like, probes, rng)
    product = checked_operator("apply", apply)(omega)
    top, ratio = (
        finite_lengths(to_numpy(x).astype(np.float64)) for x in (lengths_of(product), lengths_of(omega))
    )
    source = f"Halko, Martinsson and Tropp 2011, eq. (4.3), {probes} Gaussian probes"
    upper = failure ** (-1 / probes) * sqrt(2 / pi) * float(top.max())
    low = float((top / ratio).max())
    return Certificate(
        bound(low, Side.LOWER, Norm.SPECTRAL, source, trivial=0.0),
        None,
        bound(upper, Side.UPPER, Norm.SPECTRAL, source, trivial=trivial, probability=1 - failure),
    )


def require_like(like: Array) -> int:
    """The number of rows of an array that stands for those that an operator takes.

    Raises
    ------
    DTypeError, NamespaceError, ShapeError
        Naming ``like``.
    """
    floating(namespace(like=like), like=like)
    if not like.ndim or not like.shape[0]:
        raise ShapeError("like", f"of shape {tuple(like.shape)}", "at least one row")
    return int(like.shape[0])


def require_trivial(trivial: float) -> float:
    """A number of at least 0, or infinity; raises RangeError."""
    return require_number("trivial", trivial, lambda x: x >= 0, "a number of at least 0, or infinity")


def probes_of(like: Array, count: int, rng: np.random.Generator | int) -> Array:
    require_like(like)
    require_count("probes", count)
    source, _ = generator(rng)
    xp = namespace(like=like)
    drawn = from_numpy(xp, source.standard_normal((like.shape[0], count)), like)
    return xp.astype(drawn, like.dtype, copy=False)


def lengths_of(x: Array) -> Array:
    """Of the columns, in float64, scaled against overflow."""
    xp = namespace(x=x)
    return frobenius(transpose(xp.astype(x, xp.float64, copy=False))[:, None, :])


def finite_lengths(lengths: np.ndarray) -> np.ndarray:
    if not np.isfinite(lengths).all():
        raise NonFiniteError("apply", "an operator that gave NaN or infinity", "finite products")
    return lengths


def frobenius_probes(
    apply: Operator,
    like: Array,
    /,
    *,
    probes: int | None = None,
    ratio: float = 1.5,
    failure: float = 0.01,
    trivial: float = inf,
    rng: np.random.Generator | int = 0,
) -> Certificate:
    r"""The Frobenius norm by Gaussian probes, with tails on both sides for any B.

    .. math:: \hat F^2 = \frac1r\sum_i\|B\omega_i\|_2^2,\qquad
              \hat F^2/\theta_+ \le \|B\|_F^2 \le \hat F^2/\theta_-,\qquad
              (\theta e^{1-\theta})^{r/2} = \delta/2

    at :math:`\theta_- < 1 < \theta_+`.

    Parameters
    ----------
    apply, like, failure, trivial, rng
        As in :func:`gaussian_norm_bound`.
    probes : int, optional
        r; by default as few as bring upper over lower to ``ratio``, which depends on r and δ alone.
    ratio : float
        Above 1.

    Returns
    -------
    Certificate
        With the estimate :math:`\hat F` and its standard error.

    Raises
    ------
    DTypeError, KindError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: r matvecs.  Each side has probability 1 − δ/2.  Derived as in Gratton and Titley-Peloquin 2018: the
    logarithm of the moment generating function of :math:`\sum\sigma_i^2g_i^2` is convex in the weights, so of
    all B of one norm the rank-one matrices have the heaviest Chernoff tails, those of χ² with r degrees.
    At δ = 0.01, ± 20 % of the norm takes 141 probes.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds
    >>> found = bounds.frobenius_probes(lambda v: np.diag([3.0, 4.0]) @ v, np.zeros(2), ratio=1.5)
    >>> bool(found.lower.value <= 5.0 <= found.upper.value), found.estimate.matvecs, bool(found.ratio <= 1.5)
    (True, 131, True)
    """
    require_failure(failure)
    trivial = require_trivial(trivial)
    ratio = require_number("ratio", ratio, lambda x: 1 < x < inf, "a finite number above 1")
    if probes is None:
        probes = _probes_for(ratio, failure)
    product = checked_operator("apply", apply)(probes_of(like, probes, rng))
    lengths = finite_lengths(to_numpy(lengths_of(product)).astype(np.float64))
    size = float(lengths.max()) or 1.0  # their squares need not be finite
    squares = (lengths / size) ** 2
    mean = float(squares.mean())
    low, high = _chi_square_tails(probes, failure / 2)
    error = float(squares.std(ddof=1)) / sqrt(probes) / (2 * sqrt(mean)) if probes > 1 and mean > 0 else None
    source = f"Gaussian probes, Chernoff tails of χ² with {probes} degrees; Gratton and Titley-Peloquin 2018"
    sides = (
        bound(size * value, side, Norm.FROBENIUS, source, trivial=known, probability=1 - failure / 2)
        for value, side, known in (
            (sqrt(mean / high), Side.LOWER, 0.0),
            (sqrt(mean / low) if low > 0 else inf, Side.UPPER, trivial),
        )
    )
    lower, upper = sides
    return Certificate(
        lower, Estimate(size * sqrt(mean), None if error is None else size * error, probes, source), upper
    )


def _probes_for(ratio: float, failure: float) -> int:
    """The least number of probes whose interval is of that ratio."""

    def enough(count: int) -> bool:
        low, high = _chi_square_tails(count, failure / 2)
        return low > 0 and high <= ratio * ratio * low

    low, high = 0, 1
    while not enough(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _chi_square_tails(degrees: int, failure: float) -> tuple[float, float]:
    """θ below and above 1 with (θ e^{1−θ})^{degrees/2} = failure."""
    level = 2 * log(failure) / degrees

    def reached(theta: float) -> bool:
        return log(theta) + 1 - theta <= level

    low, one = 0.0, 1.0
    for _ in range(80):
        middle = (low + one) / 2
        low, one = (middle, one) if middle > 0 and reached(middle) else (low, middle)
    one, high = 1.0, 2.0 - 2 * level
    while not reached(high):
        high *= 2
    for _ in range(80):
        middle = (one + high) / 2
        one, high = (one, middle) if reached(middle) else (middle, high)
    return low, high
