"""‖A‖₂² ≤ ‖A‖₁ ‖A‖_∞ (Schur's test), without square roots."""

from __future__ import annotations

from fractions import Fraction

from proofs_check.contract import Claim, Method, Theorem, Verdict
from proofs_check.coq import prove
from proofs_check.exact import Instances, largest_row_sum, q, search, show, sqnorm

CLAIM = Claim(
    text="For every real matrix, ‖A‖₂² ≤ ‖A‖₁ ‖A‖_∞: if r bounds the absolute row sums and c the absolute "
    "column sums, then ‖Ax‖² ≤ r c ‖x‖² for every x.",
    formula="Σ_j |a_ij| ≤ r,  Σ_i |a_ij| ≤ c  ⇒  ‖A x‖₂² ≤ r c ‖x‖₂²",
    hypotheses={"rows": "absolute row sums are at most r", "columns": "absolute column sums are at most c"},
    theorems=(
        Theorem(
            "norms",
            "schur_test",
            r"""
            forall (R : realFieldType) (m n : nat) (A : 'M[R]_(m, n)) (r c : R),
            $rows
            $columns
            0 <= r ->
            forall x, sqnorm (A *m x) <= r * c * sqnorm x
            """,
            {
                "rows": r"(forall i, \sum_j `|A i j| <= r)",
                "columns": r"(forall j, \sum_i `|A i j| <= c)",
            },
        ),
    ),
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Schur's test; used by Xiong et al. 2021 for Z₀"
METHOD = Method.COQ
NEGATIVE_CONTROL = CLAIM.without("columns")


def trial(claim: Claim, instances: Instances) -> str | None:
    m, n = instances.size(), instances.size()
    A, x = instances.any(m, n), instances.any(n, 1)
    r = largest_row_sum(A) if claim.assumes("rows") else q(Fraction(1, 10))
    c = largest_row_sum(A.transpose()) if claim.assumes("columns") else q(Fraction(1, 10))
    return None if sqnorm(A * x) <= r * c * sqnorm(x) else show(A=A, x=x, r=r, c=c)


def check(claim: Claim = CLAIM) -> Verdict:
    return prove(claim, search(trial))
