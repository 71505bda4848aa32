"""A run loses no case and repeats none: killed, interrupted, with dying workers, with other code."""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections import Counter
from itertools import pairwise

import fragile
import pytest
import single
import squares
import wanting

from experiments.contract import Absence, Status
from experiments.engine import cluster, runner, store
from experiments.engine.environment import cuda_device, fingerprint
from experiments.engine.runner import Tally, run_claims
from experiments.errors import CodeMismatchError, NoDeviceError, SchedulerError
from tests.thorough import many


@pytest.fixture(scope="module")
def hard(tmp_path_factory):
    """The records of a run on a local cluster with cases that die, raise, and measure time."""
    folder = tmp_path_factory.mktemp("hard")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOY_FOLDER", str(folder))
        patch.setenv("OMP_NUM_THREADS", "2")
        tally = run_claims([single, fragile, squares], profile="quick", path=folder / "r.jsonl", workers=2)
        assert os.environ["OMP_NUM_THREADS"] == "2"
    assert "NYSTROM_INPUTS" not in os.environ
    records, damage = store.read(folder / "r.jsonl")
    assert not damage
    return tally, records, folder


def test_every_case_has_one_record_whatever_became_of_it(hard):
    tally, records, _ = hard
    assert tally == Tally(ran=len(fragile.KINDS) + 4 + 6, failed=3, reused=0)
    assert len({r.case.key for r in records}) == len(records) == tally.ran


def test_failures_are_recorded_with_their_cause(hard):
    _, records, folder = hard
    error = {r.case.params["kind"]: r.error for r in records if r.case.claim == "fragile"}
    assert (folder / "died").exists()
    assert [kind for kind in fragile.KINDS if error[kind] is None] == ["well", "dies once", "well too"]
    assert error["dies"].startswith("WorkerDied: this case ended its worker 3 times")
    assert error["raises"].startswith("ValueError: <script>")
    assert "in run" in error["raises"]
    assert "in execute" not in error["raises"]
    assert error["unwritable"].startswith("TypeError: Object of type object is not JSON")


def test_a_claim_that_measures_time_runs_last_and_one_case_at_a_time(hard):
    _, records, _ = hard
    assert [r.case.claim for r in records[-4:]] == ["single"] * 4
    spans = sorted((row["start"], row["end"]) for r in records[-4:] for row in r.rows)
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))


def test_a_record_says_where_it_was_made(hard):
    _, records, _ = hard
    for record in records:
        facts = record.environment
        if record.ok:
            assert facts["threads"] == "1"
        assert facts["profile"] == "quick"
        assert {"python", "numpy", "distributed", "cpu", "cores", "platform", "recorded"} <= facts.keys()
        assert facts["fingerprint"] == fingerprint(record.case.claim)


def test_a_second_run_repeats_nothing_and_starts_no_cluster(hard, monkeypatch):
    _, _, folder = hard
    monkeypatch.setattr(cluster, "LocalCluster", None)
    assert run_claims([single, squares], profile="quick", path=folder / "r.jsonl") == Tally(0, 0, reused=10)


def test_a_scheduler_elsewhere_new_cases_and_a_fresh_start(address, tmp_path, monkeypatch):
    path = tmp_path / "r.jsonl"

    def again(**options):
        return run_claims([squares], profile="quick", path=path, scheduler=address, **options)

    assert again() == Tally(ran=6, failed=0, reused=0)
    monkeypatch.setenv("TOY_CASES", "8")
    assert again() == Tally(ran=2, failed=0, reused=6)
    assert again(fresh=True) == Tally(ran=8, failed=0, reused=0)
    assert len(store.read(path)[0]) == 16


def test_a_failed_case_is_tried_again(address, tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_FOLDER", str(tmp_path))
    monkeypatch.setattr(fragile, "KINDS", ("well", "raises"))
    for tally in (Tally(ran=2, failed=1, reused=0), Tally(ran=1, failed=1, reused=1)):
        assert run_claims([fragile], profile="quick", path=tmp_path / "r.jsonl", scheduler=address) == tally


def test_a_case_without_its_input_is_not_available_until_it_is_there(nystrom, tmp_path):
    """No failure, told with its remedy; when the input has appeared the case is run and nothing else."""
    path = tmp_path / "results" / "records.jsonl"
    there = tmp_path / "input"

    def again():
        process = nystrom("run", "wanting", "--workers", "1", TOY_INPUT=str(there), COLUMNS="200")
        output = process.communicate(timeout=60)[0]
        assert process.returncode == 0, output
        return output

    output = again()
    assert "Not available: the toy's input (wanting). To get it: touch it" in output
    assert "2 cases run, 0 already recorded, 1 lack their input." in output
    assert [r.status for r in store.read(path)[0]].count(Status.NOT_AVAILABLE) == 1
    assert "0 cases run, 2 already recorded, 1 lack their input." in again()
    there.touch()
    output = again()
    assert "1 cases run, 2 already recorded." in output
    assert "Not available" not in output
    assert "3 rows" in output


def test_a_scheduler_elsewhere_tells_what_its_workers_lack(address, tmp_path):
    options = {"profile": "quick", "path": tmp_path / "r.jsonl", "scheduler": address}
    for tally in (Tally(ran=2, failed=0, reused=0, absent=1), Tally(ran=0, failed=0, reused=2, absent=1)):
        assert run_claims([wanting], **options) == tally
    (absent,) = {r.absent for r in store.read(tmp_path / "r.jsonl")[0] if r.absent}
    assert absent == Absence("the toy's input", "touch it")


def test_other_code_runs_every_case_again(address, tmp_path, monkeypatch):
    path = tmp_path / "r.jsonl"
    run_claims([squares], profile="quick", path=path, scheduler=address)
    path.write_bytes(path.read_bytes().replace(fingerprint("squares").encode(), b"0123456789abcdef"))
    assert run_claims([squares], profile="quick", path=path, scheduler=address).ran == 6


def test_the_fingerprint_follows_the_sources(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    source = tmp_path / "some_claim.py"
    source.write_text("A = 1\n")
    first = fingerprint("some_claim")
    source.write_text("A = 2\n")
    fingerprint.cache_clear()
    assert first != fingerprint("some_claim") != fingerprint("squares")


def test_a_worker_with_other_code_stops_the_run(address, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "fingerprint", lambda claim: "edited")
    with pytest.raises(CodeMismatchError, match="other sources"):
        run_claims([squares], profile="quick", path=tmp_path / "r.jsonl", scheduler=address)
    assert store.read(tmp_path / "r.jsonl") == ([], [])


def test_the_gpu_profile_needs_a_device(address, tmp_path):
    if cuda_device():
        pytest.skip(f"this machine has a CUDA device, {cuda_device()}")
    with pytest.raises(NoDeviceError, match="no worker has one"):
        run_claims([squares], profile="gpu", path=tmp_path / "r.jsonl", scheduler=address)


def test_a_scheduler_that_does_not_answer(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "_PATIENCE", "1s")
    with pytest.raises(SchedulerError, match="no scheduler answers at tcp"):
        run_claims([squares], profile="quick", path=tmp_path / "r.jsonl", scheduler="tcp://127.0.0.1:1")


def wait_for_growth(process, path):
    """Return when the store has grown, or the process has ended."""
    size = path.stat().st_size if path.exists() else 0
    while process.poll() is None and (not path.exists() or path.stat().st_size <= size):
        time.sleep(0.005)


def test_killed_at_random_moments_it_loses_no_case_and_repeats_none(nystrom, tmp_path):
    """The whole process group, scheduler and workers included, dies by SIGKILL; then the command goes on."""
    path = tmp_path / "results" / "records.jsonl"
    many = {"TOY_CASES": "300", "TOY_SECONDS": "0.01"}
    moments = random.Random(1)
    had = []
    for _ in range(2):
        process = nystrom("run", "squares", **many)
        wait_for_growth(process, path)
        time.sleep(moments.uniform(0, 0.3))
        assert process.poll() is None, process.communicate()[0]
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        had.append(len(store.read(path)[0]))
    final = nystrom("run", "squares", **many)
    output = final.communicate(timeout=180)[0]
    assert final.returncode == 0, output
    records, damage = store.read(path)
    assert 0 < had[0] < had[1] < 300
    assert Counter(r.case.params["x"] for r in records) == Counter(range(300))
    assert len(damage) <= 2
    assert f"{300 - had[1]} cases run, {had[1]} already recorded" in output
    assert "SUPPORTED" in output


def test_interrupted_it_says_how_to_go_on(nystrom, tmp_path):
    path = tmp_path / "results" / "records.jsonl"
    process = nystrom("run", "squares", TOY_CASES="300", TOY_SECONDS="0.02")
    wait_for_growth(process, path)
    os.killpg(process.pid, signal.SIGINT)
    output = process.communicate(timeout=30)[0]
    assert process.returncode == 130, output
    assert stopped(output) == ["Stopped: what has run is recorded; the same command goes on from there"]
    records, damage = store.read(path)
    assert records
    assert not damage


def stopped(output):
    """What a stopped command said, its progress bars apart."""
    return [line for line in output.splitlines() if line.strip() and not re.search(r" \d+/\d+ ", line)]


@pytest.mark.parametrize("after", many((0.0, 0.4, 1.0, 2.5), (0.0, 1.0)))
def test_interrupted_again_and_again_at_any_moment_it_ends_with_a_line(nystrom, tmp_path, after):
    """From the first import of the command to the end of its cluster."""
    begun = tmp_path / "begun"
    process = nystrom("run", "squares", TOY_CASES="3000", TOY_SECONDS="0.02", TOY_BEGUN=str(begun))
    wait_for_growth(process, begun)
    time.sleep(after)
    while process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.2)
    output = process.communicate(timeout=30)[0]
    assert process.returncode == 130, output
    (line,) = stopped(output)
    assert line.startswith("Stopped: ")
    assert store.read(tmp_path / "results" / "records.jsonl")[1] == []


@pytest.mark.parametrize("after", many((2.0, 3.5), (2.0,)))
def test_interrupted_while_it_ends_it_has_ended_or_says_so(nystrom, tmp_path, after):
    process = nystrom("run", "squares", TOY_CASES="4", TOY_BEGUN=str(tmp_path / "begun"))
    wait_for_growth(process, tmp_path / "begun")
    time.sleep(after)
    while process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.1)
    output = process.communicate(timeout=30)[0]
    assert "Traceback" not in output
    assert process.returncode == (130 if "Stopped: " in output else 0), output


def test_a_full_disk_ends_the_run_with_a_line_and_loses_nothing(nystrom, tmp_path):
    """The file may grow to 20 kB, as on a disk that fills up; with room, the same command goes on."""
    path = tmp_path / "results" / "records.jsonl"
    process = nystrom("run", "squares", "--workers", "1", TOY_CASES="60", TOY_FILE_BYTES="20000")
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 1, output
    (line,) = stopped(output)
    assert line.startswith("Stopped: results/records.jsonl took ")
    assert line.endswith("make room on its disk and run again")
    had = store.read(path)[0]
    assert 5 < len(had) < 60
    output = nystrom("run", "squares", "--workers", "1", TOY_CASES="60").communicate(timeout=60)[0]
    assert f"{60 - len(had)} cases run, {len(had)} already recorded" in output
