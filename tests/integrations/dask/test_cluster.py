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


def read(x, *, log, last):
    """The chunk; the process that reads the ``last``-th of all ends with it."""
    with open(log, "ab", buffering=0) as file:
        file.write(b".")
        if file.tell() == last:
            Path(log).with_suffix(".died").touch()
            os._exit(1)
    return x


def results(x, y):
    """Landmarks by the rule that keeps a state on the workers and by one that does not, and weights by both solvers."""
    kernel = chunked.chunked_kernel(GAUSSIAN, x)
    pivots = chunked.accelerated_rpcholesky(kernel, 20, rng=1)
    factor = chunked.nystrom_factor(kernel, pivots)
    solved = [solver(factor, y, 1e-2) for solver in (chunked.normal_equations, chunked.falkon)]
    means = chunked.kmeans(x, 5, iterations=2, rng=1)
    return [pivots.indices, pivots.residual, *(one.value for one in solved), means.points]


def test_a_worker_that_dies_changes_nothing(client, tmp_path):
    """It dies while pivots are chosen, in the passes of conjugate gradients, and with the distances of k-means."""
    rng = np.random.default_rng(0)
    x = da.from_array(rng.standard_normal((3000, 4)), chunks=(600, 4))
    y = da.from_array(rng.standard_normal(3000), chunks=600)
    log = tmp_path / "whole"
    alive = x.map_blocks(read, log=str(log), last=-1, dtype=x.dtype, meta=x._meta)
    wanted = results(alive, y)
    reads = log.stat().st_size
    assert not log.with_suffix(".died").exists()
    for share in (0.2, 0.9):
        log = tmp_path / f"{share}"
        watched = x.map_blocks(read, log=str(log), last=int(share * reads), dtype=x.dtype, meta=x._meta)
        found = results(watched, y)
        assert log.with_suffix(".died").exists()
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(one, other)
    own = landmarks.accelerated_rpcholesky(GAUSSIAN(x.compute()), 20, rng=1)
    np.testing.assert_array_equal(own.indices, wanted[0])


def test_what_does_not_fit_on_a_worker_is_refused_by_its_own_limit(client):
    with pytest.raises(errors.MemoryLimitError, match="at most 2 GB, the memory of a worker"):
        chunked.chunked_kernel(GAUSSIAN, da.zeros((10**8, 16), chunks=(10**7, 16)))
