"""How fast the iterative pseudoinverses converge, on real cores and on prescribed condition numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.contract import Case, Outcome, Record, Row, Verdict, frame
from experiments.engine.timing import fit_slope
from experiments.inputs import bert, synthetic
from experiments.report import figures
from experiments.report.evidence import bounded, majority
from nystrom_numerics import attention, linalg, pinv

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

TITLE = "Convergence of the pseudoinverse"
CLAIM = (
    "The iteration of eq. (14) converges to the pseudoinverse in the third order, in about six iterations."
)
SOURCE = "Xiong et al. 2021, eq. (14) and Lemma 1; Razavi et al. 2014"
EXCLUSIVE = False
ALT = (
    "Relative backward residual, relative error of the pseudoinverse and relative error of the attention matrix "
    "against matrix products, on a logarithmic scale, for the cores of MiniLM heads (medians with quartile "
    "bands; a cross is where a planned schedule ends for a head), and the residual for prescribed condition "
    "numbers; one line for each method, and a dashed vertical line at the paper's six iterations."
)

STEPS = {
    "Newton–Schulz": pinv.NEWTON_SCHULZ,
    "Chebyshev": pinv.CHEBYSHEV,
    "paper, eq. (14)": pinv.RAZAVI,
    "hyperpower 5": pinv.hyperpower_step(5),
    "hyperpower 9": pinv.hyperpower_step(9),
}
PAPER, PAPER_STEPS, PLANNED = "paper, eq. (14)", 6, "interval-optimal, planned"
MOST_PRODUCTS = 100
PLANNED_TOL, WORST_PLANNED = 1e-6, 1e6
M = 64
CONVERGED = 0.01  # "converged": a relative backward residual of at most 1 %


def grid(profile: str) -> tuple[Case, ...]:
    """A case a layer of MiniLM and one a condition number; ``quick`` takes 3 heads of 12."""
    heads = [0, 4, 8] if profile == "quick" else list(range(12))
    real = [{"input": "MiniLM", "layer": layer, "heads": heads} for layer in range(6)]
    prescribed = [{"input": "prescribed", "condition": c} for c in (1e1, 1e2, 1e3, 1e4)]
    return tuple(Case("pinv_convergence", params) for params in [*real, *prescribed])


def run(case: Case) -> list[Row]:
    """Every iterate of every method on the cores of the case."""
    p = case.params
    if p["input"] == "prescribed":
        return list(
            _trace(synthetic.prescribed_core(M, p["condition"], seed=case.seed).matrix, 0, lambda z: np.nan)
        )
    captured = bert.captured_heads(layers=[p["layer"]])
    rows: list[Row] = []
    for head in p["heads"]:
        q, k = (x[0, head].astype(float) for x in (captured.q, captured.k))
        operator = attention.nystrom_operator(q, k, M, scale=captured.scale)
        exact = partial(attention.exact, scale=captured.scale)
        s = exact(q, k, np.eye(len(k)))
        f = exact(q, operator.key_landmarks, np.eye(M))
        b = exact(operator.query_landmarks, k, np.eye(len(k)))
        rows += _trace(operator.core, head, partial(_attention_error, s, f, b))
    return rows


def _attention_error(s: Any, f: Any, b: Any, z: Any) -> float:
    return float(np.linalg.norm(f @ z @ b - s) / np.linalg.norm(s))


def _trace(a: Any, head: int, attention_error: Callable[[Any], float]) -> Iterable[Row]:
    """Residual, error, order residual ‖AA⁺ − AZ‖₂ (Lemma 1) and attention error after each step."""
    exact = pinv.svd(a).value
    projector, size = a @ exact, np.linalg.norm(exact)
    condition = float(np.linalg.cond(a))
    least = max(float(np.linalg.norm(exact, 2) ** -1 / pinv.one_sup_bound(a)), 1 / WORST_PLANNED)
    planned = pinv.plan(sigma_min=least, tol=PLANNED_TOL).steps
    sequences = {name: [step] * (MOST_PRODUCTS // step.matmuls) for name, step in STEPS.items()}
    for method, steps in {**sequences, PLANNED: list(planned)}.items():
        products = np.cumsum([0, *(step.matmuls for step in steps)])
        for taken, z in enumerate(pinv.iterates(a, steps)):
            yield {
                "head": head,
                "condition_found": condition,
                "method": method,
                "step": taken,
                "products": int(products[taken]),
                "residual": float(linalg.backward_residual(a, z)),
                "error": float(np.linalg.norm(z - exact) / size),
                "lemma": float(np.linalg.norm(projector - a @ z, 2)),
                "attention": attention_error(z),
            }


def _order_pairs(data: pd.DataFrame) -> Any:
    """Pairs (e_j, e_{j+1}) of ‖AA⁺ − AZ_j‖₂ in the asymptotic range, clear of each core's rounding floor."""
    pairs = []
    for _, trace in data.groupby(["input", "layer", "condition", "head"], dropna=False):
        e = trace.sort_values("step")["lemma"].to_numpy()
        pairs += [(x, y) for x, y in pairwise(e) if x < 0.3 and x**3 > 1000 * e.min()]
    return np.array(pairs)


def _frame(records: Iterable[Record]) -> pd.DataFrame:
    data = frame(records)
    for column in ("layer", "condition"):
        if column not in data:
            data[column] = np.nan
    return data


def verdicts(records: Iterable[Record]) -> tuple[Verdict, ...]:
    """Order, six iterations, and whether Newton–Schulz loses, on all cores and on real ones."""
    data = _frame(records)
    paper = data[data["method"] == PAPER]
    return _order(paper), _six(paper), _cheaper(data)


def _order(paper: pd.DataFrame) -> Verdict:
    statement = "Z_j → A⁺ in the third order: ‖AA⁺ − AZ_{j+1}‖₂ ≤ ‖AA⁺ − AZ_j‖₂³ at the end"
    pairs = _order_pairs(paper)
    if len(pairs) == 0 or len(np.unique(pairs[:, 0])) < 3:
        return Verdict(
            statement, Outcome.UNDECIDED, "Fewer than three different steps in the asymptotic range."
        )
    slope, worst = fit_slope(*pairs.T), float((pairs[:, 1] / pairs[:, 0] ** 3).max())
    return bounded(
        statement,
        worst,
        worst,
        1.0,
        f"Order {slope.value:.3f} (95 % interval {slope.low:.3f} to {slope.high:.3f}) over {len(pairs)} "
        f"steps with residual below 0.3; the largest ratio of a residual to the cube of the one before is "
        f"{worst:.3f}, where theory says 3/4 in the limit.",
    )


def _six(paper: pd.DataFrame) -> Verdict:
    statement = (
        f"About six iterations suffice: after {PAPER_STEPS} the relative backward residual of most cores is "
        f"at most {CONVERGED:.0%}"
    )
    real = paper[paper["input"] == "MiniLM"]
    six = real[real["step"] == PAPER_STEPS]
    needed = real[real["residual"] <= CONVERGED].groupby(["layer", "head"])["step"].min()
    detail = ""
    if len(six):
        detail = (
            f"Median residual {six['residual'].median():.3f}, median relative error of Z "
            f"{six['error'].median():.2f}; median κ₂ {six['condition_found'].median():.1e}. "
            f"{len(needed)} of {len(six)} cores get there within {MOST_PRODUCTS // 4} iterations"
            + (f", after a median of {needed.median():.0f}." if len(needed) else ".")
        )
    return majority(statement, six["residual"] <= CONVERGED, f"cores of MiniLM heads at m = {M}", detail)


def _cheaper(data: pd.DataFrame) -> Verdict:
    statement = (
        "A higher order pays: to a relative backward residual of 1e-6 the paper's iteration needs fewer "
        "matrix products than Newton–Schulz"
    )
    prescribed = data[(data["input"] == "prescribed") & (data["residual"] <= 1e-6)]
    needed = prescribed.groupby(["condition", "method"])["products"].min().unstack()
    if needed.empty or not {PAPER, "Newton–Schulz"} <= set(needed.columns):
        return Verdict(statement, Outcome.UNDECIDED, "No core reached the residual.")
    wins = needed[PAPER] < needed["Newton–Schulz"]
    counts = "; ".join(
        f"κ = {c:.0e}: {row[PAPER]:.0f} against {row['Newton–Schulz']:.0f}" for c, row in needed.iterrows()
    )
    outcome = Outcome.SUPPORTED if wins.all() else Outcome.REFUTED
    return Verdict(statement, outcome, f"Products of the paper's against Newton–Schulz: {counts}.")


def table(records: Iterable[Record]) -> pd.DataFrame:
    """Matrix products to each residual; real cores by their median, those that never get there left out."""
    data = _frame(records)
    data["core"] = np.where(
        data["input"] == "MiniLM", "MiniLM", "κ = " + data["condition"].map("{:.0e}".format)
    )
    unit = ["core", "method", "layer", "head"]
    columns = {}
    for target in (1e-1, 1e-2, 1e-6, 1e-10):
        first = data[data["residual"] <= target].groupby(unit, dropna=False)["products"].min()
        columns[f"products to {target:.0e}"] = first.groupby(["core", "method"]).median()
    frame_of = data.groupby(["core", "method"])
    columns["cores"] = frame_of.apply(
        lambda g: len(g[["layer", "head"]].drop_duplicates()), include_groups=False
    )
    import pandas as pd

    return pd.DataFrame(columns).reset_index()


def plot(records: Iterable[Record]) -> Figure:
    """Residual and error against products."""
    data = _frame(records)
    figure, axes = figures.grid(2, 2, height=3.6)
    colors = figures.palette([*STEPS, PLANNED])
    real = data[data["input"] == "MiniLM"]
    measures = {
        "residual": "‖AZA − A‖ / ‖A‖, Frobenius",
        "error": "‖Z − A⁺‖ / ‖A⁺‖, Frobenius",
        "attention": "‖Ŝ − S‖ / ‖S‖, Frobenius",
    }
    for ax, (column, label) in zip(axes.flat, measures.items(), strict=False):
        for method in STEPS:
            part = real[real["method"] == method]
            figures.band(
                ax, part, "products", column, label=method, color=colors[method], shade=method == PAPER
            )
        last = real[real["method"] == PLANNED].sort_values("step").groupby(["layer", "head"]).last()
        ax.scatter(
            last["products"], last[column], color=colors[PLANNED], marker="x", label=f"{PLANNED}, each head"
        )
        ax.set(yscale="log", title=f"cores of MiniLM heads, m = {M}", xlabel="matrix products", ylabel=label)
    conditions = sorted(data["condition"].dropna().unique())
    for condition, width in zip(conditions, np.linspace(0.7, 2.4, len(conditions)), strict=True):
        for method, color in colors.items():
            trace = data[(data["condition"] == condition) & (data["method"] == method)]
            axes[1][1].plot(trace["products"], trace["residual"], color=color, linewidth=width)
    axes[1][1].set(yscale="log", title="κ = 10, 10², 10³, 10⁴ (thicker)", xlabel="matrix products")
    axes[1][1].set_ylabel("‖AZA − A‖ / ‖A‖, Frobenius")
    for ax in axes.flat:
        ax.axvline(4 * PAPER_STEPS, color="grey", linestyle="--", linewidth=1, label="six paper iterations")
    for ax in (axes[0][0], axes[1][1]):
        ax.set_ylim(1e-16, 3)
    figures.legend_below(figure, axes[0][0], columns=4)
    return figure
