"""What blocks of queries face in tangent attention: applied to values, and read by rows."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from nystrom_numerics.attention.arrangement import Arrangement
from nystrom_numerics.attention.streaming import attend
from nystrom_numerics.backend import Array, device_of
from nystrom_numerics.landmarks.result import take_rows
from nystrom_numerics.linalg import masked_softmax, transpose
from nystrom_numerics.places import gathered, sum_by_label, swapped

__all__ = ["Faced", "Part", "Route", "Values", "dense", "flat", "joined"]

WIDTH = 2**22
"""Numbers of the values that all blocks face at once, but for as many columns as the keys have."""


@dataclass(frozen=True)
class Route:
    """What a level holds fixed where a derivative is taken.

    Attributes
    ----------
    blocks : int
        Of queries, below each block of the level before.
    grouped : Arrangement
        Of its keys.
    index : array (..., b, t) of int64
        The slots of the keys that each block keeps, or hands on to ``inner``.
    correction : array (..., b or 1, groups · l)
        What is added to the logarithms of weights, −∞ where no key stands in a slot.
    inner : Route, optional
        Of the next level.
    """

    blocks: int
    grouped: Arrangement
    index: Array
    correction: Array
    inner: Route | None = None


@dataclass(frozen=True)
class Values:
    """The values that blocks face, of those of the keys, and back.

    ``weights`` (..., groups, b, l), of which ``total`` (..., groups, b, 1) are the sums, are those in groups, and zero
    for keys that blocks keep or hand on.  ``values(v)`` makes (..., b, s, w) of values (..., n, w) of the keys.
    """

    xp: Any
    route: Route
    weights: Array
    total: Array
    inner: Any = None

    @property
    def index(self) -> Array:
        return self.route.index

    def __call__(self, v: Array) -> Array:
        xp, v = self.xp, self.route.grouped.cut(self.xp, v)
        kept = take_rows(flat(xp, v)[..., None, :, :], self.index)
        far = swapped(xp, self.weights @ v / self.total)
        if self.inner is None:
            return xp.concat([kept, dense(xp, far)], axis=-2)
        return joined(xp, self.inner(kept), far)

    def spread(self, weights: Array, leaf: Array, leaves: int) -> Array:
        """Weights (items, r, s) of what leaves face on keys (items, r, n); the numbers (items, r) of the leaves."""
        xp, (items, rows) = self.xp, leaf.shape
        groups, _, length = self.weights.shape[-3:]
        shares, index, block = self._of_blocks(leaf, leaves)
        kept, far = weights[..., :-groups], weights[..., -groups:]
        if self.inner is not None:
            kept = self.inner.spread(kept, leaf, leaves)
        slots = xp.reshape(take_rows(shares, block), (items, rows, groups, length)) * far[..., None]
        slots = xp.reshape(slots, (items, rows, groups * length))
        slots = slots + sum_by_label(kept[..., None], take_rows(index, block), groups * length)[0][..., 0]
        slots = xp.reshape(slots, (items, rows, groups, length))
        return transpose(self.route.grouped.joined(xp, xp.moveaxis(slots, 1, -1)))

    def at(self, weights: Array, leaf: Array, leaves: int, key: Array) -> Array:
        """What :meth:`spread` gives to one key (items, r) of each row."""
        xp, items = self.xp, leaf.shape[0]
        groups, _, length = self.weights.shape[-3:]
        shares, index, block = self._of_blocks(leaf, leaves)
        kept, far = weights[..., :-groups], weights[..., -groups:]
        slots = xp.arange(groups * length, dtype=xp.int64, device=device_of(leaf))
        slots = xp.broadcast_to(xp.reshape(slots, (groups, length, 1)), (items, groups, length, 1))
        slot = gathered(xp, self.route.grouped.joined(xp, slots)[..., 0], key)
        same = take_rows(index, block) == slot[..., None]
        if self.inner is None:
            found = xp.sum(xp.where(same, kept, 0.0), axis=-1)
        else:
            place = xp.argmax(xp.astype(same, xp.int8), axis=-1)
            found = xp.where(xp.any(same, axis=-1), self.inner.at(kept, leaf, leaves, place), 0.0)
        share = gathered(xp, xp.reshape(shares, (items, -1)), block * (groups * length) + slot)
        return found + share * gathered(xp, far, (slot // length)[..., None])[..., 0]

    def _of_blocks(self, leaf: Array, leaves: int) -> tuple[Array, Array, Array]:
        """Weights (items, b, groups · l) and ``index`` (items, b, t) of all blocks, and those (items, r) of leaves."""
        xp, items = self.xp, leaf.shape[0]
        groups, _, length = self.weights.shape[-3:]
        shares = swapped(xp, self.weights / self.total)
        shares = xp.reshape(shares, (items, -1, groups * length))
        index = xp.reshape(self.index, (items, -1, self.index.shape[-1]))
        return shares, index, leaf // (leaves // shares.shape[-2])


@dataclass(frozen=True)
class Faced:
    """What blocks face: keys (..., b, s, d), their bias (..., b, s), and the values that go with them."""

    k: Array
    bias: Array
    values: Values


@dataclass(frozen=True)
class Part:
    """Some items: their queries in leaves (items, leaves, l, d), where these stood, and what leaves face."""

    queries: Array
    arranged: Arrangement
    faced: Faced

    def apply(self, xp: Any, v: Array, scale: float) -> Array:
        """Attention (items, n_q, w) to values v (items, n, w), some columns at a time."""
        faced = self.faced
        width, bias = (
            max(faced.k.shape[-1], WIDTH // prod(faced.bias.shape[-2:])),
            faced.bias[..., None, :],
        )
        columns = [slice(j, min(j + width, v.shape[-1])) for j in range(0, v.shape[-1], width)]
        found = [
            attend(xp, self.queries, faced.k, faced.values(v[..., of]), None, bias, scale) for of in columns
        ]
        return self.arranged.joined(xp, found[0] if len(found) == 1 else xp.concat(found, axis=-1))

    def rows(self, xp: Any, ranks: Array, scale: float) -> Array:
        """Rows (items, r, n) of Ŝ, of the queries of these numbers (items, r)."""
        return self.faced.values.spread(*self._softmax(xp, ranks, scale), self.queries.shape[1])

    def at(self, xp: Any, ranks: Array, keys: Array, scale: float) -> Array:
        """Entries (items, r) of Ŝ, of the queries and the keys of these numbers (items, r)."""
        return self.faced.values.at(*self._softmax(xp, ranks, scale), self.queries.shape[1], keys)

    def _softmax(self, xp: Any, ranks: Array, scale: float) -> tuple[Array, Array]:
        """Weights (items, r, s) of what some queries face, and the numbers (items, r) of their leaves."""
        items, leaves, length, _ = self.queries.shape
        number = xp.arange(leaves, dtype=xp.int64, device=device_of(ranks))[:, None, None]
        number = self.arranged.joined(xp, xp.broadcast_to(number, (items, leaves, length, 1)))
        leaf = gathered(xp, number[..., 0], ranks)
        q = take_rows(self.arranged.joined(xp, self.queries), ranks)
        *_, faced, d = self.faced.k.shape
        k = take_rows(xp.reshape(self.faced.k, (items, leaves, faced * d)), leaf)
        k = xp.reshape(k, (*leaf.shape, faced, d))
        scores = (k @ (q * scale)[..., None])[..., 0] + take_rows(self.faced.bias, leaf)
        return masked_softmax(scores), leaf


def flat(xp: Any, x: Array) -> Array:
    """Groups of slots (..., groups, l, w) as one axis."""
    return xp.reshape(x, (*x.shape[:-3], x.shape[-3] * x.shape[-2], x.shape[-1]))


def dense(xp: Any, x: Array) -> Array:
    """x laid out anew where it is a view of another order, which is slow to join to others."""
    return xp.reshape(xp.reshape(x, (-1,)), x.shape)


def joined(xp: Any, inner: Array, far: Array) -> Array:
    """What leaves face of their own (..., blocks, leaves, s, w), and what all of a block do (..., blocks, g, w)."""
    far = xp.broadcast_to(far[..., None, :, :], (*inner.shape[:-2], *far.shape[-2:]))
    both = xp.concat([inner, far], axis=-2)
    return xp.reshape(both, (*both.shape[:-4], both.shape[-4] * both.shape[-3], *both.shape[-2:]))
