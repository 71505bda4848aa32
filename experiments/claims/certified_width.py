"""Certificates of the width asked for, on heads that were not looked at when they were tuned."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.contract import Case, Outcome, Record, Row, Verdict, frame
from experiments.inputs import bert, language, models, reactions, texts
from experiments.inputs.tasks import retrieval
from experiments.report import figures
from nystrom_numerics.attention import ESTIMATORS, certify_draws, certify_operator

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

TITLE = "Certificates of a given width"
CLAIM = "within=0.2 brings the error of any head to ± 20 %, with the confidence that it says, on heads not tuned on."
SOURCE = (
    "Chow and Robbins 1965 (intervals of fixed width); Waudby-Smith and Ramdas 2024 (betting); this package: "
    "certify_operator(within=0.2)"
)
EXCLUSIVE = False
ALT = (
    "Left: share of draws whose intervals hold the true error of Ŝ and of ŜV, the worse of both, a dot a head and "
    "estimator, asymptotic and guaranteed, with lines at 98 and 99 %. Middle: kernel entries spent over those of exact "
    "attention, by estimator and model, with those that did not get there hollow. Right: guaranteed upper end over the "
    "true error, both axes logarithmic, against the upper end from ‖S_i‖ ≤ 1 alone."
)

WITHIN, FAILURE, M = 0.2, 0.01, 64
ASYMPTOTIC, GUARANTEED = 0.98, 0.99
"""The least share of draws, by head, that is asked of the two kinds of interval."""

TEXT = 11
"""The number of a long review beyond those on which anything was tuned."""
POSTS = "newsgroups"
TOKENS = 1024  # of SmolLM2
BUDGETS = {"MiniLM": M, "Whisper": M, "SmolLM2": M, "RXNMapper": 16}
FULL = ("tangent", "near_field", "paper")
SETTINGS = {"MiniLM": FULL, "Whisper": FULL, "SmolLM2": ("causal",), "RXNMapper": FULL}
DRAWS = {"quick": 25, "full": 200}


def grid(profile: str) -> tuple[Case, ...]:
    """A case a model, text or recording, and layer; ``quick`` takes two layers of MiniLM and one of an ALBERT."""
    if profile == "quick":
        places = [("MiniLM", TEXT, (1, 4), [1, 7]), ("RXNMapper", "a reaction", (10,), [5])]
    else:
        places = [
            ("RXNMapper", "a reaction", (0, 3, 6, 10), [2, 5]),
            ("MiniLM", POSTS, range(6), [7]),
            ("Whisper", models.DICKENS, range(4), [4]),
            ("MiniLM", TEXT, range(6), [1]),
            ("Whisper", models.CHANNELS, range(4), [1]),
            ("SmolLM2", POSTS, (0, 7, 15, 22, 29), [0, 4]),
        ]
    return tuple(
        Case(
            "certified_width",
            {
                "input": name,
                "text": text,
                "layer": layer,
                "heads": heads,
                "draws": DRAWS.get(profile, DRAWS["full"]),
            },
        )
        for name, text, layers, heads in places
        for layer in layers
    )


def run(case: Case) -> list[Row]:
    """Many certificates of each head and estimator, by as many seeds, against the norms from all rows."""
    p = case.params
    found = _heads(p["input"], p["text"], p["layer"])
    shared = found.q.shape[1] // found.k.shape[1]
    rows = []
    for head in p["heads"]:
        q, k, v = (
            x[0, at].astype(float)
            for x, at in zip((found.q, found.k, found.v), (head, *[head // shared] * 2), strict=True)
        )
        for name in SETTINGS[p["input"]]:
            operator = ESTIMATORS[name].make(q, k, BUDGETS[p["input"]], scale=found.scale)
            rows.append({"head": head, "estimator": name, **_judged(operator, v, p["draws"])})
    return rows


def _heads(name: str, text: Any, layer: int) -> bert.Heads:
    """Of one layer."""
    if name == "Whisper":
        return models.whisper_heads([layer], text)
    if name == "RXNMapper":
        return reactions.captured([layer])
    if name == "SmolLM2":
        model, tokenizer = language.smollm2()
        ids = tokenizer("\n\n".join(_posts()), return_tensors="pt").input_ids[:, :TOKENS]
        return language.captured(model, ids, [layer])
    content = (
        next(p for p in _posts() if len(p) > 2600) if text == POSTS else texts.long_reviews(text + 1)[-1]
    )
    return bert.captured_heads(text=content, layers=[layer])


def _posts() -> list[str]:
    """Of the test part, the first fifty."""
    return [text for _, text in retrieval.posts("test")[:50]]


def _judged(operator: Any, v: Any, draws: int) -> Row:
    """How often intervals hold the truth, how often they get there, and for how many kernel entries."""
    n, seeds = len(v), range(draws)
    exact = certify_operator(operator, v, rows=n)
    truth = exact.matrix.estimate.value, exact.output.estimate.value
    made = certify_draws(operator, v, seeds, within=WITHIN, failure=FAILURE)

    def covered(certificates: Iterable[Any]) -> list[bool]:
        pairs = zip(certificates, truth, strict=True)
        return [c.lower.value <= t * (1 + 1e-9) and t <= c.upper.value * (1 + 1e-9) for c, t in pairs]

    plain = np.array([covered((c.matrix, c.output)) for c in made])
    sure = np.array([covered((c.guaranteed.matrix, c.guaranteed.output)) for c in made])
    upper = [c.guaranteed.matrix.upper.value for c in made]
    whole = n * (n + 1) // 2 if operator.causal else n * n
    return {
        "n": n,
        "truth": truth[0],
        "relative": exact.guaranteed.relative.lower.value,
        "draws": draws,
        "asymptotic S": float(plain[:, 0].mean()),
        "asymptotic O": float(plain[:, 1].mean()),
        "guaranteed S": float(sure[:, 0].mean()),
        "guaranteed O": float(sure[:, 1].mean()),
        "reached": float(np.mean([c.reach.reached for c in made])),
        "width": float(np.median([c.reach.width for c in made])),
        "rows": float(np.median([c.rows for c in made])),
        "exact entries": float(np.mean([c.exact_entries for c in made]) / whole),
        "entries": float(np.mean([c.entries for c in made]) / whole),
        "sure upper": _finite(np.median(upper) / truth[0]),
        "sure lower": float(np.median([c.guaranteed.matrix.lower.value for c in made]) / truth[0]),
        "sure relative": _finite(np.median([c.guaranteed.relative.upper.value for c in made])),
        "certain upper": _finite(np.median([c.certain.upper.value for c in made]) / truth[0]),
    }


def _finite(x: Any) -> float | None:
    return float(x) if np.isfinite(x) else None


def verdicts(records: Iterable[Record]) -> tuple[Verdict, ...]:
    """Coverage of both kinds, width reached and its cost, and how wide what is guaranteed is."""
    data = frame(records)
    if data.empty:
        return (Verdict(CLAIM, Outcome.UNDECIDED, "No record."),)
    found = [
        _coverage(
            data, "asymptotic", ASYMPTOTIC, f"Intervals of ± {WITHIN:.0%}, asymptotic at {1 - FAILURE:.0%},"
        ),
        _coverage(data, "guaranteed", GUARANTEED, f"Intervals guaranteed at {1 - FAILURE:.0%} for any head"),
    ]
    reached = data["reached"] >= 0.95
    parts = "; ".join(
        f"{model}, {name}: {(part['reached'] >= 0.95).sum()} of {len(part)}, median rows "
        f"{part['rows'].median():.0f} of "
        f"{part['n'].iloc[0]}, entries {part['entries'].median():.0%} of exact attention's"
        for (model, name), part in data.groupby(["input", "estimator"])
    )
    found.append(
        Verdict(
            f"± {WITHIN:.0%} is reached from at most half of the rows in 95 % of the draws, on every head",
            Outcome.SUPPORTED if reached.all() else Outcome.REFUTED,
            f"On {int(reached.sum())} of {len(data)} heads and estimators. {parts}.",
        )
    )
    wide = data.dropna(subset=["sure upper"])
    useful = wide["sure upper"] <= 2
    told = "; ".join(
        f"{name} {part['sure upper'].median():.3g} (from ‖S_i‖ ≤ 1 alone {part['certain upper'].median():.3g})"
        for name, part in wide.groupby("estimator")
    )
    found.append(
        Verdict(
            "What is guaranteed for any head is within a factor of two of the true error from above",
            Outcome.SUPPORTED if len(wide) and useful.all() else Outcome.REFUTED,
            f"On {int(useful.sum())} of {len(data)} heads and estimators. Upper end over truth, medians: "
            f"{told}; lower end "
            f"over truth {data['sure lower'].median():.2f}.",
        )
    )
    return tuple(found)


def _coverage(data: pd.DataFrame, kind: str, least: float, words: str) -> Verdict:
    worst = _worse(data, kind)
    held = worst >= least
    low = data[~held].assign(worst=worst[~held]).sort_values("worst").head(6)
    named = ", ".join(f"{x.input} {x.layer}.{x.head} {x.estimator} {x.worst:.1%}" for x in low.itertuples())
    draws = data["draws"].sum()
    share = [(data[f"{kind} {of}"] * data["draws"]).sum() / draws for of in ("S", "O")]
    return Verdict(
        f"{words} hold the truth in {least:.0%} of the draws at least, head by head",
        Outcome.SUPPORTED if held.all() else Outcome.REFUTED,
        f"On {int(held.sum())} of {len(data)} heads and estimators; over all {draws} draws {share[0]:.2%} for Ŝ and "
        f"{share[1]:.2%} for ŜV" + (f"; not on {named}." if named else "."),
    )


def _worse(data: pd.DataFrame, kind: str) -> pd.Series:
    """Of each head the smaller of the coverages of Ŝ and ŜV."""
    return data[[f"{kind} S", f"{kind} O"]].min(axis=1)


def table(records: Iterable[Record]) -> pd.DataFrame:
    """One line a model and estimator."""
    data = frame(records)
    worse = {kind: _worse(data, kind) for kind in ("asymptotic", "guaranteed")}
    groups = data.assign(**worse).groupby(["input", "estimator"])
    return groups.agg(
        **{
            "heads": ("head", "count"),
            "least coverage, asymptotic": ("asymptotic", "min"),
            "least coverage, guaranteed": ("guaranteed", "min"),
            "reached": ("reached", "mean"),
            "rows, median": ("rows", "median"),
            "rows, most": ("rows", "max"),
            "entries / exact": ("entries", "median"),
            "guaranteed upper / truth": ("sure upper", "median"),
            "certain upper / truth": ("certain upper", "median"),
        }
    ).reset_index()


def plot(records: Iterable[Record]) -> Figure:
    """Coverage, cost and width of what is guaranteed."""
    data = frame(records)
    figure, axes = figures.grid(1, 3, height=4.0)
    colors = figures.palette(sorted(set(data["estimator"])))
    for i, (name, part) in enumerate(data.groupby("estimator")):
        offset = 0.12 * (i - (len(colors) - 1) / 2)
        for j, kind in enumerate(("asymptotic", "guaranteed")):
            x = j + offset + 0.04 * np.linspace(-1, 1, len(part))
            label = name if j == 0 else None
            axes[0][0].scatter(x, 100 * _worse(part, kind), color=colors[name], s=12, label=label)
        full = part["reached"] >= 0.95
        axes[0][1].scatter(part["relative"][full], 100 * part["entries"][full], color=colors[name], s=14)
        axes[0][1].scatter(
            part["relative"][~full],
            100 * part["entries"][~full],
            facecolors="none",
            edgecolors=colors[name],
            s=16,
        )
        some = part.dropna(subset=["sure upper", "certain upper"])
        axes[0][2].scatter(some["certain upper"], some["sure upper"], color=colors[name], s=14)
    for y in (98, 99):
        axes[0][0].axhline(y, color="grey", linewidth=1, linestyle=":" if y == 98 else "-")
    axes[0][0].set_xticks([0, 1], ["asymptotic", "guaranteed"])
    axes[0][0].set(ylabel="draws that hold the truth, %")
    axes[0][1].set(xlabel="relative error of Ŝ", ylabel="entries / exact attention's, %", xscale="log")
    axes[0][2].set(
        xlabel="certain upper end / true error",
        ylabel="guaranteed upper end / true error",
        xscale="log",
        yscale="log",
    )
    figures.legend_below(figure, axes[0][0], columns=4)
    return figure
