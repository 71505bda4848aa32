"""One array library under test: how to make its arrays, and how to compare with NumPy's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import array_api_compat
import numpy as np

from nystrom_numerics.backend import device_of, to_numpy

NO_DEVICE = "no CUDA device is present, or CuPy is not installed"


@dataclass(frozen=True)
class Lane:
    name: str
    asarray: Callable[[Any], Any]

    def __call__(self, x: Any, dtype: str | None = None) -> Any:
        """The array ``x`` in this library."""
        x = np.asarray(x)
        return self.asarray(x if dtype is None else x.astype(dtype))

    def assert_close(self, actual: Any, expected: np.ndarray, like: Any, *, rtol: float, atol: float = 0.0):
        """Same library, dtype and device as ``like``, and the values of ``expected``."""
        assert array_api_compat.array_namespace(actual) is array_api_compat.array_namespace(like)
        assert device_of(actual) == device_of(like)
        assert actual.dtype == like.dtype
        np.testing.assert_allclose(to_numpy(actual), expected, rtol=rtol, atol=atol)


def read_only(x: Any) -> np.ndarray:
    """A NumPy array that refuses to be written."""
    x = np.array(x)
    x.flags.writeable = False
    return x


def cupy_lane() -> Lane | None:
    """The CuPy lane, or None where CuPy or a device is missing."""
    try:
        import cupy

        cupy.zeros(1)
    except Exception:  # ImportError without CuPy; a driver or runtime error without a device
        return None
    return Lane("cupy", cupy.asarray)


def cuda_lane() -> Lane | None:
    """The lane of Torch on a GPU, or None where there is none."""
    import torch

    return (
        Lane("torch-cuda", lambda x: torch.as_tensor(np.array(x), device="cuda"))
        if torch.cuda.is_available()
        else None
    )
