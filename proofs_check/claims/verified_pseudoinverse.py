"""The bounds of a verified pseudoinverse, under attack."""

from __future__ import annotations

import warnings
from fractions import Fraction

from flint import arb

from nystrom_numerics import pinv
from proofs_check.contract import Claim, Method, Outcome, Verdict, failed
from proofs_check.exact import q
from proofs_check.pseudoinverses import cases, errors

COUNT = 120
SEED = 2005

CLAIM = Claim(
    text="$share times what `pinv.verify` says of ‖A⁺ − Z‖_F and ‖AZ − AA⁺‖_F is at least the truth, which balls hold, "
    "for matrices of float32 and float64 graded, of near and of stated rank, of any scale down to subnormal numbers, "
    "and for Z from several routes, disturbed and meaningless; and what it says is at most 1.01 times the truth in the "
    "median.",
    formula="truth ≤ $share · bound",
    constants={"share": Fraction(1)},
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Rump 1999; Ogita, Rump and Oishi 2005"
METHOD = Method.TRIALS
NEGATIVE_CONTROL = CLAIM.with_constants(share=Fraction(9, 10))


def check(claim: Claim = CLAIM) -> Verdict:
    if not claim["share"] <= 1:
        return failed("not the claim", "a bound that may be below the truth is none")
    ratios, silent = [], 0
    for dtype in ("float32", "float64"):
        for a, z, rank in cases(SEED, COUNT, dtype):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = pinv.verify(a, z, rank=rank)
            if found.status:
                silent += 1
                continue
            try:
                truths = errors(a, z, rank)
            except (ValueError, ZeroDivisionError):  # eigenvalues that balls of this size cannot tell apart
                continue
            for bound, truth in zip((found.error, found.projector), truths, strict=True):
                if not arb(float(bound)) * arb(q(claim["share"])) >= truth:
                    return failed(
                        "violated", f"{dtype}, rank {rank}, bound {float(bound):.17g}, truth {truth}, {a}"
                    )
                if truth > 0:
                    ratios.append(float(arb(float(bound)) / truth))
    median = sorted(ratios)[len(ratios) // 2]
    number = f"{len(ratios)} bounds, median {median:.4f} of the truth, {silent} of {2 * COUNT} not verified"
    if not (median <= 1.01 and silent <= COUNT / 2):
        return failed(number, "loose")
    return Verdict(Outcome.NOT_REFUTED, number)
