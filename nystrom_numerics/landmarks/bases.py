"""Leading eigenvectors of a PSD kernel matrix, exact or nearly so, and its whole spectrum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from nystrom_numerics.arguments import require_callable, require_count
from nystrom_numerics.backend import (
    Array,
    device_of,
    floating,
    from_numpy,
    generator,
    namespace,
    require_finite,
    unit_roundoff,
)
from nystrom_numerics.brief import brief
from nystrom_numerics.errors import IndefiniteError, ShapeError
from nystrom_numerics.kernels import Kernel, MatrixKernel
from nystrom_numerics.kernels.arguments import require_kernel
from nystrom_numerics.landmarks.cost import foretell, of_sketch, of_spectrum
from nystrom_numerics.landmarks.pivoting import complete_factor
from nystrom_numerics.linalg import transpose

__all__ = ["Basis", "Spectrum", "exact_basis", "of_basis", "sketched_basis", "whole_spectrum"]

Basis: TypeAlias = Callable[..., Array]
"""``basis(kernel, rank, rng=rng)``: orthonormal columns (n, at most rank), leading eigenvectors or near."""


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
