"""Time and memory of exact and of Nyström attention against the length of the sequence."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.contract import Case, Outcome, Record, Row, Verdict, frame
from experiments.engine.timing import fit_slope, measure, peak_memory, synchronizer
from experiments.inputs import packages
from experiments.report import figures
from experiments.report.evidence import bounded
from nystrom_numerics import attention

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

TITLE = "Time and memory against length"
CLAIM = "Nyström attention takes time and memory O(n), where exact attention takes O(n²)."
SOURCE = "Xiong et al. 2021, §3.3 and Table 1"
EXCLUSIVE = True
ALT = (
    "Seconds and extra peak memory of one call against the sequence length, both axes logarithmic: one line "
    "for each implementation, with quartiles of the repeated timings as bands and the fitted exponent in the "
    "legend."
)

M, D = 64, 64
OURS, EXACT = "Nyström, this package", "exact, this package"
FUSED, PEER = "exact, torch fused kernel", "Nyström, nystrom-attention"
OTHERS = "tangent, near_field and causal"
TANGENT, NEAR_FIELD = "tangents, as many entries", "near field, as many entries"
CAUSAL, CAUSAL_FUSED = "causal, this package", "exact causal, torch fused kernel"
CUPY, CUPY_EXACT = "Nyström, this package (CuPy)", "exact, this package (CuPy)"
LONGEST = {"quick": 16384, "full": 65536, "gpu": 1048576}
LONGEST_EXACT = {"quick": 4096, "full": 16384, "gpu": 65536}
LONGEST_CAUSAL = 262144
LINEAR, QUADRATIC = 1.1, 1.8
ASYMPTOTIC = 2048  # below, fixed costs (the core's pseudoinverse, one block of scores) hide the growth
LONGEST_COUNT = (
    6  # on a GPU launches hide it far longer: the exponent is that of each method's longest lengths
)


def grid(profile: str) -> tuple[Case, ...]:
    """A case a length, all that ratios are taken of in it, so that they are of one run; peers have their own.

    A peer that is not installed is not available, and nothing else is for want of it.
    """
    halves = (2 ** (p / 2) for p in range(18, 41))
    lengths = [M * round(n / M) for n in halves if n <= LONGEST[profile] + 1]  # the peer asks for m | n
    common = {
        "device": "cuda" if profile == "gpu" else "cpu",
        "heads": 8 if profile == "gpu" else 2,
        "repeats": 3 if profile == "quick" else 7,
    }
    peers = ({}, {"by": "nystrom-attention"}, *([{"by": "cupy"}, {"by": OTHERS}] if profile == "gpu" else []))
    return tuple(
        Case("linear_scaling", {"n": n, "exact": n <= LONGEST_EXACT[profile], **common, **by})
        for n in lengths
        for by in peers
    )


def run(case: Case) -> list[Row]:
    """Time and peak memory of every implementation of a case at one length: float32, one thread on a CPU."""
    import torch

    p = case.params
    by = {"nystrom-attention": _of_the_peer, "cupy": _of_cupy, OTHERS: _of_others}
    implementations = by.get(p.get("by", ""), _of_torch)
    draws = np.random.default_rng(case.seed).standard_normal((3, 1, p["heads"], p["n"], D), dtype=np.float32)
    q, k, v = (torch.from_numpy(x).to(p["device"]) for x in draws)
    rows = []
    for name, call in implementations(q, k, v, p["exact"]).items():
        array = _as_cupy(q) if implementations is _of_cupy else q
        timing = measure(call, repeats=p["repeats"], synchronize=synchronizer(array))
        peak = peak_memory(call, array=array)
        rows.append(
            {
                "method": name,
                "seconds": timing.median,
                "seconds_low": timing.low,
                "seconds_high": timing.high,
                "repeats": timing.repeats,
                "peak_bytes": peak.bytes,
                "peak_method": peak.method,
            }
        )
    return rows


def _of_torch(q: Any, k: Any, v: Any, exact: bool) -> dict[str, Callable[[], Any]]:
    import torch

    calls: dict[str, Callable[[], Any]] = {OURS: lambda: attention.nystrom(q, k, v, M)}
    if exact:
        calls[FUSED] = lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v)
        calls[EXACT] = lambda: attention.exact(q, k, v)
    return calls


def _of_others(q: Any, k: Any, v: Any, exact: bool) -> dict[str, Callable[[], Any]]:
    """What stands in the registry at the kernel entries of as many landmarks, and causal attention."""
    import torch

    calls: dict[str, Callable[[], Any]] = {
        TANGENT: lambda: attention.tangent(q, k, v, blocks=M // 2, near=5 * M // 4, groups=M // 4),
        NEAR_FIELD: lambda: attention.near_field(q, k, v, M // 4 - 1, block=M, margin=M // 4),
    }
    if q.shape[-2] <= LONGEST_CAUSAL:
        calls[CAUSAL] = lambda: attention.causal(q, k, v)
    if exact:
        calls[CAUSAL_FUSED] = lambda: torch.nn.functional.scaled_dot_product_attention(
            q, k, v, is_causal=True
        )
    return calls


def _of_the_peer(q: Any, k: Any, v: Any, _: bool) -> dict[str, Callable[[], Any]]:
    packages.needs_rival(packages.PEER)
    return {PEER: _peer(q, k, v)}


def _of_cupy(q: Any, k: Any, v: Any, exact: bool) -> dict[str, Callable[[], Any]]:
    packages.needs_cupy()
    arrays = [_as_cupy(x) for x in (q, k, v)]
    calls: dict[str, Callable[[], Any]] = {CUPY: lambda: attention.nystrom(*arrays, M)}
    if exact:
        calls[CUPY_EXACT] = lambda: attention.exact(*arrays)
    return calls


def _as_cupy(x: Any) -> Any:
    import cupy

    return cupy.from_dlpack(x)


def _peer(q: Any, k: Any, v: Any) -> Callable[[], Any]:
    """The peer's forward pass on the same q, k, v: its projections are replaced by ones that do nothing."""
    import torch
    from nystrom_attention import NystromAttention

    class Hand(torch.nn.Module):
        """Gives the stacked q, k, v whatever it gets."""

        def forward(self, x: Any) -> Any:
            return stacked

    stacked = torch.cat([x.transpose(1, 2).flatten(2) for x in (q, k, v)], dim=-1)
    heads = q.shape[1]
    module = NystromAttention(heads * D, dim_head=D, heads=heads, num_landmarks=M, residual=False)
    module.to_qkv, module.to_out = Hand(), torch.nn.Identity()
    module = module.to(q.device).eval()

    def call() -> Any:
        with torch.inference_mode():
            return module(stacked[..., : heads * D])

    return call


def _slopes(data: pd.DataFrame, column: str) -> dict[str, Any]:
    """The growth exponent of each method, over lengths at which fixed costs no longer hide it."""
    slopes = {}
    for method, part in data[data["n"] >= ASYMPTOTIC].groupby("method"):
        part = part[part[column] > 0].sort_values("n")
        if (part["device"] == "cuda").all():
            part = part.tail(LONGEST_COUNT)
        if len(part) >= 3:
            slopes[method] = fit_slope(part["n"].to_list(), part[column].to_list())
    return slopes


def _said(slope: Any) -> str:
    return f"{slope.value:.2f} (95 % interval {slope.low:.2f} to {slope.high:.2f})"


def verdicts(records: Iterable[Record]) -> tuple[Verdict, ...]:
    """Exponents of time and memory of Nyström attention, and the length from which it is faster."""
    data = frame(records)
    found = []
    for quantity, column in (("Time", "seconds"), ("Extra peak memory", "peak_bytes")):
        statement = f"{quantity} of Nyström attention is O(n): the fitted exponent is at most {LINEAR}"
        slopes = _slopes(data, column)
        if OURS not in slopes:
            found.append(Verdict(statement, Outcome.UNDECIDED, "Fewer than three lengths measured."))
            continue
        rest = "; ".join(f"{name} {_said(slope)}" for name, slope in slopes.items() if name != OURS)
        because = (
            f"Exponent {_said(slopes[OURS])}. Beside it: {rest}."
            if rest
            else f"Exponent {_said(slopes[OURS])}."
        )
        found.append(bounded(statement, slopes[OURS].low, slopes[OURS].high, LINEAR, because))
    return (*found, _crossover(data))


def _crossover(data: pd.DataFrame) -> Verdict:
    statement = (
        "Nyström attention is faster than exact attention by a fused kernel at the lengths measured here"
    )
    seconds = data.pivot_table(index="n", columns="method", values="seconds")
    if FUSED not in seconds:
        return Verdict(statement, Outcome.UNDECIDED, "The fused kernel was not measured.")
    both = seconds[[OURS, FUSED]].dropna()
    ratio = both[FUSED] / both[OURS]
    parts = [f"{r:.2g} at n = {n}" for n, r in ratio.items()]
    where = _crossing(np.log(both.index.to_numpy(float)), np.log(ratio.to_numpy()))
    length = f"The lines cross near n = {np.exp(where):.0f}. " if where is not None else ""
    outcome = Outcome.SUPPORTED if (ratio > 1).all() else Outcome.REFUTED
    if ratio.iloc[-1] > 1 and not (ratio > 1).all():
        outcome = Outcome.UNDECIDED
    return Verdict(statement, outcome, f"{length}Its time over Nyström's: {', '.join(parts)}.")


def _crossing(x: Any, y: Any) -> float | None:
    """Where the broken line through (x, y) crosses zero upwards for the last time."""
    for i in range(len(x) - 1, 0, -1):
        if y[i - 1] <= 0 < y[i]:
            return float(x[i - 1] - y[i - 1] * (x[i] - x[i - 1]) / (y[i] - y[i - 1]))
    return None


def table(records: Iterable[Record]) -> pd.DataFrame:
    """Milliseconds and mebibytes of each method at each length."""
    data = frame(records)
    data["ms"], data["MiB"] = data["seconds"] * 1e3, data["peak_bytes"] / 2**20
    wide = data.pivot_table(index="n", columns="method", values=["ms", "MiB"])
    wide.columns = [f"{method}, {unit}" for unit, method in wide.columns]
    return wide.reset_index()


def plot(records: Iterable[Record]) -> Figure:
    """Time and memory against n with their fitted exponents."""
    data = frame(records)
    data["mebibytes"] = data["peak_bytes"] / 2**20
    figure, axes = figures.grid(1, 2, height=5.6)
    known = (OURS, PEER, FUSED, EXACT, CUPY, CUPY_EXACT, TANGENT, NEAR_FIELD, CAUSAL, CAUSAL_FUSED)
    methods = [m for m in known if m in set(data["method"])]
    colors = figures.palette(methods)
    labels = {"seconds": "seconds a call", "mebibytes": "extra peak memory, MiB"}
    for ax, (column, label) in zip(axes[0], labels.items(), strict=True):
        slopes = _slopes(data, column)
        for method in methods:
            part = data[(data["method"] == method) & (data[column] > 0)].sort_values("n")
            name = f"{method}: n^{slopes[method].value:.2f}" if method in slopes else method
            ax.plot(part["n"], part[column], marker="o", markersize=4, color=colors[method], label=name)
            if column == "seconds":
                ax.fill_between(
                    part["n"], part["seconds_low"], part["seconds_high"], color=colors[method], alpha=0.2
                )
        ax.set(xlabel="sequence length n, tokens", ylabel=label)
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), frameon=False)
    device, heads = data["device"].iloc[0], int(data["heads"].iloc[0])
    figure.suptitle(
        f"{heads} heads of width {D}, m = {M}, float32, {device}"
        + (", one thread" if device == "cpu" else "")
    )
    return figure
