"""Causal attention by some keys a query alone, at counted entries, on Torch tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.rivals.window import SINKS

__all__ = ["causal_top_keys", "causal_window", "keys_for"]

_ROWS = 512  # queries whose scores are held at once


def keys_for(n: int, entries: int) -> int:
    """The fewest keys t a query with at least so many entries, Σ min(i + 1, t) = tn − t(t − 1)/2 of n queries."""
    t = np.arange(1, n + 1, dtype=np.int64)
    return int(np.searchsorted(t * n - t * (t - 1) // 2, entries)) + 1


def causal_window(q: Any, k: Any, v: Any, keys: int, *, scale: float) -> Any:
    """The first four keys and the latest others: ``keys`` a query, exactly, and no other.

    q (..., h, n, d), k (..., g, n, d) and v (..., g, n, d_v), g a divisor of h.

    Source: Xiao et al., "Efficient Streaming Language Models with Attention Sinks" (StreamingLLM, ICLR 2024),
    section 3.2.  Departure: keys keep their places in the text, where theirs are counted within the window, as the text
    is within the lengths that the model was trained on.

    Entries: n keys − keys(keys − 1)/2.  Exact where keys ≥ n.
    """
    import torch

    n, width = q.shape[-2], max(keys - SINKS, 1)
    sinks, token, parts = min(SINKS, keys - width), torch.arange(n, device=q.device), []
    for start in range(0, n, _ROWS):
        rows = token[start : start + _ROWS, None]
        first = max(start - width + 1, 0)
        seen = torch.cat([token[: min(sinks, first)], token[first : start + _ROWS]])
        met = (seen <= rows) & ((seen > rows - width) | (seen < sinks))
        parts.append(
            torch.nn.functional.scaled_dot_product_attention(
                q[..., start : start + _ROWS, :],
                k[..., seen, :],
                v[..., seen, :],
                attn_mask=met,
                scale=scale,
                enable_gqa=True,
            )
        )
    return torch.cat(parts, dim=-2)


def causal_top_keys(scores: Any, keys: int) -> Any:
    """Rows of weights (..., n, n) on the ``keys`` largest of a query's scores, −∞ ahead of it: an oracle.

    Entries: n keys − keys(keys − 1)/2, without those by which they are found.  Exact where keys ≥ n.
    """
    import torch

    largest = scores.topk(min(keys, scores.shape[-1]), dim=-1)
    weights = torch.softmax(largest.values, dim=-1)
    return torch.zeros_like(scores).scatter(-1, largest.indices, weights)
