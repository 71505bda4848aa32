r"""Tangent attention: near keys exactly, groups of far keys by the tangent of their log-sum-exp."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, inf, prod
from typing import Any

import numpy as np

from nystrom_numerics.arguments import require_count, require_number
from nystrom_numerics.attention.arguments import product_form, ungroup
from nystrom_numerics.attention.arrangement import Arrangement, arrange, directions
from nystrom_numerics.attention.padding import by_length, hide
from nystrom_numerics.attention.streaming import attend
from nystrom_numerics.backend import (
    Array,
    compute_dtype,
    device_of,
    filled_at,
    items_at_once,
    largest,
    still,
    sum_by_label,
)
from nystrom_numerics.errors import RangeError, ShapeError
from nystrom_numerics.landmarks.result import take_rows
from nystrom_numerics.linalg import masked_softmax, transpose

__all__ = ["tangent"]

CAP = 2.0
"""Most that the spread of a block's queries may add to the logarithm of a far key's weight: a factor of e²."""

STEP = 1 / 256
"""The logarithms of what two keys are worth count as equal within it."""

WIDTH = 2**22
"""Numbers of the values that all blocks face at once, but for as many columns as the keys have."""

SAMPLE, LEAF_SAMPLE = 512, 16
"""Tokens, evenly spaced, from which covariances are taken: of all keys, and of each block's queries."""


def tangent(
    q: Array,
    k: Array,
    v: Array,
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
) -> Array:
    r"""Softmax attention in linear time: the keys that matter to a block of queries exactly, all others by tangents.

    Queries stand in blocks, and the mean query of a block, :math:`\bar q`, is its *pilot*.  Keys stand in groups.  For
    a block, near keys N are met exactly, and what is left of a group g is one key and one value with a bias:

    .. math:: \log\sum_{j\in g\setminus N} e^{sq\cdot k_j} \;\approx\; \beta_g + s\,q\cdot\mu_g,\qquad
              w_j = e^{s\bar q\cdot k_j + r_j^2/2},\;
              \mu_g = \frac{\sum w_jk_j}{\sum w_j},\;
              \nu_g = \frac{\sum w_jv_j}{\sum w_j},\;
              \beta_g = \log\sum w_j - s\,\bar q\cdot\mu_g .

    With r = 0 that is the tangent of the group's log-sum-exp at the pilot, its gradient being :math:`s\mu_g`: a lower
    bound, since a log-sum-exp is convex, exact at the pilot, and off by the variance of :math:`s(q-\bar q)\cdot k_j`
    over the group to second order.  :math:`r_j^2 = s^2(k_j-\bar k_g)^T\Sigma(k_j-\bar k_g)`, with Σ the covariance of
    queries within blocks, is the variance over a block's queries of what the group's mean misses of the score of key j:
    the mean of :math:`e^{s(q-\bar q)\cdot(k_j-\bar k_g)}` over normal queries is :math:`e^{r_j^2/2}`, which so enters
    the weight (at most e²).  Near keys are those of the largest :math:`e^{s\bar q\cdot k_j}r_j^2`, which is the size of
    the term that the tangent leaves out.  What follows is one softmax over near keys and tangents: rows of Ŝ are
    non-negative and sum to one.

    Parameters
    ----------
    q : array (..., n_q, d)
    k : array (..., n_k, d)
    v : array (..., n_k, d_v)
        As in :func:`~nystrom_numerics.attention.exact`; n_q and n_k may differ.
    blocks : int, or several
        Blocks of queries.  With several numbers, each a multiple of the one before, there are as many levels: the few
        pilots of the first look at all keys, keep a share of candidates and make tangents of the rest; their children
        look at these candidates alone.  Two levels, ``blocks=(16, 128), groups=(8, 8), near=64``, are better where n
        is 1,000 and more, and dearer in time than in entries.
    near : int
        Exact keys a block, at least 1.  All keys, and so exact attention, where there are no more.
    groups : int, or several
        Groups of keys, as many numbers as ``blocks`` has.
    candidates : float
        The share of its keys, in (0, 1], that a level hands to the next.
    position : float
        Blocks come from a balanced tree, whose nodes are cut where tokens stand, unless a cut by content moves the
        means of its halves apart this many times as far, squared: 0 is a tree of content, ``float("inf")`` blocks of
        consecutive tokens, without any tree.
    key_mask, query_mask : array of bool, broadcastable to (..., n_k) and (..., n_q), optional
        True for real tokens.  Blocks and groups are those of real tokens: padding changes nothing, wherever it is.
    scale, grouped, check_finite
        As in :func:`~nystrom_numerics.attention.nystrom`.

    Returns
    -------
    array (..., n_q, d_v)
        In the dtype of ``v``; zeros for masked queries and for items without any real key.

    Raises
    ------
    DTypeError, DeviceError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost, one level: b n_k + (near + groups) n_q kernel entries, (2b n_k + (near + groups) n_q)(d + d_v) multiplications
    and 16 n_k d for the r_j, taken in the 16 directions that count most; memory
    O((n_q + n_k)(d + d_v) + b(n_k + (near + groups)d)).
    By default the entries are 128 n, those of ``nystrom`` with 64 landmarks.  No matrix is inverted.

    Derivative in Torch: of what is computed, with blocks, groups and near keys, which change in steps, and the
    :math:`r_j` held fixed.  Ties, and what is one but for rounding, are broken by place: repeated tokens have one
    result in every library and beside all batch-mates, unless more than 64 copies of a key stand where near ones end.
    With masks, items of as many real queries and keys are served together, a call for every pair of numbers.

    Source: ours.  Groups of keys seen from blocks of queries are the particle–cluster interactions of treecodes
    (Barnes and Hut 1986); clustered queries in attention, Vyas et al. 2020; sparse entries beside block means, MRA,
    Zeng et al. 2022.  The claim ``estimators`` of the experiments measures what it gains on trained models.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import attention
    >>> q, v = np.random.default_rng(0).standard_normal((2, 512, 16)).cumsum(axis=1)
    >>> q = 5 * q / np.linalg.norm(q, axis=1, keepdims=True)
    >>> s = attention.exact(q, q, v)
    >>> tangents, landmarks = attention.tangent(q, q, v), attention.nystrom(q, q, v, 64)
    >>> bool(np.linalg.norm(tangents - s) < np.linalg.norm(landmarks - s) / 5)
    True
    """
    levels, near, position = checked_sizes(blocks, near, groups, candidates, position)
    a, q, k, v = product_form(
        q,
        k,
        v,
        scale=scale,
        key_mask=key_mask,
        query_mask=query_mask,
        attn_mask=None,
        grouped=grouped,
        check_finite=check_finite,
    )
    xp, storage = a.xp, v.dtype
    dtype = compute_dtype(xp, q.dtype)
    q, k, v = (xp.astype(x, dtype, copy=False) for x in (q, k, hide(xp, v, a.key_mask)))

    def attend_all(q: Array, k: Array, v: Array) -> Array:
        return _attend(xp, q, k, v, levels, near, position, a.scale)

    if a.query_mask is None and a.key_mask is None:
        out = attend_all(q, k, v)
    else:
        out = by_length(xp, attend_all, q, k, v, a.query_mask, a.key_mask)
    out = xp.astype(out, storage, copy=False)
    return ungroup(out) if grouped else out


@dataclass(frozen=True)
class _Faced:
    """What blocks face: keys (..., b, s, d), their bias (..., b, s), −∞ for none, and the values that go with them.

    ``values`` makes (..., b, s, w) of values (..., n, w) of the keys.
    """

    k: Array
    bias: Array
    values: Any


@dataclass(frozen=True)
class _Values:
    """The values that blocks face, of those of the keys, and back: ``index`` (..., b, t) are the slots of the keys that
    blocks keep or hand on to ``inner``, ``by_group`` (..., groups, b, l) the weights in all others.
    """

    xp: Any
    grouped: Arrangement
    index: Array
    by_group: Array
    inner: Any = None

    def __call__(self, v: Array) -> Array:
        xp, v = self.xp, self.grouped.cut(self.xp, v)
        kept = take_rows(_flat(xp, v)[..., None, :, :], self.index)
        far = xp.moveaxis(self.by_group @ v, -3, -2)
        if self.inner is None:
            return xp.concat([kept, far], axis=-2)
        return _joined(xp, self.inner(kept), far)

    def spread(self, weights: Array, leaf: Array, leaves: int) -> Array:
        """Weights (items, r, s) of what leaves face on keys (items, r, n); the numbers (items, r) of the leaves."""
        xp, (items, rows) = self.xp, leaf.shape
        groups, _, length = self.by_group.shape[-3:]
        shares, index, block = self._of_blocks(leaf, leaves)
        kept, far = weights[..., :-groups], weights[..., -groups:]
        if self.inner is not None:
            kept = self.inner.spread(kept, leaf, leaves)
        slots = xp.reshape(take_rows(shares, block), (items, rows, groups, length)) * far[..., None]
        slots = xp.reshape(slots, (items, rows, groups * length))
        slots = slots + sum_by_label(kept[..., None], take_rows(index, block), groups * length)[0][..., 0]
        slots = xp.reshape(slots, (items, rows, groups, length))
        return transpose(self.grouped.joined(xp, xp.moveaxis(slots, 1, -1)))

    def at(self, weights: Array, leaf: Array, leaves: int, key: Array) -> Array:
        """What :meth:`spread` gives to one key (items, r) of each row."""
        xp, items = self.xp, leaf.shape[0]
        groups, _, length = self.by_group.shape[-3:]
        shares, index, block = self._of_blocks(leaf, leaves)
        kept, far = weights[..., :-groups], weights[..., -groups:]
        slots = xp.arange(groups * length, dtype=xp.int64, device=device_of(leaf))
        slots = xp.broadcast_to(xp.reshape(slots, (groups, length, 1)), (items, groups, length, 1))
        slot = xp.take_along_axis(self.grouped.joined(xp, slots)[..., 0], key, axis=-1)
        same = take_rows(index, block) == slot[..., None]
        if self.inner is None:
            found = xp.sum(xp.where(same, kept, 0.0), axis=-1)
        else:
            place = xp.argmax(xp.astype(same, xp.int8), axis=-1)
            found = xp.where(xp.any(same, axis=-1), self.inner.at(kept, leaf, leaves, place), 0.0)
        share = xp.take_along_axis(xp.reshape(shares, (items, -1)), block * (groups * length) + slot, axis=-1)
        return found + share * xp.take_along_axis(far, (slot // length)[..., None], axis=-1)[..., 0]

    def _of_blocks(self, leaf: Array, leaves: int) -> tuple[Array, Array, Array]:
        """Weights (items, b, groups · l) and ``index`` (items, b, t) of all blocks, and those (items, r) of leaves."""
        xp, items = self.xp, leaf.shape[0]
        groups, _, length = self.by_group.shape[-3:]
        shares = xp.reshape(xp.moveaxis(self.by_group, -2, -3), (items, -1, groups * length))
        index = xp.reshape(self.index, (items, -1, self.index.shape[-1]))
        return shares, index, leaf // (leaves // shares.shape[-2])


@dataclass(frozen=True)
class Part:
    """Some items: their queries in leaves (items, leaves, l, d), where these stood, and what leaves face."""

    queries: Array
    arranged: Arrangement
    faced: _Faced

    def apply(self, xp: Any, v: Array, scale: float) -> Array:
        return self.arranged.joined(xp, _answers(xp, self.queries, self.faced, v, scale))

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
        leaf = xp.take_along_axis(number[..., 0], ranks, axis=-1)
        q = take_rows(self.arranged.joined(xp, self.queries), ranks)
        *_, faced, d = self.faced.k.shape
        k = take_rows(xp.reshape(self.faced.k, (items, leaves, faced * d)), leaf)
        k = xp.reshape(k, (*leaf.shape, faced, d))
        scores = (k @ (q * scale)[..., None])[..., 0] + take_rows(self.faced.bias, leaf)
        return masked_softmax(scores), leaf


@dataclass(frozen=True)
class Level:
    """Blocks of queries below a block of the level before, groups of keys, and the share of keys to hand on."""

    blocks: int
    groups: int
    share: float


def checked_sizes(
    blocks: int | tuple[int, ...],
    near: int,
    groups: int | tuple[int, ...],
    candidates: float,
    position: float,
) -> tuple[tuple[Level, ...], int, float]:
    """Checked: levels, near keys and the weight of position."""
    levels = _levels(blocks, groups, candidates)
    near = require_count("near", near)
    position = require_number("position", position, lambda x: x >= 0, "a number of at least 0, or infinity")
    return levels, near, position


def _levels(
    blocks: int | tuple[int, ...], groups: int | tuple[int, ...], candidates: float
) -> tuple[Level, ...]:
    given = {
        name: x if isinstance(x, tuple) else (x,) for name, x in (("blocks", blocks), ("groups", groups))
    }
    for name, values in given.items():
        if not values:
            raise RangeError(name, "()", "an integer of at least 1, or several")
        for one in values:
            require_count(name, one)
    share = require_number("candidates", candidates, lambda x: 0 < x <= 1, "a number in (0, 1]")
    of_queries, of_keys = given["blocks"], given["groups"]
    if len(of_keys) != len(of_queries):
        raise ShapeError("groups", f"{len(of_keys)} numbers", f"as many as `blocks` has, {len(of_queries)}")
    before = (1, *of_queries[:-1])
    if any(b % a for a, b in zip(before, of_queries, strict=True)):
        raise RangeError("blocks", f"{of_queries}", "each number a multiple of the one before")
    return tuple(Level(b // a, g, share) for a, b, g in zip(before, of_queries, of_keys, strict=True))


@dataclass(frozen=True)
class _Queries:
    """Queries of leaves (..., leaves, l, d), and whether one stands there (..., leaves, l), ``None`` for everywhere."""

    q: Array
    there: Array | None

    def pilots(self, xp: Any, blocks: int) -> tuple[Array, Array]:
        """Means (..., blocks, d), and the covariance of queries within blocks (..., d, d)."""
        *batch, leaves, length, d = self.q.shape
        inside = leaves // blocks
        if self.there is None:
            pilot = xp.mean(xp.reshape(self.q, (*batch, blocks, inside * length, d)), axis=-2)
        else:
            present = xp.astype(self.there, self.q.dtype)
            size = xp.sum(xp.reshape(present, (*present.shape[:-2], blocks, inside * length)), axis=-1)
            total = (present[..., None, :] @ self.q)[..., 0, :]
            total = xp.sum(xp.reshape(total, (*batch, blocks, inside, d)), axis=-2)
            pilot = total / xp.clip(size, min=1.0)[..., None]
        step = -(-length // LEAF_SAMPLE)
        delta = still(self.q[..., ::step, :])
        centre = xp.broadcast_to(still(pilot)[..., None, :], (*batch, blocks, inside, d))
        delta = delta - xp.reshape(centre, (*batch, leaves, 1, d))
        number: Any = leaves * delta.shape[-2]
        if self.there is not None:
            few = xp.astype(self.there[..., ::step], delta.dtype)
            delta, number = delta * few[..., None], xp.sum(few, axis=(-2, -1))[..., None, None]
            number = xp.clip(number, min=1.0)
        delta = xp.reshape(delta, (*batch, -1, d))
        return pilot, transpose(delta) @ delta / number

    def below(self, xp: Any, blocks: int) -> _Queries:
        """With an axis for blocks before that of their leaves."""
        *batch, leaves, length, d = self.q.shape
        shape = (blocks, leaves // blocks, length)
        q, there = xp.reshape(self.q, (*batch, *shape, d)), self.there
        return _Queries(q, None if there is None else xp.reshape(there, (*there.shape[:-2], *shape)))


def _attend(
    xp: Any,
    q: Array,
    k: Array,
    v: Array,
    levels: tuple[Level, ...],
    near: int,
    position: float,
    scale: float,
) -> Array:
    batch = np.broadcast_shapes(*(tuple(x.shape[:-2]) for x in (q, k, v)))
    q, k, v = (
        xp.reshape(xp.broadcast_to(x, (*batch, *x.shape[-2:])), (-1, *x.shape[-2:])) for x in (q, k, v)
    )
    parts = [
        part.apply(xp, v[of, ...], scale) for of, part in parts_of(xp, q, k, levels, near, position, scale)
    ]
    out = parts[0] if len(parts) == 1 else xp.concat(parts, axis=0)
    return xp.reshape(out, (*batch, *out.shape[-2:]))


def parts_of(
    xp: Any, q: Array, k: Array, levels: tuple[Level, ...], near: int, position: float, scale: float
) -> Iterator[tuple[slice, Part]]:
    """What queries face of keys (items, n, d), some items at a time: as many as a cache holds."""
    leaves = prod(level.blocks for level in levels)
    of_keys = covariance(xp, still(k))
    if position == inf or q.shape[-2] <= leaves:
        arranged = Arrangement(None, q.shape[-2], leaves)
    else:
        axes = directions(xp, of_keys, covariance(xp, still(q)))
        arranged = arrange(xp, still(q), leaves, axes, position)
    queries = _Queries(arranged.cut(xp, q), arranged.there(xp, q))
    pilot, within = queries.pilots(xp, levels[0].blocks)
    axes = directions(xp, within, of_keys)
    grouped = arrange(xp, still(k), levels[0].groups, axes, 0.0)
    some = items_at_once(k)
    for i in range(0, k.shape[0], some):
        of = slice(i, min(i + some, k.shape[0]))
        asked = _Queries(queries.q[of, ...], queries.there)
        seen = (x[of, ...] for x in (pilot, k, axes, of_keys))
        faced = _facing(xp, asked, grouped[of], *seen, levels=levels, near=near, scale=scale)
        yield of, Part(asked.q, arranged[of], faced)


def _answers(xp: Any, q: Array, faced: _Faced, v: Array, scale: float) -> Array:
    """Attention of leaves q (..., leaves, l, d) to what they face, for values (..., n, d_v), some columns at a time."""
    width, bias = max(faced.k.shape[-1], WIDTH // prod(faced.bias.shape[-2:])), faced.bias[..., None, :]
    columns = [slice(j, min(j + width, v.shape[-1])) for j in range(0, v.shape[-1], width)]
    found = [attend(xp, q, faced.k, faced.values(v[..., of]), None, bias, scale) for of in columns]
    return found[0] if len(found) == 1 else xp.concat(found, axis=-1)


def covariance(xp: Any, x: Array) -> Array:
    """Of tokens x (..., n, d), from evenly spaced ones: (..., d, d)."""
    some = x[..., :: -(-x.shape[-2] // SAMPLE), :]
    some = some - xp.mean(some, axis=-2, keepdims=True)
    return transpose(some) @ some / some.shape[-2]


def _facing(
    xp: Any,
    queries: _Queries,
    grouped: Arrangement,
    pilot: Array,
    k: Array,
    axes: Array,
    of_keys: Array,
    *,
    levels: tuple[Level, ...],
    near: int,
    scale: float,
) -> _Faced:
    """What every leaf of queries faces of keys (..., n, d)."""
    level, below, n = levels[0], levels[1:], k.shape[-2]
    exist = grouped.there(xp, k)
    k = grouped.cut(xp, k)  # (..., groups, l, d)
    flat = _flat(xp, k)
    missed = xp.reshape(spread_missed(xp, still(k) @ (axes * scale)[..., None, :, :], exist), flat.shape[:-1])
    scores = (pilot * scale) @ transpose(flat)  # (..., blocks, groups · l)
    worth = xp.log(missed + float(xp.finfo(missed.dtype).smallest_normal))
    weights = xp.clip(missed / 2, max=CAP)
    if exist is not None:
        there = xp.reshape(exist, (-1,))
        worth, weights = (xp.where(there, x, -xp.inf) for x in (worth, weights))
    handed = min(n, max(near, ceil(level.share * n)) if below else near)
    index = largest(xp, still(scores) + worth[..., None, :], handed, STEP)
    weights = filled_at(xp, scores + weights[..., None, :], index, -xp.inf)
    by_group, beta = group_weights(xp, weights, k.shape[-3])
    mu = xp.moveaxis(by_group @ k, -3, -2)
    beta = beta - scale * xp.sum(mu * pilot[..., None, :], axis=-1)
    near_k = take_rows(flat[..., None, :, :], index)

    if not below:
        bias = xp.concat([xp.zeros_like(near_k[..., 0]), beta], axis=-1)
        return _Faced(xp.concat([near_k, mu], axis=-2), bias, _Values(xp, grouped, index, by_group))
    leaves = queries.below(xp, level.blocks)
    inner_pilot, within = leaves.pilots(xp, below[0].blocks)
    of_keys = of_keys[..., None, :, :]
    inner = _facing(
        xp,
        leaves,
        Arrangement(None, handed, below[0].groups),
        inner_pilot,
        near_k,
        directions(xp, within, of_keys),
        of_keys,
        levels=below,
        near=near,
        scale=scale,
    )

    bias = _joined(xp, inner.bias[..., None], beta[..., None])[..., 0]
    values = _Values(xp, grouped, index, by_group, inner.values)
    return _Faced(_joined(xp, inner.k, mu), bias, values)


def _joined(xp: Any, inner: Array, far: Array) -> Array:
    """What leaves face of their own (..., blocks, leaves, s, w), and what all of a block do (..., blocks, g, w)."""
    far = xp.broadcast_to(far[..., None, :, :], (*inner.shape[:-2], *far.shape[-2:]))
    both = xp.concat([inner, far], axis=-2)
    return xp.reshape(both, (*both.shape[:-4], both.shape[-4] * both.shape[-3], *both.shape[-2:]))


def _flat(xp: Any, x: Array) -> Array:
    """Groups of slots (..., groups, l, w) as one axis."""
    return xp.reshape(x, (*x.shape[:-3], x.shape[-3] * x.shape[-2], x.shape[-1]))


def spread_missed(xp: Any, x: Array, exist: Array | None) -> Array:
    """Squared distance (..., groups, l) of every x (..., groups, l, r) from the mean of its group."""
    if exist is None:
        mean = xp.mean(x, axis=-2, keepdims=True)
    else:
        weights = xp.astype(exist, x.dtype)[:, None, :]
        mean = (weights @ x) / xp.clip(xp.sum(weights, axis=-1, keepdims=True), min=1.0)
    delta = x - mean
    return xp.sum(delta * delta, axis=-1)


def group_weights(xp: Any, log_weights: Array, groups: int) -> tuple[Array, Array]:
    """Weights of sum one (..., groups, b, l), and the logarithms of sums (..., b, groups), of (..., b, groups · l)."""
    *batch, b, n = log_weights.shape
    log_weights = xp.reshape(log_weights, (*batch, b, groups, n // groups))
    top = xp.max(log_weights, axis=-1, keepdims=True)
    exist = top > -xp.inf
    top = xp.where(exist, top, xp.zeros_like(top))
    weights = xp.exp(log_weights - top)
    total = xp.sum(weights, axis=-1, keepdims=True)
    total = xp.where(exist, total, xp.ones_like(total))
    of_groups = xp.where(exist, top + xp.log(total), -xp.inf)[..., 0]
    return xp.moveaxis(weights / total, -2, -3), of_groups
