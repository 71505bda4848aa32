"""Columns and rows of a matrix or a basis, and crosses: definitions, bounds, ends, bad input."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import scipy.linalg
import torch

from nystrom_numerics import errors, kernels, landmarks
from nystrom_numerics.backend import to_numpy
from tests import families

RULES = {
    "deim": landmarks.deim,
    "qdeim": landmarks.qdeim,
    "maxvol": landmarks.maxvol,
    "adaptive_randomized_pivoting": landmarks.adaptive_randomized_pivoting,
}


def bases(n=60, r=7):
    """Orthonormal bases: random, graded, with equal rows, of cosines, with a single heavy row."""
    rng = np.random.default_rng(5)
    cosines = np.cos(np.pi * np.outer(np.arange(n) + 0.37, np.arange(r)) / n)
    graded = rng.standard_normal((n, r)) * 10.0 ** -np.linspace(0, 8, n)[:, None]
    equal = np.repeat(rng.standard_normal((n // 4, r)), 4, axis=0)
    heavy = np.r_[1e6 * np.eye(r)[:1], rng.standard_normal((n - 1, r))]
    return {
        name: np.linalg.qr(x)[0]
        for name, x in {
            "random": rng.standard_normal((n, r)),
            "graded": graded,
            "equal rows": equal,
            "cosines": cosines,
            "heavy row": heavy,
        }.items()
    }


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("basis", bases())
def test_lanes_agree(rule, basis, lane):
    u = bases()[basis]
    expected = RULES[rule](u).indices
    found = RULES[rule](lane(u))
    lane.assert_close(found.indices, expected, lane(expected), rtol=0)
    assert found.entries == 0
    assert len(set(expected.tolist())) == u.shape[1]


@pytest.mark.parametrize("basis", bases())
def test_norms_of_the_inverse_stay_within_their_bounds(basis):
    u = bases()[basis]
    n, r = u.shape
    bounds = {
        "deim": np.sqrt(n * r / 3) * 2**r,
        "qdeim": np.sqrt(n - r + 1) * np.sqrt(4**r + 6 * r - 1) / 3,
        "maxvol": np.sqrt(1 + r * (n - r) * 1.05**2),
    }
    for rule, bound in bounds.items():
        found = np.linalg.norm(np.linalg.inv(u[RULES[rule](u).indices]), 2)
        assert found * (1 + 1e-9) >= 1
        assert found <= bound


def test_deim_matches_its_definition():
    for u in bases().values():
        rows = [int(np.abs(u[:, 0]).argmax())]
        for j in range(1, u.shape[1]):
            c = np.linalg.solve(u[rows][:, :j], u[rows, j])
            rows.append(int(np.abs(u[:, j] - u[:, :j] @ c).argmax()))
        assert landmarks.deim(u).indices.tolist() == rows


def test_maxvol_is_dominant_and_near_the_best():
    for u in bases(14, 3).values():
        found = landmarks.maxvol(u, tol=0.0).indices
        assert np.abs(u @ np.linalg.inv(u[found])).max() <= 1 + 1e-9
        volume = abs(np.linalg.det(u[found]))
        best = max(abs(np.linalg.det(u[list(s)])) for s in combinations(range(len(u)), 3))
        assert best / 3**1.5 <= volume <= best * (1 + 1e-9)


def test_maxvol_of_the_matrix_itself_bounds_the_largest_error():
    """‖A − C W⁻¹ R‖_max ≤ (r+1) σ_{r+1} where W has the largest volume of all r × r submatrices."""
    rng = np.random.default_rng(2)
    for _ in range(20):
        a = rng.standard_normal((5, 6)) * 2.0 ** -np.arange(6)
        for r in (1, 2, 3):
            volume, rows, columns = max(
                (abs(np.linalg.det(a[np.ix_(i, j)])), i, j)
                for i in combinations(range(5), r)
                for j in combinations(range(6), r)
            )
            i, j = list(rows), list(columns)
            left = a - a[:, j] @ np.linalg.solve(a[np.ix_(i, j)], a[i])
            assert np.abs(left).max() <= (r + 1) * np.linalg.svd(a)[1][r] * (1 + 1e-9)
            assert volume > 0


def test_rectangular_maxvol(lane):
    for u in bases().values():
        square = landmarks.maxvol(u).indices.tolist()
        norms = []
        for m in (7, 8, 12, 30, 60):
            found = landmarks.rectangular_maxvol(lane(u), m)
            rows = to_numpy(found.indices).tolist()
            assert rows[:7] == square
            assert len(set(rows)) == m
            norms.append(np.linalg.norm(np.linalg.pinv(u[rows]), 2))
        assert (np.diff(norms) <= 1e-9).all()
        assert norms[-1] == pytest.approx(1)
        rows = landmarks.rectangular_maxvol(u, 12).indices.tolist()
        for k in range(7, 12):  # greedy, by definition: the row that raises the volume most
            gain = np.linalg.norm(u @ np.linalg.pinv(u[rows[:k]]), axis=1)
            gain[rows[:k]] = 0
            assert gain[rows[k]] >= gain.max() * (1 - 1e-9)


def test_pivoted_qr_matches_lapack(lane, dtype, rng):
    a = (rng.standard_normal((30, 50)) * 0.8 ** np.arange(50)).astype(dtype)
    expected = scipy.linalg.qr(a.astype(float), pivoting=True, mode="r")[1][:12]
    found = landmarks.pivoted_qr(lane(a), 12)
    assert to_numpy(found.indices).tolist() == expected.tolist()
    assert found.entries == 1500


def test_pivoted_qr_to_the_end(rng):
    """Past the digits of the first columns, where downdated lengths would be noise."""
    for a in (families.with_spectrum(10.0 ** -np.arange(0, 15, 0.5), rng), families.kahan(40)):
        found = landmarks.pivoted_qr(a, len(a)).indices
        q, _ = np.linalg.qr(a[:, found])
        assert np.linalg.norm(a - q @ (q.T @ a)) < 1e-13 * np.linalg.norm(a)
        r = np.abs(np.linalg.qr(a[:, found])[1].diagonal())
        assert (r[1:] <= r[:-1] * (1 + 1e-2) + 1e-14 * r[0]).all()


def test_pivoted_qr_ends_with_the_rank_found(lane, dtype, rng):
    b = (rng.standard_normal((20, 4)) @ rng.standard_normal((4, 30))).astype(dtype)
    assert landmarks.pivoted_qr(lane(b), 15).indices.shape == (4,)
    assert landmarks.pivoted_qr(lane(np.zeros((3, 3), dtype)), 3).indices.shape == (0,)
    assert landmarks.pivoted_qr(lane(np.ones((3, 9), dtype)), 3).indices.shape == (1,)
    assert landmarks.pivoted_qr(lane(rng.standard_normal((3, 9)).astype(dtype)), 9).indices.shape == (3,)


@pytest.mark.parametrize("rule", RULES)
def test_bad_bases(rule):
    for basis, error in [
        (np.ones((2, 3)), errors.ShapeError),
        (np.ones(3), errors.ShapeError),
        (np.ones((2, 3, 2)), errors.ShapeError),
        (np.ones((3, 0)), errors.ShapeError),
        (np.ones((3, 2), int), errors.DTypeError),
        ([[1.0]], errors.NamespaceError),
        (np.full((3, 2), np.nan), errors.NonFiniteError),
    ]:
        with pytest.raises(error):
            RULES[rule](basis)


def test_bad_options(rng):
    u = bases()["random"]
    for call, argument in [
        (lambda: landmarks.maxvol(u, tol=-1.0), "tol"),
        (lambda: landmarks.maxvol(u, iterations=-1), "iterations"),
        (lambda: landmarks.maxvol(np.ones((5, 2))), "basis"),
        (lambda: landmarks.rectangular_maxvol(u, 6), "m"),
        (lambda: landmarks.rectangular_maxvol(u, 61), "m"),
        (lambda: landmarks.pivoted_qr(u, 8), "m"),
        (lambda: landmarks.pivoted_qr(u, 2, rtol=1.0), "rtol"),
        (lambda: landmarks.pivoted_qr(u[None], 2), "a"),
        (lambda: landmarks.pivoted_qr(u * np.nan, 2), "a"),
    ]:
        with pytest.raises(errors.ArgumentError) as caught:
            call()
        assert caught.value.argument == argument


def test_half_precision_basis(rng):
    u = torch.asarray(bases()["random"], dtype=torch.float16)
    for rule in RULES.values():
        assert torch.equal(rule(u).indices, rule(u.float()).indices)


# --- adaptive cross approximation


def test_cross_interpolates_and_counts(lane, dtype, rng):
    q, k = rng.standard_normal((40, 4)).astype(dtype), rng.standard_normal((30, 4)).astype(dtype)
    kernel = kernels.softmax(lane(q), lane(k))
    found = landmarks.adaptive_cross(kernel, 12, rng=3)
    expected = landmarks.adaptive_cross(kernels.softmax(q, k), 12, rng=3)
    lane.assert_close(found.rows, expected.rows, lane(expected.rows), rtol=0)
    lane.assert_close(found.columns, expected.columns, lane(expected.columns), rtol=0)
    assert found.entries == 12 * 70
    a = np.exp(q.astype(float) @ k.T.astype(float) / 2)
    left = a - to_numpy(found.left).astype(float) @ to_numpy(found.right)
    tol = 1e-3 if dtype == "float32" else 1e-10
    np.testing.assert_allclose(left[to_numpy(found.rows)], 0, atol=tol * a.max())
    np.testing.assert_allclose(left[:, to_numpy(found.columns)], 0, atol=tol * a.max())
    i, j = to_numpy(found.rows), to_numpy(found.columns)
    w = a[np.ix_(i, j)]
    np.testing.assert_allclose(left, a - a[:, j] @ np.linalg.solve(w, a[i]), atol=10 * tol * a.max())


def test_cross_ends_with_the_rank_found(lane, rng):
    b = rng.standard_normal((20, 3)) @ rng.standard_normal((3, 15))
    found = landmarks.adaptive_cross(kernels.precomputed(lane(b)), 10)
    assert found.rows.shape == found.columns.shape == (3,)
    np.testing.assert_allclose(to_numpy(found.left) @ to_numpy(found.right), b, atol=1e-12)
    zero = landmarks.adaptive_cross(kernels.precomputed(lane(np.zeros((6, 7)))), 4)
    assert (zero.rows.shape, zero.left.shape, zero.right.shape) == ((0,), (6, 0), (0, 7))
    spikes = np.zeros((9, 9))
    spikes[2, 5] = spikes[7, 1] = 1.0  # rows of zeros between, each tried once
    assert landmarks.adaptive_cross(kernels.precomputed(lane(spikes)), 9).rows.shape == (2,)


def test_cross_error_on_smooth_kernels(rng):
    """Near the singular values on smooth kernels, where partial pivoting is used in practice."""
    x, y = rng.uniform(0, 1, (80, 2)), rng.uniform(0, 1, (70, 2))
    kernel = kernels.gaussian(x, y, gamma=1.0)
    a = kernel.block(slice(None), slice(None))
    sigma = np.linalg.svd(a)[1]
    for m in (5, 10, 20):
        found = landmarks.adaptive_cross(kernel, m)
        assert np.linalg.norm(a - found.left @ found.right, 2) < 100 * sigma[m]


def test_cross_seed_and_bad_input(rng):
    a = rng.standard_normal((8, 8))
    kernel = kernels.precomputed(a)
    one, same = (landmarks.adaptive_cross(kernel, 3, rng=1) for _ in range(2))
    np.testing.assert_array_equal(one.rows, same.rows)
    assert one.seed == 1
    assert len({int(landmarks.adaptive_cross(kernel, 3, rng=s).rows[0]) for s in range(20)}) > 3
    for m in (0, 9, 2.0):
        with pytest.raises(errors.RangeError, match="`m`"):
            landmarks.adaptive_cross(kernel, m)
    with pytest.raises(errors.RangeError, match="`rtol`"):
        landmarks.adaptive_cross(kernel, 2, rtol=2.0)
    a[3] = np.nan
    with pytest.raises(errors.NonFiniteError, match="`kernel`"):
        landmarks.adaptive_cross(kernels.precomputed(a), 8)
