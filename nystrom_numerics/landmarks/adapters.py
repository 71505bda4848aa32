"""Rules of other kinds as rules over a kernel: ``rule(kernel, m, rng=rng)``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from nystrom_numerics.arguments import require_callable, require_instance
from nystrom_numerics.backend import Array, from_numpy, generator, namespace, require_finite
from nystrom_numerics.errors import NamespaceError
from nystrom_numerics.kernels import Kernel
from nystrom_numerics.kernels.arguments import require_kernel
from nystrom_numerics.landmarks.bases import Basis, of_basis, sketched_basis
from nystrom_numerics.landmarks.columns import pivoted_qr
from nystrom_numerics.landmarks.cost import foretell, of_pivoted_qr
from nystrom_numerics.landmarks.draws import require_landmarks
from nystrom_numerics.landmarks.result import (
    ColumnSubset,
    KernelStrategy,
    LandmarkPoints,
    Strategy,
    require_found,
)

__all__ = ["on_basis", "on_columns", "on_points"]


def on_points(rule: Strategy, /) -> KernelStrategy:
    """The rule over a kernel that applies ``rule(x, m)`` to the kernel's points; no kernel entries.

    Parameters
    ----------
    rule : Strategy
        A rule on points, such as :func:`segment_means` or :func:`kmeans`; if it takes ``rng``, it is given it.

    Returns
    -------
    KernelStrategy
        ``over_kernel(kernel, m, *, rng=0)``; landmarks that are not valid are dropped.  It raises NamespaceError
        for a kernel that knows no points, and KindError where ``rule`` gives anything but landmarks.

    Raises
    ------
    KindError
        ``rule`` is not callable.

    Notes
    -----
    Cost: that of ``rule`` on the n points.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import kernels, landmarks
    >>> kernel = kernels.gaussian(np.array([[0.0], [2.0], [4.0], [6.0]]), gamma=1.0)
    >>> landmarks.on_points(landmarks.segment_means)(kernel, 2).points.ravel(), kernel.entries
    (array([1., 5.]), 0)
    """
    takes_rng = _takes_rng(rule)

    def over_kernel(
        kernel: Kernel, m: int, /, *, rng: np.random.Generator | int = 0
    ) -> LandmarkPoints | ColumnSubset:
        require_kernel(kernel, symmetric=False)
        generator(rng)
        if kernel.points is None:
            raise NamespaceError("kernel", "given by its matrix", "points, which this rule looks at")
        found = require_found(
            "rule", rule(kernel.points, m, rng=rng) if takes_rng else rule(kernel.points, m)
        )
        if found.valid is None:
            return found
        xp = namespace(valid=found.valid)
        kept = xp.nonzero(found.valid)[0]
        if isinstance(found, ColumnSubset):
            return replace(found, indices=xp.take(found.indices, kept), valid=None)
        return replace(found, points=xp.take(found.points, kept, axis=0), valid=None)

    return over_kernel


def on_basis(rule: Callable[..., ColumnSubset], /, *, basis: Basis = sketched_basis) -> KernelStrategy:
    """The rule over a kernel that applies ``rule(basis)`` to its m leading eigenvectors, exact or nearly so.

    Parameters
    ----------
    rule : callable
        :func:`deim`, :func:`qdeim`, :func:`maxvol`, :func:`adaptive_randomized_pivoting`, or one like them.
    basis : Basis
        :func:`sketched_basis` or :func:`exact_basis`.

    Returns
    -------
    KernelStrategy
        ``over_kernel(kernel, m, *, rng=0)``, whose ColumnSubset has as many indices as the basis has columns.

    Raises
    ------
    KindError
        ``rule`` or ``basis`` is not callable.

    Notes
    -----
    Cost and kernel entries are those of the basis, n² for :func:`sketched_basis`, and those of the rule.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import kernels, landmarks
    >>> kernel = kernels.gaussian(np.array([[0.0], [0.1], [5.0], [5.1]]), gamma=1.0)
    >>> rule = landmarks.on_basis(landmarks.qdeim, basis=landmarks.exact_basis)
    >>> sorted(i // 2 for i in rule(kernel, 2).indices.tolist())  # one of each pair
    [0, 1]
    """
    takes_rng = _takes_rng(rule)
    require_callable("basis", basis)

    def over_kernel(kernel: Kernel, m: int, /, *, rng: np.random.Generator | int = 0) -> ColumnSubset:
        require_kernel(kernel)
        source, seed = generator(rng)
        before = kernel.entries
        u = of_basis(basis, kernel, require_landmarks(m, kernel.shape[0]), source)
        if u.shape[1] == 0:  # a zero kernel
            nothing = from_numpy(namespace(u=u), np.zeros(0, dtype=np.int64), u)
            return ColumnSubset(nothing, None, kernel.entries - before, seed)
        found = rule(u, rng=source) if takes_rng else rule(u)
        require_instance("rule", found, ColumnSubset, "a rule that gives a ColumnSubset")
        return replace(found, entries=kernel.entries - before, seed=seed)

    return over_kernel


def on_columns(kernel: Kernel, m: int, /, *, rng: np.random.Generator | int = 0) -> ColumnSubset:
    """:func:`pivoted_qr` of the whole kernel matrix, formed for it, as a rule over a kernel.

    Parameters
    ----------
    kernel : Kernel
        Of shape (n, p), small enough to hold.
    m : int
        Columns, 1 <= m <= p.
    rng : numpy.random.Generator or int
        Not used; the signature is that of a :data:`KernelStrategy`.

    Returns
    -------
    ColumnSubset
        Indices in the order picked, fewer than m where the rank is.

    Raises
    ------
    KindError, NonFiniteError, RangeError
        Naming the argument.

    Notes
    -----
    Cost: np kernel entries and as much memory, and the multiplications of :func:`pivoted_qr`.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import kernels, landmarks
    >>> found = landmarks.on_columns(kernels.precomputed(np.diag([1.0, 3.0, 2.0])), 2)
    >>> found.indices, found.entries
    (array([1, 2]), 9)
    """
    require_kernel(kernel, symmetric=False)
    generator(rng)
    m = require_landmarks(m, kernel.shape[1])
    n, columns = kernel.shape
    foretell(f"pivoted QR of {n:,} points", kernel, of_pivoted_qr(n, columns, m))
    before, a = kernel.entries, _all(kernel)
    require_finite(namespace(kernel=a), kernel=a)
    found = pivoted_qr(a, m)
    return replace(found, entries=kernel.entries - before)


def _takes_rng(rule: Callable[..., Any]) -> bool:
    return "rng" in inspect.signature(require_callable("rule", rule, "a landmark rule")).parameters


def _all(kernel: Kernel) -> Array:
    return kernel.block(slice(None), slice(None))
