"""What operators know of the errors of their rows, and certificates of the width asked for."""

from __future__ import annotations

import numpy as np
import pytest

from nystrom_numerics import attention, errors, pinv
from nystrom_numerics.attention import certify_heads, certify_operator, certify_output
from nystrom_numerics.attention.row_errors import KnowsItsErrors
from tests.attention.operator_cases import PAIRS

TANGENTS = [name for name in PAIRS if name.startswith("tangent")]


def head(n=160, d=4, seed=0, spread=1.0):
    rng = np.random.default_rng(seed)
    t = np.linspace(0, 3, n)[:, None]
    base = np.cos(t * np.arange(1, d + 1)) * spread
    return tuple(base + 0.4 * rng.standard_normal((n, d)) for _ in range(3))


def lengths(operator, q, k):
    """‖Ŝ_i − S_i‖₂ and total variations, from all entries."""
    error = operator.rows(range(len(q))) - attention.exact(q, k, np.eye(len(k)), scale=operator.scale)
    return np.linalg.norm(error, axis=1), np.abs(error).sum(axis=1) / 2


@pytest.mark.parametrize("name", [*TANGENTS, "near_field"])
@pytest.mark.parametrize("spread", [0.2, 1.0, 4.0])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_rows_are_off_by_what_is_said_at_most(name, spread, dtype):
    q, k, _ = (x.astype(dtype) for x in head(spread=spread))
    operator = PAIRS[name][1](q, k)
    assert isinstance(operator, KnowsItsErrors)
    told = operator.row_errors()
    off, variation = lengths(operator, q.astype(float), k.astype(float))
    assert (off <= told.largest).all()
    assert (variation <= told.variation + 1e-7).all()


def vanishing(n, dtype, size):
    """A key that the pilot gives no weight, to the dtype, and one query gives all."""
    q, k = np.zeros((2, n, 2), dtype)
    q[:, 1], q[n // 2, 1], k[5, 1] = 1, -1, -size
    return q, k


def cancelling(n, dtype, size):
    """Scores of which all leading digits cancel."""
    rng = np.random.default_rng(0)
    a = size * (1 + rng.random(n))
    k = np.stack([a, rng.standard_normal(n) / size - a], axis=1).astype(dtype)
    return (size * (1 + rng.random((n, 1))) * np.ones((1, 2))).astype(dtype), k


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", [vanishing, cancelling])
def test_rows_that_rounding_spoils_are_off_by_what_is_said_at_most(kind, dtype):
    sizes = {vanishing: {"float32": 240, "float64": 1600}, cancelling: {"float32": 1e3, "float64": 1e7}}
    q, k = kind(64, dtype, sizes[kind][dtype])
    near = {vanishing: 4, cancelling: 64}[kind]  # with all keys near nothing but rounding is off
    operator = attention.tangent_operator(q, k, blocks=1, near=near, groups=2, scale=1.0)
    told, (off, variation) = operator.row_errors(), lengths(operator, q.astype(float), k.astype(float))
    assert off.max() > 1e-3
    assert (off <= told.largest).all()
    assert (variation <= told.variation).all()
    assert told.largest.max() < 1.415


def test_rows_of_which_nothing_is_a_number_are_within_what_any_are():
    rng = np.random.default_rng(0)
    q, k = rng.standard_normal((40, 3)), 1e160 * rng.standard_normal((40, 3))
    with np.errstate(over="ignore"):
        told = attention.tangent_operator(q, k, blocks=2, near=4, groups=2, scale=1e-160).row_errors()
    assert np.isfinite([told.predicted, told.largest, told.suspicion, told.variation]).all()
    assert told.largest.max() < 1.415


def test_near_their_pilots_rows_are_off_by_about_what_is_said():
    """To second order the prediction is the error itself, and the bound a few times that."""
    q, k, _ = head(300, spread=0.5)
    operator = attention.tangent_operator(0.3 * q, k, blocks=20, near=20, groups=10)
    told, (off, _) = operator.row_errors(), lengths(operator, 0.3 * q, k)
    assert np.sqrt(told.predicted.sum()) == pytest.approx(np.linalg.norm(off), rel=0.15)
    assert np.corrcoef(np.log(told.predicted), np.log(off))[0, 1] > 0.9
    assert np.linalg.norm(told.largest) < 4 * np.linalg.norm(off)


def test_queries_that_are_pilots_are_exact():
    """But for the correction, which is nothing where all queries of all blocks are their pilots."""
    _, k, _ = head()
    q = np.repeat(np.random.default_rng(1).standard_normal((8, 4)), 20, axis=0)
    operator = attention.tangent_operator(q, k, blocks=8, near=10, groups=5, position=float("inf"))
    assert operator.row_errors().largest.max() < 1e-5
    assert lengths(operator, q, k)[0].max() < 1e-5


def test_masked_and_batched_errors_are_those_of_each_head():
    rng = np.random.default_rng(2)
    q, k = rng.standard_normal((2, 3, 90, 4))
    mask = rng.random((3, 90)) < 0.8
    whole = attention.tangent_operator(q, k, blocks=6, near=8, groups=4, key_mask=mask, query_mask=mask)
    for i in range(3):
        some, seen = q[i][mask[i]], k[i][mask[i]]
        alone = attention.tangent_operator(some, seen, blocks=6, near=8, groups=4).row_errors()
        np.testing.assert_allclose(whole.row_errors().largest[i][mask[i]], alone.largest, rtol=1e-9)


MAKERS = {
    "tangent": lambda q, k, m: attention.tangent_operator(
        q, k, blocks=6, near=8, groups=4, key_mask=m, query_mask=m
    ),
    "near_field": lambda q, k, m: attention.near_field_operator(q, k, 5, block=16, mask=m),
    "paper": lambda q, k, m: attention.nystrom_operator(q, k, 8, key_mask=m, query_mask=m, pinv=pinv.razavi),
    "causal": lambda q, k, m: attention.causal_operator(q, k, block=16, near=6, key_mask=m),
}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", MAKERS)
def test_a_heads_certificate_is_that_of_the_head_alone(name, masked):
    """Whatever its batch-mates, and what is guaranteed holds."""
    rng = np.random.default_rng(3)
    q, k, v = rng.standard_normal((3, 2, 96, 4))
    mask = rng.random((2, 96)) < 0.8 if masked else None
    found = certify_heads(MAKERS[name](q, k, mask), v, within=0.3, rows=32)
    assert found.shape == (2,)
    for i in range(2):
        alone = MAKERS[name](q[i], k[i], None if mask is None else mask[i])
        one = certify_operator(alone, v[i], within=0.3, rows=32)
        assert found[i].matrix.upper.value == pytest.approx(one.matrix.upper.value, rel=1e-8)
        assert found[i].reach.rows == one.reach.rows
        exact = certify_operator(alone, v[i], rows=96)
        for what in ("matrix", "output"):
            true = getattr(exact, what).estimate.value
            sure = getattr(found[i].guaranteed, what)
            assert sure.lower.value <= true <= sure.upper.value
    assert found[0].matrix.certainty.startswith("asymptotic: 99 %")
    assert found[0].guaranteed.matrix.certainty == "at least 99 % of the draws, for any input"
    assert exact.guaranteed.matrix.certainty == exact.matrix.certainty == "with certainty"


def test_grouped_heads_are_told_apart():
    rng = np.random.default_rng(4)
    q, k, v = (
        rng.standard_normal((4, 80, 4)),
        rng.standard_normal((2, 80, 4)),
        rng.standard_normal((4, 80, 4)),
    )
    options = {"blocks": 6, "near": 8, "groups": 4}
    found = certify_heads(attention.tangent_operator(q, k, grouped=True, **options), v, rows=30)
    one = certify_operator(attention.tangent_operator(q[3], k[1], **options), v[3], rows=30)
    assert found[3].matrix.upper.value == pytest.approx(one.matrix.upper.value, rel=1e-9)


@pytest.mark.parametrize("rows", [None, 64])
def test_the_width_asked_for_is_reached_or_it_is_said(rows):
    q, k, v = head(400, spread=2.0)
    operator = attention.tangent_operator(q, k, blocks=10, near=20, groups=6)
    truth = lengths(operator, q, k)[0]
    found = certify_operator(operator, v, rows=rows, within=0.2)
    assert found.reach.reached
    assert "± 0.2 reached" in str(found.reach)
    assert found.matrix.upper.value == pytest.approx(1.2 * found.matrix.estimate.value, rel=1e-6)
    assert found.matrix.lower.value <= np.linalg.norm(truth) <= found.matrix.upper.value
    short = certify_operator(attention.nystrom_operator(q, k, 4), v, rows=16, within=0.001, most=24)
    assert not short.reach.reached
    assert short.rows == 24
    assert short.reach.needed > 24
    assert "not reached" in str(short.reach)
    out = certify_output(q, k, v, operator.apply(v), within=0.2, most=400)
    true = np.linalg.norm(operator.apply(v) - attention.exact(q, k, v))
    assert out.reach.reached
    assert out.error.lower.value <= true <= out.error.upper.value
    assert out.guaranteed.lower.value <= true <= out.guaranteed.upper.value


def test_a_limit_without_a_width_is_refused():
    q, k, v = head(60)
    with pytest.raises(errors.RangeError, match="`most`"):
        certify_output(q, k, v, v, most=20)
    with pytest.raises(errors.RangeError, match="`within`"):
        certify_output(q, k, v, v, within=0.0)
    with pytest.raises(errors.ShapeError, match="`v`"):
        certify_heads(attention.exact_operator(q[None], k[None]), np.stack([v, v, v]))


def test_a_relative_error_is_guaranteed():
    q, k, v = head(200, spread=0.5)
    operator = attention.tangent_operator(0.3 * q, k, blocks=20, near=20, groups=10)
    s = attention.exact(0.3 * q, k, np.eye(200))
    true = np.linalg.norm(lengths(operator, 0.3 * q, k)[0]) / np.linalg.norm(s)
    told = certify_operator(operator, v, rows=120).guaranteed.relative
    assert told.lower.value <= true <= told.upper.value < 3 * true
