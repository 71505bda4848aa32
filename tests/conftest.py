"""The lanes: every array library that the package serves, one test run over all of them."""

from __future__ import annotations

import os
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import array_api_strict
import numpy as np
import pytest
import torch

from tests.lanes import NO_DEVICE, Lane, cuda_lane, cupy_lane, read_only
from tests.thorough import many

warnings.filterwarnings("ignore", message=".*array_api_strict.*2026.*")

LANES = {
    "numpy": Lane("numpy", np.asarray),
    "read-only": Lane("read-only", read_only),
    "strict": Lane("strict", array_api_strict.asarray),
    "strict-device1": Lane(
        "strict-device1", lambda x: array_api_strict.asarray(x, device=array_api_strict.Device("device1"))
    ),
    "torch": Lane("torch", lambda x: torch.from_numpy(np.array(x))),
    "torch-cuda": cuda_lane(),
    "cupy": cupy_lane(),
}


PRESENT = [name for name, lane in LANES.items() if lane is not None]
# what an array that refuses to be written, or a device that does not mix, would not show is rare: CI has all lanes
RUN = many(PRESENT, [name for name in PRESENT if name not in ("numpy", "strict")])


def pytest_report_header() -> str:
    absent = ", ".join(name for name in LANES if name not in PRESENT)
    return f"lanes: {', '.join(RUN)}" + (f"; absent {absent}: {NO_DEVICE}" if absent else "")


@pytest.fixture(params=RUN)
def lane(request: pytest.FixtureRequest) -> Lane:
    """NumPy, read-only NumPy, array-api-strict on two devices, Torch, and Torch and CuPy on a GPU where one is."""
    chosen = LANES[request.param]
    assert chosen is not None
    return chosen


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20210207)


SLOW = ("experiments", "proofs", "conformance")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that start processes go first: no worker is left alone with one at the end."""
    items.sort(key=lambda item: item.path.parent.name not in SLOW)
