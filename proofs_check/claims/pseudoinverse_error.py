"""The error of an approximate pseudoinverse from its residual."""

from __future__ import annotations

from proofs_check.contract import Claim, Method, Theorem, Verdict
from proofs_check.coq import prove
from proofs_check.exact import Instances, identity, largest_row_sum, pinv, q, search, show, trace

CLAIM = Claim(
    text="For A of full row rank, any Z and E = I − AZ: A⁺ − Z = A⁺E − (I − A⁺A)(Z − AᵀW) for every W, the squares of "
    "the two parts' Frobenius norms add up, and A⁺E = A⁺A Z E + A⁺E E; so that in norms in which E contracts by ρ < 1 "
    "and A⁺A increases nothing, ‖A⁺E‖ ≤ ‖ZE‖/(1 − ρ).",
    formula="‖A⁺ − Z‖_F² = ‖A⁺E‖_F² + ‖(I − A⁺A)(Z − AᵀW)‖_F²,   ‖A⁺E‖ ≤ ‖ZE‖/(1 − ρ)",
    hypotheses={
        "right": "A G = I (first part)",
        "symmetric": "G A is symmetric, so that G = A⁺ (first part)",
        "triangle": "the triangle inequality (second part)",
        "projection": "‖G A X‖ ≤ ‖X‖ (second part)",
        "contraction": "‖X E‖ ≤ ρ‖X‖ (second part)",
        "small": "ρ < 1 (second part)",
    },
    theorems=(
        Theorem(
            "verified",
            "pseudoinverse_error",
            r"""
            forall (R : realFieldType) (m n : nat) (A : 'M[R]_(m, n)) (G Z : 'M[R]_(n, m)) (W : 'M[R]_m),
            $right
            $symmetric
            let E := 1%:M - A *m Z in
            let along := G *m E in
            let beside := (1%:M - G *m A) *m (Z - A^T *m W) in
            [/\ G - Z = along - beside,
            sqfro (G - Z) = sqfro along + sqfro beside &
            along = G *m A *m (Z *m E) + along *m E]
            """,
            {"right": r"A *m G = 1%:M", "symmetric": r"(G *m A)^T = G *m A"},
        ),
        Theorem(
            "verified",
            "contraction_bound",
            r"""
            forall (R : realFieldType) (m n : nat) (N : 'M[R]_(n, m) -> R) (A : 'M[R]_(m, n)) (G Z : 'M[R]_(n, m))
            (rho : R),
            $triangle
            $projection
            $contraction
            $small
            N (G *m (1%:M - A *m Z)) <= N (Z *m (1%:M - A *m Z)) / (1 - rho)
            """,
            {
                "triangle": r"(forall X Y, N (X + Y) <= N X + N Y)",
                "projection": r"(forall X, N (G *m A *m X) <= N X)",
                "contraction": r"(forall X, N (X *m (1%:M - A *m Z)) <= N X * rho)",
                "small": r"rho < 1",
            },
        ),
    ),
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Elementary; used by `pinv.verify`"
METHOD = Method.COQ
NEGATIVE_CONTROL = CLAIM.without("symmetric")


def trial(claim: Claim, instances: Instances) -> str | None:
    m = instances.size(1, 3)
    n = m + instances.size(0, 2)
    A = instances.any(m, n)
    if A.rank() < m and claim.assumes("right"):
        return None
    G = pinv(A)
    if not claim.assumes("symmetric"):
        G = G + (identity(n) - G * A) * instances.any(n, m)
    near = claim.assumes("contraction") and claim.assumes("small")
    Z = G + instances.any(n, m) * q(1) / (60 if near else 1)
    W, E = instances.any(m, m), identity(m) - A * Z
    along, beside = G * E, (identity(n) - G * A) * (Z - A.transpose() * W)

    def sqfro(X):
        return trace(X.transpose() * X)

    error = G - Z
    if error != along - beside or sqfro(error) != sqfro(along) + sqfro(beside):
        return show(A=A, G=G, Z=Z, W=W)
    if along != G * A * Z * E + along * E:
        return show(A=A, G=G, Z=Z)
    # square matrices in the norm of the largest row sum: G A is the identity there
    rho = largest_row_sum(E)
    applies = m == n and rho != 1 and (rho < 1 or not claim.assumes("small"))
    if applies and largest_row_sum(G * E) > largest_row_sum(Z * E) / (1 - rho):
        return show(A=A, G=G, Z=Z, rho=rho)
    return None


def check(claim: Claim = CLAIM) -> Verdict:
    return prove(claim, search(trial))
