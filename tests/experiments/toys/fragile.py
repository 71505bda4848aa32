"""A toy claim whose cases die, raise, or return what JSON cannot say."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from experiments.contract import Case, Outcome, Verdict, frame

TITLE = "Fragile"
CLAIM = "A case that fails harms no other."
SOURCE = "Murphy"
EXCLUSIVE = False
ALT = "Nothing to see."

KINDS = ("well", "dies once", "dies", "raises", "unwritable", "well too")


def grid(profile):
    return tuple(
        Case("fragile", {"kind": kind, "folder": os.environ.get("TOY_FOLDER", "")}) for kind in KINDS
    )


def run(case):
    kind, mark = case.params["kind"], Path(case.params["folder"], "died")
    if kind == "dies" or (kind == "dies once" and not mark.exists()):
        if kind == "dies once":
            mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "raises":
        raise ValueError("<script>alert('no')</script>")
    return [{"value": object() if kind == "unwritable" else float("nan")}]


def verdicts(records):
    return (Verdict(CLAIM, Outcome.UNDECIDED, f"{len(frame(records))} rows"),)


def table(records):
    return frame(records)


def plot(records):
    raise RuntimeError("no figure of this")
