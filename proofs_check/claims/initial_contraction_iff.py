"""The initialisation contracts if and only if A is non-singular."""

from __future__ import annotations

from proofs_check.contract import Claim, Method, Theorem, Verdict
from proofs_check.coq import prove
from proofs_check.exact import (
    Instances,
    form,
    identity,
    is_zero,
    largest_row_sum,
    pinv,
    search,
    show,
    sqnorm,
    take,
)

CLAIM = Claim(
    text="With Z₀ = Aᵀ/(‖A‖₁‖A‖_∞), the symmetric residual I − AZ₀ has its quadratic form in [0, xᵀx) for "
    "every x ≠ 0, that is ‖I − AZ₀‖₂ < 1, if and only if A is non-singular.  For singular A no Z at all has "
    "‖I − AZ‖ < 1 in an induced norm: some x ≠ 0 has x(I − AZ) = x.",
    formula="det A ≠ 0  ⇔  0 ≤ xᵀ(I − AAᵀ/(rc))x < xᵀx for all x ≠ 0,   r = ‖A‖_∞, c = ‖A‖₁",
    hypotheses={"rows": "absolute row sums are at most r", "columns": "absolute column sums are at most c"},
    theorems=(
        Theorem(
            "norms",
            "initial_contraction_iff",
            r"""
            forall (R : realFieldType) (n : nat) (A : 'M[R]_n) (r c : R),
            $rows
            $columns
            0 < r -> 0 < c ->
            A \in unitmx <->
            (forall x, x != 0 -> 0 <= form (1%:M - A *m ((r * c)^-1 *: A^T)) x < sqnorm x)
            """,
            {
                "rows": r"(forall i, \sum_j `|A i j| <= r)",
                "columns": r"(forall j, \sum_i `|A i j| <= c)",
            },
        ),
        Theorem(
            "inverse",
            "singular_never_contracts",
            r"""
            forall (F : fieldType) (n : nat) (A : 'M[F]_n),
            A \notin unitmx <-> exists2 x : 'rV[F]_n, x != 0 & forall Z : 'M[F]_n, x *m (1%:M - A *m Z) = x
            """,
        ),
    ),
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Xiong et al. 2021, after eq. (14), corrected"
METHOD = Method.COQ
NEGATIVE_CONTROL = CLAIM.without("rows")


def trial(claim: Claim, instances: Instances) -> str | None:
    n = instances.size()
    A = instances.any(n, n) if instances.size(0, 2) else instances.singular(n)
    At = A.transpose()
    r = largest_row_sum(A) if claim.assumes("rows") else largest_row_sum(A) / 10
    c = largest_row_sum(At) if claim.assumes("columns") else largest_row_sum(At) / 10
    if r * c == 0:
        return None
    E = identity(n) - A * At / (r * c)
    # random directions, and those that Aᵀ sends to zero
    xs = [instances.any(n, 1) for _ in range(4)]
    xs += [take(identity(n) - A * pinv(A), columns=[j]) for j in range(n)]
    inside = all(0 <= form(x, E, x) < sqnorm(x) for x in xs if not is_zero(x))
    return None if inside == (A.rank() == n) else show(A=A, r=r, c=c)


def check(claim: Claim = CLAIM) -> Verdict:
    return prove(claim, search(trial))
