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
    """What an approximation leaves: trace (square matrices only), Frobenius norm, largest entry, entries
    read."""

    trace: float | None
    frobenius: float
    largest: float
    entries: int


def residual_norms(kernel: Kernel, factor: NystromFactor | CrossFactor, /) -> ResidualNorms:
    """Exact norms of the residual, by strips: np kernel entries, memory one strip.

    Raises ShapeError for a factor of another shape than the kernel.
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
