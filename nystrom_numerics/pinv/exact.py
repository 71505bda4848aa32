"""Pseudoinverses by factorisation: exact, truncated and regularised.

In Torch each has its derivative in closed form, instead of that of the factorisation: it exists where singular
values repeat, and needs no more memory than the factors.
"""

from __future__ import annotations

from collections.abc import Callable
from math import frexp, ldexp
from typing import Any

from nystrom_numerics.arguments import require_flag, require_positive, require_tolerance
from nystrom_numerics.backend import (
    Array,
    compute_dtype,
    device_of,
    namespace,
    real_or_complex,
    require_finite,
    require_matrix,
    status_tells,
    with_vjp,
)
from nystrom_numerics.errors import RangeError, ShapeError, Status
from nystrom_numerics.linalg import adjoint, all_finite, backward_residual, binary_scale, frobenius
from nystrom_numerics.pinv.result import PinvResult
from nystrom_numerics.pinv.solving import factorised, pseudoinverse_vjp
from nystrom_numerics.pinv.spectral import (
    Response,
    spectral_forward,
    spectral_vjp,
    tikhonov_response,
    truncated_response,
)

__all__ = ["complete_orthogonal", "hermitian", "svd", "tikhonov", "truncated"]

# takes the namespace and A/s for the powers of two s (..., 1, 1), one a matrix; gives sZ and what the derivative needs
_Forward = Callable[[Any, Array, Array], tuple[Array, tuple[Array, ...]]]
# takes a cotangent of sZ, s, and what the derivative needs; gives that of A/s
_Vjp = Callable[..., Array]


@status_tells
def svd(a: Array, /, *, rtol: float | None = None, check_finite: bool = False) -> PinvResult:
    r"""The Moore–Penrose pseudoinverse through the singular value decomposition.

    .. math:: A = U \Sigma V^H \;\Rightarrow\; A^+ = V \Sigma^+ U^H, \qquad
              \sigma_i^+ = 1/\sigma_i \text{ if } \sigma_i > \mathrm{rtol}\cdot\sigma_1, \text{ else } 0.

    Parameters
    ----------
    a : array (..., m, n)
        Real or complex floating; 16-bit dtypes are computed in float32.  Each matrix is first divided by a power of
        two, which is exact, so that huge and tiny entries are harmless.
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
    DTypeError, KindError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: one SVD and one product.  Source: Golub and Van Loan, *Matrix Computations*, §5.5.  Derivative: exact
    for what is computed as long as no singular value crosses the cutoff; for the pseudoinverse itself that is
    the hypothesis of constant rank.  Of complex matrices it is that of Torch's convention, ∂L/∂Re A + i ∂L/∂Im A.

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
    rtol = None if rtol is None else require_tolerance("rtol", rtol)
    return _by_singular_values(
        a, lambda xp, sigma, _: truncated_response(xp, sigma, _cutoff(xp, a, rtol)), check_finite
    )


def truncated(a: Array, /, *, cutoff: float, check_finite: bool = False) -> PinvResult:
    r"""The ε-pseudoinverse: singular values up to ``cutoff`` times the largest are dropped, by choice.

    The same computation as :func:`svd`, for a cutoff that is a modelling decision and has no default.

    Parameters
    ----------
    a, check_finite
        As in :func:`svd`.
    cutoff : float
        ε in [0, 1), relative to the largest singular value.

    Returns
    -------
    PinvResult
        As from :func:`svd`.

    Raises
    ------
    DTypeError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: that of :func:`svd`.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import pinv
    >>> np.diag(pinv.truncated(np.diag([2.0, 0.1]), cutoff=0.1).value)
    array([0.5, 0. ])
    """
    return svd(a, rtol=require_tolerance("cutoff", cutoff), check_finite=check_finite)


@status_tells
def tikhonov(a: Array, /, *, ridge: float, check_finite: bool = False) -> PinvResult:
    r"""The Tikhonov-regularised inverse :math:`(A^HA + \lambda I)^{-1}A^H`.

    Singular values respond with :math:`\sigma/(\sigma^2 + \lambda)`; the one at :math:`\sqrt\lambda` is inverted
    by half.

    Parameters
    ----------
    a, check_finite
        As in :func:`svd`.
    ridge : float
        λ > 0, in the units of :math:`\sigma^2`.

    Returns
    -------
    PinvResult
        Its residual is what the ridge leaves: AZA misses σ by σλ/(σ² + λ).

    Raises
    ------
    DTypeError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: one SVD and one product; AᴴA is not formed, which would square the condition.  Source: Tikhonov 1963;
    Hansen, *Rank-Deficient and Discrete Ill-Posed Problems*, §5.1.  Derivative: exact everywhere.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import pinv
    >>> np.diag(pinv.tikhonov(np.diag([2.0, 0.1, 0.0]), ridge=0.01).value).round(3)
    array([0.499, 5.   , 0.   ])
    """
    root = require_positive("ridge", ridge) ** 0.5
    return _by_singular_values(
        a, lambda xp, sigma, s: tikhonov_response(xp, sigma, _root(xp, s, root) / s), check_finite, root
    )


@status_tells
def hermitian(a: Array, /, *, rtol: float | None = None, check_finite: bool = False) -> PinvResult:
    r"""The pseudoinverse of symmetric or Hermitian matrices through their eigenvalues: :math:`A^+ = Q\Lambda^+Q^H`.

    Parameters
    ----------
    a : array (..., n, n)
        Its own adjoint to a relative :math:`10\,n\,\mathrm{eps}`, a tenth in 16-bit dtypes.
    rtol : float, optional
        As in :func:`svd`, relative to the largest modulus of an eigenvalue.
    check_finite : bool
        As in :func:`svd`.

    Returns
    -------
    PinvResult
        As from :func:`svd`.

    Raises
    ------
    ShapeError, RangeError
        ``a`` is not square, or not its own adjoint (one synchronisation).  Others as in :func:`svd`.

    Notes
    -----
    Cost: one symmetric eigendecomposition, about a third of an SVD, and one product.  The derivative is that
    along Hermitian perturbations, symmetrised.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import pinv
    >>> pinv.hermitian(np.array([[0.0, 2.0], [2.0, 0.0]])).value.round(6)
    array([[0. , 0.5],
           [0.5, 0. ]])
    """
    rtol = None if rtol is None else require_tolerance("rtol", rtol)
    xp = namespace(a=a)
    real_or_complex(xp, a=a)
    require_matrix("a", a)
    if a.shape[-1] != a.shape[-2]:
        raise ShapeError("a", f"of shape {tuple(a.shape)}", "square matrices")
    unit = xp.astype(a, compute_dtype(xp, a.dtype), copy=False)
    unit = unit / binary_scale(unit)
    skew, size = frobenius(unit - adjoint(unit)), frobenius(unit)
    allowed = min(10 * a.shape[-1] * float(xp.finfo(a.dtype).eps), 0.1)
    if bool(xp.any(skew > allowed * size)):
        worst = float(xp.max(skew / xp.where(size > 0, size, xp.ones_like(size))))
        raise RangeError("a", f"asymmetric by {worst:.1e}", "symmetric or Hermitian matrices")

    def forward(xp: Any, work: Array, _: Array) -> tuple[Array, tuple[Array, ...]]:
        values, vectors = xp.linalg.eigh(work)
        response = truncated_response(xp, xp.abs(values), _cutoff(xp, work, rtol))
        z = (vectors * (response.value * xp.sign(values))[..., None, :]) @ adjoint(vectors)
        return z, (values, vectors)

    def vjp(cotangent: Array, _: Array, values: Array, vectors: Array) -> Array:
        sign = xp.sign(values)
        response = truncated_response(xp, xp.abs(values), _cutoff(xp, vectors, rtol))
        # the divided difference of an odd f at ±|λ|: signs that agree meet the symmetric one
        agree = sign[..., :, None] * sign[..., None, :] >= 0
        weight = xp.where(agree, response.symmetric(), response.antisymmetric())
        g = (cotangent + adjoint(cotangent)) / 2
        return vectors @ (weight * (adjoint(vectors) @ g @ vectors)) @ adjoint(vectors)

    return _direct(a, forward, vjp, check_finite)


@status_tells
def complete_orthogonal(a: Array, /, *, rtol: float | None = None, check_finite: bool = False) -> PinvResult:
    r"""The pseudoinverse through a rank-revealing complete orthogonal factorisation.

    .. math:: AP = Q\begin{pmatrix}T & 0\\ 0 & 0\end{pmatrix}W^H \;\Rightarrow\;
              A^+ = PW\begin{pmatrix}T^{-1} & 0\\ 0 & 0\end{pmatrix}Q^H.

    Several times faster than :func:`svd`; where A⁺ is only applied, :func:`~nystrom_numerics.pinv.solve` is
    faster still, and :func:`~nystrom_numerics.pinv.rank_revealing` says how it is computed.

    Parameters
    ----------
    a, check_finite
        As in :func:`svd`.
    rtol : float, optional
        Bounds the reciprocal condition of the triangle kept, which may keep one singular value more or fewer than an
        SVD near the cutoff; default as in :func:`svd`.

    Returns
    -------
    PinvResult
        As from :func:`svd`.

    Raises
    ------
    DTypeError, KindError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: two QR factorisations and a triangular solve.  Source: Golub and Van Loan, §5.4.7.  Derivative: Golub
    and Pereyra 1973, eq. (4.12), at constant rank.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import pinv
    >>> result = pinv.complete_orthogonal(np.array([[2.0, 2.0], [2.0, 2.0]]))
    >>> result.value.round(6), bool(result.residual < 1e-14)
    (array([[0.125, 0.125],
           [0.125, 0.125]]), True)
    """
    rtol = None if rtol is None else require_tolerance("rtol", rtol)

    def forward(xp: Any, work: Array, _: Array) -> tuple[Array, tuple[Array, ...]]:
        m = work.shape[-2]
        eye = xp.eye(m, dtype=work.dtype, device=device_of(work))
        z = factorised(work, xp.broadcast_to(eye, (*work.shape[:-2], m, m)), _cutoff(xp, work, rtol))
        return z, (work, z)

    return _direct(a, forward, lambda c, _, work, z: pseudoinverse_vjp(c, work, z), check_finite)


def _cutoff(xp: Any, a: Array, rtol: float | None) -> float:
    return max(a.shape[-2:]) * float(xp.finfo(compute_dtype(xp, a.dtype)).eps) if rtol is None else rtol


def _by_singular_values(
    a: Array, response_of: Callable[[Any, Array, Array], Response], check_finite: bool, root: float = 0.0
) -> PinvResult:
    """By a response to the singular values of A/s (..., k), given s (..., 1)."""

    def forward(xp: Any, work: Array, scale: Array) -> tuple[Array, tuple[Array, ...]]:
        u, sigma, vh = xp.linalg.svd(work, full_matrices=False)
        return spectral_forward(u, vh, response_of(xp, sigma, scale[..., 0])), (u, sigma, vh)

    def vjp(cotangent: Array, scale: Array, u: Array, sigma: Array, vh: Array) -> Array:
        return spectral_vjp(cotangent, u, vh, response_of(namespace(sigma=sigma), sigma, scale[..., 0]))

    return _direct(a, forward, vjp, check_finite, root)


def _root(xp: Any, like: Array, root: float) -> Array:
    """``root`` as an array, cut off where the dtype ends: there the response underflows all the same."""
    return xp.full_like(like, min(root, float(xp.finfo(like.dtype).max) / 4))


def _power_below(xp: Any, like: Array, root: float) -> Array:
    """The power of two next below ``root``, or the largest of the dtype."""
    return xp.full_like(like, ldexp(1.0, frexp(min(root, float(xp.finfo(like.dtype).max)))[1] - 1))


def _direct(a: Array, forward: _Forward, vjp: _Vjp, check_finite: bool, root: float = 0.0) -> PinvResult:
    """Run a direct method in the dtype to compute in, with NaN and its status for matrices not finite.

    Each matrix is divided by s, a power of two next to its largest entry, or to ``root`` where that is larger.
    """
    xp = namespace(a=a)
    real_or_complex(xp, a=a)
    require_matrix("a", a)
    if require_flag("check_finite", check_finite):
        require_finite(xp, a=a)

    def run(a: Array) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        work = xp.astype(a, compute_dtype(xp, a.dtype), copy=False)
        # one matrix with NaN would make the factorisation of the whole stack fail
        finite = all_finite(work)
        work = xp.where(finite[..., None, None], work, 0.0)
        scale = binary_scale(work)
        if root:
            scale = xp.maximum(scale, _power_below(xp, scale, root))
        work = work / scale
        z, saved = forward(xp, work, scale)
        value = xp.astype(z / scale, a.dtype, copy=False)
        finite = finite & all_finite(value)
        value = xp.where(finite[..., None, None], value, xp.nan)
        residual = xp.where(finite, backward_residual(work, z), xp.nan)
        return (value, residual, finite), (scale, *saved)

    def derivative(cotangent: Array, scale: Array, *saved: Array) -> tuple[Array, ...]:
        # A ↦ A/s ↦ sZ ↦ Z
        of_value = xp.astype(cotangent, compute_dtype(xp, a.dtype), copy=False)
        return (xp.astype(vjp(of_value / scale, scale, *saved) / scale, a.dtype, copy=False),)

    value, residual, finite = with_vjp(run, derivative, a)
    count = xp.zeros(finite.shape, dtype=xp.int64, device=device_of(a))
    return PinvResult(
        value=value,
        residual=residual,
        iterations=count,
        matmuls=count + 1,
        codes=xp.where(finite, count, int(Status.NON_FINITE)),
    )
