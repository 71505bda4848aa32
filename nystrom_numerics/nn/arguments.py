"""What the models ask of the options that they are made with and of the tensors that they are called with."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nystrom_numerics.arguments import (
    require_callable,
    require_count,
    require_flag,
    require_instance,
    require_tolerance,
)
from nystrom_numerics.distributed.ranks import ranks_of
from nystrom_numerics.errors import DTypeError, KindError, NamespaceError, RangeError, ShapeError
from nystrom_numerics.landmarks import segment_means

__all__ = [
    "require_attention_options",
    "require_flags",
    "require_multihead",
    "require_numbers",
    "require_states",
    "require_token_mask",
]


def require_attention_options(
    *,
    landmarks: Any,
    exact: Any,
    near: Any,
    rule: Any,
    solver: Any,
    pinv: Any,
    conv_kernel: Any,
    dropout: Any,
    group: Any = None,
) -> None:
    """Options of :class:`~nystrom_numerics.nn.NystromAttention`, which are those of the model's configuration too.

    Raises
    ------
    KindError, RangeError
        Naming the option.
    """
    require_count("landmarks", landmarks)
    require_flag("exact", exact)
    require_callable("rule", rule)
    require_callable("solver", solver)
    if pinv is not None:
        require_callable("pinv", pinv)
    if near is not None:
        require_count("near", near)
        if pinv is not None or rule is not segment_means:
            raise RangeError("near", f"{near}", "segment means, and `solver` for a `pinv`")
    if conv_kernel is not None and require_count("conv_kernel", conv_kernel) % 2 == 0:
        raise RangeError("conv_kernel", f"{conv_kernel}", "an odd number, or None")
    if group is not None:
        ranks_of(group)
        if rule is not segment_means:
            raise RangeError("group", "given with another `rule`", "segment means, which are sums over ranks")
    require_tolerance("dropout", dropout)


def require_flags(name: str, value: Any) -> tuple[bool, bool]:
    """Two flags; raises KindError."""
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise KindError(name, f"a {type(value).__name__}", "two flags, such as (True, False)")
    return require_flag(name, value[0]), require_flag(name, value[1])


def require_multihead(multihead: Any, leave_out_dropout: bool) -> None:
    """A ``torch.nn.MultiheadAttention`` that is projections around softmax attention and nothing else.

    Raises
    ------
    KindError, RangeError
        Naming ``multihead``, and what it has besides.
    """
    needs = "a torch.nn.MultiheadAttention"
    require_instance("multihead", multihead, nn.MultiheadAttention, needs)
    if type(multihead).forward is not nn.MultiheadAttention.forward:
        raise KindError("multihead", f"a {type(multihead).__name__} with a `forward` of its own", needs)
    besides = {
        f"kdim={multihead.kdim}": multihead.kdim != multihead.embed_dim,
        f"vdim={multihead.vdim}": multihead.vdim != multihead.embed_dim,
        "add_bias_kv": multihead.bias_k is not None,
        "add_zero_attn": multihead.add_zero_attn,
    }
    found = [name for name, there in besides.items() if there]
    if found:
        raise RangeError(
            "multihead", f"made with {', '.join(found)}", "keys and values of its own tokens alone"
        )
    if multihead.dropout and not require_flag("leave_out_dropout", leave_out_dropout):
        raise RangeError(
            "multihead",
            f"made with dropout={multihead.dropout} of attention weights, which are never formed",
            "`leave_out_dropout=True` to do without",
        )


def _require_tensor(name: str, x: Tensor) -> None:
    if not isinstance(x, Tensor):
        raise NamespaceError(name, f"a {type(x).__name__}", "a Torch tensor")


def require_numbers(
    name: str, x: Tensor, below: int, shape: tuple[int, ...] | None = None, *, shard: bool = False
) -> None:
    """Token or segment numbers (b, n), of a shape where one is known, from 0 to ``below`` − 1; n > 0 but in a shard.

    Their range is looked at on a CPU alone and not in a graph that is being compiled: it would wait for the device.

    Raises
    ------
    DTypeError, NamespaceError, RangeError, ShapeError
        Naming the argument.
    """
    _require_tensor(name, x)
    if x.dtype not in (torch.int64, torch.int32):
        raise DTypeError(name, f"of dtype {x.dtype}", "int64 or int32")
    if x.ndim != 2 or 0 in (x.shape[:1] if shard else x.shape) or shape not in (None, tuple(x.shape)):
        raise ShapeError(name, f"of shape {tuple(x.shape)}", f"shape {shape or '(b, n)'}, not empty")
    if x.numel() and x.device.type == "cpu" and not torch.compiler.is_compiling():
        least, most = int(x.min()), int(x.max())
        if least < 0 or most >= below:
            raise RangeError(name, f"from {least} to {most}", f"numbers in [0, {below})")


def require_states(name: str, x: Tensor, dim: int, dtype: torch.dtype | None, *, shard: bool = False) -> None:
    """States (b, n, dim) of the dtype of the weights, ``None`` where all are integers; under autocast any floating one.

    There is a token, but in a shard.

    Raises
    ------
    DTypeError, NamespaceError, ShapeError
        Naming the argument.
    """
    _require_tensor(name, x)
    if x.ndim != 3 or 0 in (x.shape[:1] if shard else x.shape) or x.shape[-1] != dim:
        raise ShapeError(name, f"of shape {tuple(x.shape)}", f"shape (b, n, {dim}), not empty")
    if dtype not in (x.dtype, None) and not (
        torch.is_autocast_enabled(x.device.type) and x.is_floating_point()
    ):
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
