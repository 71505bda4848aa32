# ruff: noqa: E402
"""The transformer: scikit-learn's own checks, parity with its Nystroem, and landmarks by every rule."""

from __future__ import annotations

import inspect
import warnings
from functools import partial

import numpy as np
import pytest

sklearn = pytest.importorskip("sklearn", reason="scikit-learn is an optional peer")

import scipy.sparse
from sklearn import datasets, kernel_approximation
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import pairwise_kernels, rbf_kernel
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

from nystrom_numerics import errors, landmarks
from nystrom_numerics.integrations.scikit_learn import Nystroem
from nystrom_numerics.landmarks import RULES, ColumnSubset

warnings.filterwarnings("ignore", message="n_components is")


@pytest.mark.parametrize("rule", ["uniform", "accelerated_rpcholesky", "kmeans", "ridge_leverage"])
def test_estimator_checks(rule):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(Nystroem(n_components=5, landmarks=rule))
    passed = [r["check_name"] for r in results if r["status"] == "passed"]
    skipped = {r["check_name"] for r in results if r["status"] != "passed"}
    assert len(passed) > 40
    assert skipped <= {"check_array_api_input"}


@pytest.fixture
def digits():
    return datasets.load_digits().data[:400] / 16


@pytest.mark.parametrize(
    "options",
    [
        {"gamma": 0.05},
        {},
        {"kernel": "laplacian", "gamma": 0.1},
        {"kernel": "polynomial", "degree": 2, "coef0": 1.0},
        {"kernel": "cosine"},
        {"kernel": lambda a, b: float(np.exp(-np.abs(a - b).sum()))},
        {"kernel": "chi2", "gamma": 0.3},
    ],
)
def test_features_are_those_of_scikit_learn(options, digits):
    for seed in (0, 1):
        common = dict(options, n_components=20, random_state=seed)
        theirs = kernel_approximation.Nystroem(**common).fit(digits)
        ours = Nystroem(**common).fit(digits)
        np.testing.assert_array_equal(ours.component_indices_, theirs.component_indices_)
        np.testing.assert_array_equal(ours.components_, theirs.components_)
        np.testing.assert_allclose(ours.transform(digits), theirs.transform(digits), atol=1e-6)
        assert ours.get_feature_names_out().tolist() == theirs.get_feature_names_out().tolist()


def test_parameters_are_those_of_scikit_learn():
    theirs = inspect.signature(kernel_approximation.Nystroem).parameters
    ours = inspect.signature(Nystroem).parameters
    assert set(ours) - set(theirs) == {"landmarks"}
    assert all(ours[name].default == theirs[name].default for name in theirs)


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "uniform"])
def test_every_rule_by_name_and_by_callable(rule, digits):
    named = Nystroem(gamma=0.05, n_components=15, landmarks=rule, random_state=3)
    features = named.fit_transform(digits)
    given = Nystroem(gamma=0.05, n_components=15, landmarks=RULES[rule], random_state=3)
    np.testing.assert_array_equal(given.fit_transform(digits), features)
    assert features.shape == (400, len(named.components_))
    k = rbf_kernel(digits, gamma=0.05)
    residual = k - features @ features.T
    assert np.linalg.eigvalsh(residual).min() > -1e-6
    if named.component_indices_ is not None:
        np.testing.assert_allclose(residual[named.component_indices_], 0, atol=1e-6)


def test_landmarks_given_as_points(digits):
    """Training points, or none of them; dense or sparse data, any kernel that has points."""
    chosen = np.array([5, 17, 200])
    by_index = Nystroem(gamma=0.05, landmarks=chosen).fit(digits)
    by_point = Nystroem(gamma=0.05, n_components=2, landmarks=digits[chosen].tolist()).fit(digits)
    np.testing.assert_allclose(by_point.transform(digits), by_index.transform(digits), atol=1e-12)
    assert by_point.component_indices_ is None
    assert by_point.entries_ == 0
    assert len(by_point.get_feature_names_out()) == 3
    own = np.random.default_rng(0).uniform(0, 1, (30, digits.shape[1]))
    for kernel, x in (("rbf", digits), ("laplacian", digits), ("rbf", scipy.sparse.csr_array(digits))):
        map_ = Nystroem(kernel, gamma=0.05, landmarks=own).fit(x)
        k = pairwise_kernels(digits, own, metric=kernel, gamma=0.05)
        core = pairwise_kernels(own, metric=kernel, gamma=0.05)
        z = map_.transform(x)
        np.testing.assert_allclose(z @ z.T, k @ np.linalg.solve(core, k.T), atol=1e-8)
        np.testing.assert_array_equal(map_.components_, own)
    narrow = Nystroem(gamma=0.05, landmarks=own).fit(digits.astype("float32"))
    assert narrow.components_.dtype == narrow.transform(digits.astype("float32")).dtype == np.float32


@pytest.mark.parametrize(
    ("points", "error"),
    [
        (np.zeros((3, 5)), errors.ShapeError),
        (np.zeros((0, 64)), errors.ShapeError),
        (np.zeros((1, 3, 64)), errors.ShapeError),
        (np.full((3, 64), np.nan), errors.NonFiniteError),
        (np.ones((3, 64), bool), errors.DTypeError),
        (np.zeros((3, 64), complex), errors.DTypeError),
    ],
)
def test_points_that_are_none(digits, points, error):
    with pytest.raises(error, match="`landmarks`"):
        Nystroem(landmarks=points).fit(digits)
    with pytest.raises(errors.ShapeError, match="knows no points"):
        Nystroem(kernel="precomputed", landmarks=digits[:3]).fit(np.eye(400))


def test_user_chosen_landmarks(digits):
    chosen = np.array([5, 17, 200])
    map_ = Nystroem(gamma=0.05, landmarks=chosen).fit(digits)
    np.testing.assert_array_equal(map_.components_, digits[chosen])
    assert map_.transform(digits).shape == (400, 3)
    own = Nystroem(
        gamma=0.05,
        n_components=2,
        landmarks=lambda kernel, m: landmarks.ColumnSubset(np.arange(m), None, 0, None),
    ).fit(digits)
    np.testing.assert_array_equal(own.component_indices_, [0, 1])
    bound = Nystroem(
        gamma=0.05, n_components=8, landmarks=partial(landmarks.kmeans, iterations=2), random_state=0
    ).fit(digits)
    assert bound.components_.shape == (8, 64)


def test_landmarks_matter(digits):
    """A rule that looks at the kernel leaves less of the trace than uniform draws, by medians of ten."""
    x = np.r_[digits[:380], 4 + 3 * np.random.default_rng(0).random((20, 64))]
    k = rbf_kernel(x, gamma=0.02)

    def error(rule, seed):
        z = Nystroem(gamma=0.02, n_components=30, landmarks=rule, random_state=seed).fit_transform(x)
        return np.trace(k) - (z**2).sum()

    medians = {r: np.median([error(r, s) for s in range(10)]) for r in ("uniform", "accelerated_rpcholesky")}
    assert medians["accelerated_rpcholesky"] < 0.9 * medians["uniform"]


def test_sparse_and_precomputed_input(digits):
    dense = Nystroem(gamma=0.05, n_components=12, landmarks="accelerated_rpcholesky", random_state=0).fit(
        digits
    )
    sparse = scipy.sparse.csr_matrix(digits)
    from_sparse = clone(dense).fit(sparse)
    np.testing.assert_array_equal(from_sparse.component_indices_, dense.component_indices_)
    np.testing.assert_allclose(from_sparse.transform(sparse[:9]), dense.transform(digits[:9]), atol=1e-8)
    k = rbf_kernel(digits, gamma=0.05)
    ready = Nystroem(
        kernel="precomputed", n_components=12, landmarks="accelerated_rpcholesky", random_state=0
    ).fit(k)
    np.testing.assert_array_equal(ready.component_indices_, dense.component_indices_)
    np.testing.assert_allclose(ready.transform(k[:9]), dense.transform(digits[:9]), atol=1e-8)
    with pytest.raises(TypeError, match="dense data is required"):
        Nystroem(landmarks="kmeans").fit(sparse)
    with pytest.raises(errors.NamespaceError, match="points, which this rule looks at"):
        Nystroem(kernel="precomputed", landmarks="kmeans").fit(k)


def test_in_a_pipeline_and_a_grid(digits):
    y = datasets.load_digits().target[:400]
    model = make_pipeline(Nystroem(gamma=0.05, random_state=0), LogisticRegression(max_iter=300))
    grid = {"nystroem__landmarks": ["uniform", "accelerated_rpcholesky"], "nystroem__n_components": [10, 60]}
    search = GridSearchCV(model, grid, cv=3).fit(digits, y)
    assert search.best_params_["nystroem__n_components"] == 60
    assert search.best_score_ > 0.85


def test_float32_is_kept(digits):
    z = Nystroem(gamma=0.05, n_components=9, landmarks="accelerated_rpcholesky").fit_transform(
        digits.astype("float32")
    )
    assert z.dtype == np.float32


def test_entries_are_counted(digits):
    map_ = Nystroem(gamma=0.05, n_components=10, landmarks="pivoted_cholesky").fit(digits)
    assert map_.entries_ == 11 * 400
    assert Nystroem(n_components=10).fit(digits).entries_ == 0


def test_exhausted_kernel_gives_fewer_components():
    x = np.repeat(np.eye(3), 5, axis=0)
    map_ = Nystroem(gamma=1.0, n_components=10, landmarks="accelerated_rpcholesky").fit(x)
    z = map_.transform(x)
    assert z.shape == (15, 3)
    np.testing.assert_allclose(z @ z.T, rbf_kernel(x, gamma=1.0), atol=1e-12)
    assert len(map_.get_feature_names_out()) == 3


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("kernel", ["linear", "precomputed"])
def test_a_zero_kernel_has_zero_features(rule, kernel):
    """As scikit-learn's own, if fewer; rules on points take no matrix."""
    if kernel == "precomputed" and RULES[rule].looks_at_points and rule != "uniform":
        return
    x = np.zeros((4, 4))
    z = Nystroem(kernel, n_components=2, landmarks=rule, random_state=0).fit_transform(x)
    assert z.shape in ((4, 1), (4, 2))
    np.testing.assert_array_equal(z, 0)


def test_a_kernel_that_overflows_is_refused():
    """In ``fit`` among the landmarks, in ``transform`` beside them."""
    x = np.ones((3, 2))
    for options, overflows in (
        ({"kernel": "linear"}, x * 1.7e308),
        ({"kernel": "linear"}, (x * 3e38).astype("float32")),
        ({"kernel": "polynomial", "degree": 300}, x * 1e10),
        ({"kernel": lambda a, b: float(a @ b)}, x * 1.7e308),
    ):
        map_ = Nystroem(**{"landmarks": [0], **options})
        for call in (map_.fit, map_.fit(x.astype(overflows.dtype)).transform):
            with pytest.raises(errors.NonFiniteError, match="`kernel`"), np.errstate(all="ignore"):
                call(overflows)
    with pytest.raises(errors.RangeError, match="`gamma`"):
        Nystroem(gamma=1e300, landmarks=[0]).fit(x.astype("float32"))


def test_bad_input(digits):
    for options, error in [
        ({"landmarks": "no such rule"}, ValueError),
        ({"landmarks": 3}, ValueError),
        ({"landmarks": [0.5]}, errors.DTypeError),
        ({"landmarks": [400]}, errors.RangeError),
        ({"landmarks": []}, errors.ShapeError),
        ({"n_components": 0}, ValueError),
        ({"kernel": lambda a, b: 0.0, "gamma": 1.0}, errors.RangeError),
        ({"gamma": True}, errors.RangeError),
        ({"landmarks": lambda kernel, m: None}, errors.KindError),
        ({"landmarks": lambda kernel, m: ColumnSubset(np.zeros(0, int), None, 0, None)}, errors.ShapeError),
        (
            {"kernel": lambda a, b: -float(a @ b), "landmarks": "accelerated_rpcholesky"},
            errors.IndefiniteError,
        ),
        ({"kernel": "precomputed"}, errors.ShapeError),
    ]:
        with pytest.raises(error):
            Nystroem(**options).fit(digits)
    with pytest.warns(UserWarning, match="all 400 are landmarks"):
        Nystroem(n_components=500).fit(digits)
