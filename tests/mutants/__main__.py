"""``python -m tests.mutants [--again] [FILE ...]``: does each change of these files make a test fail?

One line a file, then each mutant that survives without an entry in ``explained.toml``, and each entry that explains
no survivor.  The exit status is 1 where more than 5 % of all survive, and where one is not explained.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from tests.mutants.explained import Entry, read, written

ROOT = Path(__file__).parents[2]
WORK = ROOT / ".mutants"
MOST_SURVIVORS = 0.05
PROCESSES = 2

TESTS = {  # which tests must kill the mutants of a file, besides tests/…/test_NAME.py; and those too slow, for `-k`
    "nystrom_numerics/attention/causal.py": ((), ""),
    "nystrom_numerics/attention/certificate.py": ((), "not thousands and not coverage"),
    **{
        f"nystrom_numerics/attention/{part}.py": (
            ("tests/attention/test_certificate.py",),
            "not thousands and not coverage",
        )
        for part in ("asymptotic", "exact_rows", "finite_sample", "hints", "widths")
    },
    "nystrom_numerics/attention/operator_certificate.py": (
        ("tests/attention/test_certificate.py", "tests/attention/test_operator_certificates.py"),
        "not thousands and not coverage",
    ),
    "nystrom_numerics/attention/row_sampling.py": (("tests/attention/test_certificate.py",), "not thousands"),
    "nystrom_numerics/backend.py": ((), ""),
    "nystrom_numerics/solves.py": (("tests/test_backend.py",), ""),
    "nystrom_numerics/places.py": ((), ""),
    "nystrom_numerics/fused.py": (("tests/attention/test_fused.py",), "not memory and not gradients"),
    "nystrom_numerics/integrations/transformers*": (
        ("tests/integrations/transformers/test_*.py",),
        "not points_to_its_caller",  # which mutmut's wrappers come between
    ),
    "nystrom_numerics/nn/checkpoints.py": ((), ""),
}


@dataclass(frozen=True)
class Outcome:
    """What became of the mutants of one file."""

    file: str
    mutants: list[dict[str, str]]
    seconds: float

    def number(self, *fates: str) -> int:
        return sum(mutant["fate"] in fates for mutant in self.mutants)

    @property
    def survivors(self) -> list[Entry]:
        """Survived, met by no test, or not tried."""
        return [
            Entry(self.file, mutant["function"], mutant["was"], mutant["becomes"])
            for mutant in self.mutants
            if mutant["fate"] in ("survived", "no tests", "not checked")
        ]

    @property
    def row(self) -> tuple[object, ...]:
        survived, timeouts = len(self.survivors), self.number("timeout")
        killed = len(self.mutants) - survived - timeouts
        return self.file, len(self.mutants), killed, survived, timeouts, f"{self.seconds:.0f} s"


def files(patterns: Sequence[str]) -> list[str]:
    """Files of the package that match one of the patterns; a folder stands for what is in it.

    Those that only give names on hold nothing to mutate, and are left out.
    """
    modules = (p for p in (ROOT / "nystrom_numerics").rglob("*.py") if p.name != "__init__.py")
    every = sorted(str(path.relative_to(ROOT)) for path in modules)
    found = [f for f in every if any(fnmatch(f, p) or fnmatch(f, f"{p.rstrip('/')}/*") for p in patterns)]
    if not found:
        raise SystemExit(f"no file of the package matches {' '.join(patterns)}")
    return found


def selection_for(file: str) -> tuple[list[str], str]:
    """The test files for a file, and the ``-k`` expression that leaves out the slow tests."""
    path = Path(file)
    own = Path("tests", *path.parts[1:-1], f"test_{path.name}")
    patterns, keep = next((t for pattern, t in TESTS.items() if fnmatch(file, pattern)), ((), ""))
    found = {str(p.relative_to(ROOT)) for pattern in (str(own), *patterns) for p in ROOT.glob(pattern)}
    if not found:
        raise SystemExit(f"{file}: no tests; name them in TESTS of tests/mutants/__main__.py")
    return sorted(found), keep


def prepare(file: str, again: bool) -> Path:
    """The folder in which mutmut works on one file: links to the sources, and its configuration."""
    folder = WORK / file.removesuffix(".py").replace("/", ".")
    if not again:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("nystrom_numerics", "tests"):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name)
    selection, keep = selection_for(file)
    options = {
        "only_mutate": [file],
        "pytest_add_cli_args_test_selection": selection,
        "pytest_add_cli_args": ["-p", "no:xdist", "-p", "no:cacheprovider", *(("-k", keep) if keep else ())],
    }
    own = "".join(f"{key} = {json.dumps(value)}\n" for key, value in options.items())
    shared = (ROOT / "pyproject.toml").read_text("utf-8").rstrip("\n")  # [tool.mutmut] is its last table
    (folder / "pyproject.toml").write_text(f"{shared}\n{own}", "utf-8")
    (folder / "mutants" / "mutmut-stats.json").unlink(missing_ok=True)  # which test meets what, measured anew
    return folder


def run(file: str, again: bool) -> Outcome:
    """Make and try the mutants of a file; ``again`` only those not killed the last time."""
    folder, start = prepare(file, again), time.monotonic()
    results = folder / "results.json"
    known = json.loads(results.read_text("utf-8")) if results.exists() else []
    names = [mutant["name"] for mutant in known if mutant["fate"] in ("survived", "no tests", "not checked")]
    if names or not known:
        command = [
            sys.executable,
            str(ROOT / "tests/mutants/one_file.py"),
            f"--max-children={PROCESSES}",
            *names,
        ]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        with (folder / "log").open("w+", encoding="utf-8") as log:
            done = subprocess.run(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
            if done.returncode:
                log.seek(0)
                raise SystemExit(f"{file}: mutmut ended with status {done.returncode}\n{log.read()[-4000:]}")
    return Outcome(file, json.loads(results.read_text("utf-8")), time.monotonic() - start)


def report(outcomes: Sequence[Outcome], explained: Sequence[Entry]) -> int:
    """Print what survived; the exit status."""
    seen = {outcome.file for outcome in outcomes}
    survivors = {entry: entry for outcome in outcomes for entry in outcome.survivors}
    unexplained = [entry for entry in survivors if entry not in explained]
    stale = [entry for entry in explained if entry.file in seen and entry not in survivors]
    number = sum(len(outcome.mutants) for outcome in outcomes)
    survived = sum(len(outcome.survivors) for outcome in outcomes)
    print(
        f"\n{survived} of {number} survive ({survived / max(number, 1):.1%}), {len(unexplained)} unexplained"
    )
    for title, entries in (("Unexplained", unexplained), ("Stale: explained, but killed or gone", stale)):
        if entries:
            print(f"\n# {title}\n\n{written(entries)}")
    return int(bool(unexplained) or survived > MOST_SURVIVORS * number)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("files", nargs="*", default=list(TESTS), metavar="FILE")
    parser.add_argument(
        "--again",
        action="store_true",
        help="try only what was not killed the last time; once more for functions changed since",
    )
    arguments = parser.parse_args()
    line = "{:<48} {:>8} {:>8} {:>9} {:>9} {:>8}"
    print(line.format("file", "mutants", "killed", "survived", "timeouts", "time"), flush=True)
    outcomes = []
    for file in files(arguments.files):
        outcomes.append(run(file, arguments.again))
        print(line.format(*outcomes[-1].row), flush=True)
    return report(outcomes, read())


if __name__ == "__main__":
    sys.exit(main())
