"""Attention over ranks beside attention in one process: what a rank does, and what it is compared with."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh

from nystrom_numerics import attention, distributed
from nystrom_numerics.distributed import agreeing
from nystrom_numerics.errors import KindError, NystromError, ShapeError
from tests.distributed.workers import group

FUNCTIONS: dict[str, Any] = {
    "exact": (attention.exact, distributed.exact),
    "near_field": (attention.near_field, distributed.near_field),
    "nystrom": (attention.nystrom, distributed.nystrom),
    "tangent": (attention.tangent, distributed.tangent),
}


@dataclass(frozen=True)
class Problem:
    """Tokens in shards, a loss, and the call.

    ``padding`` has for every mask the lengths of what is real of each shard, item by item; ``keys`` are the shards of
    keys where they are not those of queries.
    """

    function: str
    shards: tuple[int, ...]
    keys: tuple[int, ...] | None = None
    batch: tuple[int, ...] = (2,)
    heads: tuple[int, int] | None = None
    d: int = 4
    d_v: int = 4
    dtype: str = "float64"
    masks: tuple[str, ...] = ()
    hidden: tuple[int, ...] = ()
    spread: float = 1.0
    seed: int = 0
    arguments: tuple[Any, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)

    def tensors(self) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        """q, k, v of all shards, their masks, and the weights of the loss."""
        rng, n_q, n_k = np.random.default_rng(self.seed), sum(self.shards), sum(self.keys or self.shards)
        of_q, of_k = ((), ()) if self.heads is None else ((self.heads[0],), (self.heads[1],))
        dtype = getattr(torch, self.dtype)

        def normal(*shape: int) -> Tensor:
            return torch.from_numpy(self.spread * rng.standard_normal(shape)).to(dtype)

        tokens = {
            "q": normal(*self.batch, *of_q, n_q, self.d),
            "k": normal(*self.batch, *of_k, n_k, self.d),
            "v": normal(*self.batch, *of_k, n_k, self.d_v),
        }
        masks = {}
        for name in self.masks:
            n, shards = (n_k, self.keys or self.shards) if name == "key_mask" else (n_q, self.shards)
            real = rng.random((*self.batch, *(() if self.heads is None else (1,)), n)) < 0.7
            ends = [0, *accumulate(shards)]
            for rank in self.hidden:  # padding that fills a shard
                real[..., ends[rank] : ends[rank + 1]] = False
            masks[name] = torch.from_numpy(real)
        return tokens, masks, normal(*self.batch, *of_q, n_q, self.d_v)


def shard_of(x: Tensor, shards: tuple[int, ...], rank: int, axis: int) -> Tensor:
    return x.split(list(shards), axis)[rank]


def array(x: Tensor) -> Any:
    """As a NumPy array, which has no bfloat16."""
    return (x.float() if x.dtype == torch.bfloat16 else x).numpy()


def on_rank(rank: int, problem: Problem, grad: bool = True, of_group: Any = None) -> dict[str, Any]:
    """What a rank computes: its outputs and the derivatives of its tokens, as NumPy arrays."""
    tokens, masks, weights = problem.tensors()
    of = {"q": problem.shards, "k": problem.keys or problem.shards, "v": problem.keys or problem.shards}
    own = {name: shard_of(x, of[name], rank, -2).clone().requires_grad_(grad) for name, x in tokens.items()}
    of_masks = {
        name: shard_of(x, of["k"] if name == "key_mask" else of["q"], rank, -1) for name, x in masks.items()
    }
    call = FUNCTIONS[problem.function][1]
    out = call(
        *own.values(),
        *problem.arguments,
        **of_masks,
        **problem.options,
        group=of_group or group(len(problem.shards)),
    )
    assert out.dtype == own["v"].dtype
    found = {"out": array(out.detach())}
    if grad:
        (out * shard_of(weights, problem.shards, rank, -2)).sum().backward()
        found |= {name: array(x.grad) for name, x in own.items()}
    return found


def in_one(problem: Problem, grad: bool = True) -> dict[str, Any]:
    """The same by the function of one process."""
    tokens, masks, weights = problem.tensors()
    own = {name: x.clone().requires_grad_(grad) for name, x in tokens.items()}
    options = dict(problem.options)
    if problem.function == "exact" and options.pop("grouped", False):
        q = own["q"]
        members = q.shape[-3] // own["k"].shape[-3]
        k, v = (own[name].repeat_interleave(members, dim=-3) for name in ("k", "v"))
        out = attention.exact(q, k, v, **masks, **options)
    else:
        out = FUNCTIONS[problem.function][0](*own.values(), *problem.arguments, **masks, **options)
    found = {"out": array(out.detach())}
    if grad:
        (out * weights).sum().backward()
        found |= {name: array(x.grad) for name, x in own.items()}
    return found


def natural(problem: Problem) -> dict[str, float]:
    """What outputs and derivatives are sums of: their rounding is relative to it where these sums cancel.

    A softmax of one key is constant: its derivative is 0, and what is computed is rounding.
    """
    tokens, _, weights = problem.tensors()
    of = {name: float(x.abs().max()) if x.numel() else 0.0 for name, x in tokens.items()}
    g = float(weights.abs().max()) if weights.numel() else 0.0
    change = g * of["v"] / problem.d**0.5
    return {"out": of["v"], "q": change * of["k"], "k": change * of["q"], "v": g}


def worst(problem: Problem, parts: list[dict[str, Any]]) -> dict[str, float]:
    """The largest difference of outputs and derivatives, relative to the largest entry in one process.

    Or to what that entry is a sum of, where it cancels below it.
    """
    whole, found, terms = in_one(problem, grad="q" in parts[0]), {}, natural(problem)
    for name, expected in whole.items():
        got = np.concatenate([part[name] for part in parts], axis=-2)
        assert got.shape == expected.shape
        assert got.dtype == expected.dtype
        size = max(np.abs(expected).max(initial=0.0), terms[name])
        found[name] = float(np.abs(got - expected).max(initial=0.0) / (size if size > 0 else 1.0))
    return found


# ---------------------------------------------------------------- other things that a rank does


def own_problem(rank: int, problems: list[Problem], grads: list[bool] | None = None) -> None:
    """Each rank its own call."""
    on_rank(rank, problems[rank], True if grads is None else grads[rank])


def sent_on_rank(rank: int, problem: Problem) -> dict[str, int]:
    """The bytes that a rank hands to sums and maxima, to other ranks, and to tables."""
    found = {"reduced": 0, "passed": 0, "gathered": 0}

    def counted(name: str, call: Any, tensors: Any) -> Any:
        def wrapped(*args: Any, **options: Any) -> Any:
            found[name] += sum(x.numel() * x.element_size() for x in tensors(*args))
            return call(*args, **options)

        return wrapped

    with mock.patch.multiple(
        dist,
        all_reduce=counted("reduced", dist.all_reduce, lambda x, *_: [x]),
        all_gather=counted("gathered", dist.all_gather, lambda _, x, *__: [x]),
        batch_isend_irecv=counted(
            "passed", dist.batch_isend_irecv, lambda ops: [op.tensor for op in ops if op.op is dist.isend]
        ),
    ):
        on_rank(rank, problem)
    return found


def core_bits(rank: int, problem: Problem) -> bytes:
    """What Nyström's core is on a rank."""
    found = []

    def solver(core: Tensor, p: Tensor) -> Tensor:
        found.append(core.numpy().tobytes() + p.numpy().tobytes())
        return p

    tokens, _, _ = problem.tensors()
    own = [shard_of(x, problem.shards, rank, -2) for x in tokens.values()]
    distributed.nystrom(*own, 3, solver=solver, group=group(len(problem.shards)))
    return found[0]


def without_memory(rank: int, problem: Problem, short: tuple[int, ...], free: int) -> tuple[Exception, int]:
    """The error on machines of their own of which some have so many bytes free, and how many collectives there were."""
    calls = []

    def all_gather(*args: Any, **options: Any) -> Any:
        calls.append(args)
        return gather(*args, **options)

    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("sent before it was refused")

    gather = dist.all_gather
    with (
        mock.patch.object(agreeing, "_free", return_value=free if rank in short else 2**40),
        mock.patch.object(agreeing, "_place", return_value=rank),
        mock.patch.multiple(dist, all_gather=all_gather, all_reduce=refused, batch_isend_irecv=refused),
    ):
        try:
            on_rank(rank, problem)
        except NystromError as error:
            return error, len(calls)
    raise AssertionError("accepted")


def by_mesh(rank: int, problem: Problem) -> bool:
    """Whether a mesh of one dimension is served like its group, and one of two refused."""
    tokens, _, _ = problem.tensors()
    own = [shard_of(x, problem.shards, rank, -2) for x in tokens.values()]
    mesh = init_device_mesh("cpu", (4,), mesh_dim_names=("ranks",))
    same = torch.equal(distributed.exact(*own, group=mesh), distributed.exact(*own, group=group(4)))
    try:
        distributed.exact(*own, group=init_device_mesh("cpu", (2, 2), mesh_dim_names=("a", "b")))
    except ShapeError as error:
        return same and error.argument == "group"
    return False


def by_some_ranks(rank: int, problem: Problem, kind: str) -> Any:
    """What ranks 1 and 3 compute as a group, or 2 and 3 as the second of two along a dimension of a mesh.

    Of others, whom they refuse.
    """
    if kind == "mesh":
        of_group: Any = init_device_mesh("cpu", (2, 2), mesh_dim_names=("a", "b"))["b"]
        return on_rank(rank % 2, problem, of_group=of_group)
    of_group = dist.new_group([1, 3])
    if rank in (1, 3):
        return on_rank(rank // 2, problem, of_group=of_group)
    try:
        distributed.exact(*torch.ones(3, 4, 2).unbind(), group=of_group)
    except KindError as error:
        return error


def with_masks_changed(rank: int, problem: Problem, which: str) -> str:
    """What a derivative of one of q, k and v says where masks have been changed in place."""
    tokens, masks, _ = problem.tensors()
    own = {name: shard_of(x, problem.shards, rank, -2).clone() for name, x in tokens.items()}
    own[which].requires_grad_()
    mine = {name: shard_of(x, problem.shards, rank, -1).clone() for name, x in masks.items()}
    call = FUNCTIONS[problem.function][1]
    out = call(*own.values(), *problem.arguments, **mine, **problem.options, group=group(len(problem.shards)))
    for mask in mine.values():
        mask.logical_not_()
    try:
        out.sum().backward()
    except RuntimeError as error:
        return str(error)
    return ""
