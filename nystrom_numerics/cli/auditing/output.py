"""A finding on the terminal, as a page, as JSON and as CSV."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from nystrom_numerics.cli.auditing.finding import COLUMNS, AuditError, Finding
from nystrom_numerics.extras import brought_by

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FORMATS", "require_writable", "show", "visible", "write"]


def visible(text: str) -> str:
    """A text without what a terminal takes for a command: line breaks, escapes and lone surrogates are spelt out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def show(out: Console, found: Finding) -> None:
    """Facts, and a table of bounds or of heads."""
    out.print(f"[bold]{escape(visible(found.title))}[/]", highlight=False)
    for fact in found.facts:
        out.print(escape(fact), highlight=False)
    columns, rows = found.table
    if columns == COLUMNS:
        columns, rows = _narrow(rows)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold underline")
    for column, width in zip(columns, _widths([columns, *rows], out.width - len(columns)), strict=True):
        table.add_column(column, overflow="fold", width=width)  # narrow or not, nothing is cut off
    for row in rows:
        table.add_row(*map(escape, row))
    out.print(table)
    for line in found.failed:
        out.print(f"No number: {escape(line)}", highlight=False)
    if found.landmarks:
        out.print(f"Landmarks: {escape(found.landmarks)}", highlight=False)


def _widths(rows: Sequence[tuple[str, ...]], room: int) -> list[int | None]:
    """Of each column, so that no word is broken; none where words do not fit."""
    cells = list(zip(*rows, strict=True))
    least = [max(len(word) for cell in column for word in cell.split()) for column in cells]
    wanted = [max(map(len, column)) for column in cells]
    spare = room - sum(least)
    if spare < 0:
        return [None] * len(cells)
    while spare > 0 and least != wanted:
        narrowest = min((i for i in range(len(cells)) if least[i] < wanted[i]), key=least.__getitem__)
        least[narrowest], spare = least[narrowest] + 1, spare - 1
    return list(least)


def _narrow(
    rows: Sequence[tuple[str, ...]],
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Bounds in fewer columns, without their sources."""
    shown = []
    for name, norm, side, value, over, certainty, of, vacuous, _ in rows:
        said = f"{side} {value}" + (", vacuous" if vacuous == "yes" else "")
        shown.append((name, norm.removesuffix(" norm"), said, over, certainty, of))
    return ("Bound", "Norm", "Value", "Over the truth", "Certainty", "Landmarks"), tuple(shown)


def require_writable(option: str, path: Path, file: Path) -> None:
    """Refuse what could not be written, before the work and not after it."""
    try:
        if path.is_dir():
            raise AuditError(f"--{option} {path}: a folder; name a file in it")
        if path.exists() and file.exists() and path.samefile(file):
            raise AuditError(f"--{option} {path}: the file that is audited; name another one")
        path.parent.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise _unwritable(option, path, error) from error


def write(option: str, path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise _unwritable(option, path, error) from error


def _unwritable(option: str, path: Path, error: Exception) -> AuditError:
    return AuditError(f"--{option} {path}: cannot be written: {getattr(error, 'strerror', None) or error}")


def page(found: Finding) -> str:
    """The finding as one page that needs nothing beside it; all text is escaped."""
    with brought_by("cli"):
        import jinja2
        import matplotlib as mpl

    mpl.use("Agg")
    pictures = [(alt, _picture(draw())) for alt, draw in found.figures]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    columns, rows = found.table
    return environment.get_template("audit.html").render(
        found=replace(found, title=visible(found.title)), columns=columns, rows=rows, pictures=pictures
    )


def _picture(figure: Figure) -> str:
    drawn = io.BytesIO()
    figure.savefig(drawn, format="svg", bbox_inches="tight", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(drawn.getvalue()).decode()}"


def as_json(found: Finding) -> str:
    """Title, facts, bounds, those without a number, and heads; what is not finite is null."""
    told = {
        "title": visible(found.title),
        "facts": list(found.facts),
        "bounds": [_finite(line.record) for line in found.lines],
        "failed": list(found.failed),
        "heads": [_finite(head) for head in found.heads],
    }
    return json.dumps(told, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def as_csv(found: Finding) -> str:
    """A line a head, or a bound of a matrix, under the names of JSON; what is not there, or not finite, is empty."""
    records = [_finite(record) for record in found.records]
    held = io.StringIO()
    lines = csv.DictWriter(held, list(records[0]))
    lines.writeheader()
    lines.writerows(records)
    return held.getvalue()


def _finite(record: dict[str, Any]) -> dict[str, Any]:
    return {key: None if isinstance(x, float) and not math.isfinite(x) else x for key, x in record.items()}


FORMATS = {"html": page, "json": as_json, "csv": as_csv}
"""What can be written, by the options that ask for it."""
