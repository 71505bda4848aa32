"""The ways to run an architecture: with padding, with caches, packed, by ``generate``, beyond the landmarks."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
import transformers
from torch import Tensor

from nystrom_numerics.errors import NystromError
from tests.conformance.hints import BESIDE_PADDING, INPUTS
from tests.conformance.inputs import candidates
from tests.conformance.pairs import RECORDERS, TOLERANCE, VISIBLE, Outcome, Pair, arguments, distance, tensors

N, PADDING = 20, 6
Inputs = dict[str, Any]
Run = Callable[[Any], list[Tensor]]


def find_inputs(model: Any) -> Inputs:
    """Inputs that the model with its own attention takes; a ``RuntimeError`` says what was tried."""
    made = INPUTS.get(type(model).__name__)
    failures = []
    for x in [made(model, N)] if made is not None else candidates(model, N):
        try:
            if call(x)(model):
                return x
            failures.append("no output of floating numbers")
        except Exception as error:  # whatever a model raises on inputs that it does not take
            failures.append(f"{type(error).__name__}: {str(error)[:80]}")
    needed = [k for k, p in arguments(model).items() if p.default is p.empty]
    raise RuntimeError("; ".join(dict.fromkeys(failures)) or f"nothing is known of its arguments {needed}")


def call(x: Inputs, **more: Any) -> Run:
    def run(model: Any) -> list[Tensor]:
        with torch.no_grad():
            return tensors(model(**_fit({**x, **more}, model)))

    return run


def _fit(x: Inputs, model: Any) -> Inputs:
    """Fresh copies, floating ones in the dtype of the model."""
    dtype = next(model.parameters()).dtype

    def fit(v: Any) -> Any:
        floats = isinstance(v, Tensor) and v.is_floating_point()
        return v.to(dtype, copy=True) if floats else copy.deepcopy(v)

    return {k: fit(v) for k, v in x.items()}


def examine(pair: Pair, whole: bool = True) -> Iterator[Outcome]:
    """All cases that the architecture has; or one, of a model that is part of another."""
    model = pair.own
    try:
        x = find_inputs(model)
    except RuntimeError as error:
        yield Outcome("plain", "absent", str(error))
        return
    try:
        pair.use("exact")
    except NystromError as error:
        yield Outcome("plain", "refused", str(error))
        return
    yield _visible(pair, pair.compare("plain", call(x)), x)
    if not whole:
        return
    if "attention_mask" in arguments(model) and "input_ids" in x:
        yield from _masks(pair, x)
    if "decoder_attention_mask" in arguments(model) and "input_ids" in x:
        yield from _targets(pair, x)
    if "past_key_values" in arguments(model) and "input_ids" in x and "decoder_input_ids" not in x:
        yield from _caches(pair, x)
    if model.can_generate() and "input_ids" in x:
        yield pair.compare("generate", _generate(x))
        yield pair.compare("generate, static cache", _generate(x, cache_implementation="static"))
    yield _weights(pair, x)
    pair.use("near")
    yield pair.compare("near field", call(x))
    pair.use("tangent")
    full = RECORDERS["tangent"].calls
    full.clear()
    yield pair.compare("tangents", call(x))
    if "input_ids" in x and "attention_mask" in arguments(model):
        pair.use("few")
        yield from _few(pair, x, "few", "few landmarks")
        if full["fully"]:  # causal attention is by tangents in both
            pair.use("few_tangent")
            yield from _few(pair, x, "few_tangent", "few tangents")


def _visible(pair: Pair, outcome: Outcome, x: Inputs) -> Outcome:
    """The outcome, unless attention that looks at nothing would have passed as well."""
    if outcome.verdict != "served":
        return outcome
    pair.use("blind")
    try:
        seen = distance(call(x)(pair.own), call(x)(pair.ours))
    except Exception:  # a blind attention of another shape is seen
        seen = float("inf")
    pair.use("exact")
    return outcome if seen > VISIBLE else replace(outcome, detail="attention does not show in the output")


def padded(x: Tensor, side: str) -> Tensor:
    """A mask that hides some tokens of the first text."""
    mask = torch.ones(x.shape[:2], dtype=torch.long)
    mask[0, slice(-PADDING, None) if side == "right" else slice(0, PADDING)] = 0
    return mask


def _masks(pair: Pair, x: Inputs) -> Iterator[Outcome]:
    for side in ("right", "left"):
        mask = padded(x["input_ids"], side)
        more = BESIDE_PADDING.get(type(pair.own).__name__, lambda mask: {})(mask)
        yield pair.compare(f"{side} padding", call(x, attention_mask=mask, **more), mask.bool(), True)
    if "decoder_input_ids" in x:
        return
    rows = torch.rand(2, 1, N, N, generator=torch.Generator().manual_seed(5)) < 0.5
    seen = rows | torch.eye(N, dtype=torch.bool)
    pairs = torch.where(seen, 0.0, torch.finfo(torch.float32).min)
    yield pair.compare("mask of pairs", call(x, attention_mask=pairs))
    if "position_ids" in arguments(pair.own):
        places = torch.cat([torch.arange(9), torch.arange(N - 9)])[None].expand(2, -1)
        more = {"use_cache": False} if "use_cache" in arguments(pair.own) else {}
        yield pair.compare("packed texts", call(x, position_ids=places, **more))


def _targets(pair: Pair, x: Inputs) -> Iterator[Outcome]:
    for side in ("right", "left"):
        mask = padded(x["decoder_input_ids"], side)
        yield pair.compare(
            f"target with {side} padding", call(x, decoder_attention_mask=mask), mask.bool(), True
        )
    yield pair.compare("shorter target", call(x, decoder_input_ids=x["decoder_input_ids"][:, : N - 7]))


def _caches(pair: Pair, x: Inputs) -> Iterator[Outcome]:
    def stepwise(cache: Callable[[Any], Any]) -> Run:
        def run(model: Any) -> list[Tensor]:
            past, found = cache(model), []
            for part in (slice(0, 11), slice(11, 17), slice(17, 18)):
                out = model(
                    **{**x, "input_ids": x["input_ids"][:, part]}, past_key_values=past, use_cache=True
                )
                past = out.past_key_values
                found += tensors(out)
            return found

        return run

    def static(model: Any) -> Any:
        return transformers.StaticCache(config=model.config.get_text_config(decoder=True), max_cache_len=50)

    yield pair.compare("dynamic cache", stepwise(lambda model: None))
    yield pair.compare("static cache", stepwise(static))


def _generate(x: Inputs, **more: Any) -> Run:
    """Greedy, from a text with padding on its left."""

    def run(model: Any) -> list[Tensor]:
        given = {k: v for k, v in x.items() if not k.startswith("decoder_")}
        given["attention_mask"] = padded(x["input_ids"], "left")
        model.generation_config.eos_token_id = None
        model.generation_config.pad_token_id = 0
        out = model.generate(
            **given,
            **more,
            max_new_tokens=4,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
            disable_compile=True,
        )
        return [out.sequences.double(), *out.logits]

    return run


def _weights(pair: Pair, x: Inputs) -> Outcome:
    return pair.compare("attention weights", call(x, output_attentions=True))


def _few(pair: Pair, x: Inputs, name: str, words: str) -> Iterator[Outcome]:
    """With fewer landmarks than tokens: what padding holds and what comes later changes nothing."""
    ids = x["input_ids"]
    for side in ("right", "left"):
        mask = padded(ids, side)
        other = torch.where(mask.bool(), ids, (ids + 7) % 50 + 5)
        more = BESIDE_PADDING.get(type(pair.own).__name__, lambda mask: {})(mask)
        runs = (call({**x, "input_ids": y}, attention_mask=mask, **more) for y in (ids, other))
        yield from _unchanged(f"{side} padding, {words}", pair, *runs, mask.bool(), name)
    later = "decoder_input_ids" if "decoder_input_ids" in x else "input_ids"
    changed = x[later].clone()
    changed[:, 12:] = (changed[:, 12:] + 7) % 50 + 5
    past = torch.zeros(x[later].shape, dtype=torch.bool)
    past[:, :12] = True
    yield from _unchanged(f"later tokens, {words}", pair, call(x), call({**x, later: changed}), past, name)


def _unchanged(case: str, pair: Pair, one: Run, other: Run, real: Tensor, name: str) -> Iterator[Outcome]:
    """That two runs agree on real tokens, where the model's own attention makes them agree."""
    try:
        if distance(one(pair.own), other(pair.own), real, True) > TOLERANCE:
            return
    except Exception as error:  # whatever a model raises by itself
        yield Outcome(case, "absent", f"{type(error).__name__}: {str(error)[:100]}")
        return
    calls = RECORDERS[name].calls
    calls.clear()
    try:
        gap = distance(one(pair.ours), other(pair.ours), real, True)
    except NystromError as error:
        yield Outcome(case, "refused", str(error))
        return
    except Exception as error:  # anything untyped is what the sweep looks for
        yield Outcome(case, "wrong", f"{type(error).__name__}: {str(error)[:100]}")
        return
    made = calls.pop("approximated", 0)
    calls.pop("fully", 0)
    if gap > 10 * TOLERANCE:
        yield Outcome(case, "wrong", f"changes by {gap:.1e}")
    else:
        yield Outcome(case, "served", f"{made} of {calls.total()} approximated")
