"""Attention and cores whose singular values are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from experiments.inputs.bert import Array, Heads


@dataclass(frozen=True)
class SyntheticHeads:
    """One head whose attention matrix has known singular values, in descending order."""

    heads: Heads
    singular_values: Array


@dataclass(frozen=True)
class Core:
    """A square matrix and its exact singular values, in descending order."""

    matrix: Array
    singular_values: Array


def von_mises_heads(
    n: int, concentration: float, *, order: Literal["ring", "shuffled"] = "ring", seed: int = 0
) -> SyntheticHeads:
    r"""One head with softmax(scale · q kᵀ)ᵢⱼ ∝ exp(β cos(θᵢ − θⱼ)), θᵢ = 2πi/n, in float64, d = 2.

    Ring-ordered, the attention matrix is circulant, so its singular values are the absolute discrete Fourier
    coefficients of its first row; they are :math:`\sum_l I_{j+ln}(\beta) / \sum_l I_{ln}(\beta)`, the aliased
    ratios of modified Bessel functions, to about 1e-16. Shuffling the tokens leaves them as they are.

    Parameters
    ----------
    concentration
        β ≥ 0; the larger, the slower the singular values fall.
    order
        Tokens along the ring, where neighbours in the sequence are alike, or shuffled, where they are not.
    seed
        Of the shuffle and of the values, which are standard normal of shape (1, 1, n, 2).
    """
    rng = np.random.default_rng(seed)
    positions = {"ring": np.arange(n), "shuffled": rng.permutation(n)}[order]
    angles = 2 * np.pi * positions / n
    scale = 2**-0.5
    points = np.sqrt(concentration / scale) * np.stack([np.cos(angles), np.sin(angles)], axis=-1)[None, None]
    row = np.exp(concentration * (np.cos(2 * np.pi * np.arange(n) / n) - 1))
    singular = np.sort(np.abs(np.fft.fft(row / row.sum())))[::-1]
    source = f"von Mises attention, n = {n}, β = {concentration:g}, {order} tokens"
    return SyntheticHeads(Heads(points, points, rng.standard_normal(points.shape), scale, source), singular)


def geometric(m: int, condition: float) -> Array:
    """Singular values from 1 to 1/κ, evenly spaced in the logarithm."""
    return np.geomspace(1.0, 1.0 / condition, m)


def arithmetic(m: int, condition: float) -> Array:
    """Singular values from 1 to 1/κ, evenly spaced."""
    return np.linspace(1.0, 1.0 / condition, m)


def clustered(m: int, condition: float) -> Array:
    """Singular values 1 and 1/κ, half of each; the larger half where m is odd is at 1."""
    return np.repeat([1.0, 1.0 / condition], [m - m // 2, m // 2])


def outlier(m: int, condition: float) -> Array:
    """All singular values 1 but the last, which is 1/κ."""
    return np.append(np.ones(m - 1), 1.0 / condition)


SPECTRA: dict[str, Callable[[int, float], Array]] = {
    "geometric": geometric,
    "arithmetic": arithmetic,
    "clustered": clustered,
    "outlier": outlier,
}
"""Spectra by name, for the grids of experiments."""


def prescribed_core(
    m: int, condition: float, *, spectrum: Callable[[int, float], Array] = geometric, seed: int = 0
) -> Core:
    """An m×m float64 matrix U diag(σ) Vᵀ with κ₂ = ``condition``, largest σ = 1, and U, V random orthogonal.

    Raises
    ------
    ValueError
        m < 2, or a condition number below 1.
    """
    if m < 2 or not condition >= 1:
        raise ValueError(
            f"prescribed_core needs m ≥ 2 and condition ≥ 1, got m = {m}, condition = {condition}"
        )
    rng = np.random.default_rng(seed)
    singular = spectrum(m, condition)
    return Core((_orthogonal(m, rng) * singular) @ _orthogonal(m, rng), singular)


def _orthogonal(m: int, rng: np.random.Generator) -> Array:
    """An orthogonal matrix from the uniform (Haar) distribution."""
    q, r = np.linalg.qr(rng.standard_normal((m, m)))
    return q * np.sign(np.diag(r))
