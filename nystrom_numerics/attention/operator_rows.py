r"""The rows of :math:`\hat S = FZB`, their lengths and sums, and where they are likely wrong, for one head.

What :func:`~nystrom_numerics.attention.certify_operator` asks of an operator, without n × n entries.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from nystrom_numerics.attention.nystrom import NystromOperator
from nystrom_numerics.attention.operators import blocks
from nystrom_numerics.attention.rounding import UNIT, row_norms, softmax_rounding
from nystrom_numerics.backend import Array, device_of, from_numpy, to_numpy
from nystrom_numerics.linalg import masked_softmax, transpose
from nystrom_numerics.pinv import solve

__all__ = ["NEIGHBOURS", "OperatorRows", "take_real", "without_padding"]

NEIGHBOURS = (-2, -1, 0, 1, 2)
"""Columns beside the diagonal in which trained heads like to err, as they do in the first and the last."""


class OperatorRows:
    """Rows of F Z B in float64, for an operator without padding; B is held, (m, n_k).

    Attributes
    ----------
    entries : int
        Kernel entries evaluated so far.
    """

    def __init__(self, xp: Any, operator: NystromOperator) -> None:
        self.xp, self.entries, wide = xp, 0, xp.float64
        self.queries = xp.astype(operator.q, wide) * operator.scale
        self.keys = xp.astype(operator.k, wide)
        self.key_landmarks = take_real(xp, xp.astype(operator.key_landmarks, wide), operator.key_valid)
        landmarks = take_real(xp, xp.astype(operator.query_landmarks, wide), operator.query_valid)
        landmarks = landmarks * operator.scale
        z = take_real(xp, xp.astype(_inverse(xp, operator), wide), operator.key_valid)
        self.z = transpose(take_real(xp, transpose(z), operator.query_valid))
        self.right = masked_softmax(self._scores(landmarks, self.keys))
        n_k, d = self.keys.shape
        longest = row_norms(xp, self.keys).max()
        self.right_rounding = softmax_rounding(row_norms(xp, landmarks), longest, d, n_k).max()

    def _scores(self, queries: Array, keys: Array) -> Array:
        self.entries += queries.shape[0] * keys.shape[0]
        return queries @ transpose(keys)

    def _left(self, queries: Array) -> tuple[Array, Array]:
        """F of some queries, and F Z."""
        f = masked_softmax(self._scores(queries, self.key_landmarks))
        return f, f @ self.z

    def __call__(self, indices: Array) -> Array:
        return self._left(self.xp.take(self.queries, indices, axis=0))[1] @ self.right

    def measures(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        r"""Squared lengths of all rows of Ŝ, their sums, and what rounding has changed in each, on the host.

        With :math:`b_p = \|B_p\|_2`, a length comes of :math:`L\,BB^TL^T`, L = FZ, with an allowance
        :math:`(n_k + 2m_q + 2)u(|L|b)^2` added.  A row is off, in length, by at most
        :math:`(\varphi + \beta + (m_q + m_k + 4)u)\,F|Z|b`, where φ and β are the relative errors of F and B
        (:func:`~nystrom_numerics.attention.rounding.softmax_rounding`).
        """
        xp, (m_k, m_q) = self.xp, self.z.shape
        gram = self.right @ transpose(self.right)
        size = xp.sqrt(xp.linalg.diagonal(gram))
        of_length, of_sum, of_rounding = [], [], []
        for part in blocks(self.queries.shape[0]):
            queries = self.queries[part, :]
            f, left = self._left(queries)
            moduli = xp.abs(left) @ size
            squares = xp.sum((left @ gram) * left, axis=1)
            allowance = (self.keys.shape[0] + 2 * m_q + 2) * UNIT * moduli**2
            of_length.append(to_numpy(xp.clip(squares, min=0.0) + allowance))
            of_sum.append(to_numpy(xp.sum(left, axis=1)))
            key = row_norms(xp, self.key_landmarks).max()
            of_f = softmax_rounding(row_norms(xp, queries), key, self.keys.shape[1], m_k)
            relative = of_f + self.right_rounding + (m_q + m_k + 4) * UNIT
            of_rounding.append(relative * to_numpy(f @ (xp.abs(self.z) @ size)))
        lengths, sums, rounding = (np.concatenate(x) for x in (of_length, of_sum, of_rounding))
        return lengths, sums, rounding

    def errors_at(
        self, columns: np.ndarray[Any, Any], v: Array
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Predicted squared errors of all rows of Ŝ and of ŜV, from a few columns alone: hints, no bounds.

        The columns are those given, the first, the last and the :data:`NEIGHBOURS` of the diagonal.
        """
        xp, found = self.xp, []
        for part in blocks(self.queries.shape[0]):
            at, counted = self._pattern(part, columns)
            difference = self._weights_at(part, at, counted) - self._entries_at(part, at)
            difference = xp.where(counted, difference, 0.0)
            of_output = xp.sum(difference[..., None] * self._rows_at(v, at), axis=1)
            found.append([xp.sum(difference**2, axis=1), xp.sum(of_output**2, axis=1)])
        of_rows, of_outputs = (np.concatenate([to_numpy(x) for x in xs]) for xs in zip(*found, strict=True))
        return of_rows, of_outputs

    def _pattern(self, part: slice, columns: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], Array]:
        """Columns to look at in some rows (b, c), and which of them count: each once a row."""
        last = self.keys.shape[0] - 1
        near = np.arange(part.start, part.stop)[:, None] + np.array(NEIGHBOURS)
        fixed = np.tile(np.concatenate([[0, last], columns]).astype(np.int64), (len(near), 1))
        at = np.concatenate([fixed, np.clip(near, 0, last)], axis=1)
        once = [~(at[:, :c] == at[:, c : c + 1]).any(axis=1) for c in range(at.shape[1])]
        return at, from_numpy(self.xp, np.stack(once, axis=1), self.queries)

    def _rows_at(self, x: Array, at: np.ndarray[Any, Any]) -> Array:
        """Rows of x (n_k, ...) by number, (b, c, ...), in float64."""
        xp = self.xp
        taken = xp.take(x, from_numpy(xp, at.reshape(-1), self.queries), axis=0)
        return xp.reshape(xp.astype(taken, xp.float64), (*at.shape, *x.shape[1:]))

    def _weights_at(self, part: slice, at: np.ndarray[Any, Any], counted: Array) -> Array:
        """Entries of S there, but that the landmarks stand for all other keys in the softmax's denominator."""
        xp, queries = self.xp, self.queries[part, :]
        scores = xp.sum(queries[:, None, :] * self._rows_at(self.keys, at), axis=-1)
        scores = xp.where(counted, scores, xp.full_like(scores, -xp.inf))
        others = queries @ transpose(self.key_landmarks)
        shift = xp.maximum(xp.max(scores, axis=1), xp.max(others, axis=1))[:, None]
        weights = xp.exp(scores - shift)
        share = self.keys.shape[0] / self.key_landmarks.shape[0]
        total = xp.sum(weights, axis=1, keepdims=True)
        return weights / (total + share * xp.sum(xp.exp(others - shift), axis=1, keepdims=True))

    def _entries_at(self, part: slice, at: np.ndarray[Any, Any]) -> Array:
        """Entries of Ŝ there."""
        xp = self.xp
        columns, place = np.unique(at, return_inverse=True)
        right = xp.take(self.right, from_numpy(xp, columns, self.queries), axis=1)
        entries = self._left(self.queries[part, :])[1] @ right
        return xp.take_along_axis(entries, from_numpy(xp, place.reshape(at.shape), self.queries), axis=1)


def without_padding(xp: Any, operator: NystromOperator) -> NystromOperator:
    """The operator of one head between real queries and real keys alone, its landmarks as they are."""
    q, k = take_real(xp, operator.q, operator.query_mask), take_real(xp, operator.k, operator.key_mask)
    return replace(operator, q=q, k=k, query_mask=None, key_mask=None, row_mask=None)


def take_real(xp: Any, x: Array, mask: Array | None) -> Array:
    """The rows of x (n, ...) where the mask (n,) is true; one synchronisation."""
    if mask is None:
        return x
    return xp.take(x, from_numpy(xp, np.flatnonzero(to_numpy(mask)), x), axis=0)


def _inverse(xp: Any, operator: NystromOperator) -> Array:
    """Z (m_k, m_q): what stands for A⁺ in the operator, applied to the identity where it is a solver."""
    if operator.pinv is not None:
        return operator.pinv.value
    core = operator.core
    eye = xp.eye(core.shape[-2], dtype=core.dtype, device=device_of(core))
    return solve(core, eye, method=operator.solver).value
