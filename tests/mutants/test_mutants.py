"""What is mutated and what is not, and when ``make mutants`` fails."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest
from mutmut import configuration
from mutmut.mutation import file_mutation

from tests.mutants import one_file
from tests.mutants.__main__ import ROOT, TESTS, Outcome, files, report, selection_for
from tests.mutants.explained import Entry, read, written
from tests.mutants.one_file import Meaningful


@pytest.fixture
def changes(monkeypatch, tmp_path):
    """The changes of the body of a function."""
    (tmp_path / "pyproject.toml").write_text('[tool.mutmut]\nsource_paths = ["."]\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(configuration, "_config", None)
    monkeypatch.setattr(file_mutation, "MutationVisitor", Meaningful)

    def of(body):
        module, mutations, *_ = file_mutation.create_mutations("", f"def f(x):\n    {body}\n")
        return {module.code_for_node(m.mutated_node) for m in mutations if m.contained_by_top_level_function}

    return of


@pytest.mark.parametrize(
    "body",
    [
        'raise ValueError("no number")',
        'raise ValueError("no " + str(x - 1))',
        "raise",
        "raise ValueError",
        'warnings.warn("no number", stacklevel=2)',
        'y: int = cast("int", x)',
    ],
)
def test_messages_and_types_are_left_alone(body, changes):
    assert changes(body) <= {"y: int = None"}


def test_the_name_of_an_argument_is_mutated_and_the_rest_of_its_error_is_not(changes):
    assert changes('raise RangeError("block", f"{x + 1}", "at least 1") from None') == {
        '"XXblockXX"',
        '"BLOCK"',
    }


def test_the_condition_of_an_error_is_mutated(changes):
    assert changes('if x < 0: raise RangeError("", "", "")') >= {" <= 0", "1"}


def test_arguments_are_mutated_but_not_the_assertion_of_equal_lengths(changes):
    assert changes("return zip(x, x + 1, strict=True)") == {"x - 1", "2"}


def test_functions_within_others_are_mutated_under_a_decorator_too(changes):
    assert changes("@wraps(x)\n    def g(): return x + 1") == {"x - 1", "2"}


# ---------------------------------------------------------------- the verdict

KILLED = {"function": "f", "was": "x < 0", "becomes": "x <= 0", "fate": "killed"}
SURVIVED = {**KILLED, "becomes": "x <= 1", "fate": "survived"}
KNOWN = Entry("a.py", "f", "x < 0", "x <= 1", "the same")


@pytest.mark.parametrize("fate", ["survived", "no tests", "not checked"])
def test_an_unexplained_survivor_fails(fate, capsys):
    outcome = Outcome("a.py", 99 * [KILLED] + [{**SURVIVED, "fate": fate}], 1.0)
    assert report([outcome], []) == 1
    assert "becomes = 'x <= 1'" in capsys.readouterr().out
    assert report([outcome], [KNOWN]) == 0


def test_more_than_five_in_a_hundred_fail_even_if_explained():
    assert report([Outcome("a.py", 95 * [KILLED] + 5 * [SURVIVED], 1.0)], [KNOWN]) == 0
    assert report([Outcome("a.py", 94 * [KILLED] + 6 * [SURVIVED], 1.0)], [KNOWN]) == 1


def test_an_explanation_of_nothing_is_told(capsys):
    assert report([Outcome("a.py", [KILLED], 1.0)], [KNOWN, Entry("b.py", "f", "", "", "not run")]) == 0
    out = capsys.readouterr().out
    assert "Stale" in out
    assert "b.py" not in out


def test_the_row_counts_every_mutant_once():
    mutants = [{**KILLED, "fate": fate} for fate in ("killed", "timeout", "segfault", "survived", "no tests")]
    assert Outcome("a.py", mutants, 2.0).row == ("a.py", 5, 2, 2, 1, "2 s")


def test_entries_are_read_as_they_are_written(tmp_path, monkeypatch):
    entries = [
        KNOWN,
        Entry("b.py", "A.g", 'x = "it\'s"', "", "two\nlines"),
        Entry("c.py", "h", "a\nb", "c", "r"),
    ]
    path = tmp_path / "explained.toml"
    monkeypatch.setattr("tests.mutants.explained.LIST", path)
    path.write_text(written(entries))
    assert [vars(entry) for entry in read()] == [vars(entry) for entry in entries]
    path.write_text(written([Entry("b.py", "f", "x", "y")]))
    with pytest.raises(ValueError, match="no reason"):
        read()


def test_explained_lines_stand_in_their_files():
    for entry in read():
        lines = {line.strip() for line in (ROOT / entry.file).read_text("utf-8").splitlines()}
        assert set(entry.was.splitlines()) <= lines, f"explained, but changed since: {entry}"


def test_a_folder_stands_for_its_modules():
    names = ["attention", "budgets", "calibrating", "comparing", "masks", "refusals", "registration"]
    names += ["restoring", "switching", "visiting"]
    folder = "nystrom_numerics/integrations/transformers"
    assert files([folder]) == [f"{folder}/{name}.py" for name in names]


@pytest.mark.parametrize("pattern", TESTS)
def test_each_file_has_tests(pattern):
    for file in files([pattern]):
        assert all(Path(ROOT, test).is_file() for test in selection_for(file)[0])


def test_a_mutant_whose_tests_did_not_run_is_an_error(monkeypatch):
    """Pytest refuses a test that it does not find by name, and mutmut takes that for a timeout."""

    class Data:
        exit_code_by_key: ClassVar = {"a.x_f__mutmut_1": one_file.REFUSED}

        def __init__(self, path):
            self.load = lambda: None

    monkeypatch.setattr(one_file, "walk_mutatable_files", lambda: [Path("a.py")])
    monkeypatch.setattr(one_file, "SourceFileMutationData", Data)
    with pytest.raises(SystemExit, match="x_f__mutmut_1: pytest refused"):
        list(one_file.results())
