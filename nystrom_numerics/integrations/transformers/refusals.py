"""What transformers may ask for and is refused, by name."""

from __future__ import annotations

from typing import Any

from nystrom_numerics.errors import NystromError

__all__ = ["UnsupportedModelError", "unsupported"]


class UnsupportedModelError(NystromError, NotImplementedError):
    """A model, or something that a model asks of attention, which Nyström attention cannot serve."""


def unsupported(module: Any, what: str) -> UnsupportedModelError:
    """The error that says which module of which model asks for what; ``module`` may be a configuration too."""
    config = getattr(module, "config", module)
    return UnsupportedModelError(
        f"{type(module).__name__} of model {getattr(config, 'model_type', 'unknown')!r} asks for {what}"
    )
