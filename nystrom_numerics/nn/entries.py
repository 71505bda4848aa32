"""The entries of a state: dense tensors of real floating numbers, each in its place, of its shape."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import reduce

import torch
from torch import Tensor

from nystrom_numerics.arguments import require_instance
from nystrom_numerics.errors import NystromError

__all__ = ["CheckpointError", "matrix_shape", "require_entries", "require_state"]

_FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class CheckpointError(NystromError):
    """Weights that do not fit the model.

    Parameters
    ----------
    *args : str
        What does not fit.

    Examples
    --------
    >>> from nystrom_numerics import nn
    >>> try:
    ...     nn.hugging_face_config({"model_type": "bert"})
    ... except nn.CheckpointError as error:
    ...     print("bert" in str(error))
    True
    """


def require_state(state: Mapping[str, Tensor], constants: Iterable[str] = ()) -> torch.dtype:
    """The widest dtype of entries that are all dense tensors of real floating numbers, ``constants`` apart."""
    require_instance("state", state, Mapping, "a mapping of names to tensors")
    if not state:
        raise CheckpointError("the state holds no entries")
    for name, x in state.items():
        if not isinstance(name, str) or not isinstance(x, Tensor):
            raise CheckpointError(f"the entry {name!r} is a {type(x).__name__}, not a tensor under a name")
        if x.layout is not torch.strided or x.is_meta:
            raise CheckpointError(f"{name} is sparse or without storage")
        if name not in constants and x.dtype not in _FLOATING:
            raise CheckpointError(f"{name} is of {x.dtype}, not of 16, 32 or 64 bit real floating numbers")
    dtypes = [x.dtype for name, x in state.items() if name not in constants]
    return reduce(torch.promote_types, dtypes or [torch.float32])


def require_entries(
    state: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], more: Iterable[str] = ()
) -> None:
    """Refuse a state that has not exactly these entries, of these shapes; those of ``more`` may be there too."""
    missing = [name for name in shapes if name not in state]
    surplus = [name for name in state if name not in shapes and name not in more]
    wrong = [
        f"{name} of shape {tuple(state[name].shape)}, not {tuple(shape)}"
        for name, shape in shapes.items()
        if name in state and tuple(state[name].shape) != tuple(shape)
    ]
    if missing or surplus or wrong:
        found = {"missing": missing, "no place for": surplus, "wrong": wrong}
        raise CheckpointError("; ".join(f"{what} {_listed(names)}" for what, names in found.items() if names))


def _listed(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def matrix_shape(state: Mapping[str, Tensor], name: str) -> tuple[int, int]:
    """The shape of an entry that the sizes of a model are read off."""
    if name not in state:
        raise CheckpointError(f"missing {name}")
    rows, *columns = tuple(state[name].shape) or (0,)
    if len(columns) != 1 or not rows or not columns[0]:
        raise CheckpointError(f"{name} is of shape {tuple(state[name].shape)}, not a matrix")
    return rows, columns[0]
