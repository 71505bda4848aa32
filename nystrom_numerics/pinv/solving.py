r"""A⁺B without A⁺: solving with a small matrix is cheaper and more accurate than inverting it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

from nystrom_numerics.arguments import require_callable, require_flag, require_tolerance
from nystrom_numerics.backend import (
    Array,
    broadcast_shapes,
    compute_dtype,
    device_of,
    namespace,
    real_or_complex,
    require_finite,
    require_matrix,
    status_tells,
    with_vjp,
    worst_status,
)
from nystrom_numerics.brief import brief
from nystrom_numerics.errors import ShapeError, Status
from nystrom_numerics.linalg import adjoint, all_finite, binary_exponent, frobenius, pivoted_qr, times_power
from nystrom_numerics.pinv.callables import require_array, require_result
from nystrom_numerics.pinv.result import PinvResult
from nystrom_numerics.solves import least_squares, solve_square

__all__ = ["SolveResult", "Solver", "by_product", "lu", "rank_revealing", "solve"]

Solver: TypeAlias = Callable[[Array, Array], Array]
"""``solver(a, b)`` gives A⁺B for stacks (..., m, n) and (..., m, r) of one batch; options are bound.

It may be given NaN, and then need only leave the other items of the batch alone.
"""


@dataclass(frozen=True)
class SolveResult:
    r"""X ≈ A⁺B with its story, per matrix of the stack.

    Attributes
    ----------
    value : array (..., n, r)
        X, in the dtype of B; NaN where the status is ``NON_FINITE``.
    finite : array (...) of bool
        Where A, B and X have neither NaN nor infinity.
    a, b : arrays
        What was solved, in the dtype that was computed in.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import pinv
    >>> result = pinv.solve(np.eye(2), np.array([[1.0], [np.nan]]))
    >>> result.status.name, bool(result.finite)
    ('NON_FINITE', False)
    """

    value: Array
    finite: Array
    a: Array = field(repr=False)
    b: Array = field(repr=False)

    __repr__ = brief

    @cached_property
    def residual(self) -> Array:
        r""":math:`\|A^H(AX - B)\|_F / (\|A\|_F(\|A\|_F\|X\|_F + \|B\|_F))`, real, shape (...).

        Zero for every least-squares solution, and for a square non-singular A small together with the backward
        error; the same for A/2ⁿ with 2ⁿX, and for 2ⁿB with 2ⁿX.  Computed when it is asked for: two products with
        r columns.
        """
        xp = namespace(a=self.a)
        return _normal_residual(xp, self.a, self.b, xp.astype(self.value, self.a.dtype, copy=False))

    @property
    def codes(self) -> Array:
        """``CONVERGED`` or ``NON_FINITE`` of each matrix, see :class:`~nystrom_numerics.errors.Status`."""
        xp = namespace(a=self.a)
        return xp.astype(~self.finite, xp.int64) * int(Status.NON_FINITE)  # CONVERGED is 0

    @property
    def status(self) -> Status:
        """The worst status in the stack (synchronises with the device)."""
        return worst_status(self.codes)


def _normal_residual(xp: Any, a: Array, b: Array, x: Array) -> Array:
    """Of A, B and X each brought to entries near 1, AX and B then on the scale of the larger."""
    of_a, of_b, of_x = (binary_exponent(y) for y in (a, b, x))
    a, b, x = (times_power(y, -e) for y, e in ((a, of_a), (b, of_b), (x, of_x)))
    size, size_b, size_x = (frobenius(y)[..., None, None] for y in (a, b, x))
    zero = xp.full_like(of_a, -float(2**14))  # what is zero has no scale
    e_x, e_b = xp.where(size_x > 0, of_a + of_x, zero), xp.where(size_b > 0, of_b, zero)
    top = xp.maximum(e_x, e_b)
    e_x, e_b = e_x - top, e_b - top
    defect = frobenius(adjoint(a) @ (times_power(a @ x, e_x) - times_power(b, e_b)))
    scale = (size * (size * times_power(size_x, e_x) + times_power(size_b, e_b)))[..., 0, 0]
    return defect / xp.where(scale > 0, scale, xp.ones_like(scale))


def rank_revealing(a: Array, b: Array, /, *, rtol: float | None = None) -> Array:
    r"""A⁺B through a complete orthogonal factorisation, the default of :func:`solve`.

    Singular values that the factorisation finds to be at most ``rtol`` times the largest count as zero; the
    default is ``max(m, n) * eps``.

    Parameters
    ----------
    a : array (..., m, n)
    b : array (..., m, r)
        As in :func:`solve`, which has the derivative in Torch too.
    rtol : float, optional
        In [0, 1).

    Returns
    -------
    array (..., n, r)

    Raises
    ------
    DTypeError, DeviceError, NamespaceError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    NumPy arrays and Torch tensors on a CPU: LAPACK's ``gelsy``, matrix by matrix (see
    :mod:`nystrom_numerics.lapack`).  Both have the same bits, and an item has the same bits alone, in any batch and
    at every call.  ``torch.compile`` takes it as one node of one graph.  Others, Torch and CuPy on a GPU included:
    :func:`~nystrom_numerics.linalg.pivoted_qr` twice, where a batch may change an item by rounding.  Each matrix is
    first divided by a power of two, and each column of B by its own, so that huge and tiny entries are harmless.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import pinv
    >>> pinv.rank_revealing(np.diag([2.0, 1e-9]), np.ones((2, 1)), rtol=1e-6).ravel()
    array([0.5, 0. ])
    """
    xp, work, rhs = _operands(a, b)
    cutoff = max(a.shape[-2:]) * float(xp.finfo(work.dtype).eps)
    cutoff = cutoff if rtol is None else require_tolerance("rtol", rtol)
    x = _differentiable(lambda a, b: factorised(a, b, cutoff), work, rhs)
    return xp.astype(x, b.dtype, copy=False)


def factorised(a: Array, b: Array, cutoff: float) -> Array:
    """:func:`rank_revealing` of checked operands of one batch, without a derivative; NaN for what is not finite."""
    xp = namespace(a=a)
    solved = least_squares(xp, a, b, cutoff)
    if solved is not None:
        return solved
    finite = all_finite(a, b)[..., None, None]
    return xp.where(
        finite, _by_two_qr(xp, xp.where(finite, a, 0.0), xp.where(finite, b, 0.0), cutoff), xp.nan
    )


def _by_two_qr(xp: Any, a: Array, b: Array, cutoff: float) -> Array:
    """A P = Q₁R and Rᴴ = Q₂T make A⁺ = P Q₂ T⁻ᴴ Q₁ᴴ, on the rows of R that count."""
    of_a, of_b = binary_exponent(a), binary_exponent(b, columns=True)
    q1, r, order = pivoted_qr(times_power(a, -of_a))
    diagonal = xp.abs(xp.linalg.diagonal(r))
    kept = diagonal > cutoff * diagonal[..., :1]
    q2, t = xp.linalg.qr(adjoint(xp.where(kept[..., None], r, 0.0)))
    eye = xp.eye(t.shape[-1], dtype=t.dtype, device=device_of(t))
    t = xp.where(kept[..., None, :] & kept[..., :, None], t, eye)
    y = xp.where(kept[..., None], adjoint(q1) @ times_power(b, -of_b), 0.0)
    x = q2 @ xp.linalg.solve(adjoint(t), y)
    back = xp.argsort(order, axis=-1)
    x = xp.take_along_axis(x, xp.broadcast_to(back[..., None], x.shape), axis=-2)
    return times_power(x, of_b - of_a)


def lu(a: Array, b: Array, /) -> Array:
    """A⁻¹B by Gaussian elimination: the fastest, for square matrices known to be far from singular.

    NaN, and so ``NON_FINITE`` in :func:`solve`, for a matrix whose elimination meets a zero pivot; its batch-mates
    are solved all the same.  Parameters, errors and the derivative in Torch are those of :func:`solve`.

    Parameters
    ----------
    a : array (..., m, m)
    b : array (..., m, r)
        As in :func:`solve`.

    Returns
    -------
    array (..., m, r)

    Raises
    ------
    ShapeError
        ``a`` is not square.

    Notes
    -----
    Cost: m³/3 + m²r multiplications for each matrix.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import pinv
    >>> pinv.solve(np.diag([2.0, 4.0]), np.ones((2, 1)), method=pinv.lu).value.ravel()
    array([0.5 , 0.25])
    """
    xp, work, rhs = _operands(a, b)
    if a.shape[-1] != a.shape[-2]:
        raise ShapeError("a", f"of shape {tuple(a.shape)}", "square matrices")
    x = _differentiable(lambda a, b: solve_square(xp, a, b), work, rhs)
    return xp.astype(x, b.dtype, copy=False)


def by_product(pinv: Callable[[Array], PinvResult], /) -> Solver:
    """The solver that forms Z with ``pinv`` and multiplies, for methods that are no factorisation.

    Parameters
    ----------
    pinv : callable
        ``pinv(a) -> PinvResult``, options bound with ``functools.partial``.

    Returns
    -------
    Solver
        ``solver(a, b)`` for a (..., m, n) and b (..., m, r) gives (..., n, r); KindError where ``pinv`` gives anything
        but a :class:`PinvResult`.

    Raises
    ------
    KindError
        Naming the argument.

    Notes
    -----
    Cost: that of ``pinv``, and one product of n × m with r columns.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import pinv
    >>> solver = pinv.by_product(pinv.svd)
    >>> solver(np.diag([2.0, 0.0]), np.array([[4.0], [1.0]])).ravel()
    array([2., 0.])
    """
    require_callable("pinv", pinv, "a callable that gives a PinvResult")

    def solver(a: Array, b: Array, /) -> Array:
        _operands(a, b)
        return require_result("pinv", pinv(a)).value @ b

    return solver


@status_tells
def solve(
    a: Array, b: Array, /, *, method: Solver = rank_revealing, check_finite: bool = False
) -> SolveResult:
    r"""The minimum-norm least-squares solution :math:`X = A^+B`, without forming A⁺.

    Parameters
    ----------
    a : array (..., m, n)
    b : array (..., m, r)
        Real or complex floating, of one dtype, library and device; leading axes broadcast; 16-bit dtypes are
        computed in float32.
    method : callable
        ``method(a, b)``: :func:`rank_revealing`, :func:`lu`, or :func:`by_product` of any pseudoinverse; bind
        options with ``functools.partial``.
    check_finite : bool
        Raise on NaN and infinity, in place of a NaN value with status ``NON_FINITE``.

    Returns
    -------
    SolveResult

    Raises
    ------
    DTypeError, DeviceError, KindError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument; ``method`` also where it gives no array of X's shape.

    Notes
    -----
    Cost: about 4m³/3 + 4m²r multiplications for a square matrix by the default.  Derivative in Torch with the two
    factorising methods, in closed form at constant rank (Golub and Pereyra 1973): two more solves, O(mr) memory
    beyond A and B; for complex matrices in Torch's convention, ∂L/∂Re A + i ∂L/∂Im A.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import pinv
    >>> result = pinv.solve(np.array([[2.0, 0.0], [0.0, 0.0]]), np.array([[4.0], [1.0]]))
    >>> result.value.ravel().tolist(), float(result.residual)
    ([2.0, 0.0], 0.0)
    """
    require_callable("method", method, "a callable (a, b) -> A⁺B")
    require_flag("check_finite", check_finite)
    xp, work, rhs = _operands(a, b)
    if check_finite:
        require_finite(xp, a=a, b=b)
    shape = (*work.shape[:-2], work.shape[-1], rhs.shape[-1])
    value = xp.astype(require_array("method", method(work, rhs), rhs, shape), b.dtype, copy=False)
    finite = all_finite(work, rhs) & all_finite(value)
    return SolveResult(xp.where(finite[..., None, None], value, xp.nan), finite, work, rhs)


def _operands(a: Array, b: Array) -> tuple[Any, Array, Array]:
    """The namespace, and A and B checked, in the dtype to compute in and of one batch."""
    xp = namespace(a=a, b=b)
    real_or_complex(xp, a=a, b=b)
    require_matrix("a", a)
    require_matrix("b", b)
    if b.shape[-2] != a.shape[-2]:
        raise ShapeError("b", f"of {b.shape[-2]} rows", f"as many rows as `a` has, {a.shape[-2]}")
    batch = broadcast_shapes(a=tuple(a.shape[:-2]), b=tuple(b.shape[:-2]))
    dtype = compute_dtype(xp, a.dtype)
    work, rhs = (xp.broadcast_to(xp.astype(x, dtype, copy=False), (*batch, *x.shape[-2:])) for x in (a, b))
    return xp, work, rhs


def _differentiable(method: Solver, a: Array, b: Array) -> Array:
    """A⁺B by a factorisation, with its derivative in closed form."""

    def forward(a: Array, b: Array) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        x = method(a, b)
        return (x,), (a, b, x)

    def vjp(g: Array, a: Array, b: Array, x: Array) -> tuple[Array, Array]:
        return _solve_vjp(method, g, a, b, x)

    return with_vjp(forward, vjp, a, b)[0]


def _solve_vjp(method: Solver, g: Array, a: Array, b: Array, x: Array) -> tuple[Array, Array]:
    r"""With :math:`Y = A^{+H}G`, :math:`V = A^{+H}X`: cotangents of A and B for G of :math:`X = A^+B`.

    .. math:: \bar B = Y,\qquad
              \bar A = -YX^H + (B - AX)(A^+Y)^H + V(G - A^HY)^H.
    """
    xp = namespace(g=g, a=a)
    r = g.shape[-1]
    both = method(adjoint(a), xp.concat([g, x], axis=-1))
    y, v = both[..., :r], both[..., r:]
    w = method(a, y)
    of_a = v @ adjoint(g - adjoint(a) @ y) - y @ adjoint(x) + (b - a @ x) @ adjoint(w)
    return of_a, y


def pseudoinverse_vjp(g: Array, a: Array, z: Array) -> Array:
    r"""The cotangent of A for G of :math:`Z = A^+` (Golub and Pereyra 1973, eq. (4.12), at constant rank).

    .. math:: \bar A = -Z^HGZ^H + (I - AZ)G^HZZ^H + Z^HZG^H(I - ZA).
    """
    zt, gt = adjoint(z), adjoint(g)
    left = gt @ z
    of_a = (left - a @ (z @ left)) @ zt
    right = z @ gt
    return of_a + zt @ (right - (right @ z) @ a - g @ zt)
