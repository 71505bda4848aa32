"""Order three with its constant, on the interval of convergence."""

from __future__ import annotations

from fractions import Fraction

import sympy as sp

from proofs_check.contract import Claim, Method, Outcome, Verdict, failed
from proofs_check.iterations import eq14_eigenvalue

CLAIM = Claim(
    text="Eq. 14 maps a residual eigenvalue e to e⁺ with |e⁺| ≤ $bound·|e|³ exactly when e lies in [$low, "
    "$high], which contains [−1, 1]; the constant is attained at both ends, and e⁺/e³ → $limit as e → 0.",
    formula="e⁺ = ¾e³ + ¼e⁴,  |e⁺| ≤ $bound·|e|³ ⇔ e ∈ [$low, $high],  lim e⁺/e³ = $limit",
    constants={"low": -7, "high": 1, "bound": 1, "limit": Fraction(3, 4)},
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Xiong et al. 2021, Lemma 1 (“in the third-order”)"
METHOD = Method.SYMBOLIC
NEGATIVE_CONTROL = CLAIM.with_constants(limit=Fraction(1, 2))


def check(claim: Claim = CLAIM) -> Verdict:
    e = sp.symbols("e")
    ratio, remainder = sp.div(sp.expand(1 - eq14_eigenvalue(1 - e)), e**3, e)
    if remainder != 0 or sp.degree(ratio, e) != 1:
        return failed("not of order three", f"e⁺ = {ratio}·e³ + {remainder}")
    # |affine| ≤ bound is an interval; its ends are where the ratio is −bound and bound
    ends = [sp.solve(ratio - value, e)[0] for value in (-claim["bound"], claim["bound"])]
    limit = ratio.subs(e, 0)
    if ends != [claim["low"], claim["high"]] or limit != sp.Rational(claim["limit"]):
        return failed("contradicted", f"|e⁺| ≤ {claim['bound']}·|e|³ on {ends}, e⁺/e³ → {limit}")
    return Verdict(Outcome.PROVED, f"e⁺ = e³({ratio})", "The ratio is affine, so two equations decide.")
