r"""What stands for A⁺ unless asked otherwise: the ridge solution, a filter that is seen and chosen."""

from __future__ import annotations

from nystrom_numerics.arguments import require_positive
from nystrom_numerics.attention.arguments import tokens_of
from nystrom_numerics.backend import (
    Array,
    broadcast_shapes,
    floating,
    namespace,
    require_held,
    require_matrix,
    with_vjp,
)
from nystrom_numerics.errors import DTypeError, ShapeError
from nystrom_numerics.linalg import transpose
from nystrom_numerics.solves import ridge_solve

__all__ = ["ridge"]


def ridge(a: Array, b: Array, /, *, strength: float = 1e-3) -> Array:
    r""":math:`X = (A^TA + \lambda I)^{-1}A^TB`, a solver for :func:`nystrom_numerics.pinv.solve`.

    A singular value σ is inverted by the share :math:`\sigma^2/(\sigma^2 + \lambda)`: by half at
    :math:`\sqrt\lambda \approx 0.03`.  A core has rows that sum to one, so :math:`\sigma_1 \ge 1` and λ needs no
    scale.  ‖X‖₂ is at most :math:`\|B\|_2/(2\sqrt\lambda)`.

    Parameters
    ----------
    a : array (..., p, m)
    b : array (..., p, r)
        float32 or float64.
    strength : float
        λ > 0.  The default is near the best on real heads, see the claim ``estimators`` of the experiments: there the
        attention of A⁺ itself is several times worse, and the paper's six iterations are the same filter
        by other means (theirs is half at :math:`0.024\sqrt{\|A\|_1\|A\|_\infty}`, and costs 24 products).

    Returns
    -------
    array (..., m, r)

    Raises
    ------
    DTypeError, DeviceError, NamespaceError, RangeError, ShapeError
        Naming the argument; ``strength`` is a number above 0, a normal one of the dtype.

    Notes
    -----
    Cost: m²p + m³/3 multiplications and 2mpr for the rest, none of it iterative.  Forming AᵀA is harmless here:
    the system's condition is at most :math:`1 + \sigma_1^2/\lambda`, about 10⁴ for a core.  Derivative in closed
    form, exact everywhere: one more solve.  With :math:`Y = (A^TA + \lambda I)^{-1}G` and R = B − AX,
    :math:`\bar B = AY` and :math:`\bar A = RY^T - AYX^T`.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import attention
    >>> attention.ridge(np.diag([1.0, 1e-4]), np.ones((2, 1))).round(3).ravel()  # the second is filtered
    array([0.999, 0.1  ])
    """
    strength = require_positive("strength", strength)
    xp = tokens_of(a=a, b=b)
    floating(xp, a=a, b=b)
    for name, x in (("a", a), ("b", b)):
        require_matrix(name, x)
        if xp.finfo(x.dtype).bits == 16:
            raise DTypeError(name, f"of dtype {x.dtype}", "float32 or float64, in which systems are solved")
    require_held(xp, "strength", strength, a.dtype, divides=True)
    if b.shape[-2] != a.shape[-2]:
        raise ShapeError("b", f"of {b.shape[-2]} rows", f"as many rows as `a` has, {a.shape[-2]}")
    batch = broadcast_shapes(a=tuple(a.shape[:-2]), b=tuple(b.shape[:-2]))
    a, b = (xp.broadcast_to(x, (*batch, *x.shape[-2:])) for x in (a, b))

    def forward(a: Array, b: Array) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        x = _regular_solve(a, transpose(a) @ b, strength)
        return (x,), (a, b, x)

    def vjp(g: Array, a: Array, b: Array, x: Array) -> tuple[Array, Array]:
        y = _regular_solve(a, g, strength)
        of_b = a @ y
        return (b - a @ x) @ transpose(y) - of_b @ transpose(x), of_b

    return with_vjp(forward, vjp, a, b)[0]


def _regular_solve(a: Array, b: Array, strength: float) -> Array:
    """(AᵀA + λI)⁻¹B."""
    return ridge_solve(namespace(a=a, b=b), transpose(a) @ a, strength, b)
