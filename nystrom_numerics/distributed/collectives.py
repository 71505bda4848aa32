"""Collectives with derivatives: the transpose of each is a collective too, in which every rank takes part.

The loss of which derivatives are taken is the sum of the losses of all ranks.  What is summed over ranks is used by
each of them, so its cotangent is the sum of theirs; what was sent comes back by the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from nystrom_numerics.backend import with_vjp
from nystrom_numerics.distributed.ranks import Ranks

__all__ = ["received_rows", "summed"]


def summed(ranks: Ranks, doing: str, *parts: Tensor) -> list[Tensor]:
    """The sums over ranks of tensors of one dtype, in one message, of the same bits on each rank."""
    if ranks.size == 1:
        return list(parts)
    shapes = [x.shape for x in parts]
    sizes = [prod(shape) for shape in shapes]

    def forward(flat: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        return (ranks.summed(flat.clone(), doing),), ()

    def vjp(g: Tensor) -> tuple[Tensor, ...]:
        return (ranks.summed(g.clone(), f"{doing}, backward"),)

    flat = with_vjp(forward, vjp, torch.cat([x.reshape(-1) for x in parts]))[0]
    return [x.reshape(shape) for x, shape in zip(flat.split_with_sizes(sizes), shapes, strict=True)]


def received_rows(
    ranks: Ranks, doing: str, x: Tensor, places: Sequence[Tensor], sizes: Sequence[int]
) -> Tensor:
    """Rows from every rank, those of the lowest first, of x (n, c): (sum of sizes, c).

    ``places[r]`` are the rows that rank r gets of this one, and ``sizes[r]`` is how many this one gets from it; what a
    rank gets from itself is copied.
    """
    width = x.shape[-1]

    def travel(rows: list[Tensor], sizes: Sequence[int], doing: str) -> list[Tensor]:
        got = [x.new_empty(size, width) for size in sizes]
        got[ranks.rank] = rows[ranks.rank]
        others = [r for r in range(ranks.size) if r != ranks.rank]
        ranks.post({r: rows[r].contiguous() for r in others}, {r: got[r] for r in others}, doing)()
        return got

    def forward(x: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        return (torch.cat(travel([x.index_select(0, at) for at in places], sizes, doing)),), ()

    def vjp(g: Tensor) -> tuple[Tensor, ...]:
        back = travel(list(g.split_with_sizes(list(sizes))), [len(at) for at in places], f"{doing}, backward")
        of_x = g.new_zeros(x.shape)
        for at, rows in zip(places, back, strict=True):
            of_x.index_add_(0, at, rows)
        return (of_x,)

    rows: Tensor = with_vjp(forward, vjp, x)[0]
    return rows
