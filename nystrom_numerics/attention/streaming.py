"""softmax(s Q Kᵀ) V over blocks, with running maxima: the one loop under both attentions."""

from __future__ import annotations

from typing import Any

from nystrom_numerics.backend import Array, compute_dtype, default_block
from nystrom_numerics.linalg import transpose

__all__ = ["stream"]


def stream(xp: Any, q: Array, k: Array, v: Array, mask: Array | None, scale: float) -> Array:
    """Rows of softmax(scale · q kᵀ) v over keys where ``mask`` (..., n_k) is true.

    The result has the dtype to compute in.  A row without any key is zero.  Memory beyond the result:
    one block of at most 1024 × 1024 scores an item.
    """
    n, block = q.shape[-2], default_block(q.shape[-2])
    rows = [_rows(xp, q[..., i : i + block, :], k, v, mask, scale) for i in range(0, n, block)]
    return rows[0] if len(rows) == 1 else xp.concat(rows, axis=-2)


def _rows(xp: Any, q: Array, k: Array, v: Array, mask: Array | None, scale: float) -> Array:
    """One block of queries against all blocks of keys."""
    n, block, dtype = k.shape[-2], default_block(k.shape[-2]), compute_dtype(xp, q.dtype)
    q = xp.astype(q, dtype, copy=False) * scale
    top = total = out = None
    for j in range(0, n, block):
        part = xp.astype(k[..., j : j + block, :], dtype, copy=False)
        values = xp.astype(v[..., j : j + block, :], dtype, copy=False)
        scores = q @ transpose(part)
        if mask is not None:
            real = mask[..., j : j + block]
            scores = xp.where(real[..., None, :], scores, xp.full_like(scores, -xp.inf))
            values = xp.where(real[..., None], values, xp.zeros_like(values))  # 0 · NaN is NaN
        peak = xp.max(scores, axis=-1, keepdims=True)
        peak = peak if top is None else xp.maximum(top, peak)
        shift = xp.where(peak == -xp.inf, xp.zeros_like(peak), peak)
        weights = xp.exp(scores - shift)
        new_total, new_out = xp.sum(weights, axis=-1, keepdims=True), weights @ values
        if top is not None:
            decay = xp.exp(top - shift)
            new_total, new_out = new_total + total * decay, new_out + out * decay
        top, total, out = peak, new_total, new_out
    return out / xp.where(total == 0, xp.ones_like(total), total)
