"""The length of a difference of probability vectors by its total variation, and by nothing at all."""

from __future__ import annotations

from flint import fmpq_mat

from proofs_check.contract import Claim, Method, Theorem, Verdict
from proofs_check.coq import prove
from proofs_check.exact import Instances, matrix, q, rows_of, search, show, sqnorm

CLAIM = Claim(
    text="A vector d that sums to zero has $two‖d‖₂² ≤ ‖d‖₁², of every length: two probability vectors are within √2 "
    "times their total variation of each other.  Attained by two entries.",
    formula="$two Σ d_i² ≤ (Σ |d_i|)²,   Σ d_i = 0",
    constants={"two": 2},
    hypotheses={"zero": "Σ d = 0"},
    theorems=(
        Theorem(
            "probability",
            "zero_sum_length",
            r"""
            forall (R : realFieldType) (n : nat) (d : 'I_n -> R),
            $zero
            $two%:R * (\sum_i d i ^+ 2) <= (\sum_i `|d i|) ^+ 2
            """,
            {"zero": r"\sum_i d i = 0"},
        ),
    ),
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Folklore; used for rows of attention here"
METHOD = Method.COQ
NEGATIVE_CONTROL = CLAIM.with_constants(two=3)


def trial(claim: Claim, instances: Instances) -> str | None:
    n = instances.size(2)
    d = instances.any(n, 1)
    if claim.assumes("zero"):
        total = sum((v for (v,) in rows_of(d)), q(0))
        d = d - matrix([[1]] * n) * (total / n)
    sides = of(claim, d)
    pair = of(claim, matrix([[1], [-1]]))
    holds = sides[0] <= sides[1] and pair[0] == pair[1]
    return None if holds else show(d=d, sides=sides, of_a_pair=pair)


def of(claim: Claim, d: fmpq_mat) -> tuple:
    one = sum((abs(v) for (v,) in rows_of(d)), q(0))
    return q(claim["two"]) * sqnorm(d), one**2


def check(claim: Claim = CLAIM) -> Verdict:
    return prove(claim, search(trial))
