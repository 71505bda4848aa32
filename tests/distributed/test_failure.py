"""A rank that dies, stops or stays away ends the others with an error that names it, within a stated time."""

from __future__ import annotations

import os
import signal
import time

import pytest

from nystrom_numerics import distributed, errors
from tests.distributed import cases
from tests.distributed.cases import Problem
from tests.distributed.workers import started

TIMEOUT = 6.0
SLACK = 15.0
"""For a machine with other work."""


def fail(rank: int, problem: Problem, at_fault: int, how: str, calls: int) -> float:
    """Some calls on each rank, of which one dies before its last; seconds that the last one of the others took."""
    for _ in range(calls):
        cases.on_rank(rank, problem)
    begun = time.monotonic()
    if rank == at_fault:
        if how == "late":
            return 0.0
        os.kill(os.getpid(), signal.SIGKILL if how == "killed" else signal.SIGSTOP)
    try:
        cases.on_rank(rank, problem)
    except errors.RankError as error:
        error.seconds = time.monotonic() - begun
        raise
    return 0.0


@pytest.mark.parametrize(
    ("how", "function"),
    [("killed", "exact"), ("killed", "nystrom"), ("stopped", "near_field"), ("late", "exact")],
)
def test_the_others_end_and_name_it(how, function):
    problem = Problem(function, (5, 6, 7), arguments=() if function == "exact" else (3,))
    with started(3, (3,), TIMEOUT) as workers:
        workers.begin(fail, 3, problem=problem, at_fault=1, how=how, calls=2)
        found = [workers.end(rank) for rank in ((0, 2) if how != "late" else (0, 1, 2))]
        if how == "stopped":
            workers.processes[1].kill()
    if how == "late":
        assert found.pop(1)[0]
    for good, what in found:
        assert not good
        error, _ = what
        assert isinstance(error, errors.RankError), what
        assert error.ranks == (1,), error
        assert "rank 1" in str(error)
        assert error.seconds < TIMEOUT + distributed.PATIENCE + SLACK


def test_a_group_that_has_failed_goes_on_failing():
    """At once, and with the same rank named."""
    problem = Problem("nystrom", (5, 6), arguments=(3,))
    with started(2, (2,), TIMEOUT) as workers:
        workers.begin(fail, 2, problem=problem, at_fault=1, how="killed", calls=1)
        first = workers.end(0)[1][0]
        workers.begin(fail, 1, problem=problem, at_fault=1, how="killed", calls=0)
        again = workers.end(0)[1][0]
        assert first.ranks == again.ranks == (1,)
        assert again.seconds < SLACK
