"""A sliding window with attention sinks."""

from __future__ import annotations

import numpy as np

from experiments.rivals.answer import Answer, Array, attend

SINKS = 4


def window_with_sinks(q: Array, k: Array, v: Array, m: int, *, scale: float) -> Answer:
    """The first four keys and the nearest others: 2m keys a query, exactly, and no other.

    Source: Xiao et al., "Efficient Streaming Language Models with Attention Sinks" (StreamingLLM, ICLR 2024),
    section 3.2: the keys of four initial tokens stay beside a window of recent ones.  Departure: queries here see both
    sides, so the window has its query in the middle, and is moved inwards at the ends, where it would be shorter.

    Entries: n min(2m, n).  Exact where 2m ≥ n.
    """
    n, seen = len(k), min(2 * m, len(k))
    sinks = min(SINKS, seen)
    wide = seen - sinks
    first = np.clip(np.arange(len(q)) - wide // 2, sinks, n - wide)[:, None]
    key = np.arange(n)
    met = (key < sinks) | ((key >= first) & (key < first + wide))
    return Answer(attend(np.where(met, scale * q @ k.T, -np.inf), v), int(met.sum()))
