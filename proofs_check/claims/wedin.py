"""Wedin's bound on the perturbation of the pseudoinverse, under attack."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

from proofs_check.contract import Claim, Method, Outcome, Verdict, failed

SIZE = 3
RANK = 2
STARTS = 3
RANDOM = 1000
SEED = 1973
QUOTED = {"one": 1, "five": 5, "frobenius": 2}

CLAIM = Claim(
    text="For all A and B, ‖B⁺ − A⁺‖₂ ≤ μ max(‖A⁺‖₂², ‖B⁺‖₂²)·‖B − A‖₂ with μ = ($one + √$five)/2, and with "
    "μ = √$frobenius in the Frobenius norm; for equal ranks ‖A⁺‖₂‖B⁺‖₂ may replace the maximum. Random 3×3 "
    "pairs of rank 2 and a direct search for a violation reach at least three fifths of either constant and "
    "never pass it.",
    formula="‖B⁺ − A⁺‖ ≤ μ ‖A⁺‖₂ ‖B⁺‖₂ ‖B − A‖,   μ = ($one + √$five)/2 (2-norm),  √$frobenius (Frobenius)",
    constants={"one": 1, "five": 5, "frobenius": 2},
    hypotheses={"rank": "A and B have the same rank (for the product form)"},
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Wedin 1973"
METHOD = Method.TRIALS
NEGATIVE_CONTROL = CLAIM.without("rank")


def pair(x: np.ndarray, ranks: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Two matrices of the given ranks from a vector of parameters."""
    factors = x.reshape(4, SIZE, SIZE)
    return tuple(factors[2 * i][:, :r] @ factors[2 * i + 1][:r] for i, r in enumerate(ranks))


def ratio(A: np.ndarray, B: np.ndarray, norm: int | str, mixed: bool) -> float:
    """‖B⁺ − A⁺‖ over ‖B − A‖ times ‖A⁺‖₂‖B⁺‖₂, or the larger square; 0 where ill-conditioned."""
    u, s, vt = np.linalg.svd(np.stack([A, B]))
    kept = s > 1e-6 * s[:, :1]
    inverse = np.where(kept, 1 / np.where(kept, s, 1.0), 0.0)
    Ap, Bp = (vt.mT * inverse[:, None, :]) @ u.mT
    sizes = inverse.max(axis=1)  # ‖A⁺‖₂ and ‖B⁺‖₂
    gap = np.linalg.norm(B - A, norm)
    if sizes.min() == 0 or gap < 1e-6 * np.linalg.norm(A):
        return 0.0
    scale = sizes.max() ** 2 if mixed else sizes.prod()
    return float(np.linalg.norm(Bp - Ap, norm) / (scale * gap))


def attack(norm: int | str, ranks: tuple[int, int], mixed: bool) -> tuple[float, int]:
    """The largest ratio found, and the number of pairs tried."""
    rng = np.random.default_rng(SEED)
    trials = 0

    def objective(x: np.ndarray) -> float:
        nonlocal trials
        trials += 1
        return -ratio(*pair(x, ranks), norm, mixed)

    starts = sorted((rng.standard_normal(4 * SIZE**2) for _ in range(RANDOM)), key=objective)[:STARTS]
    options = {"maxiter": 3000, "maxfev": 3000, "adaptive": True}
    found = [-minimize(objective, x, method="Nelder-Mead", options=options).fun for x in starts]
    return max(found), trials


def check(claim: Claim = CLAIM) -> Verdict:
    if dict(claim.constants) != QUOTED:
        return failed(
            "not the bound quoted", f"Wedin's constants are {QUOTED}; no search decides a weaker bound"
        )
    constants = {2: (claim["one"] + claim["five"] ** 0.5) / 2, "fro": claim["frobenius"] ** 0.5}
    second = RANK if claim.assumes("rank") else RANK - 1
    lines, trials, margin = [], 0, 1.0
    for norm, constant in constants.items():
        for ranks, mixed in (((RANK, second), False), ((RANK, RANK - 1), True)):
            worst, tried = attack(norm, ranks, mixed)
            trials += tried
            form = "larger square" if mixed else "product"
            lines.append(
                f"norm {norm}, {form}, ranks {ranks}: largest ratio {worst:.4f} against {constant:.4f}"
            )
            if not constant * 3 / 5 <= worst <= constant:
                return failed(lines[-1], "violated, or the search reaches less than three fifths of it")
            margin = min(margin, 1 - worst / constant)
    return Verdict(Outcome.NOT_REFUTED, f"{trials} pairs, margin {margin:.3f}", "; ".join(lines))
