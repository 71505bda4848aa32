"""Weights of other implementations: Hugging Face's Nyströmformer and the package nystrom-attention."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nystrom_numerics.attention import Pinv
from nystrom_numerics.errors import NystromError, RangeError, ShapeError
from nystrom_numerics.nn.attention import NystromAttention
from nystrom_numerics.nn.encoder import (
    Nystromformer,
    NystromformerConfig,
    NystromformerForClassification,
    NystromformerForMaskedLM,
    PreNormEncoder,
)
from nystrom_numerics.pinv import razavi

__all__ = [
    "CheckpointError",
    "ExactAttentionWarning",
    "from_hugging_face",
    "from_hugging_face_state",
    "from_nystrom_attention",
    "from_nystrom_attention_encoder",
    "hugging_face_config",
]


class CheckpointError(NystromError):
    """Weights that do not fit the model."""


class ExactAttentionWarning(UserWarning):
    """A configuration named after Nyström that runs exact attention."""


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": nn.functional.gelu,
    "gelu_new": nn.GELU("tanh"),
    "gelu_pytorch_tanh": nn.GELU("tanh"),
    "relu": nn.functional.relu,
}

# what stands where in the published layout, and here; `#` is the number of a layer
_BODY = {
    "embeddings.word_embeddings.": "embeddings.words.",
    "embeddings.position_embeddings.": "embeddings.positions.",
    "embeddings.token_type_embeddings.": "embeddings.types.",
    "embeddings.LayerNorm.": "embeddings.norm.",
    "encoder.layer.#.attention.self.": "layers.#.attention.",
    "encoder.layer.#.attention.output.dense.": "layers.#.attention.out.",
    "encoder.layer.#.attention.output.LayerNorm.": "layers.#.attention_norm.",
    "encoder.layer.#.intermediate.dense.": "layers.#.up.",
    "encoder.layer.#.output.dense.": "layers.#.down.",
    "encoder.layer.#.output.LayerNorm.": "layers.#.norm.",
}
_HEADS = {
    "cls.predictions.transform.dense.": "dense.",
    "cls.predictions.transform.LayerNorm.": "norm.",
    "cls.predictions.bias": "bias",
    "classifier.dense.": "dense.",
    "classifier.out_proj.": "out.",
}
# copies of other entries, and constants
_PASSED_OVER = ("cls.predictions.decoder.", "embeddings.position_ids", "embeddings.token_type_ids")


def hugging_face_config(config: Mapping[str, Any], /) -> NystromformerConfig:
    """The configuration that computes what Hugging Face's does, from its ``config.json`` as a mapping.

    The pseudoinverse is the paper's six iterations, started per matrix; theirs starts from a maximum over the batch,
    so a head agrees to rounding where the two bounds do (one head and one item always).  Dropout is theirs for
    hidden states; theirs for attention weights has no counterpart.

    Warns
    -----
    ExactAttentionWarning
        ``num_landmarks`` equals ``segment_means_seq_len``, as in their defaults: theirs then runs exact attention, and
        the result here has ``exact=True``.  ``dataclasses.replace(config, exact=False)`` gives Nyström attention.

    Raises
    ------
    RangeError
        An activation that is not known here, or an even convolution.
    """
    activation = config.get("hidden_act", "gelu_new")
    if activation not in _ACTIVATIONS:
        raise RangeError("hidden_act", f"{activation!r}", f"one of {sorted(_ACTIVATIONS)}")
    m = config.get("num_landmarks", 64)
    exact = m == config.get("segment_means_seq_len", 64)
    if exact:
        warnings.warn(
            f"num_landmarks equals segment_means_seq_len ({m}): transformers runs exact attention for this "
            "configuration, and so does this model (exact=True); set exact=False for Nyström attention",
            ExactAttentionWarning,
            stacklevel=2,
        )
    return NystromformerConfig(
        vocabulary=config.get("vocab_size", 30000),
        dim=config.get("hidden_size", 768),
        depth=config.get("num_hidden_layers", 12),
        heads=config.get("num_attention_heads", 12),
        feed_forward=config.get("intermediate_size", 3072),
        max_positions=config.get("max_position_embeddings", 510),
        pad_offset=2,
        types=config.get("type_vocab_size", 2),
        pad_id=config.get("pad_token_id", 1),
        landmarks=m,
        exact=exact,
        pinv=razavi,
        conv_kernel=config.get("conv_kernel_size", 65),
        activation=_ACTIVATIONS[activation],
        dropout=config.get("hidden_dropout_prob", 0.1),
        eps=config.get("layer_norm_eps", 1e-5),
    )


def from_hugging_face(
    location: str | Path, /, *, exact: bool | None = None
) -> Nystromformer | NystromformerForMaskedLM | NystromformerForClassification:
    """The model in a folder of Hugging Face's layout, or on their hub, such as ``uw-madison/nystromformer-512``.

    A folder holds ``config.json`` and ``model.safetensors`` or ``pytorch_model.bin``.  ``exact`` and what is raised
    are those of :func:`from_hugging_face_state`.

    Raises
    ------
    CheckpointError
        The folder holds no configuration or no weights.
    """
    folder = Path(location)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        folder = Path(snapshot_download(str(location), allow_patterns=["*.json", "*.safetensors", "*.bin"]))
    config, tensors, pickled = (
        folder / name for name in ("config.json", "model.safetensors", "pytorch_model.bin")
    )
    if not config.exists() or not (tensors.exists() or pickled.exists()):
        raise CheckpointError(f"{folder} lacks config.json, or both model.safetensors and pytorch_model.bin")
    if tensors.exists():
        from safetensors.torch import load_file

        state = load_file(tensors)
    else:
        state = torch.load(pickled, map_location="cpu", weights_only=True)
    return from_hugging_face_state(json.loads(config.read_text("utf-8")), state, exact=exact)


def from_hugging_face_state(
    config: Mapping[str, Any], state: Mapping[str, Tensor], /, *, exact: bool | None = None
) -> Nystromformer | NystromformerForMaskedLM | NystromformerForClassification:
    """The model whose weights ``state`` holds in Hugging Face's layout: bare, or with either of the two heads.

    Parameters
    ----------
    config : mapping
        Their ``config.json``, or ``model.config.to_dict()``; see :func:`hugging_face_config`.
    state : mapping of str to tensor
        Their weights by name, such as ``model.state_dict()``.
    exact : bool, optional
        Exact or Nyström attention, in place of what transformers would run.

    Raises
    ------
    CheckpointError
        Entries that have no place here, or places that get no entry, by name.
    """
    c = hugging_face_config(config)
    if exact is not None:
        c = replace(c, exact=exact)
    model: Nystromformer | NystromformerForMaskedLM | NystromformerForClassification
    if any(name.startswith("cls.") for name in state):
        model, prefix = NystromformerForMaskedLM(c), "encoder."
    elif "classifier.out_proj.weight" in state:
        model, prefix = (
            NystromformerForClassification(c, len(state["classifier.out_proj.weight"])),
            "encoder.",
        )
    else:
        model, prefix = Nystromformer(c), ""
    bodies = {key: prefix + value for key, value in _BODY.items()}
    renamed = {
        new: value for name, value in state.items() if (new := _renamed(name, bodies | _HEADS)) is not None
    }
    missing, unexpected = model.load_state_dict(renamed, strict=False)
    if missing or unexpected:
        raise CheckpointError(f"missing {missing}, no place for {unexpected}")
    return model.eval()


def _renamed(name: str, table: Mapping[str, str]) -> str | None:
    name = name.removeprefix("nystromformer.")
    if name.startswith(_PASSED_OVER):
        return None
    number = re.search(r"\.layer\.(\d+)\.", name)
    layer = number[1] if number else "#"
    general = re.sub(r"\.layer\.\d+\.", ".layer.#.", name)
    for theirs, ours in table.items():
        if general.startswith(theirs):
            return (ours + general.removeprefix(theirs)).replace("#", layer)
    return name


def from_nystrom_attention(
    state: Mapping[str, Tensor], /, *, heads: int, landmarks: int, pinv: Pinv = razavi, dropout: float = 0.0
) -> NystromAttention:
    """The module whose weights ``state`` holds in the layout of the package ``nystrom-attention``.

    Equal to theirs for one item and one head without padding, at lengths that m divides.  Where theirs couples
    items and heads, lets its padding into means and softmaxes, or shifts the sequence, it is not.

    Parameters
    ----------
    state : mapping of str to tensor
        ``module.state_dict()`` of their ``NystromAttention``.
    heads, landmarks : int
        Theirs; the state does not hold them.
    pinv : callable
        Bind ``iterations`` of :func:`~nystrom_numerics.pinv.razavi` where theirs differ from six.
    dropout : float
        Theirs means the same: of the output.

    Raises
    ------
    ShapeError
        An inner width that ``heads`` does not divide.
    RangeError
        An even convolution: theirs changes the length of the sequence with it.
    """
    qkv, out = state["to_qkv.weight"], state["to_out.0.weight"]
    inner = qkv.shape[0] // 3
    if inner % heads:
        raise ShapeError("state", f"of inner width {inner}", f"a multiple of `heads`, {heads}")
    conv = state.get("res_conv.weight")
    module = NystromAttention(
        qkv.shape[1],
        heads=heads,
        dim_head=inner // heads,
        landmarks=landmarks,
        pinv=pinv,
        conv_kernel=None if conv is None else conv.shape[-2],
        bias=(False, True),
        dropout=dropout,
    ).to(qkv.dtype)
    query, key, value = qkv.chunk(3)
    weights = {"query.weight": query, "key.weight": key, "value.weight": value, "out.weight": out}
    weights["out.bias"] = state["to_out.0.bias"]
    if conv is not None:
        weights["conv.weight"] = conv
    module.load_state_dict(weights)
    return module


_ENCODER = {"0.norm.": "attention_norm.", "1.norm.": "norm.", "1.fn.net.0.": "up.", "1.fn.net.3.": "down."}


def from_nystrom_attention_encoder(
    state: Mapping[str, Tensor],
    /,
    *,
    heads: int,
    landmarks: int,
    pinv: Pinv = razavi,
    dropout: tuple[float, float] = (0.0, 0.0),
) -> PreNormEncoder:
    """The encoder whose weights ``state`` holds in the layout of ``nystrom-attention``'s ``Nystromformer``.

    Parameters are those of :func:`from_nystrom_attention`, ``dropout`` that of attention and of feed-forward; so is
    what is equal to theirs.

    Raises
    ------
    CheckpointError
        No layers, or entries that have no place here, by name.
    """
    numbers = sorted({int(found[1]) for name in state if (found := re.match(r"layers\.(\d+)\.", name))})
    if numbers != list(range(len(numbers))) or not numbers:
        raise CheckpointError(f"layers numbered {numbers}, not from 0 without a gap")
    attentions, weights = [], {}
    for i in numbers:
        start = f"layers.{i}."
        part = {name.removeprefix(start): x for name, x in state.items() if name.startswith(start)}
        inner = {name.removeprefix("0.fn."): part.pop(name) for name in [*part] if name.startswith("0.fn.")}
        attentions.append(
            from_nystrom_attention(inner, heads=heads, landmarks=landmarks, pinv=pinv, dropout=dropout[0])
        )
        for name, x in part.items():
            place = next(
                (new + name.removeprefix(old) for old, new in _ENCODER.items() if name.startswith(old)), name
            )
            weights[start + place] = x
    up = weights["layers.0.up.weight"]
    encoder = PreNormEncoder(attentions, dim=up.shape[1], feed_forward=up.shape[0], dropout=dropout[1]).to(
        up.dtype
    )
    missing, unexpected = encoder.load_state_dict(weights, strict=False)
    unplaced = [name for name in missing if ".attention." not in name]
    if unplaced or unexpected:
        raise CheckpointError(f"missing {unplaced}, no place for {unexpected}")
    return encoder
