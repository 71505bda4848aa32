"""Lemma 2 with the hypotheses that it needs."""

from __future__ import annotations

from flint import fmpq_mat

from proofs_check.contract import Claim, Method, Theorem, Verdict
from proofs_check.coq import prove
from proofs_check.exact import Instances, identity, pinv, search, show, take

CLAIM = Claim(
    text="Eq. 13 is exact if every query is a landmark and A is invertible (for any landmark keys), and, "
    "for A of any rank, if every query and every key is a landmark and each landmark key occurs equally "
    "often.",
    formula="F = PA, A⁻¹ exists ⇒ F A⁻¹ B = P B;   F = PA, B = AQ, A G A = A ⇒ F G B = P A Q  (P, Q select "
    "landmarks)",
    hypotheses={"unit": "A is invertible (first part)", "inner": "A G A = A (second part), as for G = A⁺"},
    theorems=(
        Theorem(
            "inverse",
            "query_landmarks_exact",
            r"""
            forall (F : fieldType) (n m N : nat) (P : 'M[F]_(n, m)) (A : 'M[F]_m) (B : 'M[F]_(m, N)),
            $unit
            (P *m A) *m invmx A *m B = P *m B
            """,
            {
                "unit": r"A \in unitmx",
            },
        ),
        Theorem(
            "inverse",
            "landmark_tokens_exact",
            r"""
            forall (F : fieldType) (n m N : nat) (P : 'M[F]_(n, m)) (A G : 'M[F]_m) (Q : 'M[F]_(m, N)),
            $inner
            (P *m A) *m G *m (A *m Q) = P *m A *m Q
            """,
            {
                "inner": r"A *m G *m A = A",
            },
        ),
    ),
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Xiong et al. 2021, Lemma 2, corrected"
METHOD = Method.COQ
NEGATIVE_CONTROL = CLAIM.without("unit")


def trial(claim: Claim, instances: Instances) -> str | None:
    n, m, N = instances.size(2), instances.size(2), instances.size(2)
    P = select(instances, n, m)
    A = instances.invertible(m) if claim.assumes("unit") else instances.singular(m)
    B = instances.any(m, N)
    if P * A * pinv(A) * B != P * B:
        return show(P=P, A=A, B=B, approximation=P * A * pinv(A) * B, exact=P * B)
    A = instances.singular(m)
    G = pinv(A) if claim.assumes("inner") else instances.any(m, m)
    Q = select(instances, N, m).transpose()
    return None if P * A * G * A * Q == P * A * Q else show(P=P, A=A, G=G, Q=Q)


def select(instances: Instances, n: int, m: int) -> fmpq_mat:
    """A matrix whose n rows select one of m landmarks each."""
    return take(identity(m), rows=[instances.size(1, m) - 1 for _ in range(n)])


def check(claim: Claim = CLAIM) -> Verdict:
    return prove(claim, search(trial))
