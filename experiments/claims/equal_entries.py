"""Tangents on several texts and recordings, head by head, beside what the field offers for as many kernel entries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments import rivals
from experiments.contract import Case, Outcome, Record, Row, Verdict, frame
from experiments.inputs import language, models
from experiments.report import figures
from nystrom_numerics import attention

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

TITLE = "Tangents, head by head, at equal kernel entries"
CLAIM = (
    "At 128 and 256 kernel entries a query tangents come near to trained attention, nearer than the best matrix of "
    "rank 64 and than every other method of as many entries on 95 % of heads, whatever is read or heard."
)
SOURCE = "this package; of each rival, its docstring in experiments.rivals"
EXCLUSIVE = False
ALT = (
    "The share of heads with at most a relative Frobenius error of Ŝ, a panel for each text and recording, one line "
    "for tangents, the best matrix of rank 64, the paper's estimator, the near field and each rival, at 128 kernel "
    "entries a query, and a dashed line for tangents at 256."
)

BEST, TANGENTS = "best matrix of rank 64", "tangents"
OTHERS = {"paper's form": "nystrom", "near field": "near_field"}
LEVELS = {
    "MiniLM": "tangent",
    "Whisper": "tangent_two_levels",
}  # from 1,000 keys on two levels are the better
RANK, MS = 64, (64, 128)
TITLES = 2000  # characters of the licences, which are titles and definitions
MOST, NINE, NAMED = 0.95, 0.9, 8
TEXTS, HEARD = ("reviews", "legal"), ("Beckett", "channel names", models.CONTINUOUS)
LIMITS = {"MiniLM": (0.06, 0.02), "Whisper": (0.10, 0.04), models.CONTINUOUS: (0.25, 0.12)}


def grid(profile: str) -> tuple[Case, ...]:
    """A case a layer of each model on each text or recording; ``quick`` takes two layers of MiniLM on one text."""
    quick = profile == "quick"
    read = [("MiniLM", text, layer) for text in TEXTS for layer in range(6)]
    heard = [("Whisper", recording, layer) for recording in HEARD for layer in range(4)]
    some = [("MiniLM", "legal", layer) for layer in (1, 4)]
    return tuple(
        Case(
            "equal_entries",
            {"model": model, "of": of, "layer": layer, "heads": [0, 5, 9] if quick else None},
        )
        for model, of, layer in (some if quick else [*read, *heard])
    )


def run(case: Case) -> list[Row]:
    """Errors of Ŝ and ŜV of every method on every head of a layer."""
    p = case.params
    if p["model"] == "MiniLM":
        text = language.TEXTS["legal"]()[0][TITLES:] if p["of"] == "legal" else None
        captured = models.trained_heads("MiniLM", [p["layer"]], text=text)
    else:
        captured = models.trained_heads("Whisper", [p["layer"]], p["of"])
    rows = []
    for head in p["heads"] or range(captured.q.shape[1]):
        q, k, v = (x[0, head].astype(float) for x in (captured.q, captured.k, captured.v))
        of_head = _of_head(q, k, v, captured.scale, LEVELS[p["model"]])
        rows += [{"source": captured.source, "head": int(head), **row} for row in of_head]
    return rows


def _of_head(q: Any, k: Any, v: Any, scale: float, levels: str) -> Iterator[Row]:
    n = len(k)
    both = np.hstack([np.eye(n), v])  # Ŝ and ŜV in one pass
    exact = attention.exact(q, k, both, scale=scale)
    u, sigma, vt = np.linalg.svd(exact[:, :n])
    best = (u[:, :RANK] * sigma[:RANK]) @ (vt[:RANK] @ both)
    near = abs(np.arange(len(q))[:, None] - np.arange(n)) <= RANK
    local = float((exact[:, :n] * near).sum() / len(q))
    for m in MS:
        yield {"method": BEST, "m": m, "entries": float(n), "local": local, **_errors(best, exact)}
        for name, of in {TANGENTS: levels, **OTHERS}.items():
            made = attention.ESTIMATORS[of].make(q, k, m, scale=scale)
            yield {"method": name, "m": m, "entries": made.entries / n, **_errors(made.apply(both), exact)}
        for name in rivals.RIVALS:
            (one,) = rivals.answers(name, q, k, both, m, scale=scale, seeds=[0])
            yield {"method": name, "m": m, "entries": one.entries / n, **_errors(one.output, exact)}


def _errors(got: Any, exact: Any) -> Row:
    """Of Ŝ, the first columns, and of ŜV, those that follow."""
    n = len(exact)
    parts = {"S": np.s_[:, :n], "O": np.s_[:, n:]}
    return {
        of: float(np.linalg.norm(got[x] - exact[x]) / np.linalg.norm(exact[x])) for of, x in parts.items()
    }


def verdicts(records: Iterable[Record]) -> tuple[Verdict, ...]:
    """For each text and recording: the error, its ratio to the best matrix, and each other method."""
    data = frame(records)
    if data.empty:
        return (Verdict(CLAIM, Outcome.UNDECIDED, "No record."),)
    found = []
    for (model, of), part in data.groupby(["model", "of"], sort=False):
        for m, limit in zip(MS, LIMITS.get(of, LIMITS[model]), strict=True):
            some = part[part["m"] == m]
            errors = {x: some.pivot_table(index=["layer", "head"], columns="method", values=x) for x in "SO"}
            where = f"{model}, {of}, {2 * m} entries a query"
            found += [_near(errors, limit, where), _below_the_best(errors["S"], m, where)]
            found += [_better(errors, some, name, where) for name in (*OTHERS, *rivals.RIVALS)]
    return tuple(found)


def _outcome(holds: bool) -> Outcome:
    return Outcome.SUPPORTED if holds else Outcome.REFUTED


def _near(errors: dict[str, pd.DataFrame], limit: float, where: str) -> Verdict:
    medians = {x: e[TANGENTS].median() for x, e in errors.items()}
    told = f"{medians['S']:.3f}; of ŜV {medians['O']:.3f}; {len(errors['S'])} heads, largest "
    told += " and ".join(f"{errors[x][TANGENTS].max():.2f}" for x in "SO")
    holds = bool(medians["S"] <= limit)
    return Verdict(f"{where}: the median error of Ŝ is at most {limit}", _outcome(holds), f"{told}.")


def _below_the_best(errors: pd.DataFrame, m: int, where: str) -> Verdict:
    ratio = errors[TANGENTS] / errors[BEST]
    share, median = float((ratio <= 1).mean()), float(ratio.median())
    asked, holds = "in the median", median <= 1
    if m > RANK:
        asked, holds = "on nine heads of ten", share >= NINE
    told = f"Median ratio {median:.2f}, at most 1 on {share:.0%} of {len(ratio)} heads."
    return Verdict(f"{where}: Ŝ is no worse than the {BEST} {asked}", _outcome(holds), told)


def _better(errors: dict[str, pd.DataFrame], part: pd.DataFrame, name: str, where: str) -> Verdict:
    """Heads that lose are named, each with the share of its attention within 64 tokens, and the two errors."""
    statement = f"{where}: a lower error than {name} on {MOST:.0%} of heads, in Ŝ and in ŜV"
    local = part.pivot_table(index=["layer", "head"], columns="method", values="local")[BEST]
    told, shares = [], []
    for x, what in (("S", "Ŝ"), ("O", "ŜV")):
        one, other = errors[x][TANGENTS], errors[x][name]
        lost = (one / other)[one >= other].sort_values(ascending=False)
        shares.append(1 - len(lost) / len(one))
        heads = ", ".join(
            f"{layer}.{head} ({one[layer, head]:.3f} against {other[layer, head]:.3f}, {local[layer, head]:.0%} local)"
            for layer, head in lost.index[:NAMED]
        )
        more = f" and {len(lost) - NAMED} more" if len(lost) > NAMED else ""
        told.append(
            f"{what}: {shares[-1]:.0%}, median {one.median():.3f} against {other.median():.3f}"
            + (f"; not on {heads}{more}" if len(lost) else "")
        )
    return Verdict(statement, _outcome(min(shares) >= MOST), f"{'. '.join(told)}.")


def table(records: Iterable[Record]) -> pd.DataFrame:
    """Medians and ninth deciles over heads."""
    groups = frame(records).groupby(["model", "of", "m", "method"])
    summary = groups[["entries", "S", "O"]].median().rename(columns={"S": "Ŝ, median", "O": "ŜV, median"})
    for of, what in (("S", "Ŝ"), ("O", "ŜV")):
        summary[f"{what}, 90 %"] = groups[of].quantile(0.9)
    return summary.reset_index()


def plot(records: Iterable[Record]) -> Figure:
    """The distribution of errors over heads."""
    data = frame(records)
    parts = list(data.groupby(["model", "of"], sort=False))
    figure, axes = figures.grid(1, max(1, len(parts)), height=4.6)
    names = (*OTHERS, *rivals.RIVALS)
    colors = {**figures.palette(names), TANGENTS: "black", BEST: "black"}
    for ax, ((model, of), part) in zip(axes[0], parts, strict=False):
        for name, m, style in [
            *((name, MS[0], "-") for name in (TANGENTS, *names)),
            (BEST, MS[0], ":"),
            (TANGENTS, MS[1], "--"),
        ]:
            errors = np.sort(part[(part["method"] == name) & (part["m"] == m)]["S"].to_numpy(float))
            label = f"{name}, 256 entries" if style == "--" else name
            share = 100 * np.arange(1, len(errors) + 1) / len(errors)
            ax.step(errors, share, style, where="post", color=colors[name], label=label)
        ax.set(title=f"{model}, {of}", xscale="log", xlim=(1e-3, 3), xlabel="‖Ŝ−S‖ / ‖S‖, Frobenius")
    axes[0][0].set_ylabel("heads with at most that error, %")
    handles = axes[0][0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=4, frameon=False)
    return figure
