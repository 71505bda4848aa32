"""Causal attention: what is near exactly, what is past by a block's near keys and by tangents of groups."""

from __future__ import annotations

from math import gcd
from typing import Any

import numpy as np

from nystrom_numerics.arguments import require_count
from nystrom_numerics.attention.arguments import check_arguments
from nystrom_numerics.attention.arrangement import directions
from nystrom_numerics.attention.padding import hide, put_back, real_first
from nystrom_numerics.attention.streaming import attend
from nystrom_numerics.attention.tangents import CAP, STEP, covariance, group_weights, spread_missed
from nystrom_numerics.backend import Array, compute_dtype, device_of, filled_at, largest, still
from nystrom_numerics.errors import RangeError
from nystrom_numerics.landmarks.result import take_rows

__all__ = ["causal"]

LONGEST = 64
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
    margin: int | None = None,
    near: int = 64,
    group: int | None = None,
    key_mask: Array | None = None,
    scale: float | None = None,
    check_finite: bool = False,
) -> Array:
    r"""Causal attention: token t sees tokens up to t, and its output depends on no other.

    Tokens stand in blocks.  A query meets every key of its own block up to itself, and of a margin before it, exactly.
    What is before is met as in :func:`tangent`, from a pilot: ``near`` keys of each block exactly, all others through
    the tangents of groups of consecutive keys,

    .. math:: \log\sum_{j\in g\setminus N} e^{sq\cdot k_j} \;\approx\; \beta_g + s\,q\cdot\mu_g .

    A pilot that looked at its own block would look ahead: that of a block is the mean query of the block before.  The
    covariance of queries, by which near keys are chosen and weights corrected, is that within all blocks before the
    last power of two of blocks.

    Parameters
    ----------
    q, k : array (..., n, d)
    v : array (..., n, d_v)
        Of one length.
    block : int
        Tokens a block, at least 1.
    margin : int, optional
        Keys before a block that its queries meet exactly, from 0 to ``block``; by default half of it, or none where it
        is odd.
    near : int
        Exact keys of the past beyond, for each block, at least 1.
    group : int, optional
        Consecutive keys a group, a divisor of ``block`` and of ``margin``; by default the largest up to 64.
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
    Cost: block/2 + margin + near + n(1/block + 1/group)/2 kernel entries a token, of n/2 that exact causal attention
    takes, and n(2d + d_v)/block multiplications for the tangents.  Not linear: each block looks once at all its past,
    with a constant 1/block + 1/group of the exact one's.  Eight blocks look at once, each at what the last of them has
    before it, and the kernel sees masked pairs too.  Memory beyond inputs and output: O(n(d + d_v)) an item, and
    8(d + d_v + block)(near + margin + block + n/group) for the eight.

    Error: nothing on the first block and its margin; then that of :func:`tangent`, and larger where the queries of a
    block want other keys than those before them did.  The claim ``estimators`` of the experiments measures it on real
    heads.

    Derivative in Torch: of what is computed, with near keys and the corrections of weights held fixed.

    Source: ours; see :func:`tangent`.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import attention
    >>> q, k, v = np.random.default_rng(0).standard_normal((3, 64, 4))
    >>> sizes = {"block": 8, "near": 4}
    >>> whole = attention.causal(q, k, v, **sizes)
    >>> first = attention.causal(q[:30], k[:30], v[:30], **sizes)
    >>> bool(np.allclose(whole[:30], first))
    True
    """
    block, near = require_count("block", block), require_count("near", near)
    if margin is None:
        margin = 0 if block % 2 else block // 2
    margin = require_count("margin", margin, 0, block, of="`block`")
    shared = gcd(block, margin)
    if group is None:
        group = max(x for x in range(1, min(shared, LONGEST) + 1) if shared % x == 0)
    if shared % require_count("group", group):
        raise RangeError("group", f"{group}", f"a divisor of `block`, {block}, and of `margin`, {margin}")
    a = check_arguments(q, k, v, scale=scale, key_mask=key_mask, oneself=True, check_finite=check_finite)
    xp, mask, storage, n = a.xp, a.key_mask, v.dtype, q.shape[-2]
    q, k, v = (xp.astype(x, compute_dtype(xp, q.dtype), copy=False) for x in (q, k, v))
    if mask is not None:  # with the real tokens first none has a masked one in its past
        q, k, v = (real_first(xp, hide(xp, x, mask), mask) for x in (q, k, v))
    batch = np.broadcast_shapes(*(tuple(x.shape[:-2]) for x in (q, k, v)))
    q, k, v = (_blocks(xp, xp.broadcast_to(x, (*batch, *x.shape[-2:])), block) for x in (q, k, v))
    parts = [_own_block(xp, q, k, v, a.scale)]
    tokens = _grouped(xp, k, v, group)
    for first, last in _epochs(q.shape[1]):
        missed = _missed_so_far(xp, q, k, tokens, first, last, a.scale)
        for i in range(first, last, TOGETHER):
            some = slice(i, min(i + TOGETHER, last))
            faced = _past(xp, q, tokens, missed, some, margin, near, a.scale)
            parts.append(_attend(xp, q, k, v, faced, some, margin, a.scale))
    out = xp.concat(parts, axis=1)
    out = xp.reshape(out, (*batch, -1, out.shape[-1]))[..., :n, :]
    out = xp.astype(out, storage, copy=False)
    return out if mask is None else put_back(xp, out, mask)


def _blocks(xp: Any, x: Array, block: int) -> Array:
    """Tokens x (..., n, w) in blocks (b, ⌈n/block⌉, block, w), the last of them filled up with zeros."""
    *_, n, w = x.shape
    x, more = xp.reshape(x, (-1, n, w)), -n % block
    if more:
        x = xp.concat([x, xp.zeros((x.shape[0], more, w), dtype=x.dtype, device=device_of(x))], axis=1)
    return xp.reshape(x, (x.shape[0], -1, block, w))


def _grouped(xp: Any, k: Array, v: Array, group: int) -> Array:
    """Keys and values side by side, (groups, b, group, d + d_v): all that is past at any time is a leading part."""
    both = xp.concat([k, v], axis=-1)
    moved = xp.moveaxis(xp.reshape(both, (both.shape[0], -1, group, both.shape[-1])), 1, 0)
    return xp.reshape(xp.reshape(moved, (-1,)), moved.shape)  # copied once, so that its parts need not be


def _epochs(blocks: int) -> list[tuple[int, int]]:
    """Blocks from a power of two to the next: 1; 2, 3; 4 to 7; …"""
    return [(1 << i, min(2 << i, blocks)) for i in range((blocks - 1).bit_length())]


def _missed_so_far(xp: Any, q: Array, k: Array, tokens: Array, first: int, last: int, scale: float) -> Array:
    """:math:`r_j^2` (groups, b, group) of tokens before block ``last``, by the queries of the blocks before ``first``.

    Within a group it depends on the group alone, so that no block sees through it what comes later.
    """
    batch, _, block, d = q.shape
    before, keys = (xp.reshape(still(x[:, :first, ...]), (batch, first * block, d)) for x in (q, k))
    inside = xp.reshape(before, (batch, first, block, d))
    inside = inside - xp.mean(inside, axis=-2, keepdims=True)
    within = covariance(xp, xp.reshape(inside, before.shape))
    axes = directions(xp, within, covariance(xp, keys)) * scale
    reached = tokens[: last * block // tokens.shape[-2], ...]
    return spread_missed(xp, still(reached[..., :d]) @ axes, None)


def _past(
    xp: Any, q: Array, tokens: Array, missed: Array, some: slice, margin: int, near: int, scale: float
) -> tuple[Array, Array]:
    """What some blocks face of all before their margin: keys and values (b, p, s, d + d_v), bias (b, p, s)."""
    batch, _, block, d = q.shape
    group, count = tokens.shape[-2], some.stop - some.start
    groups = ((some.stop - 1) * block - margin) // group
    if groups == 0:  # the margin is as long as the only block before
        nothing = xp.zeros((batch, count, 0, tokens.shape[-1]), dtype=q.dtype, device=device_of(q))
        return nothing, nothing[..., 0]
    tokens, missed = tokens[:groups, ...], missed[:groups, ...]
    pilot = scale * xp.mean(q[:, some.start - 1 : some.stop - 1, ...], axis=-2)  # (b, p, d)
    scores = tokens[..., :d] @ xp.moveaxis(pilot, -1, -2)  # (groups, b, group, p)
    end = xp.arange(some.start, some.stop, dtype=xp.int64, device=device_of(q)) * block - margin

    def by_block(x: Array) -> Array:
        """Of all past tokens in their order (b, p, n), −∞ where they are none of the block's past."""
        x = xp.reshape(xp.permute_dims(x, (1, 3, 0, 2)), (batch, count, groups * group))
        token = xp.arange(groups * group, dtype=xp.int64, device=device_of(q))
        return xp.where(token < end[:, None], x, -xp.inf)

    worth = still(scores) + xp.log(missed + float(xp.finfo(missed.dtype).smallest_normal))[..., None]
    index = largest(xp, by_block(worth), min(near, groups * group), STEP)
    log_weights = filled_at(xp, by_block(scores + xp.clip(missed / 2, max=CAP)[..., None]), index, -xp.inf)
    weights, beta = group_weights(xp, log_weights, groups)  # (b, groups, p, group), (b, p, groups)
    means = xp.permute_dims(xp.moveaxis(weights, 1, 0) @ tokens, (1, 2, 0, 3))
    means = xp.where((beta > -xp.inf)[..., None], means, xp.zeros_like(means[..., :1]))
    beta = beta - xp.sum(means[..., :d] * pilot[..., None, :], axis=-1)
    item = xp.arange(batch, dtype=xp.int64, device=device_of(q))[:, None, None]
    place = (index // group * batch + item) * group + index % group
    keys, known = take_rows(xp.reshape(tokens, (-1, tokens.shape[-1])), place), index < end[:, None]
    keys = xp.where(known[..., None], keys, xp.zeros_like(keys[..., :1]))
    of_near = xp.where(known, xp.zeros_like(beta[..., :1]), -xp.inf)
    return xp.concat([keys, means], axis=-2), xp.concat([of_near, beta], axis=-1)


def _own_block(xp: Any, q: Array, k: Array, v: Array, scale: float) -> Array:
    """The first block: exact, there being nothing before it."""
    bias = _ahead(xp, q, q.shape[-2], 0)[None, None, ...]
    q, k, v = (x[:, :1, ...] for x in (q, k, v))
    return attend(xp, q, k, v, None, bias, scale)


def _attend(
    xp: Any, q: Array, k: Array, v: Array, faced: tuple[Array, Array], some: slice, margin: int, scale: float
) -> Array:
    """Outputs of some blocks: their own tokens and their margins exactly, and what is faced of the others."""
    rows, block, d = q[:, some, ...], q.shape[-2], q.shape[-1]
    far, far_bias = faced

    def met(x: Array, far: Array) -> Array:
        before = x[:, some.start - 1 : some.stop - 1, block - margin :, :]
        return xp.concat([far, before, x[:, some, ...]], axis=-2)

    of_far = xp.broadcast_to(far_bias[..., None, :], (*rows.shape[:-1], far_bias.shape[-1]))
    own = xp.broadcast_to(_ahead(xp, q, block, margin), (*rows.shape[:-1], margin + block))
    bias = xp.concat([of_far, own], axis=-1)
    return attend(xp, rows, met(k, far[..., :d]), met(v, far[..., d:]), None, bias, scale)


def _ahead(xp: Any, like: Array, block: int, margin: int) -> Array:
    """(block, margin + block): −∞ where a key stands after the query, 0 elsewhere."""
    token = xp.arange(margin + block, dtype=xp.int64, device=device_of(like))
    ahead = token > margin + token[:block, None]
    zero = xp.zeros((), dtype=like.dtype, device=device_of(like))
    return xp.where(ahead, zero - xp.inf, zero)
