"""Two kinds of landmarks, two types: points that a rule makes, and columns that a rule picks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

from nystrom_numerics.arguments import require_count, require_instance
from nystrom_numerics.backend import Array, device_of, floating, namespace, require_mask, require_matrix
from nystrom_numerics.brief import brief
from nystrom_numerics.errors import DTypeError, NamespaceError, ShapeError
from nystrom_numerics.places import rows_of

__all__ = [
    "ColumnSubset",
    "KernelStrategy",
    "LandmarkPoints",
    "Strategy",
    "require_found",
    "require_positions",
    "take_rows",
]


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

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import landmarks
    >>> own = landmarks.LandmarkPoints(np.array([[0.5, 1.0]]), None, entries=0, seed=None)
    >>> own.gather(np.zeros((5, 2)))
    array([[0.5, 1. ]])
    """

    points: Array
    valid: Array | None
    entries: int
    seed: int | None

    __repr__ = brief

    def __post_init__(self) -> None:
        xp = namespace(points=self.points, valid=self.valid)
        floating(xp, points=self.points)
        require_matrix("points", self.points)
        require_mask(xp, "valid", self.valid, tuple(self.points.shape[:-1]))
        _require_story(self)

    def gather(self, x: Array, /) -> Array:
        """The landmarks themselves, for ``x`` of their width; its entries are not looked at.

        Parameters
        ----------
        x : array (..., n, d)

        Returns
        -------
        array (..., m, d)

        Raises
        ------
        DTypeError, DeviceError, NamespaceError, ShapeError
            Naming the argument.
        """
        _require_points(x, points=self.points)
        if x.shape[-1] != self.points.shape[-1]:
            raise ShapeError(
                "x", f"of width {x.shape[-1]}", f"that of the landmarks, {self.points.shape[-1]}"
            )
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

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import landmarks
    >>> x = np.arange(10.0).reshape(5, 2)
    >>> own = landmarks.ColumnSubset(np.array([0, 3]), None, entries=0, seed=None)
    >>> own.gather(x)
    array([[0., 1.],
           [6., 7.]])
    """

    indices: Array
    valid: Array | None
    entries: int
    seed: int | None
    factor: Array | None = None
    residual: Array | None = None

    __repr__ = brief

    def __post_init__(self) -> None:
        xp = require_positions(indices=self.indices)
        shape = tuple(self.indices.shape)
        namespace(indices=self.indices, valid=self.valid, factor=self.factor, residual=self.residual)
        require_mask(xp, "valid", self.valid, shape)
        if self.factor is not None:
            floating(xp, factor=self.factor)
            if self.factor.ndim != 2 or not self.factor.shape[0] or (self.factor.shape[1],) != shape:
                needs = f"shape (n, {shape[-1]}), a column for each of one axis of indices"
                raise ShapeError("factor", f"of shape {tuple(self.factor.shape)}", needs)
        if self.residual is not None:
            floating(xp, residual=self.residual)
            n = None if self.factor is None else self.factor.shape[0]
            if (
                self.residual.ndim != 1
                or not self.residual.shape[0]
                or n not in (None, self.residual.shape[0])
            ):
                needs = "shape (n,), n the rows of `factor`"
                raise ShapeError("residual", f"of shape {tuple(self.residual.shape)}", needs)
        _require_story(self)

    def gather(self, x: Array, /) -> Array:
        """The chosen rows of ``x``; zero where not valid.

        Parameters
        ----------
        x : array (..., n, d)

        Returns
        -------
        array (..., m, d)

        Raises
        ------
        DTypeError, DeviceError, NamespaceError, ShapeError
            Naming the argument.
        """
        xp = _require_points(x, indices=self.indices)
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


def require_found(name: str, found: Any) -> LandmarkPoints | ColumnSubset:
    """What a rule of the caller's gave, ``name`` the argument that it came in; raises KindError."""
    needs = "a rule that gives LandmarkPoints or a ColumnSubset"
    require_instance(name, found, (LandmarkPoints, ColumnSubset), needs)
    checked: LandmarkPoints | ColumnSubset = found
    return checked


def require_positions(**positions: Array) -> Any:
    """Arrays of positions, of one axis at least; the namespace of them.

    Raises
    ------
    DTypeError, NamespaceError, ShapeError
        Naming the argument.
    """
    xp = namespace(**positions)
    for name, x in positions.items():
        if x is None:
            raise NamespaceError(name, "None", "an array of positions")
        if not xp.isdtype(x.dtype, "integral"):
            raise DTypeError(name, f"of dtype {x.dtype}", "integers")
        if not x.ndim:
            raise ShapeError(name, "of no axis", "one axis at least")
    return xp


def _require_points(x: Array, **own: Array) -> Any:
    xp = namespace(x=x, **own)
    floating(xp, x=x)
    require_matrix("x", x)
    return xp


def _require_story(found: LandmarkPoints | ColumnSubset) -> None:
    require_count("entries", found.entries, 0)
    if found.seed is not None:
        require_count("seed", found.seed, 0)


def take_rows(x: Array, index: Array) -> Array:
    """Rows ``index`` (..., m) of ``x`` (..., n, d), item by item: (..., m, d); leading axes broadcast, without copies.

    Whole rows are copied, from the items laid end to end: several times faster than one number at a time.
    """
    xp = namespace(x=x, index=index)
    n, d = x.shape[-2:]
    first = xp.arange(prod(x.shape[:-2]), dtype=xp.int64, device=device_of(x)) * n
    flat = xp.reshape(first, (*x.shape[:-2], 1)) + index
    taken = rows_of(xp, xp.reshape(x, (-1, d)), xp.reshape(flat, (-1,)))
    return xp.reshape(taken, (*flat.shape, d))
