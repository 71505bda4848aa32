"""The page of the mathematics, written from the claims: statement, theorem, functions, tests and check of each."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from pathlib import Path
from types import ModuleType

from sphinx.application import Sphinx

import proofs_check

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PAGE = "mathematics/claims.md"
MEANING = {
    "PROVED": "by Coq, for matrices of every size, or by an exact symbolic identity",
    "CERTIFIED": "in interval arithmetic, over a stated domain",
    "REFUTED": "as printed, by an exact counterexample; the corrected statement has its own check",
    "NOT REFUTED": "in trials, adversarial ones included; numbers never prove",
}


@cache
def functions() -> dict[str, list[str]]:
    """The public names that rest on each claim, as ``room.name``."""
    return tomllib.loads((ROOT / "docs" / "mathematics.toml").read_text("utf-8"))


def claims_of(name: str) -> list[str]:
    """The claims that a public name rests on."""
    return [claim for claim, own in functions().items() if name in own]


@cache
def _words() -> dict[str, Counter[str]]:
    """Every dotted word of each test file, counted."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    dotted = re.compile(r"\w+(?:\.\w+)*")
    return {str(path.relative_to(ROOT)): Counter(dotted.findall(path.read_text("utf-8"))) for path in files}


@cache
def tests_of(name: str) -> tuple[str, ...]:
    """The test files that name it most often, three at most; by ``room.name``, or by its own name if they import it."""
    room, _, own = name.rpartition(".")
    counts = {
        path: words[name] + (words[own] if f"nystrom_numerics.{room}" in words else 0)
        for path, words in _words().items()
    }
    return tuple(path for path in sorted(counts, key=lambda p: (-counts[p], p))[:3] if counts[path])


def plain(text: str) -> str:
    """The text as Markdown that shows it as it is."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", " ".join(text.split()))


def link(name: str) -> str:
    return f"[`{name}`](../api/nystrom_numerics.{name}.rst)"


def _verdict(claim: ModuleType) -> str:
    return claim.METHOD.success.value


def _section(name: str, claim: ModuleType) -> str:
    own = functions().get(name, [])
    tests = dict.fromkeys(path for one in own for path in tests_of(one))
    theorems = [f"`{t.name}` in `proofs_check/coq/{t.file}.v`" for t in claim.CLAIM.theorems]
    lines = [
        f"(claim-{name})=\n\n## {plain(name.replace('_', ' ').capitalize())}\n",
        f"{plain(claim.STATEMENT)}\n",
        f"> {plain(claim.FORMULA)}\n",
        *(f"* Where {plain(hypothesis)}." for hypothesis in claim.HYPOTHESES),
        "",
        f"**{_verdict(claim)}** by {plain(claim.METHOD.value)}. Source: {plain(claim.SOURCE)}.\n",
        f"* Check: `proofs_check/claims/{name}.py`; `nystrom prove {name}` runs it, and its negative control.",
    ]
    if theorems:
        lines.append(f"* Theorem: {', '.join(theorems)}.")
    if own:
        lines.append(f"* Functions: {', '.join(map(link, own))}.")
    if tests:
        lines.append(f"* Tests: {', '.join(f'`{path}`' for path in tests)}.")
    return "\n".join(lines) + "\n"


def page() -> str:
    """The whole page as Markdown."""
    found = proofs_check.claims()
    rows = "\n".join(
        f"| [{plain(name.replace('_', ' '))}](#claim-{name}) | {_verdict(claim)} | {plain(claim.SOURCE)} | "
        f"{', '.join(map(link, functions().get(name, []))) or '–'} |"
        for name, claim in found.items()
    )
    counts = {outcome: sum(_verdict(claim) == outcome for claim in found.values()) for outcome in MEANING}
    meanings = "\n".join(f"* **{outcome}** ({counts[outcome]}): {text}." for outcome, text in MEANING.items())
    return (
        f"# Claims, theorems and functions\n\n{len(found)} statements are checked by machine, each with a false "
        "variant that the same check must refute. The verdict is what a check may say at the best; `nystrom prove` "
        f"runs them all, and so do the tests.\n\n{meanings}\n\n"
        "| claim | verdict | source | functions |\n|---|---|---|---|\n"
        f"{rows}\n\n" + "\n".join(_section(name, claim) for name, claim in found.items())
    )


def _write(app: Sphinx) -> None:
    path, text = Path(app.srcdir) / PAGE, page()
    path.parent.mkdir(exist_ok=True)
    if not path.exists() or path.read_text("utf-8") != text:
        path.write_text(text, "utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", _write, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
