"""Which landmarks leave the least of a kernel matrix, at equal numbers, kernel entries and seconds."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse.linalg import eigsh

from experiments.contract import Case, Outcome, Record, Row, Verdict, frame
from experiments.inputs import points
from experiments.report import figures
from experiments.report.evidence import majority
from experiments.report.ranking import against_uniform, interval, medians
from nystrom_numerics import kernels, landmarks, lowrank

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

TITLE = "Landmarks against uniform sampling"
CLAIM = "Landmarks chosen with a look at the kernel approximate it better than uniform ones."
SOURCE = (
    "Williams and Seeger 2001 (uniform); Kumar, Mohri and Talwalkar 2012; Gittens and Mahoney 2016; Chen, Epperly, "
    "Tropp and Webber 2024; and a question put to scikit-learn in 2015"
)
EXCLUSIVE = True
ALT = (
    "Nyström error of Gaussian kernels on real data over that of the best matrix of the same rank: trace, Frobenius "
    "and spectral error against the number of landmarks, and the trace error against kernel entries and seconds. One "
    "line for each of seven rules, medians over data sets and draws; bands are quartiles."
)

LEFT_OUT = ("rpcholesky", "farthest")  # the law of another, and for a Gaussian kernel the points of another
RULES: dict[str, Any] = {rule.title: rule for name, rule in landmarks.RULES.items() if name not in LEFT_OUT}
FIXED = {rule.title for rule in RULES.values() if not rule.random} | {"DEIM", "QDEIM", "maxvol"}
"""One draw says all: there is no chance in them, or next to none, that of the basis."""
SHOWN = ("uniform", "k-means", "kernel k-means++", "ridge leverage", "k-DPP", "RPCholesky", "greedy Cholesky")
EXACT = ("leverage", "k-DPP")  # these take the whole spectrum
HEADS = (("keys", 0, 0), ("queries", 2, 4), ("keys", 5, 8))
RIDGE = 1e-4  # times the number of points
BETTER = 0.95  # worth a choice: at least 5 % less of the trace
_STATEMENT = f"some rule leaves at least {1 - BETTER:.0%} less of the trace than as many uniform landmarks"


def grid(profile: str) -> tuple[Case, ...]:
    """A case a data set and rule; ``quick`` takes every other set."""
    quick = profile == "quick"
    common = {"n": 400 if quick else 1000, "ms": [16, 48, 120] if quick else [16, 32, 64, 128, 256, 400]}
    usual, few = (4, 2) if quick else (10, 4)
    draws = {rule: 1 if rule in FIXED else few if rule in EXACT else usual for rule in RULES}
    sets = [{"data": name} for name in points.LABELLED]
    sets += [
        {"data": f"MiniLM {kind} {layer}.{index}", "head": [kind, layer, index]}
        for kind, layer, index in HEADS
    ]
    return tuple(
        Case(
            "landmark_ranking",
            {**data, **common, "rule": rule, "draws": draws[rule]},
        )
        for data in (sets[::2] if quick else sets)
        for rule in RULES
    )


@dataclass(frozen=True)
class _Problem:
    """A kernel matrix with its spectrum, and what there is to learn on it."""

    x: Any
    labels: Any
    gamma: float
    a: Any
    sigma: Any
    test: tuple[Any, Any] | None


@lru_cache(maxsize=2)
def _problem(data: str, head: tuple[Any, ...] | None, n: int) -> _Problem:
    """Made once for the rules of a data set, which run one after the other."""
    if head is not None:
        found = points.head(*head)
        half, test = n, None
    else:
        found = points.labelled(data, 2 * n)
        half = min(n, len(found.x) // 2)
        test = (found.x[half:], found.labels[half:])  # type: ignore[index]
    x = found.x[:half]
    a = kernels.gaussian(x, gamma=found.gamma).block(slice(None), slice(None))
    sigma = np.clip(np.linalg.eigvalsh(a)[::-1], 0, None)
    labels = None if found.labels is None else found.labels[:half]
    return _Problem(x, labels, found.gamma, a, sigma, test)


def run(case: Case) -> list[Row]:
    """All numbers of landmarks and draws of one rule on one data set."""
    p = case.params
    given = _problem(p["data"], tuple(p["head"]) if "head" in p else None, p["n"])
    n, sigma, rule = len(given.x), given.sigma, RULES[p["rule"]]
    rule(
        kernels.gaussian(given.x, gamma=given.gamma), p["ms"][0], rng=0
    )  # what loads on first use is not timed
    rows = []
    for m in (m for m in p["ms"] if m < n):
        tails = (sigma[m:].sum(), np.linalg.norm(sigma[m:]), sigma[m])
        for draw in range(p["draws"]):
            kernel = kernels.gaussian(given.x, gamma=given.gamma)
            start = time.perf_counter()
            factor = lowrank.nystrom_factor(kernel, rule(kernel, m, rng=draw))
            seconds = time.perf_counter() - start
            row = {"m": m, "draw": draw, "entries": kernel.entries / n, "seconds": seconds}
            row |= _errors(given.a, factor.factor, sigma, tails)
            if given.test is not None:
                row |= _learning(kernel, factor, given.a, given.labels, *given.test)
            rows.append(row)
    return rows


def _errors(a: Any, f: Any, sigma: Any, tails: Any) -> Row:
    """Relative errors in three norms, and what the best approximation of the rank has."""
    residual = a - f @ f.T
    largest = eigsh(residual, k=1, which="LM", tol=1e-3, v0=np.ones(len(a)), return_eigenvectors=False)[0]
    found = (np.trace(residual), np.linalg.norm(residual), abs(largest))
    size = (sigma.sum(), np.linalg.norm(sigma), sigma[0])
    names = ("trace", "Frobenius", "spectral")
    return {
        **{name: float(max(e, 0) / s) for name, e, s in zip(names, found, size, strict=True)},
        **{f"best {name}": float(e / s) for name, e, s in zip(names, tails, size, strict=True)},
    }


def _learning(kernel: Any, factor: Any, a: Any, labels: Any, x: Any, truth: Any) -> Row:
    """Kernel ridge regression on the features, by test accuracy; iterations of CG on the full system."""
    ridge = RIDGE * len(a)
    classes = np.unique(labels)
    targets = np.where(labels[:, None] == classes, 1.0, -1.0)
    scores = factor.features(kernel, x) @ factor.coefficients(targets, ridge)
    solved = lowrank.conjugate_gradients(
        lambda v: a @ v + ridge * v, targets[:, :1], precondition=factor.preconditioner(ridge).apply
    )
    accuracy = float((classes[scores.argmax(axis=1)] == truth).mean())
    return {"accuracy": accuracy, "iterations": int(solved.iterations[0])}


def verdicts(records: Iterable[Record]) -> tuple[Verdict, ...]:
    """Does any choice beat uniform sampling?  Data set by data set; then what learning has of it."""
    data = frame(records)
    if data.empty or "uniform" not in set(data["rule"]):
        return (Verdict(CLAIM, Outcome.UNDECIDED, "No record of uniform sampling."),)
    rivals = [rule for rule in RULES if rule != "uniform"]
    lines = against_uniform(data, level=1 - 0.05 / len(rivals))
    cost = medians(data)
    found = []
    for name, part in lines[lines["rule"] != "uniform"].groupby("data"):
        best = part.loc[part["ratio"].idxmin()]
        sure = part[part["high"] < 1]
        outcome = Outcome.SUPPORTED if best["ratio"] <= BETTER and best["high"] < 1 else Outcome.UNDECIDED
        outcome = Outcome.REFUTED if (part["low"] > BETTER).all() else outcome
        entries = cost.loc[name].groupby("rule")["entries"].mean()
        seconds = cost.loc[name].groupby("rule")["seconds"].mean()
        price = (f"{x[best['rule']] / x['uniform']:.1f}" for x in (entries, seconds))
        cheap = part[part["rule"].map(entries) <= 1.6 * entries["uniform"]]
        thrifty = cheap.loc[cheap["ratio"].idxmin()]
        found.append(
            Verdict(
                f"{name}: {_STATEMENT}",
                outcome,
                f"Best is {_said(best)}, for {' times the kernel entries and '.join(price)} times the seconds; "
                f"best at up to 1.6 times the entries is {_said(thrifty)}. {len(sure)} of {len(part)} rules are "
                f"surely below uniform, {(part['low'] > 1).sum()} surely above (95 % for all rules together).",
            )
        )
    return (*found, *_learned(cost))


def _said(line: Any) -> str:
    return (
        f"{line['rule']} with {line['ratio']:.2f} of uniform's error [{line['low']:.2f}, {line['high']:.2f}]"
    )


def _learned(cost: pd.DataFrame) -> tuple[Verdict, ...]:
    """Random pivoting against uniform sampling in kernel ridge regression."""
    wide = cost.unstack("rule")
    if not {"RPCholesky", "uniform"} <= set(wide["accuracy"]):
        return ()
    known = wide["accuracy"][["RPCholesky", "uniform"]].dropna()
    gain = known["RPCholesky"] - known["uniform"]
    spread = wide["accuracy"].loc[known.index].max(axis=1) - known["uniform"]
    accuracy = majority(
        "Kernel ridge regression on the features classifies better with RPCholesky than with uniform landmarks",
        gain[gain != 0] > 0,
        "data sets and m where they differ",
        f"Mean gain {100 * gain.mean():+.1f} points of accuracy; the best rule of all in hindsight "
        f"{100 * spread.mean():+.1f}. " + _by_data(gain, "{:+.1%}"),
    )
    steps = wide["iterations"][["RPCholesky", "uniform"]].dropna()
    saved = steps["RPCholesky"] / steps["uniform"]
    iterations = majority(
        "The Nyström preconditioner needs fewer iterations of conjugate gradients with RPCholesky landmarks",
        saved[saved != 1] < 1,
        "data sets and m where they differ",
        f"Iterations over those with uniform ones: geometric mean {np.exp(np.log(saved).mean()):.2f}. "
        + _by_data(saved, "{:.2f}"),
    )
    return accuracy, iterations


def _by_data(values: Any, form: str) -> str:
    means = values.groupby(level="data").mean()
    return "By data set: " + ", ".join(f"{name} {form.format(x)}" for name, x in means.items()) + "."


def table(records: Iterable[Record]) -> pd.DataFrame:
    """The ranking: errors over uniform's and ranks, with 95 % intervals over data sets, and prices."""
    import pandas as pd

    data = frame(records)
    cost = medians(data)
    ratios = against_uniform(data, 0.95).pivot(index="data", columns="rule", values="ratio")
    ranks = cost["trace"].unstack("rule").rank(axis=1).groupby(level="data").mean()
    relative = cost.div(cost.xs("uniform", level="rule"))
    lines = []
    for rule in ratios:
        ratio, low, high = (np.exp(x) for x in interval(np.log(ratios[rule].dropna())))
        rank, first, last = interval(ranks[rule].dropna())
        of = relative.xs(rule, level="rule")
        gain = cost["accuracy"].xs(rule, level="rule") - cost["accuracy"].xs("uniform", level="rule")
        lines.append(
            {
                "rule": rule,
                "trace error / uniform's": f"{ratio:.2f} [{low:.2f}, {high:.2f}]",
                "mean rank": f"{rank:.1f} [{first:.1f}, {last:.1f}]",
                "entries / uniform's": f"{of['entries'].mean():.2f}",
                "seconds / uniform's": f"{np.exp(np.log(of['seconds']).mean()):.1f}",
                "accuracy − uniform's": f"{100 * gain.mean():+.1f} points",
                "CG iterations / uniform's": f"{np.exp(np.log(of['iterations']).mean()):.2f}",
                "order": ratio,
            }
        )
    return pd.DataFrame(lines).sort_values("order").drop(columns="order").reset_index(drop=True)


def plot(records: Iterable[Record]) -> Figure:
    """Errors over those of the best matrix of the same rank; medians and quartiles over data sets and draws."""
    from matplotlib import ticker

    data = frame(records)
    errors = ("trace", "Frobenius", "spectral")
    over = data.assign(**{error: data[error] / data[f"best {error}"] for error in errors})
    panels = [*((x, "m") for x in errors), ("trace", "entries"), ("trace", "seconds")]
    labels = {"m": "landmarks m", "entries": "kernel entries / n", "seconds": "seconds"}
    figure, axes = figures.grid(2, 3, height=3.6)
    colors = figures.palette(SHOWN)
    for ax, (error, x) in zip(axes.flat, panels, strict=False):
        for rule in SHOWN:
            chosen = over[over["rule"] == rule]
            at = chosen["m"] if x == "m" else chosen["m"].map(chosen.groupby("m")[x].median())
            figures.band(ax, chosen.assign(at=at), "at", error, label=rule, color=colors[rule])
        ax.set(xscale="log", yscale="log", xlabel=labels[x], ylabel=f"{error} error over the best")
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_locator(ticker.LogLocator(subs=(1.0, 3.0), numticks=6))
            axis.set_major_formatter("{x:g}")
        ax.minorticks_off()
    axes[1][2].axis("off")
    axes[1][2].legend(*axes[0][0].get_legend_handles_labels(), loc="center", frameon=False)
    return figure
