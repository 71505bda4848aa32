"""The command line: what it prints, what it refuses, and how it ends."""

from __future__ import annotations

import errno
import os
import re
import resource
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from typer.testing import CliRunner

from experiments import claims, commands
from experiments.contract import Absence, Case, Record
from experiments.engine import runner, store
from experiments.engine.environment import fingerprint
from experiments.engine.runner import Tally
from experiments.errors import NoDeviceError, StoreLockedError, StoreWriteError
from experiments.report import page as report


@pytest.fixture
def nystrom(tmp_path, monkeypatch):
    """Call the command line in an empty folder, with toy claims."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(Path(__file__).parent / "experiments" / "toys")
    monkeypatch.setattr(claims, "names", lambda: ("single", "squares", "wanting"))
    monkeypatch.setattr(claims, "load", import_module)
    return lambda *arguments: CliRunner().invoke(commands.app, arguments, env={"COLUMNS": "200"})


def put(*numbers, error=None, code=None):
    with store.appending(Path("results/records.jsonl")) as append:
        for x in numbers:
            facts = {"fingerprint": code or fingerprint("squares"), "profile": "full"}
            append(
                Record(Case("squares", {"x": x}), () if error else ({"square": x * x},), error, 0.1, facts)
            )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--scheduler", "tcp://a:1", "--workers", "2"], "not both"),
        (["run", "--workers", "0"], "greater than or equal to 1"),
    ],
)
def test_what_cannot_be_done_is_refused_with_what_can(nystrom, arguments, message):
    result = nystrom(*arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.output.replace("│", " ").split())


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["run", "nothing"], "no claim nothing; the claims are single, squares, wanting"),
        (["report", "squares", "no[t]"], "no claim no[t]; the claims are single, squares, wanting"),
        (["figure", "nothing", "x.png"], "no claim nothing; the claims are single, squares, wanting"),
        (["figure", "squares", "x.doc"], "no format doc; the formats are png, svg, pdf"),
        (
            ["figure", "squares", "x.png"],
            "no result of squares is recorded yet; nystrom run squares makes some",
        ),
        (["prove", "nothing"], "no proof of nothing; nystrom prove without a name checks them all"),
        (["run", "--profile", "slow"], "no profile slow; the profiles are quick, full, gpu"),
        (["report", "--profile", "slow"], "no profile slow; the profiles are quick, full, gpu"),
        (
            ["run", "squares", "--results", "a file/r"],
            "a file/r/records.jsonl cannot be written (Not a directory); name another folder with --results",
        ),
        (
            ["run", "squares", "--results", "a folder"],
            "a folder/records.jsonl cannot be written (Is a directory); name another folder with --results",
        ),
        (["report", "--results", "a folder"], "a folder/records.jsonl: Is a directory"),
        (["export", "--results", "a folder"], "a folder/records.jsonl: Is a directory"),
        (["report", "--report", "a file/page.html"], "a file: File exists"),
    ],
)
def test_what_cannot_go_on_ends_with_one_line(nystrom, arguments, line):
    Path("a file").touch()
    Path("a folder/records.jsonl").mkdir(parents=True)
    result = nystrom(*arguments)
    assert result.exit_code == 1
    assert result.stderr == f"Stopped: {line}\n"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError(errno.EROFS, "Read-only file system", "page"), "page: Read-only file system"),
        (PermissionError(errno.EACCES, "Permission denied", "page"), "page: Permission denied"),
        (OSError("no number"), "no number"),
        (KeyboardInterrupt(), "interrupted"),
        (StoreWriteError("made\nof two lines"), "made of two lines"),
    ],
)
@pytest.mark.parametrize(
    ("arguments", "within"),
    [
        (["report"], (report, "write")),
        (["export"], (store, "read")),
        (["claims"], (claims, "load")),
        (["figure", "squares", "x.png"], (store, "read")),
    ],
)
def test_whatever_stops_a_command_is_one_line(nystrom, monkeypatch, arguments, within, error, line):
    def stop(*_, **__):
        raise error

    monkeypatch.setattr(*within, stop)
    result = nystrom(*arguments)
    assert result.exit_code == (130 if isinstance(error, KeyboardInterrupt) else 1)
    assert result.stderr == f"Stopped: {line}\n"


def test_a_full_disk_is_one_line_and_leaves_no_part_of_a_page(nystrom):
    """A file may grow to 20 kB here, and the page is longer: the system refuses as it does on a full disk."""
    put(*range(6))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        result = nystrom("report")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert result.exit_code == 1
    assert result.stderr.endswith("Stopped: report/index.html: File too large\n")
    assert "least square 0" in result.output
    assert list(Path("report").iterdir()) == []


def test_a_fault_of_the_code_is_not_hidden(nystrom, monkeypatch):
    monkeypatch.setattr(report, "write", lambda *_, **__: 1 / 0)
    assert isinstance(nystrom("report").exception, ZeroDivisionError)


def test_all_cases_recorded_the_run_ends_with_the_report_and_the_verdicts(nystrom):
    put(*range(6))
    result = nystrom("run", "squares")
    assert result.exit_code == 0
    for text in ("SUPPORTED", "least square 0", "0 cases run, 6 already recorded", "report/index.html"):
        assert text in result.output
    assert "least square 0" in Path("report/index.html").read_text()


def test_a_failed_case_makes_the_run_fail(nystrom, monkeypatch):
    put(*range(5))
    put(5, error="ValueError: [bold]no[/]")
    monkeypatch.setattr(runner, "run_claims", lambda *_, **__: Tally(1, 1, 5))
    result = nystrom("run", "squares")
    assert result.exit_code == 1
    assert "5 of 6 cases have a result" in result.output
    assert "squares: 1 failed: ValueError: [bold]no[/]" in result.output


@pytest.mark.parametrize(
    ("error", "code"),
    [(NoDeviceError("no device"), 2), (StoreLockedError("held"), 1), (KeyboardInterrupt(), 130)],
)
def test_a_run_that_stops_says_why(nystrom, monkeypatch, error, code):
    def stop(*_, **__):
        raise error

    monkeypatch.setattr(runner, "run_claims", stop)
    result = nystrom("run")
    assert result.exit_code == code
    assert (str(error) or "the same command goes on") in result.output


def sections(page="report/index.html"):
    """The claims on a page that have a section, and how many of their cases have a result."""
    text = Path(page).read_text("utf-8")
    return dict(re.findall(r'<section id="claim-(\w+)".*?profile \w+, (\d+) of', text, re.DOTALL))


def test_a_run_of_fewer_claims_keeps_the_sections_of_the_others(nystrom, monkeypatch):
    """Whatever profile they were run in, and the verdicts of the terminal are of those asked for."""
    monkeypatch.setattr(runner, "run_claims", lambda *_, **__: Tally(0, 0, 0))
    put(*range(6))
    result = nystrom("run", "single")
    assert sections() == {"single": "0", "squares": "6", "wanting": "0"}
    assert "least square 0" in Path("report/index.html").read_text()
    assert "least square" not in result.output
    assert result.exit_code == 1  # single has no record here
    assert nystrom("run", "squares").exit_code == 0
    assert nystrom("report", "wanting").exit_code == 0
    assert sections() == {"single": "0", "squares": "6", "wanting": "0"}


def test_records_of_other_code_are_stale_and_stay(nystrom):
    put(*range(6), code="old")
    result = nystrom("report")
    assert sections()["squares"] == "6"
    assert "Stale, made by other code than the present: squares" in result.output
    assert "Stale: other code than the present made" in Path("report/index.html").read_text()


def test_what_is_not_available_is_no_failure_and_is_told_once_with_its_remedy(nystrom, monkeypatch):
    absent = Absence("the speech", "pip install --no-deps speech")
    with store.appending(Path("results/records.jsonl")) as append:
        for x in range(3):
            facts = {"fingerprint": fingerprint("wanting"), "profile": "quick"}
            rows = ({"square": 1},) if x < 2 else ()
            append(Record(Case("wanting", {"x": x}), rows, None, 0.1, facts, None if x < 2 else absent))
    monkeypatch.setattr(runner, "run_claims", lambda *_, **__: Tally(0, 0, 2, absent=1))
    result = nystrom("run", "wanting")
    assert result.exit_code == 0
    assert "0 cases run, 2 already recorded, 1 lack their input." in result.output
    assert "SUPPORTED" in result.output
    assert "NOT AVAILABLE" in result.output
    (line,) = (line for line in result.stderr.splitlines() if "Not available" in line)
    pip = Path(sys.executable).with_name("pip")
    assert line.startswith("Not available: the speech (wanting). To get it: ")
    assert line.endswith(f"{pip} install --no-deps speech" if pip.exists() else absent.remedy)
    assert Path("report/index.html").read_text().count(absent.remedy) == 1


def test_a_record_cannot_write_to_the_terminal(nystrom):
    put(0, error="ValueError: \x1b[2J\x1b]0;title\x07 \u202e")
    with store.appending(Path("results/records.jsonl")) as append:
        facts = {"fingerprint": fingerprint("wanting"), "profile": "quick"}
        absent = Absence("\x1b[2J", "\x1b[3J")
        append(Record(Case("wanting", {"x": 0}), (), None, 0.1, facts, absent))
    result = nystrom("report")
    assert "\x1b" not in result.output
    assert r"ValueError: \x1b[2J" in result.stderr


def test_options_reach_the_runner(nystrom, monkeypatch):
    asked = {}

    def note(chosen, **options):
        asked.update(options, chosen=[claim.__name__ for claim in chosen])
        return Tally(0, 0, 0)

    monkeypatch.setattr(runner, "run_claims", note)
    nystrom("run", "squares", "squares", "--profile", "full", "--results", "r", "--workers", "3", "--fresh")
    assert asked["chosen"] == ["squares"]
    assert (asked["profile"], asked["path"], asked["workers"]) == ("full", Path("r/records.jsonl"), 3)
    assert asked["fresh"]
    assert asked["scheduler"] is None


def test_report_takes_the_newest_profile_and_names_damage(nystrom):
    put(0)
    with Path("results/records.jsonl").open("ab") as file:
        file.write(b"{torn")
    result = nystrom("report", "squares", "--report", "page.html")
    assert result.exit_code == 0
    assert "Verdicts, profile full" in result.output
    assert "line 2 is damaged" in result.output
    assert "{torn" in Path("page.html").read_text()


def test_claims_export_and_version(nystrom):
    listed = nystrom("claims").output
    assert "squares" in listed
    assert "Euclid" in listed
    put(1, 2)
    assert "results/squares.parquet" in nystrom("export").output
    assert "results/squares.csv" in nystrom("export", "--format", "csv").output
    refused = nystrom("export", "--format", "xlsx")
    assert refused.exit_code == 1
    assert "no format xlsx; the formats are csv, json, parquet" in refused.output
    from nystrom_numerics import __version__

    assert nystrom("--version").output.strip() == f"nystrom_numerics {__version__}"


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_without_its_packages_it_says_what_to_install():
    result = python("import sys; sys.modules['typer'] = None; from nystrom_numerics.cli import main; main()")
    assert result.returncode == 1
    assert result.stderr.strip().splitlines() == [
        "nystrom needs typer, which is not here: pip install 'nystrom_numerics[experiments]'"
    ]


@pytest.mark.parametrize("module", ["experiments", "typer", "rich.console", "numpy", "numpy.linalg", "scipy"])
def test_an_interrupt_while_it_loads_ends_with_a_line(module, tmp_path):
    import numpy as np

    np.savez(tmp_path / "h.npz", q=np.eye(4), k=np.eye(4))
    code = f"""
import os, signal, sys
class Interrupt:
    def find_spec(self, name, *_):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupt())
sys.argv = ["nystrom", "audit", {str(tmp_path / "h.npz")!r}, "-m", "2"]
from nystrom_numerics.cli import main
main()
"""
    done = python(code)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "Stopped: interrupted\n")


THREADS = """
import sys
sys.argv = ["nystrom", "--version"]
from nystrom_numerics.cli import main
try:
    main()
except SystemExit:
    pass
import numpy, scipy.linalg
from threadpoolctl import threadpool_info
print({pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"})
"""


@pytest.mark.parametrize(
    ("given", "threads"),
    [
        ({}, 1),
        ({"OMP_NUM_THREADS": ""}, 1),
        ({"OMP_NUM_THREADS": "2"}, 2),
        ({"OPENBLAS_NUM_THREADS": "2"}, 2),
    ],
)
def test_one_thread_a_process_unless_the_environment_says_otherwise(given, threads):
    """Set before NumPy is loaded, which is when its pool of threads is made."""
    pytest.importorskip("threadpoolctl")
    if (os.cpu_count() or 1) < 2:
        pytest.skip("one core: a library makes one thread of any number")
    clean = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    code = [sys.executable, "-c", THREADS]
    done = subprocess.run(code, capture_output=True, text=True, check=True, env={**clean, **given})
    assert done.stdout.splitlines()[-1] == f"{{{threads}}}"


def test_a_terminal_that_lacks_a_letter_gets_its_code(tmp_path):
    import numpy as np

    np.savez(tmp_path / "h.npz", q=np.eye(4), k=np.eye(4))
    code = f"import sys; sys.argv = ['nystrom', 'audit', {str(tmp_path / 'h.npz')!r}, '-m', '2']; "
    code += "from nystrom_numerics.cli import main; main()"
    plain = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=plain
    )
    assert done.returncode == 0, done.stderr
    assert "\\u2016" in done.stdout


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("nystrom_numerics.cli", ("typer", "rich", "experiments", "numpy")),
        ("nystrom_numerics", ("numpy", "scipy", "torch")),
        ("experiments.commands", ("dask", "distributed", "jinja2", "matplotlib", "pandas", "torch")),
        ("experiments.inputs", ("torch", "transformers", "tokenizers", "pandas")),
    ],
)
def test_imports_are_light(module, unwanted):
    code = f"import sys, {module}; print([name for name in {unwanted} if name in sys.modules])"
    assert python(code).stdout.strip() == "[]"


def test_prove_checks_one_claim_and_leaves_the_whole_page_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(commands.app, ["prove", "eq16_index"])
    assert done.exit_code == 0, done.output
    assert "REFUTED" in done.output
    assert list(tmp_path.iterdir()) == []
    done = CliRunner().invoke(commands.app, ["prove", "eq16_index", "--html", "deep/page.html"])
    assert done.exit_code == 0, done.output
    assert "eq16" in (tmp_path / "deep" / "page.html").read_text("utf-8")


def test_proofs_are_told_in_80_columns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = CliRunner().invoke(commands.app, ["prove", "eq16_index"], env={"COLUMNS": "80"}).output
    assert max(map(len, told.splitlines())) <= 80
    assert "eq16_index" in told
    assert not any(line.rstrip(" │").endswith("…") for line in told.splitlines())


def test_names_are_whole_at_80_columns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    listed = CliRunner().invoke(commands.app, ["claims"], env={"COLUMNS": "80"}).output
    lines = listed.splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in "".join(line.split("│")[1] for line in lines if line.count("│") > 3)
    assert all(f"│ {name} " in listed for name in claims.names())


def test_verdicts_are_whole_at_80_columns(nystrom, monkeypatch):
    monkeypatch.setattr(commands.out, "width", 80, raising=False)
    put(*range(6))
    told = nystrom("report", "squares").output
    assert max(map(len, told.splitlines())) <= 80
    assert any(f" {outcome} " in told for outcome in ("SUPPORTED", "REFUTED", "UNDECIDED"))
