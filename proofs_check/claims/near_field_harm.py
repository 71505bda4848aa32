"""A near field can make a row worse."""

from __future__ import annotations

from fractions import Fraction

from proofs_check.claims import near_field_variation
from proofs_check.contract import Claim, Method, Verdict, failed, refuted

CLAIM = Claim(
    text="An exact near field makes no row of Nyström attention worse.  False: a row that Nyström has "
    "exactly, as that of a "
    "query that is a landmark, with exponentials 1 near and $large and 1 far.  The landmark, whose score "
    "is their mean, "
    "gives the far keys 2·√$large = $far of Z in place of $large + 1: the near entry becomes $near in place of $true.  "
    "What holds is a bound by the far shares.",
    formula="S_i = (1, $large, 1)/6,  Ẑ_i = 1 + $far:  Ŝ_i1 = $near ≠ $true",
    constants={"large": 4, "far": 4, "near": Fraction(1, 5), "true": Fraction(1, 6)},
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "attention.near_field; derived here"
METHOD = Method.COUNTEREXAMPLE
NEGATIVE_CONTROL = CLAIM.with_constants(near=Fraction(1, 6))


def check(claim: Claim = CLAIM) -> Verdict:
    exact = [Fraction(1), Fraction(claim["large"]), Fraction(1)]
    far = Fraction(claim["far"])
    if far**2 != 4 * exact[1] * exact[2] or far <= 0:
        return failed("the landmark's exponential is no geometric mean", f"far = {far}")
    nystrom = [x / sum(exact) for x in exact]  # its row is exact
    z = exact[0] + far
    share = min(far / z / sum(nystrom[1:]), Fraction(1))
    row = [exact[0] / z, *(share * x for x in nystrom[1:])]
    as_said = row[0] == claim["near"] and nystrom[0] == claim["true"] and row[0] != nystrom[0]
    if not as_said:
        return failed("not a counterexample", f"near field {row}, Nyström {nystrom}")
    detail = (
        f"Nyström and exact: {', '.join(map(str, nystrom))}; with the near field: {', '.join(map(str, row))}"
    )
    return refuted(
        f"error {abs(row[0] - nystrom[0])} where Nyström has none", detail, near_field_variation.check()
    )
