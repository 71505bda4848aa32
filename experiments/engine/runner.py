"""Runs the cases that the store does not have yet, on Dask, and records each as it ends.

The workers make the records and this process alone writes them. As many cases are under way as there are
worker threads, so a worker that dies casts suspicion on the case it ran and on no other.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from uuid import uuid4

from distributed import Client, Future, KilledWorker, as_completed
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from experiments.contract import Absence, Case, Claim, Record, Row, Status
from experiments.engine import store
from experiments.engine.cluster import connected
from experiments.engine.environment import cuda_device, environment, fingerprint
from experiments.errors import CodeMismatchError, NoDeviceError, NotAvailableError, SchedulerError, describe


@dataclass(frozen=True)
class Tally:
    """What a run did: cases run now, those of them that failed, cases already recorded, and cases without input."""

    ran: int
    failed: int
    reused: int
    absent: int = 0


@dataclass(frozen=True)
class _Task:
    """A case on its way to a worker: what to call, and what to write into its record."""

    case: Case
    run: Callable[[Case], list[Row]]
    module: str
    profile: str

    @property
    def name(self) -> tuple[str, str]:
        """What a record of this case is known by: the case and the code."""
        return self.case.key, fingerprint(self.module)

    def record(
        self, rows: Sequence[Row], error: str | None, seconds: float, absent: Absence | None = None
    ) -> Record:
        """The record of this case, made in the process that calls."""
        facts = {
            "profile": self.profile,
            "fingerprint": fingerprint(self.module),
            "recorded": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
        return Record(self.case, tuple(rows), error, seconds, {**environment(), **facts}, absent)

    def execute(self) -> Record:
        """Run the case; what it raises, or what JSON cannot say of its rows, becomes the record's error.

        An input that is not on the machine becomes the record's absence.
        """
        start = time.perf_counter()
        try:
            rows = self.run(self.case)
            record = self.record(rows, None, time.perf_counter() - start)
            store.encode(record)
        except NotAvailableError as missing:
            absent = Absence(missing.what, missing.remedy)
            return self.record((), None, time.perf_counter() - start, absent)
        except Exception as error:
            inner = error.__traceback__.tb_next if error.__traceback__ else None  # the frames of the claim
            return self.record((), describe(error.with_traceback(inner)), time.perf_counter() - start)
        return record


def run_claims(
    claims: Sequence[Claim],
    *,
    profile: str,
    path: Path,
    scheduler: str | None = None,
    workers: int | None = None,
    fresh: bool = False,
    console: Console | None = None,
) -> Tally:
    """Run every case of the claims' grids that the store at ``path`` does not hold for the present code.

    Claims that measure time come last, one case at a time. A case that failed, or whose input was not there, is tried
    again by the next run.

    Parameters
    ----------
    scheduler
        Address of a running Dask scheduler; a local cluster of ``workers`` processes without it.
    fresh
        Run all cases, also those that are recorded; the newer record counts.
    console
        Where the progress bars go; none without it.

    Raises
    ------
    StoreLockedError, StoreWriteError, NoDeviceError, SchedulerError, CodeMismatchError
        The run cannot start, or cannot go on; what is recorded stays recorded.
    """
    with store.appending(path) as append:
        records, _ = store.read(path)
        done = {(r.case.key, r.environment.get("fingerprint")) for r in records if r.ok and not fresh}
        grids = {claim: _tasks(claim, profile) for claim in claims}
        tasks = {claim: [task for task in grid if task.name not in done] for claim, grid in grids.items()}
        reused = sum(map(len, grids.values())) - sum(map(len, tasks.values()))
        if not any(tasks.values()):
            return Tally(ran=0, failed=0, reused=reused)
        with connected(scheduler, workers, path.parent) as client, _bars(console) as progress:
            if profile == "gpu" and not any(client.run(cuda_device).values()):
                raise NoDeviceError(
                    "profile gpu needs a CUDA device that torch or CuPy can use; no worker has one"
                )
            bars = {c.__name__: progress.add_task(c.TITLE, total=len(tasks[c])) for c in claims}
            ended: Counter[Status] = Counter()
            side_by_side = [task for claim in claims if not claim.EXCLUSIVE for task in tasks[claim]]
            alone = [task for claim in claims if claim.EXCLUSIVE for task in tasks[claim]]
            for queue, at_once in ((side_by_side, None), (alone, 1)):
                for task, record in _results(client, queue, at_once):
                    append(record)
                    progress.advance(bars[task.module])
                    ended[record.status] += 1
    failed, absent = ended[Status.FAILED], ended[Status.NOT_AVAILABLE]
    return Tally(ended[Status.DONE] + failed, failed, reused, absent)


def _tasks(claim: Claim, profile: str) -> list[_Task]:
    """The cases of a claim's grid, each once."""
    cases = {case.key: case for case in claim.grid(profile)}
    return [_Task(case, claim.run, claim.__name__, profile) for case in cases.values()]


def _results(client: Client, tasks: Sequence[_Task], at_once: int | None) -> Iterator[tuple[_Task, Record]]:
    """Each task with its record, in the order they end, while ``at_once`` (or one a thread) are under way.

    A worker that dies takes what waits there with it: who was there too often is judged alone, after the others.
    """
    queue = iter(tasks)
    under_way: dict[Future, _Task] = {}
    suspects: list[_Task] = []
    ended = as_completed(loop=client.loop)

    def fill() -> None:
        room = (at_once or max(1, sum(client.nthreads().values()))) - len(under_way)
        for task in islice(queue, max(0, room)):
            future = client.submit(task.execute, key=f"{task.case.claim}-{task.case.key}-{uuid4().hex[:8]}")
            under_way[future] = task
            ended.add(future)

    fill()
    for future in ended:
        task = under_way.pop(future)
        suspect = at_once != 1 and isinstance(_error(future), KilledWorker)
        record = None if suspect else _record(future, task)
        fill()
        if record is None:
            suspects.append(task)
        else:
            yield task, record
    if suspects:
        yield from _results(client, suspects, 1)


def _error(future: Future) -> BaseException | None:
    return future.exception() if future.status == "error" else None


def _record(future: Future, task: _Task) -> Record:
    error = _error(future)
    if error is not None:
        if isinstance(error, KilledWorker):
            deaths = error.allowed_failures + 1
            return task.record(
                (), f"WorkerDied: this case ended its worker {deaths} times (memory, or a crash)", 0.0
            )
        return task.record((), describe(error), 0.0)
    if future.status != "finished":
        raise SchedulerError(
            f"the scheduler let go of a case ({future.status}); run again to go on from here"
        )
    record: Record = future.result()
    mine, theirs = fingerprint(task.module), record.environment["fingerprint"]
    if mine != theirs:
        raise CodeMismatchError(
            f"a worker runs other sources ({theirs}) than this process ({mine}); restart it"
        )
    return record


def _bars(console: Console | None) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=console is None,
    )
