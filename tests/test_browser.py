"""The pages in a real browser: nothing wider than the screen, nothing fetched, no error, accessible by axe's rules."""

from __future__ import annotations

import csv
import io
import shutil
import sys
from pathlib import Path

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is absent")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is absent")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="the browser chromium is absent")
sys.path.insert(0, str(Path(__file__).parent / "experiments" / "toys"))

SCREENS = [
    (1300, "light", "screen"),
    (390, "dark", "screen"),
    (390, "light", "screen"),
    (800, "light", "print"),
]


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The report on a toy claim with a wide table, and the page of proofs of two claims, side by side."""
    import squares

    import proofs_check
    from experiments.contract import Case, Record
    from experiments.report import page as report
    from proofs_check.contract import Outcome, Verdict
    from proofs_check.runner import Result

    folder = tmp_path_factory.mktemp("pages")
    wide = dict.fromkeys(map(str, range(12)), 1 / 7)
    records = [
        Record(Case("squares", {"x": x}), ({"square": x**2, **wide},), None, 1.0, {}) for x in range(6)
    ]
    report.write(folder / "index.html", [report.section(squares, records, "quick")])
    chosen = (("row_sums", Outcome.PROVED), ("wedin", Outcome.NOT_REFUTED))
    control = Verdict(Outcome.FAILED, "2")
    checked = [
        Result(name, proofs_check.claims()[name], Verdict(outcome, "1 < 2", "x" * 300), control, 1.0)
        for name, outcome in chosen
    ]
    (folder / "proofs.html").write_text(proofs_check.render_page(checked), "utf-8")
    return folder


@pytest.fixture
def look(browser, pages):
    """``look(name, width, scheme, media)`` opens a page; what it asks for and complains of is told at the end."""
    asked, wrong, contexts = [], [], []

    def open_(name, width=1300, scheme="light", media="screen"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.emulate_media(media=media, color_scheme=scheme)
        page.goto((pages / name).as_uri())
        return page

    yield open_
    for context in contexts:
        context.close()
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert wrong == []


@pytest.mark.parametrize("name", ["index.html", "proofs.html"])
@pytest.mark.parametrize(("width", "scheme", "media"), SCREENS)
def test_nothing_is_wider_than_the_screen(name, width, scheme, media, look):
    page = look(name, width, scheme, media)
    beyond = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert beyond <= 0


@pytest.mark.parametrize("name", ["index.html", "proofs.html"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_rules_of_accessibility(name, scheme, look):
    found = axe.Axe().run(look(name, 1300, scheme))
    assert [(rule["id"], rule["nodes"][0]["html"][:200]) for rule in found.response["violations"]] == []


def test_the_filter_hides_other_verdicts(look):
    page = look("index.html")
    rows = page.locator("tr.one")
    every = rows.count()
    outcomes = {rows.nth(i).get_attribute("class").split("is-")[1] for i in range(every)}
    for outcome in ("supported", "refuted", "undecided"):
        page.check(f"#show-{outcome}")
        visible = [rows.nth(i) for i in range(every) if rows.nth(i).is_visible()]
        assert bool(visible) == (outcome in outcomes)
        assert all(f"is-{outcome}" in row.get_attribute("class") for row in visible)
    page.check("#show-all")
    assert all(rows.nth(i).is_visible() for i in range(every))


def test_figure_and_table_are_downloaded(look):
    page = look("index.html")
    with page.expect_download() as told:
        page.click("text=Table as CSV")
    assert told.value.suggested_filename == "squares.csv"
    head, *rows = csv.reader(io.StringIO(Path(told.value.path()).read_text("utf-8")))
    assert rows
    assert {len(row) for row in rows} == {len(head)}
    with page.expect_download() as told:
        page.click("text=Figure as SVG")
    assert "<svg" in Path(told.value.path()).read_text("utf-8")


def test_report_and_proofs_lead_to_one_another(look):
    page = look("proofs.html")
    page.click("text=The report on the experiments")
    assert page.url.endswith("index.html")
