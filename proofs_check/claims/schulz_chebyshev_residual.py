"""The two classical steps that eq. (14) competes with."""

from __future__ import annotations

from proofs_check.contract import Claim, Method, Theorem, Verdict
from proofs_check.coq import prove
from proofs_check.exact import Instances, power, search, show
from proofs_check.iterations import Products, chebyshev, newton_schulz, residual

CLAIM = Claim(
    text="The Newton–Schulz step ($schulz_products products) has the residual E^$schulz and Chebyshev's "
    "step ($chebyshev_products products) the residual E^$chebyshev, for matrices of every size over every "
    "field.",
    formula="I − A Z(2I − AZ) = E^$schulz;  I − A Z(3I − AZ(3I − AZ)) = E^$chebyshev",
    constants={"schulz": 2, "chebyshev": 3, "schulz_products": 2, "chebyshev_products": 3},
    theorems=(
        Theorem(
            "residual",
            "newton_schulz_residual",
            r"""
            forall (F : fieldType) (m n : nat) (A : 'M[F]_(m, n)) (Z : 'M[F]_(n, m)),
            let E := 1%:M - A *m Z in
            1%:M - A *m newton_schulz A Z = mxpow E $schulz
            """,
        ),
        Theorem(
            "residual",
            "chebyshev_residual",
            r"""
            forall (F : fieldType) (m n : nat) (A : 'M[F]_(m, n)) (Z : 'M[F]_(n, m)),
            let E := 1%:M - A *m Z in
            1%:M - A *m chebyshev_step A Z = mxpow E $chebyshev
            """,
        ),
    ),
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Classical: Newton–Schulz and Chebyshev iterations"
METHOD = Method.COQ
NEGATIVE_CONTROL = CLAIM.with_constants(chebyshev=4)


def trial(claim: Claim, instances: Instances) -> str | None:
    m, n = instances.size(), instances.size()
    A, Z = instances.any(m, n), instances.any(n, m)
    E = residual(A, Z)
    for step, name in ((newton_schulz, "schulz"), (chebyshev, "chebyshev")):
        mul = Products()
        new = residual(A, step(A, Z, mul))
        if new != power(E, claim[name]) or mul.count != claim[f"{name}_products"]:
            return show(step=name, A=A, Z=Z, new_residual=new, products=mul.count)
    return None


def check(claim: Claim = CLAIM) -> Verdict:
    return prove(claim, search(trial))
