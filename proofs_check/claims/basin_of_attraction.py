"""The exact immediate basin of eq. (14) on the real line."""

from __future__ import annotations

import sympy as sp

from proofs_check.contract import Claim, Method, Outcome, Verdict, failed
from proofs_check.iterations import eq14_eigenvalue

CLAIM = Claim(
    text="Eq. 14 takes every eigenvalue x of AZ in ($low, $high) to 1, and neither end point: the immediate "
    "basin of the fixed point 1 is exactly that interval.  Runs with few steps see about 2.998, since $high "
    "is a fixed point at which the map is tangent to the diagonal.",
    formula="x⁺ − x = −¼ x (x − 1)(x − $high)²,  (x⁺)′ = ¼ (x − 1)²(13 − 4x) ≥ 0 on ($low, $high)",
    constants={"low": 0, "high": 3},
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Xiong et al. 2021, eq. (14); the bound ≈ 2.998 found by iteration"
METHOD = Method.SYMBOLIC
NEGATIVE_CONTROL = CLAIM.with_constants(high=2)


def check(claim: Claim = CLAIM) -> Verdict:
    x = sp.symbols("x", real=True)
    step = sp.expand(eq14_eigenvalue(x))
    fixed = sorted(set(sp.real_roots(step - x)))
    if fixed != [claim["low"], 1, claim["high"]]:
        return failed("fixed points", f"the real fixed points are {fixed}")
    turning = sorted(set(sp.real_roots(sp.diff(step, x))))
    inside = [t for t in turning if claim["low"] < t < claim["high"]]
    # increasing between the outer fixed points: orbits are monotone and stay, so they tend to 1
    increasing = inside == [1] and all(sp.diff(step, x).subs(x, t) > 0 for t in (sp.Rational(1, 2), 2))
    toward = (step - x).subs(x, sp.Rational(1, 2)) > 0 > (step - x).subs(x, 2)
    if not (increasing and toward):
        return failed("not monotone", f"turning points {turning}")
    detail = f"x⁺ − x = {sp.factor(step - x)};  (x⁺)′ = {sp.factor(sp.diff(step, x))}"
    return Verdict(Outcome.PROVED, f"fixed points {', '.join(map(str, fixed))}", detail)
