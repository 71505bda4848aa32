"""Draws by weight: uniform numbers made in NumPy, turned into indices where the weights are."""

from __future__ import annotations

from typing import Any

import numpy as np

from nystrom_numerics.arguments import require_count
from nystrom_numerics.backend import Array, from_numpy, namespace

__all__ = ["draw", "require_landmarks", "without_replacement"]


def require_landmarks(m: int, n: int) -> int:
    """``m`` as an int from 1 to the ``n`` points there are; raises RangeError."""
    return require_count("m", m, 1, n, of="the number of points")


def draw(weights: Array, uniforms: np.ndarray[Any, Any]) -> Array:
    """Indices drawn with probability proportional to ``weights`` (n,), by inversion in float64.

    Never one of weight zero, unless all are.
    """
    xp = namespace(weights=weights)
    cumulative = xp.cumulative_sum(xp.astype(weights, xp.float64))
    total = cumulative[-1]
    # u·total may round up to the total, which no cumulative weight exceeds
    target = xp.minimum(from_numpy(xp, uniforms, weights) * total, total * (1 - 2.0**-52))
    found = xp.searchsorted(cumulative, target, side="right")
    return xp.astype(xp.clip(found, 0, weights.shape[0] - 1), xp.int64)


def without_replacement(
    weights: np.ndarray[Any, Any], m: int, source: np.random.Generator
) -> np.ndarray[Any, Any]:
    """At most m distinct indices, ascending, by successive draws proportional to the weights left.

    The m largest of log(u)/w have that law (Efraimidis and Spirakis 2006); one of weight zero never wins.
    """
    uniforms = source.random(len(weights))
    positive = weights > 0
    with np.errstate(divide="ignore"):
        keys = np.where(positive, np.log(uniforms) / np.where(positive, weights, 1), -np.inf)
    order = np.argsort(-keys, kind="stable")[: min(m, int(positive.sum()))]
    return np.sort(order)
