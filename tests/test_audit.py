"""``nystrom audit``: what it shows, and each way a file can be wrong."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from experiments import audit_command, commands, matrix_files
from experiments.matrix_files import UnreadableFileError, read_arrays

RNG = np.random.default_rng(0)
X = RNG.standard_normal((40, 3))
A = np.exp(-0.3 * ((X[:, None] - X) ** 2).sum(-1))


@pytest.fixture
def nystrom(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(audit_command, "out", Console(width=250))  # wide, whatever was imported before
    return lambda *arguments: CliRunner().invoke(commands.app, ["audit", *arguments])


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
        np.testing.assert_allclose(read_arrays(tmp_path / name)["a"], A, rtol=1e-15, err_msg=name)


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
        np.testing.assert_array_equal(y, x)


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
    "short.mtx": (b"%%MatrixMarket matrix array real general\n2 2\n1\n2\n", "damaged"),
    "index.mtx": (b"%%MatrixMarket matrix coordinate real general\n2 2 1\n7 7 1\n", "damaged"),
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
    assert result.exit_code == 1
    assert "Stopped:" in result.output
    assert "Traceback" not in result.output
    assert "a pickle was run" not in result.output + capsys.readouterr().out


def test_an_archive_that_unpacks_to_too_much_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(matrix_files, "LIMIT", 2**20)
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", bytes(2**21))
    assert (tmp_path / "bomb.npz").stat().st_size < 2**13
    with pytest.raises(UnreadableFileError, match="unpack to more than 1 MiB"):
        read_arrays(tmp_path / "bomb.npz")


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


def test_a_folder_and_a_missing_file(tmp_path):
    (tmp_path / "d.npy").mkdir()
    for name in ("d.npy", "missing.npy"):
        with pytest.raises(UnreadableFileError, match="no such file, or not a plain one"):
            read_arrays(tmp_path / name)


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
    from experiments.audit_command import RULES

    np.savez("p.npz", x=X, y=X)
    for rule in RULES:
        result = nystrom("p.npz", "--array", "x", "--gamma", "0.3", "-m", "8", "--rule", rule)
        assert result.exit_code == 0, result.output
        assert "quantisation" in result.output


def test_attention(nystrom, tmp_path):
    q, k, v = RNG.standard_normal((3, 2, 60, 4))
    np.savez("h.npz", q=q, k=k, v=v)
    result = nystrom("h.npz", "-m", "8", "--head", "1", "--html", "h.html")
    assert result.exit_code == 0, result.output
    for text in (
        "60 queries, 60 keys",
        "Ŝ − S, sampled rows",
        "F(A⁺ − Z)B, backward",
        "lifted kernel, entry",
    ):
        assert text in result.output
    page = (tmp_path / "h.html").read_text()
    assert "asymptotic" in page
    assert "Singular values of S" in page
    scores = q[1] @ k[1].T / 2
    s = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    best = np.linalg.norm(np.linalg.svd(s, compute_uv=False)[8:])
    assert f"The best matrix of rank 8 has the error {best:.4g}" in result.output
    assert nystrom("h.npz", "--head", "2", "-m", "8").exit_code == 1


def test_the_spectrum_of_long_attention_is_that_of_its_core(nystrom, tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.audit_command.SPECTRUM_ENTRIES", 59 * 60)
    q, k = RNG.standard_normal((2, 60, 4))
    np.savez("h.npz", q=q, k=k)
    result = nystrom("h.npz", "-m", "8", "--html", "h.html")
    assert result.exit_code == 0, result.output
    assert "Singular values of the core" in (tmp_path / "h.html").read_text()
    assert "best matrix" not in result.output


def test_names_from_a_file_are_escaped(nystrom, tmp_path):
    np.savez("p.npz", **{"<script>": A})
    result = nystrom("p.npz", "-m", "4", "--html", "p.html")
    assert result.exit_code == 0, result.output
    page = (tmp_path / "p.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize(
    ("arrays", "arguments", "message"),
    [
        ({"a": A, "b": A}, [], "choose one with --array"),
        ({"a": A}, ["--array", "z"], "no array z; it holds a"),
        ({"a": X}, [], "for points give --gamma"),
        ({"a": X[0]}, [], "two axes are needed"),
        ({"a": A}, ["-m", "41"], "give --landmarks of at most 40"),
        ({"a": -A}, [], "positive semidefinite"),
        ({"a": X}, ["--gamma", "0"], "positive number"),
        ({"q": X, "k": X}, ["-m", "41"], "give --landmarks of at most 40"),
        ({"q": X[0], "k": X}, [], "(…, tokens, width) is needed"),
        ({"q": X, "k": X[:, :2]}, ["-m", "4"], "the width of `q`"),
        ({"a": A}, ["--rule", "magic"], "the rules are rpcholesky"),
    ],
)
def test_what_cannot_be_audited_is_refused_with_what_can(nystrom, arrays, arguments, message):
    np.savez("p.npz", **arrays)
    result = nystrom("p.npz", *(arguments if "-m" in arguments else [*arguments, "-m", "4"]))
    assert result.exit_code in (1, 2)
    assert message in " ".join(result.output.replace("│", " ").split())
