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


def outside(text: str) -> str:
    """The text with all that stands in brackets blotted out, of the same length."""
    found, depth = [], 0
    for c in text:
        depth -= c in ")]"
        found.append(c if depth == 0 else "·")
        depth += c in "(["
    return "".join(found)


def mutations(statement: str) -> Iterator[str]:
    """Coq statements one edit away: a premise made void, a number, a sign, an order or a product changed.

    A void premise is ``True``, and not left out, so that the proof still finds as many.  What stands before an arrow
    within a premise is left alone: without it the premise says more, and the theorem less.
    """
    bare = outside(statement)
    for arrow in re.finditer(" -> ", bare):
        start = max(
            bare.rfind(end, 0, arrow.start()) + len(end)
            for end in (" -> ", ", ", " in ")
            if end in bare[: arrow.start()]
        )
        yield f"{statement[:start]}True{statement[arrow.start() :]}"
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


@pytest.mark.usefixtures("needs_coq")
@pytest.mark.parametrize("file", SOURCES)
def test_coq_refuses_the_proof_of_a_mutated_theorem(file: str) -> None:
    theorems = [(name, statement) for name, (statement, _) in coq.source(file).theorems().items()]
    every = [(name, m) for name, s in theorems for m in mutations(s) if coq.squeeze(m) != coq.squeeze(s)]
    assert len(every) >= len(theorems)
    mutants = many(every, every[::6])
    answers = coq.reprove(file, mutants)  # it proves the theorems themselves too
    assert [m for m, answer in zip(mutants, answers, strict=True) if not answer] == []


def test_a_premise_is_made_void_where_it_stands() -> None:
    statement = (
        "forall (n : nat) (f : nat -> nat), 0 < n -> (forall k, P k -> Q k) -> let m := n in m = 1 -> n = 1"
    )
    assert [*mutations(statement)][:3] == [
        statement.replace("0 < n", "True"),
        statement.replace("(forall k, P k -> Q k)", "True"),
        statement.replace("m = 1", "True"),
    ]


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
