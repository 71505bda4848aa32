r"""How far an output is from that of exact attention, from some exact rows, whoever made it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, sqrt
from typing import Any

import numpy as np

from nystrom_numerics.arguments import require_flag, require_instance
from nystrom_numerics.attention.arguments import check_arguments, tokens_of
from nystrom_numerics.attention.asymptotic import interval_of
from nystrom_numerics.attention.exact_rows import HELD, Allowance, Head
from nystrom_numerics.attention.finite_sample import guaranteed_of
from nystrom_numerics.attention.hints import Hints, features
from nystrom_numerics.attention.operators import blocks
from nystrom_numerics.attention.rounding import UNIT, row_norms
from nystrom_numerics.attention.widths import Asked, Reach, looked_at, reach_of
from nystrom_numerics.backend import Array, floating, from_numpy, generator, require_finite, still, to_numpy
from nystrom_numerics.bounds import Bound, Certificate, Estimate, Norm, Side
from nystrom_numerics.bounds.result import bound
from nystrom_numerics.brief import brief
from nystrom_numerics.errors import RangeError, ShapeError

__all__ = ["OutputCertificate", "certify_output"]

MOST = 2.0**500
"""Largest entry of an output, in units of the values: sums of its squares are numbers."""


@dataclass(frozen=True)
class OutputCertificate:
    r"""What sampled rows say of the output of an approximate attention.

    Attributes
    ----------
    error : Certificate
        Of :math:`\|O - SV\|_F`.
    relative : Certificate
        Of :math:`\|O - SV\|_F/\|SV\|_F`; its upper end is infinite where the error may be as large as O.
    rows, exact_entries : int
        Exact rows that were computed, and their kernel entries.
    guaranteed, guaranteed_relative : Certificate
        The same two at the confidence asked for and for any head, not in a limit.
    reach : Reach
        How narrow ``error`` is, and whether that is what was asked.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import attention
    >>> q, k, v = np.random.default_rng(0).standard_normal((3, 300, 4))
    >>> found = attention.certify_output(q, k, v, attention.nystrom(q, k, v, 8))
    >>> truth = np.linalg.norm(attention.nystrom(q, k, v, 8) - attention.exact(q, k, v))
    >>> bool(found.error.lower.value <= truth <= found.error.upper.value)
    True
    """

    error: Certificate
    relative: Certificate
    rows: int
    exact_entries: int
    guaranteed: Certificate
    guaranteed_relative: Certificate
    reach: Reach

    __repr__ = brief


def certify_output(
    q: Array,
    k: Array,
    v: Array,
    out: Array,
    /,
    *,
    rows: int | None = None,
    within: float | None = None,
    most: int | None = None,
    key_mask: Array | None = None,
    query_mask: Array | None = None,
    causal: bool = False,
    scale: float | None = None,
    beside: Sequence[Array] = (),
    hints: Hints | None = None,
    failure: float = 0.01,
    rng: np.random.Generator | int = 0,
) -> OutputCertificate:
    r"""Intervals for :math:`\|O - SV\|_F`, absolute and relative, of one head, from some exact rows.

    The output O may come from any estimator, in this package or not: nothing is asked of it but its numbers.

    Parameters
    ----------
    q : array (n_q, d)
    k : array (n_k, d)
    v : array (n_k, d_v)
    out : array (n_q, d_v)
        What stands for SV.
    rows, within, most : int, float, int, optional
        Exact rows, from 8 to n_q; or how narrow the interval of the error is to be, and rows for that at most: as in
        :func:`certify_rows`.
    beside : sequence of array (n_q, d_v)
        Other outputs, such as the same estimator's at twice the budget: where they differ from ``out`` rows are looked
        at first.  None of it is trusted, and without it errors that sit in few rows are missed.
    hints : Hints, optional
        What else goes with the errors of rows, such as ``row_errors()`` of the operator that made ``out``, by
        ``Hints.of``: its suspects are looked at first too, in turn with those of ``beside``.  It may not ask of
        columns.
    key_mask, query_mask, causal, scale, failure, rng
        As in :func:`certify_rows`.  Outputs that are zero for masked tokens, as those of :func:`causal`, are to be held
        against real queries alone: by ``query_mask`` too.

    Returns
    -------
    OutputCertificate
        With certainty where all rows are exact.

    Raises
    ------
    DTypeError, DeviceError, KindError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument; NaN and infinity in real tokens and their outputs are refused.

    Notes
    -----
    Rows are drawn and weighed as in :func:`certify_rows`, by the errors that ‖q_i‖², ‖O_i‖², ``hints`` and, for each
    O′ of ``beside``, ‖O_i − O′_i‖² predict, and so is its interval, asymptotic, e in [e₋, e₊].  As ‖SV‖ is from ‖O‖ by
    e at most,

    .. math:: \frac{e_-}{\|O\| + e_-} \le \frac{\|O - SV\|}{\|SV\|} \le \frac{e_+}{\|O\| - e_+} .

    The relative estimate is over the ‖SV‖ that the sample gives, between ‖O‖ − e and ‖O‖ + e.  On synthetic heads, of
    tangents, near field and causal attention with twice the budget beside, 99 % of such intervals hold the truth; of
    the paper's six iterations, whose rows err by very different amounts, 90 %.  On trained heads fewer do where both
    outputs err alike in a few rows, which ``beside`` cannot tell: on a head of Whisper one row of 1,500 has 97 % of the
    squared error of tangents at m = 128, and stands 1,229th by what is beside it, second by ``row_errors()``.  So
    :func:`choose` gives those as hints, and the claim ``chosen_budgets`` of the experiments counts what holds.

    Rounding is allowed for as there; the product with V is off by :math:`(n_k + 2)u\sqrt{n_q}\|V\|_F` at most.

    Cost: rows · n_k kernel entries, in float64; memory O(n) and 256 rows.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import attention
    >>> q, k, v = np.random.default_rng(0).standard_normal((3, 500, 8))
    >>> out = attention.tangent(q, k, v)
    >>> told = attention.certify_output(q, k, v, out).relative
    >>> s = attention.exact(q, k, v)
    >>> bool(told.lower.value < np.linalg.norm(out - s) / np.linalg.norm(s) < told.upper.value)
    True
    """
    require_flag("causal", causal)
    a = check_arguments(q, k, v, scale=scale, key_mask=key_mask, query_mask=query_mask, oneself=causal)
    if q.ndim != 2 or k.ndim != 2 or v.ndim != 2:
        raise ShapeError("q", f"of shape {tuple(q.shape)}", "one head: q, k and v of two axes")
    floating(tokens_of(q=q, out=out), out=out)
    if tuple(out.shape) != (q.shape[0], v.shape[1]):
        raise ShapeError("out", f"of shape {tuple(out.shape)}", f"shape {(q.shape[0], v.shape[1])}")
    require_instance("beside", beside, Sequence, "a sequence of outputs")
    hints = Hints(lambda _: ()) if hints is None else require_instance("hints", hints, Hints)
    if hints.columns:
        raise RangeError("hints", f"asking for {hints.columns} columns", "none: outputs have no columns of S")
    source, _ = generator(rng)
    real = np.arange(q.shape[0]) if a.query_mask is None else np.flatnonzero(to_numpy(a.query_mask))
    n = len(real)
    if n == 0:
        raise RangeError("query_mask", "false everywhere", "a real query")
    looks = Asked(rows, within, most, failure).of(n, q.shape[0])
    q, k, v = (still(x) for x in (q, k, v))
    head = Head.of(a, q, k, v, lambda _: q, real, causal)
    xp = head.xp
    made = _in_units("out", head, out, real)
    lengths = to_numpy(xp.sum(made * made, axis=1))
    apart = tuple(_distances(head, made, x, real, tuple(out.shape)) for x in beside)

    def look(some: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        return _squares(head, made, some), np.zeros(0)

    predicted = require_instance("hints", hints.predict(np.arange(0)), tuple, "predictions in a tuple")
    given = tuple(head.given("hints", one, q.shape[0]) for one in predicted)

    def predictions(_: np.ndarray[Any, Any], __: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return features(head, (lengths, *apart, *given))

    suspicions = [np.sum(apart, axis=0)] if apart else []
    if hints.suspicion is not None:
        suspicions.append(head.given("hints", hints.suspicion, q.shape[0]))
    limits = _limits(head, made)
    sample = looked_at(n, looks, 1, look, predictions, source, limits=limits, suspicion=_in_turn(suspicions))
    allowance = head.allowance(np.zeros(n))
    product = (k.shape[0] + 2) * UNIT * sqrt(n)
    absolute = head.size * (allowance.absolute + product)
    rounded = Allowance(allowance.relative, absolute)
    error = interval_of(sample, 0, rounded, trivial=inf, unit=head.unit)
    sure = guaranteed_of(sample, 0, rounded, failure, trivial=inf, unit=head.unit)
    of_out, of_exact = (sqrt(float(x)) * head.unit for x in (lengths.sum(), sample.totals[1]))
    relative, surely = (_relative(x, of_out, of_exact) for x in (error, sure))
    reach = reach_of(sample, within, n, slice(1))
    exact = head.entries(sample.seen) + (hints.entries if len(sample.seen) < n else 0)
    return OutputCertificate(error, relative, len(sample.seen), exact, sure, surely, reach)


def _in_turn(suspicions: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any] | None:
    """Largest where any of several (n,) is: their first, then their second, and so on."""
    ranks = [np.argsort(np.argsort(-x, kind="stable"), kind="stable") for x in suspicions]
    return -np.min(ranks, axis=0) if ranks else None


def _limits(head: Head, made: Array) -> np.ndarray[Any, Any]:
    r"""What ‖O_i − S_iV‖² and ‖S_iV‖² can be at most, (2, n), rounding included.

    S_iV is in the ball about the mean of the values that holds all of them and, for rows without a key, zero.
    """
    xp, values = head.xp, head.values
    if head.key_mask is not None:
        values = xp.take(values, from_numpy(xp, np.flatnonzero(to_numpy(head.key_mask)[0]), values), axis=0)
    if not values.shape[0]:
        squares = to_numpy(xp.sum(made * made, axis=1))
        return np.stack([squares, np.zeros_like(squares)])
    centre = xp.mean(values, axis=0)[None, :]
    radius = max(row_norms(xp, values - centre).max(), row_norms(xp, centre)[0])
    longest = np.full(made.shape[0], row_norms(xp, values).max())
    off = row_norms(xp, made - centre) + radius + head.of_exact * float(np.linalg.norm(row_norms(xp, values)))
    return (np.stack([off, longest]) * (1 + 1e-9)) ** 2


def _distances(
    head: Head, made: Array, beside: Array, real: np.ndarray[Any, Any], out_shape: tuple[int, ...]
) -> np.ndarray[Any, Any]:
    """‖O_i − O′_i‖² for another output O′ (n_q, d_v), (n,)."""
    xp = head.xp
    floating(tokens_of(q=made, beside=beside), beside=beside)
    shape = tuple(beside.shape)
    if shape != out_shape:
        raise ShapeError("beside", f"with one of shape {shape}", f"shape {out_shape}, that of `out`")
    other = _in_units("beside", head, beside, real)
    return np.asarray(to_numpy(xp.sum((made - other) ** 2, axis=1)))


def _in_units(name: str, head: Head, x: Array, real: np.ndarray[Any, Any]) -> Array:
    """Real rows of an output, in float64 and in the unit of values; none whose square overflows."""
    xp = head.xp
    x = xp.astype(xp.take(still(x), from_numpy(xp, real, x), axis=0), xp.float64)
    require_finite(xp, **{name: x})
    if float(xp.max(xp.abs(x))) > MOST * head.unit:
        raise RangeError(name, "more than 2⁵⁰⁰ times the largest value", "of the values' size")
    return x / head.unit


def _squares(head: Head, made: Array, some: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """‖O_i − S_iV‖² and ‖S_iV‖² of some rows, (2, rows)."""
    xp, found = head.xp, []
    for part in blocks(len(some), HELD):
        exact = head.exact(some[part]) @ head.values
        error = xp.take(made, from_numpy(xp, some[part], made), axis=0) - exact
        found.append(np.stack([to_numpy(xp.sum(x * x, axis=1)) for x in (error, exact)]))
    return np.concatenate(found, axis=1)


def _relative(error: Certificate, of_out: float, of_exact: float) -> Certificate:
    """By the triangle inequality; of an output and an exact one of these norms."""
    low, high = (inf if x.value is None else x.value for x in (error.lower, error.upper))
    ends = low / (of_out + low) if low > 0 else 0.0, high / (of_out - high) if high < of_out else inf
    if high == 0:
        ends = 0.0, 0.0

    def side(value: float, of: Side, like: Bound, trivial: float) -> Bound:
        words = f"{like.source}; over ‖SV‖ by the triangle inequality"
        return bound(
            value,
            of,
            Norm.FROBENIUS,
            words,
            trivial=trivial,
            probability=like.probability,
            asymptotic=like.asymptotic,
        )

    lower, upper = side(ends[0], Side.LOWER, error.lower, 0.0), side(ends[1], Side.UPPER, error.upper, inf)
    told = error.estimate
    of_exact = 0.0 if told is None else min(max(of_exact, of_out - told.value), of_out + told.value)
    if told is None or of_exact == 0:
        return Certificate(lower, None, upper)
    spread = None if told.standard_error is None else told.standard_error / of_exact
    return Certificate(lower, Estimate(told.value / of_exact, spread, told.matvecs, told.source), upper)
