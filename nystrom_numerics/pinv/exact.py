"""Pseudoinverses by factorisation: exact, truncated and regularised.

In Torch each has its derivative in closed form, instead of that of the factorisation: it exists where singular
values repeat, and needs no more memory than the factors.
"""

from __future__ import annotations

from collections.abc import Callable
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
    with_vjp,
)
from nystrom_numerics.errors import RangeError, ShapeError, Status
from nystrom_numerics.linalg import all_finite, backward_residual, frobenius, transpose
from nystrom_numerics.pinv.result import PinvResult
from nystrom_numerics.pinv.solving import pseudoinverse_vjp, rank_revealing
from nystrom_numerics.pinv.spectral import (
    Response,
    spectral_forward,
    spectral_vjp,
    tikhonov_response,
    truncated_response,
)

__all__ = ["complete_orthogonal", "hermitian", "svd", "tikhonov", "truncated"]

# takes the namespace and the matrices in the dtype to compute in; gives Z and what the derivative needs
_Forward = Callable[[Any, Array], tuple[Array, tuple[Array, ...]]]


@status_tells
def svd(a: Array, /, *, rtol: float | None = None, check_finite: bool = False) -> PinvResult:
    r"""The Moore–Penrose pseudoinverse through the singular value decomposition.

    .. math:: A = U \Sigma V^T \;\Rightarrow\; A^+ = V \Sigma^+ U^T, \qquad
              \sigma_i^+ = 1/\sigma_i \text{ if } \sigma_i > \mathrm{rtol}\cdot\sigma_1, \text{ else } 0.

    Parameters
    ----------
    a : array (..., m, n)
        Real floating; 16-bit dtypes are computed in float32.
    rtol : float, optional
        Relative cutoff in the 2-norm, in [0, 1).  Default ``max(m, n) * eps`` of the dtype that is
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
    Cost: one SVD and one product.  Source: Golub and Van Loan, *Matrix Computations*, §5.5.  Derivative: exact
    for what is computed as long as no singular value crosses the cutoff; for the pseudoinverse itself that is
    the hypothesis of constant rank.

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
    if rtol is not None and not 0 <= rtol < 1:
        raise RangeError("rtol", f"{rtol}", "a number in [0, 1)")
    return _by_singular_values(
        a, lambda xp, sigma: truncated_response(xp, sigma, _cutoff(xp, a, rtol)), check_finite
    )


def truncated(a: Array, /, *, cutoff: float, check_finite: bool = False) -> PinvResult:
    r"""The ε-pseudoinverse: singular values up to ``cutoff`` times the largest are dropped, by choice.

    The same computation as :func:`svd`, for a cutoff that is a modelling decision and has no default.
    """
    return svd(a, rtol=cutoff, check_finite=check_finite)


@status_tells
def tikhonov(a: Array, /, *, ridge: float, check_finite: bool = False) -> PinvResult:
    r"""The Tikhonov-regularised inverse :math:`(A^TA + \lambda I)^{-1}A^T`.

    Singular values respond with :math:`\sigma/(\sigma^2 + \lambda)`; the one at :math:`\sqrt\lambda` is inverted
    by half.

    Parameters
    ----------
    a : array (..., m, n)
    ridge : float
        λ > 0, in the units of :math:`\sigma^2`.
    check_finite : bool
        As in :func:`svd`, which also says what is raised.

    Notes
    -----
    Cost: one SVD and one product; AᵀA is not formed, which would square the condition.  Source: Tikhonov 1963;
    Hansen, *Rank-Deficient and Discrete Ill-Posed Problems*, §5.1.  Derivative: exact everywhere.
    """
    if not 0 < ridge < float("inf"):
        raise RangeError("ridge", f"{ridge}", "a finite number above 0")
    return _by_singular_values(a, lambda xp, sigma: tikhonov_response(xp, sigma, ridge), check_finite)


@status_tells
def hermitian(a: Array, /, *, rtol: float | None = None, check_finite: bool = False) -> PinvResult:
    r"""The pseudoinverse of symmetric matrices through their eigenvalues: :math:`A^+ = Q\Lambda^+Q^T`.

    ``rtol`` is relative to the largest modulus of an eigenvalue and as in :func:`svd`.

    Raises
    ------
    ShapeError, RangeError
        ``a`` is not square, or not symmetric to a relative :math:`10\,n\,\mathrm{eps}` (one synchronisation).
        Others as in :func:`svd`.

    Notes
    -----
    Cost: one symmetric eigendecomposition, about a third of an SVD, and one product.  The derivative is that
    along symmetric perturbations, symmetrised.
    """
    if rtol is not None and not 0 <= rtol < 1:
        raise RangeError("rtol", f"{rtol}", "a number in [0, 1)")
    xp = namespace(a=a)
    floating(xp, a=a)
    require_matrix("a", a)
    if a.shape[-1] != a.shape[-2]:
        raise ShapeError("a", f"of shape {tuple(a.shape)}", "square matrices")
    skew, size = frobenius(a - transpose(a)), frobenius(a)
    allowed = 10 * a.shape[-1] * float(xp.finfo(a.dtype).eps)
    if bool(xp.any(skew > allowed * size)):
        worst = float(xp.max(skew / xp.where(size > 0, size, xp.ones_like(size))))
        raise RangeError("a", f"asymmetric by {worst:.1e}", "symmetric matrices")

    def forward(xp: Any, work: Array) -> tuple[Array, tuple[Array, ...]]:
        values, vectors = xp.linalg.eigh(work)
        size = xp.abs(values)
        response = truncated_response(xp, size, _cutoff(xp, work, rtol))
        return (vectors * (response.value * xp.sign(values))[..., None, :]) @ transpose(vectors), (
            values,
            vectors,
        )

    def vjp(cotangent: Array, values: Array, vectors: Array) -> tuple[Array]:
        sign = xp.sign(values)
        response = truncated_response(xp, xp.abs(values), _cutoff(xp, values, rtol, values.shape[-1]))
        # the divided difference of an odd f at ±|λ|: signs that agree meet the symmetric one
        agree = sign[..., :, None] * sign[..., None, :] >= 0
        weight = xp.where(agree, response.symmetric(), response.antisymmetric())
        g = (cotangent + transpose(cotangent)) / 2
        return (vectors @ (weight * (transpose(vectors) @ g @ vectors)) @ transpose(vectors),)

    return _direct(a, forward, vjp, check_finite)


def complete_orthogonal(a: Array, /, *, rtol: float | None = None, check_finite: bool = False) -> PinvResult:
    r"""The pseudoinverse through a rank-revealing complete orthogonal factorisation.

    .. math:: AP = Q\begin{pmatrix}T & 0\\ 0 & 0\end{pmatrix}W^T \;\Rightarrow\;
              A^+ = PW\begin{pmatrix}T^{-1} & 0\\ 0 & 0\end{pmatrix}Q^T.

    Several times faster than :func:`svd`; where A⁺ is only applied, :func:`~nystrom_numerics.pinv.solve` is
    faster still.  Parameters, result and errors are those of :func:`svd`; ``rtol`` bounds the reciprocal
    condition of the triangle kept, which may keep one singular value more or fewer than an SVD near the cutoff.

    Notes
    -----
    Cost: two QR factorisations and a triangular solve.  Source: Golub and Van Loan, §5.4.7.  Derivative: Golub
    and Pereyra 1973, eq. (4.12), at constant rank.
    """
    if rtol is not None and not 0 <= rtol < 1:
        raise RangeError("rtol", f"{rtol}", "a number in [0, 1)")

    def forward(xp: Any, work: Array) -> tuple[Array, tuple[Array, ...]]:
        m = work.shape[-2]
        eye = xp.eye(m, dtype=work.dtype, device=device_of(work))
        z = rank_revealing(work, xp.broadcast_to(eye, (*work.shape[:-2], m, m)), rtol=rtol)
        return z, (work, z)

    return _direct(a, forward, lambda c, work, z: (pseudoinverse_vjp(c, work, z),), check_finite)


def _cutoff(xp: Any, a: Array, rtol: float | None, size: int | None = None) -> float:
    longest = max(a.shape[-2:]) if size is None else size
    eps = float(xp.finfo(compute_dtype(xp, a.dtype)).eps)
    return longest * eps if rtol is None else rtol


def _by_singular_values(
    a: Array, response_of: Callable[[Any, Array], Response], check_finite: bool
) -> PinvResult:
    def forward(xp: Any, work: Array) -> tuple[Array, tuple[Array, ...]]:
        u, sigma, vt = xp.linalg.svd(work, full_matrices=False)
        return spectral_forward(u, vt, response_of(xp, sigma)), (u, sigma, vt)

    def vjp(cotangent: Array, u: Array, sigma: Array, vt: Array) -> tuple[Array]:
        return (spectral_vjp(cotangent, u, vt, response_of(namespace(sigma=sigma), sigma)),)

    return _direct(a, forward, vjp, check_finite)


def _direct(a: Array, forward: _Forward, vjp: Callable[..., tuple[Array]], check_finite: bool) -> PinvResult:
    """Run a direct method in the dtype to compute in, with NaN and its status for matrices not finite."""
    xp = namespace(a=a)
    floating(xp, a=a)
    require_matrix("a", a)
    if check_finite:
        require_finite(xp, a=a)

    def run(a: Array) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        work = xp.astype(a, compute_dtype(xp, a.dtype), copy=False)
        # one matrix with NaN would make the factorisation of the whole stack fail
        finite = all_finite(work)
        work = xp.where(finite[..., None, None], work, xp.zeros_like(work))
        z, saved = forward(xp, work)
        value = xp.astype(z, a.dtype, copy=False)
        finite = finite & all_finite(value)
        value = xp.where(finite[..., None, None], value, xp.full_like(value, xp.nan))
        residual = xp.where(finite, backward_residual(work, z), xp.nan)
        return (value, residual, finite), saved

    def derivative(cotangent: Array, *saved: Array) -> tuple[Array, ...]:
        (of_work,) = vjp(xp.astype(cotangent, saved[0].dtype, copy=False), *saved)
        return (xp.astype(of_work, a.dtype, copy=False),)

    value, residual, finite = with_vjp(run, derivative, a)
    count = xp.zeros(finite.shape, dtype=xp.int64, device=device_of(a))
    return PinvResult(
        value=value,
        residual=residual,
        iterations=count,
        matmuls=count + 1,
        codes=xp.where(finite, count, int(Status.NON_FINITE)),
    )
