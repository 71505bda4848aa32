r"""Pathfinder: do the two marked ends belong to one dashed curve?  Drawn here, from the published rules.

Linsley et al. 2018 set the task; Tay et al. 2021 put it into the Long Range Arena, with the sizes of
``lra_benchmarks/data/pathfinder.py`` for 32 × 32 pixels, which are those below: dashes of 2 pixels with a margin of 1
on both sides, two curves that begin 7 pixels apart, distractors a third as long, 20 dashes of them, markers of radius
1.5.  (Continuity is 1 at this size there, and 1.8 in the larger images.)

A curve is a chain of pivots.  At each a new direction turns by δ with probability proportional to
:math:`\cos^2(\min(c|\delta|, \pi/2))`, c the continuity, among the directions in which a dash keeps clear of all
others.  Departures: geometry is continuous where theirs is on pixels, a curve that cannot go on is begun again at once,
and labels are balanced exactly.  A label decides which end is marked and nothing else.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from experiments.errors import UnfitInputError
from experiments.inputs.tasks.contract import Array, Examples, Splits, cut, labelled_order
from experiments.inputs.tasks.folder import own

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["CONTOUR", "draw", "load", "show"]

CONTOUR = {"easy": 6, "intermediate": 9, "hard": 14}
"""Dashes of the two curves, by difficulty."""

SIDE, PADDING = 32, 1
DASH, MARGIN, THICKNESS = 2.0, 1.0, 0.5
CONTINUITY, APART, RADIUS = 1.0, 7.0, 1.5
DISTRACTING = 20  # dashes of distractors together
CONTRAST = 0.75  # of the two curves, beside distractors
TRIES = 10  # for one distractor

_ANGLES = np.arange(48) * (2 * np.pi / 48)
_UNITS = np.stack([np.sin(_ANGLES), np.cos(_ANGLES)], axis=-1)  # rows, columns
_STEPS = (MARGIN + np.linspace(0, DASH, 3))[:, None] * _UNITS[
    :, None, :
]  # where dashes are, seen from their pivot
_CLEAR = 2 * MARGIN  # between dashes that do not follow each other
_FOLDERS = {
    "easy": "curv_baseline",
    "intermediate": "curv_contour_length_9",
    "hard": "curv_contour_length_14",
}


@lru_cache(maxsize=1)
def load(sizes: tuple[int, int, int], length: int = SIDE**2, difficulty: str = "easy") -> Splits:
    """Images row by row, 256 shades being the tokens; label 1 where the marked ends belong to one curve.

    Drawn from seed 0, or read from ``pathfinder32/`` of the user's folder, the arena's own.
    """
    if length != SIDE**2:
        raise UnfitInputError(f"an image of Pathfinder has {SIDE**2} tokens, not {length}")
    folder = own(f"pathfinder32/{_FOLDERS[difficulty]}")
    if folder is not None:
        shades, labels = _read(folder, sum(sizes))
        return cut(_examples(shades, labels), sizes, 257, 2, f"Pathfinder, {difficulty}, the arena's files")
    rng, count = np.random.default_rng(0), sum(sizes)
    labels = labelled_order(count) % 2
    shades = np.stack([draw(CONTOUR[difficulty], int(label), rng) for label in labels])
    return cut(
        _examples(shades, labels), sizes, 257, 2, f"Pathfinder, {difficulty}, generated from its rules"
    )


def _examples(shades: Array, labels: Array) -> Examples:
    ids = shades.reshape(len(shades), 1, -1).astype(np.int32) + 1
    return Examples(ids, np.full((len(ids), 1), ids.shape[-1]), np.asarray(labels, np.int64))


def _read(folder: Path, count: int) -> tuple[Array, Array]:
    """Lines of the files ``metadata/*.npy``, which are text: folder, name, number, label."""
    from matplotlib.image import imread

    lines = [
        line for path in sorted((folder / "metadata").glob("*.npy")) for line in path.read_text().splitlines()
    ]
    chosen = [lines[i].split(" ") for i in labelled_order(len(lines))[:count]]
    if len(chosen) < count:
        raise UnfitInputError(f"{folder} has {len(chosen)} images, {count} are asked for")
    shades = []
    for part, name, *_ in chosen:
        image = imread(folder / part / name)
        if image.shape != (SIDE, SIDE):
            raise UnfitInputError(
                f"{folder / part / name} is no grey image of {SIDE} × {SIDE} pixels: {image.shape}"
            )
        shades.append(np.rint(255 * image).astype(np.uint8))
    return np.stack(shades), np.array([int(words[3]) for words in chosen])


def draw(contour: int, label: int, rng: np.random.Generator, *, continuity: float = CONTINUITY) -> Array:
    """One image (32, 32) of uint8 with curves of ``contour`` dashes; the label is 1 where one curve has both marks."""
    curves = None
    while curves is None:
        curves = _two_curves(contour, rng, continuity)
    ends = [(dashes[0][0], dashes[-1][-1]) for dashes in curves]
    taken = np.concatenate([dash for dashes in curves for dash in dashes])
    lines = [(dash, CONTRAST) for dashes in curves for dash in dashes]
    third = contour // 3
    for _ in range(DISTRACTING // third):
        for _ in range(TRIES):
            distractor = _curve(third, rng.uniform(PADDING, SIDE - 1 - PADDING, 2), taken, rng, continuity)
            if distractor is not None:
                taken = np.concatenate([taken, *distractor])
                lines += [(dash, 1.0) for dash in distractor]
                break
    first = int(rng.integers(2))
    marks = (ends[first][0], ends[first if label else 1 - first][1])
    return _rendered(lines, marks)


def _two_curves(contour: int, rng: np.random.Generator, continuity: float) -> list[list[Array]] | None:
    """Dashes of two curves that grow in turn, the first from the middle; none where one of them cannot go on."""
    start = rng.uniform(2 * APART, SIDE - 1 - 2 * APART, 2)
    pivots = [start, start + APART * _UNITS[rng.integers(len(_UNITS))]]
    headings = [float(x) for x in rng.uniform(0, 2 * np.pi, 2)]
    curves: list[list[Array]] = [[], []]
    for i in range(contour):
        for own_dashes, other, which in ((curves[0], curves[1], 0), (curves[1], curves[0], 1)):
            taken = [*own_dashes[:-1], *other]
            heading = headings[which] if i else None
            found = _next(pivots[which], heading, _stacked(taken), rng, continuity)
            if found is None:
                return None
            dash, pivots[which], headings[which] = found
            own_dashes.append(dash)
    return curves


def _curve(
    count: int, pivot: Array, taken: Array, rng: np.random.Generator, continuity: float
) -> list[Array] | None:
    dashes: list[Array] = []
    heading: float | None = None
    for _ in range(count):
        found = _next(pivot, heading, np.concatenate([taken, *dashes[:-1]]), rng, continuity)
        if found is None:
            return None
        dash, pivot, heading = found
        dashes.append(dash)
    return dashes


def _next(
    pivot: Array, heading: float | None, taken: Array, rng: np.random.Generator, continuity: float
) -> tuple[Array, Array, float] | None:
    """A dash (points, 2) from a pivot, the pivot after it and its direction; none where no direction is free."""
    points = pivot + _STEPS
    weights = ((points >= PADDING) & (points <= SIDE - 1 - PADDING)).all(axis=(1, 2)).astype(float)
    if heading is not None:
        weights *= np.cos(np.minimum(continuity * np.abs(_turn(_ANGLES - heading)), np.pi / 2)) ** 2
    likely = np.flatnonzero(weights > 1e-9)
    if len(taken) and len(likely):
        flat = points[likely].reshape(-1, 2)
        gaps = (flat**2).sum(axis=1)[:, None] + (taken**2).sum(axis=1) - 2 * flat @ taken.T
        weights[likely] *= gaps.reshape(len(likely), -1).min(axis=1) >= _CLEAR**2
    total = weights.sum()
    if total < 1e-4:
        return None
    chosen = int(rng.choice(len(weights), p=weights / total))
    return points[chosen], pivot + (DASH + 2 * MARGIN) * _UNITS[chosen], float(_ANGLES[chosen])


def _turn(angle: Array) -> Array:
    """The same angle in [−π, π)."""
    return (angle + np.pi) % (2 * np.pi) - np.pi


def _stacked(dashes: list[Array]) -> Array:
    return np.concatenate(dashes) if dashes else np.empty((0, 2))


def _rendered(lines: list[tuple[Array, float]], marks: tuple[Array, Array]) -> Array:
    """Dashes and markers with soft edges of a pixel, the brightest counting where they meet."""
    grid = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij"), axis=-1).astype(float)
    starts, ends = (np.stack([dash[i] for dash, _ in lines])[:, None, None] for i in (0, -1))
    along = ends - starts
    share = ((grid - starts) * along).sum(axis=-1) / (along**2).sum(axis=-1)
    gaps = np.linalg.norm(grid - starts - np.clip(share, 0, 1)[..., None] * along, axis=-1)
    contrast = np.array([x for _, x in lines])[:, None, None]
    image = (np.clip(THICKNESS / 2 + 0.5 - gaps, 0, 1) * contrast).max(axis=0)
    for mark in marks:
        image = np.maximum(image, np.clip(RADIUS + 0.5 - np.linalg.norm(grid - mark, axis=-1), 0, 1))
    return np.asarray(np.rint(255 * image), np.uint8)


def show(seed: int = 0) -> Figure:
    """Two images of each difficulty and label."""
    from experiments.report import figures

    rng = np.random.default_rng(seed)
    figure, axes = figures.grid(len(CONTOUR), 4, width=8.0, height=2.2)
    for row, (difficulty, contour) in zip(axes, CONTOUR.items(), strict=True):
        for ax, label in zip(row, (0, 0, 1, 1), strict=True):
            ax.imshow(draw(contour, label, rng), cmap="gray", vmin=0, vmax=255)
            ax.set(xticks=[], yticks=[])
            ax.set_title(f"{difficulty}, {('two curves', 'one curve')[label]}", fontsize=8)
    return figure
