"""What a matrix really is away from a pseudoinverse, in balls that hold the truth, and matrices that make it hard."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from flint import acb_mat, arb, arb_mat, ctx

BITS = 2600


def ball_matrix(x: np.ndarray) -> arb_mat:
    return arb_mat([[arb(float(v)) for v in row] for row in x])


def frobenius(x: arb_mat) -> arb:
    return sum((x[i, j] ** 2 for i in range(x.nrows()) for j in range(x.ncols())), arb(0)).sqrt()


def identity(n: int) -> arb_mat:
    return arb_mat(n, n, [arb(int(i == j)) for i in range(n) for j in range(n)])


def full_rank(a: np.ndarray) -> tuple[arb_mat, arb_mat]:
    """A⁺ and AA⁺; ZeroDivisionError where the balls do not show full rank."""
    m, n = a.shape
    if m > n:
        turned, _ = full_rank(a.T)
        inverse = turned.transpose()
        return inverse, ball_matrix(a) * inverse
    exact = ball_matrix(a)
    at = exact.transpose()
    return (at * (exact * at).inv(), identity(m)) if m < n else (exact.inv(), identity(m))


def nearest_of_rank(a: np.ndarray, rank: int) -> tuple[arb_mat, arb_mat]:
    """A_r⁺ and A_rA_r⁺, from certified eigenvectors of AAᵀ; ValueError where eigenvalues cannot be told apart."""
    exact = ball_matrix(a)
    if a.shape[0] > a.shape[1]:
        inverse, _ = nearest_of_rank(a.T, rank)
        inverse = inverse.transpose()
        return inverse, exact * inverse
    m = a.shape[0]
    unit = arb(2) ** int(np.floor(np.log2(np.abs(a).max())))
    exact = exact * (1 / unit)
    values, left, right = acb_mat(exact * exact.transpose()).eig(left=True, right=True)
    order = sorted(range(m), key=lambda i: -float(values[i].real.mid()))
    if not values[order[rank - 1]].real > values[order[rank]].real:
        raise ValueError("no gap")
    scaled, projector = arb_mat(m, m), arb_mat(m, m)
    for i in order[:rank]:
        row, column = [left[i, k] for k in range(m)], [right[k, i] for k in range(m)]
        weight = sum((x * y for x, y in zip(row, column, strict=True)), 0 * row[0])  # they are not normalised
        part = arb_mat([[(c * r / weight).real for r in row] for c in column])
        projector += part
        scaled += part * (1 / values[i].real)
    return exact.transpose() * scaled * (1 / unit), projector


def errors(a: np.ndarray, z: np.ndarray, rank: int) -> tuple[arb, arb]:
    """‖A⁺ − Z‖_F and ‖AZ − AA⁺‖_F, of A_r where the rank is below full."""
    before, ctx.prec = ctx.prec, BITS
    try:
        full = rank == min(a.shape)
        inverse, projector = full_rank(a) if full else nearest_of_rank(a, rank)
        given = ball_matrix(z)
        return frobenius(inverse - given), frobenius(ball_matrix(a) * given - projector)
    finally:
        ctx.prec = before


# ------------------------------------------------------------------------------------------------------ matrices


def _spectrum(rng: np.random.Generator, k: int, most: float) -> np.ndarray:
    return 10.0 ** -np.sort(rng.uniform(0, rng.uniform(0, most), k))


def matrix(rng: np.random.Generator, dtype: str, m: int, n: int, rank: int) -> np.ndarray:
    """One of several kinds: a spectrum down to rounding's, graded, of integers, a Hilbert matrix, diagonal."""
    k, narrow = min(m, n), dtype == "float32"
    kind = int(rng.integers(6))
    u, v = (np.linalg.qr(rng.standard_normal((x, x)))[0] for x in (m, n))
    sigma = _spectrum(rng, k, 8.0 if narrow else 16.0)
    if rank < k:
        sigma[rank:] *= 10.0 ** -rng.uniform(0, 18)
        sigma[:rank] = np.sort(sigma[:rank])[::-1] ** rng.uniform(0, 1)
        kind = 0 if kind > 3 else kind
    a = (u[:, :k] * sigma) @ v[:, :k].T
    if kind == 1:
        span = 20 if narrow else 200
        a = a * 2.0 ** rng.integers(-span, span, (m, 1)) * 2.0 ** rng.integers(-span, span, (1, n))
    elif kind == 2:
        a = rng.integers(-9, 10, (m, n)).astype(float)
    elif kind == 3:
        a = 1 / (np.arange(m)[:, None] + np.arange(n) + 1.0)
    elif kind == 4:
        a = np.zeros((m, n))
        a[np.arange(k), rng.permutation(k)] = sigma
    return a


def approximation(rng: np.random.Generator, a: np.ndarray, rank: int) -> np.ndarray:
    """A pseudoinverse by several routes, and disturbed ones: at random, beside the rows, by a last bit, or nonsense."""
    wide = a.astype(float)
    u, s, vt = np.linalg.svd(wide, full_matrices=False)
    with np.errstate(all="ignore"):
        z = (vt[:rank].T / s[:rank]) @ u[:, :rank].T
        kind = int(rng.integers(6))
        if kind == 1:
            z = z * (1 + 10.0 ** -rng.uniform(1, 16) * rng.standard_normal(z.shape))
        elif kind == 2:
            z = z + 10.0 ** -rng.uniform(1, 16) * np.abs(z).max() * rng.standard_normal(z.shape)
        elif kind == 3:
            z = 2 * z - z @ wide @ z
        elif kind == 4 and rng.random() < 0.3:
            z = rng.standard_normal(z.shape) * (rng.random() < 0.5)
    return z


def scaled(rng: np.random.Generator, dtype: str, a: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Both as stored, at a scale anywhere in the format: what falls out of it is infinite, or subnormal, or zero."""
    reach = 120 if dtype == "float32" else 1000
    power = int(rng.integers(-reach, reach)) if rng.random() < 0.5 else 0
    with np.errstate(all="ignore"):
        top = np.abs(a).max() or 1.0
        a = (np.ldexp(a / top, power)).astype(dtype)
        safe = np.where(np.isfinite(a), a, 0.0).astype(float)
        unit = np.abs(safe).max() or 1.0
        unit = 2.0 ** np.floor(np.log2(unit))
        z = (approximation(rng, safe / unit, rank) / unit).astype(dtype)
    return a, z


def cases(
    seed: int, count: int, dtype: str, sizes: tuple[int, int] = (1, 7)
) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    rng = np.random.default_rng(seed)
    for _ in range(count):
        m, n = (int(x) for x in rng.integers(sizes[0], sizes[1], 2))
        n = m if rng.random() < 0.3 else n
        rank = min(m, n) if rng.random() < 0.6 else int(rng.integers(1, min(m, n) + 1))
        a, z = scaled(rng, dtype, matrix(rng, dtype, m, n, rank), rank)
        yield a, z, rank
