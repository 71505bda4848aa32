r"""Landmarks far from each other in the metric of a kernel.

.. math:: \|\phi(x) - \phi(z)\|^2 = k(x, x) + k(z, z) - 2k(x, z).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nystrom_numerics.arguments import require_count
from nystrom_numerics.backend import Array, from_numpy, generator, namespace, require_finite, to_numpy
from nystrom_numerics.errors import IndefiniteError
from nystrom_numerics.kernels import Kernel
from nystrom_numerics.kernels.arguments import require_kernel
from nystrom_numerics.landmarks.draws import draw, require_landmarks
from nystrom_numerics.landmarks.result import ColumnSubset

__all__ = ["farthest_point", "kernel_kmeanspp"]


def farthest_point(kernel: Kernel, m: int, /, *, start: int = 0) -> ColumnSubset:
    r"""Each next landmark is the point farthest from those before, in the metric of the kernel.

    Parameters
    ----------
    kernel : Kernel
        Symmetric PSD, of n points.
    m : int
        Landmarks, 1 <= m <= n.
    start : int
        The first one.

    Returns
    -------
    ColumnSubset
        Indices in the order picked, none at distance zero (as coded: :math:`16u\max_i k_{ii}`) from another.

    Raises
    ------
    NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: (m+1)n kernel entries, nm additions; one synchronisation at the end.  The cover radius
    :math:`h = \max_i\min_s\|\phi(x_i) - \phi(z_s)\|` is at most twice the best possible with m centres
    (Gonzalez 1985), and :math:`\max_i R_{ii} \le h^2`.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import kernels, landmarks
    >>> x = np.array([[0.0], [0.1], [3.0], [1.0]])
    >>> landmarks.farthest_point(kernels.gaussian(x, gamma=1.0), 3).indices
    array([0, 2, 3])
    """
    require_kernel(kernel)
    start = require_count("start", start, 0, kernel.shape[0] - 1, of="the last point")

    def pick(distance: Array, step: int) -> Array:
        xp = namespace(distance=distance)
        if step == 0:
            return from_numpy(xp, np.asarray([start], dtype=np.int64), distance)
        return xp.reshape(xp.argmax(distance), (1,))

    return _spread(kernel, m, pick, None)


def kernel_kmeanspp(kernel: Kernel, m: int, /, *, rng: np.random.Generator | int = 0) -> ColumnSubset:
    r"""k-means++ seeding in the metric of the kernel: drawn by the squared distance to the nearest so far.

    random.Generator or an int.

    Parameters
    ----------
    kernel, m
        As in :func:`farthest_point`.
    rng : numpy.random.Generator or int
        The first landmark is drawn uniformly.

    Returns
    -------
    ColumnSubset
        Indices in the order drawn, none at distance zero from another.

    Raises
    ------
    IndefiniteError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: (m+1)n kernel entries, nm additions.  The sum of squared distances to the nearest landmark bounds
    the trace of the residual, and its expectation is within 8(ln m + 2) of the best possible with m centres
    (Arthur and Vassilvitskii 2007; with landmarks for Nyström, Oglic and Gärtner 2017).

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import kernels, landmarks
    >>> kernel = kernels.gaussian(np.array([[0.0], [0.0], [9.0], [9.0]]), gamma=1.0)
    >>> sorted((landmarks.kernel_kmeanspp(kernel, 3, rng=0).indices // 2).tolist())  # equal points once
    [0, 1]
    """
    require_kernel(kernel)
    source, seed = generator(rng)
    uniforms = source.random(require_landmarks(m, kernel.shape[0]))

    def pick(distance: Array, step: int) -> Array:
        xp = namespace(distance=distance)
        weights = xp.ones_like(distance) if step == 0 else distance
        return draw(weights, uniforms[step : step + 1])

    return _spread(kernel, m, pick, seed)


def _spread(kernel: Kernel, m: int, pick: Callable[[Array, int], Array], seed: int | None) -> ColumnSubset:
    """Landmarks picked by their squared distance to the nearest before; zero distances end it."""
    m = require_landmarks(m, kernel.shape[0])
    xp: Any = namespace(kernel=kernel.like)
    before = kernel.entries
    diagonal = kernel.diagonal()
    require_finite(xp, kernel=diagonal)
    _require_positive(diagonal, "diagonal entry")
    floor = 8 * float(xp.finfo(kernel.dtype).eps) * xp.max(diagonal)
    distance = xp.full_like(diagonal, xp.inf)
    picked, apart, lowest = [], [], xp.zeros_like(diagonal)
    for step in range(m):
        chosen = pick(distance, step)
        picked.append(chosen)
        apart.append(xp.take(distance, chosen) > 0)
        moved = diagonal + xp.take(diagonal, chosen) - 2 * kernel.columns(chosen)[:, 0]
        moved = xp.where(xp.isfinite(moved), moved, xp.full_like(moved, xp.nan))  # which every minimum keeps
        lowest = xp.minimum(lowest, moved)
        distance = xp.minimum(distance, xp.where(moved <= floor, xp.zeros_like(moved), moved))
    require_finite(xp, kernel=distance)
    _require_positive(xp.where(lowest < -64 * floor, lowest, xp.zeros_like(lowest)), "squared distance")
    count = int(np.logical_and.accumulate(to_numpy(xp.concat(apart))).sum())
    if float(xp.max(diagonal)) == 0:
        count = 0  # all points are zero in feature space
    return ColumnSubset(xp.concat(picked)[:count], None, kernel.entries - before, seed)


def _require_positive(numbers: Array, what: str) -> None:
    """Refuse what no PSD matrix has, naming the lowest."""
    xp = namespace(numbers=numbers)
    least = int(xp.argmin(numbers))
    size = float(numbers[least])
    if size < 0:
        raise IndefiniteError("kernel", f"not PSD, with {what} {size:.3g} at {least}", least, size)
