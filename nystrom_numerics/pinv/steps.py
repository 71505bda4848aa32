r"""Steps :math:`Z \mapsto Z\,p(Y)`, :math:`Y = AZ`, in the fewest matrix products known.

A step is judged by what it does to an eigenvalue y of Y, or to e = 1 − y: the polynomial 1 − y p(y).
Its ``growth`` p(0) is what small eigenvalues are multiplied by, and rounding error in the null space too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import acosh, cosh, sinh, sqrt
from typing import Any

import numpy as np

from nystrom_numerics.arguments import require_callable, require_count, require_instance, require_positive
from nystrom_numerics.backend import Array, device_of, namespace
from nystrom_numerics.errors import RangeError

__all__ = ["CHEBYSHEV", "NEWTON_SCHULZ", "RAZAVI", "Step", "hyperpower_step", "interval_step"]


@dataclass(frozen=True)
class Step:
    r"""One step :math:`Z \mapsto Z\,p(Y)`, with :math:`Y = AZ` at hand.

    Attributes
    ----------
    name : str
    apply : callable
        ``(z, y) -> z``, for z (..., n, m) and y (..., m, m) = AZ.
    matmuls : int
        Products a step, the one that forms Y included.
    growth : float
        p(0), positive.

    Raises
    ------
    KindError, RangeError, ShapeError
        Naming the argument.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import pinv
    >>> own = pinv.Step("Newton–Schulz", lambda z, y: 2 * z - z @ y, matmuls=2, growth=2.0)
    >>> pinv.iterate(np.diag([1.0, 0.5]), [own] * 6).status.name
    'CONVERGED'
    """

    name: str
    apply: Callable[[Array, Array], Array]
    matmuls: int
    growth: float

    def __post_init__(self) -> None:
        require_instance("name", self.name, str)
        require_callable("apply", self.apply, "a callable (z, y) -> z")
        require_count("matmuls", self.matmuls)
        require_positive("growth", self.growth)


def _shifted(c: float, y: Array) -> Array:
    """cI − Y."""
    xp = namespace(y=y)
    return c * xp.eye(y.shape[-1], dtype=y.dtype, device=device_of(y)) - y


# ---------------------------------------------------------------- residual e ↦ e^p and the paper's


def _newton_schulz(z: Array, y: Array) -> Array:
    return 2.0 * z - z @ y


def _chebyshev(z: Array, y: Array) -> Array:
    return 3.0 * z + z @ (y @ y - 3.0 * y)


def _razavi(z: Array, y: Array) -> Array:
    inner = 15.0 * y - y @ (7.0 * y - y @ y)
    return 0.25 * (13.0 * z - z @ inner)


NEWTON_SCHULZ = Step("Newton–Schulz", _newton_schulz, matmuls=2, growth=2.0)
"""e ↦ e² (Schulz 1933)."""

CHEBYSHEV = Step("Chebyshev", _chebyshev, matmuls=3, growth=3.0)
"""e ↦ e³ (Li, Huang, Zhang, Liu and Gu 2011; the name is from Chebyshev's method for f(z) = 1/z − a)."""

RAZAVI = Step("paper, eq. (14)", _razavi, matmuls=4, growth=13 / 4)
"""e ↦ ¾e³ + ¼e⁴ (Razavi et al. 2014), the Nyströmformer's."""

# R + R² + … + R^{p-1} in as few products as known; each takes R and gives the sum without I
_POWER_SUMS: dict[int, tuple[int, Callable[[Array], Array]]] = {}


def _power_sum(order: int, products: int) -> Callable[[Callable[[Array], Array]], Callable[[Array], Array]]:
    def register(fn: Callable[[Array], Array]) -> Callable[[Array], Array]:
        _POWER_SUMS[order] = (products, fn)
        return fn

    return register


@_power_sum(2, 0)
def _sum2(r: Array) -> Array:
    return r


@_power_sum(3, 1)
def _sum3(r: Array) -> Array:
    return r + r @ r


@_power_sum(4, 2)
def _sum4(r: Array) -> Array:
    s = r @ r
    return r + s + r @ s


@_power_sum(5, 2)
def _sum5(r: Array) -> Array:
    s = r @ r
    t = s + 0.5 * r
    return r + 0.75 * s + t @ t


@_power_sum(6, 3)
def _sum6(r: Array) -> Array:
    s = r @ r
    u = s + s @ s  # (I + R)(I + R² + R⁴)
    return r + u + r @ u


@_power_sum(7, 3)
def _sum7(r: Array) -> Array:
    s = r @ r
    t = r + s  # (R + R²)(I + R² + R⁴)
    return t + t @ (s + s @ s)


@_power_sum(8, 4)
def _sum8(r: Array) -> Array:
    s = r @ r
    f = s @ s
    u = s + f + s @ f  # (I + R)(I + R²)(I + R⁴)
    return r + u + r @ u


@_power_sum(9, 3)
def _sum9(r: Array) -> Array:
    s = r @ r
    y = s @ (s + 0.5 * r)
    return (y + 0.75 * s - 0.25 * r) @ (y + 0.875 * r) + 0.6875 * y + 1.21875 * s + r


def hyperpower_step(order: int) -> Step:
    r"""The hyperpower step :math:`Z(I + R + \dots + R^{p-1})`, R = I − AZ: e ↦ e^p.

    Parameters
    ----------
    order : int
        p, from 2 to 9.

    Returns
    -------
    Step

    Raises
    ------
    RangeError
        Naming the argument.

    Notes
    -----
    Cost: products a step for p = 2, …, 9: 2, 3, 4, 4, 5, 5, 6, 5.  Orders 5 and 9 dominate: order 5 costs what the
    paper's step costs, and order 9 one product more (Altman 1960; the factorisations of orders 5 and 9 are
    matched coefficient by coefficient, and tested).

    Examples
    --------
    >>> from nystrom_numerics import pinv
    >>> step = pinv.hyperpower_step(9)
    >>> step.matmuls, step.growth
    (5, 9.0)
    """
    order = require_count("order", order, 2, 9)
    products, power_sum = _POWER_SUMS[order]

    def apply(z: Array, y: Array) -> Array:
        return z + z @ power_sum(_shifted(1.0, y))

    return Step(f"hyperpower {order}", apply, matmuls=products + 2, growth=float(order))


# ---------------------------------------------------------------- optimal on an interval


def interval_step(degree: int, lower: float, upper: float) -> Step:
    r"""The step whose residual is smallest on an interval [ℓ, u] of eigenvalues of AZ, ℓ > 0.

    .. math:: 1 - y\,p(y) = T_d(t)/T_d(t_0),\qquad t = \frac{u + \ell - 2y}{u - \ell},\quad
              t_0 = \frac{u + \ell}{u - \ell}.

    Among polynomials of degree d that are 1 at y = 0 it has the least maximum modulus on [ℓ, u], namely
    :math:`\delta = 1/T_d(t_0)` (equioscillation); afterwards the eigenvalues lie in [1 − δ, 1 + δ].  An
    eigenvalue below ℓ meets y p(y), which rises monotonically from 0 to 1 − δ.  Products for degree 2, 3, 5,
    9: 2, 3, 4, 5.

    Polynomials are evaluated in the centred variable x = 1 − 2y/(u + ℓ), in which their coefficients stay
    below 33; on a narrow interval around 1 they become those of the hyperpower step.

    Parameters
    ----------
    degree : int
        2, 3, 5 or 9.
    lower, upper : float
        ℓ and u, 0 < ℓ < u < ∞.

    Returns
    -------
    Step

    Raises
    ------
    RangeError
        ``degree`` is not 2, 3, 5 or 9, or not 0 < lower < upper < ∞.

    Notes
    -----
    Cost: O(d²) to make; a step of degree 2, 3, 5 or 9 takes 2, 3, 4 or 5 products.

    Examples
    --------
    >>> from nystrom_numerics import pinv
    >>> step = pinv.interval_step(3, 0.25, 1.0)
    >>> step.matmuls, round(step.growth, 3)
    (3, 5.984)
    """
    if require_count("degree", degree, 2, 9) not in (2, 3, 5, 9):
        raise RangeError("degree", f"{degree!r}", "2, 3, 5 or 9")
    lower, upper = require_positive("lower", lower), require_positive("upper", upper)
    if not 0 < lower < upper:
        raise RangeError("lower", f"{lower}", f"a number above 0 and below `upper`, {upper}")
    t0 = (upper + lower) / (upper - lower)
    centre, constant, evaluate = interval_parts(degree, lower, upper)

    def apply(z: Array, y: Array) -> Array:
        # p(x) = c₀ I + rest, so that Z p = c₀ Z + Z rest
        return constant * z + z @ evaluate(_shifted(centre, y) / centre)

    products = {2: 0, 3: 1, 5: 2, 9: 3}[degree]
    angle = acosh(t0)
    growth = degree * sinh(degree * angle) / (sinh(angle) * cosh(degree * angle)) * t0 / centre
    return Step(f"interval-optimal {degree}", apply, matmuls=products + 2, growth=growth)


def interval_parts(degree: int, lower: float, upper: float) -> tuple[float, float, Callable[[Any], Any]]:
    """The centre, c₀ and the rest of an interval's step: what it executes, by sums, products and multiples alone."""
    centre = (upper + lower) / 2
    c = _interval_polynomial(degree, (upper + lower) / (upper - lower)) / centre
    return centre, float(c[0]), {2: _linear, 3: _quadratic, 5: _quartic, 9: _octic}[degree](c)


def _interval_polynomial(degree: int, t0: float) -> np.ndarray:
    """Coefficients c_0, …, c_{d-1} in x = t/t₀ of (1 − T_d(t)/T_d(t₀))/(1 − x)."""
    chebyshev = np.polynomial.chebyshev.cheb2poly([0] * degree + [1]).astype(np.longdouble)
    scaled = chebyshev * np.longdouble(t0) ** np.arange(degree + 1) / np.longdouble(cosh(degree * acosh(t0)))
    # 1 − Σ s_k x^k with Σ s_k = 1, divided by 1 − x, has coefficients c_k = s_{k+1} + … + s_d
    return np.asarray(np.cumsum(scaled[::-1])[::-1][1:], float)


def _linear(c: np.ndarray) -> Callable[[Array], Array]:
    return lambda x: float(c[1]) * x


def _quadratic(c: np.ndarray) -> Callable[[Array], Array]:
    return lambda x: float(c[2]) * (x @ x) + float(c[1]) * x


def _quartic(c: np.ndarray) -> Callable[[Array], Array]:
    """c₄x⁴ + … + c₁x as (αx² + βx)² + γx² + c₁x."""
    alpha = sqrt(c[4])
    beta = float(c[3]) / (2 * alpha)
    gamma = float(c[2]) - beta**2

    def evaluate(x: Array) -> Array:
        s = x @ x
        w = alpha * s + beta * x
        return w @ w + gamma * s + float(c[1]) * x

    return evaluate


def _octic(c: np.ndarray) -> Callable[[Array], Array]:
    """c₈x⁸ + … + c₁x as (w + f₂x² + f₁x)(w + g₂x² + g₁x) + hw + k₂x² + c₁x, w = x²(e₁x² + e₂x)."""
    e1, e2, f1, f2, g1, g2, h, k2 = _octic_coefficients(c)

    def evaluate(x: Array) -> Array:
        s = x @ x
        w = s @ (e1 * s + e2 * x)
        return (w + f2 * s + f1 * x) @ (w + g2 * s + g1 * x) + h * w + k2 * s + float(c[1]) * x

    return evaluate


def _octic_coefficients(c: np.ndarray) -> tuple[float, ...]:
    """e₁, e₂, f₁, f₂, g₁, g₂, h, k₂ by matching; h is free and makes the largest coefficient smallest."""
    e1 = sqrt(c[8])
    e2 = float(c[7]) / (2 * e1)
    sum2 = float(c[6] - e2**2) / e1  # f₂ + g₂
    sum1 = float(c[5] - e2 * sum2) / e1  # f₁ + g₁
    size = max(1.0, *np.abs([e1, e2, sum2, sum1]))
    h = np.concatenate([sign * size * np.geomspace(1e-3, 1e3, 4000) for sign in (-1, 1)])
    discriminant = sum2**2 - 4 * (c[4] - e2 * sum1 - h * e1)  # of the quadratic whose roots are f₂ and g₂
    h, discriminant = (v[discriminant > 1e-12 * size**2] for v in (h, discriminant))
    f2, g2 = (sum2 + np.sqrt(discriminant)) / 2, (sum2 - np.sqrt(discriminant)) / 2
    f1 = (c[3] - h * e2 - f2 * sum1) / (g2 - f2)
    g1 = sum1 - f1
    k2 = c[2] - f1 * g1
    best = int(np.argmin(np.max(np.abs([f1, f2, g1, g2, h, k2]), axis=0)))
    return (e1, e2, *(float(v[best]) for v in (f1, f2, g1, g2, h, k2)))
