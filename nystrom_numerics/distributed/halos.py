"""Rows beside a shard: which other ranks hold them, and how they come."""

from __future__ import annotations

from math import prod
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from nystrom_numerics.distributed.collectives import received_rows
from nystrom_numerics.distributed.ranks import Ranks

__all__ = ["rows_between"]

Integers: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]


def rows_between(
    ranks: Ranks, doing: str, x: Tensor, counts: Tensor, low: Tensor, high: Tensor, base: Tensor, length: int
) -> Tensor:
    """Rows ``low`` to ``high`` − 1 of all shards, in their slots from ``base`` on, zeros in others: (..., length, c).

    ``x`` (..., n, c) are the rows of this shard, of which the first ``counts[rank]`` exist.  ``counts``, ``low`` and
    ``high`` (p, ...) are those of every rank, ``base`` (...) this one's; their trailing axes broadcast with the
    leading ones of x.  Sent: what other ranks want of this shard, to them alone.
    """
    batch, (n, c), p, rank = x.shape[:-2], x.shape[-2:], ranks.size, ranks.rank
    items = prod(batch)

    def of_items(given: Tensor) -> Integers:
        """Of every rank and item, (p, items)."""
        lead = given.shape[1:]
        given = given.reshape(p, *((1,) * (len(batch) - len(lead))), *lead).expand(p, *batch)
        return given.reshape(p, items).cpu().numpy()

    size, low_of, high_of = (of_items(given) for given in (counts, low, high))
    start_of = of_items(base.expand(p, *base.shape))[rank]
    first_of = np.cumsum(size, axis=0) - size
    item = np.arange(items)

    def common(holder: int, asker: int) -> tuple[Integers, Integers]:
        """The item and the place of each row that one rank holds and another asks for."""
        start = np.maximum(first_of[holder], low_of[asker])
        number = np.maximum(np.minimum(first_of[holder] + size[holder], high_of[asker]) - start, 0)
        whose = np.repeat(item, number)
        begun = np.cumsum(number) - number
        return whose, np.arange(number.sum()) + np.repeat(start - begun, number)

    asked = [common(rank, other) for other in range(p)]
    got = [common(other, rank) for other in range(p)]
    places = [torch.from_numpy(i * n + at - first_of[rank][i]).to(x.device) for i, at in asked]
    slots = np.concatenate([i * length + at - start_of[i] for i, at in got])
    rows = received_rows(ranks, doing, x.reshape(items * n, c), places, [len(i) for i, _ in got])
    found = rows.new_zeros(items * length, c).index_add(0, torch.from_numpy(slots).to(x.device), rows)
    return found.reshape(*batch, length, c)
