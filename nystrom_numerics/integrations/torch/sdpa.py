"""The signature of :func:`torch.nn.functional.scaled_dot_product_attention`, served by an estimator."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor

from nystrom_numerics.arguments import (
    require_callable,
    require_choice,
    require_count,
    require_flag,
    require_number,
)
from nystrom_numerics.attention import causal, exact, nystrom
from nystrom_numerics.attention.arguments import group_heads, ungroup
from nystrom_numerics.backend import broadcast_shapes, broadcasts_to, floating, namespace, require_matrix
from nystrom_numerics.errors import ArgumentError, DTypeError, NamespaceError, RangeError, ShapeError
from nystrom_numerics.integrations.transformers.masks import Pattern, read_entries

__all__ = ["UnservedArgumentError", "sdpa"]

Attend: TypeAlias = Callable[..., Tensor]

KERNEL: Attend = torch.nn.functional.scaled_dot_product_attention
"""Torch's own, whatever stands in its place later."""

LANDMARKS = 64

OR_EXACT = "or `otherwise='exact'` in the call of `sdpa`"


class UnservedArgumentError(ArgumentError, NotImplementedError):
    """An argument that Torch's attention takes and an approximation cannot honour.

    Parameters
    ----------
    argument, got, needs : str
        As for :class:`~nystrom_numerics.errors.ArgumentError`.

    Examples
    --------
    >>> import torch
    >>> from nystrom_numerics.integrations.torch import UnservedArgumentError, sdpa
    >>> q = torch.zeros(1, 2, 100, 8)
    >>> try:
    ...     sdpa(m=16)(q, q, q, dropout_p=0.5)
    ... except UnservedArgumentError as error:
    ...     print(error.argument)
    dropout_p
    """


def sdpa(
    estimator: Callable[..., Tensor] | None = None,
    /,
    *,
    m: int | None = None,
    causal: Callable[..., Tensor] = causal,
    self_attention: bool = False,
    otherwise: str = "refuse",
) -> Callable[..., Tensor]:
    """A function of the signature and meaning of ``torch.nn.functional.scaled_dot_product_attention``.

    Served are ``scale``, grouped heads (``enable_gqa``), ``is_causal`` for any two lengths (query i sees keys up to i),
    and masks, boolean or additive and however they broadcast, that hide keys from all queries alike or later tokens
    from earlier ones.  Under autocast, arguments are cast as Torch casts those of its own.

    Parameters
    ----------
    estimator : callable, optional
        ``estimator(q, k, v, key_mask=…, query_mask=…, scale=…)``, such as :func:`nystrom_numerics.attention.tangent`,
        its options bound by ``functools.partial``; masks are handed over where there are some, and ``query_mask``
        where it takes one.  By default :func:`~nystrom_numerics.attention.nystrom` with m landmarks.
    m : int, optional
        Landmarks of the default, 64 unless said.  Attention of at most m queries or keys is then exact.
    causal : callable
        ``causal(q, k, v, key_mask=…, scale=…)`` for causal attention, in place of
        :func:`~nystrom_numerics.attention.causal`.
    self_attention : bool
        Queries and keys are the same tokens wherever there are as many: hidden keys are padding, which then enters no
        landmark of queries either, and gives zeros.  Nothing is guessed from equal lengths without it.
    otherwise : str
        What becomes of a call that cannot be served: ``"refuse"``, or ``"exact"`` for Torch's own kernel.

    Returns
    -------
    callable
        ``(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, *, scale=None,
        enable_gqa=False)``.  A query that may see no key gives zeros.

    Raises
    ------
    KindError
        A callable or a flag that is none.
    RangeError
        ``m`` no count, or beside an ``estimator``; ``otherwise`` another word.

    Notes
    -----
    In use, wrong arguments raise the errors of :mod:`nystrom_numerics.errors`, and these an
    :class:`UnservedArgumentError`: ``dropout_p`` above 0, as no weights are formed that could be dropped, and
    ``attn_mask`` with any other pattern or bias.  An additive mask, and one of as many rows as queries, is looked
    through, which costs a look at each entry and waits for the device; a boolean one of a single row is not.

    Examples
    --------
    >>> import torch
    >>> from nystrom_numerics.integrations.torch import sdpa
    >>> q, k, v = torch.randn(3, 2, 8, 500, 64).unbind()
    >>> sdpa(m=32)(q, k, v, is_causal=True).shape
    torch.Size([2, 8, 500, 64])
    """
    if estimator is not None and m is not None:
        raise RangeError("m", f"{m} beside an `estimator`", "None there: bind what it takes")
    least = 0 if estimator is not None else require_count("m", LANDMARKS if m is None else m)
    if estimator is None:
        estimator = partial(_by_landmarks, least)
    require_callable("estimator", estimator)
    served = _Served(
        estimator,
        require_callable("causal", causal),
        least,
        require_flag("self_attention", self_attention) and _takes_query_mask(estimator),
    )
    refuse = require_choice("otherwise", otherwise, ("refuse", "exact")) == "refuse"

    def scaled_dot_product_attention(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        *,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        query, key, value, attn_mask = _as_under_autocast(query, key, value, attn_mask)
        options = _require(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)
        try:
            if options.dropout_p:
                raise UnservedArgumentError(
                    "dropout_p", f"{dropout_p}", f"0, as weights are never formed, {OR_EXACT}"
                )
            with torch.autocast(query.device.type, enabled=False):
                return served(query, key, value, attn_mask, options)
        except UnservedArgumentError:
            if refuse:
                raise
        return _by_kernel(query, key, value, attn_mask, options)

    return scaled_dot_product_attention


def _by_landmarks(m: int, q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    out: Tensor = nystrom(q, k, v, m, **options)
    return out


def _takes_query_mask(estimator: Attend) -> bool:
    """Whether queries can be hidden from it: one that treats each query by itself need not know."""
    taken = inspect.signature(estimator).parameters.values()
    return any(p.name == "query_mask" or p.kind is p.VAR_KEYWORD for p in taken)


# ---------------------------------------------------------------- what is served


@dataclass(frozen=True)
class _Options:
    """The plain arguments of a call, checked."""

    dropout_p: float
    is_causal: bool
    scale: float | None
    enable_gqa: bool


@dataclass(frozen=True)
class _Served:
    """Attention of checked arguments; fields are those of :func:`sdpa`, ``least`` what is exact up to."""

    estimator: Attend
    causal: Attend
    least: int
    hides_queries: bool

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, options: _Options) -> Tensor:
        n_q, n_k = q.shape[-2], k.shape[-2]
        if min(n_q, n_k) <= self.least:
            return _by_kernel(q, k, v, mask, options)
        pattern, real = (Pattern.CAUSAL if options.is_causal else Pattern.FULL), None
        if mask is not None:
            pattern, real = _read(mask, n_k)
        if options.enable_gqa:
            heads, groups = q.shape[-3], k.shape[-3]
            real = None if real is None else group_heads("attn_mask", real, heads, groups, 1)
            q, k, v = (group_heads("query", x, heads, groups, 2) for x in (q, k, v))
        if pattern is Pattern.CAUSAL:
            out = self._causally(q, k, v, real, options.scale)
        else:
            out = self._fully(q, k, v, real, options.scale)
        return ungroup(out) if options.enable_gqa else out

    def _causally(self, q: Tensor, k: Tensor, v: Tensor, real: Tensor | None, scale: float | None) -> Tensor:
        """Query i sees keys up to i: none of the keys after the last query, and all of them from the last key on."""
        n = min(q.shape[-2], k.shape[-2])
        masks = {} if real is None else {"key_mask": real}
        out = self.causal(q[..., :n, :], k[..., :n, :], v[..., :n, :], scale=scale, **masks)
        if q.shape[-2] == n:
            return out
        rest = self._fully(q[..., n:, :], k, v, real, scale)
        return torch.cat([out, rest], dim=-2)

    def _fully(self, q: Tensor, k: Tensor, v: Tensor, real: Tensor | None, scale: float | None) -> Tensor:
        if min(q.shape[-2], k.shape[-2]) <= self.least:
            few: Tensor = exact(q, k, v, key_mask=real, scale=scale)
            return few
        masks = {} if real is None else {"key_mask": real}
        if real is not None and self.hides_queries and q.shape[-2] == k.shape[-2]:
            masks["query_mask"] = real
        return self.estimator(q, k, v, scale=scale, **masks)


def _by_kernel(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, options: _Options) -> Tensor:
    out: Tensor = KERNEL(
        q,
        k,
        v,
        attn_mask=mask,
        dropout_p=options.dropout_p,
        is_causal=options.is_causal,
        scale=options.scale,
        enable_gqa=options.enable_gqa,
    )
    return out


def _read(mask: Tensor, n_k: int) -> tuple[Pattern, Tensor | None]:
    """The pattern of a mask (..., 1 or n_q, 1 or n_k), and which keys are real (..., n_k), where not all are."""
    seen = read_entries(mask.reshape(-1, 1, *mask.shape[-2:]), n_k)
    if seen.pattern is Pattern.OTHER:
        needs = f"one that hides keys from all queries alike, or later tokens from earlier ones, {OR_EXACT}"
        raise UnservedArgumentError(
            "attn_mask", f"a mask or bias {tuple(mask.shape)} of pairs of tokens", needs
        )
    if seen.real is None or (mask.shape[-2] > 1 and bool(seen.real.all())):
        return seen.pattern, None
    return seen.pattern, seen.real.reshape(*mask.shape[:-2], n_k)


# ---------------------------------------------------------------- what a call must be


def _as_under_autocast(*tensors: Any) -> tuple[Any, ...]:
    """Tensors as Torch's attention gets them under autocast, which spares float64, booleans and what is no tensor."""
    first = tensors[0]
    if not isinstance(first, Tensor) or not torch.is_autocast_enabled(first.device.type):
        return tensors
    dtype = torch.get_autocast_dtype(first.device.type)

    def cast(x: Any) -> Any:
        spared = not isinstance(x, Tensor) or not x.is_floating_point() or x.dtype == torch.float64
        return x if spared else x.to(dtype)

    return tuple(map(cast, tensors))


def _require(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any,
    dropout_p: Any,
    is_causal: Any,
    scale: Any,
    enable_gqa: Any,
) -> _Options:
    """The plain arguments, all being what Torch's attention takes.

    Raises
    ------
    DTypeError, DeviceError, KindError, NamespaceError, RangeError, ShapeError
        Naming the argument.
    """
    tokens = {"query": query, "key": key, "value": value}
    for name, x in tokens.items() if attn_mask is None else (*tokens.items(), ("attn_mask", attn_mask)):
        if not isinstance(x, Tensor):
            raise NamespaceError(name, f"a {type(x).__name__}", "a Torch tensor")
    xp = namespace(**tokens, attn_mask=attn_mask)
    floating(xp, **tokens)
    for name, x in tokens.items():
        require_matrix(name, x)
    if key.shape[-1] != query.shape[-1]:
        raise ShapeError("key", f"of width {key.shape[-1]}", f"the width of `query`, {query.shape[-1]}")
    if value.shape[-2] != key.shape[-2]:
        raise ShapeError("value", f"of {value.shape[-2]} tokens", f"as many as `key` has, {key.shape[-2]}")
    grouped = require_flag("enable_gqa", enable_gqa)
    batch = _common_batch(tokens, grouped)
    options = _Options(
        require_number("dropout_p", dropout_p, lambda x: 0 <= x <= 1, "a number in [0, 1]"),
        require_flag("is_causal", is_causal),
        None if scale is None else require_number("scale", scale),
        grouped,
    )
    if attn_mask is not None:
        _require_mask(attn_mask, (*batch, query.shape[-2], key.shape[-2]), query.dtype)
        if options.is_causal:
            raise RangeError("is_causal", "True beside an `attn_mask`", "one of the two")
    return options


def _common_batch(tokens: dict[str, Tensor], grouped: bool) -> tuple[int, ...]:
    """The leading axes of the output: where heads are grouped, those of queries, which the others divide."""
    if not grouped:
        return broadcast_shapes(**{name: tuple(x.shape[:-2]) for name, x in tokens.items()})
    for name, x in tokens.items():
        if x.ndim < 3 or x.shape[-3] == 0:
            raise ShapeError(name, f"of shape {tuple(x.shape)}", "an axis of heads, as `enable_gqa` says")
    heads, groups, others = (x.shape[-3] for x in tokens.values())
    if heads % groups:
        raise ShapeError("key", f"of {groups} heads", f"a divisor of the {heads} heads of `query`")
    if others != groups:
        raise ShapeError("value", f"of {others} heads", f"the {groups} of `key`")
    return (*broadcast_shapes(**{name: tuple(x.shape[:-3]) for name, x in tokens.items()}), heads)


def _require_mask(mask: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    if mask.dtype not in (torch.bool, dtype):
        raise DTypeError(
            "attn_mask", f"of dtype {mask.dtype}", f"bool, True to attend, or that of `query`, {dtype}"
        )
    if mask.ndim < 2 or not broadcasts_to(tuple(mask.shape), shape):
        raise ShapeError(
            "attn_mask", f"of shape {tuple(mask.shape)}", f"two axes or more that broadcast to {shape}"
        )
