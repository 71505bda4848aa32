"""What a tangent leaves out, between its second-order term and that term inflated by the range."""

from __future__ import annotations

from fractions import Fraction

from flint import arb

from proofs_check.balls import ball, interval, precision
from proofs_check.contract import Claim, Method, Outcome, Verdict, failed

CLAIM = Claim(
    text="ψ(x) = (e^x − 1 − x)/x² and φ(x) = (e^x − 1)/x grow on [−$far, $far], so that e^x ≤ 1 + x + "
    "ψ(R)x² and |e^x − 1| ≤ "
    "φ(max(R, 0))|x| for x ≤ R: certified through their series about cells of x; and ψ(0) = 1/$two, the "
    "second-order term itself.",
    formula="ψ′(x) > 0, φ′(x) > 0 on [−$far, $far],   ψ(0) = 1/$two",
    constants={"far": 2, "two": 2},
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Bennett 1962, for the bound of row errors; attention.tangent_errors"
METHOD = Method.BALLS
NEGATIVE_CONTROL = CLAIM.with_constants(two=1)

TERMS, CELLS = 40, 2048


def slope(x: arb, shift: int) -> arb:
    """The derivative of Σ_k x^k/(k + shift)!, with a ball about the rest: ψ for a shift of 2, φ for one of 1."""
    total, power, factorial = ball(0), ball(1), ball(1)
    for k in range(1, shift + 1):
        factorial = factorial * k
    for k in range(1, TERMS):
        factorial = factorial * (k + shift)
        total = total + k * power / factorial
        power = power * x
    rest = 2 * TERMS * abs(power) / factorial  # the terms fall by more than half each
    return total + rest.union(-rest)


def check(claim: Claim = CLAIM) -> Verdict:
    far, two = claim["far"], claim["two"]
    if far != 2:
        return failed("domain", "certified on [−2, 2]")
    with precision(192):
        width = Fraction(2 * far, CELLS)
        edges = [-far + i * width for i in range(CELLS)]
        for shift in (1, 2):
            for low in edges:
                if not slope(interval(Fraction(low), Fraction(low + width)), shift) > 0:
                    return failed(
                        "contradicted", f"resists on [{float(low)}, {float(low + width)}], shift {shift}"
                    )
        near = (ball(Fraction(1, 10**6)).expm1() - ball(Fraction(1, 10**6))) * 10**12
        sharp = abs(near - 1 / ball(two)) < ball(Fraction(1, 10**6))
    if not sharp:
        return failed("contradicted", f"ψ(10⁻⁶) = {near.str(8)}")
    return Verdict(Outcome.CERTIFIED, f"{2 * len(edges)} cells", f"ψ(10⁻⁶) = {near.str(10)}")
