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

import numpy as np
import pytest

from experiments import store
from experiments.contract import Case, Record
from experiments.errors import StoreLockedError


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
from experiments import store
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


def test_export_to_parquet(tmp_path):
    import pandas as pd

    failed = Record(Case("toy", {"x": 9}), (), "ValueError: no", 0.0, {})
    (path,) = store.export([record(1), record(2), failed], tmp_path)
    table = pd.read_parquet(path)
    assert path.name == "toy.parquet"
    assert table[["x", "seed", "y", "fingerprint"]].to_numpy().tolist() == [[1, 3, 1, "f"], [2, 3, 2, "f"]]
