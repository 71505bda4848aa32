"""The polynomial steps Z ↦ Z q(A Z): on rational matrices with counted products, and on residuals."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from flint import fmpq_mat

from proofs_check.exact import identity, q


class Products:
    """Matrix products, counted."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, X: fmpq_mat, Y: fmpq_mat) -> fmpq_mat:
        self.count += 1
        return X * Y


Step = Callable[[fmpq_mat, fmpq_mat, Products], fmpq_mat]


def scalar(value: int | Fraction, n: int) -> fmpq_mat:
    return identity(n) * q(value)


def residual(A: fmpq_mat, Z: fmpq_mat) -> fmpq_mat:
    """E = I − A Z."""
    return identity(A.nrows()) - A * Z


def newton_schulz(A: fmpq_mat, Z: fmpq_mat, mul: Products) -> fmpq_mat:
    return mul(Z, scalar(2, A.nrows()) - mul(A, Z))


def chebyshev(A: fmpq_mat, Z: fmpq_mat, mul: Products) -> fmpq_mat:
    P, three = mul(A, Z), scalar(3, A.nrows())
    return mul(Z, three - mul(P, three - P))


def razavi(A: fmpq_mat, Z: fmpq_mat, mul: Products) -> fmpq_mat:
    """Eq. (14) of the paper."""
    n = A.nrows()
    P = mul(A, Z)
    inner = scalar(13, n) - mul(P, scalar(15, n) - mul(P, scalar(7, n) - P))
    return mul(Z, inner) * q(Fraction(1, 4))


def hyperpower5(A: fmpq_mat, Z: fmpq_mat, mul: Products) -> fmpq_mat:
    identity_ = identity(A.nrows())
    R = identity_ - mul(A, Z)
    S = mul(R, R)
    Y = S + R * q(Fraction(1, 2))
    return mul(Z, identity_ + R + S * q(Fraction(3, 4)) + mul(Y, Y))


def hyperpower9(A: fmpq_mat, Z: fmpq_mat, mul: Products) -> fmpq_mat:
    identity_ = identity(A.nrows())
    R = identity_ - mul(A, Z)
    S = mul(R, R)
    Y = mul(S, S + R * q(Fraction(1, 2)))
    left = Y + S * q(Fraction(3, 4)) - R * q(Fraction(1, 4))
    right = Y + R * q(Fraction(7, 8))
    tail = Y * q(Fraction(11, 16)) + S * q(Fraction(39, 32)) + R + identity_
    return mul(Z, mul(left, right) + tail)


def eq14_factor(x):
    """x⁺/x for an eigenvalue x of A Z."""
    return (13 - x * (15 - x * (7 - x))) / 4


def eq14_eigenvalue(x):
    """x⁺ for an eigenvalue x of A Z, in eq. (14)."""
    return x * eq14_factor(x)
