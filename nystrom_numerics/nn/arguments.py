"""What the models ask of the tensors that they are called with."""

from __future__ import annotations

import torch
from torch import Tensor

from nystrom_numerics.errors import DTypeError, NamespaceError, RangeError, ShapeError

__all__ = ["require_numbers", "require_states", "require_token_mask"]


def _require_tensor(name: str, x: Tensor) -> None:
    if not isinstance(x, Tensor):
        raise NamespaceError(name, f"a {type(x).__name__}", "a Torch tensor")


def require_numbers(name: str, x: Tensor, below: int, shape: tuple[int, ...] | None = None) -> None:
    """Token or segment numbers (b, n), of a shape where one is known, from 0 to ``below`` − 1.

    Their range is looked at on a CPU alone and not in a graph that is being compiled: it would wait for the device.

    Raises
    ------
    DTypeError, NamespaceError, RangeError, ShapeError
        Naming the argument.
    """
    _require_tensor(name, x)
    if x.dtype not in (torch.int64, torch.int32):
        raise DTypeError(name, f"of dtype {x.dtype}", "int64 or int32")
    if x.ndim != 2 or 0 in x.shape or shape not in (None, tuple(x.shape)):
        raise ShapeError(name, f"of shape {tuple(x.shape)}", f"shape {shape or '(b, n)'}, not empty")
    if x.device.type == "cpu" and not torch.compiler.is_compiling():
        least, most = int(x.min()), int(x.max())
        if least < 0 or most >= below:
            raise RangeError(name, f"from {least} to {most}", f"numbers in [0, {below})")


def require_states(name: str, x: Tensor, dim: int, dtype: torch.dtype) -> None:
    """States (b, n, dim) of the dtype of the weights; under autocast of any floating dtype.

    Raises
    ------
    DTypeError, NamespaceError, ShapeError
        Naming the argument.
    """
    _require_tensor(name, x)
    if x.ndim != 3 or 0 in x.shape or x.shape[-1] != dim:
        raise ShapeError(name, f"of shape {tuple(x.shape)}", f"shape (b, n, {dim}), not empty")
    if x.dtype != dtype and not (torch.is_autocast_enabled(x.device.type) and x.is_floating_point()):
        raise DTypeError(name, f"of dtype {x.dtype}", f"that of the weights, {dtype}")


def require_token_mask(name: str, mask: Tensor, shape: tuple[int, ...]) -> None:
    """A boolean mask (b, n), true for real tokens.

    Raises
    ------
    DTypeError, NamespaceError, ShapeError
        Naming the argument.
    """
    _require_tensor(name, mask)
    if mask.dtype != torch.bool:
        raise DTypeError(name, f"of dtype {mask.dtype}", "a boolean mask, true for real tokens")
    if tuple(mask.shape) != shape:
        raise ShapeError(name, f"of shape {tuple(mask.shape)}", f"shape {shape}")
