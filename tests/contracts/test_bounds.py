"""Whatever is registered as a bound is held to the truth over its whole law; a false one fails, however labelled.

A bound with certainty must hold on every outcome, one with a probability in its share of them, and one of the mean in
the mean.  What speaks of the landmarks at hand must hold for these, whatever it calls itself.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from math import inf

import numpy as np
import pytest
from scipy import stats

from nystrom_numerics import bounds, errors, kernels, landmarks
from nystrom_numerics.bounds import BOUNDS, Bound, Hypothesis, Law, Line, Norm, Registered, Side, Subject
from tests.contracts.bound_trials import SAMPLED, Outcome, groups
from tests.contracts.surface import exported

KNOWN_AT_LEAST = 20


def beyond(b: Bound, outcome: Outcome) -> float:
    """How far the truth lies on the wrong side of it, after the slack."""
    truth = outcome.truth(b.norm)
    return (truth - b.value if b.side is Side.UPPER else b.value - truth) - outcome.slack


def contradictions(one: Registered) -> Iterator[str]:
    """What speaks against a registered bound; nothing where it is what it says."""
    known = informative = 0
    for group in groups(one.subject, one.law):
        made = [one(outcome.problem) for outcome in group]
        if len({len(found) for found in made}) > 1:
            yield "another number of bounds for another outcome"
        for column in zip(*made, strict=True):
            labels = {(b.side, b.norm, b.probability, b.source) for b in column if "steps" not in b.source}
            if len(labels) > 1:
                yield f"labels that change with the outcome: {labels}"
            pairs = [(b, o) for b, o in zip(column, group, strict=True) if b.value is not None]
            if not pairs:
                continue
            known += len(pairs)
            informative += sum(not b.vacuous for b, _ in pairs)
            gaps = np.array([beyond(b, o) for b, o in pairs])
            chances = np.array([o.chance for _, o in pairs])
            yield from _judged(column[0], gaps, chances, one.law in SAMPLED)
    if known < KNOWN_AT_LEAST:
        yield f"a number on {known} outcomes only"
    if not informative:
        yield "vacuous wherever it says a number"


def _judged(b: Bound, gaps: np.ndarray, chances: np.ndarray, sampled: bool) -> Iterator[str]:
    wrong = gaps > 0
    if b.probability is None:
        mean = float(gaps @ chances / chances.sum())
        allowed = 4 * float(gaps.std()) / len(gaps) ** 0.5 if sampled else 0.0
        if mean > allowed:
            yield f"false in the mean by {mean:.2g}: {b}"
    elif b.probability == 1:
        if wrong.any():
            yield f"certain, and false by {gaps.max():.2g}: {b}"
    elif sampled:
        if (
            stats.binomtest(int(wrong.sum()), len(gaps), 1 - b.probability, alternative="greater").pvalue
            < 1e-6
        ):
            yield f"false in {wrong.mean():.2g} of the draws: {b}"
    elif float(chances[wrong].sum()) > 1 - b.probability + 1e-9:
        yield f"false with probability {chances[wrong].sum():.2g}: {b}"


@pytest.mark.parametrize("one", BOUNDS, ids=lambda one: one.name)
def test_a_registered_bound_is_what_it_says(one):
    assert not list(contradictions(one))


def test_names_are_told_apart_and_laws_are_in_use():
    names = [one.name for one in BOUNDS]
    assert len(set(names)) == len(names) == len(BOUNDS) >= 26
    assert {one.law for one in BOUNDS} == set(Law)
    assert {one.subject for one in BOUNDS} == set(Subject)


def test_every_public_function_that_makes_a_bound_is_registered():
    """By its annotation, so that what is exported tomorrow is asked for."""
    gather = {bounds.certify, bounds.audit}
    makers = {
        thing
        for name, thing in exported().items()
        if name.startswith("bounds.") and inspect.isfunction(thing) and thing not in gather
        if re.search("Bound|Certificate|PinvError", str(inspect.signature(thing).return_annotation))
    }
    assert makers == {one.function for one in BOUNDS}


# ---------------------------------------------------------------- false ones, however labelled

HYPOTHESES = {
    "none": (),
    "one that holds": (Hypothesis("A is a matrix", True, "it is"),),
    "one that never holds": (Hypothesis("A is a banana", False, "it is not"),),
}


def false_bound(side: Side, norm: Norm, probability: float | None, hypotheses: str) -> Bound:
    """Far from any truth: nearly nothing as the most, and beyond all as the least."""
    held = HYPOTHESES[hypotheses]
    value = 1e-12 if side is Side.UPPER else 1e12
    known = all(h.holds for h in held)
    return Bound(value if known else None, side, norm, probability, held, "nobody", vacuous=False)


@pytest.mark.parametrize("law", Law, ids=lambda law: law.name)
def test_a_false_bound_fails_however_it_is_labelled(law):
    subject = next(one.subject for one in BOUNDS if one.law is law)
    labels = list(product(Side, Norm, (1.0, 0.99, 0.2, None), ("none", "one that holds")))
    for label in (*labels, (Side.UPPER, Norm.TRACE, 1.0, "one that never holds")):
        assert next(contradictions(registered(law, subject, *label)), None), f"{label} passes"


def registered(law: Law, subject: Subject, *label) -> Registered:
    b = false_bound(*label)
    return Registered("false", len, subject, law, "none", False, "nothing", lambda problem: (b,))


def test_a_true_value_under_another_label_fails():
    """The best known bounds, each moved to the side, norm, law or probability where it is false."""
    by_name = {one.name: one for one in BOUNDS}

    def relabelled(name, law=None, **changes):
        one = by_name[name]

        def make(problem):
            return tuple(replaced(b, **changes) for b in one(problem))

        return Registered(
            "moved", one.function, one.subject, law or one.law, one.entries, one.quadratic, one.needs, make
        )

    def replaced(b, side=None, norm=None, probability=None, holds_under=None):
        moved = replace(b, side=side or b.side, norm=norm or b.norm, probability=probability or b.probability)
        if holds_under is None:
            return moved
        return replace(moved, holds_under=holds_under, value=b.value or 0.0)

    for false in (
        relabelled("Eckart–Young", side=Side.UPPER),
        relabelled("structural, one matrix", norm=Norm.TRACE),
        relabelled("structural, one matrix", side=Side.LOWER),
        relabelled("structural, one matrix", holds_under=()),
        relabelled("Gittens–Mahoney, structural", holds_under=()),
        relabelled("determinantal, exact mean", law=Law.UNIFORM),
        relabelled("determinantal, exact mean", law=Law.THESE),
        relabelled("determinantal, exact mean", probability=1.0),
        relabelled("determinantal, exact mean", probability=0.9),
        relabelled("determinantal, exact mean", norm=Norm.FROBENIUS, side=Side.LOWER),
        relabelled("Kumar–Mohri–Talwalkar, additive", probability=1.0),
        relabelled("Drineas–Mahoney, additive", law=Law.UNIFORM, probability=1.0),
        relabelled("Gaussian probes", probability=1.0),
        relabelled("Halko–Martinsson–Tropp, Gaussian probes", norm=Norm.TRACE),
        relabelled("Sorensen–Embree", norm=Norm.TRACE),
        relabelled("Wedin", norm=Norm.TRACE),
    ):
        assert next(contradictions(false), None), false


@pytest.mark.parametrize(
    "changes",
    [
        {"norm": "any"},
        {"side": "any"},
        {"probability": 0.0},
        {"probability": 2.0},
        {"probability": float("nan")},
        {"value": float("nan")},
        {"value": None},
        {"value": "x"},
        {"holds_under": ("it does",)},
        {"holds_under": HYPOTHESES["one that never holds"]},
    ],
    ids=str,
)
def test_what_no_bound_can_say(changes):
    honest = {"value": 1.0, "side": Side.UPPER, "norm": Norm.TRACE, "probability": 1.0, "holds_under": ()}
    Bound(**honest, source="somebody", vacuous=False)
    with pytest.raises(errors.ArgumentError):
        Bound(**honest | changes, source="somebody", vacuous=False)


# ---------------------------------------------------------------- what an audit makes of them


def matrix():
    x = np.random.default_rng(1).standard_normal((30, 2))
    return kernels.gaussian(x, gamma=0.5)


def test_an_audit_prints_registered_bounds_alone():
    kernel = matrix()
    found = bounds.audit(kernel, landmarks.rpcholesky(kernel, 8))
    of_certificates = {"diagonal of R", "trace of R", "Lanczos", "Gaussian probes"}
    names = {line.name for line in (*found.lines, *found.failed)}
    assert names - of_certificates <= {one.name for one in BOUNDS}
    assert names >= {one.name for one in BOUNDS if one.law in (Law.UNIFORM, Law.DETERMINANTAL)}
    certain = [line for line in found.lines if line.bound.probability == 1]
    assert all(line.holds and line.of == "these" for line in certain)


@pytest.mark.parametrize("law", Law, ids=lambda law: law.name)
def test_a_false_bound_leads_no_audit(law, monkeypatch):
    """Certain of other landmarks it cannot be; of these or drawn, it comes last."""
    kernel = matrix()
    chosen = landmarks.rpcholesky(kernel, 8)
    for side, probability in product(Side, (1.0, 0.9, None)):
        false = registered(law, Subject.NYSTROM, side, Norm.TRACE, probability, "none")
        monkeypatch.setattr(sys.modules["nystrom_numerics.bounds.audit"], "BOUNDS", (*BOUNDS, false))
        if probability == 1.0 and law is not Law.THESE:
            with pytest.raises(errors.RangeError, match="these landmarks, for a bound that is certain"):
                bounds.audit(kernel, chosen)
            continue
        lines = bounds.audit(kernel, chosen).lines
        place = next(i for i, line in enumerate(lines) if line.name == "false")
        assert not lines[place].holds
        assert not any(line.holds for line in lines[place:])


def test_a_line_speaks_of_these_landmarks_or_of_a_law():
    certain = false_bound(Side.UPPER, Norm.TRACE, 1.0, "none")
    for of in ("any", "", "These", "uniform without replacement"):
        with pytest.raises(errors.RangeError) as caught:
            Line("false", certain, 1.0, of)
        assert caught.value.argument == "of"
    assert not Line("false", certain, 1.0, "these").holds
    assert Line("true", bounds.eckart_young(np.array([2.0, 1.0]), 1)[0], 1.0, "these").holds
    assert (
        Line(
            "nothing known", false_bound(Side.UPPER, Norm.MAX, 1.0, "one that never holds"), 1.0, "these"
        ).tightness
        == inf
    )
