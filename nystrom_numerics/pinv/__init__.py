"""Pseudoinverses of small (core) matrices, each returning a :class:`PinvResult` with its story."""

from nystrom_numerics.pinv.exact import svd
from nystrom_numerics.pinv.iterative import NEWTON_SCHULZ, RAZAVI, Step, iterates, newton_schulz, razavi
from nystrom_numerics.pinv.result import PinvResult

__all__ = ["NEWTON_SCHULZ", "RAZAVI", "PinvResult", "Step", "iterates", "newton_schulz", "razavi", "svd"]
