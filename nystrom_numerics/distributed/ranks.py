"""The ranks of a process group, and what they send one another: every collective of this package goes through here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary, finalize, ref

import torch
import torch.distributed as dist
from torch import Tensor

from nystrom_numerics.distributed.pulse import Pulse
from nystrom_numerics.errors import KindError, ShapeError

__all__ = ["Group", "Ranks", "ranks_of"]

Group: TypeAlias = Any
"""A ``torch.distributed.ProcessGroup``, a ``DeviceMesh`` of one dimension, or ``None`` for the default group."""

_KNOWN: WeakKeyDictionary[Any, Ranks] = WeakKeyDictionary()


class Ranks:
    """A process group as this package uses it; errors of its backend come as :class:`~..errors.RankError`.

    Attributes
    ----------
    group : ProcessGroup
        Held weakly: whoever made it ends it.
    rank, size : int
        This process among the processes of the group.
    """

    def __init__(self, group: Any) -> None:
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
        self._group = ref(group)
        self._pulse: Pulse | None = None
        store = group.get_group_store() if self.size > 1 else None
        if store is not None:
            self._pulse = Pulse(store, self.rank, self.size)
            finalize(group, self._pulse.stop)

    @property
    def group(self) -> Any:
        return self._group()

    def tables(self, row: Sequence[int], device: torch.device) -> list[list[int]]:
        """The whole numbers of every rank, as many of each; the host waits for them."""
        if self.size == 1:
            return [list(row)]
        mine = torch.tensor(row, dtype=torch.int64, device=device)
        table: list[list[int]] = self._gathered(mine, "comparing arguments").tolist()
        return table

    def counts(self, mine: Tensor) -> Tensor:
        """Integers (...) of every rank, (p, ...)."""
        return mine[None] if self.size == 1 else self._gathered(mine.contiguous(), "counting tokens")

    def _gathered(self, mine: Tensor, doing: str) -> Tensor:
        every = [torch.empty_like(mine) for _ in range(self.size)]
        self._watched(doing, lambda: [dist.all_gather(every, mine, self.group, async_op=True)])
        return torch.stack(every)

    def summed(self, x: Tensor, doing: str) -> Tensor:
        """The sum over ranks, in place, of the same bits on each."""
        return self._reduced(x, dist.ReduceOp.SUM, doing)

    def highest(self, x: Tensor, doing: str) -> Tensor:
        """The largest over ranks, in place."""
        return self._reduced(x, dist.ReduceOp.MAX, doing)

    def _reduced(self, x: Tensor, op: Any, doing: str) -> Tensor:
        if self.size > 1 and x.numel():
            self._watched(doing, lambda: [dist.all_reduce(x, op, self.group, async_op=True)])
        return x

    def post(self, sends: dict[int, Tensor], receives: dict[int, Tensor], doing: str) -> Callable[[], None]:
        """Begin to send to ranks and to receive from ranks; what is returned waits for the end.

        Both sides know the sizes, and leave out what is empty.
        """
        ops = [
            dist.P2POp(op, x, group=self.group, group_peer=rank)
            for op, those in ((dist.isend, sends), (dist.irecv, receives))
            for rank, x in sorted(those.items())
            if x.numel()
        ]
        if not ops:
            return lambda: None
        works = self._begun(doing, lambda: dist.batch_isend_irecv(ops))
        return lambda: self._ended(doing, works)

    def _watched(self, doing: str, begin: Callable[[], list[Any]]) -> None:
        self._ended(doing, self._begun(doing, begin))

    def _begun(self, doing: str, begin: Callable[[], list[Any]]) -> list[Any]:
        if self._pulse is not None:
            self._pulse.step += 1
        try:
            return begin()
        except RuntimeError as error:
            raise self._fault(doing, error) from error

    def _ended(self, doing: str, works: list[Any]) -> None:
        try:
            for work in works:
                work.wait()
        except RuntimeError as error:
            raise self._fault(doing, error) from error

    def _fault(self, doing: str, error: RuntimeError) -> Exception:
        return error if self._pulse is None else self._pulse.blame(doing, error)


def ranks_of(group: Group) -> Ranks:
    """The ranks of a group, of the one dimension of a mesh, or of the default group.

    Raises
    ------
    KindError
        Naming ``group``: it is none, there is no default group, or this process does not belong to it.
    ShapeError
        Naming ``group``: a mesh of several dimensions.
    """
    needs = "a torch.distributed.ProcessGroup, a DeviceMesh of one dimension, or None for the default group"
    if not dist.is_available() or not dist.is_initialized():
        raise KindError("group", "given before torch.distributed.init_process_group", needs)
    if group is None:
        group = dist.group.WORLD
    mesh_dim = getattr(group, "ndim", None)
    if mesh_dim is not None and hasattr(group, "get_group"):
        if mesh_dim != 1:
            raise ShapeError("group", f"a mesh of {mesh_dim} dimensions", "one dimension: `mesh['name']`")
        group = group.get_group()
    other = group is dist.GroupMember.NON_GROUP_MEMBER  # what new_group gives those that it leaves out
    if not other and not isinstance(group, dist.ProcessGroup):
        raise KindError("group", f"a {type(group).__name__}", needs)
    if other or dist.get_rank(group) < 0:
        raise KindError("group", "one that this process does not belong to", needs)
    found = _KNOWN.get(group)
    if found is None:
        found = _KNOWN[group] = Ranks(group)
    return found
