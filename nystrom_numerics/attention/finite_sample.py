r"""Intervals that hold for any head and any number of rows, by betting or with certainty, by what rows err at most."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt
from typing import Any

import numpy as np

from nystrom_numerics.attention.asymptotic import interval_of
from nystrom_numerics.attention.exact_rows import Allowance, Head
from nystrom_numerics.attention.row_sampling import Sample
from nystrom_numerics.bounds import Certificate, Norm, Side
from nystrom_numerics.bounds.betting import lower_end, upper_end
from nystrom_numerics.bounds.result import bound
from nystrom_numerics.brief import brief

__all__ = ["Guaranteed", "certain_norm", "guaranteed_norms", "guaranteed_of"]


@dataclass(frozen=True)
class Guaranteed:
    r"""Intervals that hold with their probability for any head and any number of rows: finite samples, no limit.

    Attributes
    ----------
    matrix, output : Certificate
        Of :math:`\|\hat S - S\|_F` and :math:`\|\hat SV - SV\|_F`.
    relative : Certificate
        Of :math:`\|\hat S - S\|_F/\|S\|_F`.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import attention
    >>> q, k, v = np.random.default_rng(0).standard_normal((3, 300, 4))
    >>> found = attention.certify_operator(attention.tangent_operator(q, k, blocks=8), v).guaranteed
    >>> found.relative.certainty
    'at least 99 % of the draws, for any input'
    """

    matrix: Certificate
    output: Certificate
    relative: Certificate

    __repr__ = brief


def guaranteed_of(
    sample: Sample,
    place: int,
    allowance: Allowance,
    failure: float,
    *,
    trivial: float,
    unit: float = 1.0,
) -> Certificate:
    """An interval for the root of a total that fails in a share ``failure`` of samples at most, whatever the head."""
    if sample.probability == 1:
        return interval_of(sample, place, allowance, trivial=trivial, unit=unit)
    known, most = float(sample.known[place].sum()), inf if sample.most is None else float(sample.most[place])
    low = lower_end(sample.batches, place, failure / 2, known)
    high = upper_end(sample.batches, place, failure / 2, most)
    ends = allowance.around(sqrt(low), sqrt(high))
    words = f"{sample.what}; betting (Waudby-Smith and Ramdas 2024) against what rows can err at most"
    lower, upper = (
        bound(end * unit, side, Norm.FROBENIUS, words, trivial=known_, probability=1 - failure / 2)
        for end, side, known_ in zip(ends, (Side.LOWER, Side.UPPER), (0.0, trivial), strict=True)
    )
    return Certificate(lower, None, upper)


def guaranteed_norms(
    head: Head, sample: Sample, allowance: Allowance, failure: float, size: float
) -> Guaranteed:
    """Of matrix and output; and relative, each of its two norms with half of the failure."""
    matrix = guaranteed_of(sample, 0, allowance, failure, trivial=size)
    output = guaranteed_of(
        sample, 1, head.of_output(allowance, matrix.upper), failure, trivial=inf, unit=head.unit
    )
    of_exact = Allowance(allowance.relative, float(np.linalg.norm(head.of_exact)))
    error = guaranteed_of(sample, 0, allowance, failure / 2, trivial=inf)
    exact = guaranteed_of(sample, 2, of_exact, failure / 2, trivial=inf)
    low, high = (0.0 if x.value is None else x.value for x in (error.lower, error.upper))
    below, above = (0.0 if x.value is None else x.value for x in (exact.lower, exact.upper))
    ends = low / above if above > 0 else 0.0, high / below if below > 0 else inf
    lower, upper = (
        bound(
            end,
            side,
            Norm.FROBENIUS,
            f"{like.source}; over ‖S‖",
            trivial=known,
            probability=1.0 if like.probability == 1 else 1 - failure / 2,
        )
        for end, side, like, known in zip(
            ends, (Side.LOWER, Side.UPPER), (error.lower, error.upper), (0.0, inf), strict=True
        )
    )
    return Guaranteed(matrix, output, Certificate(lower, None, upper))


def certain_norm(
    sample: Sample, caps: np.ndarray[Any, Any], allowance: Allowance, trivial: float
) -> Certificate:
    """The rows seen from below; from above each other one by what it is off by at most."""
    found, unseen = float(sample.known[0].sum()), float((np.delete(caps, sample.seen) ** 2).sum())
    ends = allowance.around(sqrt(found), sqrt(found + unseen))
    source = f"{sample.what}; ‖S_i‖₂ ≤ 1 for the others"
    lower, upper = (
        bound(end, side, Norm.FROBENIUS, source, trivial=worst)
        for end, side, worst in zip(ends, (Side.LOWER, Side.UPPER), (0.0, trivial), strict=True)
    )
    return Certificate(lower, None, upper)
