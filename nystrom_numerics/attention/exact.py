"""Exact softmax attention, the reference of everything here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nystrom_numerics.arguments import require_flag
from nystrom_numerics.attention.arguments import check_arguments, one_length, product_form, tokens_of
from nystrom_numerics.attention.operators import AttentionOperator, OperatorBase
from nystrom_numerics.attention.padding import hide
from nystrom_numerics.attention.streaming import stream
from nystrom_numerics.backend import Array, compute_dtype, device_of
from nystrom_numerics.brief import brief
from nystrom_numerics.linalg import masked_softmax, transpose

__all__ = ["exact", "exact_operator"]


def exact(
    q: Array,
    k: Array,
    v: Array,
    /,
    *,
    key_mask: Array | None = None,
    attn_mask: Array | None = None,
    scale: float | None = None,
    check_finite: bool = False,
) -> Array:
    r"""Softmax attention, streamed over blocks: no n_q × n_k array is ever held.

    .. math:: O = S V,\qquad S = \mathrm{softmax}(s\,QK^T),\quad s = 1/\sqrt d \text{ by default}.

    Parameters
    ----------
    q : array (..., n_q, d)
    k : array (..., n_k, d)
    v : array (..., n_k, d_v)
        Real floating, of one dtype, library and device; leading axes broadcast.  Softmax statistics of
        16-bit dtypes are kept in float32.
    key_mask : array of bool, broadcastable to (..., n_k), optional
        True for real keys.  Masked ones may hold anything, NaN included.  A query left without any key
        gives a row of zeros.
    attn_mask : array of bool (True to attend) or real, broadcastable to (..., n_q, n_k), optional
        As in Torch; an entry below half the least number of its dtype counts as −∞.
    scale : float, optional
        s, in place of :math:`1/\sqrt d`.
    check_finite : bool
        Raise on NaN and infinity in q, k and v.

    Returns
    -------
    array (..., n_q, d_v)
        In the dtype of ``v``.  A query that is not finite gives a row of NaN, and adds nothing to any derivative: a
        padding query, of which no mask tells, does no harm to keys and values.

    Raises
    ------
    DTypeError, DeviceError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    In Torch ``torch.compile(fullgraph=True)``, ``torch.func.vmap`` and ``torch.export`` of one length take it; blocks
    are counted for each, so that an exported length that is left open is refused with :class:`ShapeError`.

    Cost: n_q n_k kernel entries and n_q n_k (d + d_v) multiplications; memory one block.  Sources:
    Vaswani et al. 2017, eq. (1); running maxima, Milakov and Gimelshein 2018.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import attention
    >>> x = np.zeros((3, 2))
    >>> attention.exact(x, x, np.array([[0.0], [3.0], [6.0]]))
    array([[3.],
           [3.],
           [3.]])
    """
    a = check_arguments(
        q, k, v, scale=scale, key_mask=key_mask, attn_mask=attn_mask, check_finite=check_finite
    )
    one_length("`torch.nn.functional.scaled_dot_product_attention`", q=q, k=k)
    k, v = (hide(a.xp, x, a.key_mask) for x in (k, v))
    return hide(a.xp, _attend(a.xp, q, k, v, a.key_mask, a.bias, a.scale), a.row_mask)


def _attend(
    xp: Any,
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None,
    bias: Array | None,
    scale: float,
    causal: bool = False,
) -> Array:
    """In the dtype of the values; NaN for queries that are not finite."""
    whole = xp.all(xp.isfinite(q), axis=-1)
    out = stream(xp, hide(xp, q, whole), k, v, mask, bias, scale, first=0 if causal else None)
    return xp.astype(xp.where(whole[..., None], out, xp.nan), v.dtype, copy=False)


@dataclass(frozen=True)
class _ExactOperator(OperatorBase):
    q: Array
    k: Array
    key_mask: Array | None
    query_mask: Array | None
    scale: float
    grouped: bool
    causal: bool = False
    stochastic: bool = True

    __repr__ = brief

    @property
    def entries(self) -> int:
        """n_q n_k, or about half of them where it is causal."""
        n_q, n_k = self._lengths()
        return int(np.max(n_q * (n_k + 1) // 2 if self.causal else n_q * n_k))

    def apply(self, v: Array, /) -> Array:
        """As :func:`exact` and :class:`AttentionOperator` say."""
        xp, v = self._values(v)
        found = _attend(xp, self.q, self.k, v, self.key_mask, None, self.scale, self.causal)
        return self._ungrouped(self._masked(found, None))

    def _rows(self, at: Array) -> Array:
        xp = tokens_of(q=self.q)
        dtype = compute_dtype(xp, self.q.dtype)
        q, k = (xp.astype(x, dtype, copy=False) for x in (xp.take(self.q, at, axis=-2), self.k))
        mask = None if self.key_mask is None else self.key_mask[..., None, :]
        if self.causal:
            past = at[:, None] >= xp.arange(k.shape[-2], dtype=xp.int64, device=device_of(at))
            mask = past if mask is None else mask & past
        return masked_softmax((q * self.scale) @ transpose(k), mask)


def exact_operator(
    q: Array,
    k: Array,
    /,
    *,
    key_mask: Array | None = None,
    query_mask: Array | None = None,
    scale: float | None = None,
    causal: bool = False,
    grouped: bool = False,
    check_finite: bool = False,
) -> AttentionOperator:
    r"""Exact softmax attention as an :class:`~nystrom_numerics.attention.AttentionOperator`, of which no row is kept.

    Parameters
    ----------
    q, k, key_mask, scale, check_finite
        As in :func:`exact`.
    query_mask, grouped
        As in :func:`~nystrom_numerics.attention.nystrom`; masked queries give zeros.
    causal : bool
        Query i sees keys up to i alone, of which there are as many as queries.

    Returns
    -------
    AttentionOperator

    Raises
    ------
    DTypeError, DeviceError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: ``apply`` that of :func:`exact`; r n_k kernel entries for r rows, n_q n_k for columns, the diagonal and the
    transpose, of which 256 rows are held.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import attention
    >>> q, k = np.random.default_rng(0).standard_normal((2, 5, 4))
    >>> bool(np.allclose(attention.exact_operator(q, k).rows([3, 1]).sum(axis=-1), 1))
    True
    """
    a, q, k, _ = product_form(
        q,
        k,
        scale=scale,
        key_mask=key_mask,
        query_mask=query_mask,
        attn_mask=None,
        oneself=require_flag("causal", causal),
        grouped=grouped,
        check_finite=check_finite,
    )
    return _ExactOperator(q, k, a.key_mask, a.query_mask, a.scale, grouped, causal)
