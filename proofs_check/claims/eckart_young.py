"""No matrix of rank k comes closer than the (k+1)-st singular value."""

from __future__ import annotations

from proofs_check.contract import Claim, Method, Theorem, Verdict
from proofs_check.coq import prove
from proofs_check.exact import Instances, identity, is_zero, pinv, search, show, sqnorm, take

CLAIM = Claim(
    text="If ‖yVA‖² ≥ s‖yV‖² on a space of k + 1 dimensions (s = σ_{k+1}² for the leading singular space), "
    "then every B of rank at most k has ‖x(A − B)‖² ≥ s‖x‖² for some x ≠ 0: ‖A − B‖₂ ≥ σ_{k+1}.",
    formula="rank B ≤ k  ⇒  ‖A − B‖₂ ≥ σ_{k+1}(A)",
    hypotheses={
        "free": "V has k + 1 independent rows",
        "large": "‖yVA‖² ≥ s‖yV‖² for every y",
        "rank": "the rank of B is at most k",
    },
    theorems=(
        Theorem(
            "norms",
            "eckart_young",
            r"""
            forall (R : realFieldType) (n N k : nat) (A B : 'M[R]_(n, N)) (V : 'M[R]_(k.+1, n)) (s : R),
            $free
            $large
            $rank
            exists2 x : 'rV_n, x != 0 & s * sqnorm x^T <= sqnorm (x *m (A - B))^T
            """,
            {
                "free": r"row_free V",
                "large": r"(forall y : 'rV_k.+1, s * sqnorm (y *m V)^T <= sqnorm (y *m V *m A)^T)",
                "rank": r"(\rank B <= k)%N",
            },
        ),
    ),
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Eckart and Young 1936, finite-dimensional"
METHOD = Method.COQ
NEGATIVE_CONTROL = CLAIM.without("rank")


def trial(claim: Claim, instances: Instances) -> str | None:
    # A = s I and k = n − 1: the whole space has ‖yA‖² = s²‖y‖², and x with xB = 0 is the witness
    n, s = instances.size(2, 3), instances.size(1, 3)
    A = identity(n) * s
    B = instances.any(n, n - 1) * instances.any(n - 1, n) if claim.assumes("rank") else A
    bound = s**2 if claim.assumes("large") else 9 * s**2
    null = [take(identity(n) - B * pinv(B), rows=[i]) for i in range(n)]
    x = next((row for row in null if not is_zero(row)), instances.any(1, n, 1, 3))
    near = sqnorm((x * (A - B)).transpose())
    return None if near >= bound * sqnorm(x.transpose()) else show(A=A, B=B, x=x, k=n - 1, near=near)


def check(claim: Claim = CLAIM) -> Verdict:
    return prove(claim, search(trial))
