"""What the factors ask of their arguments."""

from __future__ import annotations

from nystrom_numerics.backend import Array
from nystrom_numerics.errors import RangeError, ShapeError

__all__ = ["require_ridge", "require_rows"]


def require_ridge(ridge: float) -> None:
    if not 0 < ridge < float("inf"):
        raise RangeError("ridge", f"{ridge}", "a positive number")


def require_rows(name: str, x: Array, n: int) -> None:
    if x.ndim not in (1, 2) or x.shape[0] != n:
        raise ShapeError(name, f"of shape {tuple(x.shape)}", f"shape ({n},) or ({n}, columns)")
