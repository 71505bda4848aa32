"""What a scaling by the maximum over a batch, found in public implementations, does to a matrix's result."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.contract import Case, Record, Row, Verdict, frame
from experiments.inputs import bert
from experiments.report import figures
from experiments.report.evidence import majority
from nystrom_numerics import attention, linalg, pinv

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

TITLE = "Batch-mates"
CLAIM = "Scaling the start of the iteration by the maximum over the whole batch is harmless."
SOURCE = "Practice in public implementations: Z₀ = Aᵀ/(max‖A‖₁ · max‖A‖_∞) over all items and heads"
EXCLUSIVE = False
ALT = (
    "Left: relative change of six-step pseudoinverses of MiniLM cores when the scaling is taken over all heads of "
    "the layer, against the ratio of the two scalings, one dot for each head. Right: the relative error of the "
    "attention matrix with the batch's scaling against that with the head's own; dots lie around the diagonal."
)

M = 64
HARMLESS = 0.01


def grid(profile: str) -> tuple[Case, ...]:
    """A case a layer, all twelve heads as the batch."""
    return tuple(Case("batch_mates", {"layer": layer, "steps": 6}) for layer in range(6))


def run(case: Case) -> list[Row]:
    """Pseudoinverse and attention of each head, scaled alone and with the batch."""
    captured = bert.captured_heads(layers=[case.params["layer"]])
    q, k = (x[0].astype(float) for x in (captured.q, captured.k))
    eye = np.eye(k.shape[-2])
    operator = attention.nystrom_operator(q, k, M, scale=captured.scale, pinv=pinv.razavi)
    cores, s = operator.core, attention.exact(q, k, eye, scale=captured.scale)
    alone = operator.pinv.value
    coupled = _with_batch_maximum(cores, case.params["steps"])
    own = linalg.one_norm(cores) * linalg.sup_norm(cores)
    shared = linalg.one_norm(cores).max() * linalg.sup_norm(cores).max()
    with_alone = operator.apply(eye)
    with_coupled = attention.nystrom_operator(
        q, k, M, scale=captured.scale, pinv=lambda a: _as_result(a, coupled)
    ).apply(eye)
    size = np.linalg.norm(s, axis=(1, 2))
    return [
        {
            "head": head,
            "scaling_ratio": float(shared / own[head]),
            "change": float(np.linalg.norm(coupled[head] - alone[head]) / np.linalg.norm(alone[head])),
            "residual_alone": float(linalg.backward_residual(cores[head], alone[head])),
            "residual_coupled": float(linalg.backward_residual(cores[head], coupled[head])),
            "error_alone": float(np.linalg.norm(with_alone[head] - s[head]) / size[head]),
            "error_coupled": float(np.linalg.norm(with_coupled[head] - s[head]) / size[head]),
        }
        for head in range(len(cores))
    ]


def _with_batch_maximum(a: Any, steps: int) -> Any:
    """The practice, transcribed."""
    z = linalg.transpose(a) / (linalg.one_norm(a).max() * linalg.sup_norm(a).max())
    for _ in range(steps):
        z = pinv.RAZAVI.apply(z, a @ z)
    return z


def _as_result(a: Any, z: Any) -> pinv.PinvResult:
    count = np.zeros(a.shape[:-2], int)
    return pinv.PinvResult(z, linalg.backward_residual(a, z), count + 6, count + 24, count)


def verdicts(records: Iterable[Record]) -> tuple[Verdict, ...]:
    """Harmless: the result of most heads changes by less than 1 %."""
    data = frame(records)
    worse = data["residual_coupled"] / data["residual_alone"]
    return (
        majority(
            f"Scaling by the maximum over the batch is harmless: it changes the pseudoinverse of most heads by less "
            f"than {HARMLESS:.0%}",
            data["change"] < HARMLESS,
            "heads of MiniLM, batched by layer",
            f"Median change {data['change'].median():.0%}, largest {data['change'].max():.0%}; the backward residual "
            f"after six steps is larger by a median factor of {worse.median():.2f}, at most {worse.max():.1f}.",
        ),
    )


def table(records: Iterable[Record]) -> pd.DataFrame:
    """Medians over the heads of a layer."""
    names = {
        "scaling_ratio": "batch / own scaling",
        "change": "relative change of Z",
        "residual_alone": "residual, own scaling",
        "residual_coupled": "residual, batch scaling",
        "error_alone": "error of Ŝ, own scaling",
        "error_coupled": "error of Ŝ, batch scaling",
    }
    return frame(records).groupby("layer")[list(names)].median().rename(columns=names).reset_index()


def plot(records: Iterable[Record]) -> Figure:
    """Change against the ratio of scalings; error of Ŝ with one against the other."""
    data = frame(records)
    figure, axes = figures.grid(1, 2, height=4.2)
    colors = figures.palette([str(layer) for layer in sorted(data["layer"].unique())])
    for layer, part in data.groupby("layer"):
        style = {"color": colors[str(layer)], "label": f"layer {layer}", "s": 22}
        axes[0][0].scatter(part["scaling_ratio"], part["change"], **style)
        axes[0][1].scatter(part["error_alone"], part["error_coupled"], **style)
    axes[0][0].set(
        xscale="log", xlabel="batch scaling / own scaling", ylabel="relative change of Z, Frobenius"
    )
    low, high = data["error_alone"].min() * 0.9, data["error_coupled"].max() * 1.1
    axes[0][1].plot([low, high], [low, high], color="grey", linewidth=1)
    axes[0][1].set(xlabel="relative error of Ŝ, own scaling", ylabel="relative error of Ŝ, batch scaling")
    figures.legend_below(figure, axes[0][0], columns=6)
    return figure
