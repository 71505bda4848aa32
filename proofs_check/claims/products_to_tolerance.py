"""Matrix products that each iteration needs at condition number 1000."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from flint import arb

from proofs_check.balls import ball, precision
from proofs_check.contract import Claim, Method, Outcome, Verdict, failed

KAPPA = 1000
TOLERANCE = Fraction(1, 10**10)
STEPS: dict[str, tuple[int, Callable[[arb], arb]]] = {
    "schulz": (2, lambda e: e**2),
    "chebyshev": (3, lambda e: e**3),
    "razavi": (4, lambda e: e**3 * (3 + e) / 4),
    "five": (4, lambda e: e**5),
    "nine": (5, lambda e: e**9),
}

CLAIM = Claim(
    text="At condition number 1000, from Z₀ = Aᵀ/σ₁², reaching ‖I − AZ‖₂ ≤ 10⁻¹⁰ takes $schulz matrix "
    "products with Newton–Schulz, $chebyshev with Chebyshev, $razavi with eq. 14, $five with hyperpower 5 "
    "and $nine with hyperpower 9.",
    formula="(products a step) · min { k : e_k ≤ 10⁻¹⁰ },   e_0 = 1 − 1/1000²",
    constants={"schulz": 50, "chebyshev": 48, "razavi": 60, "five": 44, "nine": 40},
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Comparison of polynomial pseudoinverse iterations"
METHOD = Method.BALLS
NEGATIVE_CONTROL = CLAIM.with_constants(razavi=56)


def products(cost: int, step: Callable[[arb], arb]) -> int | None:
    """Certified number of products; None where the balls cannot decide."""
    e, tolerance = 1 - ball(Fraction(1, KAPPA**2)), ball(TOLERANCE)
    for k in range(1, 200):
        e = step(e)
        if e < tolerance:
            return k * cost
        if not e > tolerance:
            return None
    return None


def check(claim: Claim = CLAIM) -> Verdict:
    with precision(2000):
        found = {name: products(cost, step) for name, (cost, step) in STEPS.items()}
    detail = ", ".join(f"{name}: {count}" for name, count in found.items())
    if any(found[name] != claim[name] for name in STEPS):
        return failed("other counts", detail)
    return Verdict(Outcome.CERTIFIED, f"{found['razavi']} against {found['nine']}", detail)
