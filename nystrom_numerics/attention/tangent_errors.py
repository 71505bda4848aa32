r"""How far rows of tangent attention are from exact ones: to second order, and at most, without an exact entry.

For a query q at :math:`\delta = s(q - \bar q)` from its pilot, and a group of weights :math:`\hat p_j` about its
mean μ,
:math:`x_j = \delta\cdot(k_j - \mu)` is what the tangent leaves out of the score of key j, and :math:`c_j` what the
correction put in, so that :math:`S_{ij}/\hat S_{ij} = e^{x_j - c_j}/\rho`, ρ the ratio of the two softmax sums.  In the
row's error the sums :math:`\sum_j\hat p_j^2x_j^2` and :math:`\sum_j\hat p_jx_j^2` are quadratic forms in δ, and no more
is needed of the keys but the largest :math:`x_j`, R, for

.. math:: x^2 \le (e^x - 1)^2 \le \varphi(R)^2x^2\ (x \ge 0),\quad (e^x-1)^2 \le x^2\ (x \le 0),\qquad
          1 + x \le e^x \le 1 + x + \psi(R)x^2\quad (x \le R),

with :math:`\varphi(R) = (e^R - 1)/R` and :math:`\psi(R) = (e^R - 1 - R)/R^2`, which both grow (Bennett's argument).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np

from nystrom_numerics.attention.faced import Part, Values
from nystrom_numerics.attention.row_errors import RowErrors
from nystrom_numerics.backend import Array, to_numpy

__all__ = ["part_errors"]

Numbers = np.ndarray[Any, Any]

MOST = 300.0
"""With a larger R nothing is said but what holds of any two rows of weights: e³⁰⁰ and its square are numbers."""

UNKNOWN = 1e30
"""Suspected where nothing is known: more than any row."""

LEAST = 1e-300
"""A squared weight may be no number in float64; its root times φ(MOST) is less than any rounding."""


@dataclass(frozen=True)
class _Far:
    """Of each query and each group that it faces, (q, g): sums over the group's keys, weighed by p̂ e⁻ᶜ or its square.

    ``zeroth``, ``first`` and ``second`` are those of 1, x and x²; ``square`` of x² by squared weights; ``largest`` is
    R, over all keys of the group but the near ones, those too whose weight is no number; ``mean`` the mean of c by p̂,
    ``length`` ‖p̂‖₂, ``lost`` ‖p̂(1 − e⁻ᶜ)‖₂ and ``drop`` that in ℓ1.
    """

    zeroth: Numbers
    first: Numbers
    second: Numbers
    square: Numbers
    largest: Numbers
    mean: Numbers
    length: Numbers
    lost: Numbers
    drop: Numbers

    @classmethod
    def joined(cls, parts: list[_Far], axis: int) -> _Far:
        names = cls.__dataclass_fields__
        return cls(*(np.concatenate([getattr(part, name) for part in parts], axis=axis) for name in names))


def part_errors(part: Part, keys: Array, scale: float, eps: float, least: float) -> RowErrors:
    """Of some items (items, n_q), by their real keys (items, n, d); ``eps`` and ``least``, the smallest normal number,
    are those of the dtype computed in.

    Cost: no kernel entry; b n d² + n_q g d² multiplications an item, for b blocks and g groups, in float64.

    Notes
    -----
    With near shares N and far shares :math:`P_g` of the row of Ŝ,
    :math:`\\rho = N + \\sum_gP_g\\sum_j\\hat p_je^{x_j - c_j}` lies between
    :math:`N + \\sum_gP_g\\max(e^{-\\bar c_g}, \\sum\\hat pe^{-c}(1 + x))` (Jensen) and
    :math:`N + \\sum_gP_g\\sum\\hat pe^{-c}(1 + x + \\psi x^2)`; the row is off by

    .. math:: |1/\\rho - 1|\\,\\|\\hat S_i\\|_2 + \\frac1\\rho\\Bigl(\\sum_gP_g^2\\bigl(\\varphi\\,
              \\|\\hat pe^{-c}x\\|_2 + \\|\\hat p(1 - e^{-c})\\|_2\\bigr)^2\\Bigr)^{1/2}

    and in total variation by half of :math:`|1/\\rho - 1| + \\frac1\\rho\\sum_gP_g\\bigl(\\varphi\\,(\\sum\\hat pe^{-c}
    \\sum\\hat pe^{-c}x^2)^{1/2} + \\sum\\hat p(1 - e^{-c})\\bigr)` (Cauchy–Schwarz), and so by √2 times that, and
    by √2, at
    most.  Of l keys of a group whose weight fell below the least number of the dtype, ω, the share is at most
    :math:`\\sum_gP_g\\,l\\omega e^{R_g}/\\rho`, which is added.  Scores that were rounded, of queries and of pilots,
    shift each exponent by (d + 4) eps s (‖q‖ + 2 max‖q‖) max‖k‖ and (faced + 10) eps at most.
    """
    found = []
    for item in range(part.queries.shape[0]):
        queries, faced, bias = (
            np.asarray(to_numpy(x[item, ...]), dtype=np.float64)
            for x in (part.queries, part.faced.k, part.faced.bias)
        )
        of_keys = np.asarray(to_numpy(keys[item, ...]), dtype=np.float64)
        there = None if part.arranged.there is None else to_numpy(part.arranged.there)
        longest = float(np.linalg.norm(of_keys, axis=-1).max())
        with np.errstate(
            over="ignore", invalid="ignore", divide="ignore"
        ):  # what is no number says nothing, below
            far = _far(part.faced.values, (item,), of_keys, queries, there, scale)
            lost = least * of_keys.shape[0] * np.exp(np.minimum(far.largest, MOST))
            rows = _rows(queries, faced, bias, far, lost, scale, longest, eps)
        slots = _slots(part.arranged.slots, item, rows.shape[1])
        found.append(rows[:, slots])
    return RowErrors(*np.stack(found, axis=1))


def _rows(
    queries: Numbers,
    faced: Numbers,
    bias: Numbers,
    far: _Far,
    lost: Numbers,
    scale: float,
    longest: float,
    eps: float,
) -> Numbers:
    """What is predicted, what is certain, what is suspected, and total variations of all slots, (4, slots)."""
    leaves, length, d = queries.shape
    scores = (queries * scale) @ np.swapaxes(faced, -1, -2) + bias[:, None, :]
    of_q = np.linalg.norm(queries, axis=-1).reshape(-1)
    off = (d + 4) * abs(scale) * longest * (of_q + 2 * of_q.max()) + faced.shape[-2] + 10
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares = (weights / weights.sum(axis=-1, keepdims=True)).reshape(leaves * length, -1)
    groups = far.first.shape[1]
    near, share = shares[:, :-groups], shares[:, -groups:]
    top = np.minimum(far.largest, MOST)
    small = np.maximum(top, 1e-3)
    phi = np.where(top > 1e-3, np.expm1(small) / small, 1 + top)
    psi = np.where(top > 1e-3, (np.expm1(small) - small) / small**2, 0.5 + top)
    ends = [
        near.sum(axis=1) + (share * x).sum(axis=1)
        for x in (
            np.maximum(np.exp(-far.mean), far.zeroth + far.first),
            far.zeroth + far.first + psi * far.second,
            np.maximum(far.zeroth + far.first + far.second / 2, np.exp(-far.mean)),
        )
    ]
    low, high, likely = ends
    gone = (share * lost).sum(axis=1)
    high = high + gone
    own = np.sqrt((near**2).sum(axis=1) + (share**2 * far.length**2).sum(axis=1))
    spread = np.sqrt((share**2 * (np.sqrt(far.square) * phi + far.lost) ** 2).sum(axis=1))
    certain = np.maximum(1 / low - 1, 1 - 1 / high) * own + (spread + gone) / low
    shift = np.expm1(2 * np.minimum(eps * off, 1.0))
    certain = certain * (1 + shift) + 2 * shift
    inside = np.sqrt(far.second * far.zeroth) * phi + far.drop
    varied = (np.maximum(1 / low - 1, 1 - 1 / high) + ((share * inside).sum(axis=1) + gone) / low) / 2
    known = (far.largest <= MOST).all(axis=1) & np.isfinite(certain) & np.isfinite(varied)
    certain, varied = np.where(known, certain, UNKNOWN), np.where(known, varied, 1.0)
    whole = 1 + (faced.shape[-2] + 10) * eps  # what rows of Ŝ sum to at most
    varied = np.minimum(np.minimum(varied, 1.0) * (1 + shift) + shift, whole)
    predicted = (1 / likely - 1) ** 2 * own**2 + (share**2 * (far.square + far.lost**2)).sum(
        axis=1
    ) / likely**2
    predicted = np.where(np.isfinite(predicted), predicted, 2.0)
    capped = np.minimum(np.minimum(certain, sqrt(2) * varied + 2 * shift), sqrt(2) * whole)
    return np.stack([predicted, capped, certain, varied])


def _far(
    values: Values,
    at: tuple[int, ...],
    keys: Numbers,
    queries: Numbers,
    there: Numbers | None,
    scale: float,
) -> _Far:
    """What queries (leaves, l, d) leave out of the groups of this level and of those within it, which come first."""
    route, (leaves, length, d) = values.route, queries.shape
    weights, total = (
        np.asarray(to_numpy(x[(*at, ...)]), dtype=np.float64) for x in (values.weights, values.total)
    )
    p = np.moveaxis(weights / total, 1, 0)  # (b, groups, l)
    blocks, groups, held = p.shape
    n = keys.shape[0]
    slots = _slots(route.grouped.tokens, at[0], route.grouped.blocks * route.grouped.length)
    k = keys[np.minimum(slots, n - 1)]
    index = to_numpy(route.index[(*at, ...)])
    c = np.asarray(to_numpy(route.correction), dtype=np.float64)
    c = np.broadcast_to(c, (*route.correction.shape[:-1], groups * held))[at]
    c = np.broadcast_to(c, (blocks, groups * held))
    others = np.isfinite(c)  # what the groups of a block stand for: not the keys that it keeps
    np.put_along_axis(others, index, False, axis=-1)
    c, others = (x.reshape(blocks, groups, held) for x in (np.where(np.isfinite(c), c, 0.0), others))
    inside = leaves // blocks
    q = queries.reshape(blocks, inside * length, d)
    real = np.ones(q.shape[:2]) if there is None else there.reshape(blocks, -1).astype(np.float64)
    pilots = (q * real[..., None]).sum(axis=1) / np.maximum(real.sum(axis=1), 1.0)[:, None]
    delta = (q - pilots[:, None, :]) * scale
    root, inverse = _whitening(delta[real > 0])
    found = []
    for i in range(blocks):
        far = _of_block(p[i], c[i], k.reshape(groups, held, d), others[i], delta[i], root, inverse)
        if values.inner is not None:
            some = None if there is None else there.reshape(blocks, inside, length)[i]
            own = queries[i * inside : (i + 1) * inside]
            inner = _far(values.inner, (*at, i), k[index[i]], own, some, scale)
            far = _Far.joined([inner, far], axis=1)
        found.append(far)
    return _Far.joined(found, axis=0)


def _of_block(
    p: Numbers, c: Numbers, k: Numbers, others: Numbers, delta: Numbers, root: Numbers, inverse: Numbers
) -> _Far:
    """Of p, c and which keys are meant (groups, l), keys (groups, l, d) and δ (q, d) of one block."""
    centred = np.where(others[..., None], k - (p[:, None, :] @ k), 0.0)
    lowered = p * np.exp(-c)
    first = (lowered[:, None, :] @ centred)[:, 0, :]  # (groups, d)
    turned = np.swapaxes(centred, -1, -2)
    forms = (turned @ (lowered[..., None] * centred), turned @ (lowered[..., None] ** 2 * centred))
    second, square = (np.maximum(((delta @ x) * delta).sum(axis=-1), 0.0).T for x in forms)
    square = square + LEAST
    radius = np.sqrt((centred**2).sum(axis=-1).max(axis=-1))
    reach = np.sqrt(((centred @ root) ** 2).sum(axis=-1).max(axis=-1))
    plain, white = (np.sqrt((x**2).sum(axis=-1))[:, None] for x in (delta, delta @ inverse))
    every = np.ones((len(delta), 1))
    return _Far(
        every * lowered.sum(axis=-1),
        delta @ first.T,
        second,
        square,
        np.minimum(plain * radius, white * reach),
        every * (p * c).sum(axis=-1),
        every * np.sqrt((p**2).sum(axis=-1)),
        every * np.sqrt(((p - lowered) ** 2).sum(axis=-1)),
        every * (p - lowered).sum(axis=-1),
    )


def _whitening(delta: Numbers) -> tuple[Numbers, Numbers]:
    """L and L⁻ᵀ with LLᵀ the mean of δδᵀ and a little more: δ·x ≤ ‖L⁻¹δ‖‖Lᵀx‖."""
    d = delta.shape[1]
    metric = delta.T @ delta / max(len(delta), 1)
    if not np.isfinite(metric).all():
        return np.eye(d), np.eye(d)
    metric = metric + (1e-6 * np.trace(metric) + np.finfo(np.float64).tiny) * np.eye(d)
    root = np.linalg.cholesky(metric)
    return root, np.linalg.inv(root).T


def _slots(index: Array | None, item: int, count: int) -> Numbers:
    """The numbers of an arrangement for one item."""
    if index is None:
        return np.arange(count)
    found = to_numpy(index)
    return np.asarray(found[item] if found.ndim > 1 else found)
