"""`certify(rigorous=True)`: on the right side whatever rounding does, tight where anything is left, else refused."""

from __future__ import annotations

import numpy as np
import pytest

from nystrom_numerics import bounds, errors, kernels, landmarks, lowrank
from nystrom_numerics.backend import to_numpy
from nystrom_numerics.bounds import Norm
from tests.bounds.test_rounding import FORMATS, NORMS, RULES, N, matrices, stored, truth, wrong_side

pytestmark = pytest.mark.skipif(
    np.finfo(np.longdouble).eps > 1e-18, reason="no wider float to tell the truth in"
)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", matrices())
def test_rigorous_bounds_hold_and_are_tight(name, form):
    a = stored(name, form)
    kernel = kernels.precomputed(a)
    wrong = []
    for rule, choose in RULES.items():
        for m in (1, 3, N):
            factor = lowrank.nystrom_factor(kernel, choose(kernel, m))
            true = truth(a, factor)
            before = kernel.entries
            for norm in NORMS:
                made = bounds.certify(kernel, factor, norm=norm, rigorous=True)
                assert made.upper.probability == made.lower.probability == 1
                wrong += [
                    (rule, m, str(b), true[norm])
                    for b in (made.lower, made.upper)
                    if wrong_side(b, true[norm])
                ]
            assert kernel.entries - before == 3 * (N + N * factor.rank + factor.rank**2)
            whole = np.trace(a.astype(float))
            if rule != "uniform" and true[Norm.TRACE] > 1e-3 * whole:
                assert made.upper.value <= 1.01 * true[Norm.TRACE]
                assert made.lower.value >= 0.99 * np.sum(
                    np.abs(np.diag(a - factor.factor @ factor.factor.T).astype(float))
                )
    assert not wrong


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_factor_of_anything_is_bounded(dtype, lane):
    """No theorem about how a factor was made is used: one that is off by a part in a thousand is known to be."""
    x = np.random.default_rng(0).standard_normal((40, 3)).astype(dtype)
    kernel = kernels.gaussian(lane(x), gamma=0.3)
    a = to_numpy(kernel.block(slice(None), slice(None))).astype(np.longdouble)
    means = landmarks.LandmarkPoints(lane(x[:8] + np.float32(0.1), dtype), None, 0, None)
    for chosen in (landmarks.rpcholesky(kernel, 10), means):
        good = lowrank.nystrom_factor(kernel, chosen)
        parts = (good.landmarks, good.kept, good.triangle, None, 0)
        for factor in (good, lowrank.NystromFactor(good.factor * 1.001, *parts)):
            f = to_numpy(factor.factor).astype(np.longdouble)
            sigma = np.linalg.svd((a - f @ f.T).astype(float), compute_uv=False)
            true = dict(zip(NORMS, (sigma[0], np.linalg.norm(sigma), sigma.sum()), strict=True))
            for norm in NORMS:
                found = bounds.certify(kernel, factor, norm=norm, rigorous=True)
                assert found.lower.value <= true[norm] * (1 + 1e-12)
                assert true[norm] <= found.upper.value * (1 + 1e-12)
            room = 1.01 if factor is good else 2.5
            assert found.upper.value <= room * true[Norm.TRACE]


def test_noise_is_a_hypothesis_that_is_named_and_allowed_for():
    n, noise = 80, 1e-6
    signs = np.triu(np.random.default_rng(0).choice([-1.0, 1.0], (n, n)), 1)
    a = np.ones((n, n)) + noise * (signs + signs.T)
    kernel = kernels.precomputed(a, noise=noise)
    factor = lowrank.nystrom_factor(kernel, landmarks.rpcholesky(kernel, 1))
    for norm, true in truth(a, factor).items():
        found = bounds.certify(kernel, factor, norm=norm, rigorous=True)
        assert found.lower.value <= true <= found.upper.value
        assert "within 1e-06 of a positive semidefinite matrix" in found.upper.holds_under[0].text
    indefinite = kernels.precomputed(a - 1e-2 * np.eye(n), noise=noise)
    factor = lowrank.nystrom_factor(indefinite, landmarks.ColumnSubset(np.array([0]), None, 0, None))
    with pytest.raises(errors.IndefiniteError):
        bounds.certify(indefinite, factor, rigorous=True)


def test_what_is_not_rigorous_is_refused():
    kernel = kernels.gaussian(np.random.default_rng(0).standard_normal((20, 2)), gamma=0.3)
    factor = lowrank.nystrom_factor(kernel, landmarks.rpcholesky(kernel, 3))
    cross = lowrank.cross_factor(kernel, range(3), range(3))
    for options in ({"ratio": 1.5}, {}):
        with pytest.raises(errors.RangeError) as caught:
            bounds.certify(kernel, factor if options else cross, rigorous=True, **options)
        assert caught.value.argument == "rigorous"
