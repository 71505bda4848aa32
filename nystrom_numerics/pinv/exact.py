"""Pseudoinverses by factorisation."""

from __future__ import annotations

from typing import Any

from nystrom_numerics.backend import (
    Array,
    compute_dtype,
    device_of,
    floating,
    namespace,
    require_finite,
    require_matrix,
    status_tells,
)
from nystrom_numerics.errors import RangeError, Status
from nystrom_numerics.linalg import backward_residual, transpose
from nystrom_numerics.pinv.result import PinvResult

__all__ = ["svd"]


@status_tells
def svd(a: Array, /, *, rtol: float | None = None, check_finite: bool = False) -> PinvResult:
    r"""The Moore–Penrose pseudoinverse through the singular value decomposition.

    \[ A = U \Sigma V^T \quad\Rightarrow\quad A^+ = V \Sigma^+ U^T, \qquad
       \sigma_i^+ = 1/\sigma_i \text{ if } \sigma_i > \mathrm{rtol}\cdot\sigma_1, \text{ else } 0. \]

    Parameters
    ----------
    a : array (..., m, n)
        Real floating; 16-bit dtypes are computed in float32.
    rtol : float, optional
        Relative cutoff in the 2-norm, at least 0.  Default ``max(m, n) * eps`` of the dtype that is
        computed in, as in NumPy and SciPy.  A cutoff of 0 drops only singular values that are 0.
    check_finite : bool
        Raise on NaN and infinity, in place of a NaN value with status ``NON_FINITE``.

    Returns
    -------
    PinvResult
        Its residual is the relative weight of what the cutoff dropped, up to rounding.

    Raises
    ------
    DTypeError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: one SVD and one product.  Source: Golub and Van Loan, *Matrix Computations*, §5.5.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import pinv
    >>> result = pinv.svd(np.array([[2.0, 0.0], [0.0, 0.0]]))
    >>> result.value
    array([[0.5, 0. ],
           [0. , 0. ]])
    >>> result.status.name
    'CONVERGED'
    """
    xp = namespace(a=a)
    floating(xp, a=a)
    require_matrix("a", a)
    if check_finite:
        require_finite(xp, a=a)
    if rtol is not None and not 0 <= rtol < 1:
        raise RangeError("rtol", f"{rtol}", "a number in [0, 1)")

    work = xp.astype(a, compute_dtype(xp, a.dtype), copy=False)
    cutoff = max(a.shape[-2:]) * float(xp.finfo(work.dtype).eps) if rtol is None else rtol
    # one matrix with NaN would make the factorisation of the whole stack fail
    finite = xp.all(xp.isfinite(work), axis=(-2, -1))
    work = xp.where(finite[..., None, None], work, xp.zeros_like(work))

    u, sigma, vt = xp.linalg.svd(work, full_matrices=False)
    kept = sigma > cutoff * xp.max(sigma, axis=-1, keepdims=True)
    inverse = xp.where(kept, 1 / xp.where(kept, sigma, xp.ones_like(sigma)), xp.zeros_like(sigma))
    z = (transpose(vt) * inverse[..., None, :]) @ transpose(u)
    return _direct(xp, a, work, z, finite)


def _direct(xp: Any, a: Array, work: Array, z: Array, finite: Array) -> PinvResult:
    """The result of a direct method, in the dtype of ``a`` and with NaN for matrices not finite."""
    finite = finite & xp.all(xp.isfinite(z), axis=(-2, -1))
    nan = xp.full_like(z, xp.nan)
    count = xp.zeros(finite.shape, dtype=xp.int64, device=device_of(a))
    return PinvResult(
        value=xp.astype(xp.where(finite[..., None, None], z, nan), a.dtype, copy=False),
        residual=xp.where(finite, backward_residual(work, z), xp.nan),
        iterations=count,
        matmuls=count + 1,
        codes=xp.where(finite, count, int(Status.NON_FINITE)),
    )
