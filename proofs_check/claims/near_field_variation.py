"""What an exact near field leaves of a row's error, whatever stands for the far keys."""

from __future__ import annotations

from fractions import Fraction

from proofs_check.contract import Claim, Method, Theorem, Verdict
from proofs_check.coq import prove
from proofs_check.exact import Instances, q, rows_of, search, show

CLAIM = Claim(
    text="Where a row is that of S among near keys but for one factor, and not negative elsewhere, "
    "Σ|p − q| ≤ $two max(φ, φ̂), with φ and φ̂ the shares of the far keys: the near field makes no row "
    "worse than its far "
    "mass allows.  Attained by far mass on other keys.",
    formula="Σ_j |S_ij − Ŝ_ij| ≤ $two max(φ_i, φ̂_i)",
    constants={"two": 2},
    hypotheses={
        "p": "S ≥ 0",
        "q": "far entries of Ŝ are not negative",
        "sum_p": "rows of S sum to one",
        "sum_q": "rows of Ŝ sum to one",
        "near": "near entries of Ŝ are those of S times one factor",
    },
    theorems=(
        Theorem(
            "probability",
            "near_field_variation",
            r"""
            forall (R : realFieldType) (n : nat) (near : pred 'I_n) (p q : 'I_n -> R) (c : R),
            $p
            $q
            $sum_p
            $sum_q
            $near
            \sum_i `|p i - q i| <= $two%:R * Num.max (\sum_(i | ~~ near i) p i) (\sum_(i | ~~ near i) q i)
            """,
            {
                "p": r"(forall i, 0 <= p i)",
                "q": r"(forall i, ~~ near i -> 0 <= q i)",
                "sum_p": r"\sum_i p i = 1",
                "sum_q": r"\sum_i q i = 1",
                "near": r"(forall i, near i -> q i = c * p i)",
            },
        ),
    ),
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Derived here; bounds.near_rows"
METHOD = Method.COQ
NEGATIVE_CONTROL = CLAIM.without("q")

HALF = Fraction(1, 2)
WITHOUT = {
    "p": ([2, -1], [1, 0], 1),
    "q": ([1, 0, 0], [1, 5, -5], 1),
    "sum_p": ([3, 0], [1, 0], 1),
    "sum_q": ([1, 0], [2, 0], 1),
    "near": ([HALF, HALF, 0], [1, 0, 0], 2),
}
"""What speaks against the statement without one of its hypotheses: p, q and how many are near."""
ELSEWHERE = ([HALF, HALF, 0], [HALF, 0, HALF], 1)


def trial(claim: Claim, instances: Instances) -> str | None:
    lacking = [name for name in CLAIM.hypotheses if not claim.assumes(name)]
    if lacking:
        p, r, near = WITHOUT[lacking[0]]
    else:
        n = instances.size(3, 5)
        near = instances.size(1, n - 1)
        (p,), (far,) = rows_of(instances.stochastic(1, n)), rows_of(instances.stochastic(1, n - near))
        share = q(Fraction(instances.size(1, 9), 10))  # of the near keys in the row of Ŝ
        factor = share / sum(p[:near], q(0))
        r = [*(factor * v for v in p[:near]), *((1 - share) * v for v in far)]
    sides, attained = _sides(claim, p, r, near), _sides(claim, *ELSEWHERE)
    holds = sides[0] <= sides[1] and attained[0] == attained[1]
    return None if holds else show(p=p, q=r, near=near, sides=sides)


def _sides(claim: Claim, p: list, r: list, near: int) -> tuple:
    p, r = ([v if not isinstance(v, int | Fraction) else q(v) for v in x] for x in (p, r))
    off = sum((abs(a - b) for a, b in zip(p, r, strict=True)), q(0))
    return off, q(claim["two"]) * max(sum(x[near:], q(0)) for x in (p, r))


def check(claim: Claim = CLAIM) -> Verdict:
    return prove(claim, search(trial))
