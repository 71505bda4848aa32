"""Documentation of every release: which there are, from whose files each is built, and that none is built twice."""

from __future__ import annotations

import importlib
import shutil
import subprocess
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is absent")


@pytest.fixture
def versions(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    return importlib.import_module("versions")


@pytest.fixture
def repository(tmp_path):
    root = tmp_path / "checkout"
    root.mkdir()

    def git(*arguments):
        name = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", "-C", str(root), *name, *arguments], check=True, capture_output=True)

    git("init", "--quiet")
    for tag in ("v0.2.0", "v0.10.0", "vague"):
        (root / "text").write_text(tag)
        git("add", "text")
        git("commit", "--quiet", "--message", tag)
        git("tag", tag)
    (root / "text").write_text("now")
    return root


def test_each_release_is_built_once_and_from_its_own_files(versions, repository, tmp_path):
    calls = []

    def build(tree, out, gallery):
        calls.append((out.name, gallery))
        out.mkdir(parents=True, exist_ok=True)
        (out / "index.html").write_text((tree / "text").read_text())

    out = tmp_path / "sites"
    assert versions.write(repository, out, build) == ["latest", "v0.10.0", "v0.2.0"]
    assert [(out / name / "index.html").read_text() for name in ("latest", "v0.10.0", "v0.2.0")] == [
        "now",
        "v0.10.0",
        "v0.2.0",
    ]
    assert calls[1:] == [("v0.10.0", "0"), ("v0.2.0", "0")]
    page = (out / "index.html").read_text()
    assert (
        page.index("latest/index.html") < page.index("v0.10.0/index.html") < page.index("v0.2.0/index.html")
    )
    versions.write(repository, out, build)
    assert [name for name, _ in calls[3:]] == ["latest"]


def test_a_site_that_failed_leaves_nothing(versions, repository, tmp_path):
    def build(tree, out, gallery):
        out.mkdir(parents=True, exist_ok=True)
        (out / "index.html").write_text("half")
        if out.name != "latest":
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        versions.write(repository, tmp_path / "sites", build)
    assert not (tmp_path / "sites" / "v0.10.0").exists()
    listed = subprocess.run(
        ["git", "-C", str(repository), "worktree", "list"], capture_output=True, text=True, check=True
    )
    assert len(listed.stdout.splitlines()) == 1
