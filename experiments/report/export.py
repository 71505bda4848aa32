"""Records as Parquet, CSV or JSON: a file a claim, a line a row, for any tool that reads tables.

A column whose values are all booleans, all integers, all floats or all text has that type, and so has a column of
lists of one of them; integers beside floats are floats if they are exact as such. A column of anything else, such as
lists of words and numbers, is text: each value as JSON, a float that is not finite as in the store. The schema's
metadata names these columns under ``json``. A row that has no such value is null there, which NaN is not.

As JSON a file is a list of rows as they are in the store. CSV has no types: what is null is empty, NaN is ``nan``, and
lists are JSON.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.contract import Record, Row
from experiments.engine.files import whole
from experiments.engine.store import plain

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["FORMATS", "export"]

_EXACT = 1 << 53
_FACTS = ("fingerprint", "recorded")


def export(records: Iterable[Record], folder: Path, kind: str = "parquet") -> list[Path]:
    """Write each claim's rows, with parameters, seed, code and time, to ``<claim>.<kind>``; give the paths.

    ``kind`` is one of ``FORMATS``.

    A column of parameters, seed, code or time whose name some row has too is called ``case.<name>``.
    """
    by_claim: dict[str, list[Record]] = {}
    for record in records:
        if record.ok:
            by_claim.setdefault(record.case.claim, []).append(record)
    paths = []
    for claim, mine in by_claim.items():
        path = folder / f"{claim}.{kind}"
        with whole(path) as part:
            FORMATS[kind](_rows(mine), part)
        paths.append(path)
    return paths


def _parquet(rows: Sequence[Row], path: Path) -> None:
    import pyarrow.parquet

    with path.open("wb") as file:
        pyarrow.parquet.write_table(_table(rows), file)


def _csv(rows: Sequence[Row], path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(
            file, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n"
        )
        writer.writeheader()
        writer.writerows({name: _csv_cell(value) for name, value in row.items()} for row in rows)


def _csv_cell(value: Any) -> Any:
    return json.dumps(plain(value)) if isinstance(value, list | tuple | dict | bool) else value


def _json(rows: Sequence[Row], path: Path) -> None:
    lines = ",\n".join(json.dumps(plain(row), ensure_ascii=False) for row in rows)
    path.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


FORMATS: dict[str, Callable[[Sequence[Row], Path], None]] = {"parquet": _parquet, "csv": _csv, "json": _json}
"""What a file can be, by the ending of its name."""


def _rows(records: Sequence[Record]) -> list[Row]:
    taken = {name for record in records for row in record.rows for name in row}
    found = []
    for record in records:
        facts = {name: record.environment.get(name) for name in _FACTS}
        about = {**record.case.params, "seed": record.case.seed, **facts}
        about = {f"case.{name}" if name in taken else name: value for name, value in about.items()}
        found += [{**about, **row} for row in record.rows]
    return found


def _table(rows: Sequence[Row]) -> pa.Table:
    import pyarrow as pa

    columns, as_text = {}, []
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row.get(name) for row in rows]
        kind = _kind(values)
        if kind is None:
            as_text.append(name)
            kind = pa.string()
            values = [None if value is None else json.dumps(plain(value)) for value in values]
        columns[name] = pa.array(values, kind)
    return pa.table(columns).replace_schema_metadata({"json": json.dumps(as_text)})


def _kind(values: Sequence[Any]) -> pa.DataType | None:
    """The type of a column of these values, or None if it must be text."""
    import pyarrow as pa

    present = [value for value in values if value is not None]
    if present and all(type(value) is list for value in present):
        inner = _kind_of_scalars([item for value in present for item in value])
        return None if inner is None else pa.list_(inner)
    return _kind_of_scalars(present)


def _kind_of_scalars(values: Sequence[Any]) -> pa.DataType | None:
    import pyarrow as pa

    kinds = {type(value) for value in values if value is not None}
    if kinds == {int, float} and all(abs(value) <= _EXACT for value in values if type(value) is int):
        return pa.float64()
    one = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
    if len(kinds) > 1:
        return None
    return one.get(kinds.pop()) if kinds else pa.null()
