"""Nyström attention for every model of transformers that dispatches through its attention interface.

>>> from nystrom_numerics.integrations.transformers import register_with_transformers
>>> register_with_transformers(m=64)  # then attn_implementation="nystrom"
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from nystrom_numerics.attention import Pinv, causal, exact, near_field, normalised, nystrom, ridge
from nystrom_numerics.errors import NystromError, RangeError
from nystrom_numerics.landmarks import Strategy, segment_means
from nystrom_numerics.pinv import Solver

__all__ = ["UnsupportedModelError", "register_with_transformers", "use_nystrom"]


class UnsupportedModelError(NystromError, NotImplementedError):
    """A model, or something that a model asks of attention, which Nyström attention cannot serve."""


def register_with_transformers(
    name: str = "nystrom",
    *,
    m: int = 64,
    block: int | None = None,
    near: int | None = None,
    row_normalised: bool = False,
    landmarks: Strategy = segment_means,
    solver: Solver = ridge,
    pinv: Pinv | None = None,
) -> None:
    """Make ``attn_implementation=name`` known to transformers; again with the same name replaces it.

    Where queries or keys are at most m, attention is exact: it costs no more.  Padding masks, scaling,
    cross-attention and grouped heads are served.  In self-attention padding enters no landmark of queries; attention
    of as many queries as keys counts as self-attention, unless the module says ``is_cross_attention`` or is named so.

    Parameters
    ----------
    m : int
        Landmarks.
    block : int, optional
        Serve causal self-attention by :func:`nystrom_numerics.attention.causal` with blocks of that length.  Without
        it, models that attend causally are refused.
    near : int, optional
        Serve self-attention by :func:`~nystrom_numerics.attention.near_field` with blocks of that length: on trained
        models far nearer to their own attention than ``nystrom``; ``near=p`` and ``m=p // 4 - 1`` take the kernel
        entries of ``nystrom`` with p landmarks.
    row_normalised : bool
        Use :func:`~nystrom_numerics.attention.normalised` in place of :func:`~nystrom_numerics.attention.nystrom`.
    landmarks, solver, pinv
        As in :func:`nystrom_numerics.attention.nystrom`.

    Raises
    ------
    RangeError
        ``m``, ``block`` or ``near`` below 1; a ``pinv`` together with ``block``, ``near`` or ``row_normalised``; or
        ``near`` with landmarks other than segment means, or normalised rows.

    Notes
    -----
    In use, :class:`UnsupportedModelError` names the model and what it asks for: a causal model without ``block``,
    sliding windows and other patterns of pairs, position biases, soft caps, sinks, paged caches, attention weights, and
    dropout of attention weights in training (there are none to drop; set it to 0 in the configuration).
    A model that does not dispatch through the interface never calls this; :func:`use_nystrom` refuses it.
    """
    from transformers import AttentionInterface, AttentionMaskInterface

    for argument, value in (("m", m), ("block", block), ("near", near)):
        if value is not None and value < 1:
            raise RangeError(argument, f"{value}", "an integer of at least 1")
    if pinv is not None and (block is not None or near is not None or row_normalised):
        raise RangeError("pinv", "given", "`solver` in its place, as more is solved for than the output")
    if near is not None and (row_normalised or landmarks is not segment_means):
        raise RangeError(
            "near", f"{near}", "segment means, and rows normalised by their near and far fields alone"
        )

    options: dict[str, Any] = {"landmarks": landmarks, "solver": solver, "grouped": True}
    attend: Callable[..., Tensor] = (
        partial(normalised, **options) if row_normalised else partial(nystrom, pinv=pinv, **options)
    )
    beside = None if near is None else partial(near_field, block=near, solver=solver, grouped=True)

    def forward(
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
        _refuse(module, dropout, asked)
        n_q, n_k = query.shape[-2], key.shape[-2]
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        ahead = getattr(module, "is_causal", False) if is_causal is None else is_causal
        oneself = n_q == n_k and not _crosses(module)
        if min(n_q, n_k) <= (max(m, near) if near is not None and oneself else m):
            out = _exactly(query, key, value, attention_mask, scale, ahead)
        elif ahead:
            if block is None:
                raise _unsupported(module, "causal attention; register with a `block` to serve it")
            if n_q != n_k:
                raise _unsupported(module, f"{n_q} queries after a cache of {n_k - n_q} keys")
            out = _causally(module, query, key, value, attention_mask, scale, m, block, landmarks, solver)
        else:
            tokens = None
            if attention_mask is not None and oneself:
                tokens = _as_tokens(module, attention_mask, n_k)
            if beside is not None and oneself:
                out = beside(query, key, value, m, mask=tokens, scale=scale)
            else:
                out = attend(query, key, value, m, attn_mask=attention_mask, query_mask=tokens, scale=scale)
        return out.transpose(1, 2).contiguous(), None

    AttentionInterface.register(name, forward)
    AttentionMaskInterface.register(name, _mask)


def use_nystrom(model: Any, /, name: str = "nystrom") -> Any:
    """Switch a loaded model, all its parts included, to the registered attention.

    Raises
    ------
    UnsupportedModelError
        Naming the model or the part of it that does not dispatch through transformers' attention interface, and would
        go on with its own attention in silence.
    """
    from transformers import PreTrainedModel

    for part in model.modules():
        if isinstance(part, PreTrainedModel) and not part._can_set_attn_implementation():
            raise UnsupportedModelError(
                f"{type(part).__name__} computes attention by itself and not through transformers' attention "
                f"interface: {name!r} would be ignored"
            )
    model.set_attn_implementation(name)
    return model


def _unsupported(module: torch.nn.Module, what: str) -> UnsupportedModelError:
    config = getattr(module, "config", None)
    return UnsupportedModelError(
        f"{type(module).__name__} of model {getattr(config, 'model_type', 'unknown')!r} asks for {what}"
    )


_NOT_SERVED = {
    "softcap": "soft-capped scores",
    "sliding_window": "a sliding window",
    "position_bias": "a bias for pairs of positions",
    "s_aux": "attention sinks",
    "cache": "a paged cache",
    "output_attentions": "attention weights, which are never formed",
}


def _refuse(module: torch.nn.Module, dropout: float, asked: dict[str, Any]) -> None:
    for option, what in _NOT_SERVED.items():
        if asked.get(option) is not None and asked[option] is not False:
            raise _unsupported(module, what)
    if dropout:
        raise _unsupported(
            module, f"dropout {dropout} of attention weights, which are never formed; set it to 0"
        )


def _crosses(module: torch.nn.Module) -> bool:
    return bool(getattr(module, "is_cross_attention", False)) or "Cross" in type(module).__name__


def _as_tokens(module: torch.nn.Module, mask: Tensor, n: int) -> Tensor:
    """A mask of keys (b, 1, 1, n), boolean or additive, as one of tokens (b, 1, n)."""
    if mask.ndim != 4 or mask.shape[-2] != 1 or mask.shape[1] != 1:
        raise _unsupported(module, f"a mask of shape {tuple(mask.shape)}, which is not one of keys alone")
    real = mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2
    return real[..., 0, :].expand(-1, -1, n)


def _exactly(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float, ahead: bool) -> Tensor:
    """Exact attention of few queries or few keys; with ``ahead`` the last query is the last key's."""
    if ahead and q.shape[-2] > 1:
        last = torch.arange(q.shape[-2], device=q.device)[:, None] + k.shape[-2] - q.shape[-2]
        seen = torch.arange(k.shape[-2], device=q.device) <= last
        if mask is None:
            mask = seen
        else:
            mask = mask & seen if mask.dtype == torch.bool else mask.masked_fill(~seen, -torch.inf)
    group = q.shape[1] // k.shape[1]
    shared = (x.repeat_interleave(group, dim=1) if group > 1 else x for x in (k, v))
    out: Tensor = exact(q, *shared, attn_mask=mask, scale=scale)
    return out


def _causally(
    module: torch.nn.Module,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    scale: float,
    m: int,
    block: int,
    landmarks: Strategy,
    solver: Solver,
) -> Tensor:
    groups = k.shape[1]
    members = q.reshape(q.shape[0], groups, -1, *q.shape[2:])
    real = None if mask is None else _as_tokens(module, mask, k.shape[-2])[:, None]
    out: Tensor = causal(
        members,
        k[:, :, None],
        v[:, :, None],
        m,
        block=block,
        landmarks=landmarks,
        solver=solver,
        key_mask=real,
        scale=scale,
    )
    return out.reshape(*q.shape[:3], v.shape[-1])


def _mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int = 0,
    kv_offset: int = 0,
    mask_function: Callable[..., Any] | None = None,
    attention_mask: Tensor | None = None,
    config: Any = None,
    **_: Any,
) -> Tensor | None:
    """The mask of keys alone (b, 1, 1, n_k), or nothing; a causal pattern is left to the attention function."""
    from transformers.masking_utils import bidirectional_mask_function, causal_mask_function

    if mask_function not in (None, bidirectional_mask_function, causal_mask_function):
        kind = getattr(config, "model_type", "unknown")
        raise UnsupportedModelError(
            f"model {kind!r} asks for a pattern of pairs of tokens other than full or causal attention, such as a "
            "sliding window, chunks or packed sequences"
        )
    if attention_mask is None:
        return None
    kept = (
        attention_mask[:, -kv_length:]
        if kv_offset == 0
        else attention_mask[:, kv_offset : kv_offset + kv_length]
    )
    return kept.bool()[:, None, None, :]
