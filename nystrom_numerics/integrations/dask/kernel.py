"""The kernel matrix of points in chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import dask.array as da
import numpy as np

from nystrom_numerics.arguments import require_callable
from nystrom_numerics.backend import Array, floating, namespace
from nystrom_numerics.errors import KindError, ShapeError
from nystrom_numerics.integrations.dask.chunks import (
    Points,
    as_points,
    compute,
    each_chunk,
    require_room_here,
    require_room_on_workers,
    take_points,
)
from nystrom_numerics.kernels import EntryCounter, Index, Kernel

__all__ = ["ChunkedKernel", "KernelMaker", "chunked_kernel", "diagonal_of", "strips_of"]

KernelMaker: TypeAlias = Callable[..., Kernel]
"""``make(x)`` and ``make(x, z)``, the kernel of points or of two sets: ``partial(kernels.gaussian, gamma=0.1)``."""

_REMEMBERED = 2**22  # numbers: proposals are asked for several times in a row


@dataclass(frozen=True, eq=False, repr=False)
class ChunkedKernel(Kernel):
    """The kernel matrix of points in chunks; :func:`chunked_kernel` makes it.

    It is a :class:`~nystrom_numerics.kernels.Kernel`: what other parts of the package ask it for, some entries or the
    diagonal, comes as NumPy arrays, points gathered for it as needed, and is refused where it does not fit here.  The
    functions of this package leave the work where the points are.

    Attributes
    ----------
    make : callable
        Of kernels, see :func:`chunked_kernel`.
    x : Dask array (n, d)
        The points, in chunks of whole rows.
    sample : Kernel
        That of the first points, for the dtype and the name.
    noise : float
        See :class:`~nystrom_numerics.kernels.Kernel`.
    counter : EntryCounter
    points : None
        They are not here; ``gather`` brings some.
    symmetric : bool

    Examples
    --------
    >>> from functools import partial
    >>> import dask.array as da
    >>> from nystrom_numerics import kernels
    >>> from nystrom_numerics.integrations.dask import chunked_kernel
    >>> x = da.random.default_rng(0).standard_normal((400, 3), chunks=(100, 3))
    >>> kernel = chunked_kernel(partial(kernels.gaussian, gamma=0.1), x)
    >>> kernel.columns([3]).shape, kernel.entries
    ((400, 1), 400)
    """

    make: KernelMaker
    x: da.Array
    sample: Kernel
    noise: float
    counter: EntryCounter = field(default_factory=EntryCounter)
    points: None = None
    symmetric: bool = True
    _seen: dict[int, Any] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int]:  # type: ignore[override]
        return self.x.shape[0], self.x.shape[0]

    @property
    def like(self) -> Any:
        return self.sample.like

    @property
    def _text(self) -> str:
        return f"chunked {self.sample._text} in {self.x.numblocks[0]} chunks"

    def gather(self, index: Index, /) -> Array:
        """The points at ``index``; those seen last are not asked for again.

        Parameters
        ----------
        index : 1-D array of int, or slice

        Returns
        -------
        NumPy array (l, d)

        Raises
        ------
        DTypeError, KindError, MemoryLimitError, RangeError, ShapeError
            Naming ``index``.
        """
        index = self._places(self._index("index", index, self.shape[0]))
        size = float(index.size) * self.x.shape[1] * self.x.dtype.itemsize
        require_room_here("index", size, f"{index.size} points", "fewer points")
        missing = np.asarray([i for i in np.unique(index) if i not in self._seen], dtype=np.int64)
        if missing.size:
            if (len(self._seen) + missing.size) * self.x.shape[1] > _REMEMBERED:
                self._seen.clear()
                missing = np.unique(index)
            self._seen.update(zip(missing.tolist(), take_points(self.x, missing), strict=True))
        found = [self._seen[i] for i in index.tolist()]
        return np.stack(found) if found else np.empty((0, self.x.shape[1]), dtype=self.x.dtype)

    def between(self, x: Array, z: Array, /) -> Array:
        for name, points in (("x", x), ("z", z)):
            floating(namespace(points=self.x._meta, **{name: points}), points=self.x._meta, **{name: points})
            if points.ndim != 2 or points.shape[1] != self.x.shape[1] or not points.shape[0]:
                needs = f"shape (m, {self.x.shape[1]}), not empty"
                raise ShapeError(name, f"of shape {tuple(points.shape)}", needs)
        self.counter.total += x.shape[0] * z.shape[0]
        return self.make(x, z).block(slice(None), slice(None))

    def cross(self, z: Array, /, rows: Index = slice(None)) -> Array:
        return self.between(self.gather(self._index("rows", rows, self.shape[0])), z)

    def _places(self, index: Index) -> Any:
        return np.arange(self.shape[0])[index] if isinstance(index, slice) else index

    def _block(self, rows: Index, columns: Index) -> Any:
        rows, columns = self._places(rows), self._places(columns)
        size = float(len(rows)) * len(columns) * self.dtype.itemsize
        what = f"a block of {len(rows)} × {len(columns)} entries"
        require_room_here("kernel", size, what, "fewer rows or columns at once")
        return self.make(self.gather(rows), self.gather(columns)).block(slice(None), slice(None))

    def _diagonal(self) -> Any:
        self.counter.total += self.shape[0]
        require_room_here("kernel", 8.0 * self.shape[0], "the diagonal", "fewer points")
        return np.concatenate(compute(each_chunk(diagonal_of, self.x, make=self.make)))


def chunked_kernel(make: KernelMaker, x: Points, /) -> ChunkedKernel:
    """The kernel matrix of points in chunks.

    Parameters
    ----------
    make : callable
        ``make(x)`` gives the kernel of some points, and ``make(x, z)`` that of two sets: a function of
        :mod:`~nystrom_numerics.kernels`, its options bound by ``functools.partial``.  It is sent to the workers.
    x : Dask array or dataframe (n, d), or NumPy array
        Real floating.  Chunks are of whole rows; of a dataframe the lengths of the partitions are computed.

    Returns
    -------
    ChunkedKernel

    Raises
    ------
    DTypeError, KindError, MemoryLimitError, NamespaceError, ShapeError
        Naming the argument; a chunk does not fit in the memory of a worker.  What ``make`` itself raises of its
        options.

    Notes
    -----
    Cost: one pass over the points, for the noise of the kernel: the largest of the chunks, where in memory it is
    that of the points about their common mean.  Entries differ from those in memory by rounding for the same
    reason.

    Examples
    --------
    >>> from functools import partial
    >>> import dask.array as da
    >>> from nystrom_numerics import kernels
    >>> from nystrom_numerics.integrations.dask import chunked_kernel
    >>> x = da.random.default_rng(0).standard_normal((1000, 3), chunks=(250, 3))
    >>> chunked_kernel(partial(kernels.gaussian, gamma=0.1), x)  # doctest: +ELLIPSIS
    <chunked gaussian(gamma=0.1) in 4 chunks of shape (1000, 1000), float64, noise 7...e-16, 0 entries evaluated>
    """
    require_callable(
        "make", make, "a callable that makes kernels, such as partial(kernels.gaussian, gamma=0.1)"
    )
    points = as_points("x", x)
    require_room_on_workers("x", points, 3 * points.shape[1], "a chunk and the kernel's copies of it")
    sample = _kernel_of(make, np.zeros((1, points.shape[1]), dtype=points.dtype))
    noise = max(compute(each_chunk(_noise, points, make=make)))
    return ChunkedKernel(make, points, sample, noise)


def _kernel_of(make: KernelMaker, *points: Any) -> Kernel:
    found = make(*points)
    if not isinstance(found, Kernel):
        raise KindError("make", f"one that gave a {type(found).__name__}", "a callable that makes kernels")
    return found


def _noise(x: Any, *, make: KernelMaker) -> float:
    return make(x).noise


def diagonal_of(x: Any, *, make: KernelMaker) -> Any:
    """The diagonal entries of the points of a chunk."""
    return make(x).diagonal()


def strips_of(make: KernelMaker, x: Any, z: Any) -> Iterator[tuple[slice, Any]]:
    """The entries of a chunk with points z (m, d), by strips of rows that a cache holds."""
    kernel = make(x, z)
    for strip in kernel.strips(z.shape[0]):
        yield strip, kernel.block(strip, slice(None))
