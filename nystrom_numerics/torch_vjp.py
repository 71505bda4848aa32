"""Torch's side of :func:`nystrom_numerics.backend.with_vjp`, which loads it when it meets a tensor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from nystrom_numerics.errors import DerivativeError

__all__ = ["WithVjp", "pulled_back"]


def pulled_back(
    function: Callable[..., Tensor], cotangent: Tensor, inputs: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """Cotangents of the inputs of a function that is run once more, and recorded, for them."""
    with torch.enable_grad():
        fresh = [x.detach().requires_grad_() for x in inputs]
        output = function(*fresh)
        found = torch.autograd.grad(output, fresh, cotangent, allow_unused=True)
    return tuple(torch.zeros_like(x) if g is None else g for x, g in zip(inputs, found, strict=True))


class WithVjp(torch.autograd.Function):
    """``WithVjp.apply(forward, vjp, fixed, *inputs)``: what a pair of functions computes, and its derivative."""

    @staticmethod
    def forward(
        ctx: Any, forward: Any, vjp: Any, fixed: tuple[Tensor, ...], *inputs: Tensor
    ) -> tuple[Tensor, ...]:
        outputs, saved = forward(*inputs)
        ctx.save_for_backward(*saved, *fixed)
        ctx.vjp, ctx.own = vjp, len(saved)
        ctx.mark_non_differentiable(*outputs[1:])
        return outputs  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor, *_: Tensor) -> tuple[Any, ...]:
        if torch.is_grad_enabled():  # create_graph=True: saved factors would count as constants
            raise DerivativeError("this derivative is in closed form and can be taken only once")
        return (None, None, None, *ctx.vjp(cotangent, *ctx.saved_tensors[: ctx.own]))
