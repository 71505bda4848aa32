"""The claims, one module each; the order of :func:`names` is the order of the report."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import cast

from experiments.contract import Claim

FIRST = ("estimators", "real_models", "landmark_error", "pinv_convergence", "linear_scaling")
"""What a trained model can live with, then the paper's own claims, come before the rest."""


def names() -> tuple[str, ...]:
    """Names of all claims: those of :data:`FIRST`, then the others, sorted."""
    return (*FIRST, *sorted({module.name for module in iter_modules(__path__)} - set(FIRST)))


def load(name: str) -> Claim:
    """The claim's module."""
    return cast(Claim, import_module(f"{__name__}.{name}"))
