"""Normalise after approximating: exact at rank m."""

from __future__ import annotations

from proofs_check.contract import Claim, Method, Theorem, Verdict
from proofs_check.coq import prove
from proofs_check.exact import Instances, normalise, pinv, search, show

CLAIM = Claim(
    text="If the unnormalised kernel K has rank m and the m×m core is invertible, its cross approximation "
    "with rows normalised afterwards is the row-normalised K: softmax attention itself.",
    formula="rank K = m  ⇒  L / (L 𝟏) = K / (K 𝟏),  L = K Q (P K Q)⁻¹ P K",
    hypotheses={"unit": "the core P K Q is invertible", "rank": "the rank of K is m"},
    theorems=(
        Theorem(
            "inverse",
            "normalised_cross_exact",
            r"""
            forall (F : fieldType) (n m N : nat) (K : 'M[F]_(n, N)) (P : 'M[F]_(m, n)) (Q : 'M[F]_(N, m)),
            $unit
            $rank
            let L := (K *m Q) *m invmx (P *m K *m Q) *m (P *m K) in
            normalise (L *m ones F N)^T L = normalise (K *m ones F N)^T K
            """,
            {
                "unit": r"P *m K *m Q \in unitmx",
                "rank": r"\rank K = m",
            },
        ),
    ),
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "The row-normalised form of eq. (13)"
METHOD = Method.COQ
NEGATIVE_CONTROL = CLAIM.without("rank")


def trial(claim: Claim, instances: Instances) -> str | None:
    n, N, m = instances.size(2), instances.size(2), 2
    K = (
        instances.positive(n, m) * instances.positive(m, N)
        if claim.assumes("rank")
        else instances.positive(n, N)
    )
    rows, columns = instances.any(m, n, 0, 1), instances.any(N, m, 0, 1)
    W = rows * K * columns
    if (claim.assumes("unit") and W.rank() < m) or (claim.assumes("rank") and K.rank() < m):
        return None
    L = K * columns * pinv(W) * rows * K
    if any(sum(L[i, j] for j in range(N)) == 0 for i in range(n)):
        return show(K=K, P=rows, Q=columns, L=L) if claim.assumes("rank") else None
    return None if normalise(L) == normalise(K) else show(K=K, P=rows, Q=columns, normalised=normalise(L))


def check(claim: Claim = CLAIM) -> Verdict:
    return prove(claim, search(trial))
