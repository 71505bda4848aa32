"""Landmarks drawn by ridge leverage scores, estimated recursively on halves of the points."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import ceil, log, log2
from typing import Any

import numpy as np

from nystrom_numerics.arguments import require_number
from nystrom_numerics.backend import (
    Array,
    generator,
    namespace,
    unit_roundoff,
)
from nystrom_numerics.errors import IndefiniteError
from nystrom_numerics.kernels import Kernel
from nystrom_numerics.landmarks.draws import without_replacement
from nystrom_numerics.landmarks.entries import (
    checked_diagonal,
    finite_entries,
    require_psd_landmarks,
    subset_of,
)
from nystrom_numerics.landmarks.result import ColumnSubset

__all__ = [
    "by_ridge_leverage",
    "oversampled",
    "ridge_leverage",
    "ridge_scores",
    "ridge_system",
    "scores_of_rows",
]


def ridge_leverage(
    kernel: Kernel, m: int, /, *, oversampling: float | None = None, rng: np.random.Generator | int = 0
) -> ColumnSubset:
    r"""m columns drawn by ridge leverage scores, estimated recursively on halves of the points.

    .. math:: \ell_i(\lambda) = (A(A + \lambda I)^{-1})_{ii} \lesssim
              \tfrac1\lambda\bigl(A - AS(S^TAS + \lambda I)^{-1}S^TA\bigr)_{ii},

    with S the weighted landmarks of the level below.

    Parameters
    ----------
    kernel, m, rng
        As in :func:`length_squared`.
    oversampling : float, optional
        c ≥ 1: the ridge is the mean of the eigenvalues past the k = ⌈m/(4c)⌉ leading ones, and levels below
        the last keep each point with probability min(1, c·ℓ).  By default max(1, ln m).

    Returns
    -------
    ColumnSubset
        Ascending; fewer than m where fewer scores are positive.

    Raises
    ------
    IndefiniteError, KindError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: O(nm) kernel entries, O(nm²) multiplications.  With high probability
    :math:`\hat A \preceq A \preceq \hat A + \lambda I` for
    :math:`m = O(d_{\mathrm{eff}}\ln(d_{\mathrm{eff}}/\delta))` (Musco and Musco 2017, Theorem 3, Algorithm 3;
    recalled).  Departures: the last level draws m distinct columns, in place of a random number, and
    the small systems are solved on the host in float64.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import kernels, landmarks
    >>> kernel = kernels.gaussian(np.random.default_rng(0).standard_normal((500, 2)), gamma=0.1)
    >>> found = landmarks.ridge_leverage(kernel, 20, rng=0)
    >>> found.indices.shape, found.entries == kernel.entries < 100 * 500
    ((20,), True)
    """
    m = require_psd_landmarks(kernel, m)
    (source, seed), before = generator(rng), kernel.entries
    c = oversampled(m, oversampling)
    scores_of = partial(ridge_scores, kernel, diagonal=checked_diagonal(kernel))
    return subset_of(kernel, by_ridge_leverage(kernel.shape[0], m, c, source, scores_of), before, seed)


def oversampled(m: int, oversampling: float | None) -> float:
    """c of :func:`ridge_leverage`; raises RangeError."""
    if oversampling is None:
        return max(1.0, log(m))
    return require_number(
        "oversampling", oversampling, lambda x: 1 <= x < float("inf"), "a number of at least 1"
    )


def by_ridge_leverage(
    n: int, m: int, c: float, source: np.random.Generator, scores_of: Callable[..., Any]
) -> Any:
    """The draws of :func:`ridge_leverage`, wherever the points are: m indices of n, ascending.

    ``scores_of(points, chosen, weights, k=k)`` estimates the scores of ``points`` from weighted landmarks.
    """
    k = ceil(m / (4 * c))
    order = source.permutation(n)
    sizes = [n]
    for _ in range(ceil(log2(n / m))):
        sizes.append(ceil(sizes[-1] / 2))
    chosen, weights = order[: sizes[-1]], np.ones(sizes[-1])
    if len(sizes) == 1:
        sizes.append(n)  # few points: one level, with all points to estimate from
    for size in reversed(sizes[:-1]):
        points = order[:size]
        scores = scores_of(points, chosen, weights, k=k)
        if size == n:
            break
        chance = np.minimum(1.0, c * scores)
        kept = source.random(size) < chance
        if not kept.any():  # all scores vanish: any point is as good
            kept[source.integers(size)] = True
        chosen, weights = points[kept], np.sqrt(1 / np.maximum(chance[kept], 1e-12))
    full = np.zeros(n)
    full[points] = np.minimum(1.0, scores)
    return without_replacement(full, m, source)


def ridge_scores(kernel: Kernel, points: Any, chosen: Any, weights: Any, diagonal: Any, k: int) -> Any:
    """Estimated scores of ``points`` from weighted landmarks, as a NumPy array; strips of rows."""
    scaled, ridge = ridge_system(kernel, chosen, weights, k)
    found = []
    step = max(64, 2**20 // len(chosen))
    for start in range(0, len(points), step):
        part = points[start : start + step]
        found.append(scores_of_rows(kernel.block(part, chosen), diagonal[part], scaled, ridge))
    return np.concatenate(found)


def scores_of_rows(entries: Array, diagonal: Any, scaled: Any, ridge: float) -> Any:
    """The scores of the points of some rows, by their entries with the landmarks."""
    rows = finite_entries(entries) @ scaled
    return np.maximum(diagonal - (rows * rows).sum(axis=1), 0.0) / ridge


def ridge_system(kernel: Kernel, chosen: Any, weights: Any, k: int) -> tuple[Any, float]:
    r"""The map of a row's entries with the weighted landmarks to one of squared length
    :math:`(AS(S^TAS + \lambda I)^{-1}S^TA)_{ii}`, and λ."""
    core = finite_entries(kernel.block(chosen, chosen))
    weighted = (core + core.T) / 2 * weights[:, None] * weights[None, :]
    values, vectors = np.linalg.eigh(weighted)
    level = 1e3 * unit_roundoff(namespace(kernel=kernel.like), kernel.dtype)
    allowed = max(level, 64 * kernel.noise) * len(chosen) * max(values[-1], 1e-300)
    crooked = np.abs(core - core.T).max(axis=1)
    if crooked.max() > allowed or values[0] < -allowed:
        symmetric = crooked.max() <= allowed
        place = int(np.abs(vectors[:, 0]).argmax() if symmetric else crooked.argmax())
        size = float(values[0] if symmetric else crooked[place])
        what = "PSD, with eigenvalue" if symmetric else "symmetric, with mirrored entries that differ by"
        pivot = int(chosen[place])
        raise IndefiniteError("kernel", f"not {what} {size:.3g} at landmark {pivot}", pivot, size)
    values = np.maximum(values, 0.0)
    ridge = max(values[: max(0, len(values) - k)].sum() / k, level * max(values[-1], 1e-300))
    # A S (SᵀAS + λ)⁻¹ SᵀA row by row: the squared length of the row in the eigenbasis, scaled
    return weights[:, None] * vectors / np.sqrt(values + ridge), float(ridge)
