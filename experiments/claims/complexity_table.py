"""The paper's table of costs once more: kernel entries as they are evaluated, and memory and time, at each of its n."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.contract import Case, Outcome, Record, Row, Verdict, frame
from experiments.engine.timing import allocated_peak, measure
from experiments.report import figures
from nystrom_numerics import attention, pinv

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

TITLE = "The table of costs, entry by entry"
CLAIM = (
    "Attention by m landmarks takes 2nm + m² kernel entries and memory O(n), where n × n entries take O(n²)."
)
SOURCE = "Xiong et al. 2021, §3.3 and Table 1 (one GTX 1080 Ti)"
EXCLUSIVE = True
ALT = (
    "Against the number of tokens, both axes logarithmic: left the kernel entries counted in one call, over those of "
    "exact attention; middle the peak memory of a forward and backward pass in mebibytes; right its milliseconds. One "
    "line for each way to attend; crosses at the ends are the paper's factors below attention with n × n entries."
)

LENGTHS = (512, 1024, 2048, 4096, 8192)
D = 64
FULL, FUSED = "exact, n × n", "exact, torch fused kernel"
LANDMARKS = {f"Nyström, {m}": m for m in (64, 32)}
METHODS = (FULL, FUSED, *LANDMARKS)
PAPER = {512: (54 / 35, 0.8 / 0.7), 8192: (10233 / 450, 155.4 / 12.3)}
"""Memory and time with n × n entries over those of 64 landmarks, as printed."""

LINEAR, QUADRATIC = 1.1, 1.8


def grid(profile: str) -> tuple[Case, ...]:
    """A case a length; ``quick`` leaves out the last two."""
    lengths = LENGTHS[:3] if profile == "quick" else LENGTHS
    return tuple(Case("complexity_table", {"n": n, "repeats": 3}) for n in lengths)


def run(case: Case) -> list[Row]:
    """One head of width 64 in float32: entries of a call; peak memory and processor time of it and its derivative."""
    import torch

    n = case.params["n"]
    draws = torch.from_numpy(
        np.random.default_rng(case.seed).standard_normal((3, 1, 1, n, D), dtype=np.float32)
    )
    q, k, v = (x.requires_grad_() for x in draws)

    def step(attend: Callable[..., Any]) -> None:
        torch.autograd.grad(attend(q, k, v).sum(), (q, k, v))

    rows = []
    for name in METHODS:
        attend = _attention(name)
        timing = measure(lambda of=attend: step(of), repeats=case.params["repeats"], clock=time.process_time)
        rows.append(
            {
                "method": name,
                "entries": counted(lambda of=attend: of(q.detach(), k.detach(), v.detach())),
                "mebibytes": allocated_peak(lambda of=attend: step(of)).bytes / 2**20,
                "milliseconds": timing.median * 1e3,
            }
        )
    return rows


def _attention(name: str) -> Callable[..., Any]:
    import torch

    if name == FUSED:
        return torch.nn.functional.scaled_dot_product_attention  # type: ignore[no-any-return]
    if name == FULL:
        return lambda q, k, v: torch.softmax(q @ k.mT * D**-0.5, dim=-1) @ v
    return lambda q, k, v: attention.nystrom(q, k, v, LANDMARKS[name], pinv=pinv.razavi)


def counted(call: Callable[[], Any]) -> int:
    """Kernel entries of one head: what Torch takes a softmax of, by itself or inside a fused kernel, as it runs."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Counting(TorchDispatchMode):
        entries = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            name = func.overloadpacket.__name__
            if name in ("_softmax", "exp"):
                self.entries += args[0].numel()
            elif name.startswith("_scaled_dot_product"):
                q, k = args[:2]
                self.entries += q.numel() // q.shape[-1] * k.shape[-2]
            return func(*args, **(kwargs or {}))

    with Counting() as told:
        call()
    return told.entries


def expected(name: str, n: int) -> int:
    """Kernel entries by the formula."""
    m = LANDMARKS.get(name)
    return n * n if m is None else 2 * n * m + m * m


def verdicts(records: Iterable[Record]) -> tuple[Verdict, ...]:
    """Entries at every length; growth of memory; the printed factors; and Torch's own kernel beside them."""
    data = frame(records)
    if data.empty:
        return (Verdict(CLAIM, Outcome.UNDECIDED, "No record."),)
    return (_entries(data), *_growth(data), *_factors(data), _beside(data))


def _entries(data: pd.DataFrame) -> Verdict:
    wanted = [expected(name, n) for name, n in zip(data["method"], data["n"], strict=True)]
    off = data[data["entries"] != wanted]
    lengths = sorted(data["n"].unique())
    missing = set(LENGTHS) - set(lengths)
    ours = data[data["method"] == "Nyström, 64"].set_index("n")["entries"]
    told = ", ".join(f"{n:,}: {ours[n]:,} of {n * n:,} ({n * n / ours[n]:.1f} times fewer)" for n in lengths)
    rest = "; ".join(f"{x.method} at {x.n}: {x.entries:,}" for x in off.itertuples())
    return Verdict(
        "At every n of Table 1, m landmarks take 2nm + m² kernel entries and exact attention n², counted as they run",
        Outcome.REFUTED if len(off) else Outcome.UNDECIDED if missing else Outcome.SUPPORTED,
        f"64 landmarks at {told}" + (f"; not so {rest}." if rest else "."),
    )


def _growth(data: pd.DataFrame) -> tuple[Verdict, ...]:
    """By doublings of n: memory that is counted has no noise to fit a line through."""
    logs = np.log2(data.pivot_table(index="n", columns="method", values="mebibytes")).diff().dropna()
    if logs.empty:
        return ()

    def told(name: str) -> str:
        return ", ".join(f"{2**x:.2f} to {n:,}" for n, x in logs[name].items())

    found = [
        Verdict(
            f"Memory with {m} landmarks, forward and backward, is O(n): no doubling of n takes more than 2^{LINEAR}",
            Outcome.SUPPORTED if logs[name].max() <= LINEAR else Outcome.REFUTED,
            f"Times more memory, by doublings: {told(name)}.",
        )
        for name, m in LANDMARKS.items()
    ]
    control = Verdict(
        f"The same measure says O(n²) of attention with n × n entries: each doubling takes 2^{QUADRATIC} and more",
        Outcome.SUPPORTED if logs[FULL].min() >= QUADRATIC else Outcome.REFUTED,
        f"Times more memory, by doublings: {told(FULL)}; Torch's fused kernel {told(FUSED)}.",
    )
    return (*found, control)


def _factors(data: pd.DataFrame) -> list[Verdict]:
    found = []
    for i, (column, what) in enumerate((("mebibytes", "memory"), ("milliseconds", "time"))):
        costs = data.pivot_table(index="n", columns="method", values=column)
        factors = costs[FULL] / costs["Nyström, 64"]
        ends = [n for n in PAPER if n in factors.index]
        if not ends:
            continue
        holds = all(factors[n] >= PAPER[n][i] for n in ends)
        printed = ", ".join(f"{PAPER[n][i]:.1f} at {n:,}" for n in ends)
        told = ", ".join(f"{x:.1f} at {n:,}" for n, x in factors.items())
        found.append(
            Verdict(
                f"64 landmarks save at least the printed factor of {what} against n × n entries ({printed})",
                Outcome.SUPPORTED if holds else Outcome.REFUTED,
                f"Here, on a CPU, forward and backward: {told}.",
            )
        )
    return found


def _beside(data: pd.DataFrame) -> Verdict:
    costs = data.pivot_table(index="n", columns="method", values="mebibytes")
    ratio = costs[FUSED] / costs["Nyström, 64"]
    told = ", ".join(f"{x:.2f} at {n:,}" for n, x in ratio.items())
    return Verdict(
        "64 landmarks take less memory than exact attention by Torch's fused kernel too, at every n",
        Outcome.SUPPORTED if (ratio > 1).all() else Outcome.REFUTED,
        f"Its memory over theirs, forward and backward: {told}.",
    )


def table(records: Iterable[Record]) -> pd.DataFrame:
    """Costs by length and method, and how many times those of n × n entries are larger."""
    data = frame(records)
    columns = ["entries", "mebibytes", "milliseconds"]
    full = data[data["method"] == FULL].set_index("n")[columns]
    lines = data[["n", "method", *columns]].copy()
    for column, word in zip(columns, ("fewer entries", "less memory", "faster"), strict=True):
        lines[f"times {word}"] = lines["n"].map(full[column]) / lines[column]
    return lines.reset_index(drop=True)


def plot(records: Iterable[Record]) -> Figure:
    """Entries, memory and time against length."""
    data = frame(records)
    figure, axes = figures.grid(1, 3, height=4.2)
    if data.empty:
        for ax in axes[0]:
            figures.blank(ax, "no record")
        return figure
    colors = figures.palette(list(METHODS))
    data["share"] = data["entries"] / data["n"] ** 2
    labels = {"share": "kernel entries / n²", "mebibytes": "peak memory, MiB", "milliseconds": "processor ms"}
    for i, (ax, (column, label)) in enumerate(zip(axes[0], labels.items(), strict=True)):
        for name in METHODS:
            own = data[data["method"] == name].sort_values("n")
            ax.plot(own["n"], own[column], marker="o", markersize=4, color=colors[name], label=name)
        full = data[data["method"] == FULL].set_index("n")[column]
        for n, factors in PAPER.items() if i else ():
            if n in full.index:
                ax.plot([n], [full[n] / factors[i - 1]], "x", color="black")
        ax.set(xlabel="tokens", ylabel=label, yscale="log")
        ax.set_xscale("log", base=2)
    figures.legend_below(figure, axes[0][0])
    return figure
