"""Cross (CUR) approximations of a rectangular kernel, from some of its rows and columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nystrom_numerics.arguments import (
    require_count,
    require_instance,
    require_nonnegative,
    require_tolerance,
)
from nystrom_numerics.backend import (
    Array,
    device_of,
    floating,
    namespace,
    require_finite,
    unit_roundoff,
)
from nystrom_numerics.brief import brief
from nystrom_numerics.errors import RangeError, ShapeError
from nystrom_numerics.kernels import Index, Kernel
from nystrom_numerics.kernels.arguments import require_kernel
from nystrom_numerics.landmarks import CrossSubset
from nystrom_numerics.landmarks.result import require_positions
from nystrom_numerics.linalg import transpose
from nystrom_numerics.lowrank.arguments import require_rows

__all__ = ["CrossFactor", "cross_factor", "cur_factor", "ready_cross"]


@dataclass(frozen=True, eq=False)
class CrossFactor:
    """A factorisation ``left @ right`` of a rectangular matrix, from some of its rows and columns.

    Attributes
    ----------
    left, right : array (n, r), (r, p)
    rows, columns : arrays of int64
        I and J.
    frobenius_residual : float or None
        Of the approximation, where the core was made from all entries.
    entries : int
        Kernel entries evaluated to build it, those of the choice of rows and columns not included.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import kernels, lowrank
    >>> kernel = kernels.precomputed(np.outer([1.0, 2.0, 3.0], [4.0, 5.0]))
    >>> factor = lowrank.cross_factor(kernel, [0], [1])
    >>> factor.shape, factor.rank, factor.svd()[1].round(3)
    ((3, 2), 1, array([23.958]))
    """

    left: Array
    right: Array
    rows: Array
    columns: Array
    frobenius_residual: float | None
    entries: int

    __repr__ = brief

    def __post_init__(self) -> None:
        require_positions(rows=self.rows, columns=self.columns)
        namespace(rows=self.rows, left=self.left, right=self.right)
        floating(namespace(left=self.left, right=self.right), left=self.left, right=self.right)
        if self.left.ndim != 2 or not self.left.shape[0]:
            raise ShapeError("left", f"of shape {tuple(self.left.shape)}", "shape (n, r)")
        if self.right.ndim != 2 or self.right.shape[0] != self.left.shape[1] or not self.right.shape[1]:
            needs = f"shape (r, p), r the columns of `left`, {self.left.shape[1]}"
            raise ShapeError("right", f"of shape {tuple(self.right.shape)}", needs)
        if self.frobenius_residual is not None:
            require_nonnegative("frobenius_residual", self.frobenius_residual)
        require_count("entries", self.entries, 0)

    @property
    def shape(self) -> tuple[int, int]:
        return self.left.shape[0], self.right.shape[1]

    @property
    def rank(self) -> int:
        return int(self.left.shape[1])

    def apply(self, v: Array, /) -> Array:
        """The product with v; (n + p)rc multiplications.

        Parameters
        ----------
        v : array (p,) or (p, c)

        Returns
        -------
        array (n,) or (n, c)

        Raises
        ------
        DTypeError, DeviceError, NamespaceError, ShapeError
            Naming the argument.
        """
        require_rows("v", v, self.right.shape[1], right=self.right)
        return self.left @ (self.right @ v)

    def apply_transpose(self, v: Array, /) -> Array:
        """The product of the transpose with v; (n + p)rc multiplications.

        Parameters
        ----------
        v : array (n,) or (n, c)

        Returns
        -------
        array (p,) or (p, c)

        Raises
        ------
        DTypeError, DeviceError, NamespaceError, ShapeError
            Naming the argument.
        """
        require_rows("v", v, self.left.shape[0], left=self.left)
        return transpose(self.right) @ (transpose(self.left) @ v)

    def diagonal(self) -> Array:
        """The entries (i, i); r multiplications each.

        Returns
        -------
        array (min(n, p),)
        """
        xp = namespace(left=self.left)
        k = min(self.shape)
        return xp.sum(self.left[:k, :] * transpose(self.right)[:k, :], axis=1)

    def svd(self) -> tuple[Array, Array, Array]:
        """The thin singular value decomposition; O((n + p)r²).

        Returns
        -------
        u : array (n, r)
        sigma : array (r,)
            Descending.
        vt : array (r, p)
        """
        xp = namespace(left=self.left)
        if self.rank == 0:
            return self.left, self.left[0, :], self.right
        q1, r1 = xp.linalg.qr(self.left)
        q2, r2 = xp.linalg.qr(transpose(self.right))
        u, s, vt = xp.linalg.svd(r1 @ transpose(r2), full_matrices=False)
        return q1 @ u, s, vt @ transpose(q2)


def cross_factor(kernel: Kernel, rows: Index, columns: Index, /, *, rtol: float | None = None) -> CrossFactor:
    r"""The cross approximation :math:`C W^+ R`, with C columns J, R rows I and :math:`W = A_{IJ}`.

    Parameters
    ----------
    kernel : Kernel
        Of shape (n, p).
    rows, columns : 1-D array of int, or slice
        I and J, :math:`|I| \ge |J|`; more rows than columns tame W⁺.
    rtol : float, optional
        Singular values of W of at most this times the largest are dropped; by default
        :math:`2u\max(|I|, |J|)`.

    Returns
    -------
    CrossFactor

    Raises
    ------
    DTypeError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: :math:`n|J| + |I|p` kernel entries.  With :math:`C = Q_CT` orthonormal, and J so that :math:`V_k(J,:)` is
    regular, :math:`\|A - CW^+R\|_2 \le \|Q_C(I,:)^+\|_2\|A - CC^+A\|_2`; exact where rank A = rank W.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import kernels, lowrank
    >>> a = np.outer([1.0, 2.0, 3.0], [4.0, 5.0, 6.0])
    >>> factor = lowrank.cross_factor(kernels.precomputed(a), [0, 2], [1])
    >>> bool(np.allclose(factor.apply(np.eye(3)), a))
    True
    """
    require_kernel(kernel, symmetric=False)
    before, xp = kernel.entries, namespace(kernel=kernel.like)
    c, r, rows, columns = _crossing(xp, kernel, rows, columns, rtol)
    if r.shape[0] < c.shape[1]:
        raise RangeError("rows", f"{r.shape[0]} for {c.shape[1]} columns", "at least as many as the columns")
    u, s, vt = xp.linalg.svd(xp.take(c, rows, axis=0), full_matrices=False)
    rank = _count_above(xp, s, max(r.shape[0], c.shape[1]), rtol)
    left = c @ (transpose(vt)[:, :rank] / s[:rank][None, :])
    right = transpose(u[:, :rank]) @ r
    return CrossFactor(left, right, rows, columns, None, kernel.entries - before)


def cur_factor(kernel: Kernel, rows: Index, columns: Index, /, *, rtol: float | None = None) -> CrossFactor:
    r"""The best approximation with these rows and columns, :math:`C(C^+AR^+)R`, where all entries may be
    read.

    Parameters
    ----------
    kernel : Kernel
        Of shape (n, p).
    rows, columns : 1-D array of int, or slice
        Any numbers of them, at least one of each.
    rtol : float, optional
        Directions of C and R whose singular values are at most this times the largest are dropped; by default
        2u times the longer side.

    Returns
    -------
    CrossFactor
        With its ``frobenius_residual``.

    Raises
    ------
    DTypeError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: :math:`np + n|J| + |I|p` kernel entries in strips, memory :math:`n|J| + |I|p`.  With Q and P orthonormal
    bases of C and Rᵀ it is :math:`QQ^TAPP^T`, so :math:`\|A - CUR\|_F^2 = \|A\|_F^2 - \|Q^TAP\|_F^2` comes free,
    to some :math:`\sqrt u\|A\|_F`.  With DEIM rows and columns the spectral error is at most
    :math:`(\eta_p + \eta_q)\sigma_{k+1}` (Sorensen and Embree 2016, Theorem 4.1).

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import kernels, lowrank
    >>> a = np.outer([1.0, 2.0, 3.0], [4.0, 5.0]) + 0.01 * np.eye(3, 2)
    >>> factor = lowrank.cur_factor(kernels.precomputed(a), [2], [1])
    >>> left = np.linalg.norm(a - factor.left @ factor.right)
    >>> bool(np.isclose(left, factor.frobenius_residual, rtol=1e-6)), bool(left < 0.02)
    (True, True)
    """
    require_kernel(kernel, symmetric=False)
    before, xp = kernel.entries, namespace(kernel=kernel.like)
    c, r, rows, columns = _crossing(xp, kernel, rows, columns, rtol)
    q, p = _range(xp, c, rtol), _range(xp, transpose(r), rtol)
    core = xp.zeros((q.shape[1], p.shape[1]), dtype=kernel.dtype, device=device_of(kernel.like))
    square = 0.0
    for strip in kernel.strips(kernel.shape[1]):
        part = kernel.block(strip, slice(None))
        core = core + transpose(q[strip, :]) @ (part @ p)
        square += _square(xp, part)
    require_finite(xp, kernel=core)
    residual = max(0.0, square - _square(xp, core)) ** 0.5
    return CrossFactor(q @ core, transpose(p), rows, columns, residual, kernel.entries - before)


def ready_cross(subset: CrossSubset, /) -> CrossFactor:
    """The factor that adaptive cross approximation comes with.

    Parameters
    ----------
    subset : CrossSubset
        From :func:`~nystrom_numerics.landmarks.adaptive_cross`.

    Returns
    -------
    CrossFactor

    Raises
    ------
    KindError
        Naming the argument.

    Notes
    -----
    Cost: none; no kernel entries.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import kernels, landmarks, lowrank
    >>> a = np.outer([1.0, 2.0], [4.0, 5.0, 6.0])
    >>> factor = lowrank.ready_cross(landmarks.adaptive_cross(kernels.precomputed(a), 1))
    >>> bool(np.allclose(factor.apply(np.ones(3)), a.sum(axis=1)))
    True
    """
    require_instance("subset", subset, CrossSubset)
    return CrossFactor(subset.left, subset.right, subset.rows, subset.columns, None, 0)


def _crossing(
    xp: Any, kernel: Kernel, rows: Index, columns: Index, rtol: float | None
) -> tuple[Array, Array, Array, Array]:
    if rtol is not None:
        require_tolerance("rtol", rtol)
    rows, columns = (
        np.arange(length)[index] if isinstance(index, slice) else index
        for index, length in zip((rows, columns), kernel.shape, strict=True)
    )
    c, r = kernel.block(slice(None), columns), kernel.block(rows, slice(None))
    for name, count in (("rows", r.shape[0]), ("columns", c.shape[1])):
        if not count:
            raise ShapeError(name, "empty", "one index at least")
    require_finite(xp, kernel=c)
    require_finite(xp, kernel=r)
    device = device_of(kernel.like)
    return c, r, *(xp.asarray(index, dtype=xp.int64, device=device) for index in (rows, columns))


def _square(xp: Any, x: Array) -> float:
    """‖x‖_F², in float64: squares of float32 underflow below 1e-22 and overflow above 1e19."""
    wide = xp.astype(x, xp.float64)
    return float(xp.sum(wide * wide))


def _count_above(xp: Any, singular: Array, size: int, rtol: float | None) -> int:
    level = 2 * unit_roundoff(xp, singular.dtype) * size if rtol is None else rtol
    return int(xp.count_nonzero(singular > level * singular[0]))


def _range(xp: Any, c: Array, rtol: float | None) -> Array:
    """An orthonormal basis of what C spans beyond rounding."""
    q, r = xp.linalg.qr(c)
    u, s, _ = xp.linalg.svd(r, full_matrices=False)
    return q @ u[:, : _count_above(xp, s, max(c.shape), rtol)]
