"""Why the edge of the basin looks like 2.998: the iteration crawls there."""

from __future__ import annotations

from fractions import Fraction

from proofs_check.balls import ball, precision
from proofs_check.contract import Claim, Method, Outcome, Verdict, failed
from proofs_check.iterations import eq14_eigenvalue

LEVEL = Fraction(1, 2)

CLAIM = Claim(
    text="From the eigenvalue x = $start, inside the basin (0, 3), eq. 14 needs exactly $steps steps to "
    "bring |1 − x| to 1/2 or below.",
    formula="min { k : |1 − x_k| ≤ 1/2 } = $steps,  x_0 = $start",
    constants={"start": Fraction(2998, 1000), "steps": 344},
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "The numerical basin (0, ≈ 2.998)"
METHOD = Method.BALLS
NEGATIVE_CONTROL = CLAIM.with_constants(steps=343)


def check(claim: Claim = CLAIM) -> Verdict:
    with precision(2000):
        x, level = ball(claim["start"]), ball(LEVEL)
        for step in range(max(claim["steps"], 0) + 1):
            distance = abs(1 - x)
            reached = distance < level
            if step < claim["steps"] and not distance > level:
                return failed(f"reached at step {step}", f"|1 − x| = {distance.str(12)}")
            x = eq14_eigenvalue(x)
        if claim["steps"] < 0 or not reached:
            return failed(f"not reached in {claim['steps']} steps", f"|1 − x| = {distance.str(12)}")
        return Verdict(
            Outcome.CERTIFIED, f"{claim['steps']} steps", f"|1 − x| = {distance.str(12)} at the last"
        )
