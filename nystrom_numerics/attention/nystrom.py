r"""Nyström attention, eq. (13) of the paper: :math:`\hat S = F A^+ B`.

Two passes of exact attention around a small core: :math:`P = BV` is the attention of the query
landmarks to all keys, :math:`W = A^+P`, and :math:`\hat SV = FW` is the attention of all queries to the
key landmarks, with W as their values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from nystrom_numerics.attention.arguments import (
    Arguments,
    check_arguments,
    expand,
    group_heads,
    require_product_form,
    ungroup,
)
from nystrom_numerics.attention.ridge import ridge
from nystrom_numerics.attention.streaming import attend
from nystrom_numerics.backend import Array, compute_dtype, namespace
from nystrom_numerics.errors import RangeError, ShapeError
from nystrom_numerics.landmarks import Strategy, segment_means
from nystrom_numerics.linalg import masked_softmax, transpose
from nystrom_numerics.pinv import PinvResult, Solver, solve

__all__ = ["NystromOperator", "Pinv", "nystrom", "nystrom_operator"]

Pinv: TypeAlias = Callable[[Array], PinvResult]
"""A pseudoinverse of a stack of cores; bind its options with ``functools.partial``."""


@dataclass(frozen=True)
class NystromOperator:
    r"""The matrix :math:`\hat S = F Z B`, never formed: apply it to values.

    Attributes
    ----------
    core : array (..., m_q, m_k)
        A, the softmax of query landmarks against key landmarks; rows and columns of landmarks that do
        not exist are zero.
    solver : callable
        ``solver(core, p)`` stands for A⁺P where no ``pinv`` was asked for.
    pinv : PinvResult or None
        Z, the pseudoinverse of the core, with its residual and status, where one was asked for.
    query_landmarks, key_landmarks : array (..., m_q, d), (..., m_k, d)
    query_valid, key_valid : array (..., m_q), (..., m_k) of bool, or None
        Which landmarks exist.
    key_bias : array (..., m_k) or None
        What an additive mask comes to at the key landmarks.
    """

    q: Array
    k: Array
    key_mask: Array | None
    row_mask: Array | None
    bias: Array | None
    scale: float
    query_landmarks: Array
    query_valid: Array | None
    key_landmarks: Array
    key_valid: Array | None
    key_bias: Array | None
    core: Array
    solver: Solver
    pinv: PinvResult | None
    grouped: bool

    def apply(self, v: Array, /) -> Array:
        r""":math:`\hat S V` for v (..., n_k, d_v), in the dtype of ``v``.

        Cost: (n_q + n_k) m kernel entries; memory one block and O(m d_v).

        Raises
        ------
        ShapeError
            ``v`` has another number of tokens than the keys.
        """
        xp = namespace(q=self.q, v=v)
        if v.ndim < 2 or v.shape[-2] != self.k.shape[-2]:
            raise ShapeError("v", f"of shape {tuple(v.shape)}", f"shape (..., {self.k.shape[-2]}, d_v)")
        if self.grouped:
            v = group_heads("v", v, self.q.shape[-4] * self.q.shape[-3], self.k.shape[-4], 2)
        p = attend(xp, self.query_landmarks, self.k, v, self.key_mask, self.bias, self.scale)
        if self.pinv is None:
            w = solve(self.core, p, method=self.solver).value
        else:
            w = xp.astype(self.pinv.value, p.dtype, copy=False) @ p
        bias = None if self.key_bias is None else self.key_bias[..., None, :]
        out = attend(xp, self.q, self.key_landmarks, w, self.key_valid, bias, self.scale)
        if self.row_mask is not None:
            out = xp.where(self.row_mask[..., None], out, xp.zeros_like(out))
        out = xp.astype(out, v.dtype, copy=False)
        return ungroup(out) if self.grouped else out


def nystrom_operator(
    q: Array,
    k: Array,
    m: int | tuple[int, int],
    /,
    *,
    landmarks: Strategy = segment_means,
    solver: Solver = ridge,
    pinv: Pinv | None = None,
    key_mask: Array | None = None,
    query_mask: Array | None = None,
    attn_mask: Array | None = None,
    scale: float | None = None,
    grouped: bool = False,
    check_finite: bool = False,
) -> NystromOperator:
    """The approximate attention matrix as an operator, with everything an analysis wants to look at.

    Parameters, errors and costs are those of :func:`nystrom`.
    """
    masks = {"key_mask": key_mask, "query_mask": query_mask, "attn_mask": attn_mask}
    if grouped:
        q, k, _, masks = _grouped(q, k, None, masks)
    a = check_arguments(q, k, None, scale=scale, check_finite=check_finite, **masks)
    return _build(require_product_form(a), q, k, m, landmarks, solver, pinv, grouped)


def _grouped(
    q: Array, k: Array, v: Array | None, masks: dict[str, Array | None]
) -> tuple[Array, Array, Array | None, dict[str, Array | None]]:
    """Queries (..., groups, members, n, d), keys and values (..., groups, 1, n, d), masks likewise."""
    for name, x in {"q": q, "k": k}.items():
        if x.ndim < 3:
            raise ShapeError(name, f"of shape {tuple(x.shape)}", "an axis of heads, as `grouped` says")
    heads, groups = q.shape[-3], k.shape[-3]
    if heads % groups:
        raise ShapeError("k", f"of {groups} heads", f"a divisor of the {heads} heads of `q`")
    split = {
        name: None if x is None else group_heads(name, x, heads, groups, 2 if name == "attn_mask" else 1)
        for name, x in masks.items()
    }
    q = group_heads("q", q, heads, groups, 2)
    k = group_heads("k", k, heads, groups, 2)
    return q, k, None if v is None else group_heads("v", v, heads, groups, 2), split


def _build(
    a: Arguments,
    q: Array,
    k: Array,
    m: int | tuple[int, int],
    landmarks: Strategy,
    solver: Solver,
    pinv: Pinv | None,
    grouped: bool,
) -> NystromOperator:
    xp, dtype = a.xp, compute_dtype(a.xp, q.dtype)
    q_points, q_valid, k_points, k_valid, k_bias = place_landmarks(a, q, k, m, landmarks)
    scores = (q_points * a.scale) @ transpose(k_points)
    if k_bias is not None:
        scores = scores + k_bias[..., None, :]
    core = masked_softmax(scores, None if k_valid is None else k_valid[..., None, :])
    if q_valid is not None:
        core = xp.where(q_valid[..., None], core, xp.zeros_like(core))
    return NystromOperator(
        q=q,
        k=k,
        key_mask=a.key_mask,
        row_mask=a.row_mask,
        bias=a.bias,
        scale=a.scale,
        query_landmarks=q_points,
        query_valid=q_valid,
        key_landmarks=k_points,
        key_valid=k_valid,
        key_bias=k_bias,
        core=core,
        solver=solver,
        pinv=None if pinv is None else pinv(core),
        grouped=grouped,
    )


def place_landmarks(
    a: Arguments, q: Array, k: Array, m: int | tuple[int, int], landmarks: Strategy
) -> tuple[Array, Array | None, Array, Array | None, Array | None]:
    """Query landmarks and which exist, key landmarks and which exist, and the bias of the latter.

    An additive mask is one more coordinate of the keys, which every query meets with 1/scale; so the landmark of
    a mean has the mean of the biases.
    """
    m_q, m_k = m if isinstance(m, tuple) else (m, m)
    for name, count, x in (("q", m_q, q), ("k", m_k, k)):
        _require_count(name, count, x.shape[-2])
    xp, dtype, d = a.xp, compute_dtype(a.xp, q.dtype), k.shape[-1]
    q = expand(xp, q, a.query_mask)
    if a.bias is None:
        k = expand(xp, k, a.key_mask)
    else:
        bias = a.bias[..., 0, :]
        k = expand(xp, k, a.key_mask, bias)
        column = xp.broadcast_to(xp.astype(bias, k.dtype, copy=False), k.shape[:-1])
        k = xp.concat([k, column[..., None]], axis=-1)
    of_q = landmarks(q, m_q, mask=a.query_mask)
    of_k = landmarks(k, m_k, mask=a.key_mask)
    q_points, k_points = (xp.astype(of.gather(x), dtype, copy=False) for of, x in ((of_q, q), (of_k, k)))
    k_bias = None if a.bias is None else k_points[..., d]
    return q_points, of_q.valid, k_points[..., :d], of_k.valid, k_bias


def _require_count(name: str, m: Any, n: int) -> None:
    if isinstance(m, bool) or not isinstance(m, (int, np.integer)) or not 1 <= m <= n:
        raise RangeError("m", f"{m!r}", f"an integer from 1 to the number of tokens of `{name}`, {n}, or two such")


def nystrom(
    q: Array,
    k: Array,
    v: Array,
    m: int | tuple[int, int],
    /,
    *,
    landmarks: Strategy = segment_means,
    solver: Solver = ridge,
    pinv: Pinv | None = None,
    key_mask: Array | None = None,
    query_mask: Array | None = None,
    attn_mask: Array | None = None,
    scale: float | None = None,
    grouped: bool = False,
    check_finite: bool = False,
) -> Array:
    r"""Nyström attention in linear time and memory.

    .. math:: \hat S V = F\,(A^+\,(B V)),\quad
              F = \mathrm{softmax}(sQ\tilde K^T),\;
              A = \mathrm{softmax}(s\tilde Q\tilde K^T),\;
              B = \mathrm{softmax}(s\tilde QK^T),

    each softmax over its own columns.

    Parameters
    ----------
    q : array (..., n_q, d)
    k : array (..., n_k, d)
    v : array (..., n_k, d_v)
        As in :func:`exact`; n_q and n_k may differ.
    m : int, or two
        Landmarks of queries and of keys, 1 <= m <= n_q and n_k; one number for both.
    landmarks : callable
        ``landmarks(x, m, mask=mask)``, called on queries and on keys; see
        :mod:`nystrom_numerics.landmarks`.
    solver : callable
        ``solver(core, p)`` in place of A⁺P, see :func:`nystrom_numerics.pinv.solve`.  The default,
        :func:`ridge`, is a filter and not A⁺, by measurement: a more accurate pseudoinverse makes the attention
        of trained models several times worse.  :func:`nystrom_numerics.pinv.rank_revealing` is A⁺ itself.
    pinv : callable, optional
        ``pinv(core) -> PinvResult`` to be used in place of ``solver``, such as the paper's six iterations,
        :func:`nystrom_numerics.pinv.razavi`.
    key_mask, query_mask : array of bool, broadcastable to (..., n_k) and (..., n_q), optional
        True for real tokens.  Masked keys weigh nothing, and masked tokens enter no landmark: adding
        padding changes nothing for real tokens.  In self-attention pass the same mask twice; nothing
        is guessed from equal lengths.
    attn_mask : array of bool (True to attend) or real, broadcastable to (..., n_q, n_k), optional
        As in Torch, with one of the last two axes of length 1 or absent: a mask of keys, or of queries (a query
        that may see no key gives zeros).  Added to the scores where it is real; an entry below half the least
        number of its dtype counts as −∞.  One that ties queries to keys is refused.
    scale : float, optional
        s, in place of :math:`1/\sqrt d`.
    grouped : bool
        Heads of queries (..., h, n_q, d) share those of keys and values (..., g, n_k, ·), head i those of
        ⌊ig/h⌋; keys are not repeated.
    check_finite : bool
        Raise on NaN and infinity in q, k and v.

    Returns
    -------
    array (..., n_q, d_v)
        In the dtype of ``v``; zeros for an item without any real key or real query; NaN for an item whose
        core could not be solved with (status ``NON_FINITE``).

    Raises
    ------
    DTypeError, DeviceError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: (n_q + n_k + m) m kernel entries, (n_q + n_k) m (d + d_v) multiplications, and the core; memory
    O((n_q + n_k) d + m²) and one block.  In Torch both passes are calls of the fused kernel (see
    :func:`~nystrom_numerics.backend.fused_attention`): beyond inputs and output no more than one array of n × d, and
    two copies of k and v where keys are masked.  Source: Xiong et al. 2021, eq. (13).  Departures: segments are
    balanced and means leave padding out, so no length is padded or refused; the core is solved with, and filtered
    in one step rather than by six iterations.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import attention, pinv
    >>> q, k, v = np.random.default_rng(0).standard_normal((3, 2, 12, 4))
    >>> full = attention.nystrom(q, k, v, 12, solver=pinv.rank_revealing)
    >>> bool(np.allclose(full, attention.exact(q, k, v)))  # Lemma 2: all tokens are landmarks
    True
    """
    masks = {"key_mask": key_mask, "query_mask": query_mask, "attn_mask": attn_mask}
    if grouped:
        q, k, grouped_v, masks = _grouped(q, k, v, masks)
    else:
        grouped_v = v
    a = check_arguments(q, k, grouped_v, scale=scale, check_finite=check_finite, **masks)
    return _build(require_product_form(a), q, k, m, landmarks, solver, pinv, grouped).apply(v)
