"""Pseudoinverses of small (core) matrices, each returning a :class:`PinvResult` with its story."""

from nystrom_numerics.pinv.exact import complete_orthogonal, hermitian, svd, tikhonov, truncated
from nystrom_numerics.pinv.filters import filter_response
from nystrom_numerics.pinv.implicit import implicit
from nystrom_numerics.pinv.iterative import chebyshev, hyperpower, iterate, iterates, newton_schulz, razavi
from nystrom_numerics.pinv.norm_bounds import NormBound, known_norm, one_sup_bound, perron_bound
from nystrom_numerics.pinv.result import PinvResult
from nystrom_numerics.pinv.schedules import Schedule, interval_optimal, plan
from nystrom_numerics.pinv.solving import Solver, SolveResult, by_product, lu, rank_revealing, solve
from nystrom_numerics.pinv.steps import (
    CHEBYSHEV,
    NEWTON_SCHULZ,
    RAZAVI,
    Step,
    hyperpower_step,
    interval_step,
)
from nystrom_numerics.pinv.tracing import METHODS, Convergence, Trace, convergence
from nystrom_numerics.pinv.verified import Verification, verify

__all__ = [
    "CHEBYSHEV",
    "METHODS",
    "NEWTON_SCHULZ",
    "RAZAVI",
    "Convergence",
    "NormBound",
    "PinvResult",
    "Schedule",
    "SolveResult",
    "Solver",
    "Step",
    "Trace",
    "Verification",
    "by_product",
    "chebyshev",
    "complete_orthogonal",
    "convergence",
    "filter_response",
    "hermitian",
    "hyperpower",
    "hyperpower_step",
    "implicit",
    "interval_optimal",
    "interval_step",
    "iterate",
    "iterates",
    "known_norm",
    "lu",
    "newton_schulz",
    "one_sup_bound",
    "perron_bound",
    "plan",
    "rank_revealing",
    "razavi",
    "solve",
    "svd",
    "tikhonov",
    "truncated",
    "verify",
]
