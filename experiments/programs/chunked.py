"""Ridge regression on points of a file by workers with little memory, beside the same in memory; a program of its own.

``python -m experiments.programs.chunked JSON`` prints its rows as JSON.  The claim runs it as a process: a
worker of a cluster cannot begin workers itself, and what is measured of these must not be what came before.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from experiments.contract import Row
from nystrom_numerics import kernels, landmarks, lowrank

WORKER_MEMORY = 4_000_000_000
TESTED, NOISE, D = 10_000, 0.5, 16
RIDGE = 1e-6  # of n
KERNEL = partial(kernels.gaussian, gamma=1 / (2 * D))
AT_ONCE = 2**18  # rows; a tenth of the points where there are few
STRIP = 2**12  # rows of F that are widened at once
RUNS: dict[str, Any] = {
    "in memory": None,
    "1 worker": (1, False),
    "2 workers": (2, False),
    "2 workers, one dies": (2, True),
}
"""Each with its number of workers, and whether one of them dies."""


def main() -> None:
    """The rows of the parameters given as JSON."""
    print(json.dumps(regressions(**json.loads(sys.argv[1]))))


def regressions(n: int, n_memory: int, n_peer: int, m: int, by: str, seed: int) -> list[Row]:
    """By name of :data:`RUNS`; in memory is beside scikit-learn's on few of the points."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        _write(place, n + TESTED, seed)
        if RUNS[by] is not None:
            return [_by_workers(place, n, m, seed, by, *RUNS[by])]
        x, y = (np.load(place / f"{name}.npy", mmap_mode="r") for name in "xy")
        return [_in_memory(x, y, n_memory, m, seed), *_of_scikit_learn(x, y, n_peer, m, seed)]


def _write(place: Path, n: int, seed: int) -> None:
    """Normal points (n, d), and of each a smooth function with noise; in float32, block after block."""
    x = np.lib.format.open_memmap(place / "x.npy", mode="w+", dtype=np.float32, shape=(n, D))
    y = np.lib.format.open_memmap(place / "y.npy", mode="w+", dtype=np.float32, shape=(n,))
    for start in range(0, n, AT_ONCE):
        rng = np.random.default_rng([seed, start])
        part = rng.standard_normal((min(AT_ONCE, n - start), D), dtype=np.float32)
        x[start : start + AT_ONCE] = part
        noise = NOISE * rng.standard_normal(len(part), dtype=np.float32)
        y[start : start + AT_ONCE] = np.sin(2 * part[:, 0]) + part[:, 1] * part[:, 2] / 2 + noise


def _error(predicted: Any, y: Any) -> float:
    """Root mean square on the last points, the noise included."""
    return float(np.sqrt(np.mean((predicted - y[-TESTED:]) ** 2)))


def _row(method: str, n: int, start: tuple[float, float], load: float, **more: Any) -> Row:
    seconds, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
    return {"method": method, "n": n, "seconds": seconds, "cpu": cpu, "load": load, **more}


def _now() -> tuple[tuple[float, float], float]:
    return (time.perf_counter(), time.process_time()), os.getloadavg()[0]


def _in_memory(x: Any, y: Any, n: int, m: int, seed: int) -> Row:
    """By normal equations too, in float64 from all of F: the same arithmetic without chunks, files and workers."""
    x_here, y_here = np.array(x[:n]), np.array(y[:n])
    start, load = _now()
    kernel = KERNEL(x_here)
    factor = lowrank.nystrom_factor(kernel, landmarks.uniform(x_here, m, rng=seed))
    gram, right = np.zeros((factor.rank, factor.rank)), np.zeros(factor.rank)
    for i in range(0, n, STRIP):
        rows = factor.factor[i : i + STRIP].astype(float)
        gram += rows.T @ rows
        right += rows.T @ y_here[i : i + STRIP]
    w = np.linalg.solve(gram + RIDGE * n * np.eye(factor.rank), right)
    row = _row("in memory", n, start, load)
    return {**row, "error": _error(factor.features(kernel, np.array(x[-TESTED:])) @ w, y)}


def _of_scikit_learn(x: Any, y: Any, n: int, m: int, seed: int) -> list[Row]:
    from sklearn.kernel_approximation import Nystroem
    from sklearn.kernel_ridge import KernelRidge
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline

    gamma = KERNEL.keywords["gamma"]
    few = min(n, 4000)
    models = {
        "scikit-learn, Nystroem": (
            n,
            make_pipeline(Nystroem(gamma=gamma, n_components=m, random_state=seed), Ridge(RIDGE * n)),
        ),
        "scikit-learn, KernelRidge": (few, KernelRidge(RIDGE * few, kernel="rbf", gamma=gamma)),
    }
    rows = []
    for name, (size, model) in models.items():
        start, load = _now()
        model.fit(x[:size].astype(float), y[:size].astype(float))
        row = _row(name, size, start, load)
        rows.append({**row, "error": _error(model.predict(x[-TESTED:].astype(float)), y)})
    return rows


def _by_workers(place: Path, n: int, m: int, seed: int, by: str, workers: int, dies: bool) -> Row:
    """Landmarks and normal equations out of core; a worker that dies does so when half of the chunks are read."""
    import dask
    from distributed import Client, LocalCluster

    from nystrom_numerics.integrations import dask as chunked

    with (
        dask.config.set({"distributed.nanny.pre-spawn-environ": {}}),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            memory_limit=WORKER_MEMORY,
            dashboard_address=":0",
            silence_logs="CRITICAL",
        ) as cluster,
        Client(cluster) as client,
    ):
        client.run(_work)
        start, load = _now()
        x, y = (
            chunked.memory_mapped(place / f"{name}.npy", rows=min(AT_ONCE, -(-n // 10)))[:n] for name in "xy"
        )
        log = place / "read"
        kernel = chunked.chunked_kernel(KERNEL, x)
        found = chunked.uniform(x, m, rng=seed)
        if dies:
            half = kernel.x.numblocks[0] // 2 + 1
            watched = x.map_blocks(_read, log=str(log), last=half, dtype=x.dtype, meta=x._meta)
            kernel = chunked.ChunkedKernel(KERNEL, watched, kernel.sample, kernel.noise)
        factor = chunked.nystrom_factor(kernel, found)
        solved = chunked.normal_equations(factor, y, RIDGE * n)
        row = _row(by, n, start, load)
        spent = client.run(_spent)
        tested = np.load(place / "x.npy", mmap_mode="r")[-TESTED:]
        predicted = factor.features(np.array(tested)) @ solved.value
        return {
            **row,
            "cpu": row["cpu"] + sum(cpu for cpu, _ in spent.values()),
            "busiest": row["cpu"]
            + max(cpu for cpu, _ in spent.values()),  # and this process, which waits for it
            "peak": max(peak for _, peak in spent.values()),
            "died": log.with_suffix(".died").exists(),
            "digest": hashlib.sha256(solved.value.tobytes()).hexdigest()[:16],
            "residual": float(np.max(solved.residual)),
            "error": _error(predicted, np.load(place / "y.npy", mmap_mode="r")),
        }


_STARTED = time.process_time()


def _work() -> None:
    """Begin to count: libraries are loaded before the clock starts."""
    import nystrom_numerics.integrations.dask

    global _STARTED
    _STARTED = time.process_time()
    assert nystrom_numerics


def _spent() -> tuple[float, int]:
    """CPU seconds of a worker since it began, and the most bytes that it has held, pages of files included."""
    return time.process_time() - _STARTED, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _read(x: Any, *, log: str, last: int) -> Any:
    """The chunk, and after so many the end of the process, once."""
    with open(log, "ab", buffering=0) as file:
        file.write(b".")
        if file.tell() == last:
            Path(log).with_suffix(".died").touch()
            os._exit(1)
    return x


if __name__ == "__main__":
    from experiments.programs import chunked

    chunked.main()  # by the name under which workers find what they are sent
