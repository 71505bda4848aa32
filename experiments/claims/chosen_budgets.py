"""Attention within a tolerance: whether the true error keeps it, and what it takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.contract import Case, Outcome, Record, Row, Verdict, frame
from experiments.inputs import language, models, texts
from experiments.report import figures
from experiments.report.evidence import exact_interval, share_interval
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
    "the error is within the tolerance; colours tell MiniLM, Whisper and SmolLM2."
)

ERRORS, CONFIDENCE, MOST_NAMED = (0.1, 0.05), 0.95, 8
UNREAD, LENGTHS, LAYER, CONTEXT = "legal", (4096, 16384), 12, 8192
WARM = 4096  # tokens up to which a call is made twice
COLUMNS = [
    *("input", "text", "recording", "layer", "head", "tolerance", "m", "error", "upper", "entries", "spent"),
    *("time", "n"),
]


def grid(profile: str) -> tuple[Case, ...]:
    """A case a layer and text or recording, and one a length; ``quick`` takes a layer of MiniLM on one text.

    Nothing here was tuned on the licences, nor on Endgame.
    """
    if profile == "quick":
        return tuple(Case("chosen_budgets", {"input": "MiniLM", "text": 0, "layer": layer}) for layer in (4,))
    texts = (*range(3), UNREAD)
    text = [{"input": "MiniLM", "text": i, "layer": layer} for i in texts for layer in range(6)]
    speech = [
        {"input": "Whisper", "recording": name, "layer": layer}
        for name in (*models.RECORDINGS, models.CONTINUOUS)
        for layer in range(4)
    ]
    long = [{"input": "SmolLM2", "tokens": n, "layer": LAYER} for n in LENGTHS]
    return tuple(Case("chosen_budgets", params) for params in [*text, *speech, *long])


def run(case: Case) -> list[Row]:
    """Of each head and tolerance: budget, true error, certified end, entries; and time beside exact, of the layer."""
    import torch

    q, k, v, scale = _heads(case.params)
    n, causal = q.shape[1], case.params["input"] == "SmolLM2"
    estimator, pairs = ("causal", n * (n + 1) // 2) if causal else ("tangent", n**2)
    kernel = torch.nn.functional.scaled_dot_product_attention
    exact, of_exact = _timed(
        lambda: kernel(q[None], k[None], v[None], is_causal=causal, scale=scale)[0], warm=n <= WARM
    )
    rows = []
    for error in ERRORS:
        (out, chosen), seconds = _timed(
            lambda error=error: attention.approximate(
                q, k, v, error=error, estimator=estimator, dearer=1, scale=scale
            ),
            warm=n <= WARM,
        )
        true = torch.linalg.norm(out - exact, dim=(1, 2)) / torch.linalg.norm(exact, dim=(1, 2))
        rows += [
            {
                "head": head,
                "tolerance": error,
                "m": int(chosen.m[head]),
                "error": float(true[head]),
                "upper": float(chosen.upper[head]),
                "entries": float(chosen.entries[head] / pairs),
                "spent": float(chosen.spent[head] / pairs),
                "time": seconds / of_exact,
                "n": n,
            }
            for head in range(len(q))
        ]
    return rows


def _heads(p: Mapping[str, Any]) -> tuple[Any, Any, Any, float]:
    """Queries, keys and values (heads, n, d) of a layer, and their scale.

    Of SmolLM2 a head for each of its three of keys; of more tokens than its 8,192 both texts, one after the other.
    """
    import torch

    if p["input"] == "SmolLM2":
        model, tokenizer = language.smollm2()
        parts = [
            language.captured(
                model, language.tokens(tokenizer, name, min(p["tokens"], CONTEXT))[0], [p["layer"]]
            )
            for name in [*language.TEXTS][: -(-p["tokens"] // CONTEXT)]
        ]
        scale = parts[0].scale
        q, k, v = (
            np.concatenate(x, axis=1)
            for x in zip(*((x.q[0, ::3], x.k[0], x.v[0]) for x in parts), strict=True)
        )
    else:
        text = None
        if p["input"] == "MiniLM":
            text = (
                language.TEXTS[UNREAD]()[0] if p["text"] == UNREAD else texts.long_reviews(p["text"] + 1)[-1]
            )
        found = models.trained_heads(p["input"], [p["layer"]], p.get("recording", "Beckett"), text)
        q, k, v, scale = found.q[0], found.k[0], found.v[0], found.scale
    return (*(torch.from_numpy(np.ascontiguousarray(x)) for x in (q, k, v)), scale)


def _timed(call: Callable[[], Any], *, warm: bool = True) -> tuple[Any, float]:
    """What it gives, and processor seconds; where that is short, of a second call."""
    if warm:
        call()
    start = time.process_time()
    made = call()
    return made, time.process_time() - start


def verdicts(records: Iterable[Record]) -> tuple[Verdict, ...]:
    """One for each model and tolerance."""
    data = _named(records)
    if data.empty:
        return (Verdict(CLAIM, Outcome.UNDECIDED, "No record."),)
    return tuple(_judged(name, error, part) for (name, error), part in data.groupby(["name", "tolerance"]))


def _named(records: Iterable[Record]) -> pd.DataFrame:
    """What was not tuned on, and each length of SmolLM2, by names of their own."""
    data = frame(records).reindex(columns=COLUMNS)
    return data.assign(
        name=[_name(*x) for x in zip(*(data[key] for key in COLUMNS[:3]), data["n"], strict=True)]
    )


def _name(model: str, text: Any, recording: Any, n: float) -> str:
    if model == "SmolLM2":
        return f"{model} at {n:,.0f} tokens"
    known = next((x for x in (text, recording) if x in (UNREAD, models.CONTINUOUS)), None)
    return model if known is None else f"{model} on {known}"


def _judged(name: str, error: float, part: pd.DataFrame) -> Verdict:
    statement = (
        f"{name}: at ε = {error:g} the true error is within ε on at least {CONFIDENCE:.0%} of the heads tried"
    )
    within, count = int((part["error"] <= error).sum()), len(part)
    low, high = share_interval(within, count)
    outcome = Outcome.REFUTED if high < CONFIDENCE else Outcome.UNDECIDED
    if within >= CONFIDENCE * count:
        outcome = Outcome.SUPPORTED
    approximated = part[part["m"] > 0]
    held = int((approximated["error"] <= approximated["upper"]).sum())
    ends = ""
    if len(approximated):
        fewest, most = exact_interval(held, len(approximated))
        ends = f" (95 % interval of Clopper and Pearson {fewest:.0%} to {most:.0%})"
    beyond = part[part["error"] > error].head(MOST_NAMED)
    named = ", ".join(f"{x.layer}.{x.head}: {x.error:.3f}" for x in beyond.itertuples())
    return Verdict(
        statement,
        outcome,
        f"Within on {within} of {count} heads (95 % interval of the share {low:.0%} to {high:.0%})"
        + (f"; not on (layer.head) {named}. " if named else ". ")
        + f"{len(approximated)} are approximated, the certified end holding on {held} of them{ends}; "
        f"{part['entries'].mean():.1%} of the kernel entries of exact attention, {part['spent'].mean():.1%} with all "
        f"that was tried; {part['time'].median():.1f} times the time of torch's fused kernel.",
    )


def table(records: Iterable[Record]) -> pd.DataFrame:
    """One line a model and tolerance."""
    groups = _named(records).groupby(["name", "tolerance"])
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
    data = _named(records)
    figure, axes = figures.grid(1, len(ERRORS), height=4.4)
    ticks = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1]
    colors = figures.palette(["MiniLM", "Whisper", "SmolLM2"])
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
        ax.set(ylabel="certified upper end", xticks=ticks, yticks=ticks)
        ax.minorticks_off()
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter("{x:g}")
        ax.legend(frameon=False)
    return figure
