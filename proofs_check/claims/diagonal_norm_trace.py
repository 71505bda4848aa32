"""The free bounds on the norm of a positive semidefinite residual."""

from __future__ import annotations

from proofs_check.contract import Claim, Method, Theorem, Verdict
from proofs_check.coq import prove
from proofs_check.exact import Instances, form, search, show, sqnorm, trace

CLAIM = Claim(
    text="For symmetric positive semidefinite R the norm (the least λ with xᵀRx ≤ λxᵀx) lies between the "
    "largest diagonal entry and the trace.",
    formula="max_i R_ii ≤ ‖R‖₂ ≤ tr R",
    hypotheses={
        "psd": "R is positive semidefinite",
        "symmetric": "R is symmetric",
        "bounded": "λ bounds the quadratic form (lower bound)",
    },
    theorems=(
        Theorem(
            "psd",
            "form_le_trace",
            r"""
            forall (R : realFieldType) (n : nat) (K : 'M[R]_n) (x : 'cV[R]_n),
            $psd $symmetric
            form K x <= \tr K * sqnorm x
            """,
            {
                "psd": r"psd K",
                "symmetric": r"K^T = K",
            },
        ),
        Theorem(
            "psd",
            "diagonal_le_form",
            r"""
            forall (R : realFieldType) (n : nat) (K : 'M[R]_n) (l : R) (i : 'I_n),
            $bounded
            K i i <= l
            """,
            {
                "bounded": r"(forall x, form K x <= l * sqnorm x)",
            },
        ),
    ),
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Classical"
METHOD = Method.COQ
NEGATIVE_CONTROL = CLAIM.without("psd")


def trial(claim: Claim, instances: Instances) -> str | None:
    n = instances.size(2)
    R = instances.gram(n) if claim.assumes("psd") else instances.symmetric(n)
    x = instances.any(n, 1)
    bound = trace(R) if claim.assumes("bounded") else trace(R) / (2 * n)
    upper = form(x, R, x) <= trace(R) * sqnorm(x)
    lower = all(R[i, i] <= bound for i in range(n))
    return None if upper and lower else show(R=R, x=x, trace=trace(R), bound=bound)


def check(claim: Claim = CLAIM) -> Verdict:
    return prove(claim, search(trial))
