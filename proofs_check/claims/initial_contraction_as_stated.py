"""‖I − AZ₀‖₂ < 1 as printed: false for a singular A."""

from __future__ import annotations

from proofs_check.claims import initial_contraction_iff
from proofs_check.contract import Claim, Method, Verdict, failed, refuted
from proofs_check.exact import identity, largest_row_sum, matrix, normalise, q, show

CLAIM = Claim(
    text="As printed: Z₀ = Aᵀ/(‖A‖₁‖A‖_∞) ensures ‖I − AZ₀‖₂ < 1.  False: for A with all entries ½ (a "
    "softmax matrix of two equal landmarks) ‖A‖₁ = ‖A‖_∞ = 1 and I − AZ₀ has the eigenvalue $eigenvalue for "
    "x = (1, −1).  True if and only if A is non-singular.",
    formula="A = ½[1 1; 1 1]:  (I − AZ_0)(1, −1)ᵀ = $eigenvalue·(1, −1)ᵀ,  so ‖I − AZ_0‖₂ ≥ $eigenvalue",
    constants={"eigenvalue": 1},
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Xiong et al. 2021, after eq. (14)"
METHOD = Method.COUNTEREXAMPLE
NEGATIVE_CONTROL = CLAIM.with_constants(eigenvalue=2)


def check(claim: Claim = CLAIM) -> Verdict:
    A = normalise(matrix([[1, 1], [1, 1]]))
    x = matrix([[1], [-1]])
    Z = A.transpose() / (largest_row_sum(A) * largest_row_sum(A.transpose()))
    E = identity(2) - A * Z
    if E * x != x * q(claim["eigenvalue"]) or claim["eigenvalue"] < 1:
        return failed("not a counterexample", show(A=A, Z0=Z, E=E, Ex=E * x))
    return refuted(
        "‖I − AZ₀‖₂ ≥ 1", show(A=A, Z0=Z, residual=E, x=x, residual_x=E * x), initial_contraction_iff.check()
    )
