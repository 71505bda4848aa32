"""Causal Nyström attention: what is near exactly, what is past through landmarks of the past alone."""

from __future__ import annotations

from dataclasses import replace

from nystrom_numerics.arguments import require_callable, require_count
from nystrom_numerics.attention.arguments import Arguments, check_arguments
from nystrom_numerics.attention.normalised import floor_of, landmark_rows
from nystrom_numerics.attention.padding import hide, put_back, real_first
from nystrom_numerics.attention.placing import place_landmarks, solve_core
from nystrom_numerics.attention.ridge import ridge
from nystrom_numerics.attention.streaming import stream_scores
from nystrom_numerics.backend import Array
from nystrom_numerics.landmarks import Strategy, segment_means
from nystrom_numerics.pinv import Solver

__all__ = ["causal"]


def causal(
    q: Array,
    k: Array,
    v: Array,
    m: int,
    /,
    *,
    block: int,
    landmarks: Strategy = segment_means,
    solver: Solver = ridge,
    key_mask: Array | None = None,
    scale: float | None = None,
    check_finite: bool = False,
) -> Array:
    r"""Causal attention: token t sees tokens up to t, and its output depends on no other, landmarks included.

    Tokens stand in blocks.  Within its own block a query meets every key exactly.  All blocks before are met
    through Nyström attention whose landmarks, of queries and of keys, are made of those blocks alone:
    :math:`O = (E_\mathrm{in}V + e^\mu\,F A^+(BV)) / (E_\mathrm{in}\mathbf 1 + e^\mu)`, with
    :math:`e^\mu` the row-normalised estimator's denominator (see :func:`normalised`), kept above its bound.

    Parameters
    ----------
    q, k : array (..., n, d)
    v : array (..., n, d_v)
        Of one length.
    m : int
        Landmarks of the past, at least 1; as many as there are tokens where these are fewer.
    block : int
        Tokens a block, at least 1.  :math:`\sqrt{nm/2}` costs least.  It has no default, since one that looked at n
        would make what a token gets depend on how many come after it.
    landmarks, solver, scale, check_finite
        As in :func:`nystrom`.  A random rule must be seeded by an int.
    key_mask : array of bool, broadcastable to (..., n), optional
        True for real tokens.  Blocks and landmarks are those of real tokens among themselves: padding changes
        nothing, wherever it is and whatever it holds.

    Returns
    -------
    array (..., n, d_v)
        In the dtype of ``v``; zeros for masked tokens.

    Raises
    ------
    DTypeError, DeviceError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: about :math:`nb + n^2m/(2b) + nm` kernel entries for blocks of b, which is :math:`\sqrt{2n^3m}` at the
    best b, against n²/2 of exact causal attention; n/b cores.  Not linear: the landmarks of each past see all of
    it.  Error: that of Nyström attention on the past, nothing on the first block; the claim ``estimators`` of the
    experiments measures it on real heads.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import attention
    >>> q, k, v = np.random.default_rng(0).standard_normal((3, 64, 4))
    >>> whole = attention.causal(q, k, v, 8, block=16)
    >>> first = attention.causal(q[:30], k[:30], v[:30], 8, block=16)
    >>> bool(np.allclose(whole[:30], first))
    True
    """
    m, block = require_count("m", m), require_count("block", block)
    require_callable("landmarks", landmarks)
    require_callable("solver", solver)
    a = check_arguments(q, k, v, scale=scale, key_mask=key_mask, oneself=True, check_finite=check_finite)
    xp, mask, storage, n = a.xp, a.key_mask, v.dtype, q.shape[-2]
    if (
        mask is not None
    ):  # with the real tokens first none has a masked one in its past, and none needs a mask
        a = replace(a, key_mask=None)
        q, k, v = (real_first(xp, hide(xp, x, mask), mask) for x in (q, k, v))
    parts = [
        _block(a, q, k, v, start, min(start + block, n), m, landmarks, solver) for start in range(0, n, block)
    ]
    out = xp.astype(xp.concat(parts, axis=-2), storage, copy=False)
    return out if mask is None else put_back(xp, out, mask)


def _block(
    a: Arguments,
    q: Array,
    k: Array,
    v: Array,
    start: int,
    stop: int,
    m: int,
    landmarks: Strategy,
    solver: Solver,
) -> Array:
    """Outputs of tokens ``start`` to ``stop`` − 1, none of them masked."""
    xp, inside, past = a.xp, slice(start, stop), slice(start)
    rows = q[..., inside, :]
    near, top, total = stream_scores(
        xp, rows, k[..., inside, :], v[..., inside, :], None, None, a.scale, first=0
    )
    if start == 0:
        return near / total
    keys, values = k[..., past, :], v[..., past, :]
    placed = place_landmarks(a, q[..., past, :], keys, min(m, start), landmarks)
    seen = landmark_rows(a, placed, keys, values)
    w = solve_core(seen.core, seen.beside(seen.p), solver)
    far, far_top, far_total = stream_scores(xp, rows, placed.keys, w, placed.key_valid, None, a.scale)
    one = xp.ones_like(far_total)
    far_total = xp.where(far_total > 0, far_total, one)
    far = far / far_total
    least = floor_of(a, placed, keys) * xp.exp(-seen.t)
    weight = xp.maximum(far[..., -1:], least)
    log_weight = far_top + xp.log(far_total) + seen.t + xp.log(xp.where(weight > 0, weight, one))
    log_weight = xp.where(weight > 0, log_weight, xp.full_like(log_weight, -xp.inf))
    peak = xp.maximum(top, log_weight)
    of_near, of_far = xp.exp(top - peak), xp.exp(log_weight - peak)
    total = total * of_near + of_far
    return (near * of_near + far[..., :-1] * of_far) / total
