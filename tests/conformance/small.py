"""Small configurations of any architecture, by the names of their fields."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import transformers

from tests.conformance.hints import CONFIGS as HINTS

WIDTH, HEADS, GROUPS, LAYERS, WORDS = 32, 4, 2, 2, 128

UNSET = {"num_experts_per_tok": 2, "head_dim": WIDTH // HEADS}
"""Fields whose default may be None, and which are to be small anyway."""


RULES: list[tuple[str, Any]] = [
    # the first that matches the whole name
    (r"pad_token_id", 0),
    (r"bos_token_id|(forced_)?bos.*", 1),
    (r"eos_token_id", 2),
    (r"decoder_start_token_id", 1),
    (r".*vocab_size.*|vocab_size|char_vocab_size", WORDS),
    (r"num_key_value_heads|num_kv_heads|.*key_value_heads|linear_num_key_heads|index_n_groups", GROUPS),
    (
        r"(.*_)?(n_heads?|num_heads|attention_heads|num_attention_heads|heads)|linear_num_value_heads|index_n_heads",
        HEADS,
    ),
    (r"(.*_)?(num_hidden_layers|n_layers?|num_layers|layers|depth|num_blocks)", LAYERS),
    (
        r"(.*_)?(head_dim|qk_rope_head_dim|qk_nope_head_dim|v_head_dim|d_kv|kv_channels|head_dim_\w+|rotary_dim)",
        WIDTH // HEADS,
    ),
    (r".*lora_rank|.*_rank", 16),
    (r"(num_experts|n_routed_experts|num_local_experts|moe_num_experts|.*num_experts)", 4),
    (r"(num_experts_per_tok|moe_topk|moe_k|top_k|num_experts_per_token)", 2),
    (r"n_group|topk_group", 1),
    (r"max_source_positions", 32),
    (r"image_size|crop_size|pretrain_image_size", 32),
    (r"patch_size", 8),
    (
        r".*(intermediate|ffn|mlp_dim|feed_forward|d_ff|feedforward|dff|n_inner|ffn_dim|ff_dim).*(?<!ratio)(?<!mult)(?<!act)",
        2 * WIDTH,
    ),
    (
        r"(.*_)?(hidden_size|hidden_dim|d_model|n_embd|embed_dim|embedding_size|embedding_dim|emb_dim|projection_dim"
        r"|output_dim|out_dim|latent_dim|dim|classifier_proj_size|text_hidden_size|embed_size|hidden_size_\w+)",
        WIDTH,
    ),
]


def shrunk(name: str, value: Any) -> Any:
    """A small value of a field, or the value itself."""
    if isinstance(value, bool) or not isinstance(value, int):
        return value
    for pattern, small in RULES:
        if re.fullmatch(pattern, name):
            return min(value, small) if value > 0 else value
    return value


def _default(field: Any) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else None


def small_kwargs(cls: type, **given: Any) -> dict[str, Any]:
    kwargs: dict[str, Any] = {}
    names = {field.name for field in dataclasses.fields(cls)}
    for name, value in UNSET.items():
        if name in names:
            kwargs[name] = value
    if "kv_lora_rank" in names and "num_key_value_heads" in names:
        kwargs["num_key_value_heads"] = HEADS
    subs = set(getattr(cls, "sub_configs", {}) or {}) | set(getattr(cls, "sub_configs_defaults", {}) or {})
    for field in dataclasses.fields(cls):
        if field.name in subs or not field.init:
            continue
        old = _default(field)
        new = shrunk(field.name, old)
        if (new != old or type(new) is not type(old)) and field.name not in kwargs:
            kwargs[field.name] = new
    for name in subs:
        sub = sub_class(cls, name)
        if sub is not None:
            kwargs[name] = small_config(sub)
    return kwargs | HINTS.get(cls.__name__, {}) | given


def sub_class(cls: type, name: str) -> type | None:
    kind = (getattr(cls, "sub_configs", {}) or {}).get(name)
    spec = (getattr(cls, "sub_configs_defaults", {}) or {}).get(name)
    if kind is not None and kind is not transformers.AutoConfig and kind is not transformers.PretrainedConfig:
        return kind
    if spec is not None:
        return (
            type(spec.default_config)
            if spec.model_type and spec.config_class is transformers.AutoConfig
            else spec.config_class
        )
    return None


def small_config(cls: type, **given: Any) -> Any:
    """A small configuration with layers of every kind that the default one has."""
    kwargs = small_kwargs(cls, **given)
    config = cls(**kwargs)
    if "num_hidden_layers" not in kwargs or getattr(config, "layer_types", None) is None:
        return config
    kinds = set(cls().layer_types or ())
    for layers in range(LAYERS + 1, 13):
        if set(config.layer_types) >= kinds:
            return config
        config = cls(**kwargs | {"num_hidden_layers": layers})
    return config
