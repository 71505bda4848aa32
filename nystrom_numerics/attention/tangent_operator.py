r"""Tangent attention as an operator: built once, applied to values, read by rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from nystrom_numerics.attention.arguments import product_form, tokens_of
from nystrom_numerics.attention.faced import Part, Values
from nystrom_numerics.attention.operators import SEEN, AttentionOperator, OperatorBase, blocks
from nystrom_numerics.attention.padding import equal_lengths, hide, put_back, real_first
from nystrom_numerics.attention.row_errors import RowErrors
from nystrom_numerics.attention.tangent import checked_sizes
from nystrom_numerics.attention.tangent_errors import part_errors
from nystrom_numerics.attention.tangents import Level, parts_of
from nystrom_numerics.backend import Array, compute_dtype, device_of, from_numpy, to_numpy
from nystrom_numerics.brief import brief
from nystrom_numerics.landmarks.tokens import rank_of
from nystrom_numerics.linalg import masked_softmax, transpose
from nystrom_numerics.places import sum_by_label, swapped

__all__ = ["tangent_operator"]


@dataclass(frozen=True)
class _Built:
    """Items of as many real queries and as many real keys: their numbers, and what is made of real tokens alone."""

    items: np.ndarray[Any, Any]
    queries: int
    keys: int
    parts: tuple[tuple[slice, Part], ...]


@dataclass(frozen=True)
class _TangentOperator(OperatorBase):
    q: Array
    k: Array
    key_mask: Array | None
    query_mask: Array | None
    scale: float
    grouped: bool
    entries: int
    built: tuple[_Built, ...] = field(repr=False)
    stochastic: bool = True

    __repr__ = brief

    @property
    def _batch(self) -> tuple[int, ...]:
        return np.broadcast_shapes(tuple(self.q.shape[:-2]), tuple(self.k.shape[:-2]))

    def apply(self, v: Array, /) -> Array:
        """As :func:`tangent` and :class:`AttentionOperator` say."""
        xp, v = self._values(v)
        out = self._with_all(xp, self._applied, xp.astype(v, compute_dtype(xp, v.dtype), copy=False))
        return self._ungrouped(xp.astype(out, v.dtype, copy=False))

    def _with_all(self, xp: Any, made: Callable[[Any, Array], Array], v: Array) -> Array:
        """What is made of v (..., n, w) by items, (..., n', w): leading axes are the operator's, and more."""
        tail, own = v.shape[-2:], self._batch
        batch = np.broadcast_shapes(own, tuple(v.shape[:-2]))
        v = xp.reshape(xp.broadcast_to(v, (*batch, *tail)), (-1, *tail))
        # values of axes that the operator lacks meet the same items, time after time
        number = np.broadcast_to(np.reshape(np.arange(prod(own)), own), batch).reshape(-1)
        order = np.argsort(number, kind="stable").reshape(prod(own), -1)
        found = [
            made(xp, xp.take(v, from_numpy(xp, time, v), axis=0) if order.shape[1] > 1 else v)
            for time in order.T
        ]
        out = found[0]
        if len(found) > 1:
            back = np.argsort(order.T.reshape(-1))
            out = xp.take(xp.concat(found, axis=0), from_numpy(xp, back, v), axis=0)
        return xp.reshape(out, (*batch, *out.shape[-2:]))

    def _applied(self, xp: Any, v: Array) -> Array:
        """To one array of values (..., n_k, w) an item, (items, n_k, w)."""
        keys, queries = self._flat(xp, self.key_mask), self._flat(xp, self.query_mask)
        if keys is not None:
            v = real_first(xp, v, keys)

        def attended(built: _Built) -> Array:
            some = self._of(xp, built, v)[:, : built.keys, :]
            return _joined(xp, [part.apply(xp, some[of, ...], self.scale) for of, part in built.parts])

        out = self._each(xp, attended, self.q.shape[-2], v.shape[-1])
        return out if queries is None else put_back(xp, out, queries)

    def _give_back(self, xp: Any, u: Array) -> Array:
        """Cost: n_q (near + groups) kernel entries, b n_k w multiplications; memory O(n_q (near + groups)), an item."""
        return self._with_all(xp, self._given_back, u)

    def _given_back(self, xp: Any, u: Array) -> Array:
        """By one array of what queries hold (..., n_q, w) an item, (items, n_q, w)."""
        keys, queries = self._flat(xp, self.key_mask), self._flat(xp, self.query_mask)
        if queries is not None:
            u = real_first(xp, u, queries)

        def given_back(built: _Built) -> Array:
            some = self._of(xp, built, u)[:, : built.queries, :]
            return _joined(xp, [_to_keys(xp, part, some[of, ...], self.scale) for of, part in built.parts])

        out = self._each(xp, given_back, self.k.shape[-2], u.shape[-1])
        return out if keys is None else put_back(xp, out, keys)

    def _rows(self, at: Array) -> Array:
        """Cost: r (near + groups) kernel entries; memory O(b n_k + r (near + groups) d), an item."""
        xp = tokens_of(q=self.q)
        keys, rank = self._flat(xp, self.key_mask), self._ranks(xp, self.query_mask, at)

        def read(built: _Built) -> Array:
            some = self._of(xp, built, rank)
            rows = _joined(xp, [part.rows(xp, some[of, ...], self.scale) for of, part in built.parts])
            return _filled(xp, transpose(rows), self.k.shape[-2])

        out = self._each(xp, read, self.k.shape[-2], at.shape[0])
        out = transpose(out if keys is None else put_back(xp, out, keys))
        return xp.reshape(out, (*self._batch, *out.shape[-2:]))

    def diagonal(self) -> Array:
        """As :class:`AttentionOperator` says.

        Cost: n (near + groups) kernel entries; memory O(n) and 256 times what a row takes but for n_k.
        """
        xp, parts = tokens_of(q=self.q), []
        for part in blocks(min(self.shape[-2:]), SEEN):
            at = xp.arange(part.start, part.stop, dtype=xp.int64, device=device_of(self.q))
            entries = hide(
                xp, self._masked(self._entries_at(xp, at)[..., None], at), self._key_mask_at(xp, at)
            )
            parts.append(self._ungrouped(entries)[..., 0])
        return xp.concat(parts, axis=-1)

    def row_errors(self) -> RowErrors:
        """How far rows are from exact ones, predicted and at most: see :mod:`~.tangent_errors`, which says the cost."""
        return self._row_errors

    @cached_property
    def _row_errors(self) -> RowErrors:
        xp, batch, n_q = tokens_of(q=self.q), self._batch, self.q.shape[-2]
        keys = xp.reshape(xp.broadcast_to(self.k, (*batch, *self.k.shape[-2:])), (-1, *self.k.shape[-2:]))
        mask = self._flat(xp, self.key_mask)
        keys = keys if mask is None else real_first(xp, keys, mask)
        info = xp.finfo(compute_dtype(xp, self.q.dtype))
        eps, least = float(info.eps), float(info.smallest_normal)
        of_q = self._flat(xp, self.query_mask)
        found = np.zeros((4, prod(batch), n_q))
        for built in self.built:
            some = self._of(xp, built, keys)[:, : built.keys, :]
            for of, part in built.parts:
                told = part_errors(part, some[of, ...], self.scale, eps, least)
                for i, item in enumerate(built.items[of]):
                    real = slice(None) if of_q is None else np.flatnonzero(to_numpy(of_q[int(item), ...]))
                    found[:, int(item), real] = [getattr(told.of((i,)), x) for x in told.__dataclass_fields__]
        shape = batch
        if self.grouped:
            shape = (*batch[:-2], batch[-2] * batch[-1])
        return RowErrors(*np.reshape(found, (4, *shape, n_q)))

    def _key_mask_at(self, xp: Any, at: Array) -> Array | None:
        return None if self.key_mask is None else xp.take(self.key_mask, at, axis=-1)

    def _entries_at(self, xp: Any, at: Array) -> Array:
        """Entries (..., r) of queries and keys of these numbers; what masked ones have does not matter."""
        ranks, keys = (self._ranks(xp, mask, at) for mask in (self.query_mask, self.key_mask))

        def read(built: _Built) -> Array:
            of_q, of_k = (self._of(xp, built, x) for x in (ranks, keys))
            found = [
                part.at(xp, of_q[of, ...], of_k[of, ...], self.scale)[..., None] for of, part in built.parts
            ]
            return _joined(xp, found)

        return xp.reshape(self._each(xp, read, at.shape[0], 1), (*self._batch, at.shape[0]))

    def _ranks(self, xp: Any, mask: Array | None, at: Array) -> Array:
        """Which of its real tokens each of these is in every item (items, r); a real one where it is none."""
        mask, rank = self._flat(xp, mask), at[None, :]
        if mask is not None:
            rank = xp.clip(xp.take(rank_of(xp, mask), at, axis=-1), min=0)
        return xp.broadcast_to(rank, (prod(self._batch), at.shape[0]))

    def _each(self, xp: Any, made: Callable[[_Built], Array], length: int, width: int) -> Array:
        """What is made of all items, each filled up to ``length``; zeros (length, width) of those without tokens."""
        found, dtype = [], compute_dtype(xp, self.q.dtype)
        for built in self.built:
            if built.parts:
                found.append(_filled(xp, made(built), length))
            else:
                shape = (len(built.items), length, width)
                found.append(xp.zeros(shape, dtype=dtype, device=device_of(self.q)))
        if len(found) == 1:
            return found[0]
        back = np.argsort(np.concatenate([built.items for built in self.built]))
        return xp.take(xp.concat(found, axis=0), from_numpy(xp, back, self.q), axis=0)

    def _of(self, xp: Any, built: _Built, x: Array) -> Array:
        return x if len(self.built) == 1 else xp.take(x, from_numpy(xp, built.items, x), axis=0)

    def _flat(self, xp: Any, mask: Array | None) -> Array | None:
        """The mask of every item (items, n)."""
        if mask is None:
            return None
        return xp.reshape(xp.broadcast_to(mask, (*self._batch, mask.shape[-1])), (-1, mask.shape[-1]))


def tangent_operator(
    q: Array,
    k: Array,
    /,
    *,
    blocks: int | tuple[int, ...] = 32,
    near: int = 80,
    groups: int | tuple[int, ...] = 16,
    candidates: float = 0.25,
    position: float = 4.0,
    key_mask: Array | None = None,
    query_mask: Array | None = None,
    scale: float | None = None,
    grouped: bool = False,
    check_finite: bool = False,
) -> AttentionOperator:
    r"""Tangent attention as an :class:`~nystrom_numerics.attention.AttentionOperator`: blocks and tangents made once.

    ``apply`` gives what :func:`tangent` does, to the last bit.  A row is the softmax over what the query's block
    faces: what a near key has goes to it, what a group has is spread over its other keys by their weights.

    Parameters
    ----------
    q, k, blocks, near, groups, candidates, position, key_mask, query_mask, scale, grouped, check_finite
        As in :func:`tangent`, which also says what making it costs.

    Returns
    -------
    AttentionOperator

    Raises
    ------
    DTypeError, DeviceError, NamespaceError, NonFiniteError, RangeError, ShapeError
        As :func:`tangent`.

    Notes
    -----
    Memory: O(b (n_k + (near + groups) d)) an item, held as long as the operator.  Cost of r rows: r (near + groups)
    kernel entries and O(r n_k) sums; of the diagonal and of the transpose applied, n (near + groups) entries; of
    columns, that of ``apply`` to as many values.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import attention
    >>> q, k, v = np.random.default_rng(0).standard_normal((3, 200, 4))
    >>> made = attention.tangent_operator(q, k, blocks=8, near=10, groups=4)
    >>> bool(np.allclose(made.rows([7, 90]) @ v, made.apply(v)[[7, 90]]))
    True
    """
    levels, near, position = checked_sizes(blocks, near, groups, candidates, position)
    a, q, k, _ = product_form(
        q,
        k,
        scale=scale,
        key_mask=key_mask,
        query_mask=query_mask,
        attn_mask=None,
        grouped=grouped,
        check_finite=check_finite,
    )
    xp, dtype = a.xp, compute_dtype(a.xp, q.dtype)
    batch = np.broadcast_shapes(tuple(q.shape[:-2]), tuple(k.shape[:-2]))

    def flat(x: Array, tail: int) -> Array:
        return xp.reshape(xp.broadcast_to(x, (*batch, *x.shape[-tail:])), (-1, *x.shape[-tail:]))

    of_q, of_k = (flat(xp.astype(x, dtype, copy=False), 2) for x in (q, k))
    masks = [None if mask is None else flat(mask, 1) for mask in (a.query_mask, a.key_mask)]
    of_q, of_k = (
        x if mask is None else real_first(xp, x, mask) for x, mask in zip((of_q, of_k), masks, strict=True)
    )
    built, entries = [], 0
    lengths = equal_lengths(xp, of_q, of_k, *masks)
    for items, n_q, n_k in lengths:
        parts: tuple[tuple[slice, Part], ...] = ()
        if n_q and n_k:
            chosen = from_numpy(xp, items, q)
            some, seen = (x if len(lengths) == 1 else xp.take(x, chosen, axis=0) for x in (of_q, of_k))
            some, seen = some[:, :n_q, :], seen[:, :n_k, :]
            parts = tuple(parts_of(xp, some, seen, levels, near, position, a.scale))
            entries = max(entries, _entries(parts[0][1], levels, n_q, n_k))
        built.append(_Built(items, n_q, n_k, parts))
    return _TangentOperator(q, k, a.key_mask, a.query_mask, a.scale, grouped, entries, tuple(built))


def _entries(part: Part, levels: tuple[Level, ...], n_q: int, n_k: int) -> int:
    """Pilots with the keys that they look at, and queries with what they face."""
    total, blocks, seen, values = n_q * part.faced.k.shape[-2], 1, n_k, part.faced.values
    for level in levels:
        blocks *= level.blocks
        total += blocks * seen
        seen, values = values.index.shape[-1], values.inner
    return int(total)


def _to_keys(xp: Any, part: Part, u: Array, scale: float) -> Array:
    """Ŝᵀ of some items for u (items, n_q, w): (items, n_k, w)."""
    u, there = part.arranged.cut(xp, u), part.arranged.there
    if there is not None:
        u = xp.where(there[..., None], u, xp.zeros_like(u))
    scores = (part.queries * scale) @ transpose(part.faced.k) + part.faced.bias[..., None, :]
    return _to_values(xp, part.faced.values, transpose(masked_softmax(scores)) @ u)


def _to_values(xp: Any, values: Values, faced: Array) -> Array:
    """What comes to keys (..., n, w) of what comes to all that leaves face (..., leaves, s, w)."""
    groups, blocks, length = values.weights.shape[-3:]
    kept, far = faced[..., :-groups, :], faced[..., -groups:, :]
    if values.inner is not None:
        *batch, leaves, _, w = faced.shape
        inside = (*batch, blocks, leaves // blocks)
        far = xp.sum(xp.reshape(far, (*inside, groups, w)), axis=-3)
        kept = _to_values(xp, values.inner, xp.reshape(kept, (*inside, kept.shape[-2], w)))
    *batch, blocks, count, w = kept.shape
    near = xp.reshape(kept, (*batch, blocks * count, w))
    index = xp.reshape(values.index, (*batch, blocks * count))
    slots = xp.reshape(sum_by_label(near, index, groups * length)[0], (*batch, groups, length, w))
    slots = slots + transpose(values.weights / values.total) @ swapped(xp, far)
    return values.route.grouped.joined(xp, slots)


def _joined(xp: Any, parts: list[Array]) -> Array:
    return parts[0] if len(parts) == 1 else xp.concat(parts, axis=0)


def _filled(xp: Any, x: Array, length: int) -> Array:
    """Rows of x (items, n, w) and zeros, ``length`` of both."""
    if x.shape[-2] == length:
        return x
    shape = (x.shape[0], length - x.shape[-2], x.shape[-1])
    return xp.concat([x, xp.zeros(shape, dtype=x.dtype, device=device_of(x))], axis=-2)
