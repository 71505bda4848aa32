"""The pseudoinverse as a spectral filter: what each does to a singular value, and which filter attention wants."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.contract import Case, Outcome, Record, Row, Verdict, frame
from experiments.inputs import bert
from experiments.report import figures
from experiments.report.evidence import majority
from nystrom_numerics import attention, pinv

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

TITLE = "The filter that attention wants"
CLAIM = "A pseudoinverse nearer to A⁺ gives an attention matrix nearer to S."
SOURCE = "Xiong et al. 2021, §3.2: six iterations as an approximation of A⁺"
EXCLUSIVE = False
ALT = (
    "Left: the response of each filter to a singular value, from 0 (dropped) to 1 (inverted). Middle: the relative "
    "error of the attention matrix of MiniLM heads against the cutoff, medians with quartile bands for truncation, "
    "Tikhonov and interval-optimal schedules. Right: the same error against the number of the paper's iterations."
)

M = 64
CUTOFFS = [float(c) for c in np.geomspace(1e-4, 0.5, 16)]
ITERATIONS = list(range(1, 21))
SIX = "paper, iterations"
FAMILIES: dict[str, Callable[[float], Callable[[Any], pinv.PinvResult]]] = {
    "truncation": lambda cutoff: partial(pinv.truncated, cutoff=cutoff),
    "Tikhonov": lambda cutoff: partial(_relative_tikhonov, cutoff=cutoff),
    "interval-optimal": lambda cutoff: partial(pinv.interval_optimal, sigma_min=cutoff, tol=1e-2),
}


def _relative_tikhonov(a: Any, *, cutoff: float) -> pinv.PinvResult:
    """Tikhonov with half inversion at ``cutoff`` times the Collatz–Wielandt bound, of one matrix."""
    return pinv.tikhonov(a, ridge=float(cutoff * pinv.perron_bound(a)) ** 2)


def grid(profile: str) -> tuple[Case, ...]:
    """A case a layer; ``quick`` takes 3 heads of 12."""
    heads = [0, 4, 8] if profile == "quick" else list(range(12))
    return tuple(Case("pinv_filters", {"layer": layer, "heads": heads}) for layer in range(6))


def run(case: Case) -> list[Row]:
    """Relative Frobenius error of Ŝ for every family and cutoff, and every number of iterations."""
    captured = bert.captured_heads(layers=[case.params["layer"]])
    q, k = (x[0].astype(float) for x in (captured.q, captured.k))
    eye = np.eye(k.shape[-2])
    rows = []
    for head in case.params["heads"]:
        build = partial(attention.nystrom_operator, q[head], k[head], M, scale=captured.scale)
        s = attention.exact(q[head], k[head], eye, scale=captured.scale)
        bound = float(pinv.perron_bound(build().core))

        def error(method: Any, build: Any = build, s: Any = s) -> float:
            return float(np.linalg.norm(build(pinv=method).apply(eye) - s) / np.linalg.norm(s))

        about = {"head": head, "norm_bound": bound}
        for family, make in FAMILIES.items():
            rows += [{**about, "family": family, "setting": c, "error": error(make(c))} for c in CUTOFFS]
        rows += [
            {**about, "family": SIX, "setting": float(i), "error": error(partial(pinv.razavi, iterations=i))}
            for i in ITERATIONS
        ]
        rows.append({**about, "family": "SVD", "setting": 0.0, "error": error(pinv.svd)})
    return rows


def _best(data: pd.DataFrame, family: str) -> pd.DataFrame:
    """The setting with the smallest error, per head."""
    part = data[data["family"] == family]
    return (
        part.loc[part.groupby(["layer", "head"])["error"].idxmin()].set_index(["layer", "head"]).sort_index()
    )


def verdicts(records: Iterable[Record]) -> tuple[Verdict, ...]:
    """More iterations, six of them, and one cutoff for all."""
    data = frame(records)
    paper = data[data["family"] == SIX].pivot_table(
        index=["layer", "head"], columns="setting", values="error"
    )
    svd = data[data["family"] == "SVD"].set_index(["layer", "head"])["error"].sort_index()
    best_count = _best(data, SIX)
    more = majority(
        "More iterations approximate attention better: on most heads 20 have a smaller error of Ŝ than 6",
        (paper[20.0] < paper[6.0]).to_numpy(),
        "heads of MiniLM",
        f"Median relative error {paper[6.0].median():.2f} with 6, {paper[12.0].median():.2f} with 12, "
        f"{paper[20.0].median():.2f} with 20 and {svd.median():.2f} with the SVD; the best number for a head is "
        f"{int(best_count['setting'].min())} to {int(best_count['setting'].max())}, median "
        f"{best_count['setting'].median():.0f}.",
    )
    truncation = _best(data, "truncation")
    loss = paper[6.0] / truncation["error"]
    near = majority(
        "Six iterations are nearly the best filter: on most heads their error of Ŝ is within 10 % of that of the "
        "best cutoff for the head",
        (loss <= 1.1).to_numpy(),
        "heads of MiniLM",
        f"Ratio: median {loss.median():.3f}, largest {loss.max():.2f}. Best relative cutoff for truncation: median "
        f"{truncation['setting'].median():.3f}, from {truncation['setting'].min():.4f} to "
        f"{truncation['setting'].max():.3f}.",
    )
    return more, near, _one_cutoff(data)


def _one_cutoff(data: pd.DataFrame) -> Verdict:
    statement = (
        "One cutoff serves all heads: with the best common one, truncation is within 10 % of each head's own best "
        "on most heads"
    )
    part = data[data["family"] == "truncation"]
    errors = part.pivot_table(index=["layer", "head"], columns="setting", values="error")
    own = errors.min(axis=1)
    common = errors.div(own, axis=0).median().idxmin()
    if errors.empty:
        return Verdict(statement, Outcome.UNDECIDED, "No heads.")
    ratio = errors[common] / own
    detail = f"Common cutoff {common:.3f}; ratio: median {ratio.median():.2f}, largest {ratio.max():.2f}."
    return majority(statement, (ratio <= 1.1).to_numpy(), "heads of MiniLM", detail)


def table(records: Iterable[Record]) -> pd.DataFrame:
    """Best settings and their errors, medians over heads by layer."""
    data = frame(records)
    columns = {}
    for family in (*FAMILIES, SIX):
        best = _best(data, family).groupby("layer")
        columns[f"{family}: best setting"] = best["setting"].median()
        columns[f"{family}: error"] = best["error"].median()
    six = data[(data["family"] == SIX) & (data["setting"] == 6)]
    columns["six iterations: error"] = six.groupby("layer")["error"].median()
    columns["SVD: error"] = data[data["family"] == "SVD"].groupby("layer")["error"].median()
    import pandas as pd

    return pd.DataFrame(columns).reset_index()


def plot(records: Iterable[Record]) -> Figure:
    """Responses, error against cutoff, error against iterations."""
    data = frame(records)
    figure, axes = figures.grid(1, 3, width=12.5, height=5.2)
    left, middle, right = axes[0]
    colors = figures.palette([*FAMILIES, SIX])
    sigma = np.geomspace(1e-4, 1, 200)
    cutoff = 0.045
    for family, make in FAMILIES.items():
        method = partial(pinv.tikhonov, ridge=cutoff**2) if family == "Tikhonov" else make(cutoff)
        left.plot(
            sigma,
            pinv.filter_response(method, sigma),
            color=colors[family],
            label=f"{family}, cutoff {cutoff}",
        )
    for count, style in ((6, "-"), (12, "--"), (20, ":")):
        response = pinv.filter_response(partial(pinv.razavi, iterations=count), sigma)
        left.plot(sigma, response, style, color=colors[SIX], label=f"paper, {count} iterations")
    left.set(xscale="log", xlabel="σ / β", ylabel="response φ(σ) = σ f(σ)", title="filters")
    for family in FAMILIES:
        part = data[data["family"] == family]
        figures.band(middle, part, "setting", "error", label=family, color=colors[family])
    middle.set(xscale="log", yscale="log", xlabel="relative cutoff", title=f"MiniLM heads, m = {M}")
    middle.set_ylabel("‖Ŝ−S‖ / ‖S‖, Frobenius")
    figures.band(right, data[data["family"] == SIX], "setting", "error", label="paper", color=colors[SIX])
    svd = float(data[data["family"] == "SVD"]["error"].median())
    right.axhline(svd, color="black", linestyle=":", label="SVD, median")
    right.axvline(6, color="grey", linestyle="--", linewidth=1, label="six")
    right.set(
        yscale="log",
        xlabel="iterations of eq. (14)",
        ylabel="‖Ŝ−S‖ / ‖S‖, Frobenius",
        title=f"MiniLM heads, m = {M}",
    )
    for ax in (left, middle, right):
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), frameon=False, fontsize="small")
    return figure
