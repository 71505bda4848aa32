"""Where the real tokens of a shard stand among those of all shards."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nystrom_numerics.distributed.ranks import Ranks
from nystrom_numerics.landmarks.tokens import segments
from nystrom_numerics.places import sum_by_label

__all__ = ["Place", "place_of", "segment_sums"]


@dataclass(frozen=True)
class Place:
    """Of one shard, or where there are masks of every item of it.

    Attributes
    ----------
    counts : int64 tensor (p, ...)
        Real tokens of every rank; trailing axes are those of the mask but for its tokens, none without one (then on the
        host).
    rank : int
    mask : bool tensor (..., n), or None
        Which tokens of the shard are real; ``None`` where all are.
    """

    counts: Tensor
    rank: int
    mask: Tensor | None

    @property
    def first(self) -> Tensor:
        """The place of the first real token of this shard among all (...)."""
        return self.counts[: self.rank].sum(dim=0)

    @property
    def total(self) -> Tensor:
        """Real tokens of all shards (...)."""
        return self.counts.sum(dim=0)

    def places(self, n: int) -> Tensor:
        """The place of every token of this shard among all real ones (..., n); meaningless where masked."""
        if self.mask is None:
            return self.first + torch.arange(n)
        return self.first.to(self.mask.device)[..., None] + self.mask.long().cumsum(dim=-1) - 1


def place_of(ranks: Ranks, mask: Tensor | None, masked: bool, lengths: list[int]) -> Place:
    """Of a shard with a mask, or a stand-in for one; ``masked`` is whether every rank has a mask of its own."""
    if masked:
        assert mask is not None
        return Place(ranks.counts(mask.sum(dim=-1)), ranks.rank, mask)
    return Place(torch.tensor(lengths, dtype=torch.int64), ranks.rank, mask)


def segment_sums(place: Place, x: Tensor, m: int) -> tuple[Tensor, Tensor]:
    """Sums (..., m, c) of the tokens x (..., n, c) of this shard that stand in each of m segments of all real tokens,
    and how many tokens of all ranks each has (..., m).
    """
    total = place.total[..., None].to(x.device)
    start, stop = segments(torch, x, total, m)
    if place.mask is None:
        first, n = int(place.first), x.shape[-2]
        edges = torch.cat([start, stop[-1:]]).clamp(first, first + n)
        parts = x.split_with_sizes(edges.diff().tolist(), dim=-2)
        return torch.stack([part.sum(dim=-2) for part in parts], dim=-2), stop - start
    labels = place.places(x.shape[-2]) * m // total.clamp(min=1)
    labels = torch.where(place.mask, labels, m).expand(x.shape[:-1])
    return sum_by_label(x, labels, m)[0], stop - start
