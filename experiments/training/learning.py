"""Small encoders trained from nothing: all of the model but how tokens meet, and the loop that trains it.

The recipe is that of the Long Range Arena's small models (Tay et al. 2021, as in the code of Xiong et al. 2021):
learned positions, layers that normalise first, the mean over real tokens, one hidden layer above it; Adam, a linear
warm-up and decay of its rate.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from experiments.engine.timing import allocated_peak, peak_memory, synchronizer
from experiments.inputs.tasks.contract import Examples, Splits
from experiments.training import mixers

__all__ = ["Classifier", "Recipe", "accuracy", "batch_of", "batches", "peak", "step", "train"]

DEPTH, DIM, HEADS = 2, 64, 2
WARM = 0.1
_DRAWN = 1_000_003  # a mixer's own numbers come from another seed than what all models share

Batch = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Recipe:
    """Steps, examples a step, the highest rate, and the share of numbers dropped."""

    steps: int
    batch: int
    rate: float
    dropout: float = 0.0


class _Layer(nn.Module):
    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.mixer: nn.Module = nn.Identity()
        self.mixer_norm, self.norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        self.up, self.down = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = x + self.dropout(self.mixer(self.mixer_norm(x), mask=mask))
        inner = self.dropout(nn.functional.gelu(self.up(self.norm(x))))
        added: Tensor = x + self.dropout(self.down(inner))
        return added


class Classifier(nn.Module):
    """Scores (b, classes) of sequences (b, parts, n) and their mask; two parts are compared by their means."""

    def __init__(
        self, data: Splits, mixer: str, m: int, seed: int, *, dropout: float = 0.0, dim: int = DIM
    ) -> None:
        super().__init__()
        parts, length = data.train.ids.shape[1:]
        torch.manual_seed(seed)
        self.words, self.places = nn.Embedding(data.vocabulary, dim), nn.Embedding(length, dim)
        for table in (self.words, self.places):
            nn.init.normal_(table.weight, std=0.02)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(_Layer(dim, dropout) for _ in range(DEPTH))
        self.norm = nn.LayerNorm(dim)
        self.hidden = nn.Linear(dim if parts == 1 else 4 * dim, 2 * dim)
        self.out = nn.Linear(2 * dim, data.classes)
        torch.manual_seed(seed + _DRAWN)
        for layer in self.layers:
            layer.mixer = mixers.make(mixer, mixers.Sizes(dim, HEADS, length, m))

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        parts = ids.shape[1]
        ids, real = ids.flatten(0, 1), mask.flatten(0, 1)
        x = self.dropout(self.words(ids) + self.places.weight[: ids.shape[1]])
        given = None if bool(real.all()) else real
        for layer in self.layers:
            x = layer(x, given)
        x = self.norm(x) * real[..., None]
        means = (x.sum(dim=1) / real.sum(dim=1, keepdim=True)).unflatten(0, (-1, parts))
        scores: Tensor = self.out(nn.functional.relu(self.hidden(_compared(means))))
        return scores


def _compared(means: Tensor) -> Tensor:
    """One mean as it is; of two also their product and difference."""
    if means.shape[1] == 1:
        return means[:, 0]
    one, two = means.unbind(dim=1)
    return torch.cat([one, two, one * two, one - two], dim=-1)


def batches(count: int, size: int, seed: int) -> Iterator[np.ndarray]:
    """Examples by number, in a new order at every pass; what does not fill a batch is left for another pass."""
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(count)
        yield from (order[i : i + size] for i in range(0, count - size + 1, size))


def batch_of(examples: Examples, chosen: Any, device: str) -> Batch:
    """Token numbers, mask and labels, cut to the longest sequence."""
    lengths = examples.lengths[chosen]
    longest = int(lengths.max())
    mask = np.arange(longest) < lengths[..., None]
    ids = examples.ids[chosen][..., :longest].astype(np.int64)
    ids_, mask_, labels = (torch.from_numpy(x).to(device) for x in (ids, mask, examples.labels[chosen]))
    return ids_, mask_, labels


def step(model: nn.Module, optimiser: Any, batch: Batch) -> float:
    """One step of the optimiser, gradients cut to norm 1; the loss before it."""
    ids, mask, labels = batch
    loss = nn.functional.cross_entropy(model(ids, mask), labels)
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    return loss.item()


def accuracy(model: nn.Module, examples: Examples, size: int, device: str) -> float:
    """The share of examples whose label has the highest score, without dropout."""
    model.eval()
    some = np.array_split(np.arange(len(examples)), -(-len(examples) // size))
    with torch.inference_mode():
        right = 0
        for chosen in some:
            ids, mask, labels = batch_of(examples, chosen, device)
            right += int((model(ids, mask).argmax(dim=-1) == labels).sum())
    model.train()
    return right / len(examples)


def train(data: Splits, mixer: str, m: int, recipe: Recipe, seed: int, device: str = "cpu") -> dict[str, Any]:
    """Train one model; its accuracies, the last loss, milliseconds a step (median) and the peak memory of one.

    On a CPU the time is that of the process, which others on the machine do not lengthen.

    Raises
    ------
    NotAvailableError
        The method's package is not installed.
    """
    model = Classifier(data, mixer, m, seed, dropout=recipe.dropout).to(device).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=recipe.rate, betas=(0.9, 0.98))
    warm = max(1, round(WARM * recipe.steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda s: min((s + 1) / warm, (recipe.steps - s) / (recipe.steps - warm + 1))
    )
    drawn = batches(len(data.train), recipe.batch, seed)
    clock = time.process_time if device == "cpu" else time.perf_counter
    wait, seconds, losses = synchronizer(next(model.parameters())), [], []
    for chosen in islice(drawn, recipe.steps):
        batch = batch_of(data.train, chosen, device)
        start = clock()
        losses.append(step(model, optimiser, batch))
        wait()
        seconds.append(clock() - start)
        schedule.step()
    found = {
        name: accuracy(model, examples, recipe.batch, device)
        for name, examples in (("validation", data.validation), ("accuracy", data.test))
    }
    last = batch_of(data.train, next(drawn), device)
    return {
        **found,
        "chance": float(np.bincount(data.test.labels).max() / len(data.test)),
        "loss": float(np.mean(losses[-20:])),
        "milliseconds": statistics.median(seconds) * 1e3,
        "peak_bytes": peak(lambda: step(model, optimiser, last), last[1]),
        "source": data.source,
    }


def peak(fn: Callable[[], Any], array: Tensor) -> int:
    """Bytes that Torch holds at the peak of a call beyond those before."""
    return (peak_memory(fn, array=array) if array.is_cuda else allocated_peak(fn)).bytes
