"""What the runner says when something is missing or wrong, the table and the page."""

import re
import time
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest

from proofs_check import Result, claims, coq, render_page, run
from proofs_check.__main__ import main
from proofs_check.contract import Claim, Method, Outcome, Theorem, Verdict, failed, refuted

TRUE = """From mathcomp Require Import all_ssreflect.
Theorem small :
  forall n : nat,
  n + 0 = n.
Proof. by move=> n; rewrite addn0. Qed.
"""


def claim(statement: str = "forall n : nat, n + $zero = n") -> Claim:
    theorem = Theorem("toy", "small", statement)
    return Claim("n + $zero = n", "n + $zero = n", constants={"zero": 0}, theorems=(theorem,))


def verdict(source: str, folder: Path, checked: Claim | None = None) -> Verdict:
    (folder / "toy.v").write_text(source, "utf-8")
    return coq.prove(checked or claim(), lambda _: None, folder)


@pytest.mark.usefixtures("needs_coq")
class TestCoq:
    def test_a_theorem_is_proved(self, tmp_path: Path) -> None:
        found = verdict(TRUE, tmp_path)
        assert found.outcome is Outcome.PROVED
        assert "forall n : nat, n + 0 = n" in found.detail

    def test_a_counterexample_comes_first(self, tmp_path: Path) -> None:
        (tmp_path / "toy.v").write_text(TRUE, "utf-8")
        found = coq.prove(claim(), lambda _: "n = 0", tmp_path)
        assert found == failed("counterexample", "n = 0")

    @pytest.mark.parametrize("ending", ["Admitted.", "Proof. admit. Admitted."])
    def test_admitted_is_refused(self, ending: str, tmp_path: Path) -> None:
        found = verdict(re.sub(r"Proof\..*Qed\.", ending, TRUE), tmp_path)
        assert found.outcome is Outcome.FAILED

    def test_a_source_that_admits_elsewhere_is_refused(self, tmp_path: Path) -> None:
        found = verdict(TRUE + "Lemma gap : False.\nAdmitted.\n", tmp_path)
        assert found.outcome is Outcome.FAILED
        assert "Admitted" in found.detail

    def test_an_axiom_is_refused(self, tmp_path: Path) -> None:
        source = TRUE.replace("Theorem small", "Axiom cheat : forall n, n + 0 = n.\nTheorem small")
        assert verdict(source, tmp_path).outcome is Outcome.FAILED

    def test_an_axiom_in_disguise_is_refused(self, tmp_path: Path) -> None:
        source = TRUE.replace("Theorem small", "Variable cheat : forall n, n + 0 = n.\nTheorem small")
        found = verdict(source.replace("rewrite addn0", "apply: cheat"), tmp_path)
        assert found.outcome is Outcome.FAILED
        assert found.number == "rests on axioms"
        assert "cheat" in found.detail

    def test_a_pinned_statement_that_differs_is_refused(self, tmp_path: Path) -> None:
        found = verdict(TRUE, tmp_path, claim("forall n : nat, n + 1 = n"))
        assert found.outcome is Outcome.FAILED
        assert "Coq refuses it" in found.detail

    def test_a_true_statement_that_is_not_the_theorem_is_refused(self, tmp_path: Path) -> None:
        found = verdict(TRUE, tmp_path, claim("forall k : nat, k + 0 = k"))
        assert found.outcome is Outcome.FAILED
        assert "another true statement" in found.detail

    def test_a_proof_that_does_not_compile_is_refused(self, tmp_path: Path) -> None:
        found = verdict(TRUE.replace("addn0", "addn1"), tmp_path)
        assert found.outcome is Outcome.FAILED
        assert "does not compile" in found.detail

    def test_a_statement_in_a_comment_is_not_read(self, tmp_path: Path) -> None:
        comment = re.search(r"Theorem.*Qed\.", TRUE, re.S)
        source = TRUE.replace("Theorem small :\n  forall n : nat,\n  n + 0 = n.", "Lemma small : 0 = 0.")
        source = source.replace("move=> n; rewrite addn0", "[]") + f"(* {comment[0]} *)\n"
        assert verdict(source, tmp_path).number == "no such theorem"

    def test_a_claim_without_a_theorem_is_refused(self, tmp_path: Path) -> None:
        assert coq.prove(Claim("t", "f"), lambda _: None, tmp_path).number == "no theorem"

    def test_a_missing_theorem_is_refused(self, tmp_path: Path) -> None:
        assert verdict(TRUE.replace("small", "other"), tmp_path).number == "no such theorem"

    def test_nothing_is_written_beside_the_sources(self) -> None:
        assert {path.suffix for path in coq.SOURCES.iterdir()} == {".v"}

    def test_one_claim_takes_seconds(self, capsys: pytest.CaptureFixture[str]) -> None:
        start = time.perf_counter()
        assert main(["row_sums"]) == 0
        assert time.perf_counter() - start < 60
        assert "PROVED" in capsys.readouterr().out


class TestWithoutCoq:
    @pytest.fixture(autouse=True)
    def absent(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(coq, "coqc", lambda: None)

    @pytest.mark.parametrize("name", ["eq14_residual", "lemma1_as_stated"])
    def test_it_says_so_and_does_not_pass(self, name: str) -> None:
        (result,) = run([name])
        assert result.verdict.outcome is Outcome.UNAVAILABLE
        assert not result.passed
        assert "Coq is absent" in result.verdict.number

    def test_the_exit_code_is_not_zero(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["row_sums"]) == 1
        assert "UNAVAILABLE" in capsys.readouterr().out

    def test_other_claims_need_no_coq(self) -> None:
        (result,) = run(["six_iterations"])
        assert result.passed


def fake(tmp_path: Path, outcome: Outcome, control: Outcome, text: str = "text") -> Result:
    file = tmp_path / "fake.py"
    file.write_text(f"# {text}", "utf-8")
    statement = Claim(text, text)
    module = SimpleNamespace(
        CLAIM=statement,
        NEGATIVE_CONTROL=statement,
        STATEMENT=text,
        FORMULA=text,
        HYPOTHESES=(text,),
        SOURCE=text,
        METHOD=Method.BALLS,
        __file__=str(file),
    )
    return Result("fake", module, Verdict(outcome, text, text), Verdict(control, text), 0.0)


@pytest.mark.parametrize(
    ("outcome", "control", "passed"),
    [
        (Outcome.CERTIFIED, Outcome.FAILED, True),
        (Outcome.CERTIFIED, Outcome.CERTIFIED, False),
        (Outcome.CERTIFIED, Outcome.UNAVAILABLE, False),
        (Outcome.FAILED, Outcome.FAILED, False),
        (Outcome.UNAVAILABLE, Outcome.FAILED, False),
        (Outcome.REFUTED, Outcome.FAILED, True),
    ],
)
def test_what_passes(outcome: Outcome, control: Outcome, passed: bool, tmp_path: Path) -> None:
    assert fake(tmp_path, outcome, control).passed is passed


def test_a_refutation_needs_its_correction() -> None:
    assert refuted("n", "d", Verdict(Outcome.PROVED, "x")).outcome is Outcome.REFUTED
    assert refuted("n", "d", failed("x")).outcome is Outcome.FAILED
    assert refuted("n", "d", Verdict(Outcome.UNAVAILABLE, "x")).outcome is Outcome.UNAVAILABLE


def test_an_unknown_claim_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["no_such_claim"])
    assert stopped.value.code == 2
    assert "no_such_claim" in capsys.readouterr().err
    with pytest.raises(ValueError, match="no_such_claim"):
        run(["no_such_claim"])


def test_the_names_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    assert capsys.readouterr().out.split() == list(claims())


class Page(HTMLParser):
    """The text of a page and what it would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [
            v or ""
            for k, v in attrs
            if k == "src" or (k == "href" and not (v or "").startswith(("#", "index.html")))
        ]
        if tag in ("script", "link", "img"):
            self.fetched.append(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_escapes_what_it_shows(tmp_path: Path) -> None:
    attack = "<script>alert('x')</script> & \"y\""
    page = render_page([fake(tmp_path, Outcome.FAILED, Outcome.CERTIFIED, attack)])
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_the_page_shows_text_formula_and_code_of_every_claim() -> None:
    """Whatever the verdicts are, which are not those of the claims here."""
    stands, falls = Verdict(Outcome.PROVED, "0", "made up"), Verdict(Outcome.FAILED, "0", "made up")
    results = [Result(name, module, stands, falls, 0.0) for name, module in claims().items()]
    html = render_page(results)
    page = Page()
    page.feed(html)
    text = "".join(page.text)
    assert page.fetched == []
    for result in results:
        assert result.module.STATEMENT in text
        assert result.module.FORMULA in text
        assert result.code in text
        for theorem in result.module.CLAIM.theorems:
            assert result.module.CLAIM.coq_statement(theorem) in text
    for source in coq.sources().values():
        assert source.text in text


@pytest.mark.usefixtures("needs_coq")
def test_the_page_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "pages" / "proofs.html"
    assert main(["row_sums", "--html", str(path)]) == 0
    assert path.read_text("utf-8").startswith("<!doctype html>")
    assert "page written" in capsys.readouterr().out
