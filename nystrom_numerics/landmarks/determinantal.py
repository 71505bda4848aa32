"""Landmarks drawn by volume: k-DPPs of a PSD matrix, and adaptive randomised pivoting on a basis."""

from __future__ import annotations

from typing import Any

import numpy as np

from nystrom_numerics.backend import (
    Array,
    floating,
    from_numpy,
    generator,
    namespace,
    require_matrix,
    to_numpy,
)
from nystrom_numerics.errors import ShapeError
from nystrom_numerics.kernels import Kernel, polynomial
from nystrom_numerics.kernels.arguments import require_kernel
from nystrom_numerics.landmarks.bases import whole_spectrum
from nystrom_numerics.landmarks.draws import require_landmarks
from nystrom_numerics.landmarks.pivoting import accelerated_rpcholesky
from nystrom_numerics.landmarks.result import ColumnSubset

__all__ = ["adaptive_randomized_pivoting", "kdpp"]


def kdpp(kernel: Kernel, m: int, /, *, rng: np.random.Generator | int = 0) -> ColumnSubset:
    r"""An exact draw from the m-DPP: a set S of size m with probability :math:`\det A_{SS}/e_m(\lambda)`.

    First m eigenvectors are drawn, by the elementary symmetric polynomials of the eigenvalues, then a set
    from the projection onto them.

    Parameters
    ----------
    kernel : Kernel
        Symmetric PSD, of n points.
    m : int
        Landmarks, 1 <= m <= n.
    rng : numpy.random.Generator or int

    Returns
    -------
    ColumnSubset
        Ascending; as many as the numerical rank where that is below m.

    Raises
    ------
    IndefiniteError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: (r+1)n kernel entries and nr² multiplications for numerical rank r, memory nr: with r near n as
    much as the matrix, which exactness asks for.
    :math:`E\,\mathrm{tr} R = (m+1)e_{m+1}(\lambda)/e_m(\lambda)` exactly (Guruswami and Sinop 2012), at most
    (m+1) times the best.  Source: Kulesza and Taskar 2012, Algorithm 8; departures: eigenvectors come as
    in :func:`exact_basis`, and the polynomials are kept in logarithms.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import kernels, landmarks
    >>> kernel = kernels.gaussian(np.array([[0.0], [0.0], [9.0], [9.0]]), gamma=1.0)
    >>> landmarks.kdpp(kernel, 2, rng=0).indices // 2  # equal points are never drawn together
    array([0, 1])
    """
    require_kernel(kernel)
    source, seed = generator(rng)
    m, before = require_landmarks(m, kernel.shape[0]), kernel.entries
    spectrum, xp = whole_spectrum(kernel), namespace(kernel=kernel.like)
    logs = np.log(to_numpy(spectrum.values).astype(np.float64))
    chosen = from_numpy(xp, _draw_eigenvectors(logs, min(m, len(logs)), source), kernel.like)
    if not len(logs):
        return ColumnSubset(chosen, None, kernel.entries - before, seed)
    found = adaptive_randomized_pivoting(spectrum.vectors(chosen), rng=source)
    return ColumnSubset(xp.sort(found.indices), None, kernel.entries - before, seed)


def _draw_eigenvectors(logs: Any, m: int, source: np.random.Generator) -> Any:
    """m of the eigenvalues, given by their logarithms: a set J with probability ∏_J λ / e_m(λ)."""
    r = len(logs)
    table = np.full((r + 1, m + 1), -np.inf)  # log e_j of the first i eigenvalues
    table[:, 0] = 0.0
    for i in range(1, r + 1):
        table[i, 1:] = np.logaddexp(table[i - 1, 1:], logs[i - 1] + table[i - 1, :-1])
    uniforms = source.random(r)
    chosen, wanted = [], m
    for i in range(r, 0, -1):
        if wanted == 0:
            break
        if np.log(uniforms[i - 1]) < logs[i - 1] + table[i - 1, wanted - 1] - table[i, wanted]:
            chosen.append(i - 1)
            wanted -= 1
    return np.asarray(chosen[::-1], dtype=np.int64)


def adaptive_randomized_pivoting(basis: Array, /, *, rng: np.random.Generator | int = 0) -> ColumnSubset:
    r"""As many indices as the basis has columns, drawn in turn by the squared rows of what is left of it.

    With V (n × r) orthonormal, index i is drawn with probability :math:`\|e_i^TV\|^2/r`; then the
    component along that row is projected out, and so on: a draw from the projection DPP of :math:`VV^T`.

    Parameters
    ----------
    basis : array (n, r)
        Orthonormal columns, n >= r.
    rng : numpy.random.Generator or int

    Returns
    -------
    ColumnSubset
        Indices in the order drawn; no kernel entries.

    Raises
    ------
    DTypeError, NamespaceError, NonFiniteError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: nr² multiplications.  For A (l × n) and the columns J picked,
    :math:`E\|A - \Pi_JA\|_F^2 \le (r+1)\|A - AVV^T\|_F^2` (Cortinovis and Kressner 2024, arXiv 2412.13992,
    Theorem 2.1).  Departure: since the residual of :math:`VV^T` after those projections is its Schur
    complement, the draws are those of randomly pivoted Cholesky on it, done in blocks by rejection with the
    same law, in float64.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import landmarks
    >>> sorted(landmarks.adaptive_randomized_pivoting(np.eye(4)[:, [1, 3]]).indices.tolist())
    [1, 3]
    """
    xp = require_basis(basis)
    source, seed = generator(rng)
    projection = polynomial(xp.astype(basis, xp.float64), degree=1, coef0=0.0, check_finite=True)
    found = accelerated_rpcholesky(projection, basis.shape[1], rng=source)
    return ColumnSubset(found.indices, None, entries=0, seed=seed)


def require_basis(basis: Array) -> Any:
    """A tall matrix of real floating numbers; the namespace of it."""
    xp = namespace(basis=basis)
    floating(xp, basis=basis)
    require_matrix("basis", basis)
    if basis.ndim != 2 or basis.shape[0] < basis.shape[1]:
        raise ShapeError("basis", f"of shape {tuple(basis.shape)}", "shape (n, r) with n >= r; no batch")
    return xp
