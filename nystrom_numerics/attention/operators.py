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

__all__ = ["SEEN", "AttentionOperator", "FunctionOperator", "OperatorBase", "blocks"]

SEEN = 256
"""Rows or columns that are read at a time where all are passed over."""


@runtime_checkable
class AttentionOperator(Protocol):
    r"""What an estimator makes of queries and keys: Ŝ (..., n_q, n_k), linear in the values, never formed.

    ``q`` (..., n_q, d) and ``k`` (..., n_k, d) are zero where ``query_mask`` (..., n_q) and ``key_mask`` (..., n_k),
    or None, are false; with ``scale`` they give the S that Ŝ stands for.  With ``grouped`` heads both have two axes of
    heads: groups, and their members; what is read has one.  Rows of masked queries and columns of masked keys are zero
    where they are read; what ``apply`` gives to masked queries is the estimator's own affair.

    Made by :func:`exact_operator`, :func:`nystrom_operator`, :func:`tangent_operator`, :func:`normalised_operator` and
    :func:`near_field_operator`; an object of any class that has all of this is one too.
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
    def shape(self) -> tuple[int, ...]:
        """(..., n_q, n_k), the shape of Ŝ."""

    @property
    @abstractmethod
    def entries(self) -> int:
        """Kernel entries that the estimator evaluates for one head; where heads differ in length, the most."""

    @abstractmethod
    def apply(self, v: Array, /) -> Array:
        """ŜV for v (..., n_k, d_v), in its dtype."""

    @abstractmethod
    def rows(self, indices: Index, /) -> Array:
        """Rows of Ŝ (..., r, n_k), in the dtype to compute in."""

    @abstractmethod
    def columns(self, indices: Index, /) -> Array:
        """Columns of Ŝ (..., n_q, c), in the dtype to compute in."""

    @abstractmethod
    def diagonal(self) -> Array:
        """Entries (..., min(n_q, n_k)) of Ŝ, those of each query and the key of its number."""


class OperatorBase(ABC):
    """What operators share: the check of values and of indices, and columns and diagonal by what the others give."""

    q: Array
    k: Array
    key_mask: Array | None
    query_mask: Array | None
    grouped: bool

    __repr__ = brief

    @abstractmethod
    def apply(self, v: Array, /) -> Array:
        r""":math:`\hat S V`, which each operator has of its own."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(..., n_q, n_k), the shape of Ŝ."""
        batch = np.broadcast_shapes(tuple(self.q.shape[:-2]), tuple(self.k.shape[:-2]))
        if self.grouped:
            batch = (*batch[:-2], batch[-2] * batch[-1])
        return (*batch, self.q.shape[-2], self.k.shape[-2])

    def rows(self, indices: Index, /) -> Array:
        """Rows of Ŝ (..., r, n_k) by number, in the dtype to compute in; those of masked queries are zero.

        Raises
        ------
        DTypeError, DeviceError, KindError, NamespaceError, RangeError, ShapeError
            ``indices`` are no integers of one axis in [0, n_q), in a sequence or an array, one at least.
        """
        at = self._at(indices, self.q)
        return self._ungrouped(self._masked(self._rows(at), at))

    def columns(self, indices: Index, /) -> Array:
        """Columns of Ŝ (..., n_q, c) by number, in the dtype to compute in: Ŝ applied to unit vectors.

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
        groups = self.k.shape[-4], self.q.shape[-4] * self.q.shape[-3]
        return ungroup(self._masked(group_heads("v", found, groups[1], groups[0], 2), None))

    def diagonal(self) -> Array:
        """Entries (..., min(n_q, n_k)) of Ŝ, those of each query and the key of its number; see ``rows``.

        Cost: that of all rows, 256 of which are held at a time.
        """
        xp, parts, most = tokens_of(q=self.q), [], min(self.q.shape[-2], self.k.shape[-2])
        for part in blocks(most, SEEN):
            found = self.rows(range(part.start, part.stop))[..., part]
            parts.append(xp.linalg.diagonal(found))
        return xp.concat(parts, axis=-1)

    def _of_units(self, units: Array) -> Array:
        return self.apply(units)

    def _rows(self, at: Array) -> Array:
        """Rows (..., r, n_k) by number, of grouped heads with both axes; what masked queries have does not matter.

        By columns, for want of better: those of all keys, some at a time.
        """
        xp, n_k, parts = tokens_of(q=self.q), self.k.shape[-2], []
        for part in blocks(n_k, SEEN):
            found = self.columns(range(part.start, part.stop))
            parts.append(xp.take(found, at, axis=-2))
        rows = xp.concat(parts, axis=-1)
        if not self.grouped:
            return rows
        return group_heads("v", rows, self.q.shape[-4] * self.q.shape[-3], self.k.shape[-4], 2)

    def _values(self, v: Array) -> tuple[Any, Array]:
        """The namespace, and checked values (..., n_k, d_v), zero where keys are masked, grouped as heads are.

        Raises
        ------
        DTypeError, DeviceError, NamespaceError, ShapeError
        """
        xp = tokens_of(q=self.q, v=v)
        floating(xp, v=v)
        require_matrix("v", v)
        if v.shape[-2] != self.k.shape[-2]:
            raise ShapeError("v", f"of shape {tuple(v.shape)}", f"shape (..., {self.k.shape[-2]}, d_v)")
        if self.grouped:
            v = group_heads("v", v, self.q.shape[-4] * self.q.shape[-3], self.k.shape[-4], 2)
        batch = broadcast_shapes(q=tuple(self.q.shape[:-2]), k=tuple(self.k.shape[:-2]))
        broadcast_shapes(operator=batch, v=tuple(v.shape[:-2]))
        return xp, hide(xp, v, self.key_mask)

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
class FunctionOperator(OperatorBase):
    """An estimator that is known by what it makes of values, ``attend(v)``; its rows cost as much as all columns.

    ``attend`` takes values as the estimator itself does, grouped heads in one axis.
    """

    q: Array
    k: Array
    key_mask: Array | None
    query_mask: Array | None
    scale: float
    grouped: bool
    entries: int
    attend: Callable[[Array], Array]

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


def blocks(n: int, step: int | None = None) -> list[slice]:
    """An axis of n in slices of one block."""
    step = default_block(n) if step is None else step
    return [slice(i, min(i + step, n)) for i in range(0, n, step)]
