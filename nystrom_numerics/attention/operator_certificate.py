r"""The certificate of an operator: what it knows of its rows, and how many exact ones are worth its own entries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from nystrom_numerics.arguments import require_count, require_instance
from nystrom_numerics.attention.arguments import check_arguments, tokens_of
from nystrom_numerics.attention.certificate import AttentionCertificate, Judge
from nystrom_numerics.attention.hints import Hints
from nystrom_numerics.attention.nystrom import NystromOperator
from nystrom_numerics.attention.operator_rows import (
    NEIGHBOURS,
    OperatorRows,
    take_real,
    without_padding,
)
from nystrom_numerics.attention.operators import AttentionOperator, blocks
from nystrom_numerics.attention.rounding import row_norms
from nystrom_numerics.attention.row_errors import KnowsItsErrors
from nystrom_numerics.attention.widths import Asked
from nystrom_numerics.backend import Array, compute_dtype, require_finite, status_tells, to_numpy
from nystrom_numerics.errors import NonFiniteError, RangeError, ShapeError

__all__ = ["certify_draws", "certify_operator"]

HEAVY, WORTH_HINTS = 8, 32
"""Columns asked of the first rows, and the rows below which hints would cost more than they bring."""

ABOUT = 128
"""Queries that stand together where an operator knows nothing of its errors, as in a block of causal attention."""


@status_tells
def certify_operator(
    operator: AttentionOperator,
    v: Array,
    /,
    *,
    rows: int | None = None,
    within: float | None = None,
    most: int | None = None,
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
        estimator with the hints: 2m less a few.  With ``within`` those of the first look.
    within, most, failure, rng
        As in :func:`certify_rows`, whose errors and statements these are too.

    Returns
    -------
    AttentionCertificate
        With what :func:`certify_rows` says of its intervals.

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

    For any other: the exact rows, and as many of the operator, whose entries are counted once, not again where rows
    are read.  Of a causal operator exact rows are causal.  ``certain`` and ``guaranteed`` have an upper end where rows
    are ``stochastic``, for two such rows are within √2 of each other, where the operator has ``row_errors()``, as those
    of tangents and of near fields do, and where all rows are exact.  What ``row_errors`` predicts aims the sample;
    where there is none, how far a query is from the mean of its block of 128, for which what the block shares was made.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import attention
    >>> q, k, v = np.random.default_rng(0).standard_normal((3, 300, 4))
    >>> made, exact = attention.nystrom_operator(q, k, 8), attention.exact_operator(q, k)
    >>> truth = np.linalg.norm(made.rows(range(300)) - exact.rows(range(300)))
    >>> found = attention.certify_operator(made, v)
    >>> bool(found.matrix.lower.value <= truth <= found.matrix.upper.value), found.exact_entries < 300 * 100
    (True, True)
    """
    judge, asked = _judge_of(operator, v, Asked(rows, within, most, failure))
    return judge.certificate(asked, rng)


@status_tells
def certify_draws(
    operator: AttentionOperator,
    v: Array,
    seeds: Sequence[int],
    /,
    *,
    rows: int | None = None,
    within: float | None = None,
    most: int | None = None,
    failure: float = 0.01,
) -> tuple[AttentionCertificate, ...]:
    r"""The certificates of one head by many draws, to see how often they hold: rows are computed once, and all of them.

    Parameters
    ----------
    operator, v, rows, within, most, failure
        As in :func:`certify_operator`.
    seeds : sequence of int
        One a certificate.

    Returns
    -------
    tuple of AttentionCertificate
        Each, but for rounding, what :func:`certify_operator` gives with ``rng=seed``, the entries that it counts too.

    Raises
    ------
    DTypeError, DeviceError, KindError, NamespaceError, NonFiniteError, RangeError, ShapeError
        As :func:`certify_operator`; and where ``seeds`` is no sequence of numbers from 0 on.

    Notes
    -----
    Cost: n_q n_k kernel entries once, which is what a single certificate avoids, and a draw of each seed among numbers
    that are there.  Memory O(n_q n_k) for the paper's estimator, O(n) and 256 rows for others.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import attention
    >>> q, k, v = np.random.default_rng(0).standard_normal((3, 300, 8))
    >>> operator = attention.tangent_operator(q, k)
    >>> found = attention.certify_draws(operator, v, range(20), within=0.2)
    >>> truth = attention.certify_operator(operator, v, rows=300).matrix.estimate.value
    >>> bool(np.mean([c.matrix.lower.value <= truth <= c.matrix.upper.value for c in found]) > 0.9)
    True
    """
    for seed in require_instance("seeds", seeds, Sequence, "a sequence of seeds"):
        require_count("seeds", seed, 0)
    judge, asked = _judge_of(operator, v, Asked(rows, within, most, failure))
    judge = judge.after_all_rows()
    return tuple(judge.certificate(asked, seed) for seed in seeds)


def _judge_of(operator: AttentionOperator, v: Array, asked: Asked) -> tuple[Judge, Asked]:
    """What certificates of an operator are made from, and how many rows by default."""
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
        return _of_factors(xp, operator, v, asked)
    return _of_rows(xp, operator, v, asked)


def _real_tokens(xp: Any, operator: AttentionOperator) -> tuple[Array, Array]:
    """Queries and keys that are real, checked."""
    q, k = take_real(xp, operator.q, operator.query_mask), take_real(xp, operator.k, operator.key_mask)
    if 0 in (q.shape[0], k.shape[0]):
        needs = "one of each at least"
        raise RangeError("operator", f"of {q.shape[0]} real queries and {k.shape[0]} real keys", needs)
    for x in (q, k):
        require_finite(xp, operator=x)
    return q, k


def _checked(name: str, count: int, real: int, queries: int) -> int:
    return min(require_count(name, count, min(8, real), queries, of="the number of queries"), real)


def _of_rows(xp: Any, operator: AttentionOperator, v: Array, asked: Asked) -> tuple[Judge, Asked]:
    """By its rows, and what it says of their errors."""
    q, k = _real_tokens(xp, operator)
    n_q, n_k = q.shape[0], k.shape[0]
    queries = operator.q.shape[0]
    if asked.rows is None:
        rows = max(8, int(operator.entries / ((n_k + 1) / 2 if operator.causal else n_k)))
    else:
        rows = _checked("rows", asked.rows, n_q, queries)
    lengths: np.ndarray[Any, Any] | None = None
    largest: np.ndarray[Any, Any] | None = None
    spread: np.ndarray[Any, Any] | None = None
    hints: Hints | None = None
    if operator.stochastic:  # in length no more than in sum, which is one but for rounding
        rounding = operator.k.shape[0] * float(xp.finfo(compute_dtype(xp, operator.q.dtype)).eps)
        lengths = np.full(queries, (1 + rounding) ** 2)
        largest = np.full(queries, np.sqrt(2) * (1 + rounding))
        spread = np.full(queries, _spread(xp, take_real(xp, v, operator.key_mask)) * (1 + rounding))
    told = operator.row_errors() if isinstance(operator, KnowsItsErrors) else None
    if told is not None:
        cap, hints = told.largest, Hints.of(told)
        largest = cap if largest is None else np.minimum(largest, cap)
        spread = None if spread is None else spread * np.minimum(told.variation, 1.0)
    else:
        apart = _apart(xp, operator, q)
        hints = Hints(lambda columns: (apart,), suspicion=apart)

    def finite_rows(indices: Array) -> Array:
        made = operator.rows(indices)
        if not bool(xp.all(xp.isfinite(made))):
            raise NonFiniteError("operator", "not finite in its rows", "smaller queries and keys")
        return made

    judge = Judge.of(
        operator.q,
        operator.k,
        v,
        finite_rows,
        lengths=lengths,
        largest=largest,
        spread=spread,
        hints=hints,
        key_mask=operator.key_mask,
        query_mask=operator.query_mask,
        causal=operator.causal,
        scale=operator.scale,
        entries=lambda: operator.entries,
    )
    return judge, replace(asked, rows=min(rows, n_q))


def _apart(xp: Any, operator: AttentionOperator, real: Array) -> np.ndarray[Any, Any]:
    """Squared distances of real queries from the mean of those about them (n_q,), 0 for others.

    What is made for many queries together fits those least.
    """
    wide = xp.astype(real, xp.float64)
    parts = (wide[part, :] for part in blocks(wide.shape[0], ABOUT))
    apart = [to_numpy(xp.sum((x - xp.mean(x, axis=0)[None, :]) ** 2, axis=1)) for x in parts]
    found = np.zeros(operator.q.shape[0])
    found[slice(None) if operator.query_mask is None else to_numpy(operator.query_mask)] = np.concatenate(
        apart
    )
    return found


def _spread(xp: Any, v: Array) -> float:
    """How far from each other two means of values may be that weights of sum one at most give: zero is one of them."""
    v = xp.astype(v, xp.float64)
    centre = xp.mean(v, axis=0)[None, :]
    return 2 * float(max(row_norms(xp, v - centre).max(), row_norms(xp, centre)[0])) * (1 + 1e-12)


def _of_factors(xp: Any, operator: NystromOperator, v: Array, asked: Asked) -> tuple[Judge, Asked]:
    """By its factors: rows in float64, their lengths, their rounding, and hints of where they err."""
    if operator.core.ndim != 2:
        raise ShapeError("operator", f"of cores {tuple(operator.core.shape)}", "one head, (m_q, m_k)")
    if operator.bias is not None:
        raise ShapeError("operator", "masked additively", "no mask but of keys and queries")
    _real_tokens(xp, operator)
    queries = operator.q.shape[0]
    v, operator = take_real(xp, v, operator.key_mask), without_padding(xp, operator)
    n_q, n_k = operator.q.shape[0], operator.k.shape[0]
    rows, most = (
        None if count is None else _checked(name, count, n_q, queries)
        for name, count in (("rows", asked.rows), ("most", asked.most))
    )
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
    judge = Judge.of(
        operator.q,
        operator.k,
        v,
        made,
        lengths=lengths,
        rounding=rounding,
        hints=hints,
        scale=operator.scale,
        entries=lambda: made.entries,
    )
    return judge, replace(asked, rows=rows, most=most)
