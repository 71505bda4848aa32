"""One step of Newton and Schulz in floating point."""

from __future__ import annotations

from fractions import Fraction

from proofs_check.contract import Claim, Method, Theorem, Verdict
from proofs_check.coq import prove
from proofs_check.exact import Instances, search, show
from proofs_check.iterations import Products, newton_schulz
from proofs_check.rounded import Rounded, exceeds, factor, moduli, unit

CLAIM = Claim(
    text="A step Z ← $two Z − Z(AZ) for an m × n matrix A, executed with two products in any order of summation, errs "
    "entry by entry by at most (1 + u)^(m+n+1) − 1 times $two |Z| + |Z||A||Z|.",
    formula="|fl(Z⁺) − Z($two I − AZ)| ≤ ((1 + u)^(m+n+1) − 1)($two |Z| + |Z||A||Z|)",
    constants={"two": 2},
    hypotheses={
        "first": "AZ comes from the standard model",
        "second": "so does its product with Z",
        "third": "and the difference",
    },
    theorems=(
        Theorem(
            "steps",
            "newton_schulz_rounding",
            r"""
            forall (R : realFieldType) (u : R) (m n : nat) (A : 'M[R]_(m, n)) (Z P Znext : 'M[R]_(n, m)) (Y : 'M[R]_m),
            0 <= u ->
            $first
            $second
            $third
            below (entrywise (Znext - Z *m ($two%:R%:M - A *m Z)))
            (((1 + u) ^+ (m + n + 1) - 1)
              *: ($two%:R *: entrywise Z + entrywise Z *m (entrywise A *m entrywise Z)))
            """,
            {
                "first": r"product_computed u A Z Y",
                "second": r"product_computed u Z Y P",
                "third": r"sum_computed u (2%:R *: Z) (- P) Znext",
            },
        ),
    ),
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "The standard model, for Schulz 1933"
METHOD = Method.COQ
NEGATIVE_CONTROL = CLAIM.without("second")


def trial(claim: Claim, instances: Instances) -> str | None:
    m, n, u = instances.size(1, 3), instances.size(1, 3), unit(instances)
    A, Z = instances.any(m, n), instances.any(n, m)
    rounded, two = Rounded(u, instances), Fraction(claim["two"])
    Y = rounded.product(A, Z) if claim.assumes("first") else instances.any(m, m, -50, 50)
    P = rounded.product(Z, Y) if claim.assumes("second") else instances.any(n, m, -90, 90)
    found = rounded.sum(Z * 2, -1 * P) if claim.assumes("third") else instances.any(n, m, -90, 90)
    bound = (moduli(Z) * claim["two"] + moduli(Z) * moduli(A) * moduli(Z)) * factor(u, m + n + 1)
    exact = newton_schulz(A, Z, Products()) + Z * int(two - 2)
    return show(A=A, Z=Z, found=found, u=u) if exceeds(found - exact, bound) else None


def check(claim: Claim = CLAIM) -> Verdict:
    return prove(claim, search(trial))
