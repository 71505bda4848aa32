r"""The rows of :math:`\hat S = FZB`, their lengths and sums, and where they are likely wrong, for one head.

What :func:`~nystrom_numerics.attention.certify_operator` asks of an operator, without n × n entries.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nystrom_numerics.attention.nystrom import NystromOperator
from nystrom_numerics.backend import Array, default_block, device_of, from_numpy, to_numpy
from nystrom_numerics.linalg import masked_softmax, transpose
from nystrom_numerics.pinv import solve

__all__ = ["NEIGHBOURS", "OperatorRows", "blocks"]

NEIGHBOURS = (-2, -1, 0, 1, 2)
"""Columns beside the diagonal in which trained heads like to err, as they do in the first and the last."""


class OperatorRows:
    """Rows of F Z B, block by block of the keys, in float64; B's softmax statistics are kept."""

    def __init__(self, xp: Any, operator: NystromOperator) -> None:
        self.xp, self.op, self.entries = xp, operator, 0
        wide = xp.float64
        self.query_landmarks = xp.astype(operator.query_landmarks, wide) * operator.scale
        self.key_landmarks = xp.astype(operator.key_landmarks, wide)
        self.z = xp.astype(_inverse(xp, operator), wide)
        self.peak, self.total, self.gram = self._statistics()

    def _scores(self, keys: Array, mask: Array | None) -> Array:
        """Scores of the query landmarks against some keys, −inf where masked."""
        xp = self.xp
        found = self.query_landmarks @ transpose(xp.astype(keys, xp.float64))
        self.entries += found.shape[0] * found.shape[1]
        return found if mask is None else xp.where(mask[None, :], found, xp.full_like(found, -xp.inf))

    def _part(self, part: slice) -> tuple[Array, Array | None]:
        """Keys of a slice and their mask."""
        return self.op.k[part, :], None if self.op.key_mask is None else self.op.key_mask[part]

    def _right(self, keys: Array, mask: Array | None) -> Array:
        """Columns of B; rows of landmarks that do not exist are zero."""
        found = self.xp.exp(self._scores(keys, mask) - self.peak[:, None]) / self.total[:, None]
        return (
            found if self.op.query_valid is None else self.xp.where(self.op.query_valid[:, None], found, 0.0)
        )

    def _statistics(self) -> tuple[Array, Array, Array]:
        """Peak and total of each row of B before its softmax, and BBᵀ, in one pass with running peaks."""
        xp, m = self.xp, self.query_landmarks.shape[0]
        like = self.query_landmarks
        peak = xp.full_like(like[:, 0], -xp.inf)
        total = xp.zeros_like(like[:, 0])
        gram = xp.zeros((m, m), dtype=xp.float64, device=device_of(like))
        for part in blocks(self.op.k.shape[0]):
            scores = self._scores(*self._part(part))
            new = xp.maximum(peak, xp.max(scores, axis=1))
            shift = xp.where(new == -xp.inf, xp.zeros_like(new), new)
            decay, weights = xp.exp(peak - shift), xp.exp(scores - shift[:, None])
            total = total * decay + xp.sum(weights, axis=1)
            gram = gram * decay[:, None] * decay[None, :] + weights @ transpose(weights)
            peak = new
        total = xp.where(total == 0, xp.ones_like(total), total)
        valid = self.op.query_valid
        if valid is not None:
            gram = gram * xp.astype(valid, xp.float64)[:, None] * xp.astype(valid, xp.float64)[None, :]
        peak = xp.where(peak == -xp.inf, xp.zeros_like(peak), peak)
        return peak, total, gram / total[:, None] / total[None, :]

    def _left(self, queries: Array) -> Array:
        """F Z of some queries."""
        xp, op = self.xp, self.op
        scores = (xp.astype(queries, xp.float64) * op.scale) @ transpose(self.key_landmarks)
        self.entries += scores.shape[0] * scores.shape[1]
        return masked_softmax(scores, None if op.key_valid is None else op.key_valid[None, :]) @ self.z

    def lengths_and_sums(self) -> tuple[np.ndarray, np.ndarray]:
        """Squared lengths and sums of all rows of Ŝ, on the host."""
        xp = self.xp
        of_rows = xp.ones_like(self.total)
        if self.op.query_valid is not None:
            of_rows = xp.astype(self.op.query_valid, xp.float64)
        squares, sums = [], []
        for part in blocks(self.op.q.shape[0]):
            left = self._left(self.op.q[part, :])
            squares.append(to_numpy(xp.sum((left @ self.gram) * left, axis=1)))
            sums.append(to_numpy(left @ of_rows))
        return np.maximum(np.concatenate(squares), 0.0), np.concatenate(sums)

    def __call__(self, indices: Array) -> Callable[[slice], Array]:
        left = self._left(self.xp.take(self.op.q, indices, axis=0))
        return lambda part: left @ self._right(*self._part(part))

    def errors_at(
        self, columns: np.ndarray[Any, Any], v: Array
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Predicted squared errors of all rows of Ŝ and of ŜV, from a few columns alone: hints, no bounds.

        The columns are those given, the first, the last and the :data:`NEIGHBOURS` of the diagonal.
        """
        xp, found = self.xp, []
        for part in blocks(self.op.q.shape[0]):
            at, counted = self._pattern(part, columns)
            difference = self._weights_at(part, at, counted) - self._entries_at(part, at)
            difference = xp.where(counted, difference, 0.0)
            values = xp.where(counted[..., None], self._rows_at(v, at), 0.0)
            of_output = xp.sum(difference[..., None] * values, axis=1)
            found.append([xp.sum(difference**2, axis=1), xp.sum(of_output**2, axis=1)])
        of_rows, of_outputs = (np.concatenate([to_numpy(x) for x in xs]) for xs in zip(*found, strict=True))
        return of_rows, of_outputs

    def _pattern(self, part: slice, columns: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], Array]:
        """Columns to look at in some rows (b, c), and which of them count: real keys, each once a row."""
        last = self.op.k.shape[0] - 1
        near = np.arange(part.start, part.stop)[:, None] + np.array(NEIGHBOURS)
        fixed = np.tile(np.concatenate([[0, last], columns]).astype(np.int64), (len(near), 1))
        at = np.concatenate([fixed, np.clip(near, 0, last)], axis=1)
        once = [~(at[:, :c] == at[:, c : c + 1]).any(axis=1) for c in range(at.shape[1])]
        counted = from_numpy(self.xp, np.stack(once, axis=1), self.op.q)
        return at, counted if self.op.key_mask is None else counted & self._rows_at(self.op.key_mask, at)

    def _rows_at(self, x: Array, at: np.ndarray[Any, Any]) -> Array:
        """Rows of x (n_k, ...) by number, (b, c, ...); numbers in float64."""
        xp = self.xp
        taken = xp.take(x, from_numpy(xp, at.reshape(-1), self.op.q), axis=0)
        taken = taken if xp.isdtype(taken.dtype, "bool") else xp.astype(taken, xp.float64)
        return xp.reshape(taken, (*at.shape, *x.shape[1:]))

    def _weights_at(self, part: slice, at: np.ndarray[Any, Any], counted: Array) -> Array:
        """Entries of S there, but that the landmarks stand for all other keys in the softmax's denominator."""
        xp, op = self.xp, self.op
        queries = xp.astype(op.q[part, :], xp.float64) * op.scale
        scores = xp.sum(queries[:, None, :] * self._rows_at(op.k, at), axis=-1)
        scores = xp.where(counted, scores, xp.full_like(scores, -xp.inf))
        others = queries @ transpose(self.key_landmarks)
        if op.key_valid is not None:
            others = xp.where(op.key_valid[None, :], others, xp.full_like(others, -xp.inf))
        shift = xp.maximum(xp.max(scores, axis=1), xp.max(others, axis=1))[:, None]
        shift = xp.where(shift == -xp.inf, xp.zeros_like(shift), shift)
        weights = xp.exp(scores - shift)
        total = xp.sum(weights, axis=1, keepdims=True)
        return weights / (
            total + self._keys_a_landmark() * xp.sum(xp.exp(others - shift), axis=1, keepdims=True)
        )

    def _keys_a_landmark(self) -> float:
        op = self.op
        keys = op.k.shape[0] if op.key_mask is None else int(self.xp.count_nonzero(op.key_mask))
        landmarks = op.core.shape[1] if op.key_valid is None else int(self.xp.count_nonzero(op.key_valid))
        return keys / max(1, landmarks)

    def _entries_at(self, part: slice, at: np.ndarray[Any, Any]) -> Array:
        """Entries of Ŝ there."""
        xp, op = self.xp, self.op
        columns, place = np.unique(at, return_inverse=True)
        index = from_numpy(xp, columns, op.q)
        right = self._right(
            xp.take(op.k, index, axis=0), None if op.key_mask is None else xp.take(op.key_mask, index)
        )
        entries = self._left(op.q[part, :]) @ right
        return xp.take_along_axis(entries, from_numpy(xp, place.reshape(at.shape), op.q), axis=1)


def _inverse(xp: Any, operator: NystromOperator) -> Array:
    """Z (m_k, m_q): what stands for A⁺ in the operator, applied to the identity where it is a solver."""
    if operator.pinv is not None:
        return operator.pinv.value
    core = operator.core
    eye = xp.eye(core.shape[-2], dtype=core.dtype, device=device_of(core))
    return solve(core, eye, method=operator.solver).value


def blocks(n: int) -> list[slice]:
    """An axis of n in slices of one block."""
    step = default_block(n)
    return [slice(i, min(i + step, n)) for i in range(0, n, step)]
