"""Numbers in the text that come of committed records: ``python docs/figures.py`` writes them anew.

In a page a number stands before a comment that names it, ``13.59<!-- cost/Nyström/2048/MiB -->``, and readers see the
number alone.  A name leads to one number of one record; the README beside the records names profile, machine and
command.  There ``<!-- verdicts CLAIM -->`` and ``<!-- /verdicts -->`` stand around what the claim says of the records,
``<!-- table CLAIM -->`` and ``<!-- /table -->`` around its table of them; ``<!-- ratios -->`` stands before what
``make bench`` kept of each release.
``tests/test_figures.py`` fails where text and records disagree.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

ROOT = Path(__file__).parents[1]
PAGES = (
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs").glob("*/README.md")),
)
MARKED = re.compile(r"(?P<number>\d[\d.,]*)<!-- (?P<name>\S+/.+?) -->")
TOLD = re.compile(
    r"<!-- (?P<what>verdicts|table|ratios)(?: (?P<claim>\w+))? -->\n.*?<!-- /(?P=what) -->", re.DOTALL
)


def records(folder: str, claim: str) -> list[dict[str, Any]]:
    lines = (ROOT / "docs" / folder / "records.jsonl").read_text("utf-8").splitlines()
    return [record for record in map(json.loads, lines) if record["claim"] == claim and not record["error"]]


def _costs() -> Iterator[tuple[str, str]]:
    """Of a training step: MiB a sequence, and how many times less memory and time it takes than exact attention."""
    even = (r for r in records("evaluation", "training_cost") if not r["params"]["padded"])
    found = {(r["params"]["method"], r["params"]["n"]): r["rows"][0] for r in even}
    for (method, n), row in found.items():
        exact = found["exact", n]
        yield f"cost/{method}/{n}/MiB", f"{row['mebibytes']:.2f}"
        yield f"cost/{method}/{n}/of memory", f"{exact['mebibytes'] / row['mebibytes']:.2f}"
        yield f"cost/{method}/{n}/times as fast", f"{exact['milliseconds'] / row['milliseconds']:.1f}"


def _tokens() -> Iterator[tuple[str, str]]:
    """Of SST-2: texts of a split, and those of more than 64 tokens."""
    for record in records("evaluation", "evaluation"):
        if record["params"]["part"] == "lengths":
            for row in record["rows"]:
                yield f"SST-2/{row['split']}/texts", f"{row['texts']:,}"
                yield f"SST-2/{row['split']}/longer", f"{row['longer']:,}"


def _learned() -> Iterator[tuple[str, str]]:
    """Of a task and method: the accuracy in per cent, the mean over the seeds."""
    found: dict[str, list[float]] = {}
    for record in records("evaluation", "evaluation"):
        p = record["params"]
        if p["part"] == "from nothing":
            found.setdefault(f"learned/{p['task']}/{p['method']}/%", []).append(record["rows"][0]["accuracy"])
    for name, accuracies in found.items():
        yield name, f"{100 * mean(accuracies):.1f}"


def _scaling() -> Iterator[tuple[str, str]]:
    """On an H100: milliseconds a call, and times the memory of this package's."""
    for record in records("h100", "linear_scaling"):
        n, rows = record["params"]["n"], {row["method"]: row for row in record["rows"]}
        for method, row in rows.items():
            own, ms = rows["Nyström, this package"], 1e3 * row["seconds"]
            yield f"H100/{method}/{n}/ms", f"{ms:.1f}" if ms < 100 else f"{ms:.0f}"
            yield f"H100/{method}/{n}/times the memory", f"{row['peak_bytes'] / own['peak_bytes']:.1f}"


def _training() -> Iterator[tuple[str, str]]:
    """On an H100: the accuracy in per cent, the mean over the seeds that every method of a task has."""
    found: dict[str, dict[str, dict[int, float]]] = {}
    for record in records("h100", "training"):
        task, method = record["params"]["task"].split(",")[0], record["params"]["method"]
        found.setdefault(task, {}).setdefault(method, {})[record["seed"]] = record["rows"][0]["accuracy"]
    for task, methods in found.items():
        shared = set.intersection(*(set(seeds) for seeds in methods.values()))
        for method, seeds in methods.items():
            yield f"H100/{task}/{method}/%", f"{100 * mean(seeds[seed] for seed in shared):.1f}"


def _kept() -> dict[str, dict[str, dict[str, float]]]:
    """Of each release, in their order, what ``make bench`` kept: times as fast as a peer, by case and name."""
    files = sorted((ROOT / "docs" / "benchmarks").glob("*/*.json"), key=lambda path: path.name)
    return {path.stem.partition("_")[2]: json.loads(path.read_text("utf-8"))["ratios"] for path in files}


def _speeds() -> Iterator[tuple[str, str]]:
    """Of the last release."""
    *_, last = _kept().values()
    for case, ratios in last.items():
        for name, times in ratios.items():
            yield f"times/{case}/{name}", _times(times)


def _times(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}" if value >= 10 else f"{value:.2g}"


SOURCES: tuple[Callable[[], Iterator[tuple[str, str]]], ...] = (
    _costs,
    _tokens,
    _learned,
    _scaling,
    _training,
    _speeds,
)


def figures() -> dict[str, str]:
    """Every number that a page may name."""
    return {name: number for source in SOURCES for name, number in source()}


def rewritten(text: str, known: dict[str, str], folder: Path | None = None) -> str:
    """The text with the numbers of the records, and with what claims say of those in its folder.

    KeyError for a name that no record has.
    """
    text = MARKED.sub(lambda found: f"{known[found['name']]}<!-- {found['name']} -->", text)
    return TOLD.sub(lambda found: _told(*found.groups(), folder or ROOT), text)


def _told(what: str, name: str | None, folder: Path) -> str:
    lines = _ratios() if name is None else _of_claim(what, name, folder)
    return "\n".join([f"<!-- {what}{f' {name}' if name else ''} -->", "", *lines, "", f"<!-- /{what} -->"])


def _of_claim(what: str, name: str, folder: Path) -> list[str]:
    from experiments import claims
    from experiments.engine import store
    from experiments.report.page import cells, number

    claim = claims.load(name)
    made = [r for r in store.read(folder / "records.jsonl")[0] if r.ok and r.case.claim == name]
    if what == "verdicts":
        return [f"* **{v.outcome.name}**: {v.statement}. {v.because}" for v in claim.verdicts(made)]
    columns, rows = cells(claim.table(made))
    return _table(columns, (map(number, row) for row in rows))


def _ratios() -> list[str]:
    kept = _kept()
    cases = dict.fromkeys(
        (case, name) for of in kept.values() for case, ratios in of.items() for name in ratios
    )
    rows = (
        [case, name, *(_times(of.get(case, {}).get(name)) for of in kept.values())] for case, name in cases
    )
    return _table(["case", "times as fast", *kept], rows)


def _table(columns: Sequence[str], rows: Iterable[Iterable[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (columns, ["---"] * len(columns), *rows)]


def main() -> None:
    known = figures()
    for page in PAGES:
        text = page.read_text("utf-8")
        if (new := rewritten(text, known, page.parent)) != text:
            page.write_text(new, "utf-8")
            print(f"{page.relative_to(ROOT)}: written")


if __name__ == "__main__":
    main()
