"""What holds for every rule over a kernel, and what each one promises."""

from __future__ import annotations

import contextlib
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy import stats

from nystrom_numerics import errors, kernels, landmarks, lowrank
from nystrom_numerics.backend import to_numpy
from tests import families
from tests.landmarks.rules import KERNEL_RULES, POINT_RULES


def full(kernel):
    return to_numpy(kernel.block(slice(None), slice(None))).astype(float)


@pytest.mark.parametrize("rule", KERNEL_RULES)
def test_same_seed_same_landmarks_on_every_backend(rule, lane, rng):
    x = rng.standard_normal((90, 3))
    expected = KERNEL_RULES[rule](kernels.gaussian(x, gamma=0.5), 12, rng=7)
    kernel = kernels.gaussian(lane(x), gamma=0.5)
    found = KERNEL_RULES[rule](kernel, 12, rng=7)
    lane.assert_close(found.indices, expected.indices, lane(expected.indices), rtol=0)
    assert found.entries == expected.entries == kernel.entries
    assert found.indices.shape == (12,)


@pytest.mark.parametrize("rule", KERNEL_RULES)
def test_float32(rule, rng):
    x = rng.standard_normal((90, 3)).astype("float32")
    indices = KERNEL_RULES[rule](kernels.gaussian(x, gamma=0.5), 12, rng=7).indices
    assert len(set(indices.tolist())) == 12


@pytest.mark.parametrize("rule", [*KERNEL_RULES, *POINT_RULES])
@pytest.mark.parametrize("points", ["smile", "spiral", "near_duplicates"])
def test_residuals_are_psd_and_vanish_at_landmarks(rule, points, rng):
    x = getattr(families, points)(80, rng)
    kernel = kernels.gaussian(x, gamma=0.125)
    found = (KERNEL_RULES | POINT_RULES)[rule](kernel, 15, rng=3)
    factor = lowrank.nystrom_factor(kernel, found)
    residual = full(kernel) - factor.factor @ factor.factor.T
    assert np.linalg.eigvalsh(residual).min() > -1e-6
    if hasattr(found, "indices"):
        np.testing.assert_allclose(residual[:, found.indices], 0, atol=1e-6)


@pytest.mark.parametrize("rule", KERNEL_RULES)
def test_exact_at_low_rank(rule, rng):
    """Rank r ≤ m: nothing is left, in one dtype and the other."""
    b = rng.standard_normal((40, 6))
    for dtype, tol in (("float64", 1e-9), ("float32", 2e-3)):
        kernel = kernels.precomputed((b @ b.T).astype(dtype))
        found = KERNEL_RULES[rule](kernel, 10, rng=5)
        assert 6 <= len(found.indices) <= 10
        factor = lowrank.nystrom_factor(kernel, found).factor
        np.testing.assert_allclose(factor @ factor.T, b @ b.T, atol=tol * 20)


@pytest.mark.parametrize("rule", ["pivoted_cholesky", "farthest_point", "pivoted_qr"])
def test_permutation_equivariance(rule, rng):
    """Where chance has no part: permuted points, the same points picked, if no diagonal entries tie."""
    x = rng.standard_normal((60, 3))
    order = np.r_[0, 1 + rng.permutation(59)]  # the farthest point's first one stays in place
    here = KERNEL_RULES[rule](kernels.polynomial(x, degree=2), 8)
    there = KERNEL_RULES[rule](kernels.polynomial(x[order], degree=2), 8)
    np.testing.assert_array_equal(order[there.indices], here.indices)


@pytest.mark.parametrize("rule", [landmarks.deim, landmarks.qdeim, landmarks.maxvol])
def test_permutation_equivariance_on_a_basis(rule, rng):
    u, _ = np.linalg.qr(rng.standard_normal((60, 8)))
    order = rng.permutation(60)
    assert set(order[rule(u[order]).indices]) == set(rule(u).indices.tolist())


@pytest.mark.parametrize("rule", KERNEL_RULES)
def test_degenerate_kernels_end_cleanly(rule, lane):
    """Zero kernel, constant data, all points equal, one point."""
    for x, rank in [(np.ones((6, 2)), 1), (np.ones((1, 2)), 1), (np.repeat([[0.0, 1], [9, 9]], 4, 0), 2)]:
        found = KERNEL_RULES[rule](kernels.gaussian(lane(x), gamma=1.0), len(x), rng=1)
        assert rank <= found.indices.shape[0] <= len(x)
        factor = lowrank.nystrom_factor(kernels.gaussian(lane(x), gamma=1.0), found, diagonal=True)
        assert factor.rank == rank
        assert factor.trace_residual == pytest.approx(0, abs=1e-12)
    zero = kernels.precomputed(lane(np.zeros((5, 5))))
    found = KERNEL_RULES[rule](zero, 3, rng=1)
    assert found.indices.shape[0] <= 3
    assert lowrank.nystrom_factor(zero, found).rank == 0


@pytest.mark.parametrize("rule", KERNEL_RULES)
@pytest.mark.parametrize("m", [0, 6, -1, 2.0, True])
def test_bad_m(rule, m):
    with pytest.raises(errors.RangeError) as caught:
        KERNEL_RULES[rule](kernels.precomputed(np.eye(5)), m, rng=0)
    assert caught.value.argument == "m"


SEEDED = [
    name
    for name in KERNEL_RULES
    if name not in ("farthest_point", "pivoted_cholesky", "pivoted_qr", "deim", "qdeim", "maxvol")
]


@pytest.mark.parametrize("rule", SEEDED)
def test_seeds(rule, rng):
    kernel = kernels.gaussian(rng.standard_normal((80, 3)), gamma=1.0)
    rule = KERNEL_RULES[rule]
    one, same, other = (rule(kernel, 9, rng=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.indices, same.indices)
    assert set(one.indices.tolist()) != set(other.indices.tolist())
    assert one.seed == 1
    drawn = rule(kernel, 9, rng=np.random.default_rng(1))
    np.testing.assert_array_equal(drawn.indices, one.indices)
    assert drawn.seed is None
    for bad in (1.5, np.random.RandomState(0), -1):
        with pytest.raises((errors.DTypeError, errors.RangeError)) as caught:
            rule(kernel, 9, rng=bad)
        assert caught.value.argument == "rng"


@pytest.mark.parametrize("rule", [name for name in KERNEL_RULES if name != "pivoted_qr"])
def test_rectangular_and_non_finite_kernels_are_refused(rule):
    with pytest.raises(errors.ShapeError) as caught:
        KERNEL_RULES[rule](kernels.precomputed(np.ones((5, 4))), 2, rng=0)
    assert caught.value.argument == "kernel"
    a = np.eye(5)
    a[3, 3] = np.nan
    with pytest.raises(errors.ArgumentError):
        KERNEL_RULES[rule](kernels.precomputed(a), 2, rng=0)


@pytest.mark.parametrize("rule", KERNEL_RULES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("m", [2, 6])
def test_what_is_not_finite_off_the_diagonal_is_refused_where_it_is_met(rule, bad, m, lane):
    """By the rule or by the factor; what neither refuses has met finite columns alone."""
    a = np.eye(6) + 0.5
    a[3, :3] = a[:3, 3] = bad
    kernel, met = kernels.precomputed(lane(a)), None
    with contextlib.suppress(errors.NonFiniteError), np.errstate(invalid="ignore"):
        found = KERNEL_RULES[rule](kernel, m, rng=0)
        lowrank.nystrom_factor(kernel, found)
        met = to_numpy(found.indices)
    assert met is None or (m < 6 and np.isfinite(a[:, met]).all())


@pytest.mark.parametrize("rule", KERNEL_RULES)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_points_that_are_not_finite_are_refused(rule, bad, lane):
    x = np.array([[0.0], [1.0], [bad], [2.0], [3.0], [4.0]])
    for m in (2, 6):
        with pytest.raises(errors.NonFiniteError, match="`kernel`"), np.errstate(invalid="ignore"):
            KERNEL_RULES[rule](kernels.gaussian(lane(x), gamma=1.0), m, rng=0)


@pytest.mark.parametrize("rule", ["leverage", "kdpp", "deim", "qdeim", "farthest_point", "length_squared"])
def test_indefinite_kernels_are_refused(rule, rng):
    b = rng.standard_normal((12, 12))
    a = b @ b.T
    a[4, 4] = -1.0
    with pytest.raises(errors.IndefiniteError) as caught:
        KERNEL_RULES[rule](kernels.precomputed(a), 4, rng=0)
    assert caught.value.pivot == 4
    assert caught.value.size == -1.0


@pytest.mark.parametrize("rule", ["leverage", "sketched leverage", "kdpp", "ridge_leverage", "deim"])
@pytest.mark.parametrize("how", ["indefinite", "non-symmetric"])
def test_hidden_indefiniteness_is_refused(rule, how, rng):
    """Unit diagonal, and a direction of eigenvalue −2 or entries that differ by 1: nothing on the diagonal shows it."""
    a = np.eye(40) + 0.0
    if how == "indefinite":
        a[:20, :20] += 3 * np.ones((20, 20)) - 3 * np.eye(20)
        np.fill_diagonal(a, 1.0)
    else:
        a += 0.5 * np.triu(rng.standard_normal((40, 40)), 1)
    with pytest.raises(errors.IndefiniteError) as caught:
        KERNEL_RULES[rule](kernels.precomputed(a), 30, rng=0)
    assert 0 <= caught.value.pivot < 40
    assert abs(caught.value.size) > 0.01


# --- the metric


def test_farthest_points_cover_within_twice_the_best(rng):
    for seed in range(5):
        x = np.random.default_rng(seed).standard_normal((11, 2))
        kernel = kernels.gaussian(x, gamma=0.5)
        a = full(kernel)
        distance = np.sqrt(np.clip(a.diagonal()[:, None] + a.diagonal() - 2 * a, 0, None))
        best = min(distance[:, list(s)].min(1).max() for s in combinations(range(11), 3))
        for start in range(11):
            found = landmarks.farthest_point(kernel, 3, start=start)
            radius = distance[:, found.indices].min(1).max()
            assert radius <= 2 * best + 1e-9
            factor = lowrank.nystrom_factor(kernel, found, diagonal=True)
            assert factor.residual.max() <= radius**2 + 1e-9
            assert found.entries == 4 * 11
    with pytest.raises(errors.RangeError, match="`start`"):
        landmarks.farthest_point(kernel, 3, start=11)


def test_farthest_on_points_is_farthest_over_a_monotone_kernel(rng):
    x = rng.standard_normal((50, 3))
    np.testing.assert_array_equal(
        landmarks.farthest(x, 10).indices,
        landmarks.farthest_point(kernels.gaussian(x, gamma=0.1), 10).indices,
    )


def test_kernel_kmeanspp_has_the_law_of_d_squared():
    x = np.array([[0.0], [1.0], [3.0]])
    kernel = kernels.polynomial(x, degree=1, coef0=1.0)
    d2 = (x - x.T) ** 2
    law = d2 / d2.sum(axis=1, keepdims=True) / 3
    source = np.random.default_rng(5)
    counts = np.zeros((3, 3))
    for _ in range(2000):
        a, b = landmarks.kernel_kmeanspp(kernel, 2, rng=source).indices
        counts[a, b] += 1
    cells = law > 0
    assert stats.chisquare(counts[cells], 2000 * law[cells]).pvalue > 1e-3
    assert counts[~cells].sum() == 0


# --- scores


def test_leverage_scores_are_those_of_the_leading_eigenvectors(rng):
    a = families.with_spectrum(0.8 ** np.arange(30), rng)
    values, vectors = np.linalg.eigh(a)
    exact = landmarks.exact_basis(kernels.precomputed(a), 5)
    projector = vectors[:, -5:] @ vectors[:, -5:].T
    np.testing.assert_allclose(exact @ exact.T, projector, atol=1e-10)
    sketched = landmarks.sketched_basis(kernels.precomputed(a), 5, oversampling=15)
    np.testing.assert_allclose(sketched.T @ sketched, np.eye(5), atol=1e-12)
    assert np.abs((sketched**2).sum(1) - projector.diagonal()).max() < 0.05
    assert values[-1] == pytest.approx(1)


def test_leverage_finds_the_row_that_matters(rng):
    a = np.eye(200) * 1e-3
    a[17, 17] = 1.0
    for basis in (landmarks.exact_basis, landmarks.sketched_basis):
        hits = [
            17 in landmarks.leverage(kernels.precomputed(a), 3, rank=1, basis=basis, rng=s).indices
            for s in range(20)
        ]
        assert all(hits)


def test_draws_without_replacement_have_their_law():
    """Successive draws: the probability of each pair, exactly, against 4000 draws."""
    weights = np.array([1.0, 2.0, 3.0, 0.0])
    kernel = kernels.precomputed(np.diag(np.sqrt(weights)))
    law = {}
    p = weights / weights.sum()
    for i, j in combinations(range(3), 2):
        law[i, j] = p[i] * p[j] / (1 - p[i]) + p[j] * p[i] / (1 - p[j])
    source = np.random.default_rng(2)
    counts = dict.fromkeys(law, 0)
    for _ in range(4000):
        counts[tuple(landmarks.length_squared(kernel, 2, rng=source).indices.tolist())] += 1
    assert stats.chisquare(list(counts.values()), 4000 * np.array(list(law.values()))).pvalue > 1e-3
    assert landmarks.length_squared(kernel, 4).indices.tolist() == [0, 1, 2]  # weight zero never wins


def test_ridge_leverage_estimates_bound_the_scores(rng):
    """The estimate from any landmarks is no less than the score; from all points it is the score."""
    from nystrom_numerics.landmarks.ridge import ridge_scores

    x = rng.standard_normal((60, 2))
    kernel = kernels.gaussian(x, gamma=0.5)
    a = full(kernel)
    chosen = np.arange(60)
    for part in (chosen, chosen[::3]):
        k = 6
        found = ridge_scores(kernel, chosen, part, np.ones(len(part)), np.ones(60), k)
        block = a[np.ix_(part, part)]
        ridge = np.sort(np.linalg.eigvalsh(block))[: len(part) - k].sum() / k
        exact = (a @ np.linalg.inv(a + ridge * np.eye(60))).diagonal()
        assert (found >= exact - 1e-9).all()
        if len(part) == 60:
            np.testing.assert_allclose(found, exact, rtol=1e-7)


def test_ridge_leverage_costs_no_more_than_its_order(rng):
    kernel = kernels.gaussian(rng.standard_normal((4000, 4)), gamma=0.3)
    found = landmarks.ridge_leverage(kernel, 40, rng=1)
    assert len(found.indices) == 40
    assert found.entries < 8 * 4000 * 40
    with pytest.raises(errors.RangeError, match="`oversampling`"):
        landmarks.ridge_leverage(kernel, 40, oversampling=0.5)


@pytest.mark.parametrize("rule", ["ridge_leverage", "leverage", "accelerated_rpcholesky", "kdpp"])
def test_informed_rules_see_the_eyes_of_the_smile(rule):
    """Twenty of 500 points make the eyes; uniform draws of 20 miss one of them most of the time."""
    x = families.smile(500, np.random.default_rng(0))
    kernel = kernels.gaussian(x, gamma=0.125)
    eyes = [range(460, 480), range(480, 500)]

    def seen(rule, seed):
        indices = rule(kernel, 20, rng=seed).indices
        return all(any(i in eye for i in indices.tolist()) for eye in eyes)

    informed = sum(seen(KERNEL_RULES[rule], s) for s in range(8))
    blind = sum(seen(POINT_RULES["uniform"], s) for s in range(8))
    assert informed >= 6
    assert blind <= 5


# --- volume


def elementary(values, k):
    return sum(np.prod(s) for s in combinations(values, k))


def test_kdpp_expected_trace_exactly():
    """E tr R = (k+1) e_{k+1}/e_k, with the expectation over all sets and R from our own factor."""
    for seed in range(4):
        b = np.random.default_rng(seed).standard_normal((6, 6)) * 3.0 ** -np.arange(6)
        kernel = kernels.precomputed(b @ b.T)
        values = np.linalg.eigvalsh(b @ b.T)
        for k in (1, 2, 4):
            total, mean = 0.0, 0.0
            for s in combinations(range(6), k):
                p = np.linalg.det((b @ b.T)[np.ix_(s, s)])
                subset = landmarks.ColumnSubset(np.array(s), None, 0, None)
                total += p
                mean += p * lowrank.nystrom_factor(kernel, subset, diagonal=True).trace_residual
            assert total == pytest.approx(elementary(values, k), rel=1e-9)
            assert mean / total == pytest.approx((k + 1) * elementary(values, k + 1) / total, rel=1e-8)


def test_kdpp_has_its_law():
    b = np.random.default_rng(8).standard_normal((5, 5))
    a = b @ b.T
    sets = list(combinations(range(5), 2))
    p = np.array([np.linalg.det(a[np.ix_(s, s)]) for s in sets])
    source = np.random.default_rng(3)
    counts = dict.fromkeys(sets, 0)
    for _ in range(1500):
        counts[tuple(landmarks.kdpp(kernels.precomputed(a), 2, rng=source).indices.tolist())] += 1
    expected = 1500 * p / p.sum()
    large = expected >= 5
    observed = np.array(list(counts.values()))
    if not large.all():
        observed = np.r_[observed[large], observed[~large].sum()]
        expected = np.r_[expected[large], expected[~large].sum()]
    assert stats.chisquare(observed, expected).pvalue > 1e-3
    uniform = np.full(len(sets), 150.0)
    assert stats.chisquare(list(counts.values()), uniform).pvalue < 1e-9  # the check has teeth


def test_kdpp_beyond_underflow(rng):
    """e_k of 150 of 200 eigenvalues underflows and overflows; its logarithm does not."""
    for scale in (1e-3, 1e3):
        a = scale * families.with_spectrum(0.9 ** np.arange(200), rng)
        found = landmarks.kdpp(kernels.precomputed(a), 150, rng=1)
        assert len(set(found.indices.tolist())) == 150


def test_adaptive_pivoting_guarantee_exactly():
    """E‖A − Π_J A‖_F² ≤ (r+1)‖A − AVVᵀ‖_F² over the projection DPP, and the code draws from that law."""
    rng = np.random.default_rng(4)
    n, r = 6, 2
    a = rng.standard_normal((5, n)) * 2.0 ** -np.arange(n)
    v = np.linalg.svd(a)[2][:r].T
    sets = list(combinations(range(n), r))
    p = np.array([np.linalg.det(v[list(s)]) ** 2 for s in sets])
    assert p.sum() == pytest.approx(1)
    left = [a - a[:, s] @ np.linalg.pinv(a[:, s]) @ a for s in map(list, sets)]
    mean = sum(q * (e**2).sum() for q, e in zip(p, left, strict=True))
    assert mean <= (r + 1) * ((a - a @ v @ v.T) ** 2).sum()
    source = np.random.default_rng(0)
    counts = dict.fromkeys(sets, 0)
    for _ in range(2000):
        found = landmarks.adaptive_randomized_pivoting(v, rng=source)
        counts[tuple(sorted(found.indices.tolist()))] += 1
    observed, expected = np.array(list(counts.values())), 2000 * p
    large = expected >= 5
    observed = np.r_[observed[large], observed[~large].sum()]
    expected = np.r_[expected[large], max(expected[~large].sum(), 1e-9)]
    assert stats.chisquare(observed, expected * observed.sum() / expected.sum()).pvalue > 1e-3


# --- adapters


@pytest.mark.parametrize("rule", POINT_RULES)
def test_point_rules_over_a_kernel(rule, lane, rng):
    x = rng.standard_normal((30, 2))
    kernel = kernels.gaussian(lane(x), gamma=1.0)
    found = POINT_RULES[rule](kernel, 6, rng=2)
    assert kernel.entries == found.entries == 0
    assert found.gather(kernel.points).shape == (6, 2)
    with pytest.raises(errors.NamespaceError, match="points, which this rule looks at"):
        POINT_RULES[rule](kernels.precomputed(np.eye(3)), 2)


def test_point_rules_drop_what_does_not_exist():
    x = np.repeat([[0.0, 0], [5, 5], [9, 0]], 4, axis=0)
    kernel = kernels.gaussian(x, gamma=1.0)
    for rule in ("kmeans", "farthest"):
        found = POINT_RULES[rule](kernel, 5)
        assert found.valid is None
        assert found.gather(x).shape == (3, 2)


def test_kernel_rules_take_half_precision_points(rng):
    x = torch.asarray(rng.standard_normal((40, 3)), dtype=torch.float16)
    for rule in KERNEL_RULES.values():
        found = rule(kernels.gaussian(x, gamma=0.5), 5, rng=1)
        same = rule(kernels.gaussian(x.float(), gamma=0.5), 5, rng=1)
        assert torch.equal(found.indices, same.indices)
