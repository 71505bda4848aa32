"""The architectures of the installed transformers whose attention goes through its attention interface."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import torch
import transformers
import transformers.models

from tests.conformance.cases import examine
from tests.conformance.pairs import RECORDERS, Outcome, Pair
from tests.conformance.small import small_config

LARGEST = 40_000_000
HEADS = re.compile(
    "PreTrainedModel|PretrainedModel|DecoderWrapper$|ForConditionalGenerationPreTrained"
    "|For(Audio|CTC|Depth|Document|Frame|Image|Instance|Mask|Multiple|NextSentence|Object|PreTraining|Question|Semantic"
    "|Sequence|Table|Token|Universal|Video|Visual|XVector|ZeroShot)"
)
"""Classes that are others with a head of their own on top, or that cannot run alone."""


@dataclass(frozen=True)
class Report:
    """What one family came to: the outcomes of its models by name, and which attention was met and which not."""

    family: str
    outcomes: dict[str, tuple[Outcome, ...]]
    met: frozenset[str]
    missed: frozenset[str]


@cache
def modules() -> dict[str, tuple[str, ...]]:
    """Modelling files by family, of those that look attention up in the interface."""
    found: dict[str, tuple[str, ...]] = {}
    for info in pkgutil.iter_modules(transformers.models.__path__):
        folder = f"{transformers.models.__path__[0]}/{info.name}"
        for inner in pkgutil.iter_modules([folder]):
            if inner.name.startswith("modeling_"):
                with open(f"{folder}/{inner.name}.py", encoding="utf-8") as file:
                    if "ALL_ATTENTION_FUNCTIONS.get_interface(" in file.read():
                        name = f"transformers.models.{info.name}.{inner.name}"
                        found[info.name] = (*found.get(info.name, ()), name)
    return found


def classes(module: ModuleType) -> tuple[set[str], list[type]]:
    """The names of the attentions of a file that dispatch, and its models."""
    own = [k for k in vars(module).values() if inspect.isclass(k) and k.__module__ == module.__name__]
    attentions = {
        k.__name__
        for k in own
        if issubclass(k, torch.nn.Module)
        and not issubclass(k, transformers.PreTrainedModel)
        and "get_interface(" in inspect.getsource(k)
    }
    models = [
        k
        for k in own
        if issubclass(k, transformers.PreTrainedModel)
        and getattr(k, "config_class", None) is not None
        and not HEADS.search(k.__name__)
    ]
    return attentions, models


def report(family: str) -> Report:
    """Examine every model of a family."""
    attentions: set[str] = set()
    outcomes: dict[str, tuple[Outcome, ...]] = {}
    RECORDERS["exact"].calls.clear()
    for name in modules()[family]:
        found, models = classes(importlib.import_module(name))
        attentions |= found
        generative = [kind for kind in models if kind.can_generate()]
        for kind in models:
            outcomes[kind.__name__] = tuple(outcomes_of(kind, kind in generative or not generative))
    met = attentions & set(RECORDERS["exact"].calls)
    return Report(family, outcomes, frozenset(met), frozenset(attentions - met))


def outcomes_of(kind: type, whole: bool = True) -> list[Outcome]:
    try:
        return list(examine(build(kind), whole))
    except UnbuildableError as error:
        return [Outcome("plain", "absent", str(error))]


class UnbuildableError(Exception):
    """A model that no small configuration was found for."""


def build(kind: type, **given: Any) -> Pair:
    try:
        config = small_config(kind.config_class, **given)
        with torch.device("meta"):
            size = sum(p.numel() for p in kind._from_config(config).parameters())
    except Exception as error:  # whatever a configuration or a model raises on sizes that do not fit
        text = " ".join(str(error).split())
        raise UnbuildableError(f"{type(error).__name__}: {text[:150]}") from error
    if size > LARGEST:
        raise UnbuildableError(f"{size:,} parameters at the least")
    return Pair(kind, config)
