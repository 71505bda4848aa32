"""Exact attention over ranks: blocks of keys and values go round a ring."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod

import torch
from torch import Tensor

from nystrom_numerics.attention.padding import hide
from nystrom_numerics.backend import with_vjp
from nystrom_numerics.distributed.agreeing import Sizes, agree
from nystrom_numerics.distributed.parts import join, lay, part, part_vjp
from nystrom_numerics.distributed.ranks import Group, Ranks

__all__ = ["exact"]


def exact(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    /,
    *,
    group: Group = None,
    key_mask: Tensor | None = None,
    scale: float | None = None,
    grouped: bool = False,
    check_finite: bool = False,
) -> Tensor:
    r"""Softmax attention of queries that lie on several ranks to keys that do, as a ring.

    Every rank has its tokens, and gets the outputs of its queries: those of :func:`nystrom_numerics.attention.exact`
    for all shards one after the other, in the order of ranks.  Blocks of keys and values are passed on from rank to
    rank, while the attention to the last one is computed, and what comes of a block joins what is there by its
    log-sum-exp.

    Parameters
    ----------
    q, k, v : tensor (..., n_q, d), (..., n_k, d), (..., n_k, d_v)
        This rank's, of any number of tokens, none too.  All else is the same on every rank.
    group : ProcessGroup or DeviceMesh, optional
        Of the ranks, gloo on a CPU, nccl on a GPU; by default Torch's default group.  A mesh has one dimension.
    key_mask : tensor of bool, broadcastable to (..., n_k), optional
        True for real keys of this rank; on every rank or on none.
    scale, check_finite
        As in :func:`nystrom_numerics.attention.exact`.
    grouped : bool
        Heads of queries (..., h, n_q, d) share those of keys and values (..., g, n_k, ·).

    Returns
    -------
    tensor (..., n_q, d_v)
        In the dtype of ``v``; zeros where no rank has a real key, NaN for queries that are not finite.

    Raises
    ------
    DTypeError, DeviceError, KindError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument of this rank; other ranks then raise RankMismatchError.
    MemoryLimitError
        On every rank, before anything is allocated.
    RankError
        A rank has died, or does not come: at the latest the timeout of the group and
        :data:`~nystrom_numerics.distributed.PATIENCE` seconds after.
    RankMismatchError
        Naming the argument that differs, and the ranks.

    Notes
    -----
    Of n keys on p ranks a rank sends (p − 1)/p · n(d + d_v) numbers a head, backward (2p − 1)/p as many,
    and holds two blocks.  Kernel entries: n_q n_k / p each where shards are of one length.  Memory: outputs and two
    blocks of the longest shard's keys and values forward, four backward, and a block of scores.  Sources: Liu,
    Zaharia and Abbeel 2023 (ring attention); the derivative of a part from the whole's log-sum-exp, Dao et al. 2022.

    Examples
    --------
    >>> import torch
    >>> import torch.distributed as dist
    >>> from nystrom_numerics import distributed
    >>> dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    >>> q, k, v = torch.randn(3, 2, 30, 8).unbind()
    >>> distributed.exact(q, k, v).shape
    torch.Size([2, 30, 8])
    >>> dist.destroy_process_group()
    """
    call = agree(
        "exact",
        group,
        (q, k, v),
        {},
        lambda n_q, n_k: None,
        _bytes,
        masks={"key_mask": key_mask},
        scale=scale,
        grouped=grouped,
        check_finite=check_finite,
    )
    q, k, v = call.wide()
    finite = torch.isfinite(q).all(dim=-1)
    laid = lay(hide(torch, q, finite), k, v, call.a.key_mask)
    ring = _Ring(
        call.ranks,
        call.n_k,
        call.masked[1],
        call.a.scale,
        laid.mask,
        tuple(x.shape for x in (laid.k, laid.v)),
    )
    found = with_vjp(ring.forward, ring.vjp, laid.q, laid.k, laid.v, fixed=(laid.mask,))
    out = laid.back(found[0])
    return call.cut(torch.where(finite[..., None], out, torch.nan))


def _bytes(s: Sizes) -> int:
    """Outputs twice, two blocks of the longest shard, four backward, and what is held of q, k and v once more."""
    held = s.n_q * s.d + s.n_k * (s.d + s.d_v)
    blocks = (2 + 2 * s.recorded) * s.longest * (s.d + s.d_v)
    return s.itemsize * s.items * (s.n_q * s.d_v * (2 + s.recorded) + blocks + s.held * held)


@dataclass
class _Ring:
    """Keys and values of all ranks as they come by."""

    ranks: Ranks
    n_k: list[int]
    masked: bool
    scale: float
    mask: Tensor | None
    shapes: tuple[torch.Size, ...]
    last: tuple[Tensor, Tensor] | None = field(default=None, init=False)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        out = q.new_zeros(*q.shape[:-1], v.shape[-1])
        lse = q.new_full((*q.shape[:-1], 1), -torch.inf)

        def meet(k: Tensor, v: Tensor, mask: Tensor | None) -> None:
            nonlocal out, lse
            out, lse = join(out, lse, *part(q, k, v, mask, self.scale))

        self._pass_round(k, v, meet)
        return (out,), (q, k, v, out, lse)

    def vjp(
        self, g: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        of_q, rank, p = torch.zeros_like(q), self.ranks.rank, self.ranks.size
        carried = q.new_zeros(self._numbers(rank, masked=False))
        of_whom = rank

        def meet(k: Tensor, v: Tensor, mask: Tensor | None) -> None:
            share, *more = part_vjp(g, q, k, v, mask, out, lse, self.scale)
            of_q.add_(share)
            carried.add_(torch.cat([x.reshape(-1) for x in more]))

        def moved() -> None:
            """What has come together for a block follows it to the next rank, and at last comes home."""
            nonlocal carried, of_whom
            of_whom = (of_whom - 1) % p
            carried = self._next(
                carried, self._numbers(of_whom, masked=False), "a ring of attention, backward"
            )()

        self._pass_round(k, v, meet, moved)
        if p > 1:
            moved()
        of_k, of_v = self._split(carried, rank)
        return of_q, of_k, of_v

    def _pass_round(
        self,
        k: Tensor,
        v: Tensor,
        meet: Callable[[Tensor, Tensor, Tensor | None], None],
        moved: Callable[[], None] = lambda: None,
    ) -> None:
        """Meet the blocks of all ranks, this one's first, while the next one comes."""
        rank, p = self.ranks.rank, self.ranks.size
        flat = torch.cat([x.reshape(-1) for x in (k, v)]) if self.n_k[rank] else k.new_empty(0)
        if self.masked and self.n_k[rank]:
            assert self.mask is not None
            flat = torch.cat([flat, self._whole(self.mask, rank).reshape(-1).to(k.dtype)])
        for step in range(p):
            whose, after = (rank - step) % p, (rank - step - 1) % p
            arrive = None
            if step < p - 1:
                arrive = self._next(
                    flat, self._numbers(after, self.masked), "passing keys and values round a ring"
                )
            if self.n_k[whose]:
                keys, values = self._split(flat, whose)
                mask = None
                if self.masked:
                    mask = flat[keys.numel() + values.numel() :].reshape(keys.shape[:-1]) > 0
                meet(keys, values, mask)
            if arrive is not None:
                flat = arrive()
                moved()

    def _next(self, flat: Tensor, size: int, doing: str) -> Callable[[], Tensor]:
        rank, p = self.ranks.rank, self.ranks.size
        got = flat.new_empty(size)
        wait = self.ranks.post({(rank + 1) % p: flat}, {(rank - 1) % p: got}, doing)

        def arrived() -> Tensor:
            wait()
            return got

        return arrived

    def _whole(self, mask: Tensor, rank: int) -> Tensor:
        return mask.expand(*self.shapes[0][:2], self.n_k[rank])

    def _numbers(self, rank: int, masked: bool) -> int:
        """Numbers of keys and values, and of their mask, of a rank."""
        (*items, _, d), d_v = self.shapes[0], self.shapes[1][-1]
        return prod(items) * self.n_k[rank] * (d + d_v + masked)

    def _split(self, flat: Tensor, rank: int) -> tuple[Tensor, Tensor]:
        """Keys and values of a rank; of an empty shard one token's of zeros."""
        n = self.n_k[rank]
        if not n:
            zeros = [flat.new_zeros(shape) for shape in self.shapes]
            return zeros[0], zeros[1]
        shapes = [(*shape[:-2], n, shape[-1]) for shape in self.shapes]
        cut = prod(shapes[0])
        return flat[:cut].reshape(shapes[0]), flat[cut : cut + prod(shapes[1])].reshape(shapes[1])
