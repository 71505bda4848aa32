"""
Many ranks: are the outputs the same, and what is sent?
=======================================================

A sequence lies in shards on the ranks of a process group. Two processes of this machine attend over it with gloo, and
what they give is held against one process that has all of it.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import nystrom_numerics

# %%
# The program of every rank, as ``torchrun`` starts it: its shard is all that it hands over. (The first rank then
# repeats the work by itself, to compare; the second has fewer tokens.)

PROGRAM = """
import json

import torch
import torch.distributed as dist

from nystrom_numerics import attention, distributed

dist.init_process_group("gloo")
torch.manual_seed(0)
q, k, v = torch.randn(3, 4, 1200, 32, dtype=torch.float64).unbind()
own = slice(0, 700) if dist.get_rank() == 0 else slice(700, 1200)
calls = {
    "exact": (distributed.exact, attention.exact, (), {}),
    "nystrom": (distributed.nystrom, attention.nystrom, (64,), {}),
    "near_field": (distributed.near_field, attention.near_field, (16,), {"block": 32}),
}
found = {}
for name, (over_ranks, alone, arguments, options) in calls.items():
    part = over_ranks(q[:, own], k[:, own], v[:, own], *arguments, **options)
    whole = alone(q, k, v, *arguments, **options)
    found[name] = float((part - whole[:, own]).abs().max() / whole.abs().max())
every = [None, None]
dist.all_gather_object(every, found)
if dist.get_rank() == 0:
    print(json.dumps({name: max(one[name] for one in every) for name in found}))
dist.destroy_process_group()
"""

with tempfile.TemporaryDirectory() as folder:
    program = Path(folder) / "attend.py"
    program.write_text(PROGRAM)
    root = str(Path(nystrom_numerics.__file__).parents[1])
    ran = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            "2",
            str(program),
        ],
        env={**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=120,
    )
for name, difference in json.loads(ran.stdout.splitlines()[-1]).items():
    print(f"{name:12} differs from one process by {difference:.0e}, relative to the largest output")
    assert difference < 1e-10

# %%
# What a rank sends for one head of width 64 on 8 ranks, as the docstrings say. The ring of exact attention passes all
# keys and values on; of Nyström attention only sums over the landmarks travel, whatever the length is.

n, d, ranks, m = np.geomspace(2**10, 2**20, 11), 64, 8, 64
figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
axes.loglog(n, (ranks - 1) / ranks * n * 2 * d, "o-", color="0.4", label="exact, a ring")
landmarks = 2 * m * d + m + m * (d + 1)
axes.loglog(n, np.full_like(n, landmarks), "s-", color="#1a56b0", label="Nyström, 64 landmarks")
axes.set(xlabel="tokens on all ranks", ylabel="numbers sent by a rank, one head")
axes.legend(frameon=False)
axes.grid(alpha=0.3)
plt.show()
