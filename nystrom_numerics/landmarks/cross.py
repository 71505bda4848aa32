"""Rows and columns of a rectangular matrix picked together: adaptive cross approximation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nystrom_numerics.arguments import require_count, require_tolerance
from nystrom_numerics.backend import (
    Array,
    device_of,
    floating,
    from_numpy,
    generator,
    namespace,
    unit_roundoff,
)
from nystrom_numerics.brief import brief
from nystrom_numerics.errors import NonFiniteError, ShapeError
from nystrom_numerics.kernels import Kernel
from nystrom_numerics.kernels.arguments import require_kernel
from nystrom_numerics.landmarks.result import require_positions

__all__ = ["CrossSubset", "adaptive_cross"]

_PROBES = 8


@dataclass(frozen=True)
class CrossSubset:
    """Rows and columns of one matrix.

    Attributes
    ----------
    rows, columns : array (k,) of int64
        Positions, pairwise in the order picked.
    left, right : array (n, k), (k, p)
        Factors with the approximation ``left @ right``, which equals the matrix at those rows and columns.
    entries : int
        Kernel entries evaluated to find them.
    seed : int or None
        As in :class:`~nystrom_numerics.landmarks.LandmarkPoints`.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import kernels, landmarks
    >>> a = np.outer([1.0, 2.0], [4.0, 5.0, 6.0])
    >>> found = landmarks.adaptive_cross(kernels.precomputed(a), 1)
    >>> found.left.shape, found.right.shape, found.entries
    ((2, 1), (1, 3), 5)
    """

    rows: Array
    columns: Array
    left: Array
    right: Array
    entries: int
    seed: int | None

    __repr__ = brief

    def __post_init__(self) -> None:
        xp = require_positions(rows=self.rows, columns=self.columns)
        namespace(rows=self.rows, left=self.left, right=self.right)
        floating(xp, left=self.left, right=self.right)
        k = tuple(self.rows.shape)
        if len(k) != 1 or tuple(self.columns.shape) != k:
            raise ShapeError(
                "columns", f"of shape {tuple(self.columns.shape)}", f"that of `rows`, {k}, one axis"
            )
        if self.left.ndim != 2 or self.left.shape[1:] != k or not self.left.shape[0]:
            raise ShapeError("left", f"of shape {tuple(self.left.shape)}", f"shape (n, {k[0]})")
        if self.right.ndim != 2 or self.right.shape[:1] != k or not self.right.shape[1]:
            raise ShapeError("right", f"of shape {tuple(self.right.shape)}", f"shape ({k[0]}, p)")
        require_count("entries", self.entries, 0)
        if self.seed is not None:
            require_count("seed", self.seed, 0)


def adaptive_cross(
    kernel: Kernel, m: int, /, *, rtol: float | None = None, rng: np.random.Generator | int = 0
) -> CrossSubset:
    r"""Adaptive cross approximation with partial pivoting, of any matrix of entries.

    From the residual row i the largest entry gives the column j, the cross
    :math:`R_{:j}R_{i:}/R_{ij}` is subtracted, and the largest entry of the residual column gives the next
    row.

    Parameters
    ----------
    kernel : Kernel
        Of shape (n, p), symmetric or not.
    m : int
        Crosses, 1 <= m <= min(n, p).
    rtol : float, optional
        Residual entries of at most this times the largest entry met count as zero; by default
        :math:`16u\sqrt m`.  After eight rows of zeros in a row the matrix counts as exhausted.
    rng : numpy.random.Generator or int
        Of the first row, and of the next one after a row of zeros.

    Returns
    -------
    CrossSubset

    Raises
    ------
    NonFiniteError, RangeError
        Naming the argument.

    Notes
    -----
    Cost: (n + p)m kernel entries, (n + p)m² multiplications, two synchronisations with the device a cross.
    The error is at most :math:`4^m\sigma_{m+1}`-like with full pivoting, and can be arbitrary with partial
    pivoting: a block that no row met touches is never seen.  Source: Bebendorf 2000; Bebendorf and
    Rjasanow 2003.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import kernels, landmarks
    >>> a = np.outer([1.0, 2.0, 3.0], [4.0, 5.0])
    >>> found = landmarks.adaptive_cross(kernels.precomputed(a), 2)
    >>> found.rows.shape, bool(np.allclose(found.left @ found.right, a))
    ((1,), True)
    """
    require_kernel(kernel, symmetric=False)
    source, seed = generator(rng)
    n, p = kernel.shape
    m = require_count("m", m, 1, min(n, p), of="the shorter side")
    xp, like = namespace(kernel=kernel.like), kernel.like
    level = 16 * unit_roundoff(xp, kernel.dtype) * m**0.5 if rtol is None else require_tolerance("rtol", rtol)
    before = kernel.entries
    left = xp.zeros((n, m), dtype=kernel.dtype, device=device_of(like))
    right = xp.zeros((m, p), dtype=kernel.dtype, device=device_of(like))
    open_rows = np.ones(n, dtype=bool)
    rows: list[int] = []
    columns: list[int] = []
    i, top, zeros = int(source.integers(n)), 0.0, 0
    while len(rows) < m and zeros < _PROBES and open_rows.any():
        k = len(rows)
        if not open_rows[i]:
            i = int(source.choice(np.flatnonzero(open_rows)))
        open_rows[i] = False
        entries = kernel.rows([i])[0, :]
        row = entries - left[i, :k] @ right[:k, :]
        j = int(xp.argmax(xp.abs(row)))
        pivot, met = float(row[j]), float(xp.max(xp.abs(entries)))
        if not np.isfinite([pivot, met]).all():
            raise NonFiniteError("kernel", f"not finite in row {i}", "finite entries")
        top = max(top, met)
        if abs(pivot) <= level * top:
            zeros += 1
            i = int(source.integers(n))
            continue
        zeros = 0
        entries = kernel.columns([j])[:, 0]
        column = entries - left[:, :k] @ right[:k, j]
        left[:, k] = column / pivot
        right[k, :] = row
        rows.append(i)
        columns.append(j)
        top = max(top, float(xp.max(xp.abs(entries))))
        if not np.isfinite(top):
            raise NonFiniteError("kernel", f"not finite in column {j}", "finite entries")
        candidates = xp.where(from_numpy(xp, open_rows, like), xp.abs(column), -xp.ones_like(column))
        i = int(xp.argmax(candidates))
    k = len(rows)
    picked = [from_numpy(xp, np.asarray(found, dtype=np.int64), like) for found in (rows, columns)]
    return CrossSubset(picked[0], picked[1], left[:, :k], right[:k, :], kernel.entries - before, seed)
