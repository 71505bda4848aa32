"""The claim on the cost over ranks: what is sent is what is counted, and the verdict can go either way."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.claims import over_ranks
from experiments.contract import Case, Outcome, Record
from experiments.over_ranks import measured

SECONDS = np.asarray([1e-3, 1e-5, 1e-9, 1e-10, 2e-10])


def records(change=1.0):
    """Of a machine that the model describes, but for the sizes held out."""
    rows = [
        {
            "method": method,
            "n": n,
            "ranks": p,
            "cpu": over_ranks.predicted(SECONDS, method, n, p, 2) * (change if held else 1.0),
            "wall": 1.0,
            "held_out": held,
        }
        for method in over_ranks.FITTED
        for n, held in [*((n, False) for n in over_ranks.FITTED[method]), (over_ranks.HELD_OUT[method], True)]
        for p in over_ranks.RANKS
    ]
    return [Record(Case("over_ranks", {"heads": 2, "repeats": 3}), tuple(rows), None, 0.0, {})]


def test_the_fit_finds_the_machine():
    data = over_ranks.frame(records())
    np.testing.assert_allclose(over_ranks.fitted(data), SECONDS, rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "outcome"), [(1.0, Outcome.SUPPORTED), (1.5, Outcome.REFUTED), (0.5, Outcome.REFUTED)]
)
def test_the_verdict_goes_either_way(change, outcome):
    (verdict,) = over_ranks.verdicts(records(change))
    assert verdict.outcome is outcome
    assert "extrapolation" in verdict.because
    assert over_ranks.verdicts([])[0].outcome is Outcome.UNDECIDED


def test_figure_and_table():
    assert len(over_ranks.table(records())) == 24
    assert len(over_ranks.plot(records()).axes) == 2


def test_a_small_run():
    """Every run of every number of ranks, in order."""
    rows = measured(
        {
            "ranks": [1, 2],
            "heads": 2,
            "width": 8,
            "landmarks": 4,
            "repeats": 1,
            "runs": [["nystrom", 64], ["exact", 32]],
        }
    )
    assert [(row["ranks"], row["method"], row["n"]) for row in rows] == [
        (p, method, n) for p in (1, 2) for method, n in (("nystrom", 64), ("exact", 32))
    ]
    assert all(row["cpu"] > 0 for row in rows)


def test_what_is_sent():
    """By two ranks: the formulas that tests/distributed counts, a sum over two ranks sending once what it sums."""
    heads, m, d = 3, over_ranks.LANDMARKS, over_ranks.WIDTH
    _, exact = over_ranks.sent("exact", 100, 2, heads)
    assert exact == over_ranks.COMPARED + heads * 50 * 2 * d * 4
    _, nystrom = over_ranks.sent("nystrom", 100, 2, heads)
    assert nystrom == over_ranks.COMPARED + heads * 4 * (2 * m * d + m + m * (d + 1))
