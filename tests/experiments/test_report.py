"""The page stands alone, escapes what it is given, and mixes no numbers of different code."""

from __future__ import annotations

import base64
import re
from types import SimpleNamespace

import pandas as pd
import pytest
import squares

from experiments import report
from experiments.contract import Case, Outcome, Record, Verdict
from experiments.environment import fingerprint
from experiments.store import Damage

EVIL = "<script>alert('no')</script>"


def record(x, *, error=None, code=None, square=None, **facts):
    environment = {"fingerprint": code or fingerprint("squares"), "profile": "full", "numpy": "2", **facts}
    rows = () if error else ({"square": x**2 if square is None else square},)
    return Record(Case("squares", {"x": x}), rows, error, 40.0, environment)


def evil_claim():
    cases = (Case("evil", {EVIL: EVIL}), Case("evil", {"x": 1}))
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
    claim, (first, second) = evil_claim()
    environment = {EVIL: EVIL, "fingerprint": "f", "recorded": "2026"}
    records = [
        Record(first, (), f"ValueError: {EVIL}", 0.1, environment),
        Record(second, ({"x": 1, "square": 1},), None, 0.1, environment),
    ]
    section = report.section(claim, records, "quick")
    assert section.figure
    assert section.failures
    page = report.render([section], profile=EVIL, damage=[Damage(3, EVIL, EVIL)])
    assert "<script" not in page
    assert page.count("&lt;script&gt;") > 15


def outside(page):
    """What a page would fetch from elsewhere, or run."""
    found = re.findall(r"<(?:script|link|iframe|object|embed|base)\b|@import|\burl\(", page)
    addresses = re.findall(r"""(?:src|href|srcset|action|poster)\s*=\s*["']?([^"'\s>]+)""", page)
    return found + [
        address for address in addresses if not address.startswith(("#", "data:image/svg+xml;base64,"))
    ]


def test_the_page_refers_to_nothing_outside_itself(tmp_path):
    sections = [report.section(squares, [record(x) for x in range(6)], "quick")]
    report.write(
        tmp_path / "deep" / "index.html", sections, profile="quick", extra_sections=[("Proofs", "<p>x</p>")]
    )
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
    page = report.render([section], profile="quick")
    for text in ("SUPPORTED", "least square 0", "5 of 6 cases", "4 min 0 s", "OSError: no", "x = 5", "numpy"):
        assert text in page


def test_numbers_of_different_code_are_not_mixed():
    records = [record(x, code="old", square=-1) for x in range(6)] + [record(0), record(1)]
    section = report.section(squares, records, "quick")
    assert (section.done, section.stale) == (2, False)
    assert section.verdicts[0].outcome is Outcome.SUPPORTED
    old = report.section(squares, records[:6], "quick")
    assert (old.done, old.stale) == (6, True)
    assert "Other code than the present one" in report.render([old], profile="quick")


def test_the_newest_record_of_a_case_counts_and_other_cases_do_not():
    records = [record(0, error="OSError: no"), record(0), record(77, square=-5)]
    section = report.section(squares, records, "quick")
    assert (section.done, section.failures, section.verdicts[0].because) == (1, (), "least square 0")


def test_a_claim_that_cannot_be_judged_is_reported(monkeypatch):
    monkeypatch.setattr(squares, "verdicts", lambda records: 1 / 0)
    section = report.section(squares, [record(0)], "quick")
    assert section.lacking == "ZeroDivisionError: division by zero"
    assert "ZeroDivisionError" in report.render([section], profile="quick")


def test_a_page_of_nothing():
    page = report.render([report.section(squares, [], "quick")], profile="quick")
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
    assert report._cells(table) == (("m", "e min", "e max"), ((8, 1.0, 3.0), (16, 5.0, 5.0)))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.000123456, "0.0001235"),
        (-2e-9, "−2e−09"),
        (float("nan"), "–"),
        (None, "–"),
        (float("-inf"), "−∞"),
        (12, "12"),
    ],
)
def test_number(value, text):
    assert report.number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (59.96, "60.0 s"), (61, "1 min 1 s"), (7260, "2 h 1 min")]
)
def test_duration(seconds, text):
    assert report.duration(seconds) == text
