"""The expected residual trace of a k-DPP, exactly."""

from __future__ import annotations

from itertools import combinations

import sympy as sp

from proofs_check.contract import Claim, Method, Outcome, Verdict, failed
from proofs_check.exact import Instances, q, show, take, trace

SIZE = 4

CLAIM = Claim(
    text="For symmetric positive semidefinite K of rank above k and S drawn with probability det "
    "K_S/e_k(λ), |S| = k, the expected residual trace is (k + $shift) e_{k+1}(λ)/e_k(λ): an identity of "
    "polynomials in the entries, proved for every symmetric matrix of size up to 4, and enumerated over "
    "rational matrices up to size 6.",
    formula="Σ_{|S|=k} det K_S · tr(K − K_{:S} K_S⁻¹ K_{S:}) = (k + $shift) e_{k+1}(λ)",
    constants={"shift": 1},
    hypotheses={"symmetric": "K is symmetric"},
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "k-DPP sampling"
METHOD = Method.SYMBOLIC
NEGATIVE_CONTROL = CLAIM.with_constants(shift=0)


def elementary(K, k: int):
    """e_k of the eigenvalues: the sum of the principal minors of order k."""
    size = K.nrows()
    return sum((take(K, S, S).det() for S in combinations(range(size), k)), q(0))


def expected_trace(K, k: int):
    """Σ_S det K_S tr R_S by enumeration; subsets with a vanishing minor carry no probability."""
    total = q(0)
    for S in combinations(range(K.nrows()), k):
        core = take(K, S, S)
        if core.det() != 0:
            R = K - take(K, columns=S) * core.inv() * take(K, rows=S)
            total += core.det() * trace(R)
    return total


def symbolic_gap(size: int, k: int, shift: int, symmetric: bool) -> sp.Expr:
    """Σ_S Σ_j (det K_S K_jj − K_Sjᵀ adj(K_S) K_Sj) − (k + shift) e_{k+1}, with indeterminate entries."""

    def entry(i: int, j: int) -> sp.Symbol:
        return sp.Symbol(f"k{min(i, j)}{max(i, j)}" if symmetric else f"k{i}{j}")

    K = sp.Matrix(size, size, entry)
    minors = sum(K.extract(S, S).det() for S in combinations(range(size), k + 1))
    gap = -(k + shift) * minors
    for S in combinations(range(size), k):
        core, columns = K.extract(S, S), K.extract(S, range(size))
        # trace of det K_S · K − columnsᵀ adj(K_S) columns: the residual trace for symmetric K
        gap += core.det() * K.trace() - (columns.T * core.adjugate() * columns).trace()
    return sp.expand(gap)


def check(claim: Claim = CLAIM) -> Verdict:
    instances, enumerated = Instances(), 0
    for size in range(2, 7):
        K = instances.gram(size, size - 1)
        for k in range(1, size - 1):
            expected = expected_trace(K, k)
            if expected != (k + claim["shift"]) * elementary(K, k + 1):
                return failed("counterexample", show(K=K, k=k, expected=expected))
            enumerated += 1
    pairs = [(size, k) for size in range(2, SIZE + 1) for k in range(1, size)]
    for size, k in pairs:
        if symbolic_gap(size, k, claim["shift"], claim.assumes("symmetric")) != 0:
            return failed("not an identity", f"size {size}, k = {k}")
    detail = (
        f"polynomial identities for (size, k) in {pairs}; {enumerated} rational enumerations up to size 6"
    )
    return Verdict(Outcome.PROVED, f"{len(pairs)} identities, {enumerated} enumerations", detail)
