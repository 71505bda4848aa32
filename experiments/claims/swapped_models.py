"""Before anything is replaced: how far each head of a model is from its own attention, and what a calibration buys."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.contract import Case, Outcome, Record, Row, Verdict, frame
from experiments.inputs import language, models, reactions, texts
from experiments.report import figures
from nystrom_numerics.attention import ESTIMATORS
from nystrom_numerics.integrations.transformers import (
    calibrate,
    compare,
    register_with_transformers,
    use_nystrom,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

TITLE = "Models beside their own attention, head by head"
CLAIM = "Most heads of four trained models are within a tenth of their own attention by tangents; budgets by head help."
SOURCE = "this package: integrations.transformers.compare and calibrate"
EXCLUSIVE = False
ALT = (
    "Heat maps of layers by heads, one a model: the relative error of ŜV of each head by tangents at the kernel "
    "entries of 64 landmarks, of 16 where texts are short, on its own tokens; dark is near, light far."
)

HEADS, DRIFT = "heads", "drift"
CALIBRATED, UNIFORM = "budgets by head", "one budget"
NEAR, MOST, ERROR = 0.1, 0.5, 0.05
BUDGETS = {"MiniLM": 64, "Whisper": 64, "SmolLM2": 64, "RXNMapper": 16}
NAME = "swapped"


def grid(profile: str) -> tuple[Case, ...]:
    """A case a model, and one for each that is calibrated; ``quick`` takes the smallest and calibrates none."""
    heads = ("MiniLM", "RXNMapper") if profile == "quick" else tuple(BUDGETS)
    drift = () if profile == "quick" else ("MiniLM", "Whisper")
    settings = [*((HEADS, model) for model in heads), *((DRIFT, model) for model in drift)]
    return tuple(Case("swapped_models", {"part": part, "input": model}) for part, model in settings)


def run(case: Case) -> list[Row]:
    """A row a head, or a row for each of both ways to spend the same kernel entries."""
    p = case.params
    model, texts, estimator = _LOADERS[p["input"]]()
    if p["part"] == HEADS:
        m = BUDGETS[p["input"]]
        told = compare(model, texts[0], [(estimator, m)])
        return [{**_row(head), "drift": told.drift[estimator, m]} for head in told.heads]
    return list(_drifts(model, estimator, texts[0], texts[1]))


def _row(head: Any) -> Row:
    kept = ("head", "tokens", "estimator", "m", "entries", "error", "lower", "upper", "best")
    return {"layer": head.layer, **{key: getattr(head, key) for key in kept}}


def _drifts(model: Any, estimator: str, text: dict[str, Any], other: dict[str, Any]) -> Iterator[Row]:
    """Budgets chosen on a text, and one budget of the same mean entries; the output's drift on both texts."""
    import torch

    def output(given: dict[str, Any]) -> Any:
        with torch.no_grad():
            return model(**given)[0]

    texts = {"as calibrated": text, "another": other}
    exact = {name: output(given) for name, given in texts.items()}
    found = calibrate(model, text, error=ERROR, dearer=1)
    n = max(head.tokens for head in compare(model, text, [(estimator, 16)]).heads)
    m = same_entries(estimator, n, found.entries)
    for way in (CALIBRATED, UNIFORM):
        if way == UNIFORM:
            del model.config.nystrom_budgets
        register_with_transformers(NAME, m=m, tangent=True, block=128)
        with use_nystrom(model, NAME):
            for name, given in texts.items():
                off = torch.linalg.norm(output(given) - exact[name]) / torch.linalg.norm(exact[name])
                spent = found.entries if way == CALIBRATED else _share(estimator, n, m)
                exactly = sum(head.m == 0 for head in found.heads) if way == CALIBRATED else 0
                yield {
                    "way": way,
                    "text": name,
                    "m": m,
                    "entries": spent,
                    "drift": float(off),
                    "exact": exactly,
                }


def _share(estimator: str, n: int, m: int) -> float:
    empty = np.zeros((n, 1), np.float32)
    whole = ESTIMATORS["exact_causal" if ESTIMATORS[estimator].causal else "exact"].make(empty, empty, 1)
    return float(ESTIMATORS[estimator].make(empty, empty, m).entries / whole.entries)


def same_entries(estimator: str, n: int, share: float) -> int:
    """The largest budget whose kernel entries are at most a share of those of exact attention."""
    budgets = range(max(4, ESTIMATORS[estimator].least), n // 2)
    return budgets[max(0, bisect_right(budgets, share, key=lambda m: _share(estimator, n, m)) - 1)]


# ---------------------------------------------------------------- models, two texts each, and the estimator


def _minilm() -> tuple[Any, list[dict[str, Any]], str]:
    model, tokenizer = models.minilm()
    reviews = texts.long_reviews(6)
    limit = {"return_tensors": "pt", "truncation": True, "max_length": 512}
    return model, [dict(tokenizer(reviews[i], **limit)) for i in (4, 5)], "tangent"


def _whisper() -> tuple[Any, list[dict[str, Any]], str]:
    model, _ = models.whisper()
    clips = [models.speech(name)[-1] for name in ("Beckett", models.CONTINUOUS)]
    return model.get_encoder(), [{"input_features": models.mel(clip)} for clip in clips], "tangent"


def _smollm2() -> tuple[Any, list[dict[str, Any]], str]:
    model, tokenizer = language.smollm2()
    model.set_attn_implementation("sdpa")
    texts = [{"input_ids": language.tokens(tokenizer, name, 1536)[0]} for name in language.TEXTS]
    return model.model, texts, "causal"


def _rxnmapper() -> tuple[Any, list[dict[str, Any]], str]:
    model, _ = reactions.rxnmapper()
    model.set_attn_implementation("eager")
    return model, [reactions.longest()], "tangent"


_LOADERS: dict[str, Callable[[], tuple[Any, list[dict[str, Any]], str]]] = {
    "MiniLM": _minilm,
    "Whisper": _whisper,
    "SmolLM2": _smollm2,
    "RXNMapper": _rxnmapper,
}


# ---------------------------------------------------------------- verdicts


def verdicts(records: Iterable[Record]) -> tuple[Verdict, ...]:
    """One for each model, and one for each that was calibrated."""
    data = frame(records)
    if data.empty:
        return (Verdict(CLAIM, Outcome.UNDECIDED, "No record."),)
    heads, drift = (data[data["part"] == part] for part in (HEADS, DRIFT))
    found = [_near(str(name), part) for name, part in heads.groupby("input", sort=False)]
    found += [_better(str(name), part) for name, part in drift.groupby("input", sort=False)]
    return tuple(found)


def _near(name: str, part: pd.DataFrame) -> Verdict:
    m, estimator = int(part["m"].iloc[0]), ESTIMATORS[part["estimator"].iloc[0]].title
    statement = (
        f"{name}, {estimator}, m = {m}: at least half of the heads are within {NEAR:.0%} of their own ŜV"
    )
    near, count = int((part["error"] <= NEAR).sum()), len(part)
    low, middle, high = part["error"].quantile([0.25, 0.5, 0.75])
    worst = part.loc[part["error"].idxmax()]
    return Verdict(
        statement,
        Outcome.SUPPORTED if near >= MOST * count else Outcome.REFUTED,
        f"{near} of {count} heads at {part['tokens'].max():,.0f} tokens; median {middle:.3f}, quartiles {low:.3f} to "
        f"{high:.3f}, the farthest {worst['layer']} head {worst['head']:.0f}: {worst['error']:.3f}; "
        f"{part['entries'].mean():.1%} of the kernel entries; the output drifts by {part['drift'].iloc[0]:.3f}.",
    )


def _better(name: str, part: pd.DataFrame) -> Verdict:
    statement = f"{name}: budgets by head, chosen for {ERROR:.0%}, leave less drift than one budget of as many entries"
    drifts = part.pivot_table(index="text", columns="way", values="drift", sort=False)
    entries = part.groupby("way")["entries"].first()
    told = "; ".join(f"{text}: {x[CALIBRATED]:.4f} against {x[UNIFORM]:.4f}" for text, x in drifts.iterrows())
    return Verdict(
        statement,
        Outcome.SUPPORTED if (drifts[CALIBRATED] < drifts[UNIFORM]).all() else Outcome.REFUTED,
        f"Drift of the output on the text {told}; {entries[CALIBRATED]:.1%} of the kernel entries in the mean, "
        f"{part['exact'].max():.0f} heads exact, against {entries[UNIFORM]:.1%} with m = {part['m'].max():.0f}.",
    )


def table(records: Iterable[Record]) -> pd.DataFrame:
    """One line a model and part."""
    data = frame(records).reindex(columns=["input", "part", "way", "text", "error", "entries", "drift"])
    groups = data.fillna({"way": "", "text": ""}).groupby(["input", "part", "way", "text"], sort=False)
    return groups.agg(
        rows=("entries", "count"),
        error=("error", "median"),
        entries=("entries", "mean"),
        drift=("drift", "first"),
    ).reset_index()


def plot(records: Iterable[Record]) -> Figure:
    """A heat map a model."""
    data = frame(records)
    heads = data[data["part"] == HEADS] if len(data) else data
    names = [name for name in BUDGETS if len(heads) and name in set(heads["input"])] or [*BUDGETS][:1]
    figure, axes = figures.grid(1, len(names), width=3.2 * len(names) + 1.2, height=4.2)
    for ax, name in zip(axes[0], names, strict=True):
        part = heads[heads["input"] == name] if len(heads) else heads
        if part.empty:
            figures.blank(ax, name)
            continue
        errors = part.pivot_table(index="layer", columns="head", values="error", sort=False).to_numpy()
        image = ax.imshow(errors, cmap="viridis", vmin=0, vmax=0.5, aspect="auto", interpolation="nearest")
        for axis in (ax.xaxis, ax.yaxis):
            axis.get_major_locator().set_params(integer=True)
        ax.set(title=f"{name}, m = {part['m'].iloc[0]:.0f}", xlabel="head", ylabel="layer")
    if len(heads):
        figure.colorbar(image, ax=axes[0].tolist(), label="relative error of ŜV (0.5 and more in yellow)")
    return figure
