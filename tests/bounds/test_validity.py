"""Every deterministic bound on thousands of instances: never violated, not vacuous, and a weaker constant is
caught.

What rounding could decide, a margin below the slack of an instance or a core that float64 cannot invert, is
decided in 60 digits on an exactly PSD matrix next to the instance (:mod:`tests.bounds.digits`).
"""

from __future__ import annotations

from collections import defaultdict
from functools import cache

import mpmath as mp
import numpy as np
import pytest

from nystrom_numerics import bounds
from nystrom_numerics.bounds import Side
from tests.bounds import digits
from tests.bounds.instances import norms, psd_instances, psd_matrices, residual
from tests.thorough import many

COUNT, CROSSES = many(6600, 4000), 6600


@cache
def psd_cases():
    """(bound, truth, slack, instance) by name, of every deterministic bound on PSD matrices."""
    rng = np.random.default_rng(11)
    found = defaultdict(list)
    for case in psd_instances(COUNT):
        if case.singular:
            continue
        m = len(case.indices)
        k = int(rng.integers(1, m + 1))
        diagonal = np.diag(residual(case.a, case.indices))
        made = {
            "Eckart-Young": bounds.eckart_young(case.spectrum.values, m),
            "Gittens-Mahoney": bounds.gittens_mahoney(case.spectrum, case.indices, k),
            "one matrix": bounds.structural(case.spectrum, case.indices, k),
            "diagonal": (one.lower for one in bounds.psd_sandwich(np.maximum(diagonal, 0))),
            "trace": (one.upper for one in bounds.psd_sandwich(np.maximum(diagonal, 0))),
        }
        for name, three in made.items():
            for b, truth in zip(three, case.truth, strict=True):
                found[f"{name}, {b.norm.value}"].append((b, truth, case.slack, case))
    return found


@cache
def cross_cases():
    """The same for rows and columns of rectangular matrices, half of them of locally maximal volume."""
    rng = np.random.default_rng(12)
    found = defaultdict(list)
    for index, (_, square) in enumerate(psd_matrices(CROSSES, seed=5, sizes=(5, 13))):
        n = len(square)
        p = int(rng.integers(3, n))
        a = square[:, :p] if index % 3 else square[:, :p] + 0.1 * rng.standard_normal((n, p))
        k = int(rng.integers(1, min(p, 5)))
        i, j = rng.permutation(n)[:k], rng.permutation(p)[:k]
        if index % 2:
            i, j = largest_of(a, k, rng, 20)
        w = a[np.ix_(i, j)]
        size = np.linalg.norm(a, 2)
        scale = 1e-9 * max(np.abs(a).sum(), 1e-300)

        def condition(part, size=size):
            return size / max(np.linalg.svd(part)[1][-1], 1e-300)

        if condition(w) < 1e8:
            slack = scale * condition(w) ** 0.5
            r = a - a[:, j] @ np.linalg.solve(w, a[i])
            one = bounds.goreinov_tyrtyshnikov(a, i, j)
            found["Goreinov-Tyrtyshnikov"].append((one, np.abs(r).max(), slack, (a, i, j)))
        q = np.linalg.qr(a[:, j])[0]
        o = np.linalg.qr(a[i].T)[0]
        best = np.linalg.norm(a - q @ (q.T @ a @ o) @ o.T, 2)
        if max(condition(a[:, j]), condition(a[i])) < 1e6:
            found["Sorensen-Embree"].append((bounds.sorensen_embree(a, i, j, k), best, scale, (a, i, j, k)))
        more = rng.permutation(n)[: min(n, k + int(rng.integers(0, 4)))]
        if condition(a[np.ix_(more, j)]) < 1e6:
            slack = scale * condition(a[np.ix_(more, j)]) ** 0.5
            cross = a - a[:, j] @ np.linalg.lstsq(a[np.ix_(more, j)], a[more], rcond=None)[0]
            rank = int(rng.integers(1, k + 1))
            one = bounds.oversampled_cross(a, more, j, rank)
            found["oversampled cross"].append((one, np.linalg.norm(cross, 2), slack, (a, more, j, rank)))
    return found


def largest_of(a, k, rng, tries):
    """Of some random crosses the one of largest volume."""
    sets = [(rng.permutation(a.shape[0])[:k], rng.permutation(a.shape[1])[:k]) for _ in range(tries)]
    return max(sets, key=lambda s: abs(np.linalg.det(a[np.ix_(*s)])))


@cache
def point_cases():
    """Quantisation bounds, for means and for points, of the Gaussian kernel."""
    from nystrom_numerics import kernels

    rng = np.random.default_rng(13)
    found = defaultdict(list)
    for index in range(COUNT):
        n, d, m = int(rng.integers(4, 14)), int(rng.integers(1, 4)), int(rng.integers(1, 4))
        x = rng.standard_normal((n, d)) * 10.0 ** rng.uniform(-1, 0.5)
        gamma = float(10.0 ** rng.uniform(-2, 0.5))
        z = x[rng.permutation(n)[:m]] if index % 2 else np.stack([p.mean(0) for p in np.array_split(x, m)])
        kernel = kernels.gaussian(x, gamma=gamma)
        core = kernel.between(z, z)
        values, vectors = np.linalg.eigh(core)
        if values[0] < 1e-9:
            continue
        half = kernel.cross(z) @ (vectors / np.sqrt(values))
        _, frobenius, trace = norms(kernel.block(slice(None), slice(None)) - half @ half.T)
        for name, one, truth in (
            ("kernel quantisation", bounds.kernel_quantisation(kernel, z), trace),
            ("quantisation", bounds.gaussian_quantisation(x, z, gamma=gamma), trace),
            ("Zhang-Tsang-Kwok", bounds.zhang_tsang_kwok(x, z, core, gamma=gamma), frobenius),
        ):
            found[name].append((one, truth, 1e-8 * n, None))
    return found


PSD = [
    f"{name}, {norm.value}"
    for name in ("Eckart-Young", "Gittens-Mahoney", "one matrix", "diagonal", "trace")
    for norm in (bounds.Norm.SPECTRAL, bounds.Norm.FROBENIUS, bounds.Norm.TRACE)
]
CASES = {
    **dict.fromkeys(PSD, psd_cases),
    **dict.fromkeys(("Goreinov-Tyrtyshnikov", "Sorensen-Embree", "oversampled cross"), cross_cases),
    **dict.fromkeys(("kernel quantisation", "quantisation", "Zhang-Tsang-Kwok"), point_cases),
}
# a factor on the bound that makes it false, and the median of bound over truth, or truth over bound, at most
WEAKER = (
    dict.fromkeys(CASES, 0.999)
    | {name: 1.001 for name in PSD if name.startswith(("Eck", "diag"))}
    | {"Goreinov-Tyrtyshnikov": 0.99, "Sorensen-Embree": 0.99}
    | {"Zhang-Tsang-Kwok": 0.18}  # its four terms are never all tight at once
)
MEDIAN = {"Zhang-Tsang-Kwok": 100}


def ratios(name):
    """How far each bound is on its side of the truth: at least 1 where it holds."""
    known = [(b, t, s) for b, t, s, _ in CASES[name]()[name] if b.value is not None]
    upper = known[0][0].side is Side.UPPER
    return known, np.array(
        [(b.value + s) / (t + s) if upper else (t + s) / (b.value + s) for b, t, s in known]
    )


@pytest.mark.parametrize("name", CASES)
def test_no_violation(name):
    known, ratio = ratios(name)
    assert len(known) >= 3 * COUNT // 4, "too few instances whose hypotheses hold"
    for b, truth, slack in known:
        if b.side is Side.UPPER:
            assert truth <= b.value + slack, str(b)
        else:
            assert truth >= b.value - slack, str(b)
    assert np.median(ratio) < MEDIAN.get(name, 10)


@pytest.mark.parametrize("name", CASES)
def test_a_weaker_constant_is_caught(name):
    known, _ = ratios(name)
    factor = WEAKER[name]
    if known[0][0].side is Side.UPPER:
        assert any(truth > factor * b.value + slack for b, truth, slack in known)
    else:
        assert any(truth < factor * b.value - slack for b, truth, slack in known)


def closest(name, count, small):
    """The instances on which the bound is nearest to being false, by margin over slack and by ratio to the truth."""
    known = [x for x in CASES[name]()[name] if x[0].value is not None and small(x[3])]
    sign = 1 if known[0][0].side is Side.UPPER else -1
    by_margin = sorted(known, key=lambda x: sign * (x[0].value - x[1]) / x[2])
    large = [x for x in known if x[1] > 100 * x[2]]
    by_ratio = sorted(large, key=lambda x: sign * (x[0].value - x[1]) / x[1])
    return [x[3] for x in (*by_margin[:count], *by_ratio[:count])]


@pytest.mark.parametrize("name", PSD[::3])
def test_margins_below_rounding_are_decided_in_sixty_digits(name):
    for case in closest(name, 20, lambda case: len(case.a) <= 9):
        for what, truth, value in digits.psd_inequalities(case):
            assert truth <= value * (1 + digits.MARGIN), f"{what}, {case.family}"


@pytest.mark.parametrize("name", list(digits.CROSS))
def test_margins_of_crosses_below_rounding_are_decided_in_sixty_digits(name):
    caught = 0
    for raw in closest(name, 60, lambda raw: max(raw[0].shape) <= 10):
        with mp.workdps(60):
            truth, value = digits.CROSS[name](*raw)
            assert truth <= value * (1 + digits.MARGIN)
            caught += truth > 0.9 * value > digits.MARGIN
    assert caught > 0, "a weaker constant must be caught here too"


def test_quantisation_leaves_rounding_nothing_to_decide():
    for name in ("kernel quantisation", "quantisation", "Zhang-Tsang-Kwok"):
        known = [(b.value - truth) for b, truth, _, _ in CASES[name]()[name] if b.value is not None]
        assert min(known) > 1e-12, "entries are of order one, and norms of a few of them rounded to 1e-14"


def test_near_singular_cores_in_sixty_digits():
    """Where float64 cannot tell the core from a singular one: the same inequalities, by mpmath."""
    cases = [case for case in psd_instances(COUNT) if case.singular and len(case.a) <= 9][:25]
    assert len(cases) == 25
    caught = 0
    for case in cases:
        for name, truth, value in digits.psd_inequalities(case):
            assert truth <= value * (1 + digits.MARGIN), f"{name}, {case.family}"
            caught += truth > 0.97 * value > digits.MARGIN
    assert caught > 0, "a weaker constant must be caught here too"
