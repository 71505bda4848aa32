"""Eq. (16) as printed: sums to (j−1)l + m and divides by m."""

from __future__ import annotations

from fractions import Fraction

from proofs_check.contract import Claim, Method, Outcome, Verdict, failed, refuted

CLAIM = Claim(
    text="As printed, landmark j is the sum of q_i over i = (j−1)l+1, …, (j−1)l+m, divided by m.  False as "
    "a segment mean unless l = m: for n = 6, m = 2, l = 3 and q_i = i it gives $printed_first and "
    "$printed_second, where the segments have means $first and $second.  With l for m the landmarks are the "
    "means of a partition.",
    formula="(1/m) Σ_{i=(j−1)l+1}^{(j−1)l+m} q_i  should read  (1/l) Σ_{i=(j−1)l+1}^{(j−1)l+l} q_i",
    constants={
        "printed_first": Fraction(3, 2),
        "printed_second": Fraction(9, 2),
        "first": 2,
        "second": 5,
    },
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Xiong et al. 2021, eq. (16)"
METHOD = Method.COUNTEREXAMPLE
NEGATIVE_CONTROL = CLAIM.with_constants(printed_first=2, printed_second=5)


def landmark(j: int, length: int, terms: int) -> tuple[range, Fraction]:
    """The indices summed for landmark j (from 1), and the value for q_i = i when divided by their number."""
    indices = range((j - 1) * length + 1, (j - 1) * length + terms + 1)
    return indices, Fraction(sum(indices), terms)


def partition(sizes: int = 12) -> Verdict:
    """With l terms, the segments of every n = m l up to the given sizes cover each index once."""
    for m in range(1, sizes + 1):
        for length in range(1, sizes + 1):
            covered = [i for j in range(1, m + 1) for i in landmark(j, length, length)[0]]
            if covered != list(range(1, m * length + 1)):
                return failed("not a partition", f"m = {m}, l = {length}: {covered}")
    return Verdict(Outcome.NOT_REFUTED, f"{sizes**2} shapes", "Each index lies in exactly one segment.")


def check(claim: Claim = CLAIM) -> Verdict:
    n, m = 6, 2
    length = n // m
    printed = [landmark(j, length, m)[1] for j in (1, 2)]
    means = [landmark(j, length, length)[1] for j in (1, 2)]
    stated = [claim["printed_first"], claim["printed_second"]], [claim["first"], claim["second"]]
    if (printed, means) != stated or printed == means:
        return failed("not a counterexample", f"printed {printed}, means {means}")
    detail = f"printed: {', '.join(map(str, printed))}; segment means: {', '.join(map(str, means))}"
    return refuted("3/2 is not 2", detail, partition())
