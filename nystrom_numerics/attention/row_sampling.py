r"""Which rows to look at: a pilot, sizes predicted from it, a draw proportional to size, and what it tells.

Source: Särndal, Swensson and Wretman 1992, §3.5 and §3.6.
"""

from __future__ import annotations

from math import inf
from typing import Any

import numpy as np

__all__ = ["PILOT", "pilot_of", "proportional", "sizes_of", "standard_errors"]

PILOT, FLOOR = 5, 0.2
"""One row in 5 is looked at first; no prediction counts for less than 0.2 of the mean."""


def pilot_of(n: int, count: int, source: np.random.Generator) -> np.ndarray[Any, Any]:
    """Rows evenly spread from a random start, and the first and the last."""
    inner = n - 2
    spread = 1 + ((np.arange(count) + source.random()) * inner / count).astype(np.int64)
    return np.unique(np.concatenate([[0, n - 1], spread]))


def sizes_of(
    features: np.ndarray[Any, Any], pilot: np.ndarray[Any, Any], errors: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any]:
    """Predicted squared errors of all rows, of matrix and output together, mean 1, none below :data:`FLOOR`."""
    from scipy.optimize import nnls

    inner = slice(1, -1)  # the first and the last row are no rule for others
    sizes = np.zeros(len(features))
    for y in errors:
        mean = y[inner].mean()
        if mean > 0:
            predicted = features @ nnls(features[pilot[inner]], y[inner] / mean)[0]
            sizes += predicted / predicted.mean()  # the constant feature alone makes it positive
    if not sizes.mean() > 0:
        return np.ones_like(sizes)
    # rounded, so that the order of equal sizes does not hang on a backend's last digits
    return np.asarray(np.round((1 - FLOOR) * sizes / sizes.mean() + FLOOR, 4))


def proportional(
    sizes: np.ndarray[Any, Any], count: int, source: np.random.Generator
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """``count`` distinct indices, with chances proportional to size and at most 1, and these chances.

    Systematic along the order of sizes, which stratifies by them.
    """
    sure = np.zeros(len(sizes), dtype=bool)
    while True:
        left = count - int(sure.sum())
        chance = np.where(sure, 1.0, left * sizes / max(float(sizes[~sure].sum()), 1e-300))
        over = ~sure & (chance >= 1)
        if not over.any():
            break
        sure |= over
    order = np.argsort(sizes, kind="stable")
    cumulative = np.cumsum(chance[order])
    marks = np.arange(count) + source.random()
    chosen = order[np.minimum(np.searchsorted(cumulative, marks, side="right"), len(order) - 1)]
    chosen = np.unique(chosen)
    return chosen, chance[chosen]


def standard_errors(
    weighed: np.ndarray[Any, Any], chance: np.ndarray[Any, Any]
) -> tuple[np.ndarray[Any, Any], int]:
    """Standard errors of the two totals, and degrees of freedom; one row drawn tells nothing of the others."""
    left = np.maximum(1 - chance, 0.0)
    drawn = left > 1e-12
    count = int(drawn.sum())
    if count < 2:
        return np.full(2, inf if count else 0.0), 1
    left, weighed = left[drawn], weighed[:, drawn]
    centre = (weighed * left).sum(axis=1, keepdims=True) / left.sum()
    variance = count / (count - 1) * (left * (weighed - centre) ** 2).sum(axis=1)
    return np.sqrt(variance), count - 1
