"""Operators: applied they are their functions; rows, columns and diagonal are those of what they make of units."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch

from nystrom_numerics import attention, errors
from nystrom_numerics.attention import AttentionOperator, TransposedOperator
from tests.attention.operator_cases import (
    ONE,
    ONE_MASK,
    PAIRS,
    THREE,
    TWO,
    crossing,
    every,
    qkv,
)
from tests.contracts import kinds


def agrees(operator, indices=(5, 0, 41, 5), tol=1e-12):
    """Rows, columns and diagonal are those of what the operator makes of units; the matrix."""
    s = operator.apply(np.eye(operator.shape[-1]))
    assert isinstance(operator, AttentionOperator)
    assert s.shape == operator.shape
    at = list(indices)
    mask = operator.query_mask
    if mask is not None:
        if operator.grouped:
            mask = np.reshape(np.broadcast_to(mask, operator.q.shape[:-1]), s.shape[:-1])
        s = s * mask[..., None]
    np.testing.assert_allclose(operator.rows(at), s[..., at, :], rtol=0, atol=tol)
    np.testing.assert_allclose(operator.rows(np.array(at)), s[..., at, :], rtol=0, atol=tol)
    np.testing.assert_allclose(operator.columns(at), s[..., at], rtol=0, atol=tol)
    np.testing.assert_allclose(operator.diagonal(), np.diagonal(s, axis1=-2, axis2=-1), rtol=0, atol=tol)
    transposed_agrees(operator, s, mask, tol)
    return s


def transposed_agrees(operator, s, mask, tol):
    """⟨Ŝv, u⟩ = ⟨v, Ŝᵀu⟩ for all v; what masked queries hold is nothing, and masked keys get nothing."""
    t, u = operator.T, np.random.default_rng(5).standard_normal((*s.shape[:-1], 3))
    expected = np.swapaxes(s, -1, -2) @ u
    if mask is not None:
        u[~np.broadcast_to(mask, s.shape[:-1])] = np.nan
    assert isinstance(t, TransposedOperator)
    assert t.shape == np.swapaxes(s, -1, -2).shape
    np.testing.assert_allclose(t.apply(u), expected, rtol=0, atol=20 * tol)
    np.testing.assert_allclose(t.rows([3, 7]), np.swapaxes(s[..., [3, 7]], -1, -2), rtol=0, atol=tol)
    np.testing.assert_allclose(t.columns([3, 7]), np.swapaxes(s[..., [3, 7], :], -1, -2), rtol=0, atol=tol)
    np.testing.assert_array_equal(t.diagonal(), operator.diagonal())
    assert t.T is operator


@every
@pytest.mark.parametrize("batch", [(), (2, 3)])
def test_applied_it_is_its_function_and_reads_as_what_is_applied(name, batch, rng):
    function, make = PAIRS[name]
    q, k, v = qkv(rng, *batch)
    operator = make(q, k, scale=0.8)
    np.testing.assert_array_equal(operator.apply(v), function(q, k, v, scale=0.8))
    agrees(operator)


@crossing
@pytest.mark.parametrize(("n_q", "n_k"), [(53, 71), (90, 47)])
def test_cross_attention(name, n_q, n_k, rng):
    function, make = PAIRS[name]
    q, k, v = qkv(rng, 2, n_q=n_q, n_k=n_k)
    operator = make(q, k)
    np.testing.assert_array_equal(operator.apply(v), function(q, k, v))
    agrees(operator)


@every
def test_padding_has_zero_rows_and_columns(name, rng):
    function, make = PAIRS[name]
    q, k, v = qkv(rng, 3)
    of_keys = rng.random((3, 60)) < [[0.7], [1.1], [0.5]]
    of_queries = of_keys if name in ONE_MASK else rng.random((3, 60)) < [[0.6], [0.8], [0.5]]
    masks = {"key_mask": of_keys, "query_mask": of_queries}
    for x, mask in ((q, of_queries), (k, of_keys), (v, of_keys)):
        x[~mask] = np.nan
    operator = make(q, k, **masks)
    np.testing.assert_array_equal(operator.apply(v)[of_queries], function(q, k, v, **masks)[of_queries])
    s = agrees(operator)
    everything = operator.rows(range(60))
    assert np.abs(everything[of_queries]).max(axis=-1).min() > 0
    assert not everything[~of_queries].any()
    assert not np.swapaxes(everything, -1, -2)[~of_keys].any()
    spoiled = operator.T.apply(np.full_like(q, np.nan))  # a query that is NaN is none of padding's
    assert not spoiled[~of_keys].any()
    for i in range(3):  # as real tokens among themselves
        short = make(q[i][of_queries[i]], k[i][of_keys[i]])
        np.testing.assert_allclose(
            short.rows(range(short.shape[0])), s[i][of_queries[i]][:, of_keys[i]], rtol=0, atol=1e-11
        )


@every
def test_an_item_without_tokens_is_zero(name, rng):
    q, k, v = qkv(rng, 2)
    mask = np.array([[True], [False]])
    operator = PAIRS[name][1](q, k, key_mask=mask, query_mask=mask)
    assert not operator.T.apply(v)[1].any()
    assert operator.T.apply(v)[0].any()
    assert not operator.rows([0, 9])[1].any()
    assert not operator.columns([0, 9])[1].any()
    assert operator.rows([0, 9])[0].any()
    assert np.isfinite(operator.apply(v)).all()


@every
def test_leading_axes_of_its_own_for_each(name, rng):
    function, make = PAIRS[name]
    q, k, v = qkv(rng, 2, 3)
    for of_q, of_k, of_v in (
        (q, k[:, :1], v),
        (q[0, 0], k[0, 0], v),
        (q[:, :1], k[:1], v[0, 0]),
        (q[0], k, v),
    ):
        operator = make(of_q, of_k)
        got, expected = operator.apply(of_v), function(of_q, of_k, of_v)
        np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-13)
        agrees(operator)


@pytest.mark.parametrize(
    "name", [name for name in PAIRS if name != "causal"]
)  # which takes heads as they come
def test_grouped_heads(name, rng):
    function, make = PAIRS[name]
    q, (_, k, v) = qkv(rng, 2, 6)[0], qkv(rng, 2, 3)
    mask = rng.random((2, 1, 60)) < 0.8
    for masks in ({}, {"key_mask": mask, "query_mask": mask}):
        operator = make(q, k, grouped=True, **masks)
        real = np.broadcast_to(mask if masks else True, (2, 6, 60))
        np.testing.assert_allclose(
            operator.apply(v)[real], function(q, k, v, grouped=True, **masks)[real], rtol=1e-12
        )
        agrees(operator)


@every
def test_lanes(name, lane, dtype, rng):
    q, k, v = (x.astype(dtype) for x in qkv(rng, 2))
    mask = np.arange(60) < np.array([[60], [45]])
    tol = 1e-4 if dtype == "float32" else 1e-10
    for masks in ({}, {"key_mask": mask, "query_mask": mask}):
        made = PAIRS[name][1](q, k, **masks)
        own = PAIRS[name][1](lane(q), lane(k), **{word: lane(x) for word, x in masks.items()})
        assert own.shape == made.shape
        assert own.entries == made.entries
        a, at = lane(q), lane(np.array([7, 0, 59]))
        for got, expected in (
            (own.rows(at), made.rows([7, 0, 59])),
            (own.columns([7, 0, 59]), made.columns([7, 0, 59])),
            (own.diagonal(), made.diagonal()),
            (own.T.apply(lane(v)), made.T.apply(v)),
            (own.apply(lane(v)), made.apply(v)),
        ):
            lane.assert_close(got, expected, a, rtol=tol, atol=tol)


@every
def test_no_item_depends_on_its_batch_mates(name, rng):
    q, k, v = qkv(rng, 3)
    q[1] *= 50
    q[2] = np.nan
    make = PAIRS[name][1]
    together, alone = make(q, k), make(q[:1], k[:1])
    tol = 1e-15 if name == "near_field" else 0.0  # whose strips round by their batch
    for got, expected in (
        (together.rows([4, 9])[0], alone.rows([4, 9])[0]),
        (together.diagonal()[0], alone.diagonal()[0]),
        (together.apply(v)[0], alone.apply(v[:1])[0]),
        (together.T.apply(v)[0], alone.T.apply(v[:1])[0]),
    ):
        np.testing.assert_allclose(got, expected, rtol=0, atol=tol * np.abs(expected).max() * 8)
    assert np.isnan(together.rows([4, 9])[2, :, :5]).all()  # of causal attention no more


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@every
def test_half_precision_is_read_in_single(name, dtype):
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 60, 4).to(dtype) for _ in range(3))
    operator = PAIRS[name][1](q, k)
    rows = operator.rows([3, 5])
    assert rows.dtype == torch.float32
    got = operator.apply(v)
    assert got.dtype == operator.T.apply(v).dtype == dtype
    wide = PAIRS[name][1](q.float(), k.float())
    torch.testing.assert_close(rows, wide.rows([3, 5]), rtol=1e-2, atol=1e-2)


@every
def test_it_is_differentiable(name):
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 60, 4, dtype=torch.float64) for _ in range(3))
    make = PAIRS[name][1]
    found = []
    for read in (lambda x: make(x, k).rows(range(60)) @ v, lambda x: make(x, k).apply(v)):
        x = q.clone().requires_grad_()
        found.append(torch.autograd.grad(read(x).square().sum(), x)[0])
    torch.testing.assert_close(*found, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("options", [ONE, TWO, THREE])
def test_entries_of_tangent_are_those_of_its_pilots_and_of_what_queries_face(options, rng):
    q, k, _ = qkv(rng, n_q=64, n_k=80)
    operator = attention.tangent_operator(q, k, **options)
    near = options["near"]
    blocks, groups = (x if isinstance(x, tuple) else (x,) for x in (options["blocks"], options["groups"]))
    share, looked_at, entries = options.get("candidates", 0.25), 80, 64 * (near + sum(groups))
    for count in blocks:
        entries += count * looked_at
        looked_at = max(near, int(np.ceil(share * looked_at)))
    assert operator.entries == entries


def test_entries_are_what_the_documentation_counts(rng):
    q, k, _ = qkv(rng, n_q=50, n_k=70)
    assert attention.exact_operator(q, k).entries == 50 * 70
    assert attention.exact_operator(q, q, causal=True).entries == 50 * 51 // 2
    for make in (attention.nystrom_operator, attention.normalised_operator):
        assert make(q, k, (5, 6)).entries == 50 * 6 + 70 * 5 + 5 * 6
    assert attention.near_field_operator(q, q, 4, block=8).entries == 50 * (2 * 4 + 8 + 2 * 2 + 2) + 4 * 4
    q = rng.standard_normal((512, 8))
    assert attention.tangent_operator(q, q).entries == 128 * 512, "those of 64 landmarks, as its page says"


@pytest.mark.parametrize(
    ("n", "options"),
    [(60, {"block": 8, "near": 5, "group": 2, "routed": 3}), (53, {"block": 7, "near": 90, "routed": 3})],
)
def test_entries_of_causal_attention_are_those_of_its_pairs(n, options, rng):
    q, k, _ = qkv(rng, n_q=n, n_k=n)
    block, near, routed = (options[name] for name in ("block", "near", "routed"))
    group = options.get("group", 7)
    expected = 0
    for i in range(n):
        start = i // block * block
        past = [j for j in range(n) if j < start]
        groups = len(past) // group
        expected += i - start + 1 + min(near, len(past)) + groups + min(routed, groups) * group
        expected += len(past) if i == start else 0  # the pilot's
    assert attention.causal_operator(q, k, **options).entries == expected


@pytest.mark.parametrize(
    "name", ["exact", "nystrom", "tangent", "tangent, two levels", "normalised", "near_field"]
)
def test_few_rows_and_the_diagonal_of_many_tokens_hold_no_square(name):
    n = 20_000
    q, k = np.random.default_rng(0).standard_normal((2, n, 8)).astype("float32")
    operator = PAIRS[name][1](q, k)
    reads = [lambda: operator.rows([0, n // 2, n - 1]), lambda: operator.columns([0, n - 1])]
    if name != "exact":  # whose diagonal takes n² entries, whoever asks
        u = np.ones((n, 1), "float32")
        reads += [operator.diagonal, lambda: operator.T.apply(u)]
    shapes = []
    tracemalloc.start()
    for read in reads:
        shapes.append(read().shape)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert shapes == [(3, n), (n, 2), (n,), (n, 1)][: len(reads)]
    assert peak < 400 * n * 4, "a square has 50 times as many bytes"


# ------------------------------------------------------------------------------------------------ errors


@every
def test_bad_indices_are_named(name, rng):
    q, k, _ = qkv(rng)
    operator = PAIRS[name][1](q, k)
    for word, wrong in kinds.no_indices(None):
        for read in (operator.rows, operator.columns):
            with pytest.raises(errors.ArgumentError) as caught:
                read(wrong)
            assert caught.value.argument == "indices", word
    with pytest.raises(errors.NamespaceError, match="`indices`"):
        operator.rows(torch.tensor([1]))
    with pytest.raises(errors.ShapeError, match="`indices` is empty"):
        operator.columns([])


@every
def test_bad_values_are_named(name, rng):
    q, k, v = qkv(rng)
    operator = PAIRS[name][1](q, k)
    for word, wrong in kinds.as_real(kinds.needs_two_axes, kinds.other_rows)(v):
        for of, argument in ((operator, "v"), (operator.T, "u")):
            with pytest.raises(errors.ArgumentError) as caught:
                of.apply(wrong)
            assert caught.value.argument == argument, word
    with pytest.raises(errors.ShapeError, match="`v`"):
        PAIRS[name][1](np.stack([q, q]), k).apply(np.stack([v] * 3))


@every
def test_its_repr_is_a_line(name, rng):
    q, k, _ = qkv(rng)
    operator = PAIRS[name][1](q, k)
    assert len(repr(operator)) < 1500
    assert len(repr(operator.T)) < 1600
