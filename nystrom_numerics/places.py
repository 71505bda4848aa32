"""Choosing, ordering and gathering along an axis, as each library does it best."""

from __future__ import annotations

from math import prod

import array_api_compat
import numpy as np

from nystrom_numerics.backend import Array, Namespace, device_of, items_at_once, still

__all__ = [
    "filled_at",
    "gathered",
    "inverse_order",
    "largest",
    "moved",
    "parted",
    "rows_of",
    "sum_by_label",
    "swapped",
    "upper_half",
]


def sum_by_label(x: Array, labels: Array, m: int) -> tuple[Array, Array]:
    """Sums of the rows of ``x`` (..., n, d) that share a label, (..., m, d), and their numbers, (..., m).

    Labels lie in [0, m]; rows of label m are left out.  Libraries scatter each in their own way; the standard
    has none, and a product with the matrix of memberships takes its place.
    """
    xp = array_api_compat.array_namespace(x)
    batch, (n, d) = x.shape[:-2], x.shape[-2:]
    if isinstance(x, np.ndarray):
        flat = (labels.reshape(-1, n) + (m + 1) * np.arange(prod(batch))[:, None]).ravel()
        bins = (m + 1) * prod(batch)
        count = np.bincount(flat, minlength=bins)
        order = np.argsort(flat.astype(np.min_scalar_type(bins)), kind="stable")  # by radix for 16 bits
        total = np.zeros((bins, d), dtype=x.dtype)
        some = count > 0
        starts = (np.cumsum(count) - count)[some]
        total[some] = np.add.reduceat(x.reshape(-1, d)[order], starts, axis=0)
        total = total.reshape(*batch, m + 1, d)[..., :m, :]
        return total, count.astype(x.dtype).reshape(*batch, m + 1)[..., :m]
    if array_api_compat.is_torch_array(x):
        ones = xp.ones_like(x[..., 0])
        total = xp.zeros((*batch, m + 1, d), dtype=x.dtype, device=x.device)
        total = total.scatter_add(-2, labels[..., None].expand(x.shape), x)
        count = xp.zeros((*batch, m + 1), dtype=x.dtype, device=x.device).scatter_add(-1, labels, ones)
        return total[..., :m, :], count[..., :m]
    member = labels[..., None] == xp.arange(m, device=array_api_compat.device(x))
    weight = xp.matrix_transpose(xp.astype(member, x.dtype))
    return weight @ x, xp.sum(weight, axis=-1)


def moved(xp: Namespace, x: Array, places: Array) -> Array:
    """The entries of x (..., n), each at its place (..., n) of all n."""
    if array_api_compat.is_torch_array(x):
        made = xp.empty_like(places, dtype=x.dtype)  # like what ``vmap`` maps: x may be a range
        return made.scatter_(-1, places, x)
    return xp.take_along_axis(x, xp.argsort(places), axis=-1)


def parted(x: Array, size: int, axis: int) -> tuple[Array, ...]:
    """Views of x along an axis, ``size`` of it each, the last perhaps fewer; one where it is empty.

    Of Torch the parts of one operation: slices that are recorded one by one cost a cotangent of all of x each, and the
    derivative of a stream would grow with the square of its length.
    """
    if array_api_compat.is_torch_array(x):
        return tuple(x.split(size, dim=axis))  # type: ignore[no-untyped-call]
    n, before = x.shape[axis], (slice(None),) * (axis % x.ndim)
    return tuple(x[(*before, slice(i, min(i + size, n)), ...)] for i in range(0, max(n, 1), size))


def swapped(xp: Namespace, x: Array) -> Array:
    """x (..., a, b, c) as (..., b, a, c), also under ``torch.func.vmap``, which has no rule for ``moveaxis``."""
    return x.movedim(-3, -2) if array_api_compat.is_torch_array(x) else xp.moveaxis(x, -3, -2)


def inverse_order(xp: Namespace, order: Array) -> Array:
    """The place (..., n) of each number in an order (..., n) of them."""
    if array_api_compat.is_torch_array(order):
        return moved(xp, xp.arange(order.shape[-1], device=order.device).expand_as(order), order)
    return xp.argsort(order)


def largest(xp: Namespace, x: Array, count: int, step: float) -> Array:
    """Places (..., count) of the largest entries along the last axis of x (..., n), ascending; without NaN.

    Entries count as equal within ``step`` of a grid, and the first of such are taken: the same in every library and
    beside all batch-mates.
    """
    *batch, n = x.shape
    place = xp.arange(n, dtype=xp.float64, device=device_of(x))
    if count >= n:
        return xp.broadcast_to(xp.astype(place, xp.int64), x.shape)
    rows = xp.reshape(still(x), (-1, n))
    total, some = rows.shape[0], items_at_once(rows, n)
    slices = [slice(i, min(i + some, total)) for i in range(0, total, some)]
    parts = [_largest(xp, rows[of, ...], place, count, step) for of in slices]
    return xp.reshape(parts[0] if len(parts) == 1 else xp.concat(parts, axis=0), (*batch, count))


def _largest(xp: Namespace, x: Array, place: Array, count: int, step: float) -> Array:
    order = xp.astype(
        xp.floor(x / step), xp.float64
    )  # whole numbers, of which no two are equal once they are done
    order *= place.shape[0]
    order -= place
    if array_api_compat.is_torch_array(x):
        return order.topk(count, sorted=False).indices.sort().values
    if array_api_compat.is_numpy_array(x):
        return xp.sort(np.argpartition(-order, count - 1)[..., :count])
    return xp.sort(xp.argsort(order, descending=True)[..., :count])


def gathered(xp: Namespace, x: Array, index: Array, axis: int = -1) -> Array:
    """``take_along_axis`` for places from 0 on: Torch's own looks for negative ones, in five launches more."""
    if array_api_compat.is_torch_array(x):
        return x.gather(axis, index)
    return xp.take_along_axis(x, index, axis=axis)


def upper_half(xp: Namespace, x: Array, steps: int) -> Array:
    """Whether each number of x (..., n), from −1 to 1 and of even n, is among the n/2 largest.

    Numbers count as equal within 1/``steps``, rounded to the nearest, for the largest and 0 would stand on the edge of
    a step; and of such the later ones are larger: the same in every library and beside all batch-mates.
    """
    n = x.shape[-1]
    exact = x.dtype if 2 * steps * n * float(xp.finfo(x.dtype).eps) < 1 else xp.float64
    order = xp.astype(xp.round(x * steps), exact, copy=False) * n
    order += xp.arange(n, dtype=exact, device=device_of(x))
    if array_api_compat.is_torch_array(x):
        least = order.kthvalue(n // 2, keepdim=True).values
    elif array_api_compat.is_numpy_array(x):
        least = np.partition(order, n // 2 - 1)[..., n // 2 - 1 : n // 2]
    else:
        least = xp.sort(order)[..., n // 2 - 1 : n // 2]
    return order > least


def rows_of(xp: Namespace, x: Array, index: Array, axis: int = 0) -> Array:
    """``take`` for places from 0 on: ``array_api_compat`` looks for negative ones, in three launches more."""
    return x.index_select(axis, index) if array_api_compat.is_torch_array(x) else xp.take(x, index, axis=axis)


def filled_at(xp: Namespace, x: Array, index: Array, value: float) -> Array:
    """x (..., n) with ``value`` at ``index`` (..., m)."""
    if array_api_compat.is_torch_array(x):
        return x.scatter(-1, index, value)
    if array_api_compat.is_numpy_array(x) or array_api_compat.is_cupy_array(x):
        filled = xp.reshape(x, (-1, x.shape[-1])).copy()
        filled[xp.arange(len(filled))[:, None], xp.reshape(index, (len(filled), -1))] = value
        return xp.reshape(filled, x.shape)
    places = xp.arange(x.shape[-1], dtype=xp.int64, device=device_of(x))
    return xp.where(xp.any(index[..., None] == places, axis=-2), xp.full_like(x, value), x)
