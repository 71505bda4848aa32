"""KDEformer: keys drawn by the norms of their columns."""

from __future__ import annotations

import numpy as np

from experiments.rivals.answer import Answer, Array


def kdeformer(q: Array, k: Array, v: Array, m: int, *, scale: float, rng: np.random.Generator) -> Answer:
    r"""2m keys drawn with replacement, key j with :math:`p_j \propto \|S e_j\|`; row sums from the same draw.

    With Π the sampling matrix, whose row of draw t is :math:`e_{j_t}^T/\sqrt{2m\,p_{j_t}}`, and A = exp(scale · QKᵀ):
    :math:`\hat S V = \operatorname{diag}(A\Pi^T\Pi\mathbf 1)^{-1}A\Pi^T\Pi V`.

    Source: Zandieh et al., "KDEformer: Accelerating Transformers via Kernel Density Estimation" (ICML 2023), section 3:
    draws in proportion to the norms of the columns of the softmax matrix, as the authors' description says
    (``majid-daliri/kdeformer``); row sums of the draw itself as in their implementation.  Departure, kinder to it: the
    probabilities are the exact norms, where the paper estimates them by kernel density, and what they cost is not
    counted; they do not depend on V, which here may be the identity.

    Entries: 2mn, those of the keys drawn, each counted as often as drawn.  Never exact.
    """
    scores = scale * q @ k.T
    a = np.exp(scores - scores.max(axis=1, keepdims=True))
    norms = np.linalg.norm(a / a.sum(axis=1, keepdims=True), axis=0)
    p = norms / norms.sum()
    drawn = rng.choice(len(k), size=2 * m, p=p)
    weights = a[:, drawn] / (2 * m * p[drawn])
    return Answer(weights @ v[drawn] / weights.sum(axis=1, keepdims=True), len(q) * 2 * m)
