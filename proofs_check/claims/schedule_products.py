"""A mixed schedule against the paper's iteration at condition number 100."""

from __future__ import annotations

from fractions import Fraction

from flint import arb

from proofs_check.balls import ball, precision
from proofs_check.claims.equioscillation import chebyshev
from proofs_check.contract import Claim, Method, Outcome, Verdict, failed
from proofs_check.iterations import eq14_eigenvalue

KAPPA = 100
TOLERANCE = Fraction(1, 10**7)
SCHEDULE = (9, 9, 9, 2)
COST = {2: 2, 3: 3, 5: 4, 9: 5}

CLAIM = Claim(
    text="At condition number 100, interval-optimal steps of degrees 9, 9, 9, 2 reach ‖I − AZ‖₂ ≤ 10⁻⁷ in "
    "$schedule matrix products; without the last step they do not; eq. 14 from Aᵀ/σ₁² needs $paper.",
    formula="5 + 5 + 5 + 2 = $schedule  against  4·min { k : e_k ≤ 10⁻⁷ } = $paper",
    constants={"schedule": 17, "paper": 44},
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Interval-optimal schedules against Xiong et al. 2021, eq. (14)"
METHOD = Method.BALLS
NEGATIVE_CONTROL = CLAIM.with_constants(paper=40)


def residuals() -> list[arb]:
    """The residual bound after each step of the schedule."""
    low, high, bounds = ball(Fraction(1, KAPPA**2)), arb(1), []
    for d in SCHEDULE:
        bound = 1 / chebyshev(d, (high + low) / (high - low))
        low, high = 1 - bound, 1 + bound
        bounds.append(bound)
    return bounds


def check(claim: Claim = CLAIM) -> Verdict:
    with precision(600):
        tolerance = ball(TOLERANCE)
        *_, before, last = residuals()
        x, steps = ball(Fraction(1, KAPPA**2)), 0
        while 1 - x > tolerance:
            x, steps = eq14_eigenvalue(x), steps + 1
        decided = last < tolerance < before and 1 - x < tolerance
    found = sum(COST[d] for d in SCHEDULE), 4 * steps
    detail = f"schedule: {before.str(6)} then {last.str(6)}; eq. 14: {steps} steps"
    if not decided or found != (claim["schedule"], claim["paper"]):
        return failed("other counts", detail)
    return Verdict(Outcome.CERTIFIED, f"{found[0]} against {found[1]}", detail)
