"""The figures of an audit."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from nystrom_numerics.bounds import Audit

__all__ = ["errors_of", "intervals", "spectrum"]

COLORS = "seaborn-v0_8-colorblind"


def _panels(columns: int, *, width: float) -> tuple[Figure, Any]:
    """A figure with axes side by side, ``width`` in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 3.3), layout="constrained")
    return figure, figure.subplots(1, columns, squeeze=False)


def _palette(names: Sequence[str]) -> dict[str, Any]:
    """A colour for each name, which colour-blind readers tell apart; the same again after six."""
    from matplotlib import style

    return {name: one["color"] for name, one in zip(names, cycle(style.library[COLORS]["axes.prop_cycle"]))}


def spectrum(values: np.ndarray, m: int) -> Figure:
    figure, axes = _panels(1, width=7)
    shown = np.maximum(values, values[0] * 1e-18 or 1e-300)  # a zero matrix has none to show
    axes[0][0].plot(np.arange(1, len(values) + 1), shown, marker="." if len(values) < 100 else None)
    axes[0][0].axvline(m, color="grey", linestyle=":", label=f"m = {m}")
    axes[0][0].set(yscale="log", xlabel="number", ylabel="value")
    axes[0][0].legend(frameon=False)
    return figure


def errors_of(audits: dict[int, Audit]) -> Figure:
    from nystrom_numerics.bounds import Norm

    norms = (Norm.SPECTRAL, Norm.FROBENIUS, Norm.TRACE)
    figure, axes = _panels(3, width=14)
    names = list(dict.fromkeys(line.name for found in audits.values() for line in found.lines))
    colors = _palette(names)
    for i, (ax, norm) in enumerate(zip(axes[0], norms, strict=True)):
        for name in names:
            points = [
                (m, line.bound.value, line.bound.side)
                for m, found in audits.items()
                for line in found.lines
                if line.name == name and line.bound.norm is norm and not line.bound.vacuous
            ]
            for side in {p[2] for p in points}:
                mine = [(m, value) for m, value, s in points if s is side and value and value > 0]
                if mine:
                    ax.plot(*zip(*mine, strict=True), color=colors[name], label=name, marker=".", linewidth=1)
        ax.plot(
            list(audits),
            [found.truth[i] for found in audits.values()],
            "k-",
            linewidth=2,
            label="the error itself",
        )
        shown = any(
            np.max(line.get_ydata(), initial=0) > 0 for line in ax.get_lines()
        )  # none of a zero matrix
        ax.set(xscale="log", yscale="log" if shown else "linear", xlabel="landmarks m", ylabel=norm.value)
        _ticks(ax, list(audits))
    handles: dict[str, Any] = {}
    for ax in axes[0]:
        handles |= dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=5, frameon=False)
    return figure


def _ticks(ax: Any, counts: Sequence[int]) -> None:
    ax.set_xticks(counts, [str(m) for m in counts])
    ax.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)


def intervals(found: dict[int, Any]) -> Figure:
    figure, axes = _panels(2, width=10)
    for ax, name, label in zip(axes[0], ("matrix", "output"), ("‖Ŝ − S‖_F", "‖ŜV − SV‖_F"), strict=True):
        made = [getattr(certificate, name) for certificate in found.values()]
        ax.plot(list(found), [c.estimate.value for c in made], marker="o", color="black", label="estimate")
        low, high = ([getattr(c, side).value for c in made] for side in ("lower", "upper"))
        ax.fill_between(list(found), low, high, alpha=0.2, label="99 % interval, asymptotic")
        ax.set(xscale="log", yscale="log", xlabel="landmarks m", ylabel=label)
        _ticks(ax, list(found))
        ax.legend(frameon=False)
    return figure
