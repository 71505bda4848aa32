"""One question, one answer: between which two numbers is the error of this approximation?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import hypot, inf, sqrt

import numpy as np

from nystrom_numerics.arguments import (
    require_count,
    require_flag,
    require_instance,
    require_number,
    require_probability,
)
from nystrom_numerics.backend import Array, device_of, generator, namespace, unit_roundoff
from nystrom_numerics.bounds.aposteriori import psd_sandwich
from nystrom_numerics.bounds.lanczos import lanczos_norm
from nystrom_numerics.bounds.probes import frobenius_probes
from nystrom_numerics.bounds.result import Bound, Certificate, Estimate, Norm, Side, bound
from nystrom_numerics.bounds.rigorous import rigorous_nystrom
from nystrom_numerics.bounds.rounding import Rounding, nystrom_rounding, widened
from nystrom_numerics.errors import IndefiniteError, RangeError, ShapeError
from nystrom_numerics.kernels import Kernel
from nystrom_numerics.kernels.arguments import require_kernel
from nystrom_numerics.linalg import frobenius, transpose
from nystrom_numerics.lowrank import CrossFactor, NystromFactor

__all__ = ["certify"]


def certify(
    kernel: Kernel,
    factor: NystromFactor | CrossFactor,
    /,
    *,
    norm: Norm = Norm.SPECTRAL,
    ratio: float = inf,
    failure: float = 0.01,
    iterations: int = 100,
    rigorous: bool = False,
    rng: np.random.Generator | int = 0,
) -> Certificate:
    r"""Two bounds of the error of a factor, and an estimate, in the norm asked for.

    What is free comes first: the residual's diagonal of a Nyström factor, or the Frobenius norm that a CUR
    factor knows.  Where the interval is wider than ``ratio``, products with the residual narrow it: Lanczos
    iteration for the spectral norm, Gaussian probes for the Frobenius norm.  Of each side the better bound is
    kept.

    Parameters
    ----------
    kernel : Kernel
        The matrix A that was approximated.
    factor : NystromFactor or CrossFactor
    norm : Norm
        The trace norm only for a Nyström factor.
    ratio : float
        Upper over lower that is good enough, above 1; infinite by default, for what costs least.
    failure : float
        Of products' bounds, in (0, 1).
    iterations : int
        Lanczos steps at most.
    rigorous : bool
        Only what is deterministic, of a Nyström factor, with every rounding in it: of the factor, whatever made it, of
        the diagonal and of the bound's own arithmetic, in any order of summation.  It is a bound for any matrix of
        the kernel's entries as they are given; that they lie within its ``noise`` and four units of roundoff of those
        of a PSD matrix is a hypothesis, which the upper bound names.  What a kernel function may round beyond that
        is not included.
    rng : numpy.random.Generator or int

    Returns
    -------
    Certificate
        Trivial bound: the trace of A for a Nyström factor, in every norm; none for a cross.

    Raises
    ------
    IndefiniteError, KindError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: n kernel entries where the residual's diagonal is not known, or a landmark rule counted some of it as
    zero, otherwise none; n² entries a Lanczos step, twice that for a cross and where rounding may be most of the
    residual, and n² for all probes together.  For a
    Nyström factor also nr² multiplications, for what rounding makes of a theorem about exact factors: it is allowed
    for on both sides (:mod:`~nystrom_numerics.bounds.rounding`).  Products are in float64, and their rounding, with
    independent errors :math:`8\sqrt{p + r}\,2^{-53}(\|A\|_F + 2\|L\|_F\|R\|_F)` a unit vector for
    :math:`\hat A = LR`, is allowed for too.  These allowances are modelled; ``rigorous`` ones are proved
    (:mod:`~nystrom_numerics.bounds.rigorous`), for n + nr + r² kernel entries and 7nr² multiplications, with no draw.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds, kernels, landmarks, lowrank
    >>> x = np.random.default_rng(0).standard_normal((300, 2))
    >>> kernel = kernels.gaussian(x, gamma=0.5)
    >>> factor = lowrank.nystrom_factor(kernel, landmarks.rpcholesky(kernel, 20))
    >>> found = bounds.certify(kernel, factor, ratio=1.5)
    >>> found.ratio <= 1.5, found.upper.certainty
    (True, 'with probability at least 1 − 0.01')
    >>> found = bounds.certify(kernel, factor, rigorous=True)
    >>> found.upper.certainty, found.lower.value < found.upper.value
    ('with certainty', True)
    """
    require_kernel(kernel, symmetric=False)
    require_instance("factor", factor, (NystromFactor, CrossFactor))
    require_instance("norm", norm, Norm)
    ratio = require_number("ratio", ratio, lambda x: x > 1, "a number above 1")
    require_probability("failure", failure)
    require_count("iterations", iterations)
    source, _ = generator(rng)
    if kernel.shape != factor.shape:
        raise ShapeError("factor", f"of shape {factor.shape}", f"the kernel's, {kernel.shape}")
    if norm is Norm.MAX or (norm is Norm.TRACE and isinstance(factor, CrossFactor)):
        known = "the spectral or the Frobenius norm" + (
            ", or the trace norm" if isinstance(factor, NystromFactor) else " of a cross"
        )
        raise RangeError("norm", norm.value, known)
    if require_flag("rigorous", rigorous):
        if not isinstance(factor, NystromFactor):
            raise RangeError("rigorous", "True of a cross", "a Nyström factor")
        if ratio < inf:
            raise RangeError("rigorous", f"True with `ratio` {ratio:g}", "no `ratio`: it takes draws")
        return rigorous_nystrom(kernel, factor, norm)
    free = None
    if isinstance(factor, NystromFactor):
        residual = residual_diagonal(kernel, factor)
        free = residual, nystrom_rounding(kernel, factor, residual)
    return certified(kernel, factor, free, norm, ratio, failure, iterations, source)


def residual_diagonal(kernel: Kernel, factor: NystromFactor) -> Array:
    """The diagonal of A − FFᵀ (n,): what the factor knows, or n entries where a rule counted some as zero.

    Below its ``rtol`` a rule calls a residual zero; at its landmarks it is.
    """
    known = factor.residual
    xp = namespace(f=factor.factor)
    if known is not None and int(xp.count_nonzero(known == 0)) <= factor.rank:
        return known
    return kernel.diagonal() - factor.diagonal()


def certified(
    kernel: Kernel,
    factor: NystromFactor | CrossFactor,
    free: tuple[Array, Rounding] | None,
    norm: Norm,
    ratio: float,
    failure: float,
    iterations: int,
    rng: np.random.Generator,
) -> Certificate:
    """:func:`certify` of checked arguments, with the residual's diagonal of a Nyström factor and its rounding."""
    found: Certificate | None
    if isinstance(factor, NystromFactor):
        assert free is not None, "a Nyström factor comes with them"
        found, trivial = _sandwich(factor, *free, norm)
        # where rounding may be most of the residual, its largest eigenvalue need not be its norm
        indefinite = free[1].spectral if free[1].spectral <= _value(found.lower) else None
    else:
        found, trivial, indefinite = _known_cross(factor, norm), inf, None
    if found is not None and (norm is Norm.TRACE or found.ratio <= ratio):
        return found
    target = ratio if ratio < inf else 3.0
    better = _by_products(kernel, factor, norm, indefinite, target, failure, iterations, trivial, rng)
    return better if found is None else _better(found, better)


def _by_products(
    kernel: Kernel,
    factor: NystromFactor | CrossFactor,
    norm: Norm,
    indefinite: float | None,
    ratio: float,
    failure: float,
    iterations: int,
    trivial: float,
    rng: np.random.Generator,
) -> Certificate:
    """The bounds that products with the residual give, their rounding allowed for.

    ``indefinite`` is the norm of what is not PSD in a residual of which that is a small part, ``None`` for any other.
    """
    xp = namespace(kernel=kernel.like)
    left = xp.astype(factor.factor if isinstance(factor, NystromFactor) else factor.left, xp.float64)
    right = transpose(left) if isinstance(factor, NystromFactor) else xp.astype(factor.right, xp.float64)
    like = xp.zeros((kernel.shape[1], 1), dtype=xp.float64, device=device_of(kernel.like))

    def strips() -> Iterator[tuple[slice, Array]]:
        for rows in kernel.strips(kernel.shape[1]):
            yield rows, xp.astype(kernel.block(rows, slice(None)), xp.float64)

    def residual(v: Array) -> Array:
        forth, back = [], xp.zeros((kernel.shape[1], v.shape[1]), dtype=v.dtype, device=device_of(v))
        for rows, part in strips():
            forth.append(part @ v)
            if isinstance(factor, NystromFactor):
                back = back + transpose(part) @ v[rows, :]
        product = xp.concat(forth, axis=0)
        if isinstance(factor, NystromFactor):
            product = (product + back) / 2
        return product - left @ (right @ v)

    def transposed(v: Array) -> Array:
        if isinstance(factor, NystromFactor):
            return residual(v)
        total = -transpose(right) @ (transpose(left) @ v)
        for rows, part in strips():
            total = total + transpose(part) @ v[rows, :]
        return total

    if norm is Norm.SPECTRAL:
        found = lanczos_norm(
            residual,
            like,
            apply_transpose=transposed if indefinite is None else None,
            ratio=ratio,
            iterations=iterations,
            failure=failure,
            trivial=trivial,
            rng=rng,
        )
    else:
        found = frobenius_probes(residual, like, ratio=ratio, failure=failure, trivial=trivial, rng=rng)
    assert found.estimate is not None, "both kinds of products estimate"
    # k products off by ε each leave Ritz values off by 2√k ε, and roots of those of BᵀB by 5√k ε; the root mean square
    # of probes of length about √p is off by 2√p ε
    weight = 5 * sqrt(found.estimate.matvecs) if norm is Norm.SPECTRAL else 2 * sqrt(kernel.shape[1])
    size = 3 * float(frobenius(left)) * float(frobenius(right))
    size += (
        2 * sqrt(min(kernel.shape)) * found.estimate.value
    )  # ‖A‖_F is at most ‖L‖_F‖R‖_F and the residual's
    amount = weight * 8 * sqrt(kernel.shape[1] + right.shape[0]) * 2.0**-53 * size
    # λ₁ ≤ θ/(1 − ε) takes λ_n ≥ 0; from λ_n ≥ −β it is (θ + εβ)/(1 − ε)
    gap = (found.ratio - 1) * indefinite if indefinite and norm is Norm.SPECTRAL else 0.0
    upper = widened(found.upper, amount + gap, trivial)
    return Certificate(widened(found.lower, amount, 0.0), found.estimate, upper)


def _sandwich(factor: NystromFactor, residual: Array, off: Rounding, norm: Norm) -> tuple[Certificate, float]:
    """The bounds by diagonal and trace, and the trace of A."""
    xp = namespace(f=factor.factor)
    least = float(xp.min(residual))
    if least < -off.diagonal - off.spectral:
        raise IndefiniteError(
            "kernel", f"not PSD, with residual {least:.3g}", int(xp.argmin(residual)), least
        )
    trace = float(xp.sum(residual + factor.diagonal(), dtype=xp.float64))
    three = psd_sandwich(
        residual,
        trivial=(trace, trace, trace),
        rounding=off.diagonal,
        indefinite=(off.spectral, off.frobenius, off.trace),
    )
    return three[(Norm.SPECTRAL, Norm.FROBENIUS, Norm.TRACE).index(norm)], trace


def _known_cross(factor: CrossFactor, norm: Norm) -> Certificate | None:
    """What a CUR factor knows of its Frobenius error; nothing of other crosses and norms.

    As a difference of squares it is known to some √u‖A‖_F: with independent errors of the products, twice
    :math:`4(\\sqrt{n + p} + r)u\\|A\\|_F^2`, and the factor that is stored is off by :math:`4\\sqrt ru\\|A\\|_F` more.
    """
    if factor.frobenius_residual is None or norm is not Norm.FROBENIUS:
        return None
    value, source = factor.frobenius_residual, "‖A − CUR‖_F² = ‖A‖_F² − ‖QᵀAP‖_F², to rounding"
    u = unit_roundoff(namespace(left=factor.left), factor.left.dtype)
    size = hypot(float(frobenius(factor.left)), value)  # ‖A‖_F, for the rows of R are orthonormal
    square = 8 * (sqrt(sum(factor.shape)) + factor.rank) * u * size * size
    stored = 4 * sqrt(factor.rank) * u * size
    low = max(sqrt(max(value * value - square, 0.0)) - stored, 0.0)
    high = sqrt(value * value + square) + stored
    lower = bound(low, Side.LOWER, norm, source, trivial=0.0)
    return Certificate(
        lower, Estimate(value, 0.0, 0, source), bound(high, Side.UPPER, norm, source, trivial=inf)
    )


def _value(b: Bound) -> float:
    return (inf if b.side is Side.UPPER else 0.0) if b.value is None else b.value


def _better(first: Certificate, second: Certificate) -> Certificate:
    """Of each side the tighter bound."""
    lower = max(first.lower, second.lower, key=_value)
    upper = min(first.upper, second.upper, key=_value)
    estimate = second.estimate
    if estimate is not None:
        inside = min(max(estimate.value, _value(lower)), _value(upper))
        estimate = replace(estimate, value=inside)
    return Certificate(lower, estimate, upper)
