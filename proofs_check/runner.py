"""Find the claims, check each with its negative control, and say whether all of it stands."""

from __future__ import annotations

import importlib
import pkgutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import proofs_check.claims as package
from proofs_check.contract import Outcome, Verdict


@dataclass(frozen=True)
class Result:
    """A claim's module, its verdict, the verdict on its negative control, and the seconds both took."""

    name: str
    module: ModuleType
    verdict: Verdict
    control: Verdict
    seconds: float

    @property
    def code(self) -> str:
        return Path(self.module.__file__).read_text("utf-8")

    @property
    def dropped(self) -> list[str]:
        """The hypotheses that the negative control lacks."""
        claim, control = self.module.CLAIM, self.module.NEGATIVE_CONTROL
        return [text for name, text in claim.hypotheses.items() if not control.assumes(name)]

    @property
    def passed(self) -> bool:
        """The claim stands and the same check refutes its negative control."""
        return self.verdict.outcome.accepted and self.control.outcome is Outcome.FAILED


def claims() -> dict[str, ModuleType]:
    """Every claim by name, in alphabetical order."""
    names = sorted(info.name for info in pkgutil.iter_modules(package.__path__))
    return {name: importlib.import_module(f"{package.__name__}.{name}") for name in names}


def check(name: str, module: ModuleType) -> Result:
    start = time.perf_counter()
    verdict = module.check(module.CLAIM)
    control = module.check(module.NEGATIVE_CONTROL)
    return Result(name, module, verdict, control, time.perf_counter() - start)


def iterate(names: Iterable[str] = ()) -> Iterator[Result]:
    """Check the named claims, or all of them, one by one."""
    known = claims()
    chosen = list(names) or list(known)
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise ValueError(f"no claim is called {', '.join(unknown)}; the claims are {', '.join(known)}")
    for name in chosen:
        yield check(name, known[name])


def run(names: Iterable[str] = ()) -> list[Result]:
    """Check the named claims, or all of them."""
    return list(iterate(names))
