"""What a switched model was, and the way back."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from torch.nn import Module

__all__ = ["Switched", "configurations", "give_own_configuration", "masks_of", "means_causal_by_none"]

_INTERNAL = "_attn_implementation_internal"
"""Where a configuration of transformers has the name; the setter without the underscore would set all inside it too."""

_FORMER = "_attn_implementation_of_masks"
"""Where a layer's own configuration has the name by which its model still makes masks."""


@dataclass(frozen=True)
class Switched:
    """A model in use with another attention.

    As a context manager it gives the model, and restores it on the way out.

    Attributes
    ----------
    model : transformers.PreTrainedModel
    before : tuple
        Objects, names of their attributes, and what these were.
    """

    model: Any
    before: tuple[tuple[Any, str, Any], ...]

    def restore(self) -> None:
        """Make attention what it was before this switch; a second time changes nothing."""
        for owner, name, value in self.before:
            setattr(owner, name, value)

    def __enter__(self) -> Any:
        return self.model

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.restore()

    def __repr__(self) -> str:
        return f"Switched({type(self.model).__name__})"


def configurations(model: Module) -> Iterator[tuple[Any, str, Any]]:
    """The implementation in every configuration that a module of the model has, and in those inside it."""
    waiting: list[Any] = [module.config for module in model.modules() if hasattr(module, "config")]
    seen: set[int] = set()
    while waiting:
        config = waiting.pop()
        if id(config) in seen or not hasattr(config, _INTERNAL):
            continue
        seen.add(id(config))
        yield config, _INTERNAL, getattr(config, _INTERNAL)
        waiting += [getattr(config, key, None) for key in getattr(config, "sub_configs", {})]


def masks_of(module: Any) -> str:
    """The name by which the model of an attention makes its masks."""
    found: str = getattr(module.config, _FORMER, getattr(module.config, _INTERNAL))
    return found


def give_own_configuration(module: Any, name: str) -> tuple[Any, str, Any]:
    """Have one attention look another name up than the rest of its model does; gives what it had."""
    own = copy.copy(module.config)
    setattr(own, _FORMER, masks_of(module))
    setattr(own, _INTERNAL, name)
    before = module.config
    module.config = own
    return module, "config", before


def means_causal_by_none(module: Module) -> bool:
    """Whether a module's masks are those for Torch's attention, where no mask at all leaves causality to the kernel."""
    return getattr(getattr(module, "config", None), _FORMER, None) == "sdpa"
