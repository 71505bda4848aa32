"""softmax(s Q Kᵀ + b) V without its matrix: the one loop under every attention here."""

from __future__ import annotations

from typing import Any

from nystrom_numerics.backend import Array, compute_dtype, device_of, tile
from nystrom_numerics.fused import fused_attention
from nystrom_numerics.linalg import transpose
from nystrom_numerics.places import parted

__all__ = ["attend", "stream", "stream_scores"]


def attend(
    xp: Any, q: Array, k: Array, v: Array, mask: Array | None, bias: Array | None, scale: float
) -> Array:
    """:func:`stream`, by the library's fused kernel where it has one that serves.

    16-bit arrays are widened whole for it: the kernel would round what it returns, and the core amplify that.
    """
    q, k, v = (xp.astype(x, compute_dtype(xp, x.dtype), copy=False) for x in (q, k, v))
    fused = fused_attention(q, k, v, mask, bias, scale) if q.dtype == k.dtype == v.dtype else None
    return stream(xp, q, k, v, mask, bias, scale) if fused is None else fused


def stream(
    xp: Any,
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None,
    bias: Array | None,
    scale: float,
    *,
    first: int | None = None,
) -> Array:
    """Rows of softmax(scale · q kᵀ + bias) v over keys where ``mask`` (..., n_k) is true; bias (..., 1 or n_q, n_k).

    Masked keys and values weigh nothing, but hold finite numbers, as 0 · NaN is NaN: see
    :func:`~nystrom_numerics.attention.padding.hide`.

    With ``first`` it is causal, as :func:`stream_scores` says.

    The result has the dtype to compute in.  A row without any key is zero.  Memory beyond the result: a block of
    scores, at most 1024 × 1024 an item on a CPU (see :func:`~nystrom_numerics.backend.tile`).
    """
    out, _, total = stream_scores(xp, q, k, v, mask, bias, scale, first=first)
    return out / xp.where(total == 0, xp.ones_like(total), total)


def stream_scores(
    xp: Any,
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None,
    bias: Array | None,
    scale: float,
    *,
    first: int | None = None,
) -> tuple[Array, Array, Array]:
    r"""Numerator, running maximum t and denominator: :math:`\sum_j e^{x_{ij}-t_i}v_j`, :math:`t_i`,
    :math:`\sum_j e^{x_{ij}-t_i}`, the last two with a column axis.

    With ``first`` the pair is causal: query i sees keys up to ``first + i``.  A row without any key has zeros
    and t = −∞.
    """
    n = q.shape[-2]
    block, _ = tile(q, n, k.shape[-2])
    parts = parted(q, block, -2)
    of_pairs = bias is not None and bias.shape[-2] > 1
    biases = parted(bias, block, -2) if of_pairs else [bias] * len(parts)
    rows = [
        _rows(xp, part, k, v, mask, own, scale, None if first is None else first + i * block)
        for i, (part, own) in enumerate(zip(parts, biases, strict=True))
    ]
    if len(rows) == 1:
        return rows[0]
    out, top, total = (xp.concat(list(parts), axis=-2) for parts in zip(*rows, strict=True))
    return out, top, total


def _rows(
    xp: Any,
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None,
    bias: Array | None,
    scale: float,
    first: int | None,
) -> tuple[Array, Array, Array]:
    """One block of queries against all blocks of keys."""
    n, dtype = k.shape[-2], compute_dtype(xp, q.dtype)
    _, block = tile(q, q.shape[-2], n)
    if first is not None:
        n = min(n, first + q.shape[-2])
        k, v = k[..., :n, :], v[..., :n, :]
    q = xp.astype(q, dtype, copy=False) * scale
    top = total = out = None
    for i, (part, values) in enumerate(zip(parted(k, block, -2), parted(v, block, -2), strict=True)):
        j, stop = i * block, min(i * block + block, n)
        part, values = (xp.astype(x, dtype, copy=False) for x in (part, values))
        scores = q @ transpose(part)
        if bias is not None:
            scores = scores + xp.astype(bias[..., j:stop], dtype, copy=False)
        if mask is not None:
            real = mask[..., j:stop]
            scores = xp.where(real[..., None, :], scores, xp.full_like(scores, -xp.inf))
        if first is not None and stop > first + 1:
            scores = xp.where(_seen(xp, q, first, j, stop), scores, xp.full_like(scores, -xp.inf))
        peak = xp.max(scores, axis=-1, keepdims=True)
        peak = peak if top is None else xp.maximum(top, peak)
        shift = xp.where(peak == -xp.inf, xp.zeros_like(peak), peak)
        weights = xp.exp(scores - shift)
        new_total, new_out = xp.sum(weights, axis=-1, keepdims=True), weights @ values
        if top is not None:
            decay = xp.exp(top - shift)
            new_total, new_out = new_total + total * decay, new_out + out * decay
        top, total, out = peak, new_total, new_out
    return out, top, total


def _seen(xp: Any, q: Array, first: int, start: int, stop: int) -> Array:
    """Which of keys start, …, stop − 1 the queries see, of which the first sees keys up to ``first``."""
    last = first + xp.arange(q.shape[-2], device=device_of(q))
    return xp.arange(start, stop, device=device_of(q)) <= last[:, None]
