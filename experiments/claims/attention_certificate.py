"""How wide the interval is that sampled rows give for the error of attention, and how often it holds the truth."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from experiments.contract import Case, Outcome, Record, Row, Verdict, frame
from experiments.inputs import bert, texts
from experiments.report import figures
from nystrom_numerics import attention, pinv
from nystrom_numerics.attention import certify_operator

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

TITLE = "A certificate for attention"
CLAIM = "Exact rows with the entries of the approximation bound its error to ± 20 % at 99 % confidence."
SOURCE = "Sampling proportional to a predicted size: Särndal, Swensson and Wretman 1992; eq. (13) of Xiong et al. 2021"
EXCLUSIVE = False
ALT = (
    "Left: half-width of the 99 % interval over the true error, for the attention matrix and the output, a dot for "
    "each head of MiniLM, with a line at 20 %. Right: the share of intervals that hold the truth, a dot for each head, "
    "with a line at 99 %."
)

M, FAILURE = 64, 0.01
NARROW = 0.2
TEXTS = ("first", "held out")
"""Reviews: the one on whose heads the interval's factor was chosen, and one that was not looked at."""
WHAT = {"matrix": "Ŝ − S", "output": "(Ŝ − S)V"}


def grid(profile: str) -> tuple[Case, ...]:
    """A case a text and layer of MiniLM; ``quick`` takes 3 heads of 12, of every other layer."""
    quick = profile == "quick"
    heads, draws = ([0, 4, 8], 40) if quick else (list(range(12)), 200)
    return tuple(
        Case("attention_certificate", {"text": text, "layer": i, "heads": heads, "draws": draws})
        for text in TEXTS
        for i in range(0, 6, 2 if quick else 1)
    )


def run(case: Case) -> list[Row]:
    """Many intervals of each head, by as many seeds, against the norms from all rows."""
    p = case.params
    text = None if p["text"] == TEXTS[0] else _held_out()
    captured = bert.captured_heads(text=text, layers=[p["layer"]])
    rows = []
    for head in p["heads"]:
        q, k, v = (x[0, head].astype(float) for x in (captured.q, captured.k, captured.v))
        operator = attention.nystrom_operator(q, k, M, scale=captured.scale, pinv=pinv.razavi)
        exact = certify_operator(operator, v, rows=len(q))
        made = [certify_operator(operator, v, failure=FAILURE, rng=seed) for seed in range(p["draws"])]
        for name in WHAT:
            truth = getattr(exact, name).estimate.value
            found = [getattr(c, name) for c in made]
            low, high = (np.array([getattr(c, side).value for c in found]) for side in ("lower", "upper"))
            rows.append(
                {
                    "head": head,
                    "what": name,
                    "truth": truth,
                    "width": float(np.median(high - low) / (2 * truth)),
                    "covered": int(((low <= truth) & (truth <= high)).sum()),
                    "trials": len(made),
                    "rows": made[0].rows,
                    "exact": made[0].exact_entries,
                    "all": made[0].entries,
                    "approximation": 2 * len(q) * M + M * M,
                }
            )
    return rows


def _held_out() -> str:
    """Another review that is long enough to be cut to 512 tokens."""
    return [text for text in texts.review_texts(400) if len(text.split()) > 560][3]


def verdicts(records: Iterable[Record]) -> tuple[Verdict, ...]:
    """Width on most heads and on all; coverage with its interval."""
    data = frame(records)
    if data.empty:
        return (Verdict(CLAIM, Outcome.UNDECIDED, "No record."),)
    found = []
    for name, label in WHAT.items():
        part = data[data["what"] == name]
        narrow = int((part["width"] <= NARROW).sum())
        outcome = Outcome.SUPPORTED if narrow == len(part) else Outcome.REFUTED
        found.append(
            Verdict(
                f"‖{label}‖_F is known to ± {NARROW:.0%} at 99 % confidence on every head, for at most as many exact "
                f"entries as the approximation has",
                outcome if (part["exact"] <= part["approximation"]).all() else Outcome.REFUTED,
                f"On {narrow} of {len(part)} heads of two texts: half-width median {part['width'].median():.1%}, "
                f"largest {part['width'].max():.1%}, from {part['rows'].iloc[0]} rows, {part['exact'].iloc[0]} entries "
                f"against {part['approximation'].iloc[0]}; the rows of Ŝ itself bring all to {part['all'].iloc[0]}.",
            )
        )
        covered, trials = int(part["covered"].sum()), int(part["trials"].sum())
        interval = stats.binomtest(covered, trials).proportion_ci(0.95)
        low, high = float(interval.low), float(interval.high)
        outcome = Outcome.SUPPORTED if high >= 1 - FAILURE else Outcome.REFUTED
        apart = part.groupby("text")[["covered", "trials"]].sum()
        told = ", ".join(f"{name_} {x.covered / x.trials:.2%}" for name_, x in apart.iterrows())
        found.append(
            Verdict(
                f"The interval of ‖{label}‖_F holds the truth with its confidence of 99 %, over heads and draws",
                outcome,
                f"It does in {covered} of {trials} (95 % interval {low:.2%} to {high:.2%}); by text: {told}; on the "
                f"worst head in {(part['covered'] / part['trials']).min():.0%}. It is asymptotic, and its factor was "
                f"chosen on the first text.",
            )
        )
    return tuple(found)


def table(records: Iterable[Record]) -> pd.DataFrame:
    """By text and layer: half-width and coverage."""
    data = frame(records).assign(share=lambda d: d["covered"] / d["trials"])
    found = data.groupby(["what", "text", "layer"]).agg(
        **{
            "median half-width": ("width", "median"),
            "largest": ("width", "max"),
            "coverage": ("share", "mean"),
        }
    )
    found = found.reset_index()
    found["what"] = found["what"].map(WHAT)
    for name in ("median half-width", "largest", "coverage"):
        found[name] = found[name].map("{:.1%}".format)
    return found


def plot(records: Iterable[Record]) -> Figure:
    """Half-width and coverage, head by head."""
    data = frame(records)
    figure, axes = figures.grid(1, 2, height=3.8)
    colors: dict[str, Any] = figures.palette(list(WHAT))
    for i, (name, label) in enumerate(WHAT.items()):
        part = data[data["what"] == name]
        x = part["layer"] + (i - 0.5) * 0.3
        axes[0][0].scatter(x, 100 * part["width"], color=colors[name], label=label, s=22)
        axes[0][1].scatter(x, 100 * part["covered"] / part["trials"], color=colors[name], label=label, s=22)
    axes[0][0].axhline(100 * NARROW, color="grey", linewidth=1)
    axes[0][1].axhline(100 * (1 - FAILURE), color="grey", linewidth=1)
    axes[0][0].set(xlabel="layer of MiniLM", ylabel="half-width / error, %", ylim=(0, None))
    axes[0][1].set(xlabel="layer of MiniLM", ylabel="intervals that hold the truth, %")
    figures.legend_below(figure, axes[0][0], columns=2)
    return figure
