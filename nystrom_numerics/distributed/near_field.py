"""Near and far fields over ranks: a halo of neighbours beside the landmarks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nystrom_numerics.arguments import require_count
from nystrom_numerics.attention import ridge
from nystrom_numerics.attention.near_field import checked_near, meet_fields, near_keys
from nystrom_numerics.attention.padding import put_back, real_first
from nystrom_numerics.attention.placing import solve_core
from nystrom_numerics.backend import by_strips, namespace, tile
from nystrom_numerics.distributed.agreeing import Call, Sizes, agree
from nystrom_numerics.distributed.collectives import summed
from nystrom_numerics.distributed.halos import rows_between
from nystrom_numerics.distributed.nystrom import landmarks_of
from nystrom_numerics.distributed.places import Place, place_of
from nystrom_numerics.distributed.ranks import Group, Ranks
from nystrom_numerics.landmarks.result import take_rows
from nystrom_numerics.linalg import masked_softmax, transpose
from nystrom_numerics.pinv import Solver

__all__ = ["near_field"]


def near_field(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    m: int,
    /,
    *,
    group: Group = None,
    block: int = 64,
    margin: int | None = None,
    solver: Solver = ridge,
    mask: Tensor | None = None,
    scale: float | None = None,
    grouped: bool = False,
    check_finite: bool = False,
) -> Tensor:
    r"""Self-attention with an exact near field of a sequence that lies on several ranks.

    As :func:`nystrom_numerics.attention.near_field` of all shards.  Blocks and segments are those of the whole
    sequence; a rank whose shard begins or ends within a block, or beside one, gets that block and its margin from the
    ranks that hold them, be they neighbours or, past short shards, others.

    Parameters
    ----------
    q, k : tensor (..., n, d)
    v : tensor (..., n, d_v)
        This rank's, of one length.
    m, block, margin, solver
        As in :func:`nystrom_numerics.attention.near_field`, m at most the tokens of all ranks.
    group, scale, grouped, check_finite
        As in :func:`exact`.
    mask : tensor of bool, broadcastable to (..., n), optional
        True for real tokens of this rank; on every rank or on none.

    Returns
    -------
    tensor (..., n, d_v)

    Raises
    ------
    MemoryLimitError, RankError, RankMismatchError
        As in :func:`exact`.
    DTypeError, DeviceError, KindError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Sent a head: what :func:`nystrom` sends, two more tokens, m numbers more, and to neighbours at most
    two halos of ``block + margin`` tokens' keys and values; backward the same.  Costs and memory: those of the shards
    by themselves, and of a halo on either side.

    Examples
    --------
    >>> import torch
    >>> import torch.distributed as dist
    >>> from nystrom_numerics import attention, distributed
    >>> dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    >>> q, k, v = torch.randn(3, 2, 30, 8).unbind()
    >>> found = distributed.near_field(q, k, v, 4, block=8)
    >>> torch.allclose(found, attention.near_field(q, k, v, 4, block=8), atol=1e-5)
    True
    >>> dist.destroy_process_group()
    """

    def check(n_q: int, _: int) -> None:
        checked_near(block, margin, solver)
        require_count("m", m, 1, n_q, of="the number of tokens on all ranks")

    call = agree(
        "near_field",
        group,
        (q, k, v),
        {"m": m, "block": block, "margin": margin, "solver": solver},
        check,
        lambda s: _bytes(s, m, block),
        masks={"mask": mask},
        scale=scale,
        grouped=grouped,
        check_finite=check_finite,
        oneself=True,
    )
    return call.cut(_attend(call, m, checked_near(block, margin, solver), solver))


def _bytes(s: Sizes, m: int, block: int) -> int:
    """Queries, keys and values in blocks, outputs, and (A⁺B)ᵀ twice, with a halo."""
    return s.itemsize * s.items * (s.n_q + 3 * block) * (2 * s.d + 3 * s.d_v + 2 * m)


def _attend(call: Call, m: int, near: tuple[int, int], solver: Solver) -> Tensor:
    ranks, a, xp = call.ranks, call.a, call.a.xp
    q, k, v = call.wide()
    place = place_of(ranks, a.key_mask, call.masked[1], call.n_k)
    ends = _ends(place, k)
    placed, (end_k, end_v) = landmarks_of(call, q, k, (m, m), q.dtype, ends @ k, ends @ v)
    if call.masked[1]:
        assert place.mask is not None
        q, k, v = (real_first(xp, x, place.mask) for x in (q, k, v))
    lie = _Blocks.of(call, place, near)
    batch = np.broadcast_shapes(k.shape[:-2], v.shape[:-2])
    both = torch.cat([x.expand(*batch, *x.shape[-2:]) for x in (k, v)], dim=-1)
    k, v = lie.windows(ranks, both).split_with_sizes([k.shape[-1], v.shape[-1]], dim=-1)
    q = lie.slots(q)

    columns = placed.pair_mask
    core = masked_softmax((placed.queries * a.scale) @ transpose(placed.keys), columns)
    scores = (placed.queries * a.scale) @ transpose(k)
    own = lie.own[..., None, :]
    top = torch.where(own, scores, -torch.inf).amax(dim=-1, keepdim=True).detach()
    top = ranks.highest(top.contiguous(), "comparing maxima")
    top = top.masked_fill(top == -torch.inf, 0.0)
    of_ends = torch.exp((placed.queries * a.scale) @ transpose(end_k) - top)
    weights = torch.where(lie.there[..., None, :], torch.exp(scores - top), 0.0)
    (total,) = summed(ranks, "summing rows of B", torch.where(own, weights, 0.0).sum(dim=-1, keepdim=True))
    total = total.masked_fill(total == 0, 1.0)
    b, of_ends = weights / total, of_ends / total
    if placed.query_valid is not None:
        core, b, of_ends = (torch.where(placed.query_valid[..., None], x, 0.0) for x in (core, b, of_ends))
    solved = solve_core(core, torch.cat([b, of_ends], dim=-1), solver)
    far, far_ends = transpose(solved[..., :-2]), transpose(solved[..., -2:])
    mine = torch.where(lie.own[..., None], far, 0.0)
    of_values, of_ones = summed(ranks, "summing BV", transpose(mine) @ v, mine.sum(dim=-2)[..., None])

    exist = None if columns is None else columns[..., None, :]
    block, margin = near
    some = max(1, tile(q, q.shape[-2], block + 2 * margin + 2)[0] // block)
    parts = [slice(i, min(i + some, lie.blocks)) for i in range(0, lie.blocks, some)]
    strips = []
    for of in parts:
        inner, outer = (slice(of.start * block, of.stop * block + 2 * more) for more in (0, margin))
        strips.append((inner, (inner, outer, outer, outer)))

    def strip(i: int, *given: Tensor) -> Tensor:
        rows, *windows = given[:4]
        *ends, points, of_values, of_ones = given[4:]
        number = lie.first_block[..., None] + torch.arange(parts[i].start, parts[i].stop, device=q.device)
        _, counted, sizes = near_keys(xp, q, number, lie.total[..., None], m, near)
        if lie.all_near(parts[i]):
            counted = None
        near_k, near_v, near_far = (lie.near_rows(x, end) for x, end in zip(windows, ends, strict=True))
        found: Tensor = meet_fields(
            xp,
            rows.reshape(*rows.shape[:-2], -1, block, rows.shape[-1]),
            (near_k, near_v, near_far),
            counted,
            sizes,
            (transpose(points)[..., None, :, :], exist),
            (of_values[..., None, :, :], of_ones[..., None, :, :]),
            a.scale,
        )
        return found.flatten(-3, -2)

    shared = end_k, end_v, far_ends, placed.keys, of_values, of_ones
    return lie.tokens(by_strips(strip, strips, (q, k, v, far), shared))


def _ends(place: Place, k: Tensor) -> Tensor:
    """Rows of ones (..., 2, n) that pick the first and the last real token of all, if this rank has it."""
    at = place.places(k.shape[-2]).to(k.device)
    last = (place.total[..., None] - 1).to(k.device)
    found = torch.stack([at == 0, at == last], dim=-2)
    return (found if place.mask is None else found & place.mask[..., None, :]).to(k.dtype)


@dataclass(frozen=True)
class _Blocks:
    """How this rank's tokens, real ones first, lie in blocks of the whole sequence.

    There are ``blocks`` of slots, the first of which is ``first_block`` (...) of the sequence, and slots of a margin on
    either side.  Leading axes are those of the mask, none without.

    Attributes
    ----------
    lead : int64 tensor (...)
        Slots of the first block before the first own token.
    count, total : int64 tensor (...)
        Real tokens of this rank, and of all.
    bounds : int64 tensors (p, ...)
        Real tokens of every rank, and the first row that each asks for and the one after the last.
    own, there : bool tensor (..., slots)
        Which slots, margins among them, hold own tokens, and which hold any.
    """

    rank: int
    near: tuple[int, int]
    n: int
    mask: Tensor | None
    blocks: int
    first_block: Tensor
    lead: Tensor
    count: Tensor
    total: Tensor
    bounds: tuple[Tensor, Tensor, Tensor]
    own: Tensor
    there: Tensor

    @classmethod
    def of(cls, call: Call, place: Place, near: tuple[int, int]) -> _Blocks:
        (block, margin), rank = near, call.ranks.rank
        counts = place.counts.to(call.q.device)
        end = counts.cumsum(dim=0)
        first, total = end - counts, end[-1]
        low = (first // block * block - margin).clamp(min=0)
        high = torch.minimum((end + block - 1) // block * block + margin, total)
        high = torch.where(counts > 0, high, low)
        number = first[rank] // block
        blocks = int(((end[rank] + block - 1) // block - number).clamp(min=1).amax())
        slot = (
            number[..., None] * block
            - margin
            + torch.arange(blocks * block + 2 * margin, device=counts.device)
        )
        own = (slot >= first[rank][..., None]) & (slot < end[rank][..., None])
        there = (slot >= low[rank][..., None]) & (slot < high[rank][..., None])
        mask = place.mask if call.masked[1] else None
        lead = first[rank] - number * block
        bounds = counts, low, high
        return cls(
            rank, near, call.q.shape[-2], mask, blocks, number, lead, counts[rank], total, bounds, own, there
        )

    def windows(self, ranks: Ranks, x: Tensor) -> Tensor:
        """Rows of own and of neighbouring tokens in their slots (..., slots, c)."""
        block, margin = self.near
        (counts, low, high), slots = self.bounds, self.own.shape[-1]
        base = self.first_block * block - margin
        if self.mask is not None:
            return rows_between(ranks, "exchanging halos", x, counts, low, high, base, slots)
        end = counts.cumsum(dim=0)
        first, lead, own = end - counts, int(self.lead) + margin, int(self.count)
        above = rows_between(
            ranks, "exchanging halos", x, counts, low, torch.minimum(first, high), base, lead
        )
        below = rows_between(
            ranks,
            "exchanging halos",
            x,
            counts,
            end,
            torch.maximum(high, end),
            base + lead + own,
            slots - lead - own,
        )
        return torch.cat([above, x[..., :own, :], below], dim=-2)

    def slots(self, x: Tensor) -> Tensor:
        """Rows of own tokens in the slots of blocks (..., blocks · block, c), zeros in the others."""
        slots = self.blocks * self.near[0]
        if self.mask is None:
            before, count = int(self.lead), int(self.count)
            return torch.nn.functional.pad(x[..., :count, :], (0, 0, before, slots - before - count))
        at = torch.arange(slots, device=x.device) - self.lead[..., None]
        own = (at >= 0) & (at < self.count[..., None])
        at = at.clamp(0, x.shape[-2] - 1)
        return torch.where(own[..., None], take_rows(x, at.expand(*x.shape[:-2], at.shape[-1])), 0.0)

    def tokens(self, x: Tensor) -> Tensor:
        """What stands in slots (..., blocks · block, c) as tokens (..., n, c)."""
        if self.mask is None:
            return x[..., int(self.lead) : int(self.lead) + self.n, :]
        at = self.lead[..., None] + torch.arange(self.n, device=x.device)
        at = at.clamp(max=x.shape[-2] - 1)
        out: Tensor = take_rows(x, at.expand(*x.shape[:-2], self.n))
        found: Tensor = put_back(namespace(x=out), out, self.mask)
        return found

    def all_near(self, of: slice) -> bool:
        """Whether every row near some blocks is a key of its own, so that none need be looked for."""
        if self.mask is not None:
            return False
        (block, margin), first = self.near, int(self.first_block)
        begin, end = (first + int(of.start)) * block, (first + int(of.stop)) * block
        return begin > margin and end + margin < int(self.total)

    def near_rows(self, x: Tensor, ends: Tensor) -> Tensor:
        """Of slots x (..., slots, c) of some blocks and their margins those near each block, and the two ``ends``."""
        block, margin = self.near
        some = x.unfold(-2, block + 2 * margin, block).transpose(-1, -2)
        ends = ends[..., None, :, :].expand(*some.shape[:-2], 2, some.shape[-1])
        return torch.cat([some, ends], dim=-2)
