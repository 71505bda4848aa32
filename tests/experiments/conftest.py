"""Toy claims that the workers can import, and a scheduler of its own for the tests that need one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TOYS = Path(__file__).parent / "toys"
ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(TOYS))


@pytest.fixture(scope="session")
def address():
    """Address of a Dask scheduler with two workers, as ``--scheduler`` takes it."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs="CRITICAL"
    ) as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def nystrom(tmp_path):
    """Start ``nystrom`` on the toy claims, in a process group of its own and in an empty folder."""
    started = []

    def start(*arguments, **environment):
        paths = os.pathsep.join([str(ROOT), str(TOYS)])
        process = subprocess.Popen(
            [sys.executable, str(TOYS / "nystrom.py"), *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": paths, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, 9)
        process.wait()
        process.stdout.close()
