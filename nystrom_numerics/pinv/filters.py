r"""What a method does to a singular value: regularisation to be seen and chosen, not inherited."""

from __future__ import annotations

from collections.abc import Callable

from nystrom_numerics.arguments import require_callable
from nystrom_numerics.backend import Array, device_of, floating, namespace
from nystrom_numerics.errors import RangeError, ShapeError
from nystrom_numerics.pinv.callables import require_result
from nystrom_numerics.pinv.result import PinvResult

__all__ = ["filter_response"]


def filter_response(method: Callable[[Array], PinvResult], sigma: Array, /) -> Array:
    r"""The spectral filter :math:`\varphi(\sigma)` of a method: 1 where σ is inverted, 0 where it is dropped.

    Every method here acts on each singular value by itself,
    :math:`Z = V\,\mathrm{diag}(\varphi(\sigma_i)/\sigma_i)\,U^H`, with a φ that depends on A through its norm
    bound or largest singular value only.  It is read off by applying the method to diag(σ), for which every
    norm bound is the largest σ: for an iteration that starts from the bound β of a matrix A, take ``sigma``
    relative to β and let it contain 1.

    Parameters
    ----------
    method : callable
        ``method(a) -> PinvResult``, options bound with ``functools.partial``.
    sigma : array (k,)
        Singular values, real, at least 0, not all 0.

    Returns
    -------
    array (k,)
        :math:`\varphi(\sigma_i) = \sigma_i Z_{ii}`.

    Raises
    ------
    DTypeError, KindError, NamespaceError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: that of the method on one k × k matrix.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import pinv
    >>> pinv.filter_response(pinv.razavi, np.array([1.0, 0.1, 0.045, 0.01])).round(2)
    array([1.  , 1.  , 0.9 , 0.11])
    """
    require_callable("method", method, "a callable that gives a PinvResult")
    xp = namespace(sigma=sigma)
    floating(xp, sigma=sigma)
    if sigma.ndim != 1 or sigma.shape[0] == 0:
        raise ShapeError("sigma", f"of shape {tuple(sigma.shape)}", "shape (k,), not empty")
    if bool(xp.any(~(sigma >= 0))) or not bool(xp.any(sigma > 0)):
        raise RangeError("sigma", "negative, NaN or all zero", "singular values, at least one above 0")
    eye = xp.eye(sigma.shape[0], dtype=sigma.dtype, device=device_of(sigma))
    return xp.linalg.diagonal(require_result("method", method(eye * sigma[None, :])).value) * sigma
