r"""Where to start: :math:`Z_0 = A^H/\beta^2` with a bound :math:`\beta \ge \|A\|_2`, one a matrix.

Any such bound is safe: the non-zero eigenvalues of :math:`AZ_0` lie in (0, 1] for every A.  The nearer
:math:`\beta` is to the norm, the fewer steps are lost.  (:math:`\beta^{-2} = \mathrm{tr}\,G/\|G\|_F^2`,
G = AAᴴ, is not of this kind and not offered: it can exceed :math:`2/\sigma_1^2` and diverge.)
:func:`nystrom_numerics.linalg.frobenius` is a norm bound too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from nystrom_numerics.arguments import require_count, require_positive
from nystrom_numerics.backend import Array, namespace
from nystrom_numerics.errors import RangeError
from nystrom_numerics.linalg import binary_scale, one_norm, sup_norm, transpose

__all__ = ["NormBound", "known_norm", "one_sup_bound", "perron_bound"]

NormBound: TypeAlias = Callable[[Array], Array]
"""β (...), real, of a stack of matrices (..., m, n), real or complex: at least the 2-norm of each."""


def one_sup_bound(a: Array, /) -> Array:
    r"""The paper's bound :math:`\beta = \sqrt{\|A\|_1\|A\|_\infty}`, but per matrix.

    Parameters
    ----------
    a : array (..., m, n)

    Returns
    -------
    array (...), real
        At least :math:`\|A\|_2`, and at most :math:`(mn)^{1/4}` times that.

    Raises
    ------
    DTypeError, NamespaceError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: 2mn additions.  Source: Xiong et al. 2021, §3.3; their code takes the maximum over the batch.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import pinv
    >>> float(pinv.one_sup_bound(np.array([[1.0, 3.0], [0.0, 0.0]])).round(4))  # the norm is 3.1623
    3.4641
    """
    xp = namespace(a=a)
    return xp.sqrt(one_norm(a)) * xp.sqrt(sup_norm(a))


def perron_bound(a: Array, /, *, iterations: int = 8) -> Array:
    r"""The Collatz–Wielandt bound on the norm of :math:`|A|`, by products with vectors alone.

    .. math:: \beta^2 = \min_t \max_i \frac{(M x_t)_i}{(x_t)_i},\qquad
              M = |A|^T|A|,\quad x_{t+1} = Mx_t,\quad x_0 = 1.

    Every term bounds :math:`\||A|\|_2^2 \ge \|A\|_2^2` as long as x is positive, so the minimum is safe
    whenever the iteration stops, and the first is at most :math:`\|A\|_1\|A\|_\infty`.  For a matrix
    without negative entries, such as a softmax core, it converges to :math:`\|A\|_2` itself.

    Parameters
    ----------
    a : array (..., m, n)
    iterations : int
        Applications of M after the first, at least 0.

    Returns
    -------
    array (...), real

    Raises
    ------
    RangeError
        ``iterations`` is no integer of at least 0.

    Notes
    -----
    Cost: 2mn multiplications an iteration, no matrix product.  Source: Collatz 1942; Horn and Johnson,
    *Matrix Analysis*, Theorem 8.1.26.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import pinv
    >>> a = np.array([[0.9, 0.1], [0.5, 0.5]])
    >>> bool(np.isclose(pinv.perron_bound(a), np.linalg.norm(a, 2))), float(pinv.one_sup_bound(a).round(4))
    (True, 1.1832)
    """
    iterations = require_count("iterations", iterations, 0)
    xp = namespace(a=a)
    scale = binary_scale(a)
    modulus = xp.abs(a / scale)
    eps = float(xp.finfo(modulus.dtype).eps)
    x = xp.ones_like(modulus[..., :1, :])
    bound = xp.full_like(modulus[..., 0, 0], xp.inf)
    for _ in range(iterations + 1):
        image = (x @ transpose(modulus)) @ modulus
        bound = xp.minimum(bound, xp.max(image / x, axis=(-2, -1)))
        top = xp.max(image, axis=-1, keepdims=True)
        # any positive x bounds: entries that vanish are lifted
        x = xp.maximum(image / xp.where(top > 0, top, xp.ones_like(top)), xp.full_like(x, eps))
    # outward against the rounding of sums of positive terms
    slack = 1 + 2 * (a.shape[-1] + a.shape[-2]) * eps
    return scale[..., 0, 0] * xp.sqrt(bound * slack)


def known_norm(a: Array, /, *, sigma_max: float) -> Array:
    r"""A bound the caller knows, the same for the whole stack; bind it with ``functools.partial``.

    Parameters
    ----------
    a : array (..., m, n)
    sigma_max : float
        At least the 2-norm of each matrix.

    Returns
    -------
    array (...), real
        ``sigma_max``, for each.

    Raises
    ------
    RangeError
        ``sigma_max`` is no positive number, or a row or column is longer, so that it is no bound on the norm (the
        check is necessary and not sufficient; it costs one synchronisation).

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import pinv
    >>> from functools import partial
    >>> bound = partial(pinv.known_norm, sigma_max=1.0)
    >>> pinv.razavi(np.diag([1.0, 0.5]), norm_bound=bound).status.name
    'CONVERGED'
    """
    sigma_max = require_positive("sigma_max", sigma_max)
    xp = namespace(a=a)
    scale = binary_scale(a)
    square = xp.abs(a / scale) ** 2
    longest = xp.maximum(xp.max(xp.sum(square, axis=-1), axis=-1), xp.max(xp.sum(square, axis=-2), axis=-1))
    longest = scale[..., 0, 0] * xp.sqrt(longest)
    slack = 1 + 2 * max(a.shape[-2:]) * float(xp.finfo(longest.dtype).eps)
    if bool(xp.any(longest > sigma_max * slack)):
        needs = f"at least {float(xp.max(longest)):.6g}, the length of a row or column"
        raise RangeError("sigma_max", f"{sigma_max}", needs)
    return xp.full_like(longest, sigma_max)
