"""The claim on the cost over ranks: what is sent is what is counted, and the verdict can go either way."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from experiments.claims import over_ranks
from experiments.contract import Case, Outcome, Record
from experiments.programs.over_ranks import measured

SECONDS = np.asarray([1e-3, 2e-3, 1e-5, 2e-5, 1e-9, 1e-10, 2e-10])


def records(change=1.0, noise=0.0, rounds=9):
    """Of a machine that the model describes, but for the sizes held out, where others at work slow what they meet."""
    rng = np.random.default_rng(0)
    rows = [
        {
            "method": method,
            "n": n,
            "ranks": p,
            "repeat": repeat,
            "backward": False,
            "cpu": over_ranks.predicted(SECONDS, method, n, p, 2)
            * (change if held else 1.0)
            * (1 + noise * rng.random()),
            "wall": 1.0,
            "peak": 0,
            "held_out": held,
        }
        for method in over_ranks.FITTED
        for n, held in [*((n, False) for n in over_ranks.FITTED[method]), (over_ranks.HELD_OUT[method], True)]
        for p in over_ranks.RANKS
        for repeat in range(rounds)
    ]
    return [Record(Case("over_ranks", {"part": "model", "heads": 2}), tuple(rows), None, 0.0, {})]


def long(*shares):
    """Of two ranks that take a share of what one process takes, another in each round."""
    rows = [
        {"repeat": repeat, "method": method, "n": n, "backward": backward, "ranks": p}
        | {"cpu": 10.0 * (share if p == 2 else 1), "wall": 20.0, "peak": int(1e9 * (0.5 if p == 2 else 1))}
        for method in ("nystrom", "tangent")
        for n in over_ranks.LONG
        for backward in (False, True)
        for p in (1, 2)
        for repeat, share in enumerate(shares)
    ]
    return [Record(Case("over_ranks", {"part": "long", "heads": 8}), tuple(rows), None, 0.0, {})]


def test_the_fit_finds_the_machine():
    data = over_ranks.frame(records())
    np.testing.assert_allclose(over_ranks.fitted(data), SECONDS, rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "noise", "outcome"),
    [
        (1.0, 0.0, Outcome.SUPPORTED),
        (1.0, 0.3, Outcome.SUPPORTED),
        (1.5, 0.3, Outcome.REFUTED),
        (0.5, 0.3, Outcome.REFUTED),
        (1.0, 6.0, Outcome.UNDECIDED),
        (1.33, 0.3, Outcome.UNDECIDED),
    ],
)
def test_the_verdict_goes_every_way(change, noise, outcome):
    """What others disturb leaves it open, and does not turn it."""
    (verdict,) = over_ranks.verdicts(records(change, noise))
    assert verdict.outcome is outcome, verdict
    assert "extrapolation" in verdict.because
    assert over_ranks.verdicts(records(change, noise, 1))[0].outcome is Outcome.UNDECIDED
    assert over_ranks.verdicts([])[0].outcome is Outcome.UNDECIDED


def test_what_two_ranks_save():
    found = [verdict.outcome for verdict in over_ranks.verdicts([*records(), *long(0.52)])]
    assert found == [Outcome.SUPPORTED] * 3
    for shares, time in (((0.7, 0.61), Outcome.REFUTED), ((0.5, 0.5, 0.61), Outcome.UNDECIDED)):
        found = [verdict.outcome for verdict in over_ranks.verdicts([*records(), *long(*shares)])]
        assert found == [Outcome.SUPPORTED, time, Outcome.SUPPORTED]
    assert len(over_ranks.table([*records(), *long(0.52)])) == 24 + 16


def test_what_is_run():
    assert len(over_ranks.grid("quick")) == 1
    assert [case.params["part"] for case in over_ranks.grid("full")] == ["model"] + 7 * ["long"]


def test_figure_and_table():
    assert len(over_ranks.table(records())) == 24
    assert len(over_ranks.plot(records()).axes) == 2


def test_a_small_run():
    """Every run of every number of ranks, in every round; a derivative takes longer, and more memory."""
    runs = [["nystrom", 65536, False], ["nystrom", 65536, True], ["exact", 32, False]]
    sizes = {"heads": 2, "width": 8, "landmarks": 4, "at_once": 1}
    rows = measured({**sizes, "ranks": [1, 2], "repeats": 2, "span": 0.002, "runs": runs})
    assert sorted(
        (row["repeat"], row["ranks"], row["method"], row["n"], row["backward"]) for row in rows
    ) == sorted((repeat, p, *one) for repeat in (1, 2) for p in (1, 2) for one in map(tuple, runs))
    assert all(row["cpu"] > 0 and row["wall"] > 0 for row in rows)
    if sys.platform == "linux":
        most = {(row["ranks"], row["backward"]): row["peak"] for row in rows if row["method"] == "nystrom"}
        tokens = 4 * 8 * 65536  # one array: q, k, v and outputs, and as many cotangents
        assert most[1, False] > 4 * tokens
        assert most[1, True] > max(7 * tokens, most[1, False])
        assert most[2, True] < most[1, True]


def test_what_is_sent():
    """By two ranks: the formulas that tests/distributed counts, a sum over two ranks sending once what it sums."""
    heads, m, d = 3, over_ranks.LANDMARKS, over_ranks.WIDTH
    _, exact = over_ranks.sent("exact", 100, 2, heads)
    assert exact == over_ranks.COMPARED + heads * 50 * 2 * d * 4
    _, nystrom = over_ranks.sent("nystrom", 100, 2, heads)
    assert nystrom == over_ranks.COMPARED + heads * 4 * (2 * m * d + m + m * (d + 1))
