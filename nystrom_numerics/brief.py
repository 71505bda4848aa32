"""How a result shows itself: what it holds, in a line, whatever its size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

__all__ = ["brief"]

_FEW, _LONG = 4, 200


def brief(result: Any) -> str:
    """The ``repr`` of a dataclass by its fields: arrays by dtype and shape, what is long by how long it is.

    ``__repr__ = brief`` in the class takes the place of the one that prints every entry.
    """
    held = ", ".join(
        f"{field.name}={_value(getattr(result, field.name))}" for field in fields(result) if field.repr
    )
    return f"{type(result).__name__}({held})"


def _value(value: Any) -> str:
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is not None and dtype is not None and len(shape):
        name = str(getattr(dtype, "__name__", dtype)).rpartition(".")[2]
        return f"<{name} {tuple(shape)}>"
    if isinstance(value, (tuple, list)) and len(value) <= _FEW:
        return f"({', '.join(_value(one) for one in value)})"
    if isinstance(value, (tuple, list, Mapping)):
        return f"<{len(value)} of {type(value).__name__}>"
    shown = getattr(value, "__name__", "") if callable(value) and not is_dataclass(value) else repr(value)
    return shown if 0 < len(shown) <= _LONG else f"<{type(value).__name__}>"
