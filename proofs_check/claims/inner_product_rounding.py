"""Inner products in floating point, in any order of summation."""

from __future__ import annotations

from fractions import Fraction

from proofs_check.contract import Claim, Method, Theorem, Verdict
from proofs_check.coq import prove
from proofs_check.exact import Instances, q, search, show
from proofs_check.rounded import Rounded, factor, unit

CLAIM = Claim(
    text="An inner product of n pairs, each operation off by a relative error of at most u, in any order of "
    "summation and with fused multiply-adds or without, errs by at most (1 + u)ⁿ − 1 times the inner product of the "
    "moduli; and nu ≤ (1 + u)ⁿ − 1 ≤ nu/(1 − nu) where nu < 1.",
    formula="|fl(xᵀy) − xᵀy| ≤ ((1 + u)ⁿ − 1) |x|ᵀ|y|,   nu ≤ (1 + u)ⁿ − 1 ≤ γ_n = nu/(1 − nu)",
    hypotheses={
        "length": "n pairs",
        "model": "the standard model of floating-point arithmetic, without underflow",
        "small": "nu < 1 (second part)",
    },
    theorems=(
        Theorem(
            "rounding",
            "inner_product_rounding",
            r"""
            forall (R : realFieldType) (u : R) (n : nat) (s : seq (R * R)) (r : R),
            0 <= u ->
            $length
            $model
            `|r - \sum_(p <- s) p.1 * p.2| <= ((1 + u) ^+ n - 1) * \sum_(p <- s) `|p.1| * `|p.2|
            """,
            {"length": r"size s = n", "model": r"computed u s r"},
        ),
        Theorem(
            "rounding",
            "gamma_bound",
            r"""
            forall (R : realFieldType) (u : R) (k : nat),
            0 <= u ->
            $small
            k%:R * u <= (1 + u) ^+ k - 1 <= k%:R * u / (1 - k%:R * u)
            """,
            {"small": r"k%:R * u < 1"},
        ),
    ),
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Higham 2002, §3.1 and Lemma 3.1"
METHOD = Method.COQ
NEGATIVE_CONTROL = CLAIM.without("small")


def trial(claim: Claim, instances: Instances) -> str | None:
    n, u = instances.size(1, 6), unit(instances)
    pairs = [(instances.any(1, 1)[0, 0], instances.any(1, 1)[0, 0]) for _ in range(n)]
    r = Rounded(u, instances).dot(pairs) if claim.assumes("model") else q(n)
    length = n if claim.assumes("length") else 0
    exact, moduli = sum(x * y for x, y in pairs), sum(abs(x * y) for x, y in pairs)
    if abs(r - exact) > factor(u, length) * moduli:
        return show(pairs=pairs, u=u, r=r)
    k = int(Fraction(1) / u) - 1 if claim.assumes("small") else int(2 / u)
    held = q(k * u) <= factor(u, k) <= q(k * u / (1 - k * u))
    return None if held else show(u=u, k=k)


def check(claim: Claim = CLAIM) -> Verdict:
    return prove(claim, search(trial))
