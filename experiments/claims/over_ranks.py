"""What attention over ranks costs: a model fitted to a few runs on one machine, and drawn far past it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments import figures
from experiments.contract import Case, Outcome, Record, Row, Verdict, frame
from experiments.over_ranks import measured

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

TITLE = "Cost over ranks"
CLAIM = (
    "A model of calls, messages, bytes and arithmetic, fitted to runs of 1, 2 and 4 ranks, says what a longer sequence "
    "costs a rank."
)
SOURCE = "Ours; messages and bytes of a sum over ranks as of a ring, Patarasu and Yuan 2009"
EXCLUSIVE = True
ALT = (
    "Two panels against the number of ranks, 1 to 1,024, on logarithmic axes: seconds a call by the model, left for a "
    "million tokens and right for a billion. Nyström attention falls with the number of ranks until messages weigh as "
    "much as arithmetic; exact attention as a ring lies thousands of times above and falls longer. Bands are the "
    "largest error on the size held out."
)

HEADS, WIDTH, LANDMARKS, RANKS = 2, 64, 64, (1, 2, 4)
NUMBER = 4
"""Bytes of a float32."""

FITTED = {"nystrom": (4096, 8192, 16384), "exact": (512, 1024, 2048)}
HELD_OUT = {"nystrom": 32768, "exact": 4096}
WITHIN = 0.25
"""What a prediction may be off by."""

COMPARED = 40 * 8
"""Bytes of the table of arguments that each rank sends to each other one."""

DRAWN, FAR = (10**6, 10**9), tuple(2**i for i in range(11))
TERMS = ("calls", "messages", "bytes", "products, nystrom", "products, exact")


def grid(profile: str) -> tuple[Case, ...]:
    """All runs in one case, so that they share a moment of the machine."""
    return (Case("over_ranks", {"heads": HEADS, "repeats": 3 if profile == "quick" else 9}),)


def run(case: Case) -> list[Row]:
    """Processor seconds of the busiest rank, and the wall's beside them."""
    runs = [[method, n] for method in FITTED for n in (*FITTED[method], HELD_OUT[method])]
    sizes = {"heads": case.params["heads"], "width": WIDTH, "landmarks": LANDMARKS}
    rows = measured({**sizes, "ranks": list(RANKS), "repeats": case.params["repeats"], "runs": runs})
    return [{**row, "held_out": row["n"] == HELD_OUT[row["method"]]} for row in rows]


def sent(method: str, n: int, ranks: int, heads: int) -> tuple[float, float]:
    """Messages and bytes that a rank sends in a forward call.

    A sum or a maximum over ranks of s bytes is taken for a ring's: 2(p − 1) messages of s/p bytes.
    """
    others = ranks - 1
    if method == "exact":
        return 2.0 * others, others * (COMPARED + heads * n / ranks * 2 * WIDTH * NUMBER)
    numbers = 2 * LANDMARKS * WIDTH + LANDMARKS + LANDMARKS * (WIDTH + 1)
    return 7.0 * others, others * (COMPARED + 2 * heads * numbers * NUMBER / ranks)


def terms(method: str, n: int, ranks: int, heads: int) -> list[float]:
    """What each of :data:`TERMS` is multiplied by: a call, messages, bytes, multiplications of a rank."""
    keys = LANDMARKS if method == "nystrom" else n / 2
    products = heads * n / ranks * 4 * WIDTH * keys
    messages, volume = sent(method, n, ranks, heads)
    return [1.0, messages, volume, products * (method == "nystrom"), products * (method == "exact")]


def fitted(data: pd.DataFrame) -> np.ndarray[Any, Any]:
    """Seconds of each term, none negative, by least squares of relative errors over the rows that are not held out."""
    from scipy.optimize import nnls

    rows = data[~data["held_out"]]
    left = np.asarray([terms(r.method, r.n, r.ranks, r.heads) for r in rows.itertuples()])
    left = left / rows["cpu"].to_numpy()[:, None]
    size = left.max(axis=0)
    found: np.ndarray[Any, Any] = nnls(left / size, np.ones(len(left)))[0] / size
    return found


def predicted(seconds: np.ndarray[Any, Any], method: str, n: int, ranks: int, heads: int) -> float:
    return float(np.dot(terms(method, n, ranks, heads), seconds))


def verdicts(records: Iterable[Record]) -> tuple[Verdict, ...]:
    """Whether the size held out is predicted, on every number of ranks and for both methods."""
    data = frame(records)
    statement = (
        f"Sizes twice those that it was fitted to cost a rank within {WITHIN:.0%} of what the model says"
    )
    if data.empty or not data["held_out"].any():
        return (Verdict(statement, Outcome.UNDECIDED, "Nothing was held out."),)
    off = _off(data)
    worst = max(off, key=lambda key: abs(off[key]))
    rest = ", ".join(f"{method} on {ranks}: {value:+.0%}" for (method, ranks), value in off.items())
    outcome = Outcome.SUPPORTED if abs(off[worst]) <= WITHIN else Outcome.REFUTED
    return (Verdict(statement, outcome, f"The model's error: {rest}. {_assumed(data)}"),)


def _off(data: pd.DataFrame) -> dict[tuple[str, int], float]:
    """Relative errors of the model on the rows held out."""
    seconds = fitted(data)
    return {
        (r.method, r.ranks): predicted(seconds, r.method, r.n, r.ranks, r.heads) / r.cpu - 1
        for r in data[data["held_out"]].itertuples()
    }


def _assumed(data: pd.DataFrame) -> str:
    """The model in words, with what it was fitted to."""
    call, message, byte, *products = fitted(data)
    heads = int(data["heads"].iloc[0])
    rates = ", ".join(
        f"{2e-9 / seconds:.1f} Gflop/s ({method})"
        for seconds, method in zip(products, FITTED, strict=True)
        if seconds
    )
    share = 1 - np.dot(terms("nystrom", 10**9, 1024, heads)[3:], products) / predicted(
        fitted(data), "nystrom", 10**9, 1024, heads
    )
    band = "too little to be seen" if byte == 0 else f"{1e-9 / byte:.2g} GB/s"
    return (
        f"Fitted: {1e3 * call:.2g} ms a call, {1e6 * message:.0f} µs a message, {band}, {rates}. Assumed: seconds of "
        "the processor stand for time, as ranks that share cores wait for one another; messages are those of loopback "
        "sockets, and a network has a latency of its own; a sum over ranks is a ring's; shards are of one length; "
        f"nothing is hidden behind arithmetic. By it {share:.1%} of a call of Nyström attention with 10⁹ tokens on "
        "1,024 ranks is not arithmetic: an extrapolation by 256 in ranks that nothing here tests."
    )


def table(records: Iterable[Record]) -> pd.DataFrame:
    """Measured and modelled milliseconds of each run, and whether it was held out."""
    data = frame(records)
    seconds = fitted(data)
    data["ms"] = data["cpu"] * 1e3
    data["model, ms"] = [1e3 * predicted(seconds, r.method, r.n, r.ranks, r.heads) for r in data.itertuples()]
    data["MB sent"] = [sent(r.method, r.n, r.ranks, r.heads)[1] / 1e6 for r in data.itertuples()]
    return data[["method", "n", "ranks", "held_out", "ms", "model, ms", "MB sent"]]


def plot(records: Iterable[Record]) -> Figure:
    """The model drawn to 1,024 ranks."""
    data = frame(records)
    seconds, heads = fitted(data), int(data["heads"].iloc[0])
    error = max((abs(value) for value in _off(data).values()), default=0.0)
    figure, axes = figures.grid(1, len(DRAWN), height=4.2)
    colors = figures.palette(list(FITTED))
    for ax, n in zip(axes[0], DRAWN, strict=True):
        for method in FITTED:
            y = np.asarray([predicted(seconds, method, n, p, heads) for p in FAR])
            ax.plot(FAR, y, color=colors[method], linestyle="--", label=f"{method}, model")
            ax.fill_between(FAR, y / (1 + error), y * (1 + error), color=colors[method], alpha=0.2)
        ax.axvspan(1, max(RANKS), color="0.9", zorder=0)
        ax.set(xlabel="ranks (grey: those fitted)", ylabel="seconds a call", title=f"{n:,} tokens")
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
    axes[0][0].legend(frameon=False)
    figure.suptitle(
        f"{heads} heads of width {WIDTH}, {LANDMARKS} landmarks, float32, forward, one thread a rank"
    )
    return figure
