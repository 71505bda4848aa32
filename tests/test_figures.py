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
        assert own.rewritten(text, known) == text, f"{page.name}: python docs/figures.py"


def test_the_readme_names_its_figures(own):
    names = [found["name"] for found in own.MARKED.finditer((DOCS.parent / "README.md").read_text("utf-8"))]
    assert len(names) >= 18
    assert {name.partition("/")[0] for name in names} == {"cost", "SST-2", "learned", "H100"}


def test_another_number_is_seen_and_put_right(own):
    name = "cost/exact/2048/MiB"
    known = own.figures()
    assert own.rewritten(f"takes 99.9<!-- {name} --> MiB", known) == f"takes {known[name]}<!-- {name} --> MiB"
    with pytest.raises(KeyError, match="nowhere"):
        own.rewritten("1<!-- cost/nowhere -->", known)
