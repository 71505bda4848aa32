"""What a step of training costs with each way to let tokens meet: memory and time against length."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from experiments.contract import Case, Outcome, Record, Row, Verdict, frame
from experiments.engine.timing import measure, synchronizer
from experiments.inputs.tasks.contract import Examples, Splits
from experiments.report import figures
from experiments.training import learning
from experiments.training.mixers import EXACT, MIXERS, NONE, NYSTROM

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

TITLE = "What a step of training costs"
CLAIM = "In training Nyström attention takes less memory and less time than exact attention's fused kernel."
SOURCE = "Xiong et al. 2021, Table 1 (memory and time an instance, one GTX 1080 Ti, against exact attention with n × n)"
EXCLUSIVE = True
ALT = (
    "Against the number of tokens, on logarithmic axes: left the peak memory of a training step of a small model in "
    "mebibytes a sequence, right its milliseconds, one line for each way to let tokens meet."
)

ALONE = "Nyström without convolution"
LANDMARKS = 64
LENGTHS = (512, 1024, 2048, 4096, 8192)
FASTER = 3.5
JUDGED = (2048, 4096)
PAPER = {512: (54 / 35, 0.8 / 0.7), 8192: (10233 / 450, 155.4 / 12.3)}
"""Memory and time of exact attention with n × n entries, over those of 64 landmarks, as printed."""


def grid(profile: str) -> tuple[Case, ...]:
    """A case a method, length and kind of batch; rivals at the lengths that are judged, ``gpu`` has them at all.

    ``quick`` has one length and three methods.
    A step takes as many sequences as make ``tokens`` tokens.
    """
    quick = profile == "quick"
    three = (EXACT, NYSTROM, ALONE)
    lengths = dict.fromkeys(JUDGED[:1] if quick else LENGTHS, three if quick else (*three, NONE))
    if not quick:
        lengths |= {n: tuple(MIXERS) for n in (LENGTHS if profile == "gpu" else JUDGED)}
    whole = [{"method": name, "n": n, "padded": False} for n, names in lengths.items() for name in names]
    cut = [] if quick else [{"method": name, "n": n, "padded": True} for n in JUDGED for name in three]
    rest = {
        "repeats": 2 if quick else 5,
        "tokens": 2048 if quick else 8192,
        "device": "cuda" if profile == "gpu" else "cpu",
    }
    return tuple(Case("training_cost", {**p, **rest}) for p in [*whole, *cut])


def run(case: Case) -> list[Row]:
    """One step of the two-layer model on random tokens, after one to warm up; on a CPU by the time of the process."""
    import time

    import torch

    p = case.params
    n, device = p["n"], p["device"]
    count = max(1, p["tokens"] // n)
    rng = np.random.default_rng(case.seed)
    lengths = rng.integers(n // 4, n + 1, (count, 1)) if p["padded"] else np.full((count, 1), n)
    lengths[0] = n
    there = np.arange(n) < lengths[..., None]
    ids = np.where(there, rng.integers(1, 257, there.shape), 0).astype(np.int32)
    made = Examples(ids, lengths, rng.integers(0, 2, count))
    data = Splits(made, made, made, 257, 2, "random tokens")
    model = learning.Classifier(data, p["method"], LANDMARKS, case.seed).to(device)
    optimiser = torch.optim.Adam(model.parameters())
    batch = learning.batch_of(made, np.arange(count), device)

    def step() -> None:
        learning.step(model, optimiser, batch)

    clock = time.perf_counter if device == "cuda" else time.process_time
    timing = measure(step, repeats=p["repeats"], synchronize=synchronizer(batch[1]), clock=clock)
    return [
        {
            "milliseconds": timing.median * 1e3 / count,
            "milliseconds_low": timing.low * 1e3 / count,
            "milliseconds_high": timing.high * 1e3 / count,
            "mebibytes": learning.peak(step, batch[1]) / count / 2**20,
            "entries": MIXERS[p["method"]].entries(n, LANDMARKS),
        }
    ]


def verdicts(records: Iterable[Record]) -> tuple[Verdict, ...]:
    """Memory at 2,048 and 4,096 tokens, with and without the convolution, and time at 2,048."""
    data = frame(records)
    if data.empty:
        return (Verdict(CLAIM, Outcome.UNDECIDED, "No record."),)
    found = [
        _memory(data, n, name, padded)
        for padded in (False, True)
        for n in JUDGED
        for name in (ALONE, NYSTROM)
    ]
    return tuple(v for v in [*found, _time(data)] if v is not None)


def _pair(data: pd.DataFrame, n: int, name: str, padded: bool) -> pd.DataFrame | None:
    """Costs of exact attention and a method at a length, by method; None where one is missing."""
    here = data[(data["n"] == n) & (data["padded"] == padded)].set_index("method")
    return here.loc[[EXACT, name]] if {EXACT, name} <= set(here.index) else None


def _memory(data: pd.DataFrame, n: int, name: str, padded: bool) -> Verdict | None:
    pair = _pair(data, n, name, padded)
    if pair is None:
        return None
    exact, own = pair["mebibytes"]
    kind = ", sequences of unequal lengths" if padded else ""
    return Verdict(
        f"{n:,} tokens{kind}: {name} takes at most the memory of exact attention's fused kernel",
        Outcome.SUPPORTED if own <= exact else Outcome.REFUTED,
        f"{own:.2f} and {exact:.2f} MiB a sequence at the peak of a step, {own / exact:.3f} times.",
    )


def _time(data: pd.DataFrame) -> Verdict | None:
    pair = _pair(data, JUDGED[0], ALONE, False)
    if pair is None:
        return None
    exact, own = pair["milliseconds"]
    ratios = [pair["milliseconds_low"].iloc[0] / pair["milliseconds_high"].iloc[1]]
    ratios.append(pair["milliseconds_high"].iloc[0] / pair["milliseconds_low"].iloc[1])
    outcome = (
        Outcome.SUPPORTED
        if ratios[0] >= FASTER
        else Outcome.REFUTED
        if ratios[1] < FASTER
        else Outcome.UNDECIDED
    )
    return Verdict(
        f"{JUDGED[0]:,} tokens: a step with {ALONE} is at least {FASTER} times as fast as with exact attention",
        outcome,
        f"{exact:.0f} and {own:.0f} ms: {exact / own:.1f} times ({ratios[0]:.1f} to {ratios[1]:.1f} by quartiles).",
    )


def table(records: Iterable[Record]) -> pd.DataFrame:
    """Costs of a sequence by length and method, and how many times exact attention costs; the paper's beside them."""
    data = frame(records)
    if data.empty:
        return data
    keys = ["n", "padded"]
    costs = ["mebibytes", "milliseconds"]
    exact = data[data["method"] == EXACT][[*keys, *costs]]
    lines = data[[*keys, "method", *costs, "entries"]].merge(exact, "left", on=keys, suffixes=("", " exact"))
    lines["times less memory"] = lines.pop("mebibytes exact") / lines["mebibytes"]
    lines["times faster"] = lines.pop("milliseconds exact") / lines["milliseconds"]
    of_paper = lines["method"].isin((NYSTROM, ALONE)) & lines["n"].isin(PAPER) & ~lines["padded"].astype(bool)
    for i, name in enumerate(("paper: times less memory", "paper: times faster")):
        lines[name] = [PAPER[n][i] if own else None for n, own in zip(lines["n"], of_paper, strict=True)]
    return lines.sort_values([*keys, "mebibytes"]).reset_index(drop=True)


def plot(records: Iterable[Record]) -> Figure:
    """Memory and time against length."""
    data = frame(records)
    figure, axes = figures.grid(1, 2, height=4.5)
    if data.empty:
        for ax in axes[0]:
            figures.blank(ax, "no record")
        return figure
    whole = data[~data["padded"].astype(bool)]
    names = [name for name in MIXERS if name in set(whole["method"])]
    colors = figures.palette(names)
    labels = {"mebibytes": "peak memory of a step, MiB a sequence", "milliseconds": "milliseconds a sequence"}
    for ax, (column, label) in zip(axes[0], labels.items(), strict=True):
        for i, name in enumerate(names):
            style = "--" if name in (EXACT, NONE) else (":" if i >= 10 else "-")
            own = whole[whole["method"] == name]
            figures.band(ax, own, "n", column, label=name, color=colors[name], style=style)
        ax.set(xscale="log", yscale="log", xlabel="tokens", ylabel=label)
        ax.set_xticks(sorted(whole["n"].unique()), [f"{n:,}" for n in sorted(whole["n"].unique())])
        ax.minorticks_off()
    figures.legend_below(figure, axes[0][0])
    return figure
