"""The page stands alone, escapes what it is given, and mixes no numbers of different code."""

from __future__ import annotations

import base64
import re
from types import SimpleNamespace

import pandas as pd
import pytest
import single
import squares

from experiments.contract import Absence, Case, Outcome, Record, Verdict
from experiments.engine.environment import fingerprint
from experiments.engine.store import Damage
from experiments.report import page as report

EVIL = "<script>alert('no')</script>"


def record(x, *, error=None, code=None, square=None, absent=None, **facts):
    environment = {"fingerprint": code or fingerprint("squares"), "profile": "full", "numpy": "2", **facts}
    rows = () if error or absent else ({"square": x**2 if square is None else square},)
    return Record(Case("squares", {"x": x}), rows, error, 40.0, environment, absent)


def evil_claim():
    cases = (Case("evil", {EVIL: EVIL}), Case("evil", {"x": 1}), Case("evil", {"x": 2}))
    return SimpleNamespace(
        __name__="squares",
        TITLE=EVIL,
        CLAIM=EVIL,
        SOURCE=EVIL,
        ALT=f'">{EVIL}',
        EXCLUSIVE=False,
        grid=lambda profile: cases,
        verdicts=lambda records: (Verdict(EVIL, Outcome.REFUTED, EVIL),),
        table=lambda records: pd.DataFrame({EVIL: [EVIL]}),
        plot=squares.plot,
    ), cases


def test_text_from_data_is_escaped():
    claim, (first, second, third) = evil_claim()
    environment = {EVIL: EVIL, "fingerprint": "f", "recorded": "2026"}
    records = [
        Record(first, (), f"ValueError: {EVIL}", 0.1, environment),
        Record(second, ({"x": 1, "square": 1},), None, 0.1, environment),
        Record(third, (), None, 0.1, environment, Absence(EVIL, EVIL)),
    ]
    section = report.section(claim, records, EVIL)
    assert section.figure
    assert section.failures
    page = report.render([section], damage=[Damage(3, EVIL, EVIL)])
    assert "<script" not in page
    assert page.count("&lt;script&gt;") > 15


DATA = ("data:image/svg+xml;base64,", "data:text/csv;charset=utf-8;base64,")


def outside(page):
    """What a page would fetch from elsewhere, or run."""
    found = re.findall(r"<(?:script|link|iframe|object|embed|base)\b|@import|\burl\(", page)
    addresses = re.findall(r"""(?:src|href|srcset|action|poster)\s*=\s*["']?([^"'\s>]+)""", page)
    return found + [address for address in addresses if not address.startswith(("#", *DATA))]


def test_the_page_refers_to_nothing_outside_itself(tmp_path):
    sections = [report.section(squares, [record(x) for x in range(6)], "quick")]
    report.write(tmp_path / "deep" / "index.html", sections, extra_sections=[("Proofs", "<p>x</p>")])
    page = (tmp_path / "deep" / "index.html").read_text()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["index.html"]
    assert outside(page) == []
    (drawing,) = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', page)
    assert re.findall(r'href="(?!#)[^"]*"|<script|<image', base64.b64decode(drawing).decode()) == []
    assert f'alt="{squares.ALT}"' in page
    assert "<h2>Proofs</h2><p>x</p>" in page
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(re.findall(r'id="([^"]+)"', page))


def test_outside_sees_what_it_must():
    assert len(outside("<script src='http://a'></script><a href=http://b><img src=\"//c\">")) == 4


def test_verdict_numbers_and_counts_are_on_the_page():
    records = [record(x) for x in range(5)] + [record(5, error="OSError: no\n  in run")]
    section = report.section(squares, records, "quick")
    assert (section.cases, section.done, section.stale) == (6, 5, False)
    assert section.lacking == "5 of 6 cases have a result"
    page = report.render([section])
    for text in ("SUPPORTED", "least square 0", "5 of 6 cases", "4 min 0 s", "OSError: no", "x = 5", "numpy"):
        assert text in page


def test_numbers_of_different_code_are_not_mixed():
    records = [record(x, code="old", square=-1) for x in range(6)] + [record(0), record(1)]
    section = report.section(squares, records, "quick")
    assert (section.done, section.stale) == (2, False)
    assert section.verdicts[0].outcome is Outcome.SUPPORTED
    old = report.section(squares, records[:6], "quick")
    assert (old.done, old.stale) == (6, True)
    assert "Stale: other code than the present made" in report.render([old])


def test_the_newest_record_of_a_case_counts_and_other_cases_do_not():
    records = [record(0, error="OSError: no"), record(0), record(77, square=-5)]
    section = report.section(squares, records, "quick")
    assert (section.done, section.failures, section.verdicts[0].because) == (1, (), "least square 0")


SPEECH = Absence("speech", "apt-get install it")


def test_what_is_not_available_is_no_failure_and_is_told_once():
    records = [*(record(x) for x in range(4)), record(4, absent=SPEECH), record(5, absent=SPEECH)]
    section = report.section(squares, records, "quick")
    assert (section.done, section.waiting, section.lacking, section.failures) == (4, 0, "", ())
    assert section.absences == {SPEECH: 2}
    assert section.unavailable.startswith(
        "2 of 6 cases lack their input: speech (2). The verdicts rest on what"
    )
    assert report.missing([section, section]) == {SPEECH: {"squares": 2}}
    page = report.render([section])
    assert page.count("apt-get install it") == 1
    assert "4 of 6 cases done, 2 lack their" in page
    assert "NOT AVAILABLE" in page
    assert "SUPPORTED" in page
    assert "INCOMPLETE" not in page
    assert "Failed cases" not in page


def test_nothing_available_is_told_in_place_of_a_verdict():
    section = report.section(squares, [record(x, absent=SPEECH) for x in range(6)], "quick")
    assert (section.lacking, section.verdicts, section.stale) == ("", (), False)
    assert section.unavailable.endswith("So there is no verdict.")
    assert "NO RESULT" not in report.render([section])


def test_an_input_that_appears_replaces_its_absence():
    records = [record(x, absent=SPEECH) for x in range(6)] + [record(x) for x in range(6)]
    section = report.section(squares, records, "quick")
    assert (section.done, section.absences) == (6, {})


def test_an_absence_says_nothing_against_a_result_and_replaces_a_failure():
    done = report.section(squares, [record(0), record(0, absent=SPEECH)], "quick")
    assert (done.done, done.absences) == (1, {})
    failed = report.section(squares, [record(0, error="OSError: no"), record(0, absent=SPEECH)], "quick")
    assert (failed.failures, failed.absences) == ((), {SPEECH: 1})


def test_results_of_other_code_stay_stale_where_the_newest_code_has_only_absences():
    records = [record(x, code="old") for x in range(6)] + [record(x, absent=SPEECH) for x in range(2)]
    section = report.section(squares, records, "quick")
    assert (section.done, section.stale, section.absences, section.lacking) == (6, True, {SPEECH: 2}, "")
    broken = [record(x, code="old", error="OSError: no") for x in range(6)]
    section = report.section(squares, [*broken, *(record(x, absent=SPEECH) for x in range(6))], "quick")
    assert (section.failures, section.stale, section.absences) == ((), False, {SPEECH: 6})


def test_cases_that_have_not_run_are_counted():
    section = report.section(squares, [record(0), record(1, absent=SPEECH)], "quick")
    assert (section.waiting, section.lacking) == (4, "1 of 6 cases have a result")
    page = report.render([section])
    assert "4 of 6 cases have not run yet" in page
    assert "INCOMPLETE" in page


def test_each_claim_keeps_its_own_profile():
    other = Record(Case("single", {"x": 0}), (), "OSError: no", 1.0, {"profile": "quick"})
    sections = report.sections_of([squares, single], [record(0), other], {"single": "gpu"})
    assert [(section.name, section.profile) for section in sections] == [
        ("squares", "full"),
        ("single", "gpu"),
    ]
    (never,) = report.sections_of([squares], [other], {}, "full")
    assert (never.profile, never.waiting) == ("full", 6)
    assert "<strong>full, gpu</strong>" in report.render(sections)


def test_records_of_a_claim_that_is_no_more_are_passed_over():
    gone = Record(Case("training", {"x": 0}), ({"accuracy": 1.0},), None, 1.0, {"profile": "gpu"})
    (section,) = report.sections_of([squares], [gone, *(record(x) for x in range(6))], {})
    assert (section.name, section.done, section.lacking, section.stale) == ("squares", 6, "", False)
    assert "training" not in report.render([section])


def test_a_claim_that_cannot_be_judged_is_reported(monkeypatch):
    monkeypatch.setattr(squares, "verdicts", lambda records: 1 / 0)
    section = report.section(squares, [record(0)], "quick")
    assert section.lacking == "ZeroDivisionError: division by zero"
    assert "ZeroDivisionError" in report.render([section])


def test_a_page_of_nothing():
    page = report.render([report.section(squares, [], "quick")])
    assert "NO RESULT" in page
    assert "0 of 6 cases have a result" in page
    assert "No case has run yet" in page


def test_a_profile_without_cases(monkeypatch):
    monkeypatch.setenv("TOY_CASES", "0")
    assert report.section(squares, [record(0)], "quick").lacking == "this profile has no case of it"


def test_environments_gather_all_values():
    facts = report.environments([record(0, cpu="A", recorded="2"), record(1, cpu="B", recorded="1")])
    assert facts["cpu"] == "A, B"
    assert facts["recorded (UTC)"] == "1 to 2"
    assert report.last_profile([record(0)]) == "full"
    assert report.last_profile([]) == "quick"


def test_an_index_with_names_becomes_columns():
    table = pd.DataFrame({"m": [8, 8, 16], "e": [1.0, 3.0, 5.0]}).groupby("m").agg({"e": ["min", "max"]})
    assert report.cells(table) == (("m", "e min", "e max"), ((8, 1.0, 3.0), (16, 5.0, 5.0)))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.000123456, "0.0001235"),
        (-2e-9, "−2e−09"),
        (float("nan"), "–"),
        (None, "–"),
        (float("-inf"), "−∞"),
        (12, "12"),
        (1_000_000, "1,000,000"),
        (-28_991.4, "−28,991"),
        (9_999.6, "10,000"),
        (2.5e9, "2.5e+09"),
        (True, "True"),
    ],
)
def test_number(value, text):
    assert report.number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (59.96, "60.0 s"), (61, "1 min 1 s"), (7260, "2 h 1 min")]
)
def test_duration(seconds, text):
    assert report.duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("‖Ŝ − S‖_F/‖S‖_F", "‖Ŝ − S‖<sub>F</sub>/‖S‖<sub>F</sub>"),
        ("Z_{j+1} = Z_j", "Z<sub>j+1</sub> = Z<sub>j</sub>"),
        ("κ^2 and (AZ)^k", "κ<sup>2</sup> and (AZ)<sup>k</sup>"),
        ("near_field, gpu_2, a_longer", "near_field, gpu_2, a_longer"),
        ("AZ_{j+1} to AZ_j", "AZ<sub>j+1</sub> to AZ<sub>j</sub>"),
        ("1e-06, 4.5e+03, a1e+02", "10<sup>−6</sup>, 4.5·10<sup>3</sup>, a1e+02"),
        ("x_<b>", "x_&lt;b&gt;"),
    ],
)
def test_indices_are_set_and_words_are_left(text, shown):
    assert report.typeset(text) == shown


def test_figure_and_table_can_be_taken_away():
    section = report.section(squares, [record(x, square=x / 3) for x in range(6)], "quick")
    page = report.render([section])
    (name, table) = re.findall(r'href="data:text/csv[^,]*,([^"]+)" download="([^"]+)"', page)[0][::-1]
    assert name == "squares.csv"
    lines = base64.b64decode(table).decode().splitlines()
    assert len(lines) == 1 + len(section.table)
    assert lines[0].split(",") == list(section.columns)
    assert str(1 / 3) in lines[2], "not rounded"
    assert f'href="{section.figure}" download="squares.svg"' in page


def test_verdicts_are_grouped_and_can_be_filtered():
    section = report.section(squares, [record(x) for x in range(6)], "quick")
    page = report.render([section])
    shown = set(re.findall(r'id="show-([a-z]+)"', page))
    assert shown == {"all", "lacking", *(outcome.value.lower() for outcome in Outcome)}
    for name in shown - {"all"}:
        assert f"section:has(#show-{name}:checked)" in page
    assert page.count('scope="rowgroup"') - 2 == 1  # two in the style
    verdicts = len(section.verdicts)
    assert len(re.findall(r'<tr class="one is-\w+">', page)) == verdicts > 0
