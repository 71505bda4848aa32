"""What padding holds, and where it stands, changes nothing for real tokens nor for their derivatives."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from nystrom_numerics.backend import Array, device_of, from_numpy, to_numpy
from nystrom_numerics.landmarks.result import take_rows
from nystrom_numerics.landmarks.tokens import rank_of, real_tokens

__all__ = ["by_length", "equal_lengths", "hide", "of_no_item", "put_back", "real_first"]


def hide(xp: Any, x: Array, mask: Array | None) -> Array:
    """Tokens ``x`` (..., n, d), zero where ``mask`` (..., n) is false.

    It comes before any product.  A ``where`` behind one hides NaN from the result alone: the derivative of the
    product multiplies the zero that comes back by it.
    """
    return x if mask is None else xp.where(mask[..., None], x, xp.zeros_like(x[..., :1]))


def of_no_item(q: Array, k: Array, v: Array) -> Array:
    """Attention (..., n_q, d_v) of a batch of no item: empty, and with a derivative."""
    return q[..., :, :1] + k[..., :1, :1] + v[..., :1, :]


def real_first(xp: Any, x: Array, mask: Array) -> Array:
    """The real tokens of each item in their order, and what is masked behind them.

    Leading axes of ``x`` (..., n, d) hold those of the mask, as :func:`hide` makes them.
    """
    order, _ = real_tokens(xp, mask)
    return take_rows(x, xp.broadcast_to(order, x.shape[:-1]))


def put_back(xp: Any, x: Array, mask: Array) -> Array:
    """What :func:`real_first` has brought forward where it stood, zeros elsewhere; x need not hold what is masked."""
    rank = xp.clip(rank_of(xp, mask), min=0)
    return hide(xp, take_rows(x, xp.broadcast_to(rank, (*x.shape[:-2], rank.shape[-1]))), mask)


def equal_lengths(
    xp: Any, q: Array, k: Array, query_mask: Array | None, key_mask: Array | None
) -> list[tuple[np.ndarray[Any, Any], int, int]]:
    """Which items of q and k (items, n, d) have as many real queries and keys as one another, and how many.

    One synchronisation.
    """
    counts = [
        np.full(x.shape[0], x.shape[-2]) if mask is None else to_numpy(xp.count_nonzero(mask, axis=-1))
        for x, mask in ((q, query_mask), (k, key_mask))
    ]
    return [
        (np.flatnonzero((counts[0] == queries) & (counts[1] == keys)), queries, keys)
        for queries, keys in np.unique(np.stack(counts), axis=1).T.tolist()
    ]


def by_length(
    xp: Any,
    attend: Callable[[Array, Array, Array], Array],
    q: Array,
    k: Array,
    v: Array,
    query_mask: Array | None,
    key_mask: Array | None,
) -> Array:
    """``attend`` for items of as many real queries and keys at a time, on these alone; zeros for other queries.

    What an item has of padding so has no say at all, at one synchronisation and one call for every pair of lengths.
    """
    masks = [x for x in (query_mask, key_mask) if x is not None]
    batch = np.broadcast_shapes(
        *(tuple(x.shape[:-2]) for x in (q, k, v)), *(tuple(m.shape[:-1]) for m in masks)
    )
    items = prod(batch)
    if items == 0:
        return of_no_item(q, k, v)

    def flat(x: Array, tail: int) -> Array:
        return xp.reshape(xp.broadcast_to(x, (*batch, *x.shape[-tail:])), (items, *x.shape[-tail:]))

    q, k, v = (flat(x, 2) for x in (q, k, v))
    if query_mask is not None:
        query_mask = flat(query_mask, 1)
        q = real_first(xp, q, query_mask)
    if key_mask is not None:
        key_mask = flat(key_mask, 1)
        k, v = (real_first(xp, x, key_mask) for x in (k, v))
    parts, places = [], []
    for same, queries, keys in equal_lengths(xp, q, k, query_mask, key_mask):
        places.append(same)
        chosen = from_numpy(xp, same, q)
        some, near, values = (xp.take(x, chosen, axis=0) for x in (q, k, v))
        if 0 in (queries, keys):
            out = some[:, :, :1] + near[:, :1, :1] + values[:, :1, :]  # for a derivative, which is zero
            parts.append(xp.where(xp.zeros_like(out, dtype=xp.bool), out, xp.zeros_like(out)))
            continue
        out = attend(some[:, :queries, :], near[:, :keys, :], values[:, :keys, :])
        blank = xp.zeros(
            (len(same), q.shape[-2] - queries, v.shape[-1]), dtype=out.dtype, device=device_of(out)
        )
        parts.append(xp.concat([out, blank], axis=-2))
    back = from_numpy(xp, np.argsort(np.concatenate(places)), q)
    out = xp.take(xp.concat(parts, axis=0), back, axis=0)
    if query_mask is not None:
        out = put_back(xp, out, query_mask)
    return xp.reshape(out, (*batch, *out.shape[-2:]))
