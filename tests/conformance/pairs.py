"""A small model with attention of its own, a copy with ours, and how far apart they are."""

from __future__ import annotations

import copy
import inspect
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from nystrom_numerics.attention import ridge
from nystrom_numerics.errors import NystromError
from nystrom_numerics.integrations.transformers import use_nystrom
from nystrom_numerics.integrations.transformers.attention import NystromAttentionFunction
from nystrom_numerics.landmarks import segment_means

TOLERANCE = 1e-5
VISIBLE = 1e-3


@dataclass(frozen=True)
class Recorder(NystromAttentionFunction):
    """The attention under test, which writes down who calls it and what it approximates."""

    calls: Counter[str] = field(default_factory=Counter)

    def __call__(self, module: Any, *args: Any, **kwargs: Any) -> Any:
        self.calls[type(module).__name__] += 1
        return super().__call__(module, *args, **kwargs)

    def _causally(self, *args: Any) -> Any:
        out = super()._causally(*args)
        self.calls["approximated"] += 1
        return out

    def _fully(self, *args: Any) -> Any:
        out = super()._fully(*args)
        self.calls["approximated"] += 1
        self.calls["fully"] += 1
        return out


def _recorder(m: int, block: int, near: int | None, tangent: bool = False) -> Recorder:
    return Recorder(m, block, near, False, segment_means, ridge, None, False, tangent=tangent)


RECORDERS = {
    "exact": _recorder(4096, 8, None),
    "near": _recorder(2, 4096, 4096),
    "tangent": _recorder(256, 8, None, tangent=True),
    "few": _recorder(4, 8, None),
    "few_tangent": _recorder(4, 8, None, tangent=True),
}
"""As many landmarks as tokens; a near field and a block as long as the text; as many near keys; less than that."""


def blind(module: Any, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> tuple[Tensor, None]:
    """Attention that looks at nothing, which a test of attention must tell from the model's own."""
    mean = value.mean(dim=-2, keepdim=True).repeat_interleave(query.shape[1] // value.shape[1], dim=1)
    return mean.expand(-1, -1, query.shape[-2], -1).transpose(1, 2).contiguous(), None


def register() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface

    from nystrom_numerics.integrations.transformers.masks import mask_by_rule

    for name, function in {**RECORDERS, "blind": blind}.items():
        AttentionInterface.register(f"conformance_{name}", function)
        AttentionMaskInterface.register(f"conformance_{name}", mask_by_rule)


@dataclass(frozen=True)
class Outcome:
    """What one case came to: ``served``, ``refused``, ``wrong``, or ``absent`` where the model's own fails."""

    case: str
    verdict: str
    detail: str = ""


class Pair:
    """An architecture with its own attention, and a copy with ours."""

    def __init__(self, kind: type, config: Any) -> None:
        config._attn_implementation = "eager"
        torch.manual_seed(0)
        self.own = kind._from_config(config).eval()
        _randomise(self.own)
        self.ours = copy.deepcopy(self.own)

    def use(self, name: str) -> None:
        """Switch the copy to one of :data:`RECORDERS`, by what users call, or to ``blind``."""
        if name == "blind":
            self.ours.set_attn_implementation("conformance_blind")
        else:
            use_nystrom(self.ours, f"conformance_{name}")

    def compare(
        self, case: str, run: Callable[[Any], list[Tensor]], real: Tensor | None = None, only: bool = False
    ) -> Outcome:
        """The outcome of one way to run both; ``real`` says which tokens count, ``only`` that nothing else does."""
        try:
            own = _seeded(run, self.own)
        except Exception as error:  # whatever a model raises on inputs that it does not take
            return Outcome(case, "absent", f"{type(error).__name__}: {str(error)[:100]}")
        if not own:
            return Outcome(case, "absent", "no output of floating numbers")
        if any(x.isnan().any() for x in own):
            return Outcome(case, "absent", "the model's own attention gives NaN")
        try:
            got = _seeded(run, self.ours)
        except NystromError as error:
            return Outcome(case, "refused", str(error))
        except Exception as error:  # anything untyped is what the sweep looks for
            return Outcome(case, "wrong", f"{type(error).__name__}: {str(error)[:100]}")
        gap = distance(own, got, real, only)
        if gap > TOLERANCE and gap > 4 * self._rounding(run, own, real, only):
            return Outcome(case, "wrong", f"differs by {gap:.1e}")
        return Outcome(case, "served")

    def _rounding(
        self, run: Callable[[Any], list[Tensor]], own: list[Tensor], real: Tensor | None, only: bool
    ) -> float:
        """How far the model's own attention is from itself in double precision; 0 for a model without that."""
        try:
            return distance(own, _seeded(run, copy.deepcopy(self.own).double()), real, only)
        except RuntimeError:
            return 0.0


def _seeded(run: Callable[[Any], list[Tensor]], model: Any) -> list[Tensor]:
    torch.manual_seed(0)
    with torch.no_grad():
        return run(model)


def _randomise(model: Any) -> None:
    """Weights under which attention matters: projections keep the size of what they get, tokens are of size 1."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            if p.ndim >= 2:
                p.copy_(noise * max(1, p.numel() // max(1, p.shape[0])) ** -0.5)
            elif name.endswith("bias"):
                p.copy_(noise * 0.1)
            elif name.endswith("weight"):
                p.copy_(p + noise * 0.1)
        for module in model.modules():
            if isinstance(module, torch.nn.Embedding):
                module.weight.copy_(torch.randn(module.weight.shape, generator=generator))


def tensors(output: Any) -> list[Tensor]:
    """All floating tensors of an output, caches apart."""
    return [x for x in _leaves(output) if x.is_floating_point()]


def _leaves(x: Any) -> Iterator[Tensor]:
    if isinstance(x, Tensor):
        yield x
    elif hasattr(x, "items"):
        for key, value in x.items():
            if "past_key_values" not in key:
                yield from _leaves(value)
    elif isinstance(x, (list, tuple)):
        for value in x:
            yield from _leaves(value)


def distance(a: list[Tensor], b: list[Tensor], real: Tensor | None = None, only: bool = False) -> float:
    """The greatest difference between entries relative to the greatest entry, over tensors; infinite for other shapes.

    What is not finite, or as good as that, must be equal: models mark forbidden words with the least number.
    """
    if [x.shape for x in a] != [y.shape for y in b]:
        return float("inf")
    worst = 0.0
    for x, y in zip(a, b, strict=True):
        if real is not None and x.shape[:2] == real.shape:
            x, y = x[real], y[real]
        elif only:
            continue
        x, y = x.double(), y.double()
        known = x.abs() < 1e30
        if known.any() and (x != y)[known].any():
            gap = (x - y)[known].abs().max() / x[known].abs().max()
            worst = max(worst, float(gap.nan_to_num(nan=float("inf"))))
        if not torch.equal(x[~known].nan_to_num(), y[~known].nan_to_num()):
            return float("inf")
    return worst


def arguments(model: Any) -> dict[str, inspect.Parameter]:
    """What ``forward`` takes by name."""
    found = inspect.signature(model.forward).parameters
    return {k: p for k, p in found.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
