"""Torch's side of :func:`nystrom_numerics.backend.with_vjp`, which loads it when it meets a tensor."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nystrom_numerics.errors import DerivativeError

__all__ = ["WithVjp"]


class WithVjp(torch.autograd.Function):
    """``WithVjp.apply(forward, vjp, *inputs)``: what a pair of functions computes, and its derivative."""

    @staticmethod
    def forward(ctx: Any, forward: Any, vjp: Any, *inputs: Tensor) -> tuple[Tensor, ...]:
        outputs, saved = forward(*inputs)
        ctx.save_for_backward(*saved)
        ctx.vjp = vjp
        ctx.mark_non_differentiable(*outputs[1:])
        return outputs  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor, *_: Tensor) -> tuple[Any, ...]:
        if torch.is_grad_enabled():  # create_graph=True: saved factors would count as constants
            raise DerivativeError("this derivative is in closed form and can be taken only once")
        return (None, None, *ctx.vjp(cotangent, *ctx.saved_tensors))
