"""The least budget of every head of a model that keeps it within a tolerance, kept in the model's configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np

from nystrom_numerics.arguments import require_count, require_number, require_probability
from nystrom_numerics.attention import choose
from nystrom_numerics.attention.choosing import BUDGETS, DEARER
from nystrom_numerics.backend import generator
from nystrom_numerics.brief import brief
from nystrom_numerics.extras import brought_by
from nystrom_numerics.integrations.transformers.budgets import KEPT, attentions
from nystrom_numerics.integrations.transformers.visiting import Place, Tokens, nothing_met, visited

__all__ = ["Calibration", "HeadBudget", "calibrate"]


@dataclass(frozen=True)
class HeadBudget:
    r"""What one head was given, for the text that asks most of it.

    Attributes
    ----------
    layer : str
        The module's name in the model.
    head : int
    m : int
        0 for exact attention.
    upper : float
        The upper end of the interval for :math:`\|\hat SV-SV\|_F/\|SV\|_F`, the largest over texts.
    entries : float
        Kernel entries as a share of those of exact attention, the mean over texts.

    Examples
    --------
    >>> from nystrom_numerics.integrations.transformers import HeadBudget
    >>> HeadBudget(layer="encoder.layer.0.attention.self", head=3, m=64, upper=0.04, entries=0.25)
    HeadBudget(layer='encoder.layer.0.attention.self', head=3, m=64, upper=0.04, entries=0.25)
    """

    layer: str
    head: int
    m: int
    upper: float
    entries: float


@dataclass(frozen=True)
class Calibration:
    """Budgets of all heads of a model.

    Attributes
    ----------
    error : float
        The tolerance.
    heads : tuple of HeadBudget

    Examples
    --------
    >>> import torch
    >>> from transformers import BertConfig, BertModel
    >>> from nystrom_numerics.integrations import transformers as ours
    >>> sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    >>> model = BertModel(BertConfig(vocab_size=90, **sizes)).eval()
    >>> inputs = {"input_ids": torch.arange(80)[None]}
    >>> found = ours.calibrate(model, inputs, error=0.5)
    >>> len(found.heads), 0 < found.entries <= 1, list(found.to_frame().columns)
    (2, True, ['layer', 'head', 'm', 'upper', 'entries'])
    """

    error: float
    heads: tuple[HeadBudget, ...]

    __repr__ = brief

    @property
    def entries(self) -> float:
        """Kernel entries as a share of those of exact attention, the mean over heads."""
        return float(np.mean([head.entries for head in self.heads]))

    def to_frame(self) -> Any:
        """A line a head, as a frame of pandas, which is needed."""
        with brought_by("frames"):
            import pandas as pd  # type: ignore[import-untyped, unused-ignore]

        return pd.DataFrame([vars(head) for head in self.heads])

    def __str__(self) -> str:
        """How many heads have which budget, and what that takes."""
        given = [head.m for head in self.heads]
        told = ", ".join(f"{given.count(m)} with m = {m}" for m in sorted(set(given)) if m)
        exact = given.count(0)
        return (
            f"{len(given)} heads within {self.error:g}: {told or 'none approximated'}"
            f"{f', {exact} exact' if exact else ''}; {self.entries:.1%} of the entries"
        )


def calibrate(
    model: Any,
    inputs: Mapping[str, Any],
    /,
    *,
    error: float = 0.05,
    budgets: Sequence[int] = BUDGETS,
    dearer: float = DEARER,
    rows: int | None = None,
    failure: float = 0.05,
    rng: np.random.Generator | int = 0,
) -> Calibration:
    r"""Choose every head's budget on given inputs, and keep all in the model's configuration.

    From then on :func:`use_nystrom` gives each head its own, and ``save_pretrained`` and ``from_pretrained`` keep them.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        It computes what it did; its configurations get an attribute ``nystrom_budgets``, in place of an earlier one.
    inputs : mapping
        What the model is called with, ``model(**inputs)``: texts of the kind, and of the length, that it is to meet,
        as a share of what is exact grows smaller with length.
    error : float
        Most of :math:`\|\hat SV-SV\|_F/\|SV\|_F` of each head, on each of the texts.
    budgets, dearer, rows, failure, rng
        As in :func:`~nystrom_numerics.attention.choose`: full attention is by ``tangent``, causal by ``causal``.

    Returns
    -------
    Calibration

    Raises
    ------
    KindError, RangeError
        Naming the argument.
    UnsupportedModelError
        As :func:`use_nystrom` does; also where no text of more than eight tokens attends to itself.

    Notes
    -----
    A head has the largest budget that one of the texts asks for, and is exact where one asks for that.  Cost, beside
    the pass: that of ``choose``, 10 to 80 times exact attention.  It is done once.

    Examples
    --------
    >>> import torch, transformers
    >>> from nystrom_numerics.integrations.transformers import calibrate, register_with_transformers, use_nystrom
    >>> sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    >>> model = transformers.BertModel(transformers.BertConfig(vocab_size=32, **sizes)).eval()
    >>> ids = torch.arange(300)[None] % 32
    >>> print(calibrate(model, {"input_ids": ids}, error=0.05, dearer=1))
    4 heads within 0.05: 4 with m = 16; 10.7% of the entries
    >>> register_with_transformers()
    >>> with use_nystrom(model):
    ...     hidden = model(ids).last_hidden_state
    """
    error = require_number("error", error, lambda x: 0 < x < inf, "a finite number above 0")
    require_probability("failure", failure)
    if rows is not None:
        require_count("rows", rows, 8)
    source, _ = generator(rng)
    found: dict[tuple[str, int], list[tuple[int, float, float]]] = {}

    def settle(place: Place, tokens: Tokens) -> None:
        chosen = choose(
            tokens.q,
            tokens.k,
            tokens.v,
            error=error,
            estimator="causal" if tokens.causal else "tangent",
            budgets=budgets,
            dearer=dearer,
            rows=None if rows is None else min(rows, tokens.q.shape[0]),
            scale=tokens.scale,
            failure=failure,
            rng=source,
        )
        told = int(chosen.m), float(chosen.upper), float(chosen.entries) / tokens.pairs
        found.setdefault((place.layer, place.head), []).append(told)

    visited(model, inputs, settle)
    if not found:
        raise nothing_met(model, "tangent and causal")
    heads = tuple(_of_texts(layer, head, told) for (layer, head), told in found.items())
    _keep(model, error, heads)
    return Calibration(error, heads)


def _of_texts(layer: str, head: int, told: list[tuple[int, float, float]]) -> HeadBudget:
    budgets, uppers, entries = zip(*told, strict=True)
    m = 0 if 0 in budgets else max(budgets)
    return HeadBudget(layer, head, m, max(uppers) if m else 0.0, float(np.mean(entries)) if m else 1.0)


def _keep(model: Any, error: float, heads: tuple[HeadBudget, ...]) -> None:
    """In the configuration of every layer, under its name there."""
    by_layer: dict[str, list[int]] = {}
    for head in heads:
        by_layer.setdefault(head.layer, []).append(head.m)
    names = {id(module): name for name, module in model.named_modules()}
    kept: dict[int, tuple[Any, dict[str, list[int]]]] = {}
    for config, name, module in attentions(model):
        layer = names[id(module)]
        if layer in by_layer:
            kept.setdefault(id(config), (config, {}))[1][name] = by_layer[layer]
    for config, layers in kept.values():
        setattr(config, KEPT, {"error": error, "layers": layers})
