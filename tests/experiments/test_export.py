"""Every value of a record is in its Parquet file, of its type or as JSON, and can be had back."""

from __future__ import annotations

import csv
import json
import math

import pyarrow as pa
import pyarrow.parquet
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments import claims
from experiments.contract import Absence, Case, Record
from experiments.engine import store
from experiments.report.export import export
from tests.experiments.sample import sample

FACTS = {"fingerprint": "f", "recorded": "2026"}


def record(params, *rows, **more):
    return Record(Case("toy", params, 3), rows, None, 0.5, FACTS, **more)


def table_of(records, folder):
    (path,) = export(records, folder)
    return pyarrow.parquet.read_table(path)


def restored(table):
    """The rows of a table without what is null, its JSON columns read."""
    as_json = set(json.loads(table.schema.metadata[b"json"]))

    def value(name, cell):
        return json.loads(cell, object_pairs_hook=store._object) if name in as_json else cell

    return [
        {name: value(name, cell) for name, cell in row.items() if cell is not None}
        for row in table.to_pylist()
    ]


def wanted(records):
    taken = {name for one in records for row in one.rows for name in row}
    found = []
    for one in records:
        if one.ok:
            about = {**one.case.params, "seed": one.case.seed}
            about |= {name: one.environment.get(name) for name in FACTS}
            for row in one.rows:
                merged = {f"case.{name}" if name in taken else name: value for name, value in about.items()}
                merged |= row
                found.append({name: value for name, value in merged.items() if value is not None})
    return found


def same(one, other):
    """Equal, NaN to itself too, and true apart from one."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and math.isnan(one):
        return isinstance(other, float) and math.isnan(other)
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def test_columns_of_one_kind_keep_it_and_others_are_json(tmp_path):
    records = [
        record({"ms": [16, 64], "head": ["keys", 0, 0], "x": 1}, {"y": 1.5, "yes": True, "n": 1, "mix": 2}),
        record({"ms": [8], "x": 2}, {"y": 2, "yes": None, "n": 1 << 60, "mix": "two", "nan": math.nan}),
        Record(Case("toy", {"x": 9}), (), "ValueError: no", 0.0, {}),
        Record(Case("toy", {"x": 8}), (), None, 0.0, {}, Absence("speech", "apt-get install it")),
    ]
    table = table_of(records, tmp_path)
    types = {field.name: field.type for field in table.schema}
    assert types["ms"] == pa.list_(pa.int64())
    assert (types["x"], types["y"], types["yes"]) == (pa.int64(), pa.float64(), pa.bool_())
    assert types["n"] == pa.int64()  # pandas would have made floats of integers beside nothing
    assert (types["head"], types["mix"]) == (pa.string(), pa.string())
    assert table["head"].to_pylist() == ['["keys", 0, 0]', None]
    assert table["mix"].to_pylist() == ["2", '"two"']
    assert json.loads(table.schema.metadata[b"json"]) == ["head", "mix"]
    assert table["nan"].null_count == 1
    assert same(restored(table), wanted(records))


def test_a_parameter_that_a_row_names_too_is_kept(tmp_path):
    rows = restored(
        table_of([record({"repeats": 3}, {"repeats": 5}), record({"repeats": 4}, {"y": 1})], tmp_path)
    )
    assert [row["case.repeats"] for row in rows] == [3, 4]
    assert [row.get("repeats") for row in rows] == [5, None]


def test_an_integer_that_no_float_is_stays_exact(tmp_path):
    rows = [{"y": (1 << 53) + 1}, {"y": 0.5}]
    assert restored(table_of([record({}, *rows)], tmp_path))[0]["y"] == (1 << 53) + 1


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", "é"]), inner, min_size=1, max_size=2)
    ),
    max_leaves=6,
)
FIELDS = st.dictionaries(st.sampled_from(["head", "ms", "y", "z"]), VALUES, max_size=4)


@given(made=st.lists(st.tuples(FIELDS, st.lists(FIELDS, min_size=1, max_size=3)), min_size=1, max_size=4))
@settings(max_examples=150, deadline=None)
def test_whatever_the_store_can_say_is_exported_faithfully(made, tmp_path_factory):
    records = [record(params, *rows) for params, rows in made]
    table = table_of(records, tmp_path_factory.mktemp("parquet"))
    assert same(restored(table), wanted(records))


def test_records_of_every_claim_are_exported_faithfully(tmp_path):
    records = sample()
    assert {one.case.claim for one in records} == set(claims.names())
    for path in export(records, tmp_path):
        mine = [one for one in records if one.case.claim == path.stem]
        assert same(restored(pyarrow.parquet.read_table(path)), wanted(mine))


def test_as_csv_and_json_every_value_is_there(tmp_path):
    rows = (
        {"m": 4, "error": 0.1 + 0.2, "which": "ä,b", "sizes": [1, 2]},
        {"m": 8, "error": math.nan, "right": True},
    )
    (path,) = export([record({"head": 2}, *rows)], tmp_path, "csv")
    assert path == tmp_path / "toy.csv"
    with path.open(encoding="utf-8", newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["head"], first["seed"], first["which"], json.loads(first["sizes"])) == (
        "2",
        "3",
        "ä,b",
        [1, 2],
    )
    assert float(first["error"]) == 0.1 + 0.2
    assert (second["which"], second["error"], second["right"]) == ("", "nan", "true")
    (path,) = export([record({"head": 2}, *rows)], tmp_path, "json")
    found = [
        json.loads(json.dumps(row), object_pairs_hook=store._object)
        for row in json.loads(path.read_text("utf-8"))
    ]
    assert {name: found[0][name] for name in rows[0]} == rows[0]
    assert math.isnan(found[1]["error"])
