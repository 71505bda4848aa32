"""What the second-order correction of tangents gains: right in the mean, and half of the worst case."""

from __future__ import annotations

import sympy

from proofs_check.contract import Claim, Method, Outcome, Verdict, failed

CLAIM = Claim(
    text="Over normal queries whose scores of a key miss those of its group's mean by a variance r², the "
    "mean of the missing factor "
    "is e^{r²/$two}, which is the correction; and of a shift c of a logarithm that is in [0, h] without "
    "it the largest error "
    "max(c, h − c) is least, h/$two, at c = h/$two.",
    formula="E e^x = e^{r²/$two}, x ~ N(0, r²);   min_c max(c, h − c) = h/$two",
    constants={"two": 2},
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "attention.tangent; derived here"
METHOD = Method.SYMBOLIC
NEGATIVE_CONTROL = CLAIM.with_constants(two=3)


def check(claim: Claim = CLAIM) -> Verdict:
    two = sympy.Integer(int(claim["two"]))
    if two <= 0:
        return failed("a share of h", f"1/{two}")
    x, t = sympy.symbols("x t", real=True)
    r, h = sympy.symbols("r h", positive=True)
    density = sympy.exp(-(x**2) / (2 * r**2)) / (r * sympy.sqrt(2 * sympy.pi))
    integral = sympy.integrate(sympy.exp(x) * density, (x, -sympy.oo, sympy.oo))
    mean = sympy.simplify(integral.rewrite(sympy.erf))
    right = sympy.simplify(mean / sympy.exp(r**2 / two)) == 1
    at = h / two
    both = sympy.simplify(at - (h - at)) == 0  # the two arms meet there, one rising and one falling
    rising = sympy.diff(t, t) > 0 and sympy.diff(h - t, t) < 0
    if not (right and both and rising):
        return failed("contradicted", f"E e^x = {mean}, arms {at} and {h - at}")
    return Verdict(Outcome.PROVED, "two identities", f"E e^x = {mean}")
