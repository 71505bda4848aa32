"""The interval that a sample's spread gives: its confidence holds in the limit of many rows."""

from __future__ import annotations

from math import exp, sqrt

from nystrom_numerics.attention.exact_rows import Allowance
from nystrom_numerics.attention.row_sampling import Sample
from nystrom_numerics.bounds import Certificate, Estimate, Norm, Side
from nystrom_numerics.bounds.result import bound

__all__ = ["interval_of"]


def interval_of(
    sample: Sample, place: int, allowance: Allowance, *, trivial: float, unit: float = 1.0
) -> Certificate:
    """An interval for the root of a total, symmetric in its logarithm but for rounding; certain with probability 1."""
    total, spread = (float(x[place]) for x in (sample.totals, sample.spread))
    value, relative = sqrt(total), spread / (2 * total) if total > 0 else 0.0
    reach = min(max(sample.quantile * relative, sample.least), 700.0)
    ends = allowance.around(value * exp(-reach), value * exp(reach))
    lower, upper = (
        bound(
            end * unit,
            side,
            Norm.FROBENIUS,
            sample.words,
            trivial=known,
            probability=sample.probability,
            asymptotic=sample.probability < 1,
        )
        for end, side, known in zip(ends, (Side.LOWER, Side.UPPER), (0.0, trivial), strict=True)
    )
    told = Estimate(value * unit, value * relative * unit, len(sample.seen), sample.words)
    return Certificate(lower, told, upper)
