"""Eq. (13) on an exactly rank-m kernel: not exact."""

from __future__ import annotations

from fractions import Fraction

from proofs_check.claims import normalised_cross_exact
from proofs_check.contract import Claim, Method, Verdict, failed, refuted
from proofs_check.exact import matrix, normalise, q, show, take

CLAIM = Claim(
    text="Suggested by the Nyström method: m landmarks recover softmax attention when the unnormalised "
    "kernel has rank m.  False for eq. 13: for the rank-2 kernel below with the first two tokens as "
    "landmarks, entry (3, 1) is $entry and not $exact.  Approximating the kernel and normalising rows "
    "afterwards is exact.",
    formula="K = [1 1 3; 1 2 4; 2 3 7], landmarks 1 and 2:  (F A⁻¹ B)_31 = $entry,  S_31 = $exact",
    constants={"entry": Fraction(29, 175), "exact": Fraction(1, 6)},
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Xiong et al. 2021, eq. (13)"
METHOD = Method.COUNTEREXAMPLE
NEGATIVE_CONTROL = CLAIM.with_constants(entry=Fraction(1, 6))


KERNEL = matrix([[1, 1, 3], [1, 2, 4], [2, 3, 7]])
LANDMARKS = [0, 1]


def check(claim: Claim = CLAIM) -> Verdict:
    S = normalise(KERNEL)
    F = normalise(take(KERNEL, columns=LANDMARKS))
    A = normalise(take(KERNEL, rows=LANDMARKS, columns=LANDMARKS))
    B = normalise(take(KERNEL, rows=LANDMARKS))
    approximation = F * A.inv() * B
    found = approximation[2, 0], S[2, 0]
    counterexample = KERNEL.rank() == len(LANDMARKS) and found[0] != found[1]
    if not counterexample or found != (q(claim["entry"]), q(claim["exact"])):
        return failed("not a counterexample", show(approximation=found[0], exact=found[1]))
    detail = show(K=KERNEL, F=F, A=A, B=B, approximation=approximation, S=S)
    return refuted(f"{found[0]} is not {found[1]}", detail, normalised_cross_exact.check())
