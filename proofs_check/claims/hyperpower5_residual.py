"""The hyperpower step of order five with its products saved."""

from __future__ import annotations

from proofs_check.contract import Claim, Method, Theorem, Verdict
from proofs_check.coq import prove
from proofs_check.exact import Instances, power, search, show
from proofs_check.iterations import Products, hyperpower5, residual

CLAIM = Claim(
    text="The hyperpower step of order $order, factorised, costs $products matrix products (as many as eq. "
    "14's step) and has the residual E^$order exactly, for matrices of every size over every field in which "
    "2 is invertible.",
    formula="I − A Z⁺ = E^$order,  E = I − A Z,  Z⁺ = Z (I + R + ¾S + (S + ½R)²),  R = I − AZ,  S = R²",
    constants={"order": 5, "products": 4},
    hypotheses={"two": "2 is invertible in the field"},
    theorems=(
        Theorem(
            "residual",
            "hyperpower5_residual",
            r"""
            forall (F : fieldType) (m n : nat) (A : 'M[F]_(m, n)) (Z : 'M[F]_(n, m)),
            $two
            let E := 1%:M - A *m Z in
            1%:M - A *m hyperpower5 A Z = mxpow E $order
            """,
            {
                "two": r"2%:R != 0 :> F",
            },
        ),
    ),
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Classical hyperpower iteration, in a product-saving form"
METHOD = Method.COQ
NEGATIVE_CONTROL = CLAIM.with_constants(order=6)


def trial(claim: Claim, instances: Instances) -> str | None:
    m, n = instances.size(), instances.size()
    A, Z = instances.any(m, n), instances.any(n, m)
    mul = Products()
    new = residual(A, hyperpower5(A, Z, mul))
    if new == power(residual(A, Z), claim["order"]) and mul.count == claim["products"]:
        return None
    return show(A=A, Z=Z, new_residual=new, products=mul.count)


def check(claim: Claim = CLAIM) -> Verdict:
    return prove(claim, search(trial))
