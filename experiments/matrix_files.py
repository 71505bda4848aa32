"""Arrays from files of strangers: data only, sizes checked before anything is allocated.

Nothing in a file is run: no pickle, no code, no path beyond the file itself.  Each way a file can be wrong is an
:class:`UnreadableFileError` that says which and what to do.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO

import numpy as np

from experiments.errors import ExperimentError

LIMIT = 2**30
"""Bytes that the arrays of one file may take, stored or in float64; 1 GiB."""

_HEADER = 2**20
_SAFE = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


class UnreadableFileError(ExperimentError):
    """A file that is not what its name says, or holds what cannot be audited."""


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The real floating arrays of a file by name; the one of a file with a single array is called ``a``.

    Raises
    ------
    UnreadableFileError
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        known = ", ".join(_READERS)
        raise UnreadableFileError(
            f"{path}: files ending in {path.suffix or 'nothing'} are unknown; known are {known}"
        )
    try:
        if not path.is_file():
            raise UnreadableFileError(f"{path}: no such file, or not a plain one")
        if path.stat().st_size == 0:
            raise UnreadableFileError(f"{path}: the file is empty")
        found = reader(path)
    except OSError as error:
        raise UnreadableFileError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not found:
        raise UnreadableFileError(f"{path}: holds no array of real floating numbers")
    for name, x in found.items():
        if not np.isfinite(x).all():
            bad = int((~np.isfinite(x)).sum())
            raise UnreadableFileError(f"{path}: array {name} has {bad} entries that are NaN or infinite")
    return found


def _shape_bytes(path: Path, name: str, shape: Any, itemsize: int) -> int:
    """Bytes of an array, refused where the shape is none, empty or too large."""
    sound = isinstance(shape, (tuple, list)) and all(type(s) is int and s >= 0 for s in shape)
    if not sound:
        raise UnreadableFileError(f"{path}: array {name} has no sound shape: {shape!r:.80}")
    count = math.prod(shape)
    if count == 0 or not shape:
        raise UnreadableFileError(f"{path}: array {name} is empty, of shape {tuple(shape)}")
    if count * max(itemsize, 8) > LIMIT:
        raise UnreadableFileError(
            f"{path}: array {name} of shape {tuple(shape)} takes more than {LIMIT >> 20} MiB in float64"
        )
    return count * itemsize


def _npy(path: Path, name: str, stream: BinaryIO, size: int) -> np.ndarray:
    """One array in NumPy's format from a stream of ``size`` bytes; its header is checked first."""
    head = stream.read(12)
    if head[:6] != b"\x93NUMPY" or len(head) < 12:
        raise UnreadableFileError(f"{path}: array {name} does not begin as NumPy's format does")
    version = (head[6], head[7])
    wide = version != (1, 0)
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise UnreadableFileError(
            f"{path}: array {name} is in version {version} of NumPy's format, not 1 to 3"
        )
    length = int.from_bytes(head[8 : 12 if wide else 10], "little")
    start = 12 if wide else 10
    if length > _HEADER or start + length > size:
        raise UnreadableFileError(
            f"{path}: array {name} has a header of {length} bytes, more than there can be"
        )
    text = head[start:] + stream.read(length - (12 - start))
    try:
        # literals only: neither names nor calls are evaluated
        parse = np.lib.format.read_array_header_1_0 if not wide else np.lib.format.read_array_header_2_0
        raw = length.to_bytes(4 if wide else 2, "little") + text
        shape, fortran, dtype = parse(io.BytesIO(raw), max_header_size=_HEADER)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError, TokenError) as error:
        raise UnreadableFileError(f"{path}: array {name} has a broken header") from error
    if dtype.hasobject:
        raise UnreadableFileError(f"{path}: array {name} holds Python objects, which are never loaded")
    if dtype.kind != "f" or dtype.itemsize > 8:
        raise UnreadableFileError(
            f"{path}: array {name} is of dtype {dtype}; real floating numbers are needed"
        )
    wanted = _shape_bytes(path, name, shape, dtype.itemsize)
    if wanted != size - start - length:
        raise UnreadableFileError(
            f"{path}: array {name} of shape {shape} needs {wanted} bytes and has {size - start - length}"
        )
    data = stream.read(wanted)
    if len(data) != wanted:
        raise UnreadableFileError(f"{path}: array {name} ends after {len(data)} of {wanted} bytes")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def _read_npy(path: Path) -> dict[str, np.ndarray]:
    with path.open("rb") as stream:
        return {"a": _npy(path, "a", stream, path.stat().st_size)}


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise UnreadableFileError(f"{path}: not a zip archive, as .npz is") from error
    found: dict[str, np.ndarray] = {}
    with archive:
        members = [m for m in archive.infolist() if m.filename.endswith(".npy")]
        if sum(m.file_size for m in members) > LIMIT:
            raise UnreadableFileError(f"{path}: its arrays unpack to more than {LIMIT >> 20} MiB")
        for member in members:
            name = member.filename.removesuffix(".npy")
            try:
                with archive.open(member) as stream:
                    found[name] = _npy(path, name, stream, member.file_size)  # type: ignore[arg-type]
            except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError) as error:
                raise UnreadableFileError(f"{path}: array {name} is damaged or encrypted: {error}") from error
    return found


def _read_mtx(path: Path) -> dict[str, np.ndarray]:
    from scipy.io import mminfo, mmread

    try:
        rows, columns, entries, _, field, _ = mminfo(path)
    except (ValueError, OverflowError, IndexError, TypeError) as error:
        raise UnreadableFileError(f"{path}: not a Matrix Market file: {error}") from error
    if field not in ("real", "double", "integer", "pattern"):
        raise UnreadableFileError(f"{path}: a {field} matrix; a real one is needed")
    _shape_bytes(path, "a", (int(rows), int(columns)), 8)
    if (
        int(entries) > path.stat().st_size
    ):  # each takes two characters at least, or has a mirror image that does
        raise UnreadableFileError(f"{path}: announces {entries} entries, more than its bytes can hold")
    if int(entries) > int(rows) * int(columns):
        raise UnreadableFileError(f"{path}: announces {entries} entries for {rows} × {columns}")
    try:
        matrix = mmread(path)
    except (ValueError, OverflowError, IndexError, TypeError) as error:
        raise UnreadableFileError(f"{path}: breaks off or is damaged: {error}") from error
    dense = matrix if isinstance(matrix, np.ndarray) else matrix.toarray()
    return {"a": dense.astype(np.float64)}


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > min(_HEADER, size - 8):
            raise UnreadableFileError(f"{path}: announces a header of {length} bytes, more than there can be")
        try:
            header = json.loads(stream.read(length))
        except (ValueError, RecursionError) as error:
            raise UnreadableFileError(f"{path}: its header is not JSON") from error
        if not isinstance(header, dict):
            raise UnreadableFileError(f"{path}: its header is not a table of tensors")
        body = size - 8 - length
        plans: dict[str, tuple[str, tuple[int, ...], int, int]] = {}
        total = 0
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            try:
                kind, shape = entry["dtype"], entry["shape"]
                start, end = entry["data_offsets"]
            except (KeyError, TypeError, ValueError) as error:
                raise UnreadableFileError(f"{path}: tensor {name!r:.80} is described wrongly") from error
            if kind not in _SAFE:
                continue  # integers and the like are no matter of an audit
            wanted = _shape_bytes(path, name, shape, np.dtype(_SAFE[kind]).itemsize)
            if not (
                type(start) is int
                and type(end) is int
                and start >= 0
                and end <= body
                and end - start == wanted
            ):
                raise UnreadableFileError(
                    f"{path}: tensor {name!r:.80} lies outside the file or has another size"
                )
            total += wanted
            plans[name] = (kind, tuple(shape), start, wanted)
        if total > LIMIT:
            raise UnreadableFileError(f"{path}: its tensors take more than {LIMIT >> 20} MiB")
        found = {}
        for name, (kind, shape, start, wanted) in plans.items():
            stream.seek(8 + length + start)
            x = np.frombuffer(stream.read(wanted), _SAFE[kind])
            if kind == "BF16":
                x = (x.astype(np.uint32) << 16).view(np.float32)
            found[name] = x.reshape(shape)
    return found


_READERS: dict[str, Callable[[Path], dict[str, np.ndarray]]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".mtx": _read_mtx,
    ".safetensors": _read_safetensors,
}
