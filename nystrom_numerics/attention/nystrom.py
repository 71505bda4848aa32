r"""Nyström attention, eq. (13) of the paper: :math:`\hat S = F A^+ B`.

Two passes of exact attention around a small core: :math:`P = BV` is the attention of the query
landmarks to all keys, :math:`W = A^+P`, and :math:`\hat SV = FW` is the attention of all queries to the
key landmarks, with W as their values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from nystrom_numerics.attention.arguments import Arguments, check_arguments
from nystrom_numerics.attention.streaming import stream
from nystrom_numerics.backend import Array, compute_dtype, namespace
from nystrom_numerics.errors import ShapeError
from nystrom_numerics.landmarks import Strategy, segment_means
from nystrom_numerics.linalg import masked_softmax, transpose
from nystrom_numerics.pinv import PinvResult, razavi

__all__ = ["NystromOperator", "Pinv", "nystrom", "nystrom_operator"]

Pinv: TypeAlias = Callable[[Array], PinvResult]
"""A pseudoinverse of a stack of cores; bind its options with ``functools.partial``."""


@dataclass(frozen=True)
class NystromOperator:
    r"""The matrix :math:`\hat S = F Z B`, never formed: apply it to values.

    Attributes
    ----------
    core : array (..., m, m)
        A, the softmax of query landmarks against key landmarks; rows and columns of landmarks that do
        not exist are zero.
    pinv : PinvResult
        Z, the pseudoinverse of the core, with its residual and status.
    query_landmarks, key_landmarks : array (..., m, d)
    query_valid, key_valid : array (..., m) of bool, or None
        Which landmarks exist.
    """

    q: Array
    k: Array
    key_mask: Array | None
    scale: float
    query_landmarks: Array
    query_valid: Array | None
    key_landmarks: Array
    key_valid: Array | None
    core: Array
    pinv: PinvResult

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
        p = stream(xp, self.query_landmarks, self.k, v, self.key_mask, self.scale)
        w = xp.astype(self.pinv.value, p.dtype, copy=False) @ p
        return xp.astype(
            stream(xp, self.q, self.key_landmarks, w, self.key_valid, self.scale), v.dtype, copy=False
        )


def nystrom_operator(
    q: Array,
    k: Array,
    m: int,
    /,
    *,
    landmarks: Strategy = segment_means,
    pinv: Pinv = razavi,
    key_mask: Array | None = None,
    query_mask: Array | None = None,
    scale: float | None = None,
    check_finite: bool = False,
) -> NystromOperator:
    """The approximate attention matrix as an operator, with everything an analysis wants to look at.

    Parameters, errors and costs are those of :func:`nystrom`.
    """
    a = check_arguments(
        q, k, None, scale=scale, key_mask=key_mask, query_mask=query_mask, check_finite=check_finite
    )
    return _build(a, q, k, m, landmarks, pinv)


def _build(a: Arguments, q: Array, k: Array, m: int, landmarks: Strategy, pinv: Pinv) -> NystromOperator:
    xp, dtype = a.xp, compute_dtype(a.xp, q.dtype)
    if a.query_mask is not None:
        q = xp.broadcast_to(q, (*a.batch, *q.shape[-2:]))
    if a.key_mask is not None:
        k = xp.broadcast_to(k, (*a.batch, *k.shape[-2:]))
    of_q = landmarks(q, m, mask=a.query_mask)
    of_k = landmarks(k, m, mask=a.key_mask)
    q_points = xp.astype(of_q.gather(q), dtype, copy=False)
    k_points = xp.astype(of_k.gather(k), dtype, copy=False)
    scores = (q_points * a.scale) @ transpose(k_points)
    core = masked_softmax(scores, None if of_k.valid is None else of_k.valid[..., None, :])
    if of_q.valid is not None:
        core = xp.where(of_q.valid[..., None], core, xp.zeros_like(core))
    return NystromOperator(
        q, k, a.key_mask, a.scale, q_points, of_q.valid, k_points, of_k.valid, core, pinv(core)
    )


def nystrom(
    q: Array,
    k: Array,
    v: Array,
    m: int,
    /,
    *,
    landmarks: Strategy = segment_means,
    pinv: Pinv = razavi,
    key_mask: Array | None = None,
    query_mask: Array | None = None,
    scale: float | None = None,
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
    m : int
        Landmarks, 1 <= m <= min(n_q, n_k).
    landmarks : callable
        ``landmarks(x, m, mask=mask)``, called on queries and on keys; see
        :mod:`nystrom_numerics.landmarks`.
    pinv : callable
        ``pinv(core) -> PinvResult``; see :mod:`nystrom_numerics.pinv`.  The default is the paper's six
        iterations, which are a spectral filter and not A⁺: a more accurate pseudoinverse can make the
        attention worse.
    key_mask, query_mask : array of bool, broadcastable to (..., n_k) and (..., n_q), optional
        True for real tokens.  Masked keys weigh nothing, and masked tokens enter no landmark: adding
        padding changes nothing for real tokens.  In self-attention pass the same mask twice; nothing
        is guessed from equal lengths.
    scale : float, optional
        s, in place of :math:`1/\sqrt d`.
    check_finite : bool
        Raise on NaN and infinity in q, k and v.

    Returns
    -------
    array (..., n_q, d_v)
        In the dtype of ``v``; zeros for an item without any real key or real query; NaN for an item whose
        pseudoinverse ended ``NON_FINITE``.

    Raises
    ------
    DTypeError, DeviceError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: (n_q + n_k + m) m kernel entries, (n_q + n_k) m (d + d_v) multiplications, and the
    pseudoinverse; memory O((n_q + n_k) d + m²) and one block.  Source: Xiong et al. 2021, eq. (13).
    Departure: segments are balanced and means leave padding out, so no length is padded or refused.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import attention, pinv
    >>> q, k, v = np.random.default_rng(0).standard_normal((3, 2, 12, 4))
    >>> full = attention.nystrom(q, k, v, 12, pinv=pinv.svd)
    >>> bool(np.allclose(full, attention.exact(q, k, v)))  # Lemma 2: all tokens are landmarks
    True
    """
    a = check_arguments(
        q, k, v, scale=scale, key_mask=key_mask, query_mask=query_mask, check_finite=check_finite
    )
    return _build(a, q, k, m, landmarks, pinv).apply(v)
