"""The claims, one module each; the order of :func:`names` is the order of the report."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import cast

from experiments.contract import Claim


def names() -> tuple[str, ...]:
    """Names of all claims, sorted."""
    return tuple(sorted(module.name for module in iter_modules(__path__)))


def load(name: str) -> Claim:
    """The claim's module."""
    return cast(Claim, import_module(f"{__name__}.{name}"))
