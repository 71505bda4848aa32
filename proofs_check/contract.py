"""What a claim is, what a check may say about it, and how a statement is made false on purpose.

A claim is a module with ``STATEMENT``, ``SOURCE``, ``HYPOTHESES``, ``METHOD``, ``FORMULA``,
``NEGATIVE_CONTROL`` and ``check(claim) -> Verdict``.  Its constants and hypotheses are held once, in a
:class:`Claim`; the sentence, the formula and the Coq text are templates filled from them, and the check
computes with the same values.  What is shown is therefore what is checked, and changing a constant or
dropping a hypothesis changes both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from fractions import Fraction
from inspect import cleandoc
from string import Template
from types import MappingProxyType

Number = int | Fraction


class Outcome(Enum):
    """What a check may conclude."""

    PROVED = "PROVED"
    CERTIFIED = "CERTIFIED"
    REFUTED = "REFUTED"
    NOT_REFUTED = "NOT REFUTED"
    FAILED = "FAILED"
    UNAVAILABLE = "UNAVAILABLE"

    @property
    def accepted(self) -> bool:
        """Whether the claim stands as written (for ``REFUTED``: the refutation and the correction stand)."""
        return self not in (Outcome.FAILED, Outcome.UNAVAILABLE)


class Method(Enum):
    """How a claim is checked, and the one outcome that success may have."""

    COQ = "Coq theorem"
    SYMBOLIC = "exact symbolic identity"
    BALLS = "ball arithmetic"
    COUNTEREXAMPLE = "exact counterexample and correction"
    TRIALS = "adversarial trials"

    @property
    def success(self) -> Outcome:
        return _SUCCESS[self]


_SUCCESS = {
    Method.COQ: Outcome.PROVED,
    Method.SYMBOLIC: Outcome.PROVED,
    Method.BALLS: Outcome.CERTIFIED,
    Method.COUNTEREXAMPLE: Outcome.REFUTED,
    Method.TRIALS: Outcome.NOT_REFUTED,
}


@dataclass(frozen=True)
class Verdict:
    """The outcome, the number that decides it, and what a reader needs to check it."""

    outcome: Outcome
    number: str
    detail: str = ""


def failed(number: str, detail: str = "") -> Verdict:
    """The statement is not established, or is contradicted; ``number`` says by what."""
    return Verdict(Outcome.FAILED, number, detail)


def refuted(number: str, detail: str, correction: Verdict) -> Verdict:
    """The statement as printed has a counterexample; it counts once the corrected statement stands too."""
    if not correction.outcome.accepted:
        return Verdict(correction.outcome, f"correction: {correction.number}", correction.detail)
    corrected = f"Corrected statement {correction.outcome.value} ({correction.number})."
    return Verdict(Outcome.REFUTED, number, f"{detail}\n\n{corrected}\n\n{correction.detail}".strip())


@dataclass(frozen=True)
class Theorem:
    """A Coq theorem: file (without ``.v``), name, pinned statement and the premises it may lose.

    ``$name`` in the statement is a constant of the claim, or a premise followed by its arrow.
    """

    file: str
    name: str
    statement: str
    premises: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """A statement with its constants and hypotheses; ``$name`` in the templates is a constant."""

    text: str
    formula: str
    constants: Mapping[str, Number] = field(default_factory=dict)
    hypotheses: Mapping[str, str] = field(default_factory=dict)
    theorems: tuple[Theorem, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "constants", MappingProxyType(dict(self.constants)))
        object.__setattr__(self, "hypotheses", MappingProxyType(dict(self.hypotheses)))

    def __getitem__(self, name: str) -> Number:
        return self.constants[name]

    def assumes(self, name: str) -> bool:
        return name in self.hypotheses

    def sentence(self) -> str:
        return Template(self.text).substitute({name: str(value) for name, value in self.constants.items()})

    def rendered_formula(self) -> str:
        return Template(self.formula).substitute({name: str(value) for name, value in self.constants.items()})

    def coq_statement(self, theorem: Theorem) -> str:
        """The statement given to Coq: integers as they are, fractions as ``(p%:R / q%:R)``."""
        values = {name: _coq_number(value) for name, value in self.constants.items()}
        for name, premise in theorem.premises.items():
            values[name] = f"{premise} ->" if self.assumes(name) else ""
        return cleandoc(Template(theorem.statement).substitute(values))

    def with_constants(self, **values: Number) -> Claim:
        unknown = set(values) - set(self.constants)
        if unknown:
            raise ValueError(f"the claim has no constants {sorted(unknown)}; it has {sorted(self.constants)}")
        return replace(self, constants={**self.constants, **values})

    def without(self, hypothesis: str) -> Claim:
        if hypothesis not in self.hypotheses:
            raise ValueError(f"the claim has no hypothesis {hypothesis!r}; it has {sorted(self.hypotheses)}")
        kept = {name: text for name, text in self.hypotheses.items() if name != hypothesis}
        return replace(self, hypotheses=kept)

    def mutants(self) -> Iterator[tuple[str, Claim]]:
        """Every statement one step away: a sign flipped, a constant changed, a hypothesis dropped."""
        for name, value in self.constants.items():
            for changed in _changes(value):
                yield f"{name} = {changed} instead of {value}", self.with_constants(**{name: changed})
        for name in self.hypotheses:
            yield f"without the hypothesis {name!r}", self.without(name)


def _coq_number(value: Number) -> str:
    if isinstance(value, int):
        return str(value)
    return f"({value.numerator}%:R / {value.denominator}%:R)"


def _changes(value: Number) -> tuple[Number, ...]:
    if isinstance(value, int):
        return (value + 1, value - 1, *((-value,) if value else ()))
    return (value * 2, value / 2, -value)
