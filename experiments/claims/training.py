"""Small encoders trained from nothing with Nyström and with exact attention, all else equal."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
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
DIM, DEPTH, HEADS, RATE = 64, 1, 2, 3e-3


@dataclass(frozen=True)
class Budget:
    """What a profile spends: steps, examples a step, examples to train on at most, and to test on."""

    steps: int
    batch: int
    examples: int
    tested: int


@dataclass(frozen=True)
class Task:
    """Where examples come from, how long they may be, how many landmarks they get, and the budget by profile."""

    load: Callable[[int, int], tasks.Examples]
    length: int
    landmarks: int
    full: Budget
    gpu: Budget


QUICK = Budget(30, 16, 480, 200)
TASKS = {
    "IMDB, words, 512 tokens": Task(
        tasks.imdb_words, 512, 32, Budget(400, 16, 6400, 1000), Budget(1200, 64, 23000, 2000)
    ),
    "IMDB, bytes, 2,048 tokens": Task(
        tasks.imdb_bytes, 2048, 64, Budget(100, 16, 1600, 1000), Budget(2000, 64, 23000, 2000)
    ),
    "ListOps, 2,048 tokens": Task(
        tasks.listops, 2048, 64, Budget(100, 16, 1600, 1000), Budget(2000, 64, 16000, 2000)
    ),
}


def grid(profile: str) -> tuple[Case, ...]:
    """A case a task, method and seed; ``quick`` has the first task and few steps, ``gpu`` enough to learn from."""
    chosen = dict(list(TASKS.items())[: 1 if profile == "quick" else None])
    budgets = {name: QUICK if profile == "quick" else getattr(task, profile) for name, task in chosen.items()}
    device = "cuda" if profile == "gpu" else "cpu"
    return tuple(
        Case("training", {"task": name, "method": method, "device": device, **asdict(budget)}, seed)
        for name, budget in budgets.items()
        for seed in range(3)
        for method in METHODS
    )


def run(case: Case) -> list[Row]:
    """Train one model and test it: Adam with a linear warm-up and decay, one thread of a CPU or one GPU."""
    import torch

    p, device = case.params, case.params["device"]
    steps, tested = p["steps"], p["tested"]
    task = TASKS[p["task"]]
    data = task.load(p["examples"] + tested, task.length)
    torch.manual_seed(case.seed)
    model = _model(data, task, p["method"]).to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=RATE)
    warm = max(1, steps // 10)
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda s: min((s + 1) / warm, (steps - s) / (steps - warm + 1))
    )
    batches = _batches(len(data.labels) - tested, p["batch"], case.seed)
    seconds = []
    for chosen in islice(batches, steps):
        start = time.perf_counter()
        loss = _step(model, optimiser, _batch(data, chosen, device))
        seconds.append(time.perf_counter() - start)
        rate.step()
    ends = np.arange(len(data.labels) - tested, len(data.labels))
    accuracy = _accuracy(
        model, [_batch(data, some, device) for some in np.array_split(ends, -(-tested // p["batch"]))]
    )
    last = _batch(data, next(batches), device)
    peak = peak_memory(lambda: _step(model, optimiser, last), array=last[1])
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


def _batches(count: int, size: int, seed: int) -> Iterator[np.ndarray]:
    """Examples by number, in a new order at every pass; what does not fill a batch is left for another pass."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(count)
        yield from (order[i : i + size] for i in range(0, count - size + 1, size))


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


def _batch(data: tasks.Examples, chosen: Any, device: str) -> tuple[Any, Any, Any]:
    """Token numbers, mask and labels, cut to the longest example."""
    import torch

    longest = int(data.lengths[chosen].max())
    mask = np.arange(longest) < data.lengths[chosen][:, None]
    ids = data.ids[chosen, :longest].astype(np.int64)
    return tuple(torch.from_numpy(x).to(device) for x in (ids, mask, data.labels[chosen]))  # type: ignore[return-value]


def _step(model: Any, optimiser: Any, batch: tuple[Any, Any, Any]) -> float:
    import torch

    ids, mask, labels = batch
    loss = torch.nn.functional.cross_entropy(model(ids, mask), labels)
    optimiser.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    return loss.item()


def _accuracy(model: Any, batches: Sequence[tuple[Any, Any, Any]]) -> float:
    import torch

    with torch.inference_mode():
        right = sum(int((model(ids, mask).argmax(dim=-1) == labels).sum()) for ids, mask, labels in batches)
    return right / sum(len(labels) for *_, labels in batches)


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
