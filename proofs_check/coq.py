"""Compile the Coq sources, audit what their theorems rest on, and hold claims to them.

Nothing is written beside the sources: compiled files live in a cache named by the content of the sources
and the version of Coq.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

from proofs_check.contract import Claim, Outcome, Theorem, Verdict, failed
from proofs_check.session import session

SOURCES = Path(__file__).parent / "coq"
NAMESPACE = "NystromProofs"
TIMEOUT, PATIENCE = 400, 3
"""Seconds for a command; and the times that another statement's proof may take of a theorem's own."""
CLEAN = "Closed under the global context"
ESCAPES = (
    "Admitted", "admit", "give_up", "Abort", "Axiom", "Axioms", "Parameter", "Parameters", "Conjecture",
    "bypass_check", "Unset Guard Checking", "Unset Universe Checking",
    "Unset Positivity Checking", "Declare ML Module", "Add LoadPath",
)  # fmt: skip

_THEOREM = re.compile(r"^Theorem\s+(\w+)\s*:\s*(.*?)\.\s*\n(Proof\..*?\bQed\.)", re.M | re.S)
_REQUIRE = re.compile(rf"^From {NAMESPACE} Require Import ([\w ]+)\.", re.M)
_HEADER = re.compile(r"^(?:From|Set|Import|Local Open Scope) .*$", re.M)
_COMMENT = re.compile(r"\(\*.*?\*\)", re.S)


@dataclass(frozen=True)
class Source:
    """One ``.v`` file: its text, what it requires of its neighbours, its theorems with their proofs."""

    name: str
    text: str

    @property
    def code(self) -> str:
        """The text without its comments."""
        return _COMMENT.sub(" ", self.text)

    @property
    def requires(self) -> list[str]:
        return [name for line in _REQUIRE.findall(self.code) for name in line.split()]

    @property
    def opening(self) -> list[str]:
        """Commands after which statements read as they do in the source, with all that it proves at hand."""
        return [*_HEADER.findall(self.code), f"From {NAMESPACE} Require Import {self.name}."]

    def theorems(self) -> dict[str, tuple[str, str]]:
        """Name to (statement, proof)."""
        return {name: (squeeze(text), proof) for name, text, proof in _THEOREM.findall(self.code)}

    def escapes(self) -> list[str]:
        """Words by which a source could claim a theorem without proving it."""
        return [word for word in ESCAPES if re.search(rf"\b{word}\b", self.code)]


@dataclass(frozen=True)
class Audit:
    """What Coq says of a compiled theorem: its statement as printed, and the axioms it rests on."""

    printed: str
    assumptions: str

    @property
    def clean(self) -> bool:
        return self.assumptions == CLEAN


class CoqError(Exception):
    """A source does not compile, or not in time; the message is Coq's."""


def coqc() -> str | None:
    """The Coq compiler, or None where Coq is absent."""
    return shutil.which("coqc")


def squeeze(text: str) -> str:
    """Statements are compared up to white space."""
    return " ".join(text.split())


def source(name: str, directory: Path = SOURCES) -> Source:
    return Source(name, (directory / f"{name}.v").read_text("utf-8"))


def sources(directory: Path = SOURCES) -> dict[str, Source]:
    return {path.stem: source(path.stem, directory) for path in sorted(directory.glob("*.v"))}


def _closure(name: str, directory: Path) -> list[Source]:
    """The source and all that it requires, in the order in which they compile."""
    ordered: dict[str, Source] = {}

    def visit(current: str) -> None:
        if current not in ordered:
            this = source(current, directory)
            for required in this.requires:
                visit(required)
            ordered[current] = this

    visit(name)
    return list(ordered.values())


def _coq(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            arguments,
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        raise CoqError(f"{arguments[-1]} does not finish within {TIMEOUT} s") from late


@cache
def version() -> str:
    """The version of Coq, such as 8.16.1."""
    return _coq("coqc", "--print-version", cwd=Path.cwd()).stdout.split()[0]


def compile_source(name: str, directory: Path = SOURCES) -> Path:
    """Compile a source and what it requires; the directory that holds the result.

    Raises :class:`CoqError` where a source does not compile or contains an escape from proof.
    """
    closure = _closure(name, directory)
    content = "\0".join([version(), *(f"{s.name}\0{s.text}" for s in closure)])
    target = _cache_root() / sha256(content.encode()).hexdigest()[:24]
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        built = Path(folder) / "built"
        built.mkdir()
        *_, this = closure
        for required in this.requires:
            for compiled in compile_source(required, directory).glob("*.vo"):
                shutil.copy(compiled, built)
        _compile_one(this, built)
        # a rename is atomic: another process finds all of it or nothing
        if not target.exists():
            built.rename(target)
    return target


def _cache_root() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "nystrom_numerics" / "proofs"


def _compile_one(this: Source, folder: Path) -> None:
    if this.escapes():
        raise CoqError(f"{this.name}.v uses {', '.join(this.escapes())}: nothing there counts as proved")
    (folder / f"{this.name}.v").write_text(this.text, "utf-8")
    done = _coq("coqc", "-w", "none", "-Q", ".", NAMESPACE, f"{this.name}.v", cwd=folder)
    if done.returncode:
        raise CoqError(f"{this.name}.v does not compile: {squeeze(done.stdout)}")


@cache
def audit(name: str, directory: Path = SOURCES) -> Mapping[str, Audit]:
    """``Check`` and ``Print Assumptions`` of every theorem of a source, from one run of Coq.

    Coq also checks that each theorem has the statement that is read from the source.  What it says is kept beside
    the compiled files, which have the same standing.
    """
    target = compile_source(name, directory)
    this = source(name, directory)
    kept = target / f"{name}.audit.json"
    if not kept.exists():
        with tempfile.TemporaryDirectory(dir=target) as folder:
            part = Path(folder) / kept.name
            part.write_text(json.dumps(_audit(this, target)), "utf-8")
            part.replace(kept)
    return {theorem: Audit(*answer) for theorem, answer in json.loads(kept.read_text("utf-8")).items()}


def _audit(this: Source, target: Path) -> dict[str, tuple[str, str]]:
    theorems = {theorem: statement for theorem, (statement, _) in this.theorems().items()}
    script = [*this.opening, "Set Printing Width 100."]
    script += [f"Check (@{theorem} : {statement})." for theorem, statement in theorems.items()]
    for theorem in theorems:
        for marker, command in (("C", f"Check @{theorem}."), ("A", f"Print Assumptions {theorem}.")):
            script += [f'Goal True. idtac "@@{marker}". Abort.', command]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "audit.v"
        path.write_text("\n".join(script), "utf-8")
        done = _coq("coqc", "-w", "none", "-Q", str(target), NAMESPACE, path.name, cwd=Path(folder))
    if done.returncode:
        raise CoqError(f"the audit of {this.name}.v does not run: {squeeze(done.stdout)}")
    answers = [part.strip() for part in re.split(r"@@[CA]", done.stdout)[1:]]
    return {theorem: (answers[2 * i], squeeze(answers[2 * i + 1])) for i, theorem in enumerate(theorems)}


def reprove(name: str, attempts: Iterable[tuple[str, str]], directory: Path = SOURCES) -> list[str]:
    """Give the proof of a theorem to another statement; for each, Coq's answer, or "" where it is accepted.

    ``attempts`` are pairs of a theorem's name and the statement to try.  One session of Coq tries them all,
    with everything that the source proves at hand.  A proof is left at its first error, or where it has taken several
    times the processor time that it takes of its own theorem: then it is not that proof any more.
    """
    target = compile_source(name, directory)
    this = source(name, directory)
    theorems, usual, answers = this.theorems(), dict[str, float](), list[str]()
    try:
        with session(target, NAMESPACE, TIMEOUT) as coq:
            for command in this.opening:
                coq.run(command)
            for theorem, attempt in attempts:
                statement, proof = theorems[theorem]
                if theorem not in usual:
                    start = coq.seconds
                    if coq.prove(statement, proof):
                        raise CoqError(f"the harness refuses {theorem} of {name}.v itself")
                    usual[theorem] = coq.seconds - start
                answers.append(coq.prove(attempt, proof, PATIENCE * (usual[theorem] + 1)))
    except TimeoutError as late:
        raise CoqError(f"{name}.v: {late}") from late
    return answers


def prove(claim: Claim, counterexample: Callable[[Claim], str | None], directory: Path = SOURCES) -> Verdict:
    """Hold a claim to its theorems.

    First exact rational instances of the claim, with its own constants and without the hypotheses that it
    lacks: one that fails refutes it.  Then the theorems: the pinned statement must be the statement in the
    source, the source must compile, and no axiom may be used.
    """
    found = counterexample(claim)
    if found is not None:
        return failed("counterexample", found)
    if coqc() is None:
        return Verdict(Outcome.UNAVAILABLE, "Coq is absent", "install coq and mathcomp; nothing was proved")
    if not claim.theorems:
        return failed("no theorem", "the claim pins no theorem")
    reports = [_hold(claim, theorem, directory) for theorem in claim.theorems]
    broken = [report for report in reports if report.outcome is not Outcome.PROVED]
    if broken:
        return broken[0]
    number = f"{len(reports)} theorem{'s' * (len(reports) > 1)}, no axioms"
    return Verdict(Outcome.PROVED, number, "\n\n".join(report.detail for report in reports))


def _hold(claim: Claim, theorem: Theorem, directory: Path) -> Verdict:
    known = source(theorem.file, directory).theorems()
    if theorem.name not in known:
        return failed("no such theorem", f"{theorem.file}.v does not prove {theorem.name}")
    pinned = squeeze(claim.coq_statement(theorem))
    try:
        answer = audit(theorem.file, directory)[theorem.name]
        if pinned != known[theorem.name][0]:
            (error,) = reprove(theorem.file, [(theorem.name, pinned)], directory)
            reason = (
                f"Coq refuses it: {error}" if error else "Coq accepts it, so it is another true statement"
            )
            return failed("not the theorem", f"{theorem.name} is not what the claim says. {reason}")
    except CoqError as error:
        return failed("Coq refuses", str(error))
    if not answer.clean:
        return failed("rests on axioms", f"{theorem.name}: {answer.assumptions}")
    return Verdict(Outcome.PROVED, "no axioms", f"{answer.printed}\n{CLEAN}")
