"""Nyström attention over ranks: landmarks and BV are sums over shards, and all else is each rank's own."""

from __future__ import annotations

import torch
from torch import Tensor

from nystrom_numerics.arguments import require_count
from nystrom_numerics.attention import Pinv, ridge
from nystrom_numerics.attention.nystrom import require_core, solved_between
from nystrom_numerics.attention.placing import Placed
from nystrom_numerics.attention.streaming import attend
from nystrom_numerics.backend import with_vjp
from nystrom_numerics.distributed.agreeing import Call, Sizes, agree
from nystrom_numerics.distributed.collectives import summed
from nystrom_numerics.distributed.parts import lay, part, part_vjp
from nystrom_numerics.distributed.places import place_of, segment_sums
from nystrom_numerics.distributed.ranks import Group, Ranks
from nystrom_numerics.errors import RangeError
from nystrom_numerics.pinv import Solver

__all__ = ["attend_to_all", "landmarks_of", "nystrom"]


def nystrom(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    m: int | tuple[int, int],
    /,
    *,
    group: Group = None,
    solver: Solver = ridge,
    pinv: Pinv | None = None,
    key_mask: Tensor | None = None,
    query_mask: Tensor | None = None,
    scale: float | None = None,
    grouped: bool = False,
    check_finite: bool = False,
) -> Tensor:
    r"""Nyström attention of a sequence that lies on several ranks.

    As :func:`nystrom_numerics.attention.nystrom` of all shards.

    Landmarks are means of segments of the whole sequence, whose ends need not be those of shards; each rank adds what
    it has of a segment.  For BV every rank meets its own keys, and with :math:`L_r` the log-sum-exp of rank r and
    :math:`L = \log\sum_r e^{L_r}`,

    .. math:: BV = \sum_r e^{L_r - L}\,(BV)_r .

    The core is solved with on every rank, from the same bits.

    Parameters
    ----------
    q, k, v, group, scale, grouped, check_finite
        As in :func:`exact`.
    m : int, or two
        Landmarks of queries and of keys, at most as many as there are tokens on all ranks.
    solver, pinv
        As in :func:`nystrom_numerics.attention.nystrom`; the same on every rank.
    key_mask, query_mask : tensor of bool, broadcastable to (..., n_k) and (..., n_q), optional
        True for real tokens of this rank; on every rank or on none.  A shard may be all padding.

    Returns
    -------
    tensor (..., n_q, d_v)
        As :func:`nystrom_numerics.attention.nystrom` gives for the queries of this rank.

    Raises
    ------
    MemoryLimitError, RankError, RankMismatchError
        As in :func:`exact`.
    DTypeError, DeviceError, KindError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Sent a head, whatever n is: 2md numbers for the landmarks, m maxima and m(d_v + 1) numbers for BV,
    summed over ranks; backward m d_v and 2md.  (The maximum must be known before anything can be summed, so that there
    are three collectives and not two.)  Costs and memory: those of the shards by themselves, and the core on every
    rank.  Source: ours; log-sum-exp of parts as in :func:`exact`.

    Examples
    --------
    >>> import torch
    >>> import torch.distributed as dist
    >>> from nystrom_numerics import attention, distributed
    >>> dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    >>> q, k, v = torch.randn(3, 2, 30, 8).unbind()
    >>> torch.allclose(distributed.nystrom(q, k, v, 8), attention.nystrom(q, k, v, 8), atol=1e-5)
    True
    >>> dist.destroy_process_group()
    """
    wanted = m if isinstance(m, tuple) else (m, m)

    def check(n_q: int, n_k: int) -> None:
        if len(wanted) != 2:
            needs = "a number of landmarks, or one of queries and one of keys"
            raise RangeError("m", f"{len(wanted)} numbers", needs)
        for name, count, n in zip("qk", wanted, (n_q, n_k), strict=True):
            require_count("m", count, 1, n, of=f"the number of tokens of `{name}` on all ranks")
        require_core(solver, pinv)

    call = agree(
        "nystrom",
        group,
        (q, k, v),
        {"m": m, "solver": solver, "pinv": pinv},
        check,
        _bytes,
        masks={"query_mask": query_mask, "key_mask": key_mask},
        scale=scale,
        grouped=grouped,
        check_finite=check_finite,
    )
    q, k, v = call.wide()
    placed, _ = landmarks_of(call, q, k, wanted, call.q.dtype)
    p = attend_to_all(call.ranks, placed.queries, k, v, call.a.key_mask, call.a.scale)
    w = solved_between(call.a.xp, placed, p, call.a.scale, solver, pinv)
    return call.cut(attend(call.a.xp, q, placed.keys, w, placed.key_valid, None, call.a.scale))


def _bytes(s: Sizes) -> int:
    """Outputs, their cotangents, and what is held of q, k and v once more."""
    held = s.n_q * s.d + s.n_k * (s.d + s.d_v)
    return s.itemsize * s.items * (s.n_q * s.d_v * (1 + s.recorded) + s.held * held)


def landmarks_of(
    call: Call, q: Tensor, k: Tensor, m: tuple[int, int], storage: torch.dtype, *more: Tensor
) -> tuple[Placed, list[Tensor]]:
    """Means of segments of all tokens, rounded to ``storage``, and sums over ranks of what is sent with them."""
    places = [
        place_of(call.ranks, mask, masked, lengths)
        for mask, masked, lengths in zip(
            (call.a.query_mask, call.a.key_mask), call.masked, (call.n_q, call.n_k), strict=True
        )
    ]
    (of_q, n_q), (of_k, n_k) = (
        segment_sums(place, x, count) for place, x, count in zip(places, (q, k), m, strict=True)
    )
    of_q, of_k, *others = summed(call.ranks, "summing landmarks", of_q, of_k, *more)
    means = [
        (total / size.clamp(min=1).to(total.dtype)[..., None]).to(storage).to(total.dtype)
        for total, size in ((of_q, n_q), (of_k, n_k))
    ]
    valid = [size > 0 if masked else None for size, masked in ((n_q, call.masked[0]), (n_k, call.masked[1]))]
    return Placed(means[0], valid[0], means[1], valid[1], None), others


def attend_to_all(ranks: Ranks, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """Attention (..., r, d_v) of queries that every rank has to the keys of all ranks."""
    laid = lay(q, k, v, mask)

    def forward(q: Tensor, k: Tensor, v: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        out, lse = part(q, k, v, laid.mask, scale)
        top = ranks.highest(lse.clone(), "comparing maxima")
        top = top.masked_fill(top == -torch.inf, 0.0)
        share = torch.exp(lse - top)
        both = ranks.summed(torch.cat([out * share, share], dim=-1), "summing BV")
        total = both[..., -1:]
        out = both[..., :-1] / total.masked_fill(total == 0, 1.0)
        return (out,), (q, k, v, out, total.log() + top)

    def vjp(g: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor) -> tuple[Tensor, ...]:
        g = ranks.summed(g.clone(memory_format=torch.contiguous_format), "summing BV, backward")
        return part_vjp(g, q, k, v, laid.mask, out, lse, scale)

    return laid.back(with_vjp(forward, vjp, laid.q, laid.k, laid.v, fixed=(laid.mask,))[0])
