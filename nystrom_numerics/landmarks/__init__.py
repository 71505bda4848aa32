"""Landmarks: few tokens that stand for all, made (`LandmarkPoints`) or picked (`ColumnSubset`)."""

from nystrom_numerics.landmarks.pivoting import (
    accelerated_rpcholesky,
    block_rpcholesky,
    pivoted_cholesky,
    rpcholesky,
)
from nystrom_numerics.landmarks.points import kmeans, segment_means
from nystrom_numerics.landmarks.result import ColumnSubset, LandmarkPoints, Strategy
from nystrom_numerics.landmarks.sampling import strided, uniform

__all__ = ["ColumnSubset", "LandmarkPoints", "Strategy", "kmeans", "segment_means", "strided", "uniform",
"accelerated_rpcholesky", "block_rpcholesky", "pivoted_cholesky", "rpcholesky"]
