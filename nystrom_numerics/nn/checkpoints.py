"""Weights of other implementations: Hugging Face's Nyströmformer and the package nystrom-attention.

An entry has one place, a place has one entry, and shapes agree: whatever else a state holds is refused by name.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nystrom_numerics.arguments import (
    require_callable,
    require_choice,
    require_count,
    require_flag,
    require_instance,
    require_positive,
    require_tolerance,
)
from nystrom_numerics.attention import Pinv
from nystrom_numerics.errors import KindError, RangeError, ShapeError
from nystrom_numerics.extras import brought_by
from nystrom_numerics.nn.attention import NystromAttention
from nystrom_numerics.nn.encoder import (
    Nystromformer,
    NystromformerConfig,
    NystromformerForClassification,
    NystromformerForMaskedLM,
    PreNormEncoder,
)
from nystrom_numerics.nn.entries import CheckpointError, matrix_shape, require_entries, require_state
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


class ExactAttentionWarning(UserWarning):
    """A configuration named after Nyström that runs exact attention.

    Parameters
    ----------
    *args : str
        Which setting makes it exact.

    Examples
    --------
    >>> import warnings
    >>> from nystrom_numerics import nn
    >>> with warnings.catch_warnings(record=True) as told:
    ...     warnings.simplefilter("always")
    ...     config = nn.hugging_face_config({"model_type": "nystromformer"})  # by default exact
    >>> told[0].category is nn.ExactAttentionWarning, config.exact
    (True, True)
    """


# ---------------------------------------------------------------- Hugging Face

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": nn.functional.gelu,
    "gelu_new": nn.GELU("tanh"),
    "gelu_pytorch_tanh": nn.GELU("tanh"),
    "relu": nn.functional.relu,
}

# what stands where here, and in the published layout; `#` is the number of a layer
_EMBEDDINGS = {
    "embeddings.words.": "embeddings.word_embeddings.",
    "embeddings.positions.": "embeddings.position_embeddings.",
    "embeddings.types.": "embeddings.token_type_embeddings.",
    "embeddings.norm.": "embeddings.LayerNorm.",
}
_LAYER = {
    "attention.out.": "attention.output.dense.",
    "attention.": "attention.self.",
    "attention_norm.": "attention.output.LayerNorm.",
    "up.": "intermediate.dense.",
    "down.": "output.dense.",
    "norm.": "output.LayerNorm.",
}
_MASKED = {
    "dense.": "cls.predictions.transform.dense.",
    "norm.": "cls.predictions.transform.LayerNorm.",
    "bias": "cls.predictions.bias",
    "decoder": "cls.predictions.decoder.weight",
}
_CLASSES = {"dense.": "classifier.dense.", "out.": "classifier.out_proj."}
_DECODER, _BIAS, _SECOND_BIAS = (
    f"cls.predictions.{name}" for name in ("decoder.weight", "bias", "decoder.bias")
)

# settings under which theirs computes something else, with what they must be
_ONLY = {
    "model_type": "nystromformer",
    "is_decoder": False,
    "is_encoder_decoder": False,
    "add_cross_attention": False,
    "inv_coeff_init_option": False,
    "position_embedding_type": "absolute",
}


def hugging_face_config(config: Mapping[str, Any], /) -> NystromformerConfig:
    """The configuration that computes what Hugging Face's does, from its ``config.json`` as a mapping.

    The pseudoinverse is the paper's six iterations, started per matrix; theirs starts from a maximum over the batch,
    so a head agrees to rounding where the two bounds do (one head and one item always).  Dropout is theirs for
    hidden states; theirs for attention weights has no counterpart.  What is not given has their default.

    Parameters
    ----------
    config : mapping
        Their ``config.json``; what is not given has their default.

    Returns
    -------
    NystromformerConfig

    Raises
    ------
    CheckpointError
        A model of another type, or a setting that changes what is computed: a decoder, cross-attention, another
        start of the pseudoinverse.
    KindError, RangeError
        Naming the setting: a size that is none, an activation that is not known here, an even convolution.

    Warns
    -----
    ExactAttentionWarning
        ``num_landmarks`` equals ``segment_means_seq_len``, as in their defaults: theirs then runs exact attention, and
        the result here has ``exact=True``.  ``dataclasses.replace(config, exact=False)`` gives Nyström attention.

    Notes
    -----
    Cost: O(1).

    Examples
    --------
    >>> from nystrom_numerics import nn
    >>> theirs = {"model_type": "nystromformer", "num_landmarks": 32, "segment_means_seq_len": 512}
    >>> config = nn.hugging_face_config(theirs)
    >>> config.landmarks, config.exact
    (32, False)
    """
    require_instance("config", config, Mapping, "a mapping, as `config.json` holds")
    if not all(isinstance(name, str) for name in config):
        raise KindError("config", "a mapping with keys that are no strings", "the names of settings")
    require_flag("tie_word_embeddings", config.get("tie_word_embeddings", True))
    for name, only in _ONLY.items():
        if (given := config.get(name, only)) != only or type(given) is not type(only):
            raise CheckpointError(f"{name} is {given!r}; only {only!r} is computed here")

    def count(name: str, default: int, low: int = 1, high: int | None = None) -> int:
        return require_count(name, config.get(name, default), low, high)

    vocabulary, dim, heads = (
        count(name, default)
        for name, default in (("vocab_size", 30000), ("hidden_size", 768), ("num_attention_heads", 12))
    )
    if dim % heads:
        raise RangeError("num_attention_heads", f"{heads}", f"a divisor of `hidden_size`, {dim}")
    conv, pad = config.get("conv_kernel_size", 65), config.get("pad_token_id", 1)
    if conv is not None and count("conv_kernel_size", 65) % 2 == 0:
        raise RangeError("conv_kernel_size", f"{conv}", "an odd number, or None")
    m = count("num_landmarks", 64)
    exact = m == count("segment_means_seq_len", 64)
    if exact:
        warnings.warn(
            f"num_landmarks equals segment_means_seq_len ({m}): transformers runs exact attention for this "
            "configuration, and so does this model (exact=True); set exact=False for Nyström attention",
            ExactAttentionWarning,
            stacklevel=2,
        )
    activation = require_choice("hidden_act", config.get("hidden_act", "gelu_new"), _ACTIVATIONS)
    return NystromformerConfig(
        vocabulary=vocabulary,
        dim=dim,
        depth=count("num_hidden_layers", 12),
        heads=heads,
        feed_forward=count("intermediate_size", 3072),
        max_positions=count("max_position_embeddings", 510),
        pad_offset=2,
        types=count("type_vocab_size", 2),
        pad_id=None if pad is None else count("pad_token_id", 1, 0, vocabulary - 1),
        landmarks=m,
        exact=exact,
        pinv=razavi,
        conv_kernel=conv,
        activation=_ACTIVATIONS[activation],
        dropout=require_tolerance("hidden_dropout_prob", config.get("hidden_dropout_prob", 0.1)),
        eps=require_positive("layer_norm_eps", config.get("layer_norm_eps", 1e-5)),
    )


def from_hugging_face(
    location: str | Path, /, *, exact: bool | None = None
) -> Nystromformer | NystromformerForMaskedLM | NystromformerForClassification:
    """The model in a folder of Hugging Face's layout, or on their hub, such as ``uw-madison/nystromformer-512``.

    A folder holds ``config.json`` and ``model.safetensors`` or ``pytorch_model.bin``.

    Parameters
    ----------
    location : str or path
    exact : bool, optional
        As in :func:`from_hugging_face_state`.

    Returns
    -------
    Nystromformer, NystromformerForMaskedLM or NystromformerForClassification
        As from :func:`from_hugging_face_state`.

    Raises
    ------
    CheckpointError
        There is no such folder nor model, it holds no configuration or no weights, or they cannot be read.  Others as
        :func:`from_hugging_face_state`.
    KindError
        ``location`` is no path and no name.

    Notes
    -----
    Cost: the weights are read once, and copied.

    Examples
    --------
    >>> import tempfile
    >>> import transformers
    >>> from nystrom_numerics import nn
    >>> sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    >>> config = transformers.NystromformerConfig(vocab_size=30, **sizes, segment_means_seq_len=48, num_landmarks=8)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = transformers.NystromformerModel(config).save_pretrained(folder)
    ...     type(nn.from_hugging_face(folder)).__name__
    'Nystromformer'
    """
    folder = _folder(location)
    config, tensors, pickled = (
        folder / name for name in ("config.json", "model.safetensors", "pytorch_model.bin")
    )
    if not config.is_file() or not (tensors.is_file() or pickled.is_file()):
        raise CheckpointError(f"{folder} lacks config.json, or both model.safetensors and pytorch_model.bin")
    try:
        settings = json.loads(config.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{config} is no JSON that can be read: {error}") from error
    if not isinstance(settings, dict):
        raise CheckpointError(f"{config} holds a {type(settings).__name__}, not the settings of a model")
    state = _weights(tensors if tensors.is_file() else pickled)
    return from_hugging_face_state(settings, state, exact=exact)


def _folder(location: str | Path) -> Path:
    if not isinstance(location, (str, os.PathLike)) or not str(location):
        raise KindError(
            "location", f"a {type(location).__name__}", "a folder, or the name of a model on the hub"
        )
    folder = Path(location)
    if folder.is_dir():
        return folder
    if not isinstance(location, str):
        raise CheckpointError(f"there is no folder {location}")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(snapshot_download(location, allow_patterns=["*.json", "*.safetensors", "*.bin"]))
    except (OSError, HFValidationError, HfHubHTTPError) as error:
        raise CheckpointError(
            f"there is no folder {location!r}, and no such model could be had: {error}"
        ) from error


def _weights(file: Path) -> dict[str, Tensor]:
    """The tensors of a file; a pickle is read for tensors alone, and runs nothing."""
    reads_itself = file.suffix == ".safetensors"
    if reads_itself:
        with brought_by("models", "safetensors"):
            from safetensors.torch import load_file
    try:
        if reads_itself:
            return load_file(file)
        found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes these readers raise nearly anything
        raise CheckpointError(f"{file} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{file} holds a {type(found).__name__}, not tensors by name")
    return found


def from_hugging_face_state(
    config: Mapping[str, Any], state: Mapping[str, Tensor], /, *, exact: bool | None = None
) -> Nystromformer | NystromformerForMaskedLM | NystromformerForClassification:
    """The model whose weights ``state`` holds in Hugging Face's layout: bare, or with either of the two heads.

    Parameters
    ----------
    config : mapping
        Their ``config.json``, or ``model.config.to_dict()``; see :func:`hugging_face_config`.
    state : mapping of str to tensor
        Their weights by name, such as ``model.state_dict()``.  Output weights of their masked language model are the
        embeddings, or its own where ``tie_word_embeddings`` is false.
    exact : bool, optional
        Exact or Nyström attention, in place of what transformers would run.

    Returns
    -------
    Nystromformer, NystromformerForMaskedLM or NystromformerForClassification
        In evaluation mode, of the widest dtype of the entries.

    Raises
    ------
    CheckpointError
        Entries that have no place here, places that get no entry, another shape or no floating numbers, by name;
        tied weights that differ; positions or segments other than theirs.
    KindError, RangeError
        As :func:`hugging_face_config`.

    Notes
    -----
    Cost: a copy of the weights.

    Examples
    --------
    >>> import torch
    >>> import transformers
    >>> from nystrom_numerics import nn
    >>> sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    >>> config = transformers.NystromformerConfig(vocab_size=30, **sizes, segment_means_seq_len=48, num_landmarks=8)
    >>> theirs = transformers.NystromformerModel(config).eval()
    >>> ours = nn.from_hugging_face_state(config.to_dict(), theirs.state_dict())
    >>> ours(torch.arange(24)[None]).shape
    torch.Size([1, 24, 16])
    """
    c = hugging_face_config(config)
    if exact is not None:
        c = replace(c, exact=require_flag("exact", exact))
    require_instance("state", state, Mapping, "a mapping of names to tensors")
    prefix = "nystromformer." if any(str(name).startswith("nystromformer.") for name in state) else ""
    constants = {
        f"{prefix}embeddings.position_ids": torch.arange(c.max_positions) + c.pad_offset,
        f"{prefix}embeddings.token_type_ids": torch.zeros(c.max_positions),
    }
    dtype = require_state(state, constants)
    for name, constant in constants.items():
        if name in state and not _same(state[name], constant[None]):
            raise CheckpointError(f"{name} is not that of {c.max_positions} positions in order")
    model, head = _with_head(c, config, state)
    own, more = model.state_dict(), set(constants)
    places = {ours: _theirs(ours, prefix, head) for ours in own}
    if isinstance(model, NystromformerForMaskedLM):
        state = _one_bias(state, model.decoder is None, f"{prefix}embeddings.word_embeddings.weight")
        more.add(_DECODER)
    require_entries(state, {theirs: own[ours].shape for ours, theirs in places.items()}, more)
    model.to(dtype).load_state_dict({ours: state[theirs] for ours, theirs in places.items()})
    return model.eval()


def _with_head(
    c: NystromformerConfig, config: Mapping[str, Any], state: Mapping[str, Tensor]
) -> tuple[Nystromformer | NystromformerForMaskedLM | NystromformerForClassification, dict[str, str]]:
    """The model that the names of the entries are of, without their values, and the places of its head."""
    if any(name.startswith("cls.") for name in state):
        return NystromformerForMaskedLM(c, tied=bool(config.get("tie_word_embeddings", True))), _MASKED
    if any(name.startswith("classifier.") for name in state):
        classes, _ = matrix_shape(state, "classifier.out_proj.weight")
        return NystromformerForClassification(c, classes), _CLASSES
    return Nystromformer(c), {}


def _same(x: Tensor, y: Tensor) -> bool:
    return x.shape == y.shape and bool((x.cpu() == y.cpu()).all())


def _theirs(ours: str, prefix: str, head: Mapping[str, str]) -> str:
    """Where an entry of ours stands in the published layout."""
    if head and not ours.startswith("encoder."):
        start = next(start for start in head if ours.startswith(start))
        return head[start] + ours.removeprefix(start)
    ours = ours.removeprefix("encoder.")
    table, moved = _EMBEDDINGS, prefix
    if layer := re.match(r"layers\.(\d+)\.", ours):
        ours = ours.removeprefix(layer[0])
        table, moved = _LAYER, f"{prefix}encoder.layer.{layer[1]}."
    start = next(start for start in table if ours.startswith(start))
    return moved + table[start] + ours.removeprefix(start)


def _one_bias(state: Mapping[str, Tensor], tied: bool, words: str) -> dict[str, Tensor]:
    """The entries with one bias of the output in place of the two that theirs may hold.

    Tied, both biases and both matrices are one and must be equal.  Untied, theirs adds that of the decoder.
    """
    found = dict(state)
    second = found.pop(_SECOND_BIAS, None)
    if second is not None:
        if tied and _BIAS in found and not _same(found[_BIAS], second):
            raise CheckpointError(f"{_BIAS} and {_SECOND_BIAS} differ, though they are tied")
        found[_BIAS] = second
    if tied and _DECODER in found and words in found and not _same(found[_DECODER], found[words]):
        raise CheckpointError(f"{_DECODER} and {words} differ, though `tie_word_embeddings` is true")
    return found


# ---------------------------------------------------------------- nystrom-attention


def from_nystrom_attention(
    state: Mapping[str, Tensor], /, *, heads: int, landmarks: int, pinv: Pinv = razavi, dropout: float = 0.0
) -> NystromAttention:
    """The module whose weights ``state`` holds in the layout of the package ``nystrom-attention``.

    Equal to theirs for one item and one head without padding, at lengths above m that m divides; up to m the module
    here attends exactly, and theirs by its iterations.  Where theirs couples
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

    Returns
    -------
    NystromAttention
        In evaluation mode, of the widest dtype of the entries.

    Raises
    ------
    CheckpointError
        Entries that have no place here, places that get no entry, another shape or no floating numbers, by name.
    KindError, RangeError
        Naming the argument; an even convolution too: theirs changes the length of the sequence with it.
    ShapeError
        An inner width that ``heads`` does not divide.

    Notes
    -----
    Cost: a copy of the weights.

    Examples
    --------
    >>> import torch
    >>> from nystrom_numerics import nn
    >>> state = {
    ...     "to_qkv.weight": torch.randn(48, 16),
    ...     "to_out.0.weight": torch.randn(16, 16),
    ...     "to_out.0.bias": torch.zeros(16),
    ... }
    >>> nn.from_nystrom_attention(state, heads=2, landmarks=8)(torch.randn(1, 64, 16)).shape
    torch.Size([1, 64, 16])
    """
    heads, landmarks = require_count("heads", heads), require_count("landmarks", landmarks)
    require_callable("pinv", pinv)
    dropout = require_tolerance("dropout", dropout)
    dtype = require_state(state)
    width, dim = matrix_shape(state, "to_qkv.weight")
    if width % (3 * heads):
        raise ShapeError(
            "state", f"of {width} rows for q, k and v", f"three times a multiple of `heads`, {heads}"
        )
    inner = width // 3
    shapes: dict[str, tuple[int, ...]] = {
        "to_qkv.weight": (width, dim),
        "to_out.0.weight": (dim, inner),
        "to_out.0.bias": (dim,),
    }
    conv = state.get("res_conv.weight")
    if conv is not None:
        taps = conv.shape[-2] if conv.ndim == 4 else 1
        shapes["res_conv.weight"] = (heads, 1, taps, 1)
    require_entries(state, shapes)
    module = NystromAttention(
        dim,
        heads=heads,
        dim_head=inner // heads,
        landmarks=landmarks,
        pinv=pinv,
        conv_kernel=None if conv is None else conv.shape[-2],
        bias=(False, True),
        dropout=dropout,
    ).to(dtype)
    query, key, value = state["to_qkv.weight"].chunk(3)
    weights = {"query.weight": query, "key.weight": key, "value.weight": value}
    weights |= {"out.weight": state["to_out.0.weight"], "out.bias": state["to_out.0.bias"]}
    if conv is not None:
        weights["conv.weight"] = conv
    module.load_state_dict(weights)
    return module


_PRE_NORM = {"attention_norm.": "0.norm.", "norm.": "1.norm.", "up.": "1.fn.net.0.", "down.": "1.fn.net.3."}


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

    Equal to theirs where :func:`from_nystrom_attention` is.

    Parameters
    ----------
    state : mapping of str to tensor
        ``module.state_dict()`` of their ``Nystromformer``.
    heads, landmarks, pinv
        As in :func:`from_nystrom_attention`.
    dropout : tuple of two floats
        Of attention and of feed-forward.

    Returns
    -------
    PreNormEncoder
        In evaluation mode, of the widest dtype of the entries.

    Raises
    ------
    CheckpointError
        As :func:`from_nystrom_attention`; no layers too, or layers that are not numbered from 0 without a gap.
    KindError, RangeError, ShapeError
        As :func:`from_nystrom_attention`.

    Notes
    -----
    Cost: a copy of the weights.

    Examples
    --------
    >>> import torch
    >>> from nystrom_numerics import nn
    >>> d, layer = 16, "layers.0."
    >>> state = {
    ...     layer + "0.fn.to_qkv.weight": torch.randn(3 * d, d),
    ...     layer + "0.fn.to_out.0.weight": torch.randn(d, d),
    ...     layer + "0.fn.to_out.0.bias": torch.zeros(d),
    ...     layer + "1.fn.net.0.weight": torch.randn(4 * d, d),
    ...     layer + "1.fn.net.0.bias": torch.zeros(4 * d),
    ...     layer + "1.fn.net.3.weight": torch.randn(d, 4 * d),
    ...     layer + "1.fn.net.3.bias": torch.zeros(d),
    ... }
    >>> state |= {f"{layer}{i}.norm.{name}": torch.ones(d) for i in (0, 1) for name in ("weight", "bias")}
    >>> nn.from_nystrom_attention_encoder(state, heads=2, landmarks=8)(torch.randn(1, 64, d)).shape
    torch.Size([1, 64, 16])
    """
    if len(require_instance("dropout", dropout, (tuple, list), "two numbers in [0, 1)")) != 2:
        raise ShapeError("dropout", f"of {len(dropout)} numbers", "two: of attention and of feed-forward")
    shares = [require_tolerance("dropout", one) for one in dropout]
    dtype = require_state(state)
    numbers = sorted({int(found[1]) for name in state if (found := re.match(r"layers\.(\d+)\.", name))})
    if numbers != list(range(len(numbers))) or not numbers:
        raise CheckpointError(f"layers numbered {numbers[:8]}, not from 0 without a gap")
    attentions = []
    for i in numbers:
        start = f"layers.{i}.0.fn."
        part = {name.removeprefix(start): x for name, x in state.items() if name.startswith(start)}
        try:
            attentions.append(
                from_nystrom_attention(part, heads=heads, landmarks=landmarks, pinv=pinv, dropout=shares[0])
            )
        except CheckpointError as error:
            raise CheckpointError(f"in {start}*: {error}") from error
    feed_forward, dim = matrix_shape(state, "layers.0.1.fn.net.0.weight")
    if len({attention.conv is None for attention in attentions}) > 1:
        raise CheckpointError("missing res_conv.weight in some layers, not in all")
    widths = {attention.query.in_features for attention in attentions}
    if widths != {dim}:
        raise CheckpointError(f"attention of tokens of width {sorted(widths)}, and feed-forward of {dim}")
    encoder = PreNormEncoder(attentions, dim=dim, feed_forward=feed_forward, dropout=shares[1]).to(dtype)
    own = encoder.state_dict()
    places = {}
    for ours in own:
        _, number, rest = ours.split(".", 2)
        if not rest.startswith("attention."):  # whose entries are in place
            start = next(start for start in _PRE_NORM if rest.startswith(start))
            places[ours] = f"layers.{number}.{_PRE_NORM[start]}{rest.removeprefix(start)}"
    attention = [name for name in state if re.match(r"layers\.\d+\.0\.fn\.", name)]
    require_entries(state, {theirs: tuple(own[ours].shape) for ours, theirs in places.items()}, attention)
    encoder.load_state_dict({ours: state[theirs] for ours, theirs in places.items()}, strict=False)
    return encoder
