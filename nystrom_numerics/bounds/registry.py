r"""Every bound of this package, registered once: what it bounds, whose landmarks it speaks of, and what it costs.

An audit reads the registry, and so do the tests, which hold each bound to the truth over its whole law: on each set
of landmarks for one that is certain, in its share of the draws or in their mean for others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from nystrom_numerics.arguments import require_callable, require_flag, require_instance
from nystrom_numerics.bounds import (
    aposteriori,
    apriori,
    cross,
    drawn,
    expected,
    lanczos,
    probes,
    propagation,
    quantisation,
    rows,
)
from nystrom_numerics.bounds.problems import PROBLEMS, NystromProblem, Subject
from nystrom_numerics.bounds.result import Bound, Certificate, Norm
from nystrom_numerics.bounds.spectrum import Spectrum
from nystrom_numerics.brief import brief
from nystrom_numerics.errors import KindError
from nystrom_numerics.landmarks import ColumnSubset
from nystrom_numerics.lowrank import nystrom_factor

__all__ = ["BOUNDS", "Law", "Registered"]


class Law(Enum):
    """Whose landmarks, or which draws, a bound speaks of; the value says it in words.

    Attributes
    ----------
    THESE, UNIFORM, LEVERAGE, DIAGONAL, RIDGE_LEVERAGE, DETERMINANTAL, RPCHOLESKY, GAUSSIAN, PROBES

    Examples
    --------
    >>> from nystrom_numerics import bounds
    >>> bounds.Law("randomly pivoted Cholesky").name
    'RPCHOLESKY'
    """

    THESE = "these"
    UNIFORM = "uniform without replacement"
    LEVERAGE = "leverage scores with replacement"
    DIAGONAL = "the diagonal with replacement"
    RIDGE_LEVERAGE = "ridge leverage scores"
    DETERMINANTAL = "a determinantal process"
    RPCHOLESKY = "randomly pivoted Cholesky"
    GAUSSIAN = "no columns but a Gaussian sketch"
    PROBES = "these, over random probes"


@dataclass(frozen=True, eq=False)
class Registered:
    """A bound, or several made together.

    Attributes
    ----------
    name : str
        As an audit prints it.
    function : callable
        The public function that makes it.
    subject : Subject
    law : Law
        Whose landmarks it speaks of.  One that is certain speaks of any.
    entries : str
        Kernel entries that it evaluates itself.
    quadratic : bool
        Whether it, or what it is given, takes all n² entries.
    needs : str
        What it is given.
    make : callable
        The subject's problem to the bounds; none where they do not apply.

    Examples
    --------
    >>> from nystrom_numerics import bounds
    >>> one = next(one for one in bounds.BOUNDS if one.function is bounds.coherence)
    >>> one.name, one.law.value, one.quadratic
    ('Gittens, coherence', 'uniform without replacement', True)
    """

    name: str
    function: Callable[..., Any]
    subject: Subject
    law: Law
    entries: str
    quadratic: bool
    needs: str
    make: Callable[[Any], Iterable[Bound]]

    __repr__ = brief

    def __post_init__(self) -> None:
        for name in ("name", "entries", "needs"):
            if not require_instance(name, getattr(self, name), str):
                raise KindError(name, "empty", "a few words")
        require_callable("function", self.function)
        require_instance("subject", self.subject, Subject)
        require_instance("law", self.law, Law)
        require_flag("quadratic", self.quadratic)
        require_callable("make", self.make)

    def __call__(self, problem: Any, /) -> tuple[Bound, ...]:
        """The bounds of a problem of its subject.

        Parameters
        ----------
        problem : NystromProblem, CrossProblem, ...
            Of the type that its subject has.

        Returns
        -------
        tuple of Bound
            Empty where they do not apply.

        Raises
        ------
        KindError
            Naming the argument.
        """
        require_instance("problem", problem, PROBLEMS[self.subject])
        return tuple(require_instance("make", found, Bound) for found in self.make(problem))


def _sides(*certificates: Certificate) -> Iterable[Bound]:
    for one in certificates:
        yield from (one.lower, one.upper)


def _sandwich(p: NystromProblem) -> Iterable[Bound]:
    if p.indices is None:
        return ()
    subset = ColumnSubset(np.asarray(p.indices, dtype=np.int64), None, 0, None)
    residual = nystrom_factor(p.kernel, subset, diagonal=True).residual
    return _sides(*aposteriori.psd_sandwich(residual))


def _of_points(make: Callable[[NystromProblem], Bound]) -> Callable[[NystromProblem], Iterable[Bound]]:
    """For a Gaussian kernel alone."""
    return lambda p: () if p.gamma is None or p.points is None else (make(p),)


def _of_indices(
    function: Callable[[Spectrum, tuple[int, ...], int], Iterable[Bound]],
) -> Callable[[NystromProblem], Iterable[Bound]]:
    return lambda p: () if p.indices is None else function(p.spectrum, p.indices, p.k)


_MATRIX = "the spectrum"
_WHOLE = "none beyond the n² of the spectrum"


def _apriori(
    name: str,
    function: Callable[..., Any],
    law: Law,
    make: Callable[[NystromProblem], Iterable[Bound]],
    needs: str = _MATRIX,
    subject: Subject = Subject.NYSTROM,
) -> Registered:
    return Registered(name, function, subject, law, _WHOLE, True, needs, make)


BOUNDS: tuple[Registered, ...] = (
    _apriori(
        "Eckart–Young",
        apriori.eckart_young,
        Law.THESE,
        lambda p: apriori.eckart_young(p.spectrum.values, p.rank),
    ),
    _apriori(
        "structural, one matrix",
        apriori.structural,
        Law.THESE,
        _of_indices(apriori.structural),
        "the spectrum and the landmarks",
    ),
    _apriori(
        "Gittens–Mahoney, structural",
        apriori.gittens_mahoney,
        Law.THESE,
        _of_indices(apriori.gittens_mahoney),
        "the spectrum and the landmarks",
    ),
    _apriori(
        "Gittens, coherence",
        drawn.coherence,
        Law.UNIFORM,
        lambda p: drawn.coherence(p.spectrum, p.m, p.k, failure=p.failure),
    ),
    _apriori(
        "leverage",
        drawn.drawn_leverage,
        Law.LEVERAGE,
        lambda p: drawn.drawn_leverage(p.spectrum, p.m, p.k, failure=p.failure),
    ),
    _apriori(
        "Kumar–Mohri–Talwalkar, additive",
        drawn.additive_uniform,
        Law.UNIFORM,
        lambda p: (drawn.additive_uniform(p.spectrum, p.m, failure=p.failure),),
    ),
    _apriori(
        "Drineas–Mahoney, additive",
        drawn.additive_weighted,
        Law.DIAGONAL,
        lambda p: (drawn.additive_weighted(p.spectrum, p.m, failure=p.failure),),
    ),
    _apriori(
        "Musco–Musco",
        drawn.musco_musco,
        Law.RIDGE_LEVERAGE,
        lambda p: (drawn.musco_musco(p.spectrum, p.m, failure=p.failure),),
    ),
    _apriori(
        "determinantal, exact mean",
        expected.dpp_expectation,
        Law.DETERMINANTAL,
        lambda p: (expected.dpp_expectation(p.spectrum, p.m),),
    ),
    _apriori(
        "Belabbas–Wolfe",
        expected.belabbas_wolfe,
        Law.DETERMINANTAL,
        lambda p: (expected.belabbas_wolfe(p.spectrum, p.m),),
    ),
    _apriori(
        "RPCholesky",
        expected.rpcholesky_expectation,
        Law.RPCHOLESKY,
        lambda p: (expected.rpcholesky_expectation(p.spectrum, p.m),),
    ),
    _apriori(
        "Gaussian sketch",
        expected.gaussian_sketch,
        Law.GAUSSIAN,
        lambda p: expected.gaussian_sketch(p.spectrum, p.m),
        subject=Subject.SKETCHED_NYSTROM,
    ),
    Registered(
        "diagonal and trace of R",
        aposteriori.psd_sandwich,
        Subject.NYSTROM,
        Law.THESE,
        "n, where the diagonal of A is not known",
        False,
        "the diagonal of R",
        _sandwich,
    ),
    Registered(
        "quantisation in feature space",
        quantisation.kernel_quantisation,
        Subject.NYSTROM,
        Law.THESE,
        "nm + 9m + n",
        False,
        "a kernel of points, landmarks of any kind",
        lambda p: () if p.points is None else (quantisation.kernel_quantisation(p.kernel, p.points),),
    ),
    Registered(
        "quantisation of points",
        quantisation.gaussian_quantisation,
        Subject.NYSTROM,
        Law.THESE,
        "none",
        False,
        "points of a Gaussian kernel, landmarks of any kind",
        _of_points(
            lambda p: quantisation.gaussian_quantisation(p.kernel.points, p.points, gamma=p.gamma or 0.0)
        ),
    ),
    Registered(
        "Zhang–Tsang–Kwok",
        quantisation.zhang_tsang_kwok,
        Subject.NYSTROM,
        Law.THESE,
        "m²",
        False,
        "points of a Gaussian kernel, landmarks of any kind with a regular core",
        _of_points(
            lambda p: quantisation.zhang_tsang_kwok(
                p.kernel.points, p.points, p.kernel.between(p.points, p.points), gamma=p.gamma or 0.0
            )
        ),
    ),
    Registered(
        "Goreinov–Tyrtyshnikov",
        cross.goreinov_tyrtyshnikov,
        Subject.CROSS,
        Law.THESE,
        "np",
        True,
        "the matrix, as many rows as columns",
        lambda p: (
            (cross.goreinov_tyrtyshnikov(p.a, p.rows, p.columns),) if len(p.rows) == len(p.columns) else ()
        ),
    ),
    Registered(
        "oversampled cross",
        cross.oversampled_cross,
        Subject.CROSS,
        Law.THESE,
        "np",
        True,
        "the matrix",
        lambda p: (cross.oversampled_cross(p.a, p.rows, p.columns, p.k),),
    ),
    Registered(
        "Sorensen–Embree",
        cross.sorensen_embree,
        Subject.CUR,
        Law.THESE,
        "np",
        True,
        "the matrix",
        lambda p: (cross.sorensen_embree(p.a, p.rows, p.columns, p.k),),
    ),
    Registered(
        "generalised Nyström",
        cross.generalised_nystrom,
        Subject.GENERALISED_NYSTROM,
        Law.GAUSSIAN,
        "none beyond the np of the singular values",
        True,
        "the singular values",
        lambda p: (cross.generalised_nystrom(p.values, p.columns, p.rows),),
    ),
    Registered(
        "Halko–Martinsson–Tropp, Gaussian probes",
        probes.gaussian_norm_bound,
        Subject.OPERATOR,
        Law.PROBES,
        "n² in all, for a residual",
        True,
        "products",
        lambda p: _sides(probes.gaussian_norm_bound(p.apply, p.like, probes=5, failure=p.failure, rng=p.rng)),
    ),
    Registered(
        "Gaussian probes",
        probes.frobenius_probes,
        Subject.OPERATOR,
        Law.PROBES,
        "n² in all, for a residual",
        True,
        "products",
        lambda p: _sides(probes.frobenius_probes(p.apply, p.like, probes=5, failure=p.failure, rng=p.rng)),
    ),
    Registered(
        "Lanczos",
        lanczos.lanczos_norm,
        Subject.OPERATOR,
        Law.PROBES,
        "n² a step, for a residual",
        True,
        "products",
        lambda p: _sides(lanczos.lanczos_norm(p.apply, p.like, iterations=3, failure=p.failure, rng=p.rng)),
    ),
    Registered(
        "inexact pseudoinverse",
        propagation.pinv_error,
        Subject.PINV,
        Law.THESE,
        "none",
        False,
        "a regular core, Z and two Gram matrices",
        lambda p: (
            (found := propagation.pinv_error(p.core, p.z, p.left, p.right)).backward,
            found.naive,
        ),
    ),
    Registered(
        "Wedin",
        propagation.wedin,
        Subject.INVERSES,
        Law.THESE,
        "none",
        False,
        "two norms, and that of the difference",
        lambda p: (
            propagation.wedin(p.inverse_norm, p.other_norm, p.spectral),
            propagation.wedin(p.inverse_norm, p.other_norm, p.frobenius, norm=Norm.FROBENIUS),
        ),
    ),
    Registered(
        "softmax",
        propagation.softmax_lipschitz,
        Subject.SOFTMAX,
        Law.THESE,
        "none",
        False,
        "two sets of scores",
        lambda p: (propagation.softmax_lipschitz(p.scores, p.other),),
    ),
    Registered(
        "softmax, range of the difference",
        rows.softmax_range,
        Subject.SOFTMAX,
        Law.THESE,
        "none",
        False,
        "two sets of scores",
        lambda p: rows.softmax_range(p.scores, p.other),
    ),
    Registered(
        "Jensen and Hoeffding, sums of groups",
        rows.group_sums,
        Subject.SUMS,
        Law.THESE,
        "n g, for the means of groups",
        False,
        "means and ranges of scores",
        lambda p: rows.group_sums(p.means, p.counts, p.ranges),
    ),
    Registered(
        "tangents, distance from the pilot",
        rows.tangent_rows,
        Subject.TANGENT,
        Law.THESE,
        "none",
        False,
        "distances from pilots, radii of groups, far shares",
        lambda p: (rows.tangent_rows(p.reach, p.far),),
    ),
    Registered(
        "near field, far shares",
        rows.near_rows,
        Subject.NEAR_FIELD,
        Law.THESE,
        "none",
        False,
        "far shares of rows",
        lambda p: (rows.near_rows(p.far, p.estimated),),
    ),
)
"""All of them, in the order in which an audit comes to them."""
