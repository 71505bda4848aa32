r"""Low-rank factors built from landmarks: Nyström for PSD kernels, cross (CUR) for rectangular ones.

Neither holds more than its factors and a strip.  The core is truncated where rounding has taken over, so
dependent landmarks, duplicates among them, are harmless.
"""

from nystrom_numerics.lowrank.cross import CrossFactor, cross_factor, cur_factor, ready_cross
from nystrom_numerics.lowrank.nystrom import NystromFactor, NystromPreconditioner, nystrom_factor
from nystrom_numerics.lowrank.residual import ResidualNorms, residual_norms
from nystrom_numerics.lowrank.solving import SolveResult, conjugate_gradients, kernel_ridge

__all__ = [
    "CrossFactor",
    "NystromFactor",
    "NystromPreconditioner",
    "ResidualNorms",
    "SolveResult",
    "conjugate_gradients",
    "cross_factor",
    "cur_factor",
    "kernel_ridge",
    "nystrom_factor",
    "ready_cross",
    "residual_norms",
]
