"""The store: an append-only file of self-describing records, one strict JSON line each.

A record reaches the file in one write, and :func:`appending` begins on a line of its own whatever came
before, so a process killed at any moment costs at most the case that it was recording.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.contract import Case, Record, frame
from experiments.errors import StoreLockedError, StoreWriteError

_FLOAT = "$float"
"""Marks a float that strict JSON cannot write: ``{"$float": "nan"}``."""


@dataclass(frozen=True)
class Damage:
    """A line of the store that is no record: where, why, and how it begins."""

    line: int
    reason: str
    excerpt: str


def _plain(value: Any) -> Any:
    """The value in terms of strict JSON; NumPy scalars become Python's."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return {_FLOAT: repr(value)}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _restored(fields: dict[str, Any]) -> Any:
    return float(fields[_FLOAT]) if fields.keys() == {_FLOAT} else fields


def encode(record: Record) -> bytes:
    """The record as one line; a TypeError if it holds what JSON cannot say."""
    fields = {
        "key": record.case.key,
        "claim": record.case.claim,
        "params": record.case.params,
        "seed": record.case.seed,
        "error": record.error,
        "seconds": record.seconds,
        "environment": record.environment,
        "rows": record.rows,
    }
    return (json.dumps(_plain(fields), allow_nan=False) + "\n").encode()


def decode(line: bytes) -> Record:
    """The record that a line holds; a ValueError, KeyError or TypeError if it holds none."""
    fields = json.loads(line, object_hook=_restored)
    case = Case(fields["claim"], fields["params"], fields["seed"])
    if case.key != fields["key"]:
        raise ValueError(f"key {fields['key']} does not belong to this case, {case.key} does")
    return Record(case, tuple(fields["rows"]), fields["error"], fields["seconds"], fields["environment"])


def read(path: Path) -> tuple[list[Record], list[Damage]]:
    """All records, oldest first, and the lines that are none; nothing of either where there is no file."""
    records: list[Record] = []
    damage: list[Damage] = []
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            records.append(decode(line))
        except (ValueError, KeyError, TypeError) as reason:
            cut = " (the last line, cut short)" if number == len(lines) else ""
            damage.append(Damage(number, f"{type(reason).__name__}: {reason}{cut}", repr(line[:80])))
    return records, damage


@contextmanager
def appending(path: Path) -> Iterator[Callable[[Record], None]]:
    """Hold the store and yield the function that appends a record to it, safe on disk when it returns.

    Raises
    ------
    StoreLockedError
        Another run holds the store. The lock goes with its process, however that ends.
    StoreWriteError
        The disk took only a part of a record; that part is reported by :func:`read`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as held:
            raise StoreLockedError(
                f"another run is writing {path}; wait for it to end, or name another folder with --results"
            ) from held
        size = os.fstat(descriptor).st_size
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        if torn:
            _write(descriptor, b"\n", path)
        yield lambda record: _write(descriptor, encode(record), path)
    finally:
        os.close(descriptor)


def _write(descriptor: int, line: bytes, path: Path) -> None:
    written = os.write(descriptor, line)
    os.fsync(descriptor)
    if written != len(line):
        raise StoreWriteError(
            f"{path} took {written} of {len(line)} bytes; make room on its disk and run again"
        )


def export(records: Iterable[Record], folder: Path) -> list[Path]:
    """Write each claim's rows, with their code and time, to ``<claim>.parquet``; give the paths."""
    by_claim: dict[str, list[Record]] = {}
    for record in records:
        if record.ok:
            by_claim.setdefault(record.case.claim, []).append(record)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for claim, of_claim in by_claim.items():
        table = frame(of_claim)
        for name in ("fingerprint", "recorded"):
            table[name] = [record.environment.get(name) for record in of_claim for _ in record.rows]
        paths.append(folder / f"{claim}.parquet")
        table.to_parquet(paths[-1])
    return paths
