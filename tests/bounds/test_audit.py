"""certify and audit: what they say is true, in every norm, for every kind of factor."""

from __future__ import annotations

import numpy as np
import pytest

from nystrom_numerics import bounds, errors, kernels, landmarks, lowrank
from nystrom_numerics.backend import to_numpy
from nystrom_numerics.bounds import Norm, Side
from tests.bounds.instances import norms

ALL = slice(None)
NORMS = (Norm.SPECTRAL, Norm.FROBENIUS, Norm.TRACE)


def points(n=150):
    return np.random.default_rng(8).standard_normal((n, 3))


def truth(kernel, factor):
    eye = np.eye(kernel.shape[1])
    return dict(zip(NORMS, norms(to_numpy(kernel.block(ALL, ALL)) - factor.apply(eye)), strict=True))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("ratio", [np.inf, 3.0, 1.2])
def test_certify_nystrom(norm, ratio):
    kernel = kernels.gaussian(points(), gamma=0.5)
    factor = lowrank.nystrom_factor(kernel, landmarks.rpcholesky(kernel, 25))
    true = truth(kernel, factor)[norm]
    before = kernel.entries
    found = bounds.certify(kernel, factor, norm=norm, ratio=ratio)
    assert found.lower.value <= true * (1 + 1e-9) <= found.upper.value * (1 + 2e-9)
    assert found.ratio <= max(ratio, 1.000001)
    assert not found.upper.vacuous
    if ratio == np.inf:
        assert kernel.entries == before, "the free certificate costs nothing"
        assert found.probability == 1


def test_certify_cross():
    kernel = kernels.gaussian(points(60), points(40) * 0.9, gamma=0.5)
    for factor in (
        lowrank.cross_factor(kernel, range(0, 60, 4), range(0, 40, 4)),
        lowrank.cur_factor(kernel, range(0, 60, 4), range(0, 40, 4)),
    ):
        true = truth(kernel, factor)
        for norm in (Norm.SPECTRAL, Norm.FROBENIUS):
            found = bounds.certify(kernel, factor, norm=norm, ratio=1.3)
            assert found.lower.value <= true[norm] * (1 + 1e-6) <= found.upper.value * (1 + 2e-6)
            assert found.ratio <= 1.3


def test_certify_lanes(lane, dtype):
    x = points(60).astype(dtype)
    found = []
    for make in (np.asarray, lane):
        kernel = kernels.gaussian(make(x), gamma=0.5)
        subset = landmarks.ColumnSubset(make(np.arange(0, 60, 5)), None, 0, None)
        factor = lowrank.nystrom_factor(kernel, subset)
        found.append(
            [
                bounds.certify(kernel, factor, norm=n, ratio=r).upper.value
                for n in NORMS
                for r in (np.inf, 1.3)
            ]
        )
    np.testing.assert_allclose(found[1], found[0], rtol=1e-8 if dtype == "float64" else 1e-2)


def test_rounding_is_allowed_for():
    """A factor that is exact to rounding: the certificate covers what rounding leaves."""
    a = np.outer(np.arange(1.0, 6), np.arange(1.0, 6))
    kernel = kernels.precomputed(a)
    factor = lowrank.nystrom_factor(kernel, landmarks.pivoted_cholesky(kernel, 1))
    for norm in NORMS:
        found = bounds.certify(kernel, factor, norm=norm)
        assert found.lower.value <= truth(kernel, factor)[norm] <= found.upper.value
        assert found.upper.value < 1e-12 * a.max()


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        *(({"kernel": wrong}, "kernel") for wrong in (None, np.eye(3), "x")),
        *(({"factor": wrong}, "factor") for wrong in (None, np.eye(20), "x", "of another kernel")),
        *(({"norm": wrong}, "norm") for wrong in (Norm.MAX, None, "spectral norm", 2)),
        *(({"ratio": wrong}, "ratio") for wrong in (1.0, -1, np.nan, "x", None, [2.0])),
        *(({"failure": wrong}, "failure") for wrong in (0, 1, np.nan, "x", None)),
        *(({"iterations": wrong}, "iterations") for wrong in (0, 1.5, "x", None)),
        *(({"rng": wrong}, "rng") for wrong in (None, "x", 1.5, -1)),
    ],
)
def test_certify_refuses_wrong_arguments_by_name(options, argument):
    """Those of products too, where the free certificate would do without."""
    kernel, other = (kernels.gaussian(points(n), gamma=0.5) for n in (20, 10))
    given = {
        "kernel": kernel,
        "factor": lowrank.nystrom_factor(kernel, landmarks.rpcholesky(kernel, 5)),
        **options,
    }
    if isinstance(given["factor"], str) and given["factor"] != "x":
        given["kernel"], given["factor"] = (
            other,
            lowrank.nystrom_factor(kernel, landmarks.rpcholesky(kernel, 5)),
        )
    with pytest.raises(errors.ArgumentError) as caught:
        bounds.certify(given.pop("kernel"), given.pop("factor"), **given)
    assert caught.value.argument == argument


@pytest.mark.parametrize("rule", ["rpcholesky", "kmeans", "uniform"])
def test_audit(rule):
    kernel = kernels.gaussian(points(), gamma=0.3)
    rules = {
        "rpcholesky": landmarks.rpcholesky,
        "kmeans": landmarks.on_points(landmarks.kmeans),
        "uniform": landmarks.on_points(landmarks.uniform),
    }
    found = bounds.audit(kernel, rules[rule](kernel, 30))
    assert found.truth == pytest.approx(tuple(truth(kernel, found.factor).values()), rel=1e-6)
    for line in found.lines:
        if line.of == "these":
            assert line.tightness >= 1 - 1e-9, line
    order = [(not line.holds, line.tightness) for line in found.lines]
    assert order == sorted(order)
    assert all(line.bound.value is None for line in found.failed)
    names = {line.name for line in (*found.lines, *found.failed)}
    assert "quantisation in feature space" in names
    assert ("Gittens–Mahoney, structural" in names) == (rule != "kmeans")
    spectral = found.best(Norm.SPECTRAL, Side.UPPER), found.best(Norm.SPECTRAL, Side.LOWER)
    assert spectral[0].bound.value / spectral[1].bound.value <= 1.21


def test_audit_of_a_matrix_names_what_fails():
    kernel = kernels.gaussian(points(40), gamma=0.3)
    a = kernel.block(ALL, ALL)
    found = bounds.audit(a, landmarks.ColumnSubset(np.array([0, 1, 2]), None, 0, None))
    assert {line.name for line in found.failed} >= {"leverage", "Musco–Musco"} or found.lines
    assert all("needs" in str(line.bound) for line in found.failed)
    with pytest.raises(errors.RangeError, match="4096"):
        bounds.audit(
            kernels.gaussian(np.zeros((4097, 1)), gamma=1.0), landmarks.LandmarkPoints(a, None, 0, None)
        )
    with pytest.raises(errors.IndefiniteError):
        bounds.audit(-a, landmarks.ColumnSubset(np.array([0]), None, 0, None))


X = points(12)
GRAM = X @ X.T
FIRST = landmarks.ColumnSubset(np.array([0]), None, 0, None)
HOSTILE = {
    "zero": (np.zeros((5, 5)), None),
    "one": (np.ones((1, 1)), None),
    "one zero": (np.zeros((1, 1)), None),
    "rank one": (np.outer(X[:, 0], X[:, 0]), None),
    "identity": (np.eye(6), None),
    "spread": (np.diag([1e100, 1.0, 1e-100]), None),
    "large": (GRAM * 1e100, None),
    "small": (GRAM * 1e-100, None),
    "single": (GRAM.astype("f4"), None),
    "single, large": (GRAM.astype("f4") * np.float32(1e30), None),
    "half": (GRAM.astype("f2"), None),
    "overflowing": (np.ones((4, 4)) * 1e308, errors.RangeError),
    "squares overflow": (GRAM * 1e160, errors.RangeError),
    "squares vanish": (GRAM * 1e-200, errors.RangeError),
    "subnormal": (np.full((4, 4), 5e-324), errors.RangeError),
    "single, overflowing": (np.full((4, 4), 3e38, "f4"), errors.RangeError),
    "single, subnormal": ((GRAM * 1e-44).astype("f4"), errors.RangeError),
    "NaN": (np.full((4, 4), np.nan), errors.NonFiniteError),
    "one NaN": (np.where(np.eye(4) > 0, np.nan, 0.0), errors.NonFiniteError),
    "infinite": (np.full((4, 4), np.inf), errors.NonFiniteError),
    "negative": (-GRAM, errors.IndefiniteError),
    "not symmetric": (np.triu(np.ones((4, 4))), errors.IndefiniteError),
    "empty": (np.zeros((0, 0)), errors.ShapeError),
    "no rows": (np.zeros((0, 3)), errors.ShapeError),
    "rectangular": (np.ones((2, 3)), errors.ShapeError),
    "a stack": (np.ones((2, 3, 3)), errors.ShapeError),
    "a vector": (np.ones(3), errors.ShapeError),
    "integers": (np.eye(3, dtype=int), errors.DTypeError),
    "complex": (np.eye(3) + 0j, errors.DTypeError),
    "objects": (np.eye(3).astype(object), errors.DTypeError),
    "a list": ([[1.0]], errors.NamespaceError),
    "text": ("x", errors.NamespaceError),
    "nothing": (None, errors.NamespaceError),
    "masked": (np.ma.array(np.eye(3)), errors.NamespaceError),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_hostile_matrix_is_audited_or_refused_by_name(name):
    a, error = HOSTILE[name]
    if error is not None:
        with pytest.raises(error) as caught:
            bounds.audit(a, FIRST)
        assert caught.value.argument == caught.value.args[0] == "matrix"
        return
    kernel = kernels.precomputed(a)
    n = len(a)
    for picked in (
        FIRST,
        landmarks.ColumnSubset(np.arange(n), None, 0, None),
        landmarks.rpcholesky(kernel, min(2, n)),
        landmarks.pivoted_cholesky(kernel, n),
    ):
        found = bounds.audit(a, picked)
        for line in found.lines:
            assert np.isfinite([line.truth, line.bound.value]).all()
            assert line.of != "these" or line.tightness >= 1 - 1e-12, line


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"landmarks": None}, "landmarks"),
        ({"landmarks": np.array([0])}, "landmarks"),
        ({"landmarks": landmarks.ColumnSubset(np.array([12]), None, 0, None)}, "landmarks"),
        ({"landmarks": landmarks.LandmarkPoints(X[:2, :1], None, 0, None)}, "landmarks"),
        ({"landmarks": landmarks.rpcholesky(kernels.precomputed(np.eye(3)), 2)}, "landmarks"),
        *(({"failure": wrong}, "failure") for wrong in (0, 1, -1.0, np.nan, "x", None, [0.1])),
        *(({"ratio": wrong}, "ratio") for wrong in (1, 0.5, np.inf, np.nan, "x", None, [2.0])),
        *(({"rng": wrong}, "rng") for wrong in (None, "x", 1.5, -1, np.random.RandomState(0))),
    ],
)
def test_audit_refuses_wrong_arguments_by_name(options, argument):
    kernel = kernels.gaussian(X, gamma=0.5)
    given = {"landmarks": FIRST, **options}
    with pytest.raises(errors.ArgumentError) as caught:
        bounds.audit(kernel, given.pop("landmarks"), **given)
    assert caught.value.argument == argument


@pytest.mark.parametrize(
    ("arguments", "argument"),
    [
        (("x", Side.UPPER), "norm"),
        ((Norm.MAX, Side.UPPER), "norm"),
        ((Norm.TRACE, None), "side"),
    ],
)
def test_best_refuses_wrong_arguments_by_name(arguments, argument):
    with pytest.raises(errors.ArgumentError) as caught:
        bounds.audit(GRAM, FIRST).best(*arguments)
    assert caught.value.argument == argument


def test_bounds_before_the_fact_agree_on_lanes(lane, dtype):
    """One value on every backend, for the spectrum, crosses, points and a whole audit."""
    x = points(40).astype(dtype)
    tol = 1e-8 if dtype == "float64" else 5e-2
    found = []
    for make in (np.asarray, lane):
        kernel = kernels.gaussian(make(x), gamma=0.5)
        a = kernel.block(ALL, ALL)
        spectrum = bounds.psd_spectrum(a)
        subset = landmarks.ColumnSubset(make(np.arange(0, 40, 3)), None, 0, None)
        z = make(x[::5])
        audited = bounds.audit(kernel, subset)
        found.append(
            [
                *(b.value for b in bounds.gittens_mahoney(spectrum, range(0, 40, 3), 5)),
                *(b.value for b in bounds.coherence(spectrum, 30, 1)),
                bounds.dpp_expectation(spectrum, 10).value,
                bounds.musco_musco(spectrum, 20.0).value,
                bounds.goreinov_tyrtyshnikov(a, [0, 5], [3, 9]).value,
                bounds.oversampled_cross(a, [0, 5, 8], [3, 9], 2).value,
                bounds.sorensen_embree(a, [0, 5], [3, 9], 2).value,
                bounds.kernel_quantisation(kernel, z).value,
                bounds.gaussian_quantisation(make(x), z, gamma=0.5).value,
                bounds.zhang_tsang_kwok(make(x), z, kernel.between(z, z), gamma=0.5).value,
                *audited.truth,
                *(audited.best(norm, side).bound.value for norm in NORMS for side in Side),
            ]
        )
    np.testing.assert_allclose(found[1], found[0], rtol=tol)
