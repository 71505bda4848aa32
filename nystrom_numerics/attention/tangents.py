"""How blocks of queries come to what they face: pilots, near keys, and tangents of groups of all others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, inf, prod
from typing import Any

from nystrom_numerics.attention.arrangement import Arrangement, arrange, arrangement, directions
from nystrom_numerics.attention.faced import Faced, Part, Route, Values, dense, flat, joined
from nystrom_numerics.backend import Array, device_of, items_at_once, still
from nystrom_numerics.landmarks.result import take_rows
from nystrom_numerics.linalg import transpose
from nystrom_numerics.places import filled_at, largest, swapped
from nystrom_numerics.solves import by_root

__all__ = [
    "CAP",
    "STEP",
    "Level",
    "Queries",
    "covariance",
    "group_sums",
    "group_weights",
    "missed_by_groups",
    "parts_of",
    "spread_missed",
]

CAP = 2.0
"""Most that the spread of a block's queries may add to the logarithm of a far key's weight: a factor of e²."""

STEP = 1 / 256
"""The logarithms of what two keys are worth count as equal within it."""

SAMPLE, LEAF_SAMPLE = 512, 16
"""Tokens, evenly spaced, from which covariances are taken: of all keys, and of each block's queries."""


@dataclass(frozen=True)
class Level:
    """Blocks of queries below a block of the level before, groups of keys, and the share of keys to hand on."""

    blocks: int
    groups: int
    share: float


@dataclass(frozen=True)
class Queries:
    """Queries of leaves (..., leaves, l, d), and whether one stands there (..., leaves, l), ``None`` for everywhere."""

    q: Array
    there: Array | None

    def pilots(self, xp: Any, blocks: int) -> Array:
        """Means (..., blocks, d)."""
        *batch, leaves, length, d = self.q.shape
        inside = leaves // blocks
        if self.there is None:
            return xp.mean(xp.reshape(self.q, (*batch, blocks, inside * length, d)), axis=-2)
        total = xp.astype(self.there, self.q.dtype)[..., None, :] @ self.q
        return xp.sum(xp.reshape(total, (*batch, blocks, inside, d)), axis=-2) / self.sizes(xp, blocks)

    def sizes(self, xp: Any, blocks: int) -> Array | float:
        """Queries of each block, at least 1, that divides by (..., blocks, 1)."""
        *_, leaves, length, _ = self.q.shape
        if self.there is None:
            return float(leaves // blocks * length)
        present = xp.reshape(self.there, (*self.there.shape[:-2], blocks, leaves // blocks * length))
        size = xp.sum(xp.astype(present, self.q.dtype), axis=-1)
        return xp.clip(size, min=1.0)[..., None]

    def within(self, xp: Any, blocks: int) -> Array:
        """The covariance (..., d, d) of queries within blocks, from some of each leaf, evenly spaced."""
        step = -(-self.q.shape[-2] // LEAF_SAMPLE)
        some = Queries(still(self.q[..., ::step, :]), None if self.there is None else self.there[..., ::step])
        *batch, leaves, length, d = some.q.shape
        centre = xp.broadcast_to(some.pilots(xp, blocks)[..., None, :], (*batch, blocks, leaves // blocks, d))
        delta = some.q - xp.reshape(centre, (*batch, leaves, 1, d))
        number: Any = leaves * length
        if some.there is not None:
            few = xp.astype(some.there, delta.dtype)
            delta, number = delta * few[..., None], xp.sum(few, axis=(-2, -1))[..., None, None]
            number = xp.clip(number, min=1.0)
        delta = xp.reshape(delta, (*batch, -1, d))
        return transpose(delta) @ delta / number

    def along(self, xp: Any, blocks: int, axes: Array) -> Array:
        """Covariances (..., blocks, r, r) of each block's queries along orthonormal ``axes`` (..., d, r)."""
        delta = self.q @ axes[..., None, :, :]
        *batch, leaves, length, r = delta.shape
        delta = xp.reshape(delta, (*batch, blocks, leaves // blocks * length, r))
        delta = delta - (self.pilots(xp, blocks) @ axes)[..., None, :]
        if self.there is not None:
            there = xp.reshape(self.there, (*self.there.shape[:-2], *delta.shape[-3:-1]))
            delta = xp.where(there[..., None], delta, 0.0)
        sizes = self.sizes(xp, blocks)
        return transpose(delta) @ delta / (sizes if isinstance(sizes, float) else sizes[..., None])

    def below(self, xp: Any, blocks: int) -> Queries:
        """With an axis for blocks before that of their leaves."""
        *batch, leaves, length, d = self.q.shape
        shape = (blocks, leaves // blocks, length)
        q, there = xp.reshape(self.q, (*batch, *shape, d)), self.there
        return Queries(q, None if there is None else xp.reshape(there, (*there.shape[:-2], *shape)))


def parts_of(
    xp: Any, q: Array, k: Array, levels: tuple[Level, ...], near: int, position: float, scale: float
) -> Iterator[tuple[slice, Part]]:
    """What queries face of keys (items, n, d), some items at a time: as many as a cache holds."""
    leaves = prod([level.blocks for level in levels])
    of_keys = covariance(xp, still(k))
    if position == inf or q.shape[-2] <= leaves:
        arranged = arrangement(xp, q, None, q.shape[-2], leaves)
    else:
        axes = directions(xp, of_keys, covariance(xp, still(q)))
        arranged = arrange(xp, still(q), leaves, axes, position)
    faced = leaves * (near + sum(level.groups for level in levels))
    some = items_at_once(k, (k.shape[-2] + faced) * k.shape[-1])
    slices = [slice(i, min(i + some, k.shape[0])) for i in range(0, k.shape[0], some)]

    few = arranged.thinned(xp, k, LEAF_SAMPLE)
    axes = directions(xp, Queries(few.cut(xp, q), few.there).within(xp, levels[0].blocks), of_keys)
    grouped = arrange(xp, still(k), levels[0].groups, axes, 0.0)

    def part(of: slice) -> Part:
        own = arranged[of]
        queries = Queries(own.cut(xp, q[of, ...]), own.there)
        seen = (x[of, ...] for x in (k, axes, of_keys))
        faced = _facing(xp, queries, grouped[of], *seen, levels=levels, near=near, scale=scale)
        return Part(queries.q, own, faced)

    for of in slices:
        yield of, part(of)


def covariance(xp: Any, x: Array) -> Array:
    """Of tokens x (..., n, d), from evenly spaced ones: (..., d, d)."""
    some = x[..., :: -(-x.shape[-2] // SAMPLE), :]
    some = some - xp.mean(some, axis=-2, keepdims=True)
    return transpose(some) @ some / some.shape[-2]


def _facing(
    xp: Any,
    queries: Queries,
    grouped: Arrangement,
    k: Array,
    axes: Array,
    of_keys: Array,
    *,
    levels: tuple[Level, ...],
    near: int,
    scale: float,
    own: bool = False,
) -> Faced:
    """What every leaf of queries faces of keys (..., n, d); of several levels each goes by its blocks' own spread."""
    level, below, n = levels[0], levels[1:], k.shape[-2]
    pilot = queries.pilots(xp, level.blocks)
    exist = grouped.there
    k = grouped.cut(xp, k)  # (..., groups, l, d)
    keys = flat(xp, k)
    missed = missed_by_groups(xp, queries, level.blocks, k, exist, axes, own or bool(below))
    exponent = missed * (scale**2 / 2)
    correction = xp.clip(exponent, max=CAP)
    if exist is not None:
        correction = xp.where(xp.reshape(exist, (-1,)), correction, -xp.inf)
    worth = xp.log(exponent + float(xp.finfo(exponent.dtype).smallest_normal)) + correction
    scores = (pilot * scale) @ transpose(keys)  # (..., blocks, groups · l)
    handed = min(n, max(near, ceil(level.share * n)) if below else near)
    index = largest(xp, still(scores) + worth, handed, STEP)
    weights, total, beta = group_sums(xp, filled_at(xp, scores + correction, index, -xp.inf), k.shape[-3])
    mu = swapped(xp, weights @ k / total)
    beta = beta - scale * xp.sum(mu * pilot[..., None, :], axis=-1)
    near_k = take_rows(keys[..., None, :, :], index)
    if not below:
        bias = xp.concat([xp.zeros_like(near_k[..., 0]), beta], axis=-1)
        values = Values(xp, Route(level.blocks, grouped, index, correction), weights, total)
        return Faced(xp.concat([near_k, dense(xp, mu)], axis=-2), bias, values)
    leaves, of_keys = queries.below(xp, level.blocks), of_keys[..., None, :, :]
    inner = _facing(
        xp,
        leaves,
        arrangement(xp, near_k, None, handed, below[0].groups),
        near_k,
        directions(xp, leaves.within(xp, below[0].blocks), of_keys),
        of_keys,
        levels=below,
        near=near,
        scale=scale,
        own=True,
    )
    bias = joined(xp, inner.bias[..., None], beta[..., None])[..., 0]
    route = Route(level.blocks, grouped, index, correction, inner.values.route)
    return Faced(joined(xp, inner.k, mu), bias, Values(xp, route, weights, total, inner.values))


def missed_by_groups(
    xp: Any, queries: Queries, blocks: int, k: Array, exist: Array | None, axes: Array, own: bool
) -> Array:
    """Variances (..., 1, groups · l) over queries within blocks of what the means of groups miss of keys' products.

    Of all blocks together, by ``axes`` (..., d, r) of their covariance; with ``own`` of each block by itself,
    (..., blocks, groups · l), in the span of the axes.
    """
    if not own:
        return flat(xp, spread_missed(xp, still(k) @ axes[..., None, :, :], exist)[..., None])[
            ..., None, :, 0
        ]
    axes = orthonormal(xp, axes)
    apart = flat(xp, centred(xp, still(k) @ axes[..., None, :, :], exist))[..., None, :, :]
    within = still(queries.along(xp, blocks, axes))
    return xp.clip(xp.sum((apart @ within) * apart, axis=-1), min=0.0)


def spread_missed(xp: Any, x: Array, exist: Array | None) -> Array:
    """Squared distance (..., groups, l) of every x (..., groups, l, r) from the mean of its group."""
    apart = centred(xp, x, exist)
    return xp.sum(apart * apart, axis=-1)


def centred(xp: Any, x: Array, exist: Array | None) -> Array:
    """Every x (..., groups, l, r) less the mean of its group."""
    if exist is None:
        return x - xp.mean(x, axis=-2, keepdims=True)
    weights = xp.astype(exist, x.dtype)[:, None, :]
    return x - (weights @ x) / xp.clip(xp.sum(weights, axis=-1, keepdims=True), min=1.0)


def orthonormal(xp: Any, axes: Array) -> Array:
    """A basis (..., d, r) of the span of ``axes`` (..., d, r) by a Cholesky factor; zeros where they are."""
    x, eps = xp.astype(axes, xp.float64), float(xp.finfo(xp.float64).eps)
    tiny = float(xp.finfo(xp.float64).smallest_normal)
    x = x / xp.clip(xp.max(xp.abs(x), axis=(-2, -1), keepdims=True), min=tiny)
    ridge = x.shape[-2] ** 2 * eps * xp.sum(x * x, axis=(-2, -1), keepdims=True) + tiny
    eye = xp.eye(x.shape[-1], dtype=xp.float64, device=device_of(axes))
    return xp.astype(by_root(xp, transpose(x) @ x + ridge * eye, x), axes.dtype)


def group_sums(xp: Any, log_weights: Array, groups: int) -> tuple[Array, Array, Array]:
    """Of the logarithms (..., b, groups · l) of weights, those (..., groups, b, l) of greatest weight one, their sums
    (..., groups, b, 1), positive, and the logarithms (..., b, groups) of sums.
    """
    *batch, b, n = log_weights.shape
    log_weights = xp.reshape(log_weights, (*batch, b, groups, n // groups))
    top = xp.clip(xp.max(log_weights, axis=-1, keepdims=True), min=float(xp.finfo(log_weights.dtype).min))
    weights = xp.exp(log_weights - still(top))
    total = xp.sum(weights, axis=-1, keepdims=True)
    some = xp.clip(total, min=float(xp.finfo(total.dtype).smallest_normal))
    of_groups = xp.where(total == 0, -xp.inf, xp.log(some) + still(top))[..., 0]
    return swapped(xp, weights), swapped(xp, some), of_groups


def group_weights(xp: Any, log_weights: Array, groups: int) -> tuple[Array, Array]:
    """Weights of sum one (..., groups, b, l), and the logarithms of sums (..., b, groups), of (..., b, groups · l)."""
    weights, total, of_groups = group_sums(xp, log_weights, groups)
    return weights / total, of_groups
