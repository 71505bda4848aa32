"""One pass of the exact model, in which somebody looks at each head's own queries, keys and values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from nystrom_numerics.arguments import require_instance
from nystrom_numerics.attention import ESTIMATORS
from nystrom_numerics.integrations.transformers.attention import NystromAttentionFunction, attend_exactly
from nystrom_numerics.integrations.transformers.masks import mask_by_rule
from nystrom_numerics.integrations.transformers.refusals import UnsupportedModelError
from nystrom_numerics.integrations.transformers.switching import use_nystrom

__all__ = ["FEWEST", "Place", "Tokens", "nothing_met", "visited"]

NAME = "nystrom_visit"
FEWEST = 8
"""Tokens up to which nothing is looked at."""


@dataclass(frozen=True)
class Place:
    """Where a head stands: the module's name in the model, the module, the head, the text of the batch, and the call.

    Layers that share their weights are one module, called once for each.
    """

    layer: str
    module: torch.nn.Module
    head: int
    text: int
    call: int = 0

    @property
    def title(self) -> str:
        """The layer, by its name, and from the second call of its module on with the number of it."""
        return f"{self.layer} ({self.call + 1})" if self.call else self.layer


@dataclass(frozen=True)
class Tokens:
    """The real tokens of one head: queries, keys and values (n, ·), one scale, and whether they see the past alone."""

    q: Tensor
    k: Tensor
    v: Tensor
    scale: float
    causal: bool

    @property
    def pairs(self) -> float:
        """Kernel entries of exact attention."""
        n = self.q.shape[0]
        return n * (n + 1) / 2 if self.causal else n * n

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


See: TypeAlias = Callable[[Place, Tokens], "Tensor | None"]
"""Looks at a head; what it gives, if anything, is the head's output from then on."""


def visited(model: Any, inputs: Mapping[str, Any], see: See) -> Tensor:
    """The model's first output; it is left as it was.

    Raises
    ------
    KindError
        Naming ``model`` or ``inputs``.
    UnsupportedModelError
        As :func:`use_nystrom` does.
    """
    from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

    require_instance("model", model, PreTrainedModel, "a transformers.PreTrainedModel")
    require_instance("inputs", inputs, Mapping, "a mapping of names to what the model is called with")
    names = {id(module): name for name, module in model.named_modules()}
    AttentionInterface.register(NAME, _Visit(names=names, see=see))
    AttentionMaskInterface.register(NAME, mask_by_rule)
    try:
        with use_nystrom(model, NAME), torch.no_grad():
            first: Tensor = model(**inputs)[0]
    finally:
        AttentionInterface.register(NAME, _Visit())  # without what the caller holds
    return first


def nothing_met(model: Any, served: str) -> UnsupportedModelError:
    """The error of a pass in which no head was seen."""
    return UnsupportedModelError(
        f"{type(model).__name__} met no attention of a text to itself that {served} would serve; name a causal "
        f"estimator for causal attention, another for full attention, and give more than {FEWEST} tokens"
    )


@dataclass(frozen=True)
class _Visit(NystromAttentionFunction):
    """Exact attention that shows each head what it is given."""

    m: int = FEWEST
    names: Mapping[int, str] = field(default_factory=dict)
    see: See | None = None
    calls: Counter[int] = field(default_factory=Counter)

    def _served(
        self,
        module: torch.nn.Module,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None,
        scale: float | None,
        *,
        real: Tensor | None,
        causal: bool,
    ) -> Tensor:
        out = attend_exactly(q, k, v, mask, scale)
        call = self.calls[id(module)]
        self.calls[id(module)] += 1
        scale = q.shape[-1] ** -0.5 if scale is None else scale
        share = q.shape[1] // k.shape[1]
        for text, head in np.ndindex(*q.shape[:2]):
            there = slice(None) if real is None else real[text]
            of_q, of_k, of_v = (x[text, of] for x, of in ((q, head), (k, head // share), (v, head // share)))
            tokens = Tokens(of_q[there], of_k[there], of_v[there], scale, causal)
            if tokens.q.shape[0] <= FEWEST or self.see is None:
                continue
            place = Place(self.names.get(id(module), type(module).__name__), module, head, text, call)
            made = self.see(place, tokens)
            if made is not None:
                out[text, head, there] = made.to(out.dtype)
        return out
