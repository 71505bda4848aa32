"""For one seed the landmarks in chunks are those in memory: uniform ones to the bit, others up to rounding."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

pytest.importorskip("distributed", reason="Dask is an optional peer")

import dask
import dask.array as da

from nystrom_numerics import errors, kernels, landmarks
from nystrom_numerics.integrations import dask as chunked
from nystrom_numerics.integrations.dask import landmarks as rules
from tests.thorough import many

GAUSSIAN = partial(kernels.gaussian, gamma=0.1)
RAGGED = (301, 1, 500, 198)


@pytest.fixture(autouse=True)
def in_this_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


def points(dtype, seed=0, n=1000):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((n, 4)) * (1 + 3 * (rng.random((n, 1)) < 0.02))).astype(dtype)


@pytest.mark.parametrize(("dtype", "split"), [("float64", RAGGED), ("float32", RAGGED), ("float32", (1000,))])
def test_as_in_memory(dtype, split):
    for seed in range(many(20, 1)):
        x = points(dtype, seed)
        parts = da.from_array(x, chunks=(split, 4))
        here, there = GAUSSIAN(x), chunked.chunked_kernel(GAUSSIAN, parts)
        for rule in ("ridge_leverage", "accelerated_rpcholesky"):
            own = getattr(landmarks, rule)(here, 25, rng=seed)
            found = getattr(chunked, rule)(there, 25, rng=seed)
            np.testing.assert_array_equal(found.indices, own.indices)
            assert found.seed == seed
        level = 64 * np.finfo(dtype).eps
        np.testing.assert_allclose(found.residual, own.residual, atol=level)
        np.testing.assert_array_equal(
            chunked.uniform(parts, 25, rng=seed).indices, landmarks.uniform(x, 25, rng=seed).indices
        )
        own = landmarks.kmeans(x, 6, iterations=3, rng=seed)
        found = chunked.kmeans(parts, 6, iterations=3, rng=seed)
        np.testing.assert_allclose(found.points, own.points, atol=8 * level)
        np.testing.assert_array_equal(found.valid, own.valid)
        assert found.points.dtype == x.dtype


def test_uniform_is_drawn_in_parts_and_leaves_the_generator_where_it_would_be(monkeypatch):
    monkeypatch.setattr(rules, "_DRAWN", 7)
    ours, theirs = np.random.default_rng(3), np.random.default_rng(3)
    for m in (1, 9, 100):
        x = np.zeros((100, 2))
        found = chunked.uniform(da.from_array(x, chunks=(30, 2)), m, rng=ours)
        np.testing.assert_array_equal(found.indices, landmarks.uniform(x, m, rng=theirs).indices)
    assert ours.random() == theirs.random()


def test_of_equal_keys_the_first_points_win(monkeypatch):
    class Coarse(np.random.Generator):
        def random(self, size=None):
            return np.round(super().random(size), 1)

    monkeypatch.setattr(rules, "_DRAWN", 7)
    x = np.zeros((90, 2))
    ours, theirs = (Coarse(np.random.PCG64(5)) for _ in range(2))
    np.testing.assert_array_equal(
        chunked.uniform(x, 20, rng=ours).indices, landmarks.uniform(x, 20, rng=theirs).indices
    )


@pytest.mark.parametrize("block", [2, 100])
def test_pivots_in_blocks_of_any_size_and_their_entries(block):
    x = points("float64")
    here, there = GAUSSIAN(x), chunked.chunked_kernel(GAUSSIAN, da.from_array(x, chunks=(400, 4)))
    own = landmarks.accelerated_rpcholesky(here, 12, block=block, rng=1)
    found = chunked.accelerated_rpcholesky(there, 12, block=block, rng=1)
    np.testing.assert_array_equal(found.indices, own.indices)
    assert found.factor is None
    assert own.entries <= found.entries <= 12 * own.entries  # a round makes its columns anew, of 12 at most


def test_exhausted_and_duplicate_points():
    x = np.repeat(np.eye(3), 40, axis=0)
    parts = da.from_array(x, chunks=(50, 3))
    kernel = chunked.chunked_kernel(partial(kernels.gaussian, gamma=1.0), parts)
    assert len(chunked.accelerated_rpcholesky(kernel, 10).indices) == 3
    own = landmarks.kmeans(x, 5)
    found = chunked.kmeans(parts, 5)
    np.testing.assert_array_equal(found.valid, own.valid)
    np.testing.assert_array_equal(found.points, own.points)
    assert found.valid.sum() == 3


def test_other_kernels():
    x = points("float64", n=500)
    parts = da.from_array(x, chunks=(150, 4))
    for make in (
        partial(kernels.matern, nu=1.5, length_scale=2.0),
        partial(kernels.polynomial, degree=2, gamma=0.1),
        partial(kernels.custom, lambda a, b: np.exp(-0.1 * ((a[:, None] - b[None]) ** 2).sum(-1))),
    ):
        here, there = make(x), chunked.chunked_kernel(make, parts)
        for rule in ("ridge_leverage", "accelerated_rpcholesky"):
            own, found = (
                getattr(where, rule)(k, 9, rng=2) for where, k in ((landmarks, here), (chunked, there))
            )
            np.testing.assert_array_equal(found.indices, own.indices)


def test_indefinite_and_asymmetric_kernels_are_refused():
    """As in memory: by the residual, or by the entries of the pivots, which are all that is seen of the others."""
    x = da.from_array(points("float64"), chunks=(400, 4))
    negative = chunked.chunked_kernel(partial(kernels.custom, lambda a, b: -a @ b.T), x)
    askew = partial(
        kernels.custom, lambda a, b: np.exp(-((a[:, None] - b[None]) ** 2).sum(-1)) * (1 + 0.1 * a[:, :1])
    )
    for kernel in (negative, chunked.chunked_kernel(askew, x)):
        for rule in (chunked.accelerated_rpcholesky, chunked.ridge_leverage):
            with pytest.raises(errors.IndefiniteError, match="`kernel`"):
                rule(kernel, 20)


def test_many_equal_weights_in_float32():
    """Beyond 2²⁴ a sum in float32 stands still when one is added: the later points must still be drawn."""

    class Chosen(np.random.Generator):
        def random(self, size=None):
            return np.array([0.0, 0.99])

    x = np.ones((2**20 + 2, 1), dtype=np.float32)
    x[0], x[1] = 0.0, 2.0**12  # the first centre, and one of weight 2²⁴; the others weigh one each
    for rule in (landmarks.kmeans, chunked.kmeans):
        found = rule(x, 2, iterations=0, rng=Chosen(np.random.PCG64()))
        assert found.points[:, 0].tolist() == [0.0, 1.0]
