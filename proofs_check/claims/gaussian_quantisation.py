"""The feature-space distance of a Gaussian kernel is at most the squared distance."""

from __future__ import annotations

from fractions import Fraction

from flint import arb

from proofs_check.balls import ball, positive_on, precision
from proofs_check.contract import Claim, Method, Outcome, Verdict, failed

LOW = Fraction(1, 1000)

CLAIM = Claim(
    text="For the kernel exp(−γ‖x − z‖²), ‖φ(x) − φ(z)‖² = 2 − 2e^{−t} ≤ $two t with t = γ‖x − z‖², so tr R "
    "≤ 2γ·SSE for any landmarks: certified on t in [1/1000, $far] and by 2 − 2e^{−t} ≤ 2 beyond t = 1.  The "
    "constant is sharp as t → 0: at t = 1/1000 the two sides agree to a relative 10⁻³.",
    formula="2 − 2e^{−t} < $two t  for t ∈ [1/1000, ∞),   (2 − 2e^{−t})/($two t) > 1 − 10⁻³ at t = 1/1000",
    constants={"two": 2, "far": 1},
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Quantisation bound for Gaussian kernels (Zhang, Tsang and Kwok 2008)"
METHOD = Method.BALLS
NEGATIVE_CONTROL = CLAIM.with_constants(two=1)


def distance(t: arb) -> arb:
    """‖φ(x) − φ(z)‖² for unit feature vectors with inner product e^{−t}."""
    return -2 * (-t).expm1()


def check(claim: Claim = CLAIM) -> Verdict:
    two, low, far = claim["two"], LOW, Fraction(claim["far"])
    if not low < far:
        return failed("domain", "low < far is assumed")
    with precision(128):
        # the gap 2t − distance is positive at t = low and its derivative is positive from there on
        start = two * ball(low) - distance(ball(low))
        rising, pieces, where = positive_on(lambda t: two - 2 * (-t).exp(), low, far)
        # 2 − 2e^{−t} < 2 everywhere, and the right side has passed 2 exactly at t = far
        beyond = two * far == 2
        ratio = distance(ball(low)) / (two * ball(low))
        sharp = ball(Fraction(999, 1000)) < ratio < ball(Fraction(9999, 10000))
    if not (start > 0 and rising and beyond and sharp):
        return failed(
            "contradicted", f"resists on {where or 'the tail or the sharpness'}; ratio {ratio.str(8)}"
        )
    return Verdict(Outcome.CERTIFIED, f"{pieces} pieces", f"ratio at t = {low}: {ratio.str(8)}")
