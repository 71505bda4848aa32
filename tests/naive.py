"""The paper transcribed with loops and explicit matrices: slow, obvious, the oracle of the fast code."""

from __future__ import annotations

import numpy as np


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def attention(q, k, v, scale=None):
    """Vaswani et al., eq. (1), of one head."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    return softmax(q @ k.T * scale) @ v


def segment_means(x, m):
    """Means over the tokens i with floor(i m / n) = s; for m | n these are the paper's segments."""
    n = len(x)
    return np.stack([np.mean([x[i] for i in range(n) if i * m // n == s], axis=0) for s in range(m)])


def pinv_iteration(a, iterations=6):
    """Eq. (14), from the paper's Z_0."""
    z = a.T / (np.abs(a).sum(axis=0).max() * np.abs(a).sum(axis=1).max())
    eye = np.eye(len(a))
    for _ in range(iterations):
        z = 0.25 * z @ (13 * eye - a @ z @ (15 * eye - a @ z @ (7 * eye - a @ z)))
    return z


def nystrom_matrix(q, k, m, pinv=pinv_iteration, scale=None):
    """Eq. (13): the n × n approximation of one head's attention matrix."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    qt, kt = segment_means(q, m), segment_means(k, m)
    f, a, b = softmax(q @ kt.T * scale), softmax(qt @ kt.T * scale), softmax(qt @ k.T * scale)
    return f @ pinv(a) @ b


def tangent_matrix(q, k, blocks, groups, near, scale, cap=2.0):
    """Ŝ of tangent attention, row by row, with one level: ``blocks`` of query numbers and ``groups`` of key numbers."""
    s = np.zeros((len(q), len(k)))
    within = sum(np.cov(q[b].T, bias=True) * len(b) for b in blocks) / len(q)
    r2 = np.zeros(len(k))
    for g in groups:
        for j in g:
            delta = k[j] - k[g].mean(axis=0)
            r2[j] = scale**2 * delta @ within @ delta
    for b in blocks:
        pilot = q[b].mean(axis=0)
        at_pilot = scale * k @ pilot
        worth = at_pilot + np.minimum(r2 / 2, cap) + np.log(r2 + np.finfo(float).tiny)
        close = np.argsort(-worth)[:near]
        for i in b:
            weights = np.zeros(len(k))
            weights[close] = np.exp(scale * q[i] @ k[close].T)
            for g in groups:
                far = np.setdiff1d(g, close)
                if len(far) == 0:
                    continue
                w = np.exp(at_pilot[far] + np.minimum(r2[far] / 2, cap))
                mu = w @ k[far] / w.sum()
                beta = np.log(w.sum()) - scale * pilot @ mu
                weights[far] = np.exp(scale * q[i] @ mu + beta) * w / w.sum()
            s[i] = weights / weights.sum()
    return s
