"""Exact attention, this package's estimators, and controls that attend to nothing."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from experiments.training.mixers import Sizes
from experiments.training.mixers.heads import Projected, hidden
from nystrom_numerics import attention
from nystrom_numerics.nn import NystromAttention
from nystrom_numerics.pinv import razavi

__all__ = ["convolution", "exact", "near", "nothing", "nystrom", "nystrom_alone", "tangents"]

KERNEL = 33


def exact(sizes: Sizes) -> nn.Module:
    """Softmax attention by Torch's fused kernel."""
    return NystromAttention(sizes.dim, heads=sizes.heads, exact=True, conv_kernel=None)


def nystrom(sizes: Sizes, kernel: int | None = KERNEL) -> nn.Module:
    """The paper's: segment means, six iterations, and a convolution of the values beside them."""
    return NystromAttention(sizes.dim, heads=sizes.heads, landmarks=sizes.m, pinv=razavi, conv_kernel=kernel)


def nystrom_alone(sizes: Sizes) -> nn.Module:
    """The same without the convolution."""
    return nystrom(sizes, None)


def near(sizes: Sizes) -> nn.Module:
    """Neighbours exactly, and few landmarks for the rest."""

    def core(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        of_heads = None if mask is None else mask[:, None]
        few = max(1, sizes.m // 4 - 1)
        return attention.near_field(q, k, v, few, block=sizes.m, margin=sizes.m // 4, mask=of_heads)  # type: ignore[no-any-return]

    return Projected(sizes, core)


def tangents(sizes: Sizes) -> nn.Module:
    """Near keys of blocks of queries exactly, groups of the others by their tangents."""
    m = sizes.m

    def core(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        given = None if mask is None else mask[:, None]
        return attention.tangent(  # type: ignore[no-any-return]
            q, k, v, blocks=m // 2, near=5 * m // 4, groups=max(1, m // 4), key_mask=given, query_mask=given
        )

    return Projected(sizes, core)


class _Nothing(nn.Module):
    def forward(self, x: Tensor, *, mask: Tensor | None) -> Tensor:
        return torch.zeros_like(x)


def nothing(sizes: Sizes) -> nn.Module:
    """Zeros."""
    return _Nothing()


class _Convolution(nn.Module):
    """Values, a depthwise convolution over tokens that the channels of a head share, and a linear map."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.heads = sizes.heads
        self.value, self.out = nn.Linear(sizes.dim, sizes.dim), nn.Linear(sizes.dim, sizes.dim)
        self.conv = nn.Conv2d(
            sizes.heads, sizes.heads, (KERNEL, 1), padding=(KERNEL // 2, 0), groups=sizes.heads, bias=False
        )

    def forward(self, x: Tensor, *, mask: Tensor | None) -> Tensor:
        v = hidden(self.value(x), mask).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        joined: Tensor = self.out(self.conv(v).transpose(1, 2).flatten(2))
        return joined


def convolution(sizes: Sizes) -> nn.Module:
    """The paper's convolution of values on its own."""
    return _Convolution(sizes)
