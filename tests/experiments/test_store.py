"""The store loses nothing silently, whatever the moment at which its writer ends."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from experiments.contract import Absence, Case, Record, Status
from experiments.engine import store
from experiments.errors import StoreLockedError, StoreWriteError
from experiments.report import page as report
from tests.thorough import many


def record(x, **row):
    return Record(
        Case("toy", {"x": x}, seed=3), ({"y": x, **row},), None, 0.5, {"fingerprint": "f", "python": "3"}
    )


def lines(*records):
    return b"".join(map(store.encode, records))


def test_round_trip(tmp_path):
    path = tmp_path / "deep" / "r.jsonl"
    wanted = [record(1, text="é\n\"'"), Record(Case("toy", {"m": [1, 2]}), (), "ValueError: no", 0.0, {})]
    with store.appending(path) as append:
        for item in wanted:
            append(item)
    assert store.read(path) == (wanted, [])


def test_what_is_not_finite_survives_in_strict_json(tmp_path):
    path = tmp_path / "r.jsonl"
    with store.appending(path) as append:
        append(
            record(
                1, nan=math.nan, up=math.inf, down=np.float32(-math.inf), count=np.int64(7), yes=np.bool_(1)
            )
        )

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    json.loads(path.read_text(), parse_constant=refuse)
    ((row,),) = [r.rows for r in store.read(path)[0]]
    assert math.isnan(row["nan"])
    assert (row["up"], row["down"], row["count"], row["yes"]) == (math.inf, -math.inf, 7, True)


def test_nothing_where_there_is_no_file(tmp_path):
    assert store.read(tmp_path / "none.jsonl") == ([], [])


@pytest.mark.parametrize("cut", range(0, len(lines(record(2))), 7))
def test_a_torn_tail_is_reported_and_nothing_is_glued_to_it(tmp_path, cut):
    path = tmp_path / "r.jsonl"
    path.write_bytes(lines(record(1)) + lines(record(2))[:cut])
    _, damage = store.read(path)
    assert [d.line for d in damage] == ([2] if cut else [])
    with store.appending(path) as append:
        append(record(3))
    records, damage = store.read(path)
    assert records == [record(1), record(3)]
    assert len(damage) == bool(cut)


def test_a_last_line_that_lacks_only_its_end_is_whole(tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_bytes(lines(record(1), record(2))[:-1])
    with store.appending(path) as append:
        append(record(3))
    assert store.read(path) == ([record(1), record(2), record(3)], [])


@pytest.mark.parametrize(
    "bad",
    [
        b"\0\0\0\n",
        b"\xff\n",
        b"null\n",
        b'{"key": "other"}\n',
        lines(record(2)).replace(b'"x": 2', b'"x": 9'),
    ],
)
def test_damage_elsewhere_is_reported(tmp_path, bad):
    path = tmp_path / "r.jsonl"
    path.write_bytes(lines(record(1)) + bad + lines(record(3)))
    records, damage = store.read(path)
    assert records == [record(1), record(3)]
    assert [d.line for d in damage] == [2]


def test_one_writer_at_a_time(tmp_path):
    path = tmp_path / "r.jsonl"
    with store.appending(path), pytest.raises(StoreLockedError, match="another run"), store.appending(path):
        pass
    with store.appending(path) as append:
        append(record(1))
    assert store.read(path)[0] == [record(1)]


_ENDLESS = """
import itertools, sys
from pathlib import Path
from experiments.engine import store
from experiments.contract import Case, Record
path = Path(sys.argv[1])
with store.appending(path) as append:
    for x in itertools.count(len(store.read(path)[0])):
        append(Record(Case("toy", {"x": x}), ({"y": "z" * 5000},), None, 0.0, {}))
"""


def test_a_writer_killed_at_any_moment_leaves_every_record(tmp_path):
    path = tmp_path / "r.jsonl"
    moments = random.Random(0)
    before = 0
    for _ in range(4):
        writer = subprocess.Popen([sys.executable, "-c", _ENDLESS, str(path)], env=dict(os.environ))
        while not path.exists() or path.stat().st_size <= before:
            assert writer.poll() is None
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.1))
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        before = path.stat().st_size
    records, damage = store.read(path)
    assert [r.case.params["x"] for r in records] == list(range(len(records)))
    assert len(damage) <= 4
    assert len(records) > 4


def changed(**fields):
    """A line like that of ``record(1)``, some of its fields replaced after its key was made."""
    return json.dumps({**json.loads(store.encode(record(1))), **fields}).encode() + b"\n"


WHOLE = store.encode(record(1))
DEEP = b'{"a":' * 2000 + b"1" + b"}" * 2000
HOSTILE = {
    "200,000 brackets": b"[" * 200_000,
    "objects in objects": DEEP,
    "deep in a row": changed(rows=[{"y": json.loads("[" * 40 + "]" * 40)}]),
    "half a surrogate pair": changed(rows=[{"y": "\ud800"}]),
    "half a surrogate pair as a name": changed(rows=[{"\udfff": 1}]),
    "an integer of 5,000 digits": WHOLE.replace(b'"y": 1', b'"y": ' + b"9" * 5000),
    "an integer of 65 bits": changed(rows=[{"y": 1 << 64}]),
    "seconds of 400 digits": changed(seconds=10**400),
    "NaN": WHOLE.replace(b'"y": 1', b'"y": NaN'),
    "-Infinity": WHOLE.replace(b'"seconds": 0.5', b'"seconds": -Infinity'),
    "a float beyond all": WHOLE.replace(b'"y": 1', b'"y": 1e999'),
    "a marked number": changed(rows=[{"y": {"$float": "1.5"}}]),
    "a mark of a list": changed(rows=[{"y": {"$float": ["nan"]}}]),
    "seconds that are NaN": changed(seconds={"$float": "nan"}),
    "seconds before the start": changed(seconds=-1),
    "seconds that are true": changed(seconds=True),
    "bytes of no text": WHOLE.replace(b'"y"', b'"\xff"'),
    "zero bytes": b"\0" * 4096,
    "a zero byte within": WHOLE.replace(b'"y"', b'"\0"'),
    "UTF-16": WHOLE.decode().strip().encode("utf-16-be"),
    "a byte order mark": b"\xef\xbb\xbf" + WHOLE,
    "a list": b"[1, 2]",
    "a number": b"12",
    "null": b"null",
    "text": b'"record"',
    "nothing in it": b"{}",
    **{
        f"without its {name}": json.dumps({k: v for k, v in json.loads(WHOLE).items() if k != name}).encode()
        for name in ("key", "claim", "params", "seed", "error", "seconds", "environment", "rows")
    },
    **{
        f"{name} is {type(value).__name__}": changed(**{name: value})
        for name in ("key", "claim", "params", "seed", "status", "error", "absent", "environment", "rows")
        for value in ([1], {"a": 1}, 1.5, True)
        if not (name in ("params",) and value == {"a": 1})
    },
    "a row that is a list": changed(rows=[[1]]),
    "a fact that is a number": changed(environment={"fingerprint": 1}),
    "an absence without its remedy": changed(absent={"what": "speech"}, status="not available"),
    "a status that is another": changed(status="failed"),
    "a claim outside the folder": b"",  # filled in below, with a key that fits
    "a name twice": WHOLE.replace(b'"seed": 3', b'"seed": 4, "seed": 3'),
    "the key of another case": changed(seed=9),
    "a key that clears the screen": changed(key="\x1b[2J" * 1000),
    "a very long line": b"x" * (3 * store.LONGEST + 5),
    "a very long text": changed(rows=[{"y": "z" * store.LONGEST}]),
    "only blanks": b"   \t ",
    "the same record again": WHOLE,
}
outside = {"claim": "../toy", "key": Case("../toy", {"x": 1}, 3).key}
HOSTILE["a claim outside the folder"] = changed(**outside)


@pytest.mark.parametrize("bad", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_line_is_one_damage(tmp_path, bad):
    path = tmp_path / "r.jsonl"
    path.write_bytes(WHOLE + bad.strip(b"\n") + b"\n" + lines(record(3)))
    records, damage = store.read(path)
    assert records == [record(1), record(3)]
    (only,) = damage
    assert only.line == 2
    assert len(only.reason) < 300
    assert len(only.excerpt) < 400
    assert (only.reason + only.excerpt).isprintable()
    assert (only.reason + only.excerpt).isascii()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def cut_and_pasted(draw):
    """A line of a record with some bytes removed, replaced or put in."""
    line = bytearray(store.encode(record(draw(st.integers(5, 9)), y=draw(st.floats()))))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(line)))
        line[at : at + draw(st.integers(0, 20))] = draw(st.binary(max_size=12))
    return bytes(line)


@st.composite
def refilled(draw):
    """A line of a record, some of its fields anything at all."""
    names = st.sampled_from([*json.loads(WHOLE), "other"])
    return changed(**draw(st.dictionaries(names, JSON, min_size=1, max_size=2)))


ANYTHING = st.one_of(
    st.binary(max_size=60),
    JSON.map(lambda value: json.dumps(value).encode()),
    cut_and_pasted(),
    refilled(),
    st.integers(1, 2000).map(lambda deep: b'[{"a":' * deep),
)


@given(st.lists(ANYTHING, max_size=4))
@settings(max_examples=many(150, 50), deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_a_store_holds_it_is_read(tmp_path_factory, pieces):
    """Each line is a record, which can be written again, or one damage; the records beside them are whole."""
    path = tmp_path_factory.mktemp("fuzz") / "r.jsonl"
    path.write_bytes(lines(record(1)) + b"\n".join(pieces) + b"\n" + lines(record(2)))
    records, damage = store.read(path)
    there = [line for line in path.read_bytes().split(b"\n") if line]
    assert len(records) + len(damage) == len(there)
    assert {1, 2} <= {r.case.params.get("x") for r in records if isinstance(r.case.params.get("x"), int)}
    assert len({d.line for d in damage}) == len(damage)
    for one in records:
        assert store.decode(store.encode(one)).case.key == one.case.key
    page = report.render([], damage=damage)
    page.encode()


@given(JSON)
def test_what_is_written_is_read_and_nothing_else_is_written(value):
    try:
        line = store.encode(record(1, z=value))
    except (TypeError, ValueError):
        return
    (row,) = store.decode(line).rows
    assert repr(row["z"]) == repr(value)


@pytest.mark.parametrize(
    "value", ["\ud800", 1 << 63, {1: 2}, {"$float": "nan"}, b"bytes", {1, 2}, [[]] * 3 + [object()]]
)
def test_what_the_store_cannot_say_is_refused(value):
    with pytest.raises((TypeError, ValueError)):
        store.encode(record(1, z=value))


def test_lines_of_the_first_version_have_no_status(tmp_path):
    path = tmp_path / "r.jsonl"
    fields = json.loads(WHOLE)
    del fields["status"], fields["absent"]
    path.write_text(json.dumps(fields) + "\n")
    assert store.read(path) == ([record(1)], [])
    kept = Path(__file__).parents[2] / "docs" / "h100" / "records.jsonl"
    records, damage = store.read(kept)
    assert len(records) == len(kept.read_text("utf-8").splitlines())
    assert not damage


def test_an_absence_is_a_status_of_its_own(tmp_path):
    path = tmp_path / "r.jsonl"
    absent = replace(record(1), rows=(), absent=Absence("speech", "apt-get install it"))
    assert (absent.status, absent.ok) == (Status.NOT_AVAILABLE, False)
    with store.appending(path) as append:
        append(absent)
    assert json.loads(path.read_text())["status"] == "not available"
    assert store.read(path) == ([absent], [])


def test_a_full_disk_is_told_and_what_is_written_before_it_is_kept(tmp_path):
    path = tmp_path / "r.jsonl"
    path.symlink_to("/dev/full")
    with (
        pytest.raises(StoreWriteError, match=r"No space left on device.*make room"),
        store.appending(path) as to,
    ):
        to(record(1))


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(StoreWriteError, match=r"cannot be written.*name another folder"),
        store.appending(tmp_path / "file" / "r.jsonl"),
    ):
        pass
