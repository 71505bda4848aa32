"""Eq. (14): the residual of one step is an exact polynomial in the old one."""

from __future__ import annotations

from fractions import Fraction

from proofs_check.contract import Claim, Method, Theorem, Verdict
from proofs_check.coq import prove
from proofs_check.exact import Instances, power, q, search, show
from proofs_check.iterations import Products, razavi, residual

CLAIM = Claim(
    text="One step of eq. 14 turns the residual E = I − AZ into $a E³ + $b E⁴ exactly, for matrices of "
    "every size (A may be rectangular) over every field in which 2 is invertible.",
    formula="I − A Z⁺ = $a E³ + $b E⁴,  E = I − A Z,  Z⁺ = ¼ Z (13 I − AZ (15 I − AZ (7 I − AZ)))",
    constants={"a": Fraction(3, 4), "b": Fraction(1, 4)},
    hypotheses={"two": "2 is invertible in the field"},
    theorems=(
        Theorem(
            "residual",
            "razavi_residual",
            r"""
            forall (F : fieldType) (m n : nat) (A : 'M[F]_(m, n)) (Z : 'M[F]_(n, m)),
            $two
            let E := 1%:M - A *m Z in
            1%:M - A *m razavi A Z = $a *: mxpow E 3 + $b *: mxpow E 4
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
SOURCE = "Xiong et al. 2021, eq. (14); Razavi et al. 2014"
METHOD = Method.COQ
NEGATIVE_CONTROL = CLAIM.with_constants(b=-CLAIM["b"])


def trial(claim: Claim, instances: Instances) -> str | None:
    m, n = instances.size(), instances.size()
    A, Z = instances.any(m, n), instances.any(n, m)
    E = residual(A, Z)
    new = residual(A, razavi(A, Z, Products()))
    if new == power(E, 3) * q(claim["a"]) + power(E, 4) * q(claim["b"]):
        return None
    return show(A=A, Z=Z, new_residual=new)


def check(claim: Claim = CLAIM) -> Verdict:
    return prove(claim, search(trial))
