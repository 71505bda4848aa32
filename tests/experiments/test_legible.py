"""Every figure of the report as it stands on the page: how many panels it has, and how small its text is."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from experiments import claims
from experiments.engine import store
from experiments.report import page
from tests.experiments.sample import sample

SAMPLE = sample()
DOCS = Path(__file__).parents[2] / "docs"
WIDE = (62 - 2 * 1.25 - 2 * 0.75) * 16
"""Pixels of a figure on a page of 1,300: the column of the page less its padding and the figure's own."""

PANELS, SMALLEST = 6, 9.0


def drawn(name, records):
    from matplotlib.text import Text

    with warnings.catch_warnings(), page.style(claims.load(name)):
        warnings.simplefilter("ignore")
        figure = claims.load(name).plot(records)
        figure.canvas.draw()
        shrunk = min(1.0, WIDE / (figure.get_tightbbox().width * 96))
        texts = [text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]
    panels = [axes for axes in figure.axes if axes.axison and not hasattr(axes, "_colorbar")]
    return len(panels), min(text.get_fontsize() * 96 / 72 * shrunk for text in texts)


@pytest.mark.parametrize("name", claims.names())
def test_of_the_sample(name):
    panels, smallest = drawn(name, [record for record in SAMPLE if record.case.claim == name])
    assert panels <= PANELS
    assert smallest >= SMALLEST


@pytest.mark.parametrize("folder", [path.parent.name for path in sorted(DOCS.glob("*/records.jsonl"))])
def test_of_committed_records(folder):
    records = [record for record in store.read(DOCS / folder / "records.jsonl")[0] if record.ok]
    for name in {record.case.claim for record in records} & {*claims.names()}:
        panels, smallest = drawn(name, [record for record in records if record.case.claim == name])
        assert panels <= PANELS, name
        assert smallest >= SMALLEST, name
