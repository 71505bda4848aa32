"""A floating-point step of eq. (14): how far rounding takes one eigenvalue."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from proofs_check.contract import Claim, Method, Outcome, Verdict, failed
from proofs_check.iterations import eq14_eigenvalue

UNIT = Fraction(1, 2**53)
GRID = 4000
SEED = 754

CLAIM = Claim(
    text="Evaluated in float64 by Horner's rule as printed, one step of eq. 14 on an eigenvalue x in [0, 2] "
    "returns x⁺ with an absolute error of at most $units units of roundoff u = 2⁻⁵³ times |x|; attacked on a "
    "grid, at random and next to the worst points.  One unit less is passed.",
    formula="|fl(x⁺) − x⁺| ≤ $units u |x|,  x ∈ [0, 2],  u = 2⁻⁵³",
    constants={"units": 10},
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "A rounding model for Xiong et al. 2021, eq. (14)"
METHOD = Method.TRIALS
NEGATIVE_CONTROL = CLAIM.with_constants(units=9)


def error_in_units(x: float) -> Fraction:
    """|fl(x⁺) − x⁺|/(u|x|), exactly: the float64 result against rational arithmetic."""
    computed = 0.25 * x * (13.0 - x * (15.0 - x * (7.0 - x)))
    exact = eq14_eigenvalue(Fraction(x))
    return abs(Fraction(computed) - exact) / (UNIT * Fraction(x))


def neighbours(x: float, count: int = 200) -> list[float]:
    found = [x]
    for direction in (-np.inf, np.inf):
        y = x
        for _ in range(count):
            y = float(np.nextafter(y, direction))
            found.append(y)
    return [y for y in found if 0 < y <= 2]


def check(claim: Claim = CLAIM) -> Verdict:
    rng = np.random.default_rng(SEED)
    points = [
        float(x)
        for x in (
            *np.linspace(0, 2, GRID + 1)[1:],
            *rng.uniform(0, 2, GRID),
            *2.0 ** -rng.uniform(0, 40, GRID),
        )
    ]
    worst = sorted(points, key=error_in_units)[-8:]
    points += [y for x in worst for y in neighbours(x)]
    largest = max(error_in_units(x) for x in points)
    number = f"{len(points)} points, largest error {float(largest):.2f} u|x|"
    if not claim["units"] - 1 < largest <= claim["units"]:
        return failed(number, f"stated: {claim['units']} u|x|")
    return Verdict(
        Outcome.NOT_REFUTED, number, f"margin {1 - float(largest) / claim['units']:.3f} of the stated bound"
    )
