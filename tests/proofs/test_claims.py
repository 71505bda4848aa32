"""The contract over every claim, and the counts that the project promises."""

from collections import Counter
from types import ModuleType

import pytest

from proofs_check import Result, claims, coq
from proofs_check.contract import Claim, Method, Outcome

CLAIMS = claims()
REQUIRED_IN_COQ = {
    "eq14_residual",
    "nystrom_residual_psd",
    "backward_error",
    "norm_product",
    "row_sums",
    "row_exactness",
}


@pytest.fixture(params=CLAIMS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def module(name: str) -> ModuleType:
    return CLAIMS[name]


def test_the_contract_is_complete(module: ModuleType) -> None:
    assert module.__doc__
    assert module.STATEMENT
    assert module.FORMULA
    assert module.SOURCE
    assert isinstance(module.METHOD, Method)
    assert isinstance(module.CLAIM, Claim)
    assert isinstance(module.NEGATIVE_CONTROL, Claim)
    assert module.NEGATIVE_CONTROL != module.CLAIM
    assert tuple(module.CLAIM.hypotheses.values()) == module.HYPOTHESES


def test_what_is_shown_is_filled_from_what_is_checked(module: ModuleType) -> None:
    claim = module.CLAIM
    assert claim.sentence() == module.STATEMENT
    assert claim.rendered_formula() == module.FORMULA
    templates = claim.text + claim.formula + "".join(theorem.statement for theorem in claim.theorems)
    for constant in claim.constants:
        assert f"${constant}" in templates or f"${{{constant}}}" in templates, (
            f"{constant} is checked, not shown"
        )


def test_every_hypothesis_of_a_theorem_is_pinned(module: ModuleType) -> None:
    pinned = {premise for theorem in module.CLAIM.theorems for premise in theorem.premises}
    if module.METHOD is Method.COQ:
        assert pinned == set(module.CLAIM.hypotheses)


def test_the_verdict_is_what_its_method_may_say(name: str, results: dict[str, Result]) -> None:
    result = results[name]
    assert result.verdict.outcome is result.module.METHOD.success, result.verdict
    assert result.verdict.number


def test_the_negative_control_is_refuted(name: str, results: dict[str, Result]) -> None:
    assert results[name].control.outcome is Outcome.FAILED, results[name].control
    assert results[name].passed


def test_the_promised_counts(results: dict[str, Result]) -> None:
    counts = Counter(result.verdict.outcome for result in results.values())
    in_coq = {name for name, result in results.items() if result.module.METHOD is Method.COQ}
    assert len(results) >= 30
    assert len(in_coq) >= 10
    assert in_coq >= REQUIRED_IN_COQ
    assert counts[Outcome.CERTIFIED] >= 8
    assert counts[Outcome.REFUTED] >= 5


def test_coq_theorems_are_about_every_size() -> None:
    for module in CLAIMS.values():
        for theorem in module.CLAIM.theorems:
            statement = coq.source(theorem.file).theorems()[theorem.name][0]
            sized = "nat)" in statement and "forall" in statement
            assert sized, f"{theorem.name} is not quantified over a size"


@pytest.mark.usefixtures("needs_coq")
def test_no_theorem_rests_on_an_axiom() -> None:
    for name in coq.sources():
        audits = coq.audit(name, coq.SOURCES)
        assert audits
        assert all(audit.clean for audit in audits.values()), audits


def test_coq_sources_are_short_and_all_used() -> None:
    used = {theorem.name for module in CLAIMS.values() for theorem in module.CLAIM.theorems}
    for source in coq.sources().values():
        assert not source.escapes()
        assert len(source.text.splitlines()) <= 300
        unused = set(source.theorems()) - used
        assert not unused, f"{source.name}.v proves {unused}, which no claim uses"


def test_refutations_show_a_counterexample_and_a_correction(results: dict[str, Result]) -> None:
    for result in results.values():
        if result.verdict.outcome is Outcome.REFUTED:
            assert "Corrected statement" in result.verdict.detail
            assert len(result.verdict.detail) > 40
