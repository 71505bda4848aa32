"""Exact rationals computed as floats are: each operation with an error of at most u, in a random order of summation."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from flint import fmpq, fmpq_mat

from proofs_check.exact import Instances, q


class Rounded:
    """Operations whose results are off by a relative error within u, drawn or extreme."""

    def __init__(self, u: Fraction, instances: Instances) -> None:
        self.u, self.rng = q(u), instances.rng

    def __call__(self, x: fmpq) -> fmpq:
        return x * (1 + self.u * q(Fraction(int(self.rng.choice([-4, 4, int(self.rng.integers(-4, 5))])), 4)))

    def dot(self, pairs: Sequence[tuple[fmpq, fmpq]]) -> fmpq:
        """Σxy by a random tree: of products, fused multiply-adds and sums of parts."""
        if not pairs:
            return fmpq(0)
        order = [pairs[int(i)] for i in self.rng.permutation(len(pairs))]
        (x, y), rest = order[0], order[1:]
        if not rest:
            return self(x * y)
        if self.rng.random() < 0.5:
            return self(self.dot(rest) + x * y)
        cut = int(self.rng.integers(1, len(order)))
        return self(self.dot(order[:cut]) + self.dot(order[cut:]))

    def product(self, X: fmpq_mat, Y: fmpq_mat) -> fmpq_mat:
        inner = range(X.ncols())
        return fmpq_mat(
            [
                [self.dot([(X[i, k], Y[k, j]) for k in inner]) for j in range(Y.ncols())]
                for i in range(X.nrows())
            ]
        )

    def multiple(self, c: Fraction, X: fmpq_mat) -> fmpq_mat:
        near = self(q(c))
        return fmpq_mat([[self(near * X[i, j]) for j in range(X.ncols())] for i in range(X.nrows())])

    def sum(self, X: fmpq_mat, Y: fmpq_mat) -> fmpq_mat:
        return fmpq_mat([[self(X[i, j] + Y[i, j]) for j in range(X.ncols())] for i in range(X.nrows())])


def moduli(X: fmpq_mat) -> fmpq_mat:
    return fmpq_mat([[abs(X[i, j]) for j in range(X.ncols())] for i in range(X.nrows())])


def factor(u: Fraction, k: int) -> fmpq:
    """(1 + u)^k − 1."""
    return (1 + q(u)) ** k - 1


def exceeds(error: fmpq_mat, bound: fmpq_mat) -> bool:
    """Whether an entry is larger in modulus than its bound."""
    return any(abs(error[i, j]) > bound[i, j] for i in range(error.nrows()) for j in range(error.ncols()))


def unit(instances: Instances) -> Fraction:
    """A roundoff so large that higher orders count."""
    return Fraction(1, int(instances.rng.integers(2, 20)))
