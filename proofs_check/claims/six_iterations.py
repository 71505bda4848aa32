"""Which singular values the paper's six iterations resolve."""

from __future__ import annotations

from fractions import Fraction

from flint import arb

from proofs_check.balls import ball, precision
from proofs_check.contract import Claim, Method, Outcome, Verdict, failed
from proofs_check.iterations import eq14_eigenvalue

TOLERANCE = Fraction(1, 10**9)

CLAIM = Claim(
    text="After $steps iterations from Z₀ = Aᵀ/(‖A‖₁‖A‖_∞), the singular value σ of A is inverted to a "
    "fraction that is an increasing function of t = σ²/(‖A‖₁‖A‖_∞): half of 1/σ at t = $half and nine tenths "
    "at t = $most (each ± 10⁻⁹).  Nine tenths need σ ≥ 0.0448·√(‖A‖₁‖A‖_∞); smaller singular values are "
    "filtered out.",
    formula="x_$steps(t) ≥ ½ ⇔ t ≥ $half,   x_$steps(t) ≥ 9/10 ⇔ t ≥ $most,   x_0 = t,  x_{k+1} = ¼x_k(13 − "
    "x_k(15 − x_k(7 − x_k)))",
    constants={
        "steps": 6,
        "half": Fraction("0.000593170469"),
        "most": Fraction("0.002006398060"),
    },
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Xiong et al. 2021 (“about 6 iterations”)"
METHOD = Method.BALLS
NEGATIVE_CONTROL = CLAIM.with_constants(steps=5)


def inverted(t: Fraction, steps: int) -> arb:
    """The fraction of 1/σ reached: the eigenvalue of A Z after the given steps, as a ball."""
    x = ball(t)
    for _ in range(steps):
        x = eq14_eigenvalue(x)
    return x


def check(claim: Claim = CLAIM) -> Verdict:
    # the map increases on (0, 1), where its derivative is ¼(x − 1)²(13 − 4x): two values enclose a level
    enclosed = []
    with precision(256):
        for name, level in (("half", Fraction(1, 2)), ("most", Fraction(9, 10))):
            t = claim[name]
            below, above = inverted(t - TOLERANCE, claim["steps"]), inverted(t + TOLERANCE, claim["steps"])
            around = f"{below.str(10)}, {above.str(10)} at t = {float(t):.9g} ± 1e-9"
            if not (0 < t < 1 and below < ball(level) < above):
                return failed(f"level {level}", around)
            enclosed.append(f"x(t) crosses {level}: {around}, σ = {float(t) ** 0.5:.5f}·√(‖A‖₁‖A‖_∞)")
        for exponent in range(-6, 0):
            enclosed.append(
                f"x(10^{exponent}) = {inverted(Fraction(10) ** exponent, claim['steps']).str(12)}"
            )
    return Verdict(Outcome.CERTIFIED, "σ ≥ 0.0448·√(‖A‖₁‖A‖_∞)", "\n".join(enclosed))
