r"""Pivoted Cholesky factorisation: columns of a PSD matrix picked by the diagonal of its residual.

After k pivots :math:`A \approx FF^T` with F (n × k), and the diagonal d of the residual
:math:`A - FF^T` costs nothing to keep.  The greedy rule picks the largest of d, the random ones draw from
d.  Memory is F, d and one strip; the matrix is known by a :class:`~nystrom_numerics.kernels.Kernel`.

A residual of at most ``rtol`` times the largest diagonal entry counts as zero.  The default,
:math:`16u\sqrt m` with u the unit roundoff, or the noise of the kernel if that is more, is what rounding
leaves of a zero.  When all are zero the
matrix is exhausted and the pivots found are returned: their number is its numerical rank.
"""

from __future__ import annotations

import numpy as np

from nystrom_numerics.backend import (
    Array,
    generator,
    namespace,
)
from nystrom_numerics.kernels import Kernel
from nystrom_numerics.kernels.arguments import require_kernel
from nystrom_numerics.landmarks.draws import draw, require_landmarks
from nystrom_numerics.landmarks.result import ColumnSubset
from nystrom_numerics.landmarks.rounds import by_blocks, one_by_one

__all__ = ["accelerated_rpcholesky", "block_rpcholesky", "complete_factor", "pivoted_cholesky", "rpcholesky"]


def pivoted_cholesky(
    kernel: Kernel, m: int, /, *, rtol: float | None = None, check_every: int = 1
) -> ColumnSubset:
    r"""Greedy (diagonally pivoted) Cholesky: the pivot is the largest residual, the first of equals.

    Parameters
    ----------
    kernel : Kernel
        Symmetric PSD, of n points.
    m : int
        Pivots, 1 <= m <= n.
    rtol : float, optional
        Residuals of at most this times the largest diagonal entry count as zero; see the module.
    check_every : int
        Steps between checks for exhaustion and for an indefinite matrix.  Each synchronises with the device;
        columns evaluated after exhaustion and before the next check are counted and dropped.

    Returns
    -------
    ColumnSubset
        Indices in the order picked, with the factor and the residual diagonal.

    Raises
    ------
    IndefiniteError
        The matrix is seen not to be symmetric or PSD; it says where and by how much.
    NonFiniteError
        NaN or infinity in the entries met.
    RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: (m+1)n kernel entries, nm² multiplications.  The trace of the residual, and so a bound of each
    unitarily invariant norm of it, is known exactly.  A priori only
    :math:`\max_i R_{ii} \le 4^m\lambda_{m+1}`-type bounds hold (Harbrecht, Peters and Schneider 2012).
    Source: Fine and Scheinberg 2001; Harbrecht et al. 2012, Algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import kernels, landmarks
    >>> a = np.array([[4.0, 2.0, 0.0], [2.0, 5.0, 0.0], [0.0, 0.0, 1.0]])
    >>> found = landmarks.pivoted_cholesky(kernels.precomputed(a), 2)
    >>> found.indices, found.residual, found.entries
    (array([1, 0]), array([0., 0., 1.]), 9)
    """

    def largest(residual: Array, _step: int) -> Array:
        xp = namespace(residual=residual)
        return xp.reshape(xp.argmax(residual), (1,))

    return one_by_one(kernel, m, largest, rtol, check_every, None)


def complete_factor(kernel: Kernel) -> Array:
    """F with A = FFᵀ up to rounding, of as many columns as the numerical rank; memory n times that.

    For the few rules that are exact only with the whole spectrum at hand.  The pivots are drawn in blocks,
    which has no bearing on FFᵀ and makes the work matrix products.
    """
    n = kernel.shape[0]
    return by_blocks(kernel, n, max(32, n // 16), 0, None, hurdle=0.1, capacity=64).factor


def rpcholesky(
    kernel: Kernel,
    m: int,
    /,
    *,
    rng: np.random.Generator | int = 0,
    rtol: float | None = None,
    check_every: int = 1,
) -> ColumnSubset:
    r"""Randomly pivoted Cholesky, one pivot at a time: drawn with probability :math:`d_i/\sum_j d_j`.

    Parameters
    ----------
    kernel, m, rtol, check_every
        As in :func:`pivoted_cholesky`.
    rng : numpy.random.Generator or int
        Of m uniform draws, one a pivot.

    Returns
    -------
    ColumnSubset
        As from :func:`pivoted_cholesky`.

    Raises
    ------
    IndefiniteError, NonFiniteError, RangeError, ShapeError
        As :func:`pivoted_cholesky`.

    Notes
    -----
    Cost: (m+1)n kernel entries, nm² multiplications, by products with vectors;
    :func:`accelerated_rpcholesky` has the same law and is several times faster.

    Guarantee: :math:`E\,\mathrm{tr} R \le (1+\varepsilon)\,\mathrm{tr}(A - A_r)` if
    :math:`m \ge r/\varepsilon + r\ln(1/(\varepsilon\eta))`, :math:`\eta = \mathrm{tr}(A - A_r)/\mathrm{tr}A`
    (Chen, Epperly, Tropp and Webber 2024, Theorem 3.1).  One step leaves
    :math:`E\,A^{(1)} = A - A^2/\mathrm{tr}A`.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import kernels, landmarks
    >>> kernel = kernels.precomputed(np.diag([0.0, 2.0, 0.0, 1.0]))
    >>> found = landmarks.rpcholesky(kernel, 3, rng=0)  # the rank is 2
    >>> sorted(found.indices.tolist()), float(found.residual.sum())
    ([1, 3], 0.0)
    """
    require_kernel(kernel)
    source, seed = generator(rng)
    uniforms = source.random(require_landmarks(m, kernel.shape[0]))

    def random(residual: Array, step: int) -> Array:
        return draw(residual, uniforms[step : step + 1])

    return one_by_one(kernel, m, random, rtol, check_every, seed)


def block_rpcholesky(
    kernel: Kernel,
    m: int,
    /,
    *,
    block: int | None = None,
    rng: np.random.Generator | int = 0,
    rtol: float | None = None,
) -> ColumnSubset:
    r"""Randomly pivoted Cholesky in blocks: all distinct pivots of a block of independent draws are kept.

    Faster than :func:`accelerated_rpcholesky` by little, and worse where a block outnumbers the columns
    that matter, as next to outliers: draws of one block do not know of each other.

    Parameters
    ----------
    kernel, m, block, rtol
        As in :func:`accelerated_rpcholesky`.
    rng : numpy.random.Generator or int
        Each round takes b uniform draws.

    Returns
    -------
    ColumnSubset
        As from :func:`pivoted_cholesky`.

    Raises
    ------
    IndefiniteError, NonFiniteError, RangeError, ShapeError
        As :func:`pivoted_cholesky`.

    Notes
    -----
    Cost: as :func:`accelerated_rpcholesky`, with nearly all proposals kept.  A block is cut to the pivots
    still wanted in the order of the draws, so that no index is favoured.  Source: Chen et al. 2024,
    Algorithm 2; departure: in place of a shifted core, draws are dropped that repeat others or whose residual
    after the others of the block is below 1 % of what they were drawn by.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import kernels, landmarks
    >>> kernel = kernels.gaussian(np.random.default_rng(0).standard_normal((300, 2)), gamma=0.1)
    >>> found = landmarks.block_rpcholesky(kernel, 30, rng=0)
    >>> found.factor.shape, bool(found.residual.sum() < 1e-3 * 300)
    ((300, 30), True)
    """
    return by_blocks(kernel, m, block, rng, rtol, hurdle=0.01)


def accelerated_rpcholesky(
    kernel: Kernel,
    m: int,
    /,
    *,
    block: int | None = None,
    rng: np.random.Generator | int = 0,
    rtol: float | None = None,
) -> ColumnSubset:
    r"""Randomly pivoted Cholesky by rejection in blocks: the law of :func:`rpcholesky`, by matrix products.

    A round draws a block of proposals from the residual diagonal d at its start and takes them in turn.
    Proposal s is accepted with probability :math:`d'_s/d_s`, where d′ is the residual after the pivots
    accepted so far; only accepted columns are evaluated, all at once.

    Parameters
    ----------
    kernel, m, rtol
        As in :func:`pivoted_cholesky`.
    block : int, optional
        Proposals a round; by default so many that a round's :math:`b^2` entries among proposals are at most
        nm/100, at least 8 and at most m.
    rng : numpy.random.Generator or int
        Each round takes 2b uniform draws: b for the proposals, then b for their acceptance.

    Returns
    -------
    ColumnSubset
        As from :func:`pivoted_cholesky`; ``entries`` is (m+1)n and the b² of each round.

    Raises
    ------
    IndefiniteError, NonFiniteError, RangeError, ShapeError
        As :func:`pivoted_cholesky`.

    Notes
    -----
    Cost: (m+1)n kernel entries and b² a round, nm² multiplications, by matrix products over strips of
    rows; one synchronisation with the device a round, with the b × b core handled on the host.  Guarantee
    as :func:`rpcholesky`.  Source: Epperly, Tropp and Webber 2024, arXiv 2410.03969, Algorithm 2.1.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import kernels, landmarks
    >>> kernel = kernels.gaussian(np.random.default_rng(0).standard_normal((300, 2)), gamma=0.1)
    >>> found = landmarks.accelerated_rpcholesky(kernel, 30, rng=0)
    >>> found.factor.shape, bool(found.residual.sum() < 1e-3 * 300), kernel.entries < 40 * 300
    ((300, 30), True, True)
    """
    return by_blocks(kernel, m, block, rng, rtol, hurdle=None)
