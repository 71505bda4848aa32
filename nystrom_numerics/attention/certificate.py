r"""How far an approximate attention is from the exact one, from some of its rows.

:func:`certify_rows` compares rows of any estimator with exact ones and gives an interval for
:math:`\|\hat S - S\|_F` and :math:`\|\hat SV - SV\|_F`, of one head, without n × n entries.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf, sqrt
from typing import Any

import numpy as np

from nystrom_numerics.arguments import require_callable, require_flag, require_instance
from nystrom_numerics.attention.arguments import check_arguments
from nystrom_numerics.attention.asymptotic import interval_of
from nystrom_numerics.attention.exact_rows import Allowance, Head, RowMaker
from nystrom_numerics.attention.finite_sample import (
    Guaranteed,
    certain_norm,
    guaranteed_norms,
)
from nystrom_numerics.attention.hints import Hints, features, heaviest
from nystrom_numerics.attention.widths import Asked, Reach, looked_at, reach_of
from nystrom_numerics.backend import Array, generator, status_tells, to_numpy
from nystrom_numerics.bounds import Certificate
from nystrom_numerics.brief import brief
from nystrom_numerics.errors import RangeError, ShapeError

__all__ = ["AttentionCertificate", "Judge", "certify_rows"]

Numbers = np.ndarray[Any, Any]


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
    worst head, whose error sits in few rows, 91 %.  ``attention_certificate`` among the experiments measures it.  On
    heads of other models, where few rows that nothing predicts hold the error, it was 85 % on an ALBERT and less on a
    causal model, while what is ``guaranteed`` held always: ``certified_width`` there, ``docs/certificates``.
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
    judge = Judge.of(
        q,
        k,
        v,
        rows_of,
        lengths=lengths,
        largest=largest,
        spread=spread,
        rounding=rounding,
        hints=hints,
        key_mask=key_mask,
        query_mask=query_mask,
        causal=causal,
        scale=scale,
        entries=entries,
    )
    return judge.certificate(Asked(rows, within, most, failure), rng)


@dataclass(frozen=True)
class Judge:
    """Rows of one head, and what is known of them before any is looked at: what certificates are made from."""

    head: Head
    queries: int
    lengths: Numbers | None
    caps: Numbers
    limits: Numbers
    allowance: Allowance
    hints: Hints
    entries: Callable[[], int]
    all_rows: AllRows | None = None

    @classmethod
    def of(
        cls,
        q: Array,
        k: Array,
        v: Array,
        rows_of: RowMaker,
        *,
        lengths: Numbers | None = None,
        largest: Numbers | None = None,
        spread: Numbers | None = None,
        rounding: Numbers | None = None,
        hints: Hints | None = None,
        key_mask: Array | None = None,
        query_mask: Array | None = None,
        causal: bool = False,
        scale: float | None = None,
        entries: Callable[[], int],
    ) -> Judge:
        """Checked; the arguments of :func:`certify_rows`."""
        require_flag("causal", causal)
        a = check_arguments(q, k, v, scale=scale, key_mask=key_mask, query_mask=query_mask, oneself=causal)
        if q.ndim != 2 or k.ndim != 2 or v.ndim != 2:
            raise ShapeError("q", f"of shape {tuple(q.shape)}", "one head: q, k and v of two axes")
        require_callable("rows_of", rows_of)
        require_callable("entries", entries)
        hints = Hints(lambda columns: ()) if hints is None else require_instance("hints", hints, Hints)
        queries = q.shape[0]
        real = np.arange(queries) if a.query_mask is None else np.flatnonzero(to_numpy(a.query_mask))
        n = len(real)
        if n == 0:
            raise RangeError("query_mask", "false everywhere", "a real query")
        head = Head.of(a, q, k, v, rows_of, real, causal)

        def given(name: str, x: Numbers | None) -> Numbers | None:
            return None if x is None else _nonnegative(name, head.given(name, x, queries))

        lengths, largest = given("lengths", lengths), given("largest", largest)
        rounding, spread = given("rounding", rounding), given("spread", spread)
        of_rounding = np.zeros(n) if rounding is None else rounding
        caps = np.full(n, inf) if lengths is None else np.sqrt(lengths) + 1
        caps = caps if largest is None else np.minimum(caps, largest)
        limits = head.limits(caps, of_rounding, spread)
        return cls(head, queries, lengths, caps, limits, head.allowance(of_rounding), hints, entries)

    def after_all_rows(self) -> Judge:
        """The same, with every row computed once: a certificate reads those that it looks at, and counts them alone."""
        n, before = len(self.head.real), self.entries()
        parts = list(self.head.compared(np.arange(n)))
        columns = np.concatenate([to_numpy(squares) for _, squares in parts]) if self.hints.columns else None
        rows = np.concatenate([sums for sums, _ in parts], axis=1)
        return replace(self, all_rows=AllRows(rows, columns, before, (self.entries() - before) // n))

    def certificate(self, asked: Asked, rng: np.random.Generator | int) -> AttentionCertificate:
        """From the rows that one draw looks at."""
        head, before, n = self.head, self.entries(), len(self.head.real)
        looks = asked.of(n, self.queries)
        source, _ = generator(rng)

        def predictions(_: Numbers, energy: Numbers) -> Numbers:
            return self._features(energy)

        hinted = self.hints.suspicion
        sample = looked_at(
            n,
            looks,
            2,
            head.errors if self.all_rows is None else self.all_rows.errors,
            predictions,
            source,
            limits=self.limits,
            suspicion=None if hinted is None else head.given("hints", hinted, self.queries),
        )
        size = inf if self.lengths is None else sqrt(float(self.lengths.sum())) + sqrt(n)
        matrix = interval_of(sample, 0, self.allowance, trivial=size)
        of_output = head.of_output(self.allowance, matrix.upper)
        exact = head.entries(sample.seen) + (self.hints.entries if len(sample.seen) < n else 0)
        own = self.entries()
        if self.all_rows is not None:
            own += self.all_rows.entries(len(sample.seen)) - before
        return AttentionCertificate(
            matrix,
            interval_of(sample, 1, of_output, trivial=inf, unit=head.unit),
            certain_norm(sample, self.caps, self.allowance, size),
            len(sample.seen),
            exact,
            exact + own,
            guaranteed_norms(head, sample, self.allowance, looks.failure, size),
            reach_of(sample, looks.within, n, slice(2)),
        )

    def _features(self, energy: Numbers) -> Numbers:
        """What errors are predicted from, by the columns in which the first rows err."""
        predicted = self.hints.predict(heaviest(energy, self.hints.columns))
        require_instance("hints", predicted, tuple, "predictions in a tuple")
        given = tuple(self.head.given("hints", one, self.queries) for one in predicted)
        return features(self.head, given if self.lengths is None else (self.lengths, *given))


@dataclass(frozen=True)
class AllRows:
    """What :meth:`Head.errors` gives, of rows computed before: (3, n), and squares (n, n_k) where columns are hinted.

    ``before`` and ``each`` are the kernel entries of Ŝ beside its rows, and of one row.
    """

    rows: Numbers
    squares: Numbers | None
    before: int
    each: int

    def errors(self, some: Numbers) -> tuple[Numbers, Numbers]:
        columns = np.zeros(1) if self.squares is None else self.squares[some].sum(axis=0)
        return self.rows[:, some], columns

    def entries(self, count: int) -> int:
        return self.before + count * self.each


def _nonnegative(name: str, x: Numbers) -> Numbers:
    if not (np.isfinite(x) & (x >= 0)).all():
        raise RangeError(name, "negative or not finite somewhere", "finite numbers of at least 0")
    return x
