"""Certified real arithmetic: every number is a ball that contains the exact value (Arb)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction

from flint import arb, ctx, fmpq_mat

from proofs_check.exact import q

Function = Callable[[arb], arb]


def ball(value: int | Fraction) -> arb:
    """The smallest ball around a rational at the working precision."""
    return arb(q(value))


def interval(low: Fraction, high: Fraction) -> arb:
    """A ball that contains [low, high]."""
    return ball(low).union(ball(high))


@contextmanager
def precision(bits: int) -> Iterator[None]:
    """Work at the given precision inside the block."""
    before = ctx.prec
    ctx.prec = bits
    try:
        yield
    finally:
        ctx.prec = before


def positive_on(f: Function, low: Fraction, high: Fraction, depth: int = 14) -> tuple[bool, int, str]:
    """Certify f > 0 on [low, high] by bisection: (certified, pieces, an interval that resists)."""
    stack = [(Fraction(low), Fraction(high), 0)]
    pieces = 0
    while stack:
        a, b, level = stack.pop()
        if f(interval(a, b)) > 0:
            pieces += 1
        elif level == depth or f(ball((a + b) / 2)) < 0:
            return False, pieces, f"[{float(a):.6g}, {float(b):.6g}]"
        else:
            middle = (a + b) / 2
            stack += [(a, middle, level + 1), (middle, b, level + 1)]
    return True, pieces, ""


def largest_eigenvalue(X: fmpq_mat) -> arb:
    """The largest eigenvalue of a rational symmetric matrix, from its exact characteristic polynomial."""
    roots = X.charpoly().numer().complex_roots()
    largest = roots[0][0].real
    for root, _ in roots[1:]:
        largest = largest.max(root.real)
    return largest
