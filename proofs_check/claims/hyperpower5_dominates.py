"""At equal cost, order five beats eq. (14) wherever the initialisation starts."""

from __future__ import annotations

from fractions import Fraction

import sympy as sp

from proofs_check.contract import Claim, Method, Outcome, Verdict, failed
from proofs_check.iterations import eq14_eigenvalue

CLAIM = Claim(
    text="For the same four products, the residual e^$order is at most that of eq. 14 in modulus exactly "
    "for residuals e in [$low, $high]; the initialisation of the paper starts in [0, 1].",
    formula="|e|^$order ≤ |¾e³ + ¼e⁴|  ⇔  e ∈ [$low, $high],   on [−1, 1]",
    constants={"order": 5, "low": Fraction(-3, 4), "high": 1},
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Hyperpower iteration against Xiong et al. 2021, eq. (14)"
METHOD = Method.SYMBOLIC
NEGATIVE_CONTROL = CLAIM.with_constants(low=Fraction(-1))


def check(claim: Claim = CLAIM) -> Verdict:
    e = sp.symbols("e", real=True)
    if claim["order"] <= 3:
        return failed("order", "the comparison is with a step of order three")
    # both sides carry |e|³, and ¾ + ¼e > 0 on [−1, 1]; for even orders |e|^(order − 3) = (e²)^((order − 3)/2)
    paper = sp.cancel((1 - eq14_eigenvalue(1 - e)) / e**3)
    gap = sp.expand(paper**2 - e ** (2 * (claim["order"] - 3)))
    roots = sorted(root for root in set(sp.real_roots(gap)) if -1 <= root <= 1)
    if roots != [sp.Rational(claim["low"]), claim["high"]]:
        return failed("other end points", f"the moduli agree at {roots}")
    if not (gap.subs(e, 0) > 0 > gap.subs(e, (-1 + roots[0]) / 2)):
        return failed("wrong side", f"gap {sp.factor(gap)}")
    return Verdict(Outcome.PROVED, f"e ∈ [{roots[0]}, {roots[1]}]", f"(¾ + ¼e)² − e⁴ = {sp.factor(gap)}")
