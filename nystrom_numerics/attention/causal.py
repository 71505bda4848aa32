"""Causal attention: a block exactly, its past by near keys, by groups that queries choose, and by tangents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nystrom_numerics.arguments import require_count
from nystrom_numerics.attention.arguments import check_arguments, one_length
from nystrom_numerics.attention.arrangement import arrange, directions
from nystrom_numerics.attention.dealing import attend_chosen
from nystrom_numerics.attention.faced import dense
from nystrom_numerics.attention.padding import hide, of_no_item, put_back, real_first
from nystrom_numerics.attention.streaming import attend
from nystrom_numerics.attention.tangents import CAP, STEP, covariance, group_weights, spread_missed
from nystrom_numerics.backend import Array, compute_dtype, device_of, still
from nystrom_numerics.errors import RangeError
from nystrom_numerics.landmarks.result import take_rows
from nystrom_numerics.linalg import transpose
from nystrom_numerics.places import filled_at, largest

__all__ = ["causal"]

LONGEST = 32
"""Keys a group, by default."""

TOGETHER = 8
"""Blocks that look at their past at once, so that it is read once for all of them."""


def causal(
    q: Array,
    k: Array,
    v: Array,
    /,
    *,
    block: int = 128,
    near: int = 32,
    group: int | None = None,
    routed: int = 4,
    key_mask: Array | None = None,
    scale: float | None = None,
    check_finite: bool = False,
) -> Array:
    r"""Causal attention: token t sees tokens up to t, and its output depends on no other.

    Tokens stand in blocks.  A query meets every key of its own block up to itself exactly.  The keys of past blocks
    stand in groups by content, as in :func:`tangent`: those before the last power of two of blocks all together, those
    of each later block by themselves.  They are met from a pilot, ``near`` keys of each block exactly, what is left of
    a group g through the tangent of its log-sum-exp,

    .. math:: \log\sum_{j\in g\setminus N} e^{sq\cdot k_j} \;\approx\; \beta_g + s\,q\cdot\mu_g ,

    except for the ``routed`` groups whose tangents are largest for the query itself: it meets all their keys exactly.
    One pilot cannot speak for queries of a block that want different keys, as those do which look for an earlier
    occurrence of their own token; these find them through the groups.

    A pilot that looked at its own block would look ahead: that of a block is the mean query of the block before.  The
    covariance of queries, by which keys are grouped, near ones chosen and weights corrected, is that within the blocks
    before that power of two.

    Parameters
    ----------
    q, k : array (..., n, d)
    v : array (..., n, d_v)
        Of one length.
    block : int
        Tokens a block, at least 1.
    near : int
        Exact keys of the past, for each block, at least 1.
    group : int, optional
        Keys a group, a divisor of ``block``; by default the largest up to 32.
    routed : int
        Groups that a query meets exactly, at least 0.
    key_mask : array of bool, broadcastable to (..., n), optional
        True for real tokens.  Blocks and groups are those of real tokens among themselves: padding changes
        nothing, wherever it is and whatever it holds.
    scale, check_finite
        As in :func:`nystrom`.

    Returns
    -------
    array (..., n, d_v)
        In the dtype of ``v``; zeros for masked tokens.

    Raises
    ------
    DTypeError, DeviceError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: block/2 + near + routed · group + n(1/block + 1/group)/2 kernel entries a token, of n/2 that exact causal
    attention takes, and n(2d + d_v)/block multiplications for the tangents.  Not linear: each block looks once at all
    its past, with a constant 1/block + 1/group of the exact one's.  Eight blocks look at once, each at what the last
    of them has before it, and masked pairs are computed too.  Memory beyond inputs and output: O(n(d + d_v)) and, for a
    part of the items, O(routed · n(d + d_v)); 8(d + d_v + block)(near + block + n/group) an item for the eight.

    Error: nothing on the first block, nor where ``routed`` groups are all; then that of :func:`tangent`, and larger
    where the queries of a block want other keys than those before them did.  The claim ``estimators`` of the
    experiments measures it on real heads.

    A later token changes no bit where scores are numbers.  NaN, infinity, or a key with which a score overflows, makes
    NaN of the earlier tokens of its own block, as −∞ and a weight of zero do not undo them, and of none before.

    Derivative in Torch: of what is computed, with groups, near keys, chosen groups and the corrections of weights held
    fixed.

    In Torch ``torch.compile(fullgraph=True)``, ``torch.func.vmap`` and ``torch.export`` of one length take it, with its
    derivative and with masks; an exported length that is left open is refused with :class:`ShapeError`, for how often
    blocks look back depends on it (Torch's own kernel with ``is_causal`` takes any).

    Source: ours; see :func:`tangent`.  Blocks of keys chosen by each query by what summarises them: Tang et al. 2024
    (Quest), Yuan et al. 2025 (native sparse attention), who drop what is not chosen.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import attention
    >>> q, k, v = np.random.default_rng(0).standard_normal((3, 64, 4))
    >>> sizes = {"block": 8, "near": 4, "group": 2, "routed": 2}
    >>> whole = attention.causal(q, k, v, **sizes)
    >>> first = attention.causal(q[:30], k[:30], v[:30], **sizes)
    >>> bool(np.allclose(whole[:30], first))
    True
    """
    block, near, group, routed = checked_sizes(block, near, group, routed)
    a = check_arguments(q, k, v, scale=scale, key_mask=key_mask, oneself=True, check_finite=check_finite)
    one_length("`torch.nn.functional.scaled_dot_product_attention`", q=q)
    xp, mask, storage, n = a.xp, a.key_mask, v.dtype, q.shape[-2]
    q, k, v = (xp.astype(x, compute_dtype(xp, q.dtype), copy=False) for x in (q, k, v))
    if mask is not None:  # with the real tokens first none has a masked one in its past
        q, k, v = (real_first(xp, hide(xp, x, mask), mask) for x in (q, k, v))
    batch = np.broadcast_shapes(*(tuple(x.shape[:-2]) for x in (q, k, v)))
    if 0 in batch:
        return xp.astype(of_no_item(q, k, v), storage, copy=False)
    q, k, v = (_blocks(xp, xp.broadcast_to(x, (*batch, *x.shape[-2:])), block) for x in (q, k, v))
    out = _attend(xp, q * a.scale, k, v, near, group, routed)
    out = xp.reshape(out, (*batch, -1, out.shape[-1]))[..., :n, :]
    out = xp.astype(out, storage, copy=False)
    return out if mask is None else put_back(xp, out, mask)


def checked_sizes(block: int, near: int, group: int | None, routed: int) -> tuple[int, int, int, int]:
    """Checked, ``group`` being a number."""
    block, near = require_count("block", block), require_count("near", near)
    routed = require_count("routed", routed, 0)
    if group is None:
        group = max(x for x in range(1, min(block, LONGEST) + 1) if block % x == 0)
    if block % require_count("group", group):
        raise RangeError("group", f"{group}", f"a divisor of `block`, {block}")
    return block, near, group, routed


def _blocks(xp: Any, x: Array, block: int) -> Array:
    """Tokens x (..., n, w) in blocks (b, ⌈n/block⌉, block, w), the last of them filled up with zeros."""
    *_, n, w = x.shape
    x, more = xp.reshape(x, (-1, n, w)), -n % block
    if more:
        x = xp.concat([x, xp.zeros((x.shape[0], more, w), dtype=x.dtype, device=device_of(x))], axis=1)
    return xp.reshape(x, (x.shape[0], -1, block, w))


def _attend(xp: Any, q: Array, k: Array, v: Array, near: int, group: int, routed: int) -> Array:
    """Outputs (b, blocks, block, d_v), the scale being in q."""
    parts = [_first_block(xp, q, k, v)]
    axes = _axes(xp, q, k, 1)
    past = _grouped(xp, axes, k, v, slice(0, 1), group)
    for first, last in _epochs(q.shape[1]):
        axes = _axes(xp, q, k, first)
        past = _arranged(xp, axes, past)
        tokens = xp.concat([past, _grouped(xp, axes, k, v, slice(first, last), group)], axis=0)
        missed = spread_missed(xp, still(tokens[..., : q.shape[-1]]) @ axes, None)
        met: list[_Met] = []
        for i in range(first, last, TOGETHER):
            some = slice(i, min(i + TOGETHER, last))
            faced = _past(xp, q, tokens, missed, some, near)
            own = q[:, some, ...], k[:, some, ...], v[:, some, ...]
            if routed:
                met.append(_meet(xp, *own, faced, routed, tokens.shape[0]))
            else:
                parts.append(_attend_past(xp, *own, faced))
        if met:
            parts.append(_with_chosen(xp, q[:, first:last, ...], tokens, met))
        past = tokens
    return xp.concat(parts, axis=1)


def _grouped(xp: Any, axes: Array, k: Array, v: Array, some: slice, group: int) -> Array:
    """Keys and values of some blocks side by side, each block in groups by content, (groups, b, group, d + d_v)."""
    both = xp.concat([k[:, some, ...], v[:, some, ...]], axis=-1)
    (batch, _, block, w), d = both.shape, k.shape[-1]
    if 1 < group < block:
        both = arrange(xp, still(both[..., :d]), block // group, axes[:, None, ...], 0.0).cut(xp, both)
    return dense(xp, xp.permute_dims(xp.reshape(both, (batch, -1, group, w)), (1, 0, 2, 3)))


def _arranged(xp: Any, axes: Array, tokens: Array) -> Array:
    """Tokens (groups, b, group, d + d_v) in groups by content of all of them."""
    groups, batch, group, w = tokens.shape
    if group == 1 or groups == 1:
        return tokens
    x = xp.reshape(xp.permute_dims(tokens, (1, 0, 2, 3)), (batch, groups * group, w))
    x = arrange(xp, still(x[..., : axes.shape[-2]]), groups, axes, 0.0).cut(xp, x)
    return dense(xp, xp.permute_dims(x, (1, 0, 2, 3)))


def _epochs(blocks: int) -> list[tuple[int, int]]:
    """Blocks from a power of two to the next: 1; 2, 3; 4 to 7; …"""
    return [(1 << i, min(2 << i, blocks)) for i in range((blocks - 1).bit_length())]


def _axes(xp: Any, q: Array, k: Array, first: int) -> Array:
    """Directions (b, d, r) of the covariance of queries within the blocks before ``first``."""
    batch, _, block, d = q.shape
    before, keys = (xp.reshape(still(x[:, :first, ...]), (batch, first * block, d)) for x in (q, k))
    inside = xp.reshape(before, (batch, first, block, d))
    inside = inside - xp.mean(inside, axis=-2, keepdims=True)
    return directions(xp, covariance(xp, xp.reshape(inside, before.shape)), covariance(xp, keys))


@dataclass(frozen=True)
class _Past:
    """What some blocks face of all before them: near tokens and tangents, keys and values side by side.

    ``near`` (b, p, t, d + d_v) with ``there`` (b, p, t), 0 or −∞, and the groups ``of`` (b, p, t) where they stand;
    ``means`` (b, p, groups, d + d_v) with β (b, p, groups).
    """

    near: Array
    there: Array
    of: Array
    means: Array
    beta: Array


def _past(xp: Any, q: Array, tokens: Array, missed: Array, some: slice, near: int) -> _Past:
    batch, _, block, d = q.shape
    group, count = tokens.shape[-2], some.stop - some.start
    groups = (some.stop - 1) * block // group
    tokens, missed = tokens[:groups, ...], missed[:groups, ...]
    pilot = xp.mean(q[:, some.start - 1 : some.stop - 1, ...], axis=-2)  # (b, p, d)
    scores = tokens[..., :d] @ transpose(pilot)  # (groups, b, group, p)
    end = xp.arange(some.start, some.stop, dtype=xp.int64, device=device_of(q)) * block

    def by_block(x: Array) -> Array:
        """Of all past tokens in their order (b, p, n), −∞ where they are none of the block's past."""
        x = xp.reshape(xp.permute_dims(x, (1, 3, 0, 2)), (batch, count, groups * group))
        token = xp.arange(groups * group, dtype=xp.int64, device=device_of(q))
        return xp.where(token < end[:, None], x, -xp.inf)

    worth = still(scores) + xp.log(missed + float(xp.finfo(missed.dtype).smallest_normal))[..., None]
    index = largest(xp, by_block(worth), min(near, groups * group), STEP)
    log_weights = filled_at(xp, by_block(scores + xp.clip(missed / 2, max=CAP)[..., None]), index, -xp.inf)
    weights, beta = group_weights(xp, log_weights, groups)  # (b, groups, p, group), (b, p, groups)
    means = xp.permute_dims(xp.permute_dims(weights, (1, 0, 2, 3)) @ tokens, (1, 2, 0, 3))
    means = xp.where((beta > -xp.inf)[..., None], means, xp.zeros_like(means[..., :1]))
    beta = beta - xp.sum(means[..., :d] * pilot[..., None, :], axis=-1)
    item = xp.arange(batch, dtype=xp.int64, device=device_of(q))[:, None, None]
    place = (index // group * batch + item) * group + index % group
    found, known = take_rows(xp.reshape(tokens, (-1, tokens.shape[-1])), place), index < end[:, None]
    found = xp.where(known[..., None], found, xp.zeros_like(found[..., :1]))
    there = xp.where(known, xp.zeros_like(beta[..., :1]), -xp.inf)
    return _Past(found, there, index // group, means, beta)


def _first_block(xp: Any, q: Array, k: Array, v: Array) -> Array:
    """Exact, there being nothing before it."""
    bias = _ahead(xp, q)[None, None, ...]
    return attend(xp, q[:, :1, ...], k[:, :1, ...], v[:, :1, ...], None, bias, 1.0)


def _attend_past(xp: Any, q: Array, k: Array, v: Array, past: _Past) -> Array:
    """Outputs of some blocks (b, p, block, ·), by one call of the library's kernel."""
    d = q.shape[-1]
    far = xp.concat([past.near, past.means], axis=-2)
    of_far = xp.concat([past.there, past.beta], axis=-1)[..., None, :]
    of_far = xp.broadcast_to(of_far, (*q.shape[:-1], of_far.shape[-1]))
    own = xp.broadcast_to(_ahead(xp, q), (*q.shape[:-1], q.shape[-2]))
    keys, values = (xp.concat([x, y], axis=-2) for x, y in ((far[..., :d], k), (far[..., d:], v)))
    return attend(xp, q, keys, values, None, xp.concat([of_far, own], axis=-1), 1.0)


@dataclass(frozen=True)
class _Met:
    r"""What queries make of all but the groups they choose.

    :math:`\sum_j e^{x_{ij}-t_i}v_j` (b, p, block, d_v), :math:`t_i` and :math:`\sum_j e^{x_{ij}-t_i}` (b, p, block, 1),
    and the groups that they choose (b, p, block, r).
    """

    out: Array
    top: Array
    total: Array
    chosen: Array


def _meet(xp: Any, q: Array, k: Array, v: Array, past: _Past, routed: int, none: int) -> _Met:
    """Of some blocks; ``none`` stands for a group where there are fewer than ``routed``."""
    d = q.shape[-1]
    tangents = q @ transpose(past.means[..., :d]) + past.beta[..., None, :]  # (b, p, block, groups)
    places = largest(xp, tangents, min(routed, tangents.shape[-1]), STEP)
    exists = xp.take_along_axis(still(tangents), places, axis=-1) > -xp.inf
    chosen = xp.where(exists, places, xp.full_like(places, none))  # of −∞ all keys are near
    near = q @ transpose(past.near[..., :d]) + past.there[..., None, :]
    among = xp.any(past.of[..., None, :, None] == chosen[..., None, :], axis=-1)  # met with their groups
    scores = [
        xp.where(among, -xp.inf, near),
        filled_at(xp, tangents, places, -xp.inf),
        q @ transpose(k) + _ahead(xp, q),
    ]
    if fewer := routed - chosen.shape[-1]:
        nobody = xp.full((*chosen.shape[:-1], fewer), none, dtype=xp.int64, device=device_of(q))
        chosen = xp.concat([chosen, nobody], axis=-1)
    top = xp.max(
        xp.concat([xp.max(x, axis=-1, keepdims=True) for x in scores], axis=-1), axis=-1, keepdims=True
    )
    weights = [xp.exp(x - top) for x in scores]
    values = (past.near[..., d:], past.means[..., d:], v)
    out = sum(w @ x for w, x in zip(weights, values, strict=True))
    total = sum(xp.sum(w, axis=-1, keepdims=True) for w in weights)
    return _Met(out, top, total, chosen)


def _with_chosen(xp: Any, q: Array, tokens: Array, met: list[_Met]) -> Array:
    """Outputs (b, blocks, block, d_v) of blocks that have met all else, with the groups that they choose."""
    out, top, total, chosen = (
        xp.concat([getattr(x, name) for x in met], axis=1) for name in ("out", "top", "total", "chosen")
    )
    batch, blocks, block, d = q.shape
    found = []
    for item in range(batch):
        rows = xp.reshape(q[item, ...], (-1, d))
        chosen_out, chosen_top, chosen_total = attend_chosen(
            xp, rows, tokens[:, item, ...], xp.reshape(chosen[item, ...], (blocks * block, -1))
        )
        part, peak, sums = (xp.reshape(x[item, ...], (blocks * block, 1, -1)) for x in (out, top, total))
        found.append(_summed(xp, part, peak, sums, chosen_out, chosen_top, chosen_total))
    return xp.reshape(xp.stack(found), (batch, blocks, block, -1))


def _summed(
    xp: Any, out: Array, top: Array, total: Array, more: Array, more_top: Array, more_total: Array
) -> Array:
    """One softmax of parts (n, 1, ·) and (n, r, ·)."""
    peak = xp.maximum(top, xp.max(more_top, axis=-2, keepdims=True))
    share, shares = xp.exp(top - peak), xp.exp(more_top - peak)
    numerator = out * share + xp.sum(more * shares, axis=-2, keepdims=True)
    return (numerator / (total * share + xp.sum(more_total * shares, axis=-2, keepdims=True)))[:, 0, :]


def _ahead(xp: Any, like: Array) -> Array:
    """(block, block): −∞ where a key stands after the query, 0 elsewhere."""
    token = xp.arange(like.shape[-2], dtype=xp.int64, device=device_of(like))
    zero = xp.zeros((), dtype=like.dtype, device=device_of(like))
    return xp.where(token > token[:, None], zero - xp.inf, zero)
