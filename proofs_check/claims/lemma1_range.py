"""Lemma 1 with the range condition: convergence of order three."""

from __future__ import annotations

from fractions import Fraction

from proofs_check.contract import Claim, Method, Theorem, Verdict
from proofs_check.coq import prove
from proofs_check.exact import Instances, largest_row_sum, pinv, power, q, search, show
from proofs_check.iterations import Products, razavi

CLAIM = Claim(
    text="If Z₀ lies in the range of A⁺ on both sides, eq. 14 keeps it there, E = AA⁺ − AZ follows E⁺ = $a "
    "E³ + $b E⁴, the error is A⁺ − Z_k = A⁺ E_k, and in every submultiplicative norm with ‖E₀‖ ≤ 1 step k "
    "has ‖E_k‖ ≤ ‖E₀‖^($order^k): convergence to A⁺ of order $order where ‖E₀‖ < 1, for A of any shape and "
    "rank.",
    formula="A⁺ − Z_k = A⁺ E_k,  E_{k+1} = $a E_k³ + $b E_k⁴,  ‖E_k‖ ≤ ‖E₀‖^($order^k)",
    constants={"order": 3, "a": Fraction(3, 4), "b": Fraction(1, 4)},
    hypotheses={
        "inner": "V = A⁺ has A V A = A",
        "outer": "V = A⁺ has V A V = V",
        "range": "V A Z₀ = Z₀ and Z₀ A V = Z₀: R(Z₀) ⊆ R(Aᵀ) and N(Aᵀ) ⊆ N(Z₀)",
        "small": "‖E₀‖ ≤ 1",
    },
    theorems=(
        Theorem(
            "lemma1",
            "range_is_kept",
            r"""
            forall (F : fieldType) (m n : nat) (A : 'M[F]_(m, n)) (V Z : 'M[F]_(n, m)),
            $range
            in_range A V (razavi A Z)
            """,
            {
                "range": r"in_range A V Z",
            },
        ),
        Theorem(
            "lemma1",
            "lemma1_step",
            r"""
            forall (F : fieldType) (m n : nat) (A : 'M[F]_(m, n)) (V Z : 'M[F]_(n, m)),
            2%:R != 0 :> F ->
            $inner
            $outer
            $range
            let E := A *m V - A *m Z in
            V - Z = V *m E /\
            A *m V - A *m razavi A Z = $a *: mxpow E 3 + $b *: mxpow E 4
            """,
            {
                "inner": r"A *m V *m A = A",
                "outer": r"V *m A *m V = V",
                "range": r"in_range A V Z",
            },
        ),
        Theorem(
            "lemma1",
            "lemma1_convergence",
            r"""
            forall (R : realFieldType) (m n : nat) (A : 'M[R]_(m, n)) (V Z : 'M[R]_(n, m)) (N : 'M[R]_m -> R),
            $inner
            $outer
            $range
            (forall X, 0 <= N X) ->
            (forall X Y, N (X + Y) <= N X + N Y) ->
            (forall a X, N (a *: X) = `|a| * N X) ->
            (forall X Y, N (X *m Y) <= N X * N Y) ->
            $small
            forall k, let Zk := iter k (razavi A) Z in
            V - Zk = V *m (A *m V - A *m Zk) /\ N (A *m V - A *m Zk) <= N (A *m V - A *m Z) ^+ ($order ^ k)
            """,
            {
                "inner": r"A *m V *m A = A",
                "outer": r"V *m A *m V = V",
                "range": r"in_range A V Z",
                "small": r"N (A *m V - A *m Z) <= 1",
            },
        ),
    ),
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Xiong et al. 2021, Lemma 1, with its missing hypothesis"
METHOD = Method.COQ
NEGATIVE_CONTROL = CLAIM.without("range")


def trial(claim: Claim, instances: Instances) -> str | None:
    n = instances.size(1, 3)
    A = instances.any(n, n) if instances.size(0, 1) else instances.singular(n)
    V = pinv(A)
    if not (claim.assumes("inner") and claim.assumes("outer")):
        V = instances.any(n, n)
    Z = V * q(Fraction(instances.size(1, 9), 5))
    if not claim.assumes("range"):
        Z = Z + instances.any(n, n)
    E = A * V - A * Z
    if claim["order"] < 1:
        return show(order=claim["order"])
    if claim.assumes("small") and largest_row_sum(E) > 1:
        return None
    Z1 = razavi(A, Z, Products())
    E1 = A * V - A * Z1
    identities = V - Z == V * E and power(E, 3) * q(claim["a"]) + power(E, 4) * q(claim["b"]) == E1
    kept = V * A * Z1 == Z1 and Z1 * A * V == Z1
    holds = identities and kept and largest_row_sum(E1) <= largest_row_sum(E) ** claim["order"]
    return (
        None
        if holds
        else show(A=A, V=V, Z0=Z, Z1=Z1, norm_E0=largest_row_sum(E), norm_E1=largest_row_sum(E1))
    )


def check(claim: Claim = CLAIM) -> Verdict:
    return prove(claim, search(trial))
