"""Switching models of transformers, or parts of them, to the registered attention."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Collection
from functools import cache
from typing import Any, TypeAlias

from torch.nn import Module

from nystrom_numerics.arguments import require_instance
from nystrom_numerics.errors import KindError, RangeError
from nystrom_numerics.integrations.transformers.attention import NystromAttentionFunction
from nystrom_numerics.integrations.transformers.budgets import given_to
from nystrom_numerics.integrations.transformers.refusals import UnsupportedModelError
from nystrom_numerics.integrations.transformers.restoring import (
    Switched,
    configurations,
    give_own_configuration,
    masks_of,
)
from nystrom_numerics.nn import ExactAttentionWarning

__all__ = ["use_nystrom"]

Parts: TypeAlias = Collection[str] | Callable[[str, Module], bool]


def use_nystrom(model: Any, /, name: str = "nystrom", *, parts: Parts | None = None) -> Switched:
    """Switch a loaded model to the registered attention, all of it or some layers, until it is restored.

    Parameters
    ----------
    model : transformers.PreTrainedModel
    name : str
        As given to :func:`register_with_transformers`.
    parts : collection of str, or callable, optional
        Names of modules, as ``model.named_modules()`` has them, each for all attention inside it; or
        ``parts(name, module)``, asked of every attention.  Others stay to the bit what they are, and the model goes on
        to make the masks that they need.

    Returns
    -------
    Switched
        ``.restore()`` switches back; as a context manager it gives the ``.model`` and does so at the end.

    Raises
    ------
    KindError
        ``model`` is none of transformers'; ``parts`` is a string, or neither names nor callable.
    RangeError
        ``name`` was not registered; ``parts`` name no attention that can be switched.
    UnsupportedModelError
        Naming the model or the part of it none of whose attention goes through transformers' attention interface; with
        ``parts``, an attention whose masks are neither those of "eager" nor of "sdpa".

    Warns
    -----
    ExactAttentionWarning
        Naming the classes that go on with their own attention, where others of the model are switched; not with
        ``parts``.

    Notes
    -----
    Cost: O(1) a module; no weights are copied.

    A switch remembers what was before it, so that of several the last is to be restored first.

    Examples
    --------
    >>> import torch, transformers
    >>> from nystrom_numerics.integrations.transformers import register_with_transformers, use_nystrom
    >>> register_with_transformers(m=4)
    >>> sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    >>> model = transformers.BertModel(transformers.BertConfig(vocab_size=32, **sizes)).eval()
    >>> ids = torch.arange(20)[None]
    >>> before = model(ids).last_hidden_state
    >>> with use_nystrom(model, parts=["encoder.layer.1"]):
    ...     torch.equal(model(ids).last_hidden_state, before)
    False
    >>> torch.equal(model(ids).last_hidden_state, before)
    True
    """
    from transformers import PreTrainedModel

    require_instance("model", model, PreTrainedModel, "a transformers.PreTrainedModel")
    if _known(name) is None:
        raise RangeError("name", repr(name), "a name given to `register_with_transformers` before")
    if parts is not None:
        return _switch_parts(model, name, parts)
    alone = [
        part
        for part in model.modules()
        if isinstance(part, PreTrainedModel) and not part._can_set_attn_implementation()
    ]
    if not alone and not any(_dispatches(type(module)) for module in model.modules()):
        alone = [model]
    if alone:
        raise UnsupportedModelError(
            f"{type(alone[0]).__name__} computes attention by itself and not through transformers' attention "
            f"interface: {name!r} would be ignored"
        )
    own = sorted({type(module).__name__ for module in model.modules() if _attends_by_itself(type(module))})
    if own:
        warnings.warn(
            f"{type(model).__name__} has attention that is not transformers' to switch, and stays as it is: "
            + ", ".join(own),
            ExactAttentionWarning,
            stacklevel=2,
        )
    switched = Switched(model, (*configurations(model), *given_to(model)))
    model.set_attn_implementation(name)
    return switched


def _known(name: Any) -> NystromAttentionFunction | None:
    from transformers import AttentionInterface

    found = AttentionInterface().get(name) if isinstance(name, str) else None  # type: ignore[no-untyped-call]
    return found if isinstance(found, NystromAttentionFunction) else None


def _switch_parts(model: Module, name: str, parts: Any) -> Switched:
    attentions = {
        path: module
        for path, module in model.named_modules()
        if _dispatches(type(module)) and hasattr(module, "config")
    }
    if callable(parts):
        chosen = {path for path, module in attentions.items() if parts(path, module)}
        missed = [] if chosen else ["none"]
    else:
        names = _require_names(parts)
        inside = {part: {x for x in attentions if f"{x}.".startswith(f"{part}.")} for part in names}
        chosen = set().union(*inside.values())
        missed = [repr(part) for part in names if not inside[part]] or ([] if chosen else ["none"])
    if missed:
        some = ", ".join(map(repr, [*attentions][:3])) or "of which this model has none"
        raise RangeError("parts", ", ".join(missed), f"attention that can be switched, such as {some}")
    for path in sorted(chosen):
        masks = masks_of(attentions[path])
        if masks not in ("eager", "sdpa") and _known(masks) is None:
            raise UnsupportedModelError(
                f"{path!r} has masks made for {masks!r}, which are not read in parts of a model; call "
                "`model.set_attn_implementation('sdpa')` before"
            )
    budgets = given_to(model)
    return Switched(
        model, (*budgets, *(give_own_configuration(attentions[path], name) for path in sorted(chosen)))
    )


def _require_names(parts: Any) -> list[str]:
    needs = "names of modules, or a callable of name and module"
    if isinstance(parts, (str, bytes)) or not isinstance(parts, Collection):
        raise KindError("parts", repr(parts)[:40], needs)
    for part in parts:
        if not isinstance(part, str):
            raise KindError("parts", f"a collection with a {type(part).__name__}", needs)
    return list(parts)


@cache
def _source(kind: type) -> str:
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):  # a class made at run time has none
        return ""


def _dispatches(kind: type) -> bool:
    """Whether a class looks attention up in the interface."""
    return "get_interface(" in _source(kind)


def _attends_by_itself(kind: type) -> bool:
    own = any(call in _source(kind) for call in ("softmax(", "scaled_dot_product"))
    return own and "Attention" in kind.__name__ and not _dispatches(kind)
