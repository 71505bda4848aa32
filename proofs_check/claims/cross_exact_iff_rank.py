"""When the classical cross approximation is exact."""

from __future__ import annotations

from proofs_check.contract import Claim, Method, Theorem, Verdict
from proofs_check.coq import prove
from proofs_check.exact import Instances, pinv, search, show

CLAIM = Claim(
    text="For an invertible m×m core W = P K Q, the cross approximation K Q W⁻¹ P K equals K if and only if "
    "the rank of K is m.  (P and Q may select rows and columns, or mix them.)",
    formula="K Q (P K Q)⁻¹ P K = K  ⇔  rank K = m",
    hypotheses={"unit": "the core P K Q is invertible"},
    theorems=(
        Theorem(
            "inverse",
            "cross_exact_iff_rank",
            r"""
            forall (F : fieldType) (n m N : nat) (K : 'M[F]_(n, N)) (P : 'M[F]_(m, n)) (Q : 'M[F]_(N, m)),
            $unit
            (K *m Q) *m invmx (P *m K *m Q) *m (P *m K) = K <-> \rank K = m
            """,
            {
                "unit": r"P *m K *m Q \in unitmx",
            },
        ),
    ),
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Classical cross (skeleton) approximation"
METHOD = Method.COQ
NEGATIVE_CONTROL = CLAIM.without("unit")


def trial(claim: Claim, instances: Instances) -> str | None:
    n, N, m = instances.size(2), instances.size(2), instances.size(1, 2)
    rank = instances.size(1, min(n, N))
    K = instances.any(n, rank) * instances.any(rank, N)
    P, Q = instances.any(m, n), instances.any(N, m)
    W = P * K * Q
    if claim.assumes("unit") and W.rank() < m:
        return None
    exact = K * Q * pinv(W) * P * K == K
    return None if exact == (K.rank() == m) else show(K=K, P=P, Q=Q, rank=K.rank(), exact=exact)


def check(claim: Claim = CLAIM) -> Verdict:
    return prove(claim, search(trial))
