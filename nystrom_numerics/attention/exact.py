"""Exact softmax attention, the reference of everything here."""

from __future__ import annotations

from nystrom_numerics.attention.arguments import check_arguments
from nystrom_numerics.attention.padding import hide
from nystrom_numerics.attention.streaming import stream
from nystrom_numerics.backend import Array

__all__ = ["exact"]


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
    xp, whole = a.xp, a.xp.all(a.xp.isfinite(q), axis=-1)
    k, v = (hide(xp, x, a.key_mask) for x in (k, v))
    out = stream(xp, hide(xp, q, whole), k, v, a.key_mask, a.bias, a.scale)
    out = xp.where(whole[..., None], out, xp.nan)
    return xp.astype(hide(xp, out, a.row_mask), v.dtype, copy=False)
