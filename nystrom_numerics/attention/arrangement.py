r"""Tokens in blocks of balanced size that are alike: a balanced tree whose nodes are cut by position or by content."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from nystrom_numerics.backend import Array, by_root, device_of, gathered, inverse_order
from nystrom_numerics.landmarks.result import take_rows
from nystrom_numerics.landmarks.tokens import segments
from nystrom_numerics.linalg import transpose

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
    tokens : array (..., n) of int64, or None
        Which token comes first, second, …; ``None`` where they stay in their order.
    n, blocks : int
    """

    tokens: Array | None
    n: int
    blocks: int

    def __getitem__(self, items: slice) -> Arrangement:
        """That of some items of a batch of one axis."""
        return self if self.tokens is None else replace(self, tokens=self.tokens[items, ...])

    def there(self, xp: Any, like: Array) -> Array | None:
        """Whether a token stands in each slot (b, ⌈n/b⌉), ``None`` where one stands in all."""
        if self.n % self.blocks == 0:
            return None
        return _slots(xp, like, self.n, self.blocks)[1]

    def cut(self, xp: Any, x: Array) -> Array:
        """Tokens x (..., n, d) in their slots (..., b, ⌈n/b⌉, d); where none stands, one of the next or the last."""
        length, tokens = -(-self.n // self.blocks), self.tokens
        if self.n % self.blocks:
            rank = xp.reshape(_slots(xp, x, self.n, self.blocks)[0], (-1,))
            tokens = rank if tokens is None else xp.take(tokens, rank, axis=-1)
        if tokens is not None:
            x = xp.take(x, tokens, axis=-2) if tokens.ndim == 1 else take_rows(x, tokens)
        return xp.reshape(x, (*x.shape[:-2], self.blocks, length, x.shape[-1]))

    def joined(self, xp: Any, x: Array) -> Array:
        """The tokens (..., n, d) of slots x (..., b, ⌈n/b⌉, d), as they stood before."""
        length = x.shape[-2]
        x = xp.reshape(x, (*x.shape[:-3], self.blocks * length, x.shape[-1]))
        slot = None if self.tokens is None else inverse_order(xp, self.tokens)
        if self.n % self.blocks:
            rank = _count(xp, x, self.n) if slot is None else slot
            block = rank * self.blocks // self.n
            slot = rank + block * length - (block * self.n + self.blocks - 1) // self.blocks
        if slot is None:
            return x
        return xp.take(x, slot, axis=-2) if slot.ndim == 1 else take_rows(x, slot)


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
    tokens keep their order; if ``position`` is 0 they stand along the line of the cut.  A cut by content goes along
    the axis that spreads most, to a step of the power method, and then along the line through the halves' means
    (balanced 2-means, one step).

    The tree is made from the means of at most ``RUNS * leaves`` runs of tokens, which it keeps together: its cost does
    not grow with n.  As many runs stand in each leaf; where n is no multiple of their number, so do as many tokens but
    for those by which n exceeds a multiple of the number of leaves.
    """
    n, parts = x.shape[-2], 1 << (leaves - 1).bit_length()
    in_leaf = min(n // parts, max(1, RUNS * leaves // parts))
    if in_leaf == 0:
        return Arrangement(None, n, leaves)
    runs = parts * in_leaf
    y = x @ directions
    *batch, _, r = y.shape
    few = n // runs
    if n % runs:  # of each run as many tokens as the shortest has
        some = xp.reshape(segments(xp, x, n, runs)[0][:, None] + _count(xp, x, few), (-1,))
        y = xp.take(y, some, axis=-2)
    if few > 1:
        y = xp.mean(xp.reshape(y, (*batch, runs, few, r)), axis=-2)
    y = xp.where(xp.isfinite(y), y, 0.0)  # an order all the same, of each token once
    order, nodes = xp.broadcast_to(_count(xp, x, runs), (*batch, runs)), 1
    while nodes < parts:
        shape = (*batch, nodes, runs // nodes)
        y = xp.reshape(y, (*shape, r))
        new = _halved(xp, y, position)
        nodes *= 2
        order = gathered(xp, xp.reshape(order, shape), new)
        if nodes < parts:
            y = gathered(xp, y, xp.broadcast_to(new[..., None], y.shape), axis=-2)
    return Arrangement(_tokens(xp, xp.reshape(order, (*batch, runs)), n), n, leaves)


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
    return inverse_order(xp, xp.take(begin, (token * runs) // n, axis=-1) + token)


def _halved(xp: Any, y: Array, position: float) -> Array:
    """An order (..., p, l) of what stands in every node, y (..., p, l, r), its first half first."""
    half = y.shape[-2] // 2
    y = y - xp.mean(y, axis=-2, keepdims=True)
    tiny = float(xp.finfo(y.dtype).smallest_normal)

    def along(line: Array) -> Array:
        """Numbers in the order of a line (..., p, 1, r)."""
        place = (y @ transpose(line))[..., 0]
        step = xp.clip(xp.max(xp.abs(place), axis=-1, keepdims=True), min=tiny) / STEPS
        # to the nearest: the largest and 0 would stand on the edge of a step
        return xp.argsort(xp.round(place / step), axis=-1, stable=True)

    def upper_mean(order: Array) -> Array:
        """The mean (..., p, 1, r) of the second half, as far from that of the first as from the centre, twice."""
        index = xp.broadcast_to(order[..., half:, None], (*y.shape[:-2], half, y.shape[-1]))
        return xp.mean(gathered(xp, y, index, axis=-2), axis=-2, keepdims=True)

    spread = transpose(y) @ y
    widest = xp.argmax(xp.linalg.diagonal(spread), axis=-1)[..., None, None]
    widest = xp.broadcast_to(widest, (*spread.shape[:-2], 1, spread.shape[-1]))
    order = along(upper_mean(along(gathered(xp, spread, widest, axis=-2))))
    if position == 0:
        return order
    apart, as_is = upper_mean(order), xp.mean(y[..., half:, :], axis=-2, keepdims=True)
    content, place = (xp.sum(x * x, axis=-1) for x in (apart, as_is))
    order = xp.where(content > position * place, order, _count(xp, y, 2 * half))
    return xp.reshape(xp.sort(xp.reshape(order, (*order.shape[:-1], 2, half)), axis=-1), order.shape)


def directions(xp: Any, metric: Array, spread: Array) -> Array:
    r"""G (..., d, r) with :math:`\|G^T\delta\|^2 = \delta^TM\delta` where tokens differ most, r at most :data:`AXES`.

    For a metric M and the covariance C of the tokens, (..., d, d) each: two steps of subspace iteration with CM, and
    with Y its basis and L the Cholesky factor of :math:`Y^TMY`, :math:`G = MYL^{-T}`.  Exact where d ≤ r.  In float64,
    each factor being of what is positive definite but for rounding.
    """
    d, dtype = metric.shape[-1], metric.dtype
    both = xp.astype(xp.stack(xp.broadcast_arrays(metric, spread)), xp.float64)
    size = xp.max(xp.abs(both), axis=(-2, -1), keepdims=True)
    sound = (size > 0) & (size < xp.inf)
    size = xp.where(sound, size, 1.0)
    both = xp.where(sound, both / size, 0.0)
    metric, spread = both[0, ...], both[1, ...]
    angle = xp.arange(1, d + 1, dtype=xp.float64, device=device_of(metric))
    basis = xp.cos(angle[:, None] * angle[: min(d, AXES)])
    eye = xp.eye(basis.shape[-1], dtype=xp.float64, device=device_of(metric))
    tiny = float(xp.finfo(xp.float64).smallest_normal)
    made = metric @ basis
    for _ in range(2):
        basis = spread @ made
        image = metric @ basis
        ridge = d * d * float(xp.finfo(xp.float64).eps) * xp.sum(basis * basis, axis=(-2, -1), keepdims=True)
        made = by_root(xp, transpose(basis) @ image + (ridge + tiny) * eye, image)
    return xp.astype(made * xp.sqrt(size[0, ...]), dtype)
