"""Tangents of a log-sum-exp bound it from below, and so do segment means: Jensen's inequality."""

from __future__ import annotations

from flint import arb

from proofs_check.balls import ball, precision
from proofs_check.contract import Claim, Method, Theorem, Verdict
from proofs_check.coq import prove
from proofs_check.exact import Instances, q, rows_of, search, show

CLAIM = Claim(
    text="For weights w ≥ 0 and scores x of weighted mean m, (Σw) e^m ≤ Σ w e^x, for any number of them "
    "and any function e above "
    "its tangents e(s)(1 + t − s), as the exponential is: the far mass of tangent attention without its "
    "correction, and that "
    "from segment means, are lower bounds.",
    formula="(Σ_i w_i) e(m) ≤ Σ_i w_i e(x_i),   m = Σ w_i x_i / Σ w_i,   e(s)(1 + t − s) ≤ e(t)",
    hypotheses={
        "above": "e is above its tangents",
        "nonnegative": "w ≥ 0",
        "mean": "m is the weighted mean of the scores",
    },
    theorems=(
        Theorem(
            "probability",
            "tangent_below_sum",
            r"""
            forall (R : realFieldType) (n : nat) (e : R -> R) (w x : 'I_n -> R) (m : R),
            $above
            $nonnegative
            $mean
            (\sum_i w i) * e m <= \sum_i w i * e (x i)
            """,
            {
                "above": r"(forall s t, e s * (1 + (t - s)) <= e t)",
                "nonnegative": r"(forall i, 0 <= w i)",
                "mean": r"\sum_i w i * x i = (\sum_i w i) * m",
            },
        ),
    ),
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Jensen 1906; bounds.group_sums and attention.tangent"
METHOD = Method.COQ
NEGATIVE_CONTROL = CLAIM.without("nonnegative")


def trial(claim: Claim, instances: Instances) -> str | None:
    n = instances.size(2)
    w = [v for (v,) in rows_of(instances.positive(n, 1))]
    x = [v for (v,) in rows_of(instances.any(n, 1))]
    if not claim.assumes("nonnegative"):
        w, x = [q(3), q(-1)], [q(0), q(2)]
    total = sum(w, q(0))
    m = sum((a * b for a, b in zip(w, x, strict=True)), q(0)) / total
    m = m if claim.assumes("mean") else max(x) + 1
    with precision(128):
        of = (lambda t: arb(t).exp()) if claim.assumes("above") else (lambda t: -(arb(t) ** 2))
        gap = sum((arb(a) * of(b) for a, b in zip(w, x, strict=True)), ball(0)) - arb(total) * of(m)
        return show(w=w, x=x, m=m, gap=gap.str(8)) if gap < 0 else None


def check(claim: Claim = CLAIM) -> Verdict:
    return prove(claim, search(trial))
