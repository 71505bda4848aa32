"""Switching a model, or parts of it, and back: outputs are those from before to the bit."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
import torch

transformers = pytest.importorskip("transformers", reason="transformers is absent")

from nystrom_numerics.errors import ArgumentError, KindError, RangeError  # noqa: E402
from nystrom_numerics.integrations.transformers import (  # noqa: E402
    UnsupportedModelError,
    register_with_transformers,
    use_nystrom,
)
from nystrom_numerics.integrations.transformers.restoring import Switched, configurations  # noqa: E402
from tests.conformance.inputs import candidates  # noqa: E402
from tests.conformance.pairs import Pair, distance, tensors  # noqa: E402
from tests.conformance.small import small_config  # noqa: E402

ARCHITECTURES = (
    *("Bart", "Bert", "CLIP", "DistilBert", "GPT2", "Llama", "ModernBert", "Qwen3", "ViT", "Whisper"),
    *("Albert", "Gemma3Text", "Llava"),
)
"""Encoders, decoders, both, text beside images, shared layers, windows and a configuration inside another."""

M = 4


@pytest.fixture(autouse=True)
def registered():
    register_with_transformers(m=M, causal="exact")


def made(name, **given):
    """A small model with its own attention by Torch's kernel, and an input of it."""
    kind = getattr(transformers, f"{name}Model")
    model = Pair(kind, small_config(kind.config_class, **given)).own
    model.set_attn_implementation("sdpa")
    for x in candidates(model, 24):
        try:
            run(model, x)
        except Exception:
            continue
        return model, x
    raise AssertionError(f"no input is known for {name}")


@torch.no_grad()
def run(model, x):
    torch.manual_seed(0)
    found = tensors(model(**x))
    assert found
    return found


def same(a, b):
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def implementations(model):
    return {name: m.config._attn_implementation for name, m in model.named_modules() if hasattr(m, "config")}


def attentions(model):
    found: list[str] = []
    with use_nystrom(model, parts=lambda name, _: found.append(name) or True):
        return found


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_there_and_back(name):
    model, x = made(name)
    own, before = run(model, x), implementations(model)
    switched = use_nystrom(model)
    assert switched.model is model
    assert "nystrom" in implementations(model).values()
    changed = run(model, x)
    causal = name in ("GPT2", "Llama", "Qwen3", "Gemma3Text", "Llava")  # exact, by another kernel
    assert not same(changed, own) or causal
    switched.restore()
    assert implementations(model) == before
    assert same(run(model, x), own)
    switched.restore()
    assert same(run(model, x), own)


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("masks", ["sdpa", "eager"])
def test_a_part_there_and_back(name, masks):
    """One attention; with as many landmarks as tokens the model's own, whichever masks the model makes."""
    model, x = made(name)
    model.set_attn_implementation(masks)
    own, before = run(model, x), implementations(model)
    one = attentions(model)[-1]
    with use_nystrom(model, parts=[one]) as inside:
        assert inside is model
        now = implementations(model)
        assert {path for path in now if now[path] != before[path]} == {one}
        run(model, x)
    register_with_transformers(m=4096)
    with use_nystrom(model, parts=[one]):
        assert distance(own, run(model, x)) < 1e-4
    assert implementations(model) == before
    assert same(run(model, x), own)


def test_layers_that_are_not_switched_stay_to_the_bit():
    model, x = made("Bert")
    own = model(**x, output_hidden_states=True).hidden_states
    with use_nystrom(model, parts=["encoder.layer.1"]):
        found = model(**x, output_hidden_states=True).hidden_states
    assert torch.equal(found[1], own[1])
    assert not torch.equal(found[2], own[2])
    with use_nystrom(model, parts=lambda name, module: "layer.0." in name and not module.training):
        assert not torch.equal(model(**x, output_hidden_states=True).hidden_states[1], own[1])


def test_padding_in_a_part_changes_nothing():
    model, x = made("Bert")
    mask = torch.ones_like(x["input_ids"])
    mask[0, 15:] = 0
    other = torch.where(mask.bool(), x["input_ids"], 7)
    for masks in ("sdpa", "eager"):
        model.set_attn_implementation(masks)
        with use_nystrom(model, parts=["encoder.layer.0"]):
            one, two = (model(ids, mask).last_hidden_state[mask.bool()] for ids in (x["input_ids"], other))
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("masks", ["sdpa", "eager"])
def test_a_causal_part_tells_no_future(masks):
    """The mask that Torch's kernel gets there is none at all."""
    register_with_transformers(m=M, block=8)
    model, x = made("Llama")
    model.set_attn_implementation(masks)
    other = x["input_ids"].clone()
    other[:, 14:] = 9
    own = model(**x).last_hidden_state
    with use_nystrom(model, parts=["layers.0"]):
        one, two = (model(ids).last_hidden_state for ids in (x["input_ids"], other))
    torch.testing.assert_close(one[:, :14], two[:, :14], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(one[:, :8], own[:, :8], rtol=1e-4, atol=1e-5)
    assert (one - own).abs().max() > 1e-4


def test_an_exception_restores():
    model, x = made("Bert")
    own = run(model, x)
    with pytest.raises(UnsupportedModelError), use_nystrom(model):
        model(**x, output_attentions=True)
    assert same(run(model, x), own)


def test_switches_nest():
    register_with_transformers("by_tangents", m=M, tangent=True)
    model, x = made("Bert")
    own = run(model, x)
    with use_nystrom(model):
        outer = run(model, x)
        with use_nystrom(model, "by_tangents"):
            assert not same(run(model, x), outer)
        assert same(run(model, x), outer)
        with use_nystrom(model, "by_tangents", parts=["encoder.layer.0"]):
            inner = run(model, x)
            with use_nystrom(model, parts=["encoder.layer.0"]):
                assert same(run(model, x), outer)
            assert same(run(model, x), inner)
        assert same(run(model, x), outer)
    assert same(run(model, x), own)


def test_a_configuration_that_no_module_has_is_remembered_too():
    """Some models have one for modules that are no models of transformers, and switching reaches it."""
    inner = SimpleNamespace(_attn_implementation_internal="sdpa", sub_configs={})
    outer = SimpleNamespace(_attn_implementation_internal="eager", sub_configs={"text": None}, text=inner)
    module = torch.nn.Linear(1, 1)
    module.config = outer
    switched = Switched(module, tuple(configurations(module)))
    inner._attn_implementation_internal = outer._attn_implementation_internal = "nystrom"
    switched.restore()
    assert (outer._attn_implementation_internal, inner._attn_implementation_internal) == ("eager", "sdpa")
    assert repr(switched) == "Switched(Linear)"


# ---------------------------------------------------------------- causal parts


@pytest.mark.parametrize("name", ["CLIP", "Whisper", "Llama"])
def test_causal_parts_are_refused_and_the_remedies_work(name):
    """As printed: nothing but the argument that the error names is added, and the same model runs."""
    register_with_transformers(m=M)
    model, x = made(name)
    if name == "Whisper":
        x["decoder_input_ids"] = torch.arange(5, 15).expand(2, -1)
    own = run(model, x)
    with pytest.raises(UnsupportedModelError, match=r"asks for causal attention; register again") as caught:
        use_nystrom(model).model(**x)
    remedies = re.findall(r"`(\w+=[^`]+)`", str(caught.value))
    assert len(remedies) == 2
    for remedy in remedies:
        register_with_transformers(m=M, **eval(f"dict({remedy})"))
        found = run(model, x)
        if name == "Llama":  # all of it causal, and no longer than a block
            assert distance(own, found) < 1e-4


def test_parts_of_a_model_with_a_causal_one():
    register_with_transformers(m=M)
    model, x = made("CLIP")
    own = model(**x)
    with use_nystrom(model, parts=["vision_model"]):
        found = model(**x)
    assert torch.equal(found.text_embeds, own.text_embeds)
    assert not torch.equal(found.image_embeds, own.image_embeds)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("parts", "kind"),
    [
        ("encoder", KindError),
        (3, KindError),
        ([3], KindError),
        ([], RangeError),
        (["encoder.layer.7"], RangeError),
        (["encoder.layer.0", "embeddings"], RangeError),
        (["encoder.lay"], RangeError),
        (lambda *_: False, RangeError),
    ],
)
def test_wrong_parts(parts, kind):
    model, x = made("Bert")
    own, before = run(model, x), implementations(model)
    with pytest.raises(ArgumentError) as caught:
        use_nystrom(model, parts=parts)
    assert isinstance(caught.value, kind)
    assert caught.value.argument == "parts"
    assert implementations(model) == before
    assert same(run(model, x), own)


def test_the_attention_that_an_error_suggests_can_be_switched():
    model, _ = made("Bert")
    with pytest.raises(RangeError) as caught:
        use_nystrom(model, parts=["pooler"])
    use_nystrom(model, parts=re.findall(r"'([^']+)'", caught.value.needs)).restore()


def test_masks_that_are_not_read_and_the_remedy():
    model, x = made("Bert")
    own = run(model, x)
    model.config._attn_implementation_internal = "flash_attention_2"
    with pytest.raises(UnsupportedModelError, match="flash_attention_2") as caught:
        use_nystrom(model, parts=["encoder"])
    eval(re.findall(r"`([^`]+)`", str(caught.value))[0], {"model": model})
    with use_nystrom(model, parts=["encoder"]):
        assert not same(run(model, x), own)
    assert same(run(model, x), own)


def test_the_remedy_for_a_name():
    model, _ = made("Bert")
    with pytest.raises(RangeError, match=r"given to `register_with_transformers` before"):
        use_nystrom(model, "later")
    register_with_transformers("later")
    use_nystrom(model, "later").restore()
