"""Exact attention to some of the keys: what the sources of this project set against Nyström's landmarks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn

from experiments.training.mixers import Sizes
from experiments.training.mixers.heads import Projected

__all__ = ["important", "random", "strided"]

Chosen: TypeAlias = tuple[Tensor, Tensor]
"""Numbers of keys (b, h, s), and what is added to their scores (b, h, s): −∞ for what is no key."""


def random(sizes: Sizes) -> nn.Module:
    """2m real keys of each sequence, drawn evenly without replacement at every call, the same for all heads."""

    def choose(q: Tensor, k: Tensor, real: Tensor, size: int) -> Chosen:
        drawn = torch.rand(real.shape, device=k.device).masked_fill(~real, -1.0)
        at = drawn.topk(size, dim=-1).indices
        return _of_heads(at, real.gather(-1, at), k)

    return _sampling(sizes, choose)


def strided(sizes: Sizes) -> nn.Module:
    """2m real keys of each sequence at equal distances."""

    def choose(q: Tensor, k: Tensor, real: Tensor, size: int) -> Chosen:
        count = real.sum(dim=-1, keepdim=True)
        first = real.long().argmax(dim=-1, keepdim=True)
        step = torch.arange(size, device=k.device)
        few = count <= size
        at = first + torch.where(few, step, step * count // size).clamp(max=real.shape[-1] - 1)
        at = at.clamp(max=real.shape[-1] - 1)
        return _of_heads(at, step < count, k)

    return _sampling(sizes, choose)


def important(sizes: Sizes) -> nn.Module:
    r"""2m real keys of each head, drawn without replacement by :math:`p = \mathrm{softmax}(s\bar q\cdot k_j)`.

    The mean query :math:`\bar q` speaks for all.  Drawn are the 2m largest of :math:`\log p_j` with Gumbel noise;
    beside κ, the next largest, key j is drawn with probability :math:`\pi_j = 1 - \exp(-p_je^{-\kappa})` (Kool et al.
    2019).  A score gets :math:`-\log\pi_j`, so that sums over drawn keys stand for sums over all; where all are
    drawn it is exact attention.  No derivative goes through the drawing.
    """

    def choose(q: Tensor, k: Tensor, real: Tensor, size: int) -> Chosen:
        q, k = q.detach(), k.detach()
        weight = real[:, None, :, None]
        mean = (q * weight).sum(dim=-2, keepdim=True) / weight.sum(dim=-2, keepdim=True)
        scores = (mean * q.shape[-1] ** -0.5 @ k.mT)[..., 0, :].masked_fill(~real[:, None], -torch.inf)
        log_p = scores.log_softmax(dim=-1)
        noise = -torch.log(-torch.log(torch.rand_like(log_p).clamp(1e-20, 1 - 1e-7)))
        largest, order = nn.functional.pad(log_p + noise, (0, 1), value=-torch.inf).topk(size + 1, dim=-1)
        at, next_largest = order[..., :size].clamp(max=k.shape[-2] - 1), largest[..., size:]
        drawn = -torch.expm1(-torch.exp(log_p.gather(-1, at) - next_largest))
        there = real[:, None].expand_as(log_p).gather(-1, at)
        return at, torch.where(there, -torch.log(drawn.clamp(min=1e-20)), -torch.inf)

    return _sampling(sizes, choose)


def _sampling(sizes: Sizes, choose: Callable[[Tensor, Tensor, Tensor, int], Chosen]) -> nn.Module:
    """Exact attention to what ``choose`` gives of queries, keys, the mask of real keys, and their number."""

    def core(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        size = min(2 * sizes.m, k.shape[-2])
        real = k.new_ones(k.shape[0], k.shape[-2], dtype=torch.bool) if mask is None else mask
        at, bias = choose(q, k, real, size)
        keys, values = (x.gather(-2, at[..., None].expand(-1, -1, -1, x.shape[-1])) for x in (k, v))
        return nn.functional.scaled_dot_product_attention(q, keys, values, attn_mask=bias[:, :, None])

    return Projected(sizes, core)


def _of_heads(at: Tensor, there: Tensor, k: Tensor) -> Chosen:
    """The same keys for all heads, with no weights but 0 and −∞."""
    bias = torch.where(there, k.new_zeros(()), k.new_full((), -torch.inf))
    heads = k.shape[1]
    return at[:, None].expand(-1, heads, -1), bias[:, None].expand(-1, heads, -1)
