"""Time, peak memory and growth: each measured with its spread, or with a word on how."""

from __future__ import annotations

import ctypes
import gc
import platform
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from scipy import stats

_SAMPLES_PER_SECOND = 1000
_PR_SET_THP_DISABLE = 41


@dataclass(frozen=True)
class Timing:
    """Seconds of a call: the median and the quartiles of ``repeats`` calls."""

    median: float
    low: float
    high: float
    repeats: int


@dataclass(frozen=True)
class PeakMemory:
    """Bytes that a call held at its peak beyond those before it, the result included, and how it is known."""

    bytes: int
    method: str


@dataclass(frozen=True)
class Slope:
    """Exponent p of y ∝ xᵖ with its 95 % confidence interval."""

    value: float
    low: float
    high: float


def _on_cuda_torch(array: Any) -> bool:
    return type(array).__module__.partition(".")[0] == "torch" and array.is_cuda


def _on_cupy(array: Any) -> bool:
    return type(array).__module__.partition(".")[0] == "cupy"


def synchronizer(array: Any) -> Callable[[], Any]:
    """The function that waits for the work on the array's device; it does nothing on the CPU."""
    if _on_cuda_torch(array):
        import torch

        return lambda: torch.cuda.synchronize(array.device)
    if _on_cupy(array):
        return array.device.synchronize  # type: ignore[no-any-return]
    return lambda: None


def measure(
    fn: Callable[[], Any],
    *,
    repeats: int = 7,
    synchronize: Callable[[], Any] = lambda: None,
    budget: float = 60.0,
    clock: Callable[[], float] = time.perf_counter,
) -> Timing:
    """Time ``fn`` after one call to warm up, waiting for the device around each call.

    Parameters
    ----------
    clock
        Seconds; ``time.process_time`` has those of this process alone, where one thread of a CPU does the work and
        others share it.
    synchronize
        Waits for the device, see :func:`synchronizer`.
    budget
        Seconds after which no further repetition begins; :attr:`Timing.repeats` says how many there were.
    """
    if repeats < 1:
        raise ValueError(f"measure needs repeats ≥ 1, got {repeats}")
    fn()
    synchronize()
    seconds: list[float] = []
    while len(seconds) < repeats and (not seconds or sum(seconds) < budget):
        start = clock()
        fn()
        synchronize()
        seconds.append(clock() - start)
    low, median, high = np.quantile(seconds, [0.25, 0.5, 0.75])
    return Timing(float(median), float(low), float(high), len(seconds))


def peak_memory(fn: Callable[[], Any], *, array: Any = None) -> PeakMemory:
    """Extra memory at the peak of one call of ``fn``, after one call to warm up.

    On CUDA (where ``array`` says so) it is the allocator's own count. On the CPU it is the growth of the
    resident set: memory reserved and never touched does not count, and what the allocator kept from before is
    given back first, so that using it anew counts. Linux keeps the peak itself; elsewhere the set is sampled,
    and a peak shorter than the sampling interval is missed.
    """
    fn()
    gc.collect()
    if _on_cuda_torch(array):
        return _torch_cuda_peak(fn, array.device)
    if _on_cupy(array):
        return _cupy_peak(fn)
    with _small_pages():
        _give_back()
        if not _reset_high_water():
            return _sampled_peak(fn)
        before = _status_bytes("VmRSS")
        result = fn()
        peak = _status_bytes("VmHWM")
    del result
    return PeakMemory(max(0, peak - before), "high-water mark of the resident set")


def allocated_peak(fn: Callable[[], Any]) -> PeakMemory:
    """Bytes that Torch's allocator on the CPU held at the peak of one call, beyond those before, after one to warm up.

    The resident set, which :func:`peak_memory` reads, has the holes between arrays as well: in steps of training these
    are half of it, and differ from run to run.
    """
    from torch.profiler import ProfilerActivity, profile

    fn()
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as told:
        fn()
    events = told.profiler.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    held = np.cumsum([0, *(size for _, size in changes)])
    return PeakMemory(int(held.max()), "peak of torch's CPU allocator")


def _torch_cuda_peak(fn: Callable[[], Any], device: Any) -> PeakMemory:
    import torch

    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    result = fn()
    torch.cuda.synchronize(device)
    peak = torch.cuda.max_memory_allocated(device)
    del result
    return PeakMemory(peak - before, "peak of torch's CUDA allocator")


def _cupy_peak(fn: Callable[[], Any]) -> PeakMemory:
    import cupy

    pool = cupy.get_default_memory_pool()
    pool.free_all_blocks()
    before = pool.total_bytes()
    result = fn()
    cupy.cuda.get_current_stream().synchronize()
    peak = pool.total_bytes()
    del result
    return PeakMemory(peak - before, "growth of CuPy's memory pool")


@contextmanager
def _small_pages() -> Iterator[None]:
    """Keep Linux from rounding new memory up to huge pages of 2 MB meanwhile."""
    switch = getattr(ctypes.CDLL(None), "prctl", None)
    if switch is None:
        yield
        return
    switch(_PR_SET_THP_DISABLE, 1, 0, 0, 0)
    try:
        yield
    finally:
        switch(_PR_SET_THP_DISABLE, 0, 0, 0, 0)


def _give_back() -> None:
    """Return the C allocator's free memory to the system, where it is glibc's."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def _reset_high_water() -> bool:
    """Set the kernel's high-water mark to the present; False where it keeps none that can be set."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _status_bytes(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(f"/proc/self/status has no {field}")


def _sampled_peak(fn: Callable[[], Any]) -> PeakMemory:
    process = psutil.Process()
    before = process.memory_info().rss
    with _sampling(lambda: process.memory_info().rss) as seen:
        result = fn()
    del result
    return PeakMemory(
        max(0, max(seen) - before), f"resident set sampled {_SAMPLES_PER_SECOND} times a second"
    )


@contextmanager
def _sampling(read: Callable[[], int]) -> Iterator[list[int]]:
    """Collect what ``read`` gives, from another thread, until the block ends, and once more then."""
    seen = [read()]
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(1 / _SAMPLES_PER_SECOND):
            seen.append(read())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield seen
    finally:
        seen.append(read())
        ended.set()
        watcher.join()


def fit_slope(x: Sequence[float], y: Sequence[float]) -> Slope:
    """Least-squares slope of log y on log x, with Student's 95 % interval.

    Raises
    ------
    ValueError
        Fewer than three points, or one that is not positive: there is no interval, or no logarithm.
    """
    if len(x) < 3 or min(*x, *y) <= 0:
        raise ValueError(f"a slope with its interval needs three or more positive points, got {len(x)}")
    fit = stats.linregress(np.log(x), np.log(y))
    half = float(stats.t.ppf(0.975, len(x) - 2) * fit.stderr)
    return Slope(float(fit.slope), float(fit.slope) - half, float(fit.slope) + half)
