"""Methods compared over the same seeds, each at the learning rate that its own validation chose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Difference", "at_chosen_rates", "by_seed", "difference", "interval"]


@dataclass(frozen=True)
class Difference:
    """The mean of differences over seeds, and its interval by Student's t."""

    mean: float
    low: float
    high: float
    seeds: int

    def __str__(self) -> str:
        return f"{100 * self.mean:+.1f} points ({100 * self.low:+.1f} to {100 * self.high:+.1f}, {self.seeds} seeds)"


def at_chosen_rates(data: pd.DataFrame) -> pd.DataFrame:
    """The rows at each task's and method's rate of the best mean validation, over the seeds that have all rates."""
    keys = ["task", "method"]
    means = data.groupby([*keys, "rate"])["validation"].mean().reset_index()
    best = means.loc[means.groupby(keys)["validation"].idxmax(), [*keys, "rate"]]
    return data.merge(best, on=[*keys, "rate"])


def by_seed(data: pd.DataFrame, task: str) -> pd.DataFrame:
    """Test accuracies of a task, a line a seed and a column a method."""
    return data[data["task"] == task].pivot_table(index="seed", columns="method", values="accuracy")


def difference(table: pd.DataFrame, one: str, other: str, *, among: int = 1) -> Difference | None:
    """``one`` less ``other`` over the seeds that both have, at 95 % for ``among`` differences together (Bonferroni).

    None where fewer than two seeds have both.
    """
    if one not in table or other not in table:
        return None
    return interval((table[one] - table[other]).dropna(), among=among)


def interval(values: Sequence[float], *, among: int = 1) -> Difference | None:
    """The mean of values and its interval; None for fewer than two."""
    values = np.asarray(values, float)
    if len(values) < 2:
        return None
    half = float(stats.t.ppf(1 - 0.025 / among, len(values) - 1) * stats.sem(values))
    mean = float(values.mean())
    return Difference(mean, mean - half, mean + half, len(values))
