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

from nystrom_numerics.attention.arguments import check_arguments
from nystrom_numerics.attention.nystrom import NystromOperator
from nystrom_numerics.attention.operator_rows import NEIGHBOURS, OperatorRows, blocks
from nystrom_numerics.backend import (
    Array,
    from_numpy,
    generator,
    namespace,
    to_numpy,
)
from nystrom_numerics.bounds import (
    Certificate,
    Estimate,
    Norm,
    Side,
)
from nystrom_numerics.bounds.result import bound, require_failure
from nystrom_numerics.errors import RangeError, ShapeError
from nystrom_numerics.linalg import transpose

__all__ = ["AttentionCertificate", "Hints", "RowMaker", "certify_operator", "certify_rows"]

RowMaker: TypeAlias = Callable[[Array], Callable[[slice], Array]]
"""``rows_of(indices)`` gives a function that gives the entries of Ŝ at these rows and a slice of the keys."""

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


@dataclass(frozen=True)
class AttentionCertificate:
    r"""What sampled rows say of an approximate attention.

    Attributes
    ----------
    matrix, output : Certificate
        Of :math:`\|\hat S - S\|_F` and :math:`\|\hat SV - SV\|_F`, at the confidence asked for, which holds in
        the limit of many rows.
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


def certify_operator(
    operator: NystromOperator,
    v: Array,
    /,
    *,
    rows: int | None = None,
    failure: float = 0.01,
    rng: np.random.Generator | int = 0,
) -> AttentionCertificate:
    r"""The certificate of the paper's estimator :math:`\hat S = FZB`, of one head.

    Parameters
    ----------
    operator : NystromOperator
        As :func:`~nystrom_numerics.attention.nystrom_operator` makes it from q (n_q, d) and k (n_k, d).
    v : array (n_k, d_v)
    rows : int, optional
        Exact rows; by default as many as, with the hints, have the entries of the approximation itself: 2m less a
        few, and 8 at least.
    failure, rng
        As in :func:`certify_rows`, whose result, errors and statements these are too.

    Notes
    -----
    From 32 rows on the sample is aimed by a look at 15 entries of S in every row, :class:`Hints`: the first and the
    last column, those beside the diagonal, and the 8 in which the first rows err most.

    Cost: the exact rows and these entries, and 6nm kernel entries to make Ŝ's rows, their lengths, their sums and
    their entries there; O(nm² + n·rows·d + nm·1024) multiplications; memory O(n), the first rows and a few blocks.
    """
    xp = namespace(q=operator.q, v=v)
    if operator.q.ndim != 2 or operator.k.ndim != 2:
        raise ShapeError("operator", f"of a batch, q {tuple(operator.q.shape)}", "one head, (n, d)")
    if operator.bias is not None or operator.row_mask is not None:
        raise ShapeError(
            "operator", "masked additively or by rows of queries", "no mask but of keys and landmarks"
        )
    n_q, n_k, m = operator.q.shape[0], operator.k.shape[0], operator.core.shape[0]
    budget = (n_q + n_k) * m + m * m
    made = OperatorRows(xp, operator)
    lengths, sums = made.lengths_and_sums()
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
        hints=hints,
        key_mask=operator.key_mask,
        scale=operator.scale,
        failure=failure,
        rng=rng,
        entries=lambda: made.entries,
    )


def certify_rows(
    q: Array,
    k: Array,
    v: Array,
    rows_of: RowMaker,
    /,
    *,
    rows: int,
    lengths: np.ndarray[Any, Any] | None = None,
    hints: Hints | None = None,
    key_mask: Array | None = None,
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
        Gives entries of Ŝ, see :data:`RowMaker`.
    rows : int
        Exact rows to compute, 8 to n_q; n_q gives the norms themselves.
    lengths : array (n_q,), optional
        Squared lengths of the rows of Ŝ, where they are known; also for :attr:`AttentionCertificate.certain`.
    hints : Hints, optional
    key_mask : array (n_k,) of bool, optional
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
    DTypeError, DeviceError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    The interval is **asymptotic**: Student's quantile times 1.3 on the logarithm of the estimate, from the
    spread of the weighed errors.  The factor was chosen on the heads of MiniLM at 512 tokens; there, with the hints of
    :func:`certify_operator`, 99.5 % of the intervals and more hold the truth, on a text not looked at too, and on the
    worst head, whose error sits in few rows, 91 %.  ``attention_certificate`` among the experiments measures it.
    No interval of use holds with certainty for skewed errors of so few rows; what does hold is in ``certain``, from
    :math:`\|S_i\|_2 \le 1`.

    Cost: rows · n_k kernel entries and what ``rows_of`` needs, in float64; memory O(n) and a block.
    Source: Särndal, Swensson and Wretman 1992, §3.5 and §3.6 (probability proportional to size).
    """
    a = check_arguments(q, k, v, scale=scale, key_mask=key_mask)
    require_failure(failure)
    if q.ndim != 2 or k.ndim != 2 or v.ndim != 2:
        raise ShapeError("q", f"of shape {tuple(q.shape)}", "one head: q, k and v of two axes")
    n = q.shape[0]
    least = min(8, n)
    if isinstance(rows, bool) or not isinstance(rows, (int, np.integer)) or not least <= rows <= n:
        raise RangeError("rows", f"{rows!r}", f"an integer from {least} to {n}")
    source, _ = generator(rng)
    hints = hints or Hints(lambda columns: ())

    def errors(
        indices: np.ndarray[Any, Any], heavy: int = 0
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        return _row_errors(a.xp, q, k, v, a.key_mask, a.scale, rows_of, indices, heavy)

    if rows == n:
        known, _ = errors(np.arange(n))
        totals, spread, degrees = known.sum(axis=1), np.zeros(2), 1
    else:
        pilot = _pilot(n, max(2, rows // PILOT), source)
        first, columns = errors(pilot, hints.columns)
        given = (*(() if lengths is None else (lengths,)), *hints.predict(columns))
        for one in given:
            if one.shape != (n,):
                raise ShapeError("hints", f"of shape {one.shape}", f"shape ({n},), as `lengths` too")
        sizes = _sizes(_features(a.xp, q, given), pilot, first)
        rest = np.setdiff1d(np.arange(n), pilot)
        chosen, chance = _proportional(sizes[rest], rows - len(pilot), source)
        second, _ = errors(rest[chosen])
        known = np.concatenate([first, second], axis=1)
        weighed = second / chance
        totals = first.sum(axis=1) + weighed.sum(axis=1)
        spread, degrees = _spread(weighed, chance)
    computed = known.shape[1]
    what = f"{computed} exact rows of {n}, drawn by predicted error"
    words = (
        "all rows exact"
        if rows == n
        else f"{what}; Student's quantile times {INFLATION}, asymptotic (Särndal et al. 1992, §3.6)"
    )
    size = inf if lengths is None else sqrt(float(lengths.sum())) + sqrt(n)
    matrix, output = (
        _interval(float(t), float(s), degrees, failure if rows < n else None, computed, words, trivial)
        for t, s, trivial in zip(totals, spread, (size, inf), strict=True)
    )
    seen = np.arange(n) if rows == n else np.concatenate([pilot, rest[chosen]])
    certain = _certain(known[0], lengths, seen, n, what)
    exact = computed * k.shape[0] + (hints.entries if rows < n else 0)
    return AttentionCertificate(matrix, output, certain, computed, exact, exact + entries())


def _row_errors(
    xp: Any,
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None,
    scale: float,
    rows_of: RowMaker,
    indices: np.ndarray[Any, Any],
    heavy: int,
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Squared errors of some rows of Ŝ and of ŜV, shape (2, rows), and the ``heavy`` columns in which they are most.

    In float64; blocks of keys, running peaks.  With columns to find, the rows are kept whole.
    """
    index = from_numpy(xp, np.asarray(indices, dtype=np.int64), q)
    queries = xp.astype(xp.take(q, index, axis=0), xp.float64) * scale
    made = rows_of(index)
    peak = xp.full_like(queries[:, 0], -xp.inf)
    zero = xp.zeros_like(queries[:, 0])
    total, square, mixed, own = zero, zero, zero, zero
    out: Any = 0.0
    difference: Any = 0.0
    kept: list[tuple[Array, Array, Array]] = []
    for part in blocks(k.shape[0]):
        scores = queries @ transpose(xp.astype(k[part, :], xp.float64))
        values = xp.astype(v[part, :], xp.float64)
        if mask is not None:
            scores = xp.where(mask[part][None, :], scores, xp.full_like(scores, -xp.inf))
            values = xp.where(mask[part][:, None], values, xp.zeros_like(values))
        approximate = xp.astype(made(part), xp.float64)
        new = xp.maximum(peak, xp.max(scores, axis=1))
        shift = xp.where(new == -xp.inf, xp.zeros_like(new), new)
        decay, weights = xp.exp(peak - shift), xp.exp(scores - shift[:, None])
        total = total * decay + xp.sum(weights, axis=1)
        square = square * decay * decay + xp.sum(weights * weights, axis=1)
        mixed = mixed * decay + xp.sum(weights * approximate, axis=1)
        own = own + xp.sum(approximate * approximate, axis=1)
        out = out * decay[:, None] + weights @ values
        difference = difference + approximate @ values
        peak = new
        if heavy:
            kept.append((weights, shift, approximate))
    total = xp.where(total == 0, xp.ones_like(total), total)
    of_matrix = xp.clip(own - 2 * mixed / total + square / (total * total), min=0.0)
    difference = difference - out / total[:, None]
    of_output = xp.sum(difference * difference, axis=1)
    columns = _heaviest(xp, kept, shift, total, heavy)
    return np.stack([to_numpy(of_matrix), to_numpy(of_output)]), columns


def _heaviest(
    xp: Any, kept: list[tuple[Array, Array, Array]], peak: Array, total: Array, count: int
) -> np.ndarray[Any, Any]:
    """The columns in which these rows err most, largest first."""
    if not kept:
        return np.zeros(0, dtype=np.int64)
    energies = []
    for weights, shift, approximate in kept:
        exact = weights * (xp.exp(shift - peak) / total)[:, None]
        energies.append(to_numpy(xp.sum((exact - approximate) ** 2, axis=0)))
    energy = np.concatenate(energies)
    # rounded, so that the order of equal columns does not hang on a backend's last digits
    return np.argsort(-np.round(energy / max(float(energy.max()), 1e-300), 6), kind="stable")[:count]


def _features(xp: Any, q: Array, given: tuple[np.ndarray[Any, Any], ...]) -> np.ndarray[Any, Any]:
    """A constant, ‖q‖² and what is given, each of mean 1, shape (n, f)."""
    wide = xp.astype(q, xp.float64)
    columns = [np.ones(q.shape[0]), to_numpy(xp.sum(wide * wide, axis=1)), *given]
    return np.column_stack(
        [c / c.mean() if np.isfinite(c).all() and c.mean() > 0 else 0 * c for c in columns]
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
            sizes += predicted / predicted.mean() if predicted.mean() > 0 else 1.0
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
    """Standard errors of the two totals, and degrees of freedom."""
    left = np.maximum(1 - chance, 0.0)
    drawn = left > 1e-12
    count = int(drawn.sum())
    if count < 2:
        return np.zeros(2), 1
    left, weighed = left[drawn], weighed[:, drawn]
    centre = (weighed * left).sum(axis=1, keepdims=True) / left.sum()
    variance = count / (count - 1) * (left * (weighed - centre) ** 2).sum(axis=1)
    return np.sqrt(variance), count - 1


def _interval(
    total: float, spread: float, degrees: int, failure: float | None, rows: int, words: str, trivial: float
) -> Certificate:
    """An interval for the root of a total, symmetric in its logarithm."""
    from scipy.stats import t

    value = sqrt(max(total, 0.0))
    relative = spread / (2 * total) if total > 0 else 0.0
    reach = 0.0 if failure is None else INFLATION * float(t.ppf(1 - failure / 2, degrees)) * relative
    reach = min(reach, 700.0)
    chance = 1.0 if failure is None else 1 - failure / 2
    lower, upper = (
        bound(value * exp(sign * reach), side, Norm.FROBENIUS, words, trivial=known, probability=chance)
        for sign, side, known in ((-1, Side.LOWER, 0.0), (1, Side.UPPER, trivial))
    )
    return Certificate(lower, Estimate(value, value * relative, rows, words), upper)


def _certain(
    seen: np.ndarray[Any, Any],
    lengths: np.ndarray[Any, Any] | None,
    indices: np.ndarray[Any, Any],
    n: int,
    words: str,
) -> Certificate:
    """The rows seen from below; from above each other one by ‖Ŝ_i‖ + 1."""
    found = float(seen.sum())
    unseen = np.ones(n, dtype=bool)
    unseen[indices] = False
    high, trivial = inf if unseen.any() else found, inf
    if lengths is not None:
        high = found + float(((np.sqrt(lengths[unseen]) + 1) ** 2).sum())
        trivial = sqrt(float(lengths.sum())) + sqrt(n)
    source = f"{words}; ‖S_i‖₂ ≤ 1 for the others"
    return Certificate(
        bound(sqrt(found), Side.LOWER, Norm.FROBENIUS, source, trivial=0.0),
        None,
        bound(sqrt(high), Side.UPPER, Norm.FROBENIUS, source, trivial=trivial),
    )
