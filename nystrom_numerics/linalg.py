"""Small dense helpers: norms that neither overflow nor underflow, softmax statistics, residuals.

Each works on a stack of matrices, item by item.
"""

from __future__ import annotations

from typing import Any

from nystrom_numerics.backend import Array, namespace

__all__ = [
    "backward_residual",
    "binary_scale",
    "frobenius",
    "masked_softmax",
    "one_norm",
    "sup_norm",
    "transpose",
]


def transpose(x: Array) -> Array:
    """The last two axes exchanged."""
    return namespace(x=x).matrix_transpose(x)


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
    if mask is not None:
        scores = xp.where(mask, scores, xp.full_like(scores, -xp.inf))
    top = xp.max(scores, axis=-1, keepdims=True)
    top = xp.where(top == -xp.inf, xp.zeros_like(top), top)
    weights = xp.exp(scores - top)
    total = xp.sum(weights, axis=-1, keepdims=True)
    return weights / xp.where(total == 0, xp.ones_like(total), total)
