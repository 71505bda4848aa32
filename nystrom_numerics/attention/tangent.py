r"""Tangent attention: near keys exactly, groups of far keys by the tangent of their log-sum-exp."""

from __future__ import annotations

from typing import Any

import numpy as np

from nystrom_numerics.arguments import require_count, require_number
from nystrom_numerics.attention.arguments import one_length, product_form, ungroup
from nystrom_numerics.attention.arrangement import Arrangement
from nystrom_numerics.attention.faced import Route
from nystrom_numerics.attention.padding import by_length, hide, of_no_item
from nystrom_numerics.attention.tangent_vjp import attend_vjp
from nystrom_numerics.attention.tangents import Level, parts_of
from nystrom_numerics.backend import Array, compute_dtype, device_of, traced, uncounted, with_vjp
from nystrom_numerics.errors import RangeError, ShapeError

__all__ = ["tangent"]


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
    the weight (at most e²).  Near keys are those of the largest :math:`w_jr_j^2`, which is the size of
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
        look at these candidates alone, and Σ is that of each block by itself, not of all together.  Two levels,
        ``blocks=(16, 128), groups=(8, 8), near=64``, are better where n is 1,000 and more, and take four times as long
        as one of as many entries.
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
    and 16 n_k d for the r_j, taken in the 16 directions that count most.  By default the entries are 128 n, those of
    ``nystrom`` with 64 landmarks.  No matrix is inverted but a factor of 16 × 16.  Memory beyond inputs and output:
    O((n_q + n_k)(d + d_v) + b(n_k + (near + groups)d)) for some items at a time, on a CPU as many as a cache holds; for
    eight heads of 16,384 tokens together less than one array of n × d.  In Torch nothing waits for a device without
    masks, so that a call can be captured in a graph.

    Derivative in Torch: of what is computed, with blocks, groups and near keys, which change in steps, and the
    :math:`r_j` held fixed.  It is in closed form, recomputed from q, k, v and what is held fixed, and can be taken only
    once; b n_k(6d + 3d_v) + (near + groups) n_q(3d + 2d_v) multiplications.

    ``torch.compile(fullgraph=True)``, ``torch.func.vmap`` and ``torch.func.grad`` take it, and its derivative, step by
    step and so with the memory of the steps; ``torch.export`` of one length, and not of one that is left open, on which
    the tree of blocks depends (:class:`ShapeError`; ``nystrom`` takes any).  Masks have items of equal length counted:
    ``vmap`` over a mask and an exported one are refused with :class:`RangeError`, a mask breaks a compiled graph, and
    one that is not mapped over is served.

    Ties, and what is one but for rounding, are broken by place: repeated tokens have one result in every library and
    beside all batch-mates.  With masks, items of as many real queries and keys are served together, a call for every
    pair of numbers.

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
    one_length("`attention.nystrom`", q=q, k=k)
    for name, mask in (("key_mask", a.key_mask), ("query_mask", a.query_mask)):
        if mask is not None and uncounted(mask):
            needs = "no mask, the real tokens alone, or `attention.nystrom`, which takes masks in a graph"
            raise RangeError(name, "what a graph or a map would have to count", needs)
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
    if 0 in batch:
        return of_no_item(q, k, v)
    q, k, v = (
        xp.reshape(xp.broadcast_to(x, (*batch, *x.shape[-2:])), (-1, *x.shape[-2:])) for x in (q, k, v)
    )
    if traced(q, k, v):  # step by step: what goes through the steps takes their derivative as well
        parts = [
            part.apply(xp, v[of, ...], scale)
            for of, part in parts_of(xp, q, k, levels, near, position, scale)
        ]
        return xp.reshape(xp.concat(parts, axis=0), (*batch, *parts[0].shape[-2:]))
    held: list[tuple[slice, Arrangement, Route]] = []

    def forward(q: Array, k: Array, v: Array) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        out = xp.empty((*q.shape[:-1], v.shape[-1]), dtype=q.dtype, device=device_of(q))
        for of, part in parts_of(xp, q, k, levels, near, position, scale):
            out[of, ...] = part.apply(xp, v[of, ...], scale)
            held.append((of, part.arranged, part.faced.values.route))
            del part  # before the next is made
        return (out,), (q, k, v)

    def vjp(g: Array, *inputs: Array) -> tuple[Array, ...]:
        cotangents = tuple(xp.empty_like(x) for x in inputs)
        for of, arranged, route in held:
            some = [x[of, ...] for x in (g, *inputs)]
            for whole, part in zip(cotangents, attend_vjp(xp, some, arranged, route, scale), strict=True):
                whole[of, ...] = part
        return cotangents

    out = with_vjp(forward, vjp, q, k, v)[0]
    return xp.reshape(out, (*batch, *out.shape[-2:]))
