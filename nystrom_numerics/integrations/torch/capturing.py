"""A call recorded once as a CUDA graph and played again, where shapes repeat."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from nystrom_numerics.arguments import require_callable
from nystrom_numerics.backend import require_matrix
from nystrom_numerics.errors import DeviceError, DTypeError, KindError, NamespaceError, ShapeError

__all__ = ["captured"]

DEVICE = "cuda"
"""What has graphs."""

WARM = 3
"""Calls before a recording, in which libraries choose and load their kernels."""


def captured(
    attend: Callable[[Tensor, Tensor, Tensor], Tensor], q: Tensor, k: Tensor, v: Tensor, /
) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """``attend``, recorded once for arguments like these as a CUDA graph that each call plays again.

    Up to n of about 130,000 a call with 64 landmarks takes as long on a GPU as it takes the host to launch its kernels;
    a graph is one launch.

    Parameters
    ----------
    attend : callable
        Takes q, k and v, and waits for nothing on the device: ``nystrom``, ``tangent``, ``near_field``, ``causal`` and
        ``exact`` of :mod:`nystrom_numerics.attention` without masks, their options bound by ``functools.partial``.
    q, k, v : Tensor
        On one CUDA device.  Calls take tensors of these shapes and dtypes on that device, and no other.

    Returns
    -------
    callable
        ``(q, k, v)`` to a tensor of its own.  Without derivatives.

    Raises
    ------
    DeviceError, DTypeError, KindError, NamespaceError, ShapeError
        Naming the argument; the function that is returned raises them too.  What ``attend`` or Torch raise where its
        work cannot be recorded is passed on.

    Notes
    -----
    The graph keeps the memory of one call, its inputs and its output; a call copies its arguments in and the output
    out.  Calls of one captured function take turns: it is not for several threads or streams at once.

    Examples
    --------
    >>> from functools import partial
    >>> import torch
    >>> from nystrom_numerics import attention
    >>> from nystrom_numerics.errors import DeviceError
    >>> from nystrom_numerics.integrations.torch import captured
    >>> attend = partial(attention.nystrom, m=64)
    >>> q = torch.zeros(8, 1000, 64)  # on a CPU, which has no graphs
    >>> try:
    ...     attend = captured(attend, q, q, q)
    ... except DeviceError as error:
    ...     print(error.argument)
    q
    """
    require_callable("attend", attend)
    given = {"q": q, "k": k, "v": v}
    for name, x in given.items():
        if not isinstance(x, Tensor):
            raise NamespaceError(name, type(x).__name__, "a tensor of Torch")
    for name, x in given.items():
        require_matrix(name, x)
        if x.device.type != DEVICE:
            raise DeviceError(name, f"a tensor on {x.device}", "one on a CUDA device, which has graphs")
        if x.device != q.device:
            raise DeviceError(name, f"a tensor on {x.device}", f"one on {q.device}, as `q` is")
    held = q.detach().clone(), k.detach().clone(), v.detach().clone()
    graph, out = _recorded(attend, held)

    @torch.no_grad()
    def play(q: Tensor, k: Tensor, v: Tensor, /) -> Tensor:
        for name, x, own in zip(given, (q, k, v), held, strict=True):
            _like(name, x, own)
            own.copy_(x)
        graph.replay()
        return out.clone()

    return play


@torch.no_grad()
def _recorded(
    attend: Callable[[Tensor, Tensor, Tensor], Tensor], held: tuple[Tensor, Tensor, Tensor]
) -> tuple[torch.cuda.CUDAGraph, Tensor]:
    device = held[0].device
    with torch.cuda.device(device):
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM):
                attend(*held)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = attend(*held)
    if not isinstance(out, Tensor):
        raise KindError(
            "attend", f"a function that returns {type(out).__name__}", "one that returns a tensor"
        )
    return graph, out


def _like(name: str, x: Tensor, own: Tensor) -> None:
    if not isinstance(x, Tensor):
        raise NamespaceError(name, type(x).__name__, "a tensor of Torch")
    if x.shape != own.shape:
        raise ShapeError(name, f"shape {tuple(x.shape)}", f"{tuple(own.shape)}, which was recorded")
    if x.dtype != own.dtype:
        raise DTypeError(name, f"{x.dtype}", f"{own.dtype}, which was recorded")
    if x.device != own.device:
        raise DeviceError(name, f"a tensor on {x.device}", f"one on {own.device}, which was recorded")
