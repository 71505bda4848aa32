r"""How far an approximate attention is from the exact one, from some of its rows.

:func:`certify_rows` compares rows of any estimator with exact ones and gives an interval for
:math:`\|\hat S - S\|_F` and :math:`\|\hat SV - SV\|_F`, of one head, without n × n entries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import exp, inf, sqrt
from typing import Any, TypeAlias

import numpy as np

from nystrom_numerics.arguments import (
    require_callable,
    require_count,
    require_flag,
    require_instance,
    require_number,
    require_probability,
)
from nystrom_numerics.attention.arguments import Arguments, check_arguments, tokens_of
from nystrom_numerics.attention.operators import blocks
from nystrom_numerics.attention.padding import hide
from nystrom_numerics.attention.rounding import UNIT, row_norms, softmax_rounding
from nystrom_numerics.attention.row_sampling import Sample, sampled, sampled_within, sizes_of
from nystrom_numerics.backend import (
    Array,
    floating,
    from_numpy,
    generator,
    require_finite,
    status_tells,
    to_numpy,
)
from nystrom_numerics.bounds import Bound, Certificate, Estimate, Norm, Side
from nystrom_numerics.bounds.betting import lower_end, upper_end
from nystrom_numerics.bounds.result import bound
from nystrom_numerics.brief import brief
from nystrom_numerics.errors import DTypeError, NonFiniteError, RangeError, ShapeError
from nystrom_numerics.linalg import binary_scale, masked_softmax, transpose

__all__ = [
    "Allowance",
    "AttentionCertificate",
    "Guaranteed",
    "Head",
    "Hints",
    "Reach",
    "RowMaker",
    "certify_rows",
    "features",
    "first_rows",
    "guaranteed_of",
    "interval_of",
    "looked_at",
    "reach_of",
]

RowMaker: TypeAlias = Callable[[Array], Array]
"""``rows_of(indices)`` gives these rows of Ŝ, (rows, n_k); it is asked for :data:`HELD` at a time at most."""

HELD = 256
"""Exact rows that are held at a time."""

LEAST, SHARE = 64, 32
"""Exact rows by default: one in ``SHARE``, and ``LEAST`` where that is fewer."""


@dataclass(frozen=True)
class Hints:
    """What goes with the error of a row, after a look at the first rows; none of it is trusted.

    Attributes
    ----------
    predict : callable
        ``predict(columns)`` gives arrays (n_q,), for the columns in which the first rows err most.
    columns : int
        How many of these it wants.
    entries : int
        Kernel entries of S that it evaluates.
    suspicion : array (n_q,), optional
        The rows in which it is largest are looked at first, where an interval of given width is asked for.
    """

    predict: Callable[[np.ndarray[Any, Any]], tuple[np.ndarray[Any, Any], ...]]
    columns: int = 0
    entries: int = 0
    suspicion: np.ndarray[Any, Any] | None = None

    def __post_init__(self) -> None:
        require_callable("predict", self.predict)
        require_count("columns", self.columns, 0)
        require_count("entries", self.entries, 0)


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


@dataclass(frozen=True)
class AttentionCertificate:
    r"""What sampled rows say of an approximate attention.

    Attributes
    ----------
    matrix, output : Certificate
        Of :math:`\|\hat S - S\|_F` and :math:`\|\hat SV - SV\|_F`, asymptotic, at the confidence asked for; with
        certainty where all rows are exact.
    certain : Certificate
        Of :math:`\|\hat S - S\|_F`, with certainty, and wide.
    rows : int
        Exact rows that were computed.
    exact_entries, entries : int
        Kernel entries of those, and of everything, Ŝ included.
    guaranteed : Guaranteed
        At the confidence asked for and for any head, not in a limit; how wide depends on what rows can err at most.
    reach : Reach
        How narrow ``matrix`` and ``output`` are, and whether that is what was asked.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import attention
    >>> q, k, v = np.random.default_rng(0).standard_normal((3, 300, 4))
    >>> found = attention.certify_operator(attention.nystrom_operator(q, k, 8), v)
    >>> found.rows, found.matrix.lower.value < found.matrix.estimate.value < found.matrix.upper.value
    (16, True)
    """

    matrix: Certificate
    output: Certificate
    certain: Certificate
    rows: int
    exact_entries: int
    entries: int
    guaranteed: Guaranteed
    reach: Reach

    __repr__ = brief


@status_tells
def certify_rows(
    q: Array,
    k: Array,
    v: Array,
    rows_of: RowMaker,
    /,
    *,
    rows: int | None = None,
    within: float | None = None,
    most: int | None = None,
    lengths: np.ndarray[Any, Any] | None = None,
    largest: np.ndarray[Any, Any] | None = None,
    spread: np.ndarray[Any, Any] | None = None,
    rounding: np.ndarray[Any, Any] | None = None,
    hints: Hints | None = None,
    key_mask: Array | None = None,
    query_mask: Array | None = None,
    causal: bool = False,
    scale: float | None = None,
    failure: float = 0.01,
    rng: np.random.Generator | int = 0,
    entries: Callable[[], int] = lambda: 0,
) -> AttentionCertificate:
    r"""Intervals for :math:`\|\hat S - S\|_F` and :math:`\|\hat SV - SV\|_F` from some exact rows, any estimator.

    A first fifth of the rows is spread evenly, the first and last row (special tokens) with it.  From these the
    squared errors of all rows are predicted, by non-negative least squares on ‖q_i‖², ``lengths`` and ``hints``,
    and the rest is drawn in proportion to the prediction, systematically, without replacement.  Rows seen count
    as they are; those drawn stand for the rest, each weighed by one over its probability.

    Parameters
    ----------
    q : array (n_q, d)
    k : array (n_k, d)
    v : array (n_k, d_v)
    rows_of : callable
        Gives rows of Ŝ, see :data:`RowMaker`.
    rows : int, optional
        Exact rows to compute, 8 to n_q; as many as there are real queries give the norms themselves, and more
        are not computed.  By default one in 32, and 64 where that is fewer.  With ``within`` those of the first look.
    within : float, optional
        Rows are drawn until both intervals reach this far from their estimates at most, relatively: 0.2 for ± 20 %.
    most : int, optional
        Rows to draw for that at most, by default half of the queries; :attr:`AttentionCertificate.reach` says whether
        they were enough.
    lengths : array (n_q,), optional
        Squared lengths of the rows of Ŝ, or bounds of these from above, where they are known; also for
        :attr:`AttentionCertificate.certain`.
    largest : array (n_q,), optional
        Bounds of :math:`\|\hat S_i - S_i\|_2`, where better ones than ‖Ŝ_i‖ + 1 are known.
    spread : array (n_q,), optional
        Bounds of :math:`\|(\hat S_i - S_i)V\|_2`, where better ones are known than those times ‖V‖₂.
    rounding : array (n_q,), optional
        How far the rows that ``rows_of`` gives may be from those meant, in Euclidean length; by default they are
        meant as they are.
    hints : Hints, optional
    key_mask, query_mask : array (n_k,), (n_q,) of bool, optional
        True for real ones; the rows of other queries count for nothing.
    causal : bool
        S is causal: query i sees keys up to i alone, of which there are as many as queries.
    scale : float, optional
        By default :math:`1/\sqrt d`.
    failure : float
        Of each of the two intervals, both sides together.
    rng : numpy.random.Generator or int
    entries : callable
        Kernel entries that ``rows_of`` has evaluated so far.

    Returns
    -------
    AttentionCertificate
        Trivial bound of the matrix: :math:`\|\hat S\|_F + \sqrt{n_q}`, where ``lengths`` are given.

    Raises
    ------
    DTypeError, DeviceError, KindError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument; NaN and infinity among real tokens or in what ``rows_of`` gives are refused.

    Notes
    -----
    The interval is **asymptotic**: Student's quantile times 1.3 on the logarithm of the estimate, from the
    spread of the weighed errors.  The factor was chosen on the heads of MiniLM at 512 tokens; there, with the hints of
    :func:`certify_operator`, 99.5 % of the intervals and more hold the truth, on a text not looked at too, and on the
    worst head, whose error sits in few rows, 91 %.  ``attention_certificate`` among the experiments measures it.
    What holds for any head is in ``guaranteed``, by betting on independent draws from strata, of rows that err by
    ``largest`` at most (:mod:`~nystrom_numerics.bounds.betting`): as wide as these bounds are loose; and with certainty
    in ``certain``, from :math:`\|S_i\|_2 \le 1`.

    With ``within``, rows are looked at in stages, see :func:`~nystrom_numerics.attention.row_sampling.sampled_within`:
    the confidences of all looks add up to the one asked for (a union bound over planned looks), each interval being
    that of the last draw, given all rows seen before.  Once it is narrow enough, the width reported is the one asked
    for (Chow and Robbins 1965): rows that are never seen make a spread look small.  ``guaranteed`` uses the draws of
    all looks and needs no such correction, for capital that has been won may be counted at any time.

    Rounding is allowed for on both sides.  With u = 2⁻⁵³, rows of S are off by
    :math:`\varepsilon_i = e^{2(d+4)u\,s\|q_i\|\max_j\|k_j\| + (n_k + 10)u} - 1` at most in length
    (:func:`~nystrom_numerics.attention.rounding.softmax_rounding`), those of Ŝ by ``rounding``, and roots of sums of
    squares relatively by :math:`(n_q + n_k + 8)u`.  So a norm x stands for one within
    :math:`(n_q + n_k + 8)u\,x + R` of it, where R² is the sum of squares of the first two over all rows.  For the
    output, R has :math:`(n_k + 2)u\|\hat S - S\|_F` more, for the product, and the factor :math:`\|V\|_F`.

    Cost: rows · n_k kernel entries and what ``rows_of`` needs, in float64; memory O(n) and 256 rows.
    Source: Särndal, Swensson and Wretman 1992, §3.5 and §3.6 (probability proportional to size).

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import attention
    >>> q, k, v = np.random.default_rng(0).standard_normal((3, 300, 4))
    >>> made = attention.near_field_operator(q, k, 8, block=32)
    >>> found = attention.certify_rows(q, k, v, made.rows)
    >>> found.rows, found.certain.upper.value >= found.certain.lower.value
    (64, True)
    """
    require_flag("causal", causal)
    a = check_arguments(q, k, v, scale=scale, key_mask=key_mask, query_mask=query_mask, oneself=causal)
    if q.ndim != 2 or k.ndim != 2 or v.ndim != 2:
        raise ShapeError("q", f"of shape {tuple(q.shape)}", "one head: q, k and v of two axes")
    require_callable("rows_of", rows_of)
    require_callable("entries", entries)
    require_probability("failure", failure)
    hints = Hints(lambda columns: ()) if hints is None else require_instance("hints", hints, Hints)
    source, _ = generator(rng)
    queries = q.shape[0]
    real = np.arange(queries) if a.query_mask is None else np.flatnonzero(to_numpy(a.query_mask))
    n = len(real)
    if n == 0:
        raise RangeError("query_mask", "false everywhere", "a real query")
    rows, within, most = first_rows(rows, within, most, n, queries)
    head = Head.of(a, q, k, v, rows_of, real, causal)
    if lengths is not None:
        lengths = _nonnegative("lengths", head.given("lengths", lengths, queries))
    if largest is not None:
        largest = _nonnegative("largest", head.given("largest", largest, queries))
    if rounding is not None:
        rounding = _nonnegative("rounding", head.given("rounding", rounding, queries))
    if spread is not None:
        spread = _nonnegative("spread", head.given("spread", spread, queries))
    of_rounding = np.zeros(n) if rounding is None else rounding
    caps = _caps(n, lengths, largest)
    limits = head.limits(caps, of_rounding, spread)

    def predictions(pilot: np.ndarray[Any, Any], energy: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        predicted = hints.predict(_heaviest(energy, hints.columns))
        require_instance("hints", predicted, tuple, "predictions in a tuple")
        given = tuple(head.given("hints", one, queries) for one in predicted)
        return features(head, given if lengths is None else (lengths, *given))

    suspicion = None if hints.suspicion is None else head.given("hints", hints.suspicion, queries)
    sample = looked_at(
        n,
        rows,
        within,
        most,
        2,
        head.errors,
        predictions,
        failure,
        source,
        limits=limits,
        suspicion=suspicion,
    )
    size = inf if lengths is None else sqrt(float(lengths.sum())) + sqrt(n)
    allowance = head.allowance(of_rounding)
    matrix = interval_of(sample, 0, allowance, trivial=size)
    more = head.of_output(allowance, matrix.upper)
    output = interval_of(sample, 1, more, trivial=inf, unit=head.unit)
    certain = _certain(sample.known[0], caps, sample.seen, allowance, sample.what, size)
    guaranteed = _guaranteed(head, sample, allowance, failure, size)
    exact = head.entries(sample.seen) + (hints.entries if len(sample.seen) < n else 0)
    reach = reach_of(sample, within, n, slice(2))
    return AttentionCertificate(
        matrix, output, certain, len(sample.seen), exact, exact + entries(), guaranteed, reach
    )


def first_rows(
    rows: int | None, within: float | None, most: int | None, n: int, queries: int
) -> tuple[int, float | None, int]:
    """Checked: rows of the first look, the width asked for, and rows to draw at most, of n real ones."""
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
        return first, within, max(first, -(-n // 2))
    return min(first, most), within, most


def looked_at(
    n: int,
    rows: int,
    within: float | None,
    most: int,
    narrow: int,
    look: Callable[[np.ndarray[Any, Any]], tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]],
    predictions: Callable[[np.ndarray[Any, Any], np.ndarray[Any, Any]], np.ndarray[Any, Any]],
    failure: float,
    source: np.random.Generator,
    *,
    limits: np.ndarray[Any, Any],
    suspicion: np.ndarray[Any, Any] | None = None,
) -> Sample:
    """So many rows, or as many as the width asked for takes; ``predictions(pilot, saw)`` are the features (n, f)."""
    suspects = None if suspicion is None else np.argsort(-suspicion, kind="stable")
    if within is None:

        def sizes(pilot: np.ndarray[Any, Any], first: np.ndarray[Any, Any], saw: np.ndarray[Any, Any]) -> Any:
            return sizes_of(predictions(pilot, saw), pilot, first[:narrow])

        return sampled(n, rows, look, sizes, failure, source, limits, suspects)
    return sampled_within(
        n, rows, most, within, narrow, look, predictions, failure, source, limits=limits, suspects=suspects
    )


def reach_of(sample: Sample, within: float | None, n: int, narrow: slice) -> Reach:
    """Of the intervals of some sums."""
    return Reach(within, sample.half_width(narrow), len(sample.seen), n, sample.looks, sample.needed)


def _caps(
    n: int, lengths: np.ndarray[Any, Any] | None, largest: np.ndarray[Any, Any] | None
) -> np.ndarray[Any, Any]:
    """What rows of Ŝ are off by at most, infinity where nothing is known."""
    caps = np.full(n, inf) if lengths is None else np.sqrt(lengths) + 1
    return caps if largest is None else np.minimum(caps, largest)


@dataclass(frozen=True)
class Head:
    """Real queries, with their scale, keys and values in float64, and the rows of Ŝ by their place among the real.

    Values are divided by ``unit``, a power of two, so that no square of theirs overflows.
    """

    xp: Any
    queries: Array
    keys: Array
    values: Array
    key_mask: Array | None
    rows_of: RowMaker
    real: np.ndarray[Any, Any]
    causal: bool
    unit: float

    @classmethod
    def of(
        cls,
        a: Arguments,
        q: Array,
        k: Array,
        v: Array,
        rows_of: RowMaker,
        real: np.ndarray[Any, Any],
        causal: bool,
    ) -> Head:
        xp = a.xp
        q = xp.take(q, from_numpy(xp, real, q), axis=0)
        k, v = (hide(xp, x, a.key_mask) for x in (k, v))
        require_finite(xp, q=q, k=k, v=v)
        q, k, v = (xp.astype(x, xp.float64) for x in (q, k, v))
        unit = binary_scale(v)
        mask = None if a.key_mask is None else a.key_mask[None, :]
        return cls(xp, q * a.scale, k, v / unit, mask, rows_of, real, causal, float(unit[0, 0]))

    def errors(self, some: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Squared errors of some rows of Ŝ and of ŜV, and squared lengths of those of S, (3, rows), and the squared
        errors of the columns over these rows, (n_k,).
        """
        xp, of_rows, of_columns = self.xp, [np.zeros((3, 0))], np.zeros(self.keys.shape[0])
        for part in blocks(len(some), HELD):
            place = some[part]
            exact = self.exact(place)
            error = self._made(place) - exact
            squares = error * error
            of_output = xp.sum((error @ self.values) ** 2, axis=1)
            sums = (xp.sum(squares, axis=1), of_output, xp.sum(exact * exact, axis=1))
            of_rows.append(np.stack([to_numpy(x) for x in sums]))
            of_columns += to_numpy(xp.sum(squares, axis=0))
        found = np.concatenate(of_rows, axis=1)
        if not np.isfinite(found).all():
            raise NonFiniteError(
                "q",
                "of queries whose scores or squared errors overflow",
                "smaller ones, or a smaller `scale`",
            )
        return found, of_columns

    def exact(self, place: np.ndarray[Any, Any]) -> Array:
        """Rows of S."""
        queries = self.xp.take(self.queries, from_numpy(self.xp, place, self.queries), axis=0)
        return masked_softmax(queries @ transpose(self.keys), self._mask(place))

    def entries(self, some: np.ndarray[Any, Any]) -> int:
        """Kernel entries of some exact rows, those of masked keys apart."""
        seen = (
            np.ones(self.keys.shape[0], dtype=bool) if self.key_mask is None else to_numpy(self.key_mask)[0]
        )
        up_to = np.cumsum(seen)
        return int(up_to[self.real[some]].sum() if self.causal else len(some) * up_to[-1])

    def _mask(self, place: np.ndarray[Any, Any]) -> Array | None:
        """Which keys some rows see, (rows or 1, n_k), ``None`` for all."""
        if not self.causal:
            return self.key_mask
        past = self.real[place][:, None] >= np.arange(self.keys.shape[0])
        seen = from_numpy(self.xp, past, self.keys)
        return seen if self.key_mask is None else seen & self.key_mask

    def _made(self, place: np.ndarray[Any, Any]) -> Array:
        """Rows of Ŝ in float64, checked."""
        xp, shape = self.xp, (len(place), self.keys.shape[0])
        made = self.rows_of(from_numpy(xp, self.real[place], self.queries))
        tokens_of(q=self.queries, rows_of=made)
        if made.shape != shape:
            raise ShapeError("rows_of", f"making rows of shape {tuple(made.shape)}", f"shape {shape}")
        if not xp.isdtype(made.dtype, "real floating"):
            raise DTypeError("rows_of", f"making rows of dtype {made.dtype}", "a real floating dtype")
        require_finite(xp, rows_of=made)
        return xp.astype(made, xp.float64, copy=False)

    def given(self, name: str, x: Any, n: int) -> np.ndarray[Any, Any]:
        """Numbers for all n queries, those of the real ones."""
        floating(tokens_of(**{name: x}), **{name: x})
        if x.shape != (n,):
            raise ShapeError(name, f"of shape {tuple(x.shape)}", f"shape ({n},), one number a query")
        return np.asarray(to_numpy(x)[self.real], dtype=np.float64)

    def limits(
        self,
        caps: np.ndarray[Any, Any],
        rounding: np.ndarray[Any, Any],
        spread: np.ndarray[Any, Any] | None,
    ) -> np.ndarray[Any, Any]:
        r"""What :meth:`errors` can give at most, (3, n), rounding included.

        Rows of Ŝ are off by ``caps``; of ŜV by that times ‖V‖₂, and by ``spread``, where that is known.
        """
        n_k, relative = self.keys.shape[0], 1 + (self.keys.shape[0] + 8) * UNIT
        off = caps + self.of_exact() + rounding
        size = float(np.linalg.norm(to_numpy(self.values), 2)) if n_k else 0.0
        # nothing is lost where there is nothing to lose, whatever rows are off by
        of_output = (
            np.zeros_like(off) if size == 0 else off * (size * (1 + 8 * (n_k + self.values.shape[1]) * UNIT))
        )
        if spread is not None:
            more = (self.of_exact() + rounding) * size + n_k * UNIT * size * off
            of_output = np.fmin(of_output, spread / self.unit + more)
        found: np.ndarray[Any, Any] = np.stack([off, of_output, np.ones_like(off)]) ** 2 * relative**2
        return found

    def of_exact(self) -> np.ndarray[Any, Any]:
        """By how much, in length, rows of S are off."""
        n_k, d = self.keys.shape
        longest = row_norms(self.xp, self.keys).max()
        return softmax_rounding(row_norms(self.xp, self.queries), longest, d, n_k)

    def allowance(self, rounding: np.ndarray[Any, Any]) -> Allowance:
        r"""That of :math:`\|\hat S - S\|_F`, see :func:`certify_rows`."""
        n_k, n = self.keys.shape[0], len(rounding)
        return Allowance((n + n_k + 8) * UNIT, float(np.linalg.norm(self.of_exact() + rounding)))

    def of_output(self, allowance: Allowance, error: Bound) -> Allowance:
        r"""That of :math:`\|\hat SV - SV\|_F`, from that of the matrix and its error."""
        size = float(np.linalg.norm(row_norms(self.xp, self.values)))
        above = inf if error.value is None else error.value
        product = (self.keys.shape[0] + 2) * UNIT * above
        return Allowance(allowance.relative, size * (allowance.absolute + product) if size else 0.0)


@dataclass(frozen=True)
class Allowance:
    """A computed norm x stands for one from x(1 − relative) − absolute to x(1 + relative) + absolute."""

    relative: float
    absolute: float

    def around(self, low: float, high: float) -> tuple[float, float]:
        below = low * (1 - self.relative) - self.absolute
        return max(below, 0.0), high * (1 + self.relative) + self.absolute


def _nonnegative(name: str, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if not (np.isfinite(x) & (x >= 0)).all():
        raise RangeError(name, "negative or not finite somewhere", "finite numbers of at least 0")
    return x


def _heaviest(energy: np.ndarray[Any, Any], count: int) -> np.ndarray[Any, Any]:
    """The columns of most energy, largest first."""
    # rounded, so that the order of equal columns does not hang on a backend's last digits
    return np.argsort(-np.round(energy / max(float(energy.max()), 1e-300), 6), kind="stable")[:count]


def features(head: Head, given: tuple[np.ndarray[Any, Any], ...]) -> np.ndarray[Any, Any]:
    """A constant, ‖q‖² and what is given, each of mean 1, shape (n, f)."""
    squares = to_numpy(head.xp.sum(head.queries * head.queries, axis=1))
    columns = [np.ones_like(squares), squares, *given]
    usable = [np.isfinite(c).all() and c.min() >= 0 and c.mean() > 0 for c in columns]
    return np.column_stack(
        [c / c.mean() if use else np.zeros_like(c) for c, use in zip(columns, usable, strict=True)]
    )


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


def _guaranteed(head: Head, sample: Sample, allowance: Allowance, failure: float, size: float) -> Guaranteed:
    """Of matrix and output; and relative, each of its two norms with half of the failure."""
    matrix = guaranteed_of(sample, 0, allowance, failure, trivial=size)
    output = guaranteed_of(
        sample, 1, head.of_output(allowance, matrix.upper), failure, trivial=inf, unit=head.unit
    )
    of_exact = Allowance(allowance.relative, float(np.linalg.norm(head.of_exact())))
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


def _certain(
    known: np.ndarray[Any, Any],
    caps: np.ndarray[Any, Any],
    seen: np.ndarray[Any, Any],
    allowance: Allowance,
    words: str,
    trivial: float,
) -> Certificate:
    """The rows seen from below; from above each other one by what it is off by at most."""
    found, unseen = float(known.sum()), float((np.delete(caps, seen) ** 2).sum())
    ends = allowance.around(sqrt(found), sqrt(found + unseen))
    source = f"{words}; ‖S_i‖₂ ≤ 1 for the others"
    lower, upper = (
        bound(end, side, Norm.FROBENIUS, source, trivial=worst)
        for end, side, worst in zip(ends, (Side.LOWER, Side.UPPER), (0.0, trivial), strict=True)
    )
    return Certificate(lower, None, upper)
