r"""The row-normalised estimator: the kernel is approximated, and its rows are normalised afterwards."""

from __future__ import annotations

from dataclasses import dataclass

from nystrom_numerics.arguments import require_callable, require_number
from nystrom_numerics.attention.arguments import Arguments, product_form, ungroup
from nystrom_numerics.attention.operators import AttentionOperator, FunctionOperator
from nystrom_numerics.attention.padding import hide
from nystrom_numerics.attention.placing import Placed, core_scores, place_landmarks, solve_core
from nystrom_numerics.attention.ridge import ridge
from nystrom_numerics.attention.streaming import stream, stream_scores
from nystrom_numerics.backend import Array, namespace
from nystrom_numerics.landmarks import Strategy, segment_means
from nystrom_numerics.linalg import masked_softmax
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

    Raises
    ------
    DTypeError, DeviceError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
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
    require_number("guard", guard, lambda x: x >= 0, "a number of at least 0")
    require_callable("solver", solver)
    a, q, k, v = product_form(
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
    xp, storage = a.xp, v.dtype
    v = hide(xp, v, a.key_mask)
    placed = place_landmarks(a, q, k, m, landmarks)
    seen = landmark_rows(a, placed, k, v)
    w = solve_core(seen.core, seen.beside(seen.p * seen.rho), solver)
    bias = None if placed.key_bias is None else placed.key_bias[..., None, :]
    out = stream(xp, q, placed.keys, w, placed.key_valid, bias, a.scale)
    least = guard * floor_of(a, placed, k) * xp.exp(-seen.t)
    least = xp.where(least > 0, least, xp.full_like(least, float(xp.finfo(least.dtype).smallest_normal)))
    out = out[..., :-1] / xp.maximum(out[..., -1:], least)
    if a.row_mask is not None:
        out = xp.where(a.row_mask[..., None], out, xp.zeros_like(out))
    out = xp.astype(out, storage, copy=False)
    return ungroup(out) if grouped else out


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

    Parameters, errors and cost of making it are those of :func:`normalised` for one column of values.

    Notes
    -----
    ``apply`` is a call of :func:`normalised`, landmarks and all.  Rows and the diagonal come by way of all columns, 256
    at a time: (n_q + n_k) m n_k multiplications, and n_q × 256 numbers held.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import attention
    >>> q, k = np.random.default_rng(0).standard_normal((2, 40, 4))
    >>> bool(np.allclose(attention.normalised_operator(q, k, 8).rows([3, 7]).sum(axis=-1), 1))
    True
    """

    def attend(v: Array) -> Array:
        return normalised(
            q,
            k,
            v,
            m,
            landmarks=landmarks,
            solver=solver,
            guard=guard,
            key_mask=key_mask,
            query_mask=query_mask,
            scale=scale,
            grouped=grouped,
            check_finite=check_finite,
        )

    a, real_q, real_k, _ = product_form(
        q,
        k,
        scale=scale,
        key_mask=key_mask,
        query_mask=query_mask,
        attn_mask=None,
        grouped=grouped,
        check_finite=check_finite,
    )
    attend(a.xp.zeros_like(k[..., :1]))  # what is wrong is said here
    m_q, m_k = m if isinstance(m, tuple) else (m, m)
    entries = (q.shape[-2] + m_q) * m_k + k.shape[-2] * m_q
    return FunctionOperator(real_q, real_k, a.key_mask, a.query_mask, a.scale, grouped, entries, attend)
