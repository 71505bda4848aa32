"""Torch's side of :mod:`nystrom_numerics.lapack`, loaded when it meets a CPU tensor.

An operator of its own, on the tensors' memory: compiled graphs call it as one node, and fake tensors have its shape.
It has no derivative; :func:`nystrom_numerics.backend.with_vjp` gives one where it is used.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nystrom_numerics import lapack

__all__ = ["least_squares"]


@torch.library.custom_op("nystrom_numerics::least_squares", mutates_args=(), device_types="cpu")
def least_squares(a: Tensor, b: Tensor, rtol: float) -> Tensor:
    """:func:`nystrom_numerics.lapack.least_squares` of tensors."""
    left, right = (x.detach().resolve_conj().resolve_neg().numpy() for x in (a, b))
    return torch.from_numpy(lapack.least_squares(left, right, rtol))


@least_squares.register_fake
def _shape(a: Tensor, b: Tensor, rtol: float) -> Tensor:
    return a.new_empty((*a.shape[:-1][:-1], a.shape[-1], b.shape[-1]))


@least_squares.register_vmap
def _over_a_batch(info: Any, in_dims: Any, a: Tensor, b: Tensor, rtol: float) -> tuple[Tensor, int]:
    stacks = (
        x.expand(info.batch_size, *x.shape) if dim is None else x.movedim(dim, 0)
        for x, dim in zip((a, b), in_dims, strict=False)
    )
    return least_squares(*stacks, rtol), 0
