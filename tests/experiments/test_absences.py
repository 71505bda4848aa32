"""Every claim is judged by what there is: without any one of its inputs, and without all that come as packages."""

from __future__ import annotations

import re
import warnings

import pytest

from experiments import claims
from experiments.contract import PROFILES, Verdict
from experiments.inputs import packages
from tests.experiments.sample import sample

INPUTS = ("input", "data", "text", "task")


def input_of(record):
    return str(next((record.case.params[name] for name in INPUTS if name in record.case.params), ""))


RECORDS = sample()


def judge(name, records, *, draw=True):
    claim = claims.load(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        verdicts = claim.verdicts(records)
        assert all(isinstance(verdict, Verdict) and verdict.because for verdict in verdicts)
        assert not [verdict for verdict in verdicts if re.search(r"\bnan\b", verdict.because)]
        claim.table(records)
        assert not draw or claim.plot(records).axes
    return verdicts


@pytest.mark.parametrize("name", claims.names())
def test_a_claim_is_judged_without_any_one_input(name):
    records = [record for record in RECORDS if record.case.claim == name]
    assert records, "the sample has no record of it; see tests/experiments/sample.py"
    assert judge(name, records)
    for absent in dict.fromkeys(map(input_of, records)):
        rest = [record for record in records if input_of(record) != absent]
        if rest:
            judge(name, rest, draw=False)


@pytest.mark.parametrize(
    "kept", ["MiniLM", "Whisper", "breast cancer", "von Mises", "prescribed", "exponential"]
)
def test_claims_are_judged_by_one_input_alone(kept):
    for name in claims.names():
        rest = [r for r in RECORDS if r.case.claim == name and input_of(r).startswith(kept)]
        if rest:
            judge(name, rest)


def test_a_grid_is_the_same_whatever_is_installed(monkeypatch):
    with_all = {
        (name, profile): claims.load(name).grid(profile) for name in claims.names() for profile in PROFILES
    }
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    assert with_all == {key: claims.load(key[0]).grid(key[1]) for key in with_all}
