"""What every attention here asks of its arguments, and what a mask comes to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nystrom_numerics.arguments import require_flag, require_number
from nystrom_numerics.attention.padding import hide
from nystrom_numerics.backend import (
    Array,
    broadcast_shapes,
    compute_dtype,
    floating,
    namespace,
    require_finite,
    require_held,
    require_mask,
    require_matrix,
)
from nystrom_numerics.errors import DTypeError, NamespaceError, ShapeError

__all__ = [
    "Arguments",
    "check_arguments",
    "group_heads",
    "one_length",
    "product_form",
    "tokens_of",
    "ungroup",
]


@dataclass(frozen=True)
class Arguments:
    """Namespace, common batch shape and scale of a checked call, and what its masks come to.

    Masks have a last axis of full length and leading axes that broadcast; ``bias`` is (..., 1 or n_q, n_k), in the
    dtype to compute in; ``row_mask`` says which queries may see any key at all.
    """

    xp: Any
    batch: tuple[int, ...]
    scale: float
    key_mask: Array | None
    query_mask: Array | None
    bias: Array | None
    row_mask: Array | None


def check_arguments(
    *tokens: Array,
    scale: float | None,
    key_mask: Array | None = None,
    query_mask: Array | None = None,
    mask: Array | None = None,
    attn_mask: Array | None = None,
    oneself: bool = False,
    check_finite: bool = False,
) -> Arguments:
    """Check shapes, dtypes, devices and masks of queries, keys and, where they are given, values.

    ``mask`` is one of queries and keys alike; ``oneself`` asks for as many keys as queries.

    Raises
    ------
    DTypeError, DeviceError, KindError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.
    """
    arrays = dict(zip(("q", "k", "v"), tokens, strict=False))
    masks = {"key_mask": key_mask, "query_mask": query_mask, "mask": mask, "attn_mask": attn_mask}
    xp = tokens_of(**arrays, **{name: x for name, x in masks.items() if x is not None})
    floating(xp, **arrays)
    for name, x in arrays.items():
        require_matrix(name, x)
    q, k, *values = tokens
    n_q, n_k = q.shape[-2], k.shape[-2]
    if k.shape[-1] != q.shape[-1]:
        raise ShapeError("k", f"of width {k.shape[-1]}", f"the width of `q`, {q.shape[-1]}")
    if oneself and n_k != n_q:
        raise ShapeError("k", f"of {n_k} tokens", f"the {n_q} tokens of `q`: self-attention")
    for v in values:
        if v.shape[-2] != n_k:
            raise ShapeError("v", f"of {v.shape[-2]} tokens", f"as many tokens as `k` has, {n_k}")
    batch = broadcast_shapes(**{name: tuple(x.shape[:-2]) for name, x in arrays.items()})
    needs = "a finite number, or None for 1/sqrt(d)"
    scale = q.shape[-1] ** -0.5 if scale is None else require_number("scale", scale, needs=needs)
    require_held(xp, "scale", scale, compute_dtype(xp, q.dtype))
    if require_flag("check_finite", check_finite):
        require_finite(xp, **arrays)
    both = _token_mask(xp, "mask", mask, batch, n_q)
    keys = _token_mask(xp, "key_mask", key_mask, batch, n_k) if both is None else both
    queries = _token_mask(xp, "query_mask", query_mask, batch, n_q) if both is None else both
    plain = Arguments(xp, batch, scale, keys, queries, None, None)
    if attn_mask is None:
        return plain
    return _with_attn_mask(plain, attn_mask, (*batch, q.shape[-2], k.shape[-2]), q.dtype)


def one_length(instead: str, **tokens: Array) -> None:
    """Refuse tokens of a length that an exporter leaves open, where the steps that are taken depend on it.

    Raises
    ------
    ShapeError
        Naming the argument and what serves ``instead``.
    """
    for name, x in tokens.items():
        if x.ndim > 1 and not isinstance(x.shape[-2], int):
            needs = f"a length of its own for each graph, or {instead}, which takes any"
            raise ShapeError(name, "of a length that an exporter leaves open", needs)


def tokens_of(**arrays: Array) -> Any:
    """The namespace of arrays, none of which may be ``None``."""
    for name, x in arrays.items():
        if x is None:
            raise NamespaceError(name, "None", "an array")
    return namespace(**arrays)


def _token_mask(xp: Any, name: str, mask: Array | None, batch: tuple[int, ...], n: int) -> Array | None:
    """The mask with a last axis of n and its own leading axes: what is shared stays shared."""
    if mask is None:
        return None
    require_mask(xp, name, mask, (*batch, n))
    return xp.broadcast_to(mask, (*mask.shape[:-1], n))


def _with_attn_mask(a: Arguments, mask: Array, shape: tuple[int, ...], dtype: Any) -> Arguments:
    """``a`` with a boolean or additive mask taken apart into keys, rows and what remains."""
    xp, needs = a.xp, f"a shape that broadcasts to {shape}"
    boolean = xp.isdtype(mask.dtype, "bool")
    if not boolean and not xp.isdtype(mask.dtype, "real floating"):
        raise DTypeError(
            "attn_mask", f"of dtype {mask.dtype}", "a boolean mask, True to attend, or an additive one"
        )
    try:
        fits = np.broadcast_shapes(tuple(mask.shape), shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ShapeError("attn_mask", f"of shape {tuple(mask.shape)}", needs)
    if mask.ndim < 2:
        mask = xp.reshape(mask, (1, *((1,) * (1 - mask.ndim)), *mask.shape))
    bias = None
    if not boolean:
        seen = ~(mask <= float(xp.finfo(mask.dtype).min) / 2)  # NaN is seen
        bias = xp.astype(xp.where(seen, mask, xp.zeros_like(mask)), compute_dtype(xp, dtype), copy=False)
        mask = seen
    n_k = shape[-1]
    if mask.shape[-2] == 1:  # of keys alone
        keys = xp.broadcast_to(mask[..., 0, :], (*mask.shape[:-2], n_k))
        keys = keys if a.key_mask is None else keys & a.key_mask
        if bias is not None and bias.shape[-1] == 1 and n_k > 1:
            bias = None  # a constant of each item
        return replace(a, key_mask=keys, bias=bias)
    if mask.shape[-1] == 1 and n_k > 1:  # of queries alone: a finite constant of a row changes no softmax
        rows = mask[..., 0]
        queries = rows if a.query_mask is None else rows & a.query_mask
        return replace(a, query_mask=queries, row_mask=rows)
    mask = xp.broadcast_to(mask, (*mask.shape[:-1], n_k))
    hidden = xp.where(mask, xp.zeros(mask.shape, dtype=compute_dtype(xp, dtype), device=mask.device), -xp.inf)
    keys, rows = xp.any(mask, axis=-2), xp.any(mask, axis=-1)  # what takes part in no pair is padding
    return replace(
        a,
        key_mask=keys if a.key_mask is None else keys & a.key_mask,
        query_mask=rows if a.query_mask is None else rows & a.query_mask,
        row_mask=rows,
        bias=hidden if bias is None else hidden + bias,
    )


def product_form(
    *tokens: Array,
    scale: float | None,
    grouped: bool,
    check_finite: bool,
    oneself: bool = False,
    **masks: Any,
) -> tuple[Arguments, Array, Array, Array | None]:
    """A checked call whose masks know keys or queries and no pair; heads split into groups where asked.

    Arguments are those of :func:`check_arguments`.  Queries and keys come back with zeros where they are masked;
    values, ``None`` without, as they are.

    Raises
    ------
    ShapeError
        Naming ``attn_mask`` where it ties queries to keys: F, A and B know only one of the two.
    """
    if require_flag("grouped", grouped):
        tokens, masks = _grouped(tokens, masks)
    a = check_arguments(*tokens, scale=scale, check_finite=check_finite, oneself=oneself, **masks)
    if a.bias is not None and a.bias.shape[-2] != 1:
        raise ShapeError(
            "attn_mask",
            f"of {a.bias.shape[-2]} × {a.bias.shape[-1]} entries for pairs of tokens",
            "one of keys (..., 1, n_k) or of queries (..., n_q, 1), as the approximation never meets a pair; "
            "`attention.causal` serves the causal one, `attention.exact` any other",
        )
    q, k, v = (*tokens, None)[:3]
    return a, hide(a.xp, q, a.query_mask), hide(a.xp, k, a.key_mask), v


def _grouped(tokens: tuple[Array, ...], masks: dict[str, Any]) -> tuple[tuple[Array, ...], dict[str, Any]]:
    """Queries (..., groups, members, n, d), keys and values (..., groups, 1, n, d), masks likewise."""
    arrays = dict(zip(("q", "k", "v"), tokens, strict=False))
    given = {name: x for name, x in masks.items() if x is not None}
    tokens_of(**arrays, **given)
    for name in ("q", "k"):
        if arrays[name].ndim < 3 or arrays[name].shape[-3] == 0:
            found = f"of shape {tuple(arrays[name].shape)}"
            raise ShapeError(name, found, "an axis of heads, as `grouped` says")
    heads, groups = (arrays[name].shape[-3] for name in ("q", "k"))
    if heads % groups:
        raise ShapeError("k", f"of {groups} heads", f"a divisor of the {heads} heads of `q`")
    split = {
        name: group_heads(name, x, heads, groups, 2 if name == "attn_mask" else 1)
        for name, x in given.items()
    }
    return tuple(group_heads(name, x, heads, groups, 2) for name, x in arrays.items()), split


def group_heads(name: str, x: Array, heads: int, groups: int, tokens: int) -> Array:
    """The axis of heads, before the last ``tokens`` ones, split into (heads that own keys, queries of each)."""
    axis = x.ndim - tokens - 1
    if axis < 0:
        return x
    if x.shape[axis] in (1, groups):
        return namespace(x=x).expand_dims(x, axis=axis + 1)
    if x.shape[axis] != heads:
        raise ShapeError(name, f"of {x.shape[axis]} heads", f"{heads} heads, {groups} or one")
    shape = (*x.shape[:axis], groups, heads // groups, *x.shape[axis + 1 :])
    return namespace(x=x).reshape(x, shape)


def ungroup(x: Array) -> Array:
    """The two axes of heads of (..., groups, members, n, d) made one again."""
    *batch, groups, members, n, d = x.shape
    return namespace(x=x).reshape(x, (*batch, groups * members, n, d))
