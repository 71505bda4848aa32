"""SST-2: sentences of film reviews and whether they are positive, in GLUE's form."""

from __future__ import annotations

import csv
from pathlib import Path

from experiments.inputs.tasks.contract import Texts, labelled_order
from experiments.inputs.tasks.folder import needed

__all__ = ["texts"]

_ORIGIN = "https://dl.fbaipublicfiles.com/glue/data/SST-2.zip (Socher et al. 2013; Wang et al. 2019)"
_PLACES = ("SST-2", "sst2")


def texts(sizes: tuple[int, int, int]) -> Texts:
    """Sentences with labels; tested on GLUE's development set, validated on what is left of its training set.

    The folder has GLUE's own ``train.tsv`` and ``dev.tsv``, or the same as ``train.tsv`` and ``dev.tsv`` (parts of the
    training set) and ``test.tsv`` (the development set), told by the labels of ``test.tsv``.

    Raises
    ------
    NotAvailableError
        The user's folder has no SST-2.
    """
    folder = needed("SST-2", _ORIGIN, *_PLACES)
    resplit = (folder / "test.tsv").exists() and "label" in (folder / "test.tsv").open().readline().split()
    train, test = _read(folder / "train.tsv"), _read(folder / ("test.tsv" if resplit else "dev.tsv"))
    train = [train[i] for i in labelled_order(len(train))]
    held = [*_read(folder / "dev.tsv")] if resplit else train[sizes[0] :]
    return Texts(
        train[: sizes[0]], held[: sizes[1]], test[: sizes[2]], 2, "SST-2, tested on GLUE's development set"
    )


def _read(path: Path) -> list[tuple[str, int]]:
    with path.open(newline="", encoding="utf-8") as lines:
        rows = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [(row["sentence"].strip(), int(row["label"])) for row in rows]
