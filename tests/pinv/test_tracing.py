"""Convergence of several methods on the same matrices, and the history that a result carries."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from nystrom_numerics import linalg, pinv
from nystrom_numerics.errors import KindError, ShapeError


@pytest.fixture
def stack():
    rng = np.random.default_rng(3)
    a = rng.standard_normal((3, 6, 9))
    a[1, 4:] = a[1, :2]  # of rank 4
    a[2] *= 1e-150
    return a


def test_traces_are_the_iterates_one_by_one(stack):
    methods = {"paper": pinv.RAZAVI, "planned": pinv.plan(condition=40.0, tol=1e-8)}
    found = pinv.convergence(stack, methods, products=30)
    exact = pinv.svd(stack).value
    for trace, steps in zip(found.traces, ([pinv.RAZAVI] * 7, methods["planned"].steps), strict=True):
        spent = np.cumsum([0, *(step.matmuls for step in steps)])
        steps = [step for step, products in zip(steps, spent[1:], strict=True) if products <= 30]
        assert trace.products == tuple(spent[: len(steps) + 1])
        for k, z in enumerate(pinv.iterates(stack, steps)):
            for i in range(3):
                scale = np.abs(exact[i]).max()
                off = np.linalg.norm((z[i] - exact[i]) / scale) / np.linalg.norm(exact[i] / scale)
                np.testing.assert_allclose(trace.error[k, i], off, rtol=1e-12)
            np.testing.assert_allclose(trace.residual[k], linalg.backward_residual(stack, z), rtol=1e-9)
    assert (found.traces[0].error[-1] < 1e-3).all()


def test_no_matrix_depends_on_its_batch_mates(stack):
    whole = pinv.convergence(stack)
    for i in range(3):
        alone = pinv.convergence(stack[i])
        for one, all_ in zip(alone.traces, whole.traces, strict=True):
            np.testing.assert_allclose(one.error, all_.error[:, i], rtol=1e-6, atol=1e-13)


def test_a_zero_matrix_is_at_its_pseudoinverse_from_the_start():
    for trace in pinv.convergence(np.zeros((2, 3))).traces:
        assert not trace.error.any()
        assert not trace.residual.any()


def test_table_and_text(stack):
    found = pinv.convergence(stack, {"paper": pinv.RAZAVI}, products=8)
    rows = found.rows()
    assert [(row["matrix"], row["step"], row["products"]) for row in rows] == [
        ((i,), k, 4 * k) for i in range(3) for k in range(3)
    ]
    assert rows[4]["error"] == found.traces[0].error[1, 1]
    assert str(found).splitlines()[0].split() == ["method", "products", "residual", "error"]
    assert str(found).splitlines()[1].startswith("paper")


def test_the_figure_shows_every_method_against_its_products(stack):
    found, given = pinv.convergence(stack), Figure()
    assert found.plot(given) is given
    with pytest.raises(KindError, match="figure"):
        found.plot(given.subplots())
    figure = found.plot()
    for axes in figure.axes:
        assert [line.get_label() for line in axes.lines] == list(pinv.METHODS)
        assert axes.lines[2].get_xdata().tolist() == list(range(0, 101, 4))
        assert "products" in axes.get_xlabel()


@pytest.mark.parametrize(
    ("methods", "error", "words"),
    [
        ({}, ShapeError, "methods"),
        ({"paper": "razavi"}, KindError, "methods.*'paper'"),
        ({"paper": [pinv.RAZAVI, 3]}, KindError, "methods.*'paper'"),
        ({"paper": []}, ShapeError, "methods.*'paper'"),
        ([pinv.RAZAVI], KindError, "methods"),
        ({1: pinv.RAZAVI}, KindError, "methods"),
    ],
)
def test_methods_that_are_none(methods, error, words):
    with pytest.raises(error, match=words):
        pinv.convergence(np.eye(2), methods)


def test_a_step_dearer_than_the_budget_is_refused():
    with pytest.raises(ShapeError, match="at most 3 products"):
        pinv.convergence(np.eye(2), {"paper": pinv.RAZAVI}, products=3)


@pytest.mark.parametrize("method", [pinv.razavi, pinv.newton_schulz, pinv.chebyshev, pinv.hyperpower])
def test_history_is_the_residual_of_each_iterate(stack, method):
    result = method(stack, iterations=5, history=True)
    assert result.history.shape == (6, 3)
    np.testing.assert_array_equal(result.history[-1], result.residual)
    step = {pinv.razavi: pinv.RAZAVI, pinv.newton_schulz: pinv.NEWTON_SCHULZ, pinv.chebyshev: pinv.CHEBYSHEV}
    steps = [step.get(method, pinv.hyperpower_step(9))] * 5
    for seen, z in zip(result.history, pinv.iterates(stack, steps), strict=True):
        np.testing.assert_allclose(seen, linalg.backward_residual(stack, z), rtol=1e-8, atol=1e-15)
    plain = method(stack, iterations=5)
    assert plain.history is None
    np.testing.assert_array_equal(plain.value, result.value)
    np.testing.assert_array_equal(plain.matmuls, result.matmuls)


@pytest.mark.parametrize("check_every", [1, 3])
def test_history_ends_where_a_matrix_stops(check_every):
    a = np.stack([np.eye(4), np.diag([1.0, 1.0, 1.0, 1e-3])])
    result = pinv.newton_schulz(a, tol=1e-10, check_every=check_every, history=True)
    plain = pinv.newton_schulz(a, tol=1e-10, check_every=check_every)
    np.testing.assert_array_equal(plain.value, result.value)
    ends = [int(np.flatnonzero(~np.isnan(column))[-1]) for column in result.history.T]
    assert ends == result.iterations.tolist()
    assert ends[0] < ends[1]
    np.testing.assert_allclose(result.history[ends[1], 1], result.residual[1], atol=1e-10)
