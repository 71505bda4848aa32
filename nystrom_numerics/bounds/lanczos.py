r"""The spectral norm of a symmetric operator from both sides, by Lanczos from a random start."""

from __future__ import annotations

from math import acosh, cosh, inf, log, log1p

import numpy as np

from nystrom_numerics.arguments import require_count, require_number
from nystrom_numerics.backend import (
    Array,
    namespace,
    unit_roundoff,
)
from nystrom_numerics.bounds.probes import (
    Operator,
    probes_of,
    require_like,
    require_trivial,
)
from nystrom_numerics.bounds.result import (
    Certificate,
    Estimate,
    Norm,
    Side,
    bound,
    require_failure,
)
from nystrom_numerics.errors import NonFiniteError
from nystrom_numerics.linalg import frobenius, transpose
from nystrom_numerics.lowrank.arguments import checked_operator

__all__ = ["lanczos_norm"]


def lanczos_norm(
    apply: Operator,
    like: Array,
    /,
    *,
    apply_transpose: Operator | None = None,
    ratio: float = 1.2,
    iterations: int = 100,
    failure: float = 0.01,
    trivial: float = inf,
    rng: np.random.Generator | int = 0,
) -> Certificate:
    r"""The spectral norm between two bounds, by Lanczos iteration from a random vector.

    The largest Ritz value θ after k steps is a lower bound, with certainty.  From above,
    :math:`\lambda_1 \le \theta/(1 - \varepsilon_k)` with probability 1 − δ, where

    .. math:: \varepsilon\,T_{k-1}\Bigl(\frac{1+\varepsilon}{1-\varepsilon}\Bigr)^2\frac{\tau}{1-\tau}
              = 1 - \varepsilon,\qquad P(b_1^2 \le \tau) = \delta

    and :math:`b_1^2`, the square of the starting vector's part along the leading eigenvector, has the law
    Beta(1/2, (n − 1)/2).  :math:`\varepsilon_k` depends on n, k and δ alone, so that stopping by it costs
    no probability.

    Parameters
    ----------
    apply : callable
        v (n, 1) to B v; B symmetric PSD, unless ``apply_transpose`` is given.
    like : array (n, ...)
        As in :func:`gaussian_norm_bound`.
    apply_transpose : callable, optional
        For any B: then the iteration is on BᵀB, at two matvecs a step, and the bounds are roots.
    ratio : float
        Stop where upper over lower is at most this; above 1.
    iterations : int
        Steps at most.
    failure, trivial, rng
        As in :func:`gaussian_norm_bound`.

    Returns
    -------
    Certificate
        With the estimate θ, or its root.

    Raises
    ------
    NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: k matvecs and 4nk² multiplications for full orthogonalisation, memory nk; one synchronisation a step.
    In place of Kuczyński and Woźniakowski 1992, Theorem 4.1(a), with 1.648√n: derived here by their
    argument with a Chebyshev polynomial, and without their constant.  Rounding: an allowance of 8kn units
    of roundoff is added above.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds
    >>> a = np.diag(np.linspace(0.0, 1.0, 200))
    >>> found = bounds.lanczos_norm(lambda v: a @ v, np.zeros(200), ratio=1.1)
    >>> bool(found.lower.value <= 1.0 <= found.upper.value), found.estimate.matvecs < 60
    (True, True)
    """
    require_failure(failure)
    trivial = require_trivial(trivial)
    ratio = require_number("ratio", ratio, lambda x: x > 1, "a number above 1")
    iterations = require_count("iterations", iterations)
    n, xp = require_like(like), namespace(like=like)
    power = 1.0 if apply_transpose is None else 0.5
    forth = checked_operator("apply", apply, n if apply_transpose is None else None)
    back = None if apply_transpose is None else checked_operator("apply_transpose", apply_transpose, n)

    def gram(v: Array) -> Array:
        return forth(v) if back is None else back(forth(v))

    v = probes_of(like, 1, rng)
    v = v / xp.sqrt(xp.sum(v * v))
    basis, alphas, betas = v, list[float](), list[float]()
    quantile = _beta_quantile(n, failure)
    theta = 0.0
    for step in range(1, min(iterations, n) + 1):
        w = gram(v)
        alphas.append(float(xp.sum(v * w)))
        for _ in range(2):
            w = w - basis @ (transpose(basis) @ w)
        beta = float(frobenius(w))
        if not np.isfinite(beta + alphas[-1]):
            raise NonFiniteError("apply", "an operator that gave NaN or infinity", "finite products")
        t = np.diag(alphas) + np.diag(betas, 1) + np.diag(betas, -1)
        theta = max(float(np.linalg.eigvalsh(t)[-1]), 0.0)
        gap = _lanczos_gap(step, quantile)
        level = 8 * step * n * unit_roundoff(xp, like.dtype)
        exhausted = step == n or beta <= level * max(theta, abs(alphas[0]))
        if exhausted or (1 - gap) ** -power <= ratio:
            break
        v = w / beta
        basis = xp.concat([basis, v], axis=1)
        betas.append(beta)
    # an exhausted space is invariant, and holds the leading eigenvector with probability one
    high = theta * (1 + level) if exhausted else theta / (1 - gap) * (1 + level) if gap < 1 else inf
    matvecs = step if apply_transpose is None else 2 * step
    source = (
        f"Lanczos from a random vector, {step} steps; after Kuczyński and Woźniakowski 1992, derived here"
    )
    lower = bound(max(theta * (1 - level), 0.0) ** power, Side.LOWER, Norm.SPECTRAL, source, trivial=0.0)
    upper = bound(high**power, Side.UPPER, Norm.SPECTRAL, source, trivial=trivial, probability=1 - failure)
    return Certificate(lower, Estimate(theta**power, None, matvecs, source), upper)


def _beta_quantile(n: int, failure: float) -> float:
    """τ with P(b₁² ≤ τ) = failure, for a coordinate of a uniform unit vector in n dimensions."""
    from scipy.special import betaincinv

    return 1.0 if n == 1 else float(betaincinv(0.5, (n - 1) / 2, failure))


def _lanczos_gap(k: int, quantile: float) -> float:
    """ε_k: the largest relative gap of a Ritz value that a part of at least ``quantile`` allows."""
    if quantile >= 1:
        return 0.0
    odds = log(quantile) - log1p(-quantile)

    def excluded(gap: float) -> bool:
        x = (k - 1) * acosh((1 + gap) / (1 - gap))
        growth = 2 * (x - log(2)) if x > 300 else 2 * log(cosh(x))
        return log(gap) + growth + odds >= log1p(-gap)

    low, high = 0.0, 1 - 2.0**-50
    if not excluded(high):
        return 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if middle > 0 and excluded(middle) else (middle, high)
    return high
