"""Exact rational matrices: random instances, the pseudoinverse, and how to print a counterexample."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction

import numpy as np
from flint import fmpq, fmpq_mat

from proofs_check.contract import Claim

TRIALS = 24
SEED = 20210203


def q(value: int | Fraction) -> fmpq:
    """A Python rational as a FLINT rational."""
    value = Fraction(value)
    return fmpq(value.numerator, value.denominator)


def matrix(rows: Iterable[Iterable[int | Fraction]]) -> fmpq_mat:
    return fmpq_mat([[q(value) for value in row] for row in rows])


def identity(n: int) -> fmpq_mat:
    return matrix([[int(i == j) for j in range(n)] for i in range(n)])


def diagonal(values: Iterable[fmpq]) -> fmpq_mat:
    values = list(values)
    return fmpq_mat(
        [[value if i == j else fmpq(0) for j in range(len(values))] for i, value in enumerate(values)]
    )


def ones(n: int) -> fmpq_mat:
    return fmpq_mat([[fmpq(1)]] * n)


def rows_of(X: fmpq_mat) -> list[list[fmpq]]:
    return [[X[i, j] for j in range(X.ncols())] for i in range(X.nrows())]


def take(X: fmpq_mat, rows: Iterable[int] | None = None, columns: Iterable[int] | None = None) -> fmpq_mat:
    rows = range(X.nrows()) if rows is None else list(rows)
    columns = range(X.ncols()) if columns is None else list(columns)
    return fmpq_mat([[X[i, j] for j in columns] for i in rows])


def is_zero(X: fmpq_mat) -> bool:
    return all(value == 0 for row in rows_of(X) for value in row)


def trace(X: fmpq_mat) -> fmpq:
    return sum((X[i, i] for i in range(X.nrows())), fmpq(0))


def form(x: fmpq_mat, X: fmpq_mat, y: fmpq_mat) -> fmpq:
    """xᵀ X y for columns x and y."""
    return (x.transpose() * X * y)[0, 0]


def sqnorm(x: fmpq_mat) -> fmpq:
    return (x.transpose() * x)[0, 0]


def largest_row_sum(X: fmpq_mat) -> fmpq:
    """‖X‖_∞, the largest absolute row sum."""
    return max(sum((abs(value) for value in row), fmpq(0)) for row in rows_of(X))


def power(X: fmpq_mat, k: int) -> fmpq_mat:
    result = identity(X.nrows())
    for _ in range(k):
        result = result * X
    return result


def pinv(X: fmpq_mat) -> fmpq_mat:
    """The Moore–Penrose inverse, from a full-rank factorisation X = C R: Rᵀ(RRᵀ)⁻¹(CᵀC)⁻¹Cᵀ."""
    reduced, rank = X.rref()
    if rank == 0:
        return fmpq_mat(X.ncols(), X.nrows())
    pivots = [next(j for j in range(X.ncols()) if reduced[i, j] != 0) for i in range(rank)]
    C, R = take(X, columns=pivots), take(reduced, rows=range(rank))
    Ct, Rt = C.transpose(), R.transpose()
    return Rt * (R * Rt).inv() * (Ct * C).inv() * Ct


def normalise(X: fmpq_mat) -> fmpq_mat:
    """Rows divided by their sums."""
    return fmpq_mat([[value / sum(row, fmpq(0)) for value in row] for row in rows_of(X)])


class Instances:
    """Reproducible random rational matrices with small entries."""

    def __init__(self, seed: int = SEED) -> None:
        self.rng = np.random.default_rng(seed)

    def size(self, low: int = 1, high: int = 4) -> int:
        return int(self.rng.integers(low, high + 1))

    def any(self, m: int, n: int, low: int = -3, high: int = 3) -> fmpq_mat:
        return matrix([[int(v) for v in row] for row in self.rng.integers(low, high + 1, size=(m, n))])

    def positive(self, m: int, n: int) -> fmpq_mat:
        return self.any(m, n, 1, 6)

    def invertible(self, n: int, draw: Callable[[int, int], fmpq_mat] | None = None) -> fmpq_mat:
        draw = draw or self.any
        while True:
            X = draw(n, n)
            if X.rank() == n:
                return X

    def singular(self, n: int) -> fmpq_mat:
        """Rank n − 1 at most."""
        return self.any(n, n - 1) * self.any(n - 1, n) if n > 1 else fmpq_mat(1, 1)

    def stochastic(self, n: int, m: int) -> fmpq_mat:
        """Positive entries, rows that sum to one."""
        return normalise(self.positive(n, m))

    def gram(self, n: int, rank: int | None = None) -> fmpq_mat:
        """Positive semidefinite, of the given rank at most."""
        X = self.any(n, rank or n)
        return X * X.transpose()

    def symmetric(self, n: int) -> fmpq_mat:
        X = self.any(n, n)
        return X + X.transpose()


def show(**values: object) -> str:
    """A counterexample in a form that a reader can check by hand."""
    return "; ".join(f"{name} = {_show(value)}" for name, value in values.items())


def _show(value: object) -> str:
    if isinstance(value, fmpq_mat):
        return "[" + ", ".join("[" + ", ".join(str(v) for v in row) + "]" for row in rows_of(value)) + "]"
    return str(value)


def search(
    trial: Callable[[Claim, Instances], str | None], trials: int = TRIALS
) -> Callable[[Claim], str | None]:
    """Run a trial on many exact instances; the first counterexample, or None."""

    def counterexample(claim: Claim) -> str | None:
        instances = Instances()
        return next((found for found in (trial(claim, instances) for _ in range(trials)) if found), None)

    return counterexample
