"""Every bound that applies, held against the truth: which hold, how tight they are, which hypotheses fail."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from nystrom_numerics.backend import Array, to_numpy
from nystrom_numerics.bounds.aposteriori import psd_sandwich
from nystrom_numerics.bounds.certificate import certify
from nystrom_numerics.bounds.problems import NystromProblem, Subject
from nystrom_numerics.bounds.registry import BOUNDS, Law, Registered
from nystrom_numerics.bounds.result import Bound, Norm, Side
from nystrom_numerics.bounds.spectrum import Spectrum, psd_spectrum
from nystrom_numerics.errors import RangeError
from nystrom_numerics.kernels import Kernel, precomputed
from nystrom_numerics.landmarks import ColumnSubset, LandmarkPoints
from nystrom_numerics.lowrank import NystromFactor, nystrom_factor

__all__ = ["Audit", "Line", "audit"]

LARGEST = 4096
"""Rows beyond which an audit is refused: it forms the matrix and its spectrum."""

_NORMS = (Norm.SPECTRAL, Norm.FROBENIUS, Norm.TRACE)


@dataclass(frozen=True)
class Line:
    """One bound of an audit.

    Attributes
    ----------
    name : str
    bound : Bound
    truth : float
        The norm that it bounds, of these landmarks' error.
    of : str
        Which landmarks it speaks of: these, or any drawn by a rule.  Only a bound of these must hold.
    """

    name: str
    bound: Bound
    truth: float
    of: str

    def __post_init__(self) -> None:
        """Of whom it speaks is a law; what is certain speaks of any landmarks, so of these."""
        if self.of not in {law.value for law in Law}:
            raise RangeError("of", repr(self.of), "the words of a Law")
        if self.bound.probability == 1 and self.of != Law.THESE.value:
            raise RangeError("of", repr(self.of), "these landmarks, for a bound that is certain")

    @property
    def holds(self) -> bool:
        """Whether it does here, to rounding; a bound of other draws, or of their mean, need not."""
        return self.tightness >= 1 - 1e-6

    @property
    def tightness(self) -> float:
        """How far it is from the truth, 1 for equal: bound over truth from above, truth over bound from below."""
        value = self.bound.value
        if value is None:
            return float("inf")
        high, low = (value, self.truth) if self.bound.side is Side.UPPER else (self.truth, value)
        return 1.0 if high == low else float("inf") if low <= 0 else high / low


@dataclass(frozen=True, eq=False)
class Audit:
    """What is known of an approximation, and what each bound says of it.

    Attributes
    ----------
    spectrum : Spectrum
        Of the matrix.
    factor : NystromFactor
    truth : tuple of float
        Spectral, Frobenius and trace norm of the error.
    lines : tuple of Line
        Bounds that say a number, the tightest first, and last those that do not hold here.
    failed : tuple of Line
        Those whose hypotheses do not hold here.
    """

    spectrum: Spectrum
    factor: NystromFactor
    truth: tuple[float, float, float]
    lines: tuple[Line, ...]
    failed: tuple[Line, ...]

    def best(self, norm: Norm, side: Side, /) -> Line:
        """The tightest bound of these very landmarks, in a norm, from one side."""
        return next(
            line
            for line in self.lines
            if line.of == "these" and line.bound.norm is norm and line.bound.side is side
        )


def audit(
    matrix: Array | Kernel,
    landmarks: LandmarkPoints | ColumnSubset,
    /,
    *,
    failure: float = 0.01,
    ratio: float = 1.2,
    rng: np.random.Generator | int = 0,
) -> Audit:
    r"""Hold every bound for a Nyström approximation of a PSD matrix against its true error.

    Parameters
    ----------
    matrix : array (n, n) or Kernel
        Symmetric PSD, n at most 4096.
    landmarks : LandmarkPoints or ColumnSubset
        Points only with a kernel that knows its own.
    failure : float
        Probability with which each bound that has one may fail.
    ratio : float
        What Lanczos iteration and probes are asked for.
    rng : numpy.random.Generator or int
        Of these probes.

    Returns
    -------
    Audit

    Raises
    ------
    IndefiniteError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: n² kernel entries several times over, memory n², two eigendecompositions: an audit knows the truth,
    which :func:`certify` does without.  Where a bound has a free k, the best of some is taken: k is chosen by
    the spectrum and the given landmarks alone, which for bounds with a probability is allowed.
    """
    kernel = matrix if isinstance(matrix, Kernel) else precomputed(matrix)
    kernel.require_symmetric()
    n = kernel.shape[0]
    if n > LARGEST:
        raise RangeError("matrix", f"of {n} rows", f"at most {LARGEST}: an audit forms it")
    a = kernel.block(slice(None), slice(None))
    spectrum = psd_spectrum(a)
    factor = nystrom_factor(kernel, landmarks, diagonal=True)
    f = to_numpy(factor.factor).astype(np.float64)
    error = np.linalg.eigvalsh(to_numpy(a).astype(np.float64) - f @ f.T)
    truth = (float(np.abs(error).max()), float(np.linalg.norm(error)), float(np.abs(error).sum()))
    lines = [
        Line(name, b, truth[_NORMS.index(b.norm)], of)
        for name, b, of in _all(kernel, spectrum, factor, landmarks, failure, ratio, rng)
    ]
    known = sorted(
        (line for line in lines if line.bound.value is not None),
        key=lambda line: (not line.holds, line.tightness),
    )
    failed = tuple(line for line in lines if line.bound.value is None)
    return Audit(spectrum, factor, truth, tuple(known), failed)


def _all(
    kernel: Kernel,
    spectrum: Spectrum,
    factor: NystromFactor,
    landmarks: LandmarkPoints | ColumnSubset,
    failure: float,
    ratio: float,
    rng: np.random.Generator | int,
) -> Iterator[tuple[str, Bound, str]]:
    n = spectrum.size
    m = (landmarks.points if isinstance(landmarks, LandmarkPoints) else landmarks.indices).shape[0]
    for norm in _NORMS:
        free = certify(kernel, factor, norm=norm)
        yield "diagonal of R", free.lower, "these"
        yield "trace of R", free.upper, "these"
        if norm is not Norm.TRACE:
            narrow = certify(kernel, factor, norm=norm, ratio=ratio, failure=failure, rng=rng)
            name = "Lanczos" if norm is Norm.SPECTRAL else "Gaussian probes"
            for b in (narrow.lower, narrow.upper):
                yield (name, b, "these") if name.split()[0] in b.source else ("diagonal of R", b, "these")
    points = None if kernel.points is None else landmarks.gather(kernel.points)
    indices = tuple(to_numpy(landmarks.indices).tolist()) if isinstance(landmarks, ColumnSubset) else None
    rank = min(m, n)
    ks = np.unique(np.geomspace(1, rank, 12).astype(int)).tolist()
    problems = [NystromProblem(kernel, spectrum, indices, points, m, rank, k, failure) for k in ks]
    for one in BOUNDS:
        of_nystrom = one.subject in (Subject.NYSTROM, Subject.SKETCHED_NYSTROM)
        of_these = one.law is Law.THESE or indices is not None  # points that were made are of no law
        if of_nystrom and of_these and one.function is not psd_sandwich:  # which came first, by `certify`
            for b in _best(one, problems):
                yield one.name, b, one.law.value


def _best(one: Registered, problems: Sequence[NystromProblem]) -> Sequence[Bound]:
    """The best over the problems, norm by norm and side by side; one that failed where all did."""
    best: dict[tuple[Norm, Side], Bound] = {}
    for problem in problems:
        for b in one(problem):
            old = best.get((b.norm, b.side))
            if (
                old is None
                or old.value is None
                or (b.value is not None and _tighter(b.value, old.value, b.side))
            ):
                best[b.norm, b.side] = b
    return tuple(best.values())


def _tighter(value: float, other: float, side: Side) -> bool:
    return value < other if side is Side.UPPER else value > other
