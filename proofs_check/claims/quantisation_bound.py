"""Any landmark close to a token bounds that token's residual."""

from __future__ import annotations

from proofs_check.contract import Claim, Method, Theorem, Verdict
from proofs_check.coq import prove
from proofs_check.exact import Instances, form, identity, search, show, take

CLAIM = Claim(
    text="For symmetric positive semidefinite K and landmarks P, R_ii ≤ (e_i − Pc)ᵀ K (e_i − Pc) for every "
    "combination c.  With c a unit vector this is R_ii ≤ ‖φ(x_i) − φ(z_s)‖², so tr R ≤ Σ_i min_s ‖φ(x_i) − "
    "φ(z_s)‖²; landmarks that are not tokens (means) are covered by adding them to K.",
    formula="R_ii ≤ (e_i − P c)ᵀ K (e_i − P c),   R = K − K P (PᵀKP)⁻¹ PᵀK",
    hypotheses={
        "psd": "K is positive semidefinite",
        "symmetric": "K is symmetric",
        "unit": "the core PᵀKP is invertible",
    },
    theorems=(
        Theorem(
            "psd",
            "quantisation",
            r"""
            forall (R : realFieldType) (n m : nat) (K : 'M[R]_n) (P : 'M[R]_(n, m)) (i : 'I_n) (c : 'cV[R]_m),
            $psd
            $symmetric
            $unit
            residual K P (invmx (P^T *m K *m P)) i i <= form K (unit_vector R i - P *m c)
            """,
            {
                "psd": r"psd K",
                "symmetric": r"K^T = K",
                "unit": r"P^T *m K *m P \in unitmx",
            },
        ),
    ),
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Quantisation bound (Zhang, Tsang and Kwok 2008, in this form elementary)"
METHOD = Method.COQ
NEGATIVE_CONTROL = CLAIM.without("psd")


def trial(claim: Claim, instances: Instances) -> str | None:
    n, m = instances.size(2), instances.size(1, 2)
    K = instances.gram(n) if claim.assumes("psd") else instances.symmetric(n)
    if not claim.assumes("symmetric"):
        N = instances.any(n, n)
        K = K + (N - N.transpose())
    P = instances.any(n, m)
    W = P.transpose() * K * P
    if W.rank() < m:
        return None
    R = K - K * P * W.inv() * P.transpose() * K
    for i in range(n):
        difference = take(identity(n), columns=[i]) - P * instances.any(m, 1)
        if R[i, i] > form(difference, K, difference):
            return show(K=K, P=P, i=i, residual=R[i, i], bound=form(difference, K, difference))
    return None


def check(claim: Claim = CLAIM) -> Verdict:
    return prove(claim, search(trial))
