"""Landmarks: few tokens that stand for all, made (`LandmarkPoints`) or picked (`ColumnSubset`).

Two kinds of rule.  Rules on points, ``rule(x, m, *, mask=None, ...)``, take batches and masks and look at
no kernel: segment means, strided, uniform, k-means, farthest.  Rules over a kernel,
``rule(kernel, m, *, rng=0, ...)``, ask a :class:`~nystrom_numerics.kernels.Kernel` of one set of points for
entries and count them.  :func:`on_points` and :func:`on_basis` turn others into these.  All that have a name in text
are in :data:`RULES`.  What evaluates n² entries or holds n numbers for each of the rank warns of its time and memory
before it begins, where these are ten seconds or one GiB (:class:`~nystrom_numerics.errors.CostWarning`).
"""

from nystrom_numerics.landmarks.adapters import on_basis, on_columns, on_points
from nystrom_numerics.landmarks.bases import Basis, exact_basis, sketched_basis
from nystrom_numerics.landmarks.columns import deim, maxvol, pivoted_qr, qdeim, rectangular_maxvol
from nystrom_numerics.landmarks.cross import CrossSubset, adaptive_cross
from nystrom_numerics.landmarks.determinantal import adaptive_randomized_pivoting, kdpp
from nystrom_numerics.landmarks.metric import farthest_point, kernel_kmeanspp
from nystrom_numerics.landmarks.pivoting import (
    accelerated_rpcholesky,
    block_rpcholesky,
    pivoted_cholesky,
    rpcholesky,
)
from nystrom_numerics.landmarks.points import farthest, kmeans, segment_means
from nystrom_numerics.landmarks.registry import RULES, Rule
from nystrom_numerics.landmarks.result import ColumnSubset, KernelStrategy, LandmarkPoints, Strategy
from nystrom_numerics.landmarks.ridge import ridge_leverage
from nystrom_numerics.landmarks.sampling import strided, uniform
from nystrom_numerics.landmarks.scores import length_squared, leverage

__all__ = [
    "RULES",
    "Basis",
    "ColumnSubset",
    "CrossSubset",
    "KernelStrategy",
    "LandmarkPoints",
    "Rule",
    "Strategy",
    "accelerated_rpcholesky",
    "adaptive_cross",
    "adaptive_randomized_pivoting",
    "block_rpcholesky",
    "deim",
    "exact_basis",
    "farthest",
    "farthest_point",
    "kdpp",
    "kernel_kmeanspp",
    "kmeans",
    "length_squared",
    "leverage",
    "maxvol",
    "on_basis",
    "on_columns",
    "on_points",
    "pivoted_cholesky",
    "pivoted_qr",
    "qdeim",
    "rectangular_maxvol",
    "ridge_leverage",
    "rpcholesky",
    "segment_means",
    "sketched_basis",
    "strided",
    "uniform",
]
