"""How many kernel entries a query takes for a given error, against the length of the sequence."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.contract import Case, Outcome, Record, Row, Verdict, frame
from experiments.inputs import models
from experiments.report import figures
from experiments.report.evidence import bounded
from nystrom_numerics import attention

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

TITLE = "The budget of a given error against length"
CLAIM = "At a given error the kernel entries of a query do not grow with the length: attention is linear in earnest."
SOURCE = "Xiong et al. 2021, abstract and §3.3: O(n) with a number of landmarks that does not depend on n"
EXCLUSIVE = False
ALT = (
    "Kernel entries a query that bring the error of ŜV to five per cent against the length of the sequence, both axes "
    "logarithmic, for heads of trained models on their first tokens: medians over heads with quartile bands for "
    "tangents, for tangents in two levels and for the paper's estimator, over a dotted line of all keys."
)

ERROR, CONSTANT, DRAWS = 0.05, 0.1, 1000
NAMES = ("nystrom", "tangent", "tangent_two_levels")
LENGTHS = {"MiniLM": (128, 256, 512), "Whisper": (375, 750, 1500)}
MS = (8, 16, 32, 64, 128, 256)


def grid(profile: str) -> tuple[Case, ...]:
    """A case a layer and length; ``quick`` takes two layers of MiniLM, three heads of each."""
    quick = profile == "quick"
    layers = {"MiniLM": (0, 4)} if quick else {"MiniLM": range(6), "Whisper": range(4)}
    return tuple(
        Case("budget_growth", {"input": name, "layer": layer, "n": n, "heads": [0, 5, 9] if quick else None})
        for name in layers
        for layer in layers[name]
        for n in LENGTHS[name]
    )


def run(case: Case) -> list[Row]:
    """The error of ŜV of every estimator and budget on the first n tokens."""
    p = case.params
    whole = models.trained_heads(p["input"], [p["layer"]])
    rows = []
    for head in p["heads"] or range(whole.q.shape[1]):
        q, k, v = (x[0, head, : p["n"]].astype(float) for x in (whole.q, whole.k, whole.v))
        exact = attention.exact(q, k, v, scale=whole.scale)
        for name in NAMES:
            for m in (m for m in MS if 2 * m <= p["n"]):
                operator = attention.ESTIMATORS[name].make(q, k, m, scale=whole.scale)
                error = float(np.linalg.norm(operator.apply(v) - exact) / np.linalg.norm(exact))
                entries = operator.entries / p["n"]
                rows.append({"head": head, "estimator": name, "m": m, "entries": entries, "error": error})
    return rows


def needed(entries: Any, errors: Any, n: int) -> float:
    """Entries a query at which errors fall to :data:`ERROR`, on a line through logarithms; n where they do not."""
    order = np.argsort(entries)
    x, y = np.log(np.asarray(entries)[order]), np.log(np.maximum(np.asarray(errors)[order], 1e-16))
    below = np.flatnonzero(y <= np.log(ERROR))
    if not len(below):
        return float(n)
    i = below[0]
    if i == 0:
        return float(np.exp(x[0]))
    share = (y[i - 1] - np.log(ERROR)) / (y[i - 1] - y[i])
    return float(min(n, np.exp(x[i - 1] + share * (x[i] - x[i - 1]))))


def _needed(records: Iterable[Record]) -> pd.DataFrame:
    """Entries a query, a line for each input, estimator, head and length."""
    data = frame(records)
    if data.empty:
        return data
    keys = ["input", "estimator", "layer", "head", "n"]
    found = [
        {**dict(zip(keys, key, strict=True)), "needed": needed(part["entries"], part["error"], int(key[-1]))}
        for key, part in data.groupby(keys)
    ]
    return type(data)(found)


def exponent(wide: Any, rng: np.random.Generator) -> tuple[float, float, float]:
    """Of growth of the median over heads (rows) with n (columns), and its 95 % interval by drawing heads anew."""
    log_n, values = np.log(wide.columns.to_numpy(float)), np.log(wide.to_numpy(float))

    def slope(rows: Any) -> float:
        return float(np.polyfit(log_n, np.median(rows, axis=0), 1)[0])

    drawn = [slope(values[rng.integers(0, len(values), len(values))]) for _ in range(DRAWS)]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return slope(values), float(low), float(high)


def verdicts(records: Iterable[Record]) -> tuple[Verdict, ...]:
    """One for each input and estimator."""
    data = _needed(records)
    if data.empty:
        return (Verdict(CLAIM, Outcome.UNDECIDED, "No record."),)
    found = []
    for (source, name), part in data.groupby(["input", "estimator"]):
        title = attention.ESTIMATORS[name].title
        statement = (
            f"{source}, {title}: the entries a query for an error of ŜV of {ERROR:.0%} grow no faster than "
            f"n^{CONSTANT}"
        )
        wide = part.pivot_table(index=["layer", "head"], columns="n", values="needed").dropna()
        if wide.shape[1] < 3:
            found.append(Verdict(statement, Outcome.UNDECIDED, "Fewer than three lengths."))
            continue
        value, low, high = exponent(wide, np.random.default_rng(0))
        medians = ", ".join(f"{x:.0f} at n = {n}" for n, x in wide.median().items())
        all_keys = (wide.to_numpy() >= wide.columns.to_numpy()).mean()
        because = (
            f"They grow as n^{value:.2f} (95 % interval {low:.2f} to {high:.2f}, {len(wide)} heads): {medians}; "
            f"{all_keys:.0%} of heads and lengths want all keys."
        )
        found.append(bounded(statement, low, high, CONSTANT, because))
    return tuple(found)


def table(records: Iterable[Record]) -> pd.DataFrame:
    """Quartiles over heads."""
    groups = _needed(records).groupby(["input", "estimator", "n"])["needed"]
    return groups.quantile([0.25, 0.5, 0.75]).unstack().add_suffix(" quantile").reset_index()


def plot(records: Iterable[Record]) -> Figure:
    """Entries needed against n."""
    data = _needed(records)
    names = list(LENGTHS)
    figure, axes = figures.grid(1, len(names), height=4.2)
    colors = figures.palette(NAMES)
    for ax, source in zip(axes[0], names, strict=True):
        part = data[data["input"] == source] if len(data) else data
        if part.empty:
            figures.blank(ax, source)
            continue
        for name, color in colors.items():
            line, label = part[part["estimator"] == name], attention.ESTIMATORS[name].title
            figures.band(ax, line, "n", "needed", label=label, color=color)
        lengths = sorted(part["n"].unique())
        ax.plot(lengths, lengths, ":", color="black", label="all keys")
        ax.set(xscale="log", yscale="log", title=source, xlabel="length n, tokens")
        ax.set(ylabel=f"kernel entries a query, error of ŜV {ERROR:.0%}")
        ticks = [16 * 2**i for i in range(8) if 16 * 2**i <= lengths[-1]]
        ax.set_xticks(lengths, [str(n) for n in lengths])
        ax.set_yticks(ticks, [str(n) for n in ticks])
        ax.minorticks_off()
    figures.legend_below(figure, axes[0][0], columns=2)
    return figure
