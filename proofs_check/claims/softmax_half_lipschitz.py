"""Softmax is ½-Lipschitz in ℓ1, ℓ2 and ℓ∞, through its Jacobian."""

from __future__ import annotations

from fractions import Fraction

from flint import fmpq_mat

from proofs_check.contract import Claim, Method, Theorem, Verdict
from proofs_check.coq import prove
from proofs_check.exact import Instances, q, rows_of, search, show, sqnorm

CLAIM = Claim(
    text="The Jacobian J = diag(p) − ppᵀ of softmax has absolute row sums at most $half (so ‖J‖_∞ = ‖J‖₁ ≤ "
    "$half) and ‖Jx‖ ≤ $half‖x‖ in ℓ2, at every probability vector p of every length: softmax is "
    "$half-Lipschitz in ℓ1, ℓ2 and ℓ∞.  The constant is attained at p = (½, ½).",
    formula="Σ_j |J_ij| = 2p_i(1 − p_i) ≤ $half,   ‖J x‖₂ ≤ $half ‖x‖₂,   J = diag(p) − p pᵀ",
    constants={"half": Fraction(1, 2)},
    hypotheses={"nonnegative": "p ≥ 0", "sum": "Σ p = 1"},
    theorems=(
        Theorem(
            "norms",
            "softmax_half_lipschitz",
            r"""
            forall (R : realFieldType) (n : nat) (p : 'I_n -> R),
            $nonnegative
            $sum
            (forall i, \sum_j `|softmax_jacobian p i j| <= 1%:R / 2%:R)
            /\ (forall x, sqnorm (softmax_jacobian p *m x) <= $half ^+ 2 * sqnorm x)
            """,
            {
                "nonnegative": r"(forall i, 0 <= p i)",
                "sum": r"\sum_i p i = 1",
            },
        ),
    ),
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Folklore; stated in the literature for every ℓp"
METHOD = Method.COQ
NEGATIVE_CONTROL = CLAIM.with_constants(half=Fraction(1, 4))


def trial(claim: Claim, instances: Instances) -> str | None:
    n = instances.size(2)
    draw = instances.positive if claim.assumes("nonnegative") else instances.any
    p = [v for (v,) in rows_of(draw(n, 1))]
    if claim.assumes("sum"):
        if sum(p) == 0:
            return None
        p = [v / sum(p) for v in p]
    half = q(claim["half"])
    x = instances.any(n, 1)
    J = jacobian(p)
    rows = [sum(abs(v) for v in row) for row in rows_of(J)]
    fair = jacobian([q(Fraction(1, 2))] * 2)
    sharp = sum(abs(v) for v in rows_of(fair)[0]) == half
    holds = max(rows) <= half and sqnorm(J * x) <= half**2 * sqnorm(x)
    return None if holds and sharp else show(p=p, J=J, row_sums=rows, x=x, fair_coin=fair)


def jacobian(p: list) -> fmpq_mat:
    n = len(p)
    return fmpq_mat([[p[i] * (int(i == j) - p[j]) for j in range(n)] for i in range(n)])


def check(claim: Claim = CLAIM) -> Verdict:
    return prove(claim, search(trial))
