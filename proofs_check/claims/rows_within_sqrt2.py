"""Rows of two stochastic matrices are within √2 of each other."""

from __future__ import annotations

from proofs_check.contract import Claim, Method, Theorem, Verdict
from proofs_check.coq import prove
from proofs_check.exact import Instances, matrix, q, rows_of, search, show, sqnorm

CLAIM = Claim(
    text="Two probability vectors of any length have ‖p − q‖₂² ≤ $two, attained where each has all of its "
    "mass on a key of "
    "its own: what a certificate bets on where nothing else is known.",
    formula="Σ (p_i − q_i)² ≤ $two,   p, q ≥ 0,   Σ p = Σ q = 1",
    constants={"two": 2},
    hypotheses={"p": "p ≥ 0", "q": "q ≥ 0", "sum_p": "Σ p = 1", "sum_q": "Σ q = 1"},
    theorems=(
        Theorem(
            "probability",
            "rows_within_sqrt2",
            r"""
            forall (R : realFieldType) (n : nat) (p q : 'I_n -> R),
            $p
            $q
            $sum_p
            $sum_q
            \sum_i (p i - q i) ^+ 2 <= $two%:R
            """,
            {
                "p": r"(forall i, 0 <= p i)",
                "q": r"(forall i, 0 <= q i)",
                "sum_p": r"\sum_i p i = 1",
                "sum_q": r"\sum_i q i = 1",
            },
        ),
    ),
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Folklore; used for certificates here"
METHOD = Method.COQ
NEGATIVE_CONTROL = CLAIM.with_constants(two=1)


def trial(claim: Claim, instances: Instances) -> str | None:
    n, two = instances.size(2), q(claim["two"])
    p, r = (_vector(claim, instances, n, name) for name in ("p", "q"))
    apart = sqnorm(matrix([[1], [0]]) - matrix([[0], [1]])) == two
    return None if sqnorm(p - r) <= two and apart else show(p=p, q=r, square=sqnorm(p - r))


def _vector(claim: Claim, instances: Instances, n: int, name: str):
    x = instances.positive(n, 1) if claim.assumes(name) else matrix([[9], [-8]] + [[0]] * (n - 2))
    if not claim.assumes(f"sum_{name}"):
        return 9 * x
    return x / sum((v for (v,) in rows_of(x)), q(0))


def check(claim: Claim = CLAIM) -> Verdict:
    return prove(claim, search(trial))
