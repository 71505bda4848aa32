"""Any step of the planner in floating point."""

from __future__ import annotations

from fractions import Fraction

from proofs_check.contract import Claim, Method, Theorem, Verdict
from proofs_check.coq import prove
from proofs_check.exact import Instances, identity, q, search, show
from proofs_check.rounded import Rounded, exceeds, factor, moduli, unit

CLAIM = Claim(
    text="A program of products, sums and multiples, run on a square matrix, errs entry by entry by at most (1 + u)^k "
    "− 1 times the same program with moduli for its numbers, k the roundings on its longest way.  So does a step Z ← "
    "cZ + Z e(AZ) with any such program e, such as those that are optimal on an interval: k counts n for AZ, m for "
    "the product with Z and one for the sum.",
    formula="|fl(Z⁺) − (cZ + Z e(AZ))| ≤ ((1 + u)^k − 1)(|c||Z| + |Z| |e|(|A||Z|)),   k = max(2, k_e + m) + 1",
    hypotheses={
        "program": "the program comes from the standard model (first part)",
        "argument": "so does AZ (second part)",
        "run": "and the program run on it (second part)",
        "product": "and its product with Z (second part)",
        "multiple": "and cZ (second part)",
        "sum": "and the sum (second part)",
    },
    theorems=(
        Theorem(
            "steps",
            "program_rounding",
            r"""
            forall (R : realFieldType) (u : R) (n : nat) (e : program R) (Y C : 'M[R]_n),
            0 <= u ->
            $program
            below (entrywise (C - meaning e Y)) (((1 + u) ^+ roundings n 0 e - 1) *: magnitude e (entrywise Y))
            """,
            {"program": r"executed u e Y C"},
        ),
        Theorem(
            "steps",
            "step_rounding",
            r"""
            forall (R : realFieldType) (u c : R) (m n : nat) (e : program R)
            (A : 'M[R]_(m, n)) (Z S P Znext : 'M[R]_(n, m)) (Y E : 'M[R]_m),
            0 <= u ->
            $argument
            $run
            $product
            $multiple
            $sum
            below (entrywise (Znext - (c *: Z + Z *m meaning e (A *m Z))))
            (((1 + u) ^+ (maxn 2 (roundings m n e + m)).+1 - 1)
            *: (`|c| *: entrywise Z + entrywise Z *m magnitude e (entrywise A *m entrywise Z)))
            """,
            {
                "argument": r"product_computed u A Z Y",
                "run": r"executed u e Y E",
                "product": r"product_computed u Z E P",
                "multiple": r"multiple_computed u c Z S",
                "sum": r"sum_computed u S P Znext",
            },
        ),
    ),
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "The standard model, for the steps of this project"
METHOD = Method.COQ
NEGATIVE_CONTROL = CLAIM.without("run")


def trial(claim: Claim, instances: Instances) -> str | None:
    """The step c₀Z + Z(c₁(hI − Y) + c₂(hI − Y)²)."""
    m, n, u = instances.size(1, 3), instances.size(1, 3), unit(instances)
    A, Z = instances.any(m, n), instances.any(n, m)
    centre, c0, c1, c2 = (Fraction(instances.size(-6, 6), 2) for _ in range(4))
    rounded = Rounded(u, instances)

    def wild(rows: int, columns: int):
        return instances.any(rows, columns, -(10**6), 10**6)

    def run(Y):
        x = rounded.sum(identity(m) * rounded(q(centre)), rounded.multiple(Fraction(-1), Y))
        return rounded.sum(rounded.multiple(c1, x), rounded.multiple(c2, rounded.product(x, x)))

    def meaning(Y):
        x = identity(m) * q(centre) - Y
        return x * q(c1) + x * x * q(c2)

    def magnitude(M):
        x = identity(m) * q(abs(centre)) + M
        return x * q(abs(c1)) + x * x * q(abs(c2))

    def roundings(k: int) -> int:
        x = max(1, k + 2) + 1
        return max(x + 2, 2 * x + m + 2) + 1

    B = instances.any(m, m)
    C = run(B) if claim.assumes("program") else wild(m, m)
    if exceeds(C - meaning(B), magnitude(moduli(B)) * factor(u, roundings(0))):
        return show(Y=B, C=C, u=u, c1=c1, c2=c2, centre=centre)
    Y = rounded.product(A, Z) if claim.assumes("argument") else wild(m, m)
    E = run(Y) if claim.assumes("run") else wild(m, m)
    P = rounded.product(Z, E) if claim.assumes("product") else wild(n, m)
    S = rounded.multiple(c0, Z) if claim.assumes("multiple") else wild(n, m)
    found = rounded.sum(S, P) if claim.assumes("sum") else wild(n, m)
    k = max(2, roundings(n) + m) + 1
    bound = (moduli(Z) * q(abs(c0)) + moduli(Z) * magnitude(moduli(A) * moduli(Z))) * factor(u, k)
    exact = Z * q(c0) + Z * meaning(A * Z)
    return show(A=A, Z=Z, found=found, u=u) if exceeds(found - exact, bound) else None


def check(claim: Claim = CLAIM) -> Verdict:
    return prove(claim, search(trial))
