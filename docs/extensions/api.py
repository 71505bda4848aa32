"""The pages of the API, written from what the package exports: a name is documented the day it comes.

A room is a page that lists its names, and each name has a page of its own, whose address is the name.  What is public
is found as the walked contracts of the tests find it.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from mathematics import claims_of, tests_of
from sphinx.application import Sphinx

from tests.contracts.surface import rooms

FOLDER = "api"
KINDS = {
    "function": "Functions",
    "class": "Classes",
    "exception": "Errors and warnings",
    "data": "Tables, constants and types",
}


@dataclass(frozen=True)
class Name:
    """One public name of a room."""

    room: ModuleType
    name: str

    @cached_property
    def thing(self) -> Any:
        return getattr(self.room, self.name)

    @property
    def full(self) -> str:
        return f"{self.room.__name__}.{self.name}"

    @property
    def page(self) -> str:
        return f"{FOLDER}/{self.full}"

    @property
    def kind(self) -> str:
        if inspect.isclass(self.thing):
            return "exception" if issubclass(self.thing, BaseException) else "class"
        return "function" if inspect.isfunction(self.thing) else "data"


def names() -> Iterator[Name]:
    """All public names, room by room."""
    for room in rooms():
        for name in sorted(room.__all__, key=str.lower):
            yield Name(room, name)


def _title(text: str) -> str:
    return f"{text}\n{'=' * len(text)}\n\n"


def _member(name: Name) -> str:
    directive = f".. auto{name.kind}:: {name.full}\n"
    if name.kind == "class":  # what scikit-learn writes into estimators it documents itself
        directive += (
            "   :members:\n   :exclude-members: set_fit_request, set_score_request, set_predict_request\n"
        )
    if name.kind == "data":
        directive += "   :no-value:\n"
    return directive


def _page(name: Name) -> str:
    short = name.full.removeprefix("nystrom_numerics.")
    claims = ", ".join(f":ref:`{claim.replace('_', ' ')} <claim-{claim}>`" for claim in claims_of(short))
    tests = ", ".join(f"``{path}``" for path in tests_of(short))
    return (
        f":html_theme.sidebar_secondary.remove:\n\n{_title(name.name)}"
        f".. currentmodule:: {name.room.__name__}\n\n{_member(name)}\n"
        + (f".. rubric:: Rests on\n\nClaims checked by machine: {claims}.\n\n" if claims else "")
        + (f".. rubric:: Tested in\n\n{tests}\n\n" if tests else "")
        + f".. minigallery:: {name.full}\n   :add-heading: In the gallery\n"
    )


def _room(room: ModuleType, own: list[Name]) -> str:
    parts = [_title(room.__name__), f".. automodule:: {room.__name__}\n   :no-members:\n\n"]
    for kind, heading in KINDS.items():
        some = [name for name in own if name.kind == kind]
        if some:
            listed = "\n".join(f"   {name.name}" for name in some)
            parts.append(
                f"{heading}\n{'-' * len(heading)}\n\n.. autosummary::\n   :nosignatures:\n\n{listed}\n\n"
            )
    pages = "\n".join(f"   {name.full}" for name in own)
    return "".join(parts) + f".. toctree::\n   :hidden:\n\n{pages}\n"


def _index(every: list[ModuleType]) -> str:
    """The rooms, each with the first sentence that it says of itself."""
    lines = "".join(
        f"* :doc:`{room.__name__}`: {(room.__doc__ or '').strip().splitlines()[0]}\n" for room in every
    )
    pages = "\n".join(f"   {room.__name__}" for room in every)
    return f"{_title('API')}{lines}\n.. toctree::\n   :hidden:\n\n{pages}\n"


def write(folder: Path) -> None:
    """Write what has changed, remove what is no longer public."""
    pages: dict[str, str] = {}
    by_room: dict[ModuleType, list[Name]] = {}
    for name in names():
        by_room.setdefault(name.room, []).append(name)
        pages[name.full] = _page(name)
    for room, own in by_room.items():
        pages[room.__name__] = _room(room, own)
    pages["index"] = _index(list(by_room))
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.rst"):
        if old.stem not in pages:
            old.unlink()
    for stem, text in pages.items():
        path = folder / f"{stem}.rst"
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")


def _own_sources_only(app: Sphinx) -> list[None]:
    """Keep modules of others, which no page shows, out of the index of sources, where their links would be dead."""
    shown = getattr(app.env, "_viewcode_modules", {})
    for module in [module for module in shown if not module.startswith("nystrom_numerics")]:
        del shown[module]
    return []


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("html-collect-pages", _own_sources_only, priority=100)
    app.connect("builder-inited", lambda app: write(Path(app.srcdir) / FOLDER), priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
