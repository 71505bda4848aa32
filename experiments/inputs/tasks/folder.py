"""The folder of the user's own copies of data, which the variable ``NYSTROM_DATA`` names."""

from __future__ import annotations

import os
from pathlib import Path

from experiments.errors import NotAvailableError

__all__ = ["VARIABLE", "needed", "own"]

VARIABLE = "NYSTROM_DATA"


def own(*places: str) -> Path | None:
    """The first of the places, relative to the user's folder, that is there; none where no folder is named."""
    folder = os.environ.get(VARIABLE)
    if not folder:
        return None
    return next((Path(folder, place) for place in places if Path(folder, place).exists()), None)


def needed(content: str, origin: str, *places: str) -> Path:
    """The same, where nothing else has the data.

    Raises
    ------
    NotAvailableError
        Saying what is missing, from where it comes, and where it is looked for.
    """
    found = own(*places)
    if found is None:
        looked = " or ".join(places)
        raise NotAvailableError(
            content, f"get it from {origin} and set {VARIABLE} to the folder with {looked}"
        )
    return found
