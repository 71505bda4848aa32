"""What those who work on a kernel ask of it."""

from __future__ import annotations

from typing import Any

from nystrom_numerics.arguments import require_instance
from nystrom_numerics.kernels.oracle import Kernel

__all__ = ["require_kernel"]


def require_kernel(kernel: Any, *, symmetric: bool = True) -> Kernel:
    """A kernel, of the same points on both sides unless ``symmetric`` is false.

    Raises
    ------
    KindError, ShapeError
        Naming ``kernel``.
    """
    found = require_instance(
        "kernel", kernel, Kernel, "a Kernel, such as `kernels.precomputed` makes of a matrix"
    )
    if symmetric:
        found.require_symmetric()
    return found
