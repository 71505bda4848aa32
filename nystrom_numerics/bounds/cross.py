r"""Bounds before the fact for cross (CUR) approximations from true rows I and columns J of any matrix.

The core :math:`W = A_{IJ}` is a submatrix of A: none of these speaks of attention with landmarks made before
the softmax.  The trivial bound from above is the norm of A.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import numpy as np

from nystrom_numerics.arguments import require_count, require_indices
from nystrom_numerics.backend import Array
from nystrom_numerics.bounds.result import Bound, Hypothesis, Norm, Side, bound
from nystrom_numerics.bounds.spectrum import Host, on_host, singular_values, tail_norms
from nystrom_numerics.errors import RangeError

__all__ = ["generalised_nystrom", "goreinov_tyrtyshnikov", "oversampled_cross", "sorensen_embree"]


def _indices(name: str, chosen: Sequence[int], length: int) -> Host:
    found = require_indices(name, chosen, length)
    distinct = len(set(found.tolist()))
    if not distinct or distinct < len(found):
        got = f"{len(found)} indices, {distinct} of them distinct"
        raise RangeError(name, got, f"distinct indices in [0, {length}), one at least")
    return found


def _growth(x: Host, size: float = 1.0) -> float:
    """‖X⁺‖₂ for a part X of full rank of a matrix of norm ``size``, inf where rounding cannot tell it is."""
    sigma = np.linalg.svd(x, compute_uv=False)
    return inf if sigma[-1] <= 64 * max(x.shape) * 2.0**-52 * size else float(1 / sigma[-1])


def goreinov_tyrtyshnikov(a: Array, rows: Sequence[int], columns: Sequence[int], /) -> Bound:
    r"""The largest entry of :math:`A - CW^{-1}R`: at most :math:`(k + 1)\,g\,\sigma_{k+1}`.

    For each entry outside the cross, W bordered by its row and column is a matrix of order k + 1; g is the
    largest ratio of the volume of a k × k submatrix of one of these to that of W.  It is 1 for a W of maximal
    volume, and for a dominant one that no bordering beats.

    Parameters
    ----------
    a : array (n, p)
    rows, columns : sequence of int
        k of each.

    Returns
    -------
    Bound
        Of the largest entry; without a value where the hypothesis fails.

    Raises
    ------
    DTypeError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Hypothesis: W is regular.  Cost: npk² multiplications, memory a row of it.  Source: Goreinov and Tyrtyshnikov
    2001, Theorem 2.1, for g = 1; that it needs the bordered matrices only, and g for any W, are derived here
    from its proof: the inverse of the bordered matrix has no entry above g over the residual's.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds
    >>> a = np.array([[3.0, 0.0, 0.1], [0.0, 2.0, 0.1], [0.1, 0.1, 0.5]])
    >>> found = bounds.goreinov_tyrtyshnikov(a, [0, 1], [0, 1])
    >>> left = a - a[:, :2] @ np.linalg.inv(a[:2, :2]) @ a[:2]
    >>> bool(np.abs(left).max() <= found.value), round(found.value, 3)
    (True, 1.468)
    """
    host = on_host("a", a)
    i, j = _indices("rows", rows, host.shape[0]), _indices("columns", columns, host.shape[1])
    if len(i) != len(j):
        raise RangeError("rows", f"{len(i)} for {len(j)} columns", "as many as the columns")
    k = len(i)
    w = host[np.ix_(i, j)]
    sigma = np.linalg.svd(host, compute_uv=False)
    scale = _growth(w, float(sigma[0]))
    regular = Hypothesis("W regular", scale < inf, f"‖W⁻¹‖₂ = {scale:.3g}")
    value = inf
    if regular.holds:
        inverse = np.linalg.inv(w)
        left, right = host[:, j] @ inverse, inverse @ host[i, :]
        residual = host - left @ host[i, :]
        growth = max(1.0, float(np.abs(left).max()), float(np.abs(right).max()))
        for x, line in zip(left, residual, strict=True):
            bordered = inverse[:, :, None] * line + right[:, None, :] * x[None, :, None]
            growth = max(growth, float(np.abs(bordered).max()))
        value = (k + 1) * growth * tail_norms(sigma, k)[0]
    return bound(
        value,
        Side.UPPER,
        Norm.MAX,
        "Goreinov and Tyrtyshnikov 2001, Theorem 2.1, with the measured growth of volume",
        trivial=float(np.abs(host).max()),
        holds_under=(regular,),
    )


def sorensen_embree(a: Array, rows: Sequence[int], columns: Sequence[int], k: int, /) -> Bound:
    r"""The best CUR of given rows and columns: :math:`\|A - CC^+AR^+R\|_2 \le (\eta_p + \eta_q)\sigma_{k+1}`.

    With :math:`\eta_p = \|U_k(I,:)^+\|_2` and :math:`\eta_q = \|V_k(J,:)^+\|_2`.

    Parameters
    ----------
    a : array (n, p)
    rows, columns : sequence of int
        Distinct, k of each at least.
    k : int
        At least 1.

    Returns
    -------
    Bound
        Of the spectral norm; without a value where a hypothesis fails.

    Raises
    ------
    DTypeError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Hypotheses: both submatrices of singular vectors have full column rank.  Cost: an SVD of A.  Source: Sorensen
    and Embree 2016, Theorem 4.1; for more than k rows or columns by the same proof.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds
    >>> print(bounds.sorensen_embree(np.diag([3.0, 2.0, 0.5]), [0, 1], [0, 1], 2))
    spectral norm at most 1 with certainty (Sorensen and Embree 2016, Theorem 4.1)
    """
    host = on_host("a", a)
    i, j = _indices("rows", rows, host.shape[0]), _indices("columns", columns, host.shape[1])
    k = require_count("k", k, 1, min(len(i), len(j)))
    u, sigma, vt = np.linalg.svd(host, full_matrices=False)
    p, q = _growth(u[i, :k]), _growth(vt[:k, j].T)
    holds = (
        Hypothesis("U_k(I,:) of full column rank", p < inf, f"η_p = {p:.3g}"),
        Hypothesis("V_k(J,:) of full column rank", q < inf, f"η_q = {q:.3g}"),
    )
    value = (p + q) * tail_norms(sigma, k)[0] if p + q < inf else inf
    source = "Sorensen and Embree 2016, Theorem 4.1"
    return bound(value, Side.UPPER, Norm.SPECTRAL, source, trivial=float(sigma[0]), holds_under=holds)


def oversampled_cross(a: Array, rows: Sequence[int], columns: Sequence[int], k: int, /) -> Bound:
    r"""The cross approximation with more rows than columns, or as many, :math:`|I| \ge |J| \ge k`.

    .. math:: \|A - CW^+R\|_2 \le \|Q_C(I,:)^+\|_2\|V_k(J,:)^+\|_2\,\sigma_{k+1},\qquad C = Q_CT

    with orthonormal :math:`Q_C`.

    Parameters
    ----------
    a : array (n, p)
    rows, columns : sequence of int
        I and J, distinct.
    k : int
        1 to :math:`|J|`.

    Returns
    -------
    Bound
        Of the spectral norm; without a value where a hypothesis fails.

    Raises
    ------
    DTypeError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Hypotheses: C has full column rank, and so have :math:`Q_C(I,:)` and :math:`V_k(J,:)`.  Cost: an SVD of A.
    Source: derived here; :math:`CW^+R = PA` with the oblique projector :math:`P = Q_CQ_C(I,:)^+S_I^T`, and
    :math:`\|I - P\|_2 = \|P\|_2` on what :math:`CC^+A` leaves.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds
    >>> print(bounds.oversampled_cross(np.diag([3.0, 2.0, 0.5]), [0, 1, 2], [0, 1], 2))
    spectral norm at most 0.5 with certainty (oblique projection by sampled rows; derived here)
    """
    host = on_host("a", a)
    i, j = _indices("rows", rows, host.shape[0]), _indices("columns", columns, host.shape[1])
    k = require_count("k", k, 1, len(j))
    _, sigma, vt = np.linalg.svd(host, full_matrices=False)
    c = host[:, j]
    basis, _ = np.linalg.qr(c)
    span = _growth(c, float(sigma[0]))
    p = _growth(basis[i]) if len(i) >= len(j) else inf
    q = _growth(vt[:k, j].T)
    holds = (
        Hypothesis("C of full column rank", span < inf, f"‖C⁺‖₂ = {span:.3g}"),
        Hypothesis(
            "as many rows as columns, Q_C(I,:) of full column rank", p < inf, f"‖Q_C(I,:)⁺‖₂ = {p:.3g}"
        ),
        Hypothesis("V_k(J,:) of full column rank", q < inf, f"‖V_k(J,:)⁺‖₂ = {q:.3g}"),
    )
    value = p * q * tail_norms(sigma, k)[0] if max(span, p, q) < inf else inf
    source = "oblique projection by sampled rows; derived here"
    return bound(value, Side.UPPER, Norm.SPECTRAL, source, trivial=float(sigma[0]), holds_under=holds)


def generalised_nystrom(values: Host, columns: int, rows: int, /) -> Bound:
    r"""The generalised Nyström approximation :math:`AX(Y^TAX)^+Y^TA` of any A, X and Y Gaussian.

    .. math:: \bigl(E\|A - \hat A\|_F^2\bigr)^{1/2} \le
              \min_\rho\Bigl[\Bigl(1 + \frac{m}{l - m - 1}\Bigr)\Bigl(1 + \frac{\rho}{m - \rho - 1}\Bigr)
              \sum_{j>\rho}\sigma_j^2\Bigr]^{1/2}

    for m ``columns`` of X, l ``rows`` of :math:`Y^T`, and :math:`\rho \le m - 2`.

    Parameters
    ----------
    values : array (n,)
        Singular values of A, descending.
    columns, rows : int
        m and l.

    Returns
    -------
    Bound
        Of the Frobenius norm, in the root mean square; without a value where a hypothesis fails.

    Raises
    ------
    DTypeError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: O(nm).

    Hypotheses: m at least 2 and l at least m + 2.  Source: Tropp, Yurtsever, Udell and Cevher 2017, Theorem
    4.3, whose sketch is the one of Nakatsukasa 2020; confirmed here, the first factor being an exact mean.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds
    >>> print(bounds.generalised_nystrom(0.5 ** np.arange(20.0), 8, 16))
    Frobenius norm at most 0.06988 in the mean over the draws (Tropp, Yurtsever, Udell and Cevher 2017, Theorem 4.3)
    """
    values = singular_values("values", values)
    columns, rows = require_count("columns", columns), require_count("rows", rows)
    holds = (
        Hypothesis("m at least 2", columns >= 2, f"m = {columns}"),
        Hypothesis("l at least m + 2", rows >= columns + 2, f"m = {columns}, l = {rows}"),
    )
    value = inf
    if all(h.holds for h in holds):
        outer = 1 + columns / (rows - columns - 1)
        value = min(
            outer * (1 + r / (columns - r - 1)) * tail_norms(values, min(r, len(values)))[1] ** 2
            for r in range(columns - 1)
        )
    return bound(
        value**0.5,
        Side.UPPER,
        Norm.FROBENIUS,
        "Tropp, Yurtsever, Udell and Cevher 2017, Theorem 4.3",
        trivial=float(np.linalg.norm(values)),
        probability=None,
        holds_under=holds,
    )
