"""What a call asks of its arguments on all ranks together, before anything else is sent or allocated."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from nystrom_numerics.attention.arguments import Arguments, product_form
from nystrom_numerics.backend import compute_dtype
from nystrom_numerics.distributed.ranks import Group, Ranks, ranks_of
from nystrom_numerics.errors import (
    ArgumentError,
    MemoryLimitError,
    NamespaceError,
    RankMismatchError,
    ShapeError,
)

__all__ = ["Call", "Sizes", "agree"]

WIDTH = 40
"""Whole numbers with which a rank tells of its arguments."""

Said = list[tuple[str, str, int]]
"""An argument, what of it is compared, and the number that all ranks must have."""


@dataclass(frozen=True)
class Sizes:
    """What a rank is to hold: queries and keys of all items, widths, bytes of a number, the most keys of any rank."""

    items: int
    n_q: int
    n_k: int
    d: int
    d_v: int
    itemsize: int
    longest: int
    held: int
    """How often q, k and v are held once more: as masked or wider copies, and as cotangents."""
    recorded: int
    """1 where a derivative is asked for, else 0."""


@dataclass(frozen=True)
class Call:
    """A call that all ranks have agreed on.

    Arrays are this rank's, of which q and k are zero where they are masked.  A shard without tokens has one masked
    token in place of none, which :meth:`cut` takes off the output again.

    Attributes
    ----------
    n_q, n_k : list of int
        Queries and keys of every rank, masked ones too.
    masked : pair of bool
        Whether masks of queries and of keys were given.
    """

    ranks: Ranks
    a: Arguments
    q: Tensor
    k: Tensor
    v: Tensor
    n_q: list[int]
    n_k: list[int]
    masked: tuple[bool, bool]
    grouped: bool

    def wide(self) -> tuple[Tensor, Tensor, Tensor]:
        """q, k and v in the dtype to compute in, v zero where keys are masked."""
        dtype = compute_dtype(self.a.xp, self.q.dtype)
        mask = self.a.key_mask
        v = (
            self.v
            if mask is None
            else torch.where(mask[..., None], self.v, torch.zeros_like(self.v[..., :1]))
        )
        return self.q.to(dtype), self.k.to(dtype), v.to(dtype)

    def cut(self, out: Tensor) -> Tensor:
        """Outputs (..., n_q, w) of the tokens that there are, in the dtype of v, with heads as they came."""
        if self.grouped:
            out = out.flatten(-4, -3)
        return out[..., : self.n_q[self.ranks.rank], :].to(self.v.dtype)


def agree(
    function: str,
    group: Group,
    tokens: tuple[Tensor, ...],
    options: dict[str, Any],
    check: Callable[[int, int], None],
    needs: Callable[[Sizes], int],
    *,
    masks: dict[str, Tensor | None],
    scale: float | None,
    grouped: bool,
    check_finite: bool,
    oneself: bool = False,
) -> Call:
    """Check the arguments of this rank, and compare them with those of the others.

    ``check(n_q, n_k)`` looks at options once the numbers of tokens of all ranks are known.  A rank that refuses its own
    arguments tells the others before it raises, so that none of them waits for it.

    Raises
    ------
    ArgumentError
        Naming the argument of this rank.
    RankMismatchError
        Naming the argument, and the ranks that differ from the first.
    MemoryLimitError
        Naming the ranks whose memory does not do: the bytes that the ranks of one machine or device are sure to
        allocate (outputs, copies that masks and wider dtypes ask for, blocks of the ring, cotangents) must be free.
    """
    ranks = ranks_of(group)
    device = _device(ranks, tokens[0])
    try:
        for name, x in zip("qkv", tokens, strict=True):
            if not isinstance(x, Tensor):
                raise NamespaceError(name, f"a {type(x).__name__}", "a Torch tensor")
        lengths = [x.shape[-2] if x.ndim > 1 else 1 for x in tokens[:2]]
        filled, filled_masks = _filled(tokens, masks)
        a, q, k, v = product_form(
            *filled, scale=scale, grouped=grouped, check_finite=check_finite, oneself=oneself, **filled_masks
        )
        said = _said(function, tokens, masks, a.scale, grouped, options)
    except ArgumentError:
        ranks.tables([1] * WIDTH, device)
        raise
    assert v is not None
    row = [0, *lengths, _place(device), _free(device), *(number for _, _, number in said)]
    table = ranks.tables(row + [0] * (WIDTH - len(row)), device)
    _compare(said, table)
    n_q, n_k = ([line[i] for line in table] for i in (1, 2))
    for name, lengths_of in (("q", n_q), ("k", n_k)):
        if not any(lengths_of):
            raise ShapeError(name, "without a token on any rank", "one token at least")
    check(sum(n_q), sum(n_k))
    itemsize = compute_dtype(a.xp, q.dtype).itemsize
    masked = (a.query_mask is not None, a.key_mask is not None)
    recorded = int(torch.is_grad_enabled() and any(x.requires_grad for x in tokens))
    held = recorded + int(any(masked) or q.dtype.itemsize < itemsize)
    size = Sizes(prod(a.batch), 0, 0, q.shape[-1], v.shape[-1], itemsize, max(n_k), held, recorded)
    _fits(table, needs, size)
    return Call(ranks, _with_stand_ins(a, lengths, q), q, k, v, n_q, n_k, masked, grouped)


def _device(ranks: Ranks, x: Any) -> torch.device:
    """Where the backend of the group sends from."""
    if dist.get_backend(ranks.group) == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return (
        x.device if isinstance(x, Tensor) and dist.get_backend(ranks.group) != "gloo" else torch.device("cpu")
    )


def _filled(
    tokens: tuple[Tensor, ...], masks: dict[str, Tensor | None]
) -> tuple[tuple[Tensor, ...], dict[str, Tensor | None]]:
    """One token of zeros, masked where there is a mask, in place of none."""
    found = tuple(
        torch.cat([x, x.new_zeros(*x.shape[:-2], 1, x.shape[-1])], dim=-2)
        if x.ndim > 1 and not x.shape[-2]
        else x
        for x in tokens
    )
    changed = dict(masks)
    for name, mask in masks.items():
        of = tokens[1] if name == "key_mask" else tokens[0]
        if isinstance(mask, Tensor) and of.ndim > 1 and not of.shape[-2] and mask.ndim and mask.shape[-1] < 2:
            changed[name] = mask.new_zeros(*mask.shape[:-1], 1)
    return found, changed


def _with_stand_ins(a: Arguments, lengths: Sequence[int], like: Tensor) -> Arguments:
    """Masks that hide the tokens put in place of none; those that were given do already."""
    none = torch.zeros(1, dtype=torch.bool, device=like.device)
    return replace(
        a,
        query_mask=none if a.query_mask is None and not lengths[0] else a.query_mask,
        key_mask=none if a.key_mask is None and not lengths[1] else a.key_mask,
    )


def _said(
    function: str,
    tokens: tuple[Tensor, ...],
    masks: dict[str, Tensor | None],
    scale: float,
    grouped: bool,
    options: dict[str, Any],
) -> Said:
    """What must be one on all ranks."""
    found: Said = [("group", "the function called, as a number,", _digest(function))]
    for name, x in zip("qkv", tokens, strict=True):
        found += [(name, "of so many axes:", x.ndim), (name, "of width", x.shape[-1])]
        found += [(name, f"with axis {i} of", x.shape[i]) for i in range(min(x.ndim - 2, 5))]
        asked = torch.is_grad_enabled() and x.requires_grad
        found += [(name, "with a derivative asked for:", int(asked))]
    dtypes = ("float16", "bfloat16", "float32", "float64")
    bits = next(i for i, name in enumerate(dtypes) if getattr(torch, name) == tokens[0].dtype)
    found += [("q", f"of dtype ({', '.join(f'{i}: {x}' for i, x in enumerate(dtypes))})", bits)]
    for name, mask in masks.items():
        lead = 0 if mask is None else 1 + _digest(tuple(mask.shape[:-1]))
        found += [(name, "given (0 for not), and its leading axes, as a number,", lead)]
    found += [("scale", "as a number,", _digest(scale)), ("grouped", "set to", int(grouped))]
    found += [(name, "as a number,", _digest(value)) for name, value in options.items()]
    assert len(found) + 5 <= WIDTH, "more to compare than there is room for"
    return found


def _digest(value: Any) -> int:
    """A number of 62 bits that stands for a value of the same words on every rank."""
    return int.from_bytes(hashlib.blake2b(_words(value).encode(), digest_size=8).digest(), "big") >> 2


def _words(value: Any) -> str:
    """As on every rank: the name of a function, with what is bound to it, and not where it lies."""
    if isinstance(value, partial):
        bound = [
            _words(x) for x in (*value.args, *(y for pair in sorted(value.keywords.items()) for y in pair))
        ]
        return f"{_words(value.func)}({', '.join(bound)})"
    return getattr(value, "__qualname__", None) or repr(value)


def _compare(said: Said, table: list[list[int]]) -> None:
    refused = tuple(rank for rank, line in enumerate(table) if line[0])
    if refused:
        raise RankMismatchError(
            "group", f"with a call refused on {_those(refused)}", "good arguments there", refused
        )
    for column, (name, what, _) in enumerate(said, 5):
        numbers = [line[column] for line in table]
        others = tuple(rank for rank, number in enumerate(numbers) if number != numbers[0])
        if others:
            got = f"{what} {numbers[0]} on rank 0 and {numbers[others[0]]} on {_those(others)}"
            raise RankMismatchError(name, got, "the same on every rank", others)


def _those(ranks: tuple[int, ...]) -> str:
    return f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {', '.join(map(str, ranks))}"


def _fits(table: list[list[int]], needs: Callable[[Sizes], int], size: Sizes) -> None:
    """Whether what the ranks of each place are to allocate together is free there."""
    needed: dict[int, int] = {}
    free: dict[int, int] = {}
    for _, n_q, n_k, place, has, *_ in table:
        needed[place] = needed.get(place, 0) + needs(replace(size, n_q=n_q, n_k=n_k))
        free[place] = min(has, free.get(place, has))
    short = tuple(rank for rank, line in enumerate(table) if needed[line[3]] > free[line[3]])
    if short:
        place = table[short[0]][3]
        whose = f"which are free on {_those(short)}"
        remedy = "more ranks, shorter shards or a narrower dtype"
        what = "what is made of q, k and v there"
        raise MemoryLimitError("q", what, needed[place], free[place], whose, remedy, short)


def _place(device: torch.device) -> int:
    """The machine, or the device of it, whose memory ranks share."""
    return _digest((socket.gethostname(), str(device)))


def _free(device: torch.device) -> int:
    """Bytes that can be allocated: of a GPU what is free or held by Torch unused, of a host what Linux says, in a
    container what its limit leaves; where nobody says, no limit.
    """
    if device.type == "cuda":
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + held
    found = [2**61]
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")]
        limit = Path("/sys/fs/cgroup/memory.max").read_text("ascii").strip()
        if limit != "max":
            used = int(Path("/sys/fs/cgroup/memory.current").read_text("ascii"))
            stat = Path("/sys/fs/cgroup/memory.stat").read_text("ascii").splitlines()
            files = sum(
                int(line.split()[1]) for line in stat if line.startswith(("inactive_file", "active_file"))
            )
            found.append(max(int(limit) - used + files, 0))
    except (OSError, ValueError, IndexError):
        pass
    return min(found)
