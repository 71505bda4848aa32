r"""Pivoted Cholesky factorisation: columns of a PSD matrix picked by the diagonal of its residual.

After k pivots :math:`A \approx FF^T` with F (n × k), and the diagonal d of the residual
:math:`A - FF^T` costs nothing to keep.  The greedy rule picks the largest of d, the random ones draw from
d.  Memory is F, d and one strip; the matrix is known by a :class:`~nystrom_numerics.kernels.Kernel`.

A residual of at most ``rtol`` times the largest diagonal entry counts as zero.  The default,
:math:`16u\sqrt m` with u the unit roundoff, or the noise of the kernel if that is more, is what rounding
leaves of a zero.  When all are zero the
matrix is exhausted and the pivots found are returned: their number is its numerical rank.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from math import isqrt, sqrt
from typing import Any, NoReturn, TypeAlias, TypeVar

import numpy as np

from nystrom_numerics.arguments import require_count, require_tolerance
from nystrom_numerics.backend import (
    Array,
    device_of,
    from_numpy,
    generator,
    namespace,
    require_finite,
    solve_lower,
    to_numpy,
    unit_roundoff,
)
from nystrom_numerics.errors import IndefiniteError, NonFiniteError
from nystrom_numerics.kernels import Kernel
from nystrom_numerics.kernels.arguments import require_kernel
from nystrom_numerics.landmarks.draws import draw, require_landmarks
from nystrom_numerics.landmarks.result import ColumnSubset
from nystrom_numerics.linalg import transpose

__all__ = [
    "Partial",
    "accelerated_rpcholesky",
    "begun",
    "block_rpcholesky",
    "complete_factor",
    "in_blocks",
    "pivoted_cholesky",
    "rpcholesky",
]

_ALARM = 64.0
"""How many times the rounding level a residual must be negative to speak of an indefinite matrix."""


def pivoted_cholesky(
    kernel: Kernel, m: int, /, *, rtol: float | None = None, check_every: int = 1
) -> ColumnSubset:
    r"""Greedy (diagonally pivoted) Cholesky: the pivot is the largest residual, the first of equals.

    Parameters
    ----------
    kernel : Kernel
        Symmetric PSD, of n points.
    m : int
        Pivots, 1 <= m <= n.
    rtol : float, optional
        Residuals of at most this times the largest diagonal entry count as zero; see the module.
    check_every : int
        Steps between checks for exhaustion and for an indefinite matrix.  Each synchronises with the device;
        columns evaluated after exhaustion and before the next check are counted and dropped.

    Returns
    -------
    ColumnSubset
        Indices in the order picked, with the factor and the residual diagonal.

    Raises
    ------
    IndefiniteError
        The matrix is seen not to be symmetric or PSD; it says where and by how much.
    NonFiniteError
        NaN or infinity in the entries met.
    RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: (m+1)n kernel entries, nm² multiplications.  The trace of the residual, and so a bound of each
    unitarily invariant norm of it, is known exactly.  A priori only
    :math:`\max_i R_{ii} \le 4^m\lambda_{m+1}`-type bounds hold (Harbrecht, Peters and Schneider 2012).
    Source: Fine and Scheinberg 2001; Harbrecht et al. 2012, Algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import kernels, landmarks
    >>> a = np.array([[4.0, 2.0, 0.0], [2.0, 5.0, 0.0], [0.0, 0.0, 1.0]])
    >>> found = landmarks.pivoted_cholesky(kernels.precomputed(a), 2)
    >>> found.indices, found.residual, found.entries
    (array([1, 0]), array([0., 0., 1.]), 9)
    """

    def largest(residual: Array, _step: int) -> Array:
        xp = namespace(residual=residual)
        return xp.reshape(xp.argmax(residual), (1,))

    return _one_by_one(kernel, m, largest, rtol, check_every, None)


def complete_factor(kernel: Kernel) -> Array:
    """F with A = FFᵀ up to rounding, of as many columns as the numerical rank; memory n times that.

    For the few rules that are exact only with the whole spectrum at hand.  The pivots are drawn in blocks,
    which has no bearing on FFᵀ and makes the work matrix products.
    """
    n = kernel.shape[0]
    return _in_blocks(kernel, n, max(32, n // 16), 0, None, hurdle=0.1, capacity=64).factor


def rpcholesky(
    kernel: Kernel,
    m: int,
    /,
    *,
    rng: np.random.Generator | int = 0,
    rtol: float | None = None,
    check_every: int = 1,
) -> ColumnSubset:
    r"""Randomly pivoted Cholesky, one pivot at a time: drawn with probability :math:`d_i/\sum_j d_j`.

    random.Generator or an int.

    Parameters
    ----------
    kernel, m, rtol, check_every
        As in :func:`pivoted_cholesky`.
    rng : numpy.random.Generator or int
        Of m uniform draws, one a pivot.

    Returns
    -------
    ColumnSubset
        As from :func:`pivoted_cholesky`.

    Raises
    ------
    IndefiniteError, NonFiniteError, RangeError, ShapeError
        As :func:`pivoted_cholesky`.

    Notes
    -----
    Cost: (m+1)n kernel entries, nm² multiplications, by products with vectors;
    :func:`accelerated_rpcholesky` has the same law and is several times faster.

    Guarantee: :math:`E\,\mathrm{tr} R \le (1+\varepsilon)\,\mathrm{tr}(A - A_r)` if
    :math:`m \ge r/\varepsilon + r\ln(1/(\varepsilon\eta))`, :math:`\eta = \mathrm{tr}(A - A_r)/\mathrm{tr}A`
    (Chen, Epperly, Tropp and Webber 2024, Theorem 3.1).  One step leaves
    :math:`E\,A^{(1)} = A - A^2/\mathrm{tr}A`.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import kernels, landmarks
    >>> kernel = kernels.precomputed(np.diag([0.0, 2.0, 0.0, 1.0]))
    >>> found = landmarks.rpcholesky(kernel, 3, rng=0)  # the rank is 2
    >>> sorted(found.indices.tolist()), float(found.residual.sum())
    ([1, 3], 0.0)
    """
    require_kernel(kernel)
    source, seed = generator(rng)
    uniforms = source.random(require_landmarks(m, kernel.shape[0]))

    def random(residual: Array, step: int) -> Array:
        return draw(residual, uniforms[step : step + 1])

    return _one_by_one(kernel, m, random, rtol, check_every, seed)


def block_rpcholesky(
    kernel: Kernel,
    m: int,
    /,
    *,
    block: int | None = None,
    rng: np.random.Generator | int = 0,
    rtol: float | None = None,
) -> ColumnSubset:
    r"""Randomly pivoted Cholesky in blocks: all distinct pivots of a block of independent draws are kept.

    Faster than :func:`accelerated_rpcholesky` by little, and worse where a block outnumbers the columns
    that matter, as next to outliers: draws of one block do not know of each other.

    Parameters
    ----------
    kernel, m, block, rtol
        As in :func:`accelerated_rpcholesky`.
    rng : numpy.random.Generator or int
        Each round takes b uniform draws.

    Returns
    -------
    ColumnSubset
        As from :func:`pivoted_cholesky`.

    Raises
    ------
    IndefiniteError, NonFiniteError, RangeError, ShapeError
        As :func:`pivoted_cholesky`.

    Notes
    -----
    Cost: as :func:`accelerated_rpcholesky`, with nearly all proposals kept.  A block is cut to the pivots
    still wanted in the order of the draws, so that no index is favoured.  Source: Chen et al. 2024,
    Algorithm 2; departure: in place of a shifted core, draws are dropped that repeat others or whose residual
    after the others of the block is below 1 % of what they were drawn by.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import kernels, landmarks
    >>> kernel = kernels.gaussian(np.random.default_rng(0).standard_normal((300, 2)), gamma=0.1)
    >>> found = landmarks.block_rpcholesky(kernel, 30, rng=0)
    >>> found.factor.shape, bool(found.residual.sum() < 1e-3 * 300)
    ((300, 30), True)
    """
    return _in_blocks(kernel, m, block, rng, rtol, hurdle=0.01)


def accelerated_rpcholesky(
    kernel: Kernel,
    m: int,
    /,
    *,
    block: int | None = None,
    rng: np.random.Generator | int = 0,
    rtol: float | None = None,
) -> ColumnSubset:
    r"""Randomly pivoted Cholesky by rejection in blocks: the law of :func:`rpcholesky`, by matrix products.

    A round draws a block of proposals from the residual diagonal d at its start and takes them in turn.
    Proposal s is accepted with probability :math:`d'_s/d_s`, where d′ is the residual after the pivots
    accepted so far; only accepted columns are evaluated, all at once.

    Parameters
    ----------
    kernel, m, rtol
        As in :func:`pivoted_cholesky`.
    block : int, optional
        Proposals a round; by default so many that a round's :math:`b^2` entries among proposals are at most
        nm/100, at least 8 and at most m.
    rng : numpy.random.Generator or int
        Each round takes 2b uniform draws: b for the proposals, then b for their acceptance.

    Returns
    -------
    ColumnSubset
        As from :func:`pivoted_cholesky`; ``entries`` is (m+1)n and the b² of each round.

    Raises
    ------
    IndefiniteError, NonFiniteError, RangeError, ShapeError
        As :func:`pivoted_cholesky`.

    Notes
    -----
    Cost: (m+1)n kernel entries and b² a round, nm² multiplications, by matrix products over strips of
    rows; one synchronisation with the device a round, with the b × b core handled on the host.  Guarantee
    as :func:`rpcholesky`.  Source: Epperly, Tropp and Webber 2024, arXiv 2410.03969, Algorithm 2.1.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import kernels, landmarks
    >>> kernel = kernels.gaussian(np.random.default_rng(0).standard_normal((300, 2)), gamma=0.1)
    >>> found = landmarks.accelerated_rpcholesky(kernel, 30, rng=0)
    >>> found.factor.shape, bool(found.residual.sum() < 1e-3 * 300), kernel.entries < 40 * 300
    ((300, 30), True, True)
    """
    return _in_blocks(kernel, m, block, rng, rtol, hurdle=None)


_Pick: TypeAlias = Callable[[Array, int], Array]


@dataclass(kw_only=True)
class Partial(ABC):
    """A factorisation under way: ``rank`` pivots and the residual diagonal.  Where its columns are, or how they
    are made again, is the matter of the subclass."""

    xp: Any
    kernel: Kernel
    before: int
    residual: Array
    pivots: Array
    top: float
    floor: float
    alarm: float
    rank: int = 0

    @abstractmethod
    def rows(self, index: Array, width: int) -> Array:
        """The rows at ``index`` of the first ``width`` columns of the factor."""

    @abstractmethod
    def extend(self, pivots: Array, triangle: Array) -> Array:
        """Append the columns of ``pivots``, given the Cholesky factor of their residual core.

        Tells the residual diagonal less their squares; ``rank``, ``pivots`` and ``residual`` are the caller's.
        """

    def judge(self, pivot: int, size: float, lowest: float, where: int, pivots: Array, width: int) -> None:
        """Raise if a residual cannot be of a PSD matrix: ``lowest`` at ``where``, after these pivots."""
        if not np.isfinite([size, lowest]).all():
            raise NonFiniteError("kernel", f"not finite in the column of pivot {pivot}", "finite entries")
        if lowest < -self.floor - self.alarm and self.confirmed(lowest, where, pivots, width):
            _indefinite(where, lowest)

    def confirmed(self, residual: float, where: int, pivots: Array, width: int) -> bool:
        """Whether a negative residual is more than rounding can make.

        With w the weights of the pivots at ``where`` and x = (−w, 1) the residual is xᵀAx, and errors e of
        the entries shift it by e‖x‖₁², which is large where the pivots were small.
        """
        xp = self.xp
        index = from_numpy(xp, np.asarray([where], dtype=np.int64), pivots)
        rows = to_numpy(self.rows(xp.concat([pivots, index]), width)).astype(float)
        weights = np.linalg.lstsq(rows[:-1].T, rows[-1], rcond=None)[0]
        return residual < -self.alarm * float(1 + np.abs(weights).sum()) ** 2

    def compare(self, pivot: int, defect: float, other: int) -> None:
        """Raise if the entries (pivot, other) and (other, pivot) differ, where the factor suggests it."""
        if defect > self.alarm:
            there, back = ([pivot], [other]), ([other], [pivot])
            differ = abs(float((self.kernel.block(*there) - self.kernel.block(*back))[0, 0]))
            if differ > self.alarm:
                _asymmetric(pivot, differ)


@dataclass(kw_only=True)
class _Held(Partial):
    """One whose columns are held, in the first ``rank`` of ``factor``."""

    factor: Array

    def rows(self, index: Array, width: int) -> Array:
        return self.xp.take(self.factor, index, axis=0)[:, :width]

    def extend(self, pivots: Array, triangle: Array) -> Array:
        xp, rank = self.xp, self.rank
        at_pivots = transpose(self.rows(pivots, rank))
        new = slice(rank, rank + pivots.shape[0])
        if new.stop > self.factor.shape[1]:
            room = max(new.stop, min(2 * rank, self.kernel.shape[0])) - self.factor.shape[1]
            shape = (self.kernel.shape[0], room)
            more = xp.zeros(shape, dtype=self.factor.dtype, device=device_of(self.factor))
            self.factor = xp.concat([self.factor, more], axis=1)
        parts = []
        for strip in self.kernel.strips(pivots.shape[0]):
            columns = self.kernel.block(strip, pivots)
            columns -= self.factor[strip, :rank] @ at_pivots
            columns = solve_lower(triangle, columns)
            self.factor[strip, new] = columns
            parts.append(self.residual[strip] - xp.sum(columns * columns, axis=1))
        return xp.concat(parts)

    def result(self, seed: int | None) -> ColumnSubset:
        factor = self.factor if self.rank == self.factor.shape[1] else self.factor[:, : self.rank]
        entries = self.kernel.entries - self.before
        return ColumnSubset(self.pivots, None, entries, seed, factor=factor, residual=self.residual)


def _indefinite(pivot: int, size: float) -> NoReturn:
    raise IndefiniteError("kernel", f"not PSD, with residual {size:.3g} at pivot {pivot}", pivot, size)


def _asymmetric(pivot: int, size: float) -> NoReturn:
    got = f"not symmetric, with mirrored entries of pivot {pivot} that differ by {size:.3g}"
    raise IndefiniteError("kernel", got, pivot, size)


P = TypeVar("P", bound=Partial)


def begun(kind: type[P], kernel: Kernel, m: int, rtol: float | None, **own: Any) -> P:
    """A factorisation of that kind, without a column yet, from checked arguments; ``own`` is what the kind adds."""
    require_kernel(kernel)
    n = kernel.shape[0]
    m = require_landmarks(m, n)
    if rtol is not None:
        rtol = require_tolerance("rtol", rtol)
    xp, device = namespace(kernel=kernel.like), device_of(kernel.like)
    before = kernel.entries
    diagonal = kernel.diagonal()
    require_finite(xp, kernel=diagonal)
    top, least = float(xp.max(diagonal)), int(xp.argmin(diagonal))
    level = max(16 * unit_roundoff(xp, kernel.dtype) * sqrt(m), kernel.noise)
    size = float(diagonal[least])
    if size < -_ALARM * level * top:
        _indefinite(least, size)
    floor = max(0.0, (level if rtol is None else rtol) * top)
    return kind(
        xp=xp,
        kernel=kernel,
        before=before,
        residual=xp.where(diagonal > floor, diagonal, xp.zeros_like(diagonal)),
        pivots=xp.zeros((0,), dtype=xp.int64, device=device),
        top=top,
        floor=floor,
        alarm=_ALARM * level * top,
        **own,
    )


def _start(kernel: Kernel, m: int, rtol: float | None, capacity: int | None = None) -> _Held:
    require_kernel(kernel)
    n = kernel.shape[0]
    columns = min(require_landmarks(m, n), capacity or m)
    xp = namespace(kernel=kernel.like)
    factor = xp.zeros((n, columns), dtype=kernel.dtype, device=device_of(kernel.like))
    return begun(_Held, kernel, m, rtol, factor=factor)


def _one_by_one(
    kernel: Kernel, m: int, pick: _Pick, rtol: float | None, check_every: int, seed: int | None
) -> ColumnSubset:
    """Pivots chosen by ``pick(residual, step)``; the device is asked every ``check_every`` steps."""
    check_every = require_count("check_every", check_every)
    a = _start(kernel, m, rtol)
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


def _step(a: _Held, place: int, pivot: Array, order: Array) -> tuple[Array, ...]:
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


def _in_blocks(
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
    a = _start(kernel, m, rtol, capacity)
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
        _asymmetric(int(names[worst.max(axis=1).argmax()]), float(worst.max()))
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
