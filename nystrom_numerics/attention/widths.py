"""How many rows are looked at, or how narrow an interval is to be: what is asked, and whether it was reached."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np

from nystrom_numerics.arguments import require_count, require_number, require_probability
from nystrom_numerics.attention.row_sampling import Sample, sampled, sampled_within, sizes_of
from nystrom_numerics.errors import RangeError

__all__ = ["Asked", "Reach", "looked_at", "reach_of"]

LEAST, SHARE = 64, 32
"""Exact rows by default: one in ``SHARE``, and ``LEAST`` where that is fewer."""

Numbers = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Asked:
    """Rows to look at (at first, where a width is asked for), the width, rows for it at most, and what may fail."""

    rows: int | None
    within: float | None
    most: int | None
    failure: float

    def of(self, n: int, queries: int) -> Looks:
        """Checked, and with its defaults, of n real rows among those of ``queries``."""
        require_probability("failure", self.failure)
        rows, within, most = self.rows, self.within, self.most
        if rows is not None:
            rows = min(require_count("rows", rows, min(8, n), queries, of="the number of queries"), n)
        if within is not None:
            within = require_number("within", within, lambda x: 0 < x < inf, "a finite number above 0")
        if most is not None:
            if within is None:
                raise RangeError("most", f"{most}", "no limit without `within`")
            most = min(require_count("most", most, min(8, n), queries, of="the number of queries"), n)
        first = min(n, max(LEAST, n // SHARE)) if rows is None else rows
        if most is None:
            most = max(first, -(-n // 2))
        return Looks(min(first, most), within, most, self.failure)


@dataclass(frozen=True)
class Looks:
    """What is asked, of a number of rows."""

    first: int
    within: float | None
    most: int
    failure: float


@dataclass(frozen=True)
class Reach:
    """Whether the interval is as narrow as was asked, and at what cost.

    Attributes
    ----------
    within : float or None
        The half-width asked for, relative to the estimate; ``None`` where a number of rows was asked for.
    width : float
        The one there is, above the estimate, the widest of the intervals that were to be narrow.
    rows, of : int
        Exact rows computed, and queries.
    looks : int
        Intervals that were made.
    needed : int or None
        About how many rows would have been enough, by the last spread, where there were fewer.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import attention
    >>> q, k, v = np.random.default_rng(0).standard_normal((3, 300, 4))
    >>> reach = attention.certify_operator(attention.nystrom_operator(q, k, 8), v, rows=40).reach
    >>> reach.reached, reach.within, reach.rows, reach.of
    (True, None, 40, 300)
    """

    within: float | None
    width: float
    rows: int
    of: int
    looks: int
    needed: int | None

    @property
    def reached(self) -> bool:
        """True also where nothing was asked."""
        return self.within is None or self.width <= self.within * (1 + 1e-9)

    def __str__(self) -> str:
        words = f"± {self.width:.3g} relative, from {self.rows} exact rows of {self.of}"
        if self.within is None:
            return words
        if self.reached:
            return f"{words}: ± {self.within:.3g} reached"
        return f"{words}, the most allowed: ± {self.within:.3g} not reached, it takes about {self.needed}"


def looked_at(
    n: int,
    looks: Looks,
    narrow: int,
    look: Callable[[Numbers], tuple[Numbers, Numbers]],
    predictions: Callable[[Numbers, Numbers], Numbers],
    source: np.random.Generator,
    *,
    limits: Numbers,
    suspicion: Numbers | None = None,
) -> Sample:
    """So many rows, or as many as the width asked for takes; ``predictions(pilot, saw)`` are the features (n, f)."""
    suspects = None if suspicion is None else np.argsort(-suspicion, kind="stable")
    if looks.within is None:

        def sizes(pilot: Numbers, first: Numbers, saw: Numbers) -> Any:
            return sizes_of(predictions(pilot, saw), pilot, first[:narrow])

        return sampled(n, looks.first, look, sizes, looks.failure, source, limits, suspects)
    return sampled_within(
        n,
        looks.first,
        looks.most,
        looks.within,
        narrow,
        look,
        predictions,
        looks.failure,
        source,
        limits=limits,
        suspects=suspects,
    )


def reach_of(sample: Sample, within: float | None, n: int, narrow: slice) -> Reach:
    """Of the intervals of some sums."""
    return Reach(within, sample.half_width(narrow), len(sample.seen), n, sample.looks, sample.needed)
