"""Low-rank factors: what they equal, what they solve, what bounds them."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from nystrom_numerics import errors, kernels, landmarks, lowrank
from nystrom_numerics.backend import to_numpy
from tests import families
from tests.landmarks.rules import CHOLESKY, KERNEL_RULES, POINT_RULES

ALL = slice(None)


def naive_nystrom(a, indices):
    s = list(indices)
    return a[:, s] @ np.linalg.pinv(a[np.ix_(s, s)], rcond=1e-13, hermitian=True) @ a[s]


@pytest.mark.parametrize("ready", [True, False])
def test_nystrom_from_indices(ready, lane, dtype, rng):
    x = rng.standard_normal((70, 3)).astype(dtype)
    kernel = kernels.gaussian(lane(x), gamma=0.5)
    a = kernels.gaussian(x.astype(float), gamma=0.5).block(ALL, ALL)
    found = landmarks.accelerated_rpcholesky(kernel, 10, rng=1)
    before = kernel.entries
    subset = found if ready else landmarks.ColumnSubset(found.indices, None, 0, None)
    factor = lowrank.nystrom_factor(kernel, subset, diagonal=not ready)
    assert factor.entries == kernel.entries - before == (0 if ready else 70 * 10 + 100 + 70)
    expected = naive_nystrom(a, to_numpy(found.indices))
    tol = 3e-4 if dtype == "float32" else 1e-10
    v = rng.standard_normal((70, 2)).astype(dtype)
    lane.assert_close(factor.apply(lane(v)), expected @ v, lane(v), rtol=0, atol=10 * tol)
    lane.assert_close(factor.apply(lane(v[:, 0])), expected @ v[:, 0], lane(v), rtol=0, atol=10 * tol)
    lane.assert_close(factor.diagonal(), expected.diagonal(), lane(v), rtol=0, atol=tol)
    lane.assert_close(factor.residual, (a - expected).diagonal(), lane(v), rtol=0, atol=tol)
    assert factor.trace_residual == pytest.approx(np.trace(a - expected), abs=70 * tol)
    low, high = factor.frobenius_residual
    assert low - tol <= np.linalg.norm(a - expected) <= high + 70 * tol
    values, vectors = factor.eigendecomposition()
    lane.assert_close(values, np.linalg.eigvalsh(expected)[::-1][:10], lane(v), rtol=0, atol=10 * tol)
    np.testing.assert_allclose(to_numpy(vectors).T @ to_numpy(vectors), np.eye(10), atol=tol)
    assert (factor.shape, factor.rank) == ((70, 70), 10)
    new = rng.standard_normal((5, 3)).astype(dtype)
    expected_features = to_numpy(factor.features(kernel, lane(np.concatenate([x[:4], new]))))
    np.testing.assert_allclose(expected_features[:4], to_numpy(factor.factor)[:4], atol=30 * tol)


@pytest.mark.parametrize("rule", POINT_RULES)
def test_nystrom_from_points(rule, lane, rng):
    x = rng.standard_normal((60, 2))
    kernel = kernels.gaussian(lane(x), gamma=0.5)
    found = POINT_RULES[rule](kernel, 8)
    z = to_numpy(found.gather(kernel.points))
    before = kernel.entries
    factor = lowrank.nystrom_factor(kernel, found)
    assert factor.entries == kernel.entries - before == 60 * 8 + 64
    c, w = (kernels.gaussian(p, z, gamma=0.5).block(ALL, ALL) for p in (x, z))
    f = to_numpy(factor.factor)
    np.testing.assert_allclose(f @ f.T, c @ np.linalg.pinv(w, hermitian=True) @ c.T, atol=1e-8)
    assert factor.residual is factor.trace_residual is factor.frobenius_residual is None


def test_quantisation_bounds_the_trace(rng):
    """tr R ≤ 2γ · SSE for any landmark points, means included."""
    for seed, gamma in product(range(4), (0.05, 0.5)):
        x = np.random.default_rng(seed).standard_normal((150, 3))
        kernel = kernels.gaussian(x, gamma=gamma)
        for rule in ("kmeans", "segment_means", "farthest"):
            found = POINT_RULES[rule](kernel, 12)
            z = found.gather(x)
            sse = ((x[:, None] - z) ** 2).sum(-1).min(1).sum()
            factor = lowrank.nystrom_factor(kernel, found, diagonal=True)
            assert factor.trace_residual <= 2 * gamma * sse * (1 + 1e-12)


@pytest.mark.parametrize("name", families.matrices(20))
def test_gittens_mahoney_structural_bounds(name):
    """Spectral, Frobenius and trace, for every rule and on random and adversarial spectra; valid, and
    tight."""
    a = families.matrices(60)[name]
    values, vectors = np.linalg.eigh(a)
    values, vectors = np.clip(values[::-1], 0, None), vectors[:, ::-1]
    kernel = kernels.precomputed(a)
    ratios = []
    rules = {name: KERNEL_RULES[name] for name in (*CHOLESKY, "leverage", "kdpp", "farthest_point")}
    rules["uniform"] = lambda kernel, m, rng: landmarks.uniform(a, m, rng=rng)
    for (rule, seed), (m, k) in product(product(rules, range(3)), ((8, 4), (15, 5), (15, 12))):
        s = rules[rule](kernel, m, rng=seed).indices
        omega1, omega2 = vectors[s, :k].T, vectors[s, k:].T
        if len(s) < k or np.linalg.svd(omega1)[1][-1] < 1e-6:
            continue  # the hypothesis: Ω₁ has full row rank
        lifted = np.sqrt(values[k:])[:, None] * (omega2 @ np.linalg.pinv(omega1))
        spectral, frobenius = np.linalg.norm(lifted, 2), np.linalg.norm(lifted)
        tail = values[k:]
        residual = a - naive_nystrom(a, s)
        slack = 1e-9 * values[0]
        bounds = (
            (np.linalg.norm(residual, 2), tail[0] + spectral**2),
            (
                np.linalg.norm(residual),
                np.linalg.norm(tail) + spectral * (np.sqrt(2 * tail.sum()) + frobenius),
            ),
            (np.trace(residual), tail.sum() + frobenius**2),
        )
        for found, bound in bounds:
            assert found <= bound + slack
            ratios.append(found / bound)
    assert len(ratios) > 30
    assert np.median(ratios) > 0.01


@pytest.mark.parametrize("name", families.matrices(20))
def test_duplicate_and_dependent_landmarks_are_harmless(name):
    a = families.matrices(60)[name]
    kernel = kernels.precomputed(a)
    s = np.r_[np.arange(0, 60, 4), np.arange(0, 60, 4)[:7]]
    for dtype, tol in (("float64", 1e-7), ("float32", 3e-3)):
        factor = lowrank.nystrom_factor(
            kernels.precomputed(a.astype(dtype)), landmarks.ColumnSubset(s, None, 0, None), diagonal=True
        )
        f = factor.factor.astype(float)
        assert factor.rank <= 15
        residual = a - f @ f.T
        assert np.linalg.eigvalsh(residual).min() > -tol * np.linalg.norm(a, 2)
        np.testing.assert_allclose(residual[:, s], 0, atol=tol * 10 * np.abs(a).max())
    assert kernel.entries == 0


def test_truncation_by_rtol(rng):
    kernel = kernels.gaussian(rng.standard_normal((80, 2)), gamma=0.05)
    subset = landmarks.ColumnSubset(np.arange(40), None, 0, None)
    ranks = [lowrank.nystrom_factor(kernel, subset, rtol=rtol).rank for rtol in (1e-2, 1e-4, 1e-8)]
    assert ranks == sorted(ranks)
    assert ranks[0] < ranks[-1] < 40


def test_factor_bad_input(rng):
    x = rng.standard_normal((9, 2))
    kernel = kernels.gaussian(x, gamma=1.0)
    subset = landmarks.uniform(x, 3)
    factor = lowrank.nystrom_factor(kernel, subset)
    a = np.eye(9)
    a[0, 1] = a[1, 0] = 2.0
    batch = landmarks.uniform(rng.standard_normal((2, 9, 2)), 3)
    half = landmarks.kmeans(np.ones((9, 2)), 3)
    for call, argument in [
        (lambda: lowrank.nystrom_factor(kernels.gaussian(x, x[:4], gamma=1.0), subset), "kernel"),
        (lambda: lowrank.nystrom_factor(kernel, batch), "landmarks"),
        (lambda: lowrank.nystrom_factor(kernel, landmarks.segment_means(x[None], 2)), "landmarks"),
        (lambda: lowrank.nystrom_factor(kernel, half), "landmarks"),
        (lambda: lowrank.nystrom_factor(kernel, subset, rtol=1.0), "rtol"),
        (lambda: factor.solve(x[:3], 1.0), "b"),
        (lambda: factor.solve(x, 0.0), "ridge"),
        (lambda: factor.solve(x, float("nan")), "ridge"),
        (lambda: factor.coefficients(x, -1.0), "ridge"),
        (lambda: factor.preconditioner(0.0), "ridge"),
        (lambda: factor.apply(x[:2]), "v"),
        (lambda: factor.features(kernels.precomputed(np.eye(9)), x), "kernel"),
        (lambda: factor.features(kernel, x[:, :1]), "x"),
        (lambda: lowrank.residual_norms(kernels.gaussian(x[:4], gamma=1.0), factor), "factor"),
        (lambda: lowrank.cross_factor(kernel, [0], [1, 2]), "rows"),
        (lambda: lowrank.cross_factor(kernel, [0], []), "columns"),
        (lambda: lowrank.cross_factor(kernel, [9], [0]), "rows"),
        (lambda: lowrank.cur_factor(kernel, [0], [0], rtol=-1.0), "rtol"),
        (lambda: lowrank.conjugate_gradients(lambda v: v, x, tol=0.0), "tol"),
        (lambda: lowrank.conjugate_gradients(lambda v: v, x, iterations=-1), "iterations"),
        (lambda: lowrank.conjugate_gradients(lambda v: v, x, check_every=0), "check_every"),
        (lambda: lowrank.kernel_ridge(kernel, x[:3], 1.0), "y"),
        (lambda: lowrank.kernel_ridge(kernel, x, 0.0), "ridge"),
    ]:
        with pytest.raises(errors.ArgumentError) as caught:
            call()
        assert caught.value.argument == argument
    with pytest.raises(errors.IndefiniteError) as caught:
        lowrank.nystrom_factor(kernels.precomputed(a), landmarks.ColumnSubset(np.arange(3), None, 0, None))
    assert caught.value.size == pytest.approx(-3.0)


# --- solves


@pytest.mark.parametrize("ridge", [1e-10, 1e-3, 10.0])
def test_ridge_solve(ridge, lane, rng):
    """Backward stable, whatever the ridge: (Â + μ)x against b, relative to ‖Â‖‖x‖ + ‖b‖."""
    x = rng.standard_normal((60, 2))
    kernel = kernels.gaussian(lane(x), gamma=0.3)
    factor = lowrank.nystrom_factor(kernel, landmarks.rpcholesky(kernel, 12))
    f = to_numpy(factor.factor)
    for b in (rng.standard_normal(60), rng.standard_normal((60, 3))):
        found = to_numpy(factor.solve(lane(b), ridge))
        assert found.shape == b.shape
        left = f @ (f.T @ found) + ridge * found - b
        scale = np.linalg.norm(f, 2) ** 2 * np.linalg.norm(found) + np.linalg.norm(b)
        assert np.linalg.norm(left) < 1e-13 * scale
    exact = np.linalg.solve(f @ f.T + ridge * np.eye(60), b)
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-15 / ridge * np.linalg.norm(exact) + 1e-10)


@pytest.mark.parametrize("ridge", [1e-10, 1e-6, 1e-3])
def test_ridge_solve_keeps_digits_where_the_answer_is_small(ridge, rng):
    """b along the first eigenvector: the forward error is κu, κ = λ₁/μ."""
    x = rng.standard_normal((300, 3))
    kernel = kernels.gaussian(x, gamma=0.05)
    factor = lowrank.nystrom_factor(kernel, landmarks.uniform(x, 20))
    values, vectors = np.linalg.eigh(factor.factor.T @ factor.factor)
    first = factor.factor @ vectors[:, -1]
    first /= np.linalg.norm(first)
    found = factor.solve((values[-1] + ridge) * first, ridge)
    assert np.linalg.norm(found - first) < 4 * 2.0**-53 * values[-1] / ridge


@pytest.mark.parametrize("ridge", [1e-37, 1e-20, 1e-8, 1e-6, 1e-3, 1e3])
def test_ridge_solve_below_the_roundoff_of_the_kernel(ridge, lane, dtype, rng):
    """Backward error of order u however small μ is, for b with and without a part outside the range of Â, and where
    there is no outside.  Order: the rounding of sums of n and of m terms, at random √n u and √m u."""
    u = np.finfo(dtype).eps / 2
    for n, m in ((1, 1), (5, 5), (60, 12), (60, 60)):
        x = rng.standard_normal((n, 3)).astype(dtype)
        factor = lowrank.nystrom_factor(kernels.gaussian(lane(x), gamma=0.5), landmarks.uniform(lane(x), m))
        f = to_numpy(factor.factor).astype(np.longdouble)
        b = np.stack([rng.standard_normal(n), f @ rng.standard_normal(factor.rank), np.eye(n)[0]], axis=1)
        b = b.astype(dtype)
        found = to_numpy(factor.solve(lane(b), ridge)).astype(np.longdouble)
        left = f @ (f.T @ found) + ridge * found - b
        top = np.linalg.norm(f.astype(float), 2) ** 2
        norms = [np.linalg.norm(part.astype(float), axis=0) for part in (left, found, b)]
        assert (norms[0] <= 8 * (n**0.5 + m**0.5) * u * (top * norms[1] + norms[2])).all()


def test_a_ridge_that_the_dtype_does_not_hold_is_refused():
    x = np.zeros((1, 1), dtype=np.float32)
    kernel = kernels.gaussian(x, gamma=1.0)
    factor = lowrank.nystrom_factor(kernel, landmarks.uniform(x, 1))
    assert factor.solve(x + np.float32(0.3), 1e-8) == np.float32(0.3)
    for ridge in (1e-39, 1e39):
        for call in (
            lambda ridge: factor.solve(x, ridge),
            lambda ridge: factor.coefficients(x, ridge),
            lambda ridge: factor.preconditioner(ridge),
            lambda ridge: lowrank.kernel_ridge(kernel, x, ridge),
        ):
            with pytest.raises(errors.RangeError, match=r"`ridge` .* at least 1.18e-38"):
                call(ridge)


def test_coefficients_keep_what_the_gram_matrix_loses(lane):
    """float32, σ from 1 to 1e-5: FᵀF holds none of the small ones, the singular values of F do."""
    rng = np.random.default_rng(0)
    u, _ = np.linalg.qr(rng.standard_normal((50, 6)))
    v, _ = np.linalg.qr(rng.standard_normal((6, 6)))
    f, eye = (u * np.logspace(0, -5, 6) @ v.T).astype(np.float32), np.eye(6, dtype=np.float32)
    none = landmarks.ColumnSubset(lane(np.arange(6)), None, 0, None)
    factor = lowrank.NystromFactor(lane(f), none, lane(np.arange(6)), lane(eye), None, 0)
    y = rng.standard_normal(50).astype(np.float32)
    wide = np.linalg.lstsq(np.vstack([f, 1e-4 * eye]).astype(float), np.r_[y, np.zeros(6)], rcond=None)[0]
    # condition of [F; √μ I]: 1e4, and so the relative error that Björck's bound allows a backward stable method is
    # of order 1e4 u (1 + its residual's share, 1e4 ‖r‖/‖w‖ ~ 1)
    assert np.linalg.norm(
        to_numpy(factor.coefficients(lane(y), 1e-8)) - wide
    ) < 1e4 * 2.0**-20 * np.linalg.norm(wide)


def test_coefficients_are_ridge_regression_on_the_features(lane, rng):
    x, y = rng.standard_normal((50, 2)), rng.standard_normal(50)
    kernel = kernels.gaussian(lane(x), gamma=0.3)
    factor = lowrank.nystrom_factor(kernel, landmarks.rpcholesky(kernel, 9))
    f = to_numpy(factor.factor)
    w = factor.coefficients(lane(y), 0.1)
    lane.assert_close(w, np.linalg.solve(f.T @ f + 0.1 * np.eye(9), f.T @ y), lane(y), rtol=1e-8)
    # the same predictions as (Â + μ)⁻¹ gives at the points themselves
    predicted = to_numpy(factor.features(kernel, lane(x)) @ w)
    np.testing.assert_allclose(predicted, f @ (f.T @ to_numpy(factor.solve(lane(y), 0.1))), atol=1e-9)


def test_preconditioner_condition_number(rng):
    """κ ≤ (λ̂_r + μ + ‖E‖)/μ, and far below that of A + μ."""
    for a in families.matrices(60).values():
        kernel = kernels.precomputed(a)
        factor = lowrank.nystrom_factor(kernel, landmarks.accelerated_rpcholesky(kernel, 20))
        ridge = 1e-4 * np.trace(a) / 60
        inverse = factor.preconditioner(ridge).apply(np.eye(60))
        np.testing.assert_allclose(inverse, inverse.T, atol=1e-12)
        values, vectors = factor.eigendecomposition()
        p = vectors @ np.diag((values + ridge) / (values[-1] + ridge)) @ vectors.T
        p += np.eye(60) - vectors @ vectors.T
        np.testing.assert_allclose(p @ inverse, np.eye(60), atol=1e-8)
        spectrum = np.linalg.eigvals(inverse @ (a + ridge * np.eye(60))).real
        error = np.linalg.norm(a - factor.factor @ factor.factor.T, 2)
        assert spectrum.max() / spectrum.min() <= (values[-1] + ridge + error) / ridge * (1 + 1e-6)


def test_conjugate_gradients(lane, dtype, rng):
    b = rng.standard_normal((30, 30))
    a = b @ b.T + 5 * np.eye(30)
    right = rng.standard_normal((30, 3))
    right[:, 1] = 0.0
    on = lane(a.astype(dtype))
    tol = 1e-3 if dtype == "float32" else 1e-10
    found = lowrank.conjugate_gradients(lambda v: on @ v, lane(right.astype(dtype)), tol=tol)
    assert found.status is errors.Status.CONVERGED
    assert (to_numpy(found.residual) <= 2 * tol).all()
    np.testing.assert_allclose(to_numpy(found.value), np.linalg.solve(a, right), atol=10 * tol)
    assert to_numpy(found.iterations)[1] == 0
    # no column depends on its neighbours, and neither does a look at every fourth step only
    alone = lowrank.conjugate_gradients(lambda v: on @ v, lane(right[:, 2].astype(dtype)), tol=tol)
    lane.assert_close(alone.value, to_numpy(found.value)[:, 2], on, rtol=1e-3, atol=tol)
    assert int(alone.iterations) == int(to_numpy(found.iterations)[2])
    seldom = lowrank.conjugate_gradients(lambda v: on @ v, lane(right.astype(dtype)), tol=tol, check_every=4)
    np.testing.assert_array_equal(to_numpy(seldom.iterations), to_numpy(found.iterations))


def test_conjugate_gradients_tells_its_end(rng):
    b = rng.standard_normal((20, 20))
    spd = b @ b.T + np.eye(20)
    right = rng.standard_normal(20)

    def status(a, **options):
        return lowrank.conjugate_gradients(lambda v: a @ v, right, **options).status

    assert status(spd, iterations=2) is errors.Status.MAX_ITERATIONS
    assert status(spd, iterations=0) is errors.Status.MAX_ITERATIONS
    assert status(-spd) is errors.Status.STAGNATED
    assert status(np.diag(np.r_[-1.0, np.ones(19)])) is errors.Status.STAGNATED
    assert status(spd, precondition=lambda v: -v) is errors.Status.STAGNATED
    assert status(spd * np.nan) is errors.Status.NON_FINITE
    assert status(spd) is errors.Status.CONVERGED


def test_kernel_ridge(lane, rng):
    """Preconditioned and not, the same solution; fewer iterations; entries counted."""
    x, y = rng.standard_normal((120, 2)), rng.standard_normal(120)
    kernel = kernels.gaussian(lane(x), gamma=0.5)
    a = kernels.gaussian(x, gamma=0.5).block(ALL, ALL)
    plain = lowrank.kernel_ridge(kernel, lane(y), 1e-3, tol=1e-8)
    factor = lowrank.nystrom_factor(kernel, landmarks.accelerated_rpcholesky(kernel, 30))
    before = kernel.entries
    helped = lowrank.kernel_ridge(kernel, lane(y), 1e-3, factor=factor, tol=1e-8)
    iterations = int(helped.iterations)
    assert kernel.entries - before == (iterations + 1) * 120**2
    assert iterations < int(plain.iterations) / 2
    expected = np.linalg.solve(a + 1e-3 * np.eye(120), y)
    for found in (plain, helped):
        assert found.status is errors.Status.CONVERGED
        lane.assert_close(found.value, expected, lane(y), rtol=0, atol=1e-3 * np.abs(expected).max())


# --- crosses


def test_cross_and_cur(lane, dtype, rng):
    q, k = rng.standard_normal((40, 3)).astype(dtype), rng.standard_normal((30, 3)).astype(dtype)
    kernel = kernels.softmax(lane(q), lane(k))
    a = np.exp(q.astype(float) @ k.T.astype(float) / np.sqrt(3))
    i, j = np.arange(0, 40, 4), np.arange(0, 30, 5)
    tol = 2e-3 if dtype == "float32" else 1e-9
    atol = tol * np.abs(a).max()
    c, r, w = a[:, j], a[i], a[np.ix_(i, j)]
    cross = lowrank.cross_factor(kernel, i, j)
    assert cross.entries == kernel.entries == 40 * 6 + 10 * 30
    cur = lowrank.cur_factor(kernel, lane(i), lane(j))
    assert cur.entries == 40 * 30 + 40 * 6 + 10 * 30
    v, u = rng.standard_normal((30, 2)).astype(dtype), rng.standard_normal(40).astype(dtype)
    for factor, expected in [
        (cross, c @ np.linalg.pinv(w) @ r),
        (cur, c @ np.linalg.pinv(c) @ a @ np.linalg.pinv(r) @ r),
    ]:
        assert factor.shape == (40, 30)
        lane.assert_close(factor.apply(lane(v)), expected @ v, lane(v), rtol=0, atol=30 * atol)
        lane.assert_close(factor.apply_transpose(lane(u)), expected.T @ u, lane(v), rtol=0, atol=30 * atol)
        lane.assert_close(factor.diagonal(), expected.diagonal(), lane(v), rtol=0, atol=10 * atol)
        left, s, vt = map(to_numpy, factor.svd())
        np.testing.assert_allclose(left * s @ vt, expected, atol=10 * atol)
        np.testing.assert_allclose(left.T @ left, np.eye(factor.rank), atol=tol)
        norms = lowrank.residual_norms(kernel, factor)
        assert norms.frobenius == pytest.approx(np.linalg.norm(a - expected), rel=0.02, abs=10 * atol)
        assert norms.largest == pytest.approx(np.abs(a - expected).max(), rel=0.02, abs=10 * atol)
        assert (norms.trace, norms.entries) == (None, 1200)
    assert cur.frobenius_residual == pytest.approx(np.linalg.norm(a - expected), rel=0.02, abs=10 * atol)
    assert cross.frobenius_residual is None
    assert lowrank.residual_norms(kernel, cur).frobenius <= lowrank.residual_norms(kernel, cross).frobenius


def test_cross_bound(rng):
    """‖A − C W⁺ R‖₂ ≤ ‖Q_C(I,:)⁺‖₂ ‖A − C C⁺ A‖₂ ≤ ‖Q_C(I,:)⁺‖₂ ‖V_k(J,:)⁻¹‖₂ σ_{k+1}."""
    for seed in range(30):
        source = np.random.default_rng(seed)
        a = families.with_spectrum(0.6 ** np.arange(30), source) @ source.standard_normal((30, 25))
        k = 6
        j, i = source.choice(25, k, replace=False), source.choice(30, 2 * k, replace=False)
        factor = lowrank.cross_factor(kernels.precomputed(a), i, j)
        error = np.linalg.norm(a - factor.left @ factor.right, 2)
        qc, _ = np.linalg.qr(a[:, j])
        amplified = np.linalg.norm(np.linalg.pinv(qc[i]), 2)
        projected = np.linalg.norm(a - qc @ qc.T @ a, 2)
        _, sigma, vt = np.linalg.svd(a)
        assert error <= amplified * projected * (1 + 1e-8)
        assert projected <= np.linalg.norm(np.linalg.inv(vt[:k, j]), 2) * sigma[k] * (1 + 1e-8)


def test_deim_cur_bound(rng):
    """Sorensen and Embree: spectral error of C C⁺ A R⁺ R at most (η_p + η_q) σ_{k+1}."""
    for seed in range(10):
        source = np.random.default_rng(seed)
        a = families.with_spectrum(0.5 ** np.arange(20), source) @ source.standard_normal((20, 24))
        u, sigma, vt = np.linalg.svd(a, full_matrices=False)
        k = 5
        rows, columns = landmarks.deim(u[:, :k]).indices, landmarks.deim(vt[:k].T.copy()).indices
        eta = sum(np.linalg.norm(np.linalg.inv(w), 2) for w in (u[rows, :k], vt[:k, columns]))
        factor = lowrank.cur_factor(kernels.precomputed(a), rows, columns)
        error = np.linalg.norm(a - factor.left @ factor.right, 2)
        assert sigma[k] * (1 - 1e-9) <= error <= eta * sigma[k] * (1 + 1e-9)


def test_cross_exact_at_low_rank_and_degenerate(lane, rng):
    b = rng.standard_normal((20, 3)) @ rng.standard_normal((3, 15))
    kernel = kernels.precomputed(lane(b))
    for build in (lowrank.cross_factor, lowrank.cur_factor):
        factor = build(kernel, np.arange(8), np.arange(6))
        assert factor.rank == 3
        np.testing.assert_allclose(to_numpy(factor.left) @ to_numpy(factor.right), b, atol=1e-11)
        twice = build(kernel, [0, 1, 2, 0, 1, 2], [3, 4, 5, 3])
        np.testing.assert_allclose(to_numpy(twice.left) @ to_numpy(twice.right), b, atol=1e-10)
        zero = build(kernels.precomputed(lane(np.zeros((4, 5)))), [0, 1], [2])
        assert zero.rank == 0
        assert to_numpy(zero.apply(lane(np.ones(5)))).tolist() == [0] * 4
        assert zero.svd()[1].shape == (0,)
    ready = lowrank.ready_cross(landmarks.adaptive_cross(kernel, 5))
    assert (ready.rank, ready.entries) == (3, 0)
    np.testing.assert_allclose(to_numpy(ready.left) @ to_numpy(ready.right), b, atol=1e-11)


def test_oversampling_tames_the_core(rng):
    """As many rows as columns can be far worse than four times as many; median and worst of 40 draws."""
    a = families.with_spectrum(0.8 ** np.arange(60), rng)
    kernel = kernels.precomputed(a)
    worst = {}
    for rows in (10, 40):
        found = []
        for seed in range(40):
            source = np.random.default_rng(seed)
            factor = lowrank.cross_factor(
                kernel, source.choice(60, rows, replace=False), source.choice(60, 10, replace=False)
            )
            found.append(lowrank.residual_norms(kernel, factor).frobenius)
        worst[rows] = np.max(found)
    assert worst[40] < worst[10] / 3


def test_residual_norms_of_nystrom(rng):
    a = families.matrices(60)["gaussian"]
    kernel = kernels.precomputed(a)
    factor = lowrank.nystrom_factor(kernel, landmarks.pivoted_cholesky(kernel, 9))
    left = a - factor.factor @ factor.factor.T
    norms = lowrank.residual_norms(kernel, factor)
    assert norms.trace == pytest.approx(np.trace(left))
    assert norms.frobenius == pytest.approx(np.linalg.norm(left))
    assert norms.largest == pytest.approx(np.abs(left).max())
    assert norms.entries == 3600


def test_half_precision(rng):
    x = torch.asarray(rng.standard_normal((50, 3)), dtype=torch.bfloat16)
    kernel = kernels.gaussian(x, gamma=0.5)
    factor = lowrank.nystrom_factor(kernel, landmarks.accelerated_rpcholesky(kernel, 8))
    assert factor.factor.dtype == torch.float32
    assert factor.features(kernel, x[:3]).dtype == torch.float32


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("place", [(0, 0), (0, 5), (5, 0)])
def test_crosses_refuse_what_is_not_finite(bad, place, lane, rng):
    """In the crossing, in its columns and in its rows; `cur_factor`, which reads all entries, anywhere."""
    a = rng.standard_normal((6, 6))
    a[place] = bad
    for make in (lowrank.cross_factor, lowrank.cur_factor):
        with pytest.raises(errors.NonFiniteError, match="`kernel`"):
            make(kernels.precomputed(lane(a)), [0, 1], [0, 2])
    a = np.eye(6)
    a[5, 5] = bad
    with pytest.raises(errors.NonFiniteError, match="`kernel`"), np.errstate(invalid="ignore"):
        lowrank.cur_factor(kernels.precomputed(lane(a)), [0, 1], [0, 2])


@pytest.mark.parametrize("scale", [1e-30, 1e25])
def test_the_residual_of_a_cur_factor_in_float32_is_of_any_scale(scale, lane, rng):
    """Squares that float32 does not hold."""
    a = rng.standard_normal((9, 7))
    for power in (1.0, scale):
        found = lowrank.cur_factor(kernels.precomputed(lane((a * power).astype("float32"))), [0, 1], [0, 2])
        expected = a - to_numpy(found.left).astype(float) @ to_numpy(found.right).astype(float) / power
        # the difference of two squares, each right to some u of float32
        assert found.frobenius_residual / power == pytest.approx(np.linalg.norm(expected), rel=1e-5)


@pytest.mark.parametrize("make", [lowrank.cross_factor, lowrank.cur_factor])
def test_a_cross_takes_slices_and_short_integers(make, lane, rng):
    kernel = kernels.precomputed(lane(rng.standard_normal((6, 5))))
    expected = make(kernel, [0, 2, 4], [1, 2])
    for rows, columns in (
        (slice(0, 6, 2), slice(1, 3)),
        (lane(np.array([0, 2, 4], "uint8")), lane(np.array([1, 2], "int8"))),
    ):
        found = make(kernel, rows, columns)
        for name in ("rows", "columns", "left", "right"):
            np.testing.assert_array_equal(to_numpy(getattr(found, name)), to_numpy(getattr(expected, name)))
