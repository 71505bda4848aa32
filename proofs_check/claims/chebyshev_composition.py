"""Chebyshev polynomials compose, and so do the interval-optimal steps built on them."""

from __future__ import annotations

from flint import fmpq_poly

from proofs_check.contract import Claim, Method, Theorem, Verdict
from proofs_check.coq import prove
from proofs_check.exact import Instances, search, show

CLAIM = Claim(
    text="T_a(T_b) = T_{ab} as polynomials over every commutative ring, for all a and b: composing the "
    "interval-optimal steps of degrees a and b gives the interval-optimal step of degree ab.",
    formula="T_a ∘ T_b = T_{a·b},   T_0 = 1,  T_1 = X,  T_{n+2} = $two X T_{n+1} − T_n",
    constants={"two": 2},
    theorems=(
        Theorem(
            "chebyshev",
            "chebyshev_composition",
            r"""
            forall (R : comRingType) (a b : nat),
            chebyshev R a \Po chebyshev R b = chebyshev R (a * b)
            """,
        ),
    ),
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Classical; optimality of composed schedules"
METHOD = Method.COQ
NEGATIVE_CONTROL = CLAIM.with_constants(two=3)


def polynomial(n: int, two: int) -> fmpq_poly:
    before, now = fmpq_poly([1]), fmpq_poly([0, 1])
    for _ in range(n):
        before, now = now, two * fmpq_poly([0, 1]) * now - before
    return before


def trial(claim: Claim, instances: Instances) -> str | None:
    a, b = instances.size(0, 5), instances.size(0, 5)
    two = claim["two"]
    composed = polynomial(a, two)(polynomial(b, two))
    product = polynomial(a * b, two)
    return None if composed == product else show(a=a, b=b, composed=composed, T_ab=product)


def check(claim: Claim = CLAIM) -> Verdict:
    return prove(claim, search(trial))
