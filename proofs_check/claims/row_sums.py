"""Row sums of eq. (13) with the true inverse."""

from __future__ import annotations

from proofs_check.contract import Claim, Method, Theorem, Verdict
from proofs_check.coq import prove
from proofs_check.exact import Instances, ones, pinv, search, show

CLAIM = Claim(
    text="With the true inverse of A, the rows of F A⁻¹ B sum to one whenever those of F, A and B do.",
    formula="A 𝟏 = 𝟏, F 𝟏 = 𝟏, B 𝟏 = 𝟏  ⇒  F A⁻¹ B 𝟏 = 𝟏",
    hypotheses={
        "unit": "A is invertible",
        "F": "the rows of F sum to one",
        "A": "the rows of A sum to one",
        "B": "the rows of B sum to one",
    },
    theorems=(
        Theorem(
            "inverse",
            "row_sums",
            r"""
            forall (F : fieldType) (n m N : nat) (P : 'M[F]_(n, m)) (A : 'M[F]_m) (B : 'M[F]_(m, N)),
            $unit
            $F
            $A
            $B
            P *m invmx A *m B *m ones F N = ones F n
            """,
            {
                "unit": r"A \in unitmx",
                "F": r"P *m ones F m = ones F n",
                "A": r"A *m ones F m = ones F m",
                "B": r"B *m ones F N = ones F m",
            },
        ),
    ),
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Xiong et al. 2021, eq. (13)"
METHOD = Method.COQ
NEGATIVE_CONTROL = CLAIM.without("A")


def trial(claim: Claim, instances: Instances) -> str | None:
    n, m, N = instances.size(), instances.size(2), instances.size()
    draw = {name: instances.stochastic if claim.assumes(name) else instances.positive for name in "FAB"}
    F, B = draw["F"](n, m), draw["B"](m, N)
    A = instances.invertible(m, draw["A"])
    if not claim.assumes("unit"):
        A = instances.stochastic(1, m)
        A = ones(m) * A
    sums = F * pinv(A) * B * ones(N)
    return None if sums == ones(n) else show(F=F, A=A, B=B, row_sums=sums)


def check(claim: Claim = CLAIM) -> Verdict:
    return prove(claim, search(trial))
