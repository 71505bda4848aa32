"""A batch-global initialisation makes an item depend on its batch-mates."""

from __future__ import annotations

from fractions import Fraction

from proofs_check.contract import Claim, Method, Outcome, Verdict, failed, refuted
from proofs_check.exact import Instances, identity, largest_row_sum, matrix, q, show
from proofs_check.iterations import Products, razavi

CLAIM = Claim(
    text="As implemented in public code: Z₀ = Aᵀ/(max ‖A‖₁ · max ‖A‖_∞), maxima over the batch, treats "
    "items alone.  False: I is inverted at once alone, but batched with [1 0; 1 0] it starts at ½I and one "
    "step of eq. 14 gives $batched·I.  Scaling each item by its own norms makes its result independent of "
    "the batch.",
    formula="A = I:  Z_1 = $alone·I alone,  Z_1 = $batched·I beside [1 0; 1 0] (‖·‖₁ = 2, ‖·‖_∞ = 1)",
    constants={"alone": 1, "batched": Fraction(57, 64)},
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Public implementations of Xiong et al. 2021 (mlpen, lucidrains, transformers' default)"
METHOD = Method.COUNTEREXAMPLE
NEGATIVE_CONTROL = CLAIM.with_constants(batched=Fraction(1))


def batch_global(batch: list) -> list:
    ones = max(largest_row_sum(A.transpose()) for A in batch)
    infinity = max(largest_row_sum(A) for A in batch)
    return [A.transpose() / (ones * infinity) for A in batch]


def per_item(batch: list) -> list:
    return [A.transpose() / (largest_row_sum(A.transpose()) * largest_row_sum(A)) for A in batch]


def independent(trials: int = 24) -> Verdict:
    """Per-item scaling: the first item of a batch starts where it starts alone."""
    instances = Instances()
    for _ in range(trials):
        n = instances.size()
        batch = [instances.stochastic(n, n) for _ in range(3)]
        if per_item(batch)[0] != per_item(batch[:1])[0]:
            return failed("coupled", show(A=batch[0], others=batch[1:]))
    return Verdict(Outcome.NOT_REFUTED, f"{trials} exact batches", "Per-item scaling reads one item only.")


def check(claim: Claim = CLAIM) -> Verdict:
    A, mate = identity(2), matrix([[1, 0], [1, 0]])
    alone = razavi(A, batch_global([A])[0], Products())
    batched = razavi(A, batch_global([A, mate])[0], Products())
    stated = identity(2) * q(claim["alone"]), identity(2) * q(claim["batched"])
    if (alone, batched) != stated or alone == batched:
        return failed("not a counterexample", show(alone=alone, batched=batched))
    return refuted(
        f"{claim['batched']} against {claim['alone']}",
        show(A=A, mate=mate, alone=alone, batched=batched),
        independent(),
    )
