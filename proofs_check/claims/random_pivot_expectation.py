"""One step of randomly pivoted Cholesky, in expectation."""

from __future__ import annotations

from proofs_check.contract import Claim, Method, Theorem, Verdict
from proofs_check.coq import prove
from proofs_check.exact import Instances, power, search, show, take, trace

CLAIM = Claim(
    text="For symmetric positive semidefinite K, one step of randomly pivoted Cholesky (pivot i with "
    "probability K_ii/tr K) leaves a residual with expectation exactly K − K²/tr K.",
    formula="Σ_i (K_ii/tr K) (K − k_i k_iᵀ/K_ii) = K − K^$power / tr K",
    constants={"power": 2},
    hypotheses={
        "psd": "K is positive semidefinite",
        "symmetric": "K is symmetric",
        "trace": "the trace of K is not zero",
    },
    theorems=(
        Theorem(
            "psd",
            "random_pivot_expectation",
            r"""
            forall (R : realFieldType) (n : nat) (K : 'M[R]_n),
            $psd
            $symmetric
            $trace
            \sum_i (K i i / \tr K) *: (K - (K i i)^-1 *: (col i K *m row i K)) = K - (\tr K)^-1 *: (K *m K)
            """,
            {
                "psd": r"psd K",
                "symmetric": r"K^T = K",
                "trace": r"\tr K != 0",
            },
        ),
    ),
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Randomly pivoted Cholesky (Chen, Epperly, Tropp and Webber)"
METHOD = Method.COQ
NEGATIVE_CONTROL = CLAIM.with_constants(power=3)


def trial(claim: Claim, instances: Instances) -> str | None:
    n = instances.size(1, 4)
    K = instances.gram(n, instances.size(1, n)) if claim.assumes("psd") else instances.symmetric(n)
    total = trace(K)
    if total == 0:
        return None
    expected = K * 0
    for i in range(n):
        if K[i, i] != 0:
            pivot = take(K, columns=[i])
            expected = expected + (K - pivot * take(K, rows=[i]) / K[i, i]) * (K[i, i] / total)
    return None if expected == K - power(K, claim["power"]) / total else show(K=K, expected=expected)


def check(claim: Claim = CLAIM) -> Verdict:
    return prove(claim, search(trial))
