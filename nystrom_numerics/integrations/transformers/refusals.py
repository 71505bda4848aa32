"""What transformers may ask for and is refused, by name."""

from __future__ import annotations

from typing import Any

from nystrom_numerics.errors import NystromError

__all__ = ["UnsupportedModelError", "unsupported"]


class UnsupportedModelError(NystromError, NotImplementedError):
    """A model, or something that a model asks of attention, which Nyström attention cannot serve.

    Parameters
    ----------
    *args : str
        What is asked for, by which module of which model.

    Examples
    --------
    >>> import torch
    >>> from transformers import BertConfig, BertModel
    >>> from nystrom_numerics.integrations import transformers as ours
    >>> sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    >>> model = BertModel(BertConfig(vocab_size=30, is_decoder=True, **sizes)).eval()
    >>> ours.register_with_transformers(m=8)
    >>> try:
    ...     with torch.no_grad(), ours.use_nystrom(model):
    ...         model(torch.arange(20)[None])
    ... except ours.UnsupportedModelError as error:
    ...     print("causal" in str(error))
    True
    """


def unsupported(module: Any, what: str) -> UnsupportedModelError:
    """The error that says which module of which model asks for what; ``module`` may be a configuration too."""
    config = getattr(module, "config", module)
    return UnsupportedModelError(
        f"{type(module).__name__} of model {getattr(config, 'model_type', 'unknown')!r} asks for {what}"
    )
