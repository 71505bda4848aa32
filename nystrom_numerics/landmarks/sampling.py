"""Landmarks that are picked without looking at the kernel: strided and uniform."""

from __future__ import annotations

import numpy as np

from nystrom_numerics.backend import Array, device_of, from_numpy, generator
from nystrom_numerics.landmarks.result import ColumnSubset
from nystrom_numerics.landmarks.tokens import check_arguments, rank_of, real_tokens, segments

__all__ = ["strided", "uniform"]


def strided(x: Array, m: int, /, *, mask: Array | None = None, check_finite: bool = False) -> ColumnSubset:
    """The middle token of each of m balanced segments: evenly spaced, deterministic.

    Cost: none to speak of; no kernel entries.  Source: "sub-selection" in Xiong et al. 2021, §3.2.

    Parameters
    ----------
    x, m, mask, check_finite
        As in :func:`segment_means`.

    Returns
    -------
    ColumnSubset
        Indices (..., m), ascending; a segment without a real token is not valid.

    Raises
    ------
    DTypeError, DeviceError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import landmarks
    >>> landmarks.strided(np.zeros((9, 1)), 3).indices
    array([1, 4, 7])
    """
    xp, mask = check_arguments(x, m, mask, check_finite)
    if mask is None:
        start, stop = segments(xp, x, x.shape[-2], m)
        indices = xp.broadcast_to(start + (stop - start) // 2, (*x.shape[:-2], m))
        return ColumnSubset(indices, None, entries=0, seed=None)
    order, count = real_tokens(xp, mask)
    start, stop = segments(xp, x, count, m)
    valid = stop > start
    middle = xp.where(valid, start + (stop - start) // 2, xp.zeros_like(start))
    indices = xp.take_along_axis(order, middle, axis=-1)
    return ColumnSubset(xp.where(valid, indices, xp.zeros_like(indices)), valid, entries=0, seed=None)


def uniform(
    x: Array,
    m: int,
    /,
    *,
    mask: Array | None = None,
    rng: np.random.Generator | int = 0,
    check_finite: bool = False,
) -> ColumnSubset:
    r"""m tokens uniformly at random, without replacement, ascending.

    Every token of rank r gets a random key that depends on r alone, and the m smallest keys win.  All
    items of a batch share the keys, so none depends on its batch-mates, and padding changes nothing.

    random.Generator or an int.  With fewer than m real tokens all are taken and the rest is not valid.

    Cost: n draws and a sort; no kernel entries.  Guarantee for a PSD kernel of coherence
    :math:`\mu`: :math:`m \ge 2\mu\varepsilon^{-2}k\ln(k/\delta)` gives
    :math:`\|R\|_2 \le (1 + n/((1-\varepsilon)m))\lambda_{k+1}` with probability :math:`1-\delta`
    (Gittens 2011; recalled, not re-derived here).

    Parameters
    ----------
    x, m, mask, check_finite
        As in :func:`segment_means`.
    rng : numpy.random.Generator or int
        Of n uniform draws, one for each rank, whatever m is.

    Returns
    -------
    ColumnSubset
        Indices (..., m), ascending; with fewer than m real tokens all are taken and the rest is not valid.

    Raises
    ------
    DTypeError, DeviceError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import landmarks
    >>> few = landmarks.uniform(np.zeros((9, 1)), 3, rng=1).indices
    >>> more = landmarks.uniform(np.zeros((9, 1)), 4, rng=1).indices
    >>> few.tolist(), set(few.tolist()) <= set(more.tolist())
    ([2, 4, 7], True)
    """
    xp, mask = check_arguments(x, m, mask, check_finite)
    source, seed = generator(rng)
    n = x.shape[-2]
    # a stable order of n keys, of which any first part is the order of fewer keys
    keys = np.argsort(np.argsort(source.random(n), kind="stable"), kind="stable")
    if mask is None:
        chosen = from_numpy(xp, np.sort(np.argsort(keys)[:m]), x)
        return ColumnSubset(xp.broadcast_to(chosen, (*x.shape[:-2], m)), None, entries=0, seed=seed)
    rank = rank_of(xp, mask)
    rank = xp.where(mask, rank, xp.zeros_like(rank))
    key = xp.reshape(xp.take(from_numpy(xp, keys, x), xp.reshape(rank, (-1,)), axis=0), rank.shape)
    key = xp.where(mask, key, xp.full_like(key, n))
    indices = xp.argsort(key, axis=-1, stable=True)[..., :m]
    count = xp.sum(xp.astype(mask, xp.int64), axis=-1, keepdims=True)
    valid = xp.arange(m, dtype=xp.int64, device=device_of(x)) < count
    # invalid positions sort last; n is beyond every token
    indices = xp.sort(xp.where(valid, indices, xp.full_like(indices, n)), axis=-1)
    return ColumnSubset(xp.where(valid, indices, xp.zeros_like(indices)), valid, entries=0, seed=seed)
