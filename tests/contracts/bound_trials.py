"""What registered bounds are tried on: problems of every subject, and the error itself, over the whole law.

A group holds the outcomes of one law with their probabilities: one outcome for given landmarks, every set with its
chance where the law can be enumerated, and many draws where it cannot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache, partial
from itertools import combinations

import numpy as np

from nystrom_numerics import bounds, kernels
from nystrom_numerics.bounds import Law, Norm, NystromProblem, Subject
from tests.bounds.instances import psd_matrices, residual
from tests.contracts import laws

DRAWS = 300
"""Of a law that is sampled."""

NORMS: dict[Norm, Callable[[np.ndarray], float]] = {
    Norm.SPECTRAL: lambda e: float(np.linalg.norm(e, 2)),
    Norm.FROBENIUS: lambda e: float(np.linalg.norm(e)),
    Norm.TRACE: lambda e: float(np.linalg.svd(e, compute_uv=False).sum()),
    Norm.MAX: lambda e: float(np.abs(e).max()),
}


@dataclass(frozen=True, eq=False)
class Outcome:
    """The chance of one outcome, what is known of it, and the error."""

    chance: float
    problem: object
    error: np.ndarray
    slack: float
    known: dict[Norm, float] = field(default_factory=dict)

    def truth(self, norm: Norm) -> float:
        if norm not in self.known:
            self.known[norm] = NORMS[norm](self.error)
        return self.known[norm]


Groups = list[list[Outcome]]
SAMPLED = {Law.RIDGE_LEVERAGE, Law.GAUSSIAN, Law.PROBES}


@cache
def _matrices() -> list[tuple[np.ndarray, np.ndarray | None, float | None]]:
    """Small PSD matrices, and Gaussian kernels with their points and γ."""
    rng = np.random.default_rng(21)
    found: list[tuple[np.ndarray, np.ndarray | None, float | None]] = [
        (a, None, None) for _, a in psd_matrices(60, seed=9, sizes=(4, 7))
    ]
    for _ in range(40):
        x = rng.standard_normal((int(rng.integers(4, 7)), 2)) * 10.0 ** rng.uniform(-0.7, 0.3)
        gamma = float(10.0 ** rng.uniform(-1, 0.5))
        found.append((kernels.gaussian(x, gamma=gamma).block(slice(None), slice(None)), x, gamma))
    return found


def _problem(
    a: np.ndarray, x: np.ndarray | None, gamma: float | None, m: int, k: int, failure: float
) -> NystromProblem:
    kernel = kernels.precomputed(a) if x is None else kernels.gaussian(x, gamma=gamma)
    return NystromProblem(kernel, bounds.psd_spectrum(a), None, None, m, m, k, failure, gamma)


def _of_set(a: np.ndarray, p: NystromProblem, chance: float, chosen: tuple[int, ...]) -> Outcome | None:
    """The outcome of one set of landmarks; none where rounding decides."""
    index = np.asarray(chosen, dtype=np.int64)
    if len(chosen) and np.linalg.cond(a[np.ix_(index, index)]) > 1e8:
        return None
    points = None if p.kernel.points is None else p.kernel.points[index]
    ours = replace(p, indices=chosen, points=points, rank=len(chosen), k=min(p.k, max(len(chosen), 1)))
    error = residual(a, index) if len(chosen) else a
    return Outcome(chance, ours, error, 1e-8 * float(np.trace(a)))


def _nystrom(law: Law) -> Groups:
    rng, groups = np.random.default_rng(17), []
    for a, x, gamma in _matrices():
        m = int(rng.integers(1, len(a) - 1))
        k, failure = int(rng.integers(1, m + 1)), float(rng.choice([0.05, 0.3, 0.9]))
        p = _problem(a, x, gamma, m, k, failure)
        if law is Law.THESE:
            for chosen in combinations(range(len(a)), m):
                if (one := _of_set(a, p, 1.0, chosen)) is not None:
                    groups.append([one])
        else:
            group = [_of_set(a, p, chance, chosen) for chance, chosen in laws.ENUMERATED[law](a, p)]
            if group and None not in group:
                groups.append([one for one in group if one is not None])
    return groups


def _ridge() -> Groups:
    """Larger matrices, for the law keeps every point of small ones."""
    rng, groups = np.random.default_rng(4), []
    for decay, failure in ((0.6, 0.9), (0.8, 0.3), (0.5, 0.1)):
        n, m = 120, 60
        q = np.linalg.qr(rng.standard_normal((n, n)))[0]
        a = (q * decay ** np.arange(n)) @ q.T
        p = _problem((a + a.T) / 2, None, None, m, 1, failure)
        ridge = bounds.musco_musco(p.spectrum, m, failure=failure).value
        assert ridge is not None
        sets = [laws.ridge_leverage(p, ridge, rng) for _ in range(DRAWS)]
        assert np.mean([len(s) for s in sets]) < 0.7 * n, "the law must leave some points out"
        groups.append([Outcome(1 / DRAWS, p, residual(a, s) if len(s) else a, 1e-9) for s in sets])
    return groups


def _sketched() -> Groups:
    rng, groups = np.random.default_rng(5), []
    for a, x, gamma in _matrices()[:25]:
        if len(a) < 5 or np.linalg.eigvalsh(a)[-4] <= 1e-10 * np.trace(a):
            continue
        p, group = _problem(a, x, gamma, 4, 1, 0.1), []
        for _ in range(DRAWS):
            omega = rng.standard_normal((len(a), 4))
            half = np.linalg.svd(_root(a) @ omega, full_matrices=False)[0]
            error = _root(a) @ (np.eye(len(a)) - half @ half.T) @ _root(a)
            group.append(Outcome(1 / DRAWS, p, error, 1e-8 * float(np.trace(a))))
        groups.append(group)
    return groups


def _root(a: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(a)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def _crosses() -> Iterator[tuple[np.ndarray, bounds.CrossProblem]]:
    rng = np.random.default_rng(12)
    for index, (_, square) in enumerate(psd_matrices(600, seed=5, sizes=(5, 10))):
        n = len(square)
        p = int(rng.integers(3, n))
        a = square[:, :p] if index % 3 else square[:, :p] + 0.1 * rng.standard_normal((n, p))
        columns = rng.permutation(p)[: int(rng.integers(1, min(p, 4)))]
        more = int(rng.integers(0, 3)) if index % 2 else 0
        rows = rng.permutation(n)[: min(n, len(columns) + more)]
        k = int(rng.integers(1, len(columns) + 1))
        size = np.linalg.norm(a, 2)
        parts = (a[np.ix_(rows, columns)], a[:, columns], a[rows])
        if all(np.linalg.svd(part)[1][min(part.shape) - 1] > 1e-6 * size > 0 for part in parts):
            yield a, bounds.CrossProblem(a, tuple(rows.tolist()), tuple(columns.tolist()), k)


def _cross() -> Groups:
    groups = []
    for a, p in _crosses():
        i, j = list(p.rows), list(p.columns)
        error = a - a[:, j] @ np.linalg.lstsq(a[np.ix_(i, j)], a[i], rcond=None)[0]
        groups.append([Outcome(1.0, p, error, 1e-8 * float(np.abs(a).sum()))])
    return groups


def _cur() -> Groups:
    groups = []
    for a, p in _crosses():
        left, right = np.linalg.qr(a[:, list(p.columns)])[0], np.linalg.qr(a[list(p.rows)].T)[0]
        error = a - left @ (left.T @ a @ right) @ right.T
        groups.append([Outcome(1.0, p, error, 1e-8 * float(np.abs(a).sum()))])
    return groups


def _generalised() -> Groups:
    rng, groups = np.random.default_rng(6), []
    for sigma in (np.r_[np.full(3, 1e4), np.ones(17)], 0.7 ** np.arange(20), np.ones(20)):
        p, group = bounds.SketchProblem(np.asarray(sigma, dtype=float), 6, 12), []
        for _ in range(DRAWS):
            x, y = rng.standard_normal((20, 6)), rng.standard_normal((20, 12))
            q = np.linalg.qr(sigma[:, None] * x)[0]
            error = np.diag(sigma) - q @ np.linalg.pinv(y.T @ q) @ (y.T * sigma)
            group.append(Outcome(1 / DRAWS, p, error, 1e-9))
        groups.append(group)
    return groups


def _operators() -> Groups:
    groups = []
    for values in (np.r_[1.0, np.zeros(29)], 0.7 ** np.arange(30), np.linspace(1, 0.9, 30)):
        a, like = np.diag(values), np.zeros((30, 1))
        for failure in (0.05, 0.3):
            groups.append(
                [
                    Outcome(
                        1 / DRAWS,
                        bounds.OperatorProblem(lambda v, a=a: a @ v, like, failure, seed),
                        a,
                        1e-9,
                    )
                    for seed in range(DRAWS)
                ]
            )
    return groups


def _inexact() -> Groups:
    rng, groups = np.random.default_rng(8), []
    for _ in range(300):
        m, n = int(rng.integers(1, 6)), int(rng.integers(6, 12))
        core = rng.standard_normal((m, m)) + 2 * np.eye(m)
        z = np.linalg.inv(core) + 10.0 ** rng.uniform(-4, 0) * rng.standard_normal((m, m))
        left, right = rng.standard_normal((n, m)), rng.standard_normal((m, n))
        error = left @ (np.linalg.inv(core) - z) @ right
        p = bounds.PinvProblem(core, z, left.T @ left, right @ right.T)
        groups.append([Outcome(1.0, p, error, 1e-6 * (1 + float(np.linalg.norm(error))))])
    return groups


def _inverses() -> Groups:
    """Pairs of any ranks, and orthogonal ones stretched alike in all directions, which other norms feel most."""
    rng, groups = np.random.default_rng(9), []
    for index in range(400):
        n, p = int(rng.integers(1, 6)), int(rng.integers(1, 6))
        rank = int(rng.integers(1, min(n, p) + 1))
        a = rng.standard_normal((n, rank)) @ rng.standard_normal((rank, p))
        step = 10.0 ** rng.uniform(-3, 0.5) * rng.standard_normal((n, p))
        b = a + step * (rng.random((n, p)) < 0.5) if index % 2 else a + step
        if index % 4 == 0:
            a = np.linalg.qr(rng.standard_normal((n, n)))[0]
            b = (1 + 10.0 ** rng.uniform(-3, 0)) * a
        one, two = np.linalg.pinv(a, rcond=1e-10), np.linalg.pinv(b, rcond=1e-10)
        sizes = [float(np.linalg.norm(x, 2)) for x in (one, two, b - a)]
        if max(sizes[:2]) < 1e6:
            p_ = bounds.PerturbationProblem(*sizes, float(np.linalg.norm(b - a)))
            groups.append([Outcome(1.0, p_, two - one, 1e-6 * max(sizes[:2]))])
    return groups


def _softmaxes() -> Groups:
    rng, groups = np.random.default_rng(10), []
    for _ in range(300):
        x = rng.standard_normal((int(rng.integers(1, 5)), int(rng.integers(2, 6)))) * 10.0 ** rng.uniform(
            -2, 1
        )
        y = x + 10.0 ** rng.uniform(-4, 0.5) * rng.standard_normal(x.shape)
        one, two = (np.exp(s - s.max(1, keepdims=True)) for s in (x, y))
        error = one / one.sum(1, keepdims=True) - two / two.sum(1, keepdims=True)
        groups.append([Outcome(1.0, bounds.ScoresProblem(x, y), error, 1e-12)])
    return groups


def _sums() -> Groups:
    """Groups of scores at the ends of their range, and anywhere."""
    rng, groups = np.random.default_rng(12), []
    for index in range(200):
        n, g = int(rng.integers(1, 4)), int(rng.integers(1, 4))
        counts = rng.integers(1, 9, g)
        parts = [rng.random((n, c)) * 10.0 ** rng.uniform(-1, 0.7) for c in counts]
        parts = [np.round(x / x.max()) * x.max() if index % 2 else x for x in parts]
        means, ranges = (np.stack([f(x, axis=1) for x in parts], axis=1) for f in (np.mean, np.ptp))
        sums = np.exp(np.concatenate(parts, axis=1)).sum(axis=1, keepdims=True)
        p = bounds.GroupsProblem(means, counts.astype(float), ranges)
        groups.append([Outcome(1.0, p, sums, 1e-9 * float(sums.max()))])
    return groups


def _tangents() -> Groups:
    """Rows of S and of its tangents, for queries about a pilot; far keys in groups, near ones exactly."""
    rng, groups = np.random.default_rng(13), []
    for _ in range(200):
        n, near = int(rng.integers(1, 4)), int(rng.integers(1, 4))
        label = rng.integers(0, 3, int(rng.integers(2, 8)))
        pilot = rng.standard_normal(near + len(label))
        beside = rng.standard_normal((n, near + len(label))) * 10.0 ** rng.uniform(-2, 0.5)
        tangent, reach = pilot + beside, np.zeros(n)
        for g in set(label.tolist()):
            at = near + np.flatnonzero(label == g)
            mean = beside[:, at] @ (w := np.exp(pilot[at]) / np.exp(pilot[at]).sum())
            tangent[:, at] = pilot[at] + mean[:, None]
            reach = np.maximum(reach, np.abs(beside[:, at] - mean[:, None]).max(axis=1))
            assert np.isclose(w.sum(), 1)
        s, hat = (np.exp(x) / np.exp(x).sum(axis=1, keepdims=True) for x in (pilot + beside, tangent))
        p = bounds.TangentProblem(reach, hat[:, near:].sum(axis=1))
        groups.append([Outcome(1.0, p, s - hat, 1e-12)])
    return groups


def _near_fields() -> Groups:
    rng, groups = np.random.default_rng(14), []
    for _ in range(200):
        n, near, far = (int(x) for x in rng.integers(1, 5, 3))
        s, t = (rng.dirichlet(np.full(near + far, 0.3), n) for _ in range(2))
        share = rng.random((n, 1))
        hat = np.concatenate(
            [
                share * s[:, :near] / s[:, :near].sum(axis=1, keepdims=True),
                (1 - share) * t[:, near:] / t[:, near:].sum(axis=1, keepdims=True),
            ],
            axis=1,
        )
        p = bounds.NearProblem(s[:, near:].sum(axis=1), hat[:, near:].sum(axis=1))
        if np.isfinite(hat).all():
            groups.append([Outcome(1.0, p, s - hat, 1e-12)])
    return groups


@cache
def groups(subject: Subject, law: Law) -> Groups:
    """The groups of a subject, over the law.

    Raises
    ------
    LookupError
        Nothing is there to try such a bound on: give it instances here.
    """
    made: dict[tuple[Subject, Law], Callable[[], Groups]] = {
        **{(Subject.NYSTROM, each): partial(_nystrom, each) for each in (Law.THESE, *laws.ENUMERATED)},
        (Subject.NYSTROM, Law.RIDGE_LEVERAGE): _ridge,
        (Subject.SKETCHED_NYSTROM, Law.GAUSSIAN): _sketched,
        (Subject.CROSS, Law.THESE): _cross,
        (Subject.CUR, Law.THESE): _cur,
        (Subject.GENERALISED_NYSTROM, Law.GAUSSIAN): _generalised,
        (Subject.OPERATOR, Law.PROBES): _operators,
        (Subject.PINV, Law.THESE): _inexact,
        (Subject.INVERSES, Law.THESE): _inverses,
        (Subject.SOFTMAX, Law.THESE): _softmaxes,
        (Subject.SUMS, Law.THESE): _sums,
        (Subject.TANGENT, Law.THESE): _tangents,
        (Subject.NEAR_FIELD, Law.THESE): _near_fields,
    }
    if (subject, law) not in made:
        raise LookupError(f"no instances of {subject} over {law}")
    found = made[subject, law]()
    assert found
    return found
