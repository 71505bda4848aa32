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
    require_probability,
)
from nystrom_numerics.attention.arguments import Arguments, check_arguments, tokens_of
from nystrom_numerics.attention.operators import blocks
from nystrom_numerics.attention.padding import hide
from nystrom_numerics.attention.rounding import UNIT, row_norms, softmax_rounding
from nystrom_numerics.attention.row_sampling import Sample, sampled, sizes_of
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
from nystrom_numerics.bounds.result import bound
from nystrom_numerics.errors import DTypeError, NonFiniteError, RangeError, ShapeError
from nystrom_numerics.linalg import binary_scale, masked_softmax, transpose

__all__ = [
    "Allowance",
    "AttentionCertificate",
    "Head",
    "Hints",
    "RowMaker",
    "certify_rows",
    "features",
    "interval_of",
]

RowMaker: TypeAlias = Callable[[Array], Array]
"""``rows_of(indices)`` gives these rows of Ŝ, (rows, n_k); it is asked for :data:`HELD` at a time at most."""

HELD = 256
"""Exact rows that are held at a time."""


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
    """

    predict: Callable[[np.ndarray[Any, Any]], tuple[np.ndarray[Any, Any], ...]]
    columns: int = 0
    entries: int = 0

    def __post_init__(self) -> None:
        require_callable("predict", self.predict)
        require_count("columns", self.columns, 0)
        require_count("entries", self.entries, 0)


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
    """

    matrix: Certificate
    output: Certificate
    certain: Certificate
    rows: int
    exact_entries: int
    entries: int


@status_tells
def certify_rows(
    q: Array,
    k: Array,
    v: Array,
    rows_of: RowMaker,
    /,
    *,
    rows: int,
    lengths: np.ndarray[Any, Any] | None = None,
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
    rows : int
        Exact rows to compute, 8 to n_q; as many as there are real queries give the norms themselves, and more
        are not computed.
    lengths : array (n_q,), optional
        Squared lengths of the rows of Ŝ, or bounds of these from above, where they are known; also for
        :attr:`AttentionCertificate.certain`.
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
    No interval of use holds with certainty for skewed errors of so few rows; what does hold is in ``certain``, from
    :math:`\|S_i\|_2 \le 1`.

    Rounding is allowed for on both sides.  With u = 2⁻⁵³, rows of S are off by
    :math:`\varepsilon_i = e^{2(d+4)u\,s\|q_i\|\max_j\|k_j\| + (n_k + 10)u} - 1` at most in length
    (:func:`~nystrom_numerics.attention.rounding.softmax_rounding`), those of Ŝ by ``rounding``, and roots of sums of
    squares relatively by :math:`(n_q + n_k + 8)u`.  So a norm x stands for one within
    :math:`(n_q + n_k + 8)u\,x + R` of it, where R² is the sum of squares of the first two over all rows.  For the
    output, R has :math:`(n_k + 2)u\|\hat S - S\|_F` more, for the product, and the factor :math:`\|V\|_F`.

    Cost: rows · n_k kernel entries and what ``rows_of`` needs, in float64; memory O(n) and 256 rows.
    Source: Särndal, Swensson and Wretman 1992, §3.5 and §3.6 (probability proportional to size).
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
    most = q.shape[0]
    real = np.arange(most) if a.query_mask is None else np.flatnonzero(to_numpy(a.query_mask))
    n = len(real)
    if n == 0:
        raise RangeError("query_mask", "false everywhere", "a real query")
    rows = min(require_count("rows", rows, min(8, n), most, of="the number of queries"), n)
    head = Head.of(a, q, k, v, rows_of, real, causal)
    if lengths is not None:
        lengths = _nonnegative("lengths", head.given("lengths", lengths, most))
    if rounding is not None:
        rounding = _nonnegative("rounding", head.given("rounding", rounding, most))

    def sizes(pilot: np.ndarray[Any, Any], first: np.ndarray[Any, Any], energy: np.ndarray[Any, Any]) -> Any:
        predicted = hints.predict(_heaviest(energy, hints.columns))
        require_instance("hints", predicted, tuple, "predictions in a tuple")
        given = tuple(head.given("hints", one, most) for one in predicted)
        return sizes_of(features(head, given if lengths is None else (lengths, *given)), pilot, first)

    sample = sampled(n, rows, head.errors, sizes, failure, source)
    size = inf if lengths is None else sqrt(float(lengths.sum())) + sqrt(n)
    allowance = head.allowance(np.zeros(n) if rounding is None else rounding)
    matrix = interval_of(sample, 0, allowance, trivial=size)
    more = head.of_output(allowance, matrix.upper)
    output = interval_of(sample, 1, more, trivial=inf, unit=head.unit)
    certain = _certain(sample.known[0], lengths, sample.seen, allowance, sample.what, size)
    exact = head.entries(sample.seen) + (hints.entries if rows < n else 0)
    return AttentionCertificate(matrix, output, certain, len(sample.seen), exact, exact + entries())


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
        """Squared errors of some rows of Ŝ and of ŜV, (2, rows), and of the columns over these rows, (n_k,)."""
        xp, of_rows, of_columns = self.xp, [], np.zeros(self.keys.shape[0])
        for part in blocks(len(some), HELD):
            place = some[part]
            error = self._made(place) - self.exact(place)
            squares = error * error
            of_output = xp.sum((error @ self.values) ** 2, axis=1)
            of_rows.append(np.stack([to_numpy(xp.sum(squares, axis=1)), to_numpy(of_output)]))
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

    def allowance(self, rounding: np.ndarray[Any, Any]) -> Allowance:
        r"""That of :math:`\|\hat S - S\|_F`, see :func:`certify_rows`."""
        (n_k, d), n = self.keys.shape, len(rounding)
        longest = row_norms(self.xp, self.keys).max()
        of_exact = softmax_rounding(row_norms(self.xp, self.queries), longest, d, n_k)
        return Allowance((n + n_k + 8) * UNIT, float(np.linalg.norm(of_exact + rounding)))

    def of_output(self, allowance: Allowance, error: Bound) -> Allowance:
        r"""That of :math:`\|\hat SV - SV\|_F`, from that of the matrix and its error."""
        size = float(np.linalg.norm(row_norms(self.xp, self.values)))
        above = inf if error.value is None else error.value
        product = (self.keys.shape[0] + 2) * UNIT * above
        return Allowance(allowance.relative, size * (allowance.absolute + product))


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
    reach = min(sample.quantile * relative, 700.0)
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


def _certain(
    known: np.ndarray[Any, Any],
    lengths: np.ndarray[Any, Any] | None,
    seen: np.ndarray[Any, Any],
    allowance: Allowance,
    words: str,
    trivial: float,
) -> Certificate:
    """The rows seen from below; from above each other one by ‖Ŝ_i‖ + 1."""
    found, unseen = float(known.sum()), inf
    if lengths is not None:
        unseen = float(((np.sqrt(np.delete(lengths, seen)) + 1) ** 2).sum())
    ends = allowance.around(sqrt(found), sqrt(found + unseen))
    source = f"{words}; ‖S_i‖₂ ≤ 1 for the others"
    lower, upper = (
        bound(end, side, Norm.FROBENIUS, source, trivial=worst)
        for end, side, worst in zip(ends, (Side.LOWER, Side.UPPER), (0.0, trivial), strict=True)
    )
    return Certificate(lower, None, upper)
