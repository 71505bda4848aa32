r"""A pivoted Cholesky factorisation under way: its columns, its residual diagonal, and what speaks against PSD."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import sqrt
from typing import Any, NoReturn, TypeVar

import numpy as np

from nystrom_numerics.arguments import require_tolerance
from nystrom_numerics.backend import (
    Array,
    device_of,
    from_numpy,
    namespace,
    require_finite,
    to_numpy,
    unit_roundoff,
)
from nystrom_numerics.errors import IndefiniteError, NonFiniteError
from nystrom_numerics.kernels import Kernel
from nystrom_numerics.kernels.arguments import require_kernel
from nystrom_numerics.landmarks.draws import require_landmarks
from nystrom_numerics.landmarks.result import ColumnSubset
from nystrom_numerics.linalg import transpose
from nystrom_numerics.solves import solve_lower

__all__ = ["Held", "Partial", "asymmetric", "begun", "started"]

_ALARM = 64.0
"""How many times the rounding level a residual must be negative to speak of an indefinite matrix."""


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
                asymmetric(pivot, differ)


@dataclass(kw_only=True)
class Held(Partial):
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


def asymmetric(pivot: int, size: float) -> NoReturn:
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


def started(kernel: Kernel, m: int, rtol: float | None, capacity: int | None = None) -> Held:
    require_kernel(kernel)
    n = kernel.shape[0]
    columns = min(require_landmarks(m, n), capacity or m)
    xp = namespace(kernel=kernel.like)
    factor = xp.zeros((n, columns), dtype=kernel.dtype, device=device_of(kernel.like))
    return begun(Held, kernel, m, rtol, factor=factor)
