"""Attention over ranks, timed: ``python -m experiments.programs.over_ranks SPECIFICATION`` starts the ranks here.

The specification is JSON: ``ranks``, ``heads``, ``width``, ``landmarks``, ``repeats``, and ``runs``: a method, a number
of tokens, and whether a derivative is taken.  A row of JSON comes back for every number of ranks, run and repetition.
"""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from math import ceil
from pathlib import Path
from typing import Any

__all__ = ["measured"]


def measured(specification: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows, from a process of its own: one that has worked with Torch is not to be forked.

    Each has seconds of the busiest rank's processor and of the clock, a call, and the most bytes that a rank held, its
    tokens included.

    ``span`` are seconds of a processor that a measurement takes at least, by as many calls as it needs: what else runs
    then slows short calls and long ones alike.  ``warm_up`` are tokens to warm up with in place of all; ``at_once``
    heads are given to a call, all of them by default.
    """
    command = [sys.executable, "-m", "experiments.programs.over_ranks", json.dumps(specification)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode:
        raise RuntimeError(found.stderr[-2000:])
    rows: list[dict[str, Any]] = json.loads(found.stdout.splitlines()[-1])
    return rows


def _rank(rank: int, folder: str, specification: dict[str, Any]) -> None:
    """One rank: each run of each number of ranks that it belongs to, round after round, the first to warm up."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    sizes, most = specification["ranks"], max(specification["ranks"])
    store = dist.FileStore(str(Path(folder, "store")), most)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=most, timeout=timedelta(minutes=30))
    groups = {p: dist.group.WORLD if p == most else dist.new_group(list(range(p))) for p in sizes}
    calls: dict[tuple[Any, ...], int] = {}
    rows: list[dict[str, Any]] = []
    for round_ in range(specification["repeats"] + 1):
        mine = []
        for p in (p for p in sizes if rank < p):
            for method, n, backward in specification["runs"]:
                tokens = n if round_ else min(n, specification.get("warm_up", n))
                many = calls.get((p, method, n, backward), 1)
                own = tokens * (rank + 1) // p - tokens * rank // p
                found = _timed(specification, method, tokens, own, backward, groups[p], many)
                mine.append({"ranks": p, "method": method, "n": n, "backward": backward, **found})
        dist.barrier()
        if round_:
            rows += [{"repeat": round_, **row} for row in mine]
            continue
        every: list[Any] = [None] * most
        dist.all_gather_object(every, mine)
        for row in (row for of_rank in every for row in of_rank):  # as many calls on every rank
            key = row["ranks"], row["method"], row["n"], row["backward"]
            calls[key] = max(calls.get(key, 1), ceil(specification.get("span", 0.0) / row["cpu"]))
    Path(folder, f"{rank}.json").write_text(json.dumps(rows), "utf-8")
    dist.destroy_process_group()


def _timed(
    specification: dict[str, Any], method: str, n: int, own: int, backward: bool, group: Any, many: int
) -> dict[str, float]:
    """Seconds of processor and clock of a call with ``own`` of n tokens, and the most bytes that it held."""
    import torch
    import torch.distributed as dist

    heads = specification["heads"]
    at_once = specification.get("at_once", heads)
    call, before = _call(method, specification), _held()
    spent, most = [0.0, 0.0], 0
    for _ in range(heads // at_once):
        shape = (at_once, own, specification["width"])
        q, k, v = (torch.randn(shape).requires_grad_(backward) for _ in range(3))
        g = torch.randn(shape) if backward else None
        _forget()
        dist.barrier(group)  # or the clock would count what other ranks did before
        start, cpu = time.perf_counter(), time.process_time()
        for _ in range(many):
            out = call(q, k, v, group)
            if backward:
                out.backward(g)
            del out
        spent = [spent[0] + time.process_time() - cpu, spent[1] + time.perf_counter() - start]
        most = max(most, _most())
        del q, k, v, g
    return {"cpu": spent[0] / many, "wall": spent[1] / many, "peak": most - before}


def _call(method: str, specification: dict[str, Any]) -> Callable[..., Any]:
    from nystrom_numerics import distributed

    m = specification["landmarks"]
    if method in ("nystrom", "near_field"):
        return lambda q, k, v, group: getattr(distributed, method)(q, k, v, m, group=group)
    return lambda q, k, v, group: getattr(distributed, method)(q, k, v, group=group)


def _status(name: str) -> int:
    """Bytes by Linux's account of this process, 0 elsewhere."""
    try:
        lines = Path("/proc/self/status").read_text("ascii").splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def _held() -> int:
    """Bytes held now, without what the C library keeps for later."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)
    return _status("VmRSS")


def _most() -> int:
    return _status("VmHWM")


def _forget() -> None:
    """The most that was held counts from now on."""
    if os.path.exists("/proc/self/clear_refs"):
        Path("/proc/self/clear_refs").write_text("5", "ascii")


def main() -> None:
    import torch.distributed  # noqa: F401  (loaded once, before it is forked)

    import nystrom_numerics.distributed  # noqa: F401

    specification = json.loads(sys.argv[1])
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as folder:
        ranks = range(max(specification["ranks"]))
        processes = [context.Process(target=_rank, args=(rank, folder, specification)) for rank in ranks]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        if any(process.exitcode for process in processes):
            raise SystemExit("a rank failed")
        every = [json.loads(Path(folder, f"{rank}.json").read_text("utf-8")) for rank in ranks]
    print(json.dumps(_joined(every)))


def _joined(every: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Of every run what the rank had that had most."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in (row for rows in every for row in rows):
        key = row["repeat"], row["ranks"], row["method"], row["n"], row["backward"]
        other = found.setdefault(key, row)
        found[key] = {**row, **{name: max(row[name], other[name]) for name in ("cpu", "wall", "peak")}}
    return list(found.values())


if __name__ == "__main__":
    main()
