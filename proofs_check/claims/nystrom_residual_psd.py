"""The Nyström residual is positive semidefinite, and so is what it approximates."""

from __future__ import annotations

from proofs_check.contract import Claim, Method, Theorem, Verdict
from proofs_check.coq import prove
from proofs_check.exact import Instances, form, pinv, search, show

CLAIM = Claim(
    text="For a symmetric positive semidefinite K and any sketch P, the Nyström residual R = K − K P "
    "(PᵀKP)⁺ PᵀK satisfies 0 ⪯ R ⪯ K.",
    formula="0 ≤ xᵀ R x ≤ xᵀ K x,   R = K − K P G PᵀK,  G = (PᵀKP)⁺",
    hypotheses={
        "psd": "K is positive semidefinite",
        "symmetric": "K is symmetric",
        "inverse_symmetric": "G is symmetric",
        "reflexive": "G (PᵀKP) G = G",
    },
    theorems=(
        Theorem(
            "psd",
            "residual_psd",
            r"""
            forall (R : realFieldType) (n m : nat) (K : 'M[R]_n) (P : 'M[R]_(n, m)) (G : 'M[R]_m),
            $psd
            $symmetric
            $inverse_symmetric
            $reflexive
            psd (residual K P G) /\ psd (K - residual K P G)
            """,
            {
                "psd": r"psd K",
                "symmetric": r"K^T = K",
                "inverse_symmetric": r"G^T = G",
                "reflexive": r"G *m (P^T *m K *m P) *m G = G",
            },
        ),
    ),
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Classical (Schur complement)"
METHOD = Method.COQ
NEGATIVE_CONTROL = CLAIM.without("psd")


def trial(claim: Claim, instances: Instances) -> str | None:
    n, m = instances.size(2), instances.size(1, 2)
    K = instances.gram(n, instances.size(1, n)) if claim.assumes("psd") else instances.symmetric(n)
    if not claim.assumes("symmetric"):
        N = instances.any(n, n)
        K = K + (N - N.transpose())
    P = instances.any(n, m)
    G = pinv(P.transpose() * K * P)
    if not claim.assumes("reflexive"):
        G = G + instances.gram(m)
    R = K - K * P * G * P.transpose() * K
    for _ in range(6):
        x = instances.any(n, 1)
        if not 0 <= form(x, R, x) <= form(x, K, x):
            return show(K=K, P=P, G=G, R=R, x=x)
    return None


def check(claim: Claim = CLAIM) -> Verdict:
    return prove(claim, search(trial))
