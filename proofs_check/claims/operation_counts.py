"""The printed operation counts against counted ones."""

from __future__ import annotations

from fractions import Fraction

import sympy as sp

from proofs_check.contract import Claim, Method, Outcome, Verdict, failed, refuted

CLAIM = Claim(
    text="As printed, segment-means landmarks cost O(n). False: they take $means(n − m)d additions, "
    "unbounded in d for fixed n. The printed totals still hold: the multiply-adds and additions of eq. 13 "
    "with $iterations iterations of $products products, counted, are at most $factor times n + m³ + nm² + "
    "mnd_v + nmd, and the entries stored at most $memory times md + nm + m² + nd_v, for all n ≥ m ≥ 1 and d, "
    "d_v ≥ 1; both factors are approached at n = m → ∞.",
    formula="$means(n − m)d + 2nmd + m²d + $iterations·$products m³ + nm² + 2mnd_v ≤ $factor (n + m³ + nm² "
    "+ mnd_v + nmd);   2md + 3nm + 4m² + md_v + nd_v ≤ $memory (md + nm + m² + nd_v)",
    constants={
        "means": 2,
        "iterations": 6,
        "products": 4,
        "factor": Fraction(25, 2),
        "memory": Fraction(7, 2),
    },
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Xiong et al. 2021, complexity analysis"
METHOD = Method.COUNTEREXAMPLE
NEGATIVE_CONTROL = CLAIM.with_constants(means=1)


PAPER = (6, 4)  # iterations, and the products of one step of eq. (14)
n, m, d, d_v = sp.symbols("n m d d_v", positive=True, integer=True)


class Counter:
    """Counts multiply-adds of products, additions of means and entries stored, from shapes alone."""

    def __init__(self) -> None:
        self.total = sp.Integer(0)
        self.additions = sp.Integer(0)
        self.stored = sp.Integer(0)

    def store(self, shape: tuple) -> tuple:
        self.stored += shape[0] * shape[1]
        return shape

    def product(self, left: tuple, right: tuple) -> tuple:
        self.total += left[0] * left[1] * right[1]
        return left[0], right[1]

    def segment_means(self, tokens: tuple) -> tuple:
        # m segments of n/m tokens: n/m − 1 vector additions each
        self.additions += m * (n / m - 1) * tokens[1]
        return self.store((m, tokens[1]))


def eq13(iterations: int, products: int) -> Counter:
    """Eq. (13) and (14) run on shapes: F A⁺ first, then B V, then their product."""
    count = Counter()
    query, key, value = (n, d), (n, d), (n, d_v)
    query_landmarks, key_landmarks = count.segment_means(query), count.segment_means(key)
    F = count.store(count.product(query, key_landmarks[::-1]))
    A = count.store(count.product(query_landmarks, key_landmarks[::-1]))
    B = count.store(count.product(query_landmarks, key[::-1]))
    Z = count.store(A)
    for _ in range(2):
        count.store(A)  # AZ and one bracket of eq. (14), overwritten from step to step
    for _ in range(iterations * products):
        Z = count.product(A, Z)
    FZ, BV = count.store(count.product(F, Z)), count.store(count.product(B, value))
    count.store(count.product(FZ, BV))
    return count


def bounded(total: sp.Expr, printed: sp.Expr, factor: Fraction) -> Verdict:
    """factor × printed − counted has no negative coefficient in n − m, m − 1, d − 1 and d_v − 1."""
    s, u, v, w = sp.symbols("s u v w", nonnegative=True)
    shifted = (sp.Rational(factor) * printed - total).subs({n: m + s, d: 1 + v, d_v: 1 + w}).subs(m, 1 + u)
    coefficients = sp.Poly(sp.expand(shifted), s, u, v, w).coeffs()
    limit = sp.limit((total / printed).subs(n, m), m, sp.oo)
    if min(coefficients) < 0 or limit != sp.Rational(factor):
        return failed("not the factor", f"smallest coefficient {min(coefficients)}, limit at n = m {limit}")
    return Verdict(Outcome.PROVED, f"factor {factor}", f"{len(coefficients)} coefficients, none negative")


def check(claim: Claim = CLAIM) -> Verdict:
    count = eq13(claim["iterations"], claim["products"])
    additions = sp.expand(count.additions)
    total = sp.expand(count.total + count.additions)
    core = total.coeff(m, 3)
    if sp.diff(additions, d) != sp.expand(claim["means"] * (n - m)):
        return failed("other landmark cost", f"additions {additions}")
    if core != claim["iterations"] * claim["products"] or (claim["iterations"], claim["products"]) != PAPER:
        return failed("other iteration", f"the core takes {core} m³")
    detail = f"landmarks: {additions} additions; operations {total}; stored {sp.expand(count.stored)}"
    number = f"{claim['means']}(n − m)d is not O(n)"
    time = bounded(total, n + m**3 + n * m**2 + m * n * d_v + n * m * d, claim["factor"])
    if not time.outcome.accepted:
        return time
    return refuted(number, detail, bounded(count.stored, m * d + n * m + m**2 + n * d_v, claim["memory"]))
