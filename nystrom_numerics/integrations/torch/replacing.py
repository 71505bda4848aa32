"""An attention in place of Torch's, for code that calls Torch's by itself, as long as a context lasts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import Any

from torch import Tensor
from torch.nn import functional

from nystrom_numerics.arguments import require_callable
from nystrom_numerics.integrations.torch.sdpa import KERNEL

__all__ = ["replaced_sdpa"]

Attend = Callable[..., Tensor]

_CHOSEN: ContextVar[Attend | None] = ContextVar("chosen", default=None)
"""What the running context of the running thread has in place of Torch's attention; ``None`` for that itself."""

_LOCK = Lock()
_FOUND: list[Attend] = []
"""What stood in its place, once for each context that is open in any thread."""


def replaced_sdpa(attend: Callable[..., Tensor], /) -> AbstractContextManager[None]:
    """Have calls of ``torch.nn.functional.scaled_dot_product_attention`` go to ``attend`` while the context lasts.

    For models that call Torch's attention themselves and have no interface to switch: timm's, and those of
    :class:`torch.nn.MultiheadAttention` in training.  Only calls of this thread, and of this task where it is
    asynchronous, are served; other threads keep Torch's.  What ``attend`` itself calls is Torch's too.  Contexts nest,
    and are undone on the way out, by an exception too.

    Parameters
    ----------
    attend : callable
        Of the signature of Torch's attention, as :func:`~nystrom_numerics.integrations.torch.sdpa` makes it.

    Returns
    -------
    context manager

    Raises
    ------
    KindError
        ``attend`` cannot be called.

    Notes
    -----
    Cost: O(1) to enter and to leave.

    Not reached: code that took the function by ``from torch.nn.functional import …`` before; Torch's fused inference
    of :class:`torch.nn.MultiheadAttention` and :class:`torch.nn.TransformerEncoderLayer`, for which see
    :func:`nystrom_numerics.nn.from_transformer_encoder`; and graphs compiled before.  What is recomputed in a backward
    pass (``torch.utils.checkpoint``) is computed by what stands in place then, so backward belongs in the context too,
    and checkpoints on a GPU, whose backward pass runs in a thread of its own, not at all.

    Examples
    --------
    >>> import torch
    >>> from nystrom_numerics.integrations.torch import replaced_sdpa, sdpa
    >>> q, k, v = torch.randn(3, 2, 100, 8).unbind()
    >>> own = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    >>> with replaced_sdpa(sdpa(m=4)):
    ...     out = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    >>> torch.equal(out, sdpa(m=4)(q, k, v)), torch.equal(out, own)
    (True, False)
    """
    return _replaced(require_callable("attend", attend))


@contextmanager
def _replaced(attend: Attend) -> Iterator[None]:
    with _LOCK:
        _FOUND.append(_FOUND[0] if _FOUND else functional.scaled_dot_product_attention)
        functional.scaled_dot_product_attention = _dispatch
    token = _CHOSEN.set(attend)
    try:
        yield
    finally:
        _CHOSEN.reset(token)
        with _LOCK:
            found = _FOUND.pop()
            if not _FOUND:
                functional.scaled_dot_product_attention = found


def _dispatch(*args: Any, **options: Any) -> Tensor:
    """What stands in place of Torch's attention while any context is open."""
    attend = _CHOSEN.get()
    if attend is None:  # another thread's context; where it ends meanwhile, nothing has been replaced
        return next(iter(_FOUND), KERNEL)(*args, **options)
    token = _CHOSEN.set(None)
    try:
        return attend(*args, **options)
    finally:
        _CHOSEN.reset(token)
