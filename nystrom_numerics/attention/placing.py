"""Landmarks of queries and of keys, and the scores between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nystrom_numerics.arguments import require_callable, require_count
from nystrom_numerics.attention.arguments import Arguments
from nystrom_numerics.backend import Array, broadcast_shapes, compute_dtype, namespace
from nystrom_numerics.errors import ArgumentError, RangeError, ShapeError
from nystrom_numerics.landmarks import ColumnSubset, Strategy
from nystrom_numerics.landmarks.result import require_found
from nystrom_numerics.linalg import masked_softmax, transpose
from nystrom_numerics.pinv import Solver, solve

__all__ = ["Placed", "core_scores", "place_landmarks", "softmax_weights", "solve_core"]


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
    """Landmarks of a checked call, whose tokens hold the leading axes of their masks (see ``padding.hide``).

    An additive mask is one more coordinate of the keys, which every query meets with 1/scale; so the landmark of
    a mean has the mean of the biases.

    Raises
    ------
    KindError, RangeError, ShapeError
        Naming ``m`` or ``landmarks``.
    """
    pair = m if isinstance(m, tuple) else (m, m)
    if len(pair) != 2:
        raise RangeError(
            "m", f"{len(pair)} numbers", "a number of landmarks, or one of queries and one of keys"
        )
    m_q, m_k = (
        require_count("m", count, 1, x.shape[-2], of=f"the number of tokens of `{name}`")
        for name, count, x in zip("qk", pair, (q, k), strict=True)
    )
    require_callable("landmarks", landmarks)
    xp, dtype, d = a.xp, compute_dtype(a.xp, q.dtype), k.shape[-1]
    if a.bias is not None:
        column = xp.matrix_transpose(xp.astype(a.bias, k.dtype, copy=False))
        batch = broadcast_shapes(k=tuple(k.shape[:-2]), attn_mask=tuple(column.shape[:-2]))
        k, column = (xp.broadcast_to(x, (*batch, k.shape[-2], x.shape[-1])) for x in (k, column))
        k = xp.concat([k, column], axis=-1)
    of_q, of_k = landmarks(q, m_q, mask=a.query_mask), landmarks(k, m_k, mask=a.key_mask)
    queries, keys = (_points(xp, of, x, dtype) for of, x in ((of_q, q), (of_k, k)))
    key_bias = None if a.bias is None else keys[..., d]
    return Placed(queries, of_q.valid, keys[..., :d], of_k.valid, key_bias)


def _points(xp: Any, given: Any, x: Array, dtype: Any) -> Array:
    """The landmarks of the tokens ``x`` that a rule has given, checked."""
    found = require_found("landmarks", given)
    if isinstance(found, ColumnSubset):
        namespace(q=x, landmarks=found.indices)
    else:
        namespace(q=x, landmarks=found.points)
        if found.points.shape[-1] != x.shape[-1]:
            needs = f"points (..., m, {x.shape[-1]})"
            raise ShapeError("landmarks", f"making points of shape {tuple(found.points.shape)}", needs)
    return xp.astype(found.gather(x), dtype, copy=False)


def solve_core(core: Array, p: Array, solver: Solver) -> Array:
    """:func:`nystrom_numerics.pinv.solve`, whose errors name ``solver``."""
    try:
        return solve(core, p, method=solver).value
    except ArgumentError as error:
        if error.argument != "method":
            raise
        raise type(error)("solver", error.got, error.needs) from None


def softmax_weights(
    xp: Any, q: Array, k: Array, mask: Array | None, bias: Array | None, scale: float
) -> Array:
    """softmax(scale · q kᵀ + bias) (..., n_q, n_k), held: F of queries and landmarks, or B of landmarks and keys."""
    q, k = (xp.astype(x, compute_dtype(xp, x.dtype), copy=False) for x in (q, k))
    scores = (q * scale) @ transpose(k)
    if bias is not None:
        scores = scores + bias
    return masked_softmax(scores, None if mask is None else mask[..., None, :])


def core_scores(placed: Placed, scale: float) -> Array:
    """What the core is the softmax of, (..., m_q, m_k)."""
    scores = (placed.queries * scale) @ transpose(placed.keys)
    return scores if placed.key_bias is None else scores + placed.key_bias[..., None, :]
