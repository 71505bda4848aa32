"""Landmarks of queries and of keys, and the scores between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nystrom_numerics.arguments import require_callable, require_count, require_instance
from nystrom_numerics.attention.arguments import Arguments
from nystrom_numerics.attention.padding import expand
from nystrom_numerics.backend import Array, compute_dtype, namespace
from nystrom_numerics.errors import ArgumentError, RangeError, ShapeError
from nystrom_numerics.landmarks import ColumnSubset, LandmarkPoints, Strategy
from nystrom_numerics.linalg import transpose
from nystrom_numerics.pinv import Solver, solve

__all__ = ["Placed", "core_scores", "place_landmarks", "solve_core"]


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
    q = expand(xp, q, a.query_mask)
    if a.bias is None:
        k = expand(xp, k, a.key_mask)
    else:
        bias = a.bias[..., 0, :]
        k = expand(xp, k, a.key_mask, bias)
        column = xp.broadcast_to(xp.astype(bias, k.dtype, copy=False), k.shape[:-1])
        k = xp.concat([k, column[..., None]], axis=-1)
    of_q, of_k = landmarks(q, m_q, mask=a.query_mask), landmarks(k, m_k, mask=a.key_mask)
    queries, keys = (_points(xp, of, x, dtype) for of, x in ((of_q, q), (of_k, k)))
    key_bias = None if a.bias is None else keys[..., d]
    return Placed(queries, of_q.valid, keys[..., :d], of_k.valid, key_bias)


def _points(xp: Any, of: LandmarkPoints | ColumnSubset, x: Array, dtype: Any) -> Array:
    """The landmarks of the tokens ``x``, checked."""
    require_instance("landmarks", of, (LandmarkPoints, ColumnSubset), "a rule that gives landmarks")
    points = of.gather(x)
    namespace(q=x, landmarks=points)
    if points.ndim < 2 or points.shape[-1] != x.shape[-1] or 0 in points.shape[-2:]:
        needs = f"points (..., m, {x.shape[-1]})"
        raise ShapeError("landmarks", f"making points of shape {tuple(points.shape)}", needs)
    return xp.astype(points, dtype, copy=False)


def solve_core(core: Array, p: Array, solver: Solver) -> Array:
    """:func:`nystrom_numerics.pinv.solve`, whose errors name ``solver``."""
    try:
        return solve(core, p, method=solver).value
    except ArgumentError as error:
        if error.argument != "method":
            raise
        raise type(error)("solver", error.got, error.needs) from None


def core_scores(placed: Placed, scale: float) -> Array:
    """What the core is the softmax of, (..., m_q, m_k)."""
    scores = (placed.queries * scale) @ transpose(placed.keys)
    return scores if placed.key_bias is None else scores + placed.key_bias[..., None, :]
