r"""What an operator knows of the errors of its own rows, without a kernel entry of S: a prediction and a bound.

An operator may have ``row_errors()``; none must.  A certificate looks first where errors are predicted, and bets
on what
they cannot exceed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from nystrom_numerics.brief import brief

__all__ = ["KnowsItsErrors", "RowErrors"]

Numbers = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class RowErrors:
    r"""Of the rows :math:`\hat S_i - S_i` of every item (..., n_q), on the host; of masked queries anything.

    Attributes
    ----------
    predicted : array (..., n_q)
        Their squared lengths, about; not trusted.
    largest : array (..., n_q)
        Bounds of their lengths.
    suspicion : array (..., n_q)
        Grows with what the bound would be if nothing capped it.
    variation : array (..., n_q)
        Bounds of their total variations, half of their ℓ1 lengths, where rows are stochastic; infinity elsewhere.
    """

    predicted: Numbers
    largest: Numbers
    suspicion: Numbers
    variation: Numbers

    __repr__ = brief

    def of(self, place: tuple[int, ...]) -> RowErrors:
        """Those of one item."""
        return RowErrors(*(getattr(self, name)[place] for name in self.__dataclass_fields__))


@runtime_checkable
class KnowsItsErrors(Protocol):
    """An operator that knows something of its errors."""

    def row_errors(self) -> RowErrors | None:
        """``None`` where it does not, after all."""
