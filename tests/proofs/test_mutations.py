"""A mutated statement is never accepted: not by a claim's check, and not by Coq with the original proof."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from proofs_check import claims, coq
from proofs_check.contract import Claim, Method, Outcome
from tests.thorough import many

CLAIMS = claims()
SOURCES = sorted(coq.sources())
# constants and hypotheses of these claims are those of a theorem; the rest need no Coq
NUMERIC = [name for name, module in CLAIMS.items() if module.METHOD is not Method.COQ]
IN_COQ = [name for name in CLAIMS if name not in NUMERIC]


def accepted(name: str, mutants: Iterator[tuple[str, Claim]]) -> list[str]:
    return [label for label, claim in mutants if CLAIMS[name].check(claim).outcome is not Outcome.FAILED]


@pytest.mark.usefixtures("needs_coq")
@pytest.mark.parametrize("name", NUMERIC)
def test_a_changed_constant_or_hypothesis_is_refused(name: str) -> None:
    mutants = list(CLAIMS[name].CLAIM.mutants())
    assert mutants, "a claim without constants and hypotheses cannot be mutated"
    assert accepted(name, iter(mutants)) == []


@pytest.mark.usefixtures("needs_coq")
@pytest.mark.parametrize("name", IN_COQ)
def test_a_changed_theorem_is_refused_by_its_claim(name: str) -> None:
    assert accepted(name, CLAIMS[name].CLAIM.mutants()) == []


def mutations(statement: str) -> Iterator[str]:
    """Coq statements one edit away: a premise dropped, a number, a sign, an order or a product changed."""
    parts = statement.split(" -> ")
    for i in range(len(parts) - 1):
        head, comma, premise = parts[i].rpartition(", ")
        kept = head + comma if comma and premise.count("(") == premise.count(")") else ""
        yield (" -> ".join(parts[:i]) + (" -> " if i else "") + kept + " -> ".join(parts[i + 1 :])).strip()
    edits = {
        r"(?<![\w.])(\d+)(?=%:R)": lambda m: str(int(m[1]) + 1),
        r"(?<=\^\+ )(\d)": lambda m: str(int(m[1]) + 1),
        r"(?<=mxpow E )(\d)": lambda m: str(int(m[1]) + 1),
        r" \+ (?!1\b)": lambda m: " - ",
        r" - ": lambda m: " + ",
        r" <= ": lambda m: " >= ",
        r"(?<=[\w)\]]) = (?=\w)": lambda m: " = - ",
    }
    for pattern, change in edits.items():
        for match in re.finditer(pattern, statement):
            yield statement[: match.start()] + change(match) + statement[match.end() :]


SPARE = {"contraction_bound", "near_field_variation", "schedule_rounding"}
"""Theorems of which one edit is a theorem too: without a premise that the proof does not use, or with the triangle
inequality of a difference for that of a sum."""


@pytest.mark.usefixtures("needs_coq")
@pytest.mark.parametrize("file", SOURCES)
def test_coq_refuses_the_proof_of_a_mutated_theorem(file: str) -> None:
    theorems = {name: statement for name, (statement, _) in coq.source(file).theorems().items()}
    originals = list(theorems.items())
    every = [(name, m) for name, s in originals for m in mutations(s) if coq.squeeze(m) != coq.squeeze(s)]
    mutants = many(every, every[::6])
    answers = coq.reprove(file, [*originals, *mutants])
    assert answers[: len(originals)] == [""] * len(originals), "the harness refuses a true statement"
    assert len(every) >= len(originals)
    survivors = [m for m, answer in zip(mutants, answers[len(originals) :], strict=True) if not answer]
    spare = [(name, m) for name, m in survivors if name in SPARE]
    assert len(spare) <= 1, "of each of these theorems one edit is true as well"
    assert [m for m in survivors if m not in spare] == []


STEPS = [
    ("residual", "4%:R^-1 *: (Z *m (13", "2%:R^-1 *: (Z *m (13"),
    ("residual", "(3%:R / 4%:R) *: S + Y", "(5%:R / 4%:R) *: S + Y"),
    ("residual", "(39%:R / 32%:R)", "(37%:R / 32%:R)"),
    ("residual", "(2%:R%:M - A *m Z)", "(3%:R%:M - A *m Z)"),
    ("inverse", "map_mx (fun x => x^-1) d", "map_mx (fun x => x) d"),
    ("psd", "K - K *m (P *m G *m P^T) *m K.", "K + K *m (P *m G *m P^T) *m K."),
    ("chebyshev", "2%:R * 'X * chebyshev R n1 -", "3%:R * 'X * chebyshev R n1 -"),
]


@pytest.mark.usefixtures("needs_coq")
@pytest.mark.parametrize(("file", "old", "new"), many(STEPS, STEPS[3:]))
def test_a_mutated_definition_does_not_compile(file: str, old: str, new: str, tmp_path: Path) -> None:
    text = coq.source(file).text
    assert old in text
    (tmp_path / f"{file}.v").write_text(text.replace(old, new), "utf-8")
    with pytest.raises(coq.CoqError, match="does not compile"):
        coq.compile_source(file, tmp_path)


def test_mutants_change_one_thing() -> None:
    claim = Claim("a $c", "f $c", constants={"c": 2}, hypotheses={"h": "hypothesis"})
    labels = [label for label, _ in claim.mutants()]
    assert len(labels) == 4
    assert [m["c"] for _, m in claim.mutants()][:3] == [3, 1, -2]
    with pytest.raises(ValueError, match="no constants"):
        claim.with_constants(d=1)
    with pytest.raises(ValueError, match="no hypothesis"):
        claim.without("g")
