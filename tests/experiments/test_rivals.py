"""The rivals: tiny cases by hand, exact where their entries are all there are, and entries counted."""

from __future__ import annotations

from math import exp, log

import numpy as np
import pytest

from experiments import rivals
from experiments.rivals import coreset, sorted_lsh

N, D, M = 64, 4, 16
EYE = np.eye(N)


@pytest.fixture(scope="module")
def head():
    return tuple(np.random.default_rng(0).standard_normal((3, N, D)))


def softmax(scores):
    weights = np.exp(scores)
    return weights / weights.sum(axis=1, keepdims=True)


def only(name, q, k, v, m, scale=1.0):
    return rivals.answers(name, q, k, v, m, scale=scale, seeds=[0])[0]


class Draws:
    """A generator whose draws are known beforehand, and which keeps the probabilities it was asked for."""

    def __init__(self, *drawn, directions=None):
        self.drawn, self.directions, self.p = np.array(drawn), directions, []

    def standard_normal(self, shape):
        assert self.directions.shape == shape
        return self.directions

    def integers(self, high, size):
        assert size == len(self.drawn)
        assert (self.drawn < high).all()
        return self.drawn

    def choice(self, n, size=None, p=None):
        assert len(p) == n
        self.p.append(p)
        if size is not None:
            assert size == len(self.drawn)
            return self.drawn
        first, self.drawn = self.drawn[0], self.drawn[1:]
        return first


# ---------------------------------------------------------------- what holds of all


@pytest.mark.parametrize("name", rivals.RIVALS)
def test_entries_are_those_of_nystrom(name, head):
    most = 2 * M * N
    entries = only(name, *head, M).entries
    if name == "MRA-2":
        assert most - 64 < entries <= most  # less than one block of 8 × 8 is left
    else:
        assert entries == most


@pytest.mark.parametrize("name", [name for name in rivals.RIVALS if name != "WildCat"])
def test_rows_are_weights(name, head):
    s = only(name, *head[:2], EYE, M).output
    assert (s >= 0).all()
    np.testing.assert_allclose(s.sum(axis=1), 1.0, rtol=1e-13)


def test_wildcat_stays_in_the_range_of_values(head):
    q, k, v = head
    output = only("WildCat", 4 * q, k, v, 8).output
    assert (output >= v.min(axis=0)).all()
    assert (output <= v.max(axis=0)).all()
    np.testing.assert_allclose(only("WildCat", q, k, np.ones((N, 1)), 8).output, 1.0)


@pytest.mark.parametrize(
    ("name", "m"),
    [
        ("window with sinks", N // 2),
        ("top keys (oracle)", N // 2),
        ("MRA-2", N // 2 + 1),  # 64 entries for the blocks themselves: 2n more than n² hold them
        ("HyperAttention", N),
        ("WildCat", N),
    ],
)
def test_exact_where_the_entries_are_all_there_are(name, m, head):
    q, k, v = head
    exact = softmax(0.5 * q @ k.T) @ v
    answer = only(name, q, k, v, m, scale=0.5)
    assert answer.entries >= N * N
    # WildCat solves with a factor whose condition number, 1.2e4 here, times n ε is 2e-10; the others only round
    np.testing.assert_allclose(answer.output, exact, atol=1e-9 if name == "WildCat" else 1e-13)
    assert np.abs(only(name, q, k, v, m // 8, scale=0.5).output - exact).max() > 1e-2


@pytest.mark.parametrize("name", rivals.RIVALS)
def test_a_seed_fixes_the_draw(name, head):
    one, same, other = (
        rivals.answers(name, *head, M, scale=1.0, seeds=seeds) for seeds in ([3], [3], [4, 5])
    )
    np.testing.assert_array_equal(one[0].output, same[0].output)
    assert len(other) == (2 if name in rivals.DRAWN else 1)
    assert np.array_equal(one[0].output, other[0].output) == (name in rivals.FIXED)


# ---------------------------------------------------------------- by hand


def test_window_with_sinks_by_hand():
    """Of 12 keys six are met: the first four, and two beside the query, none of them a sink."""
    zero = np.zeros((12, 1))
    answer = rivals.window_with_sinks(zero, zero, np.eye(12), 3, scale=1.0)
    for query, window in [(0, (4, 5)), (5, (4, 5)), (7, (6, 7)), (11, (10, 11))]:
        expected = np.zeros(12)
        expected[[0, 1, 2, 3, *window]] = 1 / 6
        np.testing.assert_allclose(answer.output[query], expected)
    assert answer.entries == 72


def test_top_keys_by_hand():
    q, k = np.array([[1.0], [-1.0]]), np.log([[2.0], [1.0], [4.0]])
    output = rivals.top_keys(np.vstack([q, q[:1]]), k, np.eye(3), 1, scale=1.0).output
    np.testing.assert_allclose(output, [[1 / 3, 0, 2 / 3], [1 / 3, 2 / 3, 0], [1 / 3, 0, 2 / 3]])


def test_mra_2_by_hand():
    """Means 1, 2, 1 of queries and 2, 0, 0 of keys, blocks of 2, 2 and 1: the first column of blocks is refined."""
    q, k = np.array([[0.0, 2, 0, 4, 1]]).T, np.array([[1.0, 3, -1, 1, 0]]).T
    answer = rivals.mra_2(q, k, np.eye(5), 2, scale=1.0, block=2)
    scores = np.hstack([q @ k[:2].T, np.zeros((5, 3))])
    np.testing.assert_allclose(answer.output, softmax(scores))
    assert answer.entries == 9 + 10


def test_mra_2_refines_the_largest_block_of_every_row():
    """Both blocks of the second row are larger than those of the first: three of four are refined."""
    q, k = np.array([[0.0, 0.2, 4, 6]]).T, np.array([[0.0, 2, 0.4, 1.4]]).T
    output = rivals.mra_2(q, k, np.eye(4), 2, scale=1.0, block=2).output
    exact = softmax(q @ k.T)
    np.testing.assert_allclose(output[:2], exact[:2])
    scores = np.hstack([q[2:] @ k[:2].T, np.full((2, 2), 5 * 0.9)])
    np.testing.assert_allclose(output[2:], softmax(scores))


CORNERS = np.array([[-1.0, -1], [1, -1], [1, 1], [-1, 1]])
"""In the order of their buckets for the two directions of the axes: neighbours differ by one sign."""


def test_buckets_stand_in_an_order_of_neighbours():
    np.testing.assert_array_equal(sorted_lsh.hashes(CORNERS, np.eye(2)), [0, 1, 2, 3])
    every = np.array(
        [[bit if code >> i & 1 else -bit for i, bit in enumerate([1.0] * 5)] for code in range(32)]
    )
    place = sorted_lsh.hashes(every, np.eye(5))
    assert sorted(place) == list(range(32))
    assert (np.abs(np.diff(every[np.argsort(place)], axis=0)).sum(axis=1) == 2).all()


def test_hyper_attention_by_hand():
    """Blocks are corners 0, 1 and 2, 3, in any order; key 0, drawn twice of 2, has a weight of 4 outside its block."""
    directions = np.zeros((2, sorted_lsh.PROJECTIONS))
    directions[:, :2] = np.eye(2)
    mixed = [2, 0, 3, 1]
    answer = rivals.hyper_attention(
        CORNERS[mixed], CORNERS, np.eye(4), 2, scale=1.0, rng=Draws(0, 0, directions=directions)
    )
    weights = np.array([[exp(2), 1, 0, 0], [1, exp(2), 0, 0], [4 * exp(-2), 0, exp(2), 1], [4, 0, 1, exp(2)]])
    np.testing.assert_allclose(answer.output, (weights / weights.sum(axis=1, keepdims=True))[mixed])
    assert answer.entries == 8 + 8


def test_kdeformer_by_hand():
    """S has rows (1/2, 1/2) and (1/4, 3/4), so columns of norms √5/4 and √13/4."""
    q, k, rng = np.array([[0.0], [log(3)]]), np.array([[0.0], [1.0]]), Draws(0, 1)
    output = rivals.kdeformer(q, k, np.eye(2), 1, scale=1.0, rng=rng).output
    a, b = np.sqrt([5, 13]) / (np.sqrt(5) + np.sqrt(13))
    np.testing.assert_allclose(rng.p[0], [a, b])
    np.testing.assert_allclose(output, [[b, a], [b / (b + 3 * a), 3 * a / (b + 3 * a)]])
    alone = rivals.kdeformer(q, k, np.eye(2), 1, scale=1.0, rng=Draws(1, 1)).output
    np.testing.assert_allclose(alone, [[0, 1], [0, 1]])


def test_wildcat_by_hand():
    """One key of three: every query has its Nyström weights, h(s, k)/h(s, s), of the centred keys."""
    q, k, rng = np.array([[1.0], [2], [-2]]), np.array([[0.0], [1], [5]]), Draws(2)
    answer = rivals.wildcat(q, k, np.eye(3), 1, scale=0.5, rng=rng)
    centred = k[:, 0] - 2
    tau = coreset.temperature(q, centred[:, None], 0.5)
    h = np.exp(0.5 * np.outer(centred, centred) / tau**2)
    np.testing.assert_allclose(rng.p[0], np.diag(h) / np.trace(h))
    np.testing.assert_allclose(answer.output, np.tile(h[2] / h[2].sum(), (3, 1)))
    assert answer.entries == 6


def test_wildcat_solves_with_its_kernel(head):
    """The factor's weights are those of the formula: Â = exp(QK_Sᵀ) h(S, S)⁻¹ h(S, K)."""
    q, k, v = head
    k = k - k.mean(axis=0)
    tau = coreset.temperature(q, k, 0.5)
    chosen, _ = coreset.pivoted(k * 0.5**0.5 / tau, 8, np.random.default_rng(0))
    assert len(set(chosen)) == 8
    h = np.exp(0.5 * k @ k.T / tau**2)
    a = np.exp(0.5 * q @ k[chosen].T) @ np.linalg.solve(h[np.ix_(chosen, chosen)], h[chosen])
    expected = np.clip(a @ v / a.sum(axis=1, keepdims=True), v.min(axis=0), v.max(axis=0))
    np.testing.assert_allclose(only("WildCat", *head, 8, scale=0.5).output, expected, rtol=1e-8)


def test_the_next_pivot_is_drawn_from_what_is_left(head):
    k, rng = head[1], Draws(7, 30)
    coreset.pivoted(k, 2, rng)
    h = np.exp(k @ k.T)
    left = np.diag(h) - h[7] ** 2 / h[7, 7]
    np.testing.assert_allclose(rng.p[1], left / left.sum(), atol=1e-14)


def test_pivots_stop_where_nothing_is_left():
    chosen, factor = coreset.pivoted(np.array([[0.0], [1], [1], [0]]), 4, np.random.default_rng(0))
    assert len(chosen) == factor.shape[1] == 2


def test_the_temperature_solves_its_equation():
    q, k, scale = np.full((9, 1), 3.0), np.full((9, 1), -2.0), 0.25
    tau = coreset.temperature(q, k, scale)
    b = 2 + log(9) / (scale * 6)
    w = 2 / 3 * b / (2 * tau**2)
    assert w * exp(w) == pytest.approx(b / 6.383202050647408)  # 2ρ, as the authors print it
