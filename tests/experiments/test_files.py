"""A file is replaced whole or left alone, and what stops it is named."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from experiments.engine.files import whole


def test_a_file_is_replaced_at_the_end_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "page.html"
    with whole(path) as part:
        part.write_text("one")
        assert not path.exists()
    assert path.read_text() == "one"
    with pytest.raises(ZeroDivisionError), whole(path) as part:
        part.write_text("two") // 0
    assert path.read_text() == "one"
    assert list(path.parent.iterdir()) == [path]


def test_what_the_system_refuses_is_named(tmp_path):
    """A full disk names no file; the part beside the file is not what a user asked for."""
    path = tmp_path / "page.html"
    with pytest.raises(OSError, match="No space left") as full, whole(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert full.value.filename == str(path)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=str(tmp_path / "file")), whole(tmp_path / "file" / "page.html"):
        pass
    with pytest.raises(FileNotFoundError) as other, whole(path):
        (tmp_path / "elsewhere").read_text()
    assert other.value.filename == str(tmp_path / "elsewhere")


def test_a_folder_without_a_name_is_no_file():
    with pytest.raises(IsADirectoryError), whole(Path("/")):
        pass
