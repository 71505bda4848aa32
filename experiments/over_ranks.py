"""Attention over ranks, timed: ``python -m experiments.over_ranks SPECIFICATION`` starts the ranks on this machine.

The specification is JSON: ``ranks``, ``heads``, ``width``, ``landmarks``, ``repeats``, and ``runs``, pairs of a method
and a number of tokens.  A row of JSON comes back for every number of ranks and every run.
"""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

__all__ = ["measured"]


def measured(specification: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows, from a process of its own: one that has worked with Torch is not to be forked."""
    command = [sys.executable, "-m", "experiments.over_ranks", json.dumps(specification)]
    found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    if found.returncode:
        raise RuntimeError(found.stderr[-2000:])
    rows: list[dict[str, Any]] = json.loads(found.stdout.splitlines()[-1])
    return rows


def _rank(rank: int, folder: str, specification: dict[str, Any]) -> None:
    """One rank: seconds of its processor for each call, the least loaded of which counts."""
    import torch
    import torch.distributed as dist

    from nystrom_numerics import distributed

    torch.set_num_threads(1)
    sizes, most = specification["ranks"], max(specification["ranks"])
    store = dist.FileStore(str(Path(folder, "store")), most)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=most, timeout=timedelta(minutes=5))
    groups = {p: dist.group.WORLD if p == most else dist.new_group(list(range(p))) for p in sizes}
    rows = []
    for _ in range(specification["repeats"] + 1):  # the first to warm up
        for p in (p for p in sizes if rank < p):
            for method, n in specification["runs"]:
                own = n * (rank + 1) // p - n * rank // p
                q, k, v = torch.randn(3, specification["heads"], own, specification["width"]).unbind()
                options = {"group": groups[p]}
                start, cpu = time.perf_counter(), time.process_time()
                if method == "nystrom":
                    distributed.nystrom(q, k, v, specification["landmarks"], **options)
                else:
                    distributed.exact(q, k, v, **options)
                spent = time.process_time() - cpu, time.perf_counter() - start
                rows.append({"method": method, "n": n, "ranks": p, "cpu": spent[0], "wall": spent[1]})
        dist.barrier()
    Path(folder, f"{rank}.json").write_text(json.dumps(rows), "utf-8")
    dist.destroy_process_group()


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
    print(json.dumps(_joined(every, specification)))


def _joined(every: list[list[dict[str, Any]]], specification: dict[str, Any]) -> list[dict[str, Any]]:
    """Of every call the seconds of the busiest rank, and of those the median over repetitions."""
    from statistics import median

    found = []
    for p in specification["ranks"]:
        for method, n in specification["runs"]:
            of_ranks = [
                [row for row in rows if (row["method"], row["n"], row["ranks"]) == (method, n, p)][1:]
                for rows in every[:p]
            ]
            busiest = {
                name: median(max(row[name] for row in rows) for rows in zip(*of_ranks, strict=True))
                for name in ("cpu", "wall")
            }
            found.append({"method": method, "n": n, "ranks": p, **busiest})
    return found


if __name__ == "__main__":
    main()
