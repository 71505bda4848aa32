"""A batch-global initialisation still converges, later by a certified number of steps."""

from __future__ import annotations

from fractions import Fraction

from proofs_check.balls import ball, positive_on, precision
from proofs_check.contract import Claim, Method, Outcome, Verdict, failed
from proofs_check.iterations import eq14_eigenvalue, eq14_factor

LEVEL = Fraction(1, 2)
RHO = 100

CLAIM = Claim(
    text="Scaling Z₀ down by ρ ≥ 1 (the norms of another item of the batch) keeps t = σ²/(‖A‖₁‖A‖_∞) in (0, "
    "1), so eq. 14 still converges; each step multiplies t by less than $growth, so it costs at least log "
    "ρ/log($growth) − 1 further steps.  For t = $t and ρ = 100: $alone steps alone, $batched in the batch, "
    "to reach x ≥ ½.",
    formula="0 < x⁺ < $growth·x on (0, 1];   N($t) = $alone,   N($t/100) = $batched",
    constants={"growth": Fraction(13, 4), "t": Fraction(1, 100), "alone": 4, "batched": 8},
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Batch-global initialisation in public implementations of Xiong et al. 2021"
METHOD = Method.BALLS
NEGATIVE_CONTROL = CLAIM.with_constants(batched=7)


def steps_to_level(t: Fraction) -> int | None:
    """The number of steps after which x ≥ ½, certified; None if 64 do not suffice."""
    x, level = ball(t), ball(LEVEL)
    for step in range(64):
        if x > level:
            return step
        if not x < level:
            return None
        x = eq14_eigenvalue(x)
    return None


def check(claim: Claim = CLAIM) -> Verdict:
    # x⁺/x is 13/4 at 0 and decreases on [0, 1], where the slope of 13 − 15x + 7x² − x³ is negative
    with precision(256):
        falling, pieces, where = positive_on(lambda x: 15 - 14 * x + 3 * x**2, Fraction(0), Fraction(1))
        at_zero = eq14_factor(Fraction(0))
        if not falling or at_zero != claim["growth"]:
            return failed("growth", f"x⁺/x is {at_zero} at 0 and {where or 'falls'} on [0, 1]")
        if not 0 < claim["t"] < 1:
            return failed("domain", "0 < t < 1 is assumed")
        alone, batched = steps_to_level(claim["t"]), steps_to_level(claim["t"] / RHO)
        extra = ball(Fraction(RHO)).log() / ball(claim["growth"]).log()
    detail = f"N(t) = {alone}, N(t/ρ) = {batched}; x⁺/x falls from {at_zero} on (0, 1], in {pieces} pieces"
    if (alone, batched) != (claim["alone"], claim["batched"]) or not batched - alone > extra - 1:
        return failed("other step counts", detail)
    return Verdict(Outcome.CERTIFIED, f"{batched - alone} further steps", detail)
