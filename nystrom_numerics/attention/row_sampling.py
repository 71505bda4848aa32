r"""Which rows to look at: a pilot, sizes predicted from it, a draw proportional to size, and what it tells.

Of some sums over n rows, the rows seen are known, and those drawn stand for the rest: at a number of rows that is given
(:func:`sampled`), or until an interval is as narrow as is asked (:func:`sampled_within`).

Source: Särndal, Swensson and Wretman 1992, §3.5 to §3.7; Chow and Robbins 1965 for intervals of fixed width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf, log1p
from typing import Any, TypeAlias

import numpy as np

from nystrom_numerics.bounds.betting import Batch

__all__ = [
    "INFLATION",
    "PILOT",
    "Drawn",
    "Sample",
    "pilot_of",
    "proportional",
    "refitted",
    "sampled",
    "sampled_within",
    "sizes_of",
    "standard_errors",
]

PILOT, FLOOR = 5, 0.2
"""One row in 5 is looked at first; no prediction counts for less than 0.2 of the mean."""

INFLATION = 1.3
"""What Student's quantile is multiplied by, for errors of rows are skewed: see ``certify_rows``."""

QUARTER, REACH, NEARBY = 4, 2.0, 6
"""For an interval of given width a quarter of the first rows are spread evenly, as many are those most suspected,
and as
many are scouts; what a row seen says of others halves every ``REACH`` rows away, ``NEARBY`` of them on either side.
"""

SPARE = 1.15
"""What the rows that a spread asks for are multiplied by."""

Numbers: TypeAlias = np.ndarray[Any, Any]
Look: TypeAlias = Callable[[Numbers], tuple[Numbers, Numbers]]


@dataclass(frozen=True)
class Sample:
    """What some rows say of s sums over all n.

    ``seen`` (r,) are the rows, ``known`` (s, r) what they have, ``totals`` (s,) the sums, ``spread`` (s,) their
    standard errors, to be taken ``quantile`` times, with which ``probability`` for each side; in logarithms of roots
    an interval reaches ``least`` at least.  ``batches`` are the draws, and ``most`` (s,) what the sums are at most.
    ``looks`` intervals were made, and ``needed`` rows would have been enough for the width asked for, by the last.
    """

    seen: Numbers
    known: Numbers
    totals: Numbers
    spread: Numbers
    quantile: float
    probability: float
    what: str
    words: str
    batches: tuple[Batch, ...] = ()
    most: Numbers | None = None
    least: float = 0.0
    looks: int = 1
    needed: int | None = None

    def half_width(self, sums: slice = slice(None)) -> float:
        r"""How far, relatively, the interval of the root of a sum reaches above the estimate, of the widest of some."""
        return float(np.expm1(min(max(self.least, self._reach(sums)), 700.0)))

    def _reach(self, sums: slice) -> float:
        totals, spread = self.totals[sums], self.spread[sums]
        relative = np.divide(spread, 2 * totals, out=np.where(spread > 0, inf, 0.0), where=totals > 0)
        return float((self.quantile * relative).max()) if self.quantile else 0.0


@dataclass(frozen=True)
class Drawn:
    """Rows ``chosen`` (c,), with their ``chance`` (c,) of being so, those of chance one first.

    Each other stands for a stratum of its own, of all but ``carried`` (c,) of it, which the one before stands for.
    """

    chosen: Numbers
    chance: Numbers
    carried: Numbers

    def weighed(self, known: Numbers) -> Numbers:
        """What strata have (s, c), unbiased and independent of each other, by what the rows have (s, c)."""
        rows = known / self.chance
        before = np.concatenate([rows[:, :1], rows[:, :-1]], axis=1)
        return np.asarray(rows + self.carried * (before - rows))


def sampled(
    n: int,
    rows: int,
    look: Look,
    sizes: Callable[[Numbers, Numbers, Numbers], Numbers],
    failure: float,
    source: np.random.Generator,
    limits: Numbers | None = None,
    suspects: Numbers | None = None,
) -> Sample:
    """A pilot is looked at, and ``rows`` less its own drawn in proportion to the sizes that it predicts.

    As many ``suspects`` as the pilot has, those that come first, are looked at too, and predict nothing.

    ``look(some)`` gives what some rows have, (s, r), and what else it saw; ``sizes(pilot, has, saw)`` predicts (n,).
    ``limits`` (s, n) are what rows have at most, where that is known.  All n rows are known with certainty.
    """
    if rows == n:
        return _of_all(look(np.arange(n))[0], np.arange(n))
    pilot = pilot_of(n, max(2, rows // PILOT), source)
    first, saw = look(pilot)
    predicted, known, at = sizes(pilot, first, saw), first, pilot
    if suspects is not None:
        more = np.setdiff1d(suspects[: rows // PILOT], pilot)
        at, known = np.concatenate([pilot, more]), np.concatenate([first, look(more)[0]], axis=1)
    seen = _Seen(n, look, limits, at, known)
    weighed, drawn = seen.draw(predicted, rows - len(at), source)
    return seen.told(weighed, drawn, failure)


def sampled_within(
    n: int,
    first: int,
    most: int,
    within: float,
    narrow: int,
    look: Look,
    features: Callable[[Numbers, Numbers], Numbers],
    failure: float,
    source: np.random.Generator,
    limits: Numbers | None = None,
    suspects: Numbers | None = None,
) -> Sample:
    r"""Rows are drawn until the intervals of the first ``narrow`` sums' roots reach ± ``within`` of the estimates.

    A first look is at ``first`` rows: a quarter spread evenly with the ends, a quarter ``suspects`` (those that come
    first), a quarter scouts, drawn by the sizes that these predict, and the last quarter, drawn by the sizes that all
    predict.  Where its interval is wider, more are drawn, as many as its spread asks for, half as many as were seen at
    least, by sizes predicted anew, up to ``most``.  Each look's interval is of its own draw alone, given all rows seen
    before, so that it keeps its confidence whatever these were; look k fails with ``failure`` · 2⁻ᵏ, all together with
    ``failure`` (union bound).  What is reported, once narrow enough, is the width asked for, and no less.

    ``features(seen, saw)`` gives (n, f) after the first rows, from which sizes are predicted.
    """
    if first >= n:
        return _of_all(look(np.arange(n))[0], np.arange(n))
    pilot = np.union1d(
        pilot_of(n, max(2, first // QUARTER), source), np.array([0, min(1, n - 1), max(n - 2, 0), n - 1])
    )
    if suspects is not None:
        pilot = np.union1d(pilot, suspects[: first // QUARTER])
    known, saw = look(pilot)
    seen = _Seen(n, look, limits, pilot, known)
    given, sizes = features(pilot, saw), np.ones(n)
    count, looks, limit = max(2, first // QUARTER), -1, log1p(within)
    while True:
        sizes = refitted(given, seen.rows, seen.known[:narrow], sizes)
        weighed, drawn = seen.draw(sizes, count, source)
        if len(seen.rows) == n:
            return _of_all(seen.known, seen.rows, max(looks + 1, 1))
        looks += 1
        if looks == 0:  # scouts
            count = max(2, min(first, most) - len(seen.rows))
            continue
        told = seen.told(weighed, drawn, failure * 2.0**-looks, failure, looks)
        reach = told._reach(slice(narrow))
        if reach <= limit:
            return replace(told, least=limit)
        factor = _quantile(failure * 2.0 ** -(looks + 1), inf) / _quantile(failure * 2.0**-looks, inf)
        asked = min(count * (reach * factor / limit) ** 2 * SPARE, 2.0**60)
        if len(seen.rows) >= most:
            return replace(told, needed=min(n, int(len(seen.rows) - count + asked)))
        count = int(min(max(asked, len(seen.rows) / 2, 2), most - len(seen.rows)))


def _of_all(known: Numbers, rows: Numbers, looks: int = 1) -> Sample:
    order = np.argsort(rows)
    known, zeros, what = np.ascontiguousarray(known[:, order]), np.zeros(len(known)), "all rows exact"
    totals = known.sum(axis=1)
    return Sample(rows[order], known, totals, zeros, 0.0, 1.0, what, what, most=totals, looks=looks)


def _quantile(failure: float, degrees: float) -> float:
    from scipy.stats import t

    return INFLATION * float(t.ppf(1 - failure / 2, degrees))


class _Seen:
    """The rows seen so far, and what they have; each draw is from all others."""

    def __init__(self, n: int, look: Look, limits: Numbers | None, rows: Numbers, known: Numbers) -> None:
        self.n, self.look, self.limits = n, look, limits
        self.rows, self.known = rows, known
        self.before, self.batches = known.sum(axis=1), list[Batch]()

    def draw(self, sizes: Numbers, count: int, source: np.random.Generator) -> tuple[Numbers, Drawn]:
        """What the strata of ``count`` more rows have; these are seen from now on."""
        rest = np.setdiff1d(np.arange(self.n), self.rows)
        drawn = proportional(sizes[rest], min(count, len(rest)), source)
        known, _ = self.look(rest[drawn.chosen])
        weighed, sure = drawn.weighed(known), int((drawn.chance == 1).sum())
        self.before = self.known.sum(axis=1)
        if self.limits is not None and sure < len(drawn.chosen):
            others = np.delete(rest, drawn.chosen[:sure])
            chance = (len(drawn.chosen) - sure) * sizes[others] / sizes[others].sum()
            largest = (self.limits[:, others] / chance).max(axis=1)
            fixed = self.before + known[:, :sure].sum(axis=1)
            self.batches.append(Batch(fixed, weighed[:, sure:], largest))
        self.rows = np.concatenate([self.rows, rest[drawn.chosen]])
        self.known = np.concatenate([self.known, known], axis=1)
        return weighed, drawn

    def told(
        self, weighed: Numbers, drawn: Drawn, failure: float, whole: float | None = None, looks: int = 1
    ) -> Sample:
        """By the last draw, with a ``failure`` of its interval, of which ``whole`` is said."""
        whole = failure if whole is None else whole
        spread, degrees = standard_errors(weighed, drawn.chance)
        what = f"{len(self.rows)} exact rows of {self.n}, drawn by predicted error"
        words = f"{what}; Student's quantile times {INFLATION} (Särndal et al. 1992, §3.6)"
        most = None
        if self.limits is not None:
            most = self.known.sum(axis=1) + np.delete(self.limits, self.rows, axis=1).sum(axis=1)
        return Sample(
            self.rows,
            self.known,
            self.before + weighed.sum(axis=1),
            spread,
            _quantile(failure, degrees),
            1 - whole / 2,
            what,
            words,
            tuple(self.batches),
            most,
            looks=looks,
        )


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
    return _floored(sizes)


def refitted(features: Numbers, seen: Numbers, errors: Numbers, before: Numbers) -> Numbers:
    """As :func:`sizes_of`, from rows that were drawn by the sizes ``before`` (n,): their relative errors are fitted.

    Rows that err stand together: what is seen of a row's neighbours, itself left out, is one more feature.
    """
    from scipy.optimize import nnls

    sizes, weight = np.zeros(len(features)), 1 / before[seen]
    for y in errors:
        mean = y.mean()
        if mean > 0:
            given = np.column_stack([features, _nearby(seen, y / mean, len(features))])
            predicted = given @ nnls(given[seen] * weight[:, None], y / mean * weight)[0]
            if predicted.mean() > 0:
                sizes += predicted / predicted.mean()
    return _floored(sizes)


def _nearby(seen: Numbers, errors: Numbers, n: int) -> Numbers:
    """The largest of neighbours' errors, halved every :data:`REACH` rows."""
    found = np.zeros(n)
    for step in range(1, NEARBY + 1):
        for at in (seen - step, seen + step):
            inside = (at >= 0) & (at < n)
            np.maximum.at(found, at[inside], errors[inside] * 2.0 ** (-step / REACH))
    return found


def _floored(sizes: Numbers) -> Numbers:
    if not sizes.mean() > 0:
        return np.ones_like(sizes)
    # rounded, so that the order of equal sizes does not hang on a backend's last digits
    return np.asarray(np.round((1 - FLOOR) * sizes / sizes.mean() + FLOOR, 4))


def proportional(sizes: Numbers, count: int, source: np.random.Generator) -> Drawn:
    """``count`` distinct indices, with chances proportional to size and at most 1.

    Along the order of sizes strata of equal total size, one index of each, independently: a row that stands in two
    strata and was drawn for the first is known in the second, where another is drawn.
    """
    sure = np.zeros(len(sizes), dtype=bool)
    while True:
        left = count - int(sure.sum())
        chance = np.where(sure, 1.0, left * sizes / max(float(sizes[~sure].sum()), 1e-300))
        over = ~sure & (chance >= 1 - 1e-12)
        if not over.any():
            break
        sure |= over
    order = np.flatnonzero(~sure)
    order = order[np.argsort(sizes[order], kind="stable")]
    ends = np.cumsum(chance[order])
    chosen, carried, last = list[int](), list[float](), -1
    for stratum in range(left):
        at = int(np.searchsorted(ends, stratum, side="right"))
        known = min(float(ends[at]) - stratum, 1.0) if at == last else 0.0
        mark = stratum + known + (1 - known) * source.random()
        last = min(max(int(np.searchsorted(ends, mark, side="right")), last + 1), len(order) - 1)
        chosen.append(int(order[last]))
        carried.append(known)
    fixed = np.flatnonzero(sure)
    index = np.concatenate([fixed, np.array(chosen, dtype=np.int64)])
    return Drawn(
        index, np.where(sure[index], 1.0, chance[index]), np.concatenate([np.zeros(len(fixed)), carried])
    )


def standard_errors(weighed: Numbers, chance: Numbers) -> tuple[Numbers, int]:
    """Standard errors of the totals, and degrees of freedom; one row drawn tells nothing of the others."""
    left = np.maximum(1 - chance, 0.0)
    drawn = left > 1e-12
    count = int(drawn.sum())
    if count < 2:
        return np.full(len(weighed), inf if count else 0.0), 1
    left, weighed = left[drawn], weighed[:, drawn]
    centre = (weighed * left).sum(axis=1, keepdims=True) / left.sum()
    variance = count / (count - 1) * (left * (weighed - centre) ** 2).sum(axis=1)
    return np.sqrt(variance), count - 1
