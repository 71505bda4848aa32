"""A model whose task reads its attention: which atom of a product is which of its precursors, by RXNMapper."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from experiments.contract import Case, Outcome, Record, Row, Verdict, frame
from experiments.inputs import reactions
from experiments.report import figures
from experiments.report.evidence import share_interval
from nystrom_numerics.attention import ESTIMATORS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

TITLE = "A model whose task reads its attention"
CLAIM = "RXNMapper maps atoms as well by attention that is approximated in every layer, the one that it reads included."
SOURCE = (
    "the model: Schwaller et al. 2021, Science Advances 7(15); rows of AttentionOperator in place of weights"
)
EXCLUSIVE = False
ALT = (
    "Share of the product's atoms that are mapped to the right atom of the precursors, against the kernel entries as a "
    "share of those of exact attention, a line an estimator, over a dotted line for exact attention."
)

EXACT, DOCUMENTED, LOST = reactions.EXACT, "documentation", 0.01
NAMES = ("tangent", "near_field", "paper")
MS = {"quick": (16,), "full": (4, 8, 16, 32)}
STEP = 28  # of the reactions that are written, quick takes every so many


def grid(profile: str) -> tuple[Case, ...]:
    """A case an estimator and number of landmarks; ``quick`` takes two estimators and five reactions."""
    quick = profile == "quick"
    names, budgets = (NAMES[::2], MS["quick"]) if quick else (NAMES, MS["full"])
    settings = [(EXACT, 0), *((name, m) for name in names for m in budgets if m >= ESTIMATORS[name].least)]
    step = STEP if quick else 1
    return tuple(Case("atom_mapping", {"estimator": name, "m": m, "step": step}) for name, m in settings)


def run(case: Case) -> list[Row]:
    """A row a reaction: those of the package's documentation, and those that templates write."""
    p = case.params
    rows = []
    for reaction in (*reactions.documented(), *reactions.written()[:: p["step"]]):
        found = reactions.mapped(reaction, p["estimator"], max(1, p["m"]))
        rows.append(
            {
                "source": reaction.source,
                "atoms": reaction.told,
                "right": reaction.right(found.atoms),
                "confidence": found.confidence,
                "tokens": found.tokens,
                "entries": found.entries,
            }
        )
    return rows


def verdicts(records: Iterable[Record]) -> tuple[Verdict, ...]:
    """On the documentation, and one for each estimator and number of landmarks."""
    data = frame(records)
    if data.empty:
        return (Verdict(CLAIM, Outcome.UNDECIDED, "No record."),)
    exact, others = data[data["estimator"] == EXACT], data[data["estimator"] != EXACT]
    found = [_of_documentation(exact)]
    for (name, m), part in others.groupby(["estimator", "m"]):
        found.append(_judged(exact, name, m, part))
    return tuple(found)


def _of_documentation(exact: pd.DataFrame) -> Verdict:
    statement = "By exact attention the model maps the reactions of its documentation as that says"
    part = exact[exact["source"] == DOCUMENTED]
    if part.empty:
        return Verdict(statement, Outcome.UNDECIDED, "No record.")
    holds = bool((part["right"] == part["atoms"]).all())
    told = ", ".join(
        f"{x.right} of {x.atoms} atoms with confidence {x.confidence:.4f}" for x in part.itertuples()
    )
    return Verdict(statement, Outcome.SUPPORTED if holds else Outcome.REFUTED, f"{told}.")


def _judged(exact: pd.DataFrame, name: str, m: int, part: pd.DataFrame) -> Verdict:
    statement = (
        f"{ESTIMATORS[name].title}, m = {m}: of the atoms that exact attention maps rightly, no more than "
        f"{LOST:.0%} are lost"
    )
    if exact.empty or len(exact) != len(part):
        return Verdict(statement, Outcome.UNDECIDED, "No record of exact attention on the same reactions.")
    atoms, right, by_exact = (int(x.sum()) for x in (part["atoms"], part["right"], exact["right"]))
    whole = int((part["right"] == part["atoms"]).sum())
    low, high = share_interval(right, atoms)
    of_exact = int((exact["right"] == exact["atoms"]).sum())
    own = part[part["source"] == DOCUMENTED]
    return Verdict(
        statement,
        Outcome.SUPPORTED if right >= (1 - LOST) * by_exact else Outcome.REFUTED,
        f"{right:,} of {atoms:,} atoms right ({right / atoms:.1%}, interval {low:.1%} to {high:.1%}), by exact "
        f"attention {by_exact:,}; {whole} of {len(part)} reactions wholly, by exact attention {of_exact}; of those of "
        f"the documentation {own['right'].sum()} of {own['atoms'].sum()} atoms; {part['entries'].mean():.0%} of the "
        f"kernel entries at {part['tokens'].median():.0f} tokens; median confidence {part['confidence'].median():.3f}, "
        f"by exact attention {exact['confidence'].median():.3f}.",
    )


def table(records: Iterable[Record]) -> pd.DataFrame:
    """One line an estimator and number of landmarks."""
    groups = frame(records).groupby(["estimator", "m"])
    found = groups.agg(
        reactions=("atoms", "count"),
        atoms=("atoms", "sum"),
        right=("right", "sum"),
        entries=("entries", "mean"),
        confidence=("confidence", "median"),
    ).reset_index()
    return found.assign(accuracy=found["right"] / found["atoms"])


def plot(records: Iterable[Record]) -> Figure:
    """Accuracy against kernel entries."""
    found = table(records)
    figure, axes = figures.grid(1, 1, width=6.0, height=3.6)
    ax = axes[0, 0]
    colors = figures.palette([*NAMES])
    for name, part in found[found["estimator"] != EXACT].groupby("estimator"):
        ax.plot(part["entries"], part["accuracy"], "o-", color=colors[name], label=ESTIMATORS[name].title)
        for x in part.itertuples():
            ax.annotate(f" {x.m}", (x.entries, x.accuracy), fontsize=7)
    for value in found[found["estimator"] == EXACT]["accuracy"]:
        ax.axhline(value, color="black", linestyle=":", label="exact attention")
    ax.set(xlabel="kernel entries, share of exact attention's", ylabel="atoms mapped rightly", ylim=(0, 1.02))
    ax.legend(frameon=False, fontsize=7)
    return figure
