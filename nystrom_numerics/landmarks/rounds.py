r"""How pivots come into a Cholesky factorisation: one by one, or a block of proposals a round."""

from __future__ import annotations

from collections.abc import Callable
from math import isqrt, sqrt
from typing import Any, TypeAlias

import numpy as np

from nystrom_numerics.arguments import require_count
from nystrom_numerics.backend import (
    Array,
    device_of,
    from_numpy,
    generator,
    to_numpy,
)
from nystrom_numerics.errors import NonFiniteError
from nystrom_numerics.kernels import Kernel
from nystrom_numerics.landmarks.draws import draw
from nystrom_numerics.landmarks.factoring import Held, Partial, asymmetric, started
from nystrom_numerics.landmarks.result import ColumnSubset
from nystrom_numerics.linalg import transpose

__all__ = ["by_blocks", "in_blocks", "one_by_one"]

_Pick: TypeAlias = Callable[[Array, int], Array]


def one_by_one(
    kernel: Kernel, m: int, pick: _Pick, rtol: float | None, check_every: int, seed: int | None
) -> ColumnSubset:
    """Pivots chosen by ``pick(residual, step)``; the device is asked every ``check_every`` steps."""
    check_every = require_count("check_every", check_every)
    a = started(kernel, m, rtol)
    xp, step, left = a.xp, 0, a.top
    order = xp.arange(kernel.shape[0], dtype=xp.int64, device=device_of(kernel.like))
    while step < m and left > 0:
        window = range(step, min(step + check_every, m))
        seen = [_step(a, a.rank + i, pick(a.residual, s), order) for i, s in enumerate(window)]
        step += len(window)
        pivots, accepted, *numbers = (xp.concat(part) for part in zip(*seen, strict=True))
        names, sizes, lowest, where, defects, others, lefts = map(to_numpy, (pivots, *numbers))
        for i, name in enumerate(names):
            if others[i] >= 0:
                a.compare(int(name), float(defects[i]), int(to_numpy(a.pivots)[others[i]]))
            so_far = xp.concat([a.pivots, pivots[: i + 1]])
            a.judge(int(name), float(sizes[i]), float(lowest[i]), int(where[i]), so_far, a.rank + i + 1)
        left = float(lefts[-1])
        kept = xp.nonzero(accepted)[0]
        if kept.shape[0] < len(seen):  # a pivot that had vanished left a zero column: close the gap
            window_columns = a.factor[:, a.rank : a.rank + len(seen)]
            a.factor[:, a.rank : a.rank + kept.shape[0]] = xp.take(window_columns, kept, axis=1)
        a.pivots = xp.concat([a.pivots, xp.take(pivots, kept)])
        a.rank += int(kept.shape[0])
    return a.result(seed)


def _step(a: Held, place: int, pivot: Array, order: Array) -> tuple[Array, ...]:
    """Write one column.  Tells, (1,) each: the pivot, whether it counts, its size, the lowest residual it
    left and where, the worst entry at an earlier pivot and which, and the largest residual it left."""
    xp = a.xp
    column = a.kernel.columns(pivot)[:, 0]
    column -= a.factor[:, :place] @ xp.take(a.factor, pivot, axis=0)[0, :place]
    size = xp.take(column, pivot)
    accepted = (size > a.floor / 4) & (xp.take(a.residual, pivot) > 0)
    scaled = column / xp.sqrt(xp.where(accepted, size, xp.ones_like(size)))
    scaled = xp.where(accepted, scaled, xp.zeros_like(scaled))
    a.factor[:, place] = scaled
    reduced = xp.where(order == pivot, xp.zeros_like(scaled), a.residual - scaled * scaled)
    a.residual = xp.where(reduced > a.floor, reduced, xp.zeros_like(reduced))
    where = xp.reshape(xp.argmin(reduced), (1,))
    # a symmetric matrix has been reproduced at the earlier pivots
    mirrored = xp.abs(xp.concat([xp.take(column, a.pivots), xp.zeros_like(size)]))
    worst = xp.reshape(xp.argmax(mirrored), (1,))
    earlier = xp.where(worst < a.pivots.shape[0], worst, xp.full_like(worst, -1))
    return (
        pivot,
        accepted,
        size,
        xp.take(reduced, where),
        where,
        xp.take(mirrored, worst),
        earlier,
        xp.reshape(xp.max(a.residual), (1,)),
    )


def by_blocks(
    kernel: Kernel,
    m: int,
    block: int | None,
    rng: np.random.Generator | int,
    rtol: float | None,
    *,
    hurdle: float | None,
    capacity: int | None = None,
) -> ColumnSubset:
    """The columns held; with a ``capacity`` the factor starts with that many and doubles as needed."""
    source, seed = generator(rng)
    a = started(kernel, m, rtol, capacity)
    in_blocks(a, m, block, source, hurdle)
    return a.result(seed)


def in_blocks(
    a: Partial, m: int, block: int | None, source: np.random.Generator, hurdle: float | None
) -> None:
    """Rounds of proposals, accepted by rejection or past a fixed hurdle, until there are m; see :func:`_accept`.

    A hurdle keeps a pivot from being tiny beside what it was drawn by: each such pivot costs the later ones
    the square root of that ratio in digits.
    """
    if block is None:
        block = min(m, max(8, isqrt(a.kernel.shape[0] * m // 100)))
    else:
        block = require_count("block", block)
    left = a.top
    while a.rank < m and left > 0:
        proposals = draw(a.residual, source.random(block))
        hurdles = source.random(block) if hurdle is None else np.full(block, hurdle)
        left = _round(a, proposals, hurdles, m - a.rank)


def _round(a: Partial, proposals: Array, hurdles: Any, room: int) -> float:
    """Take what is accepted of the proposals; gives the largest residual left."""
    xp, rank = a.xp, a.rank
    rows = a.rows(proposals, rank)
    core = a.kernel.block(proposals, proposals) - rows @ transpose(rows)
    names = to_numpy(proposals)
    places, lower = _accept(a, to_numpy(core).astype(np.float64), names, hurdles, room)
    untouched = np.ones(a.kernel.shape[0], dtype=bool)
    if not places:  # every proposal had vanished by its own column: count it as zero
        untouched[names] = False
        a.residual = xp.where(from_numpy(xp, untouched, proposals), a.residual, xp.zeros_like(a.residual))
        return float(xp.max(a.residual))

    chosen = names[places]
    pivots = from_numpy(xp, chosen, proposals)
    triangle = xp.astype(from_numpy(xp, lower, proposals), a.kernel.dtype)
    reduced = a.extend(pivots, triangle)
    if rank:  # a symmetric matrix has been reproduced at the earlier pivots
        new = a.rows(a.pivots, rank + len(places))[:, rank:]
        mirrored = xp.abs(new @ transpose(triangle))
        i, j = divmod(int(xp.argmax(mirrored)), len(places))
        a.compare(int(chosen[j]), float(mirrored[i, j]), int(to_numpy(a.pivots)[i]))
    where = int(xp.argmin(reduced))
    all_pivots = xp.concat([a.pivots, pivots])
    a.judge(int(chosen[-1]), 0.0, float(reduced[where]), where, all_pivots, rank + len(places))
    untouched[chosen] = False
    kept = from_numpy(xp, untouched, proposals) & (reduced > a.floor)
    a.residual = xp.where(kept, reduced, xp.zeros_like(reduced))
    a.pivots = all_pivots
    a.rank += len(places)
    return float(xp.max(a.residual))


def _accept(a: Partial, core: Any, names: Any, hurdles: Any, room: int) -> tuple[list[int], Any]:
    """Places of the accepted proposals, at most ``room``, and the Cholesky factor of their core.

    Proposal i stands if hurdle · (its residual when drawn) < its residual now.
    """
    drawn = core.diagonal().copy()
    if not np.isfinite(core).all():
        raise NonFiniteError("kernel", f"not finite at the pivots {names.tolist()}", "finite entries")
    worst = np.abs(core - core.T)
    if worst.max() > a.alarm:
        asymmetric(int(names[worst.max(axis=1).argmax()]), float(worst.max()))
    now = drawn.copy()
    lower = np.zeros((len(core), min(room, len(core))))
    places: list[int] = []
    for i, hurdle in enumerate(hurdles):
        k = len(places)
        if k == room:
            break
        if not (now[i] > a.floor and hurdle * drawn[i] < now[i]):
            continue
        column = (core[:, i] - lower[:, :k] @ lower[i, :k]) / sqrt(now[i])
        lower[:, k] = column
        now -= column * column
        places.append(i)
    return places, np.tril(lower[places, : len(places)])
