"""Causal attention does not look ahead: every position is perturbed, and every prefix taken by itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nystrom_numerics import errors, landmarks, pinv
from nystrom_numerics.attention import causal, exact, ridge
from nystrom_numerics.backend import to_numpy
from tests import naive

RULES = [landmarks.segment_means, landmarks.strided, landmarks.uniform, landmarks.kmeans]


def qkv(rng, *batch, n=23, d=4, d_v=3):
    return tuple(rng.standard_normal((*batch, n, w)) for w in (d, d, d_v))


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.__name__)
@pytest.mark.parametrize("block", [1, 4, 7, 23])
def test_no_output_depends_on_a_later_token(rule, block, rng):
    """Each token in turn is replaced by something enormous: all outputs before it stay, bit by bit."""
    x = qkv(rng)
    call = lambda *x: causal(*x, 3, block=block, landmarks=rule)  # noqa: E731
    whole = call(*x)
    for t in range(23):
        changed = [y.copy() for y in x]
        for y in changed:
            y[t] = 1e3 * rng.standard_normal(y.shape[-1])
        np.testing.assert_array_equal(call(*changed)[:t], whole[:t])
        assert (call(*changed)[t] != whole[t]).any()


@pytest.mark.parametrize("rule", RULES[:2], ids=lambda r: r.__name__)
def test_a_prefix_by_itself_has_the_same_output(rule, rng):
    """Not even the number of tokens to come is known.  (Tolerance: products of other shapes round otherwise.)"""
    q, k, v = qkv(rng)
    whole = causal(q, k, v, 3, block=5, landmarks=rule)
    for t in range(1, 23):
        got = causal(q[:t], k[:t], v[:t], 3, block=5, landmarks=rule)
        np.testing.assert_allclose(got, whole[:t], rtol=1e-10, atol=1e-12)


def test_gradients_do_not_look_ahead_either(rng):
    q, k, v = (torch.tensor(x, requires_grad=True) for x in qkv(rng))
    for t in (0, 6, 11, 22):
        grads = torch.autograd.grad(causal(q, k, v, 3, block=4)[t].sum(), (q, k, v), retain_graph=True)
        assert all(not g[t + 1 :].any() for g in grads)


def test_one_block_is_exact(lane, rng):
    q, k, v = qkv(rng, 2)
    expected = exact(q, k, v, attn_mask=np.tri(23, dtype=bool))
    lane.assert_close(causal(*map(lane, (q, k, v)), 3, block=23), expected, lane(v), rtol=1e-10, atol=1e-12)


def test_lanes_agree_with_padding(lane, rng):
    q, k, v = qkv(rng, 2)
    mask = np.ones((2, 23), bool)
    mask[0, :6] = False
    got = causal(*map(lane, (q, k, v)), 3, block=5, key_mask=lane(mask))
    expected = causal(q, k, v, 3, block=5, key_mask=mask)
    lane.assert_close(got, expected, lane(v), rtol=1e-9, atol=1e-11)
    np.testing.assert_array_equal(to_numpy(got)[0, :6], 0.0)
    other = [x.copy() for x in (q, k, v)]
    for x in other:
        x[0, :6] = np.nan
    np.testing.assert_allclose(causal(*other, 3, block=5, key_mask=mask)[0, 6:], expected[0, 6:], rtol=1e-12)


def naive_causal(q, k, v, m, block, solver):
    """The docstring's formula, token by token, with explicit matrices: no streaming, no shared exponents."""
    scale, out = q.shape[-1] ** -0.5, []
    for t in range(len(q)):
        start = t // block * block
        near = np.exp(scale * k[start : t + 1] @ q[t])
        top, total = near @ v[start : t + 1], near.sum()
        if start:
            count = min(m, start)
            qt, kt = (naive.segment_means(x[:start], count) for x in (q, k))
            f, a, b = (np.exp(scale * x @ y.T) for x, y in ((q[t : t + 1], kt), (qt, kt), (qt, k[:start])))
            core, seen = a / a.sum(1, keepdims=True), b / b.sum(1, keepdims=True)
            average = f / f.sum() @ solver(core, seen @ v[:start])
            mass = f @ solver(core, b.sum(1, keepdims=True) / a.sum(1, keepdims=True))
            mass = max(mass.item(), start // count * f.sum())
            top, total = top + mass * average[0], total + mass
        out.append(top / total)
    return np.stack(out)


@pytest.mark.parametrize("solver", [ridge, pinv.rank_revealing], ids=lambda s: s.__name__)
@pytest.mark.parametrize(("m", "block"), [(3, 5), (4, 8), (30, 6)])
def test_parity_with_the_formula(solver, m, block, rng):
    q, k, v = qkv(rng)
    expected = naive_causal(q, k, v, m, block, solver)
    np.testing.assert_allclose(causal(q, k, v, m, block=block, solver=solver), expected, rtol=1e-7, atol=1e-9)


def test_exact_where_every_past_token_is_a_landmark(rng):
    q, k, v = qkv(rng)
    truth = exact(q, k, v, attn_mask=np.tri(23, dtype=bool))
    got = causal(q, k, v, 23, block=6, solver=pinv.rank_revealing)
    np.testing.assert_allclose(got, truth, rtol=1e-6)


def test_the_past_is_seen(rng):
    """Nearer to exact causal attention than attention within blocks alone, in every item."""
    q, k, v = qkv(rng, 6, n=128)
    truth = exact(q, k, v, attn_mask=np.tri(128, dtype=bool))
    near = np.kron(np.eye(8, dtype=bool), np.tri(16, dtype=bool))
    blocks = exact(q, k, v, attn_mask=near)
    got = causal(q, k, v, 8, block=16)
    error = lambda x: np.linalg.norm(x - truth, axis=(-2, -1))  # noqa: E731
    assert (error(got) < 0.7 * error(blocks)).all()


def test_without_any_landmark_only_the_block_is_seen(rng):
    """A rule may find that none of its landmarks exists."""
    q, k, v = qkv(rng)

    def none(x, m, mask=None):
        return landmarks.LandmarkPoints(np.zeros((m, x.shape[-1])), np.zeros(m, bool), 0, None)

    own = np.kron(np.eye(4, dtype=bool), np.tri(6, dtype=bool))[:23, :23]
    got = causal(q, k, v, 3, block=6, landmarks=none)
    np.testing.assert_allclose(got, exact(q, k, v, attn_mask=own), rtol=1e-12)


def test_a_past_whose_weight_vanishes_is_not_seen(rng):
    """Its keys weigh e^2500 times what their mean weighs, and the solver gives them nothing."""
    q, k, v = np.zeros((2, 12, 4)), np.zeros((2, 12, 4)), rng.standard_normal((2, 12, 3))
    q[..., 0], k[:, 0, 0] = 1, 6000
    got = causal(q, k, v, 1, block=6, solver=lambda a, b: 0 * a @ b)
    np.testing.assert_allclose(got, exact(q, k, v, attn_mask=np.kron(np.eye(2), np.tri(6)) > 0), rtol=1e-12)


@pytest.mark.parametrize("options", [{"landmarks": "means"}, {"solver": None}, {"m": 2.0}])
def test_what_one_block_does_not_use_is_checked_all_the_same(options, rng):
    options = {"m": 3} | options
    with pytest.raises(errors.ArgumentError) as caught:
        causal(*qkv(rng), options.pop("m"), block=100, **options)
    assert caught.value.argument in ("m", *options)


def test_huge_scores_stay_finite(rng):
    q, k, v = (x.astype("float32") for x in qkv(rng))
    assert np.isfinite(causal(q * 100, k * 100, v, 3, block=4)).all()


def test_gradcheck(rng):
    inputs = [torch.tensor(x, requires_grad=True) for x in qkv(rng, n=9, d=3)]
    mask = torch.arange(9) != 2
    assert torch.autograd.gradcheck(lambda *x: causal(*x, 2, block=3, key_mask=mask), inputs)


@pytest.mark.parametrize(
    ("options", "argument"), [({"block": 0}, "block"), ({"block": 2.5}, "block"), ({"m": 0}, "m")]
)
def test_bad_numbers(options, argument, rng):
    options = {"m": 3, "block": 4, **options}
    m = options.pop("m")
    with pytest.raises(errors.RangeError) as caught:
        causal(*qkv(rng), m, **options)
    assert caught.value.argument == argument


@pytest.mark.parametrize(("short", "named"), [(0, "`k`"), (2, "`v`")])
def test_other_lengths_are_refused(short, named, rng):
    arrays = list(qkv(rng))
    arrays[short] = arrays[short][:5]
    with pytest.raises(errors.ShapeError, match=named):
        causal(*arrays, 3, block=4)


@pytest.mark.parametrize("place", range(3))
def test_nan_is_refused_on_request(place, rng):
    arrays = qkv(rng)
    arrays[place][2, 1] = np.nan
    with pytest.raises(errors.NonFiniteError) as caught:
        causal(*arrays, 3, block=4, check_finite=True)
    assert caught.value.argument == "qkv"[place]


def test_the_scale_is_that_of_the_scores(rng):
    """Scores of q/2 at the scale 1/√d = 1/2 are those of q at 1/4; powers of two round nothing."""
    q, k, v = qkv(rng)
    got, expected = causal(q, k, v, 3, block=5, scale=0.25), causal(q / 2, k, v, 3, block=5)
    np.testing.assert_allclose(got, expected, rtol=1e-12)
