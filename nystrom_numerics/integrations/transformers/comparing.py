"""How far each head of a model is from its own attention, on the queries, keys and values that it meets."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, nan
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nystrom_numerics.arguments import require_count, require_instance, require_probability
from nystrom_numerics.attention import ESTIMATORS, certify_output, ridge
from nystrom_numerics.backend import generator
from nystrom_numerics.brief import brief
from nystrom_numerics.errors import RangeError
from nystrom_numerics.integrations.transformers.attention import NystromAttentionFunction, attend_exactly
from nystrom_numerics.integrations.transformers.masks import mask_by_rule
from nystrom_numerics.integrations.transformers.refusals import UnsupportedModelError
from nystrom_numerics.integrations.transformers.switching import use_nystrom
from nystrom_numerics.landmarks import segment_means

__all__ = ["Comparison", "HeadError", "compare"]

NAME = "nystrom_compare"
FEWEST = 8
"""Tokens up to which nothing is compared."""

FORMED = 1024
"""Tokens up to which S is formed, for its singular values."""


@dataclass(frozen=True)
class HeadError:
    r"""One head on one text under one estimator.

    Attributes
    ----------
    layer : str
        The module's name in the model.
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
class Comparison:
    r"""Errors of all heads, and what they do to the output of the model.

    Attributes
    ----------
    heads : tuple of HeadError
    drift : dict
        For each (estimator, m) :math:`\|O - O_{exact}\|_F/\|O_{exact}\|_F` of the model's first output with all its
        attention approximated.
    """

    heads: tuple[HeadError, ...]
    drift: dict[tuple[str, int], float]

    __repr__ = brief

    def to_frame(self) -> Any:
        """A line a head, as a frame of pandas, which is needed."""
        import pandas as pd  # type: ignore[import-untyped, unused-ignore]

        return pd.DataFrame([vars(head) for head in self.heads])

    def __str__(self) -> str:
        """Quartiles for each estimator, and the heads that are farthest."""
        lines = []
        for (name, m), part in self._parts().items():
            errors = np.array([head.error for head in part])
            low, middle, high = np.nanquantile(errors, (0.25, 0.5, 0.75))
            worst = sorted(part, key=lambda head: -np.nan_to_num(head.error))[:3]
            told = ", ".join(f"{head.layer} head {head.head}: {head.error:.3f}" for head in worst)
            best = np.array([head.best for head in part if head.best == head.best])
            floor = f"; the best matrix of rank {m} leaves {np.median(best):.3f} of S" if len(best) else ""
            lines.append(
                f"{name}, m = {m}: {len(part)} heads, {np.mean([head.entries for head in part]):.1%} of the entries; "
                f"error of ŜV {middle:.3f} (quartiles {low:.3f} to {high:.3f}); farthest {told}; "
                f"drift of the output {self.drift[name, m]:.3g}{floor}"
            )
        return "\n".join(lines)

    def to_html(self) -> str:
        """A table of layers × heads for each estimator, coloured by error: the largest over texts."""
        return "\n".join(
            _heat_map(name, m, part, self.drift[name, m]) for (name, m), part in self._parts().items()
        )

    def _parts(self) -> dict[tuple[str, int], list[HeadError]]:
        found: dict[tuple[str, int], list[HeadError]] = {}
        for head in self.heads:
            found.setdefault((head.estimator, head.m), []).append(head)
        return found


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
    from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

    require_instance("model", model, PreTrainedModel, "a transformers.PreTrainedModel")
    require_instance("inputs", inputs, Mapping, "a mapping of names to what the model is called with")
    require_instance("estimators", estimators, Sequence, "a sequence of names and budgets")
    chosen = tuple(_checked(one) for one in estimators)
    require_probability("failure", failure)
    if rows is not None:
        require_count("rows", rows, 8)
    generator(rng)
    names = {id(module): name for name, module in model.named_modules()}
    judge = _Judge(names=names, judged=chosen, rows=rows, failure=failure, rng=rng)

    def passed(function: _Judge) -> Tensor:
        AttentionInterface.register(NAME, function)
        AttentionMaskInterface.register(NAME, mask_by_rule)
        with use_nystrom(model, NAME), torch.no_grad():
            first: Tensor = model(**inputs)[0]
        return first

    try:
        exact = passed(judge)
        if not judge.found:
            served = ", ".join(name for name, _ in chosen)
            raise UnsupportedModelError(
                f"{type(model).__name__} met no attention of a text to itself that {served} would serve; name a "
                "causal estimator for causal attention, another for full attention, and give more than "
                f"{FEWEST} tokens"
            )
        drift = {}
        for one in dict.fromkeys((head.estimator, head.m) for head in judge.found):
            got = passed(_Judge(names=names, judged=(), rows=rows, failure=failure, rng=rng, used=one))
            drift[one] = float(torch.linalg.norm(got - exact) / torch.linalg.norm(exact))
    finally:
        AttentionInterface.register(NAME, _Judge(names={}, judged=(), rows=None, failure=failure, rng=rng))
    return Comparison(tuple(judge.found), drift)


def _checked(one: Any) -> tuple[str, int]:
    if not (isinstance(one, tuple) and len(one) == 2 and one[0] in ESTIMATORS):
        raise RangeError(
            "estimators", repr(one)[:60], f"pairs of a name and m; names are {', '.join(ESTIMATORS)}"
        )
    return one[0], require_count("estimators", one[1], ESTIMATORS[one[0]].least)


@dataclass(frozen=True)
class _Judge(NystromAttentionFunction):
    """Exact attention that looks at what it is given; or, with ``used``, the attention of an estimator."""

    m: int = FEWEST
    block: int | None = None
    near: int | None = None
    row_normalised: bool = False
    landmarks: Any = segment_means
    solver: Any = ridge
    pinv: Any = None
    leave_out_dropout: bool = False
    names: Mapping[int, str] = field(default_factory=dict)
    judged: tuple[tuple[str, int], ...] = ()
    rows: int | None = None
    failure: float = 0.05
    rng: np.random.Generator | int = 0
    used: tuple[str, int] | None = None
    found: list[HeadError] = field(default_factory=list)
    at: list[Any] = field(default_factory=lambda: [None, None])

    def _attend(
        self,
        module: torch.nn.Module,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None,
        scale: float | None,
    ) -> Tensor:
        self.at[:] = self.names.get(id(module), type(module).__name__), mask
        return super()._attend(module, q, k, v, mask, scale)

    def _causally(
        self,
        module: torch.nn.Module,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        real: Tensor | None,
        scale: float | None,
    ) -> Tensor:
        return self._served(q, k, v, real, scale, causal=True)

    def _fully(self, q: Tensor, k: Tensor, v: Tensor, real: Tensor | None, scale: float | None) -> Tensor:
        return self._served(q, k, v, real, scale, causal=False)

    def _served(
        self, q: Tensor, k: Tensor, v: Tensor, real: Tensor | None, scale: float | None, causal: bool
    ) -> Tensor:
        name, mask = self.at
        out = attend_exactly(q, k, v, mask, scale)
        scale = q.shape[-1] ** -0.5 if scale is None else scale
        share = q.shape[1] // k.shape[1]
        for text in range(q.shape[0]):
            there = None if real is None else real[text]
            for head in range(q.shape[1]):
                of_q, of_k, of_v = (
                    x if there is None else x[there]
                    for x in (q[text, head], k[text, head // share], v[text, head // share])
                )
                some = _Tokens(of_q, of_k, of_v, scale, causal)
                if some.q.shape[0] <= FEWEST:
                    continue
                if self.used is not None and ESTIMATORS[self.used[0]].causal == causal:
                    made = some.approximated(*self.used)[0].to(out.dtype)
                    if there is None:
                        out[text, head] = made
                    else:
                        out[text, head, there] = made
                for one in self.judged:
                    if ESTIMATORS[one[0]].causal == causal:
                        self.found.append(self._judged(name, head, text, one, some))
        return out

    def _judged(self, layer: str, head: int, text: int, one: tuple[str, int], tokens: _Tokens) -> HeadError:
        (name, m), n = one, tokens.q.shape[0]
        out, entries = tokens.approximated(name, m)
        told = certify_output(
            tokens.q,
            tokens.k,
            tokens.v,
            out,
            rows=None if self.rows is None else min(self.rows, n),
            causal=tokens.causal,
            scale=tokens.scale,
            beside=[tokens.approximated(name, 2 * m)[0]],
            failure=self.failure,
            rng=self.rng,
        ).relative
        value, low, high = (
            nan if x is None or x.value is None else x.value for x in (told.estimate, told.lower, told.upper)
        )
        share = entries / (n * (n + 1) / 2 if tokens.causal else n * n)
        best = tokens.best(m) if n <= FORMED else nan
        return HeadError(layer, head, text, n, name, m, share, value, low, high, best)


@dataclass(frozen=True)
class _Tokens:
    """The real tokens of one head."""

    q: Tensor
    k: Tensor
    v: Tensor
    scale: float
    causal: bool

    def approximated(self, name: str, m: int) -> tuple[Tensor, int]:
        """Output and entries of an estimator; exact where it has as many landmarks as there are tokens."""
        if m >= self.q.shape[0]:
            name = "exact_causal" if self.causal else "exact"
        operator = ESTIMATORS[name].make(self.q, self.k, m, scale=self.scale)
        out: Tensor = operator.apply(self.v)
        return out, operator.entries

    def best(self, m: int) -> float:
        """The relative error of the best matrix of rank m."""
        scores = self.scale * (self.q @ self.k.mT).double()
        if self.causal:
            scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -inf)
        squares = torch.linalg.svdvals(torch.softmax(scores, dim=-1)) ** 2
        return float((squares[m:].sum() / squares.sum()).sqrt())


def _heat_map(name: str, m: int, part: list[HeadError], drift: float) -> str:
    worst: dict[tuple[str, int], float] = {}
    for one in part:
        at = one.layer, one.head
        worst[at] = max(worst.get(at, 0.0), float(np.nan_to_num(one.error)))
    layers = list(dict.fromkeys(layer for layer, _ in worst))
    heads = sorted({head for _, head in worst})
    rows = []
    for layer in layers:
        cells = "".join(
            f'<td style="background:hsl({round(120 * max(0.0, 1 - 2 * worst[layer, head]))} 70% 80%)">'
            f"{worst[layer, head]:.3f}</td>"
            if (layer, head) in worst
            else "<td></td>"
            for head in heads
        )
        rows.append(f"<tr><th>{html.escape(layer)}</th>{cells}</tr>")
    top = "".join(f"<th>{head}</th>" for head in heads)
    title = f"{ESTIMATORS[name].title}, m = {m}: relative error of ŜV, layers × heads; drift of the output {drift:.3g}"
    return f"<table><caption>{html.escape(title)}</caption><tr><th></th>{top}</tr>{''.join(rows)}</table>"
