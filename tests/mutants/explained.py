"""The list of mutants that may survive, each with its reason: ``explained.toml``."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import toml as tomllib

LIST = Path(__file__).with_suffix(".toml")


@dataclass(frozen=True)
class Entry:
    """A mutant by what it changes: lines of a function; the same change twice in a function is one entry."""

    file: str
    function: str
    was: str
    becomes: str
    reason: str = field(default="", compare=False)


def read() -> list[Entry]:
    """The entries of the list; one without a reason is refused."""
    entries = [Entry(**table) for table in tomllib.loads(LIST.read_text("utf-8")).get("mutant", [])]
    for entry in entries:
        if not entry.reason.strip():
            raise ValueError(f"no reason is given for {entry}")
    return entries


def written(entries: Iterable[Entry]) -> str:
    """Entries as they stand in the list."""
    return "\n".join(
        "\n".join(["[[mutant]]", *(f"{key} = {_quoted(value)}" for key, value in vars(entry).items()), ""])
        for entry in entries
    )


def _quoted(text: str) -> str:
    if "\n" in text:
        return f"'''\n{text}'''"
    return f"'{text}'" if "'" not in text else f"'''{text}'''"
