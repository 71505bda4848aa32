r"""Matrices whose singular values are passed through a function, and the derivative of that.

.. math:: A = U\Sigma V^H \mapsto Z = V f(\Sigma) U^H.

With f odd and :math:`M = U^H\,dA\,V`, the derivative is the Hermitian part of M weighted by the divided
differences :math:`(f_i - f_j)/(\sigma_i - \sigma_j)` and the skew-Hermitian part weighted by
:math:`(f_i + f_j)/(\sigma_i + \sigma_j)`, plus :math:`f_i/\sigma_i` on what lies outside the smaller space
(Daleckii–Krein for generalised matrix functions; Noferini 2017).  Written out for each f, nothing is divided by
a difference of equal singular values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nystrom_numerics.backend import Array
from nystrom_numerics.linalg import adjoint, transpose

__all__ = ["Response", "spectral_forward", "spectral_vjp", "tikhonov_response", "truncated_response"]


@dataclass(frozen=True)
class Response:
    """f(σ) with its divided differences, arrays (..., k), (..., k, k), (..., k, k) and (..., k).

    ``symmetric`` is (f_i − f_j)/(σ_i − σ_j), ``antisymmetric`` (f_i + f_j)/(σ_i + σ_j), ``slope`` f_i/σ_i.
    """

    value: Array
    symmetric: Callable[[], Array]
    antisymmetric: Callable[[], Array]
    slope: Callable[[], Array]


def truncated_response(xp: Any, sigma: Array, cutoff: float) -> Response:
    """1/σ where σ > cutoff · max σ, else 0; the derivative is taken with that choice held fixed."""
    kept = sigma > cutoff * xp.max(sigma, axis=-1, keepdims=True)
    safe = xp.where(kept, sigma, xp.ones_like(sigma))
    f = xp.where(kept, 1 / safe, xp.zeros_like(sigma))

    def weights(sign: float) -> Array:
        product = f[..., :, None] * f[..., None, :]
        mixed = kept[..., :, None] & ~kept[..., None, :]
        # kept i, dropped j: f_i/(σ_i ∓ σ_j); the gap is positive, as i is above the cutoff and j is not
        gap = sigma[..., :, None] + sign * sigma[..., None, :]
        one_sided = xp.where(
            mixed, f[..., :, None] / xp.where(mixed, gap, xp.ones_like(gap)), xp.zeros_like(gap)
        )
        return sign * product + one_sided + transpose(one_sided)

    return Response(f, lambda: weights(-1.0), lambda: weights(1.0), lambda: f * f)


def tikhonov_response(xp: Any, sigma: Array, root: Array) -> Response:
    r"""σ/(σ² + λ), ``root`` = √λ (..., 1), in forms in which nothing is squared.

    With :math:`u = \sqrt\lambda/(\sigma^2 + \lambda)` the divided differences are
    :math:`u_iu_j \mp f_if_j`, and the slope is :math:`u^2 + f^2`.
    """
    of_sigma, of_root = (xp.where(x > 0, x, xp.ones_like(sigma)) for x in (sigma, root))
    f = xp.where(sigma > 0, 1 / (of_sigma + root * (root / of_sigma)), 0.0)
    u = xp.where(root > 0, 1 / (of_root + sigma * (sigma / of_root)), 0.0)

    def weights(sign: float) -> Array:
        return u[..., :, None] * u[..., None, :] + sign * f[..., :, None] * f[..., None, :]

    return Response(f, lambda: weights(-1.0), lambda: weights(1.0), lambda: u * u + f * f)


def spectral_forward(u: Array, vh: Array, response: Response) -> Array:
    """V f(Σ) Uᴴ."""
    return (adjoint(vh) * response.value[..., None, :]) @ adjoint(u)


def spectral_vjp(cotangent: Array, u: Array, vh: Array, response: Response) -> Array:
    """The cotangent of A (..., m, n) for one of Z (..., n, m); four to six products."""
    c = adjoint(cotangent)
    uc, cv = adjoint(u) @ c, c @ adjoint(vh)
    n = uc @ adjoint(vh)
    even, odd = n + adjoint(n), n - adjoint(n)
    inner = u @ (0.5 * (response.symmetric() * even + response.antisymmetric() * odd)) @ vh
    slope = response.slope()
    if u.shape[-2] > u.shape[-1]:
        inner = inner + ((cv - u @ n) * slope[..., None, :]) @ vh
    if vh.shape[-1] > vh.shape[-2]:
        inner = inner + (u * slope[..., None, :]) @ (uc - n @ vh)
    return inner
