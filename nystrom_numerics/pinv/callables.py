"""What the callables that this package takes must give: a pseudoinverse, a solution, a norm bound."""

from __future__ import annotations

from typing import Any

import array_api_compat

from nystrom_numerics.arguments import require_instance
from nystrom_numerics.backend import Array, is_complex
from nystrom_numerics.errors import KindError
from nystrom_numerics.pinv.result import PinvResult

__all__ = ["require_array", "require_result"]


def require_result(name: str, found: Any) -> PinvResult:
    """What the callable ``name`` gave: a PinvResult; raises KindError."""
    return require_instance(name, found, PinvResult, "a callable that gives a PinvResult")


def require_array(name: str, found: Any, like: Array, shape: tuple[int, ...], *, real: bool = False) -> Array:
    """What the callable ``name`` gave: an array of some shape, in the library of ``like``, and real if ``like`` is.

    Raises
    ------
    KindError
        It is something else.
    """
    needs = f"a callable that gives an array of shape {shape}"
    if not array_api_compat.is_array_api_obj(found):
        raise KindError(name, f"one that gives a {type(found).__name__}", needs)
    xp = array_api_compat.array_namespace(like)
    if array_api_compat.array_namespace(found) is not xp:
        raise KindError(name, f"one that gives a {type(found).__name__}", f"{needs} of {xp.__name__}")
    if tuple(found.shape) != shape:
        raise KindError(name, f"one that gives shape {tuple(found.shape)}", needs)
    if not (
        xp.isdtype(found.dtype, "real floating")
        or (is_complex(xp, found) and is_complex(xp, like) and not real)
    ):
        raise KindError(name, f"one that gives dtype {found.dtype}", f"{needs} of the dtype of its argument")
    return found
