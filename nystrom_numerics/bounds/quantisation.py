"""Bounds from how near the landmarks are to the points; landmarks that are means included."""

from __future__ import annotations

from math import e, inf, sqrt

import numpy as np

from nystrom_numerics.arguments import require_positive
from nystrom_numerics.backend import Array, floating, namespace, require_matrix, to_numpy
from nystrom_numerics.bounds.result import Bound, Hypothesis, Norm, Side, bound
from nystrom_numerics.bounds.spectrum import on_host
from nystrom_numerics.errors import NamespaceError, ShapeError
from nystrom_numerics.kernels import Kernel
from nystrom_numerics.kernels.arguments import require_kernel
from nystrom_numerics.linalg import transpose

__all__ = ["gaussian_quantisation", "kernel_quantisation", "zhang_tsang_kwok"]


def kernel_quantisation(kernel: Kernel, points: Array, /) -> Bound:
    r"""Quantisation in feature space: :math:`\mathrm{tr}R \le \sum_i\min_s\|\varphi(x_i) - \varphi(z_s)\|^2`.

    Parameters
    ----------
    kernel : Kernel
        Symmetric PSD, of n points that it knows.
    points : array (m, d)
        Landmarks of any kind.

    Returns
    -------
    Bound
        Of the trace norm.

    Raises
    ------
    DTypeError, DeviceError, KindError, NamespaceError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: nm + 9m + n kernel entries, by strips; no inverse is needed.  Derived: the projection onto the span of
    all :math:`\varphi(z_s)` leaves no more than the nearest one.  Trivial: tr A.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds, kernels
    >>> kernel = kernels.gaussian(np.array([[0.0], [0.1], [5.0]]), gamma=1.0)
    >>> round(bounds.kernel_quantisation(kernel, np.array([[0.0], [5.0]])).value, 4)
    0.0199
    """
    require_kernel(kernel)
    if kernel.points is None:
        raise NamespaceError("kernel", "given by its matrix", "points, to compare landmarks with")
    xp = namespace(kernel=kernel.like, points=points)
    _require_points("points", points, kernel.points.shape[1])
    m = points.shape[0]
    parts = [points[s : min(s + 8, m), :] for s in range(0, m, 8)]
    of_landmarks = xp.concat([xp.linalg.diagonal(kernel.between(part, part)) for part in parts])
    diagonal = kernel.diagonal()
    total = 0.0
    for strip in kernel.strips(m):
        near = of_landmarks[None, :] - 2 * kernel.cross(points, rows=strip)
        least = xp.clip(xp.min(near, axis=1) + diagonal[strip], min=0.0)
        total += float(xp.sum(least, dtype=xp.float64))
    trace = float(xp.sum(diagonal, dtype=xp.float64))
    return bound(total, Side.UPPER, Norm.TRACE, "quantisation in feature space; derived here", trivial=trace)


def _require_points(name: str, x: Array, width: int | None) -> None:
    floating(namespace(**{name: x}), **{name: x})
    require_matrix(name, x)
    if x.ndim != 2 or width not in (None, x.shape[1]):
        raise ShapeError(name, f"of shape {tuple(x.shape)}", f"shape (m, {'d' if width is None else width})")


def _nearest(x: Array, z: Array) -> tuple[float, int]:
    """The sum of squared distances to the nearest of z, and how many points the most popular one has."""
    xp = namespace(x=x, z=z)
    _require_points("x", x, None)
    _require_points("z", z, x.shape[1])
    wide, marks = (xp.astype(p, xp.float64) for p in (x, z))
    total, popular = 0.0, np.zeros(z.shape[0], dtype=np.int64)
    squares = xp.sum(marks * marks, axis=1)
    for start in range(0, x.shape[0], 1024):
        part = wide[start : min(start + 1024, x.shape[0]), :]
        nearest = xp.argmin(squares[None, :] - 2 * part @ transpose(marks), axis=1)
        moved = part - xp.take(marks, nearest, axis=0)
        total += float(xp.sum(moved * moved))
        popular += np.bincount(to_numpy(nearest), minlength=z.shape[0])
    return total, int(popular.max())


def gaussian_quantisation(x: Array, z: Array, /, *, gamma: float) -> Bound:
    r"""For the kernel :math:`\exp(-\gamma\|x - y\|^2)` and any landmarks, in the trace norm.

    .. math:: \mathrm{tr}R \le 2\gamma\sum_i\min_s\|x_i - z_s\|^2

    Parameters
    ----------
    x : array (n, d)
    z : array (m, d)
    gamma : float
        Above 0.

    Returns
    -------
    Bound
        Of the trace norm.

    Raises
    ------
    DTypeError, DeviceError, NamespaceError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: nmd multiplications, no kernel entry and no inverse.  Derived from :func:`kernel_quantisation` by
    :math:`2(1 - e^{-t}) \le 2t`.  Trivial: tr A = n.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds
    >>> x, z = np.array([[0.0], [0.1], [5.0]]), np.array([[0.0], [5.0]])
    >>> round(bounds.gaussian_quantisation(x, z, gamma=1.0).value, 4)
    0.02
    """
    gamma = require_positive("gamma", gamma)
    total, _ = _nearest(x, z)
    source = "quantisation of points; derived here"
    return bound(2 * gamma * total, Side.UPPER, Norm.TRACE, source, trivial=float(x.shape[0]))


def zhang_tsang_kwok(x: Array, z: Array, core: Array, /, *, gamma: float) -> Bound:
    r"""For the Gaussian kernel, in the Frobenius norm, by the inverse of the core.

    .. math:: \|R\|_F \le 2L\sqrt{nS} + 2L\sqrt{TmS} + L^2mS\|W^{-1}\|_2,\qquad L^2 = 2\gamma/e,

    with :math:`S = \sum_i\min_s\|x_i - z_s\|^2` and T the points of the largest cluster.

    Parameters
    ----------
    x : array (n, d)
    z : array (m, d)
    core : array (m, m)
        W, the kernel among the landmarks.
    gamma : float

    Returns
    -------
    Bound
        Without a value where the hypothesis fails.

    Raises
    ------
    DTypeError, DeviceError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: O(nmd) multiplications and one SVD m × m; no entry but the m² of ``core``.

    Hypothesis: W is regular.  Trivial: :math:`\|A\|_F \le n`.  After Zhang, Tsang and Kwok 2008, Proposition 2;
    the constants are derived here: L is the Lipschitz constant of the kernel in one argument, and
    :math:`K = PWP^T + G`, :math:`E = PW + D` with P the assignment gives
    :math:`R = G - PD^T - DP^T - DW^{-1}D^T`.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds, kernels
    >>> x, z = np.array([[0.0], [0.01], [5.0]]), np.array([[0.0], [5.0]])
    >>> core = kernels.gaussian(z, gamma=1.0).rows(slice(None))
    >>> round(bounds.zhang_tsang_kwok(x, z, core, gamma=1.0).value, 4)
    0.0642
    """
    gamma = require_positive("gamma", gamma)
    w = on_host("core", core)
    total, largest = _nearest(x, z)
    if w.shape != (z.shape[0], z.shape[0]):
        raise ShapeError("core", f"of shape {w.shape}", f"shape {(z.shape[0], z.shape[0])}, as `z` has rows")
    sigma = np.linalg.svd(w, compute_uv=False)
    least = float(sigma[-1])
    regular = Hypothesis(
        "W regular", least > 8 * len(w) * 2.0**-52 * float(sigma[0]), f"σ_min(W) = {least:.2e}"
    )
    n, m, lipschitz = x.shape[0], z.shape[0], sqrt(2 * gamma / e)
    value = inf
    if regular.holds:
        value = (
            2 * lipschitz * (sqrt(n * total) + sqrt(largest * m * total)) + lipschitz**2 * m * total / least
        )
    source = "after Zhang, Tsang and Kwok 2008, Proposition 2; constants derived here"
    return bound(value, Side.UPPER, Norm.FROBENIUS, source, trivial=float(n), holds_under=(regular,))
