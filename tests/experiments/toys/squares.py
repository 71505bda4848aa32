"""A toy claim with many small cases: the square of a number is not negative."""

from __future__ import annotations

import os
import time

from experiments.contract import Case, Outcome, Verdict, frame

TITLE = "Squares"
CLAIM = "The square of a number is not negative."
SOURCE = "Euclid"
EXCLUSIVE = False
ALT = "Squares against numbers: a parabola."


def grid(profile):
    return tuple(Case("squares", {"x": x}) for x in range(int(os.environ.get("TOY_CASES", "6"))))


def run(case):
    time.sleep(float(os.environ.get("TOY_SECONDS", "0")))
    return [{"square": case.params["x"] ** 2}]


def verdicts(records):
    least = frame(records)["square"].min()
    return (Verdict(CLAIM, Outcome.SUPPORTED if least >= 0 else Outcome.REFUTED, f"least square {least}"),)


def table(records):
    return frame(records)[["x", "square"]].sort_values("x")


def plot(records):
    from matplotlib.figure import Figure

    figure = Figure()
    table(records).plot("x", "square", ax=figure.subplots())
    return figure
