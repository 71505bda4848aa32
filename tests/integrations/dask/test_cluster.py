# ruff: noqa: E402
"""On a cluster of processes, of which one dies half-way: nothing of the results changes, to the bit."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest

distributed = pytest.importorskip("distributed", reason="Dask is an optional peer")

import dask.array as da

from nystrom_numerics import errors, kernels, landmarks
from nystrom_numerics.integrations import dask as chunked

GAUSSIAN = partial(kernels.gaussian, gamma=0.1)


@pytest.fixture(scope="module")
def client():
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            memory_limit=2_000_000_000,
            dashboard_address=":0",
            silence_logs="CRITICAL",
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def read(x, *, log, deaths):
    """The chunk; of all reads those numbered in ``deaths`` end their process."""
    with open(log, "ab", buffering=0) as file:
        file.write(b".")
        place = file.tell()
    if place in deaths:
        Path(log).with_suffix(f".{place}").touch()
        os._exit(1)
    return x


def results(x, y, log, deaths):
    """Landmarks by the rule that keeps a state on the workers and by one that does not, and weights by both solvers."""
    x = x.map_blocks(read, log=str(log), deaths=deaths, dtype=x.dtype, meta=x._meta)
    means = chunked.kmeans(x, 4, iterations=1, rng=1)
    kernel = chunked.chunked_kernel(GAUSSIAN, x)
    pivots = chunked.accelerated_rpcholesky(kernel, 10, block=10, rng=1)
    factor = chunked.nystrom_factor(kernel, pivots)
    weights = (chunked.normal_equations(factor, y, 1e-2), chunked.falkon(factor, y, 1e-2, tol=1e-2))
    return [means.points, pivots.indices, pivots.residual, *(one.value for one in weights)]


def test_a_worker_that_dies_changes_nothing(client, tmp_path):
    """One with the distances of k-means on it, one in the passes for the weights."""
    rng = np.random.default_rng(0)
    x = da.from_array(rng.standard_normal((2000, 4)), chunks=(500, 4))
    y = da.from_array(rng.standard_normal(2000), chunks=500)
    wanted = results(x, y, tmp_path / "whole", ())
    reads = (tmp_path / "whole").stat().st_size
    deaths = (10, reads - 3)
    found = results(x, y, tmp_path / "watched", deaths)
    for place in deaths:
        assert (tmp_path / f"watched.{place}").exists()
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)
    own = landmarks.accelerated_rpcholesky(GAUSSIAN(x.compute()), 10, block=10, rng=1)
    np.testing.assert_array_equal(own.indices, wanted[1])


def test_what_does_not_fit_on_a_worker_is_refused_by_its_own_limit(client):
    with pytest.raises(errors.MemoryLimitError, match="at most 2 GB, the memory of a worker"):
        chunked.chunked_kernel(GAUSSIAN, da.zeros((10**8, 16), chunks=(10**7, 16)))
