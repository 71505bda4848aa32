"""Rules ranked by their errors over uniform sampling's, with their uncertainty."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["against_uniform", "interval", "medians"]


def against_uniform(data: pd.DataFrame, level: float) -> pd.DataFrame:
    """A line a data set and rule: the ratio of trace errors to uniform sampling, mean over m of logarithms.

    The interval is Student's, from the spread over draws within each m.
    """
    import pandas as pd

    logs = data.assign(log=np.log(data["trace"].clip(lower=1e-16)))
    cells = logs.groupby(["data", "rule", "m"])["log"].agg(["mean", "var", "count"]).fillna({"var": 0.0})
    lines = []
    for name, part in cells.groupby(level="data"):
        usual = part.loc[(name, "uniform")]
        for rule in part.index.unique("rule"):
            own = part.loc[(name, rule)]
            difference = float((own["mean"] - usual["mean"]).mean())
            error = float(
                np.sqrt((own["var"] / own["count"] + usual["var"] / usual["count"]).sum()) / len(usual)
            )
            reach = error * stats.t.ppf((1 + level) / 2, max(1, int((usual["count"] - 1).sum())))
            low, mid, high = np.exp([difference - reach, difference, difference + reach])
            lines.append({"data": name, "rule": rule, "ratio": mid, "low": low, "high": high})
    return pd.DataFrame(lines)


def medians(data: pd.DataFrame) -> pd.DataFrame:
    """A line a data set, m and rule: medians over draws, NaN of what nothing was learned about."""
    keys, columns = ["data", "m", "rule"], ["trace", "entries", "seconds", "accuracy", "iterations"]
    return data.reindex(columns=[*keys, *columns]).groupby(keys).median()


def interval(values: Any, of: Callable[..., Any] = np.mean) -> tuple[float, float, float]:
    """The mean, or what else is asked, and its bootstrap interval of 95 %, by a fixed seed."""
    values = np.asarray(values)
    drawn = of(np.random.default_rng(0).choice(values, (4000, len(values))), axis=1)
    return float(of(values)), *(float(x) for x in np.quantile(drawn, [0.025, 0.975]))
