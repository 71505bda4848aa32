"""Every bound that applies, held against the truth: which hold, how tight they are, which hypotheses fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from nystrom_numerics.backend import Array, to_numpy
from nystrom_numerics.bounds import apriori
from nystrom_numerics.bounds.certificate import certify
from nystrom_numerics.bounds.quantisation import kernel_quantisation
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
_Maker: TypeAlias = Callable[[int], Bound | Sequence[Bound]]


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
        Bounds that say a number, the tightest first.
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
    known = sorted((line for line in lines if line.bound.value is not None), key=lambda line: line.tightness)
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
    for b in apriori.eckart_young(spectrum.values, min(m, n)):
        yield "Eckart–Young", b, "these"
    for norm in _NORMS:
        free = certify(kernel, factor, norm=norm)
        yield "diagonal of R", free.lower, "these"
        yield "trace of R", free.upper, "these"
        if norm is not Norm.TRACE:
            narrow = certify(kernel, factor, norm=norm, ratio=ratio, failure=failure, rng=rng)
            name = "Lanczos" if norm is Norm.SPECTRAL else "Gaussian probes"
            for b in (narrow.lower, narrow.upper):
                yield (name, b, "these") if name.split()[0] in b.source else ("diagonal of R", b, "these")
    if kernel.points is not None:
        z = landmarks.gather(kernel.points)
        yield "quantisation in feature space", kernel_quantisation(kernel, z), "these"
    if isinstance(landmarks, LandmarkPoints):
        return
    indices = to_numpy(landmarks.indices).tolist()
    ks = np.unique(np.geomspace(1, m, 12).astype(int)).tolist()
    makers: tuple[tuple[str, _Maker, str], ...] = (
        ("structural, one matrix", lambda k: apriori.structural(spectrum, indices, k), "these"),
        ("Gittens–Mahoney, structural", lambda k: apriori.gittens_mahoney(spectrum, indices, k), "these"),
        (
            "Gittens, coherence",
            lambda k: apriori.coherence(spectrum, m, k, failure=failure),
            "uniform without replacement",
        ),
        (
            "leverage",
            lambda k: apriori.drawn_leverage(spectrum, m, k, failure=failure),
            "leverage scores with replacement",
        ),
        (
            "Kumar–Mohri–Talwalkar, additive",
            lambda k: apriori.additive_uniform(spectrum, m, failure=failure),
            "uniform without replacement",
        ),
        (
            "Drineas–Mahoney, additive",
            lambda k: apriori.additive_weighted(spectrum, m, failure=failure),
            "the diagonal with replacement",
        ),
        ("Musco–Musco", lambda k: apriori.musco_musco(spectrum, m, failure=failure), "ridge leverage scores"),
        (
            "determinantal, exact mean",
            lambda k: apriori.dpp_expectation(spectrum, m),
            "a determinantal process",
        ),
        ("Belabbas–Wolfe", lambda k: apriori.belabbas_wolfe(spectrum, m), "a determinantal process"),
        ("RPCholesky", lambda k: apriori.rpcholesky_expectation(spectrum, m), "randomly pivoted Cholesky"),
        (
            "Gaussian sketch",
            lambda k: apriori.gaussian_sketch(spectrum, m),
            "no columns but a Gaussian sketch",
        ),
    )
    for name, make, of in makers:
        for b in _best(make, ks):
            yield name, b, of


def _best(make: _Maker, ks: Sequence[int]) -> Sequence[Bound]:
    """The best over k, norm by norm; one that failed where all did."""
    best: dict[Norm, Bound] = {}
    for k in ks:
        made: Any = make(k)
        for b in (made,) if isinstance(made, Bound) else made:
            old = best.get(b.norm)
            if old is None or (b.value is not None and (old.value is None or b.value < old.value)):
                best[b.norm] = b
    return tuple(best.values())
