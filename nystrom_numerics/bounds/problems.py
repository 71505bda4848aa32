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
    """What the norm is of; the value is a formula."""

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
    """A matrix, rows I, columns J and a rank to compare with."""

    a: Array
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    k: int

    __repr__ = brief


@dataclass(frozen=True, eq=False)
class SketchProblem:
    """Singular values, and the columns of X and rows of Yᵀ of a sketch."""

    values: Host
    columns: int
    rows: int

    __repr__ = brief


@dataclass(frozen=True, eq=False)
class OperatorProblem:
    """A symmetric PSD operator, an array like its argument, a probability of failure and a seed."""

    apply: Callable[[Array], Array]
    like: Array
    failure: float
    rng: int

    __repr__ = brief


@dataclass(frozen=True, eq=False)
class PinvProblem:
    """A core W, Z in place of its inverse, and the Gram matrices CᵀC and BBᵀ."""

    core: Array
    z: Array
    left: Array
    right: Array

    __repr__ = brief


@dataclass(frozen=True, eq=False)
class PerturbationProblem:
    """‖A⁺‖₂, ‖B⁺‖₂, and the spectral and the Frobenius norm of B − A."""

    inverse_norm: float
    other_norm: float
    spectral: float
    frobenius: float


@dataclass(frozen=True, eq=False)
class ScoresProblem:
    """Two sets of scores."""

    scores: Array
    other: Array

    __repr__ = brief


@dataclass(frozen=True, eq=False)
class GroupsProblem:
    """Means (n, g) and ranges (n, g) of the scores of groups, and how many there are in each (g,)."""

    means: Array
    counts: Array
    ranges: Array

    __repr__ = brief


@dataclass(frozen=True, eq=False)
class TangentProblem:
    """How far the scores of far keys are from their tangent at most (n,), and the share of far keys in Ŝ (n,)."""

    reach: Array
    far: Array

    __repr__ = brief


@dataclass(frozen=True, eq=False)
class NearProblem:
    """Shares of far keys in the rows of S and of Ŝ (n,)."""

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
