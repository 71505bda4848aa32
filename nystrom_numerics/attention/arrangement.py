r"""Tokens in blocks of balanced size that are alike: a balanced tree whose nodes are cut by position or by content."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nystrom_numerics.backend import Array, device_of, in_order
from nystrom_numerics.landmarks import segment_means
from nystrom_numerics.landmarks.result import take_rows
from nystrom_numerics.landmarks.tokens import segments
from nystrom_numerics.linalg import all_finite, binary_scale, transpose

__all__ = ["Blocks", "arrange", "directions", "in_blocks", "slots"]

RUNS, AXES = 64, 16
"""Runs of consecutive tokens a block from which a tree is made, and the directions in which it looks at them."""

STEPS = 128.0
"""Steps from the middle of a node to its end: tokens of one step count as equal and stay in their order."""


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


def arrange(xp: Any, x: Array, count: Array | int, leaves: int, directions: Array, position: float) -> Array:
    r"""An order (..., n) of the tokens x (..., n, d) whose balanced parts are alike in ``directions`` (..., d, r).

    A balanced tree: every node is cut in two equal halves, either where its tokens stand, or by content, the latter
    where the squared distance of the halves' means is more than ``position`` times as large.  Within a half
    tokens keep their order; if ``position`` is 0 they stand along the line of the cut, so that their order is of no
    effect.  A cut by content goes along the direction that spreads most and then along the line through the
    halves' means (balanced 2-means, one step).

    The tree is made from the means of at most ``RUNS * leaves`` runs of tokens, which it keeps together: its cost does
    not grow with n.
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
    order = _tree(xp, means @ directions, real, leaves, position)
    if isinstance(count, int) and runs == n:
        return order
    place = xp.argsort(order, axis=-1, stable=True)
    key = xp.take_along_axis(place, xp.broadcast_to(of, (*batch, n)), axis=-1)
    key = xp.where(rank < count, key, xp.full_like(key, runs))
    return xp.argsort(key, axis=-1, stable=True)


def directions(xp: Any, metric: Array, spread: Array) -> Array:
    r"""G (..., d, r) with :math:`\|G^T\delta\|^2 = \delta^TM\delta` where tokens differ most, r at most :data:`AXES`.

    For a metric M and the covariance C of the tokens, (..., d, d) each: two steps of subspace iteration with MC, and
    with Y its basis :math:`G = MY(Y^TMY)^{-1/2}`.  Exact where d ≤ r.
    """
    d = metric.shape[-1]
    finite = (all_finite(metric) & all_finite(spread))[..., None, None]
    metric, spread = (xp.where(finite, x, xp.zeros_like(x)) for x in (metric, spread))
    size = binary_scale(metric)
    metric, spread = metric / size, spread / binary_scale(spread)
    axes = min(d, AXES)
    angle = xp.astype(xp.arange(1, d + 1, device=device_of(metric)), metric.dtype)[:, None]
    basis = xp.broadcast_to(xp.cos(angle * angle[:axes, 0]), (*spread.shape[:-2], d, axes))
    for _ in range(2):
        basis, _ = xp.linalg.qr(spread @ (metric @ basis))
    values, vectors = xp.linalg.eigh(transpose(basis) @ (metric @ basis))
    kept = values > d * float(xp.finfo(metric.dtype).eps) * values[..., -1:]
    root = xp.where(kept, 1 / xp.sqrt(xp.where(kept, values, xp.ones_like(values))), xp.zeros_like(values))
    made = metric @ (basis @ (vectors * root[..., None, :])) * xp.sqrt(size)
    largest = xp.argmax(
        xp.abs(made), axis=-2, keepdims=True
    )  # signs are the eigensolver's: one is made of them
    return made * xp.sign(xp.take_along_axis(made, largest, axis=-2))


def _tree(xp: Any, x: Array, count: Array | int, leaves: int, position: float) -> Array:
    n = x.shape[-2]
    rank = xp.arange(n, dtype=xp.int64, device=device_of(x))
    order = xp.broadcast_to(rank, x.shape[:-1])
    parts = 1
    while parts < leaves:
        nodes = in_blocks(xp, order, count, parts)
        shape = nodes.token.shape
        y = xp.reshape(take_rows(x, xp.reshape(nodes.token, (*shape[:-2], -1))), (*shape, x.shape[-1]))
        place = _places(xp, y, nodes.there, position)
        within = xp.argsort(xp.where(nodes.there, place, xp.full_like(place, 2 * n)), axis=-1, stable=True)
        token = xp.take_along_axis(nodes.token, within, axis=-1)
        # slots in the order of ranks: what stood at rank r is replaced by what stands there now
        at = xp.take_along_axis(nodes.slot, order, axis=-1)
        moved = xp.take_along_axis(xp.reshape(token, (*shape[:-2], -1)), at, axis=-1)
        order = xp.where(rank < count, moved, order)
        parts *= 2
    return order


def _places(xp: Any, y: Array, there: Array, position: float) -> Array:
    """Where the tokens of every node, y (..., p, l, r), are to stand, those of the first half first: (..., p, l)."""
    size = xp.sum(xp.astype(there, xp.int64), axis=-1, keepdims=True)
    half = (size + 1) // 2
    stay = xp.broadcast_to(xp.arange(there.shape[-1], dtype=xp.int64, device=device_of(y)), there.shape)
    present = xp.astype(there, y.dtype)[..., None, :]
    number = xp.sum(present, axis=-1, keepdims=True)
    y = y - (present @ y) / xp.where(number > 0, number, xp.ones_like(number))
    y = y * transpose(present)
    above = xp.astype(size - half, y.dtype)
    above = xp.where(above > 0, above, xp.ones_like(above))

    def upper_mean(place: Array) -> Array:
        """The mean of the second half (..., p, r), which is as far from that of the first as from the centre, twice."""
        return (xp.astype(place >= half, y.dtype)[..., None, :] @ y)[..., 0, :] / above

    def along(direction: Array) -> Array:
        scores = (y @ direction[..., None])[..., 0]
        top = xp.max(xp.abs(scores), axis=-1, keepdims=True)
        top = xp.where((top > 0) & xp.isfinite(top), top, xp.ones_like(top))
        scores = in_order(xp, scores, xp.astype(top / STEPS, xp.float64))
        scores = xp.where(there, scores, xp.full_like(scores, xp.inf))
        return xp.argsort(xp.argsort(scores, axis=-1, stable=True), axis=-1, stable=True)

    columns = xp.arange(y.shape[-1], dtype=xp.int64, device=device_of(y))
    widest = xp.argmax(xp.sum(y * y, axis=-2), axis=-1, keepdims=True)
    apart = along(upper_mean(along(xp.astype(columns == widest, y.dtype))))
    if position == 0:
        return apart
    content, place = (xp.sum(upper_mean(x) ** 2, axis=-1, keepdims=True) for x in (apart, stay))
    moved = xp.where(apart >= half, stay + stay.shape[-1], stay)
    return xp.where(content > position * place, moved, stay)
