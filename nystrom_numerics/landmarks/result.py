"""Two kinds of landmarks, two types: points that a rule makes, and columns that a rule picks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from nystrom_numerics.backend import Array, namespace

__all__ = ["ColumnSubset", "LandmarkPoints", "Strategy"]


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
        Positions in the data, ascending; 0 where not valid.
    valid, entries, seed
        As in :class:`LandmarkPoints`.
    """

    indices: Array
    valid: Array | None
    entries: int
    seed: int | None

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


def take_rows(x: Array, index: Array) -> Array:
    """Rows ``index`` (..., m) of ``x`` (..., n, d), item by item."""
    xp = namespace(x=x, index=index)
    index = xp.broadcast_to(index[..., None], (*index.shape, x.shape[-1]))
    return xp.take_along_axis(x, index, axis=-2)
