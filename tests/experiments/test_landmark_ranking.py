"""The claim on landmarks: its rows, and verdicts that follow planted answers."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.claims import landmark_ranking as claim
from experiments.contract import PROFILES, Case, Outcome, Record
from experiments.errors import NotAvailableError
from experiments.inputs import points


def case(rule, data="breast cancer", **params):
    given = {"data": data, "n": 90, "ms": [6, 12, 24], "rule": rule, "draws": 1 if rule in claim.FIXED else 2}
    return Case("landmark_ranking", given | params)


@pytest.fixture(scope="module")
def records():
    return [
        Record(c, tuple(claim.run(c)), None, 0.0, {})
        for c in (case(rule, data) for data in ("breast cancer", "digits") for rule in claim.RULES)
    ]


def test_rows(records):
    for record in records:
        assert len(record.rows) == 3 * record.case.params["draws"]
        for row in record.rows:
            for name in ("trace", "Frobenius"):
                assert row[f"best {name}"] * (1 - 1e-9) <= row[name] <= 1
            assert row["spectral"] >= row["best spectral"] * 0.99
            assert row["entries"] >= row["m"]
            assert row["seconds"] > 0
            assert 0 <= row["accuracy"] <= 1
            assert row["iterations"] >= 1


def test_the_same_case_gives_the_same_rows():
    one, other = (claim.run(case("RPCholesky")) for _ in range(2))
    timed = {"seconds"}
    assert [{k: v for k, v in row.items() if k not in timed} for row in one] == [
        {k: v for k, v in row.items() if k not in timed} for row in other
    ]


def test_verdicts_table_and_figure(records):
    verdicts = claim.verdicts(records)
    assert len(verdicts) == 2 + 2
    assert all(v.because for v in verdicts)
    table = claim.table(records)
    assert set(table["rule"]) == set(claim.RULES)
    figure = claim.plot(records)
    drawn = [axes for axes in figure.axes if axes.has_data()]
    assert len(drawn) == 5
    line = drawn[0].lines[0]
    assert line.get_label() == "uniform"
    rows = [row for r in records if r.case.params["rule"] == "uniform" for row in r.rows]
    for m, ratio in zip(*line.get_data(), strict=True):
        assert ratio == pytest.approx(np.median([r["trace"] / r["best trace"] for r in rows if r["m"] == m]))


def planted(effect):
    """Records in which one rule has ``effect`` times uniform's error, the others uniform's own."""
    rng = np.random.default_rng(0)
    for rule in claim.RULES:
        c = case(rule, draws=8)
        rows = [
            {
                "m": m,
                "draw": draw,
                "trace": (effect if rule == "k-means" else 1.0) / m * np.exp(0.01 * rng.standard_normal()),
                "entries": m,
                "seconds": 1.0,
                "accuracy": 0.5,
                "iterations": 10,
            }
            for m in c.params["ms"]
            for draw in range(8)
        ]
        yield Record(c, tuple(rows), None, 0.0, {})


@pytest.mark.parametrize(
    ("effect", "outcome"), [(0.7, Outcome.SUPPORTED), (1.0, Outcome.REFUTED), (0.952, Outcome.UNDECIDED)]
)
def test_verdicts_follow_the_numbers(effect, outcome):
    verdict = next(v for v in claim.verdicts(planted(effect)) if v.statement.startswith("breast cancer"))
    assert verdict.outcome is outcome


def test_no_records():
    (verdict,) = claim.verdicts([])
    assert verdict.outcome is Outcome.UNDECIDED


def test_grids():
    for profile in PROFILES:
        cases = claim.grid(profile)
        sets = {c.params["data"] for c in cases}
        assert (
            len({c.key for c in cases})
            == len(cases)
            >= 20 * len(sets)
            >= 20 * (3 if profile == "quick" else 5)
        )


@pytest.mark.parametrize("name", points.LABELLED)
def test_labelled_points(name):
    try:
        data = points.labelled(name, 60)
    except NotAvailableError as missing:
        pytest.skip(str(missing))
    assert data.x.shape[0] == len(data.labels) == 60
    assert np.isfinite(data.x).all()
    assert data.gamma > 0
    assert "60 points" in data.source


@pytest.mark.parametrize(
    ("name", "shape", "classes", "rarest"),
    [("MNIST", (5000, 784), 10, 500), ("letters", (20000, 16), 26, 734), ("spam", (4597, 57), 2, 1812)],
)
def test_a_packaged_data_set_is_the_published_one(name, shape, classes, rarest):
    """Sizes and the rarest class as UCI and mlxtend give them; of UCI's 4,601 messages KEEL leaves 4 out."""
    try:
        x, labels = points.loaded(name)
    except NotAvailableError as missing:
        pytest.skip(str(missing))
    counts = np.bincount(labels)
    assert (x.shape, len(counts), counts.min()) == (shape, classes, rarest)
    if name != "MNIST":
        np.testing.assert_allclose(x.std(axis=0), 1.0)
