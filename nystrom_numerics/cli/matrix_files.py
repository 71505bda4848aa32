"""Arrays from files of strangers: data only, sizes checked before anything is allocated.

Nothing in a file is run: no pickle, no code, no path beyond the file itself.  Each way a file can be wrong is an
:class:`UnreadableFileError` that says which and what to do.
"""

from __future__ import annotations

import io
import json
import math
import os
import stat
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from nystrom_numerics.cli.errors import CommandError

__all__ = ["LIMIT", "Stored", "UnreadableFileError", "read_arrays"]

LIMIT = 2**30
"""Bytes that the arrays of one file may take, stored or in float64; 1 GiB."""

_INDEX = 2**20
"""Bytes of what describes the arrays: the header of a safetensors file, the directory of an archive."""

_HEADER = 10_000
"""Bytes of the header of a .npy file, NumPy's own limit: what parses it is not safe with longer ones."""

_LINE = 1000
"""Bytes of the first line of a Matrix Market file."""

_DEFLATE = 1032
"""Bytes that deflate makes of one, at most."""

_SAFE = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


class UnreadableFileError(CommandError):
    """A file that is not what its name says, or holds what cannot be audited."""


class _OtherKindError(UnreadableFileError):
    """An array of numbers that no audit is about, such as integers."""


class Stored(NamedTuple):
    """An array of a file, and the unit roundoff of the format it was stored in."""

    values: np.ndarray
    roundoff: float


def read_arrays(path: Path) -> dict[str, Stored]:
    """The real floating arrays of a file by name; the one of a file with a single array is called ``a``.

    A link is followed to a plain file; folders, devices and pipes are refused unread.

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
        with _File(path) as file, _parsing(f"{path}: damaged"):
            found = reader(file)
    except (OSError, ValueError) as error:  # a name with a null character is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise UnreadableFileError(f"{path}: cannot be read: {reason}") from error
    if not found:
        raise UnreadableFileError(f"{path}: holds no array of real floating numbers")
    for name, x in found.items():
        if not np.isfinite(x.values).all():
            bad = int((~np.isfinite(x.values)).sum())
            raise UnreadableFileError(f"{path}: array {name} has {bad} entries that are NaN or infinite")
    return found


class _File(io.BufferedReader):
    """A plain file of which no read asks for more than is left, nor for more than ``most``.

    What it is, is asked before it is opened, for opening alone can wake a device, and again of what was opened, without
    waiting, should a pipe have taken its place.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise UnreadableFileError(f"{path}: no such file, or not a plain one")
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        super().__init__(io.FileIO(os.open(path, flags), "rb"))
        self.path, self.most = path, 2 * LIMIT
        found = os.fstat(self.fileno())
        self.size = found.st_size
        try:
            if not stat.S_ISREG(found.st_mode):
                raise UnreadableFileError(f"{path}: no such file, or not a plain one")
            if not self.size:
                raise UnreadableFileError(f"{path}: the file is empty")
            if self.size > self.most:
                raise UnreadableFileError(f"{path}: a file of {self.size >> 20} MiB, more than is read")
        except UnreadableFileError:
            self.close()
            raise

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(self.size - self.tell(), 0)
        wanted = left if size is None or size < 0 else min(size, left)
        if wanted > self.most:
            raise UnreadableFileError(f"{self.path}: announces a directory of {wanted} bytes, too many")
        return super().read(wanted)


@contextmanager
def _parsing(what: str) -> Iterator[None]:
    """One refusal for all that a parser may raise or warn of: the kinds of damage it knows are not ours to list."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (UnreadableFileError, OSError):
        raise
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        raise UnreadableFileError(f"{what}: {first[:200] or type(error).__name__}") from error


def _shape_bytes(path: Path, name: str, shape: Any, itemsize: int) -> int:
    """Bytes of an array, refused where the shape is none, empty or too large."""
    sound = isinstance(shape, (tuple, list)) and all(type(s) is int and s >= 0 for s in shape)
    if not sound:
        raise UnreadableFileError(f"{path}: array {name:.80} has no sound shape: {shape!r:.80}")
    count = math.prod(shape)
    if count == 0 or not shape:
        raise UnreadableFileError(f"{path}: array {name:.80} is empty, of shape {tuple(shape)}")
    if len(shape) > 32:  # NumPy 1 has no more
        raise UnreadableFileError(f"{path}: array {name:.80} has {len(shape)} axes, more than arrays have")
    if count * max(itemsize, 8) > LIMIT:
        raise UnreadableFileError(
            f"{path}: array {name:.80} of shape {tuple(shape)!s:.80} takes more than {LIMIT >> 20} MiB in float64"
        )
    return int(count * itemsize)


def _npy(path: Path, name: str, stream: BinaryIO, size: int) -> Stored:
    """One array in NumPy's format from a stream of ``size`` bytes; its header is checked first."""
    head = stream.read(8)
    if head[:6] != b"\x93NUMPY" or len(head) < 8:
        raise UnreadableFileError(f"{path}: array {name} does not begin as NumPy's format does")
    version = (head[6], head[7])
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise UnreadableFileError(
            f"{path}: array {name} is in version {version} of NumPy's format, not 1 to 3"
        )
    field = stream.read(2 if version == (1, 0) else 4)
    length = int.from_bytes(field, "little")
    start = len(head) + len(field) + length
    if length > _HEADER or start > size:
        raise UnreadableFileError(
            f"{path}: array {name} has a header of {length} bytes, more than there can be"
        )
    formats = np.lib.format
    parse = formats.read_array_header_1_0 if version == (1, 0) else formats.read_array_header_2_0
    with _parsing(f"{path}: array {name} has a broken header"):
        # literals only: neither names nor calls are evaluated
        shape, fortran, dtype = parse(io.BytesIO(field + stream.read(length)), max_header_size=_HEADER)
    if dtype.hasobject:
        raise UnreadableFileError(f"{path}: array {name} holds Python objects, which are never loaded")
    if dtype.kind != "f" or dtype.itemsize > 8:
        raise _OtherKindError(
            f"{path}: array {name} is of dtype {dtype!s:.80}; real floating numbers are needed"
        )
    wanted = _shape_bytes(path, name, shape, dtype.itemsize)
    if wanted != size - start:
        raise UnreadableFileError(
            f"{path}: array {name} of shape {shape} needs {wanted} bytes and has {size - start}"
        )
    data = stream.read(wanted)
    if len(data) != wanted:
        raise UnreadableFileError(f"{path}: array {name} ends after {len(data)} of {wanted} bytes")
    x = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
    return Stored(x.astype(dtype.newbyteorder("="), copy=False), float(np.finfo(dtype).eps) / 2)


def _read_npy(file: _File) -> dict[str, Stored]:
    return {"a": _npy(file.path, "a", file, file.size)}


def _read_npz(file: _File) -> dict[str, Stored]:
    path, most = file.path, file.most
    file.most = _INDEX  # while the directory is read, in one piece
    with _parsing(f"{path}: not a zip archive, as .npz is"):
        archive = zipfile.ZipFile(file)
    file.most = most
    found: dict[str, Stored] = {}
    other: _OtherKindError | None = None
    with archive:
        members = [m for m in archive.infolist() if m.filename.endswith(".npy")]
        if sum(m.file_size for m in members) > LIMIT:
            raise UnreadableFileError(f"{path}: its arrays unpack to more than {LIMIT >> 20} MiB")
        for member in members:
            name = member.filename.removesuffix(".npy")[:80]
            _require_plausible(path, name, member)
            with _parsing(f"{path}: array {name} is damaged or encrypted"):
                try:
                    with archive.open(member) as stream:
                        found[name] = _npy(path, name, stream, member.file_size)  # type: ignore[arg-type]
                except _OtherKindError as error:
                    other = error  # labels beside the points, for instance
    if other is not None and not found:
        raise other
    return found


def _require_plausible(path: Path, name: str, member: zipfile.ZipInfo) -> None:
    """Refuse a compression whose memory has no bound here, and a size that the packed bytes cannot have."""
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        kind = zipfile.compressor_names.get(  # type: ignore[attr-defined]
            member.compress_type, str(member.compress_type)
        )
        raise UnreadableFileError(
            f"{path}: array {name} is packed by {kind}, which NumPy never does; save it with numpy.savez_compressed"
        )
    if member.file_size > _DEFLATE * (member.compress_size + 64):
        raise UnreadableFileError(
            f"{path}: array {name} announces {member.file_size} bytes, more than its {member.compress_size} unpack to"
        )


def _read_mtx(file: _File) -> dict[str, Stored]:
    """Text by text, and not by SciPy's reader, which ends the process at some damaged files."""
    path = file.path
    if file.size > LIMIT // 4:
        raise UnreadableFileError(f"{path}: a text of more than {LIMIT >> 22} MiB; save it as .npy")
    banner = file.readline(_LINE).decode("latin-1").lower().split()
    if len(banner) != 5 or banner[:2] != ["%%matrixmarket", "matrix"]:
        raise UnreadableFileError(
            f"{path}: not a Matrix Market file, which begins with %%MatrixMarket matrix"
        )
    layout, field, symmetry = banner[2:]
    if layout not in ("array", "coordinate") or symmetry not in ("general", "symmetric"):
        raise UnreadableFileError(f"{path}: not a general or symmetric array or list of coordinates")
    if field not in ("real", "double", "integer", "pattern"):
        raise UnreadableFileError(f"{path}: a {field:.80} matrix; a real one is needed")
    line = b"%"
    while line and (line.startswith(b"%") or not line.strip()):
        line = file.readline()
    sizes = line.split()
    wanted = 2 if layout == "array" else 3
    if len(sizes) != wanted or not all(size.isdigit() and len(size) < 20 for size in sizes):
        raise UnreadableFileError(f"{path}: not a Matrix Market file: {wanted} sizes are missing")
    rows, columns, *entries = map(int, sizes)
    _shape_bytes(path, "a", (rows, columns), 8)
    if symmetry == "symmetric" and rows != columns:
        raise UnreadableFileError(f"{path}: symmetric and of shape {(rows, columns)}")
    text = file.read()
    fill = _fill_array if layout == "array" else _fill_coordinates
    count = entries[0] if entries else rows * (rows + 1) // 2 if symmetry == "symmetric" else rows * columns
    width = (2 if field == "pattern" else 3) if entries else 1
    if count * width > len(text):
        raise UnreadableFileError(f"{path}: announces {count} entries, more than its bytes can hold")
    with _parsing(f"{path}: breaks off or is damaged"):
        warnings.simplefilter("error")  # of what is no number
        numbers = np.fromstring(text, dtype=np.float64, sep=" ")
        if len(numbers) != count * width:
            raise ValueError(f"{len(numbers)} numbers where {count * width} are needed")
        return {"a": Stored(fill(numbers, rows, columns, symmetry == "symmetric", width), 2.0**-53)}


def _fill_array(numbers: np.ndarray, rows: int, columns: int, symmetric: bool, _width: int) -> np.ndarray:
    """All entries, column by column; of a symmetric matrix those on and below the diagonal."""
    if not symmetric:
        return numbers.reshape(columns, rows).T
    found = np.zeros((rows, rows))
    i, j = np.triu_indices(rows)  # its transpose, row by row
    found[i, j] = found[j, i] = numbers
    return found


def _fill_coordinates(
    numbers: np.ndarray, rows: int, columns: int, symmetric: bool, width: int
) -> np.ndarray:
    """Row, column and value, counted from 1; values of one place are added, and mirrored if need be."""
    table = numbers.reshape(-1, width)
    whole = table[:, :2] - 1
    if not ((whole >= 0) & (whole < (rows, columns)) & (whole == np.floor(whole))).all():
        raise ValueError(f"an entry outside of {rows} × {columns}")
    i, j = whole.astype(np.int64).T
    values = table[:, 2] if width == 3 else np.ones(len(table))
    found = np.zeros((rows, columns))
    np.add.at(found, (i, j), values)
    if symmetric:
        off = i != j
        np.add.at(found, (j[off], i[off]), values[off])
    return found


def _read_safetensors(file: _File) -> dict[str, Stored]:
    path = file.path
    length = int.from_bytes(file.read(8), "little")
    body = file.size - 8 - length
    if length > _INDEX or body < 0:
        raise UnreadableFileError(f"{path}: announces a header of {length} bytes, more than there can be")
    with _parsing(f"{path}: its header is not JSON"):
        header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise UnreadableFileError(f"{path}: its header is not a table of tensors")
    plans: dict[str, tuple[str, tuple[int, ...], int, int]] = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        try:
            kind, shape = entry["dtype"], entry["shape"]
            start, end = entry["data_offsets"]
        except (KeyError, TypeError, ValueError) as error:
            raise UnreadableFileError(f"{path}: tensor {name!r:.80} is described wrongly") from error
        if not isinstance(kind, str) or any("\ud800" <= c <= "\udfff" for c in name):  # half of a character
            raise UnreadableFileError(f"{path}: tensor {name!r:.80} is described wrongly")
        if kind not in _SAFE:
            continue  # integers and the like are no matter of an audit
        wanted = _shape_bytes(path, name, shape, np.dtype(_SAFE[kind]).itemsize)
        inside = type(start) is int and type(end) is int and start >= 0 and end <= body
        if not inside or end - start != wanted:
            raise UnreadableFileError(
                f"{path}: tensor {name!r:.80} lies outside the file or has another size"
            )
        plans[name] = (kind, tuple(shape), start, wanted)
    if sum(wanted for *_, wanted in plans.values()) > LIMIT:
        raise UnreadableFileError(f"{path}: its tensors take more than {LIMIT >> 20} MiB")
    found = {}
    for name, (kind, shape, start, wanted) in plans.items():
        file.seek(8 + length + start)
        x = np.frombuffer(file.read(wanted), _SAFE[kind])
        roundoff = 2.0**-8 if kind == "BF16" else float(np.finfo(x.dtype).eps) / 2
        if kind == "BF16":
            x = (x.astype(np.uint32) << 16).view(np.float32)
        found[name] = Stored(x.reshape(shape), roundoff)
    return found


_READERS: dict[str, Callable[[_File], dict[str, Stored]]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".mtx": _read_mtx,
    ".safetensors": _read_safetensors,
}
