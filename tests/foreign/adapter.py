"""Our pseudoinverses behind the signature that NumPy's and SciPy's tests call, and those tests one by one.

The adapter does what our contract leaves to the caller: it makes an array of floating numbers of a list, of integers
and of a subclass of ``ndarray``, which ours refuse; it gives the result the class of the argument; and it makes one
relative cutoff of SciPy's ``atol + rtol·‖A‖₂``.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from types import ModuleType
from typing import Any

import numpy as np

from nystrom_numerics import pinv

Pinv = Callable[..., np.ndarray]


def solved(a: np.ndarray, *, rtol: float | None, check_finite: bool) -> Any:
    """A⁺I by the default solver."""
    identity = np.eye(a.shape[-2], dtype=a.dtype)
    method = partial(pinv.rank_revealing, rtol=rtol)
    return pinv.solve(a, identity, method=method, check_finite=check_finite)


def behind(ours: Callable[..., Any]) -> Pinv:
    def call(
        a: Any,
        *,
        atol: float = 0.0,
        rtol: float | None = None,
        hermitian: bool = False,
        check_finite: bool = True,
    ) -> np.ndarray:
        x = np.asarray(a)
        if not np.issubdtype(x.dtype, np.inexact):
            x = x.astype(np.float64)
        if atol:
            rtol = atol / float(np.linalg.norm(x, 2)) + (rtol or 0.0)
        value = ours(x, rtol=rtol, check_finite=check_finite).value
        return value.view(type(a)) if isinstance(a, np.ndarray) else value

    return call


GENERAL = {
    "svd": behind(pinv.svd),
    "rank_revealing": behind(solved),
    "complete_orthogonal": behind(pinv.complete_orthogonal),
}
HERMITIAN = {**GENERAL, "hermitian": behind(pinv.hermitian)}


def runs_of(owner: type) -> dict[str, Callable[[], None]]:
    """Each test of a class of theirs, with each value of its parameters, ready to run."""
    return {
        f"{owner.__name__}.{name}{list(given.values()) if given else ''}": partial(
            getattr(owner(), name), **given
        )
        for name, function in inspect.getmembers(owner, inspect.isfunction)
        if name.startswith("test")
        for given in _parameters(function)
    }


def _parameters(function: Any) -> Iterator[dict[str, Any]]:
    marks = [mark for mark in getattr(function, "pytestmark", []) if mark.name == "parametrize"]
    for values in product(*(mark.args[1] for mark in marks)):
        yield dict(zip((mark.args[0] for mark in marks), values, strict=True))


def what_calls(module: ModuleType, word: str) -> set[str]:
    """Functions of a module, and methods with their class, that call what this pattern names."""
    found = set()
    for name, thing in vars(module).items():
        if getattr(thing, "__module__", "") != module.__name__:
            continue
        inner = vars(thing).items() if inspect.isclass(thing) else [("", thing)]
        for method, function in inner:
            if inspect.isfunction(function) and re.search(rf"\b{word}\b", inspect.getsource(function)):
                found.add(f"{name}.{method}".rstrip("."))
    return found
