"""The attention function that transformers calls in place of its own."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from nystrom_numerics.attention import (
    Pinv,
    causal,
    exact,
    near_field,
    normalised,
    nystrom,
    ridge,
    tangent,
)
from nystrom_numerics.integrations.transformers.budgets import attend_by_head, budgets_of
from nystrom_numerics.integrations.transformers.masks import (
    Pattern,
    Reading,
    RuleMask,
    causal_by_rule,
    read_entries,
)
from nystrom_numerics.integrations.transformers.refusals import unsupported
from nystrom_numerics.integrations.transformers.restoring import means_causal_by_none
from nystrom_numerics.landmarks import Strategy, segment_means
from nystrom_numerics.pinv import Solver

__all__ = ["NystromAttentionFunction", "attend_exactly"]

ROWS = 1024
"""Queries whose mask of pairs is made at once."""

BLOCK = 128
"""Tokens of a causal block, where a calibration gave the budget."""


@dataclass(frozen=True)
class NystromAttentionFunction:
    """Attention as a model of transformers asks for it; options are those of :func:`register_with_transformers`."""

    m: int
    block: int | None = None
    near: int | None = None
    row_normalised: bool = False
    landmarks: Strategy = segment_means
    solver: Solver = ridge
    pinv: Pinv | None = None
    leave_out_dropout: bool = False
    tangent: bool = False
    causal_exactly: bool = False

    def __call__(
        self,
        module: torch.nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        scaling: float | None = None,
        dropout: float = 0.0,
        is_causal: bool | None = None,
        **asked: Any,
    ) -> tuple[Tensor, None]:
        """Attention (b, n_q, h, d_v) of queries (b, h, n_q, d) over keys (b, g, n_k, d), and no weights."""
        _refuse(module, asked)
        if dropout and module.training and not self.leave_out_dropout:
            raise unsupported(
                module,
                f"dropout {dropout} of attention weights, which are never formed; register again with "
                "`leave_out_dropout=True` to train without it",
            )
        n_q = query.shape[-2]
        says = getattr(module, "is_causal", False) if is_causal is None else is_causal
        if attention_mask is None and says and n_q > 1:
            if not means_causal_by_none(module) or n_q != key.shape[-2]:
                raise unsupported(
                    module,
                    "causal attention without the mask that says so; transformers' own kernels differ on it",
                )
            attention_mask = causal_by_rule(query)
        out = self._attend(module, query, key, value, attention_mask, scaling)
        return out.transpose(1, 2).contiguous(), None

    def _attend(
        self,
        module: torch.nn.Module,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None,
        scale: float | None,
    ) -> Tensor:
        n_q, n_k = q.shape[-2], k.shape[-2]
        if min(n_q, n_k) <= self.m:
            return attend_exactly(q, k, v, mask, scale)
        if isinstance(mask, RuleMask):
            seen = mask.reading
        elif mask is None or n_q != n_k:
            seen = Reading(Pattern.FULL)
        else:
            seen = read_entries(mask, n_k)
            if seen.pattern is Pattern.OTHER:
                raise unsupported(
                    module,
                    f"a mask or bias {tuple(mask.shape)} of pairs of tokens, which Nyström never meets",
                )
        if seen.pattern is Pattern.CAUSAL and seen.first_query == seen.first_key and n_q <= n_k:
            real = None if seen.real is None else seen.real[:, :n_q]
            return self._served(
                module, q, k[..., :n_q, :], v[..., :n_q, :], mask, scale, real=real, causal=True
            )
        if seen.pattern is Pattern.FULL and n_q == n_k and _attends_to_itself(module):
            return self._served(module, q, k, v, mask, scale, real=seen.real, causal=False)
        return attend_exactly(q, k, v, mask, scale)

    def _served(
        self,
        module: torch.nn.Module,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None,
        scale: float | None,
        *,
        real: Tensor | None,
        causal: bool,
    ) -> Tensor:
        """A text attending to itself: as registered, or each head by the budget that a calibration gave it."""
        budgets = budgets_of(module)
        if not budgets:
            return self._approximated(module, q, k, v, mask, scale, real=real, causal=causal)

        def attend(m: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            if m == 0 or q.shape[-2] <= m:
                return attend_exactly(q, k, v, mask, scale)
            one = NystromAttentionFunction(m=m, block=BLOCK, tangent=True)
            return one._approximated(module, q, k, v, mask, scale, real=real, causal=causal)

        return attend_by_head(budgets, q, k, v, attend)

    def _approximated(
        self,
        module: torch.nn.Module,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None,
        scale: float | None,
        *,
        real: Tensor | None,
        causal: bool,
    ) -> Tensor:
        if not causal:
            return self._fully(q, k, v, real, scale)
        if self.block is None and self.causal_exactly:
            return attend_exactly(q, k, v, mask, scale)
        return self._causally(module, q, k, v, real, scale)

    def _causally(
        self,
        module: torch.nn.Module,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        real: Tensor | None,
        scale: float | None,
    ) -> Tensor:
        if self.block is None:
            raise unsupported(
                module,
                "causal attention; register again with `block=128` to approximate it, or with `causal='exact'` to "
                "leave it exact",
            )
        members = q.reshape(q.shape[0], k.shape[1], -1, *q.shape[2:])
        out: Tensor = causal(
            members,
            k[:, :, None],
            v[:, :, None],
            block=self.block,
            near=max(1, self.m // 2),
            routed=self.m // 16,
            key_mask=None if real is None else real[:, None, None],
            scale=scale,
        )
        return out.reshape(*q.shape[:3], v.shape[-1])

    def _fully(self, q: Tensor, k: Tensor, v: Tensor, real: Tensor | None, scale: float | None) -> Tensor:
        tokens = None if real is None else real[:, None]
        if self.near is not None and q.shape[-2] <= self.near:
            mask = None if real is None else real[:, None, None]
            return attend_exactly(q, k, v, mask, scale)
        if self.near is not None:
            found: Tensor = near_field(
                q,
                k,
                v,
                self.m,
                block=self.near,
                solver=self.solver,
                mask=tokens,
                scale=scale,
                grouped=True,
            )
            return found
        options: dict[str, Any] = {"key_mask": tokens, "query_mask": tokens, "scale": scale, "grouped": True}
        if self.tangent:  # as many kernel entries as `nystrom` has
            blocks, near, groups = (max(1, self.m * x // 4) for x in (2, 5, 1))
            by_tangents: Tensor = tangent(q, k, v, blocks=blocks, near=near, groups=groups, **options)
            return by_tangents
        options |= {"landmarks": self.landmarks, "solver": self.solver}
        by = normalised if self.row_normalised else partial(nystrom, pinv=self.pinv)
        approximate: Tensor = by(q, k, v, self.m, **options)
        return approximate


# ---------------------------------------------------------------- what is asked for

_REFUSED = {
    "softcap": "soft-capped scores",
    "position_bias": "a bias for pairs of positions",
    "s_aux": "attention sinks",
    "sinks": "attention sinks",
    "indices": "keys chosen for each query",
    "block_indices": "blocks of keys chosen for each query",
    "cache": "a paged cache",
    "output_attentions": "attention weights, which are never formed",
}
_OF_NO_EFFECT = (
    frozenset(  # what models pass on, and their own attention does not use: the mask has what matters
        (
            *(
                "deterministic",
                "input_ids",
                "num_items_in_batch",
                "output_hidden_states",
                "output_router_logits",
            ),
            *("position_ids", "return_dict", "sliding_window", "use_cache"),
        )
    )
)


def _refuse(module: torch.nn.Module, asked: dict[str, Any]) -> None:
    if _weights_are_collected():
        raise unsupported(module, _REFUSED["output_attentions"])
    for option, value in asked.items():
        if value is not None and value is not False and option not in _OF_NO_EFFECT:
            what = _REFUSED.get(option, f"{option!r}, of which Nyström attention knows nothing")
            raise unsupported(module, what)


def _weights_are_collected() -> bool:
    """Whether transformers has hooks that wait for weights, of which most models tell their attention nothing."""
    from transformers.utils.output_capturing import _active_collector

    collected = _active_collector.get()  # type: ignore[no-untyped-call]
    return collected is not None and any(name.endswith("attentions") for name in collected)


_OF_ONE_TEXT = frozenset(
    (
        *(
            "attention_mask",
            "conv_mask",
            "cu_seqlens",
            "freqs_ci",
            "height",
            "input_features_mask",
            "layer_idx",
        ),
        *("max_seqlen", "output_attentions", "past_key_values", "position_embeddings", "position_ids"),
        *("position_mask", "relative_position_embeddings", "use_cache", "width"),
    )
)


@cache
def _takes_one_text(kind: type[torch.nn.Module]) -> bool:
    """Whether attention of that class has no argument that keys of another text could come by."""
    named = [
        p.name for p in inspect.signature(kind.forward).parameters.values() if p.kind is not p.VAR_KEYWORD
    ]
    return _OF_ONE_TEXT.issuperset(named[2:])  # after the module itself and its text


def _attends_to_itself(module: torch.nn.Module) -> bool:
    """Whether queries and keys are surely those of one text: by what the module says of itself, never by lengths."""
    crosses = getattr(module, "is_cross_attention", None)
    if crosses is not None or "Cross" in type(module).__name__:
        return crosses is False
    return getattr(module, "is_decoder", None) is False or _takes_one_text(type(module))  # type: ignore[arg-type]


# ---------------------------------------------------------------- exactly


def attend_exactly(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float | None) -> Tensor:
    """Exact attention under any mask; that of a rule is made for some queries and the keys that they may see."""
    if not isinstance(mask, RuleMask):
        return _shared(q, k, v, mask, scale)
    seen, parts = mask.reading, []
    if seen.pattern is Pattern.FULL:
        return _shared(q, k, v, None if seen.real is None else seen.real[:, None, None], scale)
    for start in range(0, q.shape[-2], ROWS):
        stop = min(start + ROWS, q.shape[-2])
        low, high = seen.reach(start, stop, k.shape[-2])
        pairs = mask.seen((start, stop), (low, high))
        parts.append(_shared(q[..., start:stop, :], k[..., low:high, :], v[..., low:high, :], pairs, scale))
    return torch.cat(parts, dim=-2)


def _shared(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float | None) -> Tensor:
    """Exact attention of heads (b, h, ·, ·) that share those of keys (b, g, ·, ·): they become rows of one."""
    heads, groups, n_q = q.shape[-3], k.shape[-3], q.shape[-2]
    if heads == groups:
        out: Tensor = exact(q, k, v, attn_mask=mask, scale=scale)
        return out
    rows = heads // groups * n_q
    if mask is not None and mask.shape[-3:-1] != (1, 1):
        mask = mask.expand(-1, heads, n_q, -1).reshape(mask.shape[0], groups, rows, -1)
    out = exact(q.reshape(q.shape[0], groups, rows, q.shape[-1]), k, v, attn_mask=mask, scale=scale)
    return out.reshape(*q.shape[:-1], v.shape[-1])
