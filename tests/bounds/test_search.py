"""A search without gradients that tries to violate each deterministic bound: it climbs, and stops at 1."""

from __future__ import annotations

import numpy as np
import pytest

from nystrom_numerics import bounds, kernels
from tests.bounds.instances import norms, residual

N, STEPS, STARTS = 4, 250, 3


def structural(which):
    def ratio(x):
        a = x @ x.T
        b = bounds.gittens_mahoney(bounds.psd_spectrum(a), [0, 1], 1)[which]
        return 0.0 if b.value is None else norms(residual(a, np.array([0, 1])))[which] / b.value

    return ratio


def quantised(maker):
    def ratio(x):
        x, z = x[:, :2], x[:2, 2:]
        kernel = kernels.gaussian(x, gamma=0.5)
        core = kernel.between(z, z)
        if np.linalg.eigvalsh(core)[0] < 1e-6:
            return 0.0
        c = kernel.cross(z)
        _, frobenius, trace = norms(kernel.block(slice(None), slice(None)) - c @ np.linalg.inv(core) @ c.T)
        b = maker(kernel, x, z, core)
        return (frobenius if b.norm is bounds.Norm.FROBENIUS else trace) / b.value

    return ratio


def goreinov(x):
    w = x[:2, :2]
    if abs(np.linalg.det(w)) < 1e-6:
        return 0.0
    b = bounds.goreinov_tyrtyshnikov(x, [0, 1], [0, 1])
    return np.abs(x - x[:, :2] @ np.linalg.solve(w, x[:2])).max() / b.value


def embree(x):
    b = bounds.sorensen_embree(x, [0, 1], [0, 1], 2)
    q, p = np.linalg.qr(x[:, :2])[0], np.linalg.qr(x[:2].T)[0]
    return 0.0 if b.value is None else np.linalg.norm(x - q @ (q.T @ x @ p) @ p.T, 2) / b.value


def crossed(x):
    w = x[:3, :2]
    b = bounds.oversampled_cross(x, [0, 1, 2], [0, 1], 2)
    if b.value is None or np.linalg.svd(w)[1][-1] < 1e-6:
        return 0.0
    return np.linalg.norm(x - x[:, :2] @ np.linalg.pinv(w) @ x[:3], 2) / b.value


def propagated(x):
    w, z = x[:2, :2], x[2:, 2:]
    if abs(np.linalg.det(w)) < 1e-4:
        return 0.0
    found = bounds.pinv_error(w, z, np.eye(2), np.eye(2))
    return found.exact / found.backward.value


def golden(x):
    a, b = x[:2, :2], x[2:, 2:]
    pa, pb = np.linalg.pinv(a), np.linalg.pinv(b)
    one = bounds.wedin(np.linalg.norm(pa, 2), np.linalg.norm(pb, 2), np.linalg.norm(a - b, 2))
    return np.linalg.norm(pa - pb, 2) / one.value


RATIOS = {
    "structural, spectral": structural(0),
    "structural, Frobenius": structural(1),
    "structural, trace": structural(2),
    "quantisation in feature space": quantised(lambda k, x, z, w: bounds.kernel_quantisation(k, z)),
    "quantisation": quantised(lambda k, x, z, w: bounds.gaussian_quantisation(x, z, gamma=0.5)),
    "Zhang-Tsang-Kwok": quantised(lambda k, x, z, w: bounds.zhang_tsang_kwok(x, z, w, gamma=0.5)),
    "Goreinov-Tyrtyshnikov": goreinov,
    "Sorensen-Embree": embree,
    "oversampled cross": crossed,
    "inexact pseudoinverse": propagated,
    "Wedin": golden,
}


@pytest.mark.parametrize("name", RATIOS)
def test_no_climb_ends_above_one(name):
    """(1+1) evolution with steps that adapt; truth over bound is what it raises."""
    rng, best = np.random.default_rng(4), []
    for _ in range(STARTS):
        x = rng.standard_normal((N, N))
        value, size = RATIOS[name](x), 0.5
        first = value
        for _ in range(STEPS):
            y = x + size * rng.standard_normal((N, N)) * (rng.random((N, N)) < 0.4)
            new = RATIOS[name](y)
            size *= 1.3 if new > value else 0.93
            size = max(size, 1e-4)
            if new > value:
                x, value = y, new
        best.append(value)
        assert value >= first
    assert max(best) <= 1 + 1e-6
    assert max(best) > 0.1, "the search finds nothing near the bound"
