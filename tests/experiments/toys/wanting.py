"""A toy claim of which one case wants an input that is a file, which may not be there."""

from __future__ import annotations

import os
from pathlib import Path

from squares import plot

from experiments.contract import Case, Outcome, Verdict, frame
from experiments.errors import NotAvailableError

__all__ = ["plot"]

TITLE = "Wanting"
CLAIM = "What is here is judged."
SOURCE = "Necessity"
EXCLUSIVE = False
ALT = "A line."


def grid(profile):
    return tuple(Case("wanting", {"x": x}) for x in range(3))


def run(case):
    if case.params["x"] == 2 and not Path(os.environ.get("TOY_INPUT", "no such file")).exists():
        raise NotAvailableError("the toy's input", "touch it")
    return [{"square": case.params["x"] ** 2}]


def verdicts(records):
    return (Verdict(CLAIM, Outcome.SUPPORTED, f"{len(frame(records))} rows"),)


def table(records):
    return frame(records)
