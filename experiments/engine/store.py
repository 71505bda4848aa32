"""The store: an append-only file of self-describing records, one strict JSON line each.

A record reaches the file in one write, and :func:`appending` begins on a line of its own whatever came
before, so a process killed at any moment costs at most the case that it was recording.

A line is JSON in UTF-8, of at most :data:`LONGEST` bytes, nested at most :data:`DEEPEST` deep, with integers of 64
bits and no name twice in an object. What :func:`encode` writes, :func:`read` gives back; what it would not write is no
record.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from experiments.contract import Absence, Case, Record
from experiments.errors import StoreLockedError, StoreWriteError

LONGEST, DEEPEST = 1 << 24, 32

_FLOAT = "$float"
"""Marks a float that strict JSON cannot write: ``{"$float": "nan"}``."""
_WIDEST = 1 << 63
_REASON = 200


@dataclass(frozen=True)
class Damage:
    """A line of the store that is no record: where, why, and how it begins; printable text both."""

    line: int
    reason: str
    excerpt: str


def plain(value: Any, depth: int = 0) -> Any:
    """The value in terms of the store's JSON; NumPy scalars become Python's.

    Raises
    ------
    TypeError
        Something is no text, number, boolean, None, list or object, or an object has a name that is no text.
    ValueError
        An integer of more than 64 bits, text with half a surrogate pair, or lists and objects nested too deep.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if not -_WIDEST <= value < _WIDEST:
            raise ValueError("an integer has more than 64 bits")
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {_FLOAT: repr(float(value))}
    if isinstance(value, str):
        value.encode()
        return value
    if depth == DEEPEST:
        raise ValueError(f"nested more than {DEEPEST} deep")
    if isinstance(value, Mapping):
        if value.keys() == {_FLOAT}:
            raise ValueError(f"an object whose only name is {_FLOAT} means a float")
        if not all(isinstance(name, str) for name in value):
            raise TypeError("a name in an object is no text")
        return {plain(name): plain(item, depth + 1) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, depth + 1) for item in value]
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def _object(pairs: list[tuple[str, Any]]) -> Any:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("an object has a name twice")
    if fields.keys() != {_FLOAT}:
        return fields
    if fields[_FLOAT] not in ("nan", "inf", "-inf"):
        raise ValueError(f"{fields[_FLOAT]!r} is no float that needs a mark")
    return float(fields[_FLOAT])


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no strict JSON number of 64 bits")
    return value


def encode(record: Record) -> bytes:
    """The record as one line; a TypeError or ValueError if it holds what the store cannot say."""
    absent = record.absent
    fields = {
        "key": record.case.key,
        "claim": record.case.claim,
        "params": record.case.params,
        "seed": record.case.seed,
        "status": record.status.value,
        "error": record.error,
        "absent": None if absent is None else {"what": absent.what, "remedy": absent.remedy},
        "seconds": record.seconds,
        "environment": record.environment,
        "rows": record.rows,
    }
    line = (json.dumps(plain(fields), allow_nan=False) + "\n").encode()
    if len(line) > LONGEST:
        raise ValueError(f"a record of {len(line)} bytes; the longest has {LONGEST}")
    return line


def decode(line: bytes) -> Record:
    """The record that a line holds; a ValueError, KeyError, TypeError or RecursionError if it holds none."""
    if len(line) > LONGEST:
        raise ValueError(f"more than {LONGEST} bytes")
    fields = json.loads(line.decode(), object_pairs_hook=_object, parse_float=_finite, parse_constant=_finite)
    if not isinstance(fields, dict):
        raise TypeError("not an object")
    plain(fields)
    fields = {"status": None, "absent": None, **fields}  # records of earlier versions have neither
    for name, kind in _KINDS.items():
        if not isinstance(fields[name], kind) or isinstance(fields[name], bool):
            raise TypeError(f"{name} is {type(fields[name]).__name__}")
    if not 0 <= fields["seconds"] < math.inf:
        raise ValueError(f"seconds is {fields['seconds']}")
    if not fields["claim"].isidentifier():
        raise ValueError("claim is no name of a module")
    if not all(isinstance(row, dict) for row in fields["rows"]):
        raise TypeError("a row is no object")
    absent = fields["absent"]
    if not all(isinstance(text, str) for text in (*fields["environment"].values(), *(absent or {}).values())):
        raise TypeError("a fact of the environment, or an absence, is no text")
    record = Record(
        Case(fields["claim"], fields["params"], fields["seed"]),
        tuple(fields["rows"]),
        fields["error"],
        fields["seconds"],
        fields["environment"],
        None if absent is None else Absence(**absent),
    )
    if record.case.key != fields["key"]:
        raise ValueError(f"key {fields['key']!r} does not belong to this case, {record.case.key} does")
    if fields["status"] not in (None, record.status.value):
        raise ValueError(f"status {fields['status']!r} of a record that is {record.status.value}")
    return record


_KINDS: dict[str, Any] = {
    "key": str,
    "claim": str,
    "params": dict,
    "seed": int,
    "status": str | None,
    "error": str | None,
    "absent": dict | None,
    "seconds": int | float,
    "environment": dict,
    "rows": list,
}


def read(path: Path) -> tuple[list[Record], list[Damage]]:
    """All records, oldest first, and the lines that are none; nothing of either where there is no file.

    Whatever a line holds, it is a record or one damage; one that repeats an earlier line is a damage too.
    """
    records: list[Record] = []
    damage: list[Damage] = []
    if not path.exists():
        return records, damage
    first: dict[bytes, int] = {}
    with path.open("rb") as file:
        for number, (line, ended) in enumerate(_lines(file), start=1):
            if not line:
                continue
            try:
                record = decode(line)
                earlier = first.setdefault(hashlib.blake2b(line, digest_size=16).digest(), number)
                if earlier < number:
                    raise ValueError(f"repeats line {earlier}")
                records.append(record)
            except (ValueError, KeyError, TypeError, RecursionError) as reason:
                cut = "" if ended else " (the last line, cut short)"
                told = f"{type(reason).__name__}: {reason}".encode("ascii", "backslashreplace").decode()
                damage.append(Damage(number, f"{told[:_REASON]}{cut}", repr(line[:80])))
    return records, damage


def _lines(file: BinaryIO) -> Iterator[tuple[bytes, bool]]:
    """Each line without its end, of a very long one the beginning, and whether it has an end."""
    while piece := file.readline(LONGEST + 1):
        line = piece.removesuffix(b"\n")
        while not piece.endswith(b"\n") and (more := file.readline(LONGEST + 1)):
            piece = more
        yield line, piece.endswith(b"\n")


@contextmanager
def appending(path: Path) -> Iterator[Callable[[Record], None]]:
    """Hold the store and yield the function that appends a record to it, safe on disk when it returns.

    Raises
    ------
    StoreLockedError
        Another run holds the store. The lock goes with its process, however that ends.
    StoreWriteError
        The store cannot be written, or its disk took only a part of a record; that part is reported by :func:`read`.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    except OSError as error:
        raise StoreWriteError(
            f"{path} cannot be written ({error.strerror}); name another folder with --results"
        ) from error
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
    try:
        written = os.write(descriptor, line)
        os.fsync(descriptor)
    except OSError as error:
        raise StoreWriteError(
            f"{path} took no record ({error.strerror}); make room on its disk and run again"
        ) from error
    if written != len(line):
        raise StoreWriteError(
            f"{path} took {written} of {len(line)} bytes; make room on its disk and run again"
        )
