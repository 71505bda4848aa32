r"""Attention to the keys of one shard, and what joins it to that of others: :math:`L_i = \log\sum_j e^{sq_i\cdot k_j}`.

Of parts p with outputs :math:`O_p` and :math:`L_p` the whole is :math:`L = \log\sum_p e^{L_p}` and
:math:`O = \sum_p e^{L_p-L}O_p`; and with the L and O of the whole, each part has its share of the derivative by itself.
Arrays here have four axes, queries (b, h, r, d), keys and values (b, h, n, ·), a mask (b or 1, h or 1, n) of keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nystrom_numerics.attention.streaming import stream_scores
from nystrom_numerics.backend import namespace
from nystrom_numerics.fused import attention_vjp

__all__ = ["Laid", "join", "lay", "part", "part_vjp"]


@dataclass(frozen=True)
class Laid:
    """Queries, keys, values and a mask of keys of four axes, and how outputs get back the axes of the call."""

    q: Tensor
    k: Tensor
    v: Tensor
    mask: Tensor | None
    batch: tuple[int, ...]
    rows: int

    def back(self, out: Tensor) -> Tensor:
        """Outputs (b, h, r, w) as (..., n_q, w)."""
        return out.reshape(*self.batch, self.rows, out.shape[-1])


def lay(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Laid:
    """Leading axes made two; queries that share their keys, as ``grouped`` heads do, become rows of one head."""
    shared = np.broadcast_shapes(k.shape[:-2], v.shape[:-2], () if mask is None else mask.shape[:-1])
    batch = np.broadcast_shapes(q.shape[:-2], shared)
    rows = q.shape[-2]
    q = q.expand(*batch, *q.shape[-2:])
    own = batch
    if len(shared) == len(batch) > 0 and shared[-1] == 1 < batch[-1]:
        own = (*batch[:-1], 1)
        q = q.reshape(*own, batch[-1] * rows, q.shape[-1])

    def four(x: Tensor) -> Tensor:
        x = x.expand(*own, *x.shape[-2:]) if x.shape[:-2] != own else x
        return x.reshape(1, prod(own), *x.shape[-2:])

    if mask is not None:
        mask = mask.expand(*own, mask.shape[-1]).reshape(1, prod(own), mask.shape[-1])
    return Laid(four(q), four(k), four(v), mask, tuple(batch), rows)


def part(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
    """Attention (b, h, r, d_v) to these keys alone, and L (b, h, r, 1), −∞ and zeros where there is none."""
    if q.device.type != "cpu":
        out, top, total = stream_scores(namespace(q=q), q, k, v, mask, None, scale)
        some = torch.where(total == 0, torch.ones_like(total), total)
        return out / some, torch.where(total == 0, -torch.inf, some.log() + top)
    q, k, v, columns = _widened(q, k, v)
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    out, lse = kernel(q, k, v, attn_mask=_added(q, mask), scale=scale)
    out, lse = out[..., :columns], lse[..., None]
    if mask is not None:
        alone = ~mask.any(dim=-1)[..., None, None]
        out, lse = out.masked_fill(alone, 0.0), lse.masked_fill(alone, -torch.inf)
    return out, lse


def part_vjp(
    g: Tensor, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, out: Tensor, lse: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """This part's share of the cotangents of q, k and v for g of the whole, whose output and L are given."""
    lse = lse.masked_fill(lse == -torch.inf, 0.0)  # no key anywhere: every weight is zero
    if q.device.type != "cpu":
        width = q.shape[-1]
        if mask is not None:  # one more coordinate, which no score with a masked key survives
            least = torch.finfo(q.dtype).min / 4
            column = torch.where(mask, 0.0, least / scale if abs(scale) > 1 else least)[..., None].to(q.dtype)
            sign = 1.0 if scale > 0 else -1.0
            q = torch.cat([q, torch.full_like(q[..., :1], sign)], dim=-1)
            k = torch.cat([k, column.expand(*k.shape[:-1], 1)], dim=-1)
        of_q, of_k, of_v = attention_vjp(g, q, k, v, out, lse, scale)
        return of_q[..., :width], of_k[..., :width], of_v
    width = q.shape[-1]
    q, k, v, columns = _widened(q, k, v)
    g, out = (torch.nn.functional.pad(x, (0, q.shape[-1] - columns)) for x in (g, out))
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    mask = _added(q, mask)
    of_q, of_k, of_v = kernel(
        g.contiguous(),
        q,
        k,
        v,
        out.contiguous(),
        lse[..., 0].contiguous(),
        0.0,
        False,
        attn_mask=mask,
        scale=scale,
    )
    return of_q[..., :width], of_k[..., :width], of_v[..., :columns]


def join(out: Tensor, lse: Tensor, more: Tensor, more_lse: Tensor) -> tuple[Tensor, Tensor]:
    """Two parts as one."""
    whole = torch.logaddexp(lse, more_lse)
    least = whole.masked_fill(whole == -torch.inf, 0.0)
    return out * torch.exp(lse - least) + more * torch.exp(more_lse - least), whole


def _widened(q: Tensor, k: Tensor, v: Tensor) -> tuple[Any, ...]:
    """Of one width, with last axes in order, as the kernel of a CPU wants them, and the width of values."""
    columns, width = v.shape[-1], max(q.shape[-1], v.shape[-1])
    laid = (
        torch.nn.functional.pad(x, (0, width - x.shape[-1])) if x.shape[-1] < width else x for x in (q, k, v)
    )
    return *(x if x.stride(-1) == 1 else x.contiguous() for x in laid), columns


def _added(q: Tensor, mask: Tensor | None) -> Tensor | None:
    """The mask as the number to add to scores."""
    return None if mask is None else q.new_zeros(()).masked_fill(~mask, -torch.inf)[..., None, :]
