"""Where the workers are: a scheduler elsewhere, or processes of this machine."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import resource_tracker
from pathlib import Path

import dask
from dask.system import CPU_COUNT
from distributed import Client, LocalCluster
from distributed.system import MEMORY_LIMIT

from experiments.errors import SchedulerError

WORKER_MEMORY = 2_000_000_000
"""Bytes a local worker may hold before it is stopped, unless their number was asked for: then they share the machine.

Two of them and this process stay within 5 GB: a model, its heads and the libraries that the cases before have loaded
take half of it, and an allocator does not give all back.
"""

DEATHS = 3
"""Workers a case may cost on a local cluster before it counts as failed."""

_PATIENCE = "10s"

_OPTIONS = {
    "distributed.nanny.pre-spawn-environ": {},
    "distributed.scheduler.allowed-failures": DEATHS - 1,
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
}


@contextmanager
def connected(scheduler: str | None, workers: int | None, results: Path) -> Iterator[Client]:
    """A client of the scheduler at an address, or of a local cluster that ends with it.

    The processes of a local cluster have one thread each, in the libraries below them too, and keep their
    inputs in ``results``.

    Raises
    ------
    SchedulerError
        No scheduler answers at the address.
    """
    if scheduler is not None:
        try:
            client = Client(scheduler, timeout=_PATIENCE, set_as_default=False)
        except (OSError, ValueError) as error:
            raise SchedulerError(f"no scheduler answers at {scheduler}: {error}") from error
        with client:
            yield client
        return
    count = workers or max(1, min(CPU_COUNT, MEMORY_LIMIT // WORKER_MEMORY))
    share = MEMORY_LIMIT // count
    variables = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS", "NUMEXPR")}
    variables["NYSTROM_INPUTS"] = str((results / "inputs").resolve())
    variables["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"  # the terminal belongs to the bars of the run
    variables |= {"KINETO_LOG_LEVEL": "99", "TORCH_CPP_LOG_LEVEL": "ERROR"}  # and not to torch's profiler
    with dask.config.set(_OPTIONS), _environment(variables), ExitStack() as closing:
        with _interrupts_held():
            cluster = LocalCluster(
                n_workers=count,
                threads_per_worker=1,
                processes=True,
                memory_limit=share if workers else min(WORKER_MEMORY, share),
                dashboard_address=":0",
                silence_logs="CRITICAL",
            )
            closing.enter_context(cluster)
            client = closing.enter_context(Client(cluster, set_as_default=False))
        yield client
        with suppress(TimeoutError):  # a worker that is still being started again resists being stopped
            client.wait_for_workers(count, timeout=30)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set these variables for the processes that begin meanwhile, those of restarted workers too."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back; threads and processes begun meanwhile, and theirs, never see it."""
    resource_tracker.ensure_running()  # it lets interrupts through again when it starts
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
