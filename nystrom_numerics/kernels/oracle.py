"""The oracles: a kernel matrix by its points or at hand, and the count of its entries."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from nystrom_numerics.arguments import require_count, require_indices
from nystrom_numerics.backend import (
    Array,
    dtype_name,
    floating,
    from_numpy,
    namespace,
    strip_rows,
)
from nystrom_numerics.errors import DTypeError, KindError, NamespaceError, ShapeError

__all__ = ["EntryCounter", "Index", "Kernel", "MatrixKernel", "PointFunction", "PointKernel"]

Index: TypeAlias = Any
"""Which rows or columns: a 1-D integer array (NumPy's is moved to the kernel's device) or a slice."""


@dataclass
class EntryCounter:
    """A running total of kernel entries.

    Attributes
    ----------
    total : int

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import kernels
    >>> kernel = kernels.gaussian(np.zeros((5, 2)), gamma=1.0)
    >>> _ = kernel.rows([0, 1])
    >>> kernel.counter.total
    10
    """

    total: int = 0


class Kernel(ABC):
    """A kernel matrix of shape (n, p), known by its entries.

    Attributes
    ----------
    shape : tuple of int
        (n, p).
    symmetric : bool
        Rows and columns stand for the same points; a positive semidefinite (PSD) method asks for it.
    points : array (n, d) or None
        The points of the rows; ``None`` where only entries are known.
    dtype
        Of the entries: that of the points or matrix, or float32 where these are of 16 bits.
    entries : int
        Entries evaluated so far, repetitions included; the diagonal counts as n.
    noise : float
        How far an entry may be from that of the PSD matrix meant, relative to the largest diagonal entry,
        where it is more than the rounding of a few operations.  Residuals below it count as zero.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import kernels
    >>> kernel = kernels.laplacian(np.arange(4.0)[:, None], gamma=1.0)
    >>> kernel.block([0], slice(None)).round(3), kernel.diagonal(), kernel.entries
    (array([[1.   , 0.368, 0.135, 0.05 ]]), array([1., 1., 1., 1.]), 8)
    """

    shape: tuple[int, int]
    symmetric: bool
    points: Array | None
    counter: EntryCounter
    noise: float = 0.0

    @property
    def entries(self) -> int:
        return self.counter.total

    def __repr__(self) -> str:
        """What it is, without its points or its matrix."""
        noise = f", noise {self.noise:g}" if self.noise else ""
        dtype = dtype_name(self.dtype)
        return f"<{self._text} of shape {self.shape}, {dtype}{noise}, {self.entries} entries evaluated>"

    @property
    def _text(self) -> str:
        return type(self).__name__

    @property
    @abstractmethod
    def like(self) -> Array:
        """An array whose library, device and dtype the entries have."""

    @property
    def dtype(self) -> Any:
        return self.like.dtype

    def diagonal(self) -> Array:
        """The entries (i, i).

        Returns
        -------
        array (n,)

        Raises
        ------
        ShapeError
            The kernel is rectangular.

        Notes
        -----
        Cost: n entries, unless the docstring of the kernel says more.
        """
        self.require_symmetric()
        return self._diagonal()

    def columns(self, indices: Index, /) -> Array:
        """The columns at ``indices``; nm entries.

        Parameters
        ----------
        indices : 1-D array of int, or slice

        Returns
        -------
        array (n, m)

        Raises
        ------
        DTypeError, DeviceError, NamespaceError, RangeError, ShapeError
            As :meth:`block`.
        """
        return self._read(slice(None), self._index("indices", indices, self.shape[1]))

    def rows(self, indices: Index, /) -> Array:
        """The rows at ``indices``; mp entries.

        Parameters
        ----------
        indices : 1-D array of int, or slice

        Returns
        -------
        array (m, p)

        Raises
        ------
        DTypeError, DeviceError, NamespaceError, RangeError, ShapeError
            As :meth:`block`.
        """
        return self._read(self._index("indices", indices, self.shape[0]), slice(None))

    def block(self, rows: Index, columns: Index, /) -> Array:
        """The entries at ``rows`` × ``columns``; as many as the result has.

        Parameters
        ----------
        rows, columns : 1-D array of int, or slice

        Returns
        -------
        array (rows, columns)

        Raises
        ------
        DTypeError, DeviceError, NamespaceError, RangeError, ShapeError
            Naming the index set.  Bounds are checked for sets on the host only.
        """
        return self._read(
            self._index("rows", rows, self.shape[0]), self._index("columns", columns, self.shape[1])
        )

    def _read(self, rows: Index, columns: Index) -> Array:
        found = self._block(rows, columns)
        self.counter.total += found.shape[0] * found.shape[1]
        return found

    def cross(self, z: Array, /, rows: Index = slice(None)) -> Array:
        """Entries of the points at ``rows`` with other points; as many as the result has.

        Parameters
        ----------
        z : array (m, d)
        rows : 1-D array of int, or slice

        Returns
        -------
        array (rows, m)

        Raises
        ------
        NamespaceError
            The kernel was given by its matrix and knows no points.
        """
        raise NamespaceError("z", "a set of points", "none: this kernel was given by its matrix")

    def between(self, x: Array, z: Array, /) -> Array:
        """Entries of any points with any points; as many as the result has.

        Parameters
        ----------
        x : array (l, d)
        z : array (m, d)

        Returns
        -------
        array (l, m)

        Raises
        ------
        NamespaceError
            The kernel was given by its matrix and knows no points.
        """
        raise NamespaceError("x", "a set of points", "none: this kernel was given by its matrix")

    def apply(self, v: Array, /) -> Array:
        """The product K v, by strips of rows; np entries, memory one strip.

        Parameters
        ----------
        v : array (p,) or (p, c)

        Returns
        -------
        array (n,) or (n, c)

        Raises
        ------
        DTypeError, DeviceError, NamespaceError, ShapeError
            ``v`` is no real floating array of the kernel's library, or has another number of rows than p.
        """
        xp = namespace(kernel=self.like, v=v)
        floating(xp, v=v)
        if v.ndim not in (1, 2) or v.shape[0] != self.shape[1]:
            raise ShapeError("v", f"of shape {tuple(v.shape)}", f"shape ({self.shape[1]},) or (…, columns)")
        return xp.concat([self.block(part, slice(None)) @ v for part in self.strips(self.shape[1])], axis=0)

    def strips(self, width: int, /) -> Iterator[slice]:
        """Consecutive slices of rows, each of a size to hold ``width`` entries a row at once.

        Parameters
        ----------
        width : int
            At least 1.

        Yields
        ------
        slice

        Raises
        ------
        RangeError
            Naming the argument.
        """
        width = require_count("width", width)
        step = strip_rows(self.like, width)
        for start in range(0, self.shape[0], step):
            yield slice(start, min(start + step, self.shape[0]))

    def require_symmetric(self) -> None:
        """Refuse a rectangular kernel.

        Raises
        ------
        ShapeError
        """
        if not self.symmetric:
            raise ShapeError("kernel", f"rectangular, of shape {self.shape}", "the same points on both sides")

    def _index(self, name: str, index: Index, length: int) -> Index:
        if isinstance(index, slice):
            return index
        if isinstance(index, (np.ndarray, list, tuple, range)):
            host = require_indices(name, index, length)
            return from_numpy(namespace(kernel=self.like), host, self.like)
        if index is None:
            raise KindError(name, "None", "indices or a slice")
        xp = namespace(kernel=self.like, **{name: index})
        if not xp.isdtype(index.dtype, "integral"):
            raise DTypeError(name, f"of dtype {index.dtype}", "integers")
        if index.ndim != 1:
            raise ShapeError(name, f"of shape {tuple(index.shape)}", "one axis")
        return xp.astype(index, xp.int64, copy=False)  # Torch takes no index of 8 bits

    @abstractmethod
    def _block(self, rows: Index, columns: Index) -> Array: ...

    @abstractmethod
    def _diagonal(self) -> Array: ...


@dataclass(frozen=True)
class PointFunction:
    """A kernel function k, in three parts.

    Attributes
    ----------
    prepare : callable
        Points (n, d) to what each point contributes, a tuple of arrays (n, ...), done once.
    evaluate : callable
        Two such tuples, of n and of p points, to the entries (n, p).
    diagonal : callable or None
        Such a tuple to the entries (i, i); ``None`` reads them off small blocks.
    text : str
        Its name and parameters, for those who look at a kernel.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import kernels
    >>> kernel = kernels.gaussian(np.array([[0.0], [1.0]]), gamma=1.0)
    >>> prepared = kernel.function.prepare(np.array([[3.0]]))
    >>> kernel.function.evaluate(kernel.left, prepared).shape, kernel.function.text
    ((2, 1), 'gaussian(gamma=1)')
    """

    prepare: Callable[[Array], tuple[Array, ...]]
    evaluate: Callable[[tuple[Array, ...], tuple[Array, ...]], Array]
    diagonal: Callable[[tuple[Array, ...]], Array] | None
    text: str = "PointKernel"


@dataclass(frozen=True, eq=False, repr=False)
class PointKernel(Kernel):
    """The kernel matrix of points under a :class:`PointFunction`.

    Attributes
    ----------
    function : PointFunction
    points : array (n, d)
        Those of the rows.
    left, right : tuple of arrays
        What the points of the rows and of the columns contribute, prepared once.
    symmetric : bool
    counter : EntryCounter
    noise : float
        See :class:`Kernel`.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import kernels
    >>> kernels.gaussian(np.zeros((3, 2)), np.ones((5, 2)), gamma=0.5)
    <gaussian(gamma=0.5) of shape (3, 5), float64, 0 entries evaluated>
    """

    function: PointFunction
    points: Array
    left: tuple[Array, ...]
    right: tuple[Array, ...]
    symmetric: bool
    counter: EntryCounter = field(default_factory=EntryCounter)
    noise: float = 0.0

    @property
    def shape(self) -> tuple[int, int]:  # type: ignore[override]
        return self.left[0].shape[0], self.right[0].shape[0]

    @property
    def like(self) -> Array:
        return self.left[0]

    @property
    def _text(self) -> str:
        return self.function.text

    def cross(self, z: Array, /, rows: Index = slice(None)) -> Array:
        rows = self._index("rows", rows, self.shape[0])
        found = self.function.evaluate(_part(self.left, rows), self._prepared("z", z))
        self.counter.total += found.shape[0] * found.shape[1]
        return found

    def between(self, x: Array, z: Array, /) -> Array:
        found = self.function.evaluate(self._prepared("x", x), self._prepared("z", z))
        self.counter.total += found.shape[0] * found.shape[1]
        return found

    def _prepared(self, name: str, z: Array) -> tuple[Array, ...]:
        namespace(points=self.points, **{name: z})
        floating(namespace(points=self.points), **{name: z})
        if z.ndim != 2 or z.shape[1] != self.points.shape[1] or not z.shape[0]:
            needs = f"shape (m, {self.points.shape[1]}), not empty"
            raise ShapeError(name, f"of shape {tuple(z.shape)}", needs)
        return self.function.prepare(z)

    def _block(self, rows: Index, columns: Index) -> Array:
        return self.function.evaluate(_part(self.left, rows), _part(self.right, columns))

    def _diagonal(self) -> Array:
        if self.function.diagonal is not None:
            self.counter.total += self.shape[0]
            return self.function.diagonal(self.left)
        xp = namespace(kernel=self.like)
        size, found = 8, []
        for start in range(0, self.shape[0], size):
            part = slice(start, min(start + size, self.shape[0]))
            found.append(xp.linalg.diagonal(self.block(part, part)))
        return xp.concat(found)


@dataclass(frozen=True, eq=False, repr=False)
class MatrixKernel(Kernel):
    """A matrix that is at hand, read through the same door and counted alike.

    Attributes
    ----------
    matrix : array (n, p)
    dtype_of : dtype
        Of the entries given out.
    counter : EntryCounter
    points : None
    noise : float
        See :class:`Kernel`.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import kernels
    >>> kernels.precomputed(np.eye(3))
    <precomputed() of shape (3, 3), float64, 0 entries evaluated>
    """

    matrix: Array
    dtype_of: Any
    counter: EntryCounter = field(default_factory=EntryCounter)
    points: None = None
    noise: float = 0.0

    @property
    def shape(self) -> tuple[int, int]:  # type: ignore[override]
        return self.matrix.shape[0], self.matrix.shape[1]

    @property
    def symmetric(self) -> bool:  # type: ignore[override]
        return bool(self.matrix.shape[0] == self.matrix.shape[1])

    @property
    def _text(self) -> str:
        return "precomputed()"

    @property
    def like(self) -> Array:
        return namespace(a=self.matrix).astype(self.matrix[:1, :1], self.dtype_of)

    def _block(self, rows: Index, columns: Index) -> Array:
        xp = namespace(a=self.matrix)
        (found,) = _part((self.matrix,), rows)
        if isinstance(columns, slice):
            found = found[:, columns]
        else:
            found = xp.take(found, columns, axis=1)
        return xp.astype(found, self.dtype_of)  # a copy, so that nobody writes into the matrix

    def _diagonal(self) -> Array:
        xp = namespace(a=self.matrix)
        self.counter.total += self.shape[0]
        return xp.astype(xp.linalg.diagonal(self.matrix), self.dtype_of)


def _part(prepared: tuple[Array, ...], index: Index) -> tuple[Array, ...]:
    if isinstance(index, slice):
        return tuple(x[index, ...] for x in prepared)
    return tuple(namespace(x=x).take(x, index, axis=0) for x in prepared)
