"""Conjugate gradients, and kernel ridge regression by them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nystrom_numerics.arguments import require_count, require_instance, require_positive
from nystrom_numerics.backend import (
    Array,
    device_of,
    namespace,
    require_held,
    status_tells,
    worst_status,
)
from nystrom_numerics.brief import brief
from nystrom_numerics.errors import ShapeError, Status
from nystrom_numerics.kernels import Kernel
from nystrom_numerics.kernels.arguments import require_kernel
from nystrom_numerics.lowrank.arguments import checked_operator, require_rows
from nystrom_numerics.lowrank.nystrom import NystromFactor

__all__ = ["SolveResult", "conjugate_gradients", "kernel_ridge"]


@dataclass(frozen=True, eq=False)
class SolveResult:
    r"""A solution by an iteration, with its story, per right-hand side.

    Attributes
    ----------
    value : array (n,) or (n, c)
    residual : array () or (c,)
        :math:`\|b - Ax\|_2/\|b\|_2`, computed anew at the end.
    iterations : array () or (c,) of int64
    codes : array () or (c,) of int64
        The :class:`~nystrom_numerics.errors.Status` of each.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import lowrank
    >>> lowrank.SolveResult(np.zeros(2), np.array(0.0), np.array(3), np.array(1)).status.name
    'MAX_ITERATIONS'
    """

    value: Array
    residual: Array
    iterations: Array
    codes: Array

    __repr__ = brief

    @property
    def status(self) -> Status:
        """The worst status (synchronises with the device)."""
        return worst_status(self.codes)


@status_tells
def conjugate_gradients(
    apply: Callable[[Array], Array],
    b: Array,
    /,
    *,
    precondition: Callable[[Array], Array] | None = None,
    tol: float = 1e-6,
    iterations: int = 1000,
    check_every: int = 1,
) -> SolveResult:
    r"""Preconditioned conjugate gradients for a symmetric positive definite A, all right-hand sides at once.

    Parameters
    ----------
    apply : callable
        v (n, c) to A v.
    b : array (n,) or (n, c)
    precondition : callable, optional
        v (n, c) to P⁻¹ v, symmetric positive definite, such as ``factor.preconditioner(ridge).apply``.
    tol : float
        Above 0, finite: a right-hand side stops where the residual of the recurrence is at most tol‖b‖₂.
    iterations : int
        At most, at least 0.
    check_every : int
        Iterations between looks at the residuals, each one synchronisation with the device.

    Returns
    -------
    SolveResult
        ``STAGNATED``: A or P was met as not positive definite, or the recurrence met ``tol`` and the true
        residual exceeds it tenfold; ``MAX_ITERATIONS`` and ``NON_FINITE`` as their names say.

    Raises
    ------
    RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: one product an iteration, and one at the end.  Error in the A-norm after j iterations: at most
    :math:`2((\sqrt\kappa - 1)/(\sqrt\kappa + 1))^j` times the first.  Source: Golub and Van Loan, Algorithm
    11.5.1.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import lowrank
    >>> a = np.diag([1.0, 2.0, 3.0])
    >>> found = lowrank.conjugate_gradients(lambda v: a @ v, np.ones(3))
    >>> found.value.round(6), int(found.iterations), found.status.name
    (array([1.      , 0.5     , 0.333333]), 3, 'CONVERGED')
    """
    tol = require_positive("tol", tol)
    iterations = require_count("iterations", iterations, 0)
    check_every = require_count("check_every", check_every)
    xp = namespace(b=b)
    require_rows("b", b, max(1, b.shape[0]) if b.ndim else 1)
    right = b if b.ndim == 2 else b[:, None]
    apply = checked_operator("apply", apply, b.shape[0])
    if precondition is not None:
        precondition = checked_operator("precondition", precondition, b.shape[0])

    def inner(x: Array, y: Array) -> Array:
        return xp.sum(x * y, axis=0)

    size = xp.sqrt(inner(right, right))
    x, r = xp.zeros_like(right), right
    z = r if precondition is None else precondition(r)
    p, rz = z, inner(r, z)
    active = size > 0
    broken = active & ~(rz > 0)
    active = active & ~broken
    steps = xp.zeros(size.shape, dtype=xp.int64, device=device_of(b))
    for taken in range(iterations):
        if taken % check_every == 0 and not bool(xp.any(active)):
            break
        ap = apply(p)
        curvature = inner(p, ap)
        lost = active & ~(curvature > 0)  # NaN counts as lost
        broken, active = broken | lost, active & ~lost
        one = xp.ones_like(rz)
        alpha = xp.where(active, rz / xp.where(active, curvature, one), 0 * one)
        alpha = xp.where(active, alpha, xp.zeros_like(alpha))
        x = xp.where(active[None, :], x + alpha[None, :] * p, x)
        r = xp.where(active[None, :], r - alpha[None, :] * ap, r)
        steps = steps + xp.astype(active, xp.int64)
        active = active & (xp.sqrt(inner(r, r)) > tol * size)
        z = r if precondition is None else precondition(r)
        rz_next = inner(r, z)
        lost = active & ~(rz_next > 0)
        broken, active = broken | lost, active & ~lost
        beta = xp.where(active, rz_next / xp.where(rz > 0, rz, one), 0 * one)
        p = xp.where(active[None, :], z + beta[None, :] * p, xp.zeros_like(p))
        rz = rz_next
    true = right - apply(x)
    residual = xp.sqrt(inner(true, true)) / xp.where(size > 0, size, xp.ones_like(size))
    codes = xp.where(active, steps * 0 + int(Status.MAX_ITERATIONS), int(Status.CONVERGED))
    codes = xp.where(broken | (~active & (residual > 10 * tol)), int(Status.STAGNATED), codes)
    codes = xp.where(xp.isfinite(residual), codes, int(Status.NON_FINITE))
    parts = (x, residual, steps, codes)
    return SolveResult(*(parts if b.ndim == 2 else (part[..., 0] for part in parts)))


def kernel_ridge(
    kernel: Kernel,
    y: Array,
    ridge: float,
    /,
    *,
    factor: NystromFactor | None = None,
    tol: float = 1e-6,
    iterations: int = 1000,
    check_every: int = 1,
) -> SolveResult:
    r"""Kernel ridge regression: α of :math:`(A + \mu I)\alpha = y` by conjugate gradients.

    Parameters
    ----------
    kernel : Kernel
        Symmetric PSD, of n points.
    y : array (n,) or (n, c)
    ridge : float
        μ, above 0 and a normal number of the kernel's dtype.
    factor : NystromFactor, optional
        Makes the preconditioner; without it there is none.
    tol, iterations, check_every
        As in :func:`conjugate_gradients`.

    Returns
    -------
    SolveResult
        As from :func:`conjugate_gradients`.

    Raises
    ------
    DTypeError, DeviceError, KindError, NamespaceError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: n² kernel entries an iteration, by strips; memory one strip and the factor.  Predictions at points x
    are ``kernel.cross(x).T @ alpha``.  Source: Frangella, Tropp and Udell 2023, §5; with randomly pivoted
    Cholesky, Díaz, Epperly, Frangella, Tropp and Webber 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import kernels, landmarks, lowrank
    >>> kernel = kernels.gaussian(np.random.default_rng(0).standard_normal((200, 2)), gamma=0.1)
    >>> y = np.sin(kernel.points[:, 0])
    >>> factor = lowrank.nystrom_factor(kernel, landmarks.rpcholesky(kernel, 40))
    >>> plain, ready = (lowrank.kernel_ridge(kernel, y, 1e-3, factor=f) for f in (None, factor))
    >>> ready.status.name, bool(ready.iterations < plain.iterations)
    ('CONVERGED', True)
    """
    require_kernel(kernel)
    xp = namespace(kernel=kernel.like)
    ridge = require_held(xp, "ridge", require_positive("ridge", ridge), kernel.dtype, divides=True)
    require_rows("y", y, kernel.shape[0], kernel=kernel.like)
    precondition = None
    if factor is not None:
        require_instance("factor", factor, NystromFactor)
        if factor.shape != kernel.shape:
            raise ShapeError("factor", f"of shape {factor.shape}", f"the kernel's, {kernel.shape}")
        precondition = factor.preconditioner(ridge).apply
    return conjugate_gradients(
        lambda v: kernel.apply(v) + ridge * v,
        y,
        precondition=precondition,
        tol=tol,
        iterations=iterations,
        check_every=check_every,
    )
