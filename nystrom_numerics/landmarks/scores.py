"""Landmarks drawn by scores of a PSD matrix: length-squared, leverage and ridge leverage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import ceil, log, log2
from typing import Any, TypeAlias

import numpy as np

from nystrom_numerics.arguments import require_callable, require_count, require_number
from nystrom_numerics.backend import (
    Array,
    device_of,
    floating,
    from_numpy,
    generator,
    namespace,
    require_finite,
    to_numpy,
    unit_roundoff,
)
from nystrom_numerics.brief import brief
from nystrom_numerics.errors import IndefiniteError, ShapeError
from nystrom_numerics.kernels import Kernel, MatrixKernel
from nystrom_numerics.kernels.arguments import require_kernel
from nystrom_numerics.landmarks.cost import foretell, of_sketch, of_spectrum
from nystrom_numerics.landmarks.draws import require_landmarks, without_replacement
from nystrom_numerics.landmarks.pivoting import complete_factor
from nystrom_numerics.landmarks.result import ColumnSubset
from nystrom_numerics.linalg import transpose

__all__ = [
    "Basis",
    "Spectrum",
    "by_ridge_leverage",
    "checked_diagonal",
    "exact_basis",
    "length_squared",
    "leverage",
    "oversampled",
    "ridge_leverage",
    "ridge_scores",
    "ridge_system",
    "scores_of_rows",
    "sketched_basis",
    "whole_spectrum",
]

Basis: TypeAlias = Callable[..., Array]
"""``basis(kernel, rank, rng=rng)``: orthonormal columns (n, at most rank), leading eigenvectors or near."""


def length_squared(kernel: Kernel, m: int, /, *, rng: np.random.Generator | int = 0) -> ColumnSubset:
    r"""m columns drawn without replacement by :math:`k_{ii}^2`; uniform where the diagonal is constant.

    Parameters
    ----------
    kernel : Kernel
        Symmetric PSD, of n points.
    m : int
        Landmarks, 1 <= m <= n.
    rng : numpy.random.Generator or int

    Returns
    -------
    ColumnSubset
        Ascending; fewer than m where fewer diagonal entries are positive.

    Raises
    ------
    IndefiniteError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: n kernel entries.  With replacement and rescaling, :math:`m \ge 64k/\varepsilon^4` gives
    :math:`E\|R\|_F \le \|A - A_k\|_F + \varepsilon\sum_i k_{ii}^2` (Drineas and Mahoney 2005, Theorem 3;
    recalled, not re-derived here).  Departure: distinct columns, not rescaled.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import kernels, landmarks
    >>> landmarks.length_squared(kernels.precomputed(np.diag([0.0, 1.0, 0.0, 3.0])), 3, rng=0).indices
    array([1, 3])
    """
    m = _check(kernel, m)
    (source, seed), before = generator(rng), kernel.entries
    diagonal = checked_diagonal(kernel)
    chosen = without_replacement((diagonal / max(diagonal.max(), 1e-300)) ** 2, m, source)
    return _subset(kernel, chosen, before, seed)


def leverage(
    kernel: Kernel,
    m: int,
    /,
    *,
    rank: int | None = None,
    basis: Basis | None = None,
    rng: np.random.Generator | int = 0,
) -> ColumnSubset:
    r"""m columns drawn without replacement by the leverage scores :math:`\|e_i^TU_k\|^2`.

    Parameters
    ----------
    kernel, m
        As in :func:`length_squared`.
    rank : int, optional
        k, from 1 to n; by default m.
    basis : callable, optional
        :func:`exact_basis` by default, or :func:`sketched_basis`.
    rng : numpy.random.Generator or int
        Handed to ``basis`` first.

    Returns
    -------
    ColumnSubset
        Ascending; fewer than m where fewer scores are positive.

    Raises
    ------
    DTypeError, IndefiniteError, KindError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: that of the basis.  :math:`m \ge 3200\varepsilon^{-1}k\ln(4k/\delta)` bounds the trace error by
    :math:`(1 + \varepsilon^2)\,\mathrm{tr}(A - A_k)` with probability 1 − δ (Gittens and Mahoney 2016, Lemma
    3; recalled).  Departure: distinct columns.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import kernels, landmarks
    >>> kernel = kernels.precomputed(np.diag([5.0, 1e-9, 4.0, 1e-9]))
    >>> landmarks.leverage(kernel, 2, rng=0).indices
    array([0, 2])
    """
    m = _check(kernel, m)
    (source, seed), before = generator(rng), kernel.entries
    rank = m if rank is None else require_count("rank", rank, 1, kernel.shape[0], of="the number of points")
    u = of_basis(exact_basis if basis is None else basis, kernel, rank, source)
    xp = namespace(u=u)
    scores = to_numpy(xp.sum(u * u, axis=1)).astype(np.float64)
    return _subset(kernel, without_replacement(scores, m, source), before, seed)


def exact_basis(kernel: Kernel, rank: int, /, *, rng: np.random.Generator | int = 0) -> Array:
    r"""The leading eigenvectors, shape (n, k), k the smaller of ``rank`` and the numerical rank r.

    From the complete pivoted Cholesky factor F, A = FFᵀ, and the eigenvectors of FᵀF.  Cost: (r+1)n kernel
    entries, nr² multiplications, memory nr: for a full-rank matrix as much as the matrix itself, which no
    exact method avoids.  Where the matrix is at hand (:func:`~nystrom_numerics.kernels.precomputed`), its own
    eigendecomposition: n² entries, n³.

    Parameters
    ----------
    kernel : Kernel
        Symmetric PSD, of n points.
    rank : int
        Eigenvectors, at least 1.
    rng : numpy.random.Generator or int
        Not used; the signature is that of a :data:`Basis`.

    Returns
    -------
    array (n, k)
        Orthonormal columns, by descending eigenvalue.

    Raises
    ------
    IndefiniteError, KindError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import kernels, landmarks
    >>> u = landmarks.exact_basis(kernels.precomputed(np.diag([1.0, 3.0, 2.0])), 2)
    >>> np.abs(u).argmax(axis=0)
    array([1, 2])
    """
    generator(rng)
    require_kernel(kernel)
    return whole_spectrum(kernel).leading(require_count("rank", rank))


def of_basis(basis: Basis, kernel: Kernel, rank: int, source: np.random.Generator) -> Array:
    """What ``basis`` makes of the kernel, checked: it is the caller's.

    Raises
    ------
    DTypeError, KindError, NamespaceError, ShapeError
        Naming ``basis``.
    """
    found = require_callable("basis", basis)(kernel, rank, rng=source)
    xp = namespace(basis=found)
    floating(xp, basis=found)
    if found.ndim != 2 or found.shape[0] != kernel.shape[0] or found.shape[1] > rank:
        needs = f"shape ({kernel.shape[0]}, at most {rank})"
        raise ShapeError("basis", f"one that gave shape {tuple(found.shape)}", needs)
    return found


def sketched_basis(
    kernel: Kernel, rank: int, /, *, oversampling: int = 10, rng: np.random.Generator | int = 0
) -> Array:
    r"""Nearly the leading eigenvectors, from one pass: :math:`Y = A\Omega` with Ω Gaussian, n × (k + p).

    The randomised Nyström approximation :math:`Y(\Omega^TY)^+Y^T = FF^T` gives them as the left singular
    vectors of F.  Cost: n² kernel entries in strips, n(k+p)² multiplications, memory n(k+p).  Source: Tropp,
    Yurtsever, Udell and Cevher 2017, Algorithm 3, whose shift ν keeps rounding from spoiling the core.

    Parameters
    ----------
    kernel : Kernel
        Symmetric PSD, of n points.
    rank : int
        k, at least 1.
    oversampling : int
        p, at least 0: more columns of the sketch, nearer vectors.
    rng : numpy.random.Generator or int
        Of the n × (k + p) Gaussian draws.

    Returns
    -------
    array (n, at most k)
        Orthonormal columns, by descending eigenvalue.

    Raises
    ------
    IndefiniteError, KindError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import kernels, landmarks
    >>> kernel = kernels.gaussian(np.random.default_rng(0).standard_normal((60, 2)), gamma=0.1)
    >>> near, exact = landmarks.sketched_basis(kernel, 3), landmarks.exact_basis(kernel, 3)
    >>> bool(np.linalg.norm(near @ (near.T @ exact) - exact) < 1e-2)
    True
    """
    source, _ = generator(rng)
    require_kernel(kernel)
    n = kernel.shape[0]
    rank = require_count("rank", rank)
    width = min(n, rank + require_count("oversampling", oversampling, 0))
    foretell(f"a sketch of {n:,} points", kernel, of_sketch(n, width))
    xp = namespace(kernel=kernel.like)
    gaussian = from_numpy(xp, source.standard_normal((n, width)), kernel.like)
    test, _ = xp.linalg.qr(xp.astype(gaussian, kernel.dtype))
    sketch = kernel.apply(test)
    require_finite(xp, kernel=sketch)
    shift = 2 * unit_roundoff(xp, kernel.dtype) * n**0.5 * float(xp.max(xp.abs(sketch)))
    sketch = sketch + shift * test
    core = transpose(test) @ sketch
    values, vectors = xp.linalg.eigh((core + transpose(core)) / 2)
    allowed = max(64 * float(shift), kernel.noise * n * float(xp.max(xp.abs(sketch))))
    crooked = float(xp.max(xp.abs(core - transpose(core))))
    if crooked > allowed or float(values[0]) < -allowed:
        symmetric = crooked <= allowed
        pivot = int(xp.argmax(xp.abs(test @ vectors[:, 0])))
        size = float(values[0]) if symmetric else crooked
        what = "PSD, with a Rayleigh quotient of" if symmetric else "symmetric, its sketch differing by"
        raise IndefiniteError("kernel", f"not {what} {size:.3g}, most at {pivot}", pivot, size)
    kept = values > 4 * unit_roundoff(xp, kernel.dtype) * width * values[-1]
    scale = xp.where(kept, 1 / xp.sqrt(xp.where(kept, values, xp.ones_like(values))), xp.zeros_like(values))
    found = of_factor(sketch @ (vectors * scale[None, :]))
    return found.leading(min(rank, int(xp.count_nonzero(found.values > 2 * shift))))


@dataclass(frozen=True)
class Spectrum:
    r"""The eigenvalues of a PSD matrix beyond rounding, descending, and the way to the eigenvectors.

    Attributes
    ----------
    values : array (r,)
    factor : array (n, l)
    rotation : array (l, r)
        :math:`F V` has the eigenvectors as columns, each times the root of its eigenvalue if ``scaled``.
    scaled : bool
    """

    values: Array
    factor: Array
    rotation: Array
    scaled: bool

    __repr__ = brief

    def vectors(self, chosen: Array) -> Array:
        """Orthonormal eigenvectors at the places ``chosen``, shape (n, k)."""
        xp = namespace(factor=self.factor)
        rotation = xp.take(self.rotation, chosen, axis=1)
        if not self.scaled or not chosen.shape[0]:
            return self.factor @ rotation
        # small eigenvalues cost orthogonality, which QR restores
        q, r = xp.linalg.qr(self.factor @ (rotation / xp.sqrt(xp.take(self.values, chosen))[None, :]))
        signs = xp.sign(xp.linalg.diagonal(r))
        return q * xp.where(signs == 0, xp.ones_like(signs), signs)[None, :]

    def leading(self, count: int) -> Array:
        """The first ``count`` eigenvectors, or all there are."""
        xp = namespace(factor=self.factor)
        count = min(count, int(self.values.shape[0]))
        return self.vectors(xp.arange(count, dtype=xp.int64, device=device_of(self.factor)))


def of_factor(factor: Array) -> Spectrum:
    r"""The spectrum of :math:`FF^T`, by the eigenvectors of :math:`F^TF`."""
    xp = namespace(factor=factor)
    gram = transpose(factor) @ factor
    values, vectors = xp.linalg.eigh((gram + transpose(gram)) / 2)
    count = 0
    if factor.shape[1]:
        level = 2 * unit_roundoff(xp, factor.dtype) * factor.shape[1]
        count = int(xp.count_nonzero(values > level * values[-1]))
    return Spectrum(xp.flip(values)[:count], factor, xp.flip(vectors, axis=1)[:, :count], scaled=True)


def whole_spectrum(kernel: Kernel) -> Spectrum:
    """The spectrum of a kernel: of its matrix if that is at hand, else of its complete Cholesky factor."""
    kernel.require_symmetric()
    n = kernel.shape[0]
    foretell(f"the whole spectrum of {n:,} points", kernel, of_spectrum(n))
    if not isinstance(kernel, MatrixKernel):
        return of_factor(complete_factor(kernel))
    xp = namespace(kernel=kernel.like)
    a = kernel.block(slice(None), slice(None))
    require_finite(xp, kernel=a)
    values, vectors = xp.linalg.eigh((a + transpose(a)) / 2)
    level = 2 * unit_roundoff(xp, kernel.dtype) * n
    worst = xp.max(xp.abs(a - transpose(a)))
    if float(values[0]) < -64 * level * float(values[-1]) or float(worst) > 64 * level * float(values[-1]):
        complete_factor(kernel)  # raises with the pivot
    values, vectors = xp.flip(values), xp.flip(vectors, axis=1)
    count = int(xp.count_nonzero(values > level * values[0]))
    return Spectrum(
        values[:count], vectors, xp.eye(n, dtype=a.dtype, device=device_of(a))[:, :count], scaled=False
    )


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
    m = _check(kernel, m)
    (source, seed), before = generator(rng), kernel.entries
    c = oversampled(m, oversampling)
    scores_of = partial(ridge_scores, kernel, diagonal=checked_diagonal(kernel))
    return _subset(kernel, by_ridge_leverage(kernel.shape[0], m, c, source, scores_of), before, seed)


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
    rows = _finite(entries) @ scaled
    return np.maximum(diagonal - (rows * rows).sum(axis=1), 0.0) / ridge


def ridge_system(kernel: Kernel, chosen: Any, weights: Any, k: int) -> tuple[Any, float]:
    r"""The map of a row's entries with the weighted landmarks to one of squared length
    :math:`(AS(S^TAS + \lambda I)^{-1}S^TA)_{ii}`, and λ."""
    core = _finite(kernel.block(chosen, chosen))
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


def _check(kernel: Kernel, m: int) -> int:
    require_kernel(kernel)
    return require_landmarks(m, kernel.shape[0])


def checked_diagonal(kernel: Kernel) -> Any:
    """The diagonal on the host in float64; refused where it is not finite or is negative."""
    found = _finite(kernel.diagonal())
    least = int(found.argmin())
    if found[least] < 0:
        got = f"not PSD, with diagonal entry {found[least]:.3g} at {least}"
        raise IndefiniteError("kernel", got, least, float(found[least]))
    return found


def _finite(entries: Array) -> Any:
    """Kernel entries on the host in float64; refused where they are not finite."""
    require_finite(namespace(kernel=entries), kernel=entries)
    return to_numpy(entries).astype(np.float64)


def _subset(kernel: Kernel, chosen: Any, before: int, seed: int | None) -> ColumnSubset:
    indices = from_numpy(namespace(kernel=kernel.like), np.asarray(chosen, dtype=np.int64), kernel.like)
    return ColumnSubset(indices, None, kernel.entries - before, seed)
