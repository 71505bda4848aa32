"""Pivoted Cholesky: the laws of its draws by enumeration, its guarantees, its ends."""

from __future__ import annotations

from collections import defaultdict
from itertools import product
from math import ceil, log

import numpy as np
import pytest
from scipy import stats

from nystrom_numerics import errors, kernels, landmarks
from nystrom_numerics.backend import to_numpy
from tests import families
from tests.landmarks.rules import CHOLESKY, KERNEL_RULES
from tests.thorough import many


class Scripted(np.random.Generator):
    """A generator whose uniform numbers are those given."""

    def __init__(self, values):
        super().__init__(np.random.PCG64(0))
        self.values = list(values)

    def random(self, size=None):
        taken = [self.values.pop(0) for _ in range(1 if size is None else size)]
        return np.array(taken) if size is not None else taken[0]


def schur(a, pivots):
    """The residual after these pivots, by definition."""
    if not len(pivots):
        return a
    s = list(pivots)
    return a - a[:, s] @ np.linalg.solve(a[np.ix_(s, s)], a[s])


def intervals(weights):
    """The middle of each index's interval of uniform numbers, and its length."""
    edges = np.r_[0, np.cumsum(weights)] / np.sum(weights)
    return (edges[:-1] + edges[1:]) / 2, np.diff(edges)


def small(n=4, seed=0):
    b = np.random.default_rng(seed).standard_normal((n, n))
    return b @ b.T + np.diag(np.arange(n))


def law_by_definition(a, m):
    """Probability of each sequence of m pivots, each drawn by the residual diagonal."""
    law = {(): 1.0}
    for _ in range(m):
        longer = {}
        for pivots, p in law.items():
            d = np.clip(schur(a, pivots).diagonal(), 0, None)
            d[list(pivots)] = 0
            longer |= {(*pivots, i): p * d[i] / d.sum() for i in range(len(a)) if d[i] > 0}
        law = longer
    return law


def test_one_step_expectation_exactly():
    """E A⁽¹⁾ = A − A²/tr A: every pivot forced through its interval, weighted with the interval's length."""
    a = small(6)
    middles, lengths = intervals(a.diagonal())
    expected = np.zeros_like(a)
    for i, (u, p) in enumerate(zip(middles, lengths, strict=True)):
        found = landmarks.rpcholesky(kernels.precomputed(a), 1, rng=Scripted([u]))
        assert found.indices.tolist() == [i]
        expected += p * (a - found.factor @ found.factor.T)
    np.testing.assert_allclose(expected, a - a @ a / np.trace(a), rtol=1e-12, atol=1e-12)
    edges = np.cumsum(lengths)[:-1]
    for i, edge in enumerate(edges):  # the intervals themselves
        for shift, pivot in ((-1e-9, i), (1e-9, i + 1)):
            found = landmarks.rpcholesky(kernels.precomputed(a), 1, rng=Scripted([edge + shift]))
            assert found.indices.tolist() == [pivot]


def test_law_of_single_pivots_exactly():
    """Each sequence of three pivots answers to the interval that the definition gives it."""
    a = small(4, seed=2)
    for sequence in law_by_definition(a, 3):
        script = []
        for k in range(3):
            d = schur(a, sequence[:k]).diagonal().copy()
            d[list(sequence[:k])] = 0
            script.append(intervals(np.clip(d, 0, None))[0][sequence[k]])
        found = landmarks.rpcholesky(kernels.precomputed(a), 3, rng=Scripted(script))
        assert tuple(found.indices) == sequence


def enumerate_rejection(a, m, block):
    """The law of the accelerated rule: all proposals × all ways that acceptance can go, on the code itself.

    The probability of acceptance comes from the definition of the residual; the code is shown a hurdle just
    below and just above it, and must answer accordingly.
    """
    law = defaultdict(float)
    runs = 0

    def run(script):
        nonlocal runs
        runs += 1
        found = landmarks.accelerated_rpcholesky(kernels.precomputed(a), m, block=block, rng=Scripted(script))
        return tuple(found.indices.tolist())

    def rounds(chosen, p, script):
        d = schur(a, chosen).diagonal().copy()
        d[list(chosen)] = 0
        middles, lengths = intervals(np.clip(d, 0, None))
        for proposals in product(np.flatnonzero(lengths > 0), repeat=block):
            chance = np.prod(lengths[list(proposals)])
            walk(proposals, d, chosen, 0, p * chance, [*script, *middles[list(proposals)]], [])

    def walk(proposals, d, taken, i, p, script, hurdles):
        if len(taken) == m or i == block:
            script = [*script, *hurdles, *[0.5] * (block - len(hurdles))]
            if len(taken) < m:
                return rounds(taken, p, script)
            assert run(script) == taken
            law[taken] += p
            return None
        s = int(proposals[i])
        ratio = 0.0 if s in taken else min(1.0, schur(a, taken)[s, s] / d[s])
        if ratio > 1e-9:
            walk(proposals, d, (*taken, s), i + 1, p * ratio, script, [*hurdles, ratio * (1 - 1e-7)])
        if ratio < 1 - 1e-9:
            above = ratio + (1 - ratio) * 1e-7
            walk(proposals, d, taken, i + 1, p * (1 - ratio), script, [*hurdles, above])
        return None

    rounds((), 1.0, [])
    return law, runs


@pytest.mark.parametrize(("n", "m", "block"), [(4, 2, 2), (3, 2, 3), (3, 3, 2)])
def test_rejection_has_the_law_of_single_pivots_exactly(n, m, block):
    a = small(n, seed=n)
    expected = law_by_definition(a, m)
    law, runs = enumerate_rejection(a, m, block)
    assert runs >= n**block
    assert sum(law.values()) == pytest.approx(1, abs=1e-12)
    assert law.keys() == expected.keys()
    for sequence, p in expected.items():
        assert law[sequence] == pytest.approx(p, rel=1e-9)


def sequences(rule, a, m, runs, seed, **options):
    source = np.random.default_rng(seed)
    kernel = kernels.precomputed(a)
    return np.stack([rule(kernel, m, rng=source, **options).indices for _ in range(runs)])


def two_sample(first, second, n):
    """p-value of the χ² test that the last two pivots of both samples have one law."""
    tables = [np.bincount(s[:, -2] * n + s[:, -1], minlength=n * n) for s in (first, second)]
    table = np.stack(tables)
    common = table.sum(0) >= 20
    pooled = np.concatenate([table[:, common], table[:, ~common].sum(1, keepdims=True)], axis=1)
    return stats.chi2_contingency(pooled[:, pooled.sum(0) > 0]).pvalue


def test_rejection_has_the_law_of_single_pivots_statistically():
    """Beyond enumeration: n = 10, m = 4.  The test accepts equal laws and tells a wrong one (the block's)."""
    rng = np.random.default_rng(1)
    x = np.r_[0.3 * rng.standard_normal((7, 1)), rng.uniform(2, 6, (3, 1))]
    a = kernels.gaussian(x, gamma=0.5).block(slice(None), slice(None))
    draws = many(1500, 750)
    simple = sequences(landmarks.rpcholesky, a, 4, draws, 1)
    again = sequences(landmarks.rpcholesky, a, 4, draws, 2)
    fast = sequences(landmarks.accelerated_rpcholesky, a, 4, draws, 3, block=6)
    block = sequences(landmarks.block_rpcholesky, a, 4, draws, 4, block=6)
    assert two_sample(simple, again, 10) > 1e-3
    assert two_sample(simple, fast, 10) > 1e-3
    assert two_sample(simple, block, 10) < 1e-9


def first_distinct(proposals, m):
    return tuple(dict.fromkeys(proposals))[:m]


def lowest_distinct(proposals, m):
    """The bias found in public code: a sorted unique set, cut."""
    return tuple(sorted(set(proposals)))[:m]


def block_law(keep, n, m, lengths):
    law = defaultdict(float)
    for proposals in product(range(n), repeat=3):
        law[keep(proposals, m)] += float(np.prod(lengths[list(proposals)]))
    return law


def inclusion(law, n):
    return np.array([sum(p for kept, p in law.items() if i in kept) for i in range(n)])


def test_block_draws_are_unbiased():
    """A diagonal matrix, where the block's draws are independent: no index may gain by its place.

    The code keeps first distinct draws, for each of the 125 proposals.  With equal weights that includes
    every index equally; the biased variant fails the same check.
    """
    n, m = 5, 2
    kernel = kernels.precomputed(np.eye(n))
    middles, lengths = intervals(np.ones(n))
    for proposals in product(range(n), repeat=3):
        kept = first_distinct(proposals, m)
        if len(kept) < m:
            continue  # a second round follows
        found = landmarks.block_rpcholesky(kernel, m, block=3, rng=Scripted(middles[list(proposals)]))
        assert tuple(found.indices) == kept

    def unbiased(keep):
        included = inclusion(block_law(keep, n, m, lengths), n)
        return np.allclose(included, included[0])

    assert unbiased(first_distinct)
    assert not unbiased(lowest_distinct)


@pytest.mark.parametrize("name", families.matrices(20))
@pytest.mark.parametrize("rule", ["rpcholesky", "block_rpcholesky", "accelerated_rpcholesky"])
def test_guarantee_over_adversarial_spectra(rule, name):
    """E tr R ≤ (1+ε) tr(A − A_r) for m ≥ r/ε + r ln(1/(εη)), over 12 seeds.

    The block rule has no such theorem; its mean is held to the same bound by experience."""
    a = families.matrices()[name]
    eigenvalues = np.sort(np.linalg.eigvalsh(a))[::-1]
    checked = 0
    for r, eps in product((1, 3, 8), (1.0, 0.5)):
        best = eigenvalues[r:].sum()
        m = ceil(r / eps + max(0.0, r * log(eigenvalues.sum() / (eps * best))))
        if m > len(a):
            continue
        kernel = kernels.precomputed(a)
        left = [KERNEL_RULES[rule](kernel, m, rng=seed).residual.sum() for seed in range(12)]
        spread = 3 * np.std(left) / np.sqrt(12) if rule == "block_rpcholesky" else 0.0
        assert np.mean(left) - spread <= (1 + eps) * best
        checked += 1
    assert checked >= 2


def test_guarantee_exactly_by_enumeration():
    """The same theorem with the expectation computed, not estimated, on 5 × 5 matrices."""
    for seed in range(6):
        b = np.random.default_rng(seed).standard_normal((5, 5)) * 4.0 ** -np.arange(5)
        a = b @ b.T
        eigenvalues = np.sort(np.linalg.eigvalsh(a))[::-1]
        for m in range(1, 5):
            law = law_by_definition(a, m)
            mean = sum(p * np.trace(schur(a, s)) for s, p in law.items())
            for r, eps in product((1, 2), (2.0, 1.0, 0.5)):
                best = eigenvalues[r:].sum()
                if m >= r / eps + r * log(max(1.0, eigenvalues.sum() / (eps * best))):
                    assert mean <= (1 + eps) * best * (1 + 1e-9)


@pytest.mark.parametrize("rule", CHOLESKY)
def test_factor_residual_and_entries(rule, lane, dtype, rng):
    x = rng.standard_normal((300, 3)).astype(dtype)
    kernel = kernels.gaussian(lane(x), gamma=0.5)
    found = KERNEL_RULES[rule](kernel, 25, rng=4)
    a = kernels.gaussian(x.astype(float), gamma=0.5).block(slice(None), slice(None))
    indices, factor = to_numpy(found.indices), to_numpy(found.factor)
    tol = 1e-4 if dtype == "float32" else 1e-11
    assert len(set(indices.tolist())) == 25
    residual = a - factor.astype(float) @ factor.T
    np.testing.assert_allclose(residual[:, indices], 0, atol=tol)  # interpolation
    assert np.linalg.eigvalsh(residual).min() > -tol  # PSD
    lane.assert_close(found.residual, residual.diagonal(), lane(x), rtol=0, atol=tol)
    np.testing.assert_allclose(np.triu(factor[indices], 1), 0, atol=tol)
    s = indices.tolist()
    np.testing.assert_allclose(residual, a - a[:, s] @ np.linalg.pinv(a[np.ix_(s, s)]) @ a[s], atol=10 * tol)
    extra = found.entries - 26 * 300
    assert found.entries == kernel.entries
    assert (
        extra == 0 if rule in ("pivoted_cholesky", "rpcholesky") else extra in {64 * k for k in range(1, 20)}
    )


@pytest.mark.parametrize("rule", ["block_rpcholesky", "accelerated_rpcholesky"])
@pytest.mark.parametrize("block", [1, 7, 40, 1000])
def test_any_block_size(rule, block, rng):
    a = families.matrices(100)["smile"]
    kernel = kernels.precomputed(a)
    found = KERNEL_RULES[rule](kernel, 20, rng=1, block=block)
    assert len(found.indices) == 20
    assert (found.entries - 21 * 100) % block**2 == 0
    s = found.indices.tolist()
    np.testing.assert_allclose(found.residual, np.clip(schur(a, s).diagonal(), 0, None), atol=1e-10)


def test_a_block_of_one_is_the_single_pivot_rule(rng):
    """The same uniform number then gives the same pivot; the hurdle is never met."""
    a = families.matrices(60)["gaussian"]
    uniforms = rng.random(10)
    one = landmarks.rpcholesky(kernels.precomputed(a), 10, rng=Scripted(uniforms))
    script = np.stack([uniforms, np.full(10, 0.999)], axis=1).ravel()
    other = landmarks.accelerated_rpcholesky(kernels.precomputed(a), 10, block=1, rng=Scripted(script))
    np.testing.assert_array_equal(one.indices, other.indices)


def test_greedy_matches_its_definition():
    for a in families.matrices(40).values():
        found = landmarks.pivoted_cholesky(kernels.precomputed(a), 10).indices.tolist()
        for k in range(len(found)):
            d = schur(a, found[:k]).diagonal()
            assert d[found[k]] >= d.max() * (1 - 1e-6)


def test_greedy_fails_where_chance_does_not():
    """The known weakness, seen: outliers first, and nothing else."""
    a = families.matrices()["diagonal with outliers"] + 0.05
    assert set(landmarks.pivoted_cholesky(kernels.precomputed(a), 5).indices.tolist()) == set(range(5))


@pytest.mark.parametrize("every", [1, 3, 4, 100])
@pytest.mark.parametrize("rule", ["pivoted_cholesky", "rpcholesky"])
def test_checks_in_windows_change_nothing_but_entries(every, rule, rng):
    rule = getattr(landmarks, rule)
    b = rng.standard_normal((50, 7))
    a = b @ b.T
    once = rule(kernels.precomputed(a), 12)
    found = rule(kernels.precomputed(a), 12, check_every=every)
    np.testing.assert_array_equal(found.indices, once.indices)
    np.testing.assert_allclose(found.factor, once.factor, atol=1e-12)
    assert len(found.indices) == 7
    assert once.entries == 8 * 50
    assert found.entries <= (1 + min(12, 7 + every)) * 50


@pytest.mark.parametrize("rule", CHOLESKY)
def test_exhaustion_ends_with_the_rank_found(rule, lane, dtype, rng):
    rule = KERNEL_RULES[rule]
    b = rng.standard_normal((60, 9)).astype(dtype)
    found = rule(kernels.precomputed(lane(b @ b.T)), 30, rng=2)
    assert found.indices.shape == (9,)
    assert found.factor.shape == (60, 9)
    assert float(to_numpy(found.residual).max()) == 0.0
    for a, rank in [
        (np.zeros((6, 6)), 0),
        (np.ones((6, 6)), 1),
        (np.ones((1, 1)), 1),
        (np.diag([0, 2.0, 0, 1, 0]), 2),
        (np.full((5, 5), 1e-30), 1),
        (np.full((5, 5), 1e30), 1),
    ]:
        found = rule(kernels.precomputed(lane(a.astype(dtype))), len(a), rng=0)
        assert found.indices.shape == (rank,)
        np.testing.assert_allclose(to_numpy(found.factor) @ to_numpy(found.factor).T, a, rtol=1e-5)


@pytest.mark.parametrize("rule", CHOLESKY)
def test_duplicates_are_picked_once(rule, dtype, rng):
    rule = KERNEL_RULES[rule]
    distinct = rng.standard_normal((8, 3))
    x = np.tile(distinct, (5, 1)).astype(dtype)
    found = rule(kernels.gaussian(x, gamma=0.3), 20, rng=1)
    assert len(found.indices) == len(set((found.indices % 8).tolist())) == 8
    same = np.repeat(distinct[:1], 7, axis=0).astype(dtype)
    assert rule(kernels.gaussian(same, gamma=0.3), 4, rng=1).indices.shape == (1,)


@pytest.mark.parametrize("rule", CHOLESKY)
@pytest.mark.parametrize("size", [1.0, 1e-6])
def test_indefinite_is_reported_with_its_pivot(rule, size, rng):
    """A direction of negative curvature, hidden from the diagonal, is met and named."""
    b = rng.standard_normal((30, 30))
    a = b @ b.T
    a[7, 7] -= schur(a, [i for i in range(30) if i != 7])[7, 7] + size
    with pytest.raises(errors.IndefiniteError) as caught:
        KERNEL_RULES[rule](kernels.precomputed(a), 30, rng=0)
    assert caught.value.argument == "kernel"
    assert caught.value.size < 0
    assert f"pivot {caught.value.pivot}" in str(caught.value)
    # the pivot named is where the last step broke: its own residual is as negative as said
    assert abs(caught.value.size) < 1e4 * size


@pytest.mark.parametrize("rule", CHOLESKY)
def test_negative_diagonal_is_reported(rule):
    a = np.diag([1.0, 2.0, -0.5, 1.0])
    with pytest.raises(errors.IndefiniteError, match=r"residual -0.5 at pivot 2") as caught:
        KERNEL_RULES[rule](kernels.precomputed(a), 3)
    assert (caught.value.pivot, caught.value.size) == (2, -0.5)
    with pytest.raises(errors.IndefiniteError):
        KERNEL_RULES[rule](kernels.precomputed(-np.eye(3)), 1)


@pytest.mark.parametrize("rule", CHOLESKY)
def test_non_symmetric_is_reported(rule, rng):
    b = rng.standard_normal((20, 20))
    a = b @ b.T + 20 * np.eye(20)
    skew = a + 0.01 * np.triu(rng.standard_normal((20, 20)), 1)
    with pytest.raises(errors.IndefiniteError, match="not symmetric") as caught:
        KERNEL_RULES[rule](kernels.precomputed(skew), 20)
    assert 0 < caught.value.size < 0.1


@pytest.mark.parametrize("rule", CHOLESKY)
def test_good_matrices_are_never_called_indefinite(rule, dtype):
    """Rounding alone must not raise: hard spectra, all the way to exhaustion."""
    for a in families.matrices(80).values():
        for scale in (1.0, 1e-12, 1e12):
            found = KERNEL_RULES[rule](kernels.precomputed((a * scale).astype(dtype)), 80, rng=0)
            assert 1 <= len(found.indices) <= 80


@pytest.mark.parametrize("rule", CHOLESKY)
def test_noise_of_a_kernel_is_allowed_for(rule, rng):
    """Entries good to 1e-6: an error without the word of the user, the rank above the noise with it."""
    b = rng.standard_normal((40, 5))
    a = b @ b.T
    e = 1e-6 * rng.standard_normal((40, 40))
    a = a + e + e.T

    def kernel(noise):
        index = np.arange(40.0)[:, None]
        return kernels.custom(
            lambda i, j: a[np.ix_(i[:, 0].astype(int), j[:, 0].astype(int))], index, noise=noise
        )

    with pytest.raises(errors.IndefiniteError):
        KERNEL_RULES[rule](kernel(0.0), 40, rng=0)
    assert len(KERNEL_RULES[rule](kernel(1e-5), 40, rng=0).indices) == 5


@pytest.mark.parametrize("rule", CHOLESKY)
def test_non_finite_entries_are_reported(rule, rng):
    b = rng.standard_normal((10, 10))
    a = b @ b.T
    a[2, 2] = np.nan
    with pytest.raises(errors.NonFiniteError, match="`kernel`"):
        KERNEL_RULES[rule](kernels.precomputed(a), 5)
    a[2, 2], a[3, 5], a[5, 3] = 1000.0, np.inf, np.inf
    with pytest.raises(errors.NonFiniteError, match="`kernel`"):
        KERNEL_RULES[rule](kernels.precomputed(a), 10)


@pytest.mark.parametrize(
    ("options", "argument"),
    [({"rtol": -1.0}, "rtol"), ({"rtol": 1.0}, "rtol"), ({"rtol": float("nan")}, "rtol")],
)
@pytest.mark.parametrize("rule", CHOLESKY)
def test_bad_options(rule, options, argument):
    with pytest.raises(errors.RangeError) as caught:
        getattr(landmarks, rule)(kernels.precomputed(np.eye(3)), 2, **options)
    assert caught.value.argument == argument


@pytest.mark.parametrize("block", [0, -1, 2.0, True])
def test_bad_block(block):
    for rule in (landmarks.accelerated_rpcholesky, landmarks.block_rpcholesky):
        with pytest.raises(errors.RangeError, match="`block`"):
            rule(kernels.precomputed(np.eye(3)), 2, block=block)
    with pytest.raises(errors.RangeError, match="`check_every`"):
        landmarks.rpcholesky(kernels.precomputed(np.eye(3)), 2, check_every=0)


def test_rtol_stops_early(rng):
    a = families.with_spectrum(10.0 ** -np.arange(12), rng)
    found = landmarks.pivoted_cholesky(kernels.precomputed(a), 12, rtol=1e-4)
    assert 3 <= len(found.indices) <= 7
    assert np.linalg.eigvalsh(a - found.factor @ found.factor.T).max() < 1e-3


def test_memory_is_the_factor_and_a_strip(rng):
    """Traced by the allocator: the n × n matrix would be 3.2 GB."""
    import tracemalloc

    kernel = kernels.gaussian(rng.standard_normal((20000, 4)), gamma=0.3)
    factor = 20000 * 64 * 8
    for rule in (landmarks.accelerated_rpcholesky, landmarks.rpcholesky):
        tracemalloc.start()
        rule(kernel, 64)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2 * factor


def test_accelerated_is_faster_at_scale(rng):
    """A small stand-in for the benchmark: m = 256 at n = 8000, in one run."""
    from experiments.engine.timing import measure

    kernel = kernels.gaussian(rng.standard_normal((8000, 16)), gamma=1 / 32)
    slow = measure(lambda: landmarks.rpcholesky(kernel, 256), repeats=1)
    fast = measure(lambda: landmarks.accelerated_rpcholesky(kernel, 256), repeats=3)
    assert slow.median > 1.5 * fast.median
