r"""Which rows to look at: a pilot, sizes predicted from it, a draw proportional to size, and what it tells.

Source: Särndal, Swensson and Wretman 1992, §3.5 and §3.6.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Any, TypeAlias

import numpy as np

__all__ = [
    "INFLATION",
    "PILOT",
    "Sample",
    "pilot_of",
    "proportional",
    "sampled",
    "sizes_of",
    "standard_errors",
]

PILOT, FLOOR = 5, 0.2
"""One row in 5 is looked at first; no prediction counts for less than 0.2 of the mean."""

INFLATION = 1.3
"""What Student's quantile is multiplied by, for errors of rows are skewed: see ``certify_rows``."""

Numbers: TypeAlias = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Sample:
    """What some rows say of two sums over all n.

    ``seen`` (r,) are the rows, ``known`` (2, r) what they have, ``totals`` (2,) the sums, ``spread`` (2,) their
    standard errors, to be taken ``quantile`` times, with which ``probability`` for each side.
    """

    seen: Numbers
    known: Numbers
    totals: Numbers
    spread: Numbers
    quantile: float
    probability: float
    what: str
    words: str


def sampled(
    n: int,
    rows: int,
    look: Callable[[Numbers], tuple[Numbers, Numbers]],
    sizes: Callable[[Numbers, Numbers, Numbers], Numbers],
    failure: float,
    source: np.random.Generator,
) -> Sample:
    """A pilot is looked at, and ``rows`` less its own drawn in proportion to the sizes that it predicts.

    ``look(some)`` gives what some rows have, (2, r), and what else it saw; ``sizes(pilot, has, saw)`` predicts (n,).
    All n rows are known with certainty.
    """
    if rows == n:
        known, _ = look(np.arange(n))
        what = "all rows exact"
        return Sample(np.arange(n), known, known.sum(axis=1), np.zeros(2), 0.0, 1.0, what, what)
    from scipy.stats import t

    pilot = pilot_of(n, max(2, rows // PILOT), source)
    first, saw = look(pilot)
    predicted = sizes(pilot, first, saw)
    rest = np.setdiff1d(np.arange(n), pilot)
    chosen, chance = proportional(predicted[rest], rows - len(pilot), source)
    second, _ = look(rest[chosen])
    seen, known = np.concatenate([pilot, rest[chosen]]), np.concatenate([first, second], axis=1)
    weighed = second / chance
    spread, degrees = standard_errors(weighed, chance)
    quantile = INFLATION * float(t.ppf(1 - failure / 2, degrees))
    what = f"{len(seen)} exact rows of {n}, drawn by predicted error"
    words = f"{what}; Student's quantile times {INFLATION} (Särndal et al. 1992, §3.6)"
    totals = first.sum(axis=1) + weighed.sum(axis=1)
    return Sample(seen, known, totals, spread, quantile, 1 - failure / 2, what, words)


def pilot_of(n: int, count: int, source: np.random.Generator) -> Numbers:
    """Rows evenly spread from a random start, and the first and the last."""
    inner = n - 2
    spread = 1 + ((np.arange(count) + source.random()) * inner / count).astype(np.int64)
    return np.unique(np.concatenate([[0, n - 1], spread]))


def sizes_of(features: Numbers, pilot: Numbers, errors: Numbers) -> Numbers:
    """Predicted squared errors of all rows, of matrix and output together, mean 1, none below :data:`FLOOR`."""
    from scipy.optimize import nnls

    inner = slice(1, -1)  # the first and the last row are no rule for others
    sizes = np.zeros(len(features))
    for y in errors:
        mean = y[inner].mean()
        if mean > 0:
            predicted = features @ nnls(features[pilot[inner]], y[inner] / mean)[0]
            sizes += predicted / predicted.mean()  # the constant feature alone makes it positive
    if not sizes.mean() > 0:
        return np.ones_like(sizes)
    # rounded, so that the order of equal sizes does not hang on a backend's last digits
    return np.asarray(np.round((1 - FLOOR) * sizes / sizes.mean() + FLOOR, 4))


def proportional(sizes: Numbers, count: int, source: np.random.Generator) -> tuple[Numbers, Numbers]:
    """``count`` distinct indices, with chances proportional to size and at most 1, and these chances.

    Systematic along the order of sizes, which stratifies by them.
    """
    sure = np.zeros(len(sizes), dtype=bool)
    while True:
        left = count - int(sure.sum())
        chance = np.where(sure, 1.0, left * sizes / max(float(sizes[~sure].sum()), 1e-300))
        over = ~sure & (chance >= 1)
        if not over.any():
            break
        sure |= over
    order = np.argsort(sizes, kind="stable")
    cumulative = np.cumsum(chance[order])
    marks = np.arange(count) + source.random()
    chosen = order[np.minimum(np.searchsorted(cumulative, marks, side="right"), len(order) - 1)]
    chosen = np.unique(chosen)
    return chosen, chance[chosen]


def standard_errors(weighed: Numbers, chance: Numbers) -> tuple[Numbers, int]:
    """Standard errors of the two totals, and degrees of freedom; one row drawn tells nothing of the others."""
    left = np.maximum(1 - chance, 0.0)
    drawn = left > 1e-12
    count = int(drawn.sum())
    if count < 2:
        return np.full(2, inf if count else 0.0), 1
    left, weighed = left[drawn], weighed[:, drawn]
    centre = (weighed * left).sum(axis=1, keepdims=True) / left.sum()
    variance = count / (count - 1) * (left * (weighed - centre) ** 2).sum(axis=1)
    return np.sqrt(variance), count - 1
