"""Betting: the interval holds for any population, also where an asymptotic one does not."""

from __future__ import annotations

import numpy as np
import pytest

from nystrom_numerics.attention.row_sampling import proportional, sampled, sampled_within
from nystrom_numerics.bounds.betting import BETS, Batch, lower_end, upper_end
from tests.thorough import many


def test_ends_are_where_the_capital_passes():
    """Naively: the products of factors, averaged over bets."""
    rng = np.random.default_rng(0)
    batch = Batch(np.array([2.0]), rng.random((1, 30)), np.array([1.5]))
    y = batch.drawn[0]

    def capital(total, side):
        m = (total - 2.0) / 30
        factors = (m - y) / (1.5 - m) if side == "upper" else y / m - 1
        return np.mean([np.prod(1 + b * factors) for b in BETS])

    high, low = upper_end([batch], 0, 0.01, 40.0), lower_end([batch], 0, 0.01, 2.0)
    assert capital(high, "upper") == pytest.approx(100, rel=1e-3)
    assert capital(low, "lower") == pytest.approx(100, rel=1e-3)
    assert low < 2 + y.sum() < high
    assert upper_end([batch], 0, 0.01, high - 0.1) == high - 0.1
    assert upper_end([], 0, 0.01, 7.0) == 7.0
    assert lower_end([], 0, 0.01, 3.0) == 3.0
    two = [batch, Batch(np.array([5.0]), y[None, :20], np.array([1.5]))]
    assert upper_end(two, 0, 0.01, 40.0) < high + 3


def heavy(n, rare, rng):
    """Errors of which a few, that nothing predicts, hold most."""
    x = 1e-3 * rng.random(n)
    x[rng.choice(n, rare, replace=False)] = 1.0
    return x


def test_heavy_tails_break_the_asymptotic_interval_alone():
    """2,000 and more draws from populations of few large rows: asymptotic at 95 %, and guaranteed."""
    rng, held, trials = np.random.default_rng(1), np.zeros(2), 0
    for _ in range(5):
        x = heavy(200, 4, rng)
        limits = np.full((1, 200), 1.0)

        def look(some, x=x):
            return x[None, some], np.zeros(0)

        for seed in range(many(400, 40)):
            told = sampled(200, 40, look, lambda *_: np.ones(200), 0.05, np.random.default_rng(seed), limits)
            reach = told.quantile * told.spread[0] / (2 * told.totals[0])
            held[0] += abs(np.log(x.sum() / told.totals[0])) / 2 <= reach
            low = lower_end(told.batches, 0, 0.025, told.known.sum())
            high = upper_end(told.batches, 0, 0.025, told.most[0])
            assert low <= told.most[0]
            held[1] += low * (1 - 1e-6) <= x.sum() <= high * (1 + 1e-6)
            trials += 1
    assert held[0] / trials < 0.8
    assert held[1] / trials > 0.94


def test_what_limits_say_narrows_what_is_guaranteed():
    """Limits that are twice the truth: from a quarter of the rows within a factor of two of the sum."""
    rng = np.random.default_rng(2)
    x = rng.random(400) + 0.1
    told = sampled(400, 100, lambda i: (x[None, i], np.zeros(0)), lambda *_: x, 0.01, rng, 2 * x[None])
    low, high = (f(told.batches, 0, 0.005, m) for f, m in ((lower_end, 0.0), (upper_end, told.most[0])))
    assert x.sum() / 1.2 < low < x.sum() < high < 1.3 * x.sum()
    assert high < told.most[0]


@pytest.mark.parametrize("count", [5, 17])
def test_strata_are_unbiased_and_distinct(count):
    rng = np.random.default_rng(3)
    sizes, x = rng.random(30) + 0.2, rng.random((2, 30))
    totals = []
    for _ in range(many(4000, 800)):
        drawn = proportional(sizes, count, rng)
        assert len(set(drawn.chosen)) == count
        totals.append(drawn.weighed(x[:, drawn.chosen]).sum(axis=1))
    totals = np.array(totals)
    assert (abs(totals.mean(axis=0) - x.sum(axis=1)) < 4 * totals.std(axis=0) / len(totals) ** 0.5).all()


def test_looks_until_it_is_narrow_and_what_that_takes():
    rng, n = np.random.default_rng(4), 600
    hint = rng.lognormal(0, 1.0, n)
    held, rows = 0, []
    for seed in range(many(200, 60)):
        x = hint * rng.lognormal(0, 0.8, n)
        told = sampled_within(
            n,
            64,
            300,
            0.2,
            1,
            lambda i, x=x: (x[None, i], np.zeros(0)),
            lambda *_: np.column_stack([np.ones(n), hint]),
            0.01,
            np.random.default_rng(seed),
        )
        assert len(told.seen) == len(set(told.seen)) <= 300
        assert told.half_width() == pytest.approx(0.2) or told.needed > 300
        held += 1 / 1.2 <= (told.totals[0] / x.sum()) ** 0.5 <= 1.2
        rows.append(len(told.seen))
    assert held / len(rows) >= 0.98
    assert 64 <= np.median(rows) < 300


def test_what_cannot_be_narrow_says_how_much_it_takes():
    x = np.random.default_rng(5).pareto(0.7, 500)
    told = sampled_within(
        500, 40, 100, 0.05, 1, lambda i: (x[None, i], np.zeros(0)), lambda *_: np.ones((500, 1)), 0.01,
        np.random.default_rng(0),
    )  # fmt: skip
    assert len(told.seen) == 100
    assert told.half_width() > 0.05
    assert 100 < told.needed <= 500
    whole = sampled_within(
        500, 40, 500, 0.01, 1, lambda i: (x[None, i], np.zeros(0)), lambda *_: np.ones((500, 1)), 0.01,
        np.random.default_rng(0),
    )  # fmt: skip
    assert whole.probability == 1
    assert whole.totals[0] == pytest.approx(x.sum())


def test_suspects_are_looked_at_first():
    x = np.full(300, 1e-3)
    x[[50, 51, 170]] = 1.0
    told = sampled_within(
        300, 40, 150, 0.2, 1, lambda i: (x[None, i], np.zeros(0)), lambda *_: np.ones((300, 1)), 0.01,
        np.random.default_rng(0), suspects=np.argsort(-x),
    )  # fmt: skip
    assert {50, 51, 170} <= set(told.seen.tolist())
    assert told.totals[0] == pytest.approx(x.sum(), rel=1e-2)
