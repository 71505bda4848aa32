r"""A⁺B without A⁺: solving with a small matrix is cheaper and more accurate than inverting it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

from nystrom_numerics.backend import (
    Array,
    broadcast_shapes,
    compute_dtype,
    device_of,
    floating,
    least_squares,
    namespace,
    require_finite,
    require_matrix,
    status_tells,
    with_vjp,
    worst_status,
)
from nystrom_numerics.errors import ShapeError, Status
from nystrom_numerics.linalg import all_finite, frobenius, pivoted_qr, transpose
from nystrom_numerics.pinv.result import PinvResult

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
    """

    value: Array
    finite: Array
    a: Array = field(repr=False)
    b: Array = field(repr=False)

    @cached_property
    def residual(self) -> Array:
        r""":math:`\|A^T(AX - B)\|_F / (\|A\|_F(\|A\|_F\|X\|_F + \|B\|_F))`, shape (...).

        Zero for every least-squares solution, and for a square non-singular A small together with the backward
        error.  Computed when it is asked for: two products with r columns.
        """
        xp = namespace(a=self.a)
        x = xp.astype(self.value, self.a.dtype, copy=False)
        size = frobenius(self.a)
        scale = size * (size * frobenius(x) + frobenius(self.b))
        normal = frobenius(transpose(self.a) @ (self.a @ x - self.b))
        return normal / xp.where(scale > 0, scale, xp.ones_like(scale))

    @property
    def codes(self) -> Array:
        """``CONVERGED`` or ``NON_FINITE`` of each matrix, see :class:`~nystrom_numerics.errors.Status`."""
        xp = namespace(a=self.a)
        return xp.astype(~self.finite, xp.int64) * int(Status.NON_FINITE)  # CONVERGED is 0

    @property
    def status(self) -> Status:
        """The worst status in the stack (synchronises with the device)."""
        return worst_status(self.codes)


def rank_revealing(a: Array, b: Array, /, *, rtol: float | None = None) -> Array:
    r"""A⁺B through a complete orthogonal factorisation, the default of :func:`solve`.

    Singular values that the factorisation finds to be at most ``rtol`` times the largest count as zero;
    the default is ``max(m, n) * eps``.  LAPACK's ``gelsy`` where the library has it (see
    :func:`~nystrom_numerics.backend.least_squares`), else :func:`~nystrom_numerics.linalg.pivoted_qr` twice.
    """
    xp = namespace(a=a, b=b)
    finite = all_finite(a, b)[..., None, None]
    a, b = (
        xp.where(finite, a, 0.0),
        xp.where(finite, b, 0.0),
    )  # LAPACK refuses NaN, and the whole batch with it
    cutoff = max(a.shape[-2:]) * float(xp.finfo(a.dtype).eps) if rtol is None else rtol
    solved = least_squares(xp, a, b, cutoff)
    return _by_two_qr(xp, a, b, cutoff) if solved is None else solved


def _by_two_qr(xp: Any, a: Array, b: Array, cutoff: float) -> Array:
    """A P = Q₁R and Rᵀ = Q₂T make A⁺ = P Q₂ T⁻ᵀ Q₁ᵀ, on the rows of R that count."""
    q1, r, order = pivoted_qr(a)
    diagonal = xp.abs(xp.linalg.diagonal(r))
    kept = diagonal > cutoff * diagonal[..., :1]
    r = xp.where(kept[..., None], r, xp.zeros_like(r))
    q2, t = xp.linalg.qr(transpose(r))
    eye = xp.eye(t.shape[-1], dtype=t.dtype, device=device_of(t))
    t = xp.where(kept[..., None, :] & kept[..., :, None], t, eye)
    y = xp.where(kept[..., None], transpose(q1) @ b, xp.zeros_like(b[..., :1, :]))
    x = q2 @ xp.linalg.solve(transpose(t), y)
    back = xp.argsort(order, axis=-1)
    return xp.take_along_axis(x, xp.broadcast_to(back[..., None], x.shape), axis=-2)


def lu(a: Array, b: Array, /) -> Array:
    """A⁻¹B by Gaussian elimination: the fastest, for square matrices known to be far from singular.

    An exactly singular matrix raises the library's own error, or gives infinities and ``NON_FINITE``.
    """
    return namespace(a=a, b=b).linalg.solve(a, b)


def by_product(pinv: Callable[[Array], PinvResult], /) -> Solver:
    """The solver that forms Z with ``pinv`` and multiplies, for methods that are no factorisation."""
    return lambda a, b: pinv(a).value @ b


@status_tells
def solve(
    a: Array, b: Array, /, *, method: Solver = rank_revealing, check_finite: bool = False
) -> SolveResult:
    r"""The minimum-norm least-squares solution :math:`X = A^+B`, without forming A⁺.

    Parameters
    ----------
    a : array (..., m, n)
    b : array (..., m, r)
        Real floating, of one dtype, library and device; leading axes broadcast; 16-bit dtypes are computed in
        float32.
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
    DTypeError, DeviceError, NamespaceError, NonFiniteError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: about 4m³/3 + 4m²r multiplications for a square matrix by the default.  Derivative in Torch with the two
    factorising methods, in closed form at constant rank (Golub and Pereyra 1973): two more solves, O(mr) memory
    beyond A and B.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import pinv
    >>> result = pinv.solve(np.array([[2.0, 0.0], [0.0, 0.0]]), np.array([[4.0], [1.0]]))
    >>> result.value.ravel().tolist(), float(result.residual)
    ([2.0, 0.0], 0.0)
    """
    xp = namespace(a=a, b=b)
    floating(xp, a=a, b=b)
    require_matrix("a", a)
    require_matrix("b", b)
    if b.shape[-2] != a.shape[-2]:
        raise ShapeError("b", f"of {b.shape[-2]} rows", f"as many rows as `a` has, {a.shape[-2]}")
    batch = broadcast_shapes(a=tuple(a.shape[:-2]), b=tuple(b.shape[:-2]))
    if check_finite:
        require_finite(xp, a=a, b=b)
    dtype = compute_dtype(xp, a.dtype)
    work, rhs = (xp.broadcast_to(xp.astype(x, dtype, copy=False), (*batch, *x.shape[-2:])) for x in (a, b))
    x = _differentiable(method)(work, rhs)
    finite = all_finite(work, rhs, x)
    value = xp.where(finite[..., None, None], x, xp.nan)
    return SolveResult(xp.astype(value, b.dtype, copy=False), finite, work, rhs)


def _differentiable(method: Solver) -> Solver:
    """The method with its derivative in closed form, unless it is a product, which differentiates itself."""
    base = getattr(method, "func", method)
    if base not in (rank_revealing, lu):
        return method

    def forward(a: Array, b: Array) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        x = method(a, b)
        return (x,), (a, b, x)

    def vjp(g: Array, a: Array, b: Array, x: Array) -> tuple[Array, Array]:
        return _solve_vjp(method, g, a, b, x)

    return lambda a, b: with_vjp(forward, vjp, a, b)[0]


def _solve_vjp(method: Solver, g: Array, a: Array, b: Array, x: Array) -> tuple[Array, Array]:
    r"""With :math:`Y = A^{+T}G`, :math:`V = A^{+T}X`: cotangents of A and B for G of :math:`X = A^+B`.

    .. math:: \bar B = Y,\qquad
              \bar A = -YX^T + (B - AX)(A^+Y)^T + V(G - A^TY)^T.
    """
    xp = namespace(g=g, a=a)
    r = g.shape[-1]
    both = method(transpose(a), xp.concat([g, x], axis=-1))
    y, v = both[..., :r], both[..., r:]
    w = method(a, y)
    of_a = v @ transpose(g - transpose(a) @ y) - y @ transpose(x) + (b - a @ x) @ transpose(w)
    return of_a, y


def pseudoinverse_vjp(g: Array, a: Array, z: Array) -> Array:
    r"""The cotangent of A for G of :math:`Z = A^+` (Golub and Pereyra 1973, eq. (4.12), at constant rank).

    .. math:: \bar A = -Z^TGZ^T + (I - AZ)G^TZZ^T + Z^TZG^T(I - ZA).
    """
    zt, gt = transpose(z), transpose(g)
    left = gt @ z
    of_a = (left - a @ (z @ left)) @ zt
    right = z @ gt
    return of_a + zt @ (right - (right @ z) @ a - g @ zt)
