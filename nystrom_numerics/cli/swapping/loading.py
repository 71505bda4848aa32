"""A model from a folder, and inputs for it from a file of text, speech or numbers of tokens."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nystrom_numerics.cli.errors import CommandError
from nystrom_numerics.extras import brought_by

__all__ = ["LOADERS", "Loaded", "SwapError", "loaded"]


class SwapError(CommandError):
    """A folder or file of which no swap can be made."""


@dataclass(frozen=True)
class Loaded:
    """A model, what it is called with, and what that is, in words.

    Of an encoder with a decoder ``judged`` is the encoder, and ``inputs`` are its own; ``whole`` is called with the
    first token of the decoder beside them.
    """

    whole: Any
    judged: Any
    inputs: dict[str, Any]
    beside: dict[str, Any]
    told: str


def loaded(folder: Path, kind: str, file: Path, most: int | None) -> Loaded:
    """The model of a folder and its inputs from a file: ``kind`` is a name of ``LOADERS``, ``most`` tokens at most.

    Nothing is fetched, and no code of the folder is run.
    """
    if not folder.is_dir():
        raise SwapError(f"{folder}: no folder; name one that `save_pretrained` has written")
    if not file.is_file():
        raise SwapError(f"--{kind} {file}: no such file")
    with brought_by("models"):
        import torch
        from transformers import AutoModel
        from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # what matters is said here, in one line
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    model = _of_folder(AutoModel, folder, "model", dtype=torch.float32).eval()
    context = getattr(model.config, "max_position_embeddings", None)
    limits = [x for x in (most, context) if isinstance(x, int) and x > 0]
    inputs, told = LOADERS[kind](folder, file, model, min(limits) if limits else None)
    if not model.config.is_encoder_decoder:
        return Loaded(model, model, inputs, {}, told)
    start = model.config.decoder_start_token_id
    beside = {"decoder_input_ids": torch.tensor([[0 if start is None else start]])}
    return Loaded(model, model.get_encoder(), inputs, beside, f"{told}, in the encoder")


def _of_folder(kind: Any, folder: Path, what: str, **options: Any) -> Any:
    try:
        return kind.from_pretrained(folder, local_files_only=True, **options)
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        reason = " ".join(str(error).split())
        raise SwapError(f"{folder}: no {what} that transformers can load: {reason:.300}") from error


def _text(folder: Path, file: Path, model: Any, most: int | None) -> tuple[dict[str, Any], str]:
    from transformers import AutoTokenizer

    tokenizer = _of_folder(AutoTokenizer, folder, "tokenizer")
    try:
        text = file.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise SwapError(f"--text {file}: not UTF-8: {error}") from error
    limit = {"truncation": True, "max_length": most} if most else {}
    all_of_it = len(tokenizer(text)["input_ids"])
    given = dict(tokenizer(text, return_tensors="pt", **limit))
    given.pop("token_type_ids", None)  # of one text, all alike
    return given, _of_tokens(int(given["input_ids"].shape[-1]), all_of_it, file)


def _ids(folder: Path, file: Path, model: Any, most: int | None) -> tuple[dict[str, Any], str]:
    import torch

    try:
        read = (
            np.load(file, allow_pickle=False)
            if file.suffix == ".npy"
            else json.loads(file.read_text("utf-8"))
        )
        ids = np.atleast_2d(np.asarray(read))
    except (ValueError, OSError) as error:
        raise SwapError(f"--ids {file}: neither .npy nor JSON of whole numbers: {error}") from error
    words = getattr(model.config.get_text_config(), "vocab_size", None)
    if ids.ndim != 2 or ids.dtype.kind not in "iu" or ids.size == 0:
        raise SwapError(
            f"--ids {file}: {ids.dtype} of shape {ids.shape}; needs whole numbers (tokens) or (texts, tokens)"
        )
    if ids.min() < 0 or (words is not None and ids.max() >= words):
        needs = "0 or more" if words is None else f"0 to {words - 1}"
        raise SwapError(f"--ids {file}: numbers from {ids.min()} to {ids.max()}; needs {needs}")
    some = ids[:, :most].astype(np.int64)
    return {"input_ids": torch.from_numpy(some)}, _of_tokens(some.shape[1], ids.shape[1], file, some.shape[0])


def _audio(folder: Path, file: Path, model: Any, most: int | None) -> tuple[dict[str, Any], str]:
    from scipy.io import wavfile
    from scipy.signal import resample_poly
    from transformers import AutoFeatureExtractor

    extractor = _of_folder(AutoFeatureExtractor, folder, "feature extractor")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", wavfile.WavFileWarning)  # of notes beside the sound
            rate, wave = wavfile.read(file)
    except ValueError as error:
        raise SwapError(f"--audio {file}: no WAV file: {error}") from error
    loudest = float(np.iinfo(wave.dtype).max) if wave.dtype.kind == "i" else 1.0
    mono = wave.astype(np.float32).reshape(len(wave), -1).mean(axis=1) / loudest
    wanted = extractor.sampling_rate
    given = dict(extractor(resample_poly(mono, wanted, rate), sampling_rate=wanted, return_tensors="pt"))
    given.pop("attention_mask", None)
    return given, f"{len(mono) / rate:.1f} s of {file.name}"


def _of_tokens(taken: int, there: int, file: Path, texts: int = 1) -> str:
    of = f" of {there:,}" if there > taken else ""
    rows = f"{texts} texts of " if texts > 1 else ""
    return f"{rows}{taken:,}{of} tokens of {file.name}"


LOADERS: dict[str, Callable[[Path, Path, Any, int | None], tuple[dict[str, Any], str]]] = {
    "text": _text,
    "audio": _audio,
    "ids": _ids,
}
"""Inputs by the options that name their file."""
