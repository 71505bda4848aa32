"""The site of every release beside that of this checkout: ``make versions``, docs/_build/versions/index.html.

A release is a tag of a version, ``v0.1.0``; its site is built from its own files, without running its gallery.  Pages
are as they were: nothing in them refers to later ones, and a list of all stands above them.
"""

from __future__ import annotations

import html
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
OUT = ROOT / "docs" / "_build" / "versions"
RELEASE = re.compile(r"v(\d+)\.(\d+)\.(\d+)")
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark"><title>nystrom_numerics, all versions</title>
<style>body {{ font: 1rem/1.6 system-ui, sans-serif; max-width: 40rem; margin: 3rem auto; padding: 0 1rem; }}</style>
<main><h1>nystrom_numerics</h1><ul>{items}</ul></main></html>
"""


def git(root: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True
    ).stdout


def releases(root: Path) -> list[str]:
    """Tags of versions, the newest first."""
    tags = [tag for tag in git(root, "tag", "--list", "v*").split() if RELEASE.fullmatch(tag)]
    return sorted(tags, key=lambda tag: tuple(map(int, RELEASE.fullmatch(tag).groups())), reverse=True)


def built(tree: Path, out: Path, gallery: str) -> None:
    """The site of a tree."""
    surroundings = {**os.environ, "PYTHONPATH": str(tree), "GALLERY": gallery}
    command = [sys.executable, "-m", "sphinx", "--quiet", "--builder", "html", "docs", str(out)]
    subprocess.run(command, cwd=tree, env=surroundings, check=True)


def write(root: Path, out: Path, build: Callable[[Path, Path, str], None] = built) -> list[str]:
    """All sites and their list; a release that has its site already keeps it.  Gives the names of the folders."""
    tags = releases(root)
    build(root, out / "latest", os.environ.get("GALLERY", "1"))
    for tag in tags:
        if (out / tag / "index.html").exists():
            continue
        with tempfile.TemporaryDirectory() as folder:
            tree = Path(folder, "tree")
            git(root, "worktree", "add", "--detach", str(tree), tag)
            try:
                build(tree, out / tag, "0")
            except BaseException:
                shutil.rmtree(out / tag, ignore_errors=True)
                raise
            finally:
                git(root, "worktree", "remove", "--force", str(tree))
    names = ["latest", *tags]
    items = "".join(f'<li><a href="{name}/index.html">{html.escape(name)}</a></li>' for name in names)
    (out / "index.html").write_text(PAGE.format(items=items), "utf-8")
    return names


if __name__ == "__main__":
    print(f"{OUT / 'index.html'}: {', '.join(write(ROOT, OUT))}")
