"""The factor in chunks beside the one in memory, and ridge regression on it beside its definition."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

pytest.importorskip("distributed", reason="Dask is an optional peer")

import dask
import dask.array as da
import dask.dataframe as dd

from nystrom_numerics import kernels, landmarks, lowrank
from nystrom_numerics.errors import Status
from nystrom_numerics.integrations import dask as chunked

GAUSSIAN = partial(kernels.gaussian, gamma=0.1)


def forbidden(*_, **__):
    raise AssertionError("something was computed")


@pytest.fixture(autouse=True)
def in_this_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


def made(dtype="float64", n=600, m=40, rule=landmarks.uniform):
    x = np.random.default_rng(0).standard_normal((n, 4)).astype(dtype)
    kernel = chunked.chunked_kernel(GAUSSIAN, da.from_array(x, chunks=((100, 1, n - 101), (3, 1))))
    found = rule(x, m)
    return x, chunked.nystrom_factor(kernel, found), found


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("rule", [landmarks.uniform, landmarks.kmeans])
def test_the_factor_is_that_in_memory(dtype, rule):
    x, factor, found = made(dtype, rule=rule)
    own = lowrank.nystrom_factor(GAUSSIAN(x), found, diagonal=True)
    # of pivots equal up to rounding either may be the first: what is compared is FFᵀ, to the entries' error
    level = 64 * np.finfo(dtype).eps * np.abs(np.linalg.inv(own.triangle.astype(float))).sum(axis=1).max()
    some = own.factor[:50].T
    with dask.config.set(scheduler=forbidden):
        lazy, residual = factor.factor, factor.residual
    assert lazy.dtype == dtype
    assert lazy.chunks == ((100, 1, 499), (40,))
    np.testing.assert_allclose(lazy.compute() @ lazy[:50].compute().T, own.factor @ some, atol=level)
    np.testing.assert_allclose(residual.compute(), own.residual, atol=4 * level)
    assert factor.trace_residual() == pytest.approx(own.trace_residual, abs=600 * level)
    new = factor.features(x[:9]) @ lazy[:50].compute().T
    np.testing.assert_allclose(new, own.features(GAUSSIAN(x), x[:9]) @ some, atol=level)
    assert isinstance(factor.features(da.from_array(x, chunks=(99, 4))), da.Array)


@pytest.mark.parametrize("columns", [(), (3,)])
@pytest.mark.parametrize("ridge", [1e-3, 1.0])
def test_both_solvers_solve_ridge_regression(columns, ridge):
    r"""w = Fᵀ(FFᵀ + μI)⁻¹y, from the n × n matrix."""
    _, factor, _ = made()
    y = np.random.default_rng(1).standard_normal((600, *columns))
    f = factor.factor.compute()
    wanted = f.T @ np.linalg.solve(f @ f.T + ridge * np.eye(600), y)
    kappa = np.linalg.norm(f, 2) ** 2 / ridge
    for targets in (y, da.from_array(y, chunks=(77, *columns))):
        found = chunked.normal_equations(factor, targets, ridge)
        assert found.status is Status.CONVERGED
        assert np.all(found.residual < 1e-14)
        np.testing.assert_allclose(found.value, wanted, atol=1e-14 * kappa * np.abs(wanted).max())
    by_steps = chunked.falkon(factor, targets, ridge, tol=1e-10)
    assert by_steps.status is Status.CONVERGED
    assert by_steps.value.shape == wanted.shape
    assert np.all(by_steps.residual < 1e-9)
    # ‖w − w*‖ ≤ ‖residual‖ · ‖FᵀF + μI‖/μ relative to ‖w*‖
    assert np.linalg.norm(by_steps.value - wanted) < 1e-9 * (1 + kappa) * np.linalg.norm(wanted)


def test_sums_are_in_float64_whatever_the_dtype():
    """Of float32 features the normal equations are those of the features, not of their rounded products."""
    x, factor, _ = made("float32")
    y = np.sin(x[:, 0])
    f = factor.factor.compute().astype(float)
    wanted = np.linalg.solve(f.T @ f + 1e-4 * np.eye(40), f.T @ y.astype(float))
    found = chunked.normal_equations(factor, y, 1e-4)
    assert found.value.dtype == np.float64
    np.testing.assert_allclose(found.value, wanted, atol=1e-7 * np.abs(wanted).max())


def test_the_preconditioner_saves_iterations():
    """Against one of so few rows that it says next to nothing, and against none at all, for a small ridge."""
    x, factor, _ = made(n=1500, m=40)
    y, f = np.sin(x[:, 0]), factor.factor.compute()
    gram = f.T @ f + 1e-2 * np.eye(40)
    plain = lowrank.conjugate_gradients(lambda v: gram @ v, f.T @ y, tol=1e-6)
    ours = chunked.falkon(factor, y, 1e-2, tol=1e-6)
    few = chunked.falkon(factor, y, 1e-2, tol=1e-6, rows=40)
    assert ours.status is Status.CONVERGED
    assert 2 * int(ours.iterations) < min(int(plain.iterations), int(few.iterations))


def test_too_few_iterations_are_told():
    x, factor, _ = made()
    found = chunked.falkon(factor, np.sin(x[:, 0]), 1e-3, tol=1e-12, iterations=2, rows=40)
    assert found.status is Status.MAX_ITERATIONS
    assert found.residual > 1e-12


def test_targets_of_a_frame_and_a_series():
    x, factor, _ = made()
    y = da.from_array(np.sin(x[:, :2]), chunks=(100, 2))
    frame = dd.from_dask_array(y, columns=["a", "b"])
    whole = chunked.normal_equations(factor, y, 0.1).value
    np.testing.assert_array_equal(chunked.normal_equations(factor, frame, 0.1).value, whole)
    assert chunked.normal_equations(factor, frame["a"], 0.1).value.shape == (40,)


def test_a_zero_kernel_has_no_features():
    kernel = chunked.chunked_kernel(partial(kernels.polynomial, degree=1, coef0=0.0), np.zeros((9, 2)))
    found = chunked.accelerated_rpcholesky(kernel, 3)
    factor = chunked.nystrom_factor(kernel, found)
    assert factor.factor.shape == (9, 0)
    for solver in (chunked.normal_equations, chunked.falkon):
        assert solver(factor, np.ones(9), 1.0).value.shape == (0,)
