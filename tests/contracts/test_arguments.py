"""Bad arguments: every public callable meets every wrong value of every parameter, and names it in a typed error.

Callables and their parameters are found by introspection (:mod:`tests.contracts.surface`), with the rules and solvers
that they make; what is wrong for each by the kind of the parameter (:mod:`tests.contracts.kinds`), and a good call,
from which one argument at a time is replaced, is put together from the same kinds.  What is exported without a known
kind or a good call fails here.
``python -m tests.contracts.walk`` prints callables, cases and faults.
"""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from nystrom_numerics import errors
from tests.contracts import kinds, walk
from tests.contracts.surface import Public

pytestmark = pytest.mark.usefixtures("alone")

CALLABLES = {one.name: one for one in walk.walked()}


@pytest.fixture(scope="module")
def alone():
    with walk.one_rank():
        yield


@pytest.mark.parametrize("name", CALLABLES)
def test_a_wrong_argument_is_named_in_a_typed_error(name):
    one = CALLABLES[name]
    found = walk.call(one, walk.good_call(one))
    assert inspect.isfunction(found) == one.makes_a_callable, (
        "by its annotation the walk goes on to what it makes"
    )
    bad = [f"{case.parameter}: {case.word}: {case.fault}" for case in walk.cases(one) if case.fault]
    assert not bad, f"{len(bad)} of {name}:\n" + "\n".join(bad)


def test_the_walk_covers_the_package():
    """Fewer would mean that the introspection has lost some."""
    assert len(CALLABLES) >= 160
    for name in (
        "attention.nystrom",
        "landmarks.kmeans",
        "lowrank.NystromFactor.solve",
        "nn.Nystromformer.forward",
        "distributed.near_field",
        *("landmarks.on_basis()", "landmarks.on_points()", "pinv.by_product()", "pinv.implicit()"),
    ):
        assert name in CALLABLES


# ---------------------------------------------------------------- the walk itself can fail


def faults(function):
    one = Public("bounds.coherence", None, function)
    return [case for case in walk.cases(one) if case.fault]


def test_what_is_accepted_and_what_is_not_typed_is_a_fault():
    def accepts(m: int) -> None:
        pass

    def stumbles(m: int) -> None:
        if m != kinds.M:
            raise TypeError("m")

    def names_another(m: int) -> None:
        if m is not kinds.M:
            raise errors.RangeError("n", "wrong", "another")

    def names_it(m: int) -> None:
        if isinstance(m, bool) or not isinstance(m, (int, np.integer)) or not 1 <= m <= kinds.N:
            raise errors.RangeError("m", "wrong", "another")

    for function in (accepts, stumbles, names_another, names_it):
        function.__annotations__ = {"m": "int"}  # as strings, which `from __future__` makes of them
    cases = list(walk.cases(Public("bounds.coherence", None, accepts)))
    for function in (accepts, stumbles, names_another):
        assert len(faults(function)) == len(cases) > 5
    assert not faults(names_it)


def test_a_parameter_of_no_known_kind_fails():
    with pytest.raises(LookupError, match=r"f\(whatever: int\) is of no known kind"):
        kinds.kind_of("f", "whatever", "int")
    with pytest.raises(LookupError):
        kinds.kind_of("f", "x", inspect.Parameter.empty)
