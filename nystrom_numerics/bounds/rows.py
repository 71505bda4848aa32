r"""Rows of an attention matrix before any exact entry is known: far masses, ratios of entries, tangents, near fields.

All rows are probability vectors, and their errors are taken together in the Frobenius norm: two such rows differ by
√2 times their total variation at most in ℓ2, for the entries that are too large and those that are too small each sum
to it.
"""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np

from nystrom_numerics.backend import Array, floating, namespace, require_matrix, to_numpy
from nystrom_numerics.bounds.result import Bound, Hypothesis, Norm, Side, bound
from nystrom_numerics.errors import RangeError, ShapeError

__all__ = ["group_sums", "near_rows", "softmax_range", "tangent_rows"]

Numbers = np.ndarray[Any, Any]


def softmax_range(scores: Array, other: Array, /) -> tuple[Bound, Bound]:
    r"""For two sets of scores whose differences range over :math:`R_i` in row i: largest entry and Frobenius norm.

    .. math:: \mathrm{TV}_i \le \tanh\tfrac{R_i}4,\qquad
              \|\mathrm{softmax}(X) - \mathrm{softmax}(Y)\|_F \le \sqrt2\Bigl(\sum_i\tanh^2\tfrac{R_i}4\Bigr)^{1/2}

    Parameters
    ----------
    scores, other : array (n, p)

    Returns
    -------
    tuple of Bound
        Of the largest entry, which is no more than a total variation, and of the Frobenius norm.

    Raises
    ------
    DTypeError, DeviceError, NamespaceError, ShapeError
        Naming the argument.

    Notes
    -----
    Attained: p = (½ + t, ½ − t) against (½ − t, ½ + t).  Derived here: the ratio f of the rows' entries lies in
    [a, ae^R], and its mean by the second row is 1; the mean of (f − 1)₊, convex in f, is at most that of the chord,
    (b − 1)(1 − a)/(b − a) with b = ae^R, and largest at a = e^{−R/2}.  ``proofs_check`` has it in Coq.  Beside
    :func:`softmax_lipschitz` it never exceeds the trivial bound, and is the better one where many scores differ.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds
    >>> largest, frobenius = bounds.softmax_range(np.array([[0.5, -0.5]]), np.array([[-0.5, 0.5]]))
    >>> round(largest.value, 4), round(float(1 / (1 + np.exp(-1)) - 1 / (1 + np.exp(1))), 4)  # attained
    (0.4621, 0.4621)
    """
    xp = namespace(scores=scores, other=other)
    floating(xp, scores=scores, other=other)
    require_matrix("scores", scores)
    if scores.shape != other.shape or scores.ndim != 2:
        raise ShapeError("other", f"of shape {tuple(other.shape)}", f"shape (n, p), {tuple(scores.shape)}")
    difference = to_numpy(xp.astype(scores, xp.float64) - xp.astype(other, xp.float64))
    variation = np.tanh(np.ptp(difference, axis=1) / 4)
    source = "entries' ratios within a factor; derived here"
    largest = bound(float(variation.max()), Side.UPPER, Norm.MAX, source, trivial=1.0)
    return largest, _of_variations(variation, source)


def group_sums(means: Array, counts: Array, ranges: Array, /) -> tuple[Bound, Bound]:
    r"""The largest over rows of :math:`Z_i = \sum_je^{x_{ij}}`, from means and ranges of the scores x of groups.

    .. math:: \sum_gn_ge^{\bar x_{ig}} \le Z_i \le \sum_gn_ge^{\bar x_{ig} + h(R_{ig})},\qquad
              h(R) = \ln\frac{e^R - 1}{R} - 1 + \frac R{e^R - 1} \le \frac{R^2}8

    Parameters
    ----------
    means, ranges : array (n, g)
        Of the scores of each group, a range being the largest less the smallest, or more.
    counts : array (g,)
        Scores in each group.

    Returns
    -------
    tuple of Bound
        From below and from above.  Trivial from above: every score of a group at its mean and its range.

    Raises
    ------
    DTypeError, DeviceError, NamespaceError, ShapeError
        Naming the argument.

    Notes
    -----
    From below Jensen's inequality; segment means of keys give :math:`\bar x_{ig} = sq_i\cdot\bar k_g`, so that n g
    entries bound all sums, and :math:`R_{ig} \le 2s\|q_i\|\max_{j\in g}\|k_j - \bar k_g\|`.  From above the best
    constant
    of Hoeffding's lemma (Hoeffding 1963, eq. 4.16, before the last step): attained by scores at the two ends of the
    range in the right share.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds
    >>> x = np.array([[0.0, 0.2, 1.0, 1.4]])  # groups of two
    >>> low, high = bounds.group_sums(np.array([[0.1, 1.2]]), np.array([2.0, 2.0]), np.array([[0.2, 0.4]]))
    >>> bool(low.value <= np.exp(x).sum() <= high.value), round(high.value / low.value, 3)
    (True, 1.016)
    """
    xp = namespace(means=means, counts=counts, ranges=ranges)
    floating(xp, means=means, counts=counts, ranges=ranges)
    require_matrix("means", means)
    if means.ndim != 2 or ranges.shape != means.shape:
        raise ShapeError("ranges", f"of shape {tuple(ranges.shape)}", f"shape (n, g), {tuple(means.shape)}")
    if counts.shape != (means.shape[1],):
        raise ShapeError("counts", f"of shape {tuple(counts.shape)}", f"shape ({means.shape[1]},)")
    x, n, r = (np.asarray(to_numpy(a), dtype=np.float64) for a in (means, counts, ranges))
    sound = (
        Hypothesis("counts of at least 0", bool((n >= 0).all()), f"least {n.min():.4g}"),
        Hypothesis("ranges of at least 0", bool((r >= 0).all()), f"least {r.min():.4g}"),
    )
    small = np.maximum(r, 1e-2)
    h = np.where(r > 1e-2, np.log(np.expm1(small) / small) - 1 + small / np.expm1(small), r**2 / 8)
    with np.errstate(over="ignore"):
        low, high, most = (float((n * np.exp(x + y)).sum(axis=1).max()) for y in (0.0 * r, h, r))
    lower = bound(low, Side.LOWER, Norm.MAX, "Jensen's inequality", trivial=0.0, holds_under=sound)
    words = "Hoeffding 1963, lemma, its best constant"
    return lower, bound(high, Side.UPPER, Norm.MAX, words, trivial=most, holds_under=sound)


def tangent_rows(reach: Array, far: Array, /) -> Bound:
    r"""Rows of tangent attention, from how far their queries are from pilots and how much their groups hold.

    .. math:: \|\hat S - S\|_F \le \sqrt2\Bigl(\sum_i\min\bigl(\tanh\tfrac{r_i}2,\ \hat\varphi_i(e^{r_i} - 1)\bigr)^2
              \Bigr)^{1/2}

    Parameters
    ----------
    reach : array (n,)
        :math:`r_i \ge s|(q_i - \bar q)\cdot(k_j - \mu_g)|` for all far keys j of groups g, such as the distance
        from the
        pilot times the largest radius of a group.
    far : array (n,)
        :math:`\hat\varphi_i \in [0, 1]`, the share of the groups in row i of Ŝ.

    Returns
    -------
    Bound
        Zero for queries that are their pilots, whatever the groups are: there the tangent is exact.

    Raises
    ------
    DTypeError, DeviceError, NamespaceError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Of the tangent without its correction :math:`r_j^2/2`.  Derived here: entries' ratios are :math:`e^{x_j}/\rho`
    far, with
    :math:`|x_j| \le r` and mean 0 over each group, and 1/ρ near, ρ ≥ 1 by Jensen's inequality.  Their logarithms range
    over 2r, see :func:`softmax_range`; and :math:`\tfrac12E|f/\rho - 1| \le E|f - 1|/\rho` for f of mean ρ, where
    :math:`|e^x - 1| \le |x|(e^r - 1)/r`.  A uniform correction c in every group shifts the logarithm of a group's mass
    against the truth, in [0, h(2r)] without it, by −c: half of its worst case at c = h(2r)/2.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds
    >>> bounds.tangent_rows(np.array([0.0, 0.0]), np.array([0.9, 0.5])).value
    0.0
    """
    r, phi = _per_row("reach", reach, "far", far)
    holds = (
        Hypothesis("distances of at least 0", bool((r >= 0).all()), f"least {r.min():.4g}"),
        Hypothesis("shares in [0, 1]", _shares(phi), f"from {phi.min():.4g} to {phi.max():.4g}"),
    )
    with np.errstate(over="ignore", invalid="ignore"):
        first_order = np.where(phi > 0, phi * np.expm1(np.minimum(r, 700.0)), 0.0)
    found = np.minimum(np.tanh(r / 2), first_order)
    return _of_variations(found, "ratios to the tangent; derived here", holds)


def near_rows(far: Array, estimated: Array, /) -> Bound:
    r"""Rows that are exact among near keys but for one factor, whatever stands for the far ones.

    .. math:: \mathrm{TV}_i \le \max(\varphi_i, \hat\varphi_i),\qquad
              \|\hat S - S\|_F \le \sqrt2\Bigl(\sum_i\max(\varphi_i, \hat\varphi_i)^2\Bigr)^{1/2}

    Parameters
    ----------
    far, estimated : array (n,)
        Shares in [0, 1] of the far keys in rows of S and of Ŝ, or bounds of these from above.

    Returns
    -------
    Bound
        Of the Frobenius norm; without a value where shares are not in [0, 1].

    Raises
    ------
    DTypeError, DeviceError, NamespaceError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    For far entries that are not negative and rows of Ŝ that sum to one.  Near entries are those of S times one
    factor, and
    so off by :math:`|\varphi - \hat\varphi|` together; far ones by :math:`\varphi + \hat\varphi` at most.
    Attained by far
    entries on other keys than those of S.  With negative far entries there is no such bound, and a near field can
    make a
    row worse: ``near_field_harm`` in ``proofs_check``.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds
    >>> print(bounds.near_rows(np.array([0.1, 0.0]), np.array([0.2, 0.1])))
    Frobenius norm at most 0.3162 with certainty (far shares alone; derived here)
    """
    phi, hat = _per_row("far", far, "estimated", estimated)
    holds = tuple(
        Hypothesis(f"{name} shares in [0, 1]", _shares(x), f"from {x.min():.4g} to {x.max():.4g}")
        for name, x in (("true", phi), ("estimated", hat))
    )
    return _of_variations(np.maximum(phi, hat), "far shares alone; derived here", holds)


def _shares(x: Numbers) -> bool:
    return bool(((x >= 0) & (x <= 1)).all())


def _per_row(first: str, x: Array, second: str, y: Array) -> tuple[Numbers, Numbers]:
    """Checked, on the host."""
    xp = namespace(**{first: x, second: y})
    floating(xp, **{first: x, second: y})
    if x.ndim != 1 or not x.shape[0]:
        raise ShapeError(first, f"of shape {tuple(x.shape)}", "shape (n,), not empty")
    if y.shape != x.shape:
        raise ShapeError(second, f"of shape {tuple(y.shape)}", f"that of `{first}`, {tuple(x.shape)}")
    found = tuple(np.asarray(to_numpy(one), dtype=np.float64) for one in (x, y))
    for name, one in zip((first, second), found, strict=True):
        if np.isnan(one).any():
            raise RangeError(name, "NaN somewhere", "numbers")
    return found[0], found[1]


def _of_variations(variation: Numbers, source: str, holds_under: tuple[Hypothesis, ...] = ()) -> Bound:
    return bound(
        sqrt(2) * float(np.linalg.norm(variation)),
        Side.UPPER,
        Norm.FROBENIUS,
        source,
        trivial=sqrt(2 * len(variation)),
        holds_under=holds_under,
    )
