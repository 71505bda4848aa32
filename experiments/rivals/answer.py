"""What a rival gives: ŜV, and the kernel entries it took; and the softmax that most of them share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class Answer:
    """ŜV (n, d_v), and the kernel entries evaluated for it, of n² that there are."""

    output: Array
    entries: int


def attend(scores: Array, v: Array) -> Array:
    """softmax(scores) V: scores (n, n), −∞ where a key is not met."""
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return weights @ v / weights.sum(axis=1, keepdims=True)
