"""The Nyström residual is a Schur complement."""

from __future__ import annotations

from flint import fmpq_mat

from proofs_check.contract import Claim, Method, Theorem, Verdict
from proofs_check.coq import prove
from proofs_check.exact import Instances, is_zero, pinv, rows_of, search, show, take

CLAIM = Claim(
    text="With landmarks first, the Nyström residual is zero on the landmarks and the Schur complement D − "
    "BᵀW⁻¹B of the core elsewhere.",
    formula="[W B; Bᵀ D] − [W; Bᵀ] W⁻¹ [W B] = [0 0; 0 D − BᵀW⁻¹B]",
    hypotheses={"unit": "the core W is invertible"},
    theorems=(
        Theorem(
            "psd",
            "schur_complement",
            r"""
            forall (R : realFieldType) (m k : nat) (W : 'M[R]_m) (B : 'M[R]_(m, k)) (D : 'M[R]_k),
            $unit
            block_mx W B B^T D - col_mx W B^T *m invmx W *m row_mx W B
            = block_mx 0 0 0 (D - B^T *m invmx W *m B)
            """,
            {
                "unit": r"W \in unitmx",
            },
        ),
    ),
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Classical"
METHOD = Method.COQ
NEGATIVE_CONTROL = CLAIM.without("unit")


def trial(claim: Claim, instances: Instances) -> str | None:
    m, k = instances.size(), instances.size()
    W = instances.invertible(m) if claim.assumes("unit") else instances.singular(m)
    B, D = instances.any(m, k), instances.any(k, k)
    Bt = B.transpose()
    K = stack(beside(W, B), beside(Bt, D))
    R = K - stack(W, Bt) * pinv(W) * beside(W, B)
    rest = take(R, rows=range(m, m + k), columns=range(m, m + k)) - (D - Bt * pinv(W) * B)
    landmarks = is_zero(take(R, rows=range(m))) and is_zero(take(R, columns=range(m)))
    return None if landmarks and is_zero(rest) else show(W=W, B=B, D=D, R=R)


def stack(X: fmpq_mat, Y: fmpq_mat) -> fmpq_mat:
    return fmpq_mat(rows_of(X) + rows_of(Y))


def beside(X: fmpq_mat, Y: fmpq_mat) -> fmpq_mat:
    return stack(X.transpose(), Y.transpose()).transpose()


def check(claim: Claim = CLAIM) -> Verdict:
    return prove(claim, search(trial))
