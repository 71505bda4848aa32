"""How rounding adds up over the steps of a schedule."""

from __future__ import annotations

from fractions import Fraction

from proofs_check.contract import Claim, Method, Theorem, Verdict
from proofs_check.coq import prove
from proofs_check.exact import Instances, identity, largest_row_sum, q, search, show

CLAIM = Claim(
    text="Let step k multiply by a polynomial P_k at Y_k + E_k and leave rounding L_k, Y⁺ = Y P + L, where exact "
    "arithmetic has S_k.  If (Y + E)P is within φ_k(x) of S⁺ wherever Y + E is within x of S, then ‖Y_k − S_k‖ ≤ ε_k "
    "for all k as soon as it holds at the start and ε⁺ ≥ φ(ε + e) + e p + l, with e, p and l bounds of ‖E‖, ‖P‖, ‖L‖.",
    formula="ε_{k+1} ≥ φ_k(ε_k + e_k) + e_k p_k + l_k  ⇒  ‖Y_k − S_k‖ ≤ ε_k",
    hypotheses={
        "norm": "the norm is submultiplicative",
        "step": "Y⁺ = Y P + L",
        "moved": "φ bounds what the polynomial makes of a perturbation",
        "seen": "‖E_k‖ ≤ e_k",
        "factor": "‖P_k‖ ≤ p_k",
        "rest": "‖L_k‖ ≤ l_k",
        "enough": "ε_{k+1} ≥ φ_k(ε_k + e_k) + e_k p_k + l_k",
        "start": "‖Y_0 − S_0‖ ≤ ε_0",
    },
    theorems=(
        Theorem(
            "perturbation",
            "schedule_rounding",
            r"""
            forall (R : realFieldType) (A : ringType) (N : A -> R) (Y S E P L : nat -> A) (phi : nat -> R -> R)
            (eps e p l : nat -> R),
            $norm
            $step
            $moved
            $seen
            $factor
            $rest
            $enough
            $start
            forall (k : nat), N (Y k - S k) <= eps k
            """,
            {
                "norm": r"submultiplicative N",
                "step": r"(forall k, Y k.+1 = Y k * P k + L k)",
                "moved": r"(forall k x, N (Y k + E k - S k) <= x -> N ((Y k + E k) * P k - S k.+1) <= phi k x)",
                "seen": r"(forall k, N (E k) <= e k)",
                "factor": r"(forall k, N (P k) <= p k)",
                "rest": r"(forall k, N (L k) <= l k)",
                "enough": r"(forall k, phi k (eps k + e k) + e k * p k + l k <= eps k.+1)",
                "start": r"N (Y 0%N - S 0%N) <= eps 0%N",
            },
        ),
    ),
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Derived here, for planned schedules"
METHOD = Method.COQ
NEGATIVE_CONTROL = CLAIM.without("rest")


def trial(claim: Claim, instances: Instances) -> str | None:
    """Newton and Schulz's step, y(2 − y), on matrices near S = sI, in the norm of the largest row sum."""
    if not claim.assumes("norm"):
        return None
    m = instances.size(1, 3)
    one = identity(m)

    def small(size: int):
        return instances.any(m, m) * q(Fraction(1, size))

    s = q(Fraction(instances.size(1, 9), 10))
    Y = one * s + small(20)
    eps = largest_row_sum(Y - one * s) if claim.assumes("start") else q(0)
    for k in range(3):
        E, L = small(30), small(40)
        P = one * 2 - (Y + E) if claim.assumes("factor") else one * 2 - Y + small(1)
        e = largest_row_sum(E) if claim.assumes("seen") else q(0)
        rest = largest_row_sum(L) if claim.assumes("rest") else q(0)
        after = s * (2 - s)
        x = eps + e
        phi = 2 * (1 - s) * x + x * x if claim.assumes("moved") else q(0)
        eps = phi + e * largest_row_sum(one * 2 - (Y + E)) + rest if claim.assumes("enough") else q(0)
        Y = Y * P + L if claim.assumes("step") else Y * P + L + one
        s = after
        if largest_row_sum(Y - one * s) > eps:
            return show(Y=Y, S=s, k=k + 1, eps=eps)
    return None


def check(claim: Claim = CLAIM) -> Verdict:
    return prove(claim, search(trial))
