"""What both attentions ask of their arguments."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Any

from nystrom_numerics.backend import (
    Array,
    broadcast_shapes,
    floating,
    namespace,
    require_finite,
    require_mask,
    require_matrix,
)
from nystrom_numerics.errors import RangeError, ShapeError

__all__ = ["Arguments", "check_arguments"]


@dataclass(frozen=True)
class Arguments:
    """Namespace, common batch shape, scale and full-shape masks of a checked call."""

    xp: Any
    batch: tuple[int, ...]
    scale: float
    key_mask: Array | None
    query_mask: Array | None


def check_arguments(
    q: Array,
    k: Array,
    v: Array | None,
    *,
    scale: float | None,
    key_mask: Array | None,
    query_mask: Array | None = None,
    check_finite: bool = False,
) -> Arguments:
    """Check shapes, dtypes, devices and masks of queries, keys and values.

    Raises
    ------
    DTypeError, DeviceError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.
    """
    xp = namespace(q=q, k=k, v=v, key_mask=key_mask, query_mask=query_mask)
    arrays = {"q": q, "k": k} if v is None else {"q": q, "k": k, "v": v}
    floating(xp, **arrays)
    for name, x in arrays.items():
        require_matrix(name, x)
    if k.shape[-1] != q.shape[-1]:
        raise ShapeError("k", f"of width {k.shape[-1]}", f"the width of `q`, {q.shape[-1]}")
    if v is not None and v.shape[-2] != k.shape[-2]:
        raise ShapeError("v", f"of {v.shape[-2]} tokens", f"as many tokens as `k` has, {k.shape[-2]}")
    batch = broadcast_shapes(**{name: tuple(x.shape[:-2]) for name, x in arrays.items()})
    if scale is None:
        scale = q.shape[-1] ** -0.5
    if not isfinite(scale):
        raise RangeError("scale", f"{scale}", "a finite number, or None for 1/sqrt(d)")
    if check_finite:
        require_finite(xp, **arrays)
    return Arguments(
        xp,
        batch,
        float(scale),
        require_mask(xp, "key_mask", key_mask, (*batch, k.shape[-2])),
        require_mask(xp, "query_mask", query_mask, (*batch, q.shape[-2])),
    )
