r"""Exact rows of S beside those of Ŝ, of one head: squared errors, what these can be at most, and their rounding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from math import inf
from typing import Any, TypeAlias

import numpy as np

from nystrom_numerics.attention.arguments import Arguments, tokens_of
from nystrom_numerics.attention.operators import blocks
from nystrom_numerics.attention.padding import hide
from nystrom_numerics.attention.rounding import UNIT, row_norms, softmax_rounding
from nystrom_numerics.backend import Array, floating, from_numpy, require_finite, to_numpy
from nystrom_numerics.bounds import Bound
from nystrom_numerics.errors import DTypeError, NonFiniteError, ShapeError
from nystrom_numerics.linalg import binary_scale, masked_softmax, transpose

__all__ = ["HELD", "Allowance", "Head", "RowMaker"]

RowMaker: TypeAlias = Callable[[Array], Array]
"""``rows_of(indices)`` gives these rows of Ŝ, (rows, n_k); it is asked for :data:`HELD` at a time at most."""

HELD = 256
"""Exact rows that are held at a time."""


@dataclass(frozen=True)
class Head:
    """Real queries, with their scale, keys and values in float64, and the rows of Ŝ by their place among the real.

    Values are divided by ``unit``, a power of two, so that no square of theirs overflows.
    """

    xp: Any
    queries: Array
    keys: Array
    values: Array
    key_mask: Array | None
    rows_of: RowMaker
    real: np.ndarray[Any, Any]
    causal: bool
    unit: float

    @classmethod
    def of(
        cls,
        a: Arguments,
        q: Array,
        k: Array,
        v: Array,
        rows_of: RowMaker,
        real: np.ndarray[Any, Any],
        causal: bool,
    ) -> Head:
        xp = a.xp
        q = xp.take(q, from_numpy(xp, real, q), axis=0)
        k, v = (hide(xp, x, a.key_mask) for x in (k, v))
        require_finite(xp, q=q, k=k, v=v)
        q, k, v = (xp.astype(x, xp.float64) for x in (q, k, v))
        unit = binary_scale(v)
        mask = None if a.key_mask is None else a.key_mask[None, :]
        return cls(xp, q * a.scale, k, v / unit, mask, rows_of, real, causal, float(unit[0, 0]))

    def errors(self, some: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Squared errors of some rows of Ŝ and of ŜV, and squared lengths of those of S, (3, rows), and the squared
        errors of the columns over these rows, (n_k,).
        """
        of_rows, of_columns = [np.zeros((3, 0))], np.zeros(self.keys.shape[0])
        for sums, squares in self.compared(some):
            of_rows.append(sums)
            of_columns += to_numpy(self.xp.sum(squares, axis=0))
        return np.concatenate(of_rows, axis=1), of_columns

    def compared(self, some: np.ndarray[Any, Any]) -> Iterator[tuple[np.ndarray[Any, Any], Array]]:
        """As :meth:`errors`, some rows at a time: their sums (3, rows), and the squared errors (rows, n_k)."""
        xp = self.xp
        for part in blocks(len(some), HELD):
            place = some[part]
            exact = self.exact(place)
            error = self._made(place) - exact
            squares = error * error
            of_output = xp.sum((error @ self.values) ** 2, axis=1)
            sums = (xp.sum(squares, axis=1), of_output, xp.sum(exact * exact, axis=1))
            found = np.stack([to_numpy(x) for x in sums])
            if not np.isfinite(found).all():
                raise NonFiniteError(
                    "q",
                    "of queries whose scores or squared errors overflow",
                    "smaller ones, or a smaller `scale`",
                )
            yield found, squares

    def exact(self, place: np.ndarray[Any, Any]) -> Array:
        """Rows of S."""
        queries = self.xp.take(self.queries, from_numpy(self.xp, place, self.queries), axis=0)
        return masked_softmax(queries @ transpose(self.keys), self._mask(place))

    def entries(self, some: np.ndarray[Any, Any]) -> int:
        """Kernel entries of some exact rows, those of masked keys apart."""
        seen = (
            np.ones(self.keys.shape[0], dtype=bool) if self.key_mask is None else to_numpy(self.key_mask)[0]
        )
        up_to = np.cumsum(seen)
        return int(up_to[self.real[some]].sum() if self.causal else len(some) * up_to[-1])

    def _mask(self, place: np.ndarray[Any, Any]) -> Array | None:
        """Which keys some rows see, (rows or 1, n_k), ``None`` for all."""
        if not self.causal:
            return self.key_mask
        past = self.real[place][:, None] >= np.arange(self.keys.shape[0])
        seen = from_numpy(self.xp, past, self.keys)
        return seen if self.key_mask is None else seen & self.key_mask

    def _made(self, place: np.ndarray[Any, Any]) -> Array:
        """Rows of Ŝ in float64, checked."""
        xp, shape = self.xp, (len(place), self.keys.shape[0])
        made = self.rows_of(from_numpy(xp, self.real[place], self.queries))
        tokens_of(q=self.queries, rows_of=made)
        if made.shape != shape:
            raise ShapeError("rows_of", f"making rows of shape {tuple(made.shape)}", f"shape {shape}")
        if not xp.isdtype(made.dtype, "real floating"):
            raise DTypeError("rows_of", f"making rows of dtype {made.dtype}", "a real floating dtype")
        require_finite(xp, rows_of=made)
        return xp.astype(made, xp.float64, copy=False)

    def given(self, name: str, x: Any, n: int) -> np.ndarray[Any, Any]:
        """Numbers for all n queries, those of the real ones."""
        floating(tokens_of(**{name: x}), **{name: x})
        if x.shape != (n,):
            raise ShapeError(name, f"of shape {tuple(x.shape)}", f"shape ({n},), one number a query")
        return np.asarray(to_numpy(x)[self.real], dtype=np.float64)

    def limits(
        self,
        caps: np.ndarray[Any, Any],
        rounding: np.ndarray[Any, Any],
        spread: np.ndarray[Any, Any] | None,
    ) -> np.ndarray[Any, Any]:
        r"""What :meth:`errors` can give at most, (3, n), rounding included.

        Rows of Ŝ are off by ``caps``; of ŜV by that times ‖V‖₂, and by ``spread``, where that is known.
        """
        n_k, relative = self.keys.shape[0], 1 + (self.keys.shape[0] + 8) * UNIT
        off = caps + self.of_exact + rounding
        size = float(np.linalg.norm(to_numpy(self.values), 2)) if n_k else 0.0
        # nothing is lost where there is nothing to lose, whatever rows are off by
        of_output = (
            np.zeros_like(off) if size == 0 else off * (size * (1 + 8 * (n_k + self.values.shape[1]) * UNIT))
        )
        if spread is not None:
            more = (self.of_exact + rounding) * size + n_k * UNIT * size * off
            of_output = np.fmin(of_output, spread / self.unit + more)
        found: np.ndarray[Any, Any] = np.stack([off, of_output, np.ones_like(off)]) ** 2 * relative**2
        return found

    @cached_property
    def of_exact(self) -> np.ndarray[Any, Any]:
        """By how much, in length, rows of S are off."""
        n_k, d = self.keys.shape
        longest = row_norms(self.xp, self.keys).max()
        return softmax_rounding(row_norms(self.xp, self.queries), longest, d, n_k)

    def allowance(self, rounding: np.ndarray[Any, Any]) -> Allowance:
        r"""That of :math:`\|\hat S - S\|_F`, see :func:`certify_rows`."""
        n_k, n = self.keys.shape[0], len(rounding)
        return Allowance((n + n_k + 8) * UNIT, float(np.linalg.norm(self.of_exact + rounding)))

    @cached_property
    def size(self) -> float:
        """‖V‖_F, of values in their unit."""
        return float(np.linalg.norm(row_norms(self.xp, self.values)))

    def of_output(self, allowance: Allowance, error: Bound) -> Allowance:
        r"""That of :math:`\|\hat SV - SV\|_F`, from that of the matrix and its error."""
        size = self.size
        above = inf if error.value is None else error.value
        product = (self.keys.shape[0] + 2) * UNIT * above
        return Allowance(allowance.relative, size * (allowance.absolute + product) if size else 0.0)


@dataclass(frozen=True)
class Allowance:
    """A computed norm x stands for one from x(1 − relative) − absolute to x(1 + relative) + absolute."""

    relative: float
    absolute: float

    def around(self, low: float, high: float) -> tuple[float, float]:
        below = low * (1 - self.relative) - self.absolute
        return max(below, 0.0), high * (1 + self.relative) + self.absolute
