"""Landmarks of queries and of keys, and the scores between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nystrom_numerics.attention.arguments import Arguments
from nystrom_numerics.attention.padding import expand
from nystrom_numerics.backend import Array, compute_dtype
from nystrom_numerics.errors import RangeError
from nystrom_numerics.landmarks import Strategy
from nystrom_numerics.linalg import transpose

__all__ = ["Placed", "core_scores", "place_landmarks"]


@dataclass(frozen=True)
class Placed:
    """Landmarks (..., m_q, d) and (..., m_k, d) in the dtype to compute in, which exist, and the bias of keys."""

    queries: Array
    query_valid: Array | None
    keys: Array
    key_valid: Array | None
    key_bias: Array | None

    @property
    def pair_mask(self) -> Array | None:
        """Which columns of the core exist, (..., 1, m_k)."""
        return None if self.key_valid is None else self.key_valid[..., None, :]


def place_landmarks(
    a: Arguments, q: Array, k: Array, m: int | tuple[int, int], landmarks: Strategy
) -> Placed:
    """Landmarks of a checked call.

    An additive mask is one more coordinate of the keys, which every query meets with 1/scale; so the landmark of
    a mean has the mean of the biases.

    Raises
    ------
    RangeError
        Naming ``m``.
    """
    m_q, m_k = m if isinstance(m, tuple) else (m, m)
    for name, count, x in (("q", m_q, q), ("k", m_k, k)):
        if (
            isinstance(count, bool)
            or not isinstance(count, (int, np.integer))
            or not 1 <= count <= x.shape[-2]
        ):
            needs = f"an integer from 1 to the number of tokens of `{name}`, {x.shape[-2]}, or two such"
            raise RangeError("m", f"{m!r}", needs)
    xp, dtype, d = a.xp, compute_dtype(a.xp, q.dtype), k.shape[-1]
    q = expand(xp, q, a.query_mask)
    if a.bias is None:
        k = expand(xp, k, a.key_mask)
    else:
        bias = a.bias[..., 0, :]
        k = expand(xp, k, a.key_mask, bias)
        column = xp.broadcast_to(xp.astype(bias, k.dtype, copy=False), k.shape[:-1])
        k = xp.concat([k, column[..., None]], axis=-1)
    of_q = landmarks(q, m_q, mask=a.query_mask)
    of_k = landmarks(k, m_k, mask=a.key_mask)
    queries, keys = (xp.astype(of.gather(x), dtype, copy=False) for of, x in ((of_q, q), (of_k, k)))
    key_bias = None if a.bias is None else keys[..., d]
    return Placed(queries, of_q.valid, keys[..., :d], of_k.valid, key_bias)


def core_scores(placed: Placed, scale: float) -> Array:
    """What the core is the softmax of, (..., m_q, m_k)."""
    scores = (placed.queries * scale) @ transpose(placed.keys)
    return scores if placed.key_bias is None else scores + placed.key_bias[..., None, :]
