"""The claims on tangents: what its parts earn, and how the budget of an error grows with the length."""

from __future__ import annotations

import importlib.util

import numpy as np
import pandas as pd
import pytest

from experiments import claims
from experiments.contract import Case, Outcome, Record
from experiments.inputs import packages
from nystrom_numerics import attention

SUPPORTED, REFUTED, UNDECIDED = Outcome.SUPPORTED, Outcome.REFUTED, Outcome.UNDECIDED
ABSENT = [x.remedy for x in (packages.MINILM, packages.REVIEWS) if importlib.util.find_spec(x.module) is None]
needs_minilm = pytest.mark.skipif(bool(ABSENT), reason=", ".join(ABSENT))


@pytest.fixture(scope="module")
def growth():
    return claims.load("budget_growth")


@pytest.fixture(scope="module")
def parts():
    return claims.load("tangent_parts")


def records(name, rows_of):
    """A record a length or layer: (params, rows)."""
    return [
        Record(Case(name, {"input": "MiniLM", **p}, 0), tuple(rows), None, 0.0, {}) for p, rows in rows_of
    ]


# ---------------------------------------------------------------- budget_growth


def test_entries_are_read_off_a_line_through_logarithms(growth):
    entries, errors = [16, 64, 256], [0.2, 0.1, 0.025]
    assert growth.needed(entries, errors, 512) == pytest.approx(128)
    assert growth.needed(entries[::-1], errors[::-1], 512) == pytest.approx(128)
    assert growth.needed(entries, [0.04, 0.03, 0.0], 512) == pytest.approx(16)
    assert growth.needed(entries, [0.2, 0.1, 0.06], 512) == 512
    assert growth.needed(entries, [0.2, 0.1, 0.025], 100) == 100


def test_the_exponent_is_that_of_the_median_and_its_interval_that_of_the_heads(growth, rng):
    n = np.array([128, 256, 512])
    wide = pd.DataFrame(n**0.5 * np.exp(0.1 * rng.standard_normal((40, 1))), columns=n)
    assert growth.exponent(wide, rng) == pytest.approx((0.5, 0.5, 0.5))
    value, low, high = growth.exponent(wide * np.exp(0.2 * rng.standard_normal(wide.shape)), rng)
    assert low < value < high
    assert low < 0.5 < high
    assert 0.02 < high - low < 0.5


@pytest.mark.parametrize(
    ("power", "outcome"),
    [(0.0, SUPPORTED), (0.8, REFUTED), (0.1, UNDECIDED)],
    ids=["flat", "grows", "at the edge"],
)
def test_growth_is_judged_by_its_interval(growth, power, outcome, rng):
    """Errors (64 n^p / entries) · 5 %: 64 n^p entries are needed."""
    rows_of = [
        (
            {"layer": 0, "n": n},
            [
                {"head": h, "estimator": "tangent", "m": m, "entries": 2 * m, "error": e}
                for h in range(12)
                for scatter in [np.exp(0.2 * rng.standard_normal())]
                for m in (8, 16, 32, 64, 128)
                for e in [0.05 * 64 * scatter * (n / 128) ** power / (2 * m)]
            ],
        )
        for n in (128, 256, 512)
    ]
    (verdict,) = growth.verdicts(records("budget_growth", rows_of))
    assert verdict.outcome is outcome, verdict.because
    assert growth.verdicts([])[0].outcome is UNDECIDED


@needs_minilm
def test_growth_runs(growth):
    made = [
        Record(case, tuple(growth.run(case)), None, 0.0, {})
        for case in growth.grid("quick")
        if case.params["layer"] == 0
    ]
    data = growth.table(made)
    assert set(data["estimator"]) == set(growth.NAMES)
    assert (data["0.25 quantile"] <= data["0.75 quantile"]).all()
    assert (data["0.5 quantile"] <= data["n"]).all()
    assert len(growth.plot(made).axes) == 2
    assert [v.outcome for v in growth.verdicts(made) if "paper" in v.statement] == [REFUTED]


# ---------------------------------------------------------------- tangent_parts


@pytest.mark.parametrize("n", [96, 101])
def test_the_matrix_with_all_parts_is_that_of_the_estimator(parts, n, rng):
    q, k = rng.standard_normal((2, n, 6))
    got = parts.tangent_matrix(q, k, 0.7, near=9, groups=5)
    expected = attention.tangent(q, k, np.eye(n), blocks=parts.BLOCKS, near=9, groups=5, scale=0.7)
    np.testing.assert_allclose(got, expected, rtol=1e-8, atol=1e-12)


def test_each_part_left_out_changes_the_matrix_and_leaves_rows_that_sum_to_one(parts, rng):
    q, k = 2 * rng.standard_normal((2, 128, 6)).cumsum(axis=1) / 8
    whole = parts.tangent_matrix(q, k, 0.7)
    for name, options in parts.PARTS.items():
        got = parts.tangent_matrix(q, k, 0.7, **options)
        np.testing.assert_allclose(got.sum(axis=1), 1, rtol=1e-12)
        assert np.abs(got - whole).max() > 1e-6, name


def test_parts_are_judged_head_by_head(parts):
    def rows(ratio):
        return [
            {"head": h, "without": name, "S": 0.1 * (ratio if name != parts.WHOLE else 1)}
            for h in range(20)
            for name in (parts.WHOLE, *parts.PARTS)
        ]

    for ratio, outcome in ((1.5, SUPPORTED), (0.5, REFUTED)):
        made = records("tangent_parts", [({"layer": 0}, rows(ratio))])
        assert {v.outcome for v in parts.verdicts(made)} == {outcome}
        assert f"median ratio {ratio:.2f}" in parts.verdicts(made)[0].because
    assert parts.verdicts([])[0].outcome is UNDECIDED


@needs_minilm
def test_parts_run(parts):
    case = Case("tangent_parts", {"input": "MiniLM", "layer": 1, "heads": [0, 3]})
    made = [Record(case, tuple(parts.run(case)), None, 0.0, {})]
    median = parts.table(made).set_index("without")["median"]
    assert median.idxmin() == parts.WHOLE
    assert len(parts.plot(made).axes) == 1


# ---------------------------------------------------------------- chosen_budgets


def within(claim, count, of):
    rows = [
        {
            "head": h,
            "tolerance": 0.1,
            "m": 16,
            "error": 0.05 if h < count else 0.2,
            "upper": 0.09,
            "entries": 0.25,
            "spent": 2.0,
            "time": 3.0,
        }
        for h in range(of)
    ]
    return claim.verdicts(records("chosen_budgets", [({"layer": 0, "text": 0}, rows)]))[0]


def test_tolerances_are_judged_by_the_share_of_heads():
    claim = claims.load("chosen_budgets")
    assert within(claim, 40, 40).outcome is SUPPORTED
    assert within(claim, 37, 40).outcome is UNDECIDED
    told = within(claim, 20, 40)
    assert told.outcome is REFUTED
    assert "20 of 40" in told.because
    assert "0.20: 0.200" in told.because
    assert "3.0 times the time" in told.because
    assert (
        "the certified end holding on 20 of them (95 % interval of Clopper and Pearson 34% to 66%)"
        in told.because
    )
    assert claim.verdicts([])[0].outcome is UNDECIDED


@needs_minilm
def test_tolerances_run():
    claim = claims.load("chosen_budgets")
    case = claim.grid("quick")[0]
    made = [Record(case, tuple(claim.run(case)), None, 0.0, {})]
    rows = pd.DataFrame(made[0].rows)
    assert len(rows) == 12 * len(claim.ERRORS)
    chosen = rows[rows["m"] > 0]
    assert (chosen["upper"] <= chosen["tolerance"]).all()
    assert (chosen["error"] <= chosen["upper"]).mean() > 0.9
    exact = rows[rows["m"] == 0]
    assert (exact["entries"] == 1).all()
    assert (exact["error"] < 1e-5).all()
    assert (claim.table(made)["heads"] == 12).all()
    assert len(claim.plot(made).axes) == 2
