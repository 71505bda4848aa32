"""What padding holds, and where it stands, changes nothing for real tokens nor for their derivatives."""

from __future__ import annotations

from typing import Any

from nystrom_numerics.backend import Array
from nystrom_numerics.landmarks.result import take_rows
from nystrom_numerics.landmarks.tokens import rank_of, real_tokens

__all__ = ["hide", "put_back", "real_first"]


def hide(xp: Any, x: Array, mask: Array | None) -> Array:
    """Tokens ``x`` (..., n, d), zero where ``mask`` (..., n) is false.

    It comes before any product.  A ``where`` behind one hides NaN from the result alone: the derivative of the
    product multiplies the zero that comes back by it.
    """
    return x if mask is None else xp.where(mask[..., None], x, xp.zeros_like(x[..., :1]))


def real_first(xp: Any, x: Array, mask: Array) -> Array:
    """The real tokens of each item in their order, and what is masked behind them.

    Leading axes of ``x`` (..., n, d) hold those of the mask, as :func:`hide` makes them.
    """
    order, _ = real_tokens(xp, mask)
    return take_rows(x, xp.broadcast_to(order, x.shape[:-1]))


def put_back(xp: Any, x: Array, mask: Array) -> Array:
    """What :func:`real_first` has brought forward where it stood, zeros elsewhere."""
    rank = xp.clip(rank_of(xp, mask), min=0)
    return hide(xp, take_rows(x, xp.broadcast_to(rank, x.shape[:-1])), mask)
