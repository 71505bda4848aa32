"""Nyström approximation of attention and kernels: numerics, bounds and honest checks.

>>> import numpy as np
>>> from nystrom_numerics import attention, landmarks, pinv
>>> q, k, v = np.random.default_rng(0).standard_normal((3, 8, 500, 64))
>>> attention.nystrom(q, k, v, 64, landmarks=landmarks.segment_means, pinv=pinv.svd).shape
(8, 500, 64)
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False
if TYPE_CHECKING:  # type checkers take it for true; `typing` itself would slow the start of the command line
    from typing import Any

    from nystrom_numerics import attention, bounds, errors, kernels, landmarks, linalg, lowrank, pinv

__version__ = "0.1.0"

__all__ = ["attention", "bounds", "errors", "kernels", "landmarks", "linalg", "lowrank", "pinv"]


def __getattr__(name: str) -> Any:
    """The rooms, each loaded when it is asked for, so that the command line sets its threads before NumPy comes."""
    if name in __all__:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
