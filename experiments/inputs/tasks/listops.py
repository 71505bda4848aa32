"""ListOps: nested lists of digits and their values."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from statistics import median

import numpy as np

from experiments.inputs.tasks.contract import Examples, Splits, cut, pack
from experiments.inputs.tasks.folder import own

__all__ = ["apply", "load", "spell"]

_OPERATIONS = ("[MIN", "[MAX", "[MED", "[SM")
_SYMBOLS = ("", *map(str, range(10)), *_OPERATIONS, "]")
_NUMBER = {symbol: i for i, symbol in enumerate(_SYMBOLS)}
_DEPTH, _ARGUMENTS, _NESTED = 10, 10, 0.25
_FOLDER, _FILES = "listops", ("basic_train.tsv", "basic_val.tsv", "basic_test.tsv")


@lru_cache(maxsize=1)
def load(sizes: tuple[int, int, int], length: int) -> Splits:
    """Nested lists of digits under minimum, maximum, median and sum modulo 10, and their values.

    The rules are those of Nangia and Bowman 2018 with the sizes of the Long Range Arena (Tay et al. 2021): nested to
    depth 10, 2 to 10 arguments, each a list with probability 1/4; lengths from a quarter of ``length`` to ``length``.
    The arena's own files are read from ``listops/`` of the user's folder, where ``length`` is their 2,000 or more.
    """
    folder = own(_FOLDER)
    if folder is not None and length >= 2000 and all((folder / name).exists() for name in _FILES):
        parts = (_read(folder / name, size, length) for name, size in zip(_FILES, sizes, strict=True))
        return Splits(*parts, len(_SYMBOLS), 10, "ListOps, the arena's files")
    made = list(islice(_expressions(np.random.default_rng(0), length), sum(sizes)))
    examples = pack([[tokens] for tokens, _ in made], [value for _, value in made], length)
    return cut(examples, sizes, len(_SYMBOLS), 10, "ListOps, generated from its rules")


def _read(path: Path, size: int, length: int) -> Examples:
    """The first lines of a file of the arena: an expression with brackets for a parser, a tab, its value."""
    with path.open(newline="", encoding="utf-8") as lines:
        rows = list(islice(csv.DictReader(lines, delimiter="\t"), size))
    split = [[_NUMBER[symbol] for symbol in row["Source"].split() if symbol not in "()"] for row in rows]
    return pack([[tokens] for tokens in split], [int(row["Target"]) for row in rows], length)


def _expressions(rng: np.random.Generator, length: int) -> Iterator[tuple[list[int], int]]:
    uniform = _uniform(rng).__next__
    while True:
        tokens: list[int] = []
        value = _grow(uniform, tokens, 1, length)
        if length // 4 <= len(tokens) <= length:
            yield tokens, value


def _uniform(rng: np.random.Generator) -> Iterator[float]:
    """Numbers in [0, 1), drawn by the thousand: one at a time takes ten times as long."""
    while True:
        yield from rng.random(4096).tolist()


def _grow(uniform: Callable[[], float], tokens: list[int], depth: int, length: int) -> int:
    """Append one expression and give its value; one that is too long is cut short and thrown away later."""
    if len(tokens) > length or depth > _DEPTH or (depth > 1 and uniform() > _NESTED):
        value = int(10 * uniform())
        tokens.append(value + 1)
        return value
    operation = int(len(_OPERATIONS) * uniform())
    tokens.append(11 + operation)
    arguments = 2 + int((_ARGUMENTS - 1) * uniform())
    values = [_grow(uniform, tokens, depth + 1, length) for _ in range(arguments)]
    tokens.append(len(_SYMBOLS) - 1)
    return apply(operation, values)


def apply(operation: int, values: Sequence[int]) -> int:
    """The value of a list: minimum, maximum, median rounded down, or sum modulo 10."""
    return int((min, max, median, lambda v: sum(v) % 10)[operation](values))  # type: ignore[operator]


def spell(ids: Sequence[int]) -> str:
    """An expression of :func:`load` in its usual notation."""
    return " ".join(_SYMBOLS[i] for i in ids if i)
