"""The Nyström factor of points in chunks, as a Dask array that is made where it is used."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import dask.array as da
import numpy as np

from nystrom_numerics.arguments import require_indices, require_instance, require_tolerance
from nystrom_numerics.backend import require_finite
from nystrom_numerics.brief import brief
from nystrom_numerics.errors import RangeError, ShapeError
from nystrom_numerics.integrations.dask.chunks import (
    Points,
    as_points,
    compute,
    is_chunked,
    require_room_here,
    require_room_on_workers,
)
from nystrom_numerics.integrations.dask.kernel import ChunkedKernel, KernelMaker, diagonal_of, strips_of
from nystrom_numerics.landmarks import ColumnSubset, LandmarkPoints
from nystrom_numerics.landmarks.result import require_found
from nystrom_numerics.lowrank.nystrom import core_pivots
from nystrom_numerics.solves import solve_lower

__all__ = ["ChunkedFactor", "nystrom_factor"]


@dataclass(frozen=True, eq=False)
class ChunkedFactor:
    r"""The Nyström approximation :math:`\hat A = FF^T` of points in chunks; :func:`nystrom_factor` makes it.

    Attributes
    ----------
    factor : Dask array (n, r)
        F, in the chunks of the points.  Nothing of it is computed, or kept, until it is asked for.
    landmarks : LandmarkPoints or ColumnSubset
        Those it was built from.
    points : array (r, d)
        The landmarks that the core kept, in the order of its pivots.
    kept : array (r,) of int64
        Which of the landmarks these are.
    triangle : array (r, r)
        The Cholesky factor of their core, lower triangular.
    kernel : ChunkedKernel

    Examples
    --------
    >>> from functools import partial
    >>> import dask.array as da
    >>> from nystrom_numerics import kernels
    >>> from nystrom_numerics.integrations.dask import chunked_kernel, nystrom_factor, uniform
    >>> x = da.random.default_rng(0).standard_normal((400, 3), chunks=(100, 3))
    >>> factor = nystrom_factor(chunked_kernel(partial(kernels.gaussian, gamma=0.1), x), uniform(x, 20))
    >>> factor.shape, factor.rank, factor.features(x[:5].compute()).shape
    ((400, 400), 20, (5, 20))
    """

    factor: da.Array
    landmarks: LandmarkPoints | ColumnSubset
    points: Any
    kept: Any
    triangle: Any
    kernel: ChunkedKernel

    __repr__ = brief

    @property
    def shape(self) -> tuple[int, int]:
        return self.kernel.shape

    @property
    def rank(self) -> int:
        return int(self.triangle.shape[0])

    @property
    def residual(self) -> da.Array:
        r"""The diagonal of :math:`A - \hat A`, a Dask array (n,); a negative entry, of rounding alone, is zero."""
        shared = {"make": self.kernel.make, "z": self.points, "triangle": self.triangle}
        work = partial(_residual, **shared)
        return self.kernel.x.map_blocks(
            work, drop_axis=1, dtype=self.triangle.dtype, meta=np.empty(0, self.triangle.dtype)
        )

    def trace_residual(self) -> float:
        r""":math:`\mathrm{tr}(A - \hat A)`, computed now: one pass, of nr kernel entries, nr² multiplications.

        It bounds every unitarily invariant norm of the residual.

        Returns
        -------
        float
        """
        (trace,) = compute([self.residual.sum(dtype=np.float64)])
        return float(trace)

    def features(self, x: Points, /) -> Any:
        """The rows of F that points would have.

        Parameters
        ----------
        x : Dask array or dataframe (l, d), or NumPy array

        Returns
        -------
        array (l, r)
            A Dask array for one, NumPy for NumPy.

        Raises
        ------
        DTypeError, MemoryLimitError, NamespaceError, ShapeError
            Naming ``x``.  NonFiniteError where an entry turns out not to be finite, when it is computed.
        """
        points = as_points("x", x, lengths=False)
        width = self.kernel.x.shape[1]
        if points.shape[1] != width:
            raise ShapeError("x", f"of shape {points.shape}", f"shape (l, {width})")
        if points.dtype != self.kernel.x.dtype:
            points = points.astype(self.kernel.x.dtype)
        found = features_of(self.kernel.make, points, self.points, self.triangle)
        return found if is_chunked(x) else found.compute()


def nystrom_factor(
    kernel: ChunkedKernel, landmarks: LandmarkPoints | ColumnSubset, /, *, rtol: float | None = None
) -> ChunkedFactor:
    """The Nyström approximation from any landmarks, as :func:`nystrom_numerics.lowrank.nystrom_factor` is in memory.

    Parameters
    ----------
    kernel : ChunkedKernel
    landmarks : LandmarkPoints or ColumnSubset
        Without a batch, from here or from memory; a factor that a subset carries is not used.
    rtol : float, optional
        Where the core is truncated, as in memory.

    Returns
    -------
    ChunkedFactor

    Raises
    ------
    IndefiniteError, KindError, MemoryLimitError, NonFiniteError, RangeError, ShapeError
        The core is not PSD, or naming the argument; a chunk of F would not fit on a worker.

    Notes
    -----
    Cost: m² kernel entries now, and nr with nr² multiplications each time that F is computed.  F is worth keeping, by
    ``persist()`` or ``to_zarr()``, where nr numbers fit; sums over its rows, as ridge regression takes, need not
    keep it.

    Examples
    --------
    >>> from functools import partial
    >>> import dask.array as da
    >>> from nystrom_numerics import kernels
    >>> from nystrom_numerics.integrations.dask import accelerated_rpcholesky, chunked_kernel, nystrom_factor
    >>> x = da.random.default_rng(0).standard_normal((1000, 3), chunks=(250, 3))
    >>> kernel = chunked_kernel(partial(kernels.gaussian, gamma=0.1), x)
    >>> factor = nystrom_factor(kernel, accelerated_rpcholesky(kernel, 40))
    >>> factor.factor
    dask.array<_features, shape=(1000, 40), dtype=float64, chunksize=(250, 40), chunktype=numpy.ndarray>
    >>> factor.trace_residual() < 0.02 * 1000
    True
    """
    require_instance("kernel", kernel, ChunkedKernel)
    require_found("landmarks", landmarks)
    if rtol is not None:
        rtol = require_tolerance("rtol", rtol)
    points = _points(kernel, landmarks)
    m = len(points)
    require_room_here("landmarks", 4.0 * 8 * m * m, f"a core of {m}²", "fewer landmarks")
    core = kernel.between(points, points) if m else np.zeros((0, 0), dtype=kernel.dtype)
    kept, triangle = core_pivots(np, core, rtol)
    points = points[kept]
    factor = features_of(kernel.make, kernel.x, points, triangle)
    return ChunkedFactor(factor, landmarks, points, kept, triangle, kernel)


def _points(kernel: ChunkedKernel, landmarks: LandmarkPoints | ColumnSubset) -> Any:
    if landmarks.valid is not None and not np.all(landmarks.valid):
        raise RangeError("landmarks", "a set of which some are not valid", "landmarks that all exist")
    if isinstance(landmarks, ColumnSubset):
        if landmarks.indices.ndim != 1 or not isinstance(landmarks.indices, np.ndarray):
            raise ShapeError(
                "landmarks", f"of shape {tuple(landmarks.indices.shape)}", "NumPy's, of shape (m,)"
            )
        if landmarks.factor is not None and landmarks.factor.shape[0] != kernel.shape[0]:
            got = f"a subset with a factor of {landmarks.factor.shape[0]} rows"
            raise ShapeError("landmarks", got, f"one of the kernel's {kernel.shape[0]} points")
        return kernel.gather(require_indices("landmarks", landmarks.indices, kernel.shape[0]))
    points, width = landmarks.points, kernel.x.shape[1]
    if points.ndim != 2 or points.shape[1] != width or not isinstance(points, np.ndarray):
        raise ShapeError("landmarks", f"of shape {tuple(points.shape)}", f"NumPy's, of shape (m, {width})")
    return points.astype(kernel.x.dtype, copy=False)


def features_of(make: KernelMaker, x: da.Array, z: Any, triangle: Any) -> da.Array:
    """The rows of F of points in chunks, lazily."""
    r = len(triangle)
    require_room_on_workers("x", x, r + 3 * x.shape[1], f"a chunk of {r} features")
    work = partial(_features, make=make, z=z, triangle=triangle)
    meta = np.empty((0, r), dtype=triangle.dtype)
    return x.map_blocks(work, chunks=(x.chunks[0], (r,)), dtype=meta.dtype, meta=meta)


def _features(x: Any, *, make: KernelMaker, z: Any, triangle: Any) -> Any:
    found = np.empty((len(x), len(triangle)), dtype=triangle.dtype)
    if len(z):
        for strip, entries in strips_of(make, x, z):
            found[strip] = solve_lower(triangle, entries)
    require_finite(np, kernel=found)
    return found


def _residual(x: Any, *, make: KernelMaker, z: Any, triangle: Any) -> Any:
    rows = _features(x, make=make, z=z, triangle=triangle)
    return np.maximum(diagonal_of(x, make=make) - (rows * rows).sum(axis=1), 0)
