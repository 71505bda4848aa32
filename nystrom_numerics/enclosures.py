r"""Products with a bound of their rounding beside them: what :func:`~nystrom_numerics.pinv.verify` rests on.

All is in float64, to which narrower formats convert exactly.  A product of an inner length k, summed in any order and
with fused multiply-adds or without, errs by

.. math:: |\mathrm{fl}(AB) - AB| \le \gamma_k|A||B|,\qquad \gamma_k = \frac{ku}{1 - ku},\quad u = 2^{-53}

(proved in ``proofs_check``: ``matrix_product_rounding``; Higham 2002, §3.5), so no rounding mode is ever switched.
Here Frobenius norms are taken of it.  Underflow, and devices that flush subnormal numbers, add at most the least
normal number an operation and an operand.  Products by Strassen's method, or in emulated float64, are outside.

:func:`accurate` splits both factors first, so that the leading part of the product is exact in any order of summation
(Ozaki, Ogita, Oishi and Rump 2012) and what is rounded is some 2⁻²³ of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log2, prod, sqrt

from nystrom_numerics.backend import Array, device_of, namespace
from nystrom_numerics.linalg import (
    binary_exponent,
    frobenius,
    one_norm,
    sup_norm,
    times_power,
    transpose,
)

__all__ = ["TINY", "UP", "Enclosed", "accurate", "product", "size", "spectral_size"]

_U, TINY = 2.0**-53, 2.0**-1022
UP = 1 + 2.0**-40
"""More than the rounding of some thousand operations with positive numbers."""


@dataclass(frozen=True)
class Enclosed:
    """Matrices known up to an error: ``value`` (..., m, n), and ``error`` (...) in the Frobenius norm."""

    value: Array
    error: Array

    @property
    def size(self) -> Array:
        """A bound of the Frobenius norm of the matrices meant."""
        return size(self.value) + self.error


def size(x: Array) -> Array:
    """A bound of the Frobenius norm from above, shape (...): the computed one, and its rounding."""
    count = prod(x.shape[-2:])
    return frobenius(x) * (UP + 2 * count * _U) + 2 * sqrt(count) * TINY


def spectral_size(x: Array) -> Array:
    r"""A bound of the spectral norm from above: the Frobenius norm, or :math:`\sqrt{\|A\|_1\|A\|_\infty}`."""
    xp = namespace(x=x)
    schur = xp.sqrt(one_norm(x)) * xp.sqrt(sup_norm(x)) * (UP + 2 * sum(x.shape[-2:]) * _U)
    return xp.minimum(size(x), schur + sum(x.shape[-2:]) * TINY)


def _gamma(k: int) -> float:
    return UP * k * _U / (1 - k * _U)


def _lost(a: Array, b: Array, size_a: Array, size_b: Array) -> Array:
    """What underflow can take from a product and the sums around it: of each operation, and of each operand."""
    (m, k), n = a.shape[-2:], b.shape[-1]
    return 4 * TINY * ((k + 4) * sqrt(m * n) + sqrt(m * k) * size_b + sqrt(k * n) * size_a)


def product(a: Enclosed | Array, b: Enclosed | Array) -> Enclosed:
    """AB by one product."""
    a, b = _known(a), _known(b)
    size_a, size_b = size(a.value), size(b.value)
    inherited = a.error * (size_b + b.error) + size_a * b.error
    rounding = _gamma(a.value.shape[-1]) * size_a * size_b
    return Enclosed(a.value @ b.value, UP * (inherited + rounding + _lost(a.value, b.value, size_a, size_b)))


def _known(x: Enclosed | Array) -> Enclosed:
    if isinstance(x, Enclosed):
        return x
    return Enclosed(x, namespace(x=x).zeros(x.shape[:-2], dtype=x.dtype, device=device_of(x)))


def accurate(a: Array, b: Array, *, minus: Array | None = None, split: bool = True) -> Enclosed:
    r"""AB, or AB − C, with an error some 2²³ times below that of a product; C is ``minus``.

    Three products.  Without ``split`` one, which for entries of 24 bits is as far below the rounding of their own
    format.  The inner index is first scaled by powers of two, so that its scale is of no consequence.
    """
    xp = namespace(a=a, b=b)
    k = a.shape[-1]
    # both exponents run along the inner index
    left, right = binary_exponent(a, columns=True), binary_exponent(transpose(b), columns=True)
    shift = xp.floor((right - left) / 2)
    a, b = times_power(a, shift), times_power(b, -transpose(shift))
    size_a, size_b = size(a), size(b)
    if split:
        (a1, a2), (b1, b2) = _halves(a, -1, k), _halves(b, -2, k)
        lead, rest = a1 @ b1, a1 @ b2 + a2 @ b  # the first is exact
        lead = lead if minus is None else lead - minus
        value = lead + rest
        tail = 2.0 ** (2 - _bits(k)) * sqrt(k)  # of the norm of what is split, at most
        rounding = _gamma(k) * UP * tail * (2 + tail) * size_a * size_b
        sums = size(lead) + size(rest) + size(value)
    else:
        value = a @ b
        rounding = _gamma(k) * size_a * size_b
        value = value if minus is None else value - minus
        sums = size(value)
    error = rounding + UP * _U * sums + _lost(a, b, size_a, size_b)
    return Enclosed(value, UP * error)


def _bits(k: int) -> int:
    return (53 - ceil(log2(k))) // 2


def _halves(x: Array, axis: int, k: int) -> tuple[Array, Array]:
    """x = head + tail, exactly, with heads so short that k products of them add up without rounding.

    Along ``axis`` entries share a power of two τ ≥ 2|x|; heads are multiples of τ2^{−β}, and tails at most that.
    """
    xp = namespace(x=x)
    bits = _bits(k)
    exponent = (
        binary_exponent(x, columns=True)
        if axis == -2
        else transpose(binary_exponent(transpose(x), columns=True))
    )
    far = times_power(xp.ones_like(exponent), exponent + (2 + 53 - bits))
    head = (x + far) - far
    return head, x - head
