r"""What rounding leaves of a theorem: allowances for the error of a factor that exact arithmetic would not have.

With L the triangle of the landmarks kept and :math:`X = (-FL^{-1}, I)`, what a stored factor leaves of a stored
matrix is, to first order,

.. math:: A - FF^T = XAX^T + E,\qquad \|E\|_2 \le \|E\|_F \le e\,a\,H,\qquad H = \|X\|_F^2,\quad a = \max_ia_{ii},

where e is how far an entry of :math:`FL^T` is from that of A, and A from that of a positive semidefinite (PSD)
matrix, relative to a.  The first part is PSD for a PSD matrix, so that bounds that rest on it hold once E is allowed
for.  Errors of rounding are taken as independent with mean zero, for which a sum of r of them grows as √r (Higham and
Mary 2019); the constants are four times what
was met on some thousands of factors, in float32 and float64.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import sqrt

from nystrom_numerics.backend import Array, namespace, unit_roundoff
from nystrom_numerics.bounds.result import Bound, Norm, Side
from nystrom_numerics.kernels import Kernel
from nystrom_numerics.linalg import transpose
from nystrom_numerics.lowrank import NystromFactor

__all__ = ["Rounding", "nystrom_rounding", "widened"]

_SUM, _ENTRY = 2.0, 4.0
"""Units of roundoff of a sum, by the root of its length, and of a kernel entry, after a few operations."""

_NORMS = (Norm.SPECTRAL, Norm.FROBENIUS, Norm.TRACE)


@dataclass(frozen=True)
class Rounding:
    """How far rounding takes A − FFᵀ from what exact arithmetic would give.

    Attributes
    ----------
    diagonal : float
        An entry of its diagonal, as it is known.
    amplification : float
        H.
    spectral, frobenius, trace : float
        Norms of E, what is not PSD in it.
    """

    diagonal: float
    amplification: float
    spectral: float
    frobenius: float
    trace: float

    def of(self, norm: Norm) -> float:
        return (self.spectral, self.frobenius, self.trace)[_NORMS.index(norm)]


def nystrom_rounding(
    kernel: Kernel, factor: NystromFactor, residual: Array, /, negative: float | None = None
) -> Rounding:
    r"""The allowances for a Nyström factor of a kernel, with the diagonal (n,) of what it leaves.

    Entries may be off by the kernel's ``noise``, its diagonal and its columns differently; ``negative`` is minus its
    least eigenvalue, where that is known.

    Notes
    -----
    Cost: no kernel entry; :math:`FL^{-1}`, nr² multiplications, memory nr.  The part of E that the factor makes has
    rank 2r at most, so that its trace norm is at most :math:`\sqrt{2r}` times its Frobenius norm; that of the
    entries' own error is full.  A part :math:`A_-` of the matrix that is negative adds
    :math:`XA_-X^T`, whose norms are at most its trace, and that at most :math:`\|A_-\|_2H`.
    """
    xp = namespace(f=factor.factor)
    largest = float(xp.max(residual + factor.diagonal()))
    n, r = factor.factor.shape
    u = unit_roundoff(xp, factor.factor.dtype)
    amplification = float(n)
    if r:
        weights = xp.linalg.solve(transpose(factor.triangle), transpose(factor.factor))
        amplification += float(xp.sum(xp.astype(weights, xp.float64) ** 2))
    made, stored = _SUM * sqrt(r + 1) * u, _ENTRY * u + kernel.noise
    size, below = largest * amplification, (negative or 0.0) * amplification
    whole = (made + stored) * size + below
    trace = (sqrt(2 * r) * made + sqrt(n) * stored) * size + below
    return Rounding(((r + 2 + _ENTRY) * u + kernel.noise) * largest, amplification, whole, whole, trace)


def widened(found: Bound, amount: float, trivial: float) -> Bound:
    """The bound after an allowance, which an upper one adds and a lower one gives up."""
    if found.value is None or not amount:
        return found
    if found.side is Side.LOWER:
        value = max(found.value - amount, 0.0)
        return replace(found, value=value, vacuous=value <= 0)
    value = found.value + amount
    return replace(found, value=value, vacuous=value >= trivial > 0)
