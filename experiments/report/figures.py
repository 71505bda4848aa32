"""What figures share: a grid of axes, colours that colour-blind readers can tell apart, medians with bands.

The report sets the style around them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["band", "blank", "grid", "legend_below", "palette"]


def grid(rows: int, columns: int, *, width: float = 11.0, height: float = 3.3) -> tuple[Figure, Any]:
    """A figure of ``rows`` × ``columns`` axes; ``height`` is per row, in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def palette(names: Sequence[str]) -> dict[str, Any]:
    """A colour-blind safe colour for each name."""
    import seaborn as sns

    return dict(zip(names, sns.color_palette("colorblind", len(names)), strict=True))


def band(
    axes: Axes,
    data: pd.DataFrame,
    x: str,
    y: str,
    *,
    label: str,
    color: Any,
    style: str = "-",
    shade: bool = True,
) -> None:
    """The median of ``y`` at each ``x`` as a line, and its quartiles as a band; nothing where there is no data."""
    if data.empty:
        return
    summary = data.groupby(x)[y].quantile([0.25, 0.5, 0.75]).unstack()
    axes.plot(summary.index, summary[0.5], style, color=color, label=label, marker="o", markersize=3)
    if shade:
        axes.fill_between(summary.index, summary[0.25], summary[0.75], color=color, alpha=0.15, linewidth=0)


def blank(axes: Axes, title: str) -> None:
    """Say that there is nothing to draw here, where axes without data would show a scale of nothing."""
    axes.set(title=title, xticks=[], yticks=[])
    axes.text(0.5, 0.5, "no result", ha="center", va="center", transform=axes.transAxes, color="grey")


def legend_below(figure: Figure, axes: Axes, columns: int = 5) -> None:
    """One legend for the whole figure, under it."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
