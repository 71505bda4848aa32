"""Kernel ridge regression out of core, by workers with little memory, beside the same in memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from experiments.contract import Case, Outcome, Record, Row, Verdict, frame
from experiments.programs.chunked import RUNS
from experiments.report import figures

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

TITLE = "Kernels over a cluster"
CLAIM = (
    "Points that do not fit in memory cost what they would cost if they did, whatever the workers do, "
    "and are worth it."
)
SOURCE = "`nystrom_numerics.integrations.dask`; normal points, d = 16, a smooth function with noise of 0.5"
EXCLUSIVE = True
ALT = (
    "Left: CPU seconds of ridge regression against the number of points, in memory and by workers, both axes "
    "logarithmic, with the line that the figure in memory gives. Right: test error of each against its points."
)

MEMORY = 4e9  # bytes a worker
DEARER, FASTER = 1.5, 0.75
MEANT = 1_000_000  # points, below which the start of a pass is most of it
HERE, *NAMES = RUNS


def grid(profile: str) -> tuple[Case, ...]:
    """A case a run, minutes each in the full profile: one that was stopped goes on with the next."""
    sizes = {"quick": (100_000, 20_000, 1_000), "full": (20_000_000, 1_000_000, 20_000)}
    m = {"quick": 32}.get(profile, 256)
    n, n_memory, n_peer = sizes.get(profile, sizes["full"])
    same = {"n": n, "n_memory": n_memory, "n_peer": n_peer, "m": m}
    return tuple(Case("cluster_kernels", {**same, "by": by}) for by in RUNS)


def run(case: Case) -> list[Row]:
    """The program in a process of its own, so that its workers are its own."""
    command = [
        sys.executable,
        "-m",
        "experiments.programs.chunked",
        json.dumps({**case.params, "seed": case.seed}),
    ]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RuntimeError(ended.stderr[-2000:])
    rows: list[Row] = json.loads(ended.stdout.splitlines()[-1])
    return rows


def _verdict(statement: str, holds: bool | None, because: str) -> Verdict:
    outcome = {True: Outcome.SUPPORTED, False: Outcome.REFUTED, None: Outcome.UNDECIDED}[holds]
    return Verdict(statement, outcome, because)


def verdicts(records: Iterable[Record]) -> tuple[Verdict, ...]:
    """Memory, the dead worker, cost, two workers against one, and error."""
    data = frame(records)
    if data.empty:
        return ()
    found: dict[str, Any] = data.drop_duplicates("method", keep="last").set_index("method").to_dict("index")
    missing = [name for name in RUNS if name not in found]
    if missing:
        return (_verdict(CLAIM, None, f"Not run: {'; '.join(missing)}."),)
    one, two, dead = (found[name] for name in NAMES)
    here = found[HERE]
    n = two["n"]
    large = n >= MEANT
    peak = max(found[name]["peak"] for name in NAMES)
    dearer = two["cpu"] / (here["cpu"] * n / here["n"])
    faster = two["busiest"] / one["busiest"]
    theirs = {name: row for name, row in found.items() if name.startswith("scikit")}
    best = min(theirs, key=lambda name: theirs[name]["error"])
    errors = ", ".join(f"{name} {row['error']:.4f} ({row['n']:,} points)" for name, row in theirs.items())
    same = len({found[name]["digest"] for name in NAMES}) == 1
    return (
        _verdict(
            f"{n:,} points are solved for within {MEMORY / 1e9:.0f} GB a worker",
            peak <= MEMORY if large else None,
            f"At most {peak / 1e9:.2f} GB in a worker, pages of the file included.",
        ),
        _verdict(
            "Neither the number of workers nor the death of one changes a bit of the weights",
            same if dead["died"] else None,
            f"Digests {', '.join(found[name]['digest'] for name in NAMES)}; "
            f"{'a' if dead['died'] else 'no'} worker died with half of the chunks read.",
        ),
        _verdict(
            f"A point costs at most {DEARER} times what it costs in memory, in CPU seconds",
            dearer <= DEARER if large else None,
            f"{two['cpu']:.0f} s for {n:,} points, in memory {here['cpu']:.1f} s for {here['n']:,}: "
            f"{dearer:.2f} times.",
        ),
        _verdict(
            f"The busier of two workers works at most {FASTER} of what one works alone, in CPU seconds",
            faster <= FASTER if large else None,
            f"{two['busiest']:.0f} s against {one['busiest']:.0f} s, {faster:.2f}, scheduler and client included. By "
            f"the clock {two['seconds']:.0f} s and {one['seconds']:.0f} s, where others had a load of "
            f"{two['load']:.1f} and {one['load']:.1f} on the same cores.",
        ),
        _verdict(
            "With all points the test error is below scikit-learn's with those that it can take",
            two["error"] < theirs[best]["error"],
            f"Root mean square {two['error']:.4f}, of which the noise is 0.5; {errors}.",
        ),
    )


def table(records: Iterable[Record]) -> pd.DataFrame:
    """What each took and came to."""
    names = {
        "method": "by",
        "n": "points",
        "seconds": "seconds",
        "cpu": "CPU seconds",
        "peak": "most GB a worker",
        "load": "load before",
        "error": "test error",
    }
    data = frame(records).reindex(columns=list(names))
    return data.assign(peak=data["peak"] / 1e9).rename(columns=names)


def plot(records: Iterable[Record]) -> Figure:
    """CPU seconds and test error against the points."""
    data = frame(records)
    figure, axes = figures.grid(1, 2, height=4.2)
    colors = figures.palette(list(dict.fromkeys(data["method"])))
    for (left, right), (name, part) in zip(
        [axes[0]] * len(colors), data.groupby("method", sort=False), strict=True
    ):
        style = {"color": colors[name], "label": name, "s": 40}
        left.scatter(part["n"], part["cpu"], **style)
        right.scatter(part["n"], part["error"], **style)
    here = data[data["method"] == HERE].iloc[-1]
    ends = [here["n"], data["n"].max()]
    axes[0][0].plot(ends, [here["cpu"] * n / here["n"] for n in ends], "--", color="grey", linewidth=1)
    axes[0][0].set(xscale="log", yscale="log", xlabel="points", ylabel="CPU seconds")
    axes[0][1].axhline(0.5, color="grey", linewidth=1)
    axes[0][1].set(xscale="log", xlabel="points", ylabel="test error, root mean square")
    figures.legend_below(figure, axes[0][0], columns=3)
    return figure
