"""Interval-optimal steps are optimal among all polynomials of their degree."""

from __future__ import annotations

from fractions import Fraction

from flint import arb

from proofs_check.balls import ball, precision
from proofs_check.contract import Claim, Method, Outcome, Verdict, failed

DEGREES = (2, 3, 5, 9)
TOLERANCE = Fraction(1, 10**12)

CLAIM = Claim(
    text="For degree d = 2, 3, 5, 9 on [$low, $high] the residual polynomial p(y) = "
    "T_d((u+ℓ−2y)/(u−ℓ))/T_d((u+ℓ)/(u−ℓ)) takes ±1/T_d((u+ℓ)/(u−ℓ)) with alternating signs at d + $extra "
    "points, and every polynomial of degree d with p(0) = 1 is at least as large at one of them.  At degree "
    "9 the optimum is $best (± 10⁻¹²).",
    formula="Σ_i w_i p(y_i) = p(0) = 1,  (−1)^i w_i > 0,  Σ_i |w_i| = T_d((u+ℓ)/(u−ℓ))  ⇒  max_i |p(y_i)| ≥ "
    "1/T_d(…)",
    constants={"low": Fraction(1, 100), "high": 1, "extra": 1, "best": Fraction("0.3199703453081")},
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Chebyshev; interval-optimal schedules"
METHOD = Method.BALLS
NEGATIVE_CONTROL = CLAIM.with_constants(best=Fraction(1, 4))


def chebyshev(d: int, x: arb) -> arb:
    before, now = arb(1), x
    for _ in range(d - 1):
        before, now = now, 2 * x * now - before
    return now


def check(claim: Claim = CLAIM) -> Verdict:
    low, high = Fraction(claim["low"]), Fraction(claim["high"])
    if not 0 < low < high:
        return failed("domain", "0 < ℓ < u is assumed")
    lines = []
    with precision(256):
        for d in DEGREES:
            count = d + claim["extra"]
            top = chebyshev(d, ball((high + low) / (high - low)))
            centre, radius = ball((high + low) / 2), ball((high - low) / 2)
            points = [centre - radius * arb.cos_pi(arb(i) / d) for i in range(count)]
            values = [chebyshev(d, (centre - y) / radius) / top for y in points]
            alternate = all((v * (-1) ** i).overlaps(1 / top) for i, v in enumerate(values))
            weights = extrapolation(points)
            signs = all((-1) ** i * weight > 0 for i, weight in enumerate(weights))
            total = sum((abs(weight) for weight in weights), arb(0))
            exact = total.overlaps(top) and total.rad() < 1e-30 * abs(top)
            if not (alternate and signs and exact and count == d + 1):
                return failed(f"degree {d}", f"Σ|w| = {total.str(12)}, T_d = {top.str(12)}")
            lines.append(f"degree {d}: optimum {(1 / top).str(15)}")
        if not abs(1 / top - ball(Fraction(claim["best"]))) < ball(TOLERANCE):
            return failed("another optimum", lines[-1])
    return Verdict(Outcome.CERTIFIED, lines[-1], "\n".join(lines))


def extrapolation(points: list[arb]) -> list[arb]:
    """Lagrange weights at 0: p(0) = Σ w_i p(y_i) for every p of degree below the number of points."""
    weights = []
    for i, y in enumerate(points):
        weight = arb(1)
        for j, other in enumerate(points):
            if j != i:
                weight *= other / (other - y)
        weights.append(weight)
    return weights
