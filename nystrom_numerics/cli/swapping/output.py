"""A comparison on the terminal, as a page, as JSON and as CSV."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from nystrom_numerics.attention import ESTIMATORS
from nystrom_numerics.cli.auditing.output import visible
from nystrom_numerics.extras import brought_by
from nystrom_numerics.integrations.transformers import Calibration, Comparison, Summary

__all__ = ["FORMATS", "Found", "show"]

COLUMNS = (
    "Estimator",
    "m",
    "Heads",
    "Entries",
    "Error of ŜV",
    "Quartiles",
    "Best of rank m",
    "Drift",
    "Farthest",
)


@dataclass(frozen=True)
class Found:
    """What was compared, on what, and the budgets of a calibration if one was asked for."""

    model: str
    inputs: str
    comparison: Comparison
    calibration: Calibration | None = None

    @property
    def title(self) -> str:
        return f"{visible(self.model)}: {visible(self.inputs)}"


def cells(one: Summary) -> tuple[str, ...]:
    """Under :data:`COLUMNS`."""
    low, middle, high = one.quartiles
    farthest = ", ".join(f"{head.layer} {head.head}: {head.error:.3f}" for head in one.farthest)
    return (
        ESTIMATORS[one.estimator].title,
        *(str(one.m), str(len(one.heads)), f"{one.entries:.1%}", f"{middle:.3f}", f"{low:.3f} to {high:.3f}"),
        *("—" if math.isnan(one.best) else f"{one.best:.3f}", f"{one.drift:.3g}", farthest),
    )


def show(out: Console, found: Found) -> None:
    """A line an estimator, and the budgets."""
    out.print(f"[bold]{escape(found.title)}[/]", highlight=False)
    summaries = found.comparison.summaries
    table = Table(show_lines=True)
    table.add_column("")
    for one in summaries:
        table.add_column(f"{one.estimator}, m = {one.m}", overflow="fold")
    rows = zip(COLUMNS, *(cells(one) for one in summaries), strict=True)
    for name, *values in rows:
        if name not in ("Estimator", "m"):
            table.add_row(name, *map(escape, map(visible, values)))
    out.print(table)
    if found.calibration is not None:
        out.print(f"Calibrated: {found.calibration}", highlight=False)


def page(found: Found) -> str:
    """One page that needs nothing beside it."""
    with brought_by("cli"):
        import jinja2
        from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("swap.html").render(
        found=found,
        columns=COLUMNS,
        rows=[cells(one) for one in found.comparison.summaries],
        maps=Markup(found.comparison.to_html()),  # escapes what it holds
        budgets=None if found.calibration is None else str(found.calibration),
    )


def as_json(found: Found) -> str:
    """Everything; what is not finite is null."""
    told: dict[str, Any] = {
        "model": found.model,
        "inputs": found.inputs,
        "drift": [{"estimator": name, "m": m, "drift": x} for (name, m), x in found.comparison.drift.items()],
        "heads": [_finite(vars(head)) for head in found.comparison.heads],
    }
    if found.calibration is not None:
        told["error"] = found.calibration.error
        told["budgets"] = [_finite(vars(head)) for head in found.calibration.heads]
    return json.dumps(told, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def as_csv(found: Found) -> str:
    """A line a head, text and estimator, under the names of JSON; what is not finite is empty."""
    records = [_finite(vars(head)) for head in found.comparison.heads]
    held = io.StringIO()
    lines = csv.DictWriter(held, list(records[0]))
    lines.writeheader()
    lines.writerows(records)
    return held.getvalue()


def _finite(record: dict[str, Any]) -> dict[str, Any]:
    return {key: None if isinstance(x, float) and not math.isfinite(x) else x for key, x in record.items()}


FORMATS = {"html": page, "json": as_json, "csv": as_csv}
"""What can be written, by the options that ask for it."""
