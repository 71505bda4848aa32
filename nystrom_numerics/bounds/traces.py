"""Traces of operators that can only be applied: Hutch++, XTrace and XNysTrace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf, sqrt

import numpy as np

from nystrom_numerics.arguments import require_callable, require_count, require_instance, require_positive
from nystrom_numerics.backend import Array, from_numpy, generator, namespace, to_numpy
from nystrom_numerics.bounds.probes import Operator, require_like
from nystrom_numerics.bounds.result import Estimate
from nystrom_numerics.errors import RangeError
from nystrom_numerics.linalg import transpose
from nystrom_numerics.lowrank.arguments import checked_operator

__all__ = ["hutchpp", "trace_within", "xnystrace", "xtrace"]


def hutchpp(
    apply: Operator, like: Array, /, *, matvecs: int = 30, rng: np.random.Generator | int = 0
) -> Estimate:
    r"""Hutch++: the trace on the range of a sketch exactly, on the rest by random signs.

    .. math:: \mathrm{tr}(Q^TAQ) + \frac1r\sum_i g_i^T(I - QQ^T)A(I - QQ^T)g_i,\qquad Q = \mathrm{orth}(A\Omega)

    Parameters
    ----------
    apply : callable
        v (n, c) to A v; A square.
    like : array (n, ...)
        Of the library, device, dtype and number of rows that ``apply`` takes.
    matvecs : int
        A multiple of 3, at most 3n; a third for each part.
    rng : numpy.random.Generator or int

    Returns
    -------
    Estimate
        Unbiased; the standard error is that of the second term.

    Raises
    ------
    DTypeError, KindError, NamespaceError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    For A ⪰ 0 the variance is at most :math:`O(1/r^2)(\mathrm{tr}A)^2`.  Source: Meyer, Musco, Musco and Woodruff
    2021, Algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds
    >>> a = np.diag(0.5 ** np.arange(60))
    >>> found = bounds.hutchpp(lambda v: a @ v, np.zeros(60), matvecs=30)
    >>> round(found.value, 2), found.matvecs
    (2.0, 30)
    """
    n = _require(like, matvecs, 3)
    apply = checked_operator("apply", apply, n)
    third = matvecs // 3
    source, _ = generator(rng)
    signs = _as(like, source.choice([-1.0, 1.0], (n, 2 * third)))
    xp = namespace(like=like)
    q, _ = xp.linalg.qr(apply(signs[:, :third]))
    rest = signs[:, third:]
    rest = rest - q @ (transpose(q) @ rest)
    captured = float(xp.sum(q * apply(q), dtype=xp.float64))
    terms = to_numpy(xp.sum(rest * apply(rest), axis=0)).astype(np.float64)
    return _mean(captured + terms, matvecs, "Hutch++; Meyer, Musco, Musco and Woodruff 2021, Algorithm 1")


def xtrace(
    apply: Operator, like: Array, /, *, matvecs: int = 30, rng: np.random.Generator | int = 0
) -> Estimate:
    r"""XTrace: each of m test vectors estimates what the range of the others leaves; symmetric A.

    Parameters
    ----------
    apply, like, rng
        As in :func:`hutchpp`; A symmetric.
    matvecs : int
        2m, even, at most 2n.

    Returns
    -------
    Estimate
        As from :func:`hutchpp`.

    Raises
    ------
    DTypeError, KindError, NamespaceError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: 2m matvecs, one QR n × m and O(nm²) multiplications.

    With Y = AΩ = QR, the range without column i is that of :math:`Q(I - s_is_i^T)`, :math:`s_i \propto
    R^{-T}e_i`, so that nothing is factored anew.  The m estimates are exchangeable, each unbiased; their
    standard error is taken as if they were independent.  Source: Epperly, Tropp and Webber 2024, §2.1.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds
    >>> a = np.diag(0.5 ** np.arange(60))
    >>> round(bounds.xtrace(lambda v: a @ v, np.zeros(60), matvecs=30).value, 2)
    2.0
    """
    n = _require(like, matvecs, 2)
    apply = checked_operator("apply", apply, n)
    m = matvecs // 2
    source, _ = generator(rng)
    xp = namespace(like=like)
    omega = _as(like, source.choice([-1.0, 1.0], (n, m)))
    y = apply(omega)
    q, r = xp.linalg.qr(y)
    z = apply(q)
    h, w = transpose(q) @ z, transpose(q) @ omega
    size = float(xp.max(xp.abs(xp.linalg.diagonal(r)))) if m else 0.0
    if float(xp.min(xp.abs(xp.linalg.diagonal(r)))) <= 64 * m * float(xp.finfo(like.dtype).eps) * size:
        return Estimate(float(xp.sum(xp.linalg.diagonal(h))), 0.0, matvecs, "XTrace, range exhausted")
    s = transpose(xp.linalg.inv(r))
    s = s / xp.sqrt(xp.sum(s * s, axis=0))[None, :]
    v = w - s * xp.sum(s * w, axis=0)[None, :]
    own = (
        xp.sum(omega * y, axis=0) - 2 * xp.sum(transpose(z) @ omega * v, axis=0) + xp.sum(v * (h @ v), axis=0)
    )
    terms = xp.sum(xp.linalg.diagonal(h)) - xp.sum(s * (h @ s), axis=0) + own
    found = to_numpy(terms).astype(np.float64)
    return _mean(found, matvecs, "XTrace; Epperly, Tropp and Webber 2024, §2.1")


def xnystrace(
    apply: Operator, like: Array, /, *, matvecs: int = 30, rng: np.random.Generator | int = 0
) -> Estimate:
    r"""XNysTrace: as :func:`xtrace`, with Nyström approximations in place of projections; A ⪰ 0.

    .. math:: t_i = \mathrm{tr}\hat A - \frac{\|YH^{-1}e_i\|^2}{(H^{-1})_{ii}} + \frac1{(H^{-1})_{ii}},
              \qquad \hat A = YH^{-1}Y^T,\quad H = \Omega^TY

    Parameters
    ----------
    apply, like, rng
        As in :func:`hutchpp`; A symmetric PSD.
    matvecs : int
        1 to n.

    Returns
    -------
    Estimate
        As from :func:`hutchpp`.

    Raises
    ------
    DTypeError, KindError, NamespaceError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: m matvecs.  Where H is singular to rounding, the rank is exhausted and the trace of
    :math:`YH^+Y^T` is given.  Source: Epperly, Tropp and Webber 2024, §2.3; the Gaussian shift of theirs
    is not used, and the vectors are signs and not rescaled.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds
    >>> a = np.diag(0.5 ** np.arange(60))
    >>> round(bounds.xnystrace(lambda v: a @ v, np.zeros(60), matvecs=15).value, 2)
    2.0
    """
    n = _require(like, matvecs, 1)
    apply = checked_operator("apply", apply, n)
    source, _ = generator(rng)
    omega = source.choice([-1.0, 1.0], (n, matvecs))
    y = to_numpy(apply(_as(like, omega))).astype(np.float64)
    h = omega.T @ y
    values, vectors = np.linalg.eigh((h + h.T) / 2)
    level = 64 * matvecs * float(namespace(like=like).finfo(like.dtype).eps)
    kept = values > level * values[-1]
    rotated = y @ vectors[:, kept]
    trace = float(((rotated**2).sum(axis=0) / values[kept]).sum())
    if not kept.all():
        return Estimate(trace, 0.0, matvecs, "XNysTrace, rank exhausted")
    inverse = (vectors / values) @ vectors.T
    own = inverse.diagonal()
    terms = trace - ((y @ inverse) ** 2).sum(axis=0) / own + 1 / own
    return _mean(terms, matvecs, "XNysTrace; Epperly, Tropp and Webber 2024, §2.3")


def trace_within(
    estimator: Callable[..., Estimate],
    apply: Operator,
    like: Array,
    /,
    *,
    rtol: float = 0.05,
    first: int = 12,
    rng: np.random.Generator | int = 0,
) -> Estimate:
    r"""The trace to a relative standard error of ``rtol``, by an estimator given twice the matvecs until it is there.

    Parameters
    ----------
    estimator : callable
        :func:`hutchpp`, :func:`xtrace` or :func:`xnystrace`.
    apply, like, rng
        As there.
    rtol : float
        Of the estimate's own standard error, above 0.
    first : int
        Matvecs of the first attempt, a multiple of 6.

    Returns
    -------
    Estimate
        The last attempt alone, its vectors new; ``matvecs`` counts all attempts, at most twice those of the last.
        Where vectors as many as rows do not suffice, the standard error says so by being larger.

    Raises
    ------
    RangeError
        Naming the argument.

    Notes
    -----
    Cost: the matvecs of all attempts, at most twice those of the last.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds
    >>> a = np.diag(1 / np.arange(1.0, 301))
    >>> found = bounds.trace_within(bounds.xnystrace, lambda v: a @ v, np.zeros(300), rtol=0.01)
    >>> bool(abs(found.value - a.trace()) < 0.05 * a.trace()), bool(found.standard_error <= 0.01 * found.value)
    (True, True)
    """
    rtol = require_positive("rtol", rtol)
    if require_count("first", first, 6) % 6:
        raise RangeError("first", f"{first}", "a multiple of 6")
    require_callable("estimator", estimator)
    source, _ = generator(rng)
    most = max(6, require_like(like) // 6 * 6)
    count, spent = min(first, most), 0
    while True:
        found = require_instance(
            "estimator",
            estimator(apply, like, matvecs=count, rng=source),
            Estimate,
            "one that gives an Estimate",
        )
        spent += found.matvecs
        error = inf if found.standard_error is None else found.standard_error
        if error <= rtol * abs(found.value) or count == most:
            return replace(found, matvecs=spent)
        count = min(2 * count, most)


def _require(like: Array, matvecs: int, unit: int) -> int:
    n = require_like(like)
    if require_count("matvecs", matvecs, unit, unit * n) % unit:
        raise RangeError("matvecs", f"{matvecs}", f"a multiple of {unit}")
    return n


def _as(like: Array, drawn: np.ndarray) -> Array:
    xp = namespace(like=like)
    return xp.astype(from_numpy(xp, drawn, like), like.dtype, copy=False)


def _mean(terms: np.ndarray, matvecs: int, source: str) -> Estimate:
    count = len(terms)
    error = float(terms.std(ddof=1)) / sqrt(count) if count > 1 else None
    return Estimate(float(terms.mean()), error, matvecs, source)
