r"""How far an approximate attention is from the exact one, from some of its rows.

:func:`certify_rows` compares rows of any estimator with exact ones and gives an interval for
:math:`\|\hat S - S\|_F` and :math:`\|\hat SV - SV\|_F`, of one head, without n × n entries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import exp, inf, sqrt
from typing import Any, TypeAlias

import numpy as np

from nystrom_numerics.arguments import require_callable, require_count, require_instance, require_probability
from nystrom_numerics.attention.arguments import Arguments, check_arguments, tokens_of
from nystrom_numerics.attention.nystrom import NystromOperator
from nystrom_numerics.attention.operator_rows import (
    NEIGHBOURS,
    OperatorRows,
    take_real,
    without_padding,
)
from nystrom_numerics.attention.operators import AttentionOperator, blocks
from nystrom_numerics.attention.padding import hide
from nystrom_numerics.attention.rounding import UNIT, row_norms, softmax_rounding
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

__all__ = ["AttentionCertificate", "Hints", "RowMaker", "certify_operator", "certify_rows"]

RowMaker: TypeAlias = Callable[[Array], Array]
"""``rows_of(indices)`` gives these rows of Ŝ, (rows, n_k); it is asked for :data:`HELD` at a time at most."""

HELD = 256
"""Exact rows that are held at a time."""

INFLATION = 1.3
"""What Student's quantile is multiplied by, for errors of rows are skewed: see :func:`certify_rows`."""

PILOT, FLOOR = 5, 0.2
"""One row in 5 is looked at first; no prediction counts for less than 0.2 of the mean."""

HEAVY, WORTH_HINTS = 8, 32
"""Columns asked of the first rows, and the rows below which hints would cost more than they bring."""


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
def certify_operator(
    operator: AttentionOperator,
    v: Array,
    /,
    *,
    rows: int | None = None,
    failure: float = 0.01,
    rng: np.random.Generator | int = 0,
) -> AttentionCertificate:
    r"""The certificate of any estimator, of one head.

    Queries and keys that are masked have no part in it: padding, wherever it is and whatever it holds, changes
    nothing.

    Of the paper's estimator Ŝ is that of the operator's landmarks and Z, :math:`FZB`, without the rounding of a
    narrower dtype in which it may be applied; of any other it is what the operator's rows are.

    Parameters
    ----------
    operator : AttentionOperator
        As :func:`~nystrom_numerics.attention.nystrom_operator`, ``tangent_operator`` and others make it from q (n_q, d)
        and k (n_k, d), with any mask but an additive one.
    v : array (n_k, d_v)
    rows : int, optional
        Exact rows, 8 at least; by default as many as have the entries of the approximation itself, of the paper's
        estimator with the hints: 2m less a few.
    failure, rng
        As in :func:`certify_rows`, whose result, errors and statements these are too.

    Raises
    ------
    KindError, RangeError, NonFiniteError
        No operator; one without any real query or key; one with NaN or infinity in its real queries or keys, or in its
        rows, as where a core could not be solved with.

    Notes
    -----
    For the paper's estimator the sample is aimed, from 32 rows on, by a look at 15 entries of S in every row,
    :class:`Hints`: the first and the last column, those beside the diagonal, and the 8 in which the first rows err
    most.  Cost: the exact rows and these entries, and about 3nm kernel entries to make Ŝ's rows, their lengths, their
    sums and their entries there; O(nm² + n·rows·(d + m)) multiplications; memory O(nm) and 256 exact rows.

    For any other: the exact rows, and as many of the operator.  Lengths of rows are not asked for: ``certain`` has
    no upper end unless all rows are exact.
    """
    require_instance(
        "operator", operator, AttentionOperator, "an operator, as `nystrom_operator` or another makes it"
    )
    xp = tokens_of(operator=operator.q, v=v)
    if operator.q.ndim != 2 or operator.k.ndim != 2 or len(operator.shape) != 2:
        raise ShapeError("operator", f"of a batch, q {tuple(operator.q.shape)}", "one head, (n, d)")
    check_arguments(operator.q, operator.k, v, scale=operator.scale)
    if v.ndim != 2:
        raise ShapeError("v", f"of shape {tuple(v.shape)}", "one head, (n_k, d_v)")
    if isinstance(operator, NystromOperator):
        return _certify_nystrom(xp, operator, v, rows, failure, rng)
    return _certify_any(xp, operator, v, rows, failure, rng)


def _real_tokens(xp: Any, operator: AttentionOperator) -> tuple[Array, Array]:
    """Queries and keys that are real, checked."""
    q, k = take_real(xp, operator.q, operator.query_mask), take_real(xp, operator.k, operator.key_mask)
    if 0 in (q.shape[0], k.shape[0]):
        needs = "one of each at least"
        raise RangeError("operator", f"of {q.shape[0]} real queries and {k.shape[0]} real keys", needs)
    for x in (q, k):
        require_finite(xp, operator=x)
    return q, k


def _checked_rows(rows: int, real: int, most: int) -> int:
    return min(require_count("rows", rows, min(8, real), most, of="the number of queries"), real)


def _certify_any(
    xp: Any,
    operator: AttentionOperator,
    v: Array,
    rows: int | None,
    failure: float,
    rng: np.random.Generator | int,
) -> AttentionCertificate:
    q, k = _real_tokens(xp, operator)
    n_q, n_k = q.shape[0], k.shape[0]
    rows = max(8, operator.entries // n_k) if rows is None else _checked_rows(rows, n_q, operator.q.shape[0])

    def finite_rows(indices: Array) -> Array:
        made = operator.rows(indices)
        if not bool(xp.all(xp.isfinite(made))):
            raise NonFiniteError("operator", "not finite in its rows", "smaller queries and keys")
        return made

    return certify_rows(
        operator.q,
        operator.k,
        v,
        finite_rows,
        rows=min(rows, n_q),
        key_mask=operator.key_mask,
        query_mask=operator.query_mask,
        scale=operator.scale,
        failure=failure,
        rng=rng,
        entries=lambda: operator.entries,
    )


def _certify_nystrom(
    xp: Any,
    operator: NystromOperator,
    v: Array,
    rows: int | None,
    failure: float,
    rng: np.random.Generator | int,
) -> AttentionCertificate:
    """By its factors: rows in float64, their lengths, their rounding, and hints of where they err."""
    if operator.core.ndim != 2:
        raise ShapeError("operator", f"of cores {tuple(operator.core.shape)}", "one head, (m_q, m_k)")
    if operator.bias is not None:
        raise ShapeError("operator", "masked additively", "no mask but of keys and queries")
    _real_tokens(xp, operator)
    most = operator.q.shape[0]
    v, operator = take_real(xp, v, operator.key_mask), without_padding(xp, operator)
    n_q, n_k = operator.q.shape[0], operator.k.shape[0]
    if rows is not None:
        rows = _checked_rows(rows, n_q, most)
    made = OperatorRows(xp, operator)
    m_k, m_q = made.z.shape
    budget = n_q * m_k + n_k * m_q + m_q * m_k
    lengths, sums, rounding = made.measures()
    if not np.isfinite(lengths).all():
        found = "not finite in its rows: its core could not be solved with, or scores overflow"
        raise NonFiniteError("operator", found, "a core that its solver serves, and smaller queries and keys")
    deviations = np.round(np.abs(sums - 1), 6)  # below that it is rounding
    hints = Hints(lambda columns: (deviations,))
    if (budget // n_k if rows is None else rows) >= WORTH_HINTS:
        heavy = min(HEAVY, budget // n_k // 16)
        hints = Hints(
            lambda columns: (deviations, *made.errors_at(columns, v)),
            columns=heavy,
            entries=n_q * (heavy + 2 + len(NEIGHBOURS)),
        )
    if rows is None:
        rows = min(n_q, max(8, (budget - hints.entries) // n_k))
    return certify_rows(
        operator.q,
        operator.k,
        v,
        made,
        rows=rows,
        lengths=lengths,
        rounding=rounding,
        hints=hints,
        scale=operator.scale,
        failure=failure,
        rng=rng,
        entries=lambda: made.entries,
    )


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
    a = check_arguments(q, k, v, scale=scale, key_mask=key_mask, query_mask=query_mask)
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
    head = _Head.of(a, q, k, v, rows_of, real)
    if lengths is not None:
        lengths = _nonnegative("lengths", head.given("lengths", lengths, most))
    if rounding is not None:
        rounding = _nonnegative("rounding", head.given("rounding", rounding, most))

    if rows == n:
        seen = np.arange(n)
        known, _ = head.errors(seen)
        totals, spread, quantile, probability = known.sum(axis=1), np.zeros(2), 0.0, 1.0
        words = what = "all rows exact"
    else:
        from scipy.stats import t

        pilot = _pilot(n, max(2, rows // PILOT), source)
        first, energy = head.errors(pilot)
        predicted = hints.predict(_heaviest(energy, hints.columns))
        require_instance("hints", predicted, tuple, "predictions in a tuple")
        given = tuple(head.given("hints", one, most) for one in predicted)
        sizes = _sizes(_features(head, given if lengths is None else (lengths, *given)), pilot, first)
        rest = np.setdiff1d(np.arange(n), pilot)
        chosen, chance = _proportional(sizes[rest], rows - len(pilot), source)
        second, _ = head.errors(rest[chosen])
        seen, known = np.concatenate([pilot, rest[chosen]]), np.concatenate([first, second], axis=1)
        weighed = second / chance
        totals = first.sum(axis=1) + weighed.sum(axis=1)
        spread, degrees = _spread(weighed, chance)
        quantile, probability = INFLATION * float(t.ppf(1 - failure / 2, degrees)), 1 - failure / 2
        what = f"{len(seen)} exact rows of {n}, drawn by predicted error"
        words = f"{what}; Student's quantile times {INFLATION} (Särndal et al. 1992, §3.6)"

    size = inf if lengths is None else sqrt(float(lengths.sum())) + sqrt(n)
    allowance = head.allowance(np.zeros(n) if rounding is None else rounding)
    relative = np.where(totals > 0, spread / (2 * np.where(totals > 0, totals, 1.0)), 0.0)
    interval = partial(_interval, words=words, rows=len(seen), quantile=quantile, probability=probability)
    matrix = interval(float(totals[0]), float(relative[0]), allowance, trivial=size)
    more = head.of_output(allowance, matrix.upper)
    output = interval(float(totals[1]), float(relative[1]), more, trivial=inf, unit=head.unit)
    certain = _certain(known[0], lengths, seen, allowance, what, size)
    exact = len(seen) * k.shape[0] + (hints.entries if rows < n else 0)
    return AttentionCertificate(matrix, output, certain, len(seen), exact, exact + entries())


@dataclass(frozen=True)
class _Head:
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
    unit: float

    @classmethod
    def of(
        cls, a: Arguments, q: Array, k: Array, v: Array, rows_of: RowMaker, real: np.ndarray[Any, Any]
    ) -> _Head:
        xp = a.xp
        q = xp.take(q, from_numpy(xp, real, q), axis=0)
        k, v = (hide(xp, x, a.key_mask) for x in (k, v))
        require_finite(xp, q=q, k=k, v=v)
        q, k, v = (xp.astype(x, xp.float64) for x in (q, k, v))
        unit = binary_scale(v)
        mask = None if a.key_mask is None else a.key_mask[None, :]
        return cls(xp, q * a.scale, k, v / unit, mask, rows_of, real, float(unit[0, 0]))

    def errors(self, some: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Squared errors of some rows of Ŝ and of ŜV, (2, rows), and of the columns over these rows, (n_k,)."""
        xp, of_rows, of_columns = self.xp, [], np.zeros(self.keys.shape[0])
        for part in blocks(len(some), HELD):
            place = some[part]
            queries = xp.take(self.queries, from_numpy(xp, place, self.queries), axis=0)
            exact = masked_softmax(queries @ transpose(self.keys), self.key_mask)
            error = self._made(place) - exact
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

    def allowance(self, rounding: np.ndarray[Any, Any]) -> _Allowance:
        r"""That of :math:`\|\hat S - S\|_F`, see :func:`certify_rows`."""
        (n_k, d), n = self.keys.shape, len(rounding)
        longest = row_norms(self.xp, self.keys).max()
        of_exact = softmax_rounding(row_norms(self.xp, self.queries), longest, d, n_k)
        return _Allowance((n + n_k + 8) * UNIT, float(np.linalg.norm(of_exact + rounding)))

    def of_output(self, allowance: _Allowance, error: Bound) -> _Allowance:
        r"""That of :math:`\|\hat SV - SV\|_F`, from that of the matrix and its error."""
        size = float(np.linalg.norm(row_norms(self.xp, self.values)))
        above = inf if error.value is None else error.value
        product = (self.keys.shape[0] + 2) * UNIT * above
        return _Allowance(allowance.relative, size * (allowance.absolute + product))


@dataclass(frozen=True)
class _Allowance:
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


def _features(head: _Head, given: tuple[np.ndarray[Any, Any], ...]) -> np.ndarray[Any, Any]:
    """A constant, ‖q‖² and what is given, each of mean 1, shape (n, f)."""
    squares = to_numpy(head.xp.sum(head.queries * head.queries, axis=1))
    columns = [np.ones_like(squares), squares, *given]
    usable = [np.isfinite(c).all() and c.min() >= 0 and c.mean() > 0 for c in columns]
    return np.column_stack(
        [c / c.mean() if use else np.zeros_like(c) for c, use in zip(columns, usable, strict=True)]
    )


def _pilot(n: int, count: int, source: np.random.Generator) -> np.ndarray[Any, Any]:
    """Rows evenly spread from a random start, and the first and the last."""
    inner = n - 2
    spread = 1 + ((np.arange(count) + source.random()) * inner / count).astype(np.int64)
    return np.unique(np.concatenate([[0, n - 1], spread]))


def _sizes(
    features: np.ndarray[Any, Any], pilot: np.ndarray[Any, Any], errors: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any]:
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


def _proportional(
    sizes: np.ndarray[Any, Any], count: int, source: np.random.Generator
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
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


def _spread(weighed: np.ndarray[Any, Any], chance: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], int]:
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


def _interval(
    total: float,
    relative: float,
    allowance: _Allowance,
    *,
    words: str,
    rows: int,
    quantile: float,
    trivial: float,
    probability: float,
    unit: float = 1.0,
) -> Certificate:
    """An interval for the root of a total, symmetric in its logarithm but for rounding; certain with probability 1."""
    value = sqrt(total)
    reach = min(quantile * relative, 700.0)
    ends = allowance.around(value * exp(-reach), value * exp(reach))
    lower, upper = (
        bound(
            end * unit,
            side,
            Norm.FROBENIUS,
            words,
            trivial=known,
            probability=probability,
            asymptotic=probability < 1,
        )
        for end, side, known in zip(ends, (Side.LOWER, Side.UPPER), (0.0, trivial), strict=True)
    )
    return Certificate(lower, Estimate(value * unit, value * relative * unit, rows, words), upper)


def _certain(
    known: np.ndarray[Any, Any],
    lengths: np.ndarray[Any, Any] | None,
    seen: np.ndarray[Any, Any],
    allowance: _Allowance,
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
