"""How fast each step multiplies a small eigenvalue, and rounding in the null space."""

from __future__ import annotations

from fractions import Fraction

import sympy as sp

from proofs_check.contract import Claim, Method, Outcome, Verdict, failed
from proofs_check.iterations import eq14_eigenvalue

CLAIM = Claim(
    text="A step multiplies a vanishing eigenvalue of AZ by $razavi in eq. 14, by its order $five or $nine "
    "in the hyperpower steps, and by $interval·d² in the interval-optimal step of degree d as its interval "
    "grows to (0, 1].",
    formula="d x⁺/d x at 0:  $razavi (eq. 14),  $five, $nine (hyperpower),  $interval d² (interval-optimal, "
    "ℓ → 0)",
    constants={"razavi": Fraction(13, 4), "five": 5, "nine": 9, "interval": 2},
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Xiong et al. 2021, eq. (14); Söderström and Stewart 1974"
METHOD = Method.SYMBOLIC
NEGATIVE_CONTROL = CLAIM.with_constants(razavi=3)


def check(claim: Claim = CLAIM) -> Verdict:
    x, low = sp.symbols("x low")
    maps = {"razavi": eq14_eigenvalue(x), "five": 1 - (1 - x) ** 5, "nine": 1 - (1 - x) ** 9}
    found = {name: sp.diff(step, x).subs(x, 0) for name, step in maps.items()}
    degrees = (2, 3, 5, 9)
    for d in degrees:
        top = (1 + low) / (1 - low)
        step = 1 - sp.chebyshevt(d, (1 + low - 2 * x) / (1 - low)) / sp.chebyshevt(d, top)
        found[f"degree {d}"] = sp.limit(sp.diff(step, x).subs(x, 0), low, 0, "+")
    stated = {name: sp.Rational(claim[name]) for name in maps}
    stated |= {f"degree {d}": claim["interval"] * d**2 for d in degrees}
    detail = ", ".join(f"{name}: {value}" for name, value in found.items())
    if found != stated:
        return failed("contradicted", detail)
    return Verdict(Outcome.PROVED, f"eq. 14 grows by {found['razavi']}", detail)
