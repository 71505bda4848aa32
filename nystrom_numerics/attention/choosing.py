r"""The least budget of an estimator that meets a tolerance, head by head."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np

from nystrom_numerics.arguments import require_count, require_instance, require_number, require_probability
from nystrom_numerics.attention.arguments import check_arguments
from nystrom_numerics.attention.estimators import ESTIMATORS, Estimator
from nystrom_numerics.attention.exact import exact_operator
from nystrom_numerics.attention.hints import Hints
from nystrom_numerics.attention.operator_rows import take_real
from nystrom_numerics.attention.operators import AttentionOperator
from nystrom_numerics.attention.output_certificate import OutputCertificate, certify_output
from nystrom_numerics.attention.padding import put_back
from nystrom_numerics.attention.row_errors import KnowsItsErrors
from nystrom_numerics.backend import Array, device_of, generator
from nystrom_numerics.brief import brief
from nystrom_numerics.errors import RangeError

__all__ = ["Choices", "approximate", "choose"]

BUDGETS = (16, 32, 64, 128, 256)
DEARER = 7.0
"""How much longer an entry of tangents takes than one of exact attention by a fused kernel, on a CPU."""


@dataclass(frozen=True)
class Choices:
    r"""What was chosen for each head of a batch (...).

    Attributes
    ----------
    estimator : str
        Its name in ``ESTIMATORS``.
    m : array (...) of int
        The budget; 0 for exact attention.
    estimate, upper : array (...)
        Of :math:`\|\hat SV - SV\|_F/\|SV\|_F`, and the upper end of its interval; 0 for exact attention.
    entries : array (...) of int
        Kernel entries of what was chosen.
    spent : array (...) of int
        Kernel entries of what was tried, exact rows included.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import attention
    >>> q, k, v = np.random.default_rng(0).standard_normal((3, 300, 4))
    >>> chosen = attention.choose(q, k, v, error=0.3)
    >>> chosen.estimator, chosen.m.shape, bool(chosen.estimate <= 0.3)
    ('tangent', (), True)
    """

    estimator: str
    m: np.ndarray[Any, Any]
    estimate: np.ndarray[Any, Any]
    upper: np.ndarray[Any, Any]
    entries: np.ndarray[Any, Any]
    spent: np.ndarray[Any, Any]

    __repr__ = brief


def choose(
    q: Array,
    k: Array,
    v: Array,
    /,
    *,
    error: float = 0.05,
    estimator: str = "tangent",
    budgets: Sequence[int] = BUDGETS,
    dearer: float = DEARER,
    rows: int | None = None,
    key_mask: Array | None = None,
    query_mask: Array | None = None,
    scale: float | None = None,
    failure: float = 0.05,
    rng: np.random.Generator | int = 0,
) -> Choices:
    r"""For each head the least budget whose certified error meets a tolerance, or exact attention.

    Parameters
    ----------
    q : array (..., n_q, d)
    k : array (..., n_k, d)
    v : array (..., n_k, d_v)
    error : float
        Most of :math:`\|\hat SV - SV\|_F/\|SV\|_F`, more than 0.
    estimator : str
        A name of ``ESTIMATORS``.
    budgets : sequence of int
        Numbers m of landmarks, or what costs as much, in ascending order.
    dearer : float
        A budget is tried where its kernel entries, times this, are fewer than those of exact attention: by default
        what they cost on a CPU.  1 counts entries.
    rows : int, optional
        Exact rows of each certificate: see :func:`certify_output`.
    key_mask, query_mask : array of bool, broadcastable to (..., n_k) and (..., n_q), optional
        A causal estimator takes ``key_mask`` alone, which is that of its queries too, or the same twice.
    scale : float, optional
    failure : float
        Of the upper ends of a head, all budgets together.
    rng : numpy.random.Generator or int
        With one seed each head is served as it is by itself; of a generator one seed is drawn.

    Returns
    -------
    Choices

    Raises
    ------
    DTypeError, DeviceError, KindError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Heads are served one after the other.  The budgets are tried from the least on, each certified by its output with
    those at twice and four times as much beside it, see :func:`certify_output`.  Where the upper end of that interval
    is within the tolerance and the operator has ``row_errors()``, as those of tangents have, another sample is drawn,
    aimed by these too, and has the last word: the first may have missed the few rows that err, and where it is too
    wide by chance that costs a budget, not the promise.  With b budgets each interval has the failure 2/b of the one
    asked for, half of it above, so that all upper ends together keep it (a union bound), whichever is chosen.

    The interval is asymptotic: the claim ``chosen_budgets`` of the experiments counts on how many trained heads the
    true error is within it, and how much longer than exact attention it takes to choose.

    Cost, of a head: the estimator at each budget tried and at the next two, rows · n_k entries for each tried, and
    ``row_errors()`` and rows · n_k entries more where the first interval passes.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import attention
    >>> walk = np.random.default_rng(0).standard_normal((2, 400, 8)).cumsum(axis=1) / 4
    >>> attention.choose(walk, walk, walk, error=0.1, dearer=1).m
    array([16, 16])
    """
    heads = _heads(
        q, k, v, error, estimator, budgets, dearer, rows, key_mask, query_mask, scale, failure, rng
    )
    return _gathered(estimator, heads.batch, [head.chosen()[1] for head in heads.each])


def approximate(
    q: Array,
    k: Array,
    v: Array,
    /,
    *,
    error: float = 0.05,
    estimator: str = "tangent",
    budgets: Sequence[int] = BUDGETS,
    dearer: float = DEARER,
    rows: int | None = None,
    key_mask: Array | None = None,
    query_mask: Array | None = None,
    scale: float | None = None,
    failure: float = 0.05,
    rng: np.random.Generator | int = 0,
) -> tuple[Array, Choices]:
    """Attention (..., n_q, d_v) within a tolerance, and what was chosen for each head: see :func:`choose`.

    Zeros for masked queries.

    Parameters
    ----------
    q, k, v, error, estimator, budgets, dearer, rows, key_mask, query_mask, scale, failure, rng
        As in :func:`choose`.

    Returns
    -------
    out : array (..., n_q, d_v)
        Zeros for masked queries; exact for heads without an estimator within the tolerance.
    chosen : Choices

    Raises
    ------
    DTypeError, DeviceError, KindError, NamespaceError, NonFiniteError, RangeError, ShapeError
        As :func:`choose`.

    Notes
    -----
    Cost: that of :func:`choose`, and one call of what was chosen.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import attention
    >>> q, k, v = np.random.default_rng(0).standard_normal((3, 300, 8))
    >>> out, chosen = attention.approximate(q, k, v, error=0.05)
    >>> int(chosen.m), bool(np.allclose(out, attention.exact(q, k, v)))
    (0, True)
    """
    heads = _heads(
        q, k, v, error, estimator, budgets, dearer, rows, key_mask, query_mask, scale, failure, rng
    )
    outputs, found = [], []
    for head in heads.each:
        out, choice = head.chosen()
        outputs.append(head.in_place(head.exact() if out is None else out))
        found.append(choice)
    out = heads.xp.reshape(heads.xp.stack(outputs), (*heads.batch, *outputs[0].shape))
    return out, _gathered(estimator, heads.batch, found)


@dataclass(frozen=True)
class _Heads:
    """The heads of a batch, one after the other."""

    xp: Any
    batch: tuple[int, ...]
    each: Iterator[_Head]


def _heads(
    q: Array,
    k: Array,
    v: Array,
    error: float,
    estimator: str,
    budgets: Sequence[int],
    dearer: float,
    rows: int | None,
    key_mask: Array | None,
    query_mask: Array | None,
    scale: float | None,
    failure: float,
    rng: np.random.Generator | int,
) -> _Heads:
    """Checked, and each with its real tokens."""
    error = require_number("error", error, lambda x: 0 < x < inf, "a finite number above 0")
    dearer = require_number("dearer", dearer, lambda x: 0 < x < inf, "a finite number above 0")
    require_probability("failure", failure)
    require_instance("estimator", estimator, str, "a name")
    if estimator not in ESTIMATORS:
        raise RangeError("estimator", f"{estimator!r}", f"one of {', '.join(ESTIMATORS)}")
    one = ESTIMATORS[estimator]
    require_instance("budgets", budgets, Sequence, "a sequence of integers")
    sizes = [require_count("budgets", m, one.least) for m in budgets]
    if not sizes or sizes != sorted(set(sizes)):
        raise RangeError("budgets", f"{budgets}", "different integers, at least one, in ascending order")
    source, seed = generator(rng)
    seed = int(source.integers(2**63)) if seed is None else seed
    a = check_arguments(q, k, v, scale=scale, key_mask=key_mask, query_mask=query_mask, oneself=one.causal)
    if rows is not None:
        rows = require_count("rows", rows, min(8, q.shape[-2]), q.shape[-2], of="the number of queries")
    xp = a.xp
    batch = np.broadcast_shapes(*(tuple(x.shape[:-2]) for x in (q, k, v)))
    q, k, v = (xp.broadcast_to(x, (*batch, *x.shape[-2:])) for x in (q, k, v))
    if 0 in batch:
        raise RangeError("q", f"with k and v of a batch of shape {batch}", "a head")
    masks = [
        None if mask is None else xp.broadcast_to(mask, (*batch, mask.shape[-1]))
        for mask in (a.query_mask, a.key_mask)
    ]
    if one.causal:
        masks = [_of_tokens(xp, *masks)] * 2

    def one_by_one() -> Iterator[_Head]:
        for place in np.ndindex(*batch):
            of_q, of_k = (None if mask is None else mask[(*place, ...)] for mask in masks)
            some, keys, values = (
                take_real(xp, x[(*place, ...)], mask) for x, mask in ((q, of_q), (k, of_k), (v, of_k))
            )
            yield _Head(
                xp,
                one,
                sizes,
                some,
                keys,
                values,
                of_q,
                a.scale,
                error,
                dearer,
                rows,
                min(2 * failure / len(sizes), failure),
                np.random.default_rng(seed),
            )

    return _Heads(xp, batch, one_by_one())


def _gathered(estimator: str, batch: tuple[int, ...], found: list[_Choice]) -> Choices:
    columns = (np.reshape([getattr(x, name) for x in found], batch) for name in _Choice.__dataclass_fields__)
    return Choices(estimator, *columns)


def _of_tokens(xp: Any, queries: Array | None, keys: Array | None) -> Array | None:
    """The one mask of tokens that attend to themselves."""
    if queries is not None and (keys is None or bool(xp.any(queries != keys))):
        raise RangeError("query_mask", "not that of the keys", "`key_mask` alone, or the same twice: causal")
    return keys


@dataclass(frozen=True)
class _Choice:
    m: int
    estimate: float
    upper: float
    entries: int
    spent: int


@dataclass(frozen=True)
class _Head:
    """Real tokens of one head, and what is asked of it."""

    xp: Any
    estimator: Estimator
    budgets: list[int]
    q: Array
    k: Array
    v: Array
    mask: Array | None
    scale: float
    error: float
    dearer: float
    rows: int | None
    failure: float
    source: np.random.Generator

    def chosen(self) -> tuple[Array | None, _Choice]:
        """The output of the first budget within the tolerance; ``None`` for exact attention."""
        n_q, n_k = self.q.shape[0], self.k.shape[0]
        whole = n_q * (n_q + 1) // 2 if self.estimator.causal else n_q * n_k
        budgets = [m for m in self.budgets if m < min(n_q, n_k)]
        made: dict[int, _Made] = {}
        spent = 0
        for i, m in enumerate(budgets):
            one = self._made(made, m)
            if one.operator.entries * self.dearer >= whole:
                break
            told, looked = self._certified(
                one, [self._made(made, more).out for more in budgets[i + 1 : i + 3]]
            )
            spent += looked
            value, upper = told.relative.estimate, told.relative.upper.value
            if upper is not None and upper <= self.error:
                estimate = 0.0 if value is None else value.value  # none where both outputs are zero
                choice = _Choice(m, estimate, upper, one.operator.entries, spent + _total(made))
                return one.out, choice
        return None, _Choice(0, 0.0, 0.0, whole, spent + _total(made))

    def exact(self) -> Array:
        """Exact attention; zeros where there is no key."""
        if self.q.shape[0] == 0 or self.k.shape[0] == 0:
            return self._zeros(self.q.shape[0])
        return exact_operator(self.q, self.k, scale=self.scale, causal=self.estimator.causal).apply(self.v)

    def in_place(self, out: Array) -> Array:
        """Outputs of real queries where they stood, zeros elsewhere."""
        if self.mask is None:
            return out
        return put_back(self.xp, out, self.mask) if out.shape[0] else self._zeros(self.mask.shape[0])

    def _zeros(self, rows: int) -> Array:
        return self.xp.zeros((rows, self.v.shape[1]), dtype=self.v.dtype, device=device_of(self.v))

    def _made(self, made: dict[int, _Made], m: int) -> _Made:
        if m not in made:
            operator = self.estimator.make(self.q, self.k, m, scale=self.scale)
            made[m] = _Made(operator, operator.apply(self.v))
        return made[m]

    def _certified(self, one: _Made, beside: list[Array]) -> tuple[OutputCertificate, int]:
        """By a sample, and one aimed by what the operator knows where that is within; exact entries of both."""
        told = self._sampled(one.out, beside, None)
        upper = told.relative.upper
        if upper.value is None or upper.value > self.error or upper.probability == 1:
            return told, told.exact_entries
        knows = one.operator.row_errors() if isinstance(one.operator, KnowsItsErrors) else None
        if knows is None:
            return told, told.exact_entries
        again = self._sampled(one.out, beside, Hints.of(knows))
        return again, told.exact_entries + again.exact_entries

    def _sampled(self, out: Array, beside: list[Array], hints: Hints | None) -> OutputCertificate:
        rows = None if self.rows is None else min(self.rows, self.q.shape[0])
        return certify_output(
            self.q,
            self.k,
            self.v,
            out,
            rows=rows,
            causal=self.estimator.causal,
            scale=self.scale,
            beside=beside,
            hints=hints,
            failure=self.failure,
            rng=self.source,
        )


@dataclass(frozen=True)
class _Made:
    """An operator, and its output."""

    operator: AttentionOperator
    out: Array


def _total(made: dict[int, _Made]) -> int:
    return sum(one.operator.entries for one in made.values())
