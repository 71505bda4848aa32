"""How an approximate inverse of the core propagates."""

from __future__ import annotations

from proofs_check.contract import Claim, Method, Theorem, Verdict
from proofs_check.coq import prove
from proofs_check.exact import Instances, pinv, search, show

CLAIM = Claim(
    text="Replacing the inverse of the core by Z changes the approximation by exactly (C W⁻¹)(W − WZW)(W⁻¹ "
    "B): the backward residual counts, not I − WZ.  The same holds with a reflexive inverse V of a singular "
    "core, such as W⁺, for Z in its range on both sides.",
    formula="C (V − Z) B = (C V)(W − W Z W)(V B),  V = W⁻¹ or W⁺",
    hypotheses={
        "unit": "W is invertible (first part)",
        "left": "V W Z = Z (second part)",
        "right": "Z W V = Z (second part)",
        "reflexive": "V W V = V (second part)",
    },
    theorems=(
        Theorem(
            "inverse",
            "backward_error",
            r"""
            forall (F : fieldType) (p m q : nat) (C : 'M[F]_(p, m)) (W Z : 'M[F]_m) (B : 'M[F]_(m, q)),
            $unit
            C *m (invmx W - Z) *m B = (C *m invmx W) *m (W - W *m Z *m W) *m (invmx W *m B)
            """,
            {
                "unit": r"W \in unitmx",
            },
        ),
        Theorem(
            "inverse",
            "backward_error_singular",
            r"""
            forall (F : fieldType) (p m q : nat) (C : 'M[F]_(p, m)) (W V Z : 'M[F]_m) (B : 'M[F]_(m, q)),
            $reflexive
            $left
            $right
            C *m (V - Z) *m B = (C *m V) *m (W - W *m Z *m W) *m (V *m B)
            """,
            {
                "left": r"V *m W *m Z = Z",
                "right": r"Z *m W *m V = Z",
                "reflexive": r"V *m W *m V = V",
            },
        ),
    ),
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Elementary; used for every approximate pseudoinverse"
METHOD = Method.COQ
NEGATIVE_CONTROL = CLAIM.without("right")


def trial(claim: Claim, instances: Instances) -> str | None:
    m = instances.size(2)
    C, B, Z = instances.any(2, m), instances.any(m, 2), instances.any(m, m)
    W = instances.invertible(m) if claim.assumes("unit") else instances.singular(m)
    if C * (pinv(W) - Z) * B != C * pinv(W) * (W - W * Z * W) * pinv(W) * B:
        return show(C=C, W=W, Z=Z, B=B)
    W = instances.singular(m)
    V = pinv(W) if claim.assumes("reflexive") else pinv(W) + instances.any(m, m)
    left = V * W if claim.assumes("left") else instances.any(m, m)
    right = W * V if claim.assumes("right") else instances.any(m, m)
    Z = left * Z * right
    same = C * (V - Z) * B == C * V * (W - W * Z * W) * V * B
    return None if same else show(C=C, W=W, V=V, Z=Z, B=B)


def check(claim: Claim = CLAIM) -> Verdict:
    return prove(claim, search(trial))
