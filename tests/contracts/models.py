"""Tiny models, configurations and weights for the walk, each made once."""

from __future__ import annotations

import json
import tempfile
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nystrom_numerics import nn

WIDTH, TOKENS, VOCABULARY = 16, 12, 30


@cache
def states() -> Tensor:
    return torch.randn(2, TOKENS, WIDTH, generator=torch.Generator().manual_seed(1))


@cache
def ids() -> Tensor:
    return torch.randint(2, VOCABULARY, (2, TOKENS), generator=torch.Generator().manual_seed(2))


@cache
def mask() -> Tensor:
    return torch.arange(TOKENS).expand(2, -1) > 2


@cache
def config() -> nn.NystromformerConfig:
    return nn.NystromformerConfig(
        VOCABULARY, WIDTH, depth=1, heads=2, feed_forward=20, max_positions=24, landmarks=4, conv_kernel=3
    )


@cache
def attention() -> nn.NystromAttention:
    return nn.NystromAttention(WIDTH, heads=2, landmarks=4, conv_kernel=None)


@cache
def theirs() -> Any:
    import transformers

    sizes = {
        "vocab_size": VOCABULARY,
        "hidden_size": WIDTH,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 20,
        "max_position_embeddings": 24,
        "num_landmarks": 4,
        "segment_means_seq_len": 12,
        "conv_kernel_size": 3,
    }
    torch.manual_seed(0)
    return transformers.NystromformerForMaskedLM(transformers.NystromformerConfig(**sizes)).eval()


def theirs_config() -> dict[str, Any]:
    return theirs().config.to_dict()


def theirs_state() -> dict[str, Tensor]:
    return theirs().state_dict()


@cache
def folder() -> Path:
    """Weights in a folder; beside it folders with damaged ones."""
    place = Path(tempfile.mkdtemp(prefix="contract"))
    good = place / "good"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs().save_pretrained(good)
    (good / "empty").mkdir()
    (good / "empty" / "config.json").write_text("{}")
    weights, text = (good / "model.safetensors").read_bytes(), (good / "config.json").read_text("utf-8")
    damaged: dict[str, tuple[str | None, bytes | None]] = {
        "bad json": ("{nonsense", weights),
        "bad json, a list": ("[1, 2]", weights),
        "bad json, nested": ("[" * 100_000, weights),
        "bad weights": (text, b"nonsense"),
        "bad weights, cut": (text, weights[:-100]),
        "bad weights, none": (text, None),
        "bad configuration, none": (None, weights),
    }
    for word, (configuration, tensors) in damaged.items():
        (place / word).mkdir()
        if configuration is not None:
            (place / word / "config.json").write_text(configuration, "utf-8")
        if tensors is not None:
            (place / word / "model.safetensors").write_bytes(tensors)
    for word, pickled in (("bad pickle", b"nonsense"), ("bad pickle, a list", _pickle([1, 2]))):
        (place / word).mkdir()
        (place / word / "config.json").write_text(text, "utf-8")
        (place / word / "pytorch_model.bin").write_bytes(pickled)
    (place / "bad encoding").mkdir()
    (place / "bad encoding" / "config.json").write_bytes(b"\xff\xfe{")
    (place / "bad encoding" / "model.safetensors").write_bytes(weights)
    (place / "bad name" / "config.json").mkdir(parents=True)
    assert json.loads(text)
    return good


def _pickle(thing: Any) -> bytes:
    import io

    held = io.BytesIO()
    torch.save(thing, held)
    return held.getvalue()


@cache
def _peer() -> dict[str, Tensor]:
    from nystrom_attention import NystromAttention

    return NystromAttention(WIDTH, dim_head=8, heads=2, num_landmarks=4, residual_conv_kernel=3).state_dict()


def peer_state() -> dict[str, Tensor]:
    return dict(_peer())


@cache
def _peer_encoder() -> dict[str, Tensor]:
    from nystrom_attention import Nystromformer

    return Nystromformer(
        dim=WIDTH, depth=2, dim_head=8, heads=2, num_landmarks=4, attn_values_residual_conv_kernel=3
    ).state_dict()


def peer_encoder_state() -> dict[str, Tensor]:
    return dict(_peer_encoder())


@cache
def torch_encoder() -> Any:
    layer = torch.nn.TransformerEncoderLayer(WIDTH, 2, 20, dropout=0.0, batch_first=True)
    return torch.nn.TransformerEncoder(layer, 1).eval()


@cache
def bert() -> Any:
    import transformers

    sizes = {"vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return transformers.BertModel(transformers.BertConfig(**sizes, intermediate_size=16)).eval()
