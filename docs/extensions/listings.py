"""Tables that are read off the package and its tests: ``{listing} estimators``, ``bounds``, ``rules`` or ``faults``."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).parents[2]
Rows = Iterable[tuple[str, ...]]


def estimators() -> Rows:
    from nystrom_numerics.attention import ESTIMATORS

    yield "name", "what it is", "kernel entries a query of n", "grows as n²", "causal", "source"
    for name, one in ESTIMATORS.items():
        yield name, one.title, one.entries, _mark(one.quadratic), _mark(one.causal), one.source


def bounds() -> Rows:
    from nystrom_numerics.bounds import BOUNDS

    yield "bound", "of", "whose landmarks", "needs", "entries it evaluates", "takes n²"
    for one in BOUNDS:
        yield one.name, one.subject.value, one.law.value, one.needs, one.entries, _mark(one.quadratic)


def rules() -> Rows:
    from nystrom_numerics.landmarks import RULES

    yield "name", "what it is", "needs", "kernel entries", "grows as n²", "numbers held", "chance", "source"
    for name, one in RULES.items():
        marks = _mark(one.quadratic), one.memory, _mark(one.random)
        yield name, one.title, one.needs, one.entries, *marks, one.source


def faults() -> Rows:
    """Each test of a fault in other code: its name, what it says, and where it is."""
    path = ROOT / "tests" / "nn" / "test_faults.py"
    yield "fault", "shown, and absent here, by"
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            title = node.name.removeprefix("test_").replace("_", " ").capitalize()
            story = " ".join((ast.get_docstring(node) or "").split())
            yield f"{title}. {story}".strip(), f"{path.relative_to(ROOT)}::{node.name}"


LISTINGS: dict[str, Callable[[], Rows]] = {
    "estimators": estimators,
    "bounds": bounds,
    "rules": rules,
    "faults": faults,
}


def _mark(true: bool) -> str:
    return "yes" if true else "no"


class Listing(SphinxDirective):
    """A table by its name."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        head, *rows = LISTINGS[self.arguments[0]]()
        group = nodes.tgroup("", *(nodes.colspec(colwidth=1) for _ in head), cols=len(head))
        group += nodes.thead("", _row(head))
        group += nodes.tbody("", *map(_row, rows))
        return [nodes.container("", nodes.table("", group), classes=["pst-scrollable-table-container"])]


def _row(cells: tuple[str, ...]) -> nodes.row:
    return nodes.row("", *(nodes.entry("", nodes.paragraph("", cell)) for cell in cells))


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("listing", Listing)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
