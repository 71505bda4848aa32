r"""Bounds and estimates after the fact that are free: what a factor, or a sketch, tells of its own error.

:func:`psd_sandwich` where the residual's diagonal is known, :func:`leave_one_out` where a Gaussian sketch is.
"""

from __future__ import annotations

from math import inf, sqrt

import numpy as np

from nystrom_numerics.arguments import require_instance, require_nonnegative, require_number
from nystrom_numerics.backend import (
    Array,
    floating,
    namespace,
    require_matrix,
    to_numpy,
)
from nystrom_numerics.bounds.result import (
    Certificate,
    Estimate,
    Norm,
    Side,
    bound,
)
from nystrom_numerics.errors import NonFiniteError, RangeError, ShapeError

__all__ = ["leave_one_out", "psd_sandwich"]


def psd_sandwich(
    diagonal: Array,
    /,
    *,
    trivial: tuple[float, float, float] = (inf, inf, inf),
    rounding: float = 0.0,
    indefinite: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> tuple[Certificate, Certificate, Certificate]:
    r"""Certificates of R ⪰ 0 from its diagonal, in the spectral, Frobenius and trace norm.

    .. math:: \max_iR_{ii} \le \|R\|_2 \le \mathrm{tr}R,\qquad
              \Bigl(\sum_iR_{ii}^2\Bigr)^{1/2} \le \|R\|_F \le \mathrm{tr}R,\qquad \|R\|_* = \mathrm{tr}R

    Parameters
    ----------
    diagonal : array (n,)
        As :func:`~nystrom_numerics.lowrank.nystrom_factor` gives it with ``diagonal=True``.
    trivial : tuple of float
        The three norms of A, or bounds of them, to tell vacuous bounds by.
    rounding : float
        How far a diagonal entry may be off; lower bounds give it up and upper ones add it, n times for the
        trace.
    indefinite : tuple of float
        The three norms of E, where R is only R₀ + E with R₀ ⪰ 0: by rounding, for instance.  No lower bound rests on
        R ⪰ 0; upper ones add the norm of E, and its trace, which the first of the three must bound too.

    Returns
    -------
    tuple of three Certificate

    Raises
    ------
    DTypeError, KindError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    No kernel entry.  Deterministic, for R ⪰ 0: the residual of a PSD matrix by Nyström's approximation is.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds
    >>> _, frobenius, trace = bounds.psd_sandwich(np.array([0.3, 0.4]))
    >>> [round(b.value, 6) for b in (frobenius.lower, frobenius.upper, trace.upper)]
    [0.5, 0.7, 0.7]
    """
    floating(namespace(diagonal=diagonal), diagonal=diagonal)
    if diagonal.ndim != 1 or not diagonal.shape[0]:
        raise ShapeError("diagonal", f"of shape {tuple(diagonal.shape)}", "shape (n,), not empty")
    host = to_numpy(diagonal).astype(np.float64)
    if not np.isfinite(host).all():
        raise NonFiniteError("diagonal", "not finite", "finite entries")
    rounding = require_nonnegative("rounding", rounding)
    for name, norms in (("trivial", trivial), ("indefinite", indefinite)):
        if len(require_instance(name, norms, (tuple, list), "three norms")) != 3:
            raise ShapeError(name, f"{len(norms)} numbers", "three, one a norm")
        for one in norms:
            require_number(name, one, lambda x: x >= 0, "a number of at least 0, or infinity")
    small = np.maximum(host - rounding, 0.0)
    trace = float((host + rounding).sum()) + indefinite[0]
    source = "R ⪰ 0: diagonal and trace"
    lower = (float(small.max()), float(np.linalg.norm(small)), float(small.sum()))
    spectral, frobenius, nuclear = (
        Certificate(
            bound(low, Side.LOWER, norm, source, trivial=0.0),
            None,
            bound(trace + beyond, Side.UPPER, norm, source, trivial=known),
        )
        for low, norm, known, beyond in zip(
            lower, (Norm.SPECTRAL, Norm.FROBENIUS, Norm.TRACE), trivial, indefinite, strict=True
        )
    )
    return spectral, frobenius, nuclear


def leave_one_out(sketch: Array, test: Array, /) -> Estimate:
    r"""The Frobenius error of the Nyström approximation from a Gaussian sketch, estimated from itself.

    .. math:: \Bigl(\frac1m\sum_i\|(A - \hat A_{(i)})\omega_i\|_2^2\Bigr)^{1/2},\qquad
              (A - \hat A_{(i)})\omega_i = \frac{YH^{-1}e_i}{(H^{-1})_{ii}},\qquad H = \Omega^TY

    where :math:`\hat A_{(i)}` is made without column i.  Its square is an unbiased estimate of
    :math:`E\|A - \hat A\|_F^2` for m − 1 columns.

    Parameters
    ----------
    sketch : array (n, m)
        Y = AΩ, A symmetric PSD.
    test : array (n, m)
        Ω, independent standard Gaussian entries.  For landmarks, which are no such draws, this says nothing.

    Returns
    -------
    Estimate
        Of no matvec beyond the sketch.  ``standard_error`` is that of a mean of m terms as if they were
        independent, which they nearly are.

    Raises
    ------
    RangeError
        H is not positive definite: m exceeds the numerical rank.

    Notes
    -----
    Cost: one m × m inverse and a product n × m × m.  Source: Epperly and Tropp 2024, eqs. (3.3) and (3.5).

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds
    >>> rng = np.random.default_rng(0)
    >>> a = np.diag(0.5 ** np.arange(60))
    >>> omega = rng.standard_normal((60, 12))
    >>> found = bounds.leave_one_out(a @ omega, omega)
    >>> y = a @ omega
    >>> truth = np.linalg.norm(a - y @ np.linalg.inv(omega.T @ y) @ y.T)
    >>> bool(0.5 * truth < found.value < 5 * truth), found.matvecs
    (True, 0)
    """
    columns, inverse = _left_out(sketch, test)
    squares = (np.linalg.norm(columns, axis=0) / inverse.diagonal()) ** 2
    mean, m = float(squares.mean()), len(squares)
    error = float(squares.std(ddof=1)) / sqrt(m) / (2 * sqrt(mean)) if m > 1 and mean > 0 else None
    return Estimate(sqrt(mean), error, 0, "leave-one-out of a Gaussian sketch; Epperly and Tropp 2024")


def _left_out(sketch: Array, test: Array) -> tuple[np.ndarray, np.ndarray]:
    """YH⁻¹ and H⁻¹ on the host in float64."""
    floating(namespace(sketch=sketch, test=test), sketch=sketch, test=test)
    require_matrix("sketch", sketch)
    if sketch.ndim != 2:
        raise ShapeError("sketch", f"of shape {tuple(sketch.shape)}", "shape (n, m)")
    if sketch.shape != test.shape:
        raise ShapeError("test", f"of shape {tuple(test.shape)}", f"that of `sketch`, {tuple(sketch.shape)}")
    y, omega = (to_numpy(x).astype(np.float64) for x in (sketch, test))
    h = omega.T @ y
    values, vectors = np.linalg.eigh((h + h.T) / 2)
    if not values[0] > 64 * len(h) * 2.0**-53 * values[-1]:
        got = f"with least eigenvalue {values[0]:.2e} of ΩᵀAΩ"
        raise RangeError("sketch", got, "fewer columns than the numerical rank of a PSD matrix")
    inverse = (vectors / values) @ vectors.T
    return y @ inverse, inverse
