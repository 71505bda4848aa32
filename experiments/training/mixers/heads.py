"""Projections around a core: what all methods share that attend between queries, keys and values of heads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from torch import Tensor, nn

from experiments.training.mixers import Sizes

__all__ = ["Core", "Projected", "hidden"]

Core: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
"""From q, k, v (b, h, n, d) and a mask (b, n) or None to outputs (b, h, n, d)."""


class Projected(nn.Module):
    """Queries, keys and values by linear maps, a core between them, and a linear map of its heads together."""

    def __init__(self, sizes: Sizes, core: Core) -> None:
        super().__init__()
        self.heads = sizes.heads
        self.query, self.key, self.value, self.out = (nn.Linear(sizes.dim, sizes.dim) for _ in range(4))
        self.core = core

    def forward(self, x: Tensor, *, mask: Tensor | None) -> Tensor:
        x = hidden(x, mask)
        q, k, v = (
            linear(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for linear in (self.query, self.key, self.value)
        )
        joined: Tensor = self.out(self.core(q, k, v, mask).transpose(1, 2).flatten(2))
        return joined


def hidden(x: Tensor, mask: Tensor | None) -> Tensor:
    """Zeros where padding stands."""
    return x if mask is None else x * mask[..., None]
