"""Points in chunks: in memory, of a file, of Zarr; what is refused, and before anything is computed."""

from __future__ import annotations

import pickle
from functools import partial

import numpy as np
import pytest

pytest.importorskip("distributed", reason="Dask is an optional peer")

import dask
import dask.array as da
import dask.dataframe as dd

from nystrom_numerics import errors, kernels
from nystrom_numerics.integrations import dask as chunked
from nystrom_numerics.integrations.dask import chunks
from nystrom_numerics.landmarks import ColumnSubset, LandmarkPoints

GAUSSIAN = partial(kernels.gaussian, gamma=0.1)


def forbidden(*_, **__):
    raise AssertionError("something was computed")


@pytest.fixture(autouse=True)
def in_this_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.fixture
def x():
    return np.random.default_rng(0).standard_normal((300, 4))


def test_wherever_the_points_are_the_kernel_is_the_same(x, tmp_path):
    np.save(tmp_path / "x.npy", x)
    places = {
        "memory": da.from_array(x, chunks=(70, 3)),
        "NumPy": x,
        "file": chunked.memory_mapped(tmp_path / "x.npy", rows=70),
        "frame": dd.from_dask_array(da.from_array(x, chunks=(70, 4)), columns=list("abcd")),
    }
    zarr = pytest.importorskip("zarr", reason="Zarr is an optional peer")
    zarr.save(str(tmp_path / "x.zarr"), x)
    places["zarr"] = da.from_zarr(str(tmp_path / "x.zarr")).rechunk((70, 4))
    index = np.array([299, 3, 3, 70])
    wanted = GAUSSIAN(x).block(index, index)
    for place in places.values():
        kernel = chunked.chunked_kernel(GAUSSIAN, place)
        assert kernel.shape == (300, 300)
        np.testing.assert_array_equal(kernel.gather(index), x[index])
        np.testing.assert_allclose(kernel.block(index, index), wanted, atol=1e-15)
        np.testing.assert_array_equal(kernel.diagonal(), np.ones(300))
    assert kernel.entries == 16 + 300


def test_of_a_file_only_its_name_travels(x, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((10**5, 4)))
    found = chunked.memory_mapped(str(tmp_path / "x.npy"), rows=10**4)
    assert found.numblocks == (10, 1)
    assert len(pickle.dumps(dict(found.dask))) < 2e4
    assert float(found.sum().compute()) == 0.0
    for path in (tmp_path / "none.npy", tmp_path):
        with pytest.raises(errors.RangeError, match="`path`"):
            chunked.memory_mapped(path)


def test_empty_chunks_and_unknown_lengths(x):
    some = da.from_array(x, chunks=((70, 30, 200), 4))
    filtered = some[some[:, 0] > -10]
    with pytest.raises(errors.ShapeError, match="compute_chunk_sizes"):
        chunked.chunked_kernel(GAUSSIAN, filtered)
    half = da.concatenate([some, some[:0]])
    assert chunked.uniform(half, 5).indices.tolist() == chunked.uniform(x, 5).indices.tolist()
    assert chunked.chunked_kernel(GAUSSIAN, half).x.numblocks == (3, 1)


def test_a_kernel_as_any_other_gathers_what_is_asked_for(x):
    kernel = chunked.chunked_kernel(GAUSSIAN, da.from_array(x, chunks=(70, 4)))
    same = GAUSSIAN(x)
    np.testing.assert_allclose(kernel.columns([5, 2]), same.columns([5, 2]), atol=1e-15)
    np.testing.assert_allclose(kernel.cross(x[:3]), same.cross(x[:3]), atol=1e-15)
    np.testing.assert_allclose(kernel.apply(x), same.apply(x), atol=1e-12)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: chunked.chunked_kernel(GAUSSIAN, x),
        lambda x: chunked.kmeans(x, 4),
        lambda x: chunked.Nystroem().fit(x),
    ],
)
def test_chunks_beyond_a_worker_are_refused_before_anything_is_computed(call, monkeypatch):
    monkeypatch.setattr(chunks, "MEMORY_LIMIT", 10**9)
    monkeypatch.setattr(chunks, "CPU_COUNT", 1)
    with dask.config.set(scheduler=forbidden), pytest.raises(errors.MemoryLimitError) as refused:
        call(da.zeros((10**9, 16), chunks=(10**8, 16)))
    assert "takes 38.4 GB" in str(refused.value) or "takes 41.6 GB" in str(refused.value)
    assert "at most 1 GB" in str(refused.value)
    assert isinstance(refused.value, MemoryError)


def test_what_would_not_fit_here_or_there_is_refused(x, monkeypatch):
    """Scores and residuals of all points here, cores here, and features and their products on a worker."""
    kernel = chunked.chunked_kernel(GAUSSIAN, da.from_array(x, chunks=(70, 4)))
    factor = chunked.nystrom_factor(kernel, chunked.uniform(x, 30))
    map_ = chunked.Nystroem(n_components=30).fit(x)
    y = np.ones(300)
    monkeypatch.setattr(chunks, "CPU_COUNT", 1)
    refused = {
        11_000: [
            lambda: chunked.ridge_leverage(kernel, 10),
            lambda: kernel.block(slice(None), slice(100)),
            lambda: chunked.normal_equations(factor, y, 1.0),
            lambda: chunked.falkon(factor, y, 1.0),
            lambda: chunked.nystrom_factor(kernel, chunked.uniform(x, 20)),
            lambda: factor.features(da.from_array(x, chunks=(70, 4))),
            lambda: map_.transform(da.from_array(x, chunks=(70, 4))),
        ],
        9_000: [lambda: chunked.accelerated_rpcholesky(kernel, 10)],
        2_000: [lambda: kernel.diagonal(), lambda: kernel.gather(np.arange(100))],
    }
    for limit, calls in refused.items():
        monkeypatch.setattr(chunks, "MEMORY_LIMIT", limit)
        for call in calls:
            with dask.config.set(scheduler=forbidden), pytest.raises(errors.MemoryLimitError, match="GB"):
                call()


def test_bad_input(x):
    some = da.from_array(x, chunks=(70, 4))
    kernel = chunked.chunked_kernel(GAUSSIAN, some)
    factor = chunked.nystrom_factor(kernel, chunked.uniform(some, 5))
    nan = da.where(some > 2, np.nan, some)
    beyond = LandmarkPoints(np.ones((2, 5)), None, 0, None)
    invalid = ColumnSubset(np.zeros(2, dtype=np.int64), np.array([True, False]), 0, None)
    for error, argument, call in [
        (errors.NamespaceError, "x", lambda: chunked.chunked_kernel(GAUSSIAN, x.tolist())),
        (errors.DTypeError, "x", lambda: chunked.chunked_kernel(GAUSSIAN, some.astype(int))),
        (errors.ShapeError, "x", lambda: chunked.chunked_kernel(GAUSSIAN, some[:, 0])),
        (errors.ShapeError, "x", lambda: chunked.chunked_kernel(GAUSSIAN, x[:0])),
        (errors.KindError, "make", lambda: chunked.chunked_kernel("rbf", some)),
        (errors.KindError, "make", lambda: chunked.chunked_kernel(lambda x: x, some)),
        (errors.KindError, "kernel", lambda: chunked.ridge_leverage(kernels.gaussian(x, gamma=1.0), 3)),
        (errors.RangeError, "m", lambda: chunked.accelerated_rpcholesky(kernel, 301)),
        (errors.RangeError, "landmarks", lambda: chunked.nystrom_factor(kernel, invalid)),
        (errors.ShapeError, "landmarks", lambda: chunked.nystrom_factor(kernel, beyond)),
        (errors.ShapeError, "x", lambda: factor.features(x[:, :3])),
        (errors.NonFiniteError, "kernel", lambda: factor.features(nan).compute()),
        (errors.NonFiniteError, "x", lambda: chunked.kmeans(nan, 5)),
        (errors.ShapeError, "y", lambda: chunked.normal_equations(factor, x[:9, 0], 1.0)),
        (errors.NonFiniteError, "y", lambda: chunked.normal_equations(factor, nan[:, 0], 1.0)),
        (errors.NonFiniteError, "y", lambda: chunked.falkon(factor, nan[:, 0], 1.0)),
        (errors.RangeError, "ridge", lambda: chunked.normal_equations(factor, x[:, 0], 1e-16)),
        (errors.RangeError, "rows", lambda: chunked.falkon(factor, x[:, 0], 1.0, rows=301)),
    ]:
        with pytest.raises(error) as raised:
            call()
        assert raised.value.argument == argument, raised.value
