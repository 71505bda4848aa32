"""Every rule over a kernel, by name, as ``rule(kernel, m, rng=rng)``."""

from __future__ import annotations

from functools import partial

from nystrom_numerics import landmarks


def unseeded(rule):
    return lambda kernel, m, rng=0: rule(kernel, m)


KERNEL_RULES = {
    "farthest_point": unseeded(landmarks.farthest_point),
    "kernel_kmeanspp": landmarks.kernel_kmeanspp,
    "length_squared": landmarks.length_squared,
    "leverage": landmarks.leverage,
    "sketched leverage": partial(landmarks.leverage, basis=landmarks.sketched_basis),
    "ridge_leverage": landmarks.ridge_leverage,
    "kdpp": landmarks.kdpp,
    "pivoted_cholesky": unseeded(landmarks.pivoted_cholesky),
    "rpcholesky": landmarks.rpcholesky,
    "block_rpcholesky": landmarks.block_rpcholesky,
    "accelerated_rpcholesky": landmarks.accelerated_rpcholesky,
    "pivoted_qr": landmarks.on_columns,
    "deim": landmarks.on_basis(landmarks.deim, basis=landmarks.exact_basis),
    "qdeim": landmarks.on_basis(landmarks.qdeim, basis=landmarks.exact_basis),
    "maxvol": landmarks.on_basis(landmarks.maxvol),
    "adaptive pivoting": landmarks.on_basis(landmarks.adaptive_randomized_pivoting),
}
POINT_RULES = {
    name: landmarks.on_points(getattr(landmarks, name))
    for name in ("segment_means", "strided", "uniform", "kmeans", "farthest")
}
CHOLESKY = ("pivoted_cholesky", "rpcholesky", "block_rpcholesky", "accelerated_rpcholesky")
