"""Four processes that are the ranks of a group, kept for all tests; groups of fewer ranks are their first ones."""

from __future__ import annotations

import os
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing import get_context
from typing import Any

import torch
import torch.distributed as dist

from nystrom_numerics.errors import RankError

SIZES = (1, 2, 3, 4)
TIMEOUT = 30
"""Seconds after which a collective gives up."""

FIRST = 20
"""Seconds that first calls may take, which load what they need, on a machine with other work."""

_GROUPS: dict[int, Any] = {}


class FailedError(Exception):
    """What a worker raised, with its traceback."""


def group(size: int) -> Any:
    """The group of the first ranks, in a worker."""
    return _GROUPS[size]


def _serve(rank: int, size: int, store: str, pipe: Any, timeout: float, sizes: tuple[int, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        store=dist.FileStore(store, size),
        rank=rank,
        world_size=size,
        timeout=timedelta(seconds=timeout),
    )
    for some in sizes:
        _GROUPS[some] = dist.group.WORLD if some == size else dist.new_group(list(range(some)))
    while True:
        task = pipe.recv()
        if task is None:
            break
        function, arguments = task
        try:
            pipe.send((True, function(rank, **arguments)))
        except Exception as error:
            pipe.send((False, (error if _sound(error) else repr(error), traceback.format_exc())))
    os._exit(0)


def _sound(error: Exception) -> bool:
    import pickle

    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return False
    return True


class Workers:
    """``workers(function, size, **arguments)`` calls ``function(rank, **arguments)`` on the first ``size`` ranks."""

    def __init__(self, size: int, sizes: tuple[int, ...], timeout: float) -> None:
        context = get_context("forkserver")
        context.set_forkserver_preload(["tests.distributed.cases"])
        self.timeout = timeout
        self.folder = tempfile.TemporaryDirectory()
        self.pipes, self.processes = [], []
        for rank in range(size):
            here, there = context.Pipe()
            arguments = (rank, size, os.path.join(self.folder.name, "store"), there, timeout, sizes)
            process = context.Process(target=_serve, args=arguments, daemon=True)
            process.start()
            self.pipes.append(here)
            self.processes.append(process)

    def begin(self, function: Callable[..., Any], size: int, **arguments: Any) -> None:
        for pipe in self.pipes[:size]:
            pipe.send((function, arguments))

    def end(self, rank: int) -> Any:
        """What one rank returned, or the exception that it raised."""
        if not self.pipes[rank].poll(2 * self.timeout + FIRST):
            raise FailedError(f"rank {rank} hangs")
        return self.pipes[rank].recv()

    def __call__(self, function: Callable[..., Any], size: int, **arguments: Any) -> list[Any]:
        self.begin(function, size, **arguments)
        found = [self.end(rank) for rank in range(size)]
        wrong = [what for good, what in found if not good]
        if wrong:  # those that only waited for another one say less
            raise FailedError(min(wrong, key=lambda what: isinstance(what[0], RankError))[1])
        return [what for _, what in found]

    def errors(self, function: Callable[..., Any], size: int, **arguments: Any) -> list[Any]:
        """What each rank raised; ``None`` for one that did not."""
        self.begin(function, size, **arguments)
        found = [self.end(rank) for rank in range(size)]
        return [None if good else what[0] for good, what in found]

    def close(self) -> None:
        for pipe, process in zip(self.pipes, self.processes, strict=True):
            if process.is_alive():
                pipe.send(None)
        for process in self.processes:
            process.join(10)
            if process.is_alive():  # stopped by a test that then failed: it would hold up the end of all
                process.kill()
        self.folder.cleanup()


@contextmanager
def started(size: int = 4, sizes: tuple[int, ...] = SIZES, timeout: float = TIMEOUT) -> Iterator[Workers]:
    made = Workers(size, sizes, timeout)
    try:
        yield made
    finally:
        made.close()
