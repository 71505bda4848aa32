"""Whether landmarks by segment means suffice, beside every other rule at equal numbers, on heads of trained models."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.contract import Case, Outcome, Record, Row, Verdict, frame
from experiments.inputs import bert, models, reactions
from experiments.report import figures
from experiments.report.evidence import majority
from experiments.report.ranking import interval
from nystrom_numerics import attention, kernels, landmarks, pinv

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

TITLE = "Do segment means suffice?"
CLAIM = "Landmark selection by segment means suffices: other rules gain little at equal m on trained heads."
SOURCE = "Xiong et al. 2021, §3.2 and §4: segment means in place of k-means, “sufficient”"
EXCLUSIVE = False
ALT = (
    "Relative error of ŜV with each landmark rule over that with segment means, a dot a head, logarithmic, the "
    "median as a line; a panel for each model and solver, and a grey line at 0.9, below which a rule gains a tenth."
)

GAIN = 0.9
"""A rule that leaves less than this share of the error, in the median over heads, says that means do not suffice."""

FEWEST = 5
"""Heads below which a median says nothing."""

BUDGETS = {"MiniLM": 64, "Whisper": 64, "RXNMapper": 16}
SOLVERS: dict[str, dict[str, Any]] = {"six iterations": {"pinv": pinv.razavi}, "ridge": {}}
MEANS, FIRST = "segment means", "first tokens"


def _first(x: Any, m: int, /, *, mask: Any = None) -> landmarks.ColumnSubset:
    """The control: tokens from the beginning, whatever follows."""
    return landmarks.strided(x[:m], m, mask=None if mask is None else mask[:m])


def _over_kernel(rule: Callable[..., Any], scale: float) -> Callable[..., Any]:
    """A rule over the kernel of the head's own scores: exp(−scale‖x − y‖²/2), their softmax kernel normalised."""

    def chosen(x: Any, m: int, /, *, mask: Any = None) -> landmarks.ColumnSubset:
        if mask is not None:
            raise ValueError("heads here have no padding")
        return rule(kernels.gaussian(x, gamma=scale / 2), m, rng=0)

    return chosen


def rules(scale: float) -> dict[str, Any]:
    """By name; those that draw, by one seed."""
    over = partial(_over_kernel, scale=scale)
    return {
        MEANS: landmarks.segment_means,
        "strided": landmarks.strided,
        "uniform": partial(landmarks.uniform, rng=0),
        "k-means": partial(landmarks.kmeans, rng=0),
        "farthest": landmarks.farthest,
        "RPCholesky": over(landmarks.rpcholesky),
        "ridge leverage": over(landmarks.ridge_leverage),
        "greedy Cholesky": over(lambda kernel, m, rng: landmarks.pivoted_cholesky(kernel, m)),
        FIRST: _first,
    }


def grid(profile: str) -> tuple[Case, ...]:
    """A case a model and layer; ``quick`` takes one head of MiniLM's layers and of two of RXNMapper's."""
    quick = profile == "quick"
    layers = {"MiniLM": range(6), "RXNMapper": (4, 10) if quick else range(0, 12, 2)}
    layers |= {} if quick else {"Whisper": range(4)}
    heads = {
        "MiniLM": [3] if quick else [0, 3, 6, 9],
        "Whisper": [0, 2, 4],
        "RXNMapper": [5] if quick else [1, 5],
    }
    return tuple(
        Case("segment_means", {"input": name, "layer": layer, "heads": heads[name]})
        for name, of in layers.items()
        for layer in of
    )


def run(case: Case) -> list[Row]:
    """Errors of Ŝ and ŜV with every rule and solver."""
    p = case.params
    if p["input"] == "RXNMapper":
        found = reactions.captured([p["layer"]])
    else:
        found = models.trained_heads(p["input"], [p["layer"]])
    return [row for head in p["heads"] for row in _head(found, head, BUDGETS[p["input"]])]


def _head(found: bert.Heads, head: int, m: int) -> Iterable[Row]:
    q, k, v = (x[0, head].astype(float) for x in (found.q, found.k, found.v))
    eye = np.eye(len(k))
    s = attention.exact(q, k, eye, scale=found.scale)
    sizes = np.linalg.norm(s), np.linalg.norm(s @ v)
    for rule, pick in rules(found.scale).items():
        for solver, options in SOLVERS.items():
            made = attention.nystrom_operator(q, k, m, landmarks=pick, scale=found.scale, **options).apply(
                eye
            )
            yield {
                "head": head,
                "m": m,
                "rule": rule,
                "solver": solver,
                "S": float(np.linalg.norm(made - s) / sizes[0]),
                "O": float(np.linalg.norm((made - s) @ v) / sizes[1]),
            }


def _ratios(records: Iterable[Record]) -> pd.DataFrame:
    """Logarithms of errors of ŜV over those with segment means: a line a head and solver, a column a rule."""
    data = frame(records)
    if data.empty:
        return data
    errors = data.pivot_table(index=["input", "solver", "layer", "head"], columns="rule", values="O")
    return np.log(errors.div(errors[MEANS], axis=0)).drop(columns=MEANS)  # type: ignore[return-value]


def verdicts(records: Iterable[Record]) -> tuple[Verdict, ...]:
    """One a model and solver; and whether the measure tells a poor rule at all."""
    logs = _ratios(records)
    if logs.empty:
        return (Verdict(CLAIM, Outcome.UNDECIDED, "No record."),)
    found = []
    for (name, solver), part in logs.groupby(level=["input", "solver"], sort=False):
        gains = {rule: interval(part[rule], np.median) for rule in part if rule != FIRST}
        low, high = (float(np.exp(min(x[end] for x in gains.values()))) for end in (1, 2))
        outcome = Outcome.SUPPORTED if low > GAIN else Outcome.REFUTED if high < GAIN else Outcome.UNDECIDED
        outcome = outcome if len(part) >= FEWEST else Outcome.UNDECIDED
        best = min(gains, key=lambda rule: gains[rule][0])
        told = ", ".join(
            f"{rule} {np.exp(x[0]):.2f}" for rule, x in sorted(gains.items(), key=lambda x: x[1][0])
        )
        middle, below, above = np.exp(gains[best])
        hindsight = float(np.exp(part.drop(columns=FIRST).min(axis=1).clip(upper=0).median()))
        found.append(
            Verdict(
                f"{name}, {solver}: no other rule leaves less than {GAIN:.0%} of the error of ŜV with segment means",
                outcome,
                f"Medians over {len(part)} heads: {told}; the best is {best}, {middle:.2f} ({below:.2f} to "
                f"{above:.2f}); the best rule of each head in hindsight {hindsight:.2f}.",
            )
        )
    poor = logs[FIRST]
    found.append(
        majority(
            "The control, landmarks from the first tokens alone, is worse than segment means on most heads",
            poor > 0,
            "heads and solvers",
            f"Median {np.exp(poor.median()):.2f} times their error.",
        )
    )
    return tuple(found)


def table(records: Iterable[Record]) -> pd.DataFrame:
    """Median errors over heads by model, solver and rule."""
    groups = frame(records).groupby(["input", "solver", "m", "rule"])[["S", "O"]]
    return groups.median().rename(columns={"S": "Ŝ", "O": "ŜV"}).reset_index()


def plot(records: Iterable[Record]) -> Figure:
    """A row of panels a solver, a column a model."""
    logs = _ratios(records)
    if logs.empty:
        figure, axes = figures.grid(1, 1)
        figures.blank(axes[0][0], "no record")
        return figure
    inputs, solvers = (logs.index.unique(level) for level in ("input", "solver"))
    figure, axes = figures.grid(len(solvers), len(inputs), height=3.3)
    for (i, solver), (j, name) in product(enumerate(solvers), enumerate(inputs)):
        ax = axes[i][j]
        part = logs.xs((name, solver), level=("input", "solver"))
        for y, rule in enumerate(part):
            values = np.exp(part[rule].to_numpy())
            ax.scatter(values, np.full(len(values), y), s=12, color="#1a56b0", alpha=0.6)
            ax.plot(2 * [np.median(values)], [y - 0.35, y + 0.35], color="black")
        ax.axvline(GAIN, color="grey", linewidth=1, linestyle=":")
        ax.axvline(1, color="grey", linewidth=1)
        ax.set(title=f"{name}, {solver}", xscale="log")
        ax.set(xticks=[0.5, 1, 2, 5], xlabel="error of ŜV / segment means'" if i == len(solvers) - 1 else "")
        ax.xaxis.set_major_formatter("{x:g}")
        ax.minorticks_off()
        ax.set_yticks(range(part.shape[1]), list(part) if j == 0 else [""] * part.shape[1])
    return figure
