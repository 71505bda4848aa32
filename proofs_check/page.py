"""One page for a mathematician: each claim's text, formula, code and verdict side by side."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, select_autoescape

from proofs_check import coq
from proofs_check.contract import Outcome, Theorem
from proofs_check.runner import Result

TEMPLATE = Path(__file__).parent / "page.html"


@dataclass(frozen=True)
class Listing:
    """A Coq theorem as the page shows it: the statement held to, and its source."""

    theorem: Theorem
    pinned: str
    proof: str


def listings(result: Result) -> list[Listing]:
    claim = result.module.CLAIM
    return [
        Listing(
            theorem,
            claim.coq_statement(theorem),
            coq.source(theorem.file).theorems()[theorem.name][1],
        )
        for theorem in claim.theorems
    ]


def render_page(results: Sequence[Result]) -> str:
    """A self-contained HTML page; every text that comes from a claim or a tool is escaped."""
    environment = Environment(
        autoescape=select_autoescape(default=True), trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(TEMPLATE.read_text("utf-8"))
    counts = {o.value: sum(r.verdict.outcome is o for r in results) for o in Outcome}
    used = {theorem.file for r in results for theorem in r.module.CLAIM.theorems}
    return template.render(
        results=results,
        counts={name: count for name, count in counts.items() if count},
        listings={result.name: listings(result) for result in results},
        sources={name: source.text for name, source in coq.sources().items() if name in used},
        failing=[result.name for result in results if not result.passed],
        seconds=sum(result.seconds for result in results),
        python=platform.python_version(),
        coq=coq.version() if coq.coqc() else "absent",
    )
