"""The spectrum of a PSD matrix, which bounds before the fact are made of."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from nystrom_numerics.arguments import require_nonnegative, require_tolerance
from nystrom_numerics.backend import Array, floating, namespace, require_finite, require_matrix, to_numpy
from nystrom_numerics.errors import DTypeError, IndefiniteError, RangeError, ShapeError
from nystrom_numerics.linalg import transpose

__all__ = ["Spectrum", "on_host", "psd_spectrum"]

Host = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Spectrum:
    """The spectrum of a PSD matrix, on the host in float64.

    Attributes
    ----------
    values : array (n,)
        Eigenvalues, descending.
    vectors : array (n, r)
        Eigenvectors; the leading ones alone will do for a bound that asks for no more.
    diagonal : array (n,)
        Of the matrix.
    negative : float
        How far below zero its least eigenvalue was, before it was counted as 0.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds
    >>> spectrum = bounds.psd_spectrum(np.diag([1.0, 3.0, 2.0]))
    >>> spectrum.values, [round(x, 4) for x in spectrum.norms]
    (array([3., 2., 1.]), [3.0, 3.7417, 6.0])
    """

    values: Host
    vectors: Host
    diagonal: Host
    negative: float = 0.0

    def __repr__(self) -> str:
        return f"<Spectrum of {self.size} eigenvalues, from {self.values[0]:.3g} to {self.values[-1]:.3g}>"

    def __post_init__(self) -> None:
        descending("values", _of_host("values", self.values, 1))
        _of_host("vectors", self.vectors, 2)
        diagonal = _of_host("diagonal", self.diagonal, 1)
        n = self.values.shape[0]
        for name, x in (("vectors", self.vectors), ("diagonal", diagonal)):
            if x.shape[0] != n:
                raise ShapeError(name, f"of shape {x.shape}", f"{n} rows, as there are `values`")
        require_nonnegative("negative", self.negative)

    @property
    def size(self) -> int:
        return len(self.values)

    @cached_property
    def norms(self) -> tuple[float, float, float]:
        """Spectral, Frobenius and trace norm."""
        return tail_norms(self.values, 0)


def _of_host(name: str, x: Host, axes: int) -> Host:
    xp = namespace(**{name: x})
    floating(xp, **{name: x})
    if not isinstance(x, np.ndarray) or x.dtype != np.float64:
        raise DTypeError(name, f"a {type(x).__name__} of dtype {x.dtype}", "a NumPy array of float64")
    if x.ndim != axes or not x.shape[0]:
        raise ShapeError(name, f"of shape {x.shape}", "shape (n,)" if axes == 1 else "shape (n, r)")
    require_finite(xp, **{name: x})
    return x


def descending(name: str, values: Host) -> Host:
    """Numbers of at least 0, none above the one before; raises RangeError."""
    if values[-1] < 0 or (np.diff(values) > 0).any():
        raise RangeError(name, "not descending from 0 or more", "singular values or eigenvalues, descending")
    return values


def singular_values(name: str, values: Array) -> Host:
    """Singular values (n,), descending, on the host in float64.

    Raises
    ------
    DTypeError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.
    """
    xp = namespace(**{name: values})
    floating(xp, **{name: values})
    if values.ndim != 1 or not values.shape[0]:
        raise ShapeError(name, f"of shape {tuple(values.shape)}", "shape (n,), not empty")
    require_finite(xp, **{name: values})
    return descending(name, to_numpy(values).astype(np.float64))


def tail_norms(values: Host, k: int) -> tuple[float, float, float]:
    """Spectral, Frobenius and trace norm of what the k leading values leave; zeros for k = n."""
    tail = values[k:]
    if not len(tail):
        return 0.0, 0.0, 0.0
    return float(tail[0]), float(np.linalg.norm(tail)), float(tail.sum())


def on_host(name: str, x: Array) -> Host:
    """A real floating matrix on the host in float64.

    Raises
    ------
    DTypeError, NamespaceError, NonFiniteError, ShapeError
        Naming the argument.
    """
    xp = namespace(**{name: x})
    floating(xp, **{name: x})
    require_matrix(name, x)
    if x.ndim != 2:
        raise ShapeError(name, f"of shape {tuple(x.shape)}", "shape (n, p); no batch")
    require_finite(xp, **{name: x})
    return to_numpy(x).astype(np.float64)


def psd_spectrum(a: Array, /, *, noise: float = 0.0) -> Spectrum:
    r"""The eigendecomposition of a symmetric PSD matrix (n, n), in float64.

    Parameters
    ----------
    a : array (n, n)
    noise : float
        In [0, 1): how far an entry may be from that of the PSD matrix meant, relative to the largest diagonal entry,
        as :class:`~nystrom_numerics.kernels.Kernel` has it.

    Returns
    -------
    Spectrum

    Raises
    ------
    DTypeError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.
    IndefiniteError
        Two mirrored entries differ, or an eigenvalue is negative, by more than 64 n units of roundoff of the
        dtype of ``a`` times the largest, and what noise in the entries can make: twice it, and n times it.

    Notes
    -----
    Cost: one symmetric eigendecomposition in the library of ``a``; memory n².  An eigenvalue errs by some
    :math:`nu\lambda_1`, and small negative ones count as zero.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds
    >>> bounds.psd_spectrum(np.array([[2.0, 1.0], [1.0, 2.0]]))
    <Spectrum of 2 eigenvalues, from 3 to 1>
    """
    host = on_host("a", a)
    noise = require_tolerance("noise", noise) * float(np.abs(host.diagonal()).max())
    if host.shape[0] != host.shape[1]:
        raise ShapeError("a", f"of shape {host.shape}", "a square matrix")
    xp = namespace(a=a)
    level = 32 * len(host) * float(xp.finfo(a.dtype).eps)
    skew = np.abs(host - host.T)
    i, j = divmod(int(skew.argmax()), len(host))
    if skew[i, j] > level * np.abs(host).max() + 2 * noise:
        got = f"not symmetric, with entries that differ by {skew[i, j]:.3g} at {i}, {j}"
        raise IndefiniteError("a", got, i, float(skew[i, j]))
    wide = xp.astype(a, xp.float64)
    found, vectors = (to_numpy(x) for x in xp.linalg.eigh((wide + transpose(wide)) / 2))
    if found[0] < -level * max(abs(found[0]), abs(found[-1])) - len(host) * noise:
        raise IndefiniteError("a", f"not PSD, with eigenvalue {found[0]:.3g}", 0, float(found[0]))
    values, below = np.maximum(found[::-1], 0.0), max(-float(found[0]), 0.0)
    return Spectrum(values, vectors[:, ::-1], host.diagonal().copy(), below)
