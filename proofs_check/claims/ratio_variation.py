"""The total variation of two probability vectors by the range of their entries' ratios."""

from __future__ import annotations

from fractions import Fraction

from flint import fmpq_mat

from proofs_check.contract import Claim, Method, Theorem, Verdict
from proofs_check.coq import prove
from proofs_check.exact import Instances, matrix, q, rows_of, search, show

CLAIM = Claim(
    text="If all ratios p_i/q_i of two probability vectors lie within a factor u² of each other, u > 1, "
    "their total variation "
    "½Σ|p − q| is at most (u − 1)/(u + 1), which is tanh(R/4) for u² = e^R: so far is tangent attention off where its "
    "exponents range over R.  Attained by two entries, p = (u, 1)/(1 + u) and q = (1, u)/(1 + u).",
    formula="(u + 1) Σ|p_i − q_i| ≤ $two (u − 1),   a q_i ≤ p_i ≤ u² a q_i",
    constants={"two": 2},
    hypotheses={
        "sum_p": "Σ p = 1",
        "sum_q": "Σ q = 1",
        "low": "a q ≤ p",
        "high": "p ≤ u² a q",
        "u": "u > 1",
    },
    theorems=(
        Theorem(
            "probability",
            "ratio_variation",
            r"""
            forall (R : realFieldType) (n : nat) (p q : 'I_n -> R) (a u : R),
            $sum_p
            $sum_q
            $low
            $high
            $u
            (u + 1) * (\sum_i `|p i - q i|) <= $two%:R * (u - 1)
            """,
            {
                "sum_p": r"\sum_i p i = 1",
                "sum_q": r"\sum_i q i = 1",
                "low": r"(forall i, a * q i <= p i)",
                "high": r"(forall i, p i <= u ^+ 2 * a * q i)",
                "u": r"1 < u",
            },
        ),
    ),
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Derived here; bounds.softmax_range, bounds.tangent_rows"
METHOD = Method.COQ
NEGATIVE_CONTROL = CLAIM.with_constants(two=1)

HALF = Fraction(1, 2)
WITHOUT = {
    "sum_p": ([3 * HALF, 3 * HALF], [HALF, HALF], Fraction(3, 2)),
    "sum_q": ([HALF, HALF], [3 * HALF, 3 * HALF], Fraction(3, 2)),
    "low": ([0, 1], [HALF, HALF], Fraction(3, 2)),
    "high": ([HALF, HALF], [0, 1], Fraction(3, 2)),
    "u": ([HALF, HALF], [HALF, HALF], Fraction(-2)),
}
"""What speaks against the statement without one of its hypotheses: p, q and u."""


def trial(claim: Claim, instances: Instances) -> str | None:
    lacking = [name for name in CLAIM.hypotheses if not claim.assumes(name)]
    if lacking:
        p, r, u = WITHOUT[lacking[0]]
        p, r = (matrix([[v] for v in x]) for x in (p, r))
    else:
        n = instances.size(2)
        p, r = instances.stochastic(1, n).transpose(), instances.stochastic(1, n).transpose()
        ratios = [a / b for (a,), (b,) in zip(rows_of(p), rows_of(r), strict=True)]
        u = _root_above(max(ratios) / min(ratios))
    two, u = q(claim["two"]), q(u)
    pair = fmpq_mat([[u], [q(1)]]) / (1 + u), fmpq_mat([[q(1)], [u]]) / (1 + u)
    attained = u <= 1 or (u + 1) * _variation(*pair) == two * (u - 1)
    holds = (u + 1) * _variation(p, r) <= two * (u - 1)
    return None if holds and attained else show(p=p, q=r, u=u)


def _root_above(x) -> Fraction:
    """A rational u > 1 with u² at least x."""
    u = Fraction(11, 10)
    while q(u) ** 2 < x:
        u += Fraction(1, 10)
    return u


def _variation(p: fmpq_mat, r: fmpq_mat):
    return sum((abs(v) for (v,) in rows_of(p - r)), q(0))


def check(claim: Claim = CLAIM) -> Verdict:
    return prove(claim, search(trial))
