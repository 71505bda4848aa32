"""What is public: every function, constructor and method that a user reaches by a public name.

Found by introspection, so that what is exported tomorrow is walked tomorrow.  A room is a package of
``nystrom_numerics`` or a file that its ``__all__`` names; what a room exports is public, and a room that exports
nothing is open: its files are.  Of classes, the methods that take arguments are walked, and the constructors of those
that some other callable takes: the package itself makes the others.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from types import ModuleType
from typing import Any, get_origin, get_type_hints

import nystrom_numerics

PACKAGE = "nystrom_numerics"

MADE_HERE = {
    "attention.NystromOperator": "nystrom_operator makes it, and checks",
    "kernels.MatrixKernel": "precomputed makes it, and checks",
    "kernels.PointKernel": "the functions of kernels make it, and check",
    "pinv.PinvResult": "the pseudoinverses make it",
    "bounds.Estimate": "the estimators of traces make it",
    "integrations.dask.ChunkedFactor": "nystrom_factor makes it, and checks",
    "integrations.dask.ChunkedKernel": "chunked_kernel makes it, and checks",
}
"""Records that others take and the package makes: nobody writes one by hand, and their constructors are not walked."""

REFUSE = {
    "kernels.MatrixKernel.between": "a matrix knows no points",
    "kernels.MatrixKernel.cross": "a matrix knows no points",
    "integrations.torch.captured": "only a CUDA device has graphs; its own tests are tests/integrations/torch/",
}
"""What refuses every call, by design or on a machine without a GPU."""


@dataclass(frozen=True)
class Public:
    """One public callable: its name, the class whose instance it is bound to, and itself."""

    name: str
    owner: type | None
    call: Callable[..., Any]

    @property
    def parameters(self) -> list[inspect.Parameter]:
        found = list(inspect.signature(self.call).parameters.values())
        return found[1:] if self.owner is not None else found

    @property
    def makes_a_callable(self) -> bool:
        """Whether its annotation says that it gives a rule, a solver or any other callable."""
        hints = get_type_hints(self.call) if inspect.isfunction(self.call) else {}
        return get_origin(hints.get("return")) is Callable


def rooms() -> Iterator[ModuleType]:
    for info in pkgutil.iter_modules(nystrom_numerics.__path__):
        if info.name == "cli":
            continue  # commands are called by text: tests/test_cli.py and beside it
        if info.name in nystrom_numerics.__all__ or info.ispkg:
            room = importlib.import_module(f"{PACKAGE}.{info.name}")
            if hasattr(room, "__all__"):
                yield room
            else:
                yield from (
                    importlib.import_module(f"{room.__name__}.{inner.name}")
                    for inner in pkgutil.iter_modules(room.__path__)
                )


def exported() -> dict[str, Any]:
    """Functions and classes of the package by room and name, each once."""
    found: dict[str, Any] = {}
    for room in rooms():
        for name in room.__all__:
            thing = getattr(room, name)
            own = getattr(thing, "__module__", "") or ""
            known = any(thing is other for other in found.values())
            if (
                (inspect.isfunction(thing) or inspect.isclass(thing))
                and own.startswith(PACKAGE)
                and not known
            ):
                found[f"{room.__name__.removeprefix(f'{PACKAGE}.')}.{name}"] = thing
    return found


def public() -> list[Public]:
    things = exported()
    functions = [Public(name, None, f) for name, f in things.items() if inspect.isfunction(f)]
    classes = {
        name: c
        for name, c in things.items()
        if inspect.isclass(c) and not issubclass(c, (BaseException, Enum)) and not inspect.isabstract(c)
    }
    methods = [
        Public(f"{name}.{method}", c, f)
        for name, c in classes.items()
        for method, f in inspect.getmembers(c, inspect.isfunction)
        if _is_a_method_of_ours(c, method, f)
    ]
    models = [Public(name, None, c) for name, c in classes.items() if not dataclasses.is_dataclass(c)]
    taken = {
        word
        for one in (*functions, *methods, *models)
        for p in one.parameters
        for word in _words(p.annotation)
    }
    records = [
        Public(name, None, c)
        for name, c in classes.items()
        if dataclasses.is_dataclass(c) and any(base.__name__ in taken for base in c.__mro__)
    ]
    left_out = MADE_HERE.keys() | REFUSE.keys()
    everything = (*functions, *models, *records, *methods)
    return [one for one in everything if one.parameters and one.name not in left_out]


def _is_a_method_of_ours(owner: type, name: str, function: Any) -> bool:
    if dataclasses.is_dataclass(owner) and name in {field.name for field in dataclasses.fields(owner)}:
        return False  # a field whose default is a function
    return function.__module__.startswith(PACKAGE) and (not name.startswith("_") or name == "__call__")


def _words(annotation: Any) -> set[str]:
    return set(re.findall(r"\w+", annotation if isinstance(annotation, str) else ""))
