"""Landmarks by the geometry of the points: segment means, k-means, farthest point."""

from __future__ import annotations

from typing import Any

import numpy as np

from nystrom_numerics.arguments import require_count
from nystrom_numerics.backend import Array, compute_dtype, default_block, device_of, from_numpy, generator
from nystrom_numerics.landmarks.result import ColumnSubset, LandmarkPoints, take_rows
from nystrom_numerics.landmarks.tokens import check_arguments, real_tokens, segments
from nystrom_numerics.linalg import transpose
from nystrom_numerics.places import gathered, rows_of, sum_by_label

__all__ = ["below_one", "farthest", "kmeans", "segment_means"]


def segment_means(
    x: Array, m: int, /, *, mask: Array | None = None, check_finite: bool = False
) -> LandmarkPoints:
    r"""Means of m contiguous segments of tokens, the paper's landmarks.

    .. math:: \tilde x_s = \frac{1}{|I_s|}\sum_{i \in I_s} x_i,\qquad
              I_s = \{i : \lfloor r_i m/n\rfloor = s\},

    with r_i the rank of token i among the n real ones.  Segments are balanced, so any n is served
    without padding; for m | n they are the paper's.  (Eq. (16) as printed divides by m; it must be the
    segment's length.)

    Parameters
    ----------
    x : array (..., n, d)
        Tokens, real floating; sums of 16-bit dtypes are made in float32.
    m : int
        Landmarks, 1 <= m <= n.
    mask : array of bool, broadcastable to (..., n), optional
        True for real tokens; the means are over these only.  A segment without one (fewer than m real
        tokens) yields no landmark.
    check_finite : bool
        Raise on NaN and infinity in ``x``.

    Returns
    -------
    LandmarkPoints

    Raises
    ------
    DTypeError, DeviceError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: nd additions, no kernel entries.  Source: Xiong et al. 2021, §3.2, eq. (16).

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import landmarks
    >>> landmarks.segment_means(np.array([[0.0], [2.0], [4.0], [6.0], [8.0]]), 2).points
    array([[2.],
           [7.]])
    """
    xp, mask = check_arguments(x, m, mask, check_finite)
    n, dtype = x.shape[-2], compute_dtype(xp, x.dtype)
    if mask is None:
        means = _means_of_all(xp, xp.astype(x, dtype, copy=False), m)
        return LandmarkPoints(xp.astype(means, x.dtype, copy=False), None, entries=0, seed=None)

    order, count = real_tokens(xp, mask)
    start, stop = segments(xp, x, count, m)
    longest = (n + m - 1) // m  # not −(−n // m): ONNX divides a traced length towards zero
    ranks = start[..., None] + xp.arange(longest, dtype=xp.int64, device=device_of(x))
    inside = ranks < stop[..., None]
    order = xp.broadcast_to(order[..., None, :], (*start.shape, n))
    places = gathered(xp, order, xp.where(inside, ranks, xp.zeros_like(ranks)))
    members = xp.astype(take_rows(x[..., None, :, :], places), dtype, copy=False)  # (..., m, longest, d)
    total = xp.sum(xp.where(inside[..., None], members, xp.zeros_like(members)), axis=-2)
    length = stop - start
    means = total / xp.astype(xp.where(length > 0, length, xp.ones_like(length)), dtype)[..., None]
    return LandmarkPoints(xp.astype(means, x.dtype, copy=False), length > 0, entries=0, seed=None)


def _means_of_all(xp: Any, x: Array, m: int) -> Array:
    """Means of balanced segments of all tokens: by a product, which reads memory faster than a reduction does.

    Segments have ⌊n/m⌋ tokens, and some one more, which is added by itself.
    """
    n, d = x.shape[-2:]
    device, short = device_of(x), n // m
    ones = xp.ones((1, short), dtype=x.dtype, device=device)
    if isinstance(n, int) and n % m == 0:  # a length that is traced is none: one graph serves all
        return ((ones / short) @ xp.reshape(x, (*x.shape[:-2], m, short, d)))[..., 0, :]
    start, stop = segments(xp, x, n, m)
    firsts = xp.reshape(start[:, None] + xp.arange(short, dtype=xp.int64, device=device), (m * short,))
    total = (ones @ xp.reshape(rows_of(xp, x, firsts, -2), (*x.shape[:-2], m, short, d)))[..., 0, :]
    longer = xp.astype(stop - start > short, x.dtype)[:, None]
    return (total + longer * rows_of(xp, x, stop - 1, -2)) / (short + longer)


def kmeans(
    x: Array,
    m: int,
    /,
    *,
    mask: Array | None = None,
    iterations: int = 10,
    rng: np.random.Generator | int = 0,
    check_finite: bool = False,
) -> LandmarkPoints:
    r"""k-means centres: k-means++ seeding, then Lloyd's iteration.

    Seeding draws each next centre with probability proportional to the squared distance to the nearest
    centre so far; Lloyd alternates assignment and means.  An empty cluster keeps its centre.

    Parameters
    ----------
    x, m, mask, check_finite
        As in :func:`segment_means`.
    iterations : int
        Lloyd iterations, at least 0; a fixed number, so nothing synchronises with the device.
    rng : numpy.random.Generator or int
        All items of a batch share the same m uniform draws, so that none depends on its batch-mates.

    Returns
    -------
    LandmarkPoints
        Fewer distinct tokens than m leave the rest not valid.

    Raises
    ------
    DTypeError, DeviceError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: nmd for the seeding and nmd an iteration, memory O(nd + md) and one block; no kernel entries.
    Sources: Arthur and Vassilvitskii 2007 (E SSE within 8(ln m + 2) of the optimum after seeding); the
    approximation error is bounded through the quantisation error, Zhang, Tsang and Kwok 2008.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import landmarks
    >>> landmarks.kmeans(np.array([[0.0], [0.2], [5.0], [5.2]]), 2).points.round(3).ravel()
    array([5.1, 0.1])
    """
    xp, mask = check_arguments(x, m, mask, check_finite)
    require_count("iterations", iterations, 0)
    source, seed = generator(rng)
    dtype = compute_dtype(xp, x.dtype)
    points = xp.astype(x, dtype, copy=False)
    if mask is not None:  # whatever padding holds, NaN included, must not reach a sum
        points = xp.where(mask[..., None], points, xp.zeros_like(points))
    centres, valid = _seed(xp, points, mask, from_numpy(xp, below_one(source.random(m)), x))
    padded = xp.concat([points, -xp.ones_like(points[..., :1])], axis=-1)
    for _ in range(iterations):
        centres = _lloyd(xp, points, padded, mask, centres, valid)
    centres = xp.where(valid[..., None], centres, xp.zeros_like(centres))
    return LandmarkPoints(xp.astype(centres, x.dtype, copy=False), valid, entries=0, seed=seed)


def below_one(uniforms: Any) -> Any:
    """Uniform draws that times a total, in float64, stay below it."""
    return np.minimum(uniforms, 1 - 2.0**-52)


def _squares(xp: Any, x: Array) -> tuple[Array, float]:
    """Squared lengths, and which part of a sum of two of them is a squared distance of zero up to rounding."""
    return xp.vecdot(x, x), 8 * float(xp.finfo(x.dtype).eps)


def _distances(xp: Any, x: Array, squares: Array, level: float, chosen: Array) -> Array:
    """Squared distances of tokens (..., n, d) to the ones at ``chosen`` (..., 1), by one product with a vector."""
    sizes = squares + xp.take_along_axis(squares, chosen, axis=-1)
    away = sizes - 2 * (x @ transpose(take_rows(x, chosen)))[..., 0]
    return xp.where(away > level * sizes, away, xp.zeros_like(away))


def _seed(xp: Any, x: Array, mask: Array | None, uniforms: Array) -> tuple[Array, Array]:
    """k-means++ by inversion of the cumulative weights; masked tokens weigh nothing.

    Weights are added up in float64: in float32 the last of 2²⁴ equal ones would add nothing.
    """
    n = x.shape[-2]
    weight = xp.ones_like(x[..., 0])
    if mask is not None:
        weight = xp.where(mask, weight, xp.zeros_like(weight))
    centres, valid = [], []
    moved = x
    for j in range(uniforms.shape[0]):
        cumulative = xp.cumulative_sum(xp.astype(weight, xp.float64), axis=-1)
        total = cumulative[..., -1:]
        position = xp.count_nonzero(cumulative <= uniforms[j] * total, axis=-1, keepdims=True)
        position = xp.clip(position, 0, n - 1)
        if j == 0:  # squares are expanded about the first centre
            moved = x - take_rows(x, position)
            squares, level = _squares(xp, moved)
        distance = _distances(xp, moved, squares, level, position)
        weight = xp.minimum(distance, weight) if j else xp.where(weight > 0, distance, weight)
        centres.append(take_rows(x, position))
        valid.append(total > 0)
    return xp.concat(centres, axis=-2), xp.concat(valid, axis=-1)


def _lloyd(xp: Any, x: Array, padded: Array, mask: Array | None, centres: Array, valid: Array) -> Array:
    """One assignment and one update, over blocks of tokens; ``padded`` is x with a column of −1."""
    n, m = x.shape[-2], centres.shape[-2]
    half_square = xp.sum(centres * centres, axis=-1) / 2
    half_square = xp.where(valid, half_square, xp.full_like(half_square, xp.inf))[..., None]
    across = transpose(xp.concat([centres, half_square], axis=-1))
    nearest = []
    block = default_block(n)
    for i in range(0, n, block):
        nearest.append(xp.argmax(padded[..., i : min(i + block, n), :] @ across, axis=-1))
    labels = xp.concat(nearest, axis=-1)
    if mask is not None:
        labels = xp.where(mask, labels, xp.full_like(labels, m))
    total, count = sum_by_label(x, labels, m)
    count = count[..., None]
    return xp.where(count > 0, total / xp.where(count > 0, count, xp.ones_like(count)), centres)


def farthest(x: Array, m: int, /, *, mask: Array | None = None, check_finite: bool = False) -> ColumnSubset:
    r"""Farthest-point sampling: the first real token, then each time the one farthest from those before.

    Indices come in the order picked; fewer distinct tokens than m leave the rest not valid.

    Cost: nmd, memory O(nd); no kernel entries, no synchronisation.  The cover radius is at most twice the
    best possible with m centres (Gonzalez 1985).  Over a kernel see :func:`farthest_point`.

    Parameters
    ----------
    x, m, mask, check_finite
        As in :func:`segment_means`.

    Returns
    -------
    ColumnSubset
        Indices (..., m) in the order picked; fewer distinct tokens than m leave the rest not valid.

    Raises
    ------
    DTypeError, DeviceError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import landmarks
    >>> landmarks.farthest(np.array([[0.0], [1.0], [5.0], [3.0]]), 3).indices
    array([0, 2, 3])
    """
    xp, mask = check_arguments(x, m, mask, check_finite)
    dtype = compute_dtype(xp, x.dtype)
    points = xp.astype(x, dtype, copy=False)
    distance = xp.full_like(points[..., 0], xp.inf)
    if mask is not None:  # whatever padding holds, NaN included, must not reach a distance
        points = xp.where(mask[..., None], points, xp.zeros_like(points))
        distance = xp.where(mask, distance, xp.zeros_like(distance))
    # squares are expanded about the first landmark, so that each step is one product with a vector
    points = points - take_rows(points, xp.argmax(distance, axis=-1, keepdims=True))
    squares, level = _squares(xp, points)
    indices, valid = [], []
    for _ in range(m):
        chosen = xp.argmax(distance, axis=-1, keepdims=True)
        apart = xp.take_along_axis(distance, chosen, axis=-1) > 0
        distance = xp.minimum(distance, _distances(xp, points, squares, level, chosen))
        indices.append(xp.where(apart, chosen, xp.zeros_like(chosen)))
        valid.append(apart)
    return ColumnSubset(xp.concat(indices, axis=-1), xp.concat(valid, axis=-1), entries=0, seed=None)
