"""Numbers in the text are those of the records that they name."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture
def own(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    return importlib.import_module("figures")


def test_text_and_records_agree(own):
    known = own.figures()
    for page in own.PAGES:
        text = page.read_text("utf-8")
        assert own.rewritten(text, known, page.parent) == text, f"{page}: python docs/figures.py"


def test_readme_and_findings_name_their_figures(own):
    for page, least, kinds in (
        (DOCS.parent / "README.md", 10, {"cost", "SST-2", "H100", "times"}),
        (DOCS / "findings.md", 30, {"cost", "SST-2", "learned", "H100"}),
    ):
        names = [found["name"] for found in own.MARKED.finditer(page.read_text("utf-8"))]
        assert len(names) >= least
        assert {name.partition("/")[0] for name in names} == kinds


def test_what_the_claim_does_not_say_is_seen(own):
    page = DOCS / "tolerance" / "README.md"
    text = page.read_text("utf-8")
    assert text.count("**SUPPORTED**") >= 12
    for one, other in (("**SUPPORTED**", "**REFUTED**"), ("| 216 |", "| 217 |")):
        assert (changed := text.replace(one, other, 1)) != text
        assert own.rewritten(changed, own.figures(), page.parent) == text


def test_another_number_is_seen_and_put_right(own):
    name = "cost/exact/2048/MiB"
    known = own.figures()
    assert own.rewritten(f"takes 99.9<!-- {name} --> MiB", known) == f"takes {known[name]}<!-- {name} --> MiB"
    with pytest.raises(KeyError, match="nowhere"):
        own.rewritten("1<!-- cost/nowhere -->", known)
