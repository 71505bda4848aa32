"""Causal attention does not look ahead: every position is perturbed, and every prefix taken by itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nystrom_numerics import errors
from nystrom_numerics.attention import causal, exact
from nystrom_numerics.attention.arrangement import arrange, directions
from nystrom_numerics.backend import to_numpy
from tests.thorough import many

SIZES = {"block": 4, "near": 3, "group": 2, "routed": 2}
NONE = {**SIZES, "routed": 0}


def qkv(rng, *batch, n=43, d=4, d_v=3):
    return tuple(rng.standard_normal((*batch, n, w)) for w in (d, d, d_v))


def triangle(n):
    return np.tri(n, dtype=bool)


@pytest.mark.parametrize(
    "options",
    [
        SIZES,
        NONE,
        {"block": 1},
        {"block": 6, "group": 2},
        {"block": 16, "near": 1, "group": 1},
        {"block": 43},
    ],
    ids=str,
)
def test_no_output_depends_on_a_later_token(options, rng):
    """Each token in turn is replaced by something enormous: all outputs before it stay, bit by bit."""
    x = qkv(rng)
    whole = causal(*x, **options)
    for t in range(43):
        changed = [y.copy() for y in x]
        for y in changed:
            y[t] = 1e3 * rng.standard_normal(y.shape[-1])
        got = causal(*changed, **options)
        np.testing.assert_array_equal(got[:t], whole[:t])
        assert (got[t] != whole[t]).any()


@pytest.mark.parametrize("options", [SIZES, NONE], ids=str)
def test_a_prefix_by_itself_has_the_same_output(options, rng):
    """Not even the number of tokens to come is known.  (Tolerance: products of other shapes round otherwise.)"""
    q, k, v = qkv(rng)
    whole = causal(q, k, v, **options)
    for t in range(1, 43):
        np.testing.assert_allclose(causal(q[:t], k[:t], v[:t], **options), whole[:t], rtol=1e-10, atol=1e-12)


def test_gradients_do_not_look_ahead_either(rng):
    q, k, v = (torch.tensor(x, requires_grad=True) for x in qkv(rng))
    out = causal(q, k, v, **SIZES)
    for t in (0, 6, 11, 22, 42):
        grads = torch.autograd.grad(out[t].sum(), (q, k, v), retain_graph=True)
        assert all(not g[t + 1 :].any() and g[: t + 1].any() for g in grads if t)


def test_exact_within_a_block_and_where_all_groups_are_chosen(lane, rng):
    q, k, v = qkv(rng, 2)
    expected = exact(q, k, v, attn_mask=triangle(43))
    for options in ({"block": 43}, {**SIZES, "routed": 20}, {**SIZES, "routed": 1000, "group": 4}):
        got = causal(*map(lane, (q, k, v)), **options)
        lane.assert_close(got, expected, lane(v), rtol=1e-10, atol=1e-12)


def test_exact_where_all_that_is_past_is_near(rng):
    q, k, v = qkv(rng, 2)
    got = causal(q, k, v, **NONE | {"near": 43})
    np.testing.assert_allclose(got, exact(q, k, v, attn_mask=triangle(43)), rtol=1e-10, atol=1e-12)


def test_exact_for_groups_of_one_key(rng):
    q, k, v = qkv(rng, 2)
    got = causal(q, k, v, block=4, near=1, group=1, routed=0)
    np.testing.assert_allclose(got, exact(q, k, v, attn_mask=triangle(43)), rtol=1e-10, atol=1e-12)


def arranged(x, tokens, group, axes):
    """Tokens in groups by content: the tree itself has tests of its own."""
    count = len(tokens) // group
    if group == 1 or count == 1:
        return np.reshape(tokens, (count, group)).tolist()
    made = arrange(np, x[tokens][None], count, axes[None], 0.0)
    return made.cut(np, np.array(tokens)[None, :, None])[0, ..., 0].tolist()


def naive_causal(q, k, v, block, near, group, routed):
    """The docstring's formula, token by token, in loops; d is small, so that directions are exact."""
    n, d = q.shape
    s, out, groups = d**-0.5, [], []
    for t in range(n):
        first = t // block * block
        known = 1 << max(0, (t // block).bit_length() - 1)
        if (
            t == first and t // block == known
        ):  # a power of two of blocks is past: its keys are arranged together
            blocks = s * q[:first].reshape(known, block, d)
            inside = (blocks - blocks.mean(axis=1, keepdims=True)).reshape(-1, d)
            covariance = inside.T @ inside / len(inside)
            axes = directions(np, covariance[None], np.cov(k[:first].T, bias=True)[None])[0]
            groups = arranged(k, list(range(first)), group, axes)
        elif t == first and t:
            groups = groups + arranged(k, list(range(t - block, t)), group, axes)
        keys, values, bias = list(k[first : t + 1]), list(v[first : t + 1]), [0.0] * (t + 1 - first)
        if first > 0:
            pilot = s * q[first - block : first].mean(axis=0)
            r2, scores = np.zeros(n), k @ pilot
            for g in groups:
                centred = k[g] - k[g].mean(axis=0)
                r2[g] = ((centred @ covariance) * centred).sum(axis=1)
            order = np.array([j for g in groups for j in g])
            worth = (scores + np.log(r2 + 1e-300))[order]
            chosen = set(order[np.argsort(-worth, kind="stable")[:near]].tolist())
            tangents = []
            for g in groups:
                rest = [j for j in g if j not in chosen]
                w = np.exp(scores[rest] + np.minimum(r2[rest] / 2, 2.0))
                if rest:
                    mu = w @ k[rest] / w.sum()
                    tangents.append(
                        (s * q[t] @ mu + np.log(w.sum()) - pilot @ mu, g, mu, w @ v[rest] / w.sum())
                    )
            tangents.sort(key=lambda x: -x[0])
            met = chosen | {j for _, g, _, _ in tangents[:routed] for j in g}
            keys += [*k[list(met)], *(x[2] for x in tangents[routed:])]
            values += [*v[list(met)], *(x[3] for x in tangents[routed:])]
            bias += [0.0] * len(met) + [x[0] - s * q[t] @ x[2] for x in tangents[routed:]]
        weights = np.exp(s * np.stack(keys) @ q[t] + bias)
        out.append(weights @ np.stack(values) / weights.sum())
    return np.stack(out)


@pytest.mark.parametrize(
    "options",
    [SIZES, NONE, {**SIZES, "group": 4}, {"block": 6, "near": 2, "group": 3, "routed": 1}],
    ids=str,
)
def test_parity_with_the_formula(options, rng):
    q, k, v = qkv(rng)
    np.testing.assert_allclose(
        causal(q, k, v, **options), naive_causal(q, k, v, **options), rtol=1e-7, atol=1e-9
    )


def test_lanes_agree_with_padding(lane, rng):
    q, k, v = qkv(rng, 2)
    mask = np.ones((2, 43), bool)
    mask[0, :6] = False
    got = causal(*map(lane, (q, k, v)), **SIZES, key_mask=lane(mask))
    expected = causal(q, k, v, **SIZES, key_mask=mask)
    lane.assert_close(got, expected, lane(v), rtol=1e-9, atol=1e-11)
    np.testing.assert_array_equal(to_numpy(got)[0, :6], 0.0)
    alone = causal(q[0, 6:], k[0, 6:], v[0, 6:], **SIZES)
    np.testing.assert_allclose(expected[0, 6:], alone, rtol=1e-9, atol=1e-12)
    other = [x.copy() for x in (q, k, v)]
    for x in other:
        x[0, :6] = np.nan
    np.testing.assert_allclose(causal(*other, **SIZES, key_mask=mask)[0, 6:], expected[0, 6:], rtol=1e-12)


def test_no_item_depends_on_its_mates(rng):
    q, k, v = qkv(rng, 3)
    whole = causal(q, k, v, **SIZES)
    mates = [x.copy() for x in (q, k, v)]
    for x in mates:
        x[0], x[2] = 1e6 * x[0], 0.0
    np.testing.assert_array_equal(causal(*mates, **SIZES)[1], whole[1])


def test_keys_of_several_heads_of_queries(rng):
    q, k, v = qkv(rng, 2, 3)
    got = causal(q, k[:, :1], v[:, :1], **SIZES)
    np.testing.assert_allclose(got[:, 2], causal(q[:, 2], k[:, 0], v[:, 0], **SIZES), rtol=1e-10, atol=1e-12)


def test_the_past_is_seen(rng):
    """Nearer to exact causal attention than a window of as many keys, in every item."""
    walk = rng.standard_normal((6, 256, 8)).cumsum(axis=1)
    q = k = 4 * walk / np.linalg.norm(walk, axis=-1, keepdims=True)
    v = rng.standard_normal((6, 256, 5))
    truth = exact(q, k, v, attn_mask=triangle(256))
    window = triangle(256) & ~np.tri(256, k=-64, dtype=bool)
    got = causal(q, k, v, block=32, near=8, group=8, routed=2)
    error = lambda x: np.linalg.norm(x - truth, axis=(-2, -1))  # noqa: E731
    assert (error(got) < 0.3 * error(exact(q, k, v, attn_mask=window))).all()


def test_huge_scores_stay_finite(rng):
    q, k, v = (x.astype("float32") for x in qkv(rng))
    assert np.isfinite(causal(q * 100, k * 100, v, **SIZES)).all()
    assert np.isfinite(causal(0 * q, 0 * k, v, **SIZES)).all()


def test_gradcheck(rng):
    """With what is chosen, and the corrections of weights, as they are: near keys are all, or groups are of one."""
    inputs = [torch.tensor(x, requires_grad=True) for x in qkv(rng, n=10, d=3)]
    mask = torch.arange(10) != 2
    for options in ({"near": 10, "group": 2, "routed": 0}, {"near": 1, "group": 1}, {"near": 1, "group": 2}):
        assert torch.autograd.gradcheck(lambda *x, o=options: causal(*x, block=2, key_mask=mask, **o), inputs)


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"block": 0}, "block"),
        ({"block": 2.5}, "block"),
        ({"near": 0}, "near"),
        ({"routed": -1}, "routed"),
        ({"routed": 1.5}, "routed"),
        ({"group": 3}, "group"),
        ({"group": 0}, "group"),
    ],
)
def test_bad_numbers(options, argument, rng):
    with pytest.raises(errors.RangeError) as caught:
        causal(*qkv(rng), **SIZES | options)
    assert caught.value.argument == argument


@pytest.mark.parametrize(("short", "named"), [(0, "`k`"), (2, "`v`")])
def test_other_lengths_are_refused(short, named, rng):
    arrays = list(qkv(rng))
    arrays[short] = arrays[short][:5]
    with pytest.raises(errors.ShapeError, match=named):
        causal(*arrays, **SIZES)


@pytest.mark.parametrize("place", range(3))
def test_nan_is_refused_on_request(place, rng):
    arrays = qkv(rng)
    arrays[place][2, 1] = np.nan
    with pytest.raises(errors.NonFiniteError) as caught:
        causal(*arrays, **SIZES, check_finite=True)
    assert caught.value.argument == "qkv"[place]


def test_the_scale_is_that_of_the_scores(rng):
    """Scores of q/2 at the scale 1/√d = 1/2 are those of q at 1/4; powers of two round nothing."""
    q, k, v = qkv(rng)
    got, expected = causal(q, k, v, **SIZES, scale=0.25), causal(q / 2, k, v, **SIZES)
    np.testing.assert_allclose(got, expected, rtol=1e-12)


@pytest.mark.parametrize("masked", [False, True])
def test_a_batch_of_no_item_has_an_output_and_a_derivative(masked, lane, rng):
    x = rng.standard_normal((2, 0, 43, 4))
    options = {"key_mask": lane(np.ones((2, 0, 43), bool))} if masked else {}
    assert tuple(causal(*map(lane, (x, x, x[..., :3])), **SIZES, **options).shape) == (2, 0, 43, 3)
    q, k, v = (torch.tensor(x, requires_grad=True) for _ in range(3))
    grads = torch.autograd.grad(causal(q, k, v, **SIZES).sum(), (q, k, v))
    assert all(g.shape == q.shape for g in grads)


@pytest.mark.parametrize("options", [SIZES, NONE], ids=str)
def test_repeated_tokens_have_one_result_in_every_library(options):
    """Keys in an order by their last digits would go with other values: each library rounds by its own."""
    for seed in range(many(40, 15)):
        rng = np.random.default_rng(seed)
        ids = rng.integers(0, 10, 90)
        q, k = rng.standard_normal((2, 10, 4))[:, ids]
        v = rng.standard_normal((90, 3))
        got = causal(*map(torch.tensor, (q, k, v)), **options)
        np.testing.assert_allclose(to_numpy(got), causal(q, k, v, **options), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("options", [SIZES, NONE], ids=str)
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e308])
def test_what_is_no_number_reaches_no_block_before_its_own(options, value, rng):
    x = qkv(rng)
    whole = causal(*x, **options)
    for t in (17, 40):
        changed = [y.copy() for y in x]
        for y in changed:
            y[t:] = value
        with np.errstate(all="ignore"):
            got = causal(*changed, **options)
        np.testing.assert_array_equal(got[: t // 4 * 4], whole[: t // 4 * 4])
