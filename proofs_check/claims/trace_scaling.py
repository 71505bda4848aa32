"""Scaling by tr G/‖G‖_F² can diverge."""

from __future__ import annotations

from fractions import Fraction

from proofs_check.claims import diagonal_norm_trace
from proofs_check.contract import Claim, Method, Verdict, failed, refuted
from proofs_check.exact import diagonal, identity, power, q, show, trace

CLAIM = Claim(
    text="Suggested elsewhere: Z₀ = cAᵀ with c = tr G/‖G‖_F², G = AAᵀ, the least-squares scaling.  It can "
    "diverge: for A = diag(2, 1, …, 1) of size 17, AZ₀ has the eigenvalue $eigenvalue, outside the basin (0, "
    "2) of Newton–Schulz, and two steps give $second.  c = 1/‖A‖_F² always starts in (0, 1].",
    formula="λ_max(c G) = 4·tr G/‖G‖_F² = $eigenvalue > 2,   x ↦ x(2 − x):  x_2 = $second",
    constants={"eigenvalue": Fraction(5, 2), "second": Fraction(-65, 16)},
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Scaling of polynomial pseudoinverse iterations"
METHOD = Method.COUNTEREXAMPLE
NEGATIVE_CONTROL = CLAIM.with_constants(eigenvalue=Fraction(3, 2))


SIZE = 17


def check(claim: Claim = CLAIM) -> Verdict:
    A = diagonal([q(2)] + [q(1)] * (SIZE - 1))
    G = A * A.transpose()
    c = trace(G) / trace(power(G, 2))
    first = (G * c)[0, 0]
    iterates = [G * c]
    for _ in range(2):
        iterates.append(iterates[-1] * (identity(SIZE) * 2 - iterates[-1]))
    second = iterates[2][0, 0]
    if first != q(claim["eigenvalue"]) or second != q(claim["second"]) or not first > 2:
        return failed("not a counterexample", show(scaling=c, eigenvalue=first, second=second))
    detail = show(tr_G=trace(G), norm_G_squared=trace(power(G, 2)), scaling=c, x0=first, x2=second)
    # corrected: G ⪯ tr G·I, so c = 1/tr G puts every eigenvalue of A Z₀ in [0, 1]
    return refuted(f"eigenvalue {first} > 2", detail, diagonal_norm_trace.check())
