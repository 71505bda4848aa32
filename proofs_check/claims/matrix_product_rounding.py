"""Matrix products in floating point."""

from __future__ import annotations

from proofs_check.contract import Claim, Method, Theorem, Verdict
from proofs_check.coq import prove
from proofs_check.exact import Instances, search, show
from proofs_check.rounded import Rounded, exceeds, factor, moduli, unit

CLAIM = Claim(
    text="A product of matrices with inner length n, every entry an inner product in whatever order, errs entry by "
    "entry by at most (1 + u)ⁿ − 1 times |A||B|.",
    formula="|fl(AB) − AB| ≤ ((1 + u)ⁿ − 1) |A||B|",
    hypotheses={"model": "the standard model of floating-point arithmetic, without underflow"},
    theorems=(
        Theorem(
            "rounding",
            "matrix_product_rounding",
            r"""
            forall (R : realFieldType) (u : R) (m n p : nat) (A : 'M[R]_(m, n)) (B : 'M[R]_(n, p)) (C : 'M[R]_(m, p)),
            0 <= u ->
            $model
            below (entrywise (C - A *m B)) (((1 + u) ^+ n - 1) *: (entrywise A *m entrywise B))
            """,
            {"model": r"product_computed u A B C"},
        ),
    ),
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Higham 2002, eq. (3.13)"
METHOD = Method.COQ
NEGATIVE_CONTROL = CLAIM.without("model")


def trial(claim: Claim, instances: Instances) -> str | None:
    m, n, p, u = instances.size(), instances.size(), instances.size(), unit(instances)
    A, B = instances.any(m, n), instances.any(n, p)
    C = Rounded(u, instances).product(A, B) if claim.assumes("model") else instances.any(m, p)
    bound = moduli(A) * moduli(B) * factor(u, n)
    return show(A=A, B=B, C=C, u=u) if exceeds(C - A * B, bound) else None


def check(claim: Claim = CLAIM) -> Verdict:
    return prove(claim, search(trial))
