"""How near to the truth each bound comes: instances that attain it, or the worst ratio a search has found.

A constant weaker than the ratio asserted is caught.  Where none comes near, the docstring says why.
"""

from __future__ import annotations

from math import acosh, comb, cosh, e, exp, log, sqrt

import numpy as np
import pytest
from scipy import stats

from nystrom_numerics import bounds, kernels, landmarks
from nystrom_numerics.bounds import Norm, Side
from tests.bounds.instances import constant_on, epsilon, norms, psd_instances, residual, spiked_norms
from tests.thorough import many

GOLDEN = (1 + sqrt(5)) / 2


def nearness(truth, b):
    """Truth over bound, or bound over truth from below: at most 1 where the bound holds."""
    return truth / b.value if b.side is Side.UPPER else b.value / truth


def between(low, found, high=1.0):
    """Above ``low``, so that a weaker constant is caught, and at most ``high``, up to rounding."""
    assert low <= found <= high * (1 + 1e-9), found


def spike(u, top=1e6):
    """One eigenvalue ``top`` on u, the others 1."""
    u = np.asarray(u, dtype=float) / np.linalg.norm(u)
    return np.eye(len(u)) + (top - 1) * np.outer(u, u)


def structural(a, indices, which):
    b = bounds.gittens_mahoney(bounds.psd_spectrum(a), indices, 1)[which]
    return norms(residual(a, np.array(indices)))[which], b


def optimal(which):
    return norms(np.diag([2.0, 1.0]))[which], bounds.eckart_young(np.array([5.0, 4.0, 2.0, 1.0]), 2)[which]


def sandwich(diagonal, which, side):
    return norms(np.diag(diagonal))[which], getattr(
        bounds.psd_sandwich(np.array(diagonal))[which], side.name.lower()
    )


def goreinov(k):
    """The inverse has entries nearly equal in modulus and nearly rank one, as the proof's worst case has."""
    a = np.linalg.inv(np.ones((k + 1, k + 1)) + 1e-6 * np.eye(k + 1))
    s = list(range(k))
    return np.abs(a - a[:, s] @ np.linalg.inv(a[np.ix_(s, s)]) @ a[s]).max(), bounds.goreinov_tyrtyshnikov(
        a, s, s
    )


def cur(transposed):
    """Good rows and poor columns, or the other way round: one of the two terms is all."""
    s, c = 1e-3, sqrt(1 - 1e-6)
    a = np.array([[1e6 * s, 1e6 * c], [c, -s]])
    a = a.T if transposed else a
    q, p = (x[:, None] / np.linalg.norm(x) for x in (a[:, 0], a[0]))
    return np.linalg.norm(a - q @ (q.T @ a @ p) @ p.T, 2), bounds.sorensen_embree(a, [0], [0], 1)


def cross(rows, angle, turn):
    """Left singular vectors turned by ``angle`` and right ones by ``turn``."""
    u, v = (np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]]) for t in (angle, turn))
    a = u @ np.diag([1e6, 1.0]) @ v.T
    r = a - a[:, :1] @ np.linalg.pinv(a[rows][:, :1]) @ a[rows]
    return np.linalg.norm(r, 2), bounds.oversampled_cross(a, rows, [0], 1)


def near_points(maker):
    x, z = np.array([[1e-3], [-1e-3]]), np.array([[0.0]])
    kernel = kernels.gaussian(x, gamma=1.0)
    c = kernel.cross(z)
    return 2 - float((c**2).sum()), maker(kernel, x, z)


def inexact(which):
    found = bounds.pinv_error(np.diag([2.0, 1.0]), np.diag([0.4, 1.0]), *[np.diag([4.0, 0.0])] * 2)
    return found.exact, getattr(found, which)


def two_planes(norm):
    """A pair of rank two in three dimensions whose pseudoinverses differ by the golden ratio to first order."""
    t = 1e-5
    core = np.array([[1.0, t], [0, 1]])
    a, left = np.diag([1.0, 1, 0]), np.vstack([core, [t, 0]])
    b = left @ np.linalg.inv(core) @ np.c_[core, [0, t]]
    pa, pb = (np.linalg.pinv(x, rcond=1e-10) for x in (a, b))
    order = 2 if norm is Norm.SPECTRAL else "fro"
    sizes = np.linalg.norm(pa, 2), np.linalg.norm(pb, 2), np.linalg.norm(a - b, order)
    return np.linalg.norm(pa - pb, order), bounds.wedin(*sizes, norm=norm)


def softmax():
    x = np.array([[1e-4, -1e-4]])
    p = np.exp(x) / np.exp(x).sum()
    return np.linalg.norm(p - 0.5), bounds.softmax_lipschitz(x, 0 * x)


TIGHT = {
    **{f"Eckart-Young, {i}": (lambda i=i: optimal(i), 1 - 1e-12) for i in range(3)},
    "structural, spectral": (lambda: structural(spike(np.ones(5)), [0, 1], 0), 1 - 1e-5),
    "structural, Frobenius, X": (lambda: structural(spike([0.01, 1], 1e10), [0], 1), 0.98),
    "structural, Frobenius, tail": (lambda: structural(spike([1, 0, 0]), [0], 1), 1 - 1e-9),
    "structural, trace": (lambda: structural(spike(np.ones(5)), [0], 2), 1 - 1e-5),
    **{f"diagonal, {i}": (lambda i=i: sandwich([3.0, 2.0], i, Side.LOWER), 1 - 1e-12) for i in range(3)},
    **{f"trace, {i}": (lambda i=i: sandwich([3.0, 0.0], i, Side.UPPER), 1 - 1e-12) for i in range(3)},
    **{f"Goreinov-Tyrtyshnikov, {k}": (lambda k=k: goreinov(k), 1 - 1e-4) for k in (1, 2, 4)},
    "Sorensen-Embree, columns": (lambda: cur(False), 0.998),
    "Sorensen-Embree, rows": (lambda: cur(True), 0.998),
    "oversampled cross, rows": (lambda: cross([1], 0.01, 0.0), 1 - 1e-6),
    "oversampled cross, columns": (lambda: cross([0, 1], 0.3, 1.5), 1 - 1e-3),
    "kernel quantisation": (lambda: near_points(lambda k, x, z: bounds.kernel_quantisation(k, z)), 1 - 1e-5),
    "quantisation": (
        lambda: near_points(lambda k, x, z: bounds.gaussian_quantisation(x, z, gamma=1.0)),
        1 - 1e-5,
    ),
    "pseudoinverse, backward": (lambda: inexact("backward"), 1 - 1e-7),
    "pseudoinverse, naive": (lambda: inexact("naive"), 1 - 1e-7),
    "Wedin, spectral": (lambda: two_planes(Norm.SPECTRAL), 1 - 1e-4),
    "softmax": (softmax, 1 - 1e-6),
}


@pytest.mark.parametrize("name", TIGHT)
def test_attained(name):
    """Instances on which truth and bound agree, exactly or in a limit."""
    make, low = TIGHT[name]
    between(low, nearness(*make()))


def test_wedin_in_the_frobenius_norm_is_loose_by_the_root_of_two():
    """The best constant is 1 (Meng and Zheng 2010), and here it is met."""
    truth, b = two_planes(Norm.FROBENIUS)
    between(sqrt(0.5) - 1e-4, truth / b.value, sqrt(0.5) + 1e-4)


def test_row_normalisation_is_attained():
    """All of the row where it was, and an error beside it."""
    (value,) = bounds.row_normalisation(np.array([0.3]), np.array([1.3]))
    assert value == pytest.approx(np.abs(np.array([1, 0]) - np.array([1, 0.3]) / 1.3).sum(), rel=1e-12)


def test_the_middle_term_of_the_structural_frobenius_bound_is_not_needed():
    r"""‖Λ₂‖_F + ‖XᵀX‖_F holds too, so that no instance tells √2 from less: the printed value is held instead.

    The residual is at most a PSD matrix with diagonal blocks below XᵀX and Λ₂, and of such the norm is at most
    the sum of the blocks' norms.
    """
    ratios = []
    for case in psd_instances(600):
        u, m = case.spectrum.vectors[case.indices], len(case.indices)
        for k in range(1, m + 1):
            b = bounds.gittens_mahoney(case.spectrum, case.indices, k)[1]
            if case.singular or b.value is None:
                continue
            tail = case.spectrum.values[k:]
            x = np.sqrt(tail)[:, None] * (u[:, k:].T @ np.linalg.pinv(u[:, :k].T))
            less = np.linalg.norm(tail) + np.linalg.norm(x.T @ x)
            assert case.truth[1] <= less + case.slack
            assert less <= b.value + case.slack
            ratios.append((case.truth[1] + case.slack) / (less + case.slack))
    assert len(ratios) > 1000
    assert max(ratios) > 0.999
    u = np.array([[0.6, -0.8], [0.8, 0.6]])
    b = bounds.gittens_mahoney(bounds.psd_spectrum(u @ np.diag([4.0, 1]) @ u.T), [0], 1)[1]
    assert b.value == pytest.approx(1 + 4 / 3 * (sqrt(2) + 4 / 3), rel=1e-12)


def test_zhang_tsang_kwok():
    """Loose by 4.4: its terms peak at different distances and have opposite signs.  Printed value held too."""
    x, z = np.full((6, 1), 0.73), np.zeros((1, 1))
    b = bounds.zhang_tsang_kwok(x, z, np.ones((1, 1)), gamma=1.0)
    between(0.226, 6 * (1 - exp(-2 * 0.73**2)) / b.value, 0.23)
    x, z = np.array([[0.0], [1], [3]]), np.array([[0.0], [3]])
    core = kernels.gaussian(x, gamma=0.5).between(z, z)
    root = 1 / sqrt(e)
    value = 2 * root * (sqrt(3) + 2) + root**2 * 2 / (1 - exp(-4.5))
    assert bounds.zhang_tsang_kwok(x, z, core, gamma=0.5).value == pytest.approx(value, rel=1e-12)


def fails(truth, chances, value):
    """The exact probability that the truth is above ``value``."""
    return float(np.sum(np.asarray(chances)[np.asarray(truth) > value]))


def rate_of(truth, chances, b, low, failure):
    """The exact rate of failure, at most what is stated; ``low`` times the bound fails too often."""
    rate = fails(truth, chances, b.value)
    assert rate <= failure < fails(truth, chances, low * b.value)
    return rate


def two_sided(failures, draws, stated):
    """``stated`` is in the Clopper-Pearson interval, 99 %, of what was counted."""
    low, high = stats.binomtest(failures, draws).proportion_ci(0.99, method="exact")
    assert low <= stated <= high, (failures, draws, stated)


def test_norms_of_a_spiked_matrix():
    """The closed form that the tests below count on, against residuals."""
    n, g = 9, 5
    a = spike(np.arange(n) < g, 1e4)
    for s in ([0], [0, 7], [1, 2, 8], [6, 8], [0, 1, 2, 3, 4]):
        found = spiked_norms(n, len(s), 1e4, sum(i < g for i in s) / g)
        np.testing.assert_allclose(found, norms(residual(a, np.array(s))), rtol=1e-9)


def test_coherence_fails_as_often_as_stated(rng):
    """A leading vector on few of many points: landmarks that miss it all, a rate of δ nearly, in each form."""
    n, m, g = 100_000, 300, 1000
    law = stats.hypergeom(n, g, m)
    failure = exp(-m * g / n) * (1 + 1e-6)
    hits = rng.hypergeometric(g, n - g, m, size=4000)
    spectrum, every = constant_on(n, g, 1e30), np.arange(m + 1)
    for which, b in enumerate(bounds.coherence(spectrum, m, 1, failure=failure)):
        rate = fails(spiked_norms(n, m, 1e30, every / g)[which], law.pmf(every), b.value)
        between(0.98, rate / failure)
        two_sided(int((spiked_norms(n, m, 1e30, hits / g)[which] > b.value).sum()), 4000, failure)
    assert bounds.coherence(spectrum, m, 1, failure=failure * (1 - 1e-5))[0].value is None


def test_coherence_counts_its_dimensions(rng):
    """Six leading vectors on a group of points each: missing one group has six times the probability."""
    n, m, g, k = 400_000, 1500, 1600, 6
    failure = k * exp(-m * g / n) * (1 + 1e-6)
    vectors = np.zeros((n, k))
    for j in range(k):
        vectors[j * g : (j + 1) * g, j] = g**-0.5
    spectrum = bounds.Spectrum(np.r_[np.full(k, 1e30), np.ones(n - k)], vectors, np.ones(n))
    terms = [(-1) ** (j + 1) * comb(k, j) * stats.hypergeom(n, j * g, m).pmf(0) for j in range(1, k + 1)]
    between(0.95, sum(terms) / failure)
    missing = (rng.multivariate_hypergeometric([g] * k + [n - k * g], m, size=4000)[:, :k] == 0).any(axis=1)
    two_sided(int(missing.sum()), 4000, failure)
    assert all(b.value < 1e30 for b in bounds.coherence(spectrum, m, k, failure=failure))
    assert bounds.coherence(spectrum, m, k, failure=failure * (1 - 1e-5))[0].value is None


@pytest.mark.parametrize(
    ("n", "g", "m", "least", "low"),
    [(400, 200, 40, 20, 0.71), (400, 100, 80, 16, 0.67), (100, 100, 1, 1, 0.99)],
)
def test_coherence_in_the_spectral_norm(n, g, m, least, low):
    """The probability is exact, so a constant of 0.71, or of 0.99 for δ near 1, fails too often."""
    law, every = stats.hypergeom(n, g, m), np.arange(m + 1)
    failure = law.cdf(least) * (1 - 1e-9)
    b = bounds.coherence(constant_on(n, g, 1e9), m, 1, failure=failure)[0]
    truth = spiked_norms(n, m, 1e9, every / g)[0]
    rate_of(truth, law.pmf(every), b, low, failure)


def test_coherence_in_the_frobenius_and_trace_norm():
    """0.4 and 2/3 of the bound on two points, a search's worst.

    Λ₂ is spread over n − 1 directions or Ω₂ has norm 1 in one of them: both only for n = 2.
    """
    a = spike([1, 1], 1e9)
    for b, low in zip(
        bounds.coherence(bounds.psd_spectrum(a), 1, 1, failure=1 - 1e-9), (2 / 3, 0.4, 2 / 3), strict=True
    ):
        between(low - 1e-4, 2 / b.value, low + 1e-4)


def test_coherence_needs_its_epsilon():
    """With n/m for n/((1−ε)m) each form fails 20 times in 21, where the failure stated is less."""
    n, x = 21, 0.026
    u = np.r_[sqrt(1 - x), np.full(20, sqrt(x / 20))]
    v = np.r_[0, np.tile([1, -1], 10)] / sqrt(20)
    a = 1e7 * np.outer(u, u) + np.outer(v, v)
    truth = np.array([norms(residual(a, np.array([i]))) for i in range(n)])
    failure = 20 / 21 * (1 - 1e-9)
    bare = (1 + n, 1 + sqrt(2 * n) + n, 1 + n)
    for b, column, less in zip(
        bounds.coherence(bounds.psd_spectrum(a), 1, 1, failure=failure), truth.T, bare, strict=True
    ):
        assert fails(column, [1 / n] * n, b.value) <= failure < fails(column, [1 / n] * n, 1.3 * less)


def test_coherence_and_leverage_are_as_printed():
    """Each form's value, with ε from Lambert's function."""
    spectrum, n, m = constant_on(40, 10, 50.0), 40, 24
    values = np.r_[50, np.geomspace(2, 0.1, 39)]
    spectrum = bounds.Spectrum(values, spectrum.vectors, spectrum.diagonal)
    two, fro, trace = norms(np.diag(values[1:]))
    c = n / ((1 - epsilon(log(1 / 0.05) / (m / 4))) * m)
    found = [b.value for b in bounds.coherence(spectrum, m, 1, failure=0.05)]
    middle = sqrt(c * two * trace) * (sqrt(2) + sqrt(c))
    np.testing.assert_allclose(found, ((1 + c) * two, fro + middle, (1 + c) * trace), rtol=1e-9)
    square = 2 * trace / 0.05 / (1 - epsilon(log(2 / 0.05) / m))
    found = [b.value for b in bounds.drawn_leverage(spectrum, m, 1, failure=0.05)]
    middle = sqrt(square) * (sqrt(2 * trace) + sqrt(square))
    np.testing.assert_allclose(found, (two + square, fro + middle, trace + square), rtol=1e-9)


def missed(k, m):
    """The probability that m draws with replacement miss one of k: how many are seen, draw by draw."""
    seen = np.r_[1.0, np.zeros(k)]
    for _ in range(m):
        seen[1:] = seen[1:] * np.arange(1, k + 1) / k + seen[:-1] * (k - np.arange(k)) / k
        seen[0] = 0
    return 1 - seen[-1]


def test_drawn_leverage_misses_half_as_often_as_stated():
    """k axes drawn alike: what misses one is half of δ, the part of Chernoff's bound.

    Markov's half is not met: where it is attained, few draws, the first is not.  Ten per cent fewer draws than
    the hypothesis asks fail more often than δ.
    """
    k, failure = 200, 0.1
    spectrum = bounds.Spectrum(np.r_[np.full(k, 1e40), 1, 1], np.eye(k + 2), np.ones(k + 2))
    m = int(k * log(2 * k / failure)) + 1
    assert bounds.drawn_leverage(spectrum, m - 1, k, failure=failure)[0].value is None
    assert bounds.drawn_leverage(spectrum, m, k, failure=failure)[0].value < 1e40
    between(0.94, missed(k, m) / (failure / 2))
    assert missed(k, int(0.9 * m)) > failure


@pytest.mark.parametrize(("m", "failure", "more"), [(40, 0.02, 1.64), (100, 0.5, 1.22), (400, 0.9, 1.1)])
def test_drawn_leverage_needs_its_epsilon(m, failure, more):
    """λ_min(Ω₁Ω₁ᵀ) < 1 − ε with probability at most δ/2, exactly, on two axes; not so with ``more`` for it."""
    spectrum = bounds.Spectrum(np.array([9.0, 9, 1]), np.eye(3), np.array([9.0, 9, 1]))
    _, _, trace = bounds.drawn_leverage(spectrum, m, 2, failure=failure)
    level = 2 / (failure * (trace.value - 1))
    every = np.arange(m + 1)
    least, chances = 2 * np.minimum(every, m - every) / m, stats.binom.pmf(every, m, 0.5)
    assert fails(-least, chances, -level) <= failure / 2 < fails(-least, chances, -more * level)


def test_drawn_leverage_is_loose_by_three():
    """No better than 1/3, 1/5 and 1/3 were found: R is near Λ₂ for most draws, and Markov's half costs 2/δ."""
    chance, m = 1 - 1e-6, 400
    a = spike([sqrt(chance), sqrt(1 - chance)], 1e9)
    failure = chance**m * (1 - 1e-9)
    three = bounds.drawn_leverage(bounds.psd_spectrum(a), m, 1, failure=failure)
    truth = norms(residual(a, np.array([0])))
    for b, t, low, high in zip(three, truth, (0.315, 0.19, 0.315), (1 / 3, 0.2, 1 / 3), strict=True):
        between(low, t / b.value, high)
        assert rate_of([t], [chance**m], b, low, failure) == 0


def test_additive_uniform():
    """In the mean the identity but for one point; one point alone in the tail: missed with probability δ.

    Chebyshev's inequality is one-sided, so that the rate is δ at 0.98 of the bound, and 0 at the bound.
    """
    between(0.997, 1 / bounds.additive_uniform(bounds.psd_spectrum(np.eye(200)), 199).value)
    one = bounds.psd_spectrum(np.diag(np.r_[1.0, np.zeros(49)]))
    failure = 1 / 50 * (1 - 1e-9)
    assert rate_of([1], [1 / 50], bounds.additive_uniform(one, 49, failure=failure), 0.98, failure) == 0


def test_additive_uniform_by_azuma():
    """0.22 is the most found: the martingale's steps are not all of one sign.  The printed value is held too."""
    n, m, failure = 300, 150, 0.09
    b = bounds.additive_uniform(bounds.psd_spectrum(np.eye(n)), m, failure=failure)
    assert rate_of([sqrt(n - m)], [1], b, 0.22, failure) == 0
    between(0.22, sqrt(n - m) / b.value, 0.23)
    assert b.value == pytest.approx(sqrt(n) + n / sqrt(m) * sqrt(log(1 / failure)), rel=1e-9)


def test_additive_weighted_is_loose_by_the_root_of_two():
    """In the mean and in the tail; a search over all matrices of order 2 to 4 ends at √½ as well."""
    between(0.707, 1 / bounds.additive_weighted(bounds.psd_spectrum(np.eye(2)), 1).value, 0.7072)
    t = 1e-6
    failure = t / (1 + t) * (1 - 1e-9)
    b = bounds.additive_weighted(bounds.psd_spectrum(np.diag([1, t])), 1, failure=failure)
    assert rate_of([1], [t / (1 + t)], b, 0.707, failure) == 0
    between(0.707, 1 / b.value, 0.7072)


def test_belabbas_wolfe_is_attained_at_a_gap():
    spectrum = bounds.psd_spectrum(np.diag([1e6, 1e6, 1e6, 1.0, 1.0, 1.0]))
    between(1 - 1e-5, bounds.dpp_expectation(spectrum, 3).value / bounds.belabbas_wolfe(spectrum, 3).value)


def test_rpcholesky_expectation():
    """All sets are alike under one spike, so the mean is known: 0.997 of the bound, and 0.85 of what ε adds."""
    for n, m, top in ((60, 6, 50.0), (100_000, 50, 1e5)):
        truth = spiked_norms(n, m, top, m / n)[2]
        b = bounds.rpcholesky_expectation(constant_on(n, n, top), m)
        between(0.8 if n == 60 else 0.997, truth / b.value)
        if n == 60:
            kernel = kernels.precomputed(spike(np.ones(n), top))
            assert landmarks.rpcholesky(kernel, m, rng=0).residual.sum() == pytest.approx(truth)
        else:
            between(0.85, (truth - (n - 1)) / (b.value - (n - 1)))
            x, share = b.value / (n - 1) - 1, (n - 1) / (n - 1 + top)
            assert 1 / x + log(1 / (x * share)) == pytest.approx(m, rel=1e-9), "the printed equation, r = 1"


def test_musco_musco_is_loose_by_its_logarithm():
    """0.04 is the most found where the bound says anything: 28/3 ln(n/δ) points a dimension for one.

    One of two points is left out with probability 0.4 and leaves 1.  Nothing found exceeds the bound at all.
    """
    failure, kept = 0.39, 0.6
    q = 28 / 3 * log(2 / failure)
    ridge = q / kept - 1
    m = q * (1e6 / (1e6 + ridge) + 1 / (1 + ridge))
    b = bounds.musco_musco(bounds.psd_spectrum(np.diag([1e6, 1.0])), m, failure=failure)
    assert b.value == pytest.approx(ridge, rel=1e-9)
    assert not b.vacuous
    assert rate_of([1], [1 - kept], b, 0.04, failure) == 0
    between(0.04, 1 / b.value, 0.045)


def gapped(n, k, top=1e7):
    return np.r_[np.full(k, top), np.ones(n - k)]


def test_gaussian_sketch_in_the_trace_norm(rng):
    """Above a gap and a flat tail the mean is (n − m)/(n − k) of the bound: 0.99 here."""
    n, k, m = 1000, 10, 20
    values = gapped(n, k)
    found = []
    for _ in range(300):
        omega = rng.standard_normal((n, m))
        y = values[:, None] * omega
        found.append(values.sum() - np.trace(np.linalg.solve(omega.T @ y, y.T @ y)))
    exact = (n - m) * (1 + k / (m - k - 1))
    assert abs(np.mean(found) - exact) < 4 * np.std(found) / sqrt(300)
    b = bounds.gaussian_sketch(bounds.Spectrum(values, np.eye(n), values), m)[1]
    between(0.989, exact / b.value)


def test_gaussian_sketch_in_the_spectral_norm(rng):
    """0.1 to 0.2 is the most found: E‖G⁺‖² is a third of e²m/(p² − 1), and squaring Chevet's sum costs 2."""
    n, k, m = 120, 20, 28
    values = gapped(n, k)
    p = m - k
    found = []
    for _ in range(150):
        omega = rng.standard_normal((n, m))
        half = np.linalg.qr(np.sqrt(values)[:, None] * omega)[0]
        rest = np.diag(np.sqrt(values)) - half @ (half.T * np.sqrt(values))
        found.append(np.linalg.norm(rest, 2) ** 2)
    b = bounds.gaussian_sketch(bounds.Spectrum(values, np.eye(n), values), m)[0]
    assert b.value == pytest.approx(1 + 2 * k / (p - 1) + 2 * e**2 * m / (p * p - 1) * (n - k), rel=1e-9)
    between(0.12, np.mean(found) / b.value, 0.2)


def test_generalised_nystrom_is_attained(rng):
    """The mean square above a gap and a flat tail is (n − m)/(n − k) of the bound's square."""
    n, k, m, rows = 400, 4, 12, 26
    values = gapped(n, k)
    found = []
    for _ in range(300):
        x, y = rng.standard_normal((n, m)), rng.standard_normal((n, rows))
        q = np.linalg.qr(values[:, None] * x)[0]
        rest = q @ np.linalg.lstsq(y.T @ q, y.T * values, rcond=None)[0]
        found.append(np.linalg.norm(np.diag(values) - rest) ** 2)
    exact = (n - m) * (1 + k / (m - k - 1)) * (1 + m / (rows - m - 1))
    assert abs(np.mean(found) - exact) < 4 * np.std(found) / sqrt(300)
    between(0.989, sqrt(exact) / bounds.generalised_nystrom(values, m, rows).value)


@pytest.mark.parametrize(("probes", "failure"), [(1, 0.05), (2, 0.02)])
def test_gaussian_norm_fails_as_often_as_stated(probes, failure):
    """On one direction, drawn and by the normal law; 0.98 of the constant fails too often.

    From below the identity is attained.
    """
    b = np.diag([2.0, 0, 0])
    made = [
        bounds.gaussian_norm_bound(lambda v: b @ v, b, probes=probes, failure=failure, rng=seed)
        for seed in range(many(4000, 1600))
    ]
    two_sided(sum(c.upper.value < 2 for c in made), len(made), failure)
    drawn = np.random.default_rng(0).standard_normal((3, probes))[0]
    factor = made[0].upper.value / (2 * np.abs(drawn).max())
    between(0.98, (2 * stats.norm.cdf(1 / factor) - 1) ** probes / failure)
    assert bounds.gaussian_norm_bound(lambda v: v, b).lower.value == pytest.approx(1)


@pytest.mark.parametrize(
    ("probes", "failure", "less", "more"),
    [(4, 0.2, 0.7, 1.32), (30, 0.05, 0.89, 1.1), (141, 0.01, 0.95, 1.04)],
)
def test_frobenius_probes_fail_as_chi_square_does(probes, failure, less, more):
    """On one direction the estimate is χ²: rates are those of its law, 0.09 to 0.3 of what is stated.

    Chernoff's tails are no quantiles; a constant below by ``less``, or above by ``more``, fails too often.
    """
    b = np.diag([2.0, 0, 0])
    made = [
        bounds.frobenius_probes(lambda v: b @ v, b, probes=probes, failure=failure, rng=seed)
        for seed in range(many(3000, 1200))
    ]
    law = stats.chi2(probes)
    low, high = ((made[0].estimate.value / x.value) ** 2 for x in (made[0].upper, made[0].lower))
    rates = law.cdf(probes * low), law.sf(probes * high)
    two_sided(sum(c.upper.value < 2 for c in made), len(made), rates[0])
    two_sided(sum(c.lower.value > 2 for c in made), len(made), rates[1])
    for rate in rates:
        between(0.09, rate / (failure / 2), 0.3)
    assert law.cdf(probes * low / less**2) > failure / 2
    assert law.sf(probes * high / more**2) > failure / 2


def test_one_step_of_lanczos_fails_as_often_as_stated():
    """On one direction: θ = b₁², and ε = 1 − τ."""
    b, failure = np.diag(np.r_[1.0, np.zeros(29)]), 0.05
    draws = many(4000, 1600)
    made = [
        bounds.lanczos_norm(lambda v: b @ v, b, iterations=1, failure=failure, rng=seed)
        for seed in range(draws)
    ]
    two_sided(sum(c.upper.value < 1 for c in made), draws, failure)
    least = made[0].estimate.value / made[0].upper.value
    assert stats.beta(0.5, 29 / 2).cdf(least) == pytest.approx(failure, rel=1e-6)
    root = [
        bounds.lanczos_norm(
            lambda v: b @ v, b, apply_transpose=lambda v: b @ v, iterations=1, failure=failure, rng=seed
        ).upper.value
        for seed in range(draws)
    ]
    two_sided(sum(x < 1 for x in root), draws, failure)


HARD = {
    2: ((0.0, 0.04), (0.324, 0.676), 60, 0.9),
    5: ((0.0, 0.074, 0.257, 0.467, 0.604), (0.0687, 0.149, 0.1815, 0.2572, 0.3435), 200, 0.7),
}


@pytest.mark.parametrize("steps", HARD)
def test_lanczos_on_the_hardest_spectrum_found(steps):
    """0.9 of the gap is too little at two steps, 0.7 at five: the polynomial is best for k − ½, not k − 1.

    The eigenvalues and their multiplicities are what a search over both found.
    """
    places, shares, size, weaker = HARD[steps]
    counts = np.round(size * np.array(shares)).astype(int)
    values = np.r_[1.0, np.repeat(places, counts)]
    n, failure = len(values), 0.02
    made = [
        bounds.lanczos_norm(
            lambda v: values[:, None] * v,
            values[:, None],
            ratio=1.0001,
            iterations=steps,
            failure=failure,
            rng=s,
        )
        for s in range(2000)
    ]
    gap = 1 - made[0].estimate.value / made[0].upper.value
    t = stats.beta(0.5, (n - 1) / 2).ppf(failure)
    growth = cosh((steps - 1) * acosh((1 + gap) / (1 - gap)))
    assert gap * growth**2 * t / (1 - t) == pytest.approx(1 - gap, rel=1e-6)
    one_sided = stats.binomtest(sum(c.upper.value < 1 for c in made), 2000, failure, alternative="greater")
    assert one_sided.pvalue > 1e-4
    weak = sum(c.estimate.value / (1 - weaker * gap) < 1 for c in made)
    assert stats.binomtest(weak, 2000, failure, alternative="greater").pvalue < 1e-4


def test_one_matrix_is_never_above_gittens_and_mahoney_and_attained_by_as_many_landmarks():
    """X of k landmarks and the tail of one eigenvalue: with I + FFᵀ near I the two sides meet."""
    gains = []
    for case in psd_instances(600):
        for k in range(1, len(case.indices) + 1):
            pairs = zip(
                bounds.structural(case.spectrum, case.indices, k),
                bounds.gittens_mahoney(case.spectrum, case.indices, k),
                strict=True,
            )
            for one, theirs in pairs:
                assert (one.value is None) == (theirs.value is None)
                if one.value is not None:
                    assert one.value <= theirs.value * (1 + 1e-12)
                    gains.append((one.norm, theirs.value / one.value if one.value > 0 else 1.0))
    medians = {norm: np.median([g for n, g in gains if n is norm]) for norm in Norm if norm is not Norm.MAX}
    assert medians[Norm.TRACE] == pytest.approx(1.0, abs=1e-12)
    assert medians[Norm.SPECTRAL] > 1.0
    assert medians[Norm.FROBENIUS] > 1.2, medians
    u = np.array([[1.0, -1e-3], [1e-3, 1.0]]) / np.sqrt(1 + 1e-6)
    a = u @ np.diag([1e6, 1.0]) @ u.T
    for truth, b in zip(
        norms(residual(a, np.array([0]))), bounds.structural(bounds.psd_spectrum(a), [0], 1), strict=True
    ):
        between(1 - 1e-5, nearness(truth, b))
