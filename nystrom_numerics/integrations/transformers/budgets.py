"""Budgets that a calibration gave to the heads of a model: where its configurations keep them, and who uses them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from nystrom_numerics.integrations.transformers.refusals import unsupported

__all__ = ["KEPT", "attend_by_head", "attentions", "budgets_of", "given_to"]

KEPT = "nystrom_budgets"
"""The attribute of a configuration that holds budgets by layer, and of a layer that was given its own."""


def attentions(model: Module) -> Iterator[tuple[Any, str, Module]]:
    """Each module with a configuration, and its name in the base of the outermost model that has the same one.

    A head on top of a base model, or another in its place, so changes no name.
    """
    from transformers import PreTrainedModel

    owners: dict[int, dict[int, str]] = {}
    for module in model.modules():
        if isinstance(module, PreTrainedModel) and id(module.config) not in owners:
            base = module.base_model
            owners[id(module.config)] = {id(part): name for name, part in base.named_modules()}
    for module in model.modules():
        config = getattr(module, "config", None)
        name = owners.get(id(config), {}).get(id(module))
        if name:
            yield config, name, module


def given_to(model: Module) -> list[tuple[Any, str, Any]]:
    """Give every layer its budgets, none where there are none; what each had, for the way back."""
    before = []
    for config, name, module in attentions(model):
        kept = getattr(config, KEPT, None)
        if kept is not None:
            before.append((module, KEPT, getattr(module, KEPT, None)))
            setattr(module, KEPT, tuple(kept["layers"].get(name, ())))
    return before


def budgets_of(module: Module) -> tuple[int, ...]:
    """The budget of each head of a layer, 0 for exact attention; none for a layer that was not calibrated."""
    given: tuple[int, ...] | None = getattr(module, KEPT, None)
    if given is None and getattr(getattr(module, "config", None), KEPT, None) is not None:
        raise unsupported(
            module,
            "the budgets of a calibration, which its layers do not have yet: call `use_nystrom(model)`",
        )
    return given or ()


def attend_by_head(
    budgets: Sequence[int],
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attend: Callable[[int, Tensor, Tensor, Tensor], Tensor],
) -> Tensor:
    """Heads (b, h, n, ·) of equal budgets together, each with the keys (b, g, n, ·) that it shares with others."""
    if len(set(budgets)) == 1:
        return attend(budgets[0], q, k, v)
    share = q.shape[1] // k.shape[1]
    parts, order = [], []
    for m in sorted(set(budgets)):
        heads = [head for head, own in enumerate(budgets) if own == m]
        keys = [head // share for head in heads]
        parts.append(attend(m, q[:, heads], k[:, keys], v[:, keys]))
        order += heads
    return torch.cat(parts, dim=1)[:, sorted(range(len(order)), key=order.__getitem__)]
