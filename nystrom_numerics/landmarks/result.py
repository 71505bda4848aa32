"""Two kinds of landmarks, two types: points that a rule makes, and columns that a rule picks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import TypeAlias

from nystrom_numerics.backend import Array, device_of, namespace

__all__ = ["ColumnSubset", "KernelStrategy", "LandmarkPoints", "Strategy", "take_rows"]


@dataclass(frozen=True)
class LandmarkPoints:
    """Synthetic landmarks, such as means.

    Attributes
    ----------
    points : array (..., m, d)
        The landmarks, in the dtype of the data; zero where not valid.
    valid : array (..., m) of bool, or None
        Which of the m landmarks exist; ``None`` if all do.
    entries : int
        Kernel entries evaluated to find them.
    seed : int or None
        Seed of the draws; ``None`` without draws or with a caller's generator.
    """

    points: Array
    valid: Array | None
    entries: int
    seed: int | None

    def gather(self, x: Array, /) -> Array:
        """The landmarks themselves; ``x`` is not looked at."""
        return self.points


@dataclass(frozen=True)
class ColumnSubset:
    """Landmarks that are data points, by index.

    Attributes
    ----------
    indices : array (..., m) of int64
        Positions in the data; 0 where not valid.  Ascending, unless the rule says that it picks in an order.
        Rules over a kernel give fewer than m where the matrix is exhausted: its numerical rank.
    valid, entries, seed
        As in :class:`LandmarkPoints`.
    factor : array (n, m), or None
        F with the Nyström approximation :math:`FF^T`, where the rule has it; its rows at ``indices`` are
        lower triangular, in the order of the indices.
    residual : array (n,), or None
        The diagonal of the residual :math:`A - FF^T`, where the rule has it.
    """

    indices: Array
    valid: Array | None
    entries: int
    seed: int | None
    factor: Array | None = None
    residual: Array | None = None

    def gather(self, x: Array, /) -> Array:
        """The chosen rows of ``x`` (..., n, d), shape (..., m, d); zero where not valid."""
        xp = namespace(x=x, indices=self.indices)
        index = xp.broadcast_to(self.indices, (*x.shape[:-2], self.indices.shape[-1]))
        points = take_rows(x, index)
        if self.valid is None:
            return points
        return xp.where(self.valid[..., None], points, xp.zeros_like(points))


Strategy: TypeAlias = Callable[..., LandmarkPoints | ColumnSubset]
"""A landmark rule: ``strategy(x, m, mask=mask)``; bind its options with ``functools.partial``."""

KernelStrategy: TypeAlias = Callable[..., LandmarkPoints | ColumnSubset]
"""A landmark rule over a kernel: ``strategy(kernel, m, rng=rng)``; :func:`on_points` makes one of a
:data:`Strategy`."""


def take_rows(x: Array, index: Array) -> Array:
    """Rows ``index`` (..., m) of ``x`` (..., n, d), item by item: (..., m, d); leading axes broadcast, without copies.

    Whole rows are copied, from the items laid end to end: several times faster than one number at a time.
    """
    xp = namespace(x=x, index=index)
    n, d = x.shape[-2:]
    first = xp.arange(prod(x.shape[:-2]), dtype=xp.int64, device=device_of(x)) * n
    flat = xp.reshape(first, (*x.shape[:-2], 1)) + index
    taken = xp.take(xp.reshape(x, (-1, d)), xp.reshape(flat, (-1,)), axis=0)
    return xp.reshape(taken, (*flat.shape, d))
