"""When eq. (13) is exact on a kernel of rank m."""

from __future__ import annotations

from flint import fmpq_mat

from proofs_check.contract import Claim, Method, Theorem, Verdict
from proofs_check.coq import prove
from proofs_check.exact import Instances, diagonal, search, show

CLAIM = Claim(
    text="On an unnormalised kernel K = C W⁻¹ R of rank m, eq. 13 equals softmax attention if and only if, "
    "whenever (C W⁻¹)_ip ≠ 0, query i and query landmark p have the same ratio of mass on all keys to mass "
    "on the landmark keys.",
    formula="(C/f)(W/a)⁻¹(R/b) = (C W⁻¹ R)/d  ⇔  ( (C W⁻¹)_ip ≠ 0 ⇒ d_i/f_i = b_p/a_p )",
    hypotheses={
        "unit": "W is invertible",
        "free": "R has full row rank",
        "query_masses": "no row sum of K or C is zero",
        "landmark_masses": "no row sum of W or R is zero",
    },
    theorems=(
        Theorem(
            "inverse",
            "eq13_exact_iff",
            r"""
            forall (F : fieldType) (n m N : nat) (C : 'M[F]_(n, m)) (W : 'M[F]_m) (R : 'M[F]_(m, N))
            (d f : 'rV[F]_n) (a b : 'rV[F]_m),
            $unit
            $free
            $query_masses
            $landmark_masses
            normalise f C *m invmx (normalise a W) *m normalise b R = normalise d (C *m invmx W *m R)
            <-> (forall i p, (C *m invmx W) i p != 0 -> d 0 i / f 0 i = b 0 p / a 0 p)
            """,
            {
                "unit": r"W \in unitmx",
                "free": r"row_free R",
                "query_masses": r"(forall i, d 0 i != 0) -> (forall i, f 0 i != 0)",
                "landmark_masses": r"(forall p, a 0 p != 0) -> (forall p, b 0 p != 0)",
            },
        ),
    ),
)

STATEMENT = CLAIM.sentence()
FORMULA = CLAIM.rendered_formula()
HYPOTHESES = tuple(CLAIM.hypotheses.values())
SOURCE = "Xiong et al. 2021, eq. (13)"
METHOD = Method.COQ
NEGATIVE_CONTROL = CLAIM.without("free")


def trial(claim: Claim, instances: Instances) -> str | None:
    n, m = instances.size(), 2
    N = instances.size(m, 4)
    W = instances.invertible(m)
    C = instances.any(n, m, 0, 2)
    R = instances.any(m, N)
    if not claim.assumes("free"):
        R = instances.any(m, 1) * instances.any(1, N)
    elif R.rank() < m:
        return None
    T = C * W.inv()
    d, f, a, b = ([instances.positive(1, 1)[0, 0] for _ in range(k)] for k in (n, n, m, m))
    if instances.size(0, 1):
        d, b = f, a
    if not claim.assumes("free"):
        # for R of rank one the masses d can be chosen to make eq. 13 exact
        u = [R[p, 0] for p in range(m)]
        plain = [sum(T[i, p] * u[p] for p in range(m)) for i in range(n)]
        weighted = [sum(T[i, p] * u[p] * a[p] / b[p] for p in range(m)) for i in range(n)]
        if 0 in plain or 0 in weighted:
            return None
        d = [f[i] * plain[i] / weighted[i] for i in range(n)]
    approximation = scale(f, C) * scale(a, W).inv() * scale(b, R)
    exact = approximation == scale(d, T * R)
    ratios = all(d[i] / f[i] == b[p] / a[p] for i in range(n) for p in range(m) if T[i, p] != 0)
    return None if exact == ratios else show(C=C, W=W, R=R, d=d, f=f, a=a, b=b, exact=exact)


def scale(masses: list, X: fmpq_mat) -> fmpq_mat:
    """Rows divided by masses."""
    return diagonal([1 / mass for mass in masses]) * X


def check(claim: Claim = CLAIM) -> Verdict:
    return prove(claim, search(trial))
