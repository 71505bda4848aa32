"""Lemma 2 as printed: false when the core is singular and landmarks repeat unequally."""

from __future__ import annotations

from fractions import Fraction

from proofs_check.claims import landmark_tokens_exact
from proofs_check.contract import Claim, Method, Verdict, failed, refuted
from proofs_check.exact import matrix, normalise, pinv, q, show, take

CLAIM = Claim(
    text="As printed: if every query and every key equals some landmark, eq. 13 equals softmax attention.  "
    "False for a singular core: with kernel values κ of rank 2 for 3 landmark pairs and the first landmark "
    "key occurring twice among 4 keys, entry (1, 1) of the approximation is $entry and not $exact.  True if "
    "A is invertible, or if each landmark key occurs equally often.",
    formula="κ = [1 1 2; 1 2 3; 2 1 3], keys (1, 2, 3, 1):  (F A⁺ B)_11 = $entry,  S_11 = $exact",
    constants={"entry": Fraction(83, 420), "exact": Fraction(1, 5)},
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Xiong et al. 2021, Lemma 2"
METHOD = Method.COUNTEREXAMPLE
NEGATIVE_CONTROL = CLAIM.with_constants(entry=Fraction(1, 5))


KERNEL = matrix([[1, 1, 2], [1, 2, 3], [2, 1, 3]])
KEYS = [0, 1, 2, 0]
QUERIES = [0, 1, 2, 0]


def check(claim: Claim = CLAIM) -> Verdict:
    # κ_st = exp(q̃_s·k̃_t/√d) takes any positive values once d is at least the number of landmarks
    S = normalise(take(KERNEL, rows=QUERIES, columns=KEYS))
    F, A = normalise(take(KERNEL, rows=QUERIES)), normalise(KERNEL)
    B = normalise(take(KERNEL, columns=KEYS))
    approximation = F * pinv(A) * B
    found = approximation[0, 0], S[0, 0]
    if found != (q(claim["entry"]), q(claim["exact"])) or found[0] == found[1]:
        return failed("not a counterexample", show(approximation=found[0], exact=found[1]))
    detail = show(F=F, A=A, pseudoinverse=pinv(A), B=B, approximation=approximation, S=S)
    return refuted(f"{found[0]} is not {found[1]}", detail, landmark_tokens_exact.check())
