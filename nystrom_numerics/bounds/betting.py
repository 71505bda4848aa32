r"""Intervals for a sum over a finite population from bounded draws, valid for any population and any number of draws.

A test of the hypothesis that a sum is T is a game that is fair where it is: capital that grows beyond 1/α refutes T, by
Ville's inequality in at most a share α of all samples, whenever one stops.

Source: Waudby-Smith and Ramdas 2024, *Estimating means of bounded random variables by betting*, §4 (capital process,
Theorem 1 and eq. 23) and §5 (without replacement); Shekhar, Xu, Lipton, Liang and Ramdas 2023, §3 (weighted draws).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from typing import Any, TypeAlias

import numpy as np

__all__ = ["BETS", "Batch", "lower_end", "upper_end"]

Numbers: TypeAlias = np.ndarray[Any, Any]

BETS = np.array([0.98, 0.9, 0.75, 0.5, 0.25, 0.1, 0.04, 0.01])
"""Shares of the largest bet that cannot lose more than all, between which capital is divided evenly at first."""


_CLOSE, _LEAST, _FAR = 2e-8, 1e-300, 1e3
"""How close an end is found, relatively; and how far from its level capital need be told, which may be infinite."""


@dataclass(frozen=True)
class Batch:
    """Draws for the part of s sums that was not known before them.

    Attributes
    ----------
    before : array (s,)
        What of the sums was known.
    drawn : array (s, c)
        Independent given what was known, not negative, in the mean together what was not; each its stratum's in the
        mean.
    most : array (s,)
        What no draw can exceed.
    """

    before: Numbers
    drawn: Numbers
    most: Numbers


def upper_end(batches: Sequence[Batch], place: int, failure: float, most: float) -> float:
    r"""What the sum of number ``place`` exceeds in a share ``failure`` of samples at most, and never above ``most``.

    For c draws :math:`Y_t \in [0, U]` of strata of means :math:`\mu_t` and :math:`m = (T - \text{before})/c`, the
    capital of a bet γ on T being too large is :math:`\prod_t\bigl(1 + \gamma\tfrac{m - Y_t}{U - m}\bigr)`.  Where T is
    the sum its mean is :math:`\prod_t\bigl(1 + \gamma\tfrac{m - \mu_t}{U - m}\bigr) \le 1`, for the mean of the
    factors is one and a geometric mean is no more than it.  So is the mean over several γ of the products over
    batches, each drawn from what the ones before left (without replacement); it grows with T, and the end is found by
    bisection.
    """

    def capital(total: float) -> float:
        logs = np.zeros(len(BETS))
        for batch in batches:
            y, u = batch.drawn[place], float(batch.most[place])
            m = (total - float(batch.before[place])) / len(y)
            if u > 0:
                room = max(u * (1 + 1e-9) - m, _LEAST)  # rounding of m and y is no gain
                with np.errstate(over="ignore"):
                    bets = np.clip(BETS[:, None] * ((m - y) / room), -BETS[:, None], None)
                logs = logs + np.log1p(bets).sum(axis=1)
        return _mean(logs)

    if not np.isfinite(most) or not batches or not all(np.isfinite(b.most[place]) for b in batches):
        return most
    low = max(float(batch.before[place]) for batch in batches)
    return _crossing(capital, low, most, log(1 / failure))


def lower_end(batches: Sequence[Batch], place: int, failure: float, least: float) -> float:
    r"""What the sum is below in a share ``failure`` of samples at most, and never less than ``least``.

    As :func:`upper_end`, by :math:`\prod_t(1 + \gamma(Y_t/m - 1))`, which falls as T grows and needs no U.
    """

    def shortfall(total: float) -> float:
        logs = np.zeros(len(BETS))
        for batch in batches:
            y = batch.drawn[place]
            m = max((total - float(batch.before[place])) / len(y), _LEAST)
            with np.errstate(over="ignore"):
                logs = logs + np.log1p(BETS[:, None] * (y / m - 1)).sum(axis=1)
        return -_mean(logs)

    if not batches:
        return least
    high = max(least, *(float(b.before[place] + b.drawn[place].sum()) for b in batches)) * 2
    found = _crossing(shortfall, least, high, -log(1 / failure), below=True)
    return max(least, found)


def _mean(logs: Numbers) -> float:
    """The logarithm of the mean of exponentials."""
    top = float(logs.max())
    if not np.isfinite(top):
        return top
    return top + float(np.log(np.exp(logs - top).mean()))


def _crossing(grows: Any, low: float, high: float, level: float, *, below: bool = False) -> float:
    """Where an increasing function passes a level, to 10⁻⁷ from above; from below, where that is asked for."""
    from scipy.optimize import brentq

    if high <= low:
        return high

    def over(x: float) -> float:
        found = grows(x) - level
        return found / (1 + abs(found)) if abs(found) < _FAR else float(np.sign(found))

    if not below and over(high) < 0:
        return high
    if below and over(low) >= 0:
        return low
    end = float(brentq(over, low, high, xtol=_LEAST, rtol=_CLOSE)) if over(low) < 0 else low
    step = 2 * _CLOSE * end
    while (over(end) < 0) != below:  # the root is known to `_CLOSE`, on either side
        end, step = (end - step, 2 * step) if below else (end + step, 2 * step)
    return min(max(end, low), high)
