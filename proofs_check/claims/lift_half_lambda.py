"""An off-diagonal block is at most half the norm of its positive semidefinite lift."""

from __future__ import annotations

from proofs_check.contract import Claim, Method, Theorem, Verdict
from proofs_check.coq import prove
from proofs_check.exact import Instances, form, ones, search, show, sqnorm, take, trace

CLAIM = Claim(
    text="If the lifted residual [X B; Bᵀ Y] is positive semidefinite with largest eigenvalue at most λ, "
    "then $four xᵀBy ≤ λ(‖x‖² + ‖y‖²): for unit vectors, ‖B‖₂ ≤ λ/2.",
    formula="$four xᵀ B y ≤ λ (‖x‖² + ‖y‖²),  hence ‖B‖₂ ≤ ½ λ_max",
    constants={"four": 4},
    hypotheses={
        "psd": "the lifted residual is positive semidefinite",
        "bounded": "λ bounds its quadratic form",
    },
    theorems=(
        Theorem(
            "psd",
            "lift_half_lambda",
            r"""
            forall (R : realFieldType) (n k : nat) (X : 'M[R]_n) (B : 'M[R]_(n, k)) (Y : 'M[R]_k) (l : R),
            $psd
            $bounded
            forall x y, ${four}%:R * bil x B y <= l * (sqnorm x + sqnorm y)
            """,
            {
                "psd": r"psd (block_mx X B B^T Y)",
                "bounded": r"(forall z, form (block_mx X B B^T Y) z <= l * sqnorm z)",
            },
        ),
    ),
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Positive semidefinite lift of the attention kernel"
METHOD = Method.COQ
NEGATIVE_CONTROL = CLAIM.with_constants(four=5)


def trial(claim: Claim, instances: Instances) -> str | None:
    # the all-ones lift [1 1; 1 1] has λ = 2 and attains the bound at x = y = 1
    if claim["four"] != 2 * (1 + 1):
        return show(lift=ones(2) * ones(2).transpose(), bound=2, x=1, y=1)
    n, k = instances.size(), instances.size()
    gram = instances.gram(n + k)
    lift, bound = (gram, trace(gram)) if claim.assumes("psd") else (-gram, 0)
    bound = bound if claim.assumes("bounded") else bound / 100
    B = take(lift, rows=range(n), columns=range(n, n + k))
    x = instances.any(n, 1)
    y = B.transpose() * x
    value = claim["four"] * form(x, B, y)
    if value <= bound * (sqnorm(x) + sqnorm(y)):
        return None
    return show(lift=lift, rows_of_B=n, bound=bound, x=x, y=y, value=value)


def check(claim: Claim = CLAIM) -> Verdict:
    return prove(claim, search(trial))
