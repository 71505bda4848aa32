"""Below its interval a schedule is a monotone filter."""

from __future__ import annotations

from fractions import Fraction

from flint import arb

from proofs_check.balls import ball, positive_on, precision
from proofs_check.contract import Claim, Method, Outcome, Verdict, failed

STAGES = (3, 3)
HIGH = Fraction(1)
TOLERANCE = Fraction(1, 10**9)
EDGE = Fraction(1, 10**6)

CLAIM = Claim(
    text="The schedule of degrees 3 and 3 on [$low, 1] maps an eigenvalue y = σ² below ℓ = $low to φ(y) in "
    "(0, 1): φ is increasing on [0, y₁], where y₁ > ℓ is the first alternation point of the composed degree "
    "$degree, and φ(ℓ) = $at_low (± 10⁻⁹).  Singular values below √ℓ meet a monotone filter.",
    formula="φ′ > 0 on [0, y₁],  y₁ = (1 + ℓ − (1 − ℓ) cos(π/$degree))/2,   φ(0) = 0,  φ(ℓ) = 1 − "
    "1/T_$degree((1+ℓ)/(1−ℓ)) = $at_low",
    constants={"low": Fraction(1, 20), "degree": 9, "at_low": Fraction("0.9666674988")},
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Interval-optimal schedules"
METHOD = Method.BALLS
NEGATIVE_CONTROL = CLAIM.with_constants(degree=8)


def chebyshev_and_slope(d: int, x: arb) -> tuple[arb, arb]:
    """T_d and T_d′ by their recurrences."""
    before, now, slope_before, slope = arb(1), x, arb(0), arb(1)
    for _ in range(d - 1):
        before, now, slope_before, slope = (
            now,
            2 * x * now - before,
            slope,
            2 * now + 2 * x * slope - slope_before,
        )
    return now, slope


def schedule(y: arb, low: Fraction) -> tuple[arb, arb]:
    """φ(y) and φ′(y) of the composed steps, each optimal on the interval that the last one leaves."""
    ell, high = ball(low), ball(HIGH)
    value, slope = y, arb(1)
    for d in STAGES:
        top, _ = chebyshev_and_slope(d, (high + ell) / (high - ell))
        p, dp = chebyshev_and_slope(d, (high + ell - 2 * value) / (high - ell))
        value, slope = 1 - p / top, slope * dp * 2 / (high - ell) / top
        ell, high = 1 - 1 / top, 1 + 1 / top
    return value, slope


def check(claim: Claim = CLAIM) -> Verdict:
    low = Fraction(claim["low"])
    if not 0 < low < 1 or claim["degree"] < 1:
        return failed("domain", "0 < ℓ < 1 is assumed")
    with precision(200):
        first = (1 + ball(low) - (1 - ball(low)) * arb.cos_pi(arb(1) / claim["degree"])) / 2
        end = Fraction(float(first))
        increasing, pieces, where = positive_on(
            lambda y: schedule(y, low)[1], Fraction(0), end - EDGE, depth=24
        )
        turns = schedule(ball(end + EDGE), low)[1] < 0
        zero, at_low = schedule(arb(0), low)[0], schedule(ball(low), low)[0]
        if not (increasing and turns):
            return failed(
                "not the first turning point", f"y₁ = {first.str(9)}; φ′ resists on {where or 'the far side'}"
            )
        if not (
            zero.contains(0)
            and abs(at_low - ball(Fraction(claim["at_low"]))) < ball(TOLERANCE)
            and at_low < 1
        ):
            return failed("another value at ℓ", f"φ(ℓ) = {at_low.str(12)}")
    detail = f"φ′ > 0 in {pieces} pieces up to y₁ = {first.str(9)}; φ(ℓ) = {at_low.str(12)}"
    return Verdict(Outcome.CERTIFIED, f"φ(ℓ) = {at_low.str(6)}", detail)
