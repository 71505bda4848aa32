"""Time, memory and growth, measured on what is known beforehand."""

from __future__ import annotations

import time

import numpy as np
import pytest

from experiments.engine import timing

MB = 2**20


def test_measure_takes_the_median_and_waits_for_the_device():
    naps = iter([0.0, 0.05, 0.01, 0.02, 0.03, 0.04])
    waited = []
    found = timing.measure(lambda: time.sleep(next(naps)), repeats=5, synchronize=lambda: waited.append(1))
    assert found.repeats == 5
    assert len(waited) == 6
    assert 0.02 <= found.low <= found.median <= found.high
    assert found.median == pytest.approx(0.03, abs=0.01)


def test_measure_stops_at_its_budget():
    assert timing.measure(lambda: time.sleep(0.02), repeats=100, budget=0.05).repeats <= 3
    with pytest.raises(ValueError, match="repeats ≥ 1"):
        timing.measure(lambda: None, repeats=0)


def numpy_ones(count):
    return np.ones(count, np.uint8)


def torch_ones(count):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    return torch.ones(count, dtype=torch.uint8)


@pytest.mark.parametrize("make", [numpy_ones, torch_ones])
@pytest.mark.parametrize("megabytes", [1, 33, 150])
def test_peak_memory_of_a_known_allocation(make, megabytes):
    """The same after larger arrays were freed, and for arrays that are gone when the call ends."""
    make(200 * MB)
    held = timing.peak_memory(lambda: make(megabytes * MB))
    passing = timing.peak_memory(lambda: int(make(megabytes * MB)[0]))
    assert held.bytes == pytest.approx(megabytes * MB, abs=MB)
    assert passing.bytes == pytest.approx(megabytes * MB, abs=MB)


def test_peak_memory_of_nothing_and_of_two_at_once():
    assert timing.peak_memory(lambda: None).bytes < MB
    both = timing.peak_memory(lambda: (np.ones(20 * MB, np.uint8), np.ones(30 * MB, np.uint8)))
    assert both.bytes == pytest.approx(50 * MB, abs=MB)


def test_peak_memory_where_the_system_keeps_no_peak(monkeypatch):
    monkeypatch.setattr(timing, "_reset_high_water", lambda: False)

    def call():
        array = np.ones(40 * MB, np.uint8)
        time.sleep(0.02)
        return array

    found = timing.peak_memory(call)
    assert found.bytes == pytest.approx(40 * MB, abs=MB)
    assert "sampled" in found.method


def test_cuda_peak_memory_and_waiting():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device that torch can use")
    array = torch.ones(1, device="cuda")
    found = timing.peak_memory(lambda: torch.ones(30 * MB, dtype=torch.uint8, device="cuda"), array=array)
    assert found.bytes == pytest.approx(30 * MB, abs=MB)
    timing.synchronizer(array)()


def test_the_cpu_is_not_waited_for():
    assert timing.synchronizer(np.ones(2))() is None


def test_slope_of_a_power_law():
    x = np.geomspace(1, 1000, 9)
    exact = timing.fit_slope(x, 3 * x**1.7)
    assert (exact.value, exact.low, exact.high) == pytest.approx((1.7, 1.7, 1.7))


def test_slope_interval_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    x = np.geomspace(1, 100, 6)
    fits = [timing.fit_slope(x, x * np.exp(0.2 * rng.standard_normal(6))) for _ in range(400)]
    assert np.mean([fit.low <= 1 <= fit.high for fit in fits]) == pytest.approx(0.95, abs=0.03)


@pytest.mark.parametrize(("x", "y"), [([1, 2], [1, 2]), ([1, 2, 3], [1, 0, 2])])
def test_slope_refuses_what_has_no_interval(x, y):
    with pytest.raises(ValueError, match="three or more positive points"):
        timing.fit_slope(x, y)
