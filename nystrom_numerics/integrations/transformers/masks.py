"""Which queries see which keys, as a model of transformers asks for it: by a rule, and not by n_q × n_k entries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from nystrom_numerics.integrations.transformers.refusals import unsupported

__all__ = ["Pattern", "Reading", "RuleMask", "causal_by_rule", "mask_by_rule", "read_entries"]


class Pattern(Enum):
    """What a mask says of pairs of tokens, beside which keys are real."""

    FULL = "all tokens see all"
    CAUSAL = "tokens see those up to themselves"
    OTHER = "a window, chunks, packed sequences, a bias or any other pattern"


@dataclass(frozen=True)
class Reading:
    """A mask read.

    Attributes
    ----------
    pattern : Pattern
    real : Tensor of bool (b, n_k), or None
        Which keys are no padding.
    first_query, first_key : int
        Where the first ones stand in their text.
    behind, ahead : int, or None
        How many tokens before and after itself a query may see; ``None`` where nothing is known.
    """

    pattern: Pattern
    real: Tensor | None = None
    first_query: int = 0
    first_key: int = 0
    behind: int | None = None
    ahead: int | None = None

    def reach(self, start: int, stop: int, n_k: int) -> tuple[int, int]:
        """A range of keys, not empty, that holds all that queries ``start``, …, ``stop − 1`` see."""
        shift = self.first_query - self.first_key
        low = 0 if self.behind is None else min(max(start + shift - self.behind, 0), n_k - 1)
        high = n_k if self.ahead is None else min(max(stop + shift + self.ahead, low + 1), n_k)
        return low, high


class RuleMask(Tensor):
    """An additive mask (b, 1, n_q, n_k) whose entries are made when asked for.

    Attention looks at its :attr:`reading`.  A model that computes with the mask computes with its entries, which are
    those of transformers' eager attention, and attention gets a plain mask: nothing is lost on the way.
    """

    reading: Reading
    _entries: Callable[..., Tensor]

    @staticmethod
    def __new__(
        cls,
        reading: Reading,
        entries: Callable[..., Tensor],
        shape: tuple[int, ...],
        dtype: torch.dtype,
        device: Any,
    ) -> RuleMask:
        made: RuleMask = Tensor._make_wrapper_subclass(cls, shape, dtype=dtype, device=device)
        made.reading, made._entries = reading, entries
        return made

    def seen(self, queries: tuple[int, int], keys: tuple[int, int]) -> Tensor:
        """Which of the keys the queries see, of either from the first number to before the second, boolean."""
        return self._entries(
            q_length=queries[1] - queries[0],
            q_offset=self.reading.first_query + queries[0],
            kv_length=keys[1] - keys[0],
            kv_offset=self.reading.first_key + keys[0],
        )

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _OF_SHAPES:
            return super().__torch_function__(func, types, args, kwargs)  # type: ignore[no-untyped-call]
        return func(*tree_map(_plain, args), **tree_map(_plain, kwargs or {}))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return func(*tree_map(_plain, args), **tree_map(_plain, kwargs or {}))

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"RuleMask({self.reading.pattern.name}, shape={tuple(self.shape)})"


_OF_SHAPES = {
    *(getattr(Tensor, name).__get__ for name in ("device", "dtype", "ndim", "requires_grad", "shape")),
    *(Tensor.dim, Tensor.size),
}
"""What a mask answers without its entries."""


def _plain(x: Any) -> Any:
    """The entries of a mask, 0 and the least number of its dtype, and anything else as it is."""
    if not isinstance(x, RuleMask):
        return x
    seen = x.seen((0, x.shape[-2]), (0, x.shape[-1]))
    return torch.zeros_like(seen, dtype=x.dtype).masked_fill_(~seen, torch.finfo(x.dtype).min)


def mask_by_rule(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int = 0,
    kv_offset: int = 0,
    *,
    mask_function: Callable[..., Any],
    attention_mask: Tensor | None = None,
    local_size: int | None = None,
    allow_is_causal_skip: bool = False,
    allow_is_bidirectional_skip: bool = False,
    use_vmap: bool = False,
    dtype: torch.dtype = torch.float32,
    device: Any = "cpu",
    config: Any = None,
    **_: Any,
) -> RuleMask | None:
    """What transformers calls for a mask; arguments are those of its ``sdpa_mask``, which makes the entries.

    ``None`` where its eager attention has none: nothing is hidden from anything.

    Raises
    ------
    UnsupportedModelError
        A mask of padding that is not (b, n).
    """
    from transformers import masking_utils as theirs

    queries, keys = int(q_offset), int(kv_offset)  # a static cache has them on the device
    real = None
    if attention_mask is not None:
        if attention_mask.ndim != 2:
            raise unsupported(config, f"a mask of {attention_mask.ndim} axes, where one of tokens has 2")
        attention_mask = attention_mask.bool()
        padded: Any = theirs.prepare_padding_mask(attention_mask, kv_length, keys)
        real = padded[:, keys : keys + kv_length]
    # transformers lets a kernel do without the mask of a plain pattern: where it is not local, or no wider than that
    near = local_size is not None and kv_length >= local_size
    behind = ahead = None
    if mask_function is theirs.causal_mask_function or (allow_is_causal_skip and not near):
        pattern, ahead = Pattern.CAUSAL, 0
    elif mask_function is theirs.bidirectional_mask_function or (allow_is_bidirectional_skip and not near):
        pattern = Pattern.FULL
    else:
        pattern = Pattern.OTHER
        if allow_is_causal_skip and local_size is not None:
            behind, ahead = local_size - 1, 0
        elif allow_is_bidirectional_skip:
            behind = ahead = local_size
    if pattern is Pattern.FULL and allow_is_bidirectional_skip and (real is None or bool(real.all())):
        return None
    entries: Any = partial(
        theirs.sdpa_mask,
        batch_size,
        mask_function=mask_function,
        attention_mask=attention_mask,
        allow_is_causal_skip=False,
        use_vmap=use_vmap,
        device=device,
    )
    shape = (batch_size, 1, q_length, kv_length)
    return RuleMask(Reading(pattern, real, queries, keys, behind, ahead), entries, shape, dtype, device)


def causal_by_rule(query: Tensor) -> RuleMask | None:
    """The mask of queries (b, h, n, d) that see as many keys, up to themselves."""
    from transformers.masking_utils import causal_mask_function

    batch, _, n, _ = query.shape
    return mask_by_rule(
        batch, n, n, mask_function=causal_mask_function, dtype=query.dtype, device=query.device
    )


def read_entries(mask: Tensor, n: int) -> Reading:
    """The pattern of a plain mask of n tokens, boolean or additive, that broadcasts to (b, 1, n, n).

    An entry of at most half the least number of its dtype counts as −∞, as in
    :func:`nystrom_numerics.attention.exact`.
    Costs a look at every entry that the mask has.
    """
    if mask.ndim != 4 or mask.shape[1] != 1:
        return Reading(Pattern.OTHER)
    seen = mask if mask.dtype == torch.bool else ~(mask <= torch.finfo(mask.dtype).min / 2)  # NaN is seen
    if mask.dtype != torch.bool and bool((mask[seen] != 0).any()):
        return Reading(Pattern.OTHER)
    seen = seen.expand(-1, -1, -1, n)
    last = seen[..., -1:, :]
    if seen.shape[-2] == 1 or bool((seen == last).all()):
        return Reading(Pattern.FULL, last[:, 0, 0])
    ahead = torch.ones(n, n, dtype=torch.bool, device=mask.device).tril()
    if seen.shape[-2] == n and bool((seen == (last & ahead)).all()):
        return Reading(Pattern.CAUSAL, last[:, 0, 0])
    return Reading(Pattern.OTHER)
