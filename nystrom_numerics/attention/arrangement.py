r"""Tokens in blocks of balanced size that are alike: a balanced tree whose nodes are cut by position or by content."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nystrom_numerics.backend import Array, device_of
from nystrom_numerics.landmarks import segment_means
from nystrom_numerics.landmarks.result import take_rows
from nystrom_numerics.landmarks.tokens import segments

__all__ = ["Blocks", "arrange", "in_blocks", "slots"]

RUNS = 64
"""Runs of consecutive tokens a block from which a tree is made: its cost does not grow with the number of tokens."""


@dataclass(frozen=True)
class Blocks:
    """Balanced blocks of the first ``count`` tokens of an order.

    Attributes
    ----------
    token : array (..., b, l) of int64
        Which token stands in each slot; any real one where there is none.
    there : array (..., b, l) of bool
        Whether a token stands there.
    slot : array (..., n) of int64
        In which of the b · l slots each token stands; meaningless for tokens that do not count.
    """

    token: Array
    there: Array
    slot: Array


def slots(xp: Any, like: Array, n: int, count: Array | int, blocks: int) -> tuple[Array, Array]:
    """Ranks of the first ``count`` of n tokens in balanced blocks, (..., b, ⌈n/b⌉), and whether one stands there."""
    start, stop = segments(xp, like, count, blocks)
    rank = start[..., None] + xp.arange(-(-n // blocks), dtype=xp.int64, device=device_of(like))
    there = rank < stop[..., None]
    return xp.where(there, rank, xp.zeros_like(rank)), there


def in_blocks(xp: Any, order: Array, count: Array | int, blocks: int) -> Blocks:
    """The first ``count``, an int or (..., 1), tokens of ``order`` (..., n), in blocks of as good as equal size."""
    n, batch, device = order.shape[-1], order.shape[:-1], device_of(order)
    rank, there = (xp.broadcast_to(x, (*batch, *x.shape[-2:])) for x in slots(xp, order, n, count, blocks))
    token = xp.take_along_axis(order, xp.reshape(rank, (*batch, -1)), axis=-1)
    place = xp.argsort(order, axis=-1, stable=True)  # the rank of every token
    size = xp.asarray(count, dtype=xp.int64, device=device) if isinstance(count, int) else count
    block = xp.clip(place * blocks // xp.where(size > 0, size, xp.ones_like(size)), max=blocks - 1)
    first = xp.take_along_axis(rank[..., 0], block, axis=-1)
    slot = xp.clip(block * rank.shape[-1] + place - first, max=blocks * rank.shape[-1] - 1)
    return Blocks(xp.reshape(token, rank.shape), there, slot)


def arrange(xp: Any, x: Array, count: Array | int, leaves: int, metric: Array, position: float) -> Array:
    r"""An order (..., n) of the tokens x (..., n, d) whose balanced parts are alike in ``metric`` (..., d, d).

    A balanced tree: every node is cut in two equal halves, either where its tokens stand, or by content, the latter
    where the squared distance of the halves' means is more than ``position`` times as large.  Within a half
    tokens keep their order; if ``position`` is 0 they stand along the line of the cut, so that their order is of no
    effect.  A cut by content goes along the coordinate that spreads most and then along the line through the
    halves' means (balanced 2-means, one step).  Distances are :math:`\delta^TM\delta`.

    The tree is made from the means of at most ``RUNS * leaves`` runs of tokens, which it keeps together.
    """
    n, device = x.shape[-2], device_of(x)
    batch = x.shape[:-2]
    runs = min(n, RUNS * leaves)
    rank = xp.arange(n, dtype=xp.int64, device=device)
    if isinstance(count, int):
        means, real = segment_means(x, runs).points, runs
        of = rank * runs // count
    else:
        found = segment_means(x, runs, mask=rank < count)
        assert found.valid is not None
        first = xp.argsort(xp.astype(~found.valid, xp.int64), axis=-1, stable=True)
        means = take_rows(found.points, first)
        real = xp.minimum(count, xp.full_like(count, runs))
        of = xp.clip(rank * real // xp.where(count > 0, count, xp.ones_like(count)), max=runs - 1)
    order = _tree(xp, means, real, leaves, metric, position)
    if isinstance(count, int) and runs == n:
        return order
    place = xp.argsort(order, axis=-1, stable=True)
    key = xp.take_along_axis(place, xp.broadcast_to(of, (*batch, n)), axis=-1)
    key = xp.where(rank < count, key, xp.full_like(key, runs))
    return xp.argsort(key, axis=-1, stable=True)


def _tree(xp: Any, x: Array, count: Array | int, leaves: int, metric: Array, position: float) -> Array:
    n = x.shape[-2]
    rank = xp.arange(n, dtype=xp.int64, device=device_of(x))
    order = xp.broadcast_to(rank, x.shape[:-1])
    parts = 1
    while parts < leaves:
        nodes = in_blocks(xp, order, count, parts)
        shape = nodes.token.shape
        y = take_rows(x, xp.reshape(nodes.token, (*shape[:-2], -1)))
        y = xp.reshape(y, (*shape, x.shape[-1]))
        place = _places(xp, y, nodes.there, metric[..., None, :, :], position)
        within = xp.argsort(xp.where(nodes.there, place, xp.full_like(place, 2 * n)), axis=-1, stable=True)
        token = xp.take_along_axis(nodes.token, within, axis=-1)
        # slots in the order of ranks: what stood at rank r is replaced by what stands there now
        at = xp.take_along_axis(nodes.slot, order, axis=-1)
        moved = xp.take_along_axis(xp.reshape(token, (*shape[:-2], -1)), at, axis=-1)
        order = xp.where(rank < count, moved, order)
        parts *= 2
    return order


def _places(xp: Any, y: Array, there: Array, metric: Array, position: float) -> Array:
    """Where the tokens of every node, y (..., p, l, d), are to stand, those of the first half first: (..., p, l)."""
    size = xp.sum(xp.astype(there, xp.int64), axis=-1, keepdims=True)
    half = (size + 1) // 2
    slot = xp.arange(there.shape[-1], dtype=xp.int64, device=device_of(y))
    stay = xp.broadcast_to(slot, there.shape)

    def between(high: Array) -> Array:
        """The difference of the halves' means, (..., p, d)."""
        weights = xp.astype(xp.stack([there & ~high, there & high], axis=-2), y.dtype)
        total = xp.sum(weights, axis=-1, keepdims=True)
        means = (weights @ y) / xp.where(total > 0, total, xp.ones_like(total))
        return means[..., 1, :] - means[..., 0, :]

    def along(direction: Array) -> Array:
        scores = (y @ direction[..., None])[..., 0]
        scores = xp.where(there, scores, xp.full_like(scores, xp.inf))
        return xp.argsort(xp.argsort(scores, axis=-1, stable=True), axis=-1, stable=True)

    def times_metric(delta: Array) -> Array:
        return (delta[..., None, :] @ metric)[..., 0, :]

    apart = along(times_metric(between(along(_widest(xp, y, there, metric)) >= half)))
    if position == 0:
        return apart
    by_content, by_position = between(apart >= half), between(stay >= half)
    content, place = (xp.sum(times_metric(x) * x, axis=-1, keepdims=True) for x in (by_content, by_position))
    moved = xp.where(apart >= half, stay + stay.shape[-1], stay)
    return xp.where(content > position * place, moved, stay)


def _widest(xp: Any, y: Array, there: Array, metric: Array) -> Array:
    """The coordinate that spreads most in every node, as a direction (..., p, d)."""
    weights = xp.astype(there, y.dtype)
    total = xp.sum(weights, axis=-1)[..., None]
    mean = (weights[..., None, :] @ y)[..., 0, :] / xp.where(total > 0, total, xp.ones_like(total))
    centred = xp.where(there[..., None], y - mean[..., None, :], xp.zeros_like(y))
    spread = xp.sum(centred * centred, axis=-2) * xp.linalg.diagonal(metric)
    columns = xp.arange(y.shape[-1], dtype=xp.int64, device=device_of(y))
    return xp.astype(columns == xp.argmax(spread, axis=-1, keepdims=True), y.dtype)
