"""Attention against the package nystrom-attention, exact fused attention and plain products: one table, one run.

Eight heads of 64, batch 1, float32, one thread; calls to be compared take turns, and ratios are medians of
those within a turn.  What is aimed at is aimed at on a CPU; on a GPU the same table is printed, and only the
memory is asserted.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from rich.table import Table

from experiments.engine.timing import fit_slope, peak_memory
from nystrom_numerics import attention, pinv
from tests.benchmarks.conftest import RATIOS, TABLES

HEADS, D, N = 8, 64, 16384
LENGTHS = (4096, 8192, 16384, 32768, 65536)
ARRAY = HEADS * N * D * 4  # bytes of one n × d array of all heads
SLOPE, TANGENT_HELD = (0.9, 1.1), 2.0
OURS, PEER, PRODUCTS = "nystrom", "nystrom-attention", "own products by matmul"
TANGENT, FUSED = "tangents, as many entries", "exact, torch fused"

TABLE = Table(
    title=f"Attention, n = {N}, {HEADS} heads of {D}, float32, one thread — times faster than nystrom-attention",
    title_justify="left",
)
for column in ("case", "method", "ms", "times faster", "extra memory, arrays n×d"):
    TABLE.add_column(column, justify="left" if column in ("case", "method") else "right")
TABLES.append(TABLE)

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")),
]


def qkv(n: int = N, device: str = "cpu", grad: bool = False) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    draws = (torch.randn(1, HEADS, n, D, generator=generator) for _ in range(3))
    return [x.to(device).requires_grad_(grad) for x in draws]


def peer(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, m: int
) -> tuple[Callable[[], torch.Tensor], torch.Tensor]:
    """The package's forward on the same q, k, v, and the tensor that holds them; its projections do nothing."""
    package = pytest.importorskip("nystrom_attention", reason="the peer package nystrom-attention is absent")

    class Hand(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return stacked

    stacked = torch.cat([x.detach().transpose(1, 2).flatten(2) for x in (q, k, v)], dim=-1)
    stacked.requires_grad_(q.requires_grad)
    module = package.NystromAttention(HEADS * D, dim_head=D, heads=HEADS, num_landmarks=m, residual=False).to(
        q.device
    )
    module.to_qkv, module.to_out = Hand(), torch.nn.Identity()
    x = stacked.detach()[..., : HEADS * D]
    return lambda: module(x), stacked


def products(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, m: int) -> torch.Tensor:
    """The four large products of the method by plain matmul, and nothing between them."""
    q_points, k_points = q[..., :m, :], k[..., :m, :]
    return (q @ k_points.mT) @ ((q_points @ k.mT) @ v)


Seconds = dict[str, list[float]]


def in_turns(calls: dict[str, Callable[[], Any]], device: str, rounds: int) -> Seconds:
    """Seconds of each call in each round, after one round to warm up; on a CPU those of the thread's processor.

    The calls take turns, and each round begins with another, as what a call frees its successor must map again.
    """
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    clock = time.perf_counter if device == "cuda" else time.thread_time
    seconds: Seconds = {name: [] for name in calls}
    for turn in range(rounds + 1):
        first = turn % len(calls)
        for name, call in [*calls.items()][first:] + [*calls.items()][:first]:
            start = clock()
            call()
            wait()
            if turn:
                seconds[name].append(clock() - start)
    return seconds


def times_faster(seconds: Seconds, one: str, other: str) -> float:
    """The median over rounds of the ratio within a round, which what else runs hardly moves."""
    return statistics.median(b / a for a, b in zip(seconds[one], seconds[other], strict=True))


def enter(case: str, seconds: Seconds, memory: dict[str, float] | None = None) -> None:
    """A part of the table; ratios to the package, to the exact kernel, to ours and to its products are kept."""
    for other in (PEER, FUSED, OURS, PRODUCTS):
        if other in seconds:
            found = {
                f"{name} / {other}": times_faster(seconds, name, other) for name in seconds if name != other
            }
            RATIOS.setdefault(case.partition(":")[0], {}).update(found)
    for i, (name, found) in enumerate(seconds.items()):
        ratio = f"{times_faster(seconds, name, PEER):.2f}" if PEER in seconds else "–"
        extra = f"{memory[name]:.2f}" if memory and name in memory else ""
        TABLE.add_row(case if i == 0 else "", name, f"{statistics.median(found) * 1e3:.1f}", ratio, extra)


def tangent(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, m: int = 64) -> torch.Tensor:
    """Of as many kernel entries as ``nystrom`` with m landmarks."""
    return attention.tangent(q, k, v, blocks=m // 2, near=5 * m // 4, groups=m // 4)


def held(call: Callable[[], Any], array: torch.Tensor) -> float:
    """Peak memory beyond inputs and output, in n × d arrays."""
    return peak_memory(call, array=array).bytes / ARRAY - 1


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("m", [64, 256])
@torch.inference_mode()
def test_forward(m, device):
    q, k, v = qkv(device=device)
    calls = {
        OURS: lambda: attention.nystrom(q, k, v, m),
        "nystrom, A⁺ itself": lambda: attention.nystrom(q, k, v, m, solver=pinv.rank_revealing),
        "nystrom, six iterations": lambda: attention.nystrom(q, k, v, m, pinv=pinv.razavi),
        "normalised": lambda: attention.normalised(q, k, v, m),
        "near field, as many entries": lambda: attention.near_field(q, k, v, m // 4 - 1, block=m),
        TANGENT: lambda: tangent(q, k, v, m),
        PEER: peer(q, k, v, m)[0],
        PRODUCTS: lambda: products(q, k, v, m),
    }
    seconds = in_turns(calls, device, 12)
    memory = {name: held(call, q) for name, call in calls.items()}
    enter(f"forward, m = {m}, {device}", seconds, memory)
    assert memory[OURS] <= 1
    if m == 64:  # what is aimed at is aimed at for 128 n kernel entries
        assert memory[TANGENT] <= TANGENT_HELD


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("m", [64, 256])
def test_forward_and_backward(m, device):
    q, k, v = qkv(device=device, grad=True)
    theirs, stacked = peer(q, k, v, m)
    calls = {
        OURS: lambda: torch.autograd.grad(attention.nystrom(q, k, v, m).sum(), (q, k, v)),
        TANGENT: lambda: torch.autograd.grad(tangent(q, k, v, m).sum(), (q, k, v)),
        PEER: lambda: torch.autograd.grad(theirs().sum(), stacked),
    }
    seconds = in_turns(calls, device, 9)
    of_cotangents = {name: held(calls[name], q) - 3 for name in (OURS, TANGENT)}
    enter(f"forward and backward, m = {m}, {device}", seconds, of_cotangents)


@pytest.mark.parametrize("device", DEVICES)
@torch.inference_mode()
def test_exact_attention(device):
    q, k, v = qkv(device=device)
    calls = {
        "nystrom, m = 64": lambda: attention.nystrom(q, k, v, 64),
        TANGENT: lambda: tangent(q, k, v),
        FUSED: lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v),
    }
    seconds = in_turns(calls, device, 3)
    ratios = [times_faster(seconds, name, FUSED) for name in [*calls][:2]]
    told = f"exact attention takes {ratios[0]:.0f} and {ratios[1]:.0f} times their time"
    enter(f"n = {N}, {device}: {told}", seconds)


@pytest.mark.parametrize("n", [700, 1500, 4096])
@torch.inference_mode()
def test_tangents_of_few_tokens(n):
    q, k, v = qkv(n)
    calls = {
        TANGENT: lambda: tangent(q, k, v),
        "tangents by position": lambda: attention.tangent(q, k, v, position=float("inf")),
        FUSED: lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v),
    }
    seconds = in_turns(calls, "cpu", 15)
    ratios = [times_faster(seconds, name, FUSED) for name in [*calls][:2]]
    enter(f"n = {n}: exact attention takes {ratios[0]:.2f} and {ratios[1]:.2f} times their time", seconds)


def named(sizes: dict[str, int]) -> str:
    return ", ".join(f"{name} = {size}" for name, size in sizes.items()) or "by default"


@pytest.mark.parametrize("sizes", [{"routed": 0, "group": 128}, {}])
@torch.inference_mode()
def test_causal(sizes):
    q, k, v = qkv()
    calls = {
        "causal": lambda: attention.causal(q, k, v, **sizes),
        FUSED: lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True),
    }
    seconds = in_turns(calls, "cpu", 3)
    ratio = times_faster(seconds, *calls)
    enter(f"causal, {named(sizes)}: exact causal attention takes {ratio:.1f} times its time", seconds)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("method", [OURS, TANGENT])
@torch.inference_mode()
def test_slope(method, device):
    attend = {OURS: attention.nystrom, TANGENT: tangent}[method]
    ns = LENGTHS[2:] if method == TANGENT else LENGTHS  # below, a call of tangents has fixed costs
    lengths = {n: qkv(n, device) for n in ns}
    calls = {f"n = {n}": lambda x=x: attend(*x, 64) for n, x in lengths.items()}
    seconds = in_turns(calls, device, 7)
    slope = fit_slope(ns, [statistics.median(found) for found in seconds.values()])
    told = f"time ∝ n^{slope.value:.2f} ({slope.low:.2f} to {slope.high:.2f})"
    enter(f"{method}: {told}, m = 64, {device}", seconds)
    if device == "cpu":
        assert SLOPE[0] <= slope.value <= SLOPE[1]


SOON = "a call launches some 700 operators, and 90 more for every few heads: 20 to 40 ms whatever n is"
CHOSEN = "the groups that queries choose take as long as all the rest"
MISSED = {
    (
        "forward, m = 64, cpu",
        TANGENT,
        OURS,
    ): "0.38 and 0.53 by processor",
    ("forward, m = 256, cpu", OURS, PEER): "3.4 and 3.8 by processor",
    ("forward and backward, m = 256, cpu", OURS, PEER): "2.3 and 2.6 by processor",
    ("n = 16384, cpu", TANGENT, FUSED): "29 and 39 by processor",
    ("n = 700", TANGENT, FUSED): SOON,
    ("n = 1500", TANGENT, FUSED): SOON,
    ("causal, routed = 0, group = 128", "causal", FUSED): "3.7 and 4.6 by processor",
    ("causal, by default", "causal", FUSED): CHOSEN,
}
"""What is aimed at and not reached, or not by every processor, and why."""

AIMS = {
    ("forward, m = 64, cpu", OURS, PEER): 2.2,
    ("forward, m = 256, cpu", OURS, PEER): 3.5,
    ("forward, m = 64, cpu", OURS, PRODUCTS): 1,
    ("forward, m = 256, cpu", OURS, PRODUCTS): 1,
    ("forward, m = 64, cpu", TANGENT, PEER): 1,
    ("forward, m = 64, cpu", TANGENT, OURS): 1 / 2,
    ("forward and backward, m = 64, cpu", OURS, PEER): 1.6,
    ("forward and backward, m = 256, cpu", OURS, PEER): 2.5,
    ("forward and backward, m = 64, cpu", TANGENT, OURS): 1 / 2.2,
    ("n = 16384, cpu", "nystrom, m = 64", FUSED): 50,
    ("n = 16384, cpu", TANGENT, FUSED): 30,
    ("n = 700", TANGENT, FUSED): 1,
    ("n = 1500", TANGENT, FUSED): 2,
    ("n = 4096", TANGENT, FUSED): 2,
    ("causal, routed = 0, group = 128", "causal", FUSED): 5,
    ("causal, by default", "causal", FUSED): 5,
}
"""Times as fast, by case, method and peer."""


@pytest.mark.parametrize(
    ("aim", "least"),
    [
        pytest.param(
            aim,
            least,
            marks=[pytest.mark.xfail(strict=False, reason=MISSED[aim])] if aim in MISSED else [],
            id=" / ".join(aim),
        )
        for aim, least in AIMS.items()
    ],
)
def test_aims(aim, least):
    case, one, other = aim
    if case not in RATIOS:
        pytest.skip("not measured in this run")
    assert RATIOS[case][f"{one} / {other}"] >= least
