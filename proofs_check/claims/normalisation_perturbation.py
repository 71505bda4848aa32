"""What normalising a perturbed row can add."""

from __future__ import annotations

from fractions import Fraction

from proofs_check.contract import Claim, Method, Theorem, Verdict
from proofs_check.coq import prove
from proofs_check.exact import Instances, q, search, show

CLAIM = Claim(
    text="If a non-negative row a with positive sum is perturbed to b by at most δ < 1 of its sum in ℓ1, "
    "the normalised rows differ by at most $two δ/(1 − δ) in ℓ1.",
    formula="‖b/Σb − a/Σa‖₁ ≤ $two δ/(1 − δ),   δ = ‖b − a‖₁/Σa",
    constants={"two": 2},
    hypotheses={
        "nonnegative": "a ≥ 0",
        "mass": "Σ a > 0",
        "close": "‖b − a‖₁ ≤ δ Σ a",
        "small": "δ < 1",
    },
    theorems=(
        Theorem(
            "norms",
            "normalisation_perturbation",
            r"""
            forall (R : realFieldType) (n : nat) (a b : 'I_n -> R) (delta : R),
            $nonnegative
            $mass
            $close
            $small
            \sum_j `|b j / (\sum_k b k) - a j / (\sum_k a k)| <= ${two}%:R * delta / (1 - delta)
            """,
            {
                "nonnegative": r"(forall j, 0 <= a j)",
                "mass": r"0 < \sum_j a j",
                "close": r"\sum_j `|b j - a j| <= delta * (\sum_j a j)",
                "small": r"delta < 1",
            },
        ),
    ),
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Elementary; used for row-normalised kernels"
METHOD = Method.COQ
NEGATIVE_CONTROL = CLAIM.with_constants(two=1)


def trial(claim: Claim, instances: Instances) -> str | None:
    n = instances.size(2)
    delta = q(Fraction(instances.size(1, 9), 10)) + (0 if claim.assumes("small") else 1)
    # a = (1, 0) and b = (1, −δ) attain the bound
    if perturbed(extreme := [q(1), q(0)], [q(1), -delta]) != claim["two"] * delta / (1 - delta):
        return show(a=extreme, b=[1, -delta], delta=delta)
    a = [q(instances.size(1 if claim.assumes("nonnegative") else -6, 5)) for _ in range(n)]
    steps = [q(instances.size(-3, 3)) for _ in range(n)]
    mass, length = sum(a), sum(abs(v) for v in steps)
    if length == 0 or mass == 0 or (claim.assumes("mass") and mass < 0):
        return None
    b = [u + step * delta * mass / length for u, step in zip(a, steps, strict=True)]
    stated = delta if claim.assumes("close") else delta / 100
    bound = claim["two"] * stated / (1 - stated)
    return None if perturbed(a, b) <= bound else show(a=a, b=b, delta=stated, bound=bound)


def perturbed(a: list, b: list):
    """‖b/Σb − a/Σa‖₁."""
    return sum(abs(v / sum(b) - u / sum(a)) for u, v in zip(a, b, strict=True))


def check(claim: Claim = CLAIM) -> Verdict:
    return prove(claim, search(trial))
