"""The derivative of the pseudoinverse in place of that of the iteration that found it."""

from __future__ import annotations

from collections.abc import Callable

from nystrom_numerics.arguments import require_callable
from nystrom_numerics.backend import Array, compute_dtype, namespace, with_vjp
from nystrom_numerics.pinv.callables import require_result
from nystrom_numerics.pinv.result import PinvResult
from nystrom_numerics.pinv.solving import pseudoinverse_vjp

__all__ = ["implicit"]


def implicit(method: Callable[[Array], PinvResult], /) -> Callable[[Array], PinvResult]:
    r"""``method`` with the closed-form derivative of A⁺ in Torch, instead of backpropagation through its steps.

    .. math:: dZ = -Z\,dA\,Z + ZZ^H\,dA^H(I - AZ) + (I - ZA)\,dA^H\,Z^HZ.

    Nine products and O(m²) memory, whatever the number of steps.  Hypotheses: the rank is constant, and Z is A⁺
    to the accuracy wanted of the derivative.  For an unfinished iteration this is **not** the derivative of what
    was computed; leave the method unwrapped for that.

    Source: Golub and Pereyra 1973, eq. (4.12).

    Parameters
    ----------
    method : callable
        ``method(a) -> PinvResult``, options bound with ``functools.partial``.

    Returns
    -------
    callable
        ``wrapped(a) -> PinvResult``, the same numbers with the other derivative; what is no Torch tensor is served
        as by ``method``.

    Raises
    ------
    KindError
        Naming the argument.

    Examples
    --------
    >>> from functools import partial
    >>> import torch
    >>> from nystrom_numerics import pinv
    >>> method = pinv.implicit(partial(pinv.hyperpower, tol=1e-12))
    >>> a = torch.tensor([[2.0, 0.0], [0.0, 4.0]], dtype=torch.float64, requires_grad=True)
    >>> method(a).value.trace().backward()
    >>> a.grad.diagonal()
    tensor([-0.2500, -0.0625], dtype=torch.float64)
    """

    require_callable("method", method, "a callable that gives a PinvResult")

    def wrapped(a: Array, /) -> PinvResult:
        def forward(a: Array) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
            r = require_result("method", method(a))
            return (r.value, r.residual, r.iterations, r.matmuls, r.codes), (a, r.value)

        def vjp(g: Array, a: Array, z: Array) -> tuple[Array, ...]:
            xp = namespace(g=g)
            wide = (xp.astype(x, compute_dtype(xp, x.dtype), copy=False) for x in (g, a, z))
            return (xp.astype(pseudoinverse_vjp(*wide), a.dtype, copy=False),)

        return PinvResult(*with_vjp(forward, vjp, a))

    return wrapped
