r"""Bounds of a Nyström factor's error that no rounding can break.

Let B be positive semidefinite, C its columns at the landmarks, W their core, and F, L, G any matrices.  Then exactly

.. math:: B - FF^T = (I, -G)\begin{pmatrix}B & C\\ C^T & W\end{pmatrix}(I, -G)^T + E,\qquad
          E = GD_C^T + D_CG^T - D_FD_F^T - GD_WG^T,

with :math:`D_C = C - FL^T`, :math:`D_F = GL - F` and :math:`D_W = W - LL^T`: the first part is PSD, and the second is
bounded by residuals of the stored numbers, each enclosed (:mod:`~nystrom_numerics.enclosures`).
"""

from __future__ import annotations

from math import sqrt

from nystrom_numerics.backend import Array, device_of, namespace, unit_roundoff
from nystrom_numerics.bounds.result import Certificate, Hypothesis, Norm, Side, bound
from nystrom_numerics.enclosures import UP, accurate, size
from nystrom_numerics.errors import IndefiniteError, NonFiniteError
from nystrom_numerics.kernels import Kernel
from nystrom_numerics.landmarks import ColumnSubset
from nystrom_numerics.linalg import transpose
from nystrom_numerics.lowrank import NystromFactor

__all__ = ["ENTRY", "rigorous_nystrom"]

ENTRY = 4.0
"""Units of roundoff that an entry may be off, beside the kernel's ``noise``."""


def rigorous_nystrom(kernel: Kernel, factor: NystromFactor, norm: Norm) -> Certificate:
    r"""The sandwich by diagonal and trace, with all rounding in it.

    .. math:: \max_i|d_i| \le \|A - FF^T\|_2,\qquad \Bigl(\sum_id_i^2\Bigr)^{1/2} \le \|A - FF^T\|_F,\qquad
              \sum_i|d_i| \le \|A - FF^T\|_*,\qquad
              \|A - FF^T\| \le \sum_id_i + 2\|E\|_* + \|A - B\| + n\nu a,

    d the diagonal of A − FFᵀ, a the largest of A, and B a PSD matrix within νa of A, entry by entry.
    """
    xp = namespace(f=factor.factor)
    f, triangle = (xp.astype(x, xp.float64) for x in (factor.factor, factor.triangle))
    n, r = f.shape
    diagonal = xp.astype(kernel.diagonal(), xp.float64)
    largest = float(xp.max(diagonal))
    squares = xp.sum(f * f, axis=1)
    residual = diagonal - squares
    entry = UP * (ENTRY * unit_roundoff(xp, kernel.dtype) + kernel.noise) * abs(largest)
    # a kernel may give its diagonal and its blocks differently
    off = UP * (r + 3) * 2.0**-53 * (xp.abs(diagonal) + squares) + r * 2.0**-1021 + 2 * entry
    made = _not_psd(kernel, factor, f, triangle, entry)

    spread = float(xp.sum(off)) + 2 * n * 2.0**-53 * float(xp.sum(xp.abs(residual)))
    trace = float(xp.sum(residual)) + UP * spread
    least = float(xp.min(residual + off))
    if least < -UP * (made + entry):
        raise IndefiniteError(
            "kernel", f"not PSD, with residual {least:.3g}", int(xp.argmin(residual)), least
        )
    beyond = UP * (2 * made + n * entry + n * entry * (sqrt(n) if norm is Norm.TRACE else 1.0))
    small = xp.clip(xp.abs(residual) - off, min=0.0)
    low = {
        Norm.SPECTRAL: xp.max(small),
        Norm.FROBENIUS: xp.linalg.vector_norm(small),
        Norm.TRACE: xp.sum(small),
    }[norm]
    high, low = UP * max(trace + beyond, 0.0), float(low) * (1 - 2 * (n + 4) * 2.0**-53)
    if not high < float("inf"):
        raise NonFiniteError("factor", "one whose error cannot be bounded by floats", "finite entries")
    known = float(xp.sum(diagonal)) + n * entry
    source = "R ⪰ 0 up to what rounding made: diagonal and trace, all rounding enclosed"
    assumed = Hypothesis(
        f"every entry is within {entry:.2g} of a positive semidefinite matrix",
        True,
        f"no residual on the diagonal below {least:.2g} contradicts it",
    )
    lower = bound(low, Side.LOWER, norm, source, trivial=0.0)
    upper = bound(high, Side.UPPER, norm, source, trivial=known, holds_under=(assumed,))
    return Certificate(lower, None, upper)


def _not_psd(kernel: Kernel, factor: NystromFactor, f: Array, triangle: Array, entry: float) -> float:
    """‖E‖_* at most; nr + r² entries."""
    xp = namespace(f=f)
    n, r = f.shape
    if not r:
        return 0.0
    split = xp.finfo(kernel.dtype).bits == 64
    if isinstance(factor.landmarks, ColumnSubset):
        chosen = xp.take(factor.landmarks.indices, factor.kept)
        columns, core = kernel.columns(chosen), kernel.block(chosen, chosen)
    else:
        points = xp.take(factor.landmarks.points, factor.kept, axis=0)
        columns, core = kernel.cross(points), kernel.between(points, points)
    columns, core = (xp.astype(x, xp.float64) for x in (columns, core))
    one = xp.eye(r, dtype=f.dtype, device=device_of(f))
    weights = f @ xp.linalg.solve(triangle, one)
    g = float(size(weights))
    in_columns = float(accurate(f, transpose(triangle), minus=columns, split=split).size)
    in_core = float(accurate(triangle, transpose(triangle), minus=core, split=split).size)
    in_factor = float(accurate(weights, triangle, minus=f, split=True).size)
    in_columns += sqrt(n * r) * entry
    in_core += r * entry
    return float(UP * (2 * g * in_columns + in_factor * in_factor + g * g * in_core))
