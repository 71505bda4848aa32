"""Docstrings are complete: of each public name parameters, results, errors, cost and an example, which doctest runs.

What is public is found as the walked contracts find it, so that a name without them fails the day it is exported.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from enum import Enum
from typing import Any

import pytest

from tests.contracts.surface import exported, public

docscrape = pytest.importorskip("numpydoc.docscrape", reason="numpydoc is absent")

COST = re.compile(
    r"\b[Cc]osts?\b|\bentr(y|ies)\b|\b(products?|passes|multiplications|additions|launch)\b|O\("
)
"""Words of which a docstring has one where it says what a call costs."""


def sections(thing: Any) -> Any:
    """A class documents itself; a method may be documented where its base is."""
    own = thing.__dict__.get("__doc__") if inspect.isclass(thing) else inspect.getdoc(thing)
    return docscrape.NumpyDocString(inspect.cleandoc(own or ""))


def explained(parsed: Any) -> set[str]:
    entries = (entry.name for heading in ("Parameters", "Attributes") for entry in parsed[heading])
    return {name.strip("* ") for entry in entries for name in entry.split(",")}


def taken(thing: Any) -> set[str]:
    """What a caller may give.  Nobody makes an Enum or a Protocol, and what begins with _ is nobody's to give."""
    if inspect.isclass(thing) and (issubclass(thing, Enum) or getattr(thing, "_is_protocol", False)):
        return set()
    if inspect.isclass(thing) and issubclass(thing, BaseException) and "__init__" not in dir_of(thing):
        return {"args"}  # whose constructor is Python's
    return {name for name in inspect.signature(thing).parameters if name != "self" and name[0] != "_"}


def dir_of(thing: type) -> set[str]:
    return {name for base in thing.__mro__ if base.__module__.startswith("nystrom") for name in vars(base)}


def lacking(thing: Any) -> Iterator[str]:
    """What the docstring of a function, method or class does not say."""
    parsed = sections(thing)
    if not parsed["Summary"]:
        yield "a first sentence"
    yield from sorted(taken(thing) - explained(parsed))
    if inspect.isfunction(thing):
        gives = inspect.signature(thing).return_annotation not in (None, "None", inspect.Signature.empty)
        if gives and not (parsed["Returns"] or parsed["Yields"]):
            yield "Returns"
        if taken(thing) and not parsed["Raises"]:
            yield "Raises"


def test_each_name_says_what_it_takes_gives_and_raises():
    found = {name: list(lacking(thing)) for name, thing in exported().items()}
    found |= {one.name: list(lacking(one.call)) for one in public() if one.owner is not None}
    assert {name: words for name, words in found.items() if words} == {}


def test_each_name_has_an_example():
    assert [
        name for name, thing in exported().items() if ">>>" not in "".join(sections(thing)["Examples"])
    ] == []


def test_each_function_says_what_it_costs():
    functions = {name: thing for name, thing in exported().items() if inspect.isfunction(thing)}
    assert [name for name, thing in functions.items() if not COST.search(thing.__doc__ or "")] == []


def test_what_is_lacking_is_seen():
    def silent(x: int, _own: int = 0) -> int:
        """Says nothing.

        Parameters
        ----------
        y : int
        """

    def quiet() -> None:
        """Needs nothing more."""

    assert list(lacking(silent)) == ["x", "Returns", "Raises"]
    assert list(lacking(quiet)) == []
    assert not COST.search(silent.__doc__)
