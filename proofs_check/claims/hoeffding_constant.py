"""The best constant of Hoeffding's lemma is below R²/8: how far a group's mass can be above its tangent."""

from __future__ import annotations

from fractions import Fraction

from flint import arb

from proofs_check.balls import ball, positive_on, precision
from proofs_check.contract import Claim, Method, Outcome, Verdict, failed

LOW, SHARP = Fraction(1), Fraction(1, 10)

CLAIM = Claim(
    text="h(R) = ln((e^R − 1)/R) − 1 + R/(e^R − 1), the most by which the logarithm of a mean of "
    "exponentials of range R exceeds "
    "that of its tangent, is below R²/$eight on [1, $far]: certified.  The constant is sharp as R → 0: at "
    "R = 1/10 the two "
    "agree to a relative 10⁻³.",
    formula="h(R) < R²/$eight for R ∈ [1, $far],   8 h(1/10)·100 > 1 − 10⁻³",
    constants={"eight": 8, "far": 30},
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Hoeffding 1963, eq. 4.16; bounds.group_sums"
METHOD = Method.BALLS
NEGATIVE_CONTROL = CLAIM.with_constants(eight=16)


def excess(r: arb) -> arb:
    """h(R)."""
    grown = r.expm1()
    return (grown / r).log() - 1 + r / grown


def check(claim: Claim = CLAIM) -> Verdict:
    eight, far = claim["eight"], Fraction(claim["far"])
    if far != 30 or eight <= 0:
        return failed("domain", "certified up to 30")
    with precision(128):
        below, pieces, where = positive_on(lambda r: r * r / eight - excess(r), LOW, far, depth=22)
        ratio = eight * excess(ball(SHARP)) / ball(SHARP) ** 2
        sharp = ball(Fraction(999, 1000)) < ratio < 1
    if not (below and sharp):
        return failed("contradicted", f"resists on {where or 'the sharpness'}; ratio {ratio.str(8)}")
    return Verdict(Outcome.CERTIFIED, f"{pieces} pieces", f"ratio at R = {SHARP}: {ratio.str(8)}")
