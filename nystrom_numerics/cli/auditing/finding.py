"""What is asked of an audit, and what it finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from nystrom_numerics.cli.errors import CommandError
from nystrom_numerics.cli.matrix_files import UnreadableFileError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from nystrom_numerics.bounds import Bound

__all__ = ["COLUMNS", "AuditError", "Finding", "Line", "Options", "counts", "require_moderate"]

COLUMNS = ("Bound", "Norm", "Side", "Value", "Over the truth", "Certainty", "Landmarks", "Vacuous", "Source")

Drawing: TypeAlias = "Callable[[], Figure]"


class AuditError(CommandError):
    """A file that can be read, and asks for what no audit does."""


@dataclass(frozen=True)
class Line:
    """A bound with its name, how far it is from the truth, infinite where that is not known, and whose landmarks it
    speaks of.
    """

    name: str
    bound: Bound
    tightness: float
    of: str

    @property
    def cells(self) -> tuple[str, ...]:
        """Under :data:`COLUMNS`."""
        bound = self.bound
        over = f"{self.tightness:.3g}" if np.isfinite(self.tightness) else "—"
        value = "none" if bound.value is None else f"{bound.value:.4g}"
        vacuous = "yes" if bound.vacuous else "no"
        return (
            *(self.name, bound.norm.value, bound.side.value, value, over),
            *(bound.certainty, self.of, vacuous, bound.source),
        )

    @property
    def record(self) -> dict[str, Any]:
        """The same in numbers; ``None`` where there is none."""
        bound = self.bound
        return {
            "bound": self.name,
            "norm": bound.norm.value,
            "side": bound.side.value,
            "value": bound.value,
            "over_the_truth": self.tightness if np.isfinite(self.tightness) else None,
            "certainty": bound.certainty,
            "landmarks": self.of,
            "vacuous": bound.vacuous,
            "source": bound.source,
        }


@dataclass(frozen=True)
class Finding:
    """What an audit found, as the terminal and the page show it.

    ``facts`` are lines of text, ``lines`` bounds, ``failed`` bounds without a number and why, ``heads`` one record of
    numbers for each head of attention, ``figures`` pairs of a text in place of the picture and what draws it, called
    for a page alone.
    """

    title: str
    facts: tuple[str, ...]
    lines: tuple[Line, ...]
    failed: tuple[str, ...]
    landmarks: str
    figures: tuple[tuple[str, Drawing], ...]
    heads: tuple[dict[str, Any], ...] = ()

    @property
    def table(self) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
        """Columns and rows: of several heads, the numbers of each; otherwise the bounds."""
        if len(self.heads) < 2:
            return COLUMNS, tuple(line.cells for line in self.lines)
        shown = HEAD_COLUMNS
        return tuple(shown), tuple(tuple(_cell(head[key]) for key in shown.values()) for head in self.heads)

    @property
    def records(self) -> tuple[dict[str, Any], ...]:
        """Rows of a table to compute with: heads, if it is of attention, or bounds."""
        return self.heads or tuple(line.record for line in self.lines)


HEAD_COLUMNS = {
    "Head": "head",
    "‖Ŝ − S‖_F": "error",
    "at least": "error_lower",
    "at most": "error_upper",
    "over ‖S‖_F": "relative_error",
    "‖(Ŝ − S)V‖_F": "output_error",
    "over ‖SV‖_F": "relative_output_error",
    "truth": "true_error",
}


def _cell(x: Any) -> str:
    if x is None:
        return "—"
    return f"{x:.4g}" if isinstance(x, float) else str(x)


@dataclass(frozen=True)
class Options:
    """What was asked for; ``None`` where nothing was."""

    m: int
    rule: str | None
    gamma: float | None
    array: str | None
    head: str | None
    estimator: str | None
    seed: int

    def refuse(self, kind: str, **others: str) -> None:
        """Refuse the options named, which have no meaning for this kind of file, with what takes their place."""
        for name, why in others.items():
            if getattr(self, name) is not None:
                raise AuditError(f"--{name} does not go with {kind}: {why}")


MODERATE = 2.0**250
"""The largest number of q, k, v and points: its fourth power, a square of products, is finite."""


def require_moderate(file: Path, name: str, x: np.ndarray) -> None:
    """Refuse numbers whose products overflow."""
    top = float(np.abs(x).max())
    if top > MODERATE:
        raise UnreadableFileError(
            f"{file}: array {name:.80} has an entry of {top:.3g}; from {MODERATE:.0e} on products overflow"
        )


def counts(m: int, n: int, least: int = 1) -> list[int]:
    """Numbers of landmarks for a figure, with m among them."""
    return sorted({*(c for c in (m // 8, m // 4, m // 2, 2 * m) if least <= c < n), m})
