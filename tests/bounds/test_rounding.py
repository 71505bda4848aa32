"""No bound is on the wrong side of the truth because of rounding: m = n, exact low rank, any scale, any format.

The truth is that of the stored matrix and the stored factor: their difference is made in 64-bit significands and its
norms in float64, so that it is known to some 10⁻¹⁹ of the matrix and 10⁻¹⁴ of itself.
"""

from __future__ import annotations

import numpy as np
import pytest

from nystrom_numerics import bounds, errors, kernels, landmarks, lowrank
from nystrom_numerics.bounds import Norm, Side

NORMS = (Norm.SPECTRAL, Norm.FROBENIUS, Norm.TRACE)
ALL = slice(None)
N = 24

pytestmark = pytest.mark.skipif(
    np.finfo(np.longdouble).eps > 1e-18, reason="no wider float to tell the truth in"
)


def matrices():
    """Exact low rank, all ranks down to rounding's, and none that is low; each PSD before it is stored."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((N, 3))
    distance = ((x[:, None] - x) ** 2).sum(-1)
    i = np.arange(1.0, N + 1)
    q, _ = np.linalg.qr(rng.standard_normal((N, N)))
    return {
        "rank 1": np.outer(i, i),
        "rank 3": x @ x.T,
        "flat": np.exp(-1e-4 * distance),
        "smooth": np.exp(-1e-2 * distance),
        "rough": np.exp(-3.0 * distance),
        "Hilbert": 1 / (i[:, None] + i - 1),
        "geometric": (q * 10.0 ** -np.linspace(0, 20, N)) @ q.T,
        "identity": np.eye(N),
        "zero": np.zeros((N, N)),
    }


RULES = {
    "random": landmarks.rpcholesky,
    "greedy": lambda kernel, m: landmarks.pivoted_cholesky(kernel, m),
    "uniform": lambda kernel, m: landmarks.ColumnSubset(
        np.sort(np.random.default_rng(m).permutation(N)[:m]), None, 0, None
    ),
}
FORMATS = {
    "float64": 1.0,
    "float64, large": 1e30,
    "float64, small": 1e-30,
    "float32": 1.0,
    "float32, small": 1e-20,
}


def stored(name, form):
    a = matrices()[name] * FORMATS[form]
    return ((a + a.T) / 2).astype(form.partition(",")[0])


def truth(a, factor):
    if isinstance(factor, lowrank.NystromFactor):
        left, right = factor.factor, factor.factor.T
    else:
        left, right = factor.left, factor.right
    rest = (a.astype(np.longdouble) - left.astype(np.longdouble) @ right.astype(np.longdouble)).astype(float)
    sigma = np.linalg.svd(rest, compute_uv=False)
    return dict(zip(NORMS, (sigma[0], np.linalg.norm(rest), sigma.sum()), strict=True))


def wrong_side(bound, true):
    off = 1e-12 * true
    return bound.value < true - off if bound.side is Side.UPPER else bound.value > true + off


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", matrices())
def test_certificates_and_audits_hold_to_rounding(name, form):
    a = stored(name, form)
    kernel = kernels.precomputed(a)
    wrong, seen = [], 0
    for rule, choose in RULES.items():
        for m in (1, 3, N):
            picked = choose(kernel, m)
            factor = lowrank.nystrom_factor(kernel, picked, diagonal=True)
            true = truth(a, factor)
            found = [
                (f"certify, {ratio}", side)
                for norm in NORMS
                for ratio in (np.inf, 1.2)
                for made in (bounds.certify(kernel, factor, norm=norm, ratio=ratio),)
                for side in (made.lower, made.upper)
            ]
            audited = bounds.audit(kernel, picked)
            found += [(line.name, line.bound) for line in audited.lines if line.of == "these"]
            seen += len(found)
            wrong += [(rule, m, by, str(b), true[b.norm]) for by, b in found if wrong_side(b, true[b.norm])]
            if rule != "uniform":  # whose cores may be as ill-conditioned as they like
                free = bounds.certify(kernel, factor, norm=Norm.TRACE).upper.value
                room = 1e4 * np.finfo(a.dtype).eps * np.trace(a.astype(float))
                assert free <= 1.2 * true[Norm.TRACE] + room, "an allowance of rounding, and not of anything"
    assert not wrong
    assert seen > 150


def test_all_columns_leave_what_rounding_leaves():
    """ "At most 0, with certainty" of an error of 10⁻¹⁴."""
    kernel = kernels.gaussian(np.random.default_rng(0).standard_normal((60, 3)), gamma=0.3)
    a = kernel.block(ALL, ALL)
    factor = lowrank.nystrom_factor(kernel, landmarks.pivoted_cholesky(kernel, 60))
    for norm, true in truth(a, factor).items():
        found = bounds.certify(kernel, factor, norm=norm)
        assert 0 < true <= found.upper.value < 1e-10
        assert found.lower.value <= true


@pytest.mark.parametrize("rule", [landmarks.pivoted_cholesky, landmarks.rpcholesky])
def test_what_a_rule_counts_as_zero_is_not_zero_to_a_certificate(rule):
    """With an ``rtol`` of its own a rule stops early, and its residual says nothing of what is below."""
    kernel = kernels.gaussian(np.random.default_rng(0).standard_normal((60, 3)), gamma=0.3)
    a = kernel.block(ALL, ALL)
    factor = lowrank.nystrom_factor(kernel, rule(kernel, 60, rtol=0.3))
    before = kernel.entries
    for norm, true in truth(a, factor).items():
        found = bounds.certify(kernel, factor, norm=norm)
        assert found.lower.value <= true <= found.upper.value
        assert found.upper.value > 1
    assert kernel.entries - before == 3 * 60


@pytest.mark.parametrize("form", ["float64", "float32"])
@pytest.mark.parametrize("name", ["rank 1", "rank 3", "flat", "smooth", "rough"])
def test_crosses_hold_to_rounding(name, form):
    a = stored(name, form)[:, :18]
    kernel = kernels.precomputed(a)
    for rows, columns in (
        (range(0, 24, 8), range(0, 18, 6)),
        (range(24), range(18)),
        (range(0, 24, 2), range(9)),
    ):
        for make in (lowrank.cross_factor, lowrank.cur_factor):
            factor = make(kernel, rows, columns)
            true = truth(a, factor)
            for norm in (Norm.SPECTRAL, Norm.FROBENIUS):
                for ratio in (np.inf, 1.2):
                    found = bounds.certify(kernel, factor, norm=norm, ratio=ratio)
                    for side in (found.lower, found.upper):
                        assert not wrong_side(side, true[norm]), (make, rows, str(side), true[norm])


def test_noise_in_the_entries_is_allowed_for():
    """A kernel that says how far its entries are off, and a residual of noise alone, of all ranks and both signs."""
    n, noise = 80, 1e-6
    signs = np.triu(np.random.default_rng(0).choice([-1.0, 1.0], (n, n)), 1)
    a = np.ones((n, n)) + noise * (signs + signs.T)
    kernel = kernels.precomputed(a, noise=noise)
    factor = lowrank.nystrom_factor(kernel, landmarks.rpcholesky(kernel, 1))
    for norm, true in truth(a, factor).items():
        for ratio in (np.inf, 1.2):
            found = bounds.certify(kernel, factor, norm=norm, ratio=ratio)
            assert found.lower.value <= true <= found.upper.value
    with pytest.raises(errors.IndefiniteError):
        bounds.audit(kernels.precomputed(a - 1e-3 * np.eye(n), noise=noise), factor.landmarks)


def test_a_residual_that_noise_makes_negative_has_a_norm():
    """Lanczos iteration for the largest eigenvalue would see none."""
    n, off = 5, 1e-3
    a = np.ones((n, n)) - off * (np.eye(n) - 1 / n)
    kernel = kernels.precomputed(a, noise=2 * off)
    factor = lowrank.nystrom_factor(kernel, landmarks.ColumnSubset(np.array([0]), None, 0, None))
    found = bounds.certify(kernel, factor, ratio=1.2)
    true = truth(a, factor)[Norm.SPECTRAL]
    assert true > off / 2
    assert found.lower.value <= true <= found.upper.value <= 1.2 * found.lower.value


def test_landmarks_that_the_core_drops_bound_nothing():
    """The second one is the first to rounding, and would have taken most of the third entry with it."""
    near, link = 1e-15, 3e-8
    a = np.array([[1.0, 1.0, 0.0], [1.0, 1.0 + near, link], [0.0, link, 1.0]])
    found = bounds.audit(a, landmarks.ColumnSubset(np.array([0, 1]), None, 0, None))
    assert found.factor.rank == 1
    assert found.truth[0] == pytest.approx(1.0)
    assert [line for line in found.lines if line.of == "these" and wrong_side(line.bound, line.truth)] == []


def test_a_residual_below_zero_is_no_certificate():
    kernel = kernels.precomputed(np.diag([1.0, -1.0]))
    factor = lowrank.nystrom_factor(
        kernel, landmarks.ColumnSubset(np.array([0]), None, 0, None), diagonal=True
    )
    with pytest.raises(errors.IndefiniteError, match="residual -1") as caught:
        bounds.certify(kernel, factor)
    assert (caught.value.argument, caught.value.pivot) == ("kernel", 1)


@pytest.mark.parametrize(("dtype", "scale"), [("f4", 1e30), ("f4", 1e-30), ("f8", 1e200), ("f8", 1e-200)])
def test_bounds_by_products_scale_with_the_operator(dtype, scale):
    """Squares of lengths overflow and vanish long before the lengths do."""
    b = np.random.default_rng(0).standard_normal((30, 30)).astype(dtype)
    b = b @ b.T / 30
    like = np.zeros((30, 1), dtype)
    calls = (bounds.lanczos_norm, bounds.frobenius_probes, bounds.gaussian_norm_bound)
    for call in calls:
        once, scaled = (call(lambda v, a=a: a @ v, like) for a in (b, b * b.dtype.type(scale)))
        for side in ("lower", "upper"):
            one, other = getattr(once, side).value, getattr(scaled, side).value
            assert other / scale == pytest.approx(one, rel=1e-5)


@pytest.mark.parametrize("seed", [102, 292, 328, 351, 588])
def test_a_kernel_whose_blocks_are_symmetric_to_rounding_only(seed):
    """In float32 an entry and its mirror image, and the diagonal of a block and that known, differ in last digits."""
    rng = np.random.default_rng(seed)
    n = int(rng.choice([2, 5, 10, 25]))
    m = int(rng.integers(1, n + 1))
    x = rng.standard_normal((n, int(rng.integers(1, 4)))).astype(np.float32)
    kernel = kernels.gaussian(x, gamma=float(rng.choice([0.1, 1, 10])))
    chosen = landmarks.pivoted_cholesky(kernel, m)
    found = bounds.audit(kernel, chosen, rng=0)
    assert [line for line in found.lines if line.of == "these" and wrong_side(line.bound, line.truth)] == []
    factor = lowrank.nystrom_factor(kernel, chosen)
    a, f = (x.astype(np.float64) for x in (kernel.block(slice(None), slice(None)), factor.factor))
    error = np.abs(np.linalg.eigvalsh((a + a.T) / 2 - f @ f.T))
    truths = {Norm.SPECTRAL: error.max(), Norm.FROBENIUS: np.linalg.norm(error), Norm.TRACE: error.sum()}
    for norm, truth in truths.items():
        certificate = bounds.certify(kernel, factor, norm=norm, ratio=1.2, rng=0)
        for b in (certificate.lower, certificate.upper):
            assert not wrong_side(b, truth), str(b)
