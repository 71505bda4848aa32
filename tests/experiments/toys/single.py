"""A toy claim that measures time, so that its cases must run one at a time."""

from __future__ import annotations

import time

from squares import plot

from experiments.contract import Case, Outcome, Verdict, frame

__all__ = ["plot"]

TITLE = "Single"
CLAIM = "Time passes."
SOURCE = "Heraclitus"
EXCLUSIVE = True
ALT = "A line."


def grid(profile):
    return tuple(Case("single", {"x": x}) for x in range(4))


def run(case):
    start = time.time()
    time.sleep(0.05)
    return [{"start": start, "end": time.time(), "square": 0}]


def verdicts(records):
    return (Verdict(CLAIM, Outcome.SUPPORTED, "it does"),)


def table(records):
    return frame(records)[["x", "start", "end"]]
