"""What an error that is not symmetric does to a Chebyshev polynomial."""

from __future__ import annotations

from fractions import Fraction

from proofs_check.contract import Claim, Method, Theorem, Verdict
from proofs_check.coq import prove
from proofs_check.exact import Instances, diagonal, identity, largest_row_sum, q, search, show

CLAIM = Claim(
    text="In a submultiplicative norm in which T_j(S) is at most 1 and U_j(S) at most j + 1, as for a symmetric matrix "
    "with its spectrum in [−1, 1] in the 2-norm, a perturbation D of any kind with ‖D‖ ≤ ε moves T_n by at most "
    "ε(a_{n−1} + $two Σ a_j), j < n − 1, where a_k ≥ k + 1 + $two ε Σ a_{k−1−j}(j + 1): to first order by n²ε, as "
    "scalars.",
    formula="‖T_n(S + D) − T_n(S)‖ ≤ ε (a_{n−1} + $two Σ_{j<n−1} a_j),   a_k ≥ k + 1 + $two ε Σ_{j<k} a_{k−1−j}(j + 1)",
    constants={"two": 2},
    hypotheses={
        "norm": "the norm is submultiplicative",
        "zero": "‖0‖ = 0",
        "first": "‖T_j(S)‖ ≤ 1",
        "second": "‖U_j(S)‖ ≤ j + 1",
        "size": "‖D‖ ≤ ε",
        "growth": "a grows as stated",
    },
    theorems=(
        Theorem(
            "perturbation",
            "chebyshev_perturbation",
            r"""
            forall (R : realFieldType) (A : ringType) (N : A -> R) (S D : A) (eps : R) (a : nat -> R) (n : nat),
            $norm
            $zero
            $first
            $second
            $size
            $growth
            N (first_kind n (S + D) - first_kind n S)
            <= eps * \sum_(j < n) (if val j == 0%N then 1 else $two%:R) * a (n.-1 - j)%N
            """,
            {
                "norm": r"submultiplicative N",
                "zero": r"N 0 = 0",
                "first": r"(forall j, N (first_kind j S) <= 1)",
                "second": r"(forall j, N (second_kind j S) <= j.+1%:R)",
                "size": r"N D <= eps",
                "growth": (
                    r"(forall k, k.+1%:R + 2%:R * eps * (\sum_(j < k) a (k.-1 - j)%N * j.+1%:R) <= a k)"
                ),
            },
        ),
    ),
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Derived here; the recurrence of Chebyshev polynomials in a ring"
METHOD = Method.COQ
NEGATIVE_CONTROL = CLAIM.without("size")


def trial(claim: Claim, instances: Instances) -> str | None:
    """Diagonal S in the norm of the largest row sum, D with entries anywhere."""
    m, n = instances.size(1, 3), instances.size(1, 6)
    wide = 4 if claim.assumes("first") and claim.assumes("second") else 1
    S = diagonal([q(Fraction(int(v), wide)) for v in instances.rng.integers(-4, 5, size=m)])
    D = instances.any(m, m) * q(Fraction(1, instances.size(5, 60)))
    eps = largest_row_sum(D) if claim.assumes("size") else largest_row_sum(D) / 100
    if not (claim.assumes("norm") and claim.assumes("zero")):
        return None
    a = []
    for k in range(n):
        grown = 2 * eps * sum((a[k - 1 - j] * (j + 1) for j in range(k)), q(0))
        a.append(k + 1 + grown if claim.assumes("growth") else q(0))
    bound = eps * sum(((1 if j == 0 else claim["two"]) * a[n - 1 - j] for j in range(n)), q(0))
    moved = largest_row_sum(_first_kind(S + D, n) - _first_kind(S, n))
    return show(S=S, D=D, n=n, moved=moved, bound=bound) if moved > bound else None


def _first_kind(x, n: int):
    before, now = identity(x.nrows()), x
    for _ in range(n - 1):
        before, now = now, x * now * 2 - before
    return now


def check(claim: Claim = CLAIM) -> Verdict:
    return prove(claim, search(trial))
