"""The kernels: Gaussian, Laplacian, Matérn, polynomial, softmax, the user's own, and a matrix at hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import sqrt
from typing import Any

from nystrom_numerics.arguments import (
    require_callable,
    require_count,
    require_flag,
    require_nonnegative,
    require_number,
    require_positive,
    require_tolerance,
)
from nystrom_numerics.backend import (
    Array,
    compute_dtype,
    floating,
    namespace,
    require_finite,
    require_held,
    require_matrix,
    unit_roundoff,
)
from nystrom_numerics.errors import ShapeError
from nystrom_numerics.kernels.oracle import Kernel, MatrixKernel, PointFunction, PointKernel
from nystrom_numerics.linalg import transpose

__all__ = ["custom", "gaussian", "laplacian", "matern", "polynomial", "precomputed", "softmax"]


def _check_points(check_finite: bool, x: Array, y: Array | None, names: str = "xy") -> None:
    """Refuse what is not one or two sets of points of equal width."""
    require_flag("check_finite", check_finite)
    given = {names[0]: x} if y is None else {names[0]: x, names[1]: y}
    xp = namespace(**given)
    floating(xp, **given)
    for name, points in given.items():
        if points.ndim != 2:
            raise ShapeError(name, f"of shape {tuple(points.shape)}", "shape (n, d); a kernel has no batch")
        require_matrix(name, points)
        if points.shape[1] != x.shape[1]:
            raise ShapeError(name, f"of shape {tuple(points.shape)}", f"shape (p, {x.shape[1]})")
    if check_finite:
        require_finite(xp, **given)


def _of_points(function: PointFunction, x: Array, y: Array | None, noise: float = 0.0) -> Kernel:
    """The points prepared once; ``y`` None means the same points on both sides."""
    left = function.prepare(x)
    right = left if y is None else function.prepare(y)
    return PointKernel(function, x, left, right, symmetric=y is None, noise=noise)


def _wide(x: Array) -> Array:
    xp = namespace(x=x)
    return xp.astype(x, compute_dtype(xp, x.dtype), copy=False)


def _ones(prepared: tuple[Array, ...]) -> Array:
    """k(x, x) = 1, and NaN for a point that is not finite, as off the diagonal."""
    xp, one = namespace(x=prepared[0]), prepared[0][:, 0]
    whole = xp.all(xp.isfinite(prepared[0]), axis=1)
    return xp.where(whole, xp.ones_like(one), xp.full_like(one, xp.nan))


def _held(name: str, value: float, x: Array, *, divides: bool = False) -> None:
    xp = namespace(x=x)
    require_held(xp, name, value, compute_dtype(xp, x.dtype), divides=divides)


def gaussian(x: Array, y: Array | None = None, /, *, gamma: float, check_finite: bool = False) -> Kernel:
    r"""The Gaussian kernel :math:`k(x, y) = \exp(-\gamma\|x - y\|_2^2)`.

    Parameters
    ----------
    x : array (n, d)
        Real floating; 16-bit dtypes are computed in float32.
    y : array (p, d), optional
        Points of the columns; without them the kernel is symmetric, and PSD.
    gamma : float
        Above 0.  It and the parameters of other kernels must not overflow the dtype computed in.
    check_finite : bool
        Raise on NaN and infinity.

    Returns
    -------
    Kernel

    Raises
    ------
    DTypeError, DeviceError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    One product and one exponential an entry.  Distances come from
    :math:`\|x\|^2 + \|y\|^2 - 2x^Ty` about the mean of ``x``, so an entry errs by some
    :math:`u\gamma(\|x\|^2 + \|y\|^2)`; where :math:`\gamma\|x\|^2` exceeds 32 they come from
    differences, in d passes over the entries.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import kernels
    >>> kernel = kernels.gaussian(np.array([[0.0], [1.0], [2.0]]), gamma=1.0)
    >>> kernel.columns([0]).round(3)
    array([[1.   ],
           [0.368],
           [0.018]])
    >>> kernel.entries
    3
    """
    gamma = require_positive("gamma", gamma)
    _check_points(check_finite, x, y)
    _held("gamma", gamma, x)
    origin = _centre(x)

    def prepare(points: Array) -> tuple[Array, ...]:
        xp = namespace(points=points)
        moved = (_wide(points) - origin) * (2 * sqrt(gamma / 2))
        return moved, xp.sum(moved * moved, axis=-1) / 2

    def evaluate(a: tuple[Array, ...], b: tuple[Array, ...]) -> Array:
        xp = namespace(a=a[0])
        exponent = a[0] @ transpose(b[0])
        exponent -= a[1][:, None]
        exponent -= b[1][None, :]
        return xp.exp(xp.clip(exponent, max=0.0))

    def evaluate_far(a: tuple[Array, ...], b: tuple[Array, ...]) -> Array:
        return namespace(a=a[0]).exp(_accumulate(a[0], b[0], namespace(a=a[0]).square) / -2)

    xp, origin_to = namespace(x=x), prepare(x)[1]
    farthest = float(xp.max(origin_to))
    noise = 4 * unit_roundoff(xp, origin_to.dtype) * farthest
    if not farthest <= _FAR:
        evaluate, noise = evaluate_far, 0.0
    return _of_points(PointFunction(prepare, evaluate, _ones, f"gaussian(gamma={gamma:g})"), x, y, noise)


_FAR = 32.0
"""γ‖x‖² about the mean beyond which expanded squares lose too many digits of a Gaussian."""


def _centre(x: Array) -> Array:
    xp = namespace(x=x)
    mean = xp.mean(_wide(x), axis=0)
    return xp.where(xp.isfinite(mean), mean, xp.zeros_like(mean))


def laplacian(x: Array, y: Array | None = None, /, *, gamma: float, check_finite: bool = False) -> Kernel:
    r"""The Laplacian kernel :math:`k(x, y) = \exp(-\gamma\|x - y\|_1)`; d passes over the entries.

    Parameters
    ----------
    x, y, check_finite
        As in :func:`gaussian`.
    gamma : float
        Above 0.

    Returns
    -------
    Kernel

    Raises
    ------
    DTypeError, DeviceError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: d passes and one exponential an entry.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import kernels
    >>> kernels.laplacian(np.array([[0.0], [1.0]]), gamma=2.0).columns([0]).round(4).ravel()
    array([1.    , 0.1353])
    """
    gamma = require_positive("gamma", gamma)
    _check_points(check_finite, x, y)
    _held("gamma", gamma, x)

    def evaluate(a: tuple[Array, ...], b: tuple[Array, ...]) -> Array:
        xp = namespace(a=a[0])
        return xp.exp(-_accumulate(a[0], b[0], xp.abs))

    def prepare(points: Array) -> tuple[Array, ...]:
        return (_wide(points) * gamma,)

    return _of_points(PointFunction(prepare, evaluate, _ones, f"laplacian(gamma={gamma:g})"), x, y)


def _accumulate(a: Array, b: Array, of: Callable[[Array], Array]) -> Array:
    """Σ_k of(a_ik − b_jk), from differences: zero for equal points."""
    total = of(a[:, :1] - b[None, :, 0])
    for k in range(1, a.shape[1]):
        total += of(a[:, k : k + 1] - b[None, :, k])
    return total


def matern(
    x: Array,
    y: Array | None = None,
    /,
    *,
    nu: float,
    length_scale: float,
    check_finite: bool = False,
) -> Kernel:
    r"""The Matérn kernel of smoothness ν = 1/2, 3/2 or 5/2; d passes over the entries.

    .. math:: e^{-s},\quad (1 + s)e^{-s},\quad (1 + s + s^2/3)e^{-s},\qquad s = \sqrt{2\nu}\|x - y\|_2/\ell.

    Distances come from differences, for an error in the square of a distance would be an error of its square
    root in :math:`e^{-s}`. Source: Rasmussen and Williams 2006, eq. (4.17).

    Parameters
    ----------
    x, y, check_finite
        As in :func:`gaussian`.
    nu : float
        1/2, 3/2 or 5/2.
    length_scale : float
        ℓ, above 0, in the units of the points.

    Returns
    -------
    Kernel

    Raises
    ------
    DTypeError, DeviceError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import kernels
    >>> kernels.matern(np.array([[0.0], [1.0]]), nu=1.5, length_scale=1.0).columns([0]).round(4).ravel()
    array([1.    , 0.4834])
    """
    length_scale = require_positive("length_scale", length_scale)
    closed = "0.5, 1.5 or 2.5, the ones with a short closed form"
    nu = require_number("nu", nu, lambda x: x in (0.5, 1.5, 2.5), closed)
    _check_points(check_finite, x, y)
    _held("length_scale", length_scale, x, divides=True)

    def evaluate(a: tuple[Array, ...], b: tuple[Array, ...]) -> Array:
        xp = namespace(a=a[0])
        s = xp.sqrt(_accumulate(a[0], b[0], xp.square))
        if nu == 0.5:
            return xp.exp(-s)
        return (1 + s if nu == 1.5 else 1 + s + s * s / 3) * xp.exp(-s)

    def prepare(points: Array) -> tuple[Array, ...]:
        return (_wide(points) * (sqrt(2 * nu) / length_scale),)

    text = f"matern(nu={nu:g}, length_scale={length_scale:g})"
    return _of_points(PointFunction(prepare, evaluate, _ones, text), x, y)


def polynomial(
    x: Array,
    y: Array | None = None,
    /,
    *,
    degree: int = 3,
    gamma: float = 1.0,
    coef0: float = 1.0,
    check_finite: bool = False,
) -> Kernel:
    r"""The polynomial kernel :math:`k(x, y) = (\gamma x^Ty + c_0)^p`, of rank at most :math:`\binom{d + p}{p}`.

    Parameters
    ----------
    x, y, check_finite
        As in :func:`gaussian`.
    degree : int
        p, from 1 to 2²⁰.
    gamma : float
        Above 0.
    coef0 : float
        c₀, at least 0: below, the kernel is not PSD.

    Returns
    -------
    Kernel

    Raises
    ------
    DTypeError, DeviceError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: one product and one power an entry.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import kernels
    >>> kernels.polynomial(np.array([[1.0], [2.0]]), degree=2).rows([1])
    array([[ 9., 25.]])
    """
    gamma = require_positive("gamma", gamma)
    degree = require_count("degree", degree, high=2**20)
    coef0 = require_nonnegative("coef0", coef0)  # below 0 the kernel is not PSD
    _check_points(check_finite, x, y)
    _held("gamma", gamma, x)
    _held("coef0", coef0, x)

    def diagonal(a: tuple[Array, ...]) -> Array:
        return (namespace(a=a[0]).sum(a[0] * a[0], axis=-1) + coef0) ** degree

    def evaluate(a: tuple[Array, ...], b: tuple[Array, ...]) -> Array:
        return (a[0] @ transpose(b[0]) + coef0) ** degree

    def prepare(points: Array) -> tuple[Array, ...]:
        return (_wide(points) * sqrt(gamma),)

    text = f"polynomial(degree={degree}, gamma={gamma:g}, coef0={coef0:g})"
    return _of_points(PointFunction(prepare, evaluate, diagonal, text), x, y)


def softmax(
    q: Array, k: Array | None = None, /, *, scale: float | None = None, check_finite: bool = False
) -> Kernel:
    r"""The softmax kernel :math:`k(q, k) = \exp(s\,q^Tk)`, attention before its rows are normalised.

    Parameters
    ----------
    q : array (n, d)
    k : array (p, d), optional
        Without it the kernel is symmetric, and PSD.
    scale : float, optional
        s, :math:`1/\sqrt d` by default.
    check_finite : bool
        Raise on NaN and infinity.

    Returns
    -------
    Kernel

    Raises
    ------
    DTypeError, DeviceError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    The unnormalised entries overflow for :math:`s\,q^Tk` above 88 (float32) or 709 (float64).  Then take
    :func:`gaussian` with ``gamma=scale / 2``: softmax(QKᵀ) is its row-normalised form up to a scaling of the
    columns by :math:`e^{s\|k\|^2/2}`.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import kernels
    >>> kernels.softmax(np.array([[0.0], [1.0]]), scale=1.0).rows([1]).round(4)
    array([[1.    , 2.7183]])
    """
    _check_points(check_finite, q, k, "qk")
    s = q.shape[1] ** -0.5 if scale is None else require_positive("scale", scale)
    _held("scale", s, q)

    def prepare(points: Array) -> tuple[Array, ...]:
        return (_wide(points) * sqrt(s),)

    def diagonal(a: tuple[Array, ...]) -> Array:
        xp = namespace(a=a[0])
        return xp.exp(xp.sum(a[0] * a[0], axis=-1))

    def evaluate(a: tuple[Array, ...], b: tuple[Array, ...]) -> Array:
        return namespace(a=a[0]).exp(a[0] @ transpose(b[0]))

    return _of_points(PointFunction(prepare, evaluate, diagonal, f"softmax(scale={s:g})"), q, k)


def custom(
    function: Callable[[Array, Array], Array],
    x: Array,
    y: Array | None = None,
    /,
    *,
    diagonal: Callable[[Array], Array] | None = None,
    noise: float = 0.0,
    check_finite: bool = False,
) -> Kernel:
    """A kernel of the user's.

    That it is symmetric and PSD is the user's word; methods that need it raise where they see that it is not.

    Parameters
    ----------
    function : callable
        ``function(x, y)`` gives the entries (n, p) of points (n, d) and (p, d).
    x, y, check_finite
        As in :func:`gaussian`.
    diagonal : callable, optional
        ``diagonal(x)`` gives the n entries (i, i).  Without it they are read off blocks of eight points,
        and cost 8n entries.
    noise : float
        At least 0 and below 1: see :class:`Kernel`.

    Returns
    -------
    Kernel

    Raises
    ------
    DTypeError, DeviceError, KindError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument; ``function`` and ``diagonal`` where they are called, if what they return is wrong.

    Notes
    -----
    Cost: one call of ``function`` a block asked for.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import kernels
    >>> kernel = kernels.custom(lambda x, y: np.minimum(x, y.T), np.array([[1.0], [2.0], [3.0]]))
    >>> kernel.rows([1])
    array([[1., 2., 2.]])
    """
    require_callable("function", function)
    noise = require_tolerance("noise", noise)
    _check_points(check_finite, x, y)

    def prepare(points: Array) -> tuple[Array, ...]:
        return (_wide(points),)

    def evaluate(a: tuple[Array, ...], b: tuple[Array, ...]) -> Array:
        found = function(a[0], b[0])
        return _returned("function", found, a[0], (a[0].shape[0], b[0].shape[0]))

    parts = PointFunction(prepare, evaluate, None, "custom()")
    if diagonal is not None:
        own = require_callable("diagonal", diagonal)
        parts = replace(parts, diagonal=lambda a: _returned("diagonal", own(a[0]), a[0], a[0].shape[:1]))
    return _of_points(parts, x, y, noise)


def _returned(name: str, found: Any, points: Array, shape: tuple[int, ...]) -> Array:
    """What a function of the caller's returned, of the points' library and this shape, or a refusal that names it."""
    floating(namespace(points=points, **{name: found}), **{name: found})
    if tuple(found.shape) != tuple(shape):
        raise ShapeError(
            name, f"one that gave shape {tuple(found.shape)}", f"a result of shape {tuple(shape)}"
        )
    return found


def precomputed(a: Array, /, *, noise: float | None = None, check_finite: bool = False) -> Kernel:
    """The kernel whose matrix (n, p) is at hand; entries read are counted, and the matrix is not copied.

    Parameters
    ----------
    a : array (n, p)
    noise : float, optional
        In [0, 1): how far an entry may be from that of the PSD matrix meant, see :class:`Kernel`.  By default the
        unit roundoff of a format of 16 bits, in which entries are stored and not computed, and 0 for a wider one.
    check_finite : bool
        Raise on NaN and infinity.

    It counts as symmetric if it is square: a PSD method that meets a pair of entries that differ raises.

    Returns
    -------
    Kernel
        Symmetric if square: a PSD method that meets a pair of entries that differ raises.

    Raises
    ------
    DTypeError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import kernels
    >>> kernel = kernels.precomputed(np.eye(3))
    >>> kernel.diagonal(), kernel.entries
    (array([1., 1., 1.]), 3)
    """
    require_flag("check_finite", check_finite)
    xp = namespace(a=a)
    floating(xp, a=a)
    require_matrix("a", a)
    if a.ndim != 2:
        raise ShapeError("a", f"of shape {tuple(a.shape)}", "shape (n, p); a kernel has no batch")
    if check_finite:
        require_finite(xp, a=a)
    wide = compute_dtype(xp, a.dtype)
    own = unit_roundoff(xp, a.dtype) if wide != a.dtype else 0.0
    return MatrixKernel(a, wide, noise=own if noise is None else require_tolerance("noise", noise))
