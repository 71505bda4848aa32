r"""Tokens in blocks of balanced size that are alike: a balanced tree whose nodes are cut by position or by content."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any

from nystrom_numerics.backend import Array, device_of
from nystrom_numerics.landmarks.result import take_rows
from nystrom_numerics.landmarks.tokens import segments
from nystrom_numerics.linalg import transpose
from nystrom_numerics.places import gathered, inverse_order, moved, rows_of, upper_half
from nystrom_numerics.solves import by_root

__all__ = ["Arrangement", "arrange", "arrangement", "directions", "order_of_runs", "run_count"]

RUNS, AXES = 32, 16
"""Runs of consecutive tokens a block from which a tree is made, and the directions in which it looks at them."""

STEPS = 4096
"""Steps from the middle of a node to its end: tokens of one step count as equal."""


@dataclass(frozen=True)
class Arrangement:
    """An order of n tokens, cut in blocks of as good as equal size.

    Attributes
    ----------
    blocks, length : int
        ``length`` is ⌈n/b⌉.
    tokens : array (..., b · length) of int64, or None
        Which token stands in each slot, one of the next block or the last where none does; ``None`` where all do in
        their order.
    slots : array (..., n) of int64, or None
        In which slot each token stands.
    there : array (b, length) of bool, or None
        Whether a token stands in each slot, ``None`` where one stands in all.
    """

    blocks: int
    length: int
    tokens: Array | None = None
    slots: Array | None = None
    there: Array | None = None

    def __getitem__(self, items: slice) -> Arrangement:
        """That of some items of a batch of one axis."""
        if self.tokens is None or self.tokens.ndim == 1:
            return self
        return replace(self, tokens=self.tokens[items, ...], slots=self.slots[items, ...])  # type: ignore[index]

    def thinned(self, xp: Any, like: Array, most: int) -> Arrangement:
        """At most so many slots of each block, evenly spaced; nothing can be joined from them."""
        step = -(-self.length // most)
        if step == 1:
            return self
        tokens = _count(xp, like, self.blocks * self.length) if self.tokens is None else self.tokens
        tokens = xp.reshape(tokens, (*tokens.shape[:-1], self.blocks, self.length))[..., ::step]
        length = tokens.shape[-1]
        tokens = xp.reshape(tokens, (*tokens.shape[:-2], self.blocks * length))
        return Arrangement(
            self.blocks, length, tokens, None, None if self.there is None else self.there[:, ::step]
        )

    def cut(self, xp: Any, x: Array) -> Array:
        """Tokens x (..., n, d) in their slots (..., b, length, d)."""
        x = _rows(xp, x, self.tokens)
        return xp.reshape(x, (*x.shape[:-2], self.blocks, self.length, x.shape[-1]))

    def joined(self, xp: Any, x: Array) -> Array:
        """The tokens (..., n, d) of slots x (..., b, length, d), as they stood before."""
        return _rows(xp, xp.reshape(x, (*x.shape[:-3], self.blocks * self.length, x.shape[-1])), self.slots)


def arrangement(xp: Any, like: Array, order: Array | None, n: int, blocks: int) -> Arrangement:
    """Of n tokens in an order (..., n), or as they stand."""
    length = -(-n // blocks)
    slots = None if order is None else inverse_order(xp, order)
    if n % blocks == 0:
        return Arrangement(blocks, length, order, slots)
    start, stop = segments(xp, like, n, blocks)
    rank = start[:, None] + _count(xp, like, length)
    there, rank = rank < stop[:, None], xp.reshape(xp.clip(rank, max=n - 1), (-1,))
    slots = _count(xp, like, n) if slots is None else slots
    block = slots * blocks // n
    slots = slots + block * length - (block * n + blocks - 1) // blocks
    return Arrangement(blocks, length, rank if order is None else rows_of(xp, order, rank, -1), slots, there)


def _rows(xp: Any, x: Array, index: Array | None) -> Array:
    if index is None:
        return x
    return rows_of(xp, x, index, -2) if index.ndim == 1 else take_rows(x, index)


def _count(xp: Any, like: Array, n: int) -> Array:
    return xp.arange(n, dtype=xp.int64, device=device_of(like))


def arrange(xp: Any, x: Array, leaves: int, directions: Array, position: float) -> Arrangement:
    r"""An order of the tokens x (..., n, d) whose balanced parts are alike in ``directions`` (..., d, r).

    A balanced tree: every node is cut in two equal halves, either where its tokens stand, or by content, the latter
    where the squared distance of the halves' means is more than ``position`` times as large.  Within a half
    tokens keep their order; if ``position`` is 0 they stand along the line of the cut.  A cut by content goes along
    the axis that spreads most, to a step of the power method, and then along the line through the means of its sides (a
    step of 2-means, in which tokens near the cut count less), at the median.

    The tree is made from the means of at most ``RUNS * leaves`` runs of tokens, which it keeps together: its cost does
    not grow with n.  As many runs stand in each leaf; where n is no multiple of their number, so do as many tokens but
    for those by which n exceeds a multiple of the number of leaves.
    """
    n = x.shape[-2]
    runs = run_count(n, leaves)
    if runs == 0:
        return arrangement(xp, x, None, n, leaves)
    few = n // runs
    if n % runs:  # of each run as many tokens as the shortest has
        some = xp.reshape(segments(xp, x, n, runs)[0][:, None] + _count(xp, x, few), (-1,))
        x = rows_of(xp, x, some, -2)
    if few > 1:
        x = xp.mean(xp.reshape(x, (*x.shape[:-2], runs, few, x.shape[-1])), axis=-2)
    return arrangement(xp, x, _tokens(xp, order_of_runs(xp, x, leaves, directions, position), n), n, leaves)


def run_count(n: int, leaves: int) -> int:
    """Runs of n tokens that a tree is made of, as many in each leaf; none where there are too few tokens for a tree."""
    parts = 1 << (leaves - 1).bit_length()
    return parts * min(n // parts, max(1, RUNS * leaves // parts))


def order_of_runs(xp: Any, x: Array, leaves: int, directions: Array, position: float) -> Array:
    """The order (..., runs) in which a tree puts runs of tokens with the means x (..., runs, d)."""
    *batch, runs, _ = x.shape
    parts = 1 << (leaves - 1).bit_length()
    y = x @ directions
    y = xp.where(xp.isfinite(y), y, 0.0)  # an order all the same, of each token once
    y = y / xp.clip(
        xp.max(xp.abs(y), axis=(-2, -1), keepdims=True), min=float(xp.finfo(y.dtype).smallest_normal)
    )
    items, r = prod(batch), y.shape[-1]
    y = every = xp.reshape(y, (items * runs, r))
    order, nodes = xp.reshape(_count(xp, x, items * runs), (items, runs)), 1
    while nodes < parts:
        shape = (items, nodes, runs // nodes)
        nodes *= 2
        order = _halved(xp, xp.reshape(y, (*shape, r)), xp.reshape(order, shape), position, nodes == parts)
        if nodes < parts:
            y = rows_of(xp, every, xp.reshape(order, (-1,)))
    order = xp.reshape(order, (items, runs)) - runs * _count(xp, x, items)[:, None]
    return xp.reshape(order, (*batch, runs))


def _tokens(xp: Any, order: Array, n: int) -> Array:
    """Tokens (..., n) in an order (..., runs) of the balanced runs in which they stand."""
    runs = order.shape[-1]
    if runs == n:
        return order
    if n % runs == 0:
        few = n // runs
        return xp.reshape(order[..., None] * few + _count(xp, order, few), (*order.shape[:-1], n))
    start, stop = segments(xp, order, n, runs)
    lengths = gathered(xp, xp.broadcast_to(stop - start, order.shape), order)
    begin = xp.cumulative_sum(lengths, axis=-1) - lengths
    begin = gathered(xp, begin, inverse_order(xp, order)) - start
    token = _count(xp, order, n)
    return inverse_order(xp, rows_of(xp, begin, (token * runs) // n, -1) + token)


def _halved(xp: Any, y: Array, order: Array, position: float, last: bool) -> Array:
    """What stands in every node, y (..., p, l, r) of numbers ``order`` (..., p, l), the first half first."""
    half = y.shape[-2] // 2
    y = y - xp.mean(y, axis=-2, keepdims=True)
    tiny = float(xp.finfo(y.dtype).smallest_normal)
    spread = transpose(y) @ y
    widest = xp.argmax(xp.linalg.diagonal(spread), axis=-1)[..., None, None]
    widest = xp.broadcast_to(widest, (*spread.shape[:-2], 1, spread.shape[-1]))
    side = gathered(xp, spread, widest, axis=-2) @ transpose(y)
    size = xp.abs(side)
    side = side / (size + xp.clip(xp.mean(size, axis=-1, keepdims=True), min=tiny))
    along = ((side @ y) @ transpose(y))[..., 0, :]
    # where all tokens are one but for rounding they stand at 0, not where their last digits put them
    least = half * (STEPS * float(xp.finfo(y.dtype).eps)) ** 2
    along = along / xp.clip(xp.max(xp.abs(along), axis=-1, keepdims=True), min=least)
    if position == 0 and last:
        return gathered(xp, order, xp.argsort(xp.round(along * STEPS), axis=-1, stable=True))
    upper, place = upper_half(xp, along, STEPS), _count(xp, y, 2 * half)
    if position > 0:
        stays = place >= half
        both = xp.stack([upper, xp.broadcast_to(stays, upper.shape)], axis=-2)
        moved_by = xp.astype(both, y.dtype) @ y
        apart = xp.sum(moved_by * moved_by, axis=-1, keepdims=True)
        upper = xp.where(apart[..., 0, :] > position * apart[..., 1, :], upper, stays)
    above = xp.cumulative_sum(xp.astype(upper, xp.int64), axis=-1)
    return moved(xp, order, xp.where(upper, above + (half - 1), place - above))


def directions(xp: Any, metric: Array, spread: Array) -> Array:
    r"""G (..., d, r) with :math:`\|G^T\delta\|^2 = \delta^TM\delta` where tokens differ most, r at most :data:`AXES`.

    For a metric M and the covariance C of the tokens, (..., d, d) each: two steps of subspace iteration with CM, and
    with Y its basis and L the Cholesky factor of :math:`Y^TMY`, :math:`G = MYL^{-T}`.  Exact where d ≤ r, without any
    step, but for d ulps of M's largest entry, by which it may have failed to be semidefinite.  In float64, in which a
    basis of two steps need not be made orthogonal between them.
    """
    d, dtype, eps = metric.shape[-1], metric.dtype, float(xp.finfo(xp.float64).eps)
    both = xp.astype(xp.stack(xp.broadcast_arrays(metric, spread)), xp.float64)
    size = xp.max(xp.abs(both), axis=(-2, -1), keepdims=True)
    sound = size < xp.inf  # false for NaN
    size = xp.where(sound, size, 1.0)
    both = xp.where(sound, both, 0.0) / xp.clip(size, min=float(xp.finfo(xp.float64).smallest_normal))
    unit = xp.eye(d, dtype=xp.float64, device=device_of(both))
    metric, spread = both[0, ...] + d * float(xp.finfo(dtype).eps) * unit, both[1, ...]
    basis = eye = unit[: min(d, AXES), : min(d, AXES)]
    if d > AXES:
        angle = xp.arange(1, d + 1, dtype=xp.float64, device=device_of(metric))
        basis = xp.cos(angle[:, None] * angle[:AXES])
        for _ in range(2):
            basis = spread @ (metric @ basis)
    image = metric @ basis
    ridge = d * d * eps * xp.sum(basis * basis, axis=(-2, -1), keepdims=True) + float(
        xp.finfo(xp.float64).smallest_normal
    )
    made = by_root(xp, transpose(basis) @ image + ridge * eye, image)
    return xp.astype(made * xp.sqrt(size[0, ...]), dtype)
