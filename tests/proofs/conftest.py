"""The claims are checked once; the tests read the results."""

import pytest

from proofs_check import Result, coq, iterate


@pytest.fixture(scope="session")
def results(needs_coq: None) -> dict[str, Result]:
    return {result.name: result for result in iterate()}


@pytest.fixture(scope="session")
def needs_coq() -> None:
    """Marks a test that compiles or runs Coq."""
    if coq.coqc() is None:
        pytest.skip("Coq is absent: install coq and mathcomp to run this test")
