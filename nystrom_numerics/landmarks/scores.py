"""Landmarks drawn by scores of a PSD matrix: length-squared and leverage."""

from __future__ import annotations

import numpy as np

from nystrom_numerics.arguments import require_count
from nystrom_numerics.backend import (
    generator,
    namespace,
    to_numpy,
)
from nystrom_numerics.kernels import Kernel
from nystrom_numerics.landmarks.bases import Basis, exact_basis, of_basis
from nystrom_numerics.landmarks.draws import without_replacement
from nystrom_numerics.landmarks.entries import checked_diagonal, require_psd_landmarks, subset_of
from nystrom_numerics.landmarks.result import ColumnSubset

__all__ = ["length_squared", "leverage"]


def length_squared(kernel: Kernel, m: int, /, *, rng: np.random.Generator | int = 0) -> ColumnSubset:
    r"""m columns drawn without replacement by :math:`k_{ii}^2`; uniform where the diagonal is constant.

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
        Ascending; fewer than m where fewer diagonal entries are positive.

    Raises
    ------
    IndefiniteError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: n kernel entries.  With replacement and rescaling, :math:`m \ge 64k/\varepsilon^4` gives
    :math:`E\|R\|_F \le \|A - A_k\|_F + \varepsilon\sum_i k_{ii}^2` (Drineas and Mahoney 2005, Theorem 3;
    recalled, not re-derived here).  Departure: distinct columns, not rescaled.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import kernels, landmarks
    >>> landmarks.length_squared(kernels.precomputed(np.diag([0.0, 1.0, 0.0, 3.0])), 3, rng=0).indices
    array([1, 3])
    """
    m = require_psd_landmarks(kernel, m)
    (source, seed), before = generator(rng), kernel.entries
    diagonal = checked_diagonal(kernel)
    chosen = without_replacement((diagonal / max(diagonal.max(), 1e-300)) ** 2, m, source)
    return subset_of(kernel, chosen, before, seed)


def leverage(
    kernel: Kernel,
    m: int,
    /,
    *,
    rank: int | None = None,
    basis: Basis | None = None,
    rng: np.random.Generator | int = 0,
) -> ColumnSubset:
    r"""m columns drawn without replacement by the leverage scores :math:`\|e_i^TU_k\|^2`.

    Parameters
    ----------
    kernel, m
        As in :func:`length_squared`.
    rank : int, optional
        k, from 1 to n; by default m.
    basis : callable, optional
        :func:`exact_basis` by default, or :func:`sketched_basis`.
    rng : numpy.random.Generator or int
        Handed to ``basis`` first.

    Returns
    -------
    ColumnSubset
        Ascending; fewer than m where fewer scores are positive.

    Raises
    ------
    DTypeError, IndefiniteError, KindError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: that of the basis.  :math:`m \ge 3200\varepsilon^{-1}k\ln(4k/\delta)` bounds the trace error by
    :math:`(1 + \varepsilon^2)\,\mathrm{tr}(A - A_k)` with probability 1 − δ (Gittens and Mahoney 2016, Lemma
    3; recalled).  Departure: distinct columns.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import kernels, landmarks
    >>> kernel = kernels.precomputed(np.diag([5.0, 1e-9, 4.0, 1e-9]))
    >>> landmarks.leverage(kernel, 2, rng=0).indices
    array([0, 2])
    """
    m = require_psd_landmarks(kernel, m)
    (source, seed), before = generator(rng), kernel.entries
    rank = m if rank is None else require_count("rank", rank, 1, kernel.shape[0], of="the number of points")
    u = of_basis(exact_basis if basis is None else basis, kernel, rank, source)
    xp = namespace(u=u)
    scores = to_numpy(xp.sum(u * u, axis=1)).astype(np.float64)
    return subset_of(kernel, without_replacement(scores, m, source), before, seed)
