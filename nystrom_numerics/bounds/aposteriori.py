r"""Bounds after the fact: the norm of an error that can only be applied to vectors.

Operators are callables, v (p, c) to B v (n, c).  What they cost is counted in products with single vectors
(matvecs).  Draws are made in NumPy, so one seed gives the same value on every backend up to rounding.
Two results are free: :func:`psd_sandwich`, where the residual's diagonal is known, and :func:`leave_one_out`,
where a Gaussian sketch is.
"""

from __future__ import annotations

from collections.abc import Callable
from math import acosh, cosh, inf, log, log1p, pi, sqrt
from typing import TypeAlias

import numpy as np

from nystrom_numerics.arguments import require_count, require_instance, require_nonnegative, require_number
from nystrom_numerics.backend import (
    Array,
    floating,
    from_numpy,
    generator,
    namespace,
    require_matrix,
    to_numpy,
    unit_roundoff,
)
from nystrom_numerics.bounds.result import (
    Certificate,
    Estimate,
    Norm,
    Side,
    bound,
    require_failure,
)
from nystrom_numerics.errors import NonFiniteError, RangeError, ShapeError
from nystrom_numerics.linalg import frobenius, transpose
from nystrom_numerics.lowrank.arguments import checked_operator

__all__ = [
    "Operator",
    "frobenius_probes",
    "gaussian_norm_bound",
    "lanczos_norm",
    "leave_one_out",
    "psd_sandwich",
]

Operator: TypeAlias = Callable[[Array], Array]
"""B as v (p, c) to B v (n, c)."""


def psd_sandwich(
    diagonal: Array,
    /,
    *,
    trivial: tuple[float, float, float] = (inf, inf, inf),
    rounding: float = 0.0,
    indefinite: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> tuple[Certificate, Certificate, Certificate]:
    r"""Certificates of R ⪰ 0 from its diagonal, in the spectral, Frobenius and trace norm.

    .. math:: \max_iR_{ii} \le \|R\|_2 \le \mathrm{tr}R,\qquad
              \Bigl(\sum_iR_{ii}^2\Bigr)^{1/2} \le \|R\|_F \le \mathrm{tr}R,\qquad \|R\|_* = \mathrm{tr}R

    Parameters
    ----------
    diagonal : array (n,)
        As :func:`~nystrom_numerics.lowrank.nystrom_factor` gives it with ``diagonal=True``.
    trivial : tuple of float
        The three norms of A, or bounds of them, to tell vacuous bounds by.
    rounding : float
        How far a diagonal entry may be off; lower bounds give it up and upper ones add it, n times for the
        trace.
    indefinite : tuple of float
        The three norms of E, where R is only R₀ + E with R₀ ⪰ 0: by rounding, for instance.  No lower bound rests on
        R ⪰ 0; upper ones add the norm of E, and its trace, which the first of the three must bound too.

    Returns
    -------
    tuple of three Certificate

    Raises
    ------
    DTypeError, KindError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    No kernel entry.  Deterministic, for R ⪰ 0: the residual of a PSD matrix by Nyström's approximation is.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds
    >>> _, frobenius, trace = bounds.psd_sandwich(np.array([0.3, 0.4]))
    >>> [round(b.value, 6) for b in (frobenius.lower, frobenius.upper, trace.upper)]
    [0.5, 0.7, 0.7]
    """
    floating(namespace(diagonal=diagonal), diagonal=diagonal)
    if diagonal.ndim != 1 or not diagonal.shape[0]:
        raise ShapeError("diagonal", f"of shape {tuple(diagonal.shape)}", "shape (n,), not empty")
    host = to_numpy(diagonal).astype(np.float64)
    if not np.isfinite(host).all():
        raise NonFiniteError("diagonal", "not finite", "finite entries")
    rounding = require_nonnegative("rounding", rounding)
    for name, norms in (("trivial", trivial), ("indefinite", indefinite)):
        if len(require_instance(name, norms, (tuple, list), "three norms")) != 3:
            raise ShapeError(name, f"{len(norms)} numbers", "three, one a norm")
        for one in norms:
            require_number(name, one, lambda x: x >= 0, "a number of at least 0, or infinity")
    small = np.maximum(host - rounding, 0.0)
    trace = float((host + rounding).sum()) + indefinite[0]
    source = "R ⪰ 0: diagonal and trace"
    lower = (float(small.max()), float(np.linalg.norm(small)), float(small.sum()))
    spectral, frobenius, nuclear = (
        Certificate(
            bound(low, Side.LOWER, norm, source, trivial=0.0),
            None,
            bound(trace + beyond, Side.UPPER, norm, source, trivial=known),
        )
        for low, norm, known, beyond in zip(
            lower, (Norm.SPECTRAL, Norm.FROBENIUS, Norm.TRACE), trivial, indefinite, strict=True
        )
    )
    return spectral, frobenius, nuclear


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
    omega = _probes(like, probes, rng)
    product = checked_operator("apply", apply)(omega)
    top, ratio = (_finite(to_numpy(x).astype(np.float64)) for x in (_lengths(product), _lengths(omega)))
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


def _probes(like: Array, count: int, rng: np.random.Generator | int) -> Array:
    require_like(like)
    require_count("probes", count)
    source, _ = generator(rng)
    xp = namespace(like=like)
    drawn = from_numpy(xp, source.standard_normal((like.shape[0], count)), like)
    return xp.astype(drawn, like.dtype, copy=False)


def _lengths(x: Array) -> Array:
    """Of the columns, in float64, scaled against overflow."""
    xp = namespace(x=x)
    return frobenius(transpose(xp.astype(x, xp.float64, copy=False))[:, None, :])


def _finite(lengths: np.ndarray) -> np.ndarray:
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
    product = checked_operator("apply", apply)(_probes(like, probes, rng))
    lengths = _finite(to_numpy(_lengths(product)).astype(np.float64))
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


def lanczos_norm(
    apply: Operator,
    like: Array,
    /,
    *,
    apply_transpose: Operator | None = None,
    ratio: float = 1.2,
    iterations: int = 100,
    failure: float = 0.01,
    trivial: float = inf,
    rng: np.random.Generator | int = 0,
) -> Certificate:
    r"""The spectral norm between two bounds, by Lanczos iteration from a random vector.

    The largest Ritz value θ after k steps is a lower bound, with certainty.  From above,
    :math:`\lambda_1 \le \theta/(1 - \varepsilon_k)` with probability 1 − δ, where

    .. math:: \varepsilon\,T_{k-1}\Bigl(\frac{1+\varepsilon}{1-\varepsilon}\Bigr)^2\frac{\tau}{1-\tau}
              = 1 - \varepsilon,\qquad P(b_1^2 \le \tau) = \delta

    and :math:`b_1^2`, the square of the starting vector's part along the leading eigenvector, has the law
    Beta(1/2, (n − 1)/2).  :math:`\varepsilon_k` depends on n, k and δ alone, so that stopping by it costs
    no probability.

    Parameters
    ----------
    apply : callable
        v (n, 1) to B v; B symmetric PSD, unless ``apply_transpose`` is given.
    like : array (n, ...)
        As in :func:`gaussian_norm_bound`.
    apply_transpose : callable, optional
        For any B: then the iteration is on BᵀB, at two matvecs a step, and the bounds are roots.
    ratio : float
        Stop where upper over lower is at most this; above 1.
    iterations : int
        Steps at most.
    failure, trivial, rng
        As in :func:`gaussian_norm_bound`.

    Returns
    -------
    Certificate
        With the estimate θ, or its root.

    Raises
    ------
    NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: k matvecs and 4nk² multiplications for full orthogonalisation, memory nk; one synchronisation a step.
    In place of Kuczyński and Woźniakowski 1992, Theorem 4.1(a), with 1.648√n: derived here by their
    argument with a Chebyshev polynomial, and without their constant.  Rounding: an allowance of 8kn units
    of roundoff is added above.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds
    >>> a = np.diag(np.linspace(0.0, 1.0, 200))
    >>> found = bounds.lanczos_norm(lambda v: a @ v, np.zeros(200), ratio=1.1)
    >>> bool(found.lower.value <= 1.0 <= found.upper.value), found.estimate.matvecs < 60
    (True, True)
    """
    require_failure(failure)
    trivial = require_trivial(trivial)
    ratio = require_number("ratio", ratio, lambda x: x > 1, "a number above 1")
    iterations = require_count("iterations", iterations)
    n, xp = require_like(like), namespace(like=like)
    power = 1.0 if apply_transpose is None else 0.5
    forth = checked_operator("apply", apply, n if apply_transpose is None else None)
    back = None if apply_transpose is None else checked_operator("apply_transpose", apply_transpose, n)

    def gram(v: Array) -> Array:
        return forth(v) if back is None else back(forth(v))

    v = _probes(like, 1, rng)
    v = v / xp.sqrt(xp.sum(v * v))
    basis, alphas, betas = v, list[float](), list[float]()
    quantile = _beta_quantile(n, failure)
    theta = 0.0
    for step in range(1, min(iterations, n) + 1):
        w = gram(v)
        alphas.append(float(xp.sum(v * w)))
        for _ in range(2):
            w = w - basis @ (transpose(basis) @ w)
        beta = float(frobenius(w))
        if not np.isfinite(beta + alphas[-1]):
            raise NonFiniteError("apply", "an operator that gave NaN or infinity", "finite products")
        t = np.diag(alphas) + np.diag(betas, 1) + np.diag(betas, -1)
        theta = max(float(np.linalg.eigvalsh(t)[-1]), 0.0)
        gap = _lanczos_gap(step, quantile)
        level = 8 * step * n * unit_roundoff(xp, like.dtype)
        exhausted = step == n or beta <= level * max(theta, abs(alphas[0]))
        if exhausted or (1 - gap) ** -power <= ratio:
            break
        v = w / beta
        basis = xp.concat([basis, v], axis=1)
        betas.append(beta)
    # an exhausted space is invariant, and holds the leading eigenvector with probability one
    high = theta * (1 + level) if exhausted else theta / (1 - gap) * (1 + level) if gap < 1 else inf
    matvecs = step if apply_transpose is None else 2 * step
    source = (
        f"Lanczos from a random vector, {step} steps; after Kuczyński and Woźniakowski 1992, derived here"
    )
    lower = bound(max(theta * (1 - level), 0.0) ** power, Side.LOWER, Norm.SPECTRAL, source, trivial=0.0)
    upper = bound(high**power, Side.UPPER, Norm.SPECTRAL, source, trivial=trivial, probability=1 - failure)
    return Certificate(lower, Estimate(theta**power, None, matvecs, source), upper)


def _beta_quantile(n: int, failure: float) -> float:
    """τ with P(b₁² ≤ τ) = failure, for a coordinate of a uniform unit vector in n dimensions."""
    from scipy.special import betaincinv

    return 1.0 if n == 1 else float(betaincinv(0.5, (n - 1) / 2, failure))


def _lanczos_gap(k: int, quantile: float) -> float:
    """ε_k: the largest relative gap of a Ritz value that a part of at least ``quantile`` allows."""
    if quantile >= 1:
        return 0.0
    odds = log(quantile) - log1p(-quantile)

    def excluded(gap: float) -> bool:
        x = (k - 1) * acosh((1 + gap) / (1 - gap))
        growth = 2 * (x - log(2)) if x > 300 else 2 * log(cosh(x))
        return log(gap) + growth + odds >= log1p(-gap)

    low, high = 0.0, 1 - 2.0**-50
    if not excluded(high):
        return 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if middle > 0 and excluded(middle) else (middle, high)
    return high


def leave_one_out(sketch: Array, test: Array, /) -> Estimate:
    r"""The Frobenius error of the Nyström approximation from a Gaussian sketch, estimated from itself.

    .. math:: \Bigl(\frac1m\sum_i\|(A - \hat A_{(i)})\omega_i\|_2^2\Bigr)^{1/2},\qquad
              (A - \hat A_{(i)})\omega_i = \frac{YH^{-1}e_i}{(H^{-1})_{ii}},\qquad H = \Omega^TY

    where :math:`\hat A_{(i)}` is made without column i.  Its square is an unbiased estimate of
    :math:`E\|A - \hat A\|_F^2` for m − 1 columns.

    Parameters
    ----------
    sketch : array (n, m)
        Y = AΩ, A symmetric PSD.
    test : array (n, m)
        Ω, independent standard Gaussian entries.  For landmarks, which are no such draws, this says nothing.

    Returns
    -------
    Estimate
        Of no matvec beyond the sketch.  ``standard_error`` is that of a mean of m terms as if they were
        independent, which they nearly are.

    Raises
    ------
    RangeError
        H is not positive definite: m exceeds the numerical rank.

    Notes
    -----
    Cost: one m × m inverse and a product n × m × m.  Source: Epperly and Tropp 2024, eqs. (3.3) and (3.5).

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds
    >>> rng = np.random.default_rng(0)
    >>> a = np.diag(0.5 ** np.arange(60))
    >>> omega = rng.standard_normal((60, 12))
    >>> found = bounds.leave_one_out(a @ omega, omega)
    >>> y = a @ omega
    >>> truth = np.linalg.norm(a - y @ np.linalg.inv(omega.T @ y) @ y.T)
    >>> bool(0.5 * truth < found.value < 5 * truth), found.matvecs
    (True, 0)
    """
    columns, inverse = _left_out(sketch, test)
    squares = (np.linalg.norm(columns, axis=0) / inverse.diagonal()) ** 2
    mean, m = float(squares.mean()), len(squares)
    error = float(squares.std(ddof=1)) / sqrt(m) / (2 * sqrt(mean)) if m > 1 and mean > 0 else None
    return Estimate(sqrt(mean), error, 0, "leave-one-out of a Gaussian sketch; Epperly and Tropp 2024")


def _left_out(sketch: Array, test: Array) -> tuple[np.ndarray, np.ndarray]:
    """YH⁻¹ and H⁻¹ on the host in float64."""
    floating(namespace(sketch=sketch, test=test), sketch=sketch, test=test)
    require_matrix("sketch", sketch)
    if sketch.ndim != 2:
        raise ShapeError("sketch", f"of shape {tuple(sketch.shape)}", "shape (n, m)")
    if sketch.shape != test.shape:
        raise ShapeError("test", f"of shape {tuple(test.shape)}", f"that of `sketch`, {tuple(sketch.shape)}")
    y, omega = (to_numpy(x).astype(np.float64) for x in (sketch, test))
    h = omega.T @ y
    values, vectors = np.linalg.eigh((h + h.T) / 2)
    if not values[0] > 64 * len(h) * 2.0**-53 * values[-1]:
        got = f"with least eigenvalue {values[0]:.2e} of ΩᵀAΩ"
        raise RangeError("sketch", got, "fewer columns than the numerical rank of a PSD matrix")
    inverse = (vectors / values) @ vectors.T
    return y @ inverse, inverse
