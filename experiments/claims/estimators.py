"""The paper's estimator, row-normalised, with an exact near field, and tangents; rivals at equal entries; causality."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments import rivals
from experiments.contract import Case, Outcome, Record, Row, Verdict, frame
from experiments.inputs import models
from experiments.report import figures
from experiments.report.evidence import majority
from nystrom_numerics import attention

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


TITLE = "Which estimator, which filter, and what causality costs"
CLAIM = (
    "Normalising rows after the approximation, inverting the core more exactly, keeping a near field exact, or "
    "tangents of groups of keys give better attention for the same kernel entries; tangents better than other methods."
)
SOURCE = (
    "Xiong et al. 2021, eq. (13), against the row-normalised kernel; the defaults of attention.nystrom; of each rival, "
    "its docstring in experiments.rivals"
)
EXCLUSIVE = False
ALT = (
    "Relative Frobenius error against the number of landmarks for heads of MiniLM and of Whisper's encoder, medians "
    "with quartile bands: above, one line for each estimator and filter, and in the last panel causal attention on "
    "MiniLM's queries and keys against attention within blocks alone; below, tangents beside other methods that take "
    "as many kernel entries as that many landmarks."
)

FORMS = (
    *("nystrom", "paper", "nystrom_inverse", "normalised", "normalised_inverse"),
    *("near_field", "tangent", "tangent_two_levels"),
)
ESTIMATORS = {attention.ESTIMATORS[name].title: attention.ESTIMATORS[name] for name in FORMS}
DEFAULT, SIX, INVERSE, ROWS, ROWS_INVERSE, NEAR, TANGENTS, TWO_LEVELS = ESTIMATORS
BEST = "best matrix of rank m"

CAUSAL, BLOCKS = attention.ESTIMATORS["causal"].title, "causal, own block alone"
BLOCK, JUDGED, NAMED = 64, 64, 12
SEEDS = [0, 1, 2]
MS = {"quick": [64, 128], "full": [16, 32, 64, 128, 256], "gpu": [16, 32, 64, 128, 256]}


def grid(profile: str) -> tuple[Case, ...]:
    """A case a layer; ``quick`` takes 3 heads of every other layer, on one recording."""
    quick = profile == "quick"
    common = {"heads": [0, 2, 5] if quick else None, "ms": MS[profile], "seeds": SEEDS}
    cases = [{"input": "MiniLM", "layer": layer, **common} for layer in range(0, 6, 2 if quick else 1)]
    of_speech = {**common, "ms": [JUDGED]} if quick else common
    cases += [
        {"input": "Whisper", "recording": "Beckett", "layer": layer, **of_speech}
        for layer in range(0, 4, 2 if quick else 1)
    ]
    return tuple(Case("estimators", params) for params in cases)


def run(case: Case) -> list[Row]:
    """Errors of Ŝ for every estimator, rival and m, and of the causal forms where the input is text."""
    p = case.params
    captured = models.trained_heads(p["input"], [p["layer"]], p.get("recording", "Beckett"))
    heads = p["heads"] or range(captured.q.shape[1])
    rows = []
    for head in heads:
        q, k, v = (x[0, head].astype(float) for x in (captured.q, captured.k, captured.v))
        rows += [{"head": int(head), **row} for row in _full(q, k, v, captured.scale, p["ms"], p["seeds"])]
        if p["input"] == "MiniLM":
            rows += [{"head": int(head), **row} for row in _causal(q, k, v, captured.scale, p["ms"])]
    return rows


def _relative(got: Any, exact: Any) -> float:
    return float(np.linalg.norm(got - exact) / np.linalg.norm(exact))


def _full(q: Any, k: Any, v: Any, scale: float, ms: list[int], seeds: list[int]) -> Iterable[Row]:
    n = len(k)
    both = np.hstack([np.eye(n), v])  # Ŝ and ŜV in one pass
    exact = attention.exact(q, k, both, scale=scale)
    u, sigma, vt = np.linalg.svd(exact[:, :n])
    for m in ms:
        best = (u[:, :m] * sigma[:m]) @ (vt[:m] @ both)
        yield {"estimator": BEST, "m": m, "entries": float(n), **_errors(best, exact)}
        for name, of in ESTIMATORS.items():
            made = of.make(q, k, m, scale=scale)
            yield {"estimator": name, "m": m, "entries": made.entries / n, **_errors(made.apply(both), exact)}
        for name in rivals.RIVALS:
            answers = rivals.answers(name, q, k, both, m, scale=scale, seeds=seeds)
            rows = [{"entries": one.entries / n, **_errors(one.output, exact)} for one in answers]
            mean = {column: float(np.mean([row[column] for row in rows])) for column in rows[0]}
            yield {"estimator": name, "m": m, **mean}


def _errors(got: Any, exact: Any) -> Row:
    """Of Ŝ, the first columns, and of ŜV, those that follow."""
    n = len(exact)
    return {"S": _relative(got[:, :n], exact[:, :n]), "O": _relative(got[:, n:], exact[:, n:])}


def _causal(q: Any, k: Any, v: Any, scale: float, ms: list[int]) -> Iterable[Row]:
    n = len(q)
    ahead = np.tri(n, dtype=bool)
    exact = attention.exact(q, k, v, attn_mask=ahead, scale=scale)
    near = ahead & (np.arange(n)[:, None] // BLOCK == np.arange(n) // BLOCK)
    alone = _relative(attention.exact(q, k, v, attn_mask=near, scale=scale), exact)
    for m in ms:
        yield {"estimator": BLOCKS, "m": m, "O": alone}
        got = attention.causal(q, k, v, block=BLOCK, near=m // 2, routed=m // 16, scale=scale)
        yield {"estimator": CAUSAL, "m": m, "O": _relative(got, exact)}


COMPARISONS = [
    (ROWS, DEFAULT, "S", "normalising rows lowers the error of Ŝ"),
    (INVERSE, DEFAULT, "S", "A⁺ itself has a lower error of Ŝ than the default filter"),
    (DEFAULT, SIX, "S", "the default filter has a lower error of Ŝ than six iterations"),
    (NEAR, SIX, "S", "an exact near field lowers the error of Ŝ at equal kernel entries"),
    (NEAR, SIX, "O", "an exact near field lowers the error of ŜV at equal kernel entries"),
    (TANGENTS, NEAR, "S", "tangents lower the error of Ŝ below that of a near field"),
    (TANGENTS, NEAR, "O", "tangents lower the error of ŜV below that of a near field"),
    (TANGENTS, BEST, "S", "tangents have a lower error of Ŝ than the best matrix of rank m"),
    (TWO_LEVELS, TANGENTS, "S", "two levels have a lower error of Ŝ than one"),
    *((TANGENTS, name, "S", f"tangents have a lower error of Ŝ than {name}") for name in rivals.RIVALS),
    *((TANGENTS, name, "O", f"tangents have a lower error of ŜV than {name}") for name in rivals.RIVALS),
]


def verdicts(records: Iterable[Record]) -> tuple[Verdict, ...]:
    """Judged head by head at 64 landmarks."""
    data = frame(records)
    if data.empty:
        return (Verdict(CLAIM, Outcome.UNDECIDED, "No record."),)
    found = []
    for name in data["input"].unique():
        part = data[(data["input"] == name) & (data["m"] == JUDGED)]
        errors = {
            of: part.pivot_table(index=["layer", "head"], columns="estimator", values=of) for of in ("S", "O")
        }
        found += [_better(errors[of], one, other, f"{name}: {text}") for one, other, of, text in COMPARISONS]
    part = data[data["m"] == JUDGED]
    causal = part.pivot_table(index=["layer", "head"], columns="estimator", values="O")
    if CAUSAL in causal:
        causal = causal.dropna(subset=[CAUSAL])
        found.append(_better(causal, CAUSAL, BLOCKS, "The past by tangents is better than the block alone"))
    return tuple(found)


def _better(errors: pd.DataFrame, one: str, other: str, statement: str) -> Verdict:
    if not {one, other} <= set(errors):
        return Verdict(f"{statement} (m = {JUDGED})", Outcome.UNDECIDED, "No record of one of the two.")
    medians = (
        f"Median error {errors[one].median():.3f} against {errors[other].median():.3f}, largest "
        f"{errors[one].max():.2f} against {errors[other].max():.2f}."
    )
    if BEST in errors:
        medians += f" The best matrix of rank {JUDGED}: {errors[BEST].median():.3f}."
    holds = errors[one] < errors[other]
    others = [f"{layer}.{head}" for layer, head in errors.index[~holds]]
    if 0 < len(others) <= NAMED:
        medians += f" Not on heads {', '.join(others)} (layer.head)."
    return majority(f"{statement} (m = {JUDGED})", holds, "heads", medians)


def table(records: Iterable[Record]) -> pd.DataFrame:
    """Medians and ninth deciles over heads."""
    data = frame(records)
    groups = data.groupby(["input", "estimator", "m"])
    columns = {"entries": "entries a query", "S": "Ŝ, median", "O": "ŜV, median"}
    summary = groups[list(columns)].median().rename(columns=columns)
    for column in ("S", "O"):
        summary[f"Ŝ{'V' if column == 'O' else ''}, 90 %"] = groups[column].quantile(0.9)
    return summary.reset_index()


def plot(records: Iterable[Record]) -> Figure:
    """Errors against m: the estimators above, the rivals below."""
    data = frame(records)
    names = list(data["input"].unique())
    figure, axes = figures.grid(2, len(names) + 1, height=3.6)
    others = [name for name in (*ESTIMATORS, CAUSAL, BLOCKS) if name != TANGENTS]
    colors = {**figures.palette(others), TANGENTS: "black", BEST: "black"}
    label = "‖Ŝ−S‖ / ‖S‖, Frobenius"
    for ax, name in zip(axes[0], names, strict=False):
        _panel(ax, data[data["input"] == name], "S", [*ESTIMATORS, BEST], colors, name, label)
    causal = data[data["input"] == "MiniLM"]
    label_of_causal = "‖O−O exact‖ / ‖O exact‖, causal"
    _panel(axes[0][-1], causal, "O", [CAUSAL, BLOCKS], colors, "MiniLM", label_of_causal)
    handles = [
        pair for ax in (axes[0][0], axes[0][-1]) for pair in zip(*ax.get_legend_handles_labels(), strict=True)
    ]
    figure.legend(*zip(*handles, strict=True), loc="outside upper center", ncols=3, frameon=False)
    colors = {**figures.palette(rivals.RIVALS), TANGENTS: "black", BEST: "black"}
    for ax, name in zip(axes[1], names, strict=False):
        shown = [TANGENTS, *rivals.RIVALS, BEST]
        _panel(ax, data[data["input"] == name], "S", shown, colors, f"{name}, other methods", label)
    axes[1][-1].axis("off")
    axes[1][-1].legend(*axes[1][0].get_legend_handles_labels(), loc="center left", frameon=False)
    return figure


def _panel(
    ax: Axes, part: pd.DataFrame, column: str, shown: list[str], colors: Any, title: str, label: str
) -> None:
    if part.empty:
        figures.blank(ax, title)
        return
    for name in shown:
        line = part[part["estimator"] == name]
        floor = name == BEST
        style = "--" if floor else "-"
        figures.band(ax, line, "m", column, label=name, color=colors[name], style=style, shade=not floor)
    ticks = sorted(part["m"].unique())
    ax.set(xscale="log", yscale="log", title=title, xlabel="landmarks m", ylabel=label)
    ax.set_xticks(ticks, [str(m) for m in ticks])
    ax.minorticks_off()
