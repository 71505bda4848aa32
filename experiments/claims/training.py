"""Small encoders trained from nothing with Nyström and with exact attention, all else equal."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from experiments import figures, tasks
from experiments.contract import Case, Outcome, Record, Row, Verdict, frame
from experiments.evidence import bounded
from experiments.timing import peak_memory

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

TITLE = "Training from nothing"
CLAIM = (
    "A model trained with Nyström attention is as accurate as one trained with exact attention, and cheaper."
)
SOURCE = "Xiong et al. 2021, Tables 2 and 3 (IMDB; Long Range Arena: Text, ListOps)"
EXCLUSIVE = True
ALT = (
    "For each task a group of bars: test accuracy, milliseconds a training step, and peak memory of a step, for exact, "
    "Nyström and no attention; dots are seeds and the dashed line is chance."
)

NONE = "no attention"  # the control: tokens do not meet at all before the mean
METHODS = ("exact", "Nyström", NONE)
LEAST_LOSS = 0.02  # accuracy that may be lost and still count as equal
DIM, DEPTH, HEADS, BATCH, RATE = 64, 1, 2, 16, 3e-3


@dataclass(frozen=True)
class Task:
    """Where examples come from, how long they may be, how many landmarks they get, and steps in ``full``."""

    load: Callable[[int, int], tasks.Examples]
    length: int
    landmarks: int
    steps: int


TASKS = {
    "IMDB, words, 512 tokens": Task(tasks.imdb_words, 512, 32, 400),
    "IMDB, bytes, 2,048 tokens": Task(tasks.imdb_bytes, 2048, 64, 100),
    "ListOps, 2,048 tokens": Task(tasks.listops, 2048, 64, 100),
}
QUICK_STEPS = 30


def grid(profile: str) -> tuple[Case, ...]:
    """A case a task, method and seed; ``quick`` has the first task and few steps."""
    quick = profile == "quick"
    chosen = dict(list(TASKS.items())[: 1 if quick else None])
    return tuple(
        Case(
            "training",
            {
                "task": name,
                "method": method,
                "steps": QUICK_STEPS if quick else task.steps,
                "tested": 200 if quick else 1000,
            },
            seed,
        )
        for name, task in chosen.items()
        for seed in range(3)
        for method in METHODS
    )


def run(case: Case) -> list[Row]:
    """Train one model and test it: Adam with a linear warm-up and decay, one thread."""
    import torch

    p = case.params
    task = TASKS[p["task"]]
    data = task.load(p["steps"] * BATCH + p["tested"], task.length)
    torch.manual_seed(case.seed)
    order = np.random.default_rng(case.seed).permutation(len(data.labels) - p["tested"])
    model = _model(data, task, p["method"])
    optimiser = torch.optim.Adam(model.parameters(), lr=RATE)
    warm = max(1, p["steps"] // 10)
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda s: min((s + 1) / warm, (p["steps"] - s) / (p["steps"] - warm + 1))
    )
    seconds = []
    for step in range(p["steps"]):
        chosen = order[step * BATCH : (step + 1) * BATCH]
        start = time.perf_counter()
        loss = _step(model, optimiser, data, chosen)
        seconds.append(time.perf_counter() - start)
        rate.step()
    tested = np.arange(len(data.labels) - p["tested"], len(data.labels))
    accuracy = _accuracy(model, data, tested)
    peak = peak_memory(lambda: _step(model, optimiser, data, order[:BATCH]))
    return [
        {
            "accuracy": accuracy,
            "chance": 1 / data.classes,
            "loss": loss,
            "milliseconds": statistics.median(seconds) * 1e3,
            "peak_bytes": peak.bytes,
            "source": data.source,
        }
    ]


def _model(data: tasks.Examples, task: Task, method: str) -> Any:
    """An encoder whose states are averaged over real tokens and read by one linear layer.

    Without the convolution of values, so that nothing but attention moves information between tokens.
    """
    import torch

    from nystrom_numerics.nn import Nystromformer, NystromformerConfig

    class Classifier(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = Nystromformer(
                NystromformerConfig(
                    data.vocabulary,
                    dim=DIM,
                    depth=DEPTH,
                    heads=HEADS,
                    feed_forward=2 * DIM,
                    max_positions=task.length,
                    landmarks=task.landmarks,
                    conv_kernel=None,
                    exact=method == "exact",
                    dropout=0.0,
                )
            )
            self.out = torch.nn.Linear(DIM, data.classes)

        def forward(self, ids: Any, mask: Any) -> Any:
            states = self.encoder(ids, mask=mask) * mask[..., None]
            return self.out(states.sum(dim=1) / mask.sum(dim=1, keepdim=True))

    class Nothing(torch.nn.Module):
        def forward(self, x: Any, *, mask: Any) -> Any:
            return torch.zeros_like(x)

    model = Classifier()
    if method == NONE:
        for layer in model.encoder.layers:
            layer.attention = Nothing()
    return model


def _batch(data: tasks.Examples, chosen: Any) -> tuple[Any, Any, Any]:
    """Token numbers, mask and labels, cut to the longest example."""
    import torch

    longest = int(data.lengths[chosen].max())
    mask = np.arange(longest) < data.lengths[chosen][:, None]
    ids = data.ids[chosen, :longest].astype(np.int64)
    return tuple(torch.from_numpy(x) for x in (ids, mask, data.labels[chosen]))  # type: ignore[return-value]


def _step(model: Any, optimiser: Any, data: tasks.Examples, chosen: Any) -> float:
    import torch

    ids, mask, labels = _batch(data, chosen)
    loss = torch.nn.functional.cross_entropy(model(ids, mask), labels)
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    return loss.item()


def _accuracy(model: Any, data: tasks.Examples, tested: Any) -> float:
    import torch

    right = 0
    with torch.inference_mode():
        for i in range(0, len(tested), BATCH):
            ids, mask, labels = _batch(data, tested[i : i + BATCH])
            right += int((model(ids, mask).argmax(dim=-1) == labels).sum())
    return right / len(tested)


def verdicts(records: Iterable[Record]) -> tuple[Verdict, ...]:
    """For every task: is accuracy kept, and is a step faster?"""
    data = frame(records)
    if data.empty:
        return (Verdict(CLAIM, Outcome.UNDECIDED, "No record."),)
    return tuple(v for name in data["task"].unique() for v in _on_task(data[data["task"] == name], name))


def _on_task(data: pd.DataFrame, name: str) -> tuple[Verdict, Verdict]:
    accuracy = data.pivot_table(index="seed", columns="method", values="accuracy").dropna()
    kept = f"{name}: Nyström attention loses at most {LEAST_LOSS:.0%} of accuracy against exact attention"
    faster = f"{name}: a training step with Nyström attention takes less time"
    if len(accuracy) < 2 or len(accuracy.columns) < len(METHODS):
        return tuple(Verdict(x, Outcome.UNDECIDED, "Fewer than two seeds.") for x in (kept, faster))  # type: ignore[return-value]
    lost, gained = (accuracy["exact"] - accuracy[other] for other in ("Nyström", NONE))
    half, of_gain = (float(stats.t.ppf(0.975, len(x) - 1) * stats.sem(x)) for x in (lost, gained))
    cost = data.groupby("method")[["milliseconds", "peak_bytes"]].median()
    ratio = cost.loc["exact"] / cost.loc["Nyström"]
    told = (
        f"Mean accuracy {accuracy['exact'].mean():.1%} exact, {accuracy['Nyström'].mean():.1%} Nyström, "
        f"{accuracy[NONE].mean():.1%} without attention, chance {data['chance'].iloc[0]:.0%}; lost {lost.mean():.1%} "
        f"(95 % interval {lost.mean() - half:.1%} to {lost.mean() + half:.1%}, {len(lost)} seeds)."
    )
    if gained.mean() - of_gain <= LEAST_LOSS:
        idle = f" At this budget attention itself is not shown to gain {LEAST_LOSS:.0%}, so that none could be lost."
        equal = Verdict(kept, Outcome.UNDECIDED, told + idle)
    else:
        equal = bounded(kept, lost.mean() - half, lost.mean() + half, LEAST_LOSS, told)
    return (
        equal,
        Verdict(
            faster,
            Outcome.SUPPORTED if ratio["milliseconds"] > 1 else Outcome.REFUTED,
            f"{cost.loc['exact', 'milliseconds']:.0f} ms exact, {cost.loc['Nyström', 'milliseconds']:.0f} ms Nyström "
            f"({ratio['milliseconds']:.2f} times); peak memory {cost.loc['exact', 'peak_bytes'] / 2**20:.0f} and "
            f"{cost.loc['Nyström', 'peak_bytes'] / 2**20:.0f} MiB.",
        ),
    )


def table(records: Iterable[Record]) -> pd.DataFrame:
    """Means over seeds."""
    data = frame(records)
    summary = data.groupby(["task", "method"]).agg(
        accuracy=("accuracy", "mean"),
        spread=("accuracy", lambda x: x.max() - x.min()),
        seeds=("accuracy", "count"),
        milliseconds=("milliseconds", "median"),
        peak_mebibytes=("peak_bytes", lambda x: x.median() / 2**20),
        steps=("steps", "first"),
        source=("source", "first"),
    )
    return summary.reset_index()


def plot(records: Iterable[Record]) -> Figure:
    """Accuracy, time and memory by task and method."""
    data = frame(records)
    data["peak_mebibytes"] = data["peak_bytes"] / 2**20
    panels = {
        "accuracy": "test accuracy",
        "milliseconds": "milliseconds a training step",
        "peak_mebibytes": "peak memory of a step, MiB",
    }
    figure, axes = figures.grid(1, len(panels), height=3.8)
    colors = figures.palette(list(METHODS))
    names = [name for name in TASKS if name in set(data["task"])]
    for ax, (column, label) in zip(axes[0], panels.items(), strict=True):
        for shift, (method, color) in zip((-0.27, 0.0, 0.27), colors.items(), strict=True):
            for i, name in enumerate(names):
                values = data[(data["task"] == name) & (data["method"] == method)][column]
                ax.bar(i + shift, values.median(), 0.25, color=color, label=method if i == 0 else None)
                ax.plot([i + shift] * len(values), values, ".", color="black", markersize=4)
                if column == "accuracy":
                    chance = data[data["task"] == name]["chance"].iloc[0]
                    ax.plot([i - 0.4, i + 0.4], [chance, chance], "--", color="black", linewidth=1)
        ax.set_xticks(range(len(names)), [name.replace(", ", "\n") for name in names])
        ax.set(ylabel=label)
    figures.legend_below(figure, axes[0][0])
    return figure
