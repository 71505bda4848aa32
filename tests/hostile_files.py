"""Files that are nearly right: mutants of sound ones, drawn by number, and what ``nystrom audit`` makes of them.

``python -m tests.hostile_files FORMAT START STOP FOLDER`` audits the mutants numbered so in this process, whose memory
and time are bounded, and prints one line of JSON with the counts.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import os
import random
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

MEMORY = 3 * 2**30
"""Bytes of address space, the libraries' included (about 1 GiB)."""

SECONDS = 20
"""For one file; the least of them takes a hundredth of a second."""

A = np.array([[2.0, 1.0, 0.5], [1.0, 2.0, 1.0], [0.5, 1.0, 2.0]])
QKV = np.random.default_rng(7).standard_normal((3, 4, 2))


def npy(x: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
    held = io.BytesIO()
    np.lib.format.write_array(held, np.asanyarray(x), version=version, allow_pickle=x.dtype.hasobject)
    return held.getvalue()


def npz(arrays: dict[str, bytes], kind: int = zipfile.ZIP_DEFLATED) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as packed:
        for name, content in arrays.items():
            packed.writestr(
                zipfile.ZipInfo(name), content, compress_type=kind
            )  # of 1980, whatever the clock says
    return held.getvalue()


def safetensors(entries: object, body: bytes) -> bytes:
    head = json.dumps(entries).encode()
    return struct.pack("<Q", len(head)) + head + body


def tensors(**arrays: np.ndarray) -> bytes:
    names = {"float64": "F64", "float32": "F32", "float16": "F16", "uint16": "BF16", "int64": "I64"}
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    body = b""
    for name, x in arrays.items():
        ends = [len(body), len(body) + x.nbytes]
        entries[name] = {"dtype": names[x.dtype.name], "shape": list(x.shape), "data_offsets": ends}
        body += x.tobytes()
    return safetensors(entries, body)


def mtx(kind: str, body: str, comment: str = "% made by hand\n") -> bytes:
    return f"%%MatrixMarket matrix {kind}\n{comment}{body}".encode()


def lines(x: np.ndarray) -> str:
    return "".join(f"{value!r}\n" for value in x.T.ravel().tolist())


COORDINATES = "3 3 5\n1 1 2.0\n2 1 1.0\n2 2 2.0\n3 2 1.0\n3 3 2e0\n"
HALF = (A.astype("f4").view("u4") >> 16).astype("u2")

SOUND: dict[str, list[bytes]] = {
    "npy": [
        *(npy(A.astype(kind)) for kind in ("<f8", "<f4", "<f2", ">f8", ">f4")),
        npy(np.asfortranarray(A)),
        npy(A, (2, 0)),
        npy(A, (3, 0)),
        npy(np.zeros((3, 3))),
    ],
    "npz": [
        npz({"a.npy": npy(A)}, zipfile.ZIP_STORED),
        npz({"a.npy": npy(A)}),
        npz({"a.npy": npy(np.tile(A, (5, 5))), "labels.npy": npy(np.arange(3))}),
        npz({name: npy(x) for name, x in zip(("q.npy", "k.npy", "v.npy"), QKV, strict=True)}),
        npz({"a.npy": npy(A)}, zipfile.ZIP_BZIP2),
        npz({"a.npy": npy(A)}, zipfile.ZIP_LZMA),
        npz({"a.npy": npz({"a.npy": npy(A)})}),
    ],
    "mtx": [
        mtx("array real general", "3 3\n" + lines(A)),
        mtx("array real symmetric", "3 3\n2.0\n1.0\n0.5\n2.0\n1.0\n2.0\n"),
        mtx("coordinate real symmetric", COORDINATES),
        mtx("coordinate integer symmetric", COORDINATES.replace(".0", "").replace("e0", "")),
        mtx("coordinate pattern general", "2 2 2\n1 1\n2 2\n"),
        mtx("coordinate real general", "3 3 3\n1 1 1.5\n2 2 1e-3\n3 3 -0.0\n", ""),
    ],
    "safetensors": [
        tensors(a=A),
        tensors(a=A.astype("f4"), i=np.arange(3)),
        tensors(a=A.astype("f2")),
        tensors(a=HALF),
        tensors(q=QKV[0], k=QKV[1], v=QKV[2]),
    ],
}

NUMBERS = (0, 1, 2, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)
_WORDS = r"""-1 0 00 1 2 4 9999 20000 999999999999 4294967296 18446744073709551616 1e400 -1e400 nan inf 1e308
    1e-320 5e-324 1.5 None True [] () {} [1] (3,3) (3,3,3) ( [ { \ % # 1_0 0x10 1L 1j '' '"""
WORDS = (*_WORDS.split(), "\x1b[2J")
_DESCRIPTIONS = r"""'|O' '<f16' '<c16' '<i8' '|S9' '|V999999999999' '<U1' '|b1' '<M8[s]' 'f8,f8' '<f3' '\d' 8 None
    lambda:0 ('<f8',(3,)) [('a','<f8')] [('a','|O')] __import__('os') ('<f8',(9999999999,)) '>f8' '=f8' '<f8'"""
DESCRIPTIONS = tuple(_DESCRIPTIONS.split())
NAMES = ("", "q", "\ud800", "\x1b]0;mine\x07", "two\nlines", "../../a", "x" * 5000, "[bold]", "é", "\x00")


def flip(data: bytes, r: random.Random) -> bytes:
    held = bytearray(data)
    for _ in range(r.choice((1, 1, 2, 8))):
        held[r.randrange(len(held))] ^= 1 << r.randrange(8)
    return bytes(held)


def truncate(data: bytes, r: random.Random) -> bytes:
    return data[: r.randrange(len(data))]


def overwrite(data: bytes, r: random.Random) -> bytes:
    start = r.randrange(len(data))
    length = min(r.choice((1, 4, 16, 64)), len(data) - start)
    filler = r.choice((b"\x00", b"\xff", b" ", b"9", None))
    return (
        data[:start] + (r.randbytes(length) if filler is None else filler * length) + data[start + length :]
    )


def splice(data: bytes, r: random.Random) -> bytes:
    """A piece of the file left out, doubled, or put elsewhere; or strange bytes put in."""
    i, j, k = sorted(r.randrange(len(data) + 1) for _ in range(3))
    return r.choice(
        (
            data[:i] + data[j:],
            data[:j] + data[i:],
            data[:i] + data[j:k] + data[i:j] + data[k:],
            data[:i] + r.randbytes(j - i) + data[i:],
            data + r.randbytes(r.choice((1, 30, 3000))),
        )
    )


def number(data: bytes, r: random.Random) -> bytes:
    """Some bytes as a number that sizes and offsets are not."""
    width = r.choice((1, 2, 4, 8))
    start = r.randrange(max(len(data) - width, 1))
    return (
        data[:start]
        + (r.choice(NUMBERS) % 2 ** (8 * width)).to_bytes(width, "little")
        + data[start + width :]
    )


def word(data: bytes, r: random.Random) -> bytes:
    """A number or a word of a text, or of a header, as another one."""
    found = list(re.finditer(rb"[-+\w.]+", data[:2000]))
    if not found:
        return data
    one = r.choice(found)
    return data[: one.start()] + r.choice(WORDS).encode() + data[one.end() :]


def other_format(data: bytes, r: random.Random) -> bytes:
    """What another name would suit, and what is packed once too often."""
    other = r.choice(r.choice(list(SOUND.values())))
    return r.choice(
        (other, gzip.compress(data, mtime=0), bz2.compress(data), b"PK\x05\x06" + bytes(18), data[::-1])
    )


def npy_header(data: bytes, r: random.Random) -> bytes:
    """A header of any description, shape and length before the data of a sound file."""
    shape = r.choice(
        ("(3, 3)", "(3,3,)", "(9,)", "()", "(0, 3)", "(-3, -3)", "(3L, 3L)", "(99999999, 99999999)", "[3, 3]")
    )
    text = f"{{'descr': {r.choice(DESCRIPTIONS)}, 'fortran_order': {r.choice(WORDS)}, 'shape': {shape}, }}"
    text = r.choice(
        (
            text,
            text,
            "(" * r.choice((50, 90, 9000)),
            "-" * 9000 + "1",
            "{" * 60,
            "'\\d'",
            "{1:2}" + "+1" * 3000,
        )
    )
    length = r.choice((len(text), len(text), 0, 1, 65535, 2**32 - 1))
    version = r.choice(((1, 0), (1, 0), (2, 0), (3, 0), (0, 0), (9, 9)))
    size = struct.pack("<I", length) if version != (1, 0) else struct.pack("<H", length % 65536)
    return b"\x93NUMPY" + bytes(version) + size + text.encode() + r.choice((A.tobytes(), b""))


def archive(data: bytes, r: random.Random) -> bytes:
    """An archive whose packed bytes, sizes, names or directory are damaged, each of which is found at another place."""
    kind = r.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    inner = r.choice(
        (npy(A), npy(np.tile(A, (40, 40))), npz({"a.npy": npy(A)}, kind), bytes(10**5), b"\x80\x04K\x01.")
    )
    name = r.choice(("a", "q", "k", "two\nlines", "\x1b[2J", "../a", "é", "x" * 500)) + ".npy"
    held = bytearray(npz({name: inner}, kind))
    start = 30 + len(name.encode())
    directory = held.rfind(b"PK\x01\x02")
    damage = r.choice(("bytes", "bytes", "method", "sizes", "flags", "directory", "count"))
    if damage == "bytes":
        for _ in range(r.choice((1, 3, 30))):
            held[r.randrange(start, directory)] = r.randrange(256)
    elif damage == "method":
        held[directory + 10 : directory + 12] = struct.pack(
            "<H", r.choice((0, 1, 8, 9, 12, 14, 93, 99, 65535))
        )
    elif damage == "sizes":
        place = directory + r.choice((16, 20, 24, 42))
        held[place : place + 4] = struct.pack("<I", r.choice(NUMBERS) % 2**32)
    elif damage == "flags":
        held[directory + 8 : directory + 10] = struct.pack("<H", r.randrange(65536))
    else:
        place = len(held) - (10 if damage == "directory" else 14)
        held[place : place + 4] = struct.pack("<I", r.choice(NUMBERS) % 2**32)
    return bytes(held)


def market(data: bytes, r: random.Random) -> bytes:
    """A banner of any kind, sizes of any size and lines that are no entries."""
    banner = " ".join(
        r.choice(choices)
        for choices in (
            ("%%MatrixMarket", "%%matrixmarket", "%MatrixMarket", "%%MatrixMarket\x00"),
            ("matrix", "vector", "tensor"),
            ("array", "coordinate", "coordinate", "graph"),
            ("real", "integer", "pattern", "complex", "double", "unsigned-integer", "real\x1b[2J"),
            ("general", "symmetric", "skew-symmetric", "hermitian", "lower"),
        )
    )
    size = r.choice(
        ("3 3", "3 3 9", "3 3 5", "1000000000000 1000000000000 1", "0 0 0", "-3 -3 1", "9 9 999999999", "3")
    )
    size = r.choice((size, size, "8000 8000 1", "10000 3 1", "3 3 5 7", "", "3 3 " + "9" * 400, "\t3\t3\t1"))
    entry = (
        "1 1 1.0",
        "1 1",
        "2.0",
        "9 9 1",
        "0 0 1",
        "-1 2 3",
        "1 1 1e400",
        "1 1 nan",
        "x",
        "",
        "% note",
        "1 1 1 1 1",
        "1.5 1 1",
    )
    body = "\n".join(r.choice(entry) for _ in range(r.choice((0, 1, 5, 9, 200))))
    ending, comment = r.choice(("\n", "\r\n", "\r")), "%" * r.choice((0, 1, 9000))
    return f"{banner}{ending}{comment}\n{size}\n{body}\n".encode()


def table(data: bytes, r: random.Random) -> bytes:
    """A table of tensors with an entry that is none, or a name that a terminal would take for a command."""
    strange = (
        *NUMBERS,
        -1,
        1.5,
        None,
        True,
        "",
        "F64",
        "F4",
        [],
        {},
        [3],
        ["F64"],
        [[0, 72]],
        {"a": 1},
        10**400,
        float("nan"),
        [-3, -3],
        [2**40, 2**40],
    )
    entry = {"dtype": "F64", "shape": [3, 3], "data_offsets": [0, 72]}
    for key in r.sample(list(entry), r.choice((0, 1, 1, 2))):
        entry[key] = r.choice(strange)
    if r.random() < 0.2:
        entry.pop(r.choice(list(entry)))
    entries = r.choice(
        (
            {r.choice(NAMES): entry},
            {"a": r.choice(strange)},
            r.choice(strange),
            [entry],
            {"a": entry, "b": entry},
        )
    )
    head = json.dumps(entries, ensure_ascii=r.random() < 0.5).encode("utf-8", "surrogatepass")
    head = r.choice(
        (
            head,
            head,
            head,
            b"[" * 100000,
            b'{"a":' * 5000,
            b'{"a": ' + b"9" * 9000 + b"}",
            head[:-1],
            b"\xff" + head,
        )
    )
    length = r.choice((len(head), len(head), len(head), 0, len(head) + 1, 2**63, 2**64 - 1))
    return struct.pack("<Q", length) + head + r.choice((A.tobytes(), b"", A.tobytes()[:-1]))


def extreme(r: random.Random) -> np.ndarray:
    """Numbers that a format can hold and arithmetic can hardly: huge, tiny, far apart, of any shape."""
    size = 10.0 ** r.randrange(-320, 308)
    n = r.choice((1, 2, 3, 5))
    x = np.array([r.gauss(0, 1) for _ in range(3 * n)]).reshape(n, 3)
    whole = x @ x.T
    found = r.choice(
        (
            np.zeros((n, n)),
            np.full((n, n), size),
            np.diag([size, 1.0, 1 / size, 0.0][:n]),
            whole * size,
            -whole,
            whole - r.random() * np.eye(n),
            x * size,
            x[0],
            np.outer(x[0], x[0]),
            np.stack([whole, whole]),
            np.where(r.random() < 0.5, np.nan, whole),
        )
    )
    with np.errstate(all="ignore"):
        return found.astype(r.choice(("f8", "f8", "f4", "f2")))


def extreme_file(kind: str, r: random.Random) -> bytes:
    """A sound file of extreme numbers."""
    x = extreme(r)
    if kind == "npy":
        return npy(x)
    if kind == "mtx":
        wide = np.atleast_2d(x.astype(float))[..., :9]
        wide = wide.reshape(-1, wide.shape[-1])
        return mtx("array real general", f"{wide.shape[0]} {wide.shape[1]}\n" + lines(wide))
    given = r.choice(
        ({"a": x}, {"q": x, "k": x}, {"q": x, "k": extreme(r), "v": x}, {"q": x, "k": x, "v": extreme(r)})
    )
    if kind == "safetensors":
        return tensors(**given)
    return npz({f"{name}.npy": npy(one) for name, one in given.items()})


OWN: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "npy": npy_header,
    "npz": archive,
    "mtx": market,
    "safetensors": table,
}
ANY = (flip, flip, truncate, overwrite, splice, number, word, other_format)


def link(path: Path, content: bytes, r: random.Random) -> None:
    """Not a file, or not one by itself: links to all sorts of things, folders, pipes and devices."""
    real = path.with_suffix(".real")
    real.write_bytes(content)
    kind = r.randrange(8)
    if kind == 0:
        path.symlink_to(real)
    elif kind == 1:
        path.symlink_to(path.with_suffix(".missing"))
    elif kind == 2:
        path.symlink_to(path)
    elif kind == 3:
        path.symlink_to(path.parent)
    elif kind == 4:
        path.symlink_to(r.choice(("/dev/zero", "/dev/null", "/dev/stdin", "/proc/self/mem", "/proc/cpuinfo")))
    elif kind == 5:
        os.mkfifo(path)
    elif kind == 6:
        path.mkdir()
    else:
        path.hardlink_to(real)


def make(kind: str, number_of: int, folder: Path) -> tuple[Path, list[str]]:
    """The mutant of this number on the disk, and the options to audit it with; the same ones every time."""
    r = random.Random(f"{kind} {number_of}")
    path = folder / f"m{number_of}.{kind}"
    data = r.choice(SOUND[kind])
    if number_of % 50 == 0:
        link(path, data, r)
    else:
        strange = r.random() < 0.15
        data = extreme_file(kind, r) if strange else data
        for _ in range(0 if strange else r.choice((1, 1, 1, 2, 4))):
            mutate = OWN[kind] if r.random() < 0.3 else r.choice(ANY)
            data = mutate(data, r) or b"\x00"
        path.write_bytes(data)
    more = r.choice(
        ([], [], [], *2 * [["--gamma", "0.5"]], ["--array", "a"], ["--rule", "kdpp"], ["--head", "0"])
    )
    return path, ["audit", str(path), "-m", "1", *more]


def audit_all(kind: str, start: int, stop: int, folder: Path) -> dict[str, object]:
    """Counts of what was accepted and refused, and each thing that went wrong, in words."""
    import signal
    import time

    import typer
    from click.testing import CliRunner

    from nystrom_numerics.cli.commands import application

    command, runner = typer.main.get_command(application()), CliRunner()
    counts: dict[str, object] = {"tried": 0, "accepted": 0, "refused": 0, "longest": 0.0}
    wrong: list[str] = []
    for number_of in range(start, stop):
        (folder / "current").write_text(f"{kind} {number_of}")  # a crash leaves it here
        _, arguments = make(kind, number_of, folder)
        signal.alarm(SECONDS)
        began = time.monotonic()
        done = runner.invoke(command, arguments)
        counts["longest"] = max(counts["longest"], time.monotonic() - began)
        signal.alarm(0)
        counts["tried"] += 1
        crashed = done.exception is not None and not isinstance(done.exception, SystemExit)
        said = done.stderr.splitlines()
        if done.exit_code == 0 and not crashed and not said:
            counts["accepted"] += 1
        elif (
            done.exit_code == 1
            and not crashed
            and len(said) == 1
            and said[0].startswith("Stopped: ")
            and not done.stdout
        ):
            counts["refused"] += 1
            if not done.stderr.strip().isprintable():
                wrong.append(f"{kind} {number_of}: {said[0]!r} has letters that a terminal obeys")
        else:
            wrong.append(
                f"{kind} {number_of}: exit {done.exit_code}, {done.exception!r}, {done.stderr[-300:]!r}"
            )
        for left in folder.iterdir():
            left.rmdir() if left.is_dir() and not left.is_symlink() else left.unlink()
    return {**counts, "wrong": wrong}


def main(kind: str, start: str, stop: str, folder: str) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    print(json.dumps(audit_all(kind, int(start), int(stop), Path(folder))))


if __name__ == "__main__":
    import sys

    main(*sys.argv[1:])
