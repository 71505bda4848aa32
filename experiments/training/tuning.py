"""MiniLM tuned to judge texts, its attention exact, replaced before, or replaced after."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from experiments.contract import Row
from experiments.engine.timing import allocated_peak
from experiments.inputs import models
from experiments.inputs.tasks.contract import Texts
from experiments.training.learning import Recipe, batches
from nystrom_numerics.integrations.transformers import register_with_transformers, use_nystrom
from nystrom_numerics.pinv import razavi

__all__ = ["EXACT", "Judge", "longer_than", "tune"]

EXACT = "exact"
WARM = 0.1
_NAME = "evaluation"


class Judge(nn.Module):
    """Scores of texts by the mean of MiniLM's states and one linear map; no dropout, which no approximation has."""

    def __init__(self, classes: int, seed: int) -> None:
        super().__init__()
        self.model, self.tokenizer = models.minilm()
        for module in self.model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        torch.manual_seed(seed)
        self.out = nn.Linear(self.model.config.hidden_size, classes)

    def forward(self, encoded: dict[str, Tensor]) -> Tensor:
        states = self.model(**encoded).last_hidden_state
        weight = encoded["attention_mask"][..., None].to(states.dtype)
        scores: Tensor = self.out((states * weight).sum(dim=1) / weight.sum(dim=1))
        return scores

    def encode(self, texts: Sequence[str], tokens: int, device: str) -> dict[str, Tensor]:
        """Token numbers and mask of texts, cut to ``tokens``."""
        found = self.tokenizer(
            list(texts), truncation=True, max_length=tokens, padding=True, return_tensors="pt"
        )
        return {name: found[name].to(device) for name in ("input_ids", "attention_mask")}


def longer_than(texts: Sequence[tuple[str, int]], limit: int) -> Row:
    """How many texts have more tokens than ``limit`` by MiniLM's tokenizer, which is BERT's, and the most."""
    tokenizer = models.minilm()[1]
    lengths = [len(ids) for ids in tokenizer([text for text, _ in texts])["input_ids"]]
    return {
        "texts": len(lengths),
        "longer": sum(n > limit for n in lengths),
        "most": max(lengths),
        "median": float(statistics.median(lengths)),
    }


def tune(
    data: Texts,
    before: str,
    after: Sequence[tuple[str, int]],
    m: int,
    tokens: int,
    recipe: Recipe,
    seed: int,
    device: str = "cpu",
) -> Iterator[Row]:
    """Train with the attention ``before``, exact or an estimator with m landmarks; accuracies then, and with others.

    ``after`` has the estimators and landmarks that are put in once all is trained.
    """
    judge = Judge(data.classes, seed).to(device).train()
    if before != EXACT:
        _register(before, m)
        use_nystrom(judge.model, _NAME)
    timings = _fit(judge, data, tokens, recipe, seed, device)
    name = EXACT if before == EXACT else f"{before} {m}, before"
    told = partial(_judged, judge, data, tokens, recipe.batch, device)
    yield {"method": name, **told(), **timings}
    for estimator, landmarks in after:
        _register(estimator, landmarks)
        with use_nystrom(judge.model, _NAME):
            yield {"method": f"{estimator} {landmarks}, after", **told(), **timings}


def _register(estimator: str, m: int) -> None:
    chosen: dict[str, dict[str, Any]] = {"Nyström": {"pinv": razavi}, "tangents": {"tangent": True}}
    register_with_transformers(_NAME, m=m, **chosen[estimator])


def _fit(judge: Judge, data: Texts, tokens: int, recipe: Recipe, seed: int, device: str) -> Row:
    optimiser = torch.optim.AdamW(judge.parameters(), lr=recipe.rate)
    warm = max(1, round(WARM * recipe.steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda s: min((s + 1) / warm, (recipe.steps - s) / (recipe.steps - warm + 1))
    )

    def step(chosen: np.ndarray) -> None:
        texts, labels = zip(*(data.train[i] for i in chosen), strict=True)
        encoded = judge.encode(texts, tokens, device)
        loss = nn.functional.cross_entropy(judge(encoded), torch.tensor(labels, device=device))
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(judge.parameters(), 1.0)
        optimiser.step()

    drawn, seconds = batches(len(data.train), recipe.batch, seed), []
    clock = time.process_time if device == "cpu" else time.perf_counter
    for chosen in islice(drawn, recipe.steps):
        start = clock()
        step(chosen)
        seconds.append(clock() - start)
        schedule.step()
    found: Row = {"milliseconds": statistics.median(seconds) * 1e3}
    if device == "cpu":
        last = next(drawn)
        found["peak_bytes"] = allocated_peak(lambda: step(last)).bytes
    return found


def _judged(judge: Judge, data: Texts, tokens: int, size: int, device: str) -> Row:
    """Accuracies on the texts to validate and to test on, in an order by length, so that little is padded."""
    judge.eval()
    found: Row = {"chance": max(np.bincount([label for _, label in data.test])) / len(data.test)}
    with torch.inference_mode():
        for name, texts in (("validation", data.validation), ("accuracy", data.test)):
            order = sorted(texts, key=lambda text: len(text[0]))
            right = 0
            for i in range(0, len(order), size):
                some, labels = zip(*order[i : i + size], strict=True)
                scores = judge(judge.encode(some, tokens, device))
                right += int((scores.argmax(dim=-1).cpu() == torch.tensor(labels)).sum())
            found[name] = right / len(order)
    judge.train()
    return found
