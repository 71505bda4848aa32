r"""Kernel matrices by entries: what is asked for is evaluated and counted, and nothing n × n is formed.

A :class:`Kernel` stands for the matrix :math:`K_{ij} = k(x_i, y_j)` of n and p points.  Rules that pick
landmarks and factors built from them ask it for its diagonal, for columns, rows or blocks, and
:attr:`Kernel.entries` is the exact number of entries it has evaluated since it was made.
"""

from nystrom_numerics.kernels.functions import (
    custom,
    gaussian,
    laplacian,
    matern,
    polynomial,
    precomputed,
    softmax,
)
from nystrom_numerics.kernels.oracle import (
    EntryCounter,
    Index,
    Kernel,
    MatrixKernel,
    PointFunction,
    PointKernel,
)

__all__ = [
    "EntryCounter",
    "Index",
    "Kernel",
    "MatrixKernel",
    "PointFunction",
    "PointKernel",
    "custom",
    "gaussian",
    "laplacian",
    "matern",
    "polynomial",
    "precomputed",
    "softmax",
]
