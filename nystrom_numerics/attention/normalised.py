r"""The row-normalised estimator: the kernel is approximated, and its rows are normalised afterwards."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nystrom_numerics.arguments import require_callable, require_number
from nystrom_numerics.attention.arguments import Arguments, one_length, product_form, tokens_of
from nystrom_numerics.attention.operators import AttentionOperator, OperatorBase, blocks
from nystrom_numerics.attention.padding import hide
from nystrom_numerics.attention.placing import (
    Placed,
    core_scores,
    place_landmarks,
    softmax_weights,
    solve_core,
)
from nystrom_numerics.attention.ridge import ridge
from nystrom_numerics.attention.streaming import stream, stream_scores
from nystrom_numerics.backend import Array, device_of, namespace
from nystrom_numerics.brief import brief
from nystrom_numerics.landmarks import Strategy, segment_means
from nystrom_numerics.linalg import masked_softmax, transpose
from nystrom_numerics.pinv import Solver

__all__ = ["LandmarkRows", "floor_of", "landmark_rows", "normalised", "normalised_operator"]


@dataclass(frozen=True)
class LandmarkRows:
    r"""What the query landmarks see: A, P = BV, and :math:`\rho_p = D_B/D_A`, what all keys weigh for landmark p
    against what the key landmarks weigh, up to the factor :math:`e^t`.
    """

    core: Array
    p: Array
    rho: Array
    t: Array

    def beside(self, p: Array) -> Array:
        """``p`` (..., m_q, d_v) and ρ as one more column of it."""
        xp = namespace(p=p)
        return xp.concat([p, xp.broadcast_to(self.rho, (*p.shape[:-1], 1))], axis=-1)


def landmark_rows(a: Arguments, placed: Placed, k: Array, v: Array) -> LandmarkRows:
    """One streamed pass of the query landmarks over all keys, with the sums of its softmax."""
    xp = a.xp
    scores = core_scores(placed, a.scale)
    core = masked_softmax(scores, placed.pair_mask)
    if placed.pair_mask is not None:
        scores = xp.where(placed.pair_mask, scores, xp.full_like(scores, -xp.inf))
    top = xp.max(scores, axis=-1, keepdims=True)
    own = xp.sum(xp.exp(scores - xp.where(top == -xp.inf, xp.zeros_like(top), top)), axis=-1, keepdims=True)
    out, peak, total = stream_scores(xp, placed.queries, k, v, a.key_mask, a.bias, a.scale)
    real = (total > 0) & (own > 0)
    if placed.query_valid is not None:
        real = real & placed.query_valid[..., None]
        core = xp.where(placed.query_valid[..., None], core, xp.zeros_like(core))
    one, zero = xp.ones_like(total), xp.zeros_like(total)
    total, own, peak, top = (
        xp.where(real, x, rest) for x, rest in ((total, one), (own, one), (peak, zero), (top, zero))
    )
    log_rho = xp.where(real, peak - top + xp.log(total) - xp.log(own), xp.full_like(total, -xp.inf))
    t = xp.max(log_rho, axis=-2, keepdims=True)
    t = xp.where(t == -xp.inf, xp.zeros_like(t), t)
    return LandmarkRows(core, out / total, xp.exp(log_rho - t), t)


def floor_of(a: Arguments, placed: Placed, k: Array) -> Array | float:
    r"""Whole real keys a landmark, (..., 1, 1): all keys weigh at least that often what the landmarks weigh.

    For means of l or more keys each, :math:`\sum_j e^{sq^Tk_j} \ge l\sum_s e^{sq^T\tilde k_s}` by Jensen's inequality.
    """
    xp = a.xp
    if a.key_mask is None or placed.key_valid is None:
        return float(k.shape[-2] // placed.keys.shape[-2])
    dtype = placed.keys.dtype
    keys, points = (
        xp.sum(xp.astype(x, dtype), axis=-1)[..., None, None] for x in (a.key_mask, placed.key_valid)
    )
    return xp.floor(keys / xp.where(points > 0, points, xp.ones_like(points)))


def normalised(
    q: Array,
    k: Array,
    v: Array,
    m: int | tuple[int, int],
    /,
    *,
    landmarks: Strategy = segment_means,
    solver: Solver = ridge,
    guard: float = 1.0,
    key_mask: Array | None = None,
    query_mask: Array | None = None,
    attn_mask: Array | None = None,
    scale: float | None = None,
    grouped: bool = False,
    check_finite: bool = False,
) -> Array:
    r"""Nyström attention through the unnormalised kernel, whose rows are normalised afterwards.

    .. math:: \hat E = e^{sQ\tilde K^T}\,(e^{s\tilde Q\tilde K^T})^+\,e^{s\tilde QK^T},\qquad
              \hat S = \mathrm{diag}(\hat E\mathbf 1)^{-1}\hat E.

    Exact with A⁺ (``solver=pinv.rank_revealing``) where the kernel has rank m, which the paper's form is not: there
    the row sums of landmarks, :math:`D_AD_B^{-1}`, stay inside.  On real heads it is the worse of the two on most,
    see the claim ``estimators`` of the experiments.

    Parameters
    ----------
    q, k, v, m, landmarks, solver, key_mask, query_mask, attn_mask, scale, grouped, check_finite
        As in :func:`nystrom`.
    guard : float
        Least denominator, at least 0, in units of what the landmarks weigh in the row times the whole number of
        keys a landmark.  For segment means the true one is at least 1 of these (Jensen), so the default cuts only
        what cannot be; for other landmarks it is a choice.

    Returns
    -------
    array (..., n_q, d_v)
        In the dtype of ``v``; zeros for masked queries.

    Raises
    ------
    DTypeError, DeviceError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    In Torch ``torch.compile(fullgraph=True)``, ``torch.func.vmap`` and ``torch.export`` of one length take it, the last
    not of a length that is left open (:class:`ShapeError`; :func:`nystrom` takes any).

    Cost: as :func:`nystrom`, with one more column of values; both passes are streamed, as they need the sums that
    a fused kernel keeps to itself.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import attention, pinv
    >>> q, k, v = np.random.default_rng(0).standard_normal((3, 40, 4))
    >>> k = np.repeat(k[:5], 8, axis=0)  # five different keys: the kernel has rank 5
    >>> got = attention.normalised(q, k, v, 5, solver=pinv.rank_revealing)
    >>> bool(np.allclose(got, attention.exact(q, k, v)))
    True
    """
    a, q, k, _ = product_form(
        q,
        k,
        v,
        scale=scale,
        key_mask=key_mask,
        query_mask=query_mask,
        attn_mask=attn_mask,
        grouped=grouped,
        check_finite=check_finite,
    )
    one_length("`attention.nystrom`", q=q, k=k)
    return _build(a, q, k, m, landmarks, solver, guard, grouped).apply(v)


@dataclass(frozen=True)
class _NormalisedOperator(OperatorBase):
    q: Array
    k: Array
    key_mask: Array | None
    query_mask: Array | None
    scale: float
    grouped: bool
    arguments: Arguments = field(repr=False)
    placed: Placed = field(repr=False)
    solver: Solver
    guard: float

    __repr__ = brief

    @property
    def entries(self) -> int:
        """Kernel entries of one head: (n_q + m_q) m_k + n_k m_q."""
        m_q, m_k = self.placed.queries.shape[-2], self.placed.keys.shape[-2]
        n_q, n_k = self._lengths()
        return int(np.max((n_q + m_q) * m_k + n_k * m_q))

    def apply(self, v: Array, /) -> Array:
        """As :func:`normalised` and :class:`AttentionOperator` say."""
        xp, v = self._values(v)
        a, placed = self.arguments, self.placed
        seen = landmark_rows(a, placed, self.k, v)
        w = solve_core(seen.core, seen.beside(seen.p * seen.rho), self.solver)
        out = stream(xp, self.q, placed.keys, w, placed.key_valid, self._bias, a.scale)
        out = out[..., :-1] / xp.maximum(out[..., -1:], self._least(xp, seen))
        out = hide(xp, out, a.row_mask)
        return self._ungrouped(xp.astype(out, v.dtype, copy=False))

    @property
    def _bias(self) -> Array | None:
        return None if self.placed.key_bias is None else self.placed.key_bias[..., None, :]

    def _least(self, xp: Any, seen: LandmarkRows) -> Array:
        """The least denominator (..., 1, 1)."""
        least = self.guard * floor_of(self.arguments, self.placed, self.k) * xp.exp(-seen.t)
        normal = xp.full_like(least, float(xp.finfo(least.dtype).smallest_normal))
        return xp.where(least > 0, least, normal)

    def _factors(self, xp: Any) -> tuple[Array, Array, Array]:
        """Z diag(ρ) with Zρ beside it (..., m_k, m_q + 1), the least denominator, and B (..., m_q, n_k)."""
        a, placed = self.arguments, self.placed
        seen = landmark_rows(a, placed, self.k, xp.zeros_like(self.k[..., :1]))
        eye = xp.eye(seen.rho.shape[-2], dtype=seen.rho.dtype, device=device_of(seen.rho))
        w = solve_core(seen.core, seen.beside(eye * seen.rho), self.solver)
        right = softmax_weights(xp, placed.queries, self.k, a.key_mask, a.bias, a.scale)
        return w, self._least(xp, seen), right

    def _left(self, xp: Any, at: Array) -> Array:
        """Rows of F (..., r, m_k)."""
        placed, q = self.placed, xp.take(self.q, at, axis=-2)
        return softmax_weights(xp, q, placed.keys, placed.key_valid, self._bias, self.scale)

    def _rows(self, at: Array) -> Array:
        """Cost: (r + 2 n_k) m kernel entries; memory O((r + m) n_k), B being held."""
        xp = tokens_of(q=self.q)
        w, least, right = self._factors(xp)
        left = self._left(xp, at) @ w
        return left[..., :-1] / xp.maximum(left[..., -1:], least) @ right

    def diagonal(self) -> Array:
        """Entries (..., min(n_q, n_k)) of Ŝ, those of each query and the key of its number; see ``rows``.

        Cost: (n_q + 2 n_k) m kernel entries; memory O(n_k m), B being held, and some rows of F.
        """
        xp, parts = tokens_of(q=self.q), []
        w, least, right = self._factors(xp)
        for part in blocks(min(self.shape[-2:])):
            at = xp.arange(part.start, part.stop, dtype=xp.int64, device=device_of(self.q))
            left = self._left(xp, at) @ w
            left = left[..., :-1] / xp.maximum(left[..., -1:], least)
            entries = xp.sum(left * transpose(right[..., part]), axis=-1)[..., None]
            parts.append(self._ungrouped(self._masked(entries, at))[..., 0])
        return xp.concat(parts, axis=-1)

    def _give_back(self, xp: Any, u: Array) -> Array:
        """(n_q + 2 n_k) m kernel entries; memory O(n_k m), B being held."""
        w, least, right = self._factors(xp)
        total: Any = None
        for part in blocks(self.q.shape[-2]):
            f = self._left(xp, xp.arange(part.start, part.stop, dtype=xp.int64, device=device_of(u)))
            some = transpose(f) @ (u[..., part, :] / xp.maximum(f @ w[..., -1:], least))
            total = some if total is None else total + some
        return transpose(right) @ (transpose(w[..., :-1]) @ total)


def normalised_operator(
    q: Array,
    k: Array,
    m: int | tuple[int, int],
    /,
    *,
    landmarks: Strategy = segment_means,
    solver: Solver = ridge,
    guard: float = 1.0,
    key_mask: Array | None = None,
    query_mask: Array | None = None,
    scale: float | None = None,
    grouped: bool = False,
    check_finite: bool = False,
) -> AttentionOperator:
    r"""The row-normalised estimator as an :class:`~nystrom_numerics.attention.AttentionOperator`.

    Parameters
    ----------
    q, k, m, landmarks, solver, guard, key_mask, query_mask, scale, grouped, check_finite
        As in :func:`normalised`.

    Returns
    -------
    AttentionOperator

    Raises
    ------
    DTypeError, DeviceError, NamespaceError, NonFiniteError, RangeError, ShapeError
        As :func:`normalised`.

    Notes
    -----
    Landmarks are placed once; ``apply`` costs what :func:`normalised` does.  Rows, the diagonal and the transpose take
    the kernel entries of ``apply``, the landmarks' with the keys twice, and hold B (m, n_k).

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import attention
    >>> q, k = np.random.default_rng(0).standard_normal((2, 40, 4))
    >>> bool(np.allclose(attention.normalised_operator(q, k, 8).rows([3, 7]).sum(axis=-1), 1))
    True
    """
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
    return _build(a, q, k, m, landmarks, solver, guard, grouped)


def _build(
    a: Arguments,
    q: Array,
    k: Array,
    m: int | tuple[int, int],
    landmarks: Strategy,
    solver: Solver,
    guard: float,
    grouped: bool,
) -> _NormalisedOperator:
    require_number("guard", guard, lambda x: x >= 0, "a number of at least 0")
    require_callable("solver", solver)
    placed = place_landmarks(a, q, k, m, landmarks)
    return _NormalisedOperator(q, k, a.key_mask, a.query_mask, a.scale, grouped, a, placed, solver, guard)
