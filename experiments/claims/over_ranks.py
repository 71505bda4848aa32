"""What attention over ranks costs: a model fitted to a few runs on one machine, and drawn far past it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.contract import Case, Outcome, Record, Row, Verdict, frame
from experiments.programs.over_ranks import measured
from experiments.report import figures

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

TITLE = "Cost over ranks"
CLAIM = (
    "A model of calls, messages, bytes and arithmetic, fitted to runs of 1, 2 and 4 ranks, says what a longer sequence "
    "costs a rank, and a rank of two has half of the work and of the memory."
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

FITTED = {"nystrom": (4096, 8192, 16384), "exact": (256, 512, 1024)}
HELD_OUT = {"nystrom": 32768, "exact": 2048}
WITHIN = 0.25
"""What a prediction may be off by."""

SPAN, ROUNDS, CONFIDENCE = 0.05, {"quick": 3, "full": 9, "gpu": 9}, 0.95
"""Seconds that a measurement takes at least, rounds of all of them, and how sure verdicts are where others disturb."""

COMPARED = 40 * 8
"""Bytes of the table of arguments that each rank sends to each other one."""

DRAWN, FAR = (10**6, 10**9), tuple(2**i for i in range(11))
TERMS = ("calls", "messages", "bytes", "products")
"""What a call is made of, all but bytes with prices of each method: a sum over ranks is not two that swap blocks."""

LONG, LONG_HEADS, MILLION = (65_536, 262_144), 8, 10**6
AT_ONCE = {262_144: 2, MILLION: 2}
"""Heads of a call where memory for all, in one process, is more than a machine of 24 GB has."""

HALF = 0.6
"""Of the time and memory of one process, what a rank of two may take: a half, and a tenth for what does not halve."""


def grid(profile: str) -> tuple[Case, ...]:
    """All runs of the model in one case, so that they share a moment of the machine; in full long sequences too."""
    cases = [Case("over_ranks", {"part": "model", "heads": HEADS, "repeats": ROUNDS[profile]})]
    if profile == "full":
        methods = ("nystrom", "near_field", "tangent")
        long = {"part": "long", "heads": LONG_HEADS}
        each = [(n, method, 3) for n in LONG for method in methods] + [(MILLION, "nystrom", 1)]
        cases += [
            Case(
                "over_ranks",
                {**long, "n": n, "method": method, "at_once": AT_ONCE.get(n, LONG_HEADS), "repeats": times},
            )
            for n, method, times in each
        ]
    return tuple(cases)


def run(case: Case) -> list[Row]:
    """Processor seconds of the busiest rank, the wall's beside them, and the most bytes that a rank held."""
    p = case.params
    sizes = {"heads": p["heads"], "width": WIDTH, "landmarks": LANDMARKS, "repeats": p["repeats"]}
    if p["part"] == "long":
        runs = [[p["method"], p["n"], backward] for backward in (False, True)]
        ranks = [2] if p["n"] == MILLION else [1, 2]
        return measured({**sizes, "ranks": ranks, "runs": runs, "warm_up": 4096, "at_once": p["at_once"]})
    runs = [[method, n, False] for method in FITTED for n in (*FITTED[method], HELD_OUT[method])]
    rows = measured({**sizes, "ranks": list(RANKS), "span": SPAN, "runs": runs})
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
    """What a rank has of each of :data:`TERMS`: a call, messages and multiplications by method, and bytes."""
    keys = LANDMARKS if method == "nystrom" else n / 2
    products = heads * n / ranks * 4 * WIDTH * keys
    messages, volume = sent(method, n, ranks, heads)
    own = [float(method == one) for one in FITTED]
    return [*own, *(messages * x for x in own), volume, *(products * x for x in own)]


def _of_model(records: Iterable[Record]) -> pd.DataFrame:
    data = frame(records)
    return data[data["part"] == "model"] if len(data) else data


def means(data: pd.DataFrame) -> pd.DataFrame:
    """Of each run the mean over rounds."""
    keys = ["method", "n", "ranks", "heads", "held_out"]
    return data.groupby(keys, sort=False, as_index=False)["cpu"].mean()


def fitted(data: pd.DataFrame) -> np.ndarray[Any, Any]:
    """Seconds of each term, none negative, by least squares of relative errors over the means not held out."""
    rows = means(data)
    rows = rows[~rows["held_out"]]
    left = np.asarray([terms(r.method, r.n, r.ranks, r.heads) for r in rows.itertuples()])
    return _solved(left, rows["cpu"].to_numpy())


def _solved(left: np.ndarray[Any, Any], seconds: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    from scipy.optimize import nnls

    left = left / seconds[:, None]
    size = left.max(axis=0)
    found: np.ndarray[Any, Any] = nnls(left / size, np.ones(len(left)))[0] / size
    return found


def predicted(seconds: np.ndarray[Any, Any], method: str, n: int, ranks: int, heads: int) -> float:
    return float(np.dot(terms(method, n, ranks, heads), seconds))


def verdicts(records: Iterable[Record]) -> tuple[Verdict, ...]:
    """Whether the size held out is predicted, by both methods on every number of ranks; and what two ranks save."""
    records = list(records)
    return (_of_prediction(_of_model(records)), *_of_halves(frame(records)))


def _of_prediction(data: pd.DataFrame) -> Verdict:
    """By intervals: what else runs widens them, and then nothing is decided."""
    statement = (
        f"Sizes twice those that it was fitted to cost a rank within {WITHIN:.0%} of what the model says"
    )
    if data.empty or not data["held_out"].any():
        return Verdict(statement, Outcome.UNDECIDED, "Nothing was held out.")
    off = _off(data)
    inside = all(low >= -WITHIN and high <= WITHIN for _, low, high in off.values())
    outside = any(high < -WITHIN or low > WITHIN for _, low, high in off.values())
    outcome = Outcome.SUPPORTED if inside else Outcome.REFUTED if outside else Outcome.UNDECIDED
    rest = ", ".join(
        f"{method} on {ranks}: {value:+.0%} ({low:+.0%} to {high:+.0%})"
        for (method, ranks), (value, low, high) in off.items()
    )
    return Verdict(
        statement,
        outcome,
        f"The model's error: {rest}, all intervals at {CONFIDENCE:.0%} together, by drawing rounds anew. "
        f"{_assumed(data)}",
    )


def _off(data: pd.DataFrame, draws: int = 1000) -> dict[tuple[str, int], tuple[float, float, float]]:
    """Relative errors of the model on the rows held out, with the ends of intervals that hold at once.

    Rounds are drawn anew with replacement, and model and truth made of their means: percentiles, by Bonferroni.
    """
    table = data.pivot_table(
        index=["method", "n", "ranks", "heads", "held_out"], columns="repeat", values="cpu"
    )
    keys = list(table.index)
    held = np.asarray([key[-1] for key in keys], dtype=bool)
    left = np.asarray([terms(*key[:-1]) for key in keys])
    cpu, rounds = table.to_numpy(), table.shape[1]

    def errors(drawn: Any) -> Any:
        mean = cpu[:, drawn].mean(axis=1)
        return (left @ _solved(left[~held], mean[~held]) / mean - 1)[held]

    value, rng = errors(np.arange(rounds)), np.random.default_rng(0)
    many = np.asarray([errors(rng.integers(0, rounds, rounds)) for _ in range(draws)])
    tail = (1 - CONFIDENCE) / 2 / held.sum()
    low, high = np.quantile(many, [tail, 1 - tail], axis=0)
    if rounds == 1:  # which tells nothing of the spread
        low, high = np.full_like(value, -np.inf), np.full_like(value, np.inf)
    names = [(key[0], int(key[2])) for key in keys if key[-1]]
    every = zip(names, value, low, high, strict=True)
    return {name: (float(error), float(least), float(most)) for name, error, least, most in every}


def _of_halves(data: pd.DataFrame) -> list[Verdict]:
    """Time and memory of a rank of two against those of one process, on every long sequence.

    The median over rounds is told; where rounds lie on both sides of the limit nothing is decided.
    """
    long = data[(data["part"] == "long") & (data["n"] != MILLION)] if len(data) else data
    if long.empty:
        return []
    keys = ["method", "n", "backward"]
    of = long.set_index([*keys, "repeat", "ranks"])[["cpu", "peak"]].unstack("ranks")
    found = []
    for name, what in (("cpu", "processor time"), ("peak", "memory")):
        rounds = (of[name][2] / of[name][1]).groupby(level=keys, sort=False)
        each = ", ".join(
            f"{method} {n:,} {'forward and backward' if backward else 'forward'} {value:.2f}"
            for (method, n, backward), value in rounds.median().items()
        )
        least, most = rounds.min().max(), rounds.max().max()
        outcome = (
            Outcome.SUPPORTED if most <= HALF else Outcome.REFUTED if least > HALF else Outcome.UNDECIDED
        )
        statement = f"A rank of two takes at most {HALF} of the {what} of one process with all tokens"
        found.append(Verdict(statement, outcome, f"{each}."))
    return found


def _assumed(data: pd.DataFrame) -> str:
    """The model in words, with what it was fitted to."""
    seconds = fitted(data)
    names = list(FITTED)
    calls, messages, (byte,), products = np.split(seconds, [2, 4, 5])
    heads = int(data["heads"].iloc[0])
    words = [
        f"{name} {1e3 * call:.2g} ms a call, {1e6 * message:.0f} µs a message"
        + (f", {2e-9 / product:.1f} Gflop/s" if product else "")
        for name, call, message, product in zip(names, calls, messages, products, strict=True)
    ]
    far = np.asarray(terms("nystrom", 10**9, 1024, heads))
    share = 1 - float(far[5:] @ products) / float(far @ seconds)
    band = "bytes too cheap to be seen" if byte == 0 else f"{1e-9 / byte:.2g} GB/s"
    return (
        f"Fitted: {'; '.join(words)}; {band}. Assumed: seconds of the processor stand for time, as ranks that share "
        "cores wait for one another; messages are those of loopback sockets, and a network has a latency of its own; a "
        "sum over ranks is a ring's; shards are of one length; nothing is hidden behind arithmetic. By it "
        f"{share:.1%} of a call of Nyström attention with 10⁹ tokens on 1,024 ranks is not arithmetic: an "
        "extrapolation by 256 in ranks that nothing here tests."
    )


def table(records: Iterable[Record]) -> pd.DataFrame:
    """Measured and modelled milliseconds of each run, and whether it was held out; of long ones measured alone."""
    import pandas as pd

    records = list(records)
    data = _of_model(records)
    parts = []
    if len(data):
        seconds, rows = fitted(data), means(data)
        rows["model, ms"] = [
            1e3 * predicted(seconds, r.method, r.n, r.ranks, r.heads) for r in rows.itertuples()
        ]
        rows["MB sent"] = [sent(r.method, r.n, r.ranks, r.heads)[1] / 1e6 for r in rows.itertuples()]
        parts.append(rows.assign(ms=rows["cpu"] * 1e3))
    every = frame(records)
    long = every[every["part"] == "long"]
    if len(long):
        rows = long.groupby(["method", "n", "ranks", "heads", "backward"], sort=False, as_index=False)
        rows = rows[["cpu", "peak"]].median()
        rows["bytes a token of a rank"] = rows["peak"] * rows["ranks"] / rows["n"]
        parts.append(rows.assign(ms=rows["cpu"] * 1e3, MiB=rows["peak"] / 2**20))
    columns = ["method", "n", "ranks", "heads", "backward", "held_out", "ms", "model, ms", "MB sent", "MiB"]
    return pd.concat(parts).reindex(columns=[*columns, "bytes a token of a rank"])


def plot(records: Iterable[Record]) -> Figure:
    """The model drawn to 1,024 ranks."""
    data = _of_model(records)
    seconds, heads = fitted(data), int(data["heads"].iloc[0])
    error = max((abs(value) for value, *_ in _off(data).values()), default=0.0)
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
