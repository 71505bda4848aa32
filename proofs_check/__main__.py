"""``python -m proofs_check [CLAIM ...] [--html PATH]``: check the claims and end in a table."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from proofs_check import Result, claims, iterate, render_page
from proofs_check.contract import Outcome

WIDE = 150
"""Characters of the whole table, and of a line that goes to a file."""

STYLES = {
    Outcome.PROVED: "green",
    Outcome.CERTIFIED: "blue",
    Outcome.REFUTED: "magenta",
    Outcome.NOT_REFUTED: "yellow",
    Outcome.FAILED: "bold red",
    Outcome.UNAVAILABLE: "bold red",
}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="proofs_check", description="Check the claims, by machine.")
    parser.add_argument("claims", nargs="*", metavar="CLAIM", help="names of claims; all of them by default")
    parser.add_argument(
        "--html", type=Path, metavar="PATH", help="write the page with statements and code here"
    )
    parser.add_argument("--list", action="store_true", help="list the names of the claims and stop")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.claims) - set(claims()))
    if unknown:
        parser.error(f"no claim is called {', '.join(unknown)}; --list shows the names")
    return options


def check(names: Sequence[str], console: Console) -> list[Result]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    names = list(names) or list(claims())
    results = []
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(names[0], total=len(names))
        for result, following in zip(iterate(names), [*names[1:], "done"], strict=True):
            results.append(result)
            progress.update(task, advance=1, description=following)
    return results


def table(results: Sequence[Result], width: int) -> Table:
    """A line a claim; where there is no room the page alone tells sources, methods and seconds."""
    shown, narrow = Table(title="Claims checked by machine", show_lines=False), width < WIDE
    for column in ("Claim", "Source", "Method", "Verdict", "Deciding number", "Control", "s"):
        if not narrow or column not in ("Source", "Method", "s"):
            shown.add_column(column, overflow="fold", no_wrap=column in ("Claim", "Verdict", "Control"))
    for result in results:
        outcome = result.verdict.outcome
        control = "refuted" if result.control.outcome is Outcome.FAILED else "ACCEPTED"
        source, method = Text(result.module.SOURCE), Text(result.module.METHOD.value)
        told = Text(outcome.value, style=STYLES[outcome]), Text(result.verdict.number), Text(control)
        name = Text(result.name)
        shown.add_row(*(name, *told) if narrow else (name, source, method, *told, f"{result.seconds:.1f}"))
    return shown


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(width=WIDE)
    if options.list:
        console.print("\n".join(claims()), highlight=False)
        return 0
    results = check(options.claims, console)
    console.print(table(results, console.width))
    if len(results) == 1:
        (result,) = results
        shown = (result.module.STATEMENT, result.module.FORMULA, result.verdict.detail, result.control.detail)
        console.print("\n\n".join(text for text in shown if text), markup=False, highlight=False)
    for result in results:
        if not result.passed:
            console.print(
                f"{result.name}: {result.verdict.number}. {result.verdict.detail}", markup=False, style="red"
            )
    counts = Counter(result.verdict.outcome.value for result in results)
    total = sum(result.seconds for result in results)
    console.print(
        f"{len(results)} claims in {total:.0f} s: " + ", ".join(f"{n} {o}" for o, n in counts.items())
    )
    if options.html:
        options.html.parent.mkdir(parents=True, exist_ok=True)
        options.html.write_text(render_page(results), "utf-8")
        console.print(f"page written to {options.html}", markup=False, highlight=False)
    return 0 if all(result.passed for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
