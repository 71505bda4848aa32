r"""Nyström attention, eq. (13) of the paper: :math:`\hat S = F A^+ B`.

Two passes of exact attention around a small core: :math:`P = BV` is the attention of the query
landmarks to all keys, :math:`W = A^+P`, and :math:`\hat SV = FW` is the attention of all queries to the
key landmarks, with W as their values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import FunctionType, NoneType
from typing import Any, TypeAlias

import numpy as np

from nystrom_numerics.arguments import require_callable, require_instance
from nystrom_numerics.attention.arguments import (
    Arguments,
    product_form,
    tokens_of,
    ungroup,
)
from nystrom_numerics.attention.operators import OperatorBase, blocks
from nystrom_numerics.attention.placing import (
    Placed,
    core_scores,
    place_landmarks,
    softmax_weights,
    solve_core,
)
from nystrom_numerics.attention.ridge import ridge
from nystrom_numerics.attention.streaming import attend
from nystrom_numerics.backend import Array, device_of, differentiated_on_cpu, namespace, recomputed
from nystrom_numerics.brief import brief
from nystrom_numerics.errors import ShapeError
from nystrom_numerics.landmarks import Strategy, segment_means
from nystrom_numerics.linalg import masked_softmax, transpose
from nystrom_numerics.pinv import PinvResult, Solver

__all__ = ["NystromOperator", "Pinv", "nystrom", "nystrom_operator", "require_core", "solved_between"]

Pinv: TypeAlias = Callable[[Array], PinvResult]
"""A pseudoinverse of a stack of cores; bind its options with ``functools.partial``."""


@dataclass(frozen=True)
class NystromOperator(OperatorBase):
    r"""The matrix :math:`\hat S = F Z B`, never formed: apply it to values.

    Attributes
    ----------
    q, k : array (..., n_q, d), (..., n_k, d)
        Queries and keys, zero where they are masked.
    key_mask, query_mask : array (..., n_k), (..., n_q) of bool, or None
        Which of them are real.
    row_mask : array (..., n_q) of bool, or None
        Which queries may see any key; the rows of others are zero.
    bias : array (..., n_k) or None
        What an additive mask adds to the scores of the keys.
    scale : float
    core : array (..., m_q, m_k)
        A, the softmax of query landmarks against key landmarks; rows and columns of landmarks that do
        not exist are zero.
    solver : callable
        ``solver(core, p)`` stands for A⁺P where no ``pinv`` was asked for.
    pinv : PinvResult or None
        Z, the pseudoinverse of the core, with its residual and status, where one was asked for.
    query_landmarks, key_landmarks : array (..., m_q, d), (..., m_k, d)
    query_valid, key_valid : array (..., m_q), (..., m_k) of bool, or None
        Which landmarks exist.
    key_bias : array (..., m_k) or None
        What an additive mask comes to at the key landmarks.
    grouped : bool
        Heads of queries share those of keys.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import attention, pinv
    >>> q, k = np.random.default_rng(0).standard_normal((2, 40, 4))
    >>> made = attention.nystrom_operator(q, k, 8, pinv=pinv.razavi)
    >>> made.core.shape, int(made.pinv.matmuls), made.entries == (40 + 8) * 8 + 40 * 8
    ((8, 8), 24, True)
    """

    q: Array
    k: Array
    key_mask: Array | None
    query_mask: Array | None
    row_mask: Array | None
    bias: Array | None
    scale: float
    query_landmarks: Array
    query_valid: Array | None
    key_landmarks: Array
    key_valid: Array | None
    key_bias: Array | None
    core: Array
    solver: Solver
    pinv: PinvResult | None
    grouped: bool

    __repr__ = brief

    def apply(self, v: Array, /) -> Array:
        r"""The product :math:`\hat S V`.

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
            ``v`` is no floating array of as many tokens as the keys, or its leading axes do not broadcast.

        Notes
        -----
        Cost: (n_q + n_k) m kernel entries; memory one block and O(m d_v).
        """
        xp, v = self._values(v)
        storage = v.dtype
        p = attend(xp, self.query_landmarks, self.k, v, self.key_mask, self.bias, self.scale)
        w = _solved(xp, self.core, p, self.solver, self.pinv)
        bias = None if self.key_bias is None else self.key_bias[..., None, :]
        out = attend(xp, self.q, self.key_landmarks, w, self.key_valid, bias, self.scale)
        if self.row_mask is not None:
            out = xp.where(self.row_mask[..., None], out, xp.zeros_like(out))
        out = xp.astype(out, storage, copy=False)
        return ungroup(out) if self.grouped else out

    @property
    def entries(self) -> int:
        """Kernel entries of one head: (n_q + m_q) m_k + n_k m_q."""
        (m_q, m_k), (n_q, n_k) = self.core.shape[-2:], self._lengths()
        return int(np.max((n_q + m_q) * m_k + n_k * m_q))

    def diagonal(self) -> Array:
        """Entries (..., min(n_q, n_k)) of Ŝ, those of each query and the key of its number; see ``rows``.

        Cost: (n_q + n_k) m kernel entries; memory O(n_k m), B being held, and some rows of F.
        """
        xp, most = tokens_of(q=self.q), min(self.q.shape[-2], self.k.shape[-2])
        z, right, parts = self._inverse(xp), self._right(xp), []
        for part in blocks(most):
            at = xp.arange(part.start, part.stop, dtype=xp.int64, device=device_of(self.q))
            columns = transpose(right[..., part])
            entries = xp.sum((self._left(xp, at) @ z) * columns, axis=-1)[..., None]
            parts.append(self._ungrouped(self._masked(entries, at))[..., 0])
        return xp.concat(parts, axis=-1)

    def _rows(self, at: Array) -> Array:
        """Cost: (r + n_k) m kernel entries; memory O((r + m) n_k), B being held."""
        xp = tokens_of(q=self.q)
        return self._left(xp, at) @ self._inverse(xp) @ self._right(xp)

    def _give_back(self, xp: Any, u: Array) -> Array:
        """BᵀZᵀ(FᵀU): (n_q + n_k) m kernel entries; memory O(n_k m), B being held."""
        total = None
        for part in blocks(self.q.shape[-2]):
            at = xp.arange(part.start, part.stop, dtype=xp.int64, device=device_of(u))
            some = transpose(self._left(xp, at)) @ u[..., part, :]
            total = some if total is None else total + some
        return transpose(self._right(xp)) @ (transpose(self._inverse(xp)) @ total)

    def _left(self, xp: Any, at: Array) -> Array:
        """Rows of F (..., r, m_k)."""
        q, bias = xp.take(self.q, at, axis=-2), None if self.key_bias is None else self.key_bias[..., None, :]
        return softmax_weights(xp, q, self.key_landmarks, self.key_valid, bias, self.scale)

    def _right(self, xp: Any) -> Array:
        """B (..., m_q, n_k)."""
        return softmax_weights(xp, self.query_landmarks, self.k, self.key_mask, self.bias, self.scale)

    def _inverse(self, xp: Any) -> Array:
        """Z (..., m_k, m_q)."""
        if self.pinv is not None:
            return xp.astype(self.pinv.value, self.core.dtype, copy=False)
        eye = xp.eye(self.core.shape[-2], dtype=self.core.dtype, device=device_of(self.core))
        return solve_core(self.core, xp.broadcast_to(eye, (*self.core.shape[:-2], *eye.shape)), self.solver)


def nystrom_operator(
    q: Array,
    k: Array,
    m: int | tuple[int, int],
    /,
    *,
    landmarks: Strategy = segment_means,
    solver: Solver = ridge,
    pinv: Pinv | None = None,
    key_mask: Array | None = None,
    query_mask: Array | None = None,
    attn_mask: Array | None = None,
    scale: float | None = None,
    grouped: bool = False,
    check_finite: bool = False,
) -> NystromOperator:
    """The approximate attention matrix as an operator, with everything an analysis wants to look at.

    Parameters, errors and costs are those of :func:`nystrom`.

    Parameters
    ----------
    q, k, m, landmarks, solver, pinv, key_mask, query_mask, attn_mask, scale, grouped, check_finite
        As in :func:`nystrom`.

    Returns
    -------
    NystromOperator

    Raises
    ------
    DTypeError, DeviceError, KindError, NamespaceError, NonFiniteError, RangeError, ShapeError
        As :func:`nystrom`.

    Notes
    -----
    Cost: m_q m_k kernel entries now, and the pseudoinverse if one is asked for; ``apply`` as :func:`nystrom`.
    Source: Xiong et al. 2021, eq. (13).

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import attention
    >>> q, k, v = np.random.default_rng(0).standard_normal((3, 40, 4))
    >>> bool(np.allclose(attention.nystrom_operator(q, k, 8).apply(v), attention.nystrom(q, k, v, 8)))
    True
    """
    a, q, k, _ = product_form(
        q,
        k,
        scale=scale,
        key_mask=key_mask,
        query_mask=query_mask,
        attn_mask=attn_mask,
        grouped=grouped,
        check_finite=check_finite,
    )
    return _build(a, q, k, m, landmarks, solver, pinv, grouped)


def _build(
    a: Arguments,
    q: Array,
    k: Array,
    m: int | tuple[int, int],
    landmarks: Strategy,
    solver: Solver,
    pinv: Pinv | None,
    grouped: bool,
) -> NystromOperator:
    require_core(solver, pinv)
    placed = place_landmarks(a, q, k, m, landmarks)
    core = _core(placed, a.scale)
    return NystromOperator(
        q=q,
        k=k,
        key_mask=a.key_mask,
        query_mask=a.query_mask,
        row_mask=a.row_mask,
        bias=a.bias,
        scale=a.scale,
        query_landmarks=placed.queries,
        query_valid=placed.query_valid,
        key_landmarks=placed.keys,
        key_valid=placed.key_valid,
        key_bias=placed.key_bias,
        core=core,
        solver=solver,
        pinv=None if pinv is None else _inverted(core, pinv),
        grouped=grouped,
    )


def _ours(f: Callable[..., Any] | None) -> bool:
    """Whether what this computes depends on its argument alone: another's callable may hold what is learnt, or draw."""
    if isinstance(f, partial):
        held = (*f.args, *f.keywords.values())
        return _ours(f.func) and all(isinstance(x, int | float | str | bool | NoneType) for x in held)
    return f is None or (isinstance(f, FunctionType) and f.__module__.split(".")[0] == __name__.split(".")[0])


def require_core(solver: Solver, pinv: Pinv | None) -> None:
    """What the core is solved with can be called; raises KindError."""
    require_callable("solver", solver)
    if pinv is not None:
        require_callable("pinv", pinv)


def _core(placed: Placed, scale: float) -> Array:
    """A (..., m_q, m_k), zero where a landmark does not exist."""
    core = masked_softmax(core_scores(placed, scale), placed.pair_mask)
    if placed.query_valid is None:
        return core
    xp = tokens_of(core=core)
    return xp.where(placed.query_valid[..., None], core, xp.zeros_like(core))


def _solved(xp: Any, core: Array, p: Array, solver: Solver, pinv: PinvResult | None) -> Array:
    """What stands for A⁺P."""
    if pinv is None:
        return solve_core(core, p, solver)
    return xp.astype(pinv.value, p.dtype, copy=False) @ p


def solved_between(
    xp: Any, placed: Placed, p: Array, scale: float, solver: Solver, pinv: Pinv | None
) -> Array:
    """What stands for A⁺P, of landmarks that are placed."""
    core = _core(placed, scale)
    return _solved(xp, core, p, solver, None if pinv is None else _inverted(core, pinv))


def _inverted(core: Array, pinv: Pinv) -> PinvResult:
    """What ``pinv`` makes of the core, checked."""
    found = require_instance("pinv", pinv(core), PinvResult, "a callable that gives a PinvResult")
    namespace(core=core, pinv=found.value)
    shape = (*core.shape[:-2], core.shape[-1], core.shape[-2])
    if tuple(found.value.shape) != shape:
        raise ShapeError("pinv", f"giving shape {tuple(found.value.shape)}", f"shape {shape}")
    return found


def nystrom(
    q: Array,
    k: Array,
    v: Array,
    m: int | tuple[int, int],
    /,
    *,
    landmarks: Strategy = segment_means,
    solver: Solver = ridge,
    pinv: Pinv | None = None,
    key_mask: Array | None = None,
    query_mask: Array | None = None,
    attn_mask: Array | None = None,
    scale: float | None = None,
    grouped: bool = False,
    check_finite: bool = False,
) -> Array:
    r"""Nyström attention in linear time and memory.

    .. math:: \hat S V = F\,(A^+\,(B V)),\quad
              F = \mathrm{softmax}(sQ\tilde K^T),\;
              A = \mathrm{softmax}(s\tilde Q\tilde K^T),\;
              B = \mathrm{softmax}(s\tilde QK^T),

    each softmax over its own columns.

    Parameters
    ----------
    q : array (..., n_q, d)
    k : array (..., n_k, d)
    v : array (..., n_k, d_v)
        As in :func:`exact`; n_q and n_k may differ.
    m : int, or two
        Landmarks of queries and of keys, 1 <= m <= n_q and n_k; one number for both.
    landmarks : callable
        ``landmarks(x, m, mask=mask)``, called on queries and on keys; see
        :mod:`nystrom_numerics.landmarks`.
    solver : callable
        ``solver(core, p)`` in place of A⁺P, see :func:`nystrom_numerics.pinv.solve`.  The default,
        :func:`ridge`, is a filter and not A⁺, by measurement: a more accurate pseudoinverse makes the attention
        of trained models several times worse.  :func:`nystrom_numerics.pinv.rank_revealing` is A⁺ itself.
    pinv : callable, optional
        ``pinv(core) -> PinvResult`` to be used in place of ``solver``, such as the paper's six iterations,
        :func:`nystrom_numerics.pinv.razavi`.
    key_mask, query_mask : array of bool, broadcastable to (..., n_k) and (..., n_q), optional
        True for real tokens.  Masked keys weigh nothing, and masked tokens enter no landmark: adding
        padding changes nothing for real tokens.  In self-attention pass the same mask twice; nothing
        is guessed from equal lengths.
    attn_mask : array of bool (True to attend) or real, broadcastable to (..., n_q, n_k), optional
        As in Torch, with one of the last two axes of length 1 or absent: a mask of keys, or of queries (a query
        that may see no key gives zeros).  Added to the scores where it is real; an entry below half the least
        number of its dtype counts as −∞.  One that ties queries to keys is refused.
    scale : float, optional
        s, in place of :math:`1/\sqrt d`.
    grouped : bool
        Heads of queries (..., h, n_q, d) share those of keys and values (..., g, n_k, ·), head i those of
        ⌊ig/h⌋; keys are not repeated.
    check_finite : bool
        Raise on NaN and infinity in q, k and v.

    Returns
    -------
    array (..., n_q, d_v)
        In the dtype of ``v``; zeros for an item without any real key or real query; NaN for an item whose
        core could not be solved with (status ``NON_FINITE``).

    Raises
    ------
    DTypeError, DeviceError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: (n_q + n_k + m) m kernel entries, (n_q + n_k) m (d + d_v) multiplications, and the core; memory
    O((n_q + n_k) d + m²) and one block.  In Torch both passes are calls of the fused kernel (see
    :func:`~nystrom_numerics.fused.fused_attention`): beyond inputs and output no more than one array of n × d, and
    a copy of each of q, k and v that is masked.

    With segment means, this package's solvers and pseudoinverses and without an additive mask, a derivative in Torch
    on a CPU keeps q, k and v alone and attends once more, a third of its time on top; it can be taken once.  Elsewhere,
    and under autocast, Torch keeps what it sees.

    Source: Xiong et al. 2021, eq. (13).  Departures: segments are
    balanced and means leave padding out, so no length is padded or refused; the core is solved with, and filtered
    in one step rather than by six iterations.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import attention, pinv
    >>> q, k, v = np.random.default_rng(0).standard_normal((3, 2, 12, 4))
    >>> full = attention.nystrom(q, k, v, 12, solver=pinv.rank_revealing)
    >>> bool(np.allclose(full, attention.exact(q, k, v)))  # Lemma 2: all tokens are landmarks
    True
    """
    a, q, k, _ = product_form(
        q,
        k,
        v,
        scale=scale,
        key_mask=key_mask,
        query_mask=query_mask,
        attn_mask=attn_mask,
        grouped=grouped,
        check_finite=check_finite,
    )

    def whole(q: Array, k: Array, v: Array) -> Array:
        return _build(a, q, k, m, landmarks, solver, pinv, grouped).apply(v)

    of_inputs_alone = a.bias is None and landmarks is segment_means and _ours(solver) and _ours(pinv)
    if of_inputs_alone and differentiated_on_cpu(q, k, v):
        return recomputed(whole, q, k, v, fixed=(a.key_mask, a.query_mask, a.row_mask))
    return whole(q, k, v)
