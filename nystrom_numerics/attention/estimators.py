r"""Every estimator of attention that has a name in text, registered once: how it is made, what it costs, whose it is.

Commands and experiments read the registry, and so do tests: what is registered is tested the day it comes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from nystrom_numerics.arguments import require_count
from nystrom_numerics.attention.causal_operator import causal_operator
from nystrom_numerics.attention.exact import exact_operator
from nystrom_numerics.attention.near_field_operator import near_field_operator
from nystrom_numerics.attention.normalised import normalised_operator
from nystrom_numerics.attention.nystrom import nystrom_operator
from nystrom_numerics.attention.operators import AttentionOperator
from nystrom_numerics.attention.tangent_operator import tangent_operator
from nystrom_numerics.backend import Array
from nystrom_numerics.brief import brief
from nystrom_numerics.pinv import rank_revealing, razavi

__all__ = ["ESTIMATORS", "Estimator"]

Made: TypeAlias = Callable[[Array, Array, int, float | None], AttentionOperator]


@dataclass(frozen=True, eq=False)
class Estimator:
    """An estimator at the kernel entries of ``nystrom`` with m landmarks, about 2m a query, unless it says otherwise.

    Attributes
    ----------
    title : str
        What it is, in words.
    operator : callable
        ``operator(q, k, m, scale)``.
    entries : str
        Kernel entries a query of n.
    source : str
    least : int
        The fewest landmarks for which it has a form.
    quadratic : bool
        Whether its kernel entries grow as n².
    causal : bool
    """

    title: str
    operator: Made
    entries: str
    source: str
    least: int = 1
    quadratic: bool = False
    causal: bool = False

    __repr__ = brief

    def make(self, q: Array, k: Array, m: int, /, *, scale: float | None = None) -> AttentionOperator:
        """The operator between q (..., n_q, d) and k (..., n_k, d).

        Raises
        ------
        RangeError
            Naming ``m``, less than ``least``; and what its maker raises.
        """
        return self.operator(q, k, require_count("m", m, self.least), scale)


def _exact(q: Array, k: Array, m: int, scale: float | None, causal: bool = False) -> AttentionOperator:
    return exact_operator(q, k, scale=scale, causal=causal)


def _nystrom(q: Array, k: Array, m: int, scale: float | None) -> AttentionOperator:
    return nystrom_operator(q, k, m, scale=scale)


def _paper(q: Array, k: Array, m: int, scale: float | None) -> AttentionOperator:
    return nystrom_operator(q, k, m, scale=scale, pinv=razavi)


def _inverse(q: Array, k: Array, m: int, scale: float | None) -> AttentionOperator:
    return nystrom_operator(q, k, m, scale=scale, solver=rank_revealing)


def _normalised(q: Array, k: Array, m: int, scale: float | None) -> AttentionOperator:
    return normalised_operator(q, k, m, scale=scale)


def _normalised_inverse(q: Array, k: Array, m: int, scale: float | None) -> AttentionOperator:
    return normalised_operator(q, k, m, scale=scale, solver=rank_revealing)


def _near_field(q: Array, k: Array, m: int, scale: float | None) -> AttentionOperator:
    return near_field_operator(q, k, max(1, m // 4 - 1), block=m, margin=m // 4, scale=scale)


def _tangent(q: Array, k: Array, m: int, scale: float | None) -> AttentionOperator:
    return tangent_operator(q, k, blocks=m // 2, near=5 * m // 4, groups=max(1, m // 4), scale=scale)


def _two_levels(q: Array, k: Array, m: int, scale: float | None) -> AttentionOperator:
    blocks = m // 4, m // 4 * 8
    return tangent_operator(q, k, blocks=blocks, near=m, groups=(m // 8, m // 8), scale=scale)


def _causal(q: Array, k: Array, m: int, scale: float | None) -> AttentionOperator:
    return causal_operator(q, k, near=max(1, m // 2), routed=m // 16, scale=scale)


PAPER, OURS = "Xiong et al. 2021, eq. (13)", "this package"
OF_LANDMARKS = "2m + m²/n"

ESTIMATORS: dict[str, Estimator] = {
    "exact": Estimator("exact attention", _exact, "n", "Vaswani et al. 2017, eq. (1)", quadratic=True),
    "exact_causal": Estimator(
        "exact causal attention",
        partial(_exact, causal=True),
        "n/2",
        "Vaswani et al. 2017, §3.2.3",
        quadratic=True,
        causal=True,
    ),
    "nystrom": Estimator("paper's form, ridge (default)", _nystrom, OF_LANDMARKS, PAPER),
    "paper": Estimator("paper's form, six iterations", _paper, OF_LANDMARKS, f"{PAPER} and (14)"),
    "nystrom_inverse": Estimator("paper's form, A⁺", _inverse, OF_LANDMARKS, PAPER),
    "normalised": Estimator("row-normalised, ridge", _normalised, OF_LANDMARKS, "the row-normalised kernel"),
    "normalised_inverse": Estimator(
        "row-normalised, A⁺", _normalised_inverse, OF_LANDMARKS, "the row-normalised kernel"
    ),
    "near_field": Estimator(
        "exact near field, as many kernel entries", _near_field, "2m + (m/4 − 1)²/n", OURS
    ),
    "tangent": Estimator("tangents, as many kernel entries", _tangent, "2m", OURS, least=2),
    "tangent_two_levels": Estimator(
        "tangents in two levels, as many entries", _two_levels, "2m", OURS, least=8
    ),
    "causal": Estimator(
        "causal, past by near keys, chosen groups and tangents",
        _causal,
        "64 + 5m/2 + n/51 beyond the first blocks",
        OURS,
        quadratic=True,
        causal=True,
    ),
}
"""By the names that commands take."""
