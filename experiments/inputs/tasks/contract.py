"""What a task gives: numbered tokens with their lengths and labels, in three parts that share no example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Array", "Examples", "Splits", "Texts", "cut", "labelled_order", "pack"]

Array = np.ndarray


@dataclass(frozen=True)
class Examples:
    """Token numbers (count, parts, length), padded on the right with 0, their lengths (count, parts) and labels.

    An example has one part, or two where a pair of sequences is to be judged.
    """

    ids: Array
    lengths: Array
    labels: Array

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, chosen: Any) -> Examples:
        return Examples(self.ids[chosen], self.lengths[chosen], self.labels[chosen])


@dataclass(frozen=True)
class Splits:
    """Examples to train on, to choose by, and to test on; sizes of vocabulary and classes; where they come from."""

    train: Examples
    validation: Examples
    test: Examples
    vocabulary: int
    classes: int
    source: str


@dataclass(frozen=True)
class Texts:
    """Texts and labels in the three parts, for a model that has its own tokenizer."""

    train: Sequence[tuple[str, int]]
    validation: Sequence[tuple[str, int]]
    test: Sequence[tuple[str, int]]
    classes: int
    source: str


def pack(sequences: Sequence[Sequence[Sequence[int]]], labels: Sequence[int], length: int) -> Examples:
    """Examples of sequences (count, parts) of token numbers, each cut to ``length`` tokens; an empty one is one 1."""
    parts = len(sequences[0]) if sequences else 1
    ids = np.zeros((len(sequences), parts, length), np.int32)
    lengths = np.zeros((len(sequences), parts), np.int64)
    for i, example in enumerate(sequences):
        for j, sequence in enumerate(example):
            kept = list(sequence[:length]) or [1]
            ids[i, j, : len(kept)] = kept
            lengths[i, j] = len(kept)
    return Examples(ids, lengths, np.asarray(labels, np.int64))


def cut(
    examples: Examples, sizes: tuple[int, int, int], vocabulary: int, classes: int, source: str
) -> Splits:
    """The three parts of one run of examples, the first ``sizes[0]`` to train on, and so forth."""
    ends = np.cumsum(sizes)
    starts = ends - np.array(sizes)
    three = (examples[a:b] for a, b in zip(starts, ends, strict=True))
    return Splits(*three, vocabulary, classes, source)


def labelled_order(count: int) -> Array:
    """An order of ``count`` examples that mixes labels and is always the same."""
    return np.random.default_rng(0).permutation(count)
