"""Draws of landmarks by every law, on a small matrix: each set with its exact probability."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import combinations, product
from math import comb

import numpy as np

from nystrom_numerics.bounds import Law, NystromProblem

Draws = Iterator[tuple[float, tuple[int, ...]]]


def uniform(a: np.ndarray, p: NystromProblem) -> Draws:
    n = len(a)
    for chosen in combinations(range(n), p.m):
        yield 1 / comb(n, p.m), chosen


def _with_replacement(weights: np.ndarray, m: int) -> Draws:
    weights = weights / weights.sum()
    found: dict[tuple[int, ...], float] = defaultdict(float)
    for drawn in product(range(len(weights)), repeat=m):
        found[tuple(sorted(set(drawn)))] += float(np.prod(weights[list(drawn)]))
    for chosen, chance in found.items():
        if chance > 0:
            yield chance, chosen


def leverage(a: np.ndarray, p: NystromProblem) -> Draws:
    return _with_replacement((p.spectrum.vectors[:, : p.k] ** 2).sum(axis=1), p.m)


def diagonal(a: np.ndarray, p: NystromProblem) -> Draws:
    return _with_replacement(a.diagonal().copy(), p.m)


def determinantal(a: np.ndarray, p: NystromProblem) -> Draws:
    sets = list(combinations(range(len(a)), p.m))
    weights = np.array([max(np.linalg.det(a[np.ix_(s, s)]), 0.0) for s in sets])
    if weights.sum() > 0:
        yield from zip((weights / weights.sum()).tolist(), sets, strict=True)


def rpcholesky(a: np.ndarray, p: NystromProblem) -> Draws:
    """The tree of all pivots, each drawn by the diagonal of the residual."""
    found: dict[tuple[int, ...], float] = defaultdict(float)

    def grow(residual: np.ndarray, chosen: tuple[int, ...], chance: float) -> None:
        diagonal = np.maximum(residual.diagonal(), 0.0)
        if len(chosen) == p.m or diagonal.sum() <= 1e-12 * a.trace():
            found[tuple(sorted(chosen))] += chance
            return
        for i in np.flatnonzero(diagonal > 1e-13 * a.trace()).tolist():
            column = residual[:, i]
            rest = residual - np.outer(column, column) / column[i]
            grow(rest, (*chosen, i), chance * float(diagonal[i] / diagonal.sum()))

    grow(a, (), 1.0)
    total = sum(found.values())
    yield from ((chance / total, chosen) for chosen, chance in found.items())


ENUMERATED: dict[Law, Callable[[np.ndarray, NystromProblem], Draws]] = {
    Law.UNIFORM: uniform,
    Law.LEVERAGE: leverage,
    Law.DIAGONAL: diagonal,
    Law.DETERMINANTAL: determinantal,
    Law.RPCHOLESKY: rpcholesky,
}


def ridge_leverage(p: NystromProblem, ridge: float, rng: np.random.Generator) -> np.ndarray:
    """Musco and Musco: each point is kept by itself, with the chance that its ridge leverage score gives."""
    values, n = p.spectrum.values, p.spectrum.size
    scores = (p.spectrum.vectors**2) @ (values / (values + ridge))
    dimension = min(4 * scores.sum() * (1 + ridge / values[0]), n)
    chance = np.minimum(1, 28 / 3 * np.log(dimension / p.failure) * scores)
    return np.flatnonzero(rng.random(n) < chance)
