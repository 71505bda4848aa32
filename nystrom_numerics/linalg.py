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
    """The last two axes exchanged, nothing conjugated; they may be empty."""
    xp = namespace(a=a)
    real_or_complex(xp, a=a)
    if a.ndim < 2:
        raise ShapeError("a", f"of shape {tuple(a.shape)}", "shape (..., rows, columns)")
    return xp.matrix_transpose(a)


def adjoint(a: Array) -> Array:
    """The conjugate transpose Aᴴ, of a real matrix the transpose; axes may be empty."""
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
    """
    xp = namespace(a=a)
    exponent = binary_exponent(a)
    power = xp.pow(xp.full_like(exponent, 2.0), exponent)
    least = xp.full_like(power, float(xp.finfo(power.dtype).smallest_normal))
    return xp.maximum(power, least)


# ---------------------------------------------------------------- norms and residuals


def frobenius(a: Array) -> Array:
    r"""The Frobenius norm :math:`\|A\|_F`, real, shape (...), scaled against overflow."""
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
    r"""The operator norm :math:`\|A\|_1` (largest column sum of moduli), real, shape (...)."""
    xp = namespace(a=a)
    _matrices(xp, a=a)
    return xp.max(xp.sum(xp.abs(a), axis=-2), axis=-1)


def sup_norm(a: Array) -> Array:
    r"""The operator norm :math:`\|A\|_\infty` (largest row sum of moduli), real, shape (...)."""
    xp = namespace(a=a)
    _matrices(xp, a=a)
    return xp.max(xp.sum(xp.abs(a), axis=-1), axis=-1)


def backward_residual(a: Array, z: Array, az: Array | None = None) -> Array:
    r"""The relative backward residual :math:`\|AZA - A\|_F / \|A\|_F` of :math:`Z \approx A^+`, real, shape (...).

    Zero for a zero matrix, and the same for A/2ⁿ with 2ⁿZ.  Costs two products, or one where ``az`` = AZ is at hand.
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
    """Softmax along the last axis over the entries where ``mask`` is true; real scores.

    A row with no such entry is zero.  The maximum is subtracted first, so no finite score overflows.
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

    For a (..., m, n) and k = min(m, n) gives Q (..., m, k) with orthonormal columns, R (..., k, n) upper
    trapezoidal with :math:`|r_{11}| \ge |r_{22}| \ge \dots`, and the permutation (..., n) with
    :math:`A_{:,\pi} = QR`.  Per matrix of the stack, without synchronisation; for libraries without LAPACK's.

    Columns are measured relative to the largest entry that is left, so that squares neither overflow nor vanish:
    A/2ⁿ has the same Q and permutation, and R/2ⁿ.  Cost: k rank-one updates.  Source: Golub and Van Loan, §5.4.2;
    for complex matrices the reflection :math:`I - vv^H` with v along :math:`x + \frac{x_1}{|x_1|}\|x\|e_1`.
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
