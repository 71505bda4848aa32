r"""Columns and rows of a matrix at hand, or of an orthonormal basis of it, picked without chance.

The rules on a basis U (n × r) pick rows I so that :math:`\|U_I^{-1}\|_2` is small: that number times the
distance to the basis bounds the error of interpolation from the rows.
"""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np

from nystrom_numerics.arguments import require_count, require_nonnegative, require_tolerance
from nystrom_numerics.backend import (
    Array,
    compute_dtype,
    device_of,
    floating,
    from_numpy,
    namespace,
    require_finite,
    require_matrix,
    unit_roundoff,
)
from nystrom_numerics.errors import ShapeError
from nystrom_numerics.landmarks.determinantal import require_basis
from nystrom_numerics.landmarks.result import ColumnSubset
from nystrom_numerics.linalg import transpose
from nystrom_numerics.solves import solve_lower

__all__ = ["deim", "maxvol", "pivoted_qr", "qdeim", "rectangular_maxvol"]


def pivoted_qr(a: Array, m: int, /, *, rtol: float | None = None) -> ColumnSubset:
    r"""Columns of A (l × n) by QR with column pivoting: the longest residual column, the first of equals.

    Parameters
    ----------
    a : array (l, n)
        Real floating; 16-bit dtypes are computed in float32.
    m : int
        Columns, 1 <= m <= n.
    rtol : float, optional
        Residuals of at most this times the longest column count as zero; by default
        :math:`16u\sqrt{\max(l, m)}`.

    Returns
    -------
    ColumnSubset
        Indices in the order picked, fewer than m where the rank is.  ``entries`` is ln: all are read.

    Raises
    ------
    DTypeError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: 4lnm multiplications in products with vectors; two synchronisations with the device a column.
    :math:`\sigma_{\min}(A_J)` can fall short of :math:`\sigma_m(A)` by a factor near :math:`2^m` (Kahan's
    matrix), and hardly ever does (Gu and Eisenstat 1996).  Source: Businger and Golub 1965; columns are
    orthogonalised twice, and lengths downdated until half their digits are gone, then computed anew.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import landmarks
    >>> landmarks.pivoted_qr(np.array([[1.0, 3.0, 3.0], [0.0, 0.0, 1.0]]), 2).indices
    array([2, 1])
    """
    xp = namespace(a=a)
    floating(xp, a=a)
    require_matrix("a", a)
    if a.ndim != 2:
        raise ShapeError("a", f"of shape {tuple(a.shape)}", "shape (l, n); no batch")
    m = require_count("m", m, 1, a.shape[1], of="the number of columns")
    if rtol is not None:
        rtol = require_tolerance("rtol", rtol)
    require_finite(xp, a=a)
    a = xp.astype(a, compute_dtype(xp, a.dtype), copy=False)
    length, n = a.shape
    u = unit_roundoff(xp, a.dtype)
    squares = xp.sum(a * a, axis=0)
    reference = float(xp.max(squares))
    floor = reference * (16 * u * sqrt(max(length, m)) if rtol is None else rtol) ** 2
    q = xp.zeros((length, min(m, length)), dtype=a.dtype, device=device_of(a))
    order = xp.arange(n, dtype=xp.int64, device=device_of(a))
    free = xp.ones((n,), dtype=xp.bool, device=device_of(a))
    picked: list[int] = []
    while len(picked) < q.shape[1]:
        k = len(picked)
        if float(xp.max(squares)) < sqrt(u) * reference:
            squares = _residual_squares(a, q[:, :k])
            squares = xp.where(free, squares, xp.zeros_like(squares))
            reference = float(xp.max(squares))
        j = int(xp.argmax(squares))
        if float(squares[j]) <= floor:
            break
        column = a[:, j]
        for _ in range(2):
            column = column - q[:, :k] @ (column @ q[:, :k])
        column = column / xp.sqrt(xp.sum(column * column))
        q[:, k] = column
        picked.append(j)
        free = free & (order != j)
        along = column @ a
        squares = xp.clip(squares - along * along, min=0.0)
        squares = xp.where(free, squares, xp.zeros_like(squares))
    indices = from_numpy(xp, np.asarray(picked, dtype=np.int64), a)
    return ColumnSubset(indices, None, entries=length * n, seed=None)


def _residual_squares(a: Array, q: Array) -> Array:
    """Squared column lengths of A − QQᵀA, over blocks of columns."""
    xp = namespace(a=a)
    found = []
    for start in range(0, a.shape[1], 4096):
        part = a[:, start : min(start + 4096, a.shape[1])]
        part = part - q @ (transpose(q) @ part)
        found.append(xp.sum(part * part, axis=0))
    return xp.concat(found)


def qdeim(basis: Array, /) -> ColumnSubset:
    r"""Rows of a basis U (n × r) by column-pivoted QR of :math:`U^T`.

    Parameters
    ----------
    basis : array (n, r)
        Orthonormal columns, n >= r.

    Returns
    -------
    ColumnSubset
        r indices in the order picked; no kernel entries.

    Raises
    ------
    DTypeError, NamespaceError, NonFiniteError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: 4nr² multiplications.  :math:`\|U_I^{-1}\|_2 \le \sqrt{n - r + 1}\,\sqrt{4^r + 6r - 1}/3` (Drmač and
    Gugercin 2016, Lemma 2.1), in practice near :math:`\sqrt{nr}`.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import landmarks
    >>> landmarks.qdeim(np.linalg.qr(np.array([[3.0, 0.0], [0.0, 1.0], [0.1, 0.1]]))[0]).indices
    array([0, 1])
    """
    require_basis(basis)
    found = pivoted_qr(transpose(basis), basis.shape[1])
    return ColumnSubset(found.indices, None, entries=0, seed=None)


def deim(basis: Array, /) -> ColumnSubset:
    r"""Rows of a basis by discrete empirical interpolation: where the next vector is interpolated worst.

    Vector j is interpolated at the rows picked from the vectors before it, and its largest error gives
    the next row: the pivots of Gaussian elimination with row exchanges.

    Parameters
    ----------
    basis : array (n, r)
        Orthonormal columns, n >= r, the most important first.

    Returns
    -------
    ColumnSubset
        Indices in the order picked; no kernel entries.

    Raises
    ------
    DTypeError, NamespaceError, NonFiniteError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: nr² multiplications; one synchronisation a column.
    :math:`\|U_I^{-1}\|_2 \le \sqrt{nr/3}\,2^r` (Sorensen and Embree 2016, Lemma 4.4).  Source: Chaturantabut
    and Sorensen 2010, Algorithm 1; the interpolation is solved for by the triangle of
    that elimination.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import landmarks
    >>> landmarks.deim(np.eye(4)[:, [2, 0]]).indices
    array([2, 0])
    """
    xp = require_basis(basis)
    require_finite(xp, basis=basis)
    u = transpose(xp.astype(basis, compute_dtype(xp, basis.dtype), copy=False))
    floor = 16 * unit_roundoff(xp, u.dtype) * float(xp.max(xp.abs(u)))
    lower = xp.zeros(u.shape, dtype=u.dtype, device=device_of(u))  # rows: the columns of L, one at its pivot
    picked: list[int] = []
    for j in range(u.shape[0]):
        column = u[j, :]
        if picked:
            rows = from_numpy(xp, np.asarray(picked, dtype=np.int64), u)
            triangle = transpose(xp.take(lower[:j, :], rows, axis=1))
            weights = solve_lower(triangle, xp.take(column, rows)[None, :])[0, :]
            column = column - weights @ lower[:j, :]
        p = int(xp.argmax(xp.abs(column)))
        if float(xp.abs(column[p])) <= floor:
            break  # a column that depends on those before it
        picked.append(p)
        lower[j, :] = column / column[p]
    indices = from_numpy(xp, np.asarray(picked, dtype=np.int64), basis)
    return ColumnSubset(indices, None, entries=0, seed=None)


def maxvol(basis: Array, /, *, tol: float = 0.05, iterations: int = 1000) -> ColumnSubset:
    r"""Rows of nearly maximal volume: no exchange of one row raises :math:`|\det U_I|` by more than 1 + tol.

    Starts from :func:`qdeim`; while some entry of :math:`C = UU_I^{-1}` exceeds 1 + tol in modulus, the row
    of the largest one comes in and the row it exceeds at goes out, and the volume grows by its modulus.

    Parameters
    ----------
    basis : array (n, r)
        Full column rank, n >= r.
    tol : float
        At least 0.
    iterations : int
        Exchanges at most.

    Result and errors are those of :func:`qdeim`; RangeError names an option.

    Returns
    -------
    ColumnSubset
        r indices; no kernel entries.

    Raises
    ------
    DTypeError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: that of :func:`qdeim`, and nr an exchange with one synchronisation.  For orthonormal columns
    :math:`\|U_I^{-1}\|_2 \le \sqrt{1 + r(n - r)(1 + \mathrm{tol})^2}`, from the entries of C.  On the matrix
    itself the submatrix of largest volume gives :math:`\|A - CW^{-1}R\|_{\max} \le (r+1)\sigma_{r+1}`
    (Goreinov and Tyrtyshnikov 2001).  Source: Goreinov, Oseledets, Savostyanov, Tyrtyshnikov and Zamarashkin
    2010.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import landmarks
    >>> basis = np.linalg.qr(np.random.default_rng(0).standard_normal((30, 3)))[0]
    >>> rows = landmarks.maxvol(basis).indices
    >>> bool(np.abs(basis @ np.linalg.inv(basis[rows])).max() <= 1.05)
    True
    """
    xp, rows, _ = _dominant(basis, tol, iterations)
    return ColumnSubset(from_numpy(xp, np.asarray(rows, dtype=np.int64), basis), None, entries=0, seed=None)


def _dominant(basis: Array, tol: float, iterations: int) -> tuple[Any, list[int], Array]:
    """The rows of :func:`maxvol` and C, the basis expressed in them."""
    tol, iterations = require_nonnegative("tol", tol), require_count("iterations", iterations, 0)
    xp = require_basis(basis)
    work = xp.astype(basis, compute_dtype(xp, basis.dtype), copy=False)
    start = pivoted_qr(transpose(work), basis.shape[1]).indices
    if start.shape[0] < basis.shape[1]:
        needs = "full column rank"
        raise ShapeError("basis", f"of numerical rank {start.shape[0]} with {basis.shape[1]} columns", needs)
    rows = [int(i) for i in start]
    inverse = xp.linalg.inv(xp.take(work, start, axis=0))
    c = work @ inverse
    for _ in range(iterations):
        place = int(xp.argmax(xp.abs(c)))
        i, j = divmod(place, c.shape[1])
        pivot = float(c[i, j])
        if abs(pivot) <= 1 + tol:
            break
        row = xp.concat([c[i, :j], c[i, j : j + 1] - 1, c[i, j + 1 :]])
        c = c - (c[:, j] / pivot)[:, None] * row[None, :]
        rows[j] = i
    return xp, rows, c


def rectangular_maxvol(basis: Array, m: int, /, *, tol: float = 0.05, iterations: int = 1000) -> ColumnSubset:
    r"""m ≥ r rows: those of :func:`maxvol`, then greedily the row that most raises the volume of the set.

    The volume is :math:`\sqrt{\det U_I^TU_I}`, and the row that raises it most is the longest of
    :math:`C = UU_I^+`.

    Parameters
    ----------
    basis, tol, iterations
        As in :func:`maxvol`.
    m : int
        Rows, r <= m <= n.

    Returns
    -------
    ColumnSubset
        m indices, the first r as of :func:`maxvol`; no kernel entries.

    Raises
    ------
    DTypeError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: that of :func:`maxvol`, and nr for each row beyond r.  For a dominant set the rows of
    C that were not picked have length at most :math:`\sqrt{r/(m + 1 - r)}` (theirs, Theorem 2; recalled), which the
    greedy set comes near.  Source: Mikhalev and Oseledets 2018,
    Algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import landmarks
    >>> basis = np.linalg.qr(np.random.default_rng(0).standard_normal((30, 3)))[0]
    >>> few, more = landmarks.maxvol(basis).indices, landmarks.rectangular_maxvol(basis, 6).indices
    >>> norms = [np.linalg.norm(np.linalg.pinv(basis[rows]), 2) for rows in (few, more)]
    >>> bool(norms[1] < norms[0]), set(few.tolist()) <= set(more.tolist())
    (True, True)
    """
    xp, rows, c = _dominant(basis, tol, iterations)
    m = require_count("m", m, basis.shape[1], basis.shape[0], of="the number of rows")
    squares = xp.sum(c * c, axis=1)
    order = xp.arange(basis.shape[0], dtype=xp.int64, device=device_of(basis))
    free = xp.ones((basis.shape[0],), dtype=xp.bool, device=device_of(basis))
    for i in rows:
        free = free & (order != i)
    while len(rows) < m:
        i = int(xp.argmax(xp.where(free, squares, xp.full_like(squares, -1.0))))
        # CCᵀ = U(U_IᵀU_I)⁻¹Uᵀ loses the rank one of Sherman and Morrison, and C a square root of it
        row = c[i, :]
        length = float(xp.sum(row * row))
        along = c @ row
        squares = squares - along * along / (1 + length)
        shrink = 1 / (1 + length + sqrt(1 + length))  # (1 − 1/√(1 + l))/l, without cancellation
        c = c - (shrink * along)[:, None] * row[None, :]
        rows.append(i)
        free = free & (order != i)
    return ColumnSubset(from_numpy(xp, np.asarray(rows, dtype=np.int64), basis), None, entries=0, seed=None)
