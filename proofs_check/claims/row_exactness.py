"""A query that is a landmark has an exact row, whatever the landmark keys."""

from __future__ import annotations

from proofs_check.contract import Claim, Method, Theorem, Verdict
from proofs_check.coq import prove
from proofs_check.exact import Instances, pinv, search, show, take

CLAIM = Claim(
    text="If query i is query landmark p and A is invertible, row i of eq. 13 is row p of B, the exact "
    "softmax row of that query, for any landmark keys.",
    formula="F_i = A_p  ⇒  (F A⁻¹ B)_i = B_p",
    hypotheses={"unit": "A is invertible", "same": "row i of F is row p of A"},
    theorems=(
        Theorem(
            "inverse",
            "row_exactness",
            r"""
            forall (F : fieldType) (n m N : nat) (P : 'M[F]_(n, m)) (A : 'M[F]_m) (B : 'M[F]_(m, N))
            (i : 'I_n) (p : 'I_m),
            $unit
            $same
            row i (P *m invmx A *m B) = row p B
            """,
            {
                "unit": r"A \in unitmx",
                "same": r"row i P = row p A",
            },
        ),
    ),
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Xiong et al. 2021, sharper than Lemma 2"
METHOD = Method.COQ
NEGATIVE_CONTROL = CLAIM.without("same")


def trial(claim: Claim, instances: Instances) -> str | None:
    n, m, N = instances.size(), instances.size(2), instances.size()
    A = instances.invertible(m) if claim.assumes("unit") else instances.singular(m)
    F, B = instances.any(n, m), instances.any(m, N)
    p = instances.size(1, m) - 1
    if claim.assumes("same"):
        for j in range(m):
            F[0, j] = A[p, j]
    row = take(F * pinv(A) * B, rows=[0])
    return None if row == take(B, rows=[p]) else show(p=p, F=F, A=A, B=B, row=row)


def check(claim: Claim = CLAIM) -> Verdict:
    return prove(claim, search(trial))
