"""Trained models with the attention of every layer replaced and nothing trained: what remains of what they do."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.contract import Case, Outcome, Record, Row, Verdict, frame
from experiments.inputs import models, texts
from experiments.report import figures
from nystrom_numerics import pinv
from nystrom_numerics.integrations.transformers import register_with_transformers, use_nystrom

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

TITLE = "Trained models with their attention replaced"
CLAIM = "Nyström attention with 64 landmarks can stand in for the attention of a trained model."
SOURCE = "Xiong et al. 2021, abstract: “approximates standard self-attention”; Table 2 has it trained, this has not"
EXCLUSIVE = False
ALT = (
    "Against the number of landmarks: left, the median cosine of MiniLM's embeddings of IMDB reviews to those of the "
    "exact model, with quartiles; middle, Spearman's rank correlation of all pairs of similarities; right, the word "
    "error rate of Whisper tiny.en with its encoder's attention replaced, over a dotted line for the exact model. "
    "One line for each estimator."
)

EXACT, NEAR = "exact", "exact near field, as many kernel entries"
TANGENTS = "tangents, as many kernel entries"
ESTIMATORS: dict[str, dict[str, Any]] = {
    "paper, six iterations": {"pinv": pinv.razavi},
    "paper's form, ridge (default)": {},
    "row-normalised": {"row_normalised": True},
    NEAR: {},  # fewer landmarks beside blocks of m
    TANGENTS: {"tangent": True},
}
PAPER_M = 64
SAME, AS_RANKED, AS_HEARD = (
    0.95,
    0.9,
    0.1,
)  # cosine, Spearman and added word error rate that count as standing in
COUNTS = {"quick": 10, "full": 500, "gpu": 500}
MS = {"quick": (64,), "full": (16, 32, 64, 128, 256), "gpu": (16, 32, 64, 128, 256)}
WHISPER_MS = {"quick": (64,), "full": (64, 128, 256, 512, 750), "gpu": (64, 128, 256, 512, 750)}


def grid(profile: str) -> tuple[Case, ...]:
    """A case a model, recording, estimator and number of landmarks; ``quick`` takes ten reviews and one recording."""
    text = [
        {"input": "MiniLM", "estimator": name, "m": m, "reviews": COUNTS[profile]}
        for name in ESTIMATORS
        for m in MS[profile]
    ]
    settings = [(EXACT, 0), *((name, m) for name in ESTIMATORS for m in WHISPER_MS[profile])]
    speech = [
        {"input": "Whisper", "recording": recording, "estimator": name, "m": m}
        for recording in (["Beckett"] if profile == "quick" else models.RECORDINGS)
        for name, m in settings
    ]
    return tuple(Case("real_models", p) for p in [*text, *speech])


def run(case: Case) -> list[Row]:
    """One model under one estimator."""
    import torch

    with torch.inference_mode():
        return _minilm(case.params) if case.params["input"] == "MiniLM" else _whisper(case.params)


def _replaced(network: Any, estimator: str, m: int) -> Any:
    if estimator == EXACT:
        return network
    if estimator == NEAR:
        register_with_transformers(m=max(1, m // 4 - 1), near=m)
    else:
        register_with_transformers(m=m, **ESTIMATORS[estimator])
    return use_nystrom(network).model


def _minilm(p: Any) -> list[Row]:
    from scipy.stats import spearmanr

    network, tokenizer = models.minilm()
    read = texts.review_texts(p["reviews"])
    exact = _embeddings(network, tokenizer, read)
    got = _embeddings(_replaced(network, p["estimator"], p["m"]), tokenizer, read)
    pairs = np.triu_indices(len(read), 1)
    ranked = spearmanr((exact @ exact.T)[pairs], (got @ got.T)[pairs]).statistic
    cosines = (exact * got).sum(axis=-1)
    return [{"review": i, "cosine": float(c)} for i, c in enumerate(cosines)] + [{"spearman": float(ranked)}]


def _embeddings(network: Any, tokenizer: Any, texts: tuple[str, ...]) -> np.ndarray:
    """Means over tokens, of length one, as the model is used; no text is padded."""
    found = []
    for text in texts:
        encoded = tokenizer(text, truncation=True, max_length=512, return_tensors="pt")
        mean = network(**encoded).last_hidden_state[0].mean(dim=0).numpy()
        found.append(mean / np.linalg.norm(mean))
    return np.stack(found)


def _whisper(p: Any) -> list[Row]:
    clips = models.speech(p["recording"])
    network, tokenizer = models.whisper()
    encoder = _replaced(copy.deepcopy(network.model.encoder), p["estimator"], p["m"])
    rows = []
    for clip in clips:
        heard = models.transcribe(network, tokenizer, encoder(models.mel(clip)).last_hidden_state)
        errors, words = models.word_errors(heard, clip.words), len(clip.words.split())
        rows.append({"clip": clip.name, "heard": heard, "errors": errors, "words": words})
    return rows


def _summary(records: Iterable[Record]) -> pd.DataFrame:
    """One line a model, estimator and m."""
    data = frame(records)
    for column in ("cosine", "spearman", "errors", "words"):
        if column not in data:
            data[column] = np.nan
    groups = data.groupby(["input", "estimator", "m"])
    summary = groups.agg(
        cosine=("cosine", "median"),
        low=("cosine", lambda x: x.quantile(0.25)),
        high=("cosine", lambda x: x.quantile(0.75)),
        least=("cosine", "min"),
        reviews=("cosine", "count"),
        spearman=("spearman", "median"),
    )
    summary["word error rate"] = groups["errors"].sum() / groups["words"].sum()
    return summary.reset_index()


def verdicts(records: Iterable[Record]) -> tuple[Verdict, ...]:
    """Judged at 64 landmarks: the paper's estimator on each model, and whether the rows want normalising."""
    data = _summary(records)
    text = data[data["input"] == "MiniLM"].set_index(["estimator", "m"])
    speech = data[data["input"] == "Whisper"].set_index(["estimator", "m"])
    found = [_on_text(text, name) for name in ESTIMATORS]
    if len(speech):
        found.append(_on_speech(speech))
    return tuple(found)


def _outcome(holds: bool) -> Outcome:
    return Outcome.SUPPORTED if holds else Outcome.REFUTED


def _on_text(text: pd.DataFrame, name: str) -> Verdict:
    statement = (
        f"MiniLM keeps its embeddings with {PAPER_M} landmarks, {name}: median cosine at least {SAME} and Spearman's "
        f"correlation of similarities at least {AS_RANKED}"
    )
    if (name, PAPER_M) not in text.index:
        return Verdict(statement, Outcome.UNDECIDED, "No record at 64 landmarks.")
    row = text.loc[(name, PAPER_M)]
    rest = "".join(
        f"; m = {m}: {r['cosine']:.3f} and {r['spearman']:.3f}"
        for m, r in text.loc[name].iterrows()
        if m != PAPER_M
    )
    return Verdict(
        statement,
        _outcome(row["cosine"] >= SAME and row["spearman"] >= AS_RANKED),
        f"Median cosine {row['cosine']:.3f}, Spearman {row['spearman']:.3f} over {row['reviews']:.0f} reviews{rest}.",
    )


def _on_speech(speech: pd.DataFrame) -> Verdict:
    statement = (
        f"Whisper's transcripts survive {PAPER_M} landmarks in its encoder: the word error rate rises by at most "
        f"{AS_HEARD:.0%} under some estimator"
    )
    rates = speech["word error rate"]
    if (EXACT, 0) not in rates.index:
        return Verdict(statement, Outcome.UNDECIDED, "No record of the exact model.")
    exact = rates[(EXACT, 0)]
    at = {name: rates.get((name, PAPER_M), np.nan) for name in ESTIMATORS}
    told = "; ".join(
        f"{name}: " + ", ".join(f"{rate:.0%} at m = {m}" for m, rate in rates[name].items())
        for name in ESTIMATORS
        if name in rates.index.get_level_values(0)
    )
    holds = bool(np.nanmin(list(at.values())) - exact <= AS_HEARD)
    return Verdict(statement, _outcome(holds), f"Exact model {exact:.0%}. {told}.")


def table(records: Iterable[Record]) -> pd.DataFrame:
    """All numbers, one line a model, estimator and number of landmarks."""
    names = {"cosine": "median cosine", "least": "least cosine", "spearman": "Spearman"}
    return _summary(records).drop(columns=["low", "high", "reviews"]).rename(columns=names)


def plot(records: Iterable[Record]) -> Figure:
    """Cosine, rank correlation and word error rate against m."""
    data = _summary(records)
    figure, axes = figures.grid(1, 3, height=4.4)
    panels = {
        "cosine": ("MiniLM", "cosine to the exact embedding"),
        "spearman": ("MiniLM", "Spearman's correlation of similarities"),
        "word error rate": ("Whisper", "word error rate, capped at 1.5"),
    }
    colors = figures.palette(list(ESTIMATORS))
    for ax, (column, (name, label)) in zip(axes[0], panels.items(), strict=True):
        part = data[data["input"] == name]
        if part.empty:
            figures.blank(ax, name)
            continue
        for estimator, color in colors.items():
            line = part[part["estimator"] == estimator].sort_values("m")
            ax.plot(line["m"], line[column].clip(upper=1.5), marker="o", color=color, label=estimator)
            if column == "cosine":
                ax.fill_between(line["m"], line["low"], line["high"], color=color, alpha=0.15, linewidth=0)
        exact = part[part["estimator"] == EXACT][column]
        if len(exact):
            ax.axhline(float(exact.iloc[0]), color="black", linestyle=":")
        ticks = sorted(m for m in part["m"].unique() if m)
        ax.set(xscale="log", title=name, xlabel="landmarks m", ylabel=label)
        ax.set_xticks(ticks, [str(m) for m in ticks])
        ax.minorticks_off()
    shown = next((ax for ax in axes[0] if ax.lines), axes[0][0])
    figures.legend_below(figure, shown, columns=3)
    return figure
