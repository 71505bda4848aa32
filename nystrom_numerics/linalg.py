"""Small dense helpers: norms that neither overflow nor underflow, softmax statistics, residuals.

Each works on a stack of matrices, item by item.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

from nystrom_numerics.backend import Array, device_of, namespace

__all__ = [
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


def transpose(x: Array) -> Array:
    """The last two axes exchanged."""
    return namespace(x=x).matrix_transpose(x)


def all_finite(*matrices: Array) -> Array:
    """Whether matrices of one batch and dtype have neither NaN nor infinity, shape (...).

    Read off max|x_ij|, which is NaN if an entry is, in every library served; several times faster than
    testing each entry.
    """
    xp = namespace(x=matrices[0])
    top = reduce(xp.maximum, (xp.max(xp.abs(x), axis=(-2, -1)) for x in matrices))
    return top <= float(xp.finfo(top.dtype).max)  # false for NaN


def binary_scale(x: Array) -> Array:
    """The power of two next below max|x_ij|, shape (..., 1, 1); 1 for a zero matrix.

    Dividing by it is exact and brings the largest entry into [1, 2), so that squares and products
    neither overflow nor vanish.  Non-finite matrices get 1.
    """
    xp = namespace(x=x)
    top = xp.max(xp.abs(x), axis=(-2, -1), keepdims=True)
    usable = (top > 0) & xp.isfinite(top)
    exponent = xp.floor(xp.log2(xp.where(usable, top, xp.ones_like(top))))
    # 2**exponent underflows for subnormal matrices and is then clipped to the least normal number
    least = float(xp.finfo(x.dtype).smallest_normal)
    power = xp.pow(xp.full_like(top, 2.0), exponent)
    return xp.where(power < least, xp.full_like(power, least), power)


def frobenius(x: Array) -> Array:
    r"""The Frobenius norm \(\|X\|_F\), shape (...), scaled against overflow."""
    xp = namespace(x=x)
    scale = binary_scale(x)
    scaled = x / scale
    return scale[..., 0, 0] * xp.sqrt(xp.sum(scaled * scaled, axis=(-2, -1)))


def one_norm(x: Array) -> Array:
    r"""The operator norm \(\|X\|_1\) (largest column sum of moduli), shape (...)."""
    xp = namespace(x=x)
    return xp.max(xp.sum(xp.abs(x), axis=-2), axis=-1)


def sup_norm(x: Array) -> Array:
    r"""The operator norm \(\|X\|_\infty\) (largest row sum of moduli), shape (...)."""
    xp = namespace(x=x)
    return xp.max(xp.sum(xp.abs(x), axis=-1), axis=-1)


def backward_residual(a: Array, z: Array, az: Array | None = None) -> Array:
    r"""The relative backward residual \(\|AZA - A\|_F / \|A\|_F\) of \(Z \approx A^+\), shape (...).

    Zero for a zero matrix.  Costs two products, or one where ``az`` = AZ is at hand.
    """
    xp = namespace(a=a, z=z)
    az = a @ z if az is None else az
    size = frobenius(a)
    return frobenius(az @ a - a) / xp.where(size > 0, size, xp.ones_like(size))


def masked_softmax(scores: Array, mask: Array | None = None) -> Array:
    """Softmax along the last axis over the entries where ``mask`` is true.

    A row with no such entry is zero.  The maximum is subtracted first, so no finite score overflows.
    """
    xp: Any = namespace(scores=scores, mask=mask)
    if mask is None:
        weights = xp.exp(scores - xp.max(scores, axis=-1, keepdims=True))
        return weights / xp.sum(weights, axis=-1, keepdims=True)
    scores = xp.where(mask, scores, xp.full_like(scores, -xp.inf))
    top = xp.max(scores, axis=-1, keepdims=True)
    top = xp.where(top == -xp.inf, xp.zeros_like(top), top)
    weights = xp.exp(scores - top)
    total = xp.sum(weights, axis=-1, keepdims=True)
    return weights / xp.where(total == 0, xp.ones_like(total), total)


def pivoted_qr(a: Array) -> tuple[Array, Array, Array]:
    r"""Column-pivoted QR by Householder reflections, in products and reductions alone.

    For a (..., m, n) and k = min(m, n) gives Q (..., m, k) with orthonormal columns, R (..., k, n) upper
    trapezoidal with :math:`|r_{11}| \ge |r_{22}| \ge \dots`, and the permutation (..., n) with
    :math:`A_{:,\pi} = QR`.  Per matrix of the stack, without synchronisation; for libraries without LAPACK's.
    Cost: k rank-one updates.  Source: Golub and Van Loan, §5.4.2.
    """
    xp: Any = namespace(a=a)
    m, n = a.shape[-2:]
    k = min(m, n)
    rows = xp.arange(m, device=device_of(a))[:, None]
    columns = xp.arange(n, device=device_of(a))
    order = xp.broadcast_to(columns, (*a.shape[:-2], n))
    r, reflectors = a, []
    for j in range(k):
        below = xp.where(rows >= j, r, xp.zeros_like(r))
        size = xp.where(columns >= j, xp.sum(below * below, axis=-2), -xp.ones_like(r[..., 0, :]))
        pivot = xp.argmax(size, axis=-1, keepdims=True)
        swap = xp.where(columns == j, pivot, xp.where(columns == pivot, j, columns))
        order = xp.take_along_axis(order, swap, axis=-1)
        r = xp.take_along_axis(r, xp.broadcast_to(swap[..., None, :], r.shape), axis=-1)
        x = xp.where(rows >= j, r[..., :, j : j + 1], xp.zeros_like(r[..., :, :1]))
        length = xp.sqrt(xp.sum(x * x, axis=-2, keepdims=True))
        corner = x[..., j : j + 1, :]
        shift = xp.where(corner < 0, -length, length)
        v = x + xp.where(rows == j, shift, xp.zeros_like(x))
        square = xp.sum(v * v, axis=-2, keepdims=True)
        v = v * xp.sqrt(2 / xp.where(square > 0, square, xp.ones_like(square)))
        reflectors.append(v)
        r = r - v @ (transpose(v) @ r)
    q = xp.broadcast_to(xp.eye(m, k, dtype=a.dtype, device=device_of(a)), (*a.shape[:-2], m, k))
    for v in reversed(reflectors):
        q = q - v @ (transpose(v) @ q)
    keep = xp.arange(k, device=device_of(a))[:, None] <= columns
    top = r[..., :k, :]
    return q, xp.where(keep, top, xp.zeros_like(top)), order
