"""Matrix products that each iteration needs, by condition number: on scalars, so exactly."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from experiments.contract import Case, Outcome, Record, Row, Verdict, frame
from experiments.report import figures
from nystrom_numerics import pinv

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

TITLE = "Matrix products to a residual"
CLAIM = "The iteration of eq. (14) is an efficient way to a pseudoinverse."
SOURCE = "Xiong et al. 2021, eq. (14); composed Chebyshev polynomials"
EXCLUSIVE = False
ALT = (
    "Matrix products needed against the condition number, logarithmic, one line for each iteration: left to a "
    "residual of 1e-3, right to 1e-7. The interval-optimal schedules lie lowest, the paper's iteration highest."
)

STEPS = {
    "Newton–Schulz": pinv.NEWTON_SCHULZ,
    "Chebyshev": pinv.CHEBYSHEV,
    "paper, eq. (14)": pinv.RAZAVI,
    **{f"hyperpower {p}": pinv.hyperpower_step(p) for p in (4, 5, 7, 9)},
}
PAPER, PLANNED = "paper, eq. (14)", "interval-optimal, planned"
CONDITIONS = (10.0, 30.0, 100.0, 300.0, 1e3, 1e4)
TOLERANCES = (1e-3, 1e-7)
CLEARLY = 0.45


def products_needed(step: pinv.Step, condition: float, tol: float) -> int:
    """Products of an iteration until max |1 − y| ≤ tol over eigenvalues y that start in [1/κ², 1]."""
    start = np.concatenate([[condition**-2], np.geomspace(condition**-2, 1, 2000)])
    z, products = np.ones_like(start), 0
    while np.abs(1 - start * z).max() > tol:
        z = step.apply(z[:, None, None], (start * z)[:, None, None])[:, 0, 0]
        products += step.matmuls
    return products


def grid(profile: str) -> tuple[Case, ...]:
    """One case: all of it takes a moment, whatever the profile."""
    return (Case("pinv_products", {"conditions": list(CONDITIONS), "tolerances": list(TOLERANCES)}),)


def run(case: Case) -> list[Row]:
    """Products of every iteration, and of the plan, for each condition and tolerance."""
    rows = []
    for condition in case.params["conditions"]:
        for tol in case.params["tolerances"]:
            counts = {name: products_needed(step, condition, tol) for name, step in STEPS.items()}
            counts[PLANNED] = pinv.plan(condition=condition, tol=tol).products[-1]
            rows += [
                {"condition": condition, "tol": tol, "method": name, "products": count}
                for name, count in counts.items()
            ]
    return rows


def _wide(records: Iterable[Record]) -> pd.DataFrame:
    data = frame(records)
    wide = data.pivot_table(index=["tol", "condition"], columns="method", values="products")
    return wide[[*STEPS, PLANNED]].sort_index(ascending=[False, True])


def verdicts(records: Iterable[Record]) -> tuple[Verdict, ...]:
    """Is the paper's iteration beaten, and by how much?"""
    wide = _wide(records)
    ratio = wide[PLANNED] / wide[PAPER]
    statement = (
        f"No known scheme needs less than {CLEARLY:.0%} of the matrix products of the paper's iteration, for "
        f"κ from 10 to 10⁴ and residuals of 1e-3 and 1e-7"
    )
    outcome = (
        Outcome.REFUTED
        if (ratio <= CLEARLY).all()
        else Outcome.SUPPORTED
        if (ratio > CLEARLY).all()
        else Outcome.UNDECIDED
    )
    counts = "; ".join(
        f"κ = {condition:g} to {tol:g}: {row[PLANNED]:.0f} against {row[PAPER]:.0f}"
        for (tol, condition), row in wide.iterrows()
    )
    planned = Verdict(
        statement,
        outcome,
        f"Planned interval-optimal schedules take {ratio.min():.0%} to {ratio.max():.0%} of its products: {counts}.",
    )
    worse = wide[[name for name in STEPS if name != PAPER]].lt(wide[PAPER], axis=0)
    dominated = [name for name in worse.columns if worse[name].all()]
    classical = Verdict(
        "Among iterations that know nothing of the spectrum, the paper's needs the fewest products",
        Outcome.REFUTED if dominated else Outcome.UNDECIDED,
        f"Fewer products in every case: {', '.join(dominated) or 'none'}.",
    )
    return planned, classical


def table(records: Iterable[Record]) -> pd.DataFrame:
    """Products, and the ratio of the plan to the paper's iteration."""
    wide = _wide(records)
    wide["planned / paper"] = wide[PLANNED] / wide[PAPER]
    return wide.reset_index().rename(columns={"tol": "residual", "condition": "κ"})


def plot(records: Iterable[Record]) -> Figure:
    """Products against the condition number."""
    data = frame(records)
    figure, axes = figures.grid(1, 2, height=4.4)
    colors = figures.palette([*STEPS, PLANNED])
    for ax, tol in zip(axes[0], TOLERANCES, strict=True):
        for method, color in colors.items():
            part = data[(data["method"] == method) & (data["tol"] == tol)].sort_values("condition")
            ax.plot(
                part["condition"],
                part["products"],
                color=color,
                marker="o",
                markersize=4,
                label=method,
                linewidth=2.5 if method in (PAPER, PLANNED) else 1.2,
            )
        ax.set(xscale="log", ylim=(0, None), xlabel="condition number κ", ylabel="matrix products")
        ax.set_title(f"to a residual ‖AA⁺ − AZ‖₂ of {tol:g}")
    figures.legend_below(figure, axes[0][0], columns=4)
    return figure
