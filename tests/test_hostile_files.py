"""Mutants of sound files through ``nystrom audit``, each format in a process of bounded memory and time.

``MUTANTS`` of each format, 300 unless the environment says otherwise; ``make fuzz`` takes 2,500.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests import hostile_files

MUTANTS = int(os.environ.get("MUTANTS", "300"))


@pytest.mark.parametrize("kind", hostile_files.SOUND)
def test_mutants_are_audited_or_refused_in_one_line(kind, tmp_path):
    command = [sys.executable, "-m", "tests.hostile_files", kind, "0", str(MUTANTS), str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    current = tmp_path / "current"
    last = current.read_text() if current.exists() else "the last one"
    assert done.returncode == 0, f"ended by {done.returncode} at {last}: {done.stderr[-2000:]}"
    found = json.loads(done.stdout)
    print(f"\n{kind}: {found}")
    assert found["wrong"] == []
    assert found["tried"] == found["accepted"] + found["refused"] == MUTANTS
    assert found["accepted"] > MUTANTS / 50, "mutants that are only nonsense test the first check"


@pytest.mark.parametrize("kind", hostile_files.SOUND)
def test_a_mutant_is_the_same_every_time(kind, tmp_path):
    made = []
    for again in ("a", "b"):
        (tmp_path / again).mkdir()
        paths = [hostile_files.make(kind, n, tmp_path / again)[0] for n in range(1, 50)]
        made.append([path.read_bytes() for path in paths])
    assert made[0] == made[1]


def test_the_sound_files_are_accepted(tmp_path):
    """Else their mutants would be refused for a reason that is not the mutation's."""
    from typer.testing import CliRunner

    from nystrom_numerics.cli.commands import application

    refused = []
    for kind, files in hostile_files.SOUND.items():
        for i, content in enumerate(files):
            path = tmp_path / f"{i}.{kind}"
            path.write_bytes(content)
            if CliRunner().invoke(application(), ["audit", str(path), "-m", "1"]).exit_code:
                refused.append(path.name)
    assert refused == ["4.npz", "5.npz", "6.npz"], "packed by bzip2, by LZMA, and an archive in an archive"
