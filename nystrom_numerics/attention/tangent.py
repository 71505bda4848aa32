r"""Tangent attention: near keys exactly, groups of far keys by the tangent of their log-sum-exp."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, inf, prod
from typing import Any

import numpy as np

from nystrom_numerics.arguments import require_count, require_number
from nystrom_numerics.attention.arguments import product_form, ungroup
from nystrom_numerics.attention.arrangement import arrange, directions, in_blocks, slots
from nystrom_numerics.attention.padding import hide, put_back, real_first
from nystrom_numerics.attention.streaming import attend
from nystrom_numerics.backend import Array, compute_dtype, device_of, in_order, largest, still
from nystrom_numerics.errors import RangeError, ShapeError
from nystrom_numerics.landmarks.result import take_rows
from nystrom_numerics.linalg import transpose

__all__ = ["tangent"]

CAP = 2.0
"""Most that the spread of a block's queries may add to the logarithm of a far key's weight: a factor of e²."""

STEP = 1 / 256
"""The logarithms of what two keys are worth count as equal within it."""

SAMPLE, LEAF_SAMPLE = 2048, 64
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
    and 16 n_k d for the r_j, taken in the 16 directions that count most; memory O((n_q + n_k)(d + d_v) + b n_k).
    By default the entries are 128 n, those of ``nystrom`` with 64 landmarks.  No matrix is inverted.

    Derivative in Torch: of what is computed, with blocks, groups and near keys, which change in steps, and the
    :math:`r_j` held fixed.  Ties, and what is one but for rounding, are broken by place: repeated tokens have one result
    in every library and beside all batch-mates.

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
    levels = _levels(blocks, groups, candidates)
    near = require_count("near", near)
    position = require_number("position", position, lambda x: x >= 0, "a number of at least 0, or infinity")
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
    queries, keys = q.shape[-2], k.shape[-2]
    if a.query_mask is not None:
        q, queries = real_first(xp, q, a.query_mask), _count(xp, a.query_mask)
    if a.key_mask is not None:
        k, v = (real_first(xp, x, a.key_mask) for x in (k, v))
        keys = _count(xp, a.key_mask)
    out = _attend(xp, q, queries, _Keys(k, v, keys), levels, near, position, a.scale)
    if a.query_mask is not None:
        out = put_back(xp, out, a.query_mask)
    out = xp.astype(out, storage, copy=False)
    return ungroup(out) if grouped else out


@dataclass(frozen=True)
class _Keys:
    """Keys (..., n, d) and values (..., n, d_v), of which the first ``count``, an int or (..., 1), are real."""

    k: Array
    v: Array
    count: Any

    def at(self, index: Array, count: Any) -> _Keys:
        return _Keys(take_rows(self.k, index), take_rows(self.v, index), count)

    def for_each(self, xp: Any) -> _Keys:
        """With an axis for the blocks that see them."""
        return replace(self, k=xp.expand_dims(self.k, axis=-3), v=xp.expand_dims(self.v, axis=-3))


@dataclass(frozen=True)
class _Faced:
    """What blocks face: keys (..., b, s, d), values (..., b, s, d_v), and their bias (..., b, s), −∞ for none."""

    k: Array
    v: Array
    bias: Array

    def for_each(self, xp: Any, leaves: int) -> _Faced:
        """The same for each of so many leaves of a block, (..., b, leaves, s, ·)."""

        def repeated(x: Array, axis: int) -> Array:
            x = xp.expand_dims(x, axis=axis)
            shape = list(x.shape)
            shape[axis] = leaves
            return xp.broadcast_to(x, tuple(shape))

        return _Faced(repeated(self.k, -3), repeated(self.v, -3), repeated(self.bias, -2))

    def of_leaves(self, xp: Any) -> _Faced:
        """The axes of blocks and of their leaves made one."""

        def one(x: Array, axis: int) -> Array:
            shape = (*x.shape[:axis], x.shape[axis] * x.shape[axis + 1], *x.shape[x.ndim + axis + 2 :])
            return xp.reshape(x, shape)

        return _Faced(one(self.k, -4), one(self.v, -4), one(self.bias, -3))


@dataclass(frozen=True)
class _Level:
    """Blocks of queries below a block of the level before, groups of keys, and the share of keys to hand on."""

    blocks: int
    groups: int
    share: float


def _levels(
    blocks: int | tuple[int, ...], groups: int | tuple[int, ...], candidates: float
) -> tuple[_Level, ...]:
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
    return tuple(_Level(b // a, g, share) for a, b, g in zip(before, of_queries, of_keys, strict=True))


def _count(xp: Any, mask: Array) -> Array:
    return xp.count_nonzero(mask, axis=-1, keepdims=True)


def _attend(
    xp: Any,
    q: Array,
    queries: Array | int,
    keys: _Keys,
    levels: tuple[_Level, ...],
    near: int,
    position: float,
    scale: float,
) -> Array:
    """Attention of queries of which the first ``queries`` are real."""
    batch = np.broadcast_shapes(tuple(q.shape[:-2]), tuple(keys.k.shape[:-2]))
    q, k = (xp.broadcast_to(x, (*batch, *x.shape[-2:])) for x in (q, keys.k))
    leaves = prod(level.blocks for level in levels)
    of_keys = _covariance(xp, still(k), keys.count)
    if position == inf:
        order = xp.broadcast_to(xp.arange(q.shape[-2], dtype=xp.int64, device=device_of(q)), q.shape[:-1])
    else:
        axes = directions(xp, of_keys, _covariance(xp, still(q), queries))
        order = arrange(xp, still(q), queries, leaves, axes, position)
    blocks = in_blocks(xp, order, queries, leaves)
    some = take_rows(q, _flat(xp, blocks.token))
    if not isinstance(queries, int) or queries % leaves:
        some = hide(xp, some, _flat(xp, blocks.there))
    some = xp.reshape(some, (*blocks.token.shape, q.shape[-1]))
    _, within = _pilots(xp, some, blocks.there, levels[0].blocks)
    order = arrange(xp, still(k), keys.count, levels[0].groups, directions(xp, within, of_keys), 0.0)
    faced = _facing(xp, some, blocks.there, keys.at(order, keys.count), of_keys, levels, near, scale)
    exist = None if isinstance(keys.count, int) else faced.bias > -xp.inf
    bias = faced.bias if exist is None else xp.where(exist, faced.bias, xp.zeros_like(faced.bias))
    out = attend(xp, some, faced.k, faced.v, exist, bias[..., None, :], scale)
    out = xp.reshape(out, (*out.shape[:-3], out.shape[-3] * out.shape[-2], out.shape[-1]))
    return take_rows(out, blocks.slot)


def _flat(xp: Any, x: Array) -> Array:
    """Blocks of slots (..., b, l) as one axis."""
    return xp.reshape(x, (*x.shape[:-2], x.shape[-2] * x.shape[-1]))


def _covariance(xp: Any, x: Array, count: Array | int) -> Array:
    """Of the first ``count`` tokens x (..., n, d), from evenly spaced ones: (..., d, d)."""
    some, there = _sample(xp, x, count, SAMPLE)
    weights = xp.astype(there, x.dtype)
    size = xp.sum(weights, axis=-2, keepdims=True)
    size = xp.where(size > 0, size, xp.ones_like(size))
    centred = (some - xp.sum(some * weights, axis=-2, keepdims=True) / size) * weights
    return transpose(centred) @ centred / size


def _sample(xp: Any, x: Array, count: Array | int, most: int) -> tuple[Array, Array]:
    """Evenly spaced ones of the first ``count``, an int or (..., 1), rows of x (..., n, d), and which exist."""
    place = xp.arange(min(x.shape[-2], most), dtype=xp.int64, device=device_of(x))
    if isinstance(count, int):
        count = xp.asarray([count], dtype=xp.int64, device=device_of(x))
    size = xp.minimum(count, xp.full_like(count, most))
    there = place < size
    rank = xp.where(
        there, place * count // xp.where(size > 0, size, xp.ones_like(size)), xp.zeros_like(count)
    )
    return take_rows(x, rank), there[..., None]


def _pilots(xp: Any, some: Array, there: Array, blocks: int) -> tuple[Array, Array]:
    """Means (..., blocks, d) of queries (..., leaves, l, d), and their covariance within blocks (..., d, d)."""
    *batch, leaves, _, d = some.shape
    inside = leaves // blocks
    size = xp.sum(xp.astype(there, xp.int64), axis=-1, keepdims=True)
    total = xp.reshape(xp.sum(some, axis=-2), (*batch, blocks, inside, d))  # what is not there is zero
    of_block = xp.astype(xp.sum(xp.reshape(size, (*batch, blocks, inside)), axis=-1), some.dtype)[..., None]
    pilot = xp.sum(total, axis=-2) / xp.where(of_block > 0, of_block, xp.ones_like(of_block))
    centre = xp.broadcast_to(pilot[..., None, :], (*batch, blocks, inside, d))
    few, real = _sample(xp, some, size, LEAF_SAMPLE)
    delta = (few - xp.reshape(centre, (*batch, leaves, 1, d))) * xp.astype(real, some.dtype)
    delta = xp.reshape(delta, (*batch, -1, d))
    count = xp.sum(xp.astype(real, some.dtype), axis=(-3, -2, -1))[..., None, None]
    return pilot, still(transpose(delta) @ delta / xp.where(count > 0, count, xp.ones_like(count)))


def _facing(
    xp: Any,
    some: Array,
    there: Array,
    keys: _Keys,
    of_keys: Array,
    levels: tuple[_Level, ...],
    near: int,
    scale: float,
) -> _Faced:
    """What every leaf of queries (..., leaves, l, d) faces of keys (..., n, d) in the order of groups."""
    level, below = levels[0], levels[1:]
    n = keys.k.shape[-2]
    pilot, metric = _pilots(xp, some, there, level.blocks)
    grouped, exist = _in_groups(xp, keys, level.groups)
    scores = (pilot * scale) @ transpose(grouped.k)
    along = still(grouped.k) @ (directions(xp, metric, of_keys) * scale)
    missed = _missed(xp, along, exist, level.groups)[..., None, :]
    worth = scores + xp.log(missed + float(xp.finfo(missed.dtype).smallest_normal))
    if exist is not None:
        worth = xp.where(exist[..., None, :], worth, -xp.inf)
    handed = _handed(xp, keys.count, level, near) if below else near
    limit = None if isinstance(handed, int) else handed[..., None]
    index, chosen = largest(xp, in_order(xp, worth, STEP), handed if limit is None else _handed(xp, n, level, near), limit)
    weights = scores + xp.clip(missed / 2, max=CAP)
    away = chosen if exist is None else chosen | ~exist[..., None, :]
    far = _tangents(xp, grouped, xp.where(away, -xp.inf, weights), pilot, level.groups, scale)
    close = grouped.for_each(xp).at(index, handed)
    if not below:
        bias = xp.zeros_like(close.k[..., 0])
        if exist is not None:
            real = xp.take_along_axis(xp.broadcast_to(exist[..., None, :], chosen.shape), index, axis=-1)
            bias = xp.where(real, bias, -xp.inf)
        return _joined(xp, _Faced(close.k, close.v, bias), far)
    split = (*some.shape[:-3], level.blocks, some.shape[-3] // level.blocks)
    leaves, present = (xp.reshape(x, (*split, *x.shape[len(split) - 1 :])) for x in (some, there))
    if limit is not None:
        close = replace(close, count=xp.broadcast_to(limit, (*index.shape[:-1], 1)))
    inner = _facing(xp, leaves, present, close, of_keys[..., None, :, :], below, near, scale)
    return _joined(xp, inner, far.for_each(xp, split[-1])).of_leaves(xp)


def _handed(xp: Any, count: Array | int, level: _Level, near: int) -> Any:
    """How many of its keys, an int or (..., 1), a level hands to the next."""
    if isinstance(count, int):
        return min(count, max(near, ceil(level.share * count)))
    share = xp.astype(xp.ceil(level.share * xp.astype(count, xp.float64)), xp.int64)
    return xp.minimum(count, xp.maximum(share, xp.full_like(share, near)))


def _in_groups(xp: Any, keys: _Keys, groups: int) -> tuple[_Keys, Array | None]:
    """Keys in slots, as many a group, (..., groups · l, ·), and where a key stands, ``None`` for everywhere."""
    n = keys.k.shape[-2]
    if isinstance(keys.count, int) and keys.count == n and n % groups == 0:
        return keys, None
    rank, exist = (_flat(xp, x) for x in slots(xp, keys.k, n, keys.count, groups))
    exist = xp.broadcast_to(exist, (*keys.k.shape[:-2], exist.shape[-1]))
    return keys.at(rank, keys.count), exist


def _missed(xp: Any, x: Array, exist: Array | None, groups: int) -> Array:
    """Squared distance (..., n) of every x (..., n, r) from the mean of its group."""
    *batch, n, r = x.shape
    x = xp.reshape(x, (*batch, groups, n // groups, r))
    if exist is None:
        mean = xp.mean(x, axis=-2, keepdims=True)
    else:
        weights = xp.astype(xp.reshape(exist, (*exist.shape[:-1], groups, 1, n // groups)), x.dtype)
        size = xp.sum(weights, axis=-1, keepdims=True)
        mean = (weights @ x) / xp.where(size > 0, size, xp.ones_like(size))
    delta = x - mean
    return xp.reshape(xp.sum(delta * delta, axis=-1), (*batch, n))


def _tangents(xp: Any, keys: _Keys, log_weights: Array, pilot: Array, groups: int, scale: float) -> _Faced:
    """A key, a value and a bias for each block and group, from the logarithms of weights (..., b, n)."""
    *batch, b, n = log_weights.shape
    parts = xp.reshape(log_weights, (*batch, b, groups, n // groups))
    top = xp.max(parts, axis=-1, keepdims=True)
    exist = top > -xp.inf
    top = xp.where(exist, top, xp.zeros_like(top))
    weights = xp.exp(parts - top)
    total = xp.sum(weights, axis=-1, keepdims=True)
    total = xp.where(exist, total, xp.ones_like(total))
    by_group = xp.moveaxis(weights / total, -2, -3)  # (..., groups, b, l)

    def mean(x: Array) -> Array:
        x = xp.reshape(x, (*x.shape[:-2], groups, n // groups, x.shape[-1]))
        return xp.moveaxis(by_group @ x, -3, -2)

    mu, nu = mean(keys.k), mean(keys.v)
    bias = (top + xp.log(total))[..., 0] - scale * xp.sum(mu * pilot[..., None, :], axis=-1)
    return _Faced(mu, nu, xp.where(exist[..., 0], bias, -xp.inf))


def _joined(xp: Any, one: _Faced, other: _Faced) -> _Faced:
    return _Faced(
        xp.concat([one.k, other.k], axis=-2),
        xp.concat([one.v, other.v], axis=-2),
        xp.concat([one.bias, other.bias], axis=-1),
    )
