"""Near keys are exact and groups of far keys tangents: against explicit matrices, and what follows from the formula."""

from __future__ import annotations

from itertools import cycle, pairwise

import numpy as np
import pytest
import torch

from nystrom_numerics import errors
from nystrom_numerics.attention import exact, nystrom, tangent, tangent_operator, tangents
from nystrom_numerics.attention.arrangement import arrange, directions
from nystrom_numerics.backend import namespace, to_numpy
from tests.naive import tangent_matrix
from tests.thorough import many

FLAT = float("inf")
TWO = {"blocks": (2, 8), "groups": (3, 2), "near": 5}


def qkv(rng, *batch, n=60, d=4):
    return tuple(rng.standard_normal((*batch, n, d)) for _ in range(3))


def groups_of(q, k, blocks, groups):
    """Numbers of the keys of each group, as the tree makes them."""
    within = sum(np.cov(q[b].T, bias=True) * len(b) for b in blocks) / len(q)
    axes = directions(np, within, np.cov(k.T, bias=True))
    made = arrange(np, k, groups, axes, 0.0)
    token, there = made.cut(np, np.arange(len(k))[:, None])[..., 0], made.there
    return list(token) if there is None else [row[real] for row, real in zip(token, there, strict=True)]


@pytest.mark.parametrize(
    ("n_q", "n_k", "blocks", "groups", "near"),
    [(60, 60, 6, 4, 10), (50, 37, 7, 5, 3), (9, 30, 9, 1, 1), (41, 200, 4, 8, 1)],
)
def test_it_is_its_formula(n_q, n_k, blocks, groups, near, rng, monkeypatch):
    monkeypatch.setattr(tangents, "STEP", 1e-9)  # what is equal within a step is no part of the formula
    q, _, _ = qkv(rng, n=n_q)
    _, k, v = qkv(rng, n=n_k)
    edges = -(-np.arange(blocks + 1) * n_q // blocks)
    of_queries = [np.arange(a, b) for a, b in pairwise(edges)]
    expected = tangent_matrix(q, k, of_queries, groups_of(q, k, of_queries, groups), near, 0.7)
    got = tangent(q, k, v, blocks=blocks, groups=groups, near=near, position=FLAT, scale=0.7)
    np.testing.assert_allclose(got, expected @ v, rtol=1e-9, atol=1e-11)


def test_the_cap_of_the_weights_is_met(rng, monkeypatch):
    monkeypatch.setattr(tangents, "STEP", 1e-9)
    q, k, v = qkv(rng)
    edges = np.arange(7) * 10
    of_queries = [np.arange(a, b) for a, b in pairwise(edges)]
    groups = groups_of(q, k, of_queries, 4)
    matrices = [tangent_matrix(q, k, of_queries, groups, 2, 2.0, cap) for cap in (2.0, 3.0)]
    assert np.abs(matrices[0] - matrices[1]).max() > 1e-3
    got = tangent(q, k, v, blocks=6, groups=4, near=2, position=FLAT, scale=2.0)
    np.testing.assert_allclose(got, matrices[0] @ v, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    "options", [{"blocks": 5, "groups": 3, "near": 4}, TWO], ids=["one level", "two levels"]
)
def test_lanes(options, lane, dtype, rng):
    q, k, v = (x.astype(dtype) for x in qkv(rng, 2, 3))
    wide = [x.astype("float64") for x in (q, k, v)]
    expected = tangent(*wide, **options)
    tol = 1e-4 if dtype == "float32" else 1e-10
    a, b, c = lane(q), lane(k), lane(v)
    lane.assert_close(tangent(a, b, c, **options), expected, a, rtol=tol, atol=tol)
    mask = np.ones((2, 1, 60), bool)
    mask[1, :, 40:] = False
    shorter = tangent(*(x[1, :, :40] for x in wide), **options)
    got = to_numpy(tangent(a, b, c, key_mask=lane(mask), query_mask=lane(mask), **options))
    np.testing.assert_allclose(got[1, :, :40], shorter, rtol=tol, atol=tol)
    assert not got[1, :, 40:].any()


@pytest.mark.parametrize("position", [0.0, 4.0, FLAT])
@pytest.mark.parametrize(
    "options", [{"blocks": 5, "groups": 3, "near": 4}, TWO], ids=["one level", "two levels"]
)
def test_padding_anywhere_changes_nothing_and_may_be_nan(options, position, rng):
    q, k, v = qkv(rng, 2)
    options = {**options, "position": position}
    expected = tangent(q, k, v, **options)
    of_queries, of_keys = (np.sort(rng.permutation(90)[:60]) for _ in range(2))
    wide = [np.full((2, 90, 4), np.nan) for _ in range(3)]
    for x, real, at in zip(wide, (q, k, v), (of_queries, of_keys, of_keys), strict=True):
        x[:, at] = real
    masks = [np.isin(np.arange(90), at) for at in (of_queries, of_keys)]
    got = tangent(*wide, query_mask=masks[0], key_mask=masks[1], **options)
    np.testing.assert_allclose(got[:, of_queries], expected, rtol=1e-11)
    assert not got[:, ~masks[0]].any()


def test_no_item_depends_on_its_batch_mates(rng):
    q, k, v = qkv(rng, 3)
    spiky = np.stack([q[0], 50 * q[1], np.full_like(q[2], np.nan)])
    for options in ({"blocks": 5, "near": 4, "groups": 3}, TWO):
        for lane in (np.asarray, torch.tensor):
            got = to_numpy(tangent(lane(spiky), lane(k), lane(v), **options))
            np.testing.assert_array_equal(
                got[0], to_numpy(tangent(*(lane(x[:1]) for x in (q, k, v)), **options))[0]
            )
            assert np.isnan(got[2]).all()


@pytest.mark.parametrize("options", [{"blocks": 32, "groups": 16}, {"blocks": (2, 4), "groups": (3, 4)}])
@pytest.mark.parametrize("position", [0, 4.0, FLAT])
@pytest.mark.parametrize("n", [1, 3, 9])
def test_an_item_of_nan_is_nan_and_few_tokens_fill_what_they_can(n, position, options, rng):
    q, k, v = qkv(rng, 2, n=n)
    q[1] = k[1] = np.nan
    for lane in (np.asarray, torch.tensor):
        got = to_numpy(tangent(*map(lane, (q, k, v)), near=1, position=position, **options))
        alone = to_numpy(tangent(*(lane(x[0]) for x in (q, k, v)), near=1, position=position, **options))
        np.testing.assert_allclose(got[0], alone, rtol=1e-12)
        assert np.isnan(got[1]).all()


@pytest.mark.parametrize("blocks", [(4,), (2, 4), (2, 4, 8)])
def test_exact_where_every_key_is_near(blocks, rng):
    for position in (0.0, 4.0, FLAT):
        q, _, _ = qkv(rng, 2, n=int(rng.integers(1, 80)))
        _, k, v = qkv(rng, 2, n=int(rng.integers(1, 80)))
        mask = rng.random((2, k.shape[1])) < 0.7
        for near in (k.shape[1], k.shape[1] + 5):
            sizes = {"blocks": blocks, "groups": (3,) * len(blocks), "near": near, "position": position}
            for masks in ({}, {"key_mask": mask}):
                expected = exact(q, k, v, **masks)
                np.testing.assert_allclose(
                    tangent(q, k, v, **sizes, **masks), expected, rtol=1e-10, atol=1e-13
                )


@pytest.mark.parametrize(("near", "groups"), [(1, 1), (4, 3), (7, 60)])
def test_exact_at_the_pilot(near, groups, rng):
    """A block of one query is its own pilot, where a tangent touches; all of its moments are exact there."""
    q, k, v = qkv(rng, 2)
    got = tangent(q, k, v, blocks=60, near=near, groups=groups)
    np.testing.assert_allclose(got, exact(q, k, v), rtol=1e-10)


def test_rows_are_non_negative_and_sum_to_one(rng):
    """Of any sizes, scale and padding; rows of masked queries are zero."""
    for _ in range(many(100, 15)):
        (n_q, n_k), d = rng.integers(1, 70, 2), rng.integers(1, 6)
        blocks, groups = rng.integers(1, 9, 2).tolist()
        options = {"blocks": blocks, "groups": groups}
        if rng.random() < 0.5:
            options = {"blocks": (blocks, 2 * blocks), "groups": (groups, 2), "candidates": 0.6}
        q, k = rng.standard_normal((2, n_q, d)) * 10 ** rng.uniform(-1, 1), rng.standard_normal((2, n_k, d))
        masks = {"query_mask": rng.random((2, n_q)) < 0.8, "key_mask": rng.random((2, n_k)) < 0.8}
        s = tangent_operator(q, k, near=int(rng.integers(1, 20)), **options, **masks).rows(range(n_q))
        real = masks["query_mask"] & masks["key_mask"].any(axis=-1, keepdims=True)
        assert (s >= 0).all()
        np.testing.assert_allclose(s.sum(axis=-1), real, rtol=1e-12)


def test_the_order_of_queries_does_not_matter_to_a_tree_of_content(rng):
    q, k, v = qkv(rng)
    new = rng.permutation(60)
    options = {"blocks": 4, "near": 4, "groups": 3, "position": 0.0}
    np.testing.assert_allclose(tangent(q[new], k, v, **options), tangent(q, k, v, **options)[new], rtol=1e-10)


@pytest.mark.parametrize("position", [0.0, 4.0, FLAT])
@pytest.mark.parametrize("options", [{"blocks": 5, "groups": 3, "near": 7}, TWO])
def test_the_order_of_keys_is_of_no_effect_where_each_moves_by_itself(options, position, rng):
    """The tree of keys never looks where they stand; but it moves them in runs of as many or, where 3 groups are made
    of the 4 ends of the tree, of one more: each by itself up to 24 an end, if their number is a multiple of 4."""
    for n, same in ((60, True), (96, True), (62, False), (192, False)):
        q, (_, k, v) = rng.standard_normal((60, 4)), qkv(rng, n=n)
        new = rng.permutation(n)
        made, other = (tangent(q, k[at], v[at], position=position, **options) for at in (np.arange(n), new))
        assert np.allclose(made, other, rtol=1e-10, atol=1e-13) == same


def test_a_key_that_is_there_twice_counts_twice_where_it_is_exact(rng):
    """As one key with log 2 more: with every key near, and at the pilots, which are the queries of blocks of one."""
    for _ in range(many(20, 4)):
        q, k, v = qkv(rng)
        again = rng.integers(0, 60, 9)
        number = 1 + np.bincount(again, minlength=60)
        expected = exact(q, k, v, attn_mask=np.tile(np.log(number), (60, 1)))
        keys, values = (np.concatenate([x, x[again]]) for x in (k, v))
        for options in ({"blocks": 60, "near": 3, "groups": 5}, {"blocks": 5, "near": 69, "groups": 3}):
            np.testing.assert_allclose(tangent(q, keys, values, **options), expected, rtol=1e-10)


def test_keys_that_are_all_there_twice_count_once_where_no_group_parts_copies(rng):
    """With twice as many near keys, and groups of whole pairs; a group that has one copy alone is another group."""
    q, k, v = qkv(rng)
    twice = [np.repeat(x, 2, axis=0) for x in (k, v)]
    for groups, same in ((1, True), (4, True), (7, False)):
        options = {"blocks": 5, "groups": groups}
        found, once = tangent(q, *twice, near=8, **options), tangent(q, k, v, near=4, **options)
        assert np.allclose(found, once, rtol=1e-10) == same


def test_copies_of_a_key_have_equal_columns_but_where_near_ones_end(rng):
    """Of one group: both are near, or both far, or the near ones end between them.

    Copies stand side by side: other keys may be worth the same within a step, and ties are broken by place.
    """
    for _ in range(many(20, 4)):
        q, k, _ = qkv(rng)
        k[1::2] = k[::2]
        for near, parted in ((8, 0), (9, 1)):
            s = tangent(q, k, np.eye(60), blocks=6, near=near, groups=1, position=FLAT)
            differ = np.abs(s[:, ::2] - s[:, 1::2]) > 1e-12
            assert (differ.reshape(6, 10, 30).any(axis=1).sum(axis=1) == parted).all()


def test_leading_axes_of_its_own_for_each_and_grouped_heads(rng):
    q, k, v = qkv(rng, 3)
    options = {"blocks": 5, "near": 4, "groups": 3}
    expected = np.stack([tangent(q[0], k[0], v[i], **options) for i in range(3)])
    np.testing.assert_allclose(tangent(q[0], k[0], v, **options), expected, rtol=1e-11)
    expected = np.stack([tangent(q[i], k[0], v[0], **options) for i in range(3)])
    np.testing.assert_allclose(tangent(q, k[0], v[0], **options), expected, rtol=1e-11)
    expected = np.stack([tangent(q[0], k[i], v[0], **options) for i in range(3)])
    np.testing.assert_allclose(tangent(q[0], k, v[0], **options), expected, rtol=1e-11)
    heads = qkv(rng, 2, 6)[0]
    keys, values = (qkv(rng, 2, 3)[0] for _ in range(2))
    whole = tangent(heads, *(np.repeat(x, 2, axis=1) for x in (keys, values)), **options)
    np.testing.assert_allclose(tangent(heads, keys, values, grouped=True, **options), whole, rtol=1e-11)


@pytest.mark.parametrize(
    "options", [{"blocks": 5, "groups": 3, "near": 4}, TWO], ids=["one level", "two levels"]
)
def test_derivatives_by_finite_differences(options, monkeypatch):
    """With the weights' corrections as they were at first, and blocks, groups and near keys, which do not move."""
    torch.manual_seed(2)
    arrays = [torch.randn(2, 40, 3, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    mask = torch.arange(40) < 33
    weights = torch.randn(2, 40, 3, dtype=torch.float64)

    def value(arrays):
        return (weights * tangent(*arrays, key_mask=mask, query_mask=mask, **options)).sum()

    made, missed = [], tangents.missed_by_groups

    def kept(*args):
        made.append(missed(*args))
        return made[-1]

    monkeypatch.setattr(tangents, "missed_by_groups", kept)
    found = torch.autograd.grad(value(arrays), arrays)
    held = cycle(tuple(made))
    monkeypatch.setattr(tangents, "missed_by_groups", lambda *_: next(held))
    for which in range(3):
        for _ in range(4):
            step = 1e-6 * torch.randn(2, 40, 3, dtype=torch.float64)
            moved = [[x + s * step * (i == which) for i, x in enumerate(arrays)] for s in (1, -1)]
            slope = (value(moved[0]) - value(moved[1])) / 2
            torch.testing.assert_close((found[which] * step).sum(), slope, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("position", [0, 4.0, FLAT])
def test_derivatives_are_finite_where_tokens_do_not_differ(position):
    one, few = torch.randn(1, 6), torch.randn(8, 6)
    for tokens in (few, one.expand(50, 6), few.repeat_interleave(20, dim=0), torch.zeros(50, 6)):
        arrays = [tokens.clone().requires_grad_() for _ in range(3)]
        for count in (len(tokens), 1, 0):
            mask = torch.arange(len(tokens)) < count
            out = tangent(*arrays, blocks=4, near=3, groups=2, position=position, key_mask=mask)
            for gradient in torch.autograd.grad(out.square().sum(), arrays):
                assert bool(gradient.isfinite().all())


@pytest.mark.parametrize("position", [0, 4.0, FLAT])
def test_repeated_tokens_know_neither_padding_nor_library_nor_batch_mates(position, rng):
    """Their ties are decided by place, also where rounding parts them."""
    options = {"near": 20, "blocks": 4, "groups": 3, "position": position}
    for _ in range(5):
        x = rng.standard_normal((3, 75, 6))
        for i in (0, 1):
            x[i] = x[i][rng.integers(0, 15, 75)]
        alone = tangent(*x, **options)
        padded, mask = np.concatenate([x, np.zeros((3, 5, 6))], axis=1), np.arange(80) < 75
        mates = np.stack([x, *rng.standard_normal((2, *x.shape))], axis=1)
        for other in (
            tangent(*padded, key_mask=mask, query_mask=mask, **options)[:75],
            tangent(*map(torch.tensor, x), **options).numpy(),
            tangent(*mates, **options)[0],
            tangent(*map(torch.tensor, mates), **options)[0].numpy(),
        ):
            np.testing.assert_allclose(other, alone, rtol=0, atol=1e-13)


def test_an_item_without_keys_or_queries_gives_zeros(rng):
    q, k, v = qkv(rng, 2)
    nothing = np.array([[True], [False]])
    for lane in (np.asarray, torch.tensor):
        arrays = [lane(x) for x in (q, k, v)]
        got = to_numpy(tangent(*arrays, blocks=5, near=4, groups=3, key_mask=lane(nothing)))
        assert np.isfinite(got).all()
        assert not got[1].any()
        assert got[0].any()
        assert not to_numpy(tangent(*arrays, blocks=5, near=4, groups=3, query_mask=lane(nothing)))[1].any()


def test_queries_of_two_kinds_want_a_tree(rng):
    """Tokens that alternate between two questions: blocks of neighbours have a pilot that asks neither."""
    n = 512
    k, v = rng.standard_normal((2, n, 8))
    q = np.where(np.arange(n)[:, None] % 2, 6.0, -6.0) * np.eye(8)[0] + 0.3 * rng.standard_normal((n, 8))
    options = {"near": 16, "groups": 4, "blocks": 16}
    by = {p: tangent(q, k, v, position=p, **options) - exact(q, k, v) for p in (4.0, FLAT)}
    assert np.linalg.norm(by[4.0]) < np.linalg.norm(by[FLAT]) / 4


def test_far_better_than_nystrom_at_equal_entries_on_smooth_heads(rng):
    x = rng.standard_normal((2, 512, 16)).cumsum(axis=1)
    q, k = 4 * x / np.linalg.norm(x, axis=-1, keepdims=True)
    v = rng.standard_normal((512, 16))
    s = exact(q, k, v)
    error = [np.linalg.norm(o - s) for o in (tangent(q, k, v), nystrom(q, k, v, 64))]
    assert error[0] < error[1] / 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(dtype):
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 60, 4).to(dtype) for _ in range(3))
    got = tangent(q, k, v, blocks=5, near=4, groups=3)
    assert got.dtype == dtype
    expected = tangent(*(x.float() for x in (q, k, v)), blocks=5, near=4, groups=3)
    torch.testing.assert_close(got, expected.to(dtype))


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"blocks": 0}, "blocks"),
        ({"blocks": 2.0}, "blocks"),
        ({"blocks": ()}, "blocks"),
        ({"blocks": (4, 6), "groups": (2, 2)}, "blocks"),
        ({"blocks": (4, 8)}, "groups"),
        ({"groups": 0}, "groups"),
        ({"groups": "x"}, "groups"),
        ({"near": 0}, "near"),
        ({"near": None}, "near"),
        ({"candidates": 0}, "candidates"),
        ({"candidates": 1.5}, "candidates"),
        ({"position": -1}, "position"),
        ({"position": float("nan")}, "position"),
        ({"scale": float("inf")}, "scale"),
    ],
)
def test_bad_options_are_named(options, argument, rng):
    with pytest.raises(errors.ArgumentError) as caught:
        tangent(*qkv(rng), **options)
    assert caught.value.argument == argument


def leaves_of(x, leaves, position):
    made = arrange(np, x, leaves, np.eye(x.shape[-1]), position)
    return made.cut(np, np.arange(len(x))[:, None])[..., 0]


@pytest.mark.parametrize("position", [0, 4.0])
@pytest.mark.parametrize("n", [64, 75])
def test_a_tree_does_not_see_what_rounding_makes_of_copies(n, position, rng):
    for _ in range(5):
        x = rng.standard_normal((9, 3))[rng.integers(0, 9, n)]
        expected = leaves_of(x, 8, position)
        for _ in range(3):
            moved = x * (1 + 1e-14 * rng.standard_normal(x.shape))
            np.testing.assert_array_equal(leaves_of(moved, 8, position), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("d", [1, 5, 16, 40])
def test_directions_of_metrics_that_rounding_makes_indefinite(d, dtype, lane, rng):
    """Of any rank and size, also where the tokens differ only across the metric; exact where d is at most 16."""
    for rank, size in ((0, 1.0), (1, 1e-12), (2, 1e12), (d + 3, 1.0)):
        x, y = (size * rng.standard_normal((rank, d)) for _ in range(2))
        metric, spread = (a.astype(dtype).T @ a.astype(dtype) for a in (x, y))
        found = directions(namespace(x=lane(np.zeros(1))), lane(metric), lane(spread))
        g = to_numpy(found).astype(float)
        assert np.isfinite(g).all()
        if d <= 16:  # d ulps are added and d³ of float64, and as many rounded
            bound = 2 * d * np.finfo(dtype).eps + 2 * d**3 * np.finfo(float).eps
            np.testing.assert_allclose(g @ g.T, metric, rtol=0, atol=bound * np.abs(metric).max())
    across = np.eye(d, dtype=dtype)
    g = directions(namespace(x=lane(np.zeros(1))), lane(np.diag(across[0])), lane(np.diag(across[-1])))
    assert np.isfinite(to_numpy(g)).all()


@pytest.mark.parametrize("masked", [False, True])
def test_a_batch_of_no_item_has_an_output_and_a_derivative(masked, lane, rng):
    x = rng.standard_normal((2, 0, 40, 4))
    masks = ("key_mask", "query_mask") if masked else ()
    options = {name: lane(np.ones((2, 0, 40), bool)) for name in masks}
    assert tuple(tangent(*map(lane, (x, x, x[..., :3])), **options).shape) == (2, 0, 40, 3)
    q, k, v = (torch.tensor(x, requires_grad=True) for _ in range(3))
    grads = torch.autograd.grad(tangent(q, k, v).sum(), (q, k, v))
    assert all(g.shape == q.shape for g in grads)


@pytest.mark.parametrize("short", [False, True], ids=["full blocks", "a token short"])
@pytest.mark.parametrize("d", [4, 20])
def test_the_spread_of_each_block_by_itself(short, d, rng):
    """In the span of the axes: of all directions where these are as many, and of none where they are zero."""
    q, k = rng.standard_normal((3, 12, d)) * rng.uniform(0.1, 3, (3, 1, d)), rng.standard_normal((2, 10, d))
    there = np.ones((3, 12), bool)
    there[1, -1] = not short
    queries = tangents.Queries(q, there if short else None)
    axes = rng.standard_normal((d, min(d, 16)))
    span = axes @ np.linalg.pinv(axes)
    made = tangents.missed_by_groups(np, queries, 3, k, None, axes, True)
    for b in range(3):
        own = q[b][there[b]] @ span
        for j, key in enumerate(k.reshape(20, d)):
            expected = np.var(own @ (key - k[j // 10].mean(axis=0)))
            np.testing.assert_allclose(made[b, j], expected, rtol=1e-8)
    assert not tangents.missed_by_groups(np, queries, 3, k, None, 0 * axes, True).any()
