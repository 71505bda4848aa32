"""What a plain argument must be: a count, a number of some range, a flag, a callable, an object of some type.

Each check returns the value in the type to go on with, and raises an error that names the argument.  Arrays are
checked in :mod:`~nystrom_numerics.backend`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from math import inf, isfinite
from typing import Any, TypeVar

import numpy as np

from nystrom_numerics.errors import DTypeError, KindError, NonFiniteError, RangeError, ShapeError

__all__ = [
    "require_callable",
    "require_choice",
    "require_count",
    "require_flag",
    "require_indices",
    "require_instance",
    "require_nonnegative",
    "require_number",
    "require_points",
    "require_positive",
    "require_probability",
    "require_tolerance",
]

T = TypeVar("T")
C = TypeVar("C", bound=Callable[..., Any])


def require_count(name: str, value: Any, low: int = 1, high: int | None = None, *, of: str = "") -> int:
    """An integer from ``low`` to ``high``, where there is one; ``of`` says what ``high`` is.

    Raises
    ------
    RangeError
        It is none: a bool, a float such as 2.0 and an array are none either.
    """
    integer = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not integer or value < low or (high is not None and value > high):
        allowed = f"of at least {low}" if high is None else f"from {low} to {of}{', ' if of else ''}{high}"
        raise RangeError(name, _shown(value), f"an integer {allowed}")
    return int(value)


def require_number(
    name: str, value: Any, allowed: Callable[[float], bool] = isfinite, needs: str = "a finite number"
) -> float:
    """A Python or NumPy number, no bool and no array, for which ``allowed`` is true.

    Raises
    ------
    RangeError
        It is none; ``needs`` says what is asked for.
    """
    real = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    try:
        found = float(value) if real else inf
    except OverflowError:  # an int beyond all floats
        real = False
    if not real or not allowed(found):
        raise RangeError(name, _shown(value), needs)
    return found


def require_positive(name: str, value: Any) -> float:
    """A finite number above 0; raises RangeError."""
    return require_number(name, value, lambda x: 0 < x < inf, "a positive number")


def require_nonnegative(name: str, value: Any) -> float:
    """A finite number of at least 0; raises RangeError."""
    return require_number(name, value, lambda x: 0 <= x < inf, "a finite number of at least 0")


def require_tolerance(name: str, value: Any) -> float:
    """A number in [0, 1); raises RangeError."""
    return require_number(name, value, lambda x: 0 <= x < 1, "a number in [0, 1)")


def require_probability(name: str, value: Any) -> float:
    """A number in (0, 1); raises RangeError."""
    return require_number(name, value, lambda x: 0 < x < 1, "a probability strictly between 0 and 1")


def require_flag(name: str, value: Any) -> bool:
    """``True`` or ``False``; raises KindError, for 0, 1 and None too."""
    if not isinstance(value, (bool, np.bool_)):
        raise KindError(name, _shown(value), "True or False")
    return bool(value)


def require_callable(name: str, value: C, needs: str = "a callable") -> C:
    """A callable; raises KindError."""
    if not callable(value):
        raise KindError(name, _shown(value), needs)
    return value


def require_instance(name: str, value: Any, kind: type[T] | tuple[type[T], ...], needs: str = "") -> T:
    """An instance of ``kind``, in words ``needs``; raises KindError."""
    if not isinstance(value, kind):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        raise KindError(name, _shown(value), needs or " or ".join(one.__name__ for one in kinds))
    return value


def require_choice(name: str, value: str, choices: Collection[str]) -> str:
    """One of some words; raises RangeError."""
    if not isinstance(value, str) or value not in choices:
        raise RangeError(name, _shown(value), "one of " + ", ".join(map(repr, choices)))
    return value


def require_indices(name: str, value: Any, length: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Positions in [0, ``length``) as a NumPy array of one axis: of a sequence of ints, or of an integer array.

    Raises
    ------
    DTypeError, KindError, RangeError, ShapeError
        A set, a string, floats (which NumPy would cut off) and bools are no positions.
    """
    if not isinstance(value, (np.ndarray, Sequence)) or isinstance(value, (str, bytes)):
        raise KindError(name, _shown(value), "a sequence of indices")
    try:
        found = np.asarray(value)
    except (ValueError, OverflowError):  # ragged
        raise ShapeError(name, "ragged", "a sequence of indices") from None
    if not found.size:
        found = found.astype(np.int64)  # an empty list has no integer dtype
    if found.dtype.kind not in "iu":
        raise DTypeError(name, f"of dtype {found.dtype}", "integers")
    if found.ndim != 1:
        raise ShapeError(name, f"of shape {found.shape}", "one axis")
    if found.size and not (found.min() >= 0 and found.max() < length):
        raise RangeError(name, f"from {found.min()} to {found.max()}", f"indices in [0, {length})")
    return found.astype(np.int64)


def require_points(name: str, value: Any, width: int, dtype: Any) -> np.ndarray[Any, Any]:
    """Finite points (m, ``width``) of a caller's, one at least, in that dtype.

    Raises
    ------
    DTypeError, NonFiniteError, ShapeError
        They are none.
    """
    found = np.asarray(value)
    if found.dtype.kind not in "fiu":
        raise DTypeError(name, f"of dtype {found.dtype}", "numbers")
    if found.ndim != 2 or not len(found) or found.shape[1] != width:
        raise ShapeError(name, f"of shape {found.shape}", f"shape (m, {width}), one point at least")
    with np.errstate(over="ignore"):
        found = found.astype(dtype)
    if not np.isfinite(found).all():
        raise NonFiniteError(name, "not finite", "finite points")
    return found


def _shown(value: Any) -> str:
    """A value in an error message: itself if it is a short one, else its type."""
    plain = value is None or isinstance(value, (bool, int, float, complex, str, np.generic))
    if isinstance(value, int) and abs(value) > 10**20:
        return "an int of more than 20 digits"
    shown = repr(value) if plain else ""
    return shown if 0 < len(shown) <= 40 else f"a {type(value).__name__}"
