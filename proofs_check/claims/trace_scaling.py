"""Scaling by tr G/‖G‖_F² can diverge."""

from __future__ import annotations

from fractions import Fraction

from proofs_check.contract import Claim, Method, Outcome, Verdict, failed, refuted
from proofs_check.exact import Instances, diagonal, form, identity, power, q, show, sqnorm, trace

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


def frobenius_scaling(trials: int = 24) -> Verdict:
    """0 ≤ xᵀGx ≤ tr G · xᵀx: with c = 1/‖A‖_F² = 1/tr G every eigenvalue of AZ₀ lies in [0, 1]."""
    instances = Instances()
    for _ in range(trials):
        G = instances.gram(instances.size())
        x = instances.any(G.nrows(), 1)
        if not 0 <= form(x, G, x) <= trace(G) * sqnorm(x):
            return failed("outside [0, 1]", show(G=G, x=x))
    return Verdict(
        Outcome.NOT_REFUTED, f"{trials} exact matrices", "In general by the claim diagonal_norm_trace."
    )


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
    return refuted(f"eigenvalue {first} > 2", detail, frobenius_scaling())
