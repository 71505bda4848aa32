"""Entries of a positive semidefinite matrix are bounded by its diagonal."""

from __future__ import annotations

from proofs_check.contract import Claim, Method, Theorem, Verdict
from proofs_check.coq import prove
from proofs_check.exact import Instances, search, show

CLAIM = Claim(
    text="For a symmetric positive semidefinite R (the lifted residual) every entry has |R_ij|^$power ≤ "
    "R_ii R_jj: the attention residual is at most √(R_ii R_jj) entrywise.",
    formula="|R_ij|^$power ≤ R_ii R_jj",
    constants={"power": 2},
    hypotheses={"psd": "R is positive semidefinite", "symmetric": "R is symmetric"},
    theorems=(
        Theorem(
            "psd",
            "psd_minor",
            r"""
            forall (R : realFieldType) (n : nat) (K : 'M[R]_n) (i j : 'I_n),
            $psd $symmetric
            K i j ^+ $power <= K i i * K j j
            """,
            {
                "psd": r"psd K",
                "symmetric": r"K^T = K",
            },
        ),
    ),
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Positive semidefinite lift of the attention kernel"
METHOD = Method.COQ
NEGATIVE_CONTROL = CLAIM.without("psd")


def trial(claim: Claim, instances: Instances) -> str | None:
    n = instances.size(2)
    R = instances.gram(n) if claim.assumes("psd") else instances.symmetric(n)
    if not claim.assumes("symmetric"):
        N = instances.any(n, n)
        R = R + (N - N.transpose()) * 10
    if any(R[i, j] == 0 for i in range(n) for j in range(n)):
        return None
    bad = [(i, j) for i in range(n) for j in range(n) if abs(R[i, j]) ** claim["power"] > R[i, i] * R[j, j]]
    tight = all(abs(R[i, i]) ** claim["power"] == R[i, i] * R[i, i] for i in range(n))
    return None if not bad and tight else show(R=R, violated_at=bad)


def check(claim: Claim = CLAIM) -> Verdict:
    return prove(claim, search(trial))
