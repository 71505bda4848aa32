r"""What rules take that evaluate n² entries or hold n numbers for each of the rank, said before they start.

Time is of one core, by what its operations took on one of 2020 (float64, measured at n = 1,000 and 2,000): a Gaussian
entry, a multiplication in a product with a vector, which waits for memory, and one in a product of matrices.  A kernel
that is dearer than a Gaussian one, or a device, has other times; entries and memory are the same.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from nystrom_numerics.backend import namespace
from nystrom_numerics.errors import CostWarning
from nystrom_numerics.kernels import Kernel

__all__ = ["Cost", "foretell", "of_pivoted_qr", "of_sketch", "of_spectrum"]

ENTRY, BY_VECTORS, BY_MATRICES = 1.3e-7, 1.3e-9, 3e-10
"""Seconds."""

LONG, LARGE = 10.0, 2**30
"""Seconds and bytes from which a rule says so."""


@dataclass(frozen=True)
class Cost:
    """Kernel entries, multiplications, and numbers held at once; where the rank is full, if they depend on it."""

    entries: int
    by_vectors: int
    by_matrices: int
    numbers: int

    @property
    def seconds(self) -> float:
        return ENTRY * self.entries + BY_VECTORS * self.by_vectors + BY_MATRICES * self.by_matrices


def of_pivoted_qr(n: int, columns: int, m: int) -> Cost:
    """The matrix, one product of it with a vector a pivot, and what evaluating it takes beside it."""
    size = n * columns
    return Cost(size, size * m, 0, 3 * size)


def of_sketch(n: int, width: int) -> Cost:
    """Entries in strips, each times ``width``; the sketch and what is made of it."""
    return Cost(n * n, 0, n * n * width, 6 * n * width)


def of_spectrum(n: int) -> Cost:
    """The factor of a matrix of full rank and its Gram matrix, their eigenvectors, and room to work."""
    return Cost(n * n, 0, 2 * n**3, 4 * n * n)


def foretell(what: str, kernel: Kernel, cost: Cost) -> None:
    """Warn of what takes long or much memory, before it begins; no entry is looked at."""
    size = cost.numbers * (namespace(kernel=kernel.like).finfo(kernel.dtype).bits // 8)
    if cost.seconds >= LONG or size >= LARGE:
        warnings.warn(CostWarning(what, cost.entries, size, cost.seconds), stacklevel=4)
