"""What the errors of rows are predicted from, so that rows are looked at where they err; none of it is trusted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nystrom_numerics.arguments import require_callable, require_count
from nystrom_numerics.attention.exact_rows import Head
from nystrom_numerics.attention.row_errors import RowErrors
from nystrom_numerics.backend import to_numpy

__all__ = ["Hints", "features", "heaviest"]


@dataclass(frozen=True)
class Hints:
    """What goes with the error of a row, after a look at the first rows; none of it is trusted.

    Attributes
    ----------
    predict : callable
        ``predict(columns)`` gives arrays (n_q,), for the columns in which the first rows err most.
    columns : int
        How many of these it wants.
    entries : int
        Kernel entries of S that it evaluates.
    suspicion : array (n_q,), optional
        The rows in which it is largest are looked at first, where an interval of given width is asked for.
    """

    predict: Callable[[np.ndarray[Any, Any]], tuple[np.ndarray[Any, Any], ...]]
    columns: int = 0
    entries: int = 0
    suspicion: np.ndarray[Any, Any] | None = None

    @classmethod
    def of(cls, told: RowErrors) -> Hints:
        """What an operator knows of its rows."""
        return cls(lambda _: (told.predicted, told.largest**2), suspicion=told.suspicion)

    def __post_init__(self) -> None:
        require_callable("predict", self.predict)
        require_count("columns", self.columns, 0)
        require_count("entries", self.entries, 0)


def heaviest(energy: np.ndarray[Any, Any], count: int) -> np.ndarray[Any, Any]:
    """The columns of most energy, largest first."""
    # rounded, so that the order of equal columns does not hang on a backend's last digits
    return np.argsort(-np.round(energy / max(float(energy.max()), 1e-300), 6), kind="stable")[:count]


def features(head: Head, given: tuple[np.ndarray[Any, Any], ...]) -> np.ndarray[Any, Any]:
    """A constant, ‖q‖² and what is given, each of mean 1, shape (n, f)."""
    squares = to_numpy(head.xp.sum(head.queries * head.queries, axis=1))
    columns = [np.ones_like(squares), squares, *given]
    usable = [np.isfinite(c).all() and c.min() >= 0 and c.mean() > 0 for c in columns]
    return np.column_stack(
        [c / c.mean() if use else np.zeros_like(c) for c, use in zip(columns, usable, strict=True)]
    )
