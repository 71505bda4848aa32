"""The order of real tokens: what makes landmarks blind to padding.

Every rule works on *ranks*, the position of a token among the real ones, and only then looks up where
that token stands.  Masked tokens, left, right or between, therefore change nothing for the real ones.
"""

from __future__ import annotations

from typing import Any

from nystrom_numerics.arguments import require_count, require_flag
from nystrom_numerics.backend import (
    Array,
    device_of,
    floating,
    namespace,
    require_finite,
    require_mask,
    require_matrix,
)

__all__ = ["check_arguments", "rank_of", "real_tokens", "segments"]


def check_arguments(x: Array, m: int, mask: Array | None, check_finite: bool) -> tuple[Any, Array | None]:
    """The namespace of ``x`` (..., n, d) and the mask broadcast to (..., n).

    Raises
    ------
    DTypeError, DeviceError, KindError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.
    """
    xp = namespace(x=x, mask=mask)
    floating(xp, x=x)
    require_matrix("x", x)
    if require_flag("check_finite", check_finite):
        require_finite(xp, x=x)
    require_count("m", m, 1, x.shape[-2], of="the number of tokens")
    return xp, require_mask(xp, "mask", mask, x.shape[:-1])


def real_tokens(xp: Any, mask: Array) -> tuple[Array, Array]:
    """Positions of the real tokens before those of the masked ones (..., n), and their number (..., 1)."""
    order = xp.argsort(xp.astype(~mask, xp.int64), axis=-1, stable=True)
    count = xp.sum(xp.astype(mask, xp.int64), axis=-1, keepdims=True)
    return order, count


def rank_of(xp: Any, mask: Array) -> Array:
    """Rank of every real token among the real ones (..., n); meaningless where masked."""
    return xp.cumulative_sum(xp.astype(mask, xp.int64), axis=-1) - 1


def segments(xp: Any, like: Array, count: Array | int, m: int) -> tuple[Array, Array]:
    r"""First rank of each of m balanced segments of ``count`` tokens, and of the next: (..., m) each.

    Token of rank r belongs to segment :math:`\lfloor rm/\mathrm{count}\rfloor`; lengths differ by at
    most one, and a segment is empty only if there are fewer tokens than segments.
    """
    edges = xp.arange(m + 1, dtype=xp.int64, device=device_of(like)) * count
    edges = (edges + (m - 1)) // m
    return edges[..., :-1], edges[..., 1:]
