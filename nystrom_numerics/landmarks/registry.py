"""Every landmark rule that has a name in text, registered once: what it needs, what it costs, whose it is.

Commands, experiments, the estimators in scikit-learn's form and the documentation read the registry, and so do tests:
what is registered is tested the day it comes.  The name is that of the function, or of what was bound in it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from nystrom_numerics.arguments import require_callable, require_flag, require_instance
from nystrom_numerics.brief import brief
from nystrom_numerics.errors import KindError
from nystrom_numerics.kernels import Kernel
from nystrom_numerics.landmarks.adapters import on_basis, on_columns, on_points
from nystrom_numerics.landmarks.bases import sketched_basis
from nystrom_numerics.landmarks.columns import deim, maxvol, qdeim
from nystrom_numerics.landmarks.cross import adaptive_cross
from nystrom_numerics.landmarks.determinantal import adaptive_randomized_pivoting, kdpp
from nystrom_numerics.landmarks.metric import farthest_point, kernel_kmeanspp
from nystrom_numerics.landmarks.pivoting import (
    accelerated_rpcholesky,
    block_rpcholesky,
    pivoted_cholesky,
    rpcholesky,
)
from nystrom_numerics.landmarks.points import farthest, kmeans, segment_means
from nystrom_numerics.landmarks.result import ColumnSubset, LandmarkPoints, require_found
from nystrom_numerics.landmarks.ridge import ridge_leverage
from nystrom_numerics.landmarks.sampling import strided, uniform
from nystrom_numerics.landmarks.scores import length_squared, leverage

__all__ = ["RULES", "Rule"]

POINTS, PSD, ANY = "points", "a PSD kernel", "a kernel"


@dataclass(frozen=True, eq=False)
class Rule:
    """A landmark rule, called over a kernel as ``rule(kernel, m, rng=0)`` whatever it looks at.

    Parameters
    ----------
    title : str
        What it is, in words.
    function : callable
        Of points, ``function(x, m, mask=None)``, or of a kernel, ``function(kernel, m)``; it may take ``rng``.
    entries : str
        Kernel entries that it evaluates, of n points.
    memory : str
        Numbers that it holds at once, beside the data.
    source : str
    needs : str
        What it looks at: points, a PSD kernel, or any kernel.
    quadratic : bool
        Whether it evaluates n² entries, or as many where the rank is full.
    random : bool
        Whether another seed gives other landmarks.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import kernels, landmarks
    >>> kernel = kernels.gaussian(np.random.default_rng(0).standard_normal((300, 2)), gamma=0.1)
    >>> rule = landmarks.RULES["pivoted_cholesky"]
    >>> rule(kernel, 20).indices.shape, rule.entries, rule.quadratic
    ((20,), '(m + 1)n', False)
    """

    title: str
    function: Callable[..., Any]
    entries: str
    memory: str
    source: str
    needs: str = PSD
    quadratic: bool = False
    random: bool = True

    __repr__ = brief

    def __post_init__(self) -> None:
        for name in ("title", "entries", "memory", "source", "needs"):
            if not require_instance(name, getattr(self, name), str):
                raise KindError(name, "empty", "a few words")
        require_callable("function", self.function)
        require_flag("quadratic", self.quadratic)
        require_flag("random", self.random)

    @property
    def looks_at_points(self) -> bool:
        """Whether it asks a kernel for its points, and for no entry."""
        return self.needs == POINTS

    def __call__(
        self, kernel: Kernel, m: int, /, *, rng: np.random.Generator | int = 0
    ) -> LandmarkPoints | ColumnSubset:
        """The landmarks of a kernel's points.

        Parameters
        ----------
        kernel : Kernel
        m : int
        rng : numpy.random.Generator or int
            Of rules without chance nothing is drawn.

        Returns
        -------
        LandmarkPoints or ColumnSubset

        Raises
        ------
        NamespaceError
            A rule of points met a kernel that knows none.
        IndefiniteError, KindError, NonFiniteError, RangeError, ShapeError
            Of the rule.
        """
        rule = on_points(self.function) if self.looks_at_points else self.function
        takes_rng = "rng" in inspect.signature(rule).parameters
        return require_found("function", rule(kernel, m, rng=rng) if takes_rng else rule(kernel, m))


def _columns_of_cross(kernel: Kernel, m: int, /, *, rng: np.random.Generator | int = 0) -> ColumnSubset:
    """The columns of an adaptive cross of m rows and columns."""
    found = adaptive_cross(kernel, m, rng=rng)
    return ColumnSubset(found.columns, None, found.entries, found.seed)


_CHOLESKY, _ALL = "(m + 1)n", "(r + 1)n for rank r"
_SKETCHED = "n² of the sketched basis"

RULES: dict[str, Rule] = {
    "uniform": Rule("uniform", uniform, "0", "n", "Williams and Seeger 2001", POINTS),
    "strided": Rule("strided", strided, "0", "m", "Xiong et al. 2021, §3.2", POINTS, random=False),
    "segment_means": Rule(
        "segment means", segment_means, "0", "md", "Xiong et al. 2021, §3.2", POINTS, random=False
    ),
    "kmeans": Rule("k-means", kmeans, "0; nmd an iteration", "nd", "Zhang, Tsang and Kwok 2008", POINTS),
    "farthest": Rule("farthest", farthest, "0; nmd", "nd", "Gonzalez 1985", POINTS, random=False),
    "farthest_point": Rule("farthest point", farthest_point, _CHOLESKY, "n", "Gonzalez 1985", random=False),
    "kernel_kmeanspp": Rule("kernel k-means++", kernel_kmeanspp, _CHOLESKY, "n", "Oglic and Gärtner 2017"),
    "length_squared": Rule("length-squared", length_squared, "n", "n", "Drineas and Mahoney 2005"),
    "leverage": Rule("leverage", leverage, _ALL, "nr", "Gittens and Mahoney 2016", quadratic=True),
    "sketched_leverage": Rule(
        "sketched leverage",
        partial(leverage, basis=sketched_basis),
        _SKETCHED,
        "n(m + 10)",
        "Tropp et al. 2017, Algorithm 3",
        quadratic=True,
    ),
    "ridge_leverage": Rule("ridge leverage", ridge_leverage, "O(nm)", "nm", "Musco and Musco 2017"),
    "kdpp": Rule("k-DPP", kdpp, _ALL, "nr", "Kulesza and Taskar 2012, Algorithm 8", quadratic=True),
    "pivoted_cholesky": Rule(
        "greedy Cholesky",
        pivoted_cholesky,
        _CHOLESKY,
        "nm",
        "Harbrecht et al. 2012, Algorithm 1",
        random=False,
    ),
    "rpcholesky": Rule("RPCholesky, one by one", rpcholesky, _CHOLESKY, "nm", "Chen et al. 2024"),
    "block_rpcholesky": Rule(
        "block RPCholesky",
        block_rpcholesky,
        f"{_CHOLESKY} and b² a round",
        "nm",
        "Chen et al. 2024, Algorithm 2",
    ),
    "accelerated_rpcholesky": Rule(
        "RPCholesky",
        accelerated_rpcholesky,
        f"{_CHOLESKY} and b² a round",
        "nm",
        "Epperly, Tropp and Webber 2024",
    ),
    "pivoted_qr": Rule(
        "pivoted QR",
        on_columns,
        "n²",
        "n²",
        "Businger and Golub 1965",
        ANY,
        quadratic=True,
        random=False,
    ),
    "deim": Rule(
        "DEIM", on_basis(deim), _SKETCHED, "n(m + 10)", "Chaturantabut and Sorensen 2010", quadratic=True
    ),
    "qdeim": Rule(
        "QDEIM", on_basis(qdeim), _SKETCHED, "n(m + 10)", "Drmač and Gugercin 2016", quadratic=True
    ),
    "maxvol": Rule(
        "maxvol", on_basis(maxvol), _SKETCHED, "n(m + 10)", "Goreinov et al. 2010", quadratic=True
    ),
    "adaptive_randomized_pivoting": Rule(
        "adaptive pivoting",
        on_basis(adaptive_randomized_pivoting),
        _SKETCHED,
        "n(m + 10)",
        "Cortinovis and Kressner 2024",
        quadratic=True,
    ),
    "adaptive_cross": Rule("cross approximation", _columns_of_cross, "2nm", "2nm", "Bebendorf 2000", ANY),
}
"""By the names that commands and estimators take."""
