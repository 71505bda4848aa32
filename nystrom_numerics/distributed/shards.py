"""What a model asks of other ranks besides attention: where its tokens stand, those beside them, the first one."""

from __future__ import annotations

import torch
from torch import Tensor

from nystrom_numerics.distributed.collectives import summed
from nystrom_numerics.distributed.halos import rows_between
from nystrom_numerics.distributed.ranks import Ranks
from nystrom_numerics.errors import RankMismatchError

__all__ = ["first_places", "first_tokens", "lengths_of", "with_halo"]


def lengths_of(ranks: Ranks, name: str, n: int, like: Tensor, **same: int) -> list[int]:
    """The tokens of every rank.

    Raises
    ------
    RankMismatchError
        Naming ``name``, where a rank has another number of what must be the same.
    """
    device = like.device if like.device.type != "cpu" else torch.device("cpu")
    table = ranks.tables([n, *same.values()], device)
    for column, what in enumerate(same, 1):
        others = tuple(rank for rank, line in enumerate(table) if line[column] != table[0][column])
        if others:
            got = f"of {what} {table[0][column]} on rank 0 and {table[others[0]][column]} on rank {others[0]}"
            raise RankMismatchError(name, got, "the same on every rank", others)
    return [line[0] for line in table]


def with_halo(ranks: Ranks, lengths: list[int], x: Tensor, before: int, after: int) -> Tensor:
    """Tokens x (..., n, c) with those before and after them of the whole sequence, zeros beyond its ends.

    An empty shard gets zeros, and one token more.
    """
    counts = torch.tensor(lengths)
    end = counts.cumsum(dim=0)
    first = end - counts
    low, high = (first - before).clamp(min=0), torch.minimum(end + after, end[-1])
    high = torch.where(counts > 0, high, low)
    base = first[ranks.rank] - before
    length = max(1, x.shape[-2]) + before + after
    return rows_between(ranks, "exchanging halos", x, counts, low, high, base, length)


def first_places(ranks: Ranks, lengths: list[int], mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Real tokens of lower ranks, and of all: () without a mask, else (b,) for one of (b, n)."""
    counts = torch.tensor(lengths) if mask is None else ranks.counts(mask.sum(dim=-1))
    return counts[: ranks.rank].sum(dim=0), counts.sum(dim=0)


def first_tokens(ranks: Ranks, lengths: list[int], x: Tensor, mask: Tensor | None) -> Tensor:
    """The first real token (b, c) of each item of x (b, n, c) over all ranks, of the same bits on each.

    Of an item without a real token the first token of all.
    """
    if mask is None:
        mask = torch.ones(x.shape[:-1], dtype=torch.bool, device=x.device)
    below, total = first_places(ranks, lengths, mask)
    none = first_places(ranks, lengths, None)[0].to(x.device) == 0
    at, own = mask.long(), mask.any(dim=-1) & (below == 0)
    if x.shape[-2] == 0:
        found = x.sum(dim=-2)
    else:
        chosen = x[torch.arange(len(x), device=x.device), at.argmax(dim=-1)]
        here = torch.where(total > 0, own, none & bool(lengths[ranks.rank]))
        found = torch.where(here[..., None], chosen, torch.zeros_like(chosen))
    return summed(ranks, "finding first tokens", found)[0]
