"""Matrices and point sets that separate good landmark rules from lucky ones."""

from __future__ import annotations

import numpy as np

from nystrom_numerics import kernels


def smile(n, rng):
    """A dense mouth and two sparse eyes: uniform sampling misses the eyes."""
    eyes = max(2, n // 25)
    t = rng.uniform(-1, 1, n - 2 * eyes)
    mouth = np.stack([8 * t, 4 * t**2 - 6], axis=1) + 0.05 * rng.standard_normal((len(t), 2))
    left, right = (np.array([[s * 4.0, 4.0]]) + 0.3 * rng.standard_normal((eyes, 2)) for s in (-1, 1))
    return np.concatenate([mouth, left, right])


def spiral(n, rng):
    """Points that crowd at the centre of an exponential spiral."""
    t = np.linspace(0, 32, n)
    return np.exp(0.1 * t)[:, None] * np.stack([np.cos(t), np.sin(t)], axis=1)


def near_duplicates(n, rng):
    """Copies of a few points, moved by 1e-7."""
    few = rng.standard_normal((max(2, n // 5), 3))
    return few[np.arange(n) % len(few)] + 1e-7 * rng.standard_normal((n, 3))


def with_spectrum(eigenvalues, rng):
    q, _ = np.linalg.qr(rng.standard_normal((len(eigenvalues),) * 2))
    return (q * np.asarray(eigenvalues)) @ q.T


def kahan(n, angle=1.2):
    """SᵀS for Kahan's matrix S, on which greedy pivoting never exchanges and misjudges the rank."""
    s, c = np.sin(angle), np.cos(angle)
    upper = (np.eye(n) - c * np.triu(np.ones((n, n)), 1)) * (s ** np.arange(n))[:, None]
    return upper.T @ upper


def matrices(n=120, seed=3):
    """Adversarial PSD matrices by name, in float64."""
    rng = np.random.default_rng(seed)

    def gaussian(x, gamma):
        return kernels.gaussian(x, gamma=gamma).block(slice(None), slice(None))

    return {
        "smile": gaussian(smile(n, rng), 0.125),
        "spiral": gaussian(spiral(n, rng), 0.05),
        "near duplicates": gaussian(near_duplicates(n, rng), 0.5),
        "exponential decay": with_spectrum(0.7 ** np.arange(n), rng),
        "polynomial decay": with_spectrum((1.0 + np.arange(n)) ** -1.5, rng),
        "flat": with_spectrum(np.r_[np.full(10, 5.0), np.full(n - 10, 0.5)], rng),
        "kahan": kahan(n),
        "diagonal with outliers": np.diag(np.r_[np.full(5, 100.0), np.full(n - 5, 0.1)]),
        "gaussian": gaussian(rng.standard_normal((n, 4)), 0.2),
    }
