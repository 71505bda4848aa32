"""The Frobenius norm of an off-diagonal block of a positive semidefinite matrix."""

from __future__ import annotations

from proofs_check.contract import Claim, Method, Theorem, Verdict
from proofs_check.coq import prove
from proofs_check.exact import Instances, search, show, take, trace

CLAIM = Claim(
    text="If the lifted residual [X B; Bᵀ Y] is positive semidefinite, ‖B‖_F^$power ≤ tr X · tr Y.",
    formula="Σ_ij |B_ij|^$power ≤ tr X · tr Y",
    constants={"power": 2},
    hypotheses={
        "psd": "the lifted residual is positive semidefinite",
        "X": "X is symmetric",
        "Y": "Y is symmetric",
    },
    theorems=(
        Theorem(
            "psd",
            "lift_frobenius",
            r"""
            forall (R : realFieldType) (n k : nat) (X : 'M[R]_n) (B : 'M[R]_(n, k)) (Y : 'M[R]_k),
            $psd
            $X
            $Y
            \sum_i \sum_j B i j ^+ $power <= \tr X * \tr Y
            """,
            {
                "psd": r"psd (block_mx X B B^T Y)",
                "X": r"X^T = X",
                "Y": r"Y^T = Y",
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
    n, k = instances.size(), instances.size()
    rank_one = instances.any(n + k, 1, 1, 3)
    lift = rank_one * rank_one.transpose() if claim.assumes("psd") else instances.symmetric(n + k)
    X, Y = take(lift, range(n), range(n)), take(lift, range(n, n + k), range(n, n + k))
    B = take(lift, range(n), range(n, n + k))
    total = sum(abs(B[i, j]) ** claim["power"] for i in range(n) for j in range(k))
    bound = trace(X) * trace(Y)
    # a lift of rank one attains the bound
    holds = total == bound if claim.assumes("psd") else total <= bound
    return None if holds else show(lift=lift, rows_of_B=n, total=total, bound=bound)


def check(claim: Claim = CLAIM) -> Verdict:
    return prove(claim, search(trial))
