"""One question, one answer: between which two numbers is the error of this approximation?"""

from __future__ import annotations

from dataclasses import replace
from math import inf, sqrt

import numpy as np

from nystrom_numerics.backend import Array, device_of, namespace, unit_roundoff
from nystrom_numerics.bounds.aposteriori import Operator, frobenius_probes, lanczos_norm, psd_sandwich
from nystrom_numerics.bounds.result import Bound, Certificate, Estimate, Norm, Side, bound
from nystrom_numerics.errors import RangeError, ShapeError
from nystrom_numerics.kernels import Kernel
from nystrom_numerics.linalg import transpose
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
        Of products' bounds.
    iterations : int
        Lanczos steps at most.
    rng : numpy.random.Generator or int

    Returns
    -------
    Certificate
        Trivial bound: the trace of A for a Nyström factor, in every norm; none for a cross.

    Raises
    ------
    NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: n kernel entries where the residual's diagonal is not known, otherwise none; n² entries a Lanczos
    step, twice that for a cross, and n² for all probes together.  For a Nyström factor the rounding of the
    diagonal, :math:`(r + 2 + 16\sqrt m)u\max_ia_{ii}` an entry, is allowed for on both sides.

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
    """
    if kernel.shape != factor.shape:
        raise ShapeError("factor", f"of shape {factor.shape}", f"the kernel's, {kernel.shape}")
    if not ratio > 1:
        raise RangeError("ratio", f"{ratio}", "a number above 1")
    if norm is Norm.MAX or (norm is Norm.TRACE and isinstance(factor, CrossFactor)):
        known = "the spectral or the Frobenius norm" + (
            ", or the trace norm" if isinstance(factor, NystromFactor) else " of a cross"
        )
        raise RangeError("norm", norm.value, known)
    found, trivial = (
        _free(kernel, factor, norm)
        if isinstance(factor, NystromFactor)
        else (_known_cross(factor, norm), inf)
    )
    if found is not None and (norm is Norm.TRACE or found.ratio <= ratio):
        return found
    apply_transpose = _transposed(kernel, factor) if isinstance(factor, CrossFactor) else None
    like = _column(kernel)

    def residual(v: Array) -> Array:
        return kernel.apply(v) - factor.apply(v)

    target = ratio if ratio < inf else 3.0
    if norm is Norm.SPECTRAL:
        better = lanczos_norm(
            residual,
            like,
            apply_transpose=apply_transpose,
            ratio=target,
            iterations=iterations,
            failure=failure,
            trivial=trivial,
            rng=rng,
        )
    else:
        better = frobenius_probes(residual, like, ratio=target, failure=failure, trivial=trivial, rng=rng)
    return better if found is None else _better(found, better)


def _column(kernel: Kernel) -> Array:
    """An array of the kernel's library with as many rows as the kernel has columns."""
    xp = namespace(kernel=kernel.like)
    return xp.zeros((kernel.shape[1], 1), dtype=kernel.dtype, device=device_of(kernel.like))


def _free(kernel: Kernel, factor: NystromFactor, norm: Norm) -> tuple[Certificate, float]:
    """The sandwich by diagonal and trace, and the trace of A."""
    xp = namespace(f=factor.factor)
    of_factor = factor.diagonal()
    residual = factor.residual
    if residual is None:
        residual = xp.clip(kernel.diagonal() - of_factor, min=0.0)
    of_kernel = residual + of_factor
    size = float(xp.max(of_kernel))
    m = max(int(factor.kept.shape[0]), 1)
    rounding = (factor.rank + 2 + 16 * sqrt(m)) * unit_roundoff(xp, residual.dtype) * size
    trace = float(xp.sum(of_kernel, dtype=xp.float64))
    three = psd_sandwich(residual, trivial=(trace, trace, trace), rounding=rounding)
    return three[(Norm.SPECTRAL, Norm.FROBENIUS, Norm.TRACE).index(norm)], trace


def _known_cross(factor: CrossFactor, norm: Norm) -> Certificate | None:
    """What a CUR factor knows of its Frobenius error; nothing of other crosses and norms."""
    if factor.frobenius_residual is None or norm is not Norm.FROBENIUS:
        return None
    value, source = factor.frobenius_residual, "‖A − CUR‖_F² = ‖A‖_F² − ‖QᵀAP‖_F², to rounding"
    lower, upper = (
        bound(value, side, norm, source, trivial=0.0 if side is Side.LOWER else inf) for side in Side
    )
    return Certificate(lower, Estimate(value, 0.0, 0, source), upper)


def _transposed(kernel: Kernel, factor: CrossFactor) -> Operator:
    """v to (A − Â)ᵀ v, by strips of rows."""

    def apply(v: Array) -> Array:
        total = -factor.apply_transpose(v)
        for strip in kernel.strips(kernel.shape[1]):
            total = total + transpose(kernel.block(strip, slice(None))) @ v[strip, :]
        return total

    return apply


def _better(first: Certificate, second: Certificate) -> Certificate:
    """Of each side the tighter bound."""

    def value(b: Bound) -> float:
        return (inf if b.side is Side.UPPER else 0.0) if b.value is None else b.value

    lower = max(first.lower, second.lower, key=value)
    upper = min(first.upper, second.upper, key=value)
    estimate = second.estimate
    if estimate is not None:
        inside = min(max(estimate.value, value(lower)), value(upper))
        estimate = replace(estimate, value=inside)
    return Certificate(lower, estimate, upper)
