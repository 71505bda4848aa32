"""The estimators: scikit-learn's own checks, parity with its estimators, and laziness for Dask's collections."""

from __future__ import annotations

import warnings
from functools import partial

import numpy as np
import pytest

pytest.importorskip("distributed", reason="Dask is an optional peer")

import dask
import dask.array as da
import dask.dataframe as dd
import pandas as pd
from sklearn import config_context, kernel_approximation, kernel_ridge
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

from nystrom_numerics import errors, kernels, landmarks
from nystrom_numerics.integrations import dask as chunked
from nystrom_numerics.integrations import scikit_learn
from nystrom_numerics.integrations.dask.estimators import RULES


def forbidden(*_, **__):
    raise AssertionError("something was computed")


@pytest.fixture(autouse=True)
def in_this_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.fixture
def x():
    return np.random.default_rng(0).standard_normal((400, 3))


@pytest.fixture
def parts(x):
    return da.from_array(x, chunks=(150, 2))


@pytest.mark.parametrize(
    "estimator",
    [
        chunked.Nystroem(n_components=5),
        chunked.Nystroem(n_components=5, landmarks="accelerated_rpcholesky"),
        chunked.KernelRidge(n_components=40),
        chunked.KernelRidge(n_components=40, solver="falkon"),
    ],
    ids=str,
)
def test_estimator_checks(estimator):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(estimator)
    assert len([r for r in results if r["status"] == "passed"]) > 40
    assert {r["check_name"] for r in results if r["status"] != "passed"} <= {"check_array_api_input"}


@pytest.mark.parametrize(
    "options",
    [
        {"gamma": 0.05},
        {},
        {"kernel": "laplacian", "gamma": 0.1},
        {"kernel": "polynomial", "degree": 2, "coef0": 1.0},
        {"kernel": "linear"},
    ],
    ids=str,
)
def test_features_are_those_of_scikit_learn(options, x, parts):
    for seed in (0, 1):
        common = dict(options, n_components=20, random_state=seed)
        theirs = kernel_approximation.Nystroem(**common).fit(x)
        ours = chunked.Nystroem(**common).fit(parts)
        np.testing.assert_array_equal(ours.component_indices_, theirs.component_indices_)
        np.testing.assert_array_equal(ours.components_, theirs.components_)
        np.testing.assert_allclose(ours.transform(parts), theirs.transform(x), atol=1e-6)
        assert ours.get_feature_names_out().tolist() == theirs.get_feature_names_out().tolist()


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_is_that_of_memory(rule, x, parts):
    common = {"gamma": 0.3, "n_components": 12, "landmarks": rule, "random_state": 3}
    theirs = scikit_learn.Nystroem(**common).fit(x)
    ours = chunked.Nystroem(**common).fit(parts)
    np.testing.assert_allclose(ours.components_, theirs.components_, atol=1e-12)
    by_callable = clone(ours).set_params(landmarks=RULES[rule]).fit(parts)
    np.testing.assert_array_equal(by_callable.components_, ours.components_)


def test_rules_have_the_names_of_the_registry_and_points_may_be_given(x, parts):
    assert set(RULES) < set(landmarks.RULES)
    own = np.random.default_rng(1).standard_normal((7, 3))
    ours = chunked.Nystroem(gamma=0.3, landmarks=own).fit(parts)
    theirs = scikit_learn.Nystroem(gamma=0.3, landmarks=own).fit(x)
    np.testing.assert_allclose(ours.transform(parts), theirs.transform(x), atol=1e-12)
    ridge = chunked.KernelRidge(gamma=0.3, landmarks=own).fit(parts, parts[:, 0])
    assert ridge.predict(parts).shape == (400,)
    with pytest.raises(errors.ShapeError, match=r"shape \(m, 3\)"):
        chunked.Nystroem(landmarks=own[:, :2]).fit(parts)


def test_what_is_lazy_stays_so(x, parts):
    map_ = chunked.Nystroem(gamma=0.1, n_components=9, random_state=0).fit(parts)
    ridge = chunked.KernelRidge(gamma=0.1, n_components=9, random_state=0).fit(parts, parts[:, 0])
    frame = dd.from_dask_array(parts, columns=list("abc"))
    with dask.config.set(scheduler=forbidden):
        features = map_.transform(parts)
        predictions = ridge.predict(parts)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # fitted without names
            of_frame = map_.transform(frame)
    assert features.shape == (400, 9)
    assert features.chunks[0] == predictions.chunks[0] == (150, 150, 100)
    np.testing.assert_allclose(features.compute(), of_frame.compute(), atol=1e-12)
    np.testing.assert_allclose(features.compute(), map_.transform(x), atol=1e-12)
    assert isinstance(ridge.predict(x), np.ndarray)


def test_frames_and_set_output(x, parts):
    frame = dd.from_dask_array(parts, columns=list("abc"))
    pandas = frame.compute()
    map_ = chunked.Nystroem(gamma=0.1, n_components=4, random_state=0).fit(frame)
    assert map_.feature_names_in_.tolist() == list("abc")
    assert map_.n_features_in_ == 3
    assert isinstance(map_.transform(frame), da.Array)
    plain = map_.transform(frame).compute()
    map_.set_output(transform="pandas")
    with dask.config.set(scheduler=forbidden):
        lazy = map_.transform(frame)
        of_array = clone(map_).set_output(transform="pandas")
    assert isinstance(lazy, dd.DataFrame)
    pd.testing.assert_frame_equal(lazy.compute(), map_.transform(pandas), rtol=1e-12)
    np.testing.assert_array_equal(lazy.compute(), plain)
    assert lazy.columns.tolist() == [f"nystroem{i}" for i in range(4)]
    of_array.fit(parts)
    assert isinstance(of_array.transform(parts), dd.DataFrame)
    with pytest.raises(errors.RangeError, match="pandas"), config_context(transform_output="polars"):
        chunked.Nystroem(n_components=4).fit(parts).transform(parts)
    with pytest.raises(ValueError, match="feature names"):
        map_.transform(frame.rename(columns={"a": "z"}))
    with pytest.raises(errors.ShapeError, match="`X`"):
        of_array.transform(parts[:, :2])


@pytest.mark.parametrize("solver", ["normal equations", "falkon"])
def test_with_all_points_it_is_kernel_ridge_regression(solver, x, parts):
    y = np.sin(x[:, 0]) + x[:, 1]
    theirs = kernel_ridge.KernelRidge(alpha=0.1, kernel="rbf", gamma=0.1).fit(x, y)
    ours = chunked.KernelRidge(0.1, gamma=0.1, n_components=400, solver=solver, tol=1e-8)
    ours.fit(parts, da.from_array(y, chunks=99))
    np.testing.assert_allclose(ours.predict(parts), theirs.predict(x), atol=1e-5)
    both = clone(ours).fit(parts, np.c_[y, -y])
    np.testing.assert_allclose(both.predict(x)[:, 1], -theirs.predict(x), atol=1e-5)
    assert ours.score(x, y) > 0.99


def test_in_a_pipeline(x, parts):
    model = make_pipeline(
        chunked.Nystroem(gamma=0.1, n_components=30, random_state=0),
        chunked.KernelRidge(1e-3, kernel="linear"),
    )
    y = np.sin(x[:, 0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert model.fit(parts, da.from_array(y, chunks=150)).score(x, y) > 0.95


def test_an_end_before_the_tolerance_is_told(x, parts):
    model = chunked.KernelRidge(1e-6, gamma=0.1, n_components=10, solver="falkon", max_iter=1, tol=1e-12)
    with pytest.warns(ConvergenceWarning, match="MAX_ITERATIONS"):
        model.fit(parts, parts[:, 0])


def test_dtypes(x):
    z = (
        chunked.Nystroem(n_components=5)
        .fit(x.astype("float32"))
        .transform(da.from_array(x.astype("float32")))
    )
    assert z.dtype == z.compute().dtype == np.float32
    whole = da.from_array((10 * x).astype(int), chunks=(100, 3))
    assert chunked.Nystroem(n_components=5).fit(whole).transform(whole).compute().dtype == np.float64
    model = chunked.KernelRidge(n_components=5).fit(whole, whole[:, 0])
    assert model.predict(whole).compute().dtype == np.float64


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
def test_targets_of_any_kind(x, parts):
    """Whole numbers, truth values and both beside floats, of Dask, pandas and lists: what floats give."""
    frame = dd.from_dask_array(parts, columns=list("abc"))
    whole = pd.Series(np.arange(400) % 5, name="whole")
    both = pd.DataFrame({"whole": whole, "true": whole > 2})
    chunks = {"npartitions": 3}
    wanted = chunked.KernelRidge(n_components=9, random_state=0).fit(frame, both.to_numpy(float)).predict(x)
    for y in (
        dd.from_pandas(both, **chunks),
        dd.from_pandas(both.assign(true=1.0 * both.true), **chunks),
        both,
    ):
        found = chunked.KernelRidge(n_components=9, random_state=0).fit(frame, y).predict(x)
        np.testing.assert_allclose(found, wanted, atol=1e-9)
    for y in (dd.from_pandas(whole, **chunks), whole, whole.tolist()):
        found = chunked.KernelRidge(n_components=9, random_state=0).fit(frame, y).predict(x)
        np.testing.assert_allclose(found, wanted[:, 0], atol=1e-9)
    mixed = frame.assign(d=frame.a > 0)
    assert chunked.Nystroem(n_components=5).fit(mixed).transform(mixed).compute().dtype == np.float64
    with pytest.raises(ValueError, match="NaN"):
        chunked.KernelRidge(n_components=9).fit(frame, [np.nan] * 400)
    with pytest.raises(errors.NamespaceError, match="`y`"):
        chunked.KernelRidge(n_components=9).fit(frame, None)


def test_partitions_without_rows_and_lengths_that_nobody_knows(x, parts):
    map_ = chunked.Nystroem(gamma=0.1, n_components=9, random_state=0).fit(parts)
    ridge = chunked.KernelRidge(gamma=0.1, n_components=9, random_state=0).fit(parts, x[:, 0])
    few = parts[parts[:, 0] > 2]
    kept = x[x[:, 0] > 2]
    np.testing.assert_allclose(map_.transform(few).compute(), map_.transform(kept), atol=1e-12)
    np.testing.assert_allclose(ridge.predict(few).compute(), ridge.predict(kept), atol=1e-12)
    assert map_.transform(parts[parts[:, 0] > 99]).compute().shape == (0, 9)
    with pytest.raises(errors.ShapeError, match="compute_chunk_sizes"):
        chunked.Nystroem().fit(few)
    frame = dd.from_dask_array(parts.rechunk((5, 3)), columns=list("abc"))
    rare = frame[frame.a > 2]  # most partitions have none
    assert chunked.Nystroem(n_components=3).fit(rare).transform(rare).compute().shape == (len(kept), 3)


def test_bad_input(x, parts):
    for options, error in [
        ({"landmarks": "no such rule"}, ValueError),
        ({"landmarks": [400]}, errors.RangeError),
        ({"landmarks": []}, errors.ShapeError),
        ({"landmarks": lambda kernel, m, rng: None}, errors.KindError),
        ({"n_components": 0}, ValueError),
        ({"kernel": "linear", "gamma": 1.0}, errors.RangeError),
        ({"kernel": partial(kernels.matern, nu=0.5, length_scale=1.0), "gamma": 1.0}, errors.RangeError),
        ({"kernel": "poly", "degree": 1.5}, errors.RangeError),
        ({"kernel": lambda x, z=None: x}, errors.KindError),
    ]:
        with pytest.raises(error):
            chunked.Nystroem(**options).fit(parts)
    with pytest.warns(UserWarning, match="all 400 are landmarks"):
        chunked.Nystroem(n_components=500).fit(parts)
    nan = da.where(parts > 2.5, np.nan, parts)
    with pytest.raises(errors.NonFiniteError, match="`kernel`"):
        chunked.Nystroem(landmarks=[0, 1]).fit(parts).transform(nan).compute()
