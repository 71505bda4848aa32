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


@pytest.fixture(params=list(LANES))
def lane(request: pytest.FixtureRequest) -> Lane:
    """NumPy, read-only NumPy, array-api-strict on two devices, Torch, and Torch and CuPy on a GPU where one is."""
    chosen = LANES[request.param]
    if chosen is None:
        pytest.skip(f"{request.param} lane: {NO_DEVICE}")
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
