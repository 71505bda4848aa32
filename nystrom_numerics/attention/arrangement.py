r"""Tokens in blocks of balanced size that are alike: a balanced tree whose nodes are cut by position or by content."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from nystrom_numerics.backend import Array, device_of, in_order, inverse_order
from nystrom_numerics.landmarks.result import take_rows
from nystrom_numerics.landmarks.tokens import segments
from nystrom_numerics.linalg import all_finite, binary_scale, transpose

__all__ = ["Arrangement", "arrange", "directions"]

RUNS, AXES = 32, 16
"""Runs of consecutive tokens a block from which a tree is made, and the directions in which it looks at them."""

STEPS = 4096
"""Steps from the middle of a node to its end: tokens of one step count as equal."""


@dataclass(frozen=True)
class Arrangement:
    """An order of n tokens, cut in blocks of as good as equal size.

    Attributes
    ----------
    runs : array (..., R) of int64, or None
        Which of R runs of consecutive tokens comes first, second, …; ``None`` where tokens stay in their order.
    n, blocks : int
    """

    runs: Array | None
    n: int
    blocks: int

    def __getitem__(self, items: slice) -> Arrangement:
        """That of some items of a batch of one axis."""
        return self if self.runs is None else replace(self, runs=self.runs[items, ...])

    def there(self, xp: Any, like: Array) -> Array | None:
        """Whether a token stands in each slot (b, ⌈n/b⌉), ``None`` where one stands in all."""
        if self.n % self.blocks == 0:
            return None
        return _slots(xp, like, self.n, self.blocks)[1]

    def cut(self, xp: Any, x: Array) -> Array:
        """Tokens x (..., n, d) in their slots (..., b, ⌈n/b⌉, d); where none stands, one of the next or the last."""
        length = -(-self.n // self.blocks)
        if self.n % self.blocks == 0:
            moved = self._moved(xp, x)
        else:
            rank = xp.reshape(_slots(xp, x, self.n, self.blocks)[0], (-1,))
            if self.runs is None:
                moved = xp.take(x, rank, axis=-2)
            else:
                moved = take_rows(x, xp.take(self._tokens(xp), rank, axis=-1))
        return xp.reshape(moved, (*moved.shape[:-2], self.blocks, length, x.shape[-1]))

    def joined(self, xp: Any, x: Array) -> Array:
        """The tokens (..., n, d) of slots x (..., b, ⌈n/b⌉, d), as they stood before."""
        length = x.shape[-2]
        x = xp.reshape(x, (*x.shape[:-3], self.blocks * length, x.shape[-1]))
        if self.n % self.blocks == 0:
            if self.runs is None:
                return x
            back = Arrangement(inverse_order(xp, self.runs), self.n, self.blocks)
            return back._moved(xp, x) if self.n % self.runs.shape[-1] == 0 else take_rows(x, self._ranks(xp))
        rank = _count(xp, x, self.n) if self.runs is None else self._ranks(xp)
        block = rank * self.blocks // self.n
        slot = rank + block * length - (block * self.n + self.blocks - 1) // self.blocks
        return xp.take(x, slot, axis=-2) if self.runs is None else take_rows(x, slot)

    def _moved(self, xp: Any, x: Array) -> Array:
        """Tokens in the order; run by run where runs are of equal length."""
        if self.runs is None:
            return x
        runs, d = self.runs.shape[-1], x.shape[-1]
        if self.n % runs:
            return take_rows(x, self._tokens(xp))
        whole = xp.reshape(x, (*x.shape[:-2], runs, self.n // runs * d))
        return xp.reshape(take_rows(whole, self.runs), x.shape)

    def _ranks(self, xp: Any) -> Array:
        """At which rank of the order each token stands (..., n)."""
        assert self.runs is not None
        runs = self.runs.shape[-1]
        start, stop = segments(xp, self.runs, self.n, runs)
        lengths = xp.take_along_axis(xp.broadcast_to(stop - start, self.runs.shape), self.runs, axis=-1)
        begin = xp.cumulative_sum(lengths, axis=-1) - lengths
        begin = xp.take_along_axis(begin, inverse_order(xp, self.runs), axis=-1) - start
        token = _count(xp, self.runs, self.n)
        return xp.take(begin, (token * runs) // self.n, axis=-1) + token

    def _tokens(self, xp: Any) -> Array:
        """Which token stands at each rank (..., n)."""
        return inverse_order(xp, self._ranks(xp))


def _count(xp: Any, like: Array, n: int) -> Array:
    return xp.arange(n, dtype=xp.int64, device=device_of(like))


def _slots(xp: Any, like: Array, n: int, blocks: int) -> tuple[Array, Array]:
    """Ranks of n tokens in balanced blocks, (b, ⌈n/b⌉), and whether one stands there; the last ones where none does."""
    start, stop = segments(xp, like, n, blocks)
    rank = start[:, None] + _count(xp, like, -(-n // blocks))
    return xp.clip(rank, max=n - 1), rank < stop[:, None]


def arrange(xp: Any, x: Array, leaves: int, directions: Array, position: float) -> Arrangement:
    r"""An order of the tokens x (..., n, d) whose balanced parts are alike in ``directions`` (..., d, r).

    A balanced tree: every node is cut in two equal halves, either where its tokens stand, or by content, the latter
    where the squared distance of the halves' means is more than ``position`` times as large.  Within a half
    tokens keep their order; if ``position`` is 0 they stand along the line of the cut, so that their order is of no
    effect.  A cut by content goes along the direction that spreads most and then along the line through the
    halves' means (balanced 2-means, one step).

    The tree is made from the means of at most ``RUNS * leaves`` runs of tokens, which it keeps together: its cost does
    not grow with n.
    """
    n = x.shape[-2]
    runs, parts = min(n, RUNS * leaves), 1 << (leaves - 1).bit_length()
    y = x @ directions
    *batch, _, r = y.shape
    if n % runs == 0:
        y = xp.mean(xp.reshape(y, (*batch, runs, n // runs, r)), axis=-2)
    else:  # of each run as many tokens as the shortest has
        few = n // runs
        some = xp.reshape(segments(xp, x, n, runs)[0][:, None] + _count(xp, x, few), (-1,))
        y = xp.mean(xp.reshape(xp.take(y, some, axis=-2), (*batch, runs, few, r)), axis=-2)
    y = xp.where(xp.isfinite(y), y, xp.zeros_like(y))  # an order all the same, of each token once
    length = -(-runs // parts)
    order, there = xp.broadcast_to(_count(xp, x, runs), (*batch, runs)), None
    if runs % parts:  # as good as equal leaves: in some of them the last slot stays empty
        rank, there = _slots(xp, x, runs, parts)
        first = xp.reshape(rank, (-1,))
        y, order = xp.take(y, first, axis=-2), xp.take(order, first, axis=-1)
    nodes = 1
    while nodes < parts:
        shape = (nodes, parts // nodes * length)
        y, order = _halved(
            xp,
            xp.reshape(y, (*batch, *shape, r)),
            xp.reshape(order, (*batch, *shape)),
            None if there is None else xp.reshape(there, shape),
            position,
        )
        nodes *= 2
    order = xp.reshape(order, (*batch, parts * length))
    if there is not None:
        full = xp.argsort(xp.astype(~xp.reshape(there, (-1,)), xp.int8), stable=True)[:runs]
        order = xp.take(order, full, axis=-1)
    return Arrangement(order, n, leaves)


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


def _in_steps(xp: Any, x: Array, steps: int) -> Array:
    """Whole numbers from −steps to steps, float64, in proportion to x (..., n) along its last axis.

    Rounded to the nearest, for the largest and 0 would stand on the edge of a step.
    """
    top = xp.max(xp.abs(x), axis=-1, keepdims=True)
    top = xp.where((top > 0) & xp.isfinite(top), top, xp.ones_like(top))
    return xp.floor(xp.astype(x / top, xp.float64) * steps + 0.5)


def _halved(xp: Any, y: Array, order: Array, there: Array | None, position: float) -> tuple[Array, Array]:
    """The runs of every node, y (..., p, l, r) and their numbers (..., p, l), those of its first half first.

    ``there`` (p, l) are the slots that are full, before and after, ``None`` for all of them.
    """
    half = y.shape[-2] // 2
    stays = _count(xp, y, 2 * half) >= half
    if there is None:
        below, above = half, float(half)
        y = y - xp.mean(y, axis=-2, keepdims=True)
    else:
        present = xp.astype(there, y.dtype)[..., None]
        stays = stays & there
        below = xp.sum(xp.astype(there[:, :half], xp.int64), axis=-1, keepdims=True)
        number = xp.sum(present, axis=-2, keepdims=True)
        above = xp.clip(number[..., 0] - xp.astype(below, y.dtype), min=1.0)
        y = (y - xp.sum(y * present, axis=-2, keepdims=True) / xp.clip(number, min=1.0)) * present

    def upper_mean(upper: Array) -> Array:
        """The mean of the second half (..., p, r), which is as far from that of the first as from the centre, twice."""
        return (xp.astype(upper, y.dtype)[..., None, :] @ y)[..., 0, :] / above

    def along(scores: Array) -> Array:
        """Numbers in the order of scores (..., p, l); infinite where a slot is empty."""
        place = in_order(xp, _in_steps(xp, scores, STEPS))
        return place if there is None else xp.where(there, place, xp.inf)

    def second_half(place: Array) -> Array:
        ordered = xp.sort(place, axis=-1)
        if there is None:
            return place >= ordered[..., half : half + 1]
        least = xp.take_along_axis(ordered, xp.broadcast_to(below, (*place.shape[:-1], 1)), axis=-1)
        return (place >= least) & there

    widest = xp.argmax(xp.sum(y * y, axis=-2), axis=-1, keepdims=True)
    at_first = xp.take_along_axis(y, xp.broadcast_to(widest[..., None, :], (*y.shape[:-1], 1)), axis=-1)[
        ..., 0
    ]
    line = upper_mean(second_half(along(at_first)))
    place = along((y @ line[..., None])[..., 0])
    if position > 0:
        apart = second_half(place)
        content, as_is = (xp.sum(upper_mean(u) ** 2, axis=-1, keepdims=True) for u in (apart, stays))
        place = xp.astype(xp.where(content > position * as_is, apart, stays), xp.int8)
        if there is not None:
            place = xp.where(there, place, 2)
    new = xp.argsort(place, axis=-1, stable=True)
    if there is not None:  # the full slots of each node in turn, then the empty ones
        turn = inverse_order(xp, xp.argsort(xp.astype(~there, xp.int8), axis=-1, stable=True))
        new = xp.take_along_axis(new, xp.broadcast_to(turn, new.shape), axis=-1)
    return take_rows(y, new), xp.take_along_axis(order, new, axis=-1)
