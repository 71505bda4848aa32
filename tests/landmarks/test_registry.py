"""The registry says of each rule what is true of it, and what is costly says so before it begins."""

from __future__ import annotations

import tracemalloc
import warnings

import numpy as np
import pytest

from nystrom_numerics import errors, kernels, landmarks
from nystrom_numerics.landmarks import RULES, cost
from tests.landmarks.rules import KERNEL_RULES, POINT_RULES

X = np.random.default_rng(0).standard_normal((240, 20))


def of(x):
    """Near to the identity: of full rank, so that what can evaluate n² entries does."""
    return kernels.gaussian(x, gamma=2.0)


def test_every_rule_that_is_tested_is_registered_and_the_reverse():
    others = {"sketched leverage": "sketched_leverage", "adaptive pivoting": "adaptive_randomized_pivoting"}
    tested = {others.get(name, name) for name in (*KERNEL_RULES, *POINT_RULES)}
    assert tested | {"adaptive_cross"} == set(RULES)  # which has tests of its own
    exported = {name for name, rule in RULES.items() if getattr(landmarks, name, None) is rule.function}
    assert exported == set(RULES) - {
        *("sketched_leverage", "pivoted_qr", "adaptive_cross"),
        *("deim", "qdeim", "maxvol", "adaptive_randomized_pivoting"),  # of a basis
    }
    assert len({rule.title for rule in RULES.values()}) == len(RULES)


@pytest.mark.parametrize("name", RULES)
def test_what_is_said_of_a_rule_is_true(name):
    rule = RULES[name]
    few, many = of(X[:120]), of(X)
    found = rule(few, 10, rng=3)
    rule(many, 10, rng=3)
    growth = many.entries / max(few.entries, 1)
    assert (growth > 3) == rule.quadratic, growth
    assert (few.entries == 0) == rule.looks_at_points == rule.entries.startswith("0")
    matrix = kernels.precomputed(few.block(slice(None), slice(None)))
    if rule.looks_at_points:
        with pytest.raises(errors.NamespaceError, match="points"):
            rule(matrix, 10)
    else:
        rule(matrix, 10)
    several = {rule(few, 10, rng=seed).gather(X[:120]).tobytes() for seed in range(5)}
    if rule.quadratic and not rule.random:
        assert len(several) == 1
    elif "sketched" not in rule.entries:
        assert (len(several) > 1) == rule.random
    assert found.gather(X[:120]).shape == (10, 20)


def test_a_rule_that_needs_a_psd_kernel_is_one_that_refuses_another():
    crooked = -np.eye(30)
    for name, rule in RULES.items():
        if rule.needs == "a PSD kernel":
            with pytest.raises(errors.IndefiniteError):
                rule(kernels.precomputed(crooked), 5)
        elif not rule.looks_at_points:
            assert rule(kernels.precomputed(crooked), 5).indices.shape == (5,), name


class ReachedError(Exception):
    """The first kernel entry was asked for."""


class Untouched(kernels.PointKernel):
    """A kernel that must not be evaluated."""

    def _block(self, rows, columns):
        raise ReachedError

    def _diagonal(self):
        raise ReachedError


def untouched(n, dtype=np.float64):
    kernel = kernels.gaussian(np.zeros((n, 1), dtype=dtype), gamma=1.0)
    return Untouched(**{name: getattr(kernel, name) for name in kernel.__dataclass_fields__})


@pytest.mark.parametrize("name", [name for name, rule in RULES.items() if not rule.looks_at_points])
def test_what_is_costly_says_so_before_it_begins(name):
    """At n = 20,000, without an entry of it: each rule that evaluates n² entries, and no other."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with pytest.raises(ReachedError):
            RULES[name](untouched(20_000), 100)
    costly = [one.message for one in told if one.category is errors.CostWarning]
    assert len(costly) == RULES[name].quadratic
    for message in costly:
        assert message.entries == 20_000**2
        assert "20,000 points may take 4.0e+08 kernel entries" in str(message)


def test_pivoted_qr_foretells_what_it_took_when_it_said_nothing():
    """54 seconds and 9 GiB at n = 20,000."""
    with pytest.warns(errors.CostWarning) as told, pytest.raises(ReachedError):
        landmarks.on_columns(untouched(20_000), 100)
    message = told[0].message
    assert 8.5 < message.size / 2**30 < 9.5
    assert 27 < message.seconds < 2 * 54 + 1
    with pytest.warns(errors.CostWarning) as told, pytest.raises(ReachedError):
        landmarks.on_columns(untouched(20_000, np.float32), 100)
    assert told[0].message.size * 2 == message.size


def test_what_is_cheap_is_silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, rule in RULES.items():
            rule(of(X), 10)
            assert name


@pytest.mark.parametrize(
    ("name", "predicted"),
    [
        ("pivoted_qr", cost.of_pivoted_qr(1000, 1000, 20)),
        ("leverage", cost.of_spectrum(1000)),
        ("kdpp", cost.of_spectrum(1000)),
    ],
)
def test_memory_is_predicted(name, predicted):
    """What NumPy allocates at once, to a third; entries, but for those among the proposals of each round."""
    kernel = of(np.random.default_rng(0).standard_normal((1000, 20)))
    tracemalloc.start()
    RULES[name](kernel, 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 2 / 3 < peak / (8 * predicted.numbers) < 4 / 3
    assert 1 <= kernel.entries / predicted.entries < 1.1
