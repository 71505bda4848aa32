"""A bet on draws from strata is fair: what makes the intervals hold for any head."""

from __future__ import annotations

from math import prod

from proofs_check.contract import Claim, Method, Outcome, Verdict, failed
from proofs_check.exact import Instances, q, rows_of, search, show

TRIALS = 400

CLAIM = Claim(
    text="For independent draws of any means μ_i, n of them, whose mean is m, the mean Π(1 + b(m − μ_i)) "
    "of the capital of a bet b "
    "is at most $one, in any number: so with Markov's and Ville's inequality capital beyond 1/α refutes m "
    "in a share α of the "
    "samples at most.  It is $one where all means agree.",
    formula="Π_i (1 + b(m − μ_i)) ≤ $one,   Σ μ_i = n m",
    constants={"one": 1},
    hypotheses={"positive": "no factor is negative", "mean": "m is the mean of the means"},
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Waudby-Smith and Ramdas 2024, §4, for draws of one mean; for strata derived here; bounds.betting"
METHOD = Method.TRIALS
NEGATIVE_CONTROL = CLAIM.without("mean")


def trial(claim: Claim, instances: Instances) -> str | None:
    n = instances.size(2)
    mu = [v for (v,) in rows_of(instances.any(n, 1))]
    mean = sum(mu, q(0)) / n
    m = mean if claim.assumes("mean") else max(mu) + 1
    furthest = max(abs(m - v) for v in mu)
    b = 1 / furthest if furthest else q(1)
    if not claim.assumes("positive"):
        mu, m, b = [q(-1), q(-1), q(2)], q(0), q(-9)
    capital = prod((1 + b * (m - v) for v in mu), start=q(1))
    one = q(claim["one"])
    return None if capital <= one and one == 1 else show(means=mu, m=m, b=b, capital=capital)


def check(claim: Claim = CLAIM) -> Verdict:
    found = search(trial, TRIALS)(claim)
    if found:
        return failed("contradicted", found)
    return Verdict(Outcome.NOT_REFUTED, f"{TRIALS} exact instances; a geometric mean is at most the mean")
