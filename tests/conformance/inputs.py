"""Inputs for any architecture, by the names of the arguments of its ``forward``."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

BATCH = 2


def draw(*shape: int, seed: int = 3) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tokens(batch: int, n: int, high: int = 60, seed: int = 3) -> Tensor:
    return torch.randint(5, high, (batch, n), generator=torch.Generator().manual_seed(seed))


def pair(x: Any) -> tuple[int, int]:
    if isinstance(x, (list, tuple)):
        return (x[-2], x[-1]) if len(x) > 1 else (x[0], x[0])
    return (x, x)


def first(config: Any, *names: str, default: Any = None) -> Any:
    """The first of these that the configuration, or one inside it, has."""
    for name in names:
        value = getattr(config, name, None)
        if value is not None:
            return value
    for sub in getattr(config, "sub_configs", {}) or {}:
        inner = getattr(config, sub, None)
        if inner is not None and not isinstance(inner, dict):
            value = first(inner, *names)
            if value is not None:
                return value
    return default


def arguments(model: Any) -> dict[str, inspect.Parameter]:
    found = dict(inspect.signature(model.forward).parameters)
    return {k: v for k, v in found.items() if v.kind not in (v.VAR_KEYWORD, v.VAR_POSITIONAL)}


def images(config: Any) -> Tensor:
    h, w = pair(first(config, "image_size", default=96))
    return draw(BATCH, channels(config), h, w)


def channels(config: Any) -> int:
    return first(config, "num_channels", "in_channels", "in_chans", default=3)


def videos(config: Any) -> Tensor:
    h, w = pair(first(config, "image_size", "crop_size", default=32))
    frames = first(config, "num_frames", "frames_per_clip", default=4)
    return draw(BATCH, frames, channels(config), h, w)


def patches(config: Any, frames: int) -> Tensor:
    """Two images of 4 × 4 patches, laid out one patch a row."""
    size = first(config, "patch_size", default=8)
    h, w = pair(size)
    return draw(2 * 16, channels(config) * frames * h * w)


GRID = torch.tensor([[1, 4, 4], [1, 4, 4]])


def candidates(model: Any, n: int) -> Iterator[dict[str, Any]]:
    """Inputs to try, most likely first."""
    takes, config = arguments(model), model.config
    needed = {k for k, v in takes.items() if v.default is inspect.Parameter.empty}
    base: dict[str, Any] = {}
    if "input_ids" in takes:
        base["input_ids"] = tokens(BATCH, n)
    if "decoder_input_ids" in takes:
        base["decoder_input_ids"] = tokens(BATCH, n, seed=4)
    if "bbox" in takes:
        corner = torch.randint(0, 400, (BATCH, n, 2), generator=torch.Generator().manual_seed(7))
        base["bbox"] = torch.cat([corner, corner + 100], dim=-1)
    main = model.main_input_name
    missing = (needed | ({main} if main in takes and not base else set())) - set(base)
    width = first(config, "hidden_size", "d_model", "embed_dim", "n_embd", default=32)
    embeds = draw(BATCH, n, width if isinstance(width, int) else 32)
    if not missing:
        yield base
        if ("input_features" in takes and "input_features" not in base) or "input_values" in takes:
            missing = {k for k in ("input_features", "input_values") if k in takes}
    if not missing:
        if "decoder_input_ids" in base and "input_ids" in base:
            yield {"decoder_input_ids": base["decoder_input_ids"]}
        if "input_ids" in base and "pixel_values" in takes:
            yield {**base, "pixel_values": images(config)}
        if "use_cache" in takes:
            yield {**base, "use_cache": False}
        if "encoder_hidden_states" in takes:
            yield {**base, "encoder_hidden_states": embeds}
        if "inputs_embeds" in takes:
            yield {"inputs_embeds": embeds}
        return
    grid = next((k for k in takes if k in ("grid_thw", "image_grid_thw")), None)
    options: dict[str, list[Any]] = {}
    for name in missing - {"attention_mask", "input_features_mask", "padding_mask"}:
        if (
            name in ("pixel_values", "hidden_states", "pixel_values_videos")
            and grid is not None
            and grid in needed
        ):
            frames = first(config, "temporal_patch_size", "patch_temporal", default=1)
            h, w = pair(first(config, "patch_size", default=8))
            options[name] = [patches(config, frames), patches(config, 2), patches(config, 1)]
            options[name] += [draw(32, channels(config), h, w), draw(1, 32, channels(config), h, w)]
        elif name == "pixel_values":
            options[name] = [images(config), videos(config)]
        elif name == "pixel_values_videos":
            options[name] = [videos(config)]
        elif name == "input_values":
            options[name] = [
                draw(BATCH, 2000),
                draw(BATCH, 1, 2000),
                draw(BATCH, 64, 128),
                draw(BATCH, 1, 64, 128),
            ]
        elif name == "input_features":
            mel = first(
                config, "num_mel_bins", "feature_size", "input_feat_per_channel", "mel_bins", default=80
            )
            wide = first(config, "feature_projection_input_dim", default=160)
            options[name] = [
                draw(BATCH, mel, 64),
                draw(BATCH, 64, mel),
                draw(BATCH, 64, wide),
                draw(BATCH, 1, 64, mel),
                draw(BATCH, 64, 2 * mel),
            ]
        elif name in ("hidden_states", "inputs_embeds", "encoder_hidden_states", "query_embeds"):
            options[name] = [embeds]
        elif name == grid:
            options[name] = [GRID]
        elif name == "past_values":
            length = first(config, "context_length", default=32)
            options[name] = [draw(BATCH, length, first(config, "num_input_channels", default=1))]
        else:
            return
    for masked in (False, True):
        for i in range(max(map(len, options.values()))):
            x = {k: v[min(i, len(v) - 1)] for k, v in options.items()}
            if masked:
                length = 64 if "input_features" in x else 2000
                names = [k for k in ("attention_mask", "input_features_mask", "padding_mask") if k in takes]
                x |= {k: torch.ones(BATCH, length, dtype=torch.long) for k in names}
            yield {**base, **x}
