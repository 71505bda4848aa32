"""Small dense helpers: norms that neither overflow nor underflow, softmax statistics, residuals, pivoted QR.

Each works on a stack of matrices, item by item, real or complex unless it says otherwise.  What squares or multiplies
entries first divides a matrix by a power of two, which is exact: results scale with the matrix as long as they can be
represented.  A library that flushes subnormal numbers, as CuPy does, takes them for zeros.
"""

from __future__ import annotations

from functools import reduce
from math import log2
from typing import Any

import numpy as np

from nystrom_numerics.backend import (
    Array,
    broadcast_shapes,
    device_of,
    floating,
    is_complex,
    namespace,
    real_or_complex,
    require_matrix,
)
from nystrom_numerics.errors import DTypeError, ShapeError

__all__ = [
    "adjoint",
    "all_finite",
    "backward_residual",
    "binary_scale",
    "frobenius",
    "masked_softmax",
    "one_norm",
    "pivoted_qr",
    "sup_norm",
    "transpose",
]
# `binary_exponent`, `inverse_root` and `times_power` are for the package

# ---------------------------------------------------------------- transposes and powers of two


def transpose(a: Array) -> Array:
    """The last two axes exchanged, nothing conjugated; they may be empty.

    Parameters
    ----------
    a : array (..., m, n)
        Real or complex floating.

    Returns
    -------
    array (..., n, m)
        A view where the library has one.

    Raises
    ------
    DTypeError, NamespaceError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: O(1), a view.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import linalg
    >>> linalg.transpose(np.ones((4, 2, 3))).shape
    (4, 3, 2)
    """
    xp = namespace(a=a)
    real_or_complex(xp, a=a)
    if a.ndim < 2:
        raise ShapeError("a", f"of shape {tuple(a.shape)}", "shape (..., rows, columns)")
    return xp.matrix_transpose(a)


def adjoint(a: Array) -> Array:
    """The conjugate transpose Aᴴ, of a real matrix the transpose; axes may be empty.

    Parameters
    ----------
    a : array (..., m, n)
        Real or complex floating.

    Returns
    -------
    array (..., n, m)

    Raises
    ------
    DTypeError, NamespaceError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: O(mn) for complex entries, a view for real ones.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import linalg
    >>> linalg.adjoint(np.array([[1.0 + 2.0j, 3.0]]))
    array([[1.-2.j],
           [3.-0.j]])
    """
    xp = namespace(a=a)
    return xp.conj(transpose(a)) if is_complex(xp, a) else transpose(a)


def _matrices(xp: Any, **matrices: Array) -> None:
    real_or_complex(xp, **matrices)
    for name, x in matrices.items():
        require_matrix(name, x)


def _largest(xp: Any, a: Array, axis: int | tuple[int, int], *, keepdims: bool) -> Array:
    """max(|Re a|, |Im a|) along axes: no modulus, which can overflow where a and its parts do not."""
    if is_complex(xp, a):
        parts = xp.real(a), xp.imag(a)
        return xp.maximum(*(xp.max(xp.abs(part), axis=axis, keepdims=keepdims) for part in parts))
    return xp.max(xp.abs(a), axis=axis, keepdims=keepdims)


def all_finite(*matrices: Array) -> Array:
    """Whether matrices of one batch and dtype have neither NaN nor infinity, shape (...).

    Read off the largest entry, which is NaN if an entry is, in every library served; several times faster than
    testing each entry.

    Parameters
    ----------
    *matrices : array (..., m, n)
        At least one; shapes (m, n) may differ.

    Returns
    -------
    array (...) of bool

    Raises
    ------
    DTypeError, NamespaceError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: one pass over the entries.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import linalg
    >>> linalg.all_finite(np.array([[[1.0]], [[np.inf]], [[np.nan]]]))
    array([ True, False, False])
    """
    if not matrices:
        raise ShapeError("matrices", "none", "at least one stack of matrices")
    for x in matrices:
        _matrices(namespace(matrices=x), matrices=x)
    xp = namespace(matrices=matrices[0])
    top = reduce(xp.maximum, (_largest(xp, x, (-2, -1), keepdims=False) for x in matrices))
    return top <= float(xp.finfo(top.dtype).max)  # false for NaN


def binary_exponent(a: Array, *, columns: bool = False) -> Array:
    r""":math:`\lfloor\log_2 \max|a_{ij}|\rfloor`, real, shape (..., 1, 1), or (..., 1, n) where by columns.

    For complex entries the larger of the two parts counts.  0 for what is zero or not finite.
    """
    xp = namespace(a=a)
    _matrices(xp, a=a)
    top = _largest(xp, a, -2 if columns else (-2, -1), keepdims=True)
    usable = (top > 0) & xp.isfinite(top)
    exponent = xp.floor(xp.log2(xp.where(usable, top, xp.ones_like(top))))
    # the logarithm of what is next below a power of two rounds to that power, of which the last is infinite
    last = round(log2(float(xp.finfo(top.dtype).max))) - 1
    return xp.clip(exponent, max=last)


def times_power(a: Array, exponent: Array) -> Array:
    """a·2^e, exact unless the result is subnormal or overflows.

    In three factors: 2^e itself may overflow or vanish where the result does not.
    """
    xp = namespace(a=a, exponent=exponent)
    third = xp.floor(exponent / 3)
    two = xp.full_like(third, 2.0)
    power = xp.pow(two, third)
    return a * power * power * xp.pow(two, exponent - 2 * third)


def binary_scale(a: Array) -> Array:
    """The power of two next below the largest entry (see :func:`binary_exponent`), real, shape (..., 1, 1).

    Dividing by it is exact and brings the largest entry into [1, 2), so that squares and products neither overflow
    nor vanish.  1 for what is zero or not finite; the least normal number for subnormal matrices, whose own would
    be useless as a divisor.

    Parameters
    ----------
    a : array (..., m, n)
        Real or complex floating.

    Returns
    -------
    array (..., 1, 1), real

    Raises
    ------
    DTypeError, NamespaceError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: one pass over the entries.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import linalg
    >>> linalg.binary_scale(np.array([[[5.0, -7.0]], [[0.0, 0.3]]])).ravel()
    array([4.  , 0.25])
    """
    xp = namespace(a=a)
    exponent = binary_exponent(a)
    power = xp.pow(xp.full_like(exponent, 2.0), exponent)
    least = xp.full_like(power, float(xp.finfo(power.dtype).smallest_normal))
    return xp.maximum(power, least)


# ---------------------------------------------------------------- norms and residuals


def frobenius(a: Array) -> Array:
    r"""The Frobenius norm :math:`\|A\|_F`, scaled against overflow.

    Parameters
    ----------
    a : array (..., m, n)
        Real or complex floating.

    Returns
    -------
    array (...), real
        To some mn u relative.

    Raises
    ------
    DTypeError, NamespaceError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: two passes over the entries.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import linalg
    >>> round(float(linalg.frobenius(np.array([[3e200, 4e200]])) / 1e200), 6)
    5.0
    """
    xp = namespace(a=a)
    scale = binary_scale(a)
    return scale[..., 0, 0] * xp.sqrt(xp.sum(_square(xp, a / scale), axis=(-2, -1)))


def _square(xp: Any, a: Array) -> Array:
    """|a|², entry by entry."""
    if is_complex(xp, a):
        re, im = xp.real(a), xp.imag(a)
        return re * re + im * im
    return a * a


def one_norm(a: Array) -> Array:
    r"""The operator norm :math:`\|A\|_1`, the largest column sum of moduli.

    Parameters
    ----------
    a : array (..., m, n)
        Real or complex floating.

    Returns
    -------
    array (...), real

    Raises
    ------
    DTypeError, NamespaceError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: mn additions.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import linalg
    >>> float(linalg.one_norm(np.array([[1.0, -2.0], [3.0, 4.0]])))
    6.0
    """
    xp = namespace(a=a)
    _matrices(xp, a=a)
    return xp.max(xp.sum(xp.abs(a), axis=-2), axis=-1)


def sup_norm(a: Array) -> Array:
    r"""The operator norm :math:`\|A\|_\infty`, the largest row sum of moduli.

    Parameters
    ----------
    a : array (..., m, n)
        Real or complex floating.

    Returns
    -------
    array (...), real

    Raises
    ------
    DTypeError, NamespaceError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: mn additions.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import linalg
    >>> float(linalg.sup_norm(np.array([[1.0, -2.0], [3.0, 4.0]])))
    7.0
    """
    xp = namespace(a=a)
    _matrices(xp, a=a)
    return xp.max(xp.sum(xp.abs(a), axis=-1), axis=-1)


def backward_residual(a: Array, z: Array, az: Array | None = None) -> Array:
    r"""The relative backward residual :math:`\|AZA - A\|_F / \|A\|_F` of :math:`Z \approx A^+`.

    Zero for a zero matrix, and the same for A/2ⁿ with 2ⁿZ.

    Parameters
    ----------
    a : array (..., m, n)
        Real or complex floating.
    z : array (..., n, m)
    az : array (..., m, m), optional
        AZ, where it is at hand.

    Returns
    -------
    array (...), real

    Raises
    ------
    DTypeError, DeviceError, NamespaceError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: two products, or one where ``az`` is given.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import linalg
    >>> a = np.array([[2.0, 0.0], [0.0, 0.0]])
    >>> [float(linalg.backward_residual(a, np.diag(z))) for z in ([0.5, 7.0], [0.25, 0.0])]
    [0.0, 0.5]
    """
    xp = namespace(a=a, z=z, az=az)
    _matrices(xp, a=a, z=z, **({} if az is None else {"az": az}))
    rows, columns = a.shape[-2:]
    if tuple(z.shape[-2:]) != (columns, rows):
        raise ShapeError(
            "z", f"of shape {tuple(z.shape)}", f"shape (..., {columns}, {rows}), as `a` turned has"
        )
    if az is not None and tuple(az.shape[-2:]) != (rows, rows):
        raise ShapeError("az", f"of shape {tuple(az.shape)}", f"shape (..., {rows}, {rows})")
    scale = binary_scale(a)
    a = a / scale
    if az is None:
        other = binary_scale(z)
        az = (a @ (z / other)) * (scale * other)
    size = frobenius(a)
    return frobenius(az @ a - a) / xp.where(size > 0, size, xp.ones_like(size))


def inverse_root(core: Any) -> Any:
    r"""\(A^{-1/2}\) of a NumPy core (m, m) of a PSD kernel, without singular values that rounding has taken over."""
    u, s, vt = np.linalg.svd(core)
    kept = s > max(len(s) * np.finfo(core.dtype).eps * s.max(initial=0.0), np.finfo(core.dtype).tiny)
    return (u[:, kept] / np.sqrt(s[kept])) @ vt[kept]


# ---------------------------------------------------------------- softmax


def masked_softmax(scores: Array, mask: Array | None = None) -> Array:
    """Softmax along the last axis over the entries where ``mask`` is true.

    A row with no such entry is zero.  The maximum is subtracted first, so no finite score overflows.

    Parameters
    ----------
    scores : array (..., n, p)
        Real floating.
    mask : array of bool, optional
        Broadcastable with ``scores``; True for what counts.

    Returns
    -------
    array (..., n, p)
        Rows of non-negative numbers with sum 1 or 0, of the dtype of ``scores``.

    Raises
    ------
    DTypeError, DeviceError, NamespaceError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: np exponentials, and two copies of the scores while at work.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import linalg
    >>> linalg.masked_softmax(np.array([[1.0, 1.0, 9.0]]), np.array([True, True, False]))
    array([[0.5, 0.5, 0. ]])
    """
    xp: Any = namespace(scores=scores, mask=mask)
    floating(xp, scores=scores)
    require_matrix("scores", scores)
    if mask is None:
        weights = xp.exp(scores - xp.max(scores, axis=-1, keepdims=True))
        return weights / xp.sum(weights, axis=-1, keepdims=True)
    if not xp.isdtype(mask.dtype, "bool"):
        raise DTypeError("mask", f"of dtype {mask.dtype}", "a boolean mask, True for real tokens")
    broadcast_shapes(scores=tuple(scores.shape), mask=tuple(mask.shape))
    scores = xp.where(mask, scores, xp.full_like(scores, -xp.inf))
    top = xp.max(scores, axis=-1, keepdims=True)
    top = xp.where(top == -xp.inf, xp.zeros_like(top), top)
    weights = xp.exp(scores - top)
    total = xp.sum(weights, axis=-1, keepdims=True)
    return weights / xp.where(total == 0, xp.ones_like(total), total)


# ---------------------------------------------------------------- pivoted QR


def pivoted_qr(a: Array) -> tuple[Array, Array, Array]:
    r"""Column-pivoted QR by Householder reflections, in products and reductions alone.

    Per matrix of the stack, without synchronisation; for libraries without LAPACK's.  Columns are measured relative to
    the largest entry that is left, so that squares neither overflow nor vanish: A/2ⁿ has the same Q and permutation,
    and R/2ⁿ.

    Parameters
    ----------
    a : array (..., m, n)
        Real or complex floating; k = min(m, n).

    Returns
    -------
    q : array (..., m, k)
        Orthonormal columns.
    r : array (..., k, n)
        Upper trapezoidal with :math:`|r_{11}| \ge |r_{22}| \ge \dots`.
    order : array (..., n) of int
        The permutation π with :math:`A_{:,\pi} = QR`.

    Raises
    ------
    DTypeError, NamespaceError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: k rank-one updates of R and k of Q.  Source: Golub and Van Loan, §5.4.2; for complex matrices the reflection
    :math:`I - vv^H` with v along :math:`x + \frac{x_1}{|x_1|}\|x\|e_1`.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import linalg
    >>> q, r, order = linalg.pivoted_qr(np.array([[1.0, 3.0], [0.0, 4.0]]))
    >>> order, np.abs(r).round(6)
    (array([1, 0]), array([[5. , 0.6],
           [0. , 0.8]]))
    """
    xp: Any = namespace(a=a)
    _matrices(xp, a=a)
    m, n = a.shape[-2:]
    k = min(m, n)
    rows = xp.arange(m, device=device_of(a))[:, None]
    columns = xp.arange(n, device=device_of(a))
    order = xp.broadcast_to(columns, (*a.shape[:-2], n))
    exponent = binary_exponent(a)
    r, reflectors = times_power(a, -exponent), []
    for j in range(k):
        below = xp.where(rows >= j, r, 0.0)
        below = xp.where(columns >= j, below, 0.0)
        top = _largest(xp, below, (-2, -1), keepdims=True)
        below = below / xp.where(top > 0, top, xp.ones_like(top))
        size = xp.sum(_square(xp, below), axis=-2)
        pivot = xp.argmax(xp.where(columns >= j, size, -xp.ones_like(size)), axis=-1, keepdims=True)
        swap = xp.where(columns == j, pivot, xp.where(columns == pivot, j, columns))
        order = xp.take_along_axis(order, swap, axis=-1)
        r = xp.take_along_axis(r, xp.broadcast_to(swap[..., None, :], r.shape), axis=-1)
        x = xp.take_along_axis(below, xp.broadcast_to(pivot[..., None, :], (*below.shape[:-1], 1)), axis=-1)
        v = _reflector(xp, x, j, rows)
        reflectors.append(v)
        r = r - v @ (adjoint(v) @ r)
    q = xp.broadcast_to(xp.eye(m, k, dtype=a.dtype, device=device_of(a)), (*a.shape[:-2], m, k))
    for v in reversed(reflectors):
        q = q - v @ (adjoint(v) @ q)
    keep = xp.arange(k, device=device_of(a))[:, None] <= columns
    return q, times_power(xp.where(keep, r[..., :k, :], 0.0), exponent), order


def _reflector(xp: Any, x: Array, j: int, rows: Array) -> Array:
    """v of length √2 with (I − vvᴴ)x along e_j, for x (..., m, 1) that is zero above j; zero where x is."""
    corner = x[..., j : j + 1, :]
    size, length = xp.abs(corner), xp.sqrt(xp.sum(_square(xp, x), axis=-2, keepdims=True))
    phase = xp.where(size > 0, corner / xp.where(size > 0, size, xp.ones_like(size)), 1.0)
    v = x + xp.where(rows == j, phase * length, 0.0)
    square = xp.sum(_square(xp, v), axis=-2, keepdims=True)
    return v * xp.sqrt(2 / xp.where(square > 0, square, xp.ones_like(square)))
