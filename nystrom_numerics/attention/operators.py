r"""One protocol for every approximate attention: the matrix :math:`\hat S`, read by rows and columns, never formed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from nystrom_numerics.arguments import require_indices
from nystrom_numerics.attention.arguments import group_heads, tokens_of, ungroup
from nystrom_numerics.attention.padding import hide
from nystrom_numerics.backend import (
    Array,
    broadcast_shapes,
    compute_dtype,
    default_block,
    device_of,
    floating,
    from_numpy,
    require_matrix,
    to_numpy,
)
from nystrom_numerics.brief import brief
from nystrom_numerics.errors import ShapeError
from nystrom_numerics.kernels import Index
from nystrom_numerics.linalg import transpose

__all__ = ["SEEN", "AttentionOperator", "FunctionOperator", "OperatorBase", "TransposedOperator", "blocks"]

SEEN = 256
"""Rows or columns that are read at a time where all are passed over."""


@runtime_checkable
class AttentionOperator(Protocol):
    r"""What an estimator makes of queries and keys: Ŝ (..., n_q, n_k), linear in the values, never formed.

    Rows of masked queries and columns of masked keys are zero where they are read; what ``apply`` gives to masked
    queries is the estimator's own affair.  With ``grouped`` heads ``q`` and ``k`` have two axes of heads: groups, and
    their members; what is read has one.

    Made by :func:`exact_operator`, :func:`nystrom_operator`, :func:`tangent_operator`, :func:`normalised_operator`,
    :func:`near_field_operator` and :func:`causal_operator`; an object of any class that has all of this is one too.

    Attributes
    ----------
    q, k : array (..., n_q, d), (..., n_k, d)
        Zero where they are masked.
    key_mask, query_mask : array (..., n_k), (..., n_q) of bool, or None
        True for real tokens.
    scale : float
        With it they give the S that Ŝ stands for.
    grouped, causal, stochastic : bool
    shape : tuple of int
    entries : int
        Kernel entries that the estimator evaluates for one head.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import attention
    >>> q, k, v = np.random.default_rng(0).standard_normal((3, 40, 4))
    >>> for make in (attention.exact_operator, lambda q, k: attention.nystrom_operator(q, k, 8)):
    ...     made = make(q, k)
    ...     print(isinstance(made, attention.AttentionOperator), made.shape, made.entries)
    ...     assert np.allclose(made.rows([3, 7]) @ v, made.apply(v)[[3, 7]])
    True (40, 40) 1600
    True (40, 40) 704
    """

    @property
    @abstractmethod
    def q(self) -> Array: ...

    @property
    @abstractmethod
    def k(self) -> Array: ...

    @property
    @abstractmethod
    def key_mask(self) -> Array | None: ...

    @property
    @abstractmethod
    def query_mask(self) -> Array | None: ...

    @property
    @abstractmethod
    def scale(self) -> float: ...

    @property
    @abstractmethod
    def grouped(self) -> bool: ...

    @property
    @abstractmethod
    def causal(self) -> bool:
        """Whether the S that Ŝ stands for is causal: query i meets keys up to i, of as many keys as queries."""

    @property
    @abstractmethod
    def stochastic(self) -> bool:
        """Whether rows of Ŝ are, but for rounding, non-negative and of sum one at most, whatever the tokens."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """(..., n_q, n_k), the shape of Ŝ."""

    @property
    @abstractmethod
    def entries(self) -> int:
        """Kernel entries that the estimator evaluates for one head; where heads differ in length, the most."""

    @abstractmethod
    def apply(self, v: Array, /) -> Array:
        """The product ŜV.

        Parameters
        ----------
        v : array (..., n_k, d_v)

        Returns
        -------
        array (..., n_q, d_v)
            In the dtype of ``v``.

        Raises
        ------
        DTypeError, DeviceError, NamespaceError, ShapeError
            Naming the argument.
        """

    @abstractmethod
    def rows(self, indices: Index, /) -> Array:
        """Rows of Ŝ.

        Parameters
        ----------
        indices : sequence or 1-D array of int

        Returns
        -------
        array (..., r, n_k)
            In the dtype to compute in.

        Raises
        ------
        DTypeError, RangeError, ShapeError
            Naming the argument.
        """

    @abstractmethod
    def columns(self, indices: Index, /) -> Array:
        """Columns of Ŝ.

        Parameters
        ----------
        indices : sequence or 1-D array of int

        Returns
        -------
        array (..., n_q, c)
            In the dtype to compute in.

        Raises
        ------
        DTypeError, RangeError, ShapeError
            Naming the argument.
        """

    @abstractmethod
    def diagonal(self) -> Array:
        """Entries of Ŝ, those of each query and the key of its number.

        Returns
        -------
        array (..., min(n_q, n_k))
        """

    @property
    @abstractmethod
    def T(self) -> TransposedOperator:
        r""":math:`\hat S^T` (..., n_k, n_q), with rows zero for masked keys and columns for masked queries."""


@runtime_checkable
class TransposedOperator(Protocol):
    r""":math:`\hat S^T` of an :class:`AttentionOperator`, never formed: linear in what queries hold.

    Attributes
    ----------
    shape : tuple of int
        (..., n_k, n_q).
    T : AttentionOperator
        Ŝ itself.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import attention
    >>> q, k, u = np.random.default_rng(0).standard_normal((3, 40, 4))
    >>> made = attention.nystrom_operator(q, k, 8)
    >>> bool(np.allclose(made.T.apply(u), made.rows(range(40)).T @ u))
    True
    """

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """(..., n_k, n_q), the shape of Ŝᵀ."""

    @abstractmethod
    def apply(self, u: Array, /) -> Array:
        """The product ŜᵀU; what masked queries hold has no part in it.

        Parameters
        ----------
        u : array (..., n_q, w)

        Returns
        -------
        array (..., n_k, w)
            In the dtype of ``u``.

        Raises
        ------
        DTypeError, DeviceError, NamespaceError, ShapeError
            Naming the argument.
        """

    @abstractmethod
    def rows(self, indices: Index, /) -> Array:
        """Rows of Ŝᵀ: columns of Ŝ.

        Parameters
        ----------
        indices : sequence or 1-D array of int

        Returns
        -------
        array (..., r, n_q)
        """

    @abstractmethod
    def columns(self, indices: Index, /) -> Array:
        """Columns of Ŝᵀ: rows of Ŝ.

        Parameters
        ----------
        indices : sequence or 1-D array of int

        Returns
        -------
        array (..., n_k, c)
        """

    @abstractmethod
    def diagonal(self) -> Array:
        """That of Ŝ."""

    @property
    @abstractmethod
    def T(self) -> AttentionOperator:
        """Ŝ."""


class OperatorBase(ABC):
    """What operators share: the check of values and of indices, and columns and diagonal by what the others give."""

    q: Array
    k: Array
    key_mask: Array | None
    query_mask: Array | None
    scale: float
    grouped: bool
    causal: bool = False
    stochastic: bool = False

    __repr__ = brief

    @abstractmethod
    def apply(self, v: Array, /) -> Array:
        r""":math:`\hat S V`, which each operator has of its own."""

    @property
    def T(self) -> TransposedOperator:
        r""":math:`\hat S^T`; ``T.apply`` says what it costs."""
        return _Transposed(self)

    @property
    def shape(self) -> tuple[int, ...]:
        """(..., n_q, n_k), the shape of Ŝ."""
        batch = np.broadcast_shapes(tuple(self.q.shape[:-2]), tuple(self.k.shape[:-2]))
        if self.grouped:
            batch = (*batch[:-2], batch[-2] * batch[-1])
        return (*batch, self.q.shape[-2], self.k.shape[-2])

    def rows(self, indices: Index, /) -> Array:
        """Rows of Ŝ (..., r, n_k) by number, in the dtype to compute in; those of masked queries are zero.

        Parameters
        ----------
        indices : sequence or 1-D array of int

        Returns
        -------
        array (..., r, n_k)
            In the dtype to compute in.

        Raises
        ------
        DTypeError, DeviceError, KindError, NamespaceError, RangeError, ShapeError
            ``indices`` are no integers of one axis in [0, n_q), in a sequence or an array, one at least.
        """
        at = self._at(indices, self.q)
        return self._ungrouped(self._masked(self._rows(at), at))

    def columns(self, indices: Index, /) -> Array:
        """Columns of Ŝ (..., n_q, c) by number, in the dtype to compute in: Ŝ applied to unit vectors.

        Parameters
        ----------
        indices : sequence or 1-D array of int

        Returns
        -------
        array (..., n_q, c)
            In the dtype to compute in.

        Raises
        ------
        DTypeError, DeviceError, KindError, NamespaceError, RangeError, ShapeError
            ``indices`` are no integers of one axis in [0, n_k), in a sequence or an array, one at least.
        """
        xp, at = tokens_of(q=self.q), self._at(indices, self.k)
        token = xp.arange(self.k.shape[-2], dtype=xp.int64, device=device_of(at))[:, None]
        found = self._of_units(xp.astype(token == at, compute_dtype(xp, self.q.dtype)))
        if not self.grouped:
            return self._masked(found, None)
        return ungroup(self._masked(self._grouped("v", found), None))

    def diagonal(self) -> Array:
        """Entries (..., min(n_q, n_k)) of Ŝ, those of each query and the key of its number; see ``rows``.

        Cost: that of all rows, 256 of which are held at a time.
        """
        xp, parts, most = tokens_of(q=self.q), [], min(self.q.shape[-2], self.k.shape[-2])
        for part in blocks(most, SEEN):
            found = self.rows(range(part.start, part.stop))[..., part]
            parts.append(xp.linalg.diagonal(found))
        return xp.concat(parts, axis=-1)

    def _lengths(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """How many real queries and keys items have, on the host: what padding there is takes no kernel entries."""
        xp = tokens_of(q=self.q)
        of_q, of_k = (
            np.asarray(x.shape[-2]) if mask is None else to_numpy(xp.count_nonzero(mask, axis=-1))
            for x, mask in ((self.q, self.query_mask), (self.k, self.key_mask))
        )
        return of_q, of_k

    def _of_units(self, units: Array) -> Array:
        return self.apply(units)

    def _give_back(self, xp: Any, u: Array) -> Array:
        """ŜᵀU for u (..., n_q, w), zero where queries are masked, of grouped heads with both axes.

        By rows, 256 of which are held at a time: the cost of all of them, and n_q n_k w multiplications.
        """
        total = None
        for part in blocks(self.q.shape[-2], SEEN):
            at = xp.arange(part.start, part.stop, dtype=xp.int64, device=device_of(u))
            some = transpose(self._masked(self._rows(at), at)) @ u[..., part, :]
            total = some if total is None else total + some
        return total

    @abstractmethod
    def _rows(self, at: Array) -> Array:
        """Rows (..., r, n_k) by number, of grouped heads with both axes; what masked queries have does not matter."""

    def _grouped(self, name: str, x: Array) -> Array:
        """With both axes of heads, where they are grouped."""
        if not self.grouped:
            return x
        return group_heads(name, x, self.q.shape[-4] * self.q.shape[-3], self.k.shape[-4], 2)

    def _values(self, v: Array) -> tuple[Any, Array]:
        """The namespace, and checked values (..., n_k, d_v), zero where keys are masked, grouped as heads are.

        Raises
        ------
        DTypeError, DeviceError, NamespaceError, ShapeError
        """
        return self._held("v", v, self.k.shape[-2], self.key_mask)

    def _held(self, name: str, x: Array, n: int, mask: Array | None) -> tuple[Any, Array]:
        """The namespace, and what n tokens hold (..., n, w), checked, zero where they are masked, grouped as heads."""
        xp = tokens_of(**{"q": self.q, name: x})
        floating(xp, **{name: x})
        require_matrix(name, x)
        if x.shape[-2] != n:
            raise ShapeError(name, f"of shape {tuple(x.shape)}", f"shape (..., {n}, w)")
        x = self._grouped(name, x)
        batch = broadcast_shapes(q=tuple(self.q.shape[:-2]), k=tuple(self.k.shape[:-2]))
        broadcast_shapes(**{"operator": batch, name: tuple(x.shape[:-2])})
        return xp, hide(xp, x, mask)

    def _at(self, indices: Index, tokens: Array) -> Array:
        """Checked numbers of tokens (..., n, d), int64, where the tokens are."""
        xp = tokens_of(q=tokens)
        if not isinstance(indices, (np.ndarray, list, tuple, range)):
            tokens_of(q=tokens, indices=indices)
            indices = to_numpy(indices)
        found = require_indices("indices", indices, tokens.shape[-2])
        if not found.size:
            raise ShapeError("indices", "empty", "an index at least")
        return from_numpy(xp, found, tokens)

    def _masked(self, rows: Array, at: Array | None) -> Array:
        """Rows (..., n_q or r, w), zero for masked queries; ``at`` are their numbers, None for all."""
        xp = tokens_of(q=self.q)
        mask = self.query_mask
        if mask is not None and at is not None:
            mask = xp.take(mask, at, axis=-1)
        return hide(xp, rows, mask)

    def _ungrouped(self, rows: Array) -> Array:
        return ungroup(rows) if self.grouped else rows


@dataclass(frozen=True)
class _Transposed:
    """As :class:`TransposedOperator` says, by what an operator has of its own."""

    T: Any

    __repr__ = brief

    @property
    def shape(self) -> tuple[int, ...]:
        """(..., n_k, n_q), the shape of Ŝᵀ."""
        *batch, n_q, n_k = self.T.shape
        return (*batch, n_k, n_q)

    def apply(self, u: Array, /) -> Array:
        r""":math:`\hat S^T U` (..., n_k, w) for u (..., n_q, w), in its dtype, without n × n entries.

        Cost: of Nyström and row-normalised attention the kernel entries of ``apply``, of tangents those of what blocks
        face, of a near field those of queries with their neighbours and landmarks, of exact attention n_q n_k; of what
        is known as a function alone a call for every 256 keys.  Memory: B (m, n_k) where there are landmarks; 256 rows
        of exact attention.

        Raises
        ------
        DTypeError, DeviceError, NamespaceError, ShapeError
            ``u`` is no floating array of as many tokens as the queries, or its leading axes do not broadcast.
        """
        made = self.T
        xp, held = made._held("u", u, made.q.shape[-2], made.query_mask)
        out = made._give_back(xp, xp.astype(held, compute_dtype(xp, made.q.dtype), copy=False))
        return made._ungrouped(xp.astype(hide(xp, out, made.key_mask), u.dtype, copy=False))

    def rows(self, indices: Index, /) -> Array:
        """Rows of Ŝᵀ (..., r, n_q): the operator's ``columns``, whose cost and errors these are."""
        return transpose(self.T.columns(indices))

    def columns(self, indices: Index, /) -> Array:
        """Columns of Ŝᵀ (..., n_k, c): the operator's ``rows``, whose cost and errors these are."""
        return transpose(self.T.rows(indices))

    def diagonal(self) -> Array:
        """That of Ŝ."""
        return self.T.diagonal()


@dataclass(frozen=True)
class FunctionOperator(OperatorBase):
    """An estimator that is known by what it makes of values, ``attend(v)``; its rows cost as much as all columns.

    ``attend`` takes values as the estimator itself does, grouped heads in one axis.  Of a causal one only the columns
    up to the last row that is asked for are looked at, all others being zero.
    """

    q: Array
    k: Array
    key_mask: Array | None
    query_mask: Array | None
    scale: float
    grouped: bool
    entries: int
    attend: Callable[[Array], Array]
    causal: bool = False
    stochastic: bool = False

    __repr__ = brief

    def apply(self, v: Array, /) -> Array:
        r""":math:`\hat S V` for v (..., n_k, d_v), in the dtype of ``v``; errors are those of the estimator."""
        self._values(v)
        return self.attend(v)

    def _of_units(self, units: Array) -> Array:
        """In the dtype of queries, the one that the estimator takes."""
        xp = tokens_of(q=self.q)
        found = self.attend(xp.astype(units, self.q.dtype, copy=False))
        return xp.astype(found, units.dtype, copy=False)

    def _rows(self, at: Array) -> Array:
        """By columns: those of all keys that any of the rows may see, some at a time."""
        xp, n_k = tokens_of(q=self.q), self.k.shape[-2]
        seen = int(xp.max(at)) + 1 if self.causal else n_k
        parts = [
            xp.take(self.columns(range(part.start, part.stop)), at, axis=-2) for part in blocks(seen, SEEN)
        ]
        if seen < n_k:
            parts.append(
                xp.zeros((*parts[0].shape[:-1], n_k - seen), dtype=parts[0].dtype, device=device_of(at))
            )
        return self._grouped("v", xp.concat(parts, axis=-1))

    def diagonal(self) -> Array:
        """As :class:`AttentionOperator` says, at the cost of all columns."""
        xp, parts = tokens_of(q=self.q), []
        for part in blocks(min(self.shape[-2:]), SEEN):
            found = self.columns(range(part.start, part.stop))
            parts.append(xp.linalg.diagonal(found[..., part, :]))
        return xp.concat(parts, axis=-1)

    def _give_back(self, xp: Any, u: Array) -> Array:
        """By columns, some at a time."""
        parts = [
            transpose(self._grouped("u", self.columns(range(part.start, part.stop)))) @ u
            for part in blocks(self.k.shape[-2], SEEN)
        ]
        return xp.concat(parts, axis=-2)


def blocks(n: int, step: int | None = None) -> list[slice]:
    """An axis of n in slices of one block."""
    step = default_block(n) if step is None else step
    return [slice(i, min(i + step, n)) for i in range(0, n, step)]
