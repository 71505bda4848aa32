"""The derivative of tangent attention in closed form: recomputed from its inputs and from what is held fixed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from nystrom_numerics.attention.arrangement import Arrangement
from nystrom_numerics.attention.faced import Route, flat, joined
from nystrom_numerics.attention.tangents import Queries, group_sums
from nystrom_numerics.backend import Array, strip_rows
from nystrom_numerics.landmarks.result import take_rows
from nystrom_numerics.linalg import masked_softmax, transpose
from nystrom_numerics.places import filled_at, sum_by_label, swapped

__all__ = ["attend_vjp"]

Pull: TypeAlias = Callable[[Array, Array, Array], tuple[Array, Array, Array]]
"""Takes cotangents of the keys, values and bias that leaves face to those of queries, keys and values."""


def attend_vjp(
    xp: Any, given: Sequence[Array], arranged: Arrangement, route: Route, scale: float
) -> tuple[Array, Array, Array]:
    """Cotangents of q, k and v (items, n, ·), ``given`` behind that of their attention, g (items, n_q, d_v).

    Cost, one level: b n_k(6d + 3d_v) + (near + groups) n_q(3d + 2d_v) multiplications; memory: what blocks face and its
    cotangents, four arrays of b n_k, and two each of the size of q, k and v, of these items.
    """
    of_q, of_faced, pull = _of_faced(xp, given, arranged, route, scale)
    of_pilots, of_k, of_v = pull(*of_faced)
    return arranged.joined(xp, of_q + of_pilots), of_k, of_v


def _of_faced(
    xp: Any, given: Sequence[Array], arranged: Arrangement, route: Route, scale: float
) -> tuple[Array, list[Array], Pull]:
    """Cotangents of queries in leaves, but for their pilots, and of what leaves face, and what takes these back.

    On its own, so that what it cuts is gone before more is made.
    """
    g, q, k, v = given
    queries, g = Queries(arranged.cut(xp, q), arranged.there), arranged.cut(xp, g)
    if arranged.there is not None:
        g = xp.where(arranged.there[..., None], g, 0.0)
    keys, values, bias, pull = _faced(xp, route, queries, k, v, scale)
    of_q, *of_faced = _softmax_vjp(xp, g, queries.q, keys, values, bias, scale)
    return of_q, of_faced, pull


def _softmax_vjp(
    xp: Any, g: Array, q: Array, k: Array, v: Array, bias: Array, scale: float
) -> tuple[Array, Array, Array, Array]:
    r"""Cotangents of q (..., leaves, l, d), and of the keys, values and bias that leaves face, some leaves at a time.

    .. math:: P = \mathrm{softmax}(sQK^T + b),\;\bar V = P^TG,\;\bar S = P\circ(GV^T - \mathrm{diag}(GV^TP^T)),\;
              \bar Q = s\bar SK,\;\bar K = s\bar S^TQ,\;\bar b = \bar S^T1 .
    """
    leaves = q.shape[-3]
    some = max(1, strip_rows(q, k.shape[-2]) // max(1, q.shape[0] * q.shape[-2]))
    parts = []
    for i in range(0, leaves, some):
        of = (..., slice(i, min(i + some, leaves)), slice(None), slice(None))
        own, keys = q[of] * scale, k[of]
        p = masked_softmax(own @ transpose(keys) + bias[..., None, :][of])
        s = g[of] @ transpose(v[of])
        s = p * (s - xp.sum(p * s, axis=-1, keepdims=True))
        parts.append((s @ keys * scale, transpose(s) @ own, transpose(p) @ g[of], xp.sum(s, axis=-2)))
    axes = (-3, -3, -3, -2)
    of_q, of_k, of_v, of_bias = (
        xs[0] if len(parts) == 1 else xp.concat(list(xs), axis=axis)
        for xs, axis in zip(zip(*parts, strict=True), axes, strict=True)
    )
    return of_q, of_k, of_v, of_bias


def _faced(
    xp: Any, route: Route, queries: Queries, k: Array, v: Array, scale: float
) -> tuple[Array, Array, Array, Pull]:
    r"""Keys, values and bias that leaves face, and what takes cotangents of these to those of queries, keys and values.

    With :math:`w_{bj}` of sum one in every group and :math:`c_{bg} = \bar\mu\cdot\mu + \bar\nu\cdot\nu - \bar\beta`,
    where :math:`\bar\mu` is what comes back less :math:`s\bar\beta p`, that of a score is
    :math:`w_{bj}(\bar\mu\cdot k_j + \bar\nu\cdot v_j - c_{bg})`.
    """
    pilot, index = queries.pilots(xp, route.blocks), route.index
    slots_k, slots_v = (route.grouped.cut(xp, x) for x in (k, v))
    groups, length = slots_k.shape[-3:-1]
    scores = (pilot * scale) @ transpose(flat(xp, slots_k)) + route.correction
    weights, total, beta = group_sums(xp, filled_at(xp, scores, index, -xp.inf), groups)
    weights = weights / total
    mu, nu = (swapped(xp, weights @ x) for x in (slots_k, slots_v))
    beta = beta - scale * xp.sum(mu * pilot[..., None, :], axis=-1)
    kept = [take_rows(flat(xp, x)[..., None, :, :], index) for x in (slots_k, slots_v)]
    of_inner = None
    if route.inner is None:
        keys, values = (xp.concat([x, far], axis=-2) for x, far in zip(kept, (mu, nu), strict=True))
        bias = xp.concat([xp.zeros_like(kept[0][..., 0]), beta], axis=-1)
    else:
        below = queries.below(xp, route.blocks)
        *inner, bias, of_inner = _faced(xp, route.inner, below, kept[0], kept[1], scale)
        keys, values = (joined(xp, x, far) for x, far in zip(inner, (mu, nu), strict=True))
        bias = joined(xp, bias[..., None], beta[..., None])[..., 0]
    blocks, inside, sizes = route.blocks, keys.shape[-3] // route.blocks, queries.sizes(xp, route.blocks)

    def pull(of_keys: Array, of_values: Array, of_bias: Array) -> tuple[Array, Array, Array]:
        met = [
            xp.reshape(x, (*x.shape[:-3], blocks, inside, *x.shape[-2:]))
            for x in (of_keys, of_values, of_bias[..., None])
        ]
        of_mu, of_nu, of_beta = (xp.sum(x[..., -groups:, :], axis=-3) for x in met)
        of_pilot = -scale * xp.sum(mu * of_beta, axis=-2)
        of_mu = of_mu - scale * of_beta * pilot[..., None, :]
        centre = xp.sum(of_mu * mu, axis=-1) + xp.sum(of_nu * nu, axis=-1) - of_beta[..., 0]
        of_mu, of_nu, centre = (swapped(xp, x) for x in (of_mu, of_nu, centre[..., None]))
        of_scores = of_mu @ transpose(slots_k)
        of_scores += of_nu @ transpose(slots_v)
        of_scores -= centre
        of_scores *= weights
        of_pilot = of_pilot + scale * xp.sum(of_scores @ slots_k, axis=-3)
        of_slots = [transpose(weights) @ of_mu, transpose(weights) @ of_nu]
        of_slots[0] += transpose(of_scores) @ (scale * pilot)[..., None, :, :]
        own = [x[..., :-groups, :] for x in met]
        of_q = of_pilot / sizes
        of_q = xp.broadcast_to(of_q[..., None, :], (*of_q.shape[:-1], inside, of_q.shape[-1]))
        of_q = xp.reshape(of_q, (*of_q.shape[:-3], blocks * inside, 1, of_q.shape[-1]))
        if of_inner is None:
            of_kept = [x[..., 0, :, :] for x in own[:2]]
        else:
            more, *of_kept = of_inner(own[0], own[1], own[2][..., 0])
            of_q = of_q + xp.reshape(more, (*more.shape[:-4], blocks * inside, *more.shape[-2:]))
        places = xp.reshape(index, (*index.shape[:-2], -1))
        for i, x in enumerate(of_kept):
            rows = xp.reshape(x, (*places.shape, x.shape[-1]))
            total = sum_by_label(rows, places, groups * length)[0]
            of_slots[i] += xp.reshape(total, of_slots[i].shape)
        return of_q, *(route.grouped.joined(xp, x) for x in of_slots)

    return keys, values, bias, pull
