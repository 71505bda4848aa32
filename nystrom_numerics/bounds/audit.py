"""Every bound that applies, held against the truth: which hold, how tight they are, which hypotheses fail."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf, sqrt

import numpy as np

from nystrom_numerics.arguments import require_instance, require_number, require_probability
from nystrom_numerics.backend import Array, generator, namespace, to_numpy
from nystrom_numerics.bounds import apriori
from nystrom_numerics.bounds.aposteriori import psd_sandwich
from nystrom_numerics.bounds.certificate import certified, residual_diagonal
from nystrom_numerics.bounds.problems import NystromProblem, Subject
from nystrom_numerics.bounds.registry import BOUNDS, Law, Registered
from nystrom_numerics.bounds.result import Bound, Norm, Side
from nystrom_numerics.bounds.rounding import Rounding, nystrom_rounding, widened
from nystrom_numerics.bounds.spectrum import Spectrum, psd_spectrum
from nystrom_numerics.errors import ArgumentError, RangeError, ShapeError
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

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds, kernels, landmarks
    >>> kernel = kernels.precomputed(np.diag([4.0, 2.0, 1.0]))
    >>> line = bounds.audit(kernel, landmarks.pivoted_cholesky(kernel, 2)).lines[0]
    >>> line.name, round(line.bound.value, 6), line.truth, round(line.tightness, 6)
    ('diagonal of R', 1.0, 1.0, 1.0)
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

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds, kernels, landmarks
    >>> kernel = kernels.precomputed(np.diag([4.0, 2.0, 1.0]))
    >>> found = bounds.audit(kernel, landmarks.pivoted_cholesky(kernel, 2))
    >>> best = found.best(bounds.Norm.TRACE, bounds.Side.UPPER)
    >>> [round(x, 6) for x in (*found.truth, best.bound.value)]
    [1.0, 1.0, 1.0, 1.0]
    """

    spectrum: Spectrum
    factor: NystromFactor
    truth: tuple[float, float, float]
    lines: tuple[Line, ...]
    failed: tuple[Line, ...]

    def __repr__(self) -> str:
        n, landmarks = self.spectrum.size, len(self.factor.kept)
        error = ", ".join(f"{x:.3g} in the {norm.value}" for x, norm in zip(self.truth, _NORMS, strict=True))
        return (
            f"<Audit of {landmarks} landmarks for a matrix {n} × {n}: error {error}; "
            f"{len(self.lines)} bounds, {len(self.failed)} without a number>"
        )

    def best(self, norm: Norm, side: Side, /) -> Line:
        """The tightest bound of these very landmarks, in a norm, from one side.

        Parameters
        ----------
        norm : Norm
        side : Side

        Returns
        -------
        Line

        Raises
        ------
        KindError, RangeError
            Naming the argument; there is no bound of the largest entry.
        """
        require_instance("norm", norm, Norm)
        require_instance("side", side, Side)
        if norm not in _NORMS:
            raise RangeError("norm", norm.value, "the spectral, the Frobenius or the trace norm")
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
        Symmetric PSD, to the ``noise`` of the kernel; n at most 4096.  The largest entry must leave room for squares:
        bounds scale with the matrix, so that one of another scale is audited after a division.
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
    DTypeError, IndefiniteError, KindError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: n² kernel entries several times over, memory n², two eigendecompositions: an audit knows the truth,
    which :func:`certify` does without.  Where a bound has a free k, the best of some is taken: k is chosen by
    the spectrum and the given landmarks alone, which for bounds with a probability is allowed.  Bounds of these
    landmarks speak of those that the core kept, and each bound allows for rounding, in the matrix (by its negative
    eigenvalues), in its spectrum and in the factor (:mod:`~nystrom_numerics.bounds.rounding`).

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds, kernels, landmarks
    >>> kernel = kernels.gaussian(np.random.default_rng(0).standard_normal((80, 2)), gamma=0.5)
    >>> found = bounds.audit(kernel, landmarks.rpcholesky(kernel, 15))
    >>> all(line.holds for line in found.lines if line.of == bounds.Law.THESE.value), len(found.lines) > 20
    (True, True)
    """
    require_instance("landmarks", landmarks, (LandmarkPoints, ColumnSubset))
    require_probability("failure", failure)
    ratio = require_number("ratio", ratio, lambda x: 1 < x < inf, "a finite number above 1")
    generator(rng)
    with _naming("matrix", "a", "kernel"):
        kernel = matrix if isinstance(matrix, Kernel) else precomputed(matrix)
        kernel.require_symmetric()
        n = kernel.shape[0]
        if n > LARGEST:
            raise RangeError("matrix", f"of {n} rows", f"at most {LARGEST}: an audit forms it")
        a = kernel.block(slice(None), slice(None))
        _require_scale(a)
        spectrum = psd_spectrum(a, noise=kernel.noise)
    with _naming("landmarks", "x", "z", "rows", "columns", "indices"):
        factor = nystrom_factor(kernel, landmarks, diagonal=True)
        if factor.shape != kernel.shape:
            raise ShapeError("landmarks", f"with a factor of {factor.shape[0]} rows", f"the matrix's, {n}")
    f = to_numpy(factor.factor).astype(np.float64)
    held = to_numpy(a).astype(np.float64)
    error = np.linalg.eigvalsh((held + held.T) / 2 - f @ f.T)
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


@contextmanager
def _naming(argument: str, *inner: str) -> Iterator[None]:
    """What is refused under an inner name is refused under that of the caller's argument."""
    try:
        yield
    except ArgumentError as error:
        if error.argument in inner:
            error.argument, error.args = argument, (argument, *error.args[1:])
        raise


def _require_scale(a: Array) -> None:
    """Refuse a matrix whose squares overflow, or whose rounding errors vanish; zero is neither."""
    xp = namespace(a=a)
    kind = xp.finfo(a.dtype)
    top = float(xp.max(xp.abs(a)))
    low, high = max(2.0**-400, float(kind.smallest_normal / kind.eps)), min(2.0**400, float(kind.max) / 4)
    if np.isfinite(top) and top and not low <= top <= high:
        needs = f"one from {low:.0e} to {high:.0e}: scale it, for bounds scale with it"
        raise RangeError("matrix", f"with a largest entry of {top:.3g}", needs)


def _all(
    kernel: Kernel,
    spectrum: Spectrum,
    factor: NystromFactor,
    landmarks: LandmarkPoints | ColumnSubset,
    failure: float,
    ratio: float,
    rng: np.random.Generator | int,
) -> Iterator[tuple[str, Bound, str]]:
    """Name, bound and whose landmarks it speaks of, with what rounding takes from each."""
    # how far the matrix is from PSD has been seen, and need not be guessed
    residual = residual_diagonal(kernel, factor)
    off = nystrom_rounding(kernel, factor, residual, negative=spectrum.negative)
    free = residual, off
    for norm in _NORMS:
        sandwich = certified(kernel, factor, free, norm, inf, failure, 1, generator(rng)[0])
        yield "diagonal of R", sandwich.lower, "these"
        yield "trace of R", sandwich.upper, "these"
        if norm is not Norm.TRACE:
            narrow = certified(kernel, factor, free, norm, ratio, failure, 100, generator(rng)[0])
            name = "Lanczos" if norm is Norm.SPECTRAL else "Gaussian probes"
            for b in (narrow.lower, narrow.upper):
                yield (name, b, "these") if name.split()[0] in b.source else ("diagonal of R", b, "these")
    for name, b, of in _registered(kernel, spectrum, factor, landmarks, failure):
        place = _NORMS.index(b.norm)
        amount = 2 * off.of(b.norm) + _spectral_rounding(spectrum, off)[place]
        yield name, widened(b, amount, spectrum.norms[place]), of


def _spectral_rounding(spectrum: Spectrum, off: Rounding) -> tuple[float, float, float]:
    """How far the computed spectrum may take a bound: nuλ₁ in the norm of the error that it is exact for, amplified."""
    n = spectrum.size
    one = n * 2.0**-53 * spectrum.norms[0] * max(1.0, off.amplification / n)
    return one, one, sqrt(n) * one


def _registered(
    kernel: Kernel,
    spectrum: Spectrum,
    factor: NystromFactor,
    landmarks: LandmarkPoints | ColumnSubset,
    failure: float,
) -> Iterator[tuple[str, Bound, str]]:
    """What needs no product with the residual: whatever is registered as a bound of such landmarks."""
    rank = factor.rank
    if rank == 0:  # nothing was drawn
        for b in apriori.eckart_young(spectrum.values, 0):
            yield "Eckart–Young", b, Law.THESE.value
        return
    xp = namespace(kept=factor.kept)
    points = None if kernel.points is None else xp.take(landmarks.gather(kernel.points), factor.kept, axis=0)
    indices = None
    if isinstance(landmarks, ColumnSubset):
        indices = tuple(to_numpy(xp.take(landmarks.indices, factor.kept)).tolist())
    m = (landmarks.points if isinstance(landmarks, LandmarkPoints) else landmarks.indices).shape[0]
    ks = np.unique(np.geomspace(1, rank, 12).astype(int)).tolist()
    problems = [NystromProblem(kernel, spectrum, indices, points, m, rank, k, failure) for k in ks]
    for one in BOUNDS:
        of_nystrom = one.subject in (Subject.NYSTROM, Subject.SKETCHED_NYSTROM)
        of_these = one.law is Law.THESE or indices is not None  # points that were made are of no law
        if of_nystrom and of_these and one.function is not psd_sandwich:  # which came first, by `certified`
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
