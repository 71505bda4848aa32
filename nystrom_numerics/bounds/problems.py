"""What bounds are about: the errors, and what is known where each is bounded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from nystrom_numerics.backend import Array
from nystrom_numerics.bounds.spectrum import Host, Spectrum
from nystrom_numerics.brief import brief
from nystrom_numerics.kernels import Kernel

__all__ = [
    "PROBLEMS",
    "CrossProblem",
    "GroupsProblem",
    "NearProblem",
    "NystromProblem",
    "OperatorProblem",
    "PerturbationProblem",
    "PinvProblem",
    "ScoresProblem",
    "SketchProblem",
    "Subject",
    "TangentProblem",
]


class Subject(Enum):
    """What the norm is of; the value is a formula.

    Attributes
    ----------
    NYSTROM, SKETCHED_NYSTROM, CROSS, CUR, GENERALISED_NYSTROM, OPERATOR, PINV, INVERSES
    SOFTMAX, SUMS, TANGENT, NEAR_FIELD

    Examples
    --------
    >>> from nystrom_numerics import bounds
    >>> bounds.Subject.CUR.value
    'A − CC⁺AR⁺R, C = A_{:J}, R = A_{I:}'
    """

    NYSTROM = "A − A_{:J} A_{JJ}⁺ A_{J:}, A symmetric PSD"
    SKETCHED_NYSTROM = "A − AΩ (ΩᵀAΩ)⁺ ΩᵀA, A symmetric PSD, Ω Gaussian"
    CROSS = "A − A_{:J} A_{IJ}⁺ A_{I:}, as many rows as columns or more"
    CUR = "A − CC⁺AR⁺R, C = A_{:J}, R = A_{I:}"
    GENERALISED_NYSTROM = "A − AX (YᵀAX)⁺ YᵀA, X and Y Gaussian"
    OPERATOR = "B, known by its products"
    PINV = "C (W⁺ − Z) B"
    INVERSES = "B⁺ − A⁺"
    SOFTMAX = "softmax(X) − softmax(Y), row by row"
    SUMS = "Σ_j exp(x_ij), a row each"
    TANGENT = "S − Ŝ, far groups by the tangents of their log-sum-exp"
    NEAR_FIELD = "S − Ŝ, near keys exactly but for a factor"


@dataclass(frozen=True, eq=False)
class NystromProblem:
    """What is known of a Nyström approximation.

    Attributes
    ----------
    kernel : Kernel
    spectrum : Spectrum
        Of its matrix.
    indices : tuple of int, or None
        The landmarks J, distinct; ``None`` where they are points that were made.
    points : array (m, d), or None
        The landmarks as points, where the kernel knows points.
    m, rank, k : int
        How many were drawn, how many of them count, and the rank to compare with: 1 <= k <= rank <= m.
    failure : float
    gamma : float or None
        Of a Gaussian kernel, where it is one.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds, kernels
    >>> kernel = kernels.precomputed(np.diag([4.0, 2.0, 1.0]))
    >>> spectrum = bounds.psd_spectrum(kernel.rows(slice(None)))
    >>> problem = bounds.NystromProblem(kernel, spectrum, (0, 1), None, m=2, rank=2, k=1, failure=0.01)
    >>> [b.value for one in bounds.BOUNDS if one.name == "Eckart–Young" for b in one(problem)]
    [1.0, 1.0, 1.0]
    """

    kernel: Kernel
    spectrum: Spectrum
    indices: tuple[int, ...] | None
    points: Array | None
    m: int
    rank: int
    k: int
    failure: float
    gamma: float | None = None

    __repr__ = brief


@dataclass(frozen=True, eq=False)
class CrossProblem:
    """A matrix, rows I, columns J and a rank to compare with.

    Attributes
    ----------
    a : array (n, p)
    rows, columns : tuple of int
    k : int

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds
    >>> problem = bounds.CrossProblem(np.diag([3.0, 2.0, 1.0]), (0, 1), (0, 1), k=2)
    >>> {one.name: len(one(problem)) for one in bounds.BOUNDS if one.subject is bounds.Subject.CUR}
    {'Sorensen–Embree': 1}
    """

    a: Array
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    k: int

    __repr__ = brief


@dataclass(frozen=True, eq=False)
class SketchProblem:
    """Singular values, and the columns of X and rows of Yᵀ of a sketch.

    Attributes
    ----------
    values : array (n,)
    columns, rows : int

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds
    >>> problem = bounds.SketchProblem(np.array([3.0, 2.0, 1.0]), columns=2, rows=4)
    >>> [one.name for one in bounds.BOUNDS if one.subject is bounds.Subject.GENERALISED_NYSTROM]
    ['generalised Nyström']
    """

    values: Host
    columns: int
    rows: int

    __repr__ = brief


@dataclass(frozen=True, eq=False)
class OperatorProblem:
    """A symmetric PSD operator, an array like its argument, a probability of failure and a seed.

    Attributes
    ----------
    apply : callable
        v (n, c) to B v.
    like : array (n, ...)
    failure : float
    rng : int

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds
    >>> problem = bounds.OperatorProblem(lambda v: 2.0 * v, np.zeros(8), failure=0.01, rng=0)
    >>> lanczos = next(one for one in bounds.BOUNDS if one.function is bounds.lanczos_norm)
    >>> [round(b.value, 3) for b in lanczos(problem)]
    [2.0, 2.0]
    """

    apply: Callable[[Array], Array]
    like: Array
    failure: float
    rng: int

    __repr__ = brief


@dataclass(frozen=True, eq=False)
class PinvProblem:
    """A core W, Z in place of its inverse, and the Gram matrices CᵀC and BBᵀ.

    Attributes
    ----------
    core, z, left, right : array (m, m)

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds
    >>> problem = bounds.PinvProblem(np.diag([2.0, 1.0]), np.diag([0.5, 0.9]), np.eye(2), np.eye(2))
    >>> (one,) = [one for one in bounds.BOUNDS if one.subject is bounds.Subject.PINV]
    >>> [round(b.value, 3) for b in one(problem)]
    [0.1, 0.1]
    """

    core: Array
    z: Array
    left: Array
    right: Array

    __repr__ = brief


@dataclass(frozen=True, eq=False)
class PerturbationProblem:
    """What is known of a matrix A and another B near it.

    Attributes
    ----------
    inverse_norm, other_norm : float
        ‖A⁺‖₂ and ‖B⁺‖₂.
    spectral, frobenius : float
        The norms of B − A.

    Examples
    --------
    >>> from nystrom_numerics import bounds
    >>> problem = bounds.PerturbationProblem(1.0, 1.0, spectral=0.1, frobenius=0.2)
    >>> (one,) = [one for one in bounds.BOUNDS if one.subject is bounds.Subject.INVERSES]
    >>> [round(b.value, 3) for b in one(problem)]
    [0.162, 0.283]
    """

    inverse_norm: float
    other_norm: float
    spectral: float
    frobenius: float


@dataclass(frozen=True, eq=False)
class ScoresProblem:
    """Two sets of scores.

    Attributes
    ----------
    scores, other : array (n, p)

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds
    >>> problem = bounds.ScoresProblem(np.zeros((2, 3)), np.ones((2, 3)))
    >>> {one.name: len(one(problem)) for one in bounds.BOUNDS if one.subject is bounds.Subject.SOFTMAX}
    {'softmax': 1, 'softmax, range of the difference': 2}
    """

    scores: Array
    other: Array

    __repr__ = brief


@dataclass(frozen=True, eq=False)
class GroupsProblem:
    """Means and ranges of the scores of groups, and how many there are in each.

    Attributes
    ----------
    means, ranges : array (n, g)
    counts : array (g,)

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds
    >>> problem = bounds.GroupsProblem(np.zeros((1, 2)), np.array([3.0, 4.0]), np.zeros((1, 2)))
    >>> (one,) = [one for one in bounds.BOUNDS if one.subject is bounds.Subject.SUMS]
    >>> [b.value for b in one(problem)]
    [7.0, 7.0]
    """

    means: Array
    counts: Array
    ranges: Array

    __repr__ = brief


@dataclass(frozen=True, eq=False)
class TangentProblem:
    """How far the scores of far keys are from their tangent, and how much the far keys hold.

    Attributes
    ----------
    reach : array (n,)
        At most so far.
    far : array (n,)
        The share of far keys in Ŝ.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds
    >>> problem = bounds.TangentProblem(np.array([0.1, 0.0]), np.array([0.5, 0.9]))
    >>> (one,) = [one for one in bounds.BOUNDS if one.subject is bounds.Subject.TANGENT]
    >>> [round(b.value, 4) for b in one(problem)]
    [0.0707]
    """

    reach: Array
    far: Array

    __repr__ = brief


@dataclass(frozen=True, eq=False)
class NearProblem:
    """Shares of far keys in the rows of S and of Ŝ.

    Attributes
    ----------
    far, estimated : array (n,)

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds
    >>> problem = bounds.NearProblem(np.array([0.1, 0.0]), np.array([0.2, 0.1]))
    >>> (one,) = [one for one in bounds.BOUNDS if one.subject is bounds.Subject.NEAR_FIELD]
    >>> [round(b.value, 4) for b in one(problem)]
    [0.3162]
    """

    far: Array
    estimated: Array

    __repr__ = brief


PROBLEMS: dict[Subject, type] = {
    Subject.NYSTROM: NystromProblem,
    Subject.SKETCHED_NYSTROM: NystromProblem,
    Subject.CROSS: CrossProblem,
    Subject.CUR: CrossProblem,
    Subject.GENERALISED_NYSTROM: SketchProblem,
    Subject.OPERATOR: OperatorProblem,
    Subject.PINV: PinvProblem,
    Subject.INVERSES: PerturbationProblem,
    Subject.SOFTMAX: ScoresProblem,
    Subject.SUMS: GroupsProblem,
    Subject.TANGENT: TangentProblem,
    Subject.NEAR_FIELD: NearProblem,
}
"""What is known of each subject."""
