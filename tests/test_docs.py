"""The site: every public name has a page, what the pages name exists, and examples use public names alone."""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from pathlib import Path

import pytest

import proofs_check
from tests.contracts.surface import exported, rooms

DOCS = Path(__file__).parents[1] / "docs"
EXAMPLES = sorted((DOCS / "examples").glob("*.py"))

pytest.importorskip("sphinx", reason="sphinx is absent")


@pytest.fixture(scope="module")
def extensions():
    sys.path.insert(0, str(DOCS / "extensions"))
    yield {name: importlib.import_module(name) for name in ("api", "listings", "mathematics")}
    sys.path.remove(str(DOCS / "extensions"))


def test_every_public_name_has_a_page_and_is_on_that_of_its_room(extensions, tmp_path):
    (tmp_path / "nystrom_numerics.gone.rst").write_text("was public once")
    extensions["api"].write(tmp_path)
    pages = {path.stem: path.read_text("utf-8") for path in tmp_path.glob("*.rst")}
    assert "nystrom_numerics.gone" not in pages
    for room in rooms():
        assert room.__name__ in pages["index"]
        for name in room.__all__:
            assert f"   {name}\n" in pages[room.__name__], name
            assert f":: {room.__name__}.{name}\n" in pages[f"{room.__name__}.{name}"]


def test_every_public_function_and_class_says_what_it_is():
    silent = [
        name
        for name, thing in exported().items()
        if not (thing.__dict__["__doc__"] if inspect.isclass(thing) else thing.__doc__)
    ]
    assert silent == []


def test_claims_and_functions_that_the_mathematics_names_exist(extensions):
    mathematics = extensions["mathematics"]
    assert mathematics.functions().keys() <= proofs_check.claims().keys()
    for claim, names in mathematics.functions().items():
        assert names, claim
        for name in names:
            room, own = name.rsplit(".", 1)
            assert own in importlib.import_module(f"nystrom_numerics.{room}").__all__, name
            assert claim in mathematics.claims_of(name)
            assert mathematics.tests_of(name), f"no test names {name}"


def test_the_page_of_claims_has_each_with_its_verdict_and_check(extensions):
    page = extensions["mathematics"].page()
    for name, claim in proofs_check.claims().items():
        section = page.partition(f"(claim-{name})=")[2].partition("(claim-")[0]
        assert f"**{claim.METHOD.success.value}**" in section
        assert f"proofs_check/claims/{name}.py" in section
        for theorem in claim.CLAIM.theorems:
            assert f"`{theorem.name}`" in section


def test_listings_are_of_one_shape_and_complete(extensions):
    from nystrom_numerics.attention import ESTIMATORS
    from nystrom_numerics.bounds import BOUNDS

    tables = {name: list(make()) for name, make in extensions["listings"].LISTINGS.items()}
    for name, (head, *rows) in tables.items():
        assert rows, name
        assert {len(row) for row in rows} == {len(head)}
    assert [row[0] for row in tables["estimators"][1:]] == list(ESTIMATORS)
    assert len(tables["bounds"]) == 1 + len(BOUNDS)
    assert any("test_batch_coupling" in row[1] for row in tables["faults"])


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_use_public_names_and_name_what_they_draw(path):
    text = path.read_text("utf-8")
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "a question as a title"
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = node.module or ""
            assert not module.startswith(("experiments", "proofs_check", "tests"))
            if module.startswith("nystrom_numerics"):
                public = importlib.import_module(module).__all__
                names = {alias.name for alias in node.names}
                assert names <= set(public) or module == "nystrom_numerics", names - set(public)
    labelled = "xlabel" in text and "ylabel" in text
    assert labelled or "set_yticks" in text or "found.plot(" in text  # whose labels have tests of their own
    assert "plt.show()" in text


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ('<a href="b.html#there">', []),
        ('<a href="b.html#nowhere">', ["a.html: no place b.html#nowhere"]),
        ('<a href="c.html">', ["a.html: no file c.html"]),
        ('<a href="https://example.org">', []),
        ('<script src="https://example.org/x.js">', ["a.html loads https://example.org/x.js"]),
    ],
)
def test_a_link_that_leads_nowhere_is_told(text, lines, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    check_links = importlib.import_module("check_links")
    (tmp_path / "a.html").write_text(text)
    (tmp_path / "b.html").write_text('<p id="there">')
    assert check_links.wrong(tmp_path) == lines
