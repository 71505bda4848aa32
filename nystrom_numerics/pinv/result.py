"""What every pseudoinverse returns."""

from __future__ import annotations

from dataclasses import dataclass

from nystrom_numerics.backend import Array, worst_status
from nystrom_numerics.brief import brief
from nystrom_numerics.errors import Status

__all__ = ["PinvResult"]


@dataclass(frozen=True)
class PinvResult:
    r"""An approximate pseudoinverse :math:`Z \approx A^+` with its story, per matrix of the stack.

    Attributes
    ----------
    value : array (..., n, m)
        Z, in the dtype of A, real or complex; NaN where the status is ``NON_FINITE``.
    residual : array (...), real
        The relative backward residual :math:`\|AZA - A\|_F/\|A\|_F`.
    iterations : array (...) of int
        Steps taken; 0 for direct methods.
    matmuls : array (...) of int
        Matrix products that formed the value.  Residuals cost extra: one product a check and two
        at the end.
    codes : array (...) of int
        The :class:`~nystrom_numerics.errors.Status` of each matrix.
    history : array (iterates, ...), real, or None
        The residual of the start and after each step, where an iteration was asked for it with ``history=True``; NaN
        once a matrix has stopped.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import pinv
    >>> result = pinv.newton_schulz(np.diag([1.0, 0.5])[None], tol=1e-9)
    >>> result.value.shape, result.residual.shape, int(result.matmuls[0]), result.status.name
    ((1, 2, 2), (1,), 14, 'CONVERGED')
    """

    value: Array
    residual: Array
    iterations: Array
    matmuls: Array
    codes: Array
    history: Array | None = None

    __repr__ = brief

    @property
    def status(self) -> Status:
        """The worst status in the stack (synchronises with the device)."""
        return worst_status(self.codes)
