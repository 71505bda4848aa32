"""The pseudoinverse of a compression, whatever the bases."""

from __future__ import annotations

from proofs_check.contract import Claim, Method, Theorem, Verdict
from proofs_check.coq import prove
from proofs_check.exact import Instances, pinv, search, show

CLAIM = Claim(
    text="For U and V of r independent columns, orthonormal or not, with C = UᵀAV invertible, VC⁻¹Uᵀ is the "
    "pseudoinverse of P A Q, P and Q the orthogonal projectors on their columns.",
    formula="(P A Q)⁺ = V (UᵀAV)⁻¹ Uᵀ",
    hypotheses={
        "left": "the columns of U are independent",
        "right": "the columns of V are independent",
        "core": "UᵀAV is invertible",
    },
    theorems=(
        Theorem(
            "verified",
            "compression_pseudoinverse",
            r"""
            forall (R : fieldType) (m n r : nat) (A : 'M[R]_(m, n)) (U : 'M[R]_(m, r)) (V : 'M[R]_(n, r)),
            $left
            $right
            $core
            let P := U *m invmx (U^T *m U) *m U^T in
            let Q := V *m invmx (V^T *m V) *m V^T in
            let M := P *m A *m Q in
            let G := V *m invmx (U^T *m A *m V) *m U^T in
            [/\ M *m G = P, G *m M = Q, M *m G *m M = M & G *m M *m G = G]
            """,
            {
                "left": r"U^T *m U \in unitmx",
                "right": r"V^T *m V \in unitmx",
                "core": r"U^T *m A *m V \in unitmx",
            },
        ),
    ),
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Elementary; used by `pinv.verify` for a stated rank"
METHOD = Method.COQ
NEGATIVE_CONTROL = CLAIM.without("core")


def trial(claim: Claim, instances: Instances) -> str | None:
    m, n = instances.size(2, 4), instances.size(2, 4)
    r = instances.size(1, min(m, n))
    A, U, V = instances.any(m, n), instances.any(m, r), instances.any(n, r)
    P, Q = U * pinv(U), V * pinv(V)
    C = U.transpose() * A * V
    if C.rank() < r and claim.assumes("core"):
        return None
    G, M = V * pinv(C) * U.transpose(), P * A * Q
    holds = M * G == P and G * M == Q and M * G * M == M and G * M * G == G
    return None if holds else show(A=A, U=U, V=V)


def check(claim: Claim = CLAIM) -> Verdict:
    return prove(claim, search(trial))
