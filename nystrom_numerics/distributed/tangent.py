"""Tangent attention over ranks: samples, sums over groups and near keys travel, and no shard does."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import inf, prod

import numpy as np
import torch
from torch import Tensor

from nystrom_numerics.attention.arrangement import directions, order_of_runs, run_count
from nystrom_numerics.attention.padding import of_no_item, put_back, real_first
from nystrom_numerics.attention.streaming import attend
from nystrom_numerics.attention.tangent import checked_sizes
from nystrom_numerics.attention.tangents import CAP, LEAF_SAMPLE, SAMPLE, STEP, Queries, covariance
from nystrom_numerics.backend import namespace
from nystrom_numerics.distributed.agreeing import Call, Sizes, agree
from nystrom_numerics.distributed.collectives import summed
from nystrom_numerics.distributed.ranks import Group, Ranks
from nystrom_numerics.errors import RangeError
from nystrom_numerics.landmarks.result import take_rows
from nystrom_numerics.linalg import transpose

__all__ = ["tangent"]

XP = namespace(q=torch.zeros(1))


def tangent(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    /,
    *,
    group: Group = None,
    blocks: int = 32,
    near: int = 80,
    groups: int = 16,
    position: float = 4.0,
    key_mask: Tensor | None = None,
    query_mask: Tensor | None = None,
    scale: float | None = None,
    grouped: bool = False,
    check_finite: bool = False,
) -> Tensor:
    r"""Tangent attention of a sequence that lies on several ranks.

    As :func:`nystrom_numerics.attention.tangent` of all shards.

    Blocks of queries and groups of keys are those of the whole sequence.  Their trees are made on every rank, from the
    same means of runs of tokens; each rank looks at its own keys from all pilots, and what it finds of a group is
    summed with what others find.  Near keys are the best of what ranks propose, and only they travel.

    Parameters
    ----------
    q, k, v, group, scale, grouped, check_finite
        As in :func:`exact`.
    blocks, groups : int
        Of queries and of keys.  One level alone: the candidates that a level hands to the next are a share of all keys
        for each of its blocks, and would send more than a ring of exact attention does.
    near, position
        As in :func:`nystrom_numerics.attention.tangent`.
    key_mask, query_mask : tensor of bool, broadcastable to (..., n_k) and (..., n_q), optional
        True for real tokens of this rank; on every rank or on none.

    Returns
    -------
    tensor (..., n_q, d_v)

    Raises
    ------
    MemoryLimitError, RankError, RankMismatchError
        As in :func:`exact`.
    DTypeError, DeviceError, KindError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument; RangeError for several levels, with the bytes that they would send.

    Notes
    -----
    Cost: entries as :func:`nystrom_numerics.attention.tangent`, each rank those with its own keys.

    Sent a head, whatever n is, summed over ranks: at most 32(b + g)d numbers for the trees, (16b + 1,024)d of samples,
    bd for pilots, 16g for groups, b(t + g)(d + d_v + 1) for b blocks, t near keys and g groups; and to every rank bt
    numbers of 8 bytes that propose near keys.  Backward, b(t + g)(d + d_v + 1) and bd.

    What is rounded otherwise than in one process can decide otherwise between keys that are as good as equal; outputs
    then differ by no more than two such choices do, not by rounding alone.

    Examples
    --------
    >>> import torch
    >>> import torch.distributed as dist
    >>> from nystrom_numerics import distributed
    >>> dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    >>> q, k, v = torch.randn(3, 2, 300, 8).unbind()
    >>> distributed.tangent(q, k, v, blocks=8, near=20, groups=4).shape
    torch.Size([2, 300, 8])
    >>> dist.destroy_process_group()
    """

    def check(_: int, n_k: int) -> None:
        checked_sizes(blocks, near, groups, SHARE, position)
        for name, given in (("blocks", blocks), ("groups", groups)):
            if isinstance(given, tuple):
                _refuse_levels(name, given, n_k, q.shape[-1] + v.shape[-1], q.dtype.itemsize)

    call = agree(
        "tangent",
        group,
        (q, k, v),
        {"blocks": blocks, "near": near, "groups": groups, "position": position},
        check,
        lambda s: _bytes(s, blocks, near, groups),
        masks={"query_mask": query_mask, "key_mask": key_mask},
        scale=scale,
        grouped=grouped,
        check_finite=check_finite,
    )
    return call.cut(_by_length(call, _Options(blocks, near, groups, float(position), call.a.scale)))


def _refuse_levels(name: str, given: tuple[int, ...], n_k: int, width: int, itemsize: int) -> None:
    """Several levels, or one that is written as several."""
    handed = int(given[0] * SHARE * n_k * width * itemsize)
    raise RangeError(
        name,
        f"{given}, levels",
        f"one integer: the candidates of {given[0]} blocks would be {handed:,} bytes a head, where a ring of exact "
        f"attention sends at most {n_k * width * itemsize:,}",
    )


def _bytes(s: Sizes, blocks: int, near: int, groups: int) -> int:
    """Queries, keys and values in order, outputs, scores of all pilots and their weights, what blocks face thrice."""
    own = s.n_q * (2 * s.d + 2 * s.d_v) + s.n_k * (s.d + s.d_v + 8 * blocks)
    return s.itemsize * s.items * (own + 3 * blocks * (near + groups) * (s.d + s.d_v))


SHARE = 0.25
"""Of its keys, what a level of :func:`nystrom_numerics.attention.tangent` hands to the next by default."""


@dataclass(frozen=True)
class _Options:
    blocks: int
    near: int
    groups: int
    position: float
    scale: float


@dataclass(frozen=True)
class _Shard:
    """Tokens x (items, n, c) of this rank, of which each item's first ``count`` (items, 1) are real; ``first``
    (items, 1) is the place of its first one among the ``total`` of all ranks.
    """

    ranks: Ranks
    x: Tensor
    first: Tensor
    count: Tensor
    total: int

    @cached_property
    def place(self) -> Tensor:
        """Of every token among all (items, n)."""
        return self.first + torch.arange(self.x.shape[-2], device=self.x.device)

    @cached_property
    def real(self) -> Tensor:
        return torch.arange(self.x.shape[-2], device=self.x.device) < self.count

    def own(self, places: Tensor) -> Tensor:
        """Rows (items, t, c) of the tokens at these places (items, t) of all, zero where another rank has them."""
        at = places - self.first
        here = (at >= 0) & (at < self.count)
        rows = take_rows(self.x, at.clamp(0, self.x.shape[-2] - 1).expand(*self.x.shape[:-2], at.shape[-1]))
        return torch.where(here[..., None], rows, 0.0)

    def sums(self, labels: Tensor, number: int) -> Tensor:
        """Sums (items, number, c) of real tokens by label (items, n); those of label ``number`` are left out."""
        labels = torch.where(self.real, labels, number)
        total = self.x.new_zeros(self.x.shape[0], number + 1, self.x.shape[-1])
        return total.scatter_add(-2, labels[..., None].expand(self.x.shape), self.x)[:, :-1]


@dataclass(frozen=True)
class _Order:
    """An order of ``n`` tokens, in balanced ``parts``: as they stand, or by runs in the order (items, runs) of a
    tree.
    """

    n: int
    parts: int
    runs: Tensor | None

    def part(self, place: Tensor) -> Tensor:
        """The part of tokens by their places in this order."""
        return place * self.parts // self.n

    def place(self, token: Tensor) -> Tensor:
        """Where in this order tokens (items, t) are, by their numbers."""
        if self.runs is None:
            return token
        start, begin = self._starts(self.runs)
        of_run = torch.empty_like(begin).scatter_(-1, self.runs, begin)
        run = (token * self.runs.shape[-1] // self.n).clamp(0, self.runs.shape[-1] - 1)
        return of_run.gather(-1, run) + token - start[run]

    def token(self, place: Tensor) -> Tensor:
        """The numbers of the tokens at places (items, t)."""
        if self.runs is None:
            return place
        start, begin = self._starts(self.runs)
        at = torch.searchsorted(begin, place.contiguous(), right=True) - 1
        return start[self.runs.gather(-1, at)] + place - begin.gather(-1, at)

    def _starts(self, order: Tensor) -> tuple[Tensor, Tensor]:
        """The first token of each run, and where each of the order begins."""
        edges = _edges(self.n, order.shape[-1], order)
        lengths = edges.diff()[order]
        return edges[:-1], lengths.cumsum(-1) - lengths


def _edges(n: int, parts: int, like: Tensor) -> Tensor:
    """First numbers of balanced parts of n tokens, and n (parts + 1)."""
    return (torch.arange(parts + 1, device=like.device) * n + (parts - 1)) // parts


def _by_length(call: Call, o: _Options) -> Tensor:
    """Items of as many real queries and keys of all ranks together: blocks and groups of others lie elsewhere."""
    ranks, xp = call.ranks, call.a.xp
    masks = call.a.query_mask, call.a.key_mask
    q, k, v = call.wide()
    leads = [m.shape[:-1] for m in masks if m is not None]
    batch = np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2], *leads)
    items = prod(batch)

    def flat(x: Tensor, tail: int) -> Tensor:
        return x.expand(*batch, *x.shape[-tail:]).reshape(items, *x.shape[-tail:])

    q, k, v = (flat(x, 2) for x in (q, k, v))
    counts: list[Tensor] = []
    orders: list[Tensor | None] = []
    for mask, masked, lengths in zip(masks, call.masked, (call.n_q, call.n_k), strict=True):
        if masked:
            assert mask is not None
            counts.append(ranks.counts(flat(mask, 1).sum(dim=-1)))
            orders.append(flat(mask, 1))
        else:
            counts.append(torch.tensor(lengths, device=q.device)[:, None].expand(-1, items))
            orders.append(None)
    if orders[0] is not None:
        q = real_first(xp, q, orders[0])
    if orders[1] is not None:
        k, v = (real_first(xp, x, orders[1]) for x in (k, v))
    totals = torch.stack([count.sum(dim=0) for count in counts]).cpu().numpy()
    parts, chosen = [], []
    for n_q, n_k in np.unique(totals, axis=1).T.tolist():
        same = torch.from_numpy(np.flatnonzero((totals[0] == n_q) & (totals[1] == n_k))).to(q.device)
        chosen.append(same)
        if 0 in (n_q, n_k):
            nothing = of_no_item(q[same], k[same], v[same])  # for a derivative, which is zero
            parts.append(torch.where(torch.zeros_like(nothing, dtype=torch.bool), nothing, 0.0))
            continue
        queries = _Shard(ranks, q[same], *_bounds(counts[0], ranks.rank, same), n_q)
        tokens = torch.cat([k[same], v[same]], dim=-1)
        keys = _Shard(ranks, tokens, *_bounds(counts[1], ranks.rank, same), n_k)
        parts.append(_attend(queries, keys, k.shape[-1], o))
    out = torch.cat(parts)[torch.cat(chosen).argsort()]
    if orders[0] is not None:
        out = put_back(xp, out, orders[0])
    return out.reshape(*batch, *out.shape[-2:])


def _bounds(counts: Tensor, rank: int, items: Tensor) -> tuple[Tensor, Tensor]:
    """The place of the first real token of a rank among all, and how many it has, (items, 1) each."""
    return counts[:rank].sum(dim=0)[items, None], counts[rank][items, None]


def _attend(queries: _Shard, tokens: _Shard, d: int, o: _Options) -> Tensor:
    """Outputs (items, n, d_v) of queries, to keys and values side by side (items, n, d + d_v)."""
    ranks, q = queries.ranks, queries.x
    keys = _Shard(ranks, tokens.x[..., :d], tokens.first, tokens.count, tokens.total)
    n_q, n_k, like = queries.total, keys.total, tokens.place
    with torch.no_grad():
        tree = o.position != inf and n_q > o.blocks and run_count(n_q, o.blocks) > 0
        asked = [_sample(keys), _runs(keys, o.groups)]
        if tree:
            asked += [_sample(queries), _runs(queries, o.blocks)]
        sample, runs, *of_q = _sent(ranks, "summing samples and runs", asked)
        of_keys = covariance(XP, sample)
        order = None
        if tree:
            axes = directions(XP, of_keys, covariance(XP, of_q[0]))
            order = order_of_runs(XP, of_q[1], o.blocks, axes, o.position)
        blocks = _Order(n_q, o.blocks, order)
        few, there = _few(blocks, like)
        few = queries.own(blocks.token(few.expand(q.shape[0], -1)))
    place = blocks.place(queries.place)
    sums = queries.sums(blocks.part(place).clamp(0, o.blocks - 1), o.blocks)
    sums, few = summed(ranks, "summing pilots", sums, few)
    pilot = sums / _edges(n_q, o.blocks, like).diff().clamp(min=1).to(q.dtype)[:, None]

    with torch.no_grad():
        few = few.reshape(q.shape[0], o.blocks, -1, d)
        axes = directions(XP, Queries(few, there).within(XP, o.blocks), of_keys)
        made = order_of_runs(XP, runs, o.groups, axes, 0.0) if runs.shape[-2] else None
        grouped = _Order(n_k, o.groups, made)
        at = torch.where(keys.real, grouped.place(keys.place), n_k)
        at, line = at.sort(dim=-1)
        real = at < n_k
        of = torch.where(real, grouped.part(at), o.groups)
    both = take_rows(tokens.x, line)
    k = both[..., :d]
    with torch.no_grad():
        missed = _missed(ranks, k @ axes, of, _edges(n_k, o.groups, like).diff(), o.groups)
        exponent = missed * (o.scale**2 / 2)
        correction = exponent.clamp(max=CAP)
        worth = torch.log(exponent + torch.finfo(exponent.dtype).smallest_normal) + correction
    scores = (pilot * o.scale) @ transpose(k)  # (items, blocks, n)
    with torch.no_grad():
        merit = torch.floor((scores + worth[..., None, :]) / STEP).double() * n_k - at[..., None, :]
        merit = torch.where(real[..., None, :], merit, -inf)
        near, mine, whose = _near(ranks, merit, min(n_k, o.near))
    far = torch.where(near | ~real[..., None, :], -inf, scores + correction[..., None, :])
    keys_of, values_of, bias = _faced(ranks, both, far, of, pilot, (mine, whose), o)
    return _of_blocks(q, queries, place, blocks, keys_of, values_of, bias, o.scale)


def _sample(tokens: _Shard) -> Tensor:
    """Evenly spaced tokens of all, those of other ranks zero."""
    step = -(-tokens.total // SAMPLE)
    return tokens.own(torch.arange(0, tokens.total, step, device=tokens.x.device)[None])


def _runs(tokens: _Shard, leaves: int) -> Tensor:
    """This rank's share of the means (items, runs, d) of runs of tokens, of as many tokens as the shortest has."""
    n, runs = tokens.total, run_count(tokens.total, leaves)
    if not runs:
        return tokens.x[:, :0]
    few = n // runs
    run = (tokens.place * runs // n).clamp(0, runs - 1)
    inside = tokens.place - _edges(n, runs, run)[run] < few
    return tokens.sums(torch.where(inside, run, runs), runs) / few


def _sent(ranks: Ranks, doing: str, parts: list[Tensor]) -> list[Tensor]:
    """Sums over ranks, in one message."""
    flat = ranks.summed(torch.cat([x.reshape(-1) for x in parts]), doing)
    return [
        x.reshape(y.shape)
        for x, y in zip(flat.split_with_sizes([x.numel() for x in parts]), parts, strict=True)
    ]


def _few(blocks: _Order, like: Tensor) -> tuple[Tensor, Tensor | None]:
    """Evenly spaced places of each block, at most :data:`LEAF_SAMPLE` (b · few), and whether a token is there."""
    edges, length = _edges(blocks.n, blocks.parts, like), -(-blocks.n // blocks.parts)
    places = edges[:-1, None] + torch.arange(0, length, -(-length // LEAF_SAMPLE), device=like.device)
    there = None if blocks.n % blocks.parts == 0 else places < edges[1:, None]
    return places.clamp(max=blocks.n - 1).reshape(-1), there


def _missed(ranks: Ranks, x: Tensor, of: Tensor, sizes: Tensor, groups: int) -> Tensor:
    """Squared distances (items, n) of every x (items, n, r) from the mean of its group over all ranks."""
    total = x.new_zeros(x.shape[0], groups + 1, x.shape[-1])
    total = total.scatter_add(-2, of[..., None].expand(x.shape), x)[:, :groups]
    mean = ranks.summed(total.contiguous(), "summing groups") / sizes.clamp(min=1).to(x.dtype)[:, None]
    delta: Tensor = x - take_rows(mean, of.clamp(max=groups - 1))
    return (delta * delta).sum(dim=-1)


def _near(ranks: Ranks, merit: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Which own keys are among the ``count`` of most merit of all ranks (items, b, n); for each of these (items, b,
    count) the number of the own key, and whether it is one.
    """
    items, b, n = merit.shape
    best, index = merit.topk(min(count, n), dim=-1)
    best = torch.nn.functional.pad(best, (0, count - best.shape[-1]), value=-inf)
    index = torch.nn.functional.pad(index, (0, count - index.shape[-1]))
    every = ranks.counts(best).movedim(0, -2).reshape(items, b, -1)
    top, which = every.topk(count, dim=-1)
    mine = index.gather(-1, which % count)
    return merit >= top[..., -1:], mine, which // count == ranks.rank


def _faced(
    ranks: Ranks,
    both: Tensor,
    far: Tensor,
    of: Tensor,
    pilot: Tensor,
    near: tuple[Tensor, Tensor],
    o: _Options,
) -> tuple[Tensor, Tensor, Tensor]:
    """What blocks face: keys and values (items, b, t + g, ·), and their bias (items, b, t + g)."""
    (items, b, _), d, (mine, whose) = far.shape, pilot.shape[-1], near
    groups = torch.where(of < o.groups, of, 0)[:, None, :].expand(far.shape)
    top = far.new_full((items, b, o.groups), -inf).scatter_reduce(-1, groups, far.detach(), "amax")
    top = ranks.highest(top, "comparing maxima of groups").clamp(min=torch.finfo(far.dtype).min)
    weights = torch.exp(far - top.gather(-1, groups))
    sizes = torch.stack([(of == g).sum(dim=-1) for g in range(o.groups + 1)], dim=-1).tolist()
    columns = torch.cat([both, torch.ones_like(both[..., :1])], dim=-1)
    parts = []
    for item in range(items):  # groups lie side by side, of sizes of their own
        of_groups = (
            weights[item].split_with_sizes(sizes[item], -1),
            columns[item].split_with_sizes(sizes[item]),
        )
        parts.append(torch.stack([w @ x for w, x in zip(*of_groups, strict=True)][: o.groups]))
    rows = take_rows(both[:, None], mine)
    kept = torch.where(whose[..., None], rows, torch.zeros_like(rows[..., :1]))
    far_sums, kept = summed(ranks, "summing groups and near keys", torch.stack(parts).movedim(1, 2), kept)
    total = far_sums[..., -1:]
    some = total.clamp(min=torch.finfo(total.dtype).smallest_normal)
    means = far_sums[..., :-1] / some
    beta = torch.where(total == 0, -inf, some.log() + top[..., None])[..., 0]
    beta = beta - o.scale * (means[..., :d] * pilot[..., None, :]).sum(dim=-1)
    faced = torch.cat([kept, means], dim=-2)
    bias = torch.cat([torch.zeros_like(kept[..., 0]), beta], dim=-1)
    return faced[..., :d], faced[..., d:], bias


def _of_blocks(
    q: Tensor, shard: _Shard, place: Tensor, blocks: _Order, k: Tensor, v: Tensor, bias: Tensor, scale: float
) -> Tensor:
    """Attention of own queries (items, n, d) to what their blocks face, in pieces of one length within blocks."""
    items, n, _ = q.shape
    with torch.no_grad():
        place, line = torch.where(shard.real, place, blocks.n).sort(dim=-1)
        of = torch.where(
            place < blocks.n, blocks.part(place), blocks.parts
        )  # those that are none by themselves
        size = torch.stack([(of == b).sum(dim=-1) for b in range(blocks.parts + 1)], dim=-1)
        length = max(1, -(-n // blocks.parts))
        pieces = -(-size // length)
        begin = pieces.cumsum(-1) - pieces
        inside = torch.arange(n, device=q.device) - (size.cumsum(-1) - size).gather(-1, of)
        slot = (begin.gather(-1, of) + inside // length) * length + inside % length
        number = int(pieces.sum(-1).max())
        token = torch.zeros(items, number * length, dtype=torch.int64, device=q.device).scatter(
            -1, slot, line
        )
        owner = torch.zeros(items, number * length, dtype=torch.int64, device=q.device).scatter(-1, slot, of)
        owner = owner.reshape(items, number, length).amax(dim=-1).clamp(max=blocks.parts - 1)
        back = torch.empty_like(line).scatter_(-1, line, slot)
    rows = take_rows(q, token).reshape(items, number, length, -1)

    def of_owner(x: Tensor) -> Tensor:
        rows: Tensor = take_rows(x.flatten(2), owner)
        return rows.reshape(items, number, *x.shape[2:])

    out = attend(XP, rows, of_owner(k), of_owner(v), None, of_owner(bias)[..., None, :], scale)
    found: Tensor = take_rows(out.reshape(items, number * length, -1), back)
    return found
