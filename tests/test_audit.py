"""``nystrom audit``: what it shows, and each way a file can be wrong."""

from __future__ import annotations

import csv
import io
import json
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from nystrom_numerics.cli import audit as audit_command
from nystrom_numerics.cli import matrix_files
from nystrom_numerics.cli.commands import application
from nystrom_numerics.cli.matrix_files import UnreadableFileError, read_arrays
from tests import hostile_files as hostile

RNG = np.random.default_rng(0)
X = RNG.standard_normal((40, 3))
A = np.exp(-0.3 * ((X[:, None] - X) ** 2).sum(-1))


@pytest.fixture
def nystrom(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(audit_command, "out", Console(width=250))  # wide, whatever was imported before
    return lambda *arguments: CliRunner().invoke(application(), ["audit", *arguments])


def npy(x):
    held = io.BytesIO()
    np.save(held, x, allow_pickle=x.dtype.hasobject)
    return held.getvalue()


def header(shape="(40, 40)", descr="'<f8'", version=b"\x01\x00", data=b""):
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text + data


def safetensors(entries, data=b"", length=None):
    text = json.dumps(entries).encode() if not isinstance(entries, bytes) else entries
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def mtx(text, symmetry="general"):
    return f"%%MatrixMarket matrix coordinate real {symmetry}\n{text}".encode()


def damaged(data, start, length):
    start %= len(data)
    return data[:start] + b"\xff" * length + data[start + length :]


def test_each_format_gives_the_same_matrix(tmp_path):
    from scipy.io import mmwrite
    from scipy.sparse import coo_array

    np.save(tmp_path / "a.npy", A)
    np.save(tmp_path / "f.npy", np.asfortranarray(A))
    np.savez_compressed(tmp_path / "a.npz", a=A)
    mmwrite(tmp_path / "a.mtx", A, symmetry="general", precision=17)
    mmwrite(tmp_path / "s.mtx", A, symmetry="symmetric", precision=17)
    mmwrite(tmp_path / "c.mtx", coo_array(A), symmetry="symmetric", precision=17)
    entry = {"dtype": "F64", "shape": [40, 40], "data_offsets": [0, A.nbytes]}
    packed = safetensors({"__metadata__": {"x": "y"}, "a": entry}, A.tobytes())
    (tmp_path / "a.safetensors").write_bytes(packed)
    for name in ("a.npy", "f.npy", "a.npz", "a.mtx", "s.mtx", "c.mtx", "a.safetensors"):
        np.testing.assert_allclose(read_arrays(tmp_path / name)["a"].values, A, rtol=1e-15, err_msg=name)


def test_narrow_floats(tmp_path):
    x = np.array([[1.5, -2.0], [0.25, 3.0]])
    half = (x.astype(np.float32).view(np.uint32) >> 16).astype("<u2")
    entries = {
        "h": {"dtype": "F16", "shape": [2, 2], "data_offsets": [0, 8]},
        "b": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [8, 16]},
        "i": {"dtype": "I64", "shape": [2], "data_offsets": [16, 32]},
    }
    data = x.astype("<f2").tobytes() + half.tobytes() + bytes(16)
    (tmp_path / "n.safetensors").write_bytes(safetensors(entries, data))
    found = read_arrays(tmp_path / "n.safetensors")
    assert set(found) == {"h", "b"}
    for y in found.values():
        np.testing.assert_array_equal(y.values, x)
    assert (found["h"].roundoff, found["b"].roundoff) == (2.0**-11, 2.0**-8)


class Evil:
    def __reduce__(self):
        return print, ("a pickle was run",)


HUGE = "(99999999, 99999999)"
WRONG = {
    "a.txt": (b"1 2", "ending in .txt are unknown"),
    "empty.npy": (b"", "the file is empty"),
    "text.npy": (b"hello, this is no array", "does not begin as NumPy's format does"),
    "version.npy": (header(version=b"\x09\x00"), "version (9, 0)"),
    "header.npy": (header(shape="(40, __import__('os'))"), "broken header"),
    "deep.npy": (header(shape="(" * 60), "broken header"),
    "long.npy": (b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31) + b"x" * 20, "more than there can be"),
    "object.npy": (npy(np.array([Evil()], dtype=object)), "holds Python objects, which are never loaded"),
    "complex.npy": (npy(A.astype(complex)), "of dtype complex128"),
    "integer.npy": (npy(np.eye(3, dtype=int)), "of dtype int64"),
    "record.npy": (npy(np.zeros(2, dtype=[("x", float)])), "real floating"),
    "huge.npy": (header(shape=HUGE), "takes more than 1024 MiB"),
    "negative.npy": (header(shape="(-1, 4)"), "no sound shape"),
    "none.npy": (npy(np.zeros((0, 3))), "is empty, of shape (0, 3)"),
    "scalar.npy": (npy(np.array(1.0)), "is empty"),
    "short.npy": (npy(A)[:-8], "needs 12800 bytes and has 12792"),
    "longer.npy": (npy(A) + b"x", "needs 12800 bytes and has 12801"),
    "nan.npy": (npy(np.where(A > 0.99, np.nan, A)), "NaN or infinite"),
    "text.npz": (b"hello", "not a zip archive"),
    "text.mtx": (b"hello\n", "not a Matrix Market file"),
    "complex.mtx": (
        b"%%MatrixMarket matrix coordinate complex general\n1 1 1\n1 1 1 1\n",
        "a real one is needed",
    ),
    "huge.mtx": (
        b"%%MatrixMarket matrix array real general\n9999999 9999999\n1\n",
        "takes more than 1024 MiB",
    ),
    "many.mtx": (
        b"%%MatrixMarket matrix coordinate real general\n9999 9999 99999999\n1 1 1\n",
        "its bytes can hold",
    ),
    "short.mtx": (b"%%MatrixMarket matrix array real general\n2 2\n1.0\n2.0\n", "damaged"),
    "index.mtx": (b"%%MatrixMarket matrix coordinate real general\n2 2 1\n7 7 1\n", "damaged"),
    "zero.npy": (b"\x93NUMPY\x01\x00\x00\x00" + bytes(80), "broken header"),
    "tail.npy": (b"\x93NUMPY\x01\x00", "broken header"),
    "tall.npy": (header(shape="(" + "1, " * 70 + ")", data=bytes(8)), "has 70 axes"),
    "python2.npy": (header(shape="(3L, 3L)"), "needs 72 bytes and has 0"),
    "escape.npy": (header(descr="'\\d'"), "broken header"),
    "method.npz": (
        hostile.npz({"a.npy": npy(A)}, zipfile.ZIP_LZMA),
        "packed by lzma, which NumPy never does",
    ),
    "bzip2.npz": (hostile.npz({"a.npy": npy(A)}, zipfile.ZIP_BZIP2), "packed by bzip2"),
    "nested.npz": (hostile.npz({"a.npy": hostile.npz({"a.npy": npy(A)})}), "does not begin as NumPy's"),
    "deflate.npz": (damaged(hostile.npz({"a.npy": npy(A)}), 45, 15), "damaged or encrypted"),
    "sizes.npz": (damaged(hostile.npz({"a.npy": npy(A)}), -49, 3), "more than its"),
    "names.npz": (hostile.npz({"a\nb\x1b[2J.npy": b"?"}), "does not begin as NumPy's"),
    "sparse.mtx": (mtx("1000000000000 1000000000000 1\n1 1 1\n"), "takes more than 1024 MiB"),
    "garbage.mtx": (mtx("2 2 1\n1 1 1\nx\n"), "breaks off or is damaged"),
    "fraction.mtx": (mtx("2 2 1\n1.5 1 1\n"), "an entry outside of 2 × 2"),
    "negative.mtx": (mtx("-2 2 1\n1 1 1\n"), "3 sizes are missing"),
    "skew.mtx": (mtx("2 2 1\n2 1 1\n", symmetry="skew-symmetric"), "not a general or symmetric"),
    "wide.mtx": (mtx("2 3 1\n2 1 1\n", symmetry="symmetric"), "symmetric and of shape (2, 3)"),
    "overflow.mtx": (mtx("1 1 1\n1 1 1e400\n"), "NaN or infinite"),
    "kind.safetensors": (
        safetensors({"a": {"dtype": ["F64"], "shape": [2], "data_offsets": [0, 16]}}, bytes(16)),
        "described wrongly",
    ),
    "deep.safetensors": (safetensors(b"[" * 100000), "is not JSON"),
    "digits.safetensors": (safetensors(b'{"a": ' + b"9" * 9000 + b"}"), "is not JSON"),
    "surrogate.safetensors": (
        safetensors({"\ud800": {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]}}, bytes(8)),
        "described wrongly",
    ),
    "length.safetensors": (safetensors({}, length=2**60), "more than there can be"),
    "json.safetensors": (safetensors(b"{nonsense"), "is not JSON"),
    "list.safetensors": (safetensors([1, 2]), "not a table of tensors"),
    "entry.safetensors": (safetensors({"a": {"dtype": "F32"}}), "described wrongly"),
    "outside.safetensors": (
        safetensors({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, b"1234"),
        "lies outside the file",
    ),
    "size.safetensors": (
        safetensors({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}, b"12345678"),
        "has another size",
    ),
    "huge.safetensors": (
        safetensors({"a": {"dtype": "F32", "shape": [2**20, 2**20], "data_offsets": [0, 8]}}),
        "takes more than",
    ),
    "shape.safetensors": (
        safetensors({"a": {"dtype": "F32", "shape": ["2"], "data_offsets": [0, 8]}}),
        "no sound shape",
    ),
    "integers.safetensors": (
        safetensors({"a": {"dtype": "I64", "shape": [1], "data_offsets": [0, 8]}}, b"12345678"),
        "no array of real floating numbers",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_each_way_a_file_can_be_wrong(name, nystrom, tmp_path, capsys):
    content, message = WRONG[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnreadableFileError) as caught:
        read_arrays(tmp_path / name)
    assert message in str(caught.value)
    assert name in str(caught.value)
    result = nystrom(name)
    assert (result.exit_code, result.stdout) == (1, "")
    assert isinstance(result.exception, SystemExit)
    (line,) = result.stderr.splitlines()
    assert line.startswith("Stopped: ")
    assert line.isprintable()
    assert "a pickle was run" not in result.output + capsys.readouterr().out


def test_an_archive_that_unpacks_to_too_much_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(matrix_files, "LIMIT", 2**20)
    (tmp_path / "bomb.npz").write_bytes(hostile.npz({"a.npy": bytes(2**21)}))
    assert (tmp_path / "bomb.npz").stat().st_size < 2**13
    with pytest.raises(UnreadableFileError, match="unpack to more than 1 MiB"):
        read_arrays(tmp_path / "bomb.npz")


def test_an_archive_of_too_many_members_is_not_listed(tmp_path):
    """A directory of 200,000 names is a few MiB in the file and several hundred in memory."""
    with zipfile.ZipFile(tmp_path / "many.npz", "w") as archive:
        archive.writestr("a.npy", npy(A))
    data = (tmp_path / "many.npz").read_bytes()
    start, end = data.rfind(b"PK\x01\x02"), data.rfind(b"PK\x05\x06")
    entry, count = data[start:end], 40_000
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, len(entry) * count, start, 0)
    (tmp_path / "many.npz").write_bytes(data[:start] + entry * count + tail)
    with pytest.raises(UnreadableFileError, match="announces a directory of 20"):
        read_arrays(tmp_path / "many.npz")


def test_a_damaged_archive(tmp_path):
    np.savez(tmp_path / "a.npz", a=A)
    raw = bytearray((tmp_path / "a.npz").read_bytes())
    raw[5000] ^= 255
    (tmp_path / "a.npz").write_bytes(bytes(raw))
    with pytest.raises(UnreadableFileError, match="damaged or encrypted"):
        read_arrays(tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("notes.txt", "hello")
        archive.writestr("o.npy", pickle.dumps(Evil()))
    with pytest.raises(UnreadableFileError, match="does not begin"):
        read_arrays(tmp_path / "b.npz")


def test_arrays_that_no_audit_is_about_are_passed_over(nystrom):
    np.savez("p.npz", labels=np.arange(3), x=A)
    result = nystrom("p.npz", "-m", "3")
    assert result.exit_code == 0, result.output
    assert "p.npz: matrix x" in result.output
    assert "no array labels of real floating numbers" in nystrom("p.npz", "--array", "labels").output


def test_a_link_is_followed_to_a_plain_file_and_to_nothing_else(nystrom, tmp_path):
    np.save("real.npy", A)
    links = {
        "good": "real.npy",
        "gone": "missing.npy",
        "loop": "loop.npy",
        "folder": ".",
        "zero": "/dev/zero",
    }
    for name, target in links.items():
        (tmp_path / f"{name}.npy").symlink_to(target)
    os.mkfifo(tmp_path / "pipe.npy")
    (tmp_path / "d.npy").mkdir()
    assert nystrom("good.npy", "-m", "2").exit_code == 0
    for name in ("gone", "loop", "folder", "zero", "pipe", "d", "missing", "x" * 300):
        result = nystrom(f"{name}.npy", "-m", "2")
        assert result.exit_code == 1, name
        (line,) = result.stderr.splitlines()
        assert "no such file" in line or "cannot be read" in line


def test_a_pipe_that_takes_the_place_of_a_file_is_not_waited_for(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.npy")
    monkeypatch.setattr(Path, "is_file", lambda self: True)
    with pytest.raises(UnreadableFileError, match="not a plain one"):
        read_arrays(tmp_path / "pipe.npy")


def test_a_matrix(nystrom, tmp_path):
    np.save("a.npy", A)
    result = nystrom("a.npy", "-m", "12", "--html", "pages/<b>.html")
    assert result.exit_code == 0, result.output
    for text in (
        "40 × 40, 12 landmarks kept of 12",
        "Lanczos",
        "Gittens–Mahoney",
        "with certainty",
        "Landmarks: ",
    ):
        assert text in result.output
    page = (tmp_path / "pages" / "<b>.html").read_text()
    for text in ("<h1>a.npy: matrix a</h1>", "data:image/svg+xml;base64,", "Mirsky", "<h2>Landmarks</h2>"):
        assert text in page
    assert "http" not in page.replace("http-equiv", "")


def test_points_and_every_rule(nystrom):
    from nystrom_numerics.landmarks import RULES

    np.savez("p.npz", x=X, y=X)
    for rule in RULES:
        result = nystrom("p.npz", "--array", "x", "--gamma", "0.3", "-m", "8", "--rule", rule)
        assert result.exit_code == 0, result.output
        assert "quantisation" in result.output


def test_a_rule_that_takes_long_is_told_in_a_line_and_run(nystrom, monkeypatch):
    monkeypatch.setattr("nystrom_numerics.landmarks.cost.LONG", 0.0)
    np.save("a.npy", A)
    result = nystrom("a.npy", "-m", "8", "--rule", "kdpp")
    assert result.exit_code == 0
    assert result.stderr.startswith("Note: the whole spectrum of 40 points may take 1.6e+03 kernel entries")
    assert len(result.stderr.splitlines()) == 1
    assert nystrom("a.npy", "-m", "8", "--rule", "no[t]").exit_code == 2


def test_bounds_of_a_matrix_as_json_and_csv(nystrom, tmp_path):
    np.save("a.npy", A)
    result = nystrom("a.npy", "-m", "12", "--json", "a.json", "--csv", "new/a.csv")
    assert result.exit_code == 0, result.output
    told = json.loads((tmp_path / "a.json").read_text())
    rows = list(csv.DictReader((tmp_path / "new/a.csv").read_text().splitlines()))
    assert told["title"] == "a.npy: matrix a"
    assert told["heads"] == []
    assert [row["bound"] for row in rows] == [bound["bound"] for bound in told["bounds"]]
    assert any("Mirsky" in row["bound"] or "Mirsky" in row["source"] for row in rows)
    for row, bound in zip(rows, told["bounds"], strict=True):
        assert float(row["value"]) == bound["value"]
        assert row["source"] == bound["source"]


@pytest.mark.parametrize("option", ["--json", "--csv"])
def test_a_file_of_numbers_is_not_written_over_what_is_audited(nystrom, tmp_path, option):
    np.savez("p.npz", a=A)
    before = (tmp_path / "p.npz").read_bytes()
    (line,) = nystrom("p.npz", "-m", "4", option, "p.npz").stderr.splitlines()
    assert line.startswith(f"Stopped: {option} p.npz: the file that is audited")
    assert (tmp_path / "p.npz").read_bytes() == before


def test_names_from_a_file_are_escaped(nystrom, tmp_path):
    np.savez("p.npz", **{"<script>": A})
    result = nystrom("p.npz", "-m", "4", "--html", "p.html")
    assert result.exit_code == 0, result.output
    page = (tmp_path / "p.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize(
    ("dtype", "noise"), [("f8", None), ("f4", "1e-06"), ("f2", "0.0005")], ids=["double", "single", "half"]
)
def test_a_matrix_is_psd_to_the_rounding_of_its_file(nystrom, dtype, noise):
    """A kernel of a few digits has eigenvalues below zero of about its roundoff, and no more counts as that."""
    x = np.random.default_rng(1).standard_normal((40, 2)).astype(dtype)
    a = np.exp(-0.05 * ((x[:, None] - x) ** 2).sum(-1).astype("f8")).astype(dtype)
    least = np.linalg.eigvalsh(a.astype(float))[0]
    assert least < -np.finfo(dtype).eps / 4
    np.save("a.npy", a)
    result = nystrom("a.npy", "-m", "12")
    assert result.exit_code == 0, result.output
    assert (f"Entries count as known to {noise}" in result.output) == (noise is not None)
    if dtype != "f2":  # 16 bits leave no room: 40 units of them are a fiftieth
        np.save("b.npy", a - np.eye(40, dtype=dtype) * a.dtype.type({"f8": 1e-10, "f4": 1e-3}[dtype]))
        assert "not PSD" in nystrom("b.npy", "-m", "12").stderr


def test_bounds_of_a_single_precision_file_hold(nystrom):
    """Every bound of these landmarks that the page prints, against the error in sixty-four bits."""
    from nystrom_numerics import bounds, kernels, landmarks

    x = RNG.standard_normal((50, 3)).astype("f4")
    a = np.exp(-0.02 * ((x[:, None] - x) ** 2).sum(-1))
    kernel = kernels.precomputed(a.astype("f8"), noise=2.0**-20)
    for m in (5, 20, 50):
        found = bounds.audit(kernel, landmarks.rpcholesky(kernel, m))
        assert found.spectrum.negative > 0
        for line in found.lines:
            assert line.of != "these" or line.tightness >= 1 - 1e-9, line


Q = RNG.standard_normal((3, 2, 20, 4))
HEADS = dict(zip("qkv", Q, strict=True))


@pytest.mark.parametrize(
    ("arrays", "arguments", "message"),
    [
        (HEADS, ["--rule", "kdpp"], "--rule does not go with q, k and v: landmarks are means of segments"),
        (HEADS, ["--rule", "rpcholesky"], "--rule does not go with q, k and v"),
        (HEADS, ["--gamma", "0.5"], "--gamma does not go with q, k and v"),
        ({"a": A}, ["--head", "0"], "--head does not go with a matrix or points"),
        ({"x": X}, ["--gamma", "1", "--head", "1"], "--head does not go with a matrix or points"),
        ({"q": A, "k": A}, ["--array", "q", "--head", "0"], "--head does not go with a matrix or points"),
        ({"a": A}, ["--estimator", "tangent"], "--estimator does not go with a matrix or points"),
    ],
)
def test_an_option_that_does_not_apply_is_refused_by_name(nystrom, arrays, arguments, message):
    np.savez("p.npz", **arrays)
    result = nystrom("p.npz", "-m", "4", *arguments)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert message in line


def test_every_option_of_the_command_is_one_of_those_known_here():
    """A new option must say for which kind of file it is."""
    import inspect
    from dataclasses import fields

    from nystrom_numerics.cli.auditing.finding import Options

    given = set(inspect.signature(audit_command.audit).parameters)
    assert given - {"file", "html", "as_json", "as_csv"} == {field.name for field in fields(Options)}


@pytest.mark.parametrize(
    ("page", "message"),
    [
        (".", "a folder"),
        ("p.npz", "the file that is audited"),
        ("link.npz", "the file that is audited"),
        ("p.npz/page.html", "cannot be written"),
        ("full", "cannot be written"),
        ("x" * 300, "cannot be written"),
    ],
)
def test_a_page_that_cannot_be_written_is_a_line(nystrom, tmp_path, page, message):
    np.savez("p.npz", a=A)
    (tmp_path / "link.npz").symlink_to("p.npz")
    (tmp_path / "full").symlink_to("/dev/full")
    before = (tmp_path / "p.npz").read_bytes()
    result = nystrom("p.npz", "-m", "4", "--html", page)
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("Stopped: --html")
    assert message in line
    assert (tmp_path / "p.npz").read_bytes() == before


def test_a_page_in_folders_that_are_not_there(nystrom, tmp_path):
    np.savez("p.npz", a=A)
    assert nystrom("p.npz", "-m", "4", "--html", "a/b/c.html").exit_code == 0
    assert "<h1>" in (tmp_path / "a/b/c.html").read_text()


def test_without_a_page_nothing_is_drawn(nystrom, monkeypatch):
    """Other numbers of landmarks are for the figures alone."""
    from nystrom_numerics import bounds

    np.savez("p.npz", a=A)
    asked, real = [], bounds.audit
    monkeypatch.setattr(
        bounds, "audit", lambda kernel, found, **o: asked.append(1) or real(kernel, found, **o)
    )
    assert nystrom("p.npz", "-m", "16").exit_code == 0
    assert len(asked) == 1
    assert nystrom("p.npz", "-m", "16", "--html", "p.html").exit_code == 0
    assert len(asked) == 1 + 5


@pytest.mark.parametrize("name", ["two\nlines", "\x1b[2Jcleared", "\u202etfel", "\x07"])
def test_a_name_is_no_command_to_the_terminal(nystrom, tmp_path, name):
    """In messages and in titles: from the file, and the file's own."""
    safe = tmp_path / "p.safetensors"
    for entries, code in (
        ({name: {"dtype": "F64", "shape": [40, 40], "data_offsets": [0, 12800]}}, 0),
        ({name: 3}, 1),
    ):
        safe.write_bytes(safetensors(entries, A.tobytes()))
        result = nystrom(safe.name, "-m", "4")
        assert result.exit_code == code, result.output
        assert name not in result.output
        assert all(line.isprintable() for line in result.output.splitlines())
    (tmp_path / f"{name}.npy").write_bytes(npy(A[:3]))
    assert len(nystrom(f"{name}.npy").stderr.splitlines()) == 1


def test_hostile_numbers_are_audited_or_refused_in_a_line(nystrom):
    cases = {
        "zero": (np.zeros((5, 5)), 0),
        "one": (np.ones((1, 1)), 0),
        "huge": (np.full((4, 4), 1e308), 1),
        "tiny": (np.full((4, 4), 1e-308), 1),
        "spread": (np.diag([1e100, 1.0, 1e-100]), 0),
        "rank one": (np.outer(X[:, 0], X[:, 0]), 0),
    }
    for name, (a, code) in cases.items():
        np.save("a.npy", a)
        page = ["--html", "a.html"] if name == "zero" else []  # a spectrum that a logarithm cannot show
        result = nystrom("a.npy", "-m", "1", *page)
        assert result.exit_code == code, (name, result.output)
        assert len(result.stderr.splitlines()) == code


def test_too_many_rows_are_refused_before_the_work(nystrom, monkeypatch):
    from nystrom_numerics import landmarks

    monkeypatch.setattr(landmarks, "rpcholesky", None)
    np.save("x.npy", np.zeros((4097, 1), "f2"))
    assert "of 4096 rows at most" in nystrom("x.npy", "--gamma", "1").stderr


@pytest.mark.parametrize(
    ("arrays", "arguments", "message"),
    [
        ({"a": A, "b": A}, [], "choose one with --array"),
        ({"a": A}, ["--array", "z"], "no array z of real floating numbers; it holds a"),
        ({"a": X}, [], "for points give --gamma"),
        ({"a": X[0]}, [], "two axes are needed"),
        ({"a": A}, ["-m", "41"], "give --landmarks of at most 40"),
        ({"a": -A}, [], "positive semidefinite"),
        ({"a": X}, ["--gamma", "0"], "positive number"),
        ({"q": X, "k": X}, ["-m", "41"], "give --landmarks of at most 40"),
        ({"q": X[0], "k": X}, [], "(…, tokens, width) is needed"),
        ({"q": X, "k": X[:, :2]}, ["-m", "4"], "the width of `q`"),
        ({"a": A}, ["--rule", "magic"], "the rules are uniform, strided"),
        ({"q": X, "k": X}, ["--estimator", "magic"], "the estimators are exact,"),
        ({"q": X, "k": X}, ["--head", "-1"], "give a number from 0 on, or all"),
        ({"q": X, "k": X}, ["--head", "two"], "give a number from 0 on, or all"),
        ({"q": X, "k": X}, ["--head", "1"], "no head 1; array q has 1"),
        ({"q": X[:, None], "k": X}, ["--head", "all", "-m", "1"], "no head 1; array k has 1"),
        ({"q": X, "k": X[:30]}, ["--estimator", "causal"], "self-attention"),
        ({"q": X, "k": X}, ["--estimator", "tangent", "-m", "1"], "at least 2"),
    ],
)
def test_what_cannot_be_audited_is_refused_with_what_can(nystrom, arrays, arguments, message):
    np.savez("p.npz", **arrays)
    result = nystrom("p.npz", *(arguments if "-m" in arguments else [*arguments, "-m", "4"]))
    assert result.exit_code in (1, 2)
    assert message in " ".join(result.output.replace("│", " ").split())


@pytest.mark.parametrize("of", ["matrix", "head", "heads"])
def test_the_table_is_whole_at_80_columns(nystrom, tmp_path, monkeypatch, of):
    """Nothing is wider, and no word of a bound or of what it says is broken."""
    monkeypatch.setattr(audit_command, "out", Console(width=80))
    rng = np.random.default_rng(0)
    if of == "matrix":
        x = rng.standard_normal((150, 4))
        np.save(tmp_path / "a.npy", np.exp(-((x[:, None] - x) ** 2).sum(-1) / 8))
        told = nystrom(str(tmp_path / "a.npy")).output
        words = ("Gittens–Mahoney,", "determinantal", "probability", "Eckart–Young")
    else:
        np.savez(tmp_path / "a.npz", **dict(zip("qkv", rng.standard_normal((3, 2, 100, 8)), strict=True)))
        told = nystrom(str(tmp_path / "a.npz"), *(["--head", "all"] if of == "heads" else [])).output
        words = ("Head", "truth") if of == "heads" else ("certainty", "normalised", "Frobenius")
    assert max(map(len, told.splitlines())) <= 80
    assert not [word for word in words if word not in told.split()]
