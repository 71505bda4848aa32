"""Every link of the built site that stays in it leads somewhere: ``python docs/check_links.py FOLDER``."""

from __future__ import annotations

import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

OUTSIDE = ("http", "https", "mailto", "data", "javascript")


class Page(HTMLParser):
    """The addresses that a page leads to or loads, and the places in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.loads: list[str] = []
        self.places: set[str] = {"", "#"}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("id", "name"):
                self.places.add(value or "")
            elif name in ("href", "src"):
                (self.addresses if tag == "a" else self.loads).append(value or "")


@cache
def page(path: Path) -> Page:
    return Page(path.read_text("utf-8"))


def wrong(folder: Path) -> list[str]:
    """A line for each link that leads nowhere, and for each thing that a page would load from elsewhere."""
    found = []
    for path in sorted(folder.rglob("*.html")):
        if "_static" in path.parts:  # a template of the theme
            continue
        seen = page(path)
        for address in dict.fromkeys((*seen.addresses, *seen.loads)):
            if urlsplit(address).scheme in OUTSIDE or address.startswith("//"):
                if address in seen.loads and not address.startswith("data:"):
                    found.append(f"{path.relative_to(folder)} loads {address}")
                continue
            target, place = urldefrag(unquote(address))
            file = (path.parent / target.partition("?")[0]).resolve() if target else path
            if not file.exists():
                found.append(f"{path.relative_to(folder)}: no file {address}")
            elif place and file.suffix == ".html" and place not in page(file).places:
                found.append(f"{path.relative_to(folder)}: no place {address}")
    return found


if __name__ == "__main__":
    lines = wrong(Path(sys.argv[1]))
    print(*lines, sep="\n")
    sys.exit(bool(lines))
