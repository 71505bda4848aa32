r"""Attention with an exact near field as an operator: its rows are those of the query's own block."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from nystrom_numerics.attention.arguments import product_form, tokens_of
from nystrom_numerics.attention.near_field import Fields, fields_of, near_keys, share_of_far
from nystrom_numerics.attention.operators import SEEN, AttentionOperator, OperatorBase, blocks
from nystrom_numerics.attention.ridge import ridge
from nystrom_numerics.attention.row_errors import RowErrors
from nystrom_numerics.backend import Array, compute_dtype, device_of, to_numpy
from nystrom_numerics.brief import brief
from nystrom_numerics.landmarks.result import take_rows
from nystrom_numerics.landmarks.tokens import rank_of
from nystrom_numerics.linalg import masked_softmax, transpose
from nystrom_numerics.pinv import Solver
from nystrom_numerics.places import sum_by_label

__all__ = ["near_field_operator"]


@dataclass(frozen=True)
class _Seen:
    """What some queries (..., r) make of keys: entries ``near`` (..., r, w) of those at ``position``, if ``counted``;
    of all others ``left`` (..., r, m) times A⁺B; ``beside`` (..., r, w) is what that would give the near ones.
    """

    position: Array
    counted: Array
    near: Array
    left: Array
    beside: Array


@dataclass(frozen=True)
class _NearFieldOperator(OperatorBase):
    q: Array
    k: Array
    key_mask: Array | None
    query_mask: Array | None
    scale: float
    grouped: bool
    fields: Fields = field(repr=False)

    __repr__ = brief

    @property
    def entries(self) -> int:
        """Kernel entries of one head: n (2m + w) + m², w as in :func:`near_field`."""
        (block, margin), m, (n, _) = self.fields.near, self.fields.m, self._lengths()
        return int(np.max(n * (2 * m + block + 2 * margin + 2) + m * m))

    def apply(self, v: Array, /) -> Array:
        """As :func:`near_field` and :class:`AttentionOperator` say."""
        _, v = self._values(v)
        return self._ungrouped(self.fields.apply(v))

    def _rows(self, at: Array) -> Array:
        """Cost: r (w + m) kernel entries, r m n_k multiplications; memory O(r (w (d + m) + n_k))."""
        xp, fields, n = tokens_of(q=self.q), self.fields, self.k.shape[-2]
        seen = self._seen(xp, self._ranks(xp, at))
        label = xp.where(seen.counted, seen.position, xp.full_like(seen.position, n))
        near, is_near = sum_by_label(seen.near[..., None], label, n)
        rows = xp.where(is_near > 0, near[..., 0], seen.left @ transpose(fields.far))
        return transpose(fields.put_back(transpose(rows)))

    def diagonal(self) -> Array:
        """Entries (..., n) of Ŝ, those of each query and the key of its number, which is near.

        Cost: n (w + m) kernel entries; memory O(n) and 256 times w (d + m).
        """
        xp, parts = tokens_of(q=self.q), []
        block, margin = self.fields.near
        for part in blocks(self.q.shape[-2], SEEN):
            at = xp.arange(part.start, part.stop, dtype=xp.int64, device=device_of(self.q))
            rank = self._ranks(xp, at)
            near = self._seen(xp, rank).near
            own = xp.broadcast_to((margin + rank % block)[..., None], (*near.shape[:-1], 1))
            entries = xp.take_along_axis(near, own, axis=-1)
            parts.append(self._ungrouped(self._masked(entries, at))[..., 0])
        return xp.concat(parts, axis=-1)

    def row_errors(self) -> RowErrors | None:
        r"""Rows are off by ‖Ŝ_i‖ + 1 at most; nothing better is predicted.

        By the Gram matrix of A⁺B: ‖Ŝ_i‖² is that of the near entries and of ``left`` (A⁺B), less what the latter has
        in near columns, with an allowance for rounding.  Cost: n (w + m) kernel entries, read again, n m² products.
        """
        return None if self.grouped else self._row_errors

    @cached_property
    def _row_errors(self) -> RowErrors:
        xp, far, parts = tokens_of(q=self.q), self.fields.far, []
        eps = float(xp.finfo(compute_dtype(xp, self.q.dtype)).eps)
        gram = transpose(far) @ far
        size = xp.sqrt(xp.linalg.diagonal(gram))[..., None]
        for part in blocks(self.q.shape[-2], SEEN):
            at = xp.arange(part.start, part.stop, dtype=xp.int64, device=device_of(self.q))
            seen = self._seen(xp, self._ranks(xp, at))
            squares = xp.sum((seen.left @ gram) * seen.left, axis=-1)
            squares = squares + xp.sum(seen.near**2, axis=-1) - xp.sum(seen.beside**2, axis=-1)
            moduli = (xp.abs(seen.left) @ size)[..., 0] ** 2
            rounding = 4 * eps * far.shape[-2] * (moduli + xp.sum(seen.near**2, axis=-1) + 1)
            parts.append(to_numpy(xp.clip(squares, min=0.0) + rounding))
        squares = np.asarray(np.concatenate(parts, axis=-1), dtype=np.float64)
        return RowErrors(squares, np.sqrt(squares) + 1, squares, np.full_like(squares, np.inf))

    def _give_back(self, xp: Any, u: Array) -> Array:
        """Cost: n (w + m) kernel entries, n (w + 2m) multiplications a column; memory O(n) and 256 w a column."""
        fields, n = self.fields, self.k.shape[-2]
        of_landmarks: Any = None
        of_near: Any = None
        u = fields.real_first(u)
        for part in blocks(n, SEEN):
            rank = xp.arange(part.start, part.stop, dtype=xp.int64, device=device_of(u))
            seen, some = self._seen(xp, rank), u[..., part, :]
            label = xp.where(seen.counted, seen.position, xp.full_like(seen.position, n))
            over = (seen.near - seen.beside)[..., None] * some[..., None, :]
            *batch, rows, seen_keys, width = over.shape
            label = xp.reshape(xp.broadcast_to(label, (*batch, rows, seen_keys)), (*batch, rows * seen_keys))
            near = sum_by_label(xp.reshape(over, (*batch, rows * seen_keys, width)), label, n)[0]
            left = transpose(seen.left) @ some
            of_landmarks = left if of_landmarks is None else of_landmarks + left
            of_near = near if of_near is None else of_near + near
        return fields.put_back(fields.far @ of_landmarks + of_near)

    def _ranks(self, xp: Any, at: Array) -> Array:
        """Which of the real tokens each of these is (..., r); a real one where it is none."""
        mask = self.fields.mask
        return at if mask is None else xp.clip(xp.take(rank_of(xp, mask), at, axis=-1), min=0)

    def _seen(self, xp: Any, rank: Array) -> _Seen:
        fields, n = self.fields, self.k.shape[-2]
        q, k, far = fields.q, fields.k, fields.far

        def taken(x: Array, index: Array) -> Array:
            return take_rows(x, xp.broadcast_to(index, (*x.shape[:-2], index.shape[-1])))

        def near_rows(x: Array) -> Array:
            """Those of x (..., n, c) near each query, (..., r, w, c)."""
            index = xp.reshape(xp.clip(position, min=0, max=n - 1), (*position.shape[:-2], -1))
            return xp.reshape(taken(x, index), (*x.shape[:-2], *position.shape[-2:], x.shape[-1]))

        q = taken(q, rank)
        position, counted, sizes = near_keys(
            xp, q, rank // fields.near[0], fields.count, fields.m, fields.near
        )
        scores = (near_rows(k) @ (q * fields.scale)[..., None])[..., 0]
        scores = xp.where(counted, scores, xp.full_like(scores, -xp.inf))
        top = xp.max(scores, axis=-1, keepdims=True)
        weights = xp.exp(scores - xp.where(top == -xp.inf, xp.zeros_like(top), top))
        total = xp.sum(weights, axis=-1, keepdims=True)
        scores = (q @ transpose(fields.points.points)) * fields.scale
        beyond, near_share = share_of_far(xp, scores, sizes[..., 0, :], fields.exist, top, total)
        left = masked_softmax(scores, fields.exist)
        right = near_rows(far)
        of_near = (right @ left[..., None])[..., 0]
        of_near = xp.where(counted, of_near, xp.zeros_like(of_near))
        mass = left @ xp.sum(far, axis=-2)[..., None] - xp.sum(of_near, axis=-1, keepdims=True)
        share = xp.where(mass > 0, xp.minimum(beyond / xp.where(mass > 0, mass, 1.0), 1.0), 0.0 * mass)
        position, counted = (xp.broadcast_to(x, weights.shape) for x in (position, counted))
        return _Seen(position, counted, weights * near_share, left * share, of_near * share)


def near_field_operator(
    q: Array,
    k: Array,
    m: int,
    /,
    *,
    block: int = 64,
    margin: int | None = None,
    solver: Solver = ridge,
    mask: Array | None = None,
    scale: float | None = None,
    grouped: bool = False,
    check_finite: bool = False,
) -> AttentionOperator:
    r"""Attention with an exact near field as an :class:`~nystrom_numerics.attention.AttentionOperator`.

    Parameters
    ----------
    q, k, m, block, margin, solver, mask, scale, grouped, check_finite
        As in :func:`near_field`.

    Returns
    -------
    AttentionOperator

    Raises
    ------
    DTypeError, DeviceError, KindError, NamespaceError, NonFiniteError, RangeError, ShapeError
        As :func:`near_field`.

    Notes
    -----
    Landmarks and A⁺B (m, n) are made once and held.  Cost, with w as there: of r rows r (w + m) kernel entries and
    r m n multiplications, of the diagonal and of the transpose applied n (w + m) entries.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import attention
    >>> q, k = np.random.default_rng(0).standard_normal((2, 40, 4))
    >>> made = attention.near_field_operator(q, k, 4, block=8)
    >>> bool(np.allclose(made.rows([3])[0, 0], made.columns([0])[3, 0]))
    True
    """

    a, q, k, _ = product_form(
        q, k, scale=scale, mask=mask, oneself=True, grouped=grouped, check_finite=check_finite
    )
    fields = fields_of(a, q, k, m, block, margin, solver)
    return _NearFieldOperator(q, k, a.key_mask, a.query_mask, a.scale, grouped, fields)
