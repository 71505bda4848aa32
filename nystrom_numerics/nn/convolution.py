"""The depthwise convolution of values, on a CPU as products with a band matrix, block by block."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nystrom_numerics.backend import with_vjp

__all__ = ["convolve"]

BLOCK = 128
"""Rows of a band matrix: rows of zeros beside the band cost time, many blocks do so too."""


def convolve(v: Tensor, conv: nn.Conv2d) -> Tensor:
    r"""What ``conv`` makes of values (b, h, n, d): :math:`y_i = \sum_j w_jv_{i+j-r}`, 2r + 1 weights a head.

    Torch's own derivative of such a convolution takes eight arrays of n × d on a CPU; here a block of rows is the
    product of a band matrix with the rows around it, and its derivative two of them, which takes one array and less
    time.  Elsewhere, and in a graph that is compiled or exported, it is ``conv``.  The derivative can be taken once.
    """
    if v.device.type != "cpu" or torch.compiler.is_compiling() or not _plain(conv):
        of_library: Tensor = conv(v)
        return of_library
    weight = conv.weight[:, 0, :, 0].to(v.dtype)
    n, width = v.shape[-2], weight.shape[-1]
    reach, rows = width // 2, max(1, min(BLOCK, n))

    def blocks() -> list[tuple[slice, slice, slice]]:
        """Rows of the result, rows of v that they see, and columns of the band matrix that these are."""
        found = []
        for i in range(0, n, rows):
            stop = min(n, i + rows)
            first, last = max(0, i - reach), min(n, stop + reach)
            found.append((slice(i, stop), slice(first, last), slice(first - i + reach, last - i + reach)))
        return found

    def diagonals(band: Tensor) -> Tensor:
        """The weights where they stand in a band matrix (h, rows, rows + width - 1), as (h, rows, width)."""
        across = rows + width - 1
        return band.as_strided((band.shape[0], rows, width), (rows * across, across + 1, 1))

    def forward(v: Tensor, weight: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        band = _band(weight)
        out = torch.empty_like(v)
        for own, seen, columns in blocks():
            of_rows = band[:, : own.stop - own.start, columns]
            torch.matmul(of_rows, v[..., seen, :], out=out[..., own, :])
        return (out,), (v, weight)

    def vjp(g: Tensor, v: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
        band, of_band = _band(weight), torch.zeros_like(_band(weight))
        of_v = torch.zeros_like(v)
        for own, seen, columns in blocks():
            of = (slice(None), slice(0, own.stop - own.start), columns)
            of_v[..., seen, :] += band[of].mT @ g[..., own, :]
            of_band[of] += (g[..., own, :] @ v[..., seen, :].mT).sum(dim=0)
        return of_v, diagonals(of_band).sum(dim=1)

    def _band(weight: Tensor) -> Tensor:
        band = weight.new_zeros(weight.shape[0], rows, rows + width - 1)
        diagonals(band).copy_(weight[:, None].expand(-1, rows, -1))
        return band

    y: Tensor = with_vjp(forward, vjp, v, weight)[0]
    return y


def _plain(conv: nn.Conv2d) -> bool:
    """Whether calling the module is no more than its convolution, and nobody goes through it with ``torch.func``."""
    hooks = (conv._forward_hooks, conv._forward_pre_hooks, conv._backward_hooks, conv._backward_pre_hooks)
    return type(conv) is nn.Conv2d and not any(hooks) and not torch._C._are_functorch_transforms_active()
