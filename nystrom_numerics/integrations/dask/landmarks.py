"""Landmarks of points in chunks: for one seed those that the rules of the same names pick in memory.

Draws are made here, in NumPy, by the code of :mod:`nystrom_numerics.landmarks`, from one number a point.  Indices by
:func:`uniform` are the same to the bit.  Those of the other rules hang on weights that are the same up to rounding,
since chunks are multiplied in other blocks: they differ where a draw, of 53 bits, falls within rounding of the
border between two points, and means differ by the rounding of their sums.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import dask
import dask.array as da
import numpy as np
from dask.delayed import delayed

from nystrom_numerics.arguments import require_count, require_instance
from nystrom_numerics.backend import compute_dtype, default_block, generator, require_finite
from nystrom_numerics.integrations.dask.chunks import (
    Points,
    as_points,
    compute,
    each_chunk,
    require_room_here,
    require_room_on_workers,
)
from nystrom_numerics.integrations.dask.kernel import ChunkedKernel, KernelMaker, diagonal_of, strips_of
from nystrom_numerics.landmarks import ColumnSubset, LandmarkPoints
from nystrom_numerics.landmarks.draws import require_landmarks
from nystrom_numerics.landmarks.entries import checked_diagonal
from nystrom_numerics.landmarks.factoring import Partial, begun
from nystrom_numerics.landmarks.points import below_one
from nystrom_numerics.landmarks.ridge import by_ridge_leverage, oversampled, ridge_system, scores_of_rows
from nystrom_numerics.landmarks.rounds import in_blocks
from nystrom_numerics.places import sum_by_label
from nystrom_numerics.solves import solve_lower

__all__ = ["accelerated_rpcholesky", "kmeans", "ridge_leverage", "uniform"]

_DRAWN = 2**20  # at once

# ---------------------------------------------------------------- rules on points


def uniform(x: Points, m: int, /, *, rng: np.random.Generator | int = 0) -> ColumnSubset:
    """m points uniformly at random, ascending: those of :func:`nystrom_numerics.landmarks.uniform`.

    Parameters
    ----------
    x : Dask array or dataframe (n, d), or NumPy array
    m : int
        From 1 to n.
    rng : numpy.random.Generator or int

    Returns
    -------
    ColumnSubset
        Indices (m,), in memory.

    Raises
    ------
    DTypeError, NamespaceError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: n draws, of which no more than m and a block are held; the points are not looked at.  The same indices as in
    memory, to the bit.

    Examples
    --------
    >>> import dask.array as da
    >>> from nystrom_numerics.integrations.dask import uniform
    >>> uniform(da.zeros((1000, 3), chunks=(250, 3)), 5, rng=0).indices.shape
    (5,)
    """
    points = as_points("x", x)
    m = require_landmarks(m, points.shape[0])
    source, seed = generator(rng)
    index, keys = np.empty(0, dtype=np.int64), np.empty(0)
    for start in range(0, points.shape[0], _DRAWN):
        drawn = source.random(min(_DRAWN, points.shape[0] - start))
        keys = np.concatenate([keys, drawn])
        index = np.concatenate([index, start + np.arange(len(drawn))])
        least = np.argsort(keys, kind="stable")[:m]  # of equal keys the first
        index, keys = index[least], keys[least]
    return ColumnSubset(np.sort(index), None, entries=0, seed=seed)


def kmeans(
    x: Points, m: int, /, *, iterations: int = 10, rng: np.random.Generator | int = 0
) -> LandmarkPoints:
    """k-means centres by the seeding and the updates of :func:`nystrom_numerics.landmarks.kmeans`.

    Parameters
    ----------
    x, m, rng
        As in :func:`uniform`.
    iterations : int
        Of Lloyd, at least 0.

    Returns
    -------
    LandmarkPoints
        Centres (m, d), in memory.

    Raises
    ------
    DTypeError, MemoryLimitError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: m passes over the points for the seeding, of nd operations and two round trips each, and one of nmd an
    iteration; a number a point is kept on the workers meanwhile.  The centres are those in memory up to rounding: a
    draw finds its chunk by the sums of the chunks and its point within, both in float64, and sums over a cluster
    are added up in float64, chunk after chunk.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> from nystrom_numerics.integrations.dask import kmeans
    >>> x = da.from_array(np.array([[0.0], [0.2], [5.0], [5.2]]), chunks=(2, 1))
    >>> np.sort(kmeans(x, 2).points.ravel()).round(3)
    array([0.1, 5.1])
    """
    points = as_points("x", x)
    m = require_landmarks(m, points.shape[0])
    iterations = require_count("iterations", iterations, 0)
    source, seed = generator(rng)
    require_room_on_workers("x", points, 3 * points.shape[1] + 4, "a chunk and its distances")
    centres, valid = _seeded(points, below_one(source.random(m)))
    for _ in range(iterations):
        found = compute(each_chunk(_sums, points, centres=centres, valid=valid))
        total = np.sum([one for one, _ in found], axis=0)
        count = np.sum([one for _, one in found], axis=0)[:, None]
        centres = np.where(count > 0, total / np.maximum(count, 1), centres).astype(centres.dtype)
    require_finite(np, x=centres)
    centres[~valid] = 0
    return LandmarkPoints(centres.astype(points.dtype), valid, entries=0, seed=seed)


def _seeded(x: da.Array, uniforms: Any) -> tuple[Any, Any]:
    """k-means++: a pass for the distances to the last centre, and one chunk for the point that is drawn."""
    weights: list[Any] = [None] * x.numblocks[0]
    totals = np.asarray(x.chunks[0], dtype=np.float64)
    blocks = x.to_delayed().ravel()
    centres: list[Any] = []
    valid = np.zeros(len(uniforms), dtype=bool)
    for j, uniform_draw in enumerate(uniforms):
        ends = np.cumsum(totals)
        valid[j] = ends[-1] > 0
        target = uniform_draw * ends[-1]
        c = min(int(np.count_nonzero(ends <= target)), len(ends) - 1)
        before = ends[c - 1] if c else 0.0
        (centre,) = compute([delayed(_drawn, pure=False)(blocks[c], weights[c], target - before)])
        require_finite(np, x=centre)
        centres.append(centre)
        if j + 1 < len(uniforms):
            weights = list(dask.persist(*each_chunk(_nearer, x, weights, origin=centres[0], centre=centre)))
            totals = np.asarray(compute([delayed(_total, pure=False)(w) for w in weights]))
            require_finite(np, x=totals)
    return np.stack(centres), valid


def _wide(x: Any) -> Any:
    return x.astype(compute_dtype(np, x.dtype), copy=False)


def _drawn(x: Any, weight: Any, target: float) -> Any:
    """The point of a chunk at which its cumulative weight passes the target."""
    cumulative = np.arange(1, len(x) + 1) if weight is None else np.cumsum(weight, dtype=np.float64)
    place = min(int(np.count_nonzero(cumulative <= target)), len(x) - 1)
    return np.array(_wide(x[place]))


def _nearer(x: Any, weight: Any, *, origin: Any, centre: Any) -> Any:
    """The squared distance of each point to the nearest centre; squares are expanded about the first."""
    moved, away = _wide(x) - origin, centre - origin
    sizes = np.vecdot(moved, moved) + away @ away
    distance = sizes - 2 * (moved @ away)
    distance = np.where(distance > 8 * np.finfo(moved.dtype).eps * sizes, distance, 0)
    return distance if weight is None else np.minimum(distance, weight)


def _total(weight: Any) -> float:
    return float(np.cumsum(weight, dtype=np.float64)[-1])


def _sums(x: Any, *, centres: Any, valid: Any) -> tuple[Any, Any]:
    """Sums and numbers of the points nearest to each centre, of a chunk, in float64."""
    x = _wide(x)
    half = np.where(valid, (centres * centres).sum(axis=1) / 2, np.inf).astype(centres.dtype)
    total, count = np.zeros(centres.shape), np.zeros(len(centres))
    block = 64 * default_block(len(x))
    for start in range(0, len(x), block):
        part = x[start : start + block]
        labels = np.concatenate(
            [np.argmax(part[i : i + 1024] @ centres.T - half, axis=1) for i in range(0, len(part), 1024)]
        )
        sums, numbers = sum_by_label(part, labels, len(centres))
        total += sums
        count += numbers
    return total, count


# ---------------------------------------------------------------- rules over a kernel


def ridge_leverage(
    kernel: ChunkedKernel,
    m: int,
    /,
    *,
    oversampling: float | None = None,
    rng: np.random.Generator | int = 0,
) -> ColumnSubset:
    """m points by recursive ridge leverage scores: those of :func:`nystrom_numerics.landmarks.ridge_leverage`.

    Parameters
    ----------
    kernel : ChunkedKernel
    m, oversampling, rng
        As in memory.

    Returns
    -------
    ColumnSubset
        Indices (m,), ascending, in memory.

    Raises
    ------
    IndefiniteError, KindError, MemoryLimitError, NonFiniteError, RangeError
        Naming the argument.

    Notes
    -----
    Cost: O(nm) kernel entries and O(nm²) multiplications on the workers, a pass over the chunks for each of the
    ⌈log₂(n/m)⌉ levels.  Here the order of the points, their scores and the draws: some 40 bytes a point, refused
    beyond the memory of this machine.  The draws are the code that serves in memory; scores agree up to rounding.

    Examples
    --------
    >>> from functools import partial
    >>> import dask.array as da
    >>> from nystrom_numerics import kernels
    >>> from nystrom_numerics.integrations.dask import chunked_kernel, ridge_leverage
    >>> x = da.random.default_rng(0).standard_normal((400, 3), chunks=(100, 3))
    >>> kernel = chunked_kernel(partial(kernels.gaussian, gamma=0.1), x)
    >>> ridge_leverage(kernel, 20).indices.shape
    (20,)
    """
    require_instance("kernel", kernel, ChunkedKernel)
    n = kernel.shape[0]
    m = require_landmarks(m, n)
    source, seed = generator(rng)
    c = oversampled(m, oversampling)
    require_room_here("kernel", 40.0 * n, f"the scores of {n} points", "uniform landmarks need none")
    before = kernel.entries
    checked_diagonal(kernel)
    chosen = by_ridge_leverage(n, m, c, source, partial(_scores, kernel))
    return ColumnSubset(np.asarray(chosen, dtype=np.int64), None, kernel.entries - before, seed)


def _scores(kernel: ChunkedKernel, points: Any, chosen: Any, weights: Any, *, k: int) -> Any:
    """What :func:`~nystrom_numerics.landmarks.ridge.ridge_scores` gives, by one pass over the chunks."""
    z = kernel.gather(chosen)
    scaled, ridge = ridge_system(kernel, chosen, weights, k)
    taken = np.zeros(kernel.shape[0], dtype=bool)
    taken[points] = True
    bits = [np.packbits(one) for one in np.split(taken, np.cumsum(kernel.x.chunks[0])[:-1])]
    shared = {"make": kernel.make, "z": z, "scaled": scaled, "ridge": ridge}
    found = np.zeros(kernel.shape[0])
    found[taken] = np.concatenate(compute(each_chunk(_chunk_scores, kernel.x, bits, **shared)))
    kernel.counter.total += len(points) * len(z)
    return found[points]


def _chunk_scores(x: Any, bits: Any, *, make: KernelMaker, z: Any, scaled: Any, ridge: float) -> Any:
    x = x[np.unpackbits(bits, count=len(x)).astype(bool)]
    if not len(x):
        return np.empty(0)
    diagonal = diagonal_of(x, make=make).astype(np.float64)
    found = [
        scores_of_rows(entries, diagonal[part], scaled, ridge) for part, entries in strips_of(make, x, z)
    ]
    return np.concatenate(found)


def accelerated_rpcholesky(
    kernel: ChunkedKernel,
    m: int,
    /,
    *,
    block: int | None = None,
    rng: np.random.Generator | int = 0,
    rtol: float | None = None,
) -> ColumnSubset:
    """m pivots by randomly pivoted Cholesky: those of :func:`nystrom_numerics.landmarks.accelerated_rpcholesky`.

    Parameters
    ----------
    kernel : ChunkedKernel
    m, block, rng, rtol
        As in memory.

    Returns
    -------
    ColumnSubset
        In the order picked, with the residual diagonal and without the factor.

    Raises
    ------
    IndefiniteError, KindError, MemoryLimitError, NonFiniteError, RangeError
        Naming the argument.

    Notes
    -----
    Draws, acceptance and checks are the code that serves in memory.  Departure: no columns are kept, neither here
    nor on the workers, which for n = 2·10⁷ and m = 256 would be 20 GB in float32.  A round makes those so far anew:
    for r pivots then nr kernel entries and nr² multiplications, which for R rounds adds up to at most R times what
    it costs in memory, and to about half of that.  Here the residual diagonal and its cumulative sum are held, some
    32 bytes a point.

    Examples
    --------
    >>> from functools import partial
    >>> import dask.array as da
    >>> from nystrom_numerics import kernels
    >>> from nystrom_numerics.integrations.dask import accelerated_rpcholesky, chunked_kernel
    >>> x = da.random.default_rng(0).standard_normal((400, 3), chunks=(100, 3))
    >>> kernel = chunked_kernel(partial(kernels.gaussian, gamma=0.1), x)
    >>> accelerated_rpcholesky(kernel, 20).indices.shape
    (20,)
    """
    require_instance("kernel", kernel, ChunkedKernel)
    m = require_landmarks(m, kernel.shape[0])
    source, seed = generator(rng)
    width = kernel.x.shape[1]
    what = f"the residual diagonal of {kernel.shape[0]} points"
    require_room_here("kernel", 32.0 * kernel.shape[0], what, "uniform landmarks need none")
    require_room_here(
        "m", 3.0 * m * (m + width) * kernel.dtype.itemsize, f"a core of {m}²", "fewer landmarks"
    )
    none = np.zeros((0, width), dtype=kernel.x.dtype)
    a = begun(_Recomputed, kernel, m, rtol, z=none, triangle=np.zeros((0, 0), dtype=kernel.dtype))
    in_blocks(a, m, block, source, None)
    entries = kernel.entries - a.before
    return ColumnSubset(a.pivots, None, entries, seed, residual=a.residual)


@dataclass(kw_only=True)
class _Recomputed(Partial):
    """A factorisation whose columns are made anew from the points ``z`` of the pivots and the ``triangle``."""

    kernel: ChunkedKernel
    z: Any
    triangle: Any

    def rows(self, index: Any, width: int) -> Any:
        if not width:
            return np.zeros((len(index), 0), dtype=self.kernel.dtype)
        entries = self.kernel.between(self.kernel.gather(index), self.z[:width])
        return solve_lower(self.triangle[:width, :width], entries)

    def extend(self, pivots: Any, triangle: Any) -> Any:
        rank, added = self.rank, len(pivots)
        grown = np.zeros((rank + added, rank + added), dtype=self.kernel.dtype)
        grown[:rank, :rank] = self.triangle
        grown[rank:, :rank] = self.rows(pivots, rank)
        grown[rank:, rank:] = triangle
        self.z, self.triangle = np.concatenate([self.z, self.kernel.gather(pivots)]), grown
        shared = {"make": self.kernel.make, "z": self.z, "triangle": grown, "first": rank}
        self.kernel.counter.total += self.kernel.shape[0] * len(self.z)
        return self.residual - np.concatenate(compute(each_chunk(_squares, self.kernel.x, **shared)))


def _squares(x: Any, *, make: KernelMaker, z: Any, triangle: Any, first: int) -> Any:
    """The squared lengths of the rows of the factor of a chunk, from column ``first`` on."""
    taken = np.empty(len(x), dtype=triangle.dtype)
    for strip, entries in strips_of(make, x, z):
        columns = solve_lower(triangle, entries)[:, first:]
        taken[strip] = (columns * columns).sum(axis=1)
    return taken
