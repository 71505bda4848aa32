"""Which parts of tangent attention earn what: each is left out in turn, at equal kernel entries."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import array_api_compat.numpy as xp
import numpy as np

from experiments.contract import Case, Outcome, Record, Row, Verdict, frame
from experiments.inputs import models
from experiments.report import figures
from experiments.report.evidence import majority
from nystrom_numerics import attention
from nystrom_numerics.attention.arrangement import arrange, arrangement, directions
from nystrom_numerics.attention.tangents import CAP

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

TITLE = "What the parts of tangent attention earn"
CLAIM = "Each part of tangent attention lowers its error: leave one out, and the error of Ŝ is larger on most heads."
SOURCE = "this package; the parts are those of the docstring of attention.tangent"
EXCLUSIVE = False
ALT = (
    "Ratio of the relative Frobenius error of Ŝ without one part of tangent attention to that with all of them, on a "
    "logarithmic axis: a box over heads for each part, for MiniLM and for Whisper's encoder; a line at one."
)

WHOLE = "all parts"
BLOCKS, NEAR, GROUPS = 32, 80, 16
PARTS: dict[str, dict[str, Any]] = {
    "queries in blocks by content": {"query_tree": False},
    "keys in groups by content": {"key_tree": False},
    "near keys chosen by what tangents miss": {"by_missed": False},
    "weights corrected by the spread of queries": {"corrected": False},
    "means weighted at the pilot": {"weighted": False},
    "near keys": {"near": 0, "groups": NEAR + GROUPS},
    "tangents of far keys": {"near": NEAR + GROUPS, "groups": 0},
}


def grid(profile: str) -> tuple[Case, ...]:
    """A case a layer; ``quick`` takes two layers of MiniLM, four heads of each."""
    quick = profile == "quick"
    layers = {"MiniLM": (1, 4)} if quick else {"MiniLM": range(6), "Whisper": range(4)}
    return tuple(
        Case("tangent_parts", {"input": name, "layer": layer, "heads": [0, 3, 6, 9] if quick else None})
        for name in layers
        for layer in layers[name]
    )


def run(case: Case) -> list[Row]:
    """The error of Ŝ with all parts, and without each."""
    p = case.params
    whole = models.trained_heads(p["input"], [p["layer"]])
    rows = []
    for head in p["heads"] or range(whole.q.shape[1]):
        q, k = (x[0, head].astype(float) for x in (whole.q, whole.k))
        exact = attention.exact(q, k, np.eye(len(k)), scale=whole.scale)
        for without, options in {WHOLE: {}, **PARTS}.items():
            got = tangent_matrix(q, k, whole.scale, **options)
            error = float(np.linalg.norm(got - exact) / np.linalg.norm(exact))
            rows.append({"head": head, "without": without, "S": error})
    return rows


def tangent_matrix(
    q: Any,
    k: Any,
    scale: float,
    *,
    near: int = NEAR,
    groups: int = GROUPS,
    query_tree: bool = True,
    key_tree: bool = True,
    by_missed: bool = True,
    corrected: bool = True,
    weighted: bool = True,
) -> Any:
    """Ŝ (n_q, n_k) of :func:`nystrom_numerics.attention.tangent` with one level, formed, with parts left out."""
    s, numbers = np.zeros((len(q), len(k))), np.arange(max(len(q), len(k)))
    axes = directions(xp, np.cov(k.T, bias=True)[None], np.cov(q.T, bias=True)[None])
    tree = arrange(xp, q[None], BLOCKS, axes, 4.0) if query_tree else arrangement(xp, q, None, len(q), BLOCKS)
    blocks = _members(tree, numbers[: len(q)])
    within = sum(np.cov(q[b].T, bias=True) * len(b) for b in blocks) / len(q)
    parts = _key_groups(k, within, groups, key_tree)
    missed = np.zeros(len(k))
    for g in parts:
        centred = k[g] - k[g].mean(axis=0)
        missed[g] = scale**2 * ((centred @ within) * centred).sum(axis=1)
    for b in blocks:
        pilot = q[b].mean(axis=0)
        at_pilot = scale * k @ pilot
        worth = at_pilot + np.minimum(missed / 2, CAP) * corrected
        if by_missed and groups:
            worth = worth + np.log(missed + np.finfo(float).tiny)
        close = np.argsort(-worth, kind="stable")[:near]
        logs = np.full((len(b), len(k)), -np.inf)
        logs[:, close] = scale * q[b] @ k[close].T
        for g in parts:
            far = np.setdiff1d(g, close)
            if len(far):
                logs[:, far] = _tangent(
                    q[b], k[far], pilot if weighted else 0 * pilot, missed[far] * corrected, scale
                )
        weights = np.exp(logs - logs.max(axis=1, keepdims=True))
        s[b] = weights / weights.sum(axis=1, keepdims=True)
    return s


def _tangent(q: Any, k: Any, pilot: Any, missed: Any, scale: float) -> Any:
    """The logarithms of what queries give to the keys of one group, by its tangent at the pilot."""
    logs = scale * k @ pilot + np.minimum(missed / 2, CAP)
    total = np.logaddexp.reduce(logs)
    shares = np.exp(logs - total)
    mean = shares @ k
    return (scale * (q - pilot) @ mean + total)[:, None] + np.log(shares)


def _key_groups(k: Any, within: Any, groups: int, tree: bool) -> list[Any]:
    if groups == 0:
        return []
    axes = directions(xp, within[None], np.cov(k.T, bias=True)[None])
    made = arrange(xp, k[None], groups, axes, 0.0) if tree else arrangement(xp, k, None, len(k), groups)
    return _members(made, np.arange(len(k)))


def _members(made: Any, numbers: Any) -> list[Any]:
    """The tokens of each part; a slot without one repeats another's."""
    slots = made.cut(xp, numbers[None, :, None].astype(float))[0, ..., 0].astype(int)
    return [np.unique(part[there]) for part, there in zip(slots, _there(made, slots), strict=True)]


def _there(made: Any, slots: Any) -> Any:
    return np.ones(slots.shape, bool) if made.there is None else made.there


def verdicts(records: Iterable[Record]) -> tuple[Verdict, ...]:
    """One for each input and part."""
    data = frame(records)
    if data.empty:
        return (Verdict(CLAIM, Outcome.UNDECIDED, "No record."),)
    found = []
    for source, part in data.groupby("input"):
        errors = part.pivot_table(index=["layer", "head"], columns="without", values="S")
        for name in PARTS:
            ratio = (errors[name] / errors[WHOLE]).median()
            detail = (
                f"Median error {errors[name].median():.3f} without it, {errors[WHOLE].median():.3f} with it; "
                f"median ratio {ratio:.2f}."
            )
            statement = f"{source}: without {name} the error of Ŝ is larger"
            found.append(majority(statement, errors[name] > errors[WHOLE], "heads", detail))
    return tuple(found)


def table(records: Iterable[Record]) -> pd.DataFrame:
    """Medians and ninth deciles over heads."""
    groups = frame(records).groupby(["input", "without"])["S"]
    return groups.quantile([0.5, 0.9]).unstack().rename(columns={0.5: "median", 0.9: "90 %"}).reset_index()


def plot(records: Iterable[Record]) -> Figure:
    """Ratios of errors without a part to those with all."""
    import seaborn as sns

    data = frame(records)
    sources = list(data["input"].unique())
    figure, axes = figures.grid(1, max(1, len(sources)), height=4.2)
    for ax, source in zip(axes[0], sources, strict=False):
        errors = data[data["input"] == source].pivot_table(
            index=["layer", "head"], columns="without", values="S"
        )
        ratios = errors[list(PARTS)].div(errors[WHOLE], axis=0).melt(value_name="ratio")
        sns.boxplot(
            ratios, x="ratio", y="without", order=list(PARTS), ax=ax, color="lightsteelblue", fliersize=2
        )
        ax.axvline(1, color="black", linestyle=":")
        ax.set(xscale="log", title=source, ylabel="", xlabel="error of Ŝ without it / with all parts")
        if ax is not axes[0][0]:
            ax.set(yticklabels=[])
    return figure
