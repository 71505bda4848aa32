"""Attention within a tolerance: whether the true error keeps it, and what it takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments import figures, inputs, models
from experiments.contract import Case, Outcome, Record, Row, Verdict, frame
from experiments.evidence import share_interval
from nystrom_numerics import attention

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

TITLE = "Attention within a tolerance"
CLAIM = "attention.approximate(error=ε) is within ε of exact attention on 95 % of heads, for a part of its entries."
SOURCE = "this package: attention.choose; its intervals fail in 5 % of draws, asymptotically"
EXCLUSIVE = False
ALT = (
    "True relative error of ŜV against its certified upper end, both axes logarithmic, a point a head that was "
    "approximated, one panel for each tolerance: above the diagonal the certificate holds, left of the dotted line "
    "the error is within the tolerance; colours tell MiniLM from Whisper."
)

ERRORS, CONFIDENCE, MOST_NAMED = (0.1, 0.05), 0.95, 8


def grid(profile: str) -> tuple[Case, ...]:
    """A case a layer and text or recording; ``quick`` takes two layers of MiniLM on one text."""
    if profile == "quick":
        return tuple(
            Case("chosen_budgets", {"input": "MiniLM", "text": 0, "layer": layer}) for layer in (0, 4)
        )
    text = [{"input": "MiniLM", "text": i, "layer": layer} for i in range(3) for layer in range(6)]
    speech = [
        {"input": "Whisper", "recording": name, "layer": layer}
        for name in models.RECORDINGS
        for layer in range(4)
    ]
    return tuple(Case("chosen_budgets", params) for params in [*text, *speech])


def run(case: Case) -> list[Row]:
    """Of each head and tolerance: budget, true error, certified end, entries; and time beside exact, of the layer."""
    import torch

    p = case.params
    text = inputs.long_reviews(p["text"] + 1)[-1] if p["input"] == "MiniLM" else None
    captured = models.trained_heads(p["input"], [p["layer"]], p.get("recording", "Beckett"), text)
    q, k, v = (torch.from_numpy(np.ascontiguousarray(x[0])) for x in (captured.q, captured.k, captured.v))
    n, scale = q.shape[1], captured.scale
    exact, of_exact = _timed(
        lambda: torch.nn.functional.scaled_dot_product_attention(q[None], k[None], v[None], scale=scale)[0]
    )
    rows = []
    for error in ERRORS:
        (out, chosen), seconds = _timed(
            lambda error=error: attention.approximate(q, k, v, error=error, dearer=1, scale=scale)
        )
        true = torch.linalg.norm(out - exact, dim=(1, 2)) / torch.linalg.norm(exact, dim=(1, 2))
        rows += [
            {
                "head": head,
                "tolerance": error,
                "m": int(chosen.m[head]),
                "error": float(true[head]),
                "upper": float(chosen.upper[head]),
                "entries": float(chosen.entries[head] / n**2),
                "spent": float(chosen.spent[head] / n**2),
                "time": seconds / of_exact,
            }
            for head in range(len(q))
        ]
    return rows


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """What it gives, and processor seconds, of a second call."""
    call()
    start = time.process_time()
    made = call()
    return made, time.process_time() - start


def verdicts(records: Iterable[Record]) -> tuple[Verdict, ...]:
    """One for each model and tolerance."""
    data = frame(records)
    if data.empty:
        return (Verdict(CLAIM, Outcome.UNDECIDED, "No record."),)
    return tuple(_judged(name, error, part) for (name, error), part in data.groupby(["input", "tolerance"]))


def _judged(name: str, error: float, part: pd.DataFrame) -> Verdict:
    statement = f"{name}: at ε = {error:g} the true error is within ε on at least {CONFIDENCE:.0%} of heads"
    within, count = int((part["error"] <= error).sum()), len(part)
    low, high = share_interval(within, count)
    outcome = Outcome.REFUTED if high < CONFIDENCE else Outcome.UNDECIDED
    if within >= CONFIDENCE * count:
        outcome = Outcome.SUPPORTED
    approximated = part[part["m"] > 0]
    held = int((approximated["error"] <= approximated["upper"]).sum())
    beyond = part[part["error"] > error].head(MOST_NAMED)
    named = ", ".join(f"{x.layer}.{x.head}: {x.error:.3f}" for x in beyond.itertuples())
    return Verdict(
        statement,
        outcome,
        f"Within on {within} of {count} heads (95 % interval of the share {low:.0%} to {high:.0%})"
        + (f"; not on (layer.head) {named}. " if named else ". ")
        + f"{len(approximated)} are approximated, the certified end holding on {held} of them; "
        f"{part['entries'].mean():.1%} of the kernel entries of exact attention, {part['spent'].mean():.1%} with all "
        f"that was tried; {part['time'].median():.1f} times the time of torch's fused kernel.",
    )


def table(records: Iterable[Record]) -> pd.DataFrame:
    """One line a model and tolerance."""
    groups = frame(records).groupby(["input", "tolerance"])
    return groups.agg(
        heads=("error", "count"),
        approximated=("m", lambda m: (m > 0).mean()),
        largest=("error", "max"),
        entries=("entries", "mean"),
        spent=("spent", "mean"),
        time=("time", "median"),
    ).reset_index()


def plot(records: Iterable[Record]) -> Figure:
    """True errors against certified ends."""
    data = frame(records)
    figure, axes = figures.grid(1, len(ERRORS), height=4.4)
    colors = figures.palette(["MiniLM", "Whisper"])
    for ax, error in zip(axes[0], ERRORS, strict=True):
        part = data[(data["tolerance"] == error) & (data["m"] > 0)]
        if part.empty:
            figures.blank(ax, f"ε = {error:g}")
            continue
        for name, color in colors.items():
            some = part[part["input"] == name]
            ax.plot(some["error"], some["upper"], "o", markersize=3, color=color, label=name)
        ends = [part["error"].min(), max(part["error"].max(), error)]
        ax.plot(ends, ends, color="black", linewidth=1)
        ax.axvline(error, color="black", linestyle=":")
        ax.set(xscale="log", yscale="log", title=f"ε = {error:g}", xlabel="true relative error of ŜV")
        ax.set_ylabel("certified upper end")
        ax.legend(frameon=False)
    return figure
