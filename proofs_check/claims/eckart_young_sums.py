"""The Frobenius and trace forms of the lower bound, under attack."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

from proofs_check.contract import Claim, Method, Outcome, Verdict, failed

SIZE = 4
RANK = 2
STARTS = 6
RANDOM = 500
SEED = 1936

CLAIM = Claim(
    text="No matrix of rank k has ‖A − B‖_F² below $share times Σ_{j>k} σ_j², and no Nyström residual from "
    "k columns has trace below $share times Σ_{j>k} σ_j (A positive semidefinite).  A search over factors "
    "comes within 10⁻⁶ of the first; a sketch by the leading eigenvectors attains the second.",
    formula="‖A − B‖_F² ≥ $share Σ_{j>k} σ_j²,   tr(A − Â) ≥ $share Σ_{j>k} σ_j,   rank B, rank Â ≤ k",
    constants={"share": 1},
    hypotheses={"rank": "B and Â have rank at most k"},
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Eckart and Young 1936"
METHOD = Method.TRIALS
NEGATIVE_CONTROL = CLAIM.with_constants(share=2)


ROUNDING = 1e-9


def frobenius(A: np.ndarray, rank: int, rng: np.random.Generator) -> tuple[float, int]:
    """The least ‖A − B‖_F² over factors B = X Y found by descent, and the number of B tried."""
    trials = 0

    def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal trials
        trials += 1
        X, Y = x.reshape(2, SIZE, rank)
        E = A - X @ Y.T
        return float((E**2).sum()), np.stack([-2 * E @ Y, -2 * E.T @ X]).ravel()

    found = [
        minimize(objective, rng.standard_normal(2 * SIZE * rank), jac=True, tol=1e-14).fun
        for _ in range(STARTS)
    ]
    return min(found), trials


def residual_trace(A: np.ndarray, S: np.ndarray) -> float:
    C = A @ S
    return float(np.trace(A - C @ np.linalg.solve(S.T @ C, C.T)))


def check(claim: Claim = CLAIM) -> Verdict:
    rng = np.random.default_rng(SEED)
    rank = RANK if claim.assumes("rank") else RANK + 1
    trials, closest = 0, np.inf
    for _ in range(4):
        X = rng.standard_normal((SIZE, SIZE))
        A = X @ X.T
        values, vectors = np.linalg.eigh(A)
        tail = values[: SIZE - RANK]
        least, tried = frobenius(A, rank, rng)
        sketches = [rng.standard_normal((SIZE, rank)) for _ in range(RANDOM)] + [vectors[:, SIZE - rank :]]
        trace = min(residual_trace(A, S) for S in sketches)
        trials += tried + len(sketches)
        ratios = least / (tail**2).sum(), trace / tail.sum()
        closest = min(closest, *ratios)
        if not all(claim["share"] - ROUNDING <= ratio <= claim["share"] + 1e-6 for ratio in ratios):
            return failed(f"ratios {ratios[0]:.9f}, {ratios[1]:.9f}", f"singular values {values[::-1]}")
    return Verdict(Outcome.NOT_REFUTED, f"{trials} approximations, least ratio {closest:.12f}")
