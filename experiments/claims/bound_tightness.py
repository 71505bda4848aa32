"""Every bound of a Nyström approximation against its true error, on real data and on spectra that are known."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.contract import Case, Outcome, Record, Row, Verdict, frame
from experiments.inputs import points
from experiments.report import figures
from experiments.report.evidence import majority
from nystrom_numerics import bounds, kernels, landmarks

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

TITLE = "Bounds against the truth"
CLAIM = "The error of a Nyström approximation is known to a useful factor without forming it."
SOURCE = "Theorems named in the table; Halko, Martinsson and Tropp 2011; Gittens and Mahoney 2016"
EXCLUSIVE = False
ALT = (
    "Error of Nyström approximation against the number of landmarks, a row of panels each for two of the rules, "
    "and a column for each norm, on one real data set: the true error in black, and above and below it one line for "
    "each bound of these very landmarks. Lanczos iteration and Gaussian probes run along the truth, the trace and the "
    "structural bound above it, the diagonal and Eckart and Young's bound below."
)

RULES: dict[str, Any] = {
    "uniform": landmarks.on_points(landmarks.uniform),
    "k-means": landmarks.on_points(landmarks.kmeans),
    "RPCholesky": landmarks.rpcholesky,
    "ridge leverage": landmarks.ridge_leverage,
    "farthest point": lambda kernel, m, rng: landmarks.farthest_point(kernel, m),
}
DRAWN = ("uniform", "RPCholesky")
"""Whose bounds the figure shows; the table has those of all."""

HEADS = (("keys", 0, 0), ("queries", 2, 4), ("keys", 5, 8))
DECAYS = {
    "exponential spectrum": lambda n: 0.8 ** np.arange(n),
    "polynomial spectrum": lambda n: (1.0 + np.arange(n)) ** -2.0,
}
NORMS = ("spectral norm", "Frobenius norm", "trace norm")
M = 64


def grid(profile: str) -> tuple[Case, ...]:
    """A case a data set or spectrum; ``quick`` takes every other."""
    quick = profile == "quick"
    common = {"n": 300 if quick else 1000, "ms": [16, M, 128] if quick else [8, 16, 32, M, 128, 256]}
    sets: list[dict[str, Any]] = [{"input": name, "kind": "real"} for name in points.LABELLED]
    sets += [
        {"input": f"MiniLM {kind} {layer}.{index}", "kind": "real", "head": [kind, layer, index]}
        for kind, layer, index in HEADS
    ]
    sets += [{"input": name, "kind": "known spectrum"} for name in DECAYS]
    return tuple(
        Case("bound_tightness", {**one, **common, "draws": 1 if quick else 5})
        for one in (sets[::2] if quick else sets)
    )


def run(case: Case) -> list[Row]:
    """An audit for each rule, number of landmarks and draw."""
    p = case.params
    kernel, rules = _kernel(p), dict(RULES)
    if p["kind"] != "real":
        rules = {name: rule for name, rule in rules.items() if name not in ("uniform", "k-means")}
        rules["uniform"] = lambda k, m, rng: landmarks.uniform(k.matrix, m, rng=rng)
    rows = []
    for rule, choose in rules.items():
        for m in (m for m in p["ms"] if m < kernel.shape[0]):
            for draw in range(p["draws"]):
                found = bounds.audit(kernel, choose(kernel, m, rng=draw), rng=draw)
                base = {"rule": rule, "m": m, "draw": draw}
                rows += [{**base, **_row(line)} for line in (*found.lines, *found.failed)]
    return rows


def _kernel(p: Any) -> Any:
    if p["kind"] != "real":
        u, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((p["n"], p["n"])))
        return kernels.precomputed((u * DECAYS[p["input"]](p["n"])) @ u.T)
    data = points.head(*p["head"]) if "head" in p else points.labelled(p["input"], p["n"])
    return kernels.gaussian(data.x[: p["n"]], gamma=data.gamma)


def _row(line: bounds.Line) -> Row:
    b = line.bound
    return {
        "bound": line.name,
        "norm": b.norm.value,
        "side": b.side.value,
        "of": line.of,
        "certainty": b.certainty,
        "value": b.value,
        "truth": line.truth,
        "tightness": None if b.value is None or not np.isfinite(line.tightness) else line.tightness,
        "vacuous": b.vacuous,
        "applies": b.value is not None,
    }


def _ratios(data: pd.DataFrame) -> pd.DataFrame:
    """Upper over lower of the best certificate, a line for each input, rule, draw and norm at m = 64."""
    mine = data[(data["of"] == "these") & (data["m"] == M) & (data["kind"] == "real") & data["applies"]]
    # a certificate costs products with the error at most; what needs the spectrum is none
    mine = mine[~mine["bound"].isin(["Eckart–Young", "Gittens–Mahoney, structural"])]
    keys = ["input", "rule", "draw", "norm"]
    high = mine[mine["side"] == "at most"].groupby(keys)["value"].min()
    low = mine[mine["side"] == "at least"].groupby(keys)["value"].max()
    return (high / low).rename("ratio").reset_index()


def verdicts(records: Iterable[Record]) -> tuple[Verdict, ...]:
    """Validity, the two factors asked for, and what bounds before the fact are worth."""
    data = frame(records)
    mine = data[data["applies"] & (data["of"] == "these")]
    sure, likely = (mine[mine["certainty"] == "with certainty"], mine[mine["certainty"] != "with certainty"])
    # an eigenvalue of the matrix errs by some 1e-14 of its size, which decides where the error is no larger
    slack = 1e-12 * data["n"].max()
    broken, missed = (
        int((part["tightness"] < 1 - 1e-7).where(part["truth"] > slack, False).sum())
        for part in (sure, likely)
    )
    outcome = Outcome.REFUTED if broken else Outcome.SUPPORTED
    valid = Verdict(
        "No deterministic bound is violated",
        outcome if len(sure) else Outcome.UNDECIDED,
        f"{broken} of {len(sure)} evaluations fall on the wrong side; of {len(likely)} with a probability of at least "
        f"0.99 a side {missed} do.",
    )
    ratios = _ratios(data)
    factors = []
    for norm, limit in (("spectral norm", 3.0), ("trace norm", 1.2)):
        part = ratios[ratios["norm"] == norm]["ratio"]
        statement = f"On real kernels at m = {M} upper over lower bound is at most {limit:g} in the {norm}"
        if part.empty:
            factors.append(Verdict(statement, Outcome.UNDECIDED, "No record at this m."))
            continue
        outcome = Outcome.SUPPORTED if part.max() <= limit else Outcome.REFUTED
        because = f"Median {part.median():.3g}, largest {part.max():.3g} of {len(part)} certificates."
        factors.append(Verdict(statement, outcome, because))
    before = data[
        (data["of"] == "uniform without replacement") & (data["kind"] == "real") & (data["rule"] == "uniform")
    ]
    useful = majority(
        "Bounds before the fact for uniform landmarks say something: most are below the trivial bound",
        (before["applies"] & ~before["vacuous"]).tolist(),
        "evaluations on real kernels",
        f"Hypotheses hold in {before['applies'].mean():.0%}." if len(before) else "",
    )
    return valid, *factors, useful


def table(records: Iterable[Record]) -> pd.DataFrame:
    """Bound over truth by kind of input, best first: median, 10 and 90 %, vacuous share, share that applies."""
    data = frame(records)
    keys = ["kind", "bound", "norm", "side"]
    grouped = data.groupby(keys)
    quantile = partial(grouped["tightness"].quantile)
    found = grouped["tightness"].median().rename("median").to_frame()
    found["10 %"], found["90 %"] = quantile(0.1), quantile(0.9)
    found["vacuous"] = grouped["vacuous"].mean().map("{:.0%}".format)
    found["applies"] = grouped["applies"].mean().map("{:.0%}".format)
    found = found.sort_values("median").reset_index()
    for name in ("median", "10 %", "90 %"):
        found[name] = found[name].map(lambda x: "—" if np.isnan(x) else f"{x:.3g}")
    return found.rename(columns={"median": "bound / truth"})


def plot(records: Iterable[Record]) -> Figure:
    """Bounds of these landmarks against the truth over m, on the first real input, for two rules."""
    data = frame(records)
    data = data[(data["input"] == data["input"].iloc[0]) & (data["of"] == "these") & data["applies"]]
    rules, names = [rule for rule in DRAWN if rule in set(data["rule"])], sorted(data["bound"].unique())
    figure, axes = figures.grid(len(rules), 3, width=12.0, height=2.6)
    colors = figures.palette(names)
    for row, rule in zip(axes, rules, strict=True):
        for ax, norm in zip(row, NORMS, strict=True):
            part = data[(data["rule"] == rule) & (data["norm"] == norm)]
            for (name, _), line in part.groupby(["bound", "side"]):
                figures.band(ax, line, "m", "value", label=name, color=colors[name])
            figures.band(ax, part, "m", "truth", label="the error itself", color="black", shade=False)
            ax.set(xscale="log", yscale="log", title=rule, xlabel="landmarks m", ylabel=norm)
            ms = sorted(part["m"].unique())
            ax.set_xticks(ms, [str(m) for m in ms])
            ax.minorticks_off()
    handles: dict[str, Any] = {}
    for ax in axes[0]:
        handles |= dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, frameon=False)
    return figure
