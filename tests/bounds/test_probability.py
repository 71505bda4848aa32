"""Bounds with a probability, or of a mean, drawn thousands of times: not false more often than stated.

How often they are false at most, and what weaker constant is caught, is in test_sharpness.py.
"""

from __future__ import annotations

from functools import partial
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from nystrom_numerics import bounds
from tests import families
from tests.bounds.instances import norms, residual, rotation


def holds(failures, draws, stated):
    """The count of failures is one that a rate of at most ``stated`` explains, at 1 in 10⁴."""
    return stats.binomtest(failures, draws, stated, alternative="greater").pvalue > 1e-4


def uniform(n, m, rng):
    return rng.permutation(n)[:m]


def weighted(p, m, rng):
    return np.unique(rng.choice(len(p), m, p=p / p.sum()))


def spread(n, top):
    """One eigenvalue ``top`` on the constant vector, the others 1: no coherence."""
    return np.eye(n) + (top - 1) * np.full((n, n), 1 / n)


N, DRAWS = 30, 200
COSINES = rotation(N, np.random.default_rng(3), 2)
MATRICES = {
    "spiked": spread(N, 1e4),
    "polynomial": (COSINES * (1.0 + np.arange(N)) ** -1.5) @ COSINES.T,
    "kernel": families.matrices(N)["gaussian"],
}


@pytest.mark.parametrize("name", ["spiked", "polynomial"])
@pytest.mark.parametrize("failure", [0.1, 0.5])
def test_coherence(name, failure, rng):
    a, m = MATRICES[name], 24
    three = bounds.coherence(bounds.psd_spectrum(a), m, 1, failure=failure)
    truth = np.array([norms(residual(a, uniform(N, m, rng))) for _ in range(DRAWS)])
    for b, found in zip(three, truth.T, strict=True):
        assert holds(int((found > b.value).sum()), DRAWS, failure)


@pytest.mark.parametrize("failure", [0.1, 0.5])
@pytest.mark.parametrize("name", MATRICES)
def test_drawn_leverage(name, failure, rng):
    a, m, k = MATRICES[name], 18, 2
    spectrum = bounds.psd_spectrum(a)
    three = bounds.drawn_leverage(spectrum, m, k, failure=failure)
    p = (spectrum.vectors[:, :k] ** 2).sum(axis=1)
    truth = np.array([norms(residual(a, weighted(p, m, rng))) for _ in range(DRAWS)])
    for b, found in zip(three, truth.T, strict=True):
        assert holds(int((found > b.value).sum()), DRAWS, failure)


def root_mean_square(a, sets):
    return np.sqrt(np.mean([norms(residual(a, s))[1] ** 2 for s in sets]))


@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("m", [2, 10, 27])
def test_additive_uniform(name, m, rng):
    a = MATRICES[name]
    spectrum = bounds.psd_spectrum(a)
    sets = [uniform(N, m, rng) for _ in range(DRAWS)]
    truth = np.array([norms(residual(a, s))[1] for s in sets])
    assert root_mean_square(a, sets) <= bounds.additive_uniform(spectrum, m).value
    for failure in (0.05, 0.5):
        high = bounds.additive_uniform(spectrum, m, failure=failure)
        assert holds(int((truth > high.value).sum()), DRAWS, failure)


def test_additive_uniform_variance_is_exact(rng):
    """All sets, each alike."""
    x = rng.standard_normal((5, 7))
    a = x.T @ x
    every = [np.linalg.norm(x @ x.T - 7 / 3 * x[:, s] @ x[:, s].T) ** 2 for s in combinations(range(7), 3)]
    assert bounds.additive_uniform(bounds.psd_spectrum(a), 3).value ** 2 == pytest.approx(np.mean(every))


@pytest.mark.parametrize("name", MATRICES)
def test_additive_weighted(name, rng):
    a = MATRICES[name]
    spectrum = bounds.psd_spectrum(a)
    sets = [weighted(a.diagonal(), 10, rng) for _ in range(DRAWS)]
    assert root_mean_square(a, sets) <= bounds.additive_weighted(spectrum, 10).value
    truth = np.array([norms(residual(a, s))[1] for s in sets])
    high = bounds.additive_weighted(spectrum, 10, failure=0.1)
    assert holds(int((truth > high.value).sum()), DRAWS, 0.1)


def test_additive_weighted_variance_is_exact(rng):
    """One draw: every outcome with its probability."""
    x = rng.standard_normal((4, 6))
    a, p = x.T @ x, (x * x).sum(axis=0) / (x * x).sum()
    mean = sum(
        chance * np.linalg.norm(x @ x.T - np.outer(x[:, i], x[:, i]) / chance) ** 2
        for i, chance in enumerate(p)
    )
    assert bounds.additive_weighted(bounds.psd_spectrum(a), 1).value ** 2 == pytest.approx(mean)


def test_dpp_expectation_is_exact():
    """All sets of m with their determinants; 2 % more or less would show."""
    for seed, m in ((0, 1), (1, 3), (2, 5), (3, 6)):
        rng = np.random.default_rng(seed)
        a = families.with_spectrum(rng.random(6) ** 3, rng)
        sets = [list(s) for s in combinations(range(6), m)]
        weights = np.array([np.linalg.det(a[np.ix_(s, s)]) for s in sets])
        mean = sum(w * norms(residual(a, s))[2] for w, s in zip(weights, sets, strict=True)) / weights.sum()
        spectrum = bounds.psd_spectrum(a)
        assert bounds.dpp_expectation(spectrum, m).value == pytest.approx(mean, rel=1e-8, abs=1e-12)
        assert mean <= bounds.belabbas_wolfe(spectrum, m).value + 1e-12


@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("m", [4, 12])
def test_rpcholesky_expectation(name, m):
    from nystrom_numerics import kernels, landmarks

    a = MATRICES[name]
    kernel = kernels.precomputed(a)
    truth = [landmarks.rpcholesky(kernel, m, rng=seed).residual.sum() for seed in range(60)]
    value = bounds.rpcholesky_expectation(bounds.psd_spectrum(a), m).value
    assert np.mean(truth) <= value + 4 * np.std(truth) / 60**0.5
    assert np.mean(truth) > 0.1 * value


@pytest.mark.parametrize("name", MATRICES)
def test_musco_musco(name, rng):
    a, failure = MATRICES[name], 0.3
    spectrum = bounds.psd_spectrum(a)
    b = bounds.musco_musco(spectrum, 25.0, failure=failure)
    values, u = spectrum.values, spectrum.vectors
    scores = (u * u) @ (values / (values + b.value))
    dimension = min(4 * scores.sum() * (1 + b.value / values[0]), N)
    chance = np.minimum(1, 28 / 3 * np.log(dimension / failure) * scores)
    assert chance.sum() <= 25 * (1 + 1e-6)
    found = []
    for _ in range(DRAWS):
        kept = np.nonzero(rng.random(N) < chance)[0]
        found.append(norms(residual(a, kept))[0] if len(kept) else values[0])
    assert holds(int((np.array(found) > b.value).sum()), DRAWS, failure)


def sketched(a, m, rng):
    omega = rng.standard_normal((len(a), m))
    y = a @ omega
    values, vectors = np.linalg.eigh(omega.T @ y)
    half = y @ (vectors / np.sqrt(np.maximum(values, 1e-13 * values[-1])))
    return norms(a - half @ half.T)


@pytest.mark.parametrize("name", MATRICES)
def test_gaussian_sketch(name, rng):
    a, m = MATRICES[name], 12
    truth = np.array([sketched(a, m, rng) for _ in range(200)])
    for b, column in zip(bounds.gaussian_sketch(bounds.psd_spectrum(a), m), (0, 2), strict=True):
        found = truth[:, column]
        assert found.mean() <= b.value + 4 * found.std() / 200**0.5


def test_generalised_nystrom(rng):
    for sigma in (np.r_[np.full(3, 1e6), np.ones(27)], 0.7 ** np.arange(30)):
        a = np.diag(sigma)
        squares = []
        for _ in range(400):
            x, y = rng.standard_normal((30, 8)), rng.standard_normal((30, 16))
            q = np.linalg.qr(a @ x)[0]
            squares.append(np.linalg.norm(a - q @ np.linalg.pinv(y.T @ q) @ (y.T @ a)) ** 2)
        b = bounds.generalised_nystrom(sigma, 8, 16)
        assert np.mean(squares) ** 0.5 <= b.value * 1.05


DIRECTIONS = {"one direction": np.eye(1, 40).T * 3.0, "many": np.diag(0.8 ** np.arange(40))}


@pytest.mark.parametrize("name", DIRECTIONS)
@pytest.mark.parametrize(
    ("maker", "probes", "failure"),
    [
        (bounds.gaussian_norm_bound, 2, 0.2),
        (bounds.gaussian_norm_bound, 5, 0.01),
        (bounds.frobenius_probes, 4, 0.2),
        (bounds.frobenius_probes, 30, 0.05),
    ],
)
def test_gaussian_probes(name, maker, probes, failure):
    """Both sides; on one direction the probability stated is nearly that which is: half the constant fails."""
    b = DIRECTIONS[name]
    b = b @ b.T if b.shape[1] == 1 else b
    truth = norms(b)[0] if maker is bounds.gaussian_norm_bound else norms(b)[1]
    made = [maker(lambda v: b @ v, b, probes=probes, failure=failure, rng=seed) for seed in range(600)]
    assert holds(sum(c.upper.value < truth for c in made), 600, failure)
    assert holds(sum(c.lower.value > truth * (1 + 1e-12) for c in made), 600, failure)
    assert made[0].probability >= 1 - failure - 1e-12
    if name == "one direction":
        assert not holds(sum(0.5 * c.upper.value < truth for c in made), 600, failure)


def hard_spectrum(k, gap):
    """Zeros of a Chebyshev polynomial below 1 − ε, and 1: what Lanczos iteration is slowest on."""
    t = np.cos((2 * np.arange(1, 40) - 1) / 80 * np.pi)
    return np.r_[1.0, np.sort((1 - gap) * (t + 1) / 2)[::-1]]


@pytest.mark.parametrize("failure", [0.02, 0.3])
@pytest.mark.parametrize("steps", [2, 5])
def test_lanczos(steps, failure):
    """Valid on spectra that Chebyshev polynomials are worst on."""
    for gap in (0.1, 0.3, 0.6):
        a = np.diag(hard_spectrum(steps, gap))
        run = partial(bounds.lanczos_norm, lambda v, a=a: a @ v, a, ratio=1.0001, iterations=steps)
        made = [run(failure=failure, rng=seed) for seed in range(150)]
        assert all(c.lower.value <= 1 + 1e-12 for c in made)
        assert holds(sum(c.upper.value < 1 for c in made), 150, failure)


def test_a_bound_of_the_mean_becomes_one_with_a_probability():
    spectrum = bounds.psd_spectrum(np.diag([3.0, 1.0, 1.0]))
    mean = bounds.belabbas_wolfe(spectrum, 1)
    assert "in the mean" in str(mean)
    sure = mean.with_probability(0.2)
    assert (sure.value, sure.probability) == (pytest.approx(5 * mean.value), 0.8)
    assert "Markov" in sure.source
    assert "with probability at least 1 − 0.2" in str(sure)
    assert sure.with_probability(0.1) is sure
