r"""What rounding to float64 may change in a softmax, from its scores' sizes."""

from __future__ import annotations

from typing import Any

import numpy as np

from nystrom_numerics.backend import Array, to_numpy

__all__ = ["UNIT", "row_norms", "softmax_rounding"]

UNIT = 2.0**-53
"""u, the unit roundoff of float64."""


def row_norms(xp: Any, x: Array) -> np.ndarray[Any, Any]:
    """Euclidean lengths of the rows of x (n, d) in float64, on the host; no square overflows or vanishes."""
    top = xp.max(xp.abs(x), axis=1, keepdims=True)
    scaled = x / xp.where(top > 0, top, xp.ones_like(top))
    return to_numpy(top[:, 0] * xp.sqrt(xp.sum(scaled * scaled, axis=1)))


def softmax_rounding(queries: np.ndarray[Any, Any], key: float, d: int, n: int) -> np.ndarray[Any, Any]:
    r"""Relative errors of the entries of rows of softmax(QKᵀ), at most, one a row.

    With a = ‖q‖‖k‖ for the longest key and d columns, a score is off by (d + 1)ua, scaling of q included, and its
    difference from the peak by 2ua more; each of numerator and denominator by a factor of that exponent, and 4u for
    the exponential; the sum of n by nu and the quotient by u.  The error of the peak itself cancels.  So entries have
    the relative error :math:`e^{2(d+4)ua + (n+10)u} - 1` (Higham 2002, §3.1, for the products).

    Parameters
    ----------
    queries : array (rows,)
        Lengths of the queries, the scale included.
    key : float
        The largest length of a key.
    d, n : int
        Columns of the keys, and keys.
    """
    with np.errstate(over="ignore"):
        return np.expm1((2 * (d + 4) * queries * key + n + 10) * UNIT)
