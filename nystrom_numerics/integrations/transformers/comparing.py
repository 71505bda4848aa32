"""How far each head of a model is from its own attention, on the queries, keys and values that it meets."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nystrom_numerics.arguments import require_count, require_instance, require_probability
from nystrom_numerics.attention import ESTIMATORS, AttentionOperator, certify_output
from nystrom_numerics.backend import generator
from nystrom_numerics.brief import brief
from nystrom_numerics.errors import RangeError
from nystrom_numerics.extras import brought_by
from nystrom_numerics.integrations.transformers.visiting import Place, Tokens, nothing_met, visited

__all__ = ["Comparison", "HeadError", "Summary", "compare", "drift_of", "head_operator"]

FORMED = 1024
"""Tokens up to which S is formed, for its singular values."""


@dataclass(frozen=True)
class HeadError:
    r"""One head on one text under one estimator.

    Attributes
    ----------
    layer : str
        The module's name in the model; from its second call on, where layers share one, with the number of the call.
    head, text, tokens : int
        The head, the item of the batch, and its real tokens.
    estimator : str
    m : int
    entries : float
        Kernel entries, as a share of those of exact attention.
    error, lower, upper : float
        :math:`\|\hat SV - SV\|_F/\|SV\|_F` from some exact rows, and its interval; NaN where V is zero.
    best : float
        :math:`\|S - S_m\|_F/\|S\|_F` of the best matrix of rank m; NaN for more than 1,024 tokens.

    Examples
    --------
    >>> import torch
    >>> from transformers import BertConfig, BertModel
    >>> from nystrom_numerics.integrations import transformers as ours
    >>> sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    >>> model = BertModel(BertConfig(vocab_size=90, **sizes)).eval()
    >>> inputs = {"input_ids": torch.arange(80)[None]}
    >>> one = ours.compare(model, inputs, [("nystrom", 8)]).heads[0]
    >>> one.tokens, one.m, one.lower <= one.error <= one.upper
    (80, 8, True)
    """

    layer: str
    head: int
    text: int
    tokens: int
    estimator: str
    m: int
    entries: float
    error: float
    lower: float
    upper: float
    best: float


@dataclass(frozen=True)
class Summary:
    r"""All heads under one estimator and budget.

    Attributes
    ----------
    estimator : str
    m : int
    heads : tuple of HeadError
    entries : float
        The mean of theirs.
    quartiles : tuple of three floats
        Of their errors.
    best : float
        The median of what the best matrix of rank m leaves, of texts of up to 1,024 tokens; NaN without any.
    drift : float
        Of the model's output.

    Examples
    --------
    >>> import torch
    >>> from transformers import BertConfig, BertModel
    >>> from nystrom_numerics.integrations import transformers as ours
    >>> sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    >>> model = BertModel(BertConfig(vocab_size=90, **sizes)).eval()
    >>> inputs = {"input_ids": torch.arange(80)[None]}
    >>> (summary,) = ours.compare(model, inputs, [("nystrom", 8)]).summaries
    >>> summary.estimator, summary.m, len(summary.farthest), summary.drift > 0
    ('nystrom', 8, 2, True)
    """

    estimator: str
    m: int
    heads: tuple[HeadError, ...]
    entries: float
    quartiles: tuple[float, float, float]
    best: float
    drift: float

    __repr__ = brief

    @classmethod
    def of(cls, heads: Sequence[HeadError], drift: float) -> Summary:
        """Of heads of one estimator and budget."""
        errors = [head.error for head in heads if head.error == head.error]
        best = [head.best for head in heads if head.best == head.best]
        low, middle, high = map(float, np.quantile(errors, (0.25, 0.5, 0.75)) if errors else (nan,) * 3)
        return cls(
            heads[0].estimator,
            heads[0].m,
            tuple(heads),
            float(np.mean([head.entries for head in heads])),
            (low, middle, high),
            float(np.median(best)) if best else nan,
            drift,
        )

    @property
    def farthest(self) -> tuple[HeadError, ...]:
        """The three heads of the largest errors."""
        return tuple(sorted(self.heads, key=lambda head: -np.nan_to_num(head.error))[:3])

    def __str__(self) -> str:
        low, middle, high = self.quartiles
        told = ", ".join(f"{head.layer} head {head.head}: {head.error:.3f}" for head in self.farthest)
        floor = (
            f"; the best matrix of rank {self.m} leaves {self.best:.3f} of S"
            if self.best == self.best
            else ""
        )
        return (
            f"{self.estimator}, m = {self.m}: {len(self.heads)} heads, {self.entries:.1%} of the entries; "
            f"error of ŜV {middle:.3f} (quartiles {low:.3f} to {high:.3f}); farthest {told}; "
            f"drift of the output {self.drift:.3g}{floor}"
        )


@dataclass(frozen=True)
class Comparison:
    r"""Errors of all heads, and what they do to the output of the model.

    Attributes
    ----------
    heads : tuple of HeadError
    drift : dict
        For each (estimator, m) :math:`\|O - O_{exact}\|_F/\|O_{exact}\|_F` of the model's first output with all its
        attention approximated.

    Examples
    --------
    >>> import torch
    >>> from transformers import BertConfig, BertModel
    >>> from nystrom_numerics.integrations import transformers as ours
    >>> sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    >>> model = BertModel(BertConfig(vocab_size=90, **sizes)).eval()
    >>> inputs = {"input_ids": torch.arange(80)[None]}
    >>> found = ours.compare(model, inputs, [("nystrom", 8)])
    >>> len(found.heads), list(found.drift), len(found.summaries)
    (2, [('nystrom', 8)], 1)
    """

    heads: tuple[HeadError, ...]
    drift: dict[tuple[str, int], float]

    __repr__ = brief

    def to_frame(self) -> Any:
        """A line a head, as a frame of pandas, which is needed."""
        with brought_by("frames"):
            import pandas as pd  # type: ignore[import-untyped, unused-ignore]

        return pd.DataFrame([vars(head) for head in self.heads])

    @property
    def summaries(self) -> tuple[Summary, ...]:
        """Of each estimator and budget, in the order in which they were given."""
        parts: dict[tuple[str, int], list[HeadError]] = {}
        for head in self.heads:
            parts.setdefault((head.estimator, head.m), []).append(head)
        return tuple(Summary.of(part, self.drift[at]) for at, part in parts.items())

    def __str__(self) -> str:
        """Quartiles for each estimator, and the heads that are farthest."""
        return "\n".join(map(str, self.summaries))

    def to_html(self) -> str:
        """A table of layers × heads for each estimator, coloured by error: the largest over texts."""
        return "\n".join(map(_heat_map, self.summaries))


def compare(
    model: Any,
    inputs: Mapping[str, Any],
    /,
    estimators: Sequence[tuple[str, int]] = (("tangent", 64), ("causal", 64)),
    *,
    rows: int | None = None,
    failure: float = 0.05,
    rng: np.random.Generator | int = 0,
) -> Comparison:
    """One pass of the exact model, in which each head is judged on its own queries, keys and values.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        It is left as it was.
    inputs : mapping
        What the model is called with, ``model(**inputs)``; padding has no part in it.
    estimators : sequence of (name, m)
        Names of ``attention.ESTIMATORS``; those that are causal judge causal attention, the others full attention.
    rows : int, optional
        Exact rows of a head, 8 at least, of shorter texts all: see
        :func:`~nystrom_numerics.attention.certify_output`.
    failure : float
        Of each interval.
    rng : numpy.random.Generator or int

    Returns
    -------
    Comparison

    Raises
    ------
    KindError, RangeError
        Naming the argument.
    UnsupportedModelError
        As :func:`use_nystrom` does; also where no attention of the model is of a kind that the estimators serve, for
        more than eight tokens.

    Notes
    -----
    Memory: no n × n array, but of texts of up to 1,024 tokens one at a time for its singular values.  Cost, beside the
    exact pass: for each head and estimator the estimator at m and at 2m, and rows · n kernel entries; a pass of the
    model for each estimator's drift.  What a text attends to elsewhere, and what is exact by any means (caches,
    windows, cross-attention), is not judged.

    Examples
    --------
    >>> import torch, transformers
    >>> from nystrom_numerics.integrations.transformers import compare
    >>> sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    >>> model = transformers.BertModel(transformers.BertConfig(vocab_size=32, **sizes)).eval()
    >>> found = compare(model, {"input_ids": torch.arange(64)[None] % 32}, [("tangent", 16)])
    >>> len(found.heads), found.heads[0].layer
    (4, 'encoder.layer.0.attention.self')
    """
    require_instance("estimators", estimators, Sequence, "a sequence of names and budgets")
    chosen = tuple(_checked(one) for one in estimators)
    require_probability("failure", failure)
    if rows is not None:
        require_count("rows", rows, 8)
    generator(rng)
    found: list[HeadError] = []

    def judge(place: Place, tokens: Tokens) -> None:
        found.extend(
            _judged(place, tokens, name, m, rows, failure, rng)
            for name, m in chosen
            if ESTIMATORS[name].causal == tokens.causal
        )

    exact = visited(model, inputs, judge)
    if not found:
        raise nothing_met(model, ", ".join(name for name, _ in chosen))
    drift = {}
    for name, m in dict.fromkeys((head.estimator, head.m) for head in found):

        def use(place: Place, tokens: Tokens, name: str = name, m: int = m) -> Tensor | None:
            return tokens.approximated(name, m)[0] if ESTIMATORS[name].causal == tokens.causal else None

        drift[name, m] = drift_of(visited(model, inputs, use), exact)
    return Comparison(tuple(found), drift)


def head_operator(
    model: Any,
    inputs: Mapping[str, Any],
    /,
    layer: str,
    head: int,
    *,
    estimator: str = "tangent",
    m: int = 64,
    text: int = 0,
) -> AttentionOperator:
    """What an estimator makes of one head, on what it meets: to be read by rows, columns and its diagonal.

    Parameters
    ----------
    model, inputs
        As in :func:`compare`.
    layer : str
        A name as :func:`compare` tells it.
    head : int
    estimator : str
        A name of ``attention.ESTIMATORS``; "exact" is one.
    m : int
    text : int
        Of the batch.

    Returns
    -------
    AttentionOperator
        Of the head's real tokens: padding is removed.

    Raises
    ------
    KindError, RangeError
        Naming the argument.
    UnsupportedModelError
        As :func:`use_nystrom` does.

    Notes
    -----
    Cost: a pass of the model, O(n²) where its own attention is, and making the operator.

    Examples
    --------
    >>> import torch, transformers
    >>> from nystrom_numerics.integrations.transformers import head_operator
    >>> sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    >>> model = transformers.BertModel(transformers.BertConfig(vocab_size=32, **sizes)).eval()
    >>> ids = {"input_ids": torch.arange(64)[None] % 32}
    >>> head_operator(model, ids, "encoder.layer.1.attention.self", 0, m=16).rows([5]).shape
    torch.Size([1, 64])
    """
    require_instance("layer", layer, str, "a name")
    name, m = _checked_estimator(estimator, m)
    require_count("head", head, 0)
    require_count("text", text, 0)
    met: dict[str, set[int]] = {}
    found: list[Tokens] = []

    def keep(place: Place, tokens: Tokens) -> None:
        met.setdefault(place.title, set()).add(place.head)
        if (place.title, place.head, place.text) == (layer, head, text):
            found.append(tokens)

    visited(model, inputs, keep)
    if layer not in met:
        some = ", ".join(list(met)[:3])
        raise RangeError("layer", repr(layer)[:60], f"attention that is met, such as {some}")
    if head not in met[layer]:
        raise RangeError("head", f"{head}", f"0 to {max(met[layer])}")
    if not found:
        raise RangeError("text", f"{text}", "one of the batch, of more than 8 tokens")
    one = found[0]
    if ESTIMATORS[name].causal != one.causal:
        kind = "causal" if one.causal else "full"
        raise RangeError("estimator", repr(name), f"one of {kind} attention, as that of {layer!r} is")
    return ESTIMATORS[name].make(one.q, one.k, min(m, one.q.shape[0]), scale=one.scale)


def _checked_estimator(name: Any, m: Any) -> tuple[str, int]:
    require_instance("estimator", name, str, "a name")
    if name not in ESTIMATORS:
        raise RangeError("estimator", repr(name)[:60], f"one of {', '.join(ESTIMATORS)}")
    return name, require_count("m", m, ESTIMATORS[name].least)


def drift_of(got: Tensor, exact: Tensor) -> float:
    r""":math:`\|O - O_{exact}\|_F/\|O_{exact}\|_F` of two outputs."""
    return float(torch.linalg.norm(got - exact) / torch.linalg.norm(exact))


def _checked(one: Any) -> tuple[str, int]:
    if not (isinstance(one, tuple) and len(one) == 2 and one[0] in ESTIMATORS):
        raise RangeError(
            "estimators", repr(one)[:60], f"pairs of a name and m; names are {', '.join(ESTIMATORS)}"
        )
    return one[0], require_count("estimators", one[1], ESTIMATORS[one[0]].least)


def _judged(
    place: Place,
    tokens: Tokens,
    name: str,
    m: int,
    rows: int | None,
    failure: float,
    rng: np.random.Generator | int,
) -> HeadError:
    n = tokens.q.shape[0]
    out, entries = tokens.approximated(name, m)
    told = certify_output(
        tokens.q,
        tokens.k,
        tokens.v,
        out,
        rows=None if rows is None else min(rows, n),
        causal=tokens.causal,
        scale=tokens.scale,
        beside=[tokens.approximated(name, 2 * m)[0]],
        failure=failure,
        rng=rng,
    ).relative
    value, low, high = (
        nan if x is None or x.value is None else x.value for x in (told.estimate, told.lower, told.upper)
    )
    best = tokens.best(m) if n <= FORMED else nan
    share = entries / tokens.pairs
    return HeadError(place.title, place.head, place.text, n, name, m, share, value, low, high, best)


def _heat_map(of: Summary) -> str:
    worst: dict[tuple[str, int], float] = {}
    for one in of.heads:
        at = one.layer, one.head
        worst[at] = max(worst.get(at, 0.0), float(np.nan_to_num(one.error)))
    layers = list(dict.fromkeys(layer for layer, _ in worst))
    heads = sorted({head for _, head in worst})
    rows = []
    for layer in layers:
        cells = "".join(
            f'<td style="color:#111;background:hsl({round(120 * max(0.0, 1 - 2 * worst[layer, head]))} 70% 80%)">'
            f"{worst[layer, head]:.3f}</td>"
            if (layer, head) in worst
            else "<td></td>"
            for head in heads
        )
        rows.append(f'<tr><th scope="row">{html.escape(layer)}</th>{cells}</tr>')
    top = "".join(f'<th scope="col">{head}</th>' for head in heads)
    title = (
        f"{ESTIMATORS[of.estimator].title}, m = {of.m}: relative error of ŜV, layers × heads; "
        f"drift of the output {of.drift:.3g}"
    )
    return (
        f"<table><caption>{html.escape(title)}</caption><thead><tr><th></th>{top}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
    )
