"""WildCat: a weighted coreset of keys by randomly pivoted Cholesky."""

from __future__ import annotations

from math import exp, log, sqrt

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import lambertw

from experiments.rivals.answer import Answer, Array

RHO = sqrt(1 + exp(lambertw(2 / exp(2)).real + 2))


def wildcat(q: Array, k: Array, v: Array, m: int, *, scale: float, rng: np.random.Generator) -> Answer:
    r"""m keys S for all, with the Nyström weights of the kernel of keys :math:`h(k,k') = e^{s\,k\cdot k'/\tau^2}`.

    .. math:: W = h(K_S,K_S)^{-1}h(K_S,K),\qquad
              \hat SV = \operatorname{diag}(\hat A\mathbf 1)^{-1}\hat AV,\quad \hat A = e^{sQK_S^T}W.

    Keys are centred, which changes no softmax.  S comes from randomly pivoted Cholesky: the next key is drawn in
    proportion to what is left of the diagonal of h.  The temperature is
    :math:`\tau^2 = \frac{R_K}{R_Q}\cdot\frac{b}{2W_0(b/2\rho)}` with :math:`b = 2 + \log n/(sR_QR_K)`, R the largest
    norms of queries and keys and :math:`\rho = \sqrt{1+e^{W_0(2/e^2)+2}}`.  Outputs are clipped to the range of V, as
    those of attention lie in it.

    Source: Schröder and Mackey, "WildCat: Near-Linear Attention in Theory and Practice" (2026, arXiv 2602.10056), after
    the authors' page and implementation (``microsoft/wildcat``: ``rp_nystrom``, ``find_kernel_temperature``), with one
    bin.  The Cholesky factor itself is solved with here, where theirs keeps an inverse.

    Entries: n m between queries and S, n m between S and keys.  Exact where m ≥ n.
    """
    k = k - k.mean(axis=0)
    scaled = k * sqrt(scale) / temperature(q, k, scale)
    chosen, factor = pivoted(scaled, m, rng)
    half = (scaled**2).sum(axis=1) / 2
    weights = solve_triangular(factor[chosen], factor.T, lower=True, trans="T")
    weights *= np.exp(half - half[chosen, None])
    scores = scale * q @ k[chosen].T
    a = np.exp(scores - scores.max(axis=1, keepdims=True))
    sums = a @ weights.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        output = np.where(sums[:, None] > 0, a @ (weights @ v) / sums[:, None], 0.0)
    return Answer(np.clip(output, v.min(axis=0), v.max(axis=0)), (len(q) + len(k)) * len(chosen))


def temperature(q: Array, k: Array, scale: float) -> float:
    """τ for queries and centred keys."""
    of_q, of_k = (float(np.linalg.norm(x, axis=1).max()) for x in (q, k))
    b = 2 + log(len(k)) / (scale * of_q * of_k)
    return sqrt(of_k / of_q * b / (2 * lambertw(b / (2 * RHO)).real))


def pivoted(k: Array, m: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Pivots, m at most, and the factor of the Gaussian kernel: h but for the factors exp(‖k‖²/2) of rows and columns.

    Its factor times exp(‖k‖²/2) is that of h, so the diagonal left of h is that left of it times exp(‖k‖²).  What is
    left within rounding of nothing, n times that of a number, is taken for nothing: such a key is in the span.
    """
    square, rounding = (k**2).sum(axis=1), len(k) * np.finfo(k.dtype).eps
    factor, left, chosen = np.zeros((len(k), m)), np.ones(len(k)), np.zeros(0, dtype=int)
    for step in range(m):
        if not left.any():
            return chosen, factor[:, :step]
        p = left * np.exp(square - square[left > 0].max())
        new = int(rng.choice(len(k), p=p / p.sum()))
        column = np.exp(-((k - k[new]) ** 2).sum(axis=1) / 2) - factor[:, :step] @ factor[new, :step]
        column[chosen] = 0.0
        factor[:, step] = column / sqrt(left[new])
        chosen = np.append(chosen, new)
        left = left - factor[:, step] ** 2
        left[left < rounding] = 0.0
        left[chosen] = 0.0
    return chosen, factor
