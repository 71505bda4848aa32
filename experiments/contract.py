"""What a claim, a case, a record and a verdict are.

A claim is a module in :mod:`experiments.claims` with these names::

    TITLE      a few words
    CLAIM      a sentence
    SOURCE     paper and equation, or section
    EXCLUSIVE  True if it measures time: its cases then run one at a time, beside nothing else
    ALT        what its figure shows, for a reader who cannot see it

    grid(profile)      -> tuple[Case, ...]       the same on every machine, whatever is installed
    run(case)          -> list[Row]              pure; raises on failure, and the runner records it
    verdicts(records)  -> tuple[Verdict, ...]    one for each statement put to the test, by the records there are
    table(records)     -> pandas.DataFrame       the numbers behind the figure, summarised
    plot(records)      -> matplotlib Figure      reads records only
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Row = dict[str, Any]
"""One flat, JSON-able line of measurements; a claim's rows make a tidy table."""

PROFILES = ("quick", "full", "gpu")


@dataclass(frozen=True)
class Case:
    """One unit of work, determined by its JSON-able parameters and its seed."""

    claim: str
    params: Mapping[str, Any]
    seed: int = 0

    @property
    def key(self) -> str:
        """A digest of everything that determines the case."""
        text = json.dumps([self.claim, self.params, self.seed], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class Status(Enum):
    """What became of a case: it has rows, it failed, or an input of it is not on the machine."""

    DONE = "done"
    FAILED = "failed"
    NOT_AVAILABLE = "not available"


@dataclass(frozen=True)
class Absence:
    """An input that is not on the machine, and the line that brings it."""

    what: str
    remedy: str


@dataclass(frozen=True)
class Record:
    """What came of a case: its rows, or what ended it, with where and on what it ran.

    ``error`` is that of a case that failed, ``absent`` the input without which one could not run.
    """

    case: Case
    rows: tuple[Row, ...]
    error: str | None
    seconds: float
    environment: Mapping[str, str]
    absent: Absence | None = None

    @property
    def status(self) -> Status:
        if self.error is not None:
            return Status.FAILED
        return Status.DONE if self.absent is None else Status.NOT_AVAILABLE

    @property
    def ok(self) -> bool:
        return self.status is Status.DONE


class Outcome(Enum):
    """What the numbers say of a statement."""

    SUPPORTED = "SUPPORTED"
    REFUTED = "REFUTED"
    UNDECIDED = "UNDECIDED"


@dataclass(frozen=True)
class Verdict:
    """A statement, what became of it, and the numbers that decide."""

    statement: str
    outcome: Outcome
    because: str


class Claim(Protocol):
    """The module of a claim, as the runner and the report see it."""

    __name__: str
    TITLE: str
    CLAIM: str
    SOURCE: str
    EXCLUSIVE: bool
    ALT: str

    def grid(self, profile: str) -> tuple[Case, ...]: ...
    def run(self, case: Case) -> list[Row]: ...
    def verdicts(self, records: Iterable[Record]) -> tuple[Verdict, ...]: ...
    def table(self, records: Iterable[Record]) -> pd.DataFrame: ...
    def plot(self, records: Iterable[Record]) -> Figure: ...


def frame(records: Iterable[Record]) -> pd.DataFrame:
    """All rows of the successful records as one tidy table, each beside its case's parameters."""
    import pandas as pd

    return pd.DataFrame(
        [{**r.case.params, "seed": r.case.seed, **row} for r in records if r.ok for row in r.rows]
    )
