r"""Bounds for attention made from true kernel columns: queries and keys lifted to one positive semidefinite kernel."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt

import numpy as np

from nystrom_numerics.arguments import require_number, require_probability
from nystrom_numerics.attention.arguments import check_arguments, tokens_of
from nystrom_numerics.backend import Array, floating, generator, require_finite, require_matrix, to_numpy
from nystrom_numerics.bounds import Bound, Norm, Side, lanczos_norm, row_normalisation
from nystrom_numerics.bounds.result import bound
from nystrom_numerics.brief import brief
from nystrom_numerics.errors import RangeError, ShapeError
from nystrom_numerics.kernels import gaussian
from nystrom_numerics.landmarks import LandmarkPoints
from nystrom_numerics.linalg import transpose
from nystrom_numerics.lowrank import nystrom_factor

__all__ = ["LiftBounds", "psd_lift"]


@dataclass(frozen=True)
class LiftBounds:
    r"""What the residual of the lifted kernel says of the block of queries and keys.

    Attributes
    ----------
    spectral : Bound
        :math:`\|A - \hat A\|_2 \le \tfrac12\lambda_{\max}(R)`, with λ_max from above by Lanczos; or the Frobenius
        form, where no products were asked for.
    frobenius : Bound
        :math:`\|A - \hat A\|_F \le \sqrt{\mathrm{tr}R_Q\,\mathrm{tr}R_K}`.
    largest : Bound
        :math:`\max_{ij}|A - \hat A|_{ij} \le \sqrt{\max_iR_{ii}\max_jR_{jj}}`.
    normalised : Bound
        :math:`\|S - \tilde S\|_F` for :math:`\tilde S`, the rows of :math:`\hat A\,\mathrm{diag}(w)` divided by
        their sums, :math:`w_j = e^{s\|k_j\|^2/2}`.
    residual_q, residual_k : array (n_q,), (n_k,)
        The diagonal of R.
    entries : int

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import attention
    >>> q, k = np.random.default_rng(0).standard_normal((2, 40, 4))
    >>> found = attention.psd_lift(q, k, np.concatenate([q, k]))  # every point a landmark
    >>> bool(found.frobenius.value < 1e-6), found.frobenius.certainty
    (True, 'with certainty')
    """

    spectral: Bound
    frobenius: Bound
    largest: Bound
    normalised: Bound
    residual_q: Array
    residual_k: Array
    entries: int

    __repr__ = brief


def psd_lift(
    q: Array,
    k: Array,
    points: Array,
    /,
    *,
    scale: float | None = None,
    ratio: float | None = None,
    failure: float = 0.01,
    rng: np.random.Generator | int = 0,
) -> LiftBounds:
    r"""Bounds for attention approximated by true kernel columns of landmark points, one head.

    With X = [Q; K] and the Gaussian kernel of :math:`\gamma = s/2`,
    :math:`E - E_{XZ}E_{ZZ}^+E_{ZX} = R \succeq 0` for any points Z, so that its block of queries and keys
    :math:`A - \hat A` is bounded by R's diagonal blocks.  softmax(sQKᵀ) is the row-normalised A diag(w).

    Parameters
    ----------
    q : array (n_q, d)
    k : array (n_k, d)
    points : array (m, d)
        Landmarks, of queries and keys together.
    scale : float, optional
        s, above 0; by default :math:`1/\sqrt d`.
    ratio : float, optional
        Where given, λ_max(R) is bounded to within this factor by Lanczos iteration, at (n_q + n_k)² kernel
        entries a step.
    failure, rng
        Of the Lanczos bound.

    Returns
    -------
    LiftBounds
        For :math:`\hat A = E_{QZ}E_{ZZ}^+E_{ZK}`, which is not the paper's estimator: that one has no such bound.

    Raises
    ------
    DTypeError, DeviceError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument; NaN and infinity are refused.

    Notes
    -----
    Cost: (n_q + n_k)m + m² kernel entries; memory (n_q + n_k)m.  Rounding: each R_ii has an allowance of
    16√m units of roundoff, where the core is truncated, added.  Derived: a block of a PSD matrix has
    :math:`|R_{ij}|^2 \le R_{ii}R_{jj}`, and norm at most half of the whole's λ_max when it is off-diagonal.
    Trivial: √(n_q n_k), √2·√n_q for the normalised form.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import attention
    >>> q, k = np.random.default_rng(0).standard_normal((2, 40, 4))
    >>> found = attention.psd_lift(q, k, np.concatenate([q[::4], k[::4]]))
    >>> found.residual_q.shape, found.entries
    ((40,), 2000)
    """
    a = check_arguments(q, k, scale=scale)
    xp = tokens_of(q=q, points=points)
    floating(xp, q=q, points=points)
    for name, x in (("q", q), ("k", k), ("points", points)):
        require_matrix(name, x)
        if x.ndim != 2 or x.shape[1] != q.shape[-1]:
            raise ShapeError(name, f"of shape {tuple(x.shape)}", f"shape (n, {q.shape[-1]}), one head")
    require_finite(xp, q=q, k=k, points=points)
    if not a.scale > 0:
        raise RangeError("scale", f"{a.scale}", "a number above 0")
    if ratio is not None:
        require_number("ratio", ratio, lambda x: x > 1, "a number above 1, or None")
    require_probability("failure", failure)
    generator(rng)
    n_q, n_k = q.shape[0], k.shape[0]
    x = xp.astype(xp.concat([q, k], axis=0), xp.float64)
    kernel = gaussian(x, gamma=a.scale / 2)
    marks = LandmarkPoints(xp.astype(points, xp.float64), None, 0, None)
    factor = nystrom_factor(kernel, marks)
    allowance = 16 * 2.0**-53 * sqrt(points.shape[0])
    residual = xp.clip(1 - factor.diagonal() + allowance, min=0.0, max=1.0)
    of_q, of_k = residual[:n_q], residual[n_q:]
    trivial = sqrt(n_q * n_k)
    source = "PSD lift, R ⪰ 0; derived here"
    whole = sqrt(float(xp.sum(of_q)) * float(xp.sum(of_k)))
    frobenius = bound(whole, Side.UPPER, Norm.FROBENIUS, source, trivial=trivial)
    largest = sqrt(float(xp.max(of_q)) * float(xp.max(of_k)))
    if ratio is None:
        spectral = bound(whole, Side.UPPER, Norm.SPECTRAL, source, trivial=trivial)
    else:
        found = lanczos_norm(
            lambda u: kernel.apply(u) - factor.apply(u), x, ratio=ratio, failure=failure, rng=rng
        ).upper
        half = (inf if found.value is None else found.value) / 2
        spectral = bound(
            min(half, whole),
            Side.UPPER,
            Norm.SPECTRAL,
            f"{source}; ½λ_max: {found.source}",
            trivial=trivial,
            probability=found.probability,
        )
    # weights of the keys, scaled by their largest, which normalisation cancels
    exponent = xp.sum(x[n_q:, :] ** 2, axis=1) * (a.scale / 2)
    weights = xp.exp(exponent - xp.max(exponent))
    f = factor.factor
    sums = f[:n_q, :] @ (transpose(f[n_q:, :]) @ weights)
    errors = xp.sqrt(of_q) * xp.sum(xp.sqrt(of_k) * weights)
    row = to_numpy(row_normalisation(errors, sums))
    normalised = bound(
        float(np.linalg.norm(row)),
        Side.UPPER,
        Norm.FROBENIUS,
        f"{source}; row normalisation",
        trivial=sqrt(2 * n_q),
    )
    return LiftBounds(
        spectral,
        frobenius,
        bound(largest, Side.UPPER, Norm.MAX, source, trivial=1.0),
        normalised,
        of_q,
        of_k,
        kernel.entries,
    )
