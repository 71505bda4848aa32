r"""Nyström attention with an exact near field: neighbours by their scores, the rest by landmarks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nystrom_numerics.arguments import require_callable, require_count
from nystrom_numerics.attention.arguments import Arguments, one_length, product_form, ungroup
from nystrom_numerics.attention.padding import hide, put_back, real_first
from nystrom_numerics.attention.placing import solve_core
from nystrom_numerics.attention.ridge import ridge
from nystrom_numerics.attention.streaming import stream_scores
from nystrom_numerics.backend import Array, by_strips, compute_dtype, device_of, tile
from nystrom_numerics.landmarks import segment_means
from nystrom_numerics.landmarks.result import LandmarkPoints, take_rows
from nystrom_numerics.landmarks.tokens import segments
from nystrom_numerics.linalg import masked_softmax, transpose
from nystrom_numerics.pinv import Solver

__all__ = ["Fields", "checked_near", "fields_of", "meet_fields", "near_field", "near_keys", "share_of_far"]


def near_field(
    q: Array,
    k: Array,
    v: Array,
    m: int,
    /,
    *,
    block: int = 64,
    margin: int | None = None,
    solver: Solver = ridge,
    mask: Array | None = None,
    scale: float | None = None,
    grouped: bool = False,
    check_finite: bool = False,
) -> Array:
    r"""Self-attention whose near field is exact and whose far field is Nyström's, in linear time and memory.

    The near field of a token is its block with a margin of tokens on either side, and the first and the last token.
    With N(i) that set and landmarks :math:`\tilde k_s` standing for those :math:`n_{is}` keys of their segments that
    are not in it,

    .. math:: Z_i = \sum_{j\in N(i)} e^{sq_i^Tk_j} + \sum_s n_{is}e^{sq_i^T\tilde k_s},\qquad
              \hat S_{ij} = \begin{cases} e^{sq_i^Tk_j}/Z_i & j \in N(i)\\ c_i\,(FA^+B)_{ij} & \text{otherwise,}
              \end{cases}

    where :math:`c_i \in [0, 1]` brings the far field of Nyström down to the share that the landmarks give it in Z_i,
    and never raises it.

    Parameters
    ----------
    q, k : array (..., n, d)
    v : array (..., n, d_v)
        As in :func:`~nystrom_numerics.attention.nystrom`, of one length.
    m : int
        Landmarks, segment means of queries and of keys, 1 <= m <= n.
    block : int
        Tokens a block, at least 1.
    margin : int, optional
        Tokens beside a block that it sees, 0 to ``block``; by default a quarter of it.  With ``block=p`` and p/4 − 1
        landmarks, kernel entries are those of ``nystrom`` with p.
    solver, scale, grouped, check_finite
        As in ``nystrom``.
    mask : array of bool, broadcastable to (..., n), optional
        True for real tokens.  Neighbours, blocks and segments are those of real tokens among themselves: padding
        changes nothing, wherever it is.

    Returns
    -------
    array (..., n, d_v)
        In the dtype of ``v``; zeros for masked tokens; NaN for an item whose core could not be solved with.

    Raises
    ------
    DTypeError, DeviceError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Exact where every key is near, so for n ≤ block.  On trained models the error is mostly near the diagonal and in
    special tokens, where no matrix of low rank can be right: see the claim ``estimators`` of the experiments for what
    this gains over ``nystrom`` at equal kernel entries.  Source: ours; near and far fields after Greengard and Rokhlin
    1987, a band beside a low rank as in Chen et al. 2021 (Scatterbrain) and Nguyen et al. 2021 (FMMformer), which
    learn theirs.

    In Torch ``torch.compile(fullgraph=True)``, ``torch.func.vmap`` and ``torch.export`` of one length take it, the last
    not of a length that is left open (:class:`ShapeError`; ``nystrom`` takes any).

    Cost: with w = block + 2·margin + 2, n(2m + w) kernel entries and about n(w(d + d_v) + 2m(m + d + d_v)) and
    nwmd_v/block multiplications; memory O(n(d + d_v + m)) and a strip of blocks.  Derivative in Torch: each strip is
    run once more, in linear time and memory too; it can be taken once.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import attention
    >>> q, v = np.random.default_rng(0).standard_normal((2, 512, 16)).cumsum(axis=1)
    >>> q = 5 * q / np.linalg.norm(q, axis=1, keepdims=True)
    >>> s = attention.exact(q, q, v)  # tokens that look at their neighbours
    >>> near, far = attention.near_field(q, q, v, 15), attention.nystrom(q, q, v, 64)
    >>> bool(np.linalg.norm(near - s) < np.linalg.norm(far - s) / 2)
    True
    """
    a, q, k, v = product_form(
        q,
        k,
        v,
        scale=scale,
        mask=mask,
        oneself=True,
        grouped=grouped,
        check_finite=check_finite,
    )
    one_length("`attention.nystrom`", q=q)
    out = fields_of(a, q, k, m, block, margin, solver).apply(hide(a.xp, v, a.key_mask))
    return ungroup(out) if grouped else out


@dataclass(frozen=True)
class Fields:
    """Queries and keys (..., n, d), real ones first, of which the first ``count``, an int or (..., 1), are real; the
    landmarks of keys, and (A⁺B)ᵀ (..., n, m).

    ``mask`` and ``valid`` say where real tokens stood and where they stand, ``None`` for everywhere; ``near`` are block
    and margin.
    """

    xp: Any
    q: Array
    k: Array
    mask: Array | None
    valid: Array | None
    count: Array | int
    m: int
    near: tuple[int, int]
    scale: float
    points: LandmarkPoints
    far: Array

    def apply(self, v: Array) -> Array:
        """ŜV for values (..., n, d_v), zero where they are masked, in their dtype."""
        xp, out = self.xp, self.real_first(v)
        out = _attend(self, xp.astype(out, self.q.dtype, copy=False))
        return xp.astype(self.put_back(out), v.dtype, copy=False)

    def real_first(self, x: Array) -> Array:
        return x if self.mask is None else real_first(self.xp, x, self.mask)

    def put_back(self, x: Array) -> Array:
        return x if self.mask is None else put_back(self.xp, x, self.mask)

    @property
    def exist(self) -> Array | None:
        """Which landmarks exist, (..., 1, m)."""
        return None if self.points.valid is None else self.points.valid[..., None, :]


def checked_near(block: int, margin: int | None, solver: Solver) -> tuple[int, int]:
    """Block and margin as numbers."""
    block = require_count("block", block)
    margin = block // 4 if margin is None else require_count("margin", margin, 0, block, of="`block`")
    require_callable("solver", solver)
    return block, margin


def fields_of(
    a: Arguments, q: Array, k: Array, m: int, block: int, margin: int | None, solver: Solver
) -> Fields:
    """Both fields of a checked call."""
    block, margin = checked_near(block, margin, solver)
    xp, n, mask = a.xp, q.shape[-2], a.key_mask
    m = require_count("m", m, 1, n, of="the number of tokens")
    q, k = (xp.astype(x, compute_dtype(xp, x.dtype), copy=False) for x in (q, k))
    valid, count = None, n
    if mask is not None:
        q, k = (real_first(xp, x, mask) for x in (q, k))
        count = xp.count_nonzero(mask, axis=-1, keepdims=True)
        valid = xp.arange(n, device=device_of(q)) < count
    points = segment_means(k, m, mask=valid)
    far = _far_field(xp, q, k, valid, points, m, a.scale, solver)
    return Fields(xp, q, k, mask, valid, count, m, (block, margin), a.scale, points, far)


def _attend(fields: Fields, v: Array) -> Array:
    """For values, those of real tokens first, in strips of whole blocks."""
    xp, q, k, count, m, near = fields.xp, fields.q, fields.k, fields.count, fields.m, fields.near
    n, (block, margin), far = q.shape[-2], near, fields.far
    exist = None if fields.exist is None else fields.exist[..., None, :]
    most = max(1, tile(q, n, block + 2 * margin + 2)[0] // block)
    blocks = -(-n // block)
    numbers = [range(first, min(first + most, blocks)) for first in range(0, blocks, most)]
    strips = []
    for some in numbers:
        own, window = _rows_of(some, n, block, 0), _rows_of(some, n, block, margin)
        strips.append((slice(some.start * block, some.stop * block), (own, window, window, window)))

    def strip(i: int, *given: Array) -> Array:
        own, *windows = given[:4]
        *ends, points, of_values, of_ones = given[4:]
        number = xp.arange(numbers[i].start, numbers[i].stop, dtype=xp.int64, device=device_of(q))
        _, counted, sizes = near_keys(xp, q, number, count, m, near)
        if isinstance(count, int) and strips[i][0].start > margin and strips[i][0].stop + margin < count:
            counted = None  # every near row is a key
        fields_near = [
            _near_rows(xp, x, end, numbers[i], n, near) for x, end in zip(windows, ends, strict=True)
        ]
        out = meet_fields(
            xp,
            _in_blocks(xp, own, block),
            (fields_near[0], fields_near[1], fields_near[2]),
            counted,
            sizes,
            (transpose(points)[..., None, :, :], exist),
            (of_values[..., None, :, :], of_ones[..., None, :, :]),
            fields.scale,
        )
        return xp.reshape(out, (*out.shape[:-3], out.shape[-3] * block, out.shape[-1]))

    ends = [_ends(xp, x, count) for x in (k, v, far)]
    sums = transpose(far) @ v, xp.sum(far, axis=-2)[..., None]
    return by_strips(strip, strips, (q, k, v, far), (*ends, fields.points.points, *sums))[..., :n, :]


def _rows_of(blocks: range, n: int, block: int, margin: int) -> slice:
    """Rows of some blocks and of a margin on either side, of those that there are."""
    return slice(max(blocks.start * block - margin, 0), min(blocks.stop * block + margin, n))


def meet_fields(
    xp: Any,
    some: Array,
    near: tuple[Array, Array, Array],
    counted: Array | None,
    sizes: Array,
    landmarks: tuple[Array, Array | None],
    sums: tuple[Array, Array],
    scale: float,
) -> Array:
    """Outputs (..., p, b, d_v) of blocks of queries (..., p, b, d).

    ``near`` are the keys, values and rows of (A⁺B)ᵀ (..., p, w, ·) of each block's near tokens, ``counted`` (..., p, w)
    which of them are keys, ``sizes`` how many keys each landmark stands for (..., p, 1, m); ``landmarks`` as columns
    (..., 1, d, m), and which exist (..., 1, 1, m); ``sums`` of A⁺BV (..., 1, m, d_v), and of A⁺B1 (..., 1, m, 1).
    """
    keys, values, right = near
    of_values, of_ones = sums
    points, exist = landmarks
    here, top, total = stream_scores(xp, some, keys, values, counted, None, scale)
    scores = (some @ points) * scale
    beyond, near_share = share_of_far(xp, scores, sizes, exist, top, total)
    right = right if counted is None else xp.where(counted[..., None], right, 0.0)
    left = masked_softmax(scores, exist)
    mass = left @ (of_ones - xp.sum(right, axis=-2)[..., None])
    there = left @ (of_values - transpose(right) @ values)
    share = xp.where(mass > 0, xp.clip(beyond / xp.where(mass > 0, mass, 1.0), max=1.0), 0.0 * mass)
    return here * near_share + there * share


def share_of_far(
    xp: Any, scores: Array, sizes: Array, exist: Array | None, top: Array, total: Array
) -> tuple[Array, Array]:
    """The share of Z_i that landmarks have, and what the numerators of near keys, relative to e^top, are to be
    multiplied by, (..., b, 1) each, from the scores of landmarks and the near keys' ``total``.
    """
    stands = sizes > 0 if exist is None else (sizes > 0) & exist
    others = xp.where(stands, scores, -xp.inf)
    highest = xp.maximum(top, xp.max(others, axis=-1, keepdims=True))
    highest = xp.where(highest == -xp.inf, xp.zeros_like(highest), highest)
    far = xp.sum(sizes * xp.exp(others - highest), axis=-1, keepdims=True)
    near = xp.exp(top - highest)
    whole = near * total + far
    whole = xp.where(whole == 0, xp.ones_like(whole), whole)
    return far / whole, near / whole


def _far_field(
    xp: Any,
    q: Array,
    k: Array,
    valid: Array | None,
    points: LandmarkPoints,
    m: int,
    scale: float,
    solver: Solver,
) -> Array:
    """(A⁺B)ᵀ, (..., n, m), as the solver makes it of A and B."""
    queries = segment_means(q, m, mask=valid)
    columns = None if points.valid is None else points.valid[..., None, :]
    keys = None if valid is None else valid[..., None, :]
    core = masked_softmax((queries.points * scale) @ transpose(points.points), columns)
    b = masked_softmax((queries.points * scale) @ transpose(k), keys)
    if queries.valid is not None:
        core, b = (xp.where(queries.valid[..., None], x, xp.zeros_like(x)) for x in (core, b))
    return transpose(solve_core(core, b, solver))


def _in_blocks(xp: Any, x: Array, block: int) -> Array:
    """Rows (..., n, c) as blocks (..., ⌈n/b⌉, b, c), filled up with zeros."""
    x = _extended(xp, x, 0, -x.shape[-2] % block)
    return xp.reshape(x, (*x.shape[:-2], x.shape[-2] // block, block, x.shape[-1]))


def _extended(xp: Any, x: Array, before: int, after: int) -> Array:
    """Rows of zeros before and after those of x (..., n, c)."""
    if before == after == 0:
        return x
    above, below = (
        xp.zeros((*x.shape[:-2], rows, x.shape[-1]), dtype=x.dtype, device=device_of(x))
        for rows in (before, after)
    )
    return xp.concat([above, x, below], axis=-2)


def _ends(xp: Any, x: Array, count: Array | int) -> Array:
    """The first row and the last real one, (..., 2, c)."""
    if isinstance(count, int):
        last = x[..., count - 1 : count, :]
    else:
        index = xp.where(count > 0, count - 1, xp.zeros_like(count))
        last = take_rows(x, xp.broadcast_to(index, (*x.shape[:-2], 1)))
    return xp.concat([x[..., :1, :], last], axis=-2)


def _near_rows(xp: Any, x: Array, ends: Array, blocks: range, n: int, near: tuple[int, int]) -> Array:
    """Rows near some blocks, (..., blocks, b + 2g + 2, c): each with its margins, then the ends; zeros where none are.

    ``x`` are the rows of these blocks and their margin that there are, of n.
    """
    b, g = near
    low, high, many = blocks.start * b - g, blocks.stop * b + g, len(blocks)
    x = _extended(xp, x, max(-low, 0), max(high - n, 0))
    before, own, after = (_in_blocks(xp, x[..., i * g : i * g + many * b, :], b) for i in range(3))
    ends = xp.broadcast_to(ends[..., None, :, :], (*ends.shape[:-2], many, *ends.shape[-2:]))
    return xp.concat([before[..., :g, :], own, after[..., b - g :, :], ends], axis=-2)


def near_keys(
    xp: Any, like: Array, number: Array, count: Array | int, m: int, near: tuple[int, int]
) -> tuple[Array, Array, Array]:
    """Where the near rows of blocks of these numbers (..., p) stand (..., p, b + 2g + 2), which of them are keys, each
    once, and how many keys of each segment are not among them (..., p, 1, m), in the dtype of ``like``.
    """
    device, integer = device_of(like), xp.int64
    start, stop = segments(xp, like, count, m)
    keys = xp.full((), count, dtype=integer, device=device) if isinstance(count, int) else count[..., None]
    block, margin = near
    before = (number * block - margin)[..., None]
    window = before + xp.arange(block + 2 * margin, dtype=integer, device=device)
    last = keys - 1 + xp.zeros_like(before)
    head = (before > 0) & (last >= 0)
    tail = (last >= before + block + 2 * margin) & (last > 0)
    inside = (window >= 0) & (window < keys)
    shape = inside.shape[:-1]
    window, first_key = (xp.broadcast_to(x, (*shape, x.shape[-1])) for x in (window, xp.zeros_like(before)))
    position = xp.concat([window, first_key, last], axis=-1)
    counted = xp.concat([inside, head, tail], axis=-1)
    segment = position * m // xp.where(keys > 0, keys, xp.ones_like(keys))
    of = (segment[..., None] == xp.arange(m, dtype=integer, device=device)) & counted[..., None]
    sizes = (stop - start)[..., None, :] - xp.sum(xp.astype(of, integer), axis=-2)
    return position, counted, xp.astype(sizes, like.dtype)[..., None, :]
