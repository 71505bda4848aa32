"""Lemma 1 as printed: false for a singular A."""

from __future__ import annotations

from fractions import Fraction

from proofs_check.claims import lemma1_range
from proofs_check.contract import Claim, Method, Verdict, failed, refuted
from proofs_check.exact import is_zero, matrix, pinv, q, show
from proofs_check.iterations import Products, razavi

CLAIM = Claim(
    text="As printed: if ‖AA⁺ − AZ₀‖ < 1 then Z_k → A⁺.  False: for A = diag(1, 0) and Z₀ = diag(1, $start) "
    "the hypothesis holds with norm 0, yet every step multiplies the null component by $growth; after three "
    "it is $third.  With the range condition the lemma is true.",
    formula="A = diag(1, 0), Z_0 = diag(1, $start):  AA⁺ − AZ_0 = 0,  Z_k = diag(1, $start·($growth)^k)",
    constants={"start": 5, "growth": Fraction(13, 4), "third": Fraction(10985, 64)},
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Xiong et al. 2021, Lemma 1"
METHOD = Method.COUNTEREXAMPLE
NEGATIVE_CONTROL = CLAIM.with_constants(growth=Fraction(1, 2))


def check(claim: Claim = CLAIM) -> Verdict:
    A, Z = matrix([[1, 0], [0, 0]]), matrix([[1, 0], [0, claim["start"]]])
    if not is_zero(A * pinv(A) - A * Z):
        return failed("the hypothesis fails", show(A=A, Z0=Z))
    iterates = [Z]
    for _ in range(3):
        iterates.append(razavi(A, iterates[-1], Products()))
    growing = all(Z[1, 1] == q(claim["start"]) * q(claim["growth"]) ** k for k, Z in enumerate(iterates))
    if not growing or claim["growth"] <= 1 or iterates[3][1, 1] != q(claim["third"]):
        return failed("not a counterexample", show(Z3=iterates[3]))
    detail = show(A=A, pseudoinverse=pinv(A), Z0=iterates[0], Z1=iterates[1], Z2=iterates[2], Z3=iterates[3])
    return refuted(f"null component {iterates[3][1, 1]} after 3 steps", detail, lemma1_range.check())
