"""What an approximation leaves of a kernel, exactly, by strips."""

from __future__ import annotations

from dataclasses import dataclass

from nystrom_numerics.arguments import require_instance
from nystrom_numerics.backend import namespace
from nystrom_numerics.errors import ShapeError
from nystrom_numerics.kernels import Kernel
from nystrom_numerics.kernels.arguments import require_kernel
from nystrom_numerics.linalg import transpose
from nystrom_numerics.lowrank.cross import CrossFactor
from nystrom_numerics.lowrank.nystrom import NystromFactor

__all__ = ["ResidualNorms", "residual_norms"]


@dataclass(frozen=True)
class ResidualNorms:
    """What an approximation leaves, exactly.

    Attributes
    ----------
    trace : float or None
        ``None`` for a rectangular matrix.
    frobenius : float
        The Frobenius norm.
    largest : float
        The largest modulus of an entry.
    entries : int
        Kernel entries read.

    Examples
    --------
    >>> from nystrom_numerics.lowrank import ResidualNorms
    >>> ResidualNorms(trace=0.5, frobenius=0.4, largest=0.3, entries=9)
    ResidualNorms(trace=0.5, frobenius=0.4, largest=0.3, entries=9)
    """

    trace: float | None
    frobenius: float
    largest: float
    entries: int


def residual_norms(kernel: Kernel, factor: NystromFactor | CrossFactor, /) -> ResidualNorms:
    """Exact norms of the residual, by strips.

    Parameters
    ----------
    kernel : Kernel
        Of shape (n, p).
    factor : NystromFactor or CrossFactor
        Of the same shape.

    Returns
    -------
    ResidualNorms

    Raises
    ------
    KindError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: np kernel entries, npr multiplications, memory one strip.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import kernels, landmarks, lowrank
    >>> kernel = kernels.precomputed(np.diag([3.0, 1.0, 2.0]))
    >>> factor = lowrank.nystrom_factor(kernel, landmarks.pivoted_cholesky(kernel, 2))
    >>> lowrank.residual_norms(kernel, factor)
    ResidualNorms(trace=1.0, frobenius=1.0, largest=1.0, entries=9)
    """
    require_kernel(kernel, symmetric=False)
    require_instance("factor", factor, (NystromFactor, CrossFactor))
    if kernel.shape != factor.shape:
        raise ShapeError("factor", f"of shape {factor.shape}", f"the kernel's, {kernel.shape}")
    xp, before = namespace(kernel=kernel.like), kernel.entries
    nystrom = isinstance(factor, NystromFactor)
    left = factor.factor if isinstance(factor, NystromFactor) else factor.left
    right = transpose(factor.factor) if isinstance(factor, NystromFactor) else factor.right
    trace, square, largest = 0.0, 0.0, 0.0
    for strip in kernel.strips(kernel.shape[1]):
        part = kernel.block(strip, slice(None)) - left[strip, :] @ right
        square += float(xp.sum(part * part, dtype=xp.float64))
        largest = max(largest, float(xp.max(xp.abs(part))))
        if nystrom or kernel.symmetric:
            trace += float(xp.sum(xp.linalg.diagonal(part[:, strip]), dtype=xp.float64))
    known = trace if kernel.symmetric else None
    return ResidualNorms(known, square**0.5, largest, kernel.entries - before)
