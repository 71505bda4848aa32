"""Budgets of heads: those that `choose` gives on what they meet, kept with the model, used by whoever loads it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers

from nystrom_numerics import attention, errors
from nystrom_numerics.integrations.transformers import (
    UnsupportedModelError,
    calibrate,
    compare,
    register_with_transformers,
    use_nystrom,
)
from nystrom_numerics.integrations.transformers.comparing import drift_of
from nystrom_numerics.integrations.transformers.visiting import visited

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32}
N = 160


def bert(kind=transformers.BertModel, seed=0):
    torch.manual_seed(seed)
    config = transformers.BertConfig(
        vocab_size=64, max_position_embeddings=256, initializer_range=0.3, **SIZES
    )
    return kind(config).eval()


def llama():
    torch.manual_seed(0)
    config = transformers.LlamaConfig(vocab_size=64, num_key_value_heads=2, initializer_range=0.3, **SIZES)
    return transformers.LlamaModel(config).eval()


def tokens(*shape, seed=0):
    return {"input_ids": torch.from_numpy(np.random.default_rng(seed).integers(1, 64, shape))}


def mixed(model, inputs, **options):
    """A calibration whose heads differ: the tolerance is met by some of them only with more."""
    uppers = sorted(head.upper for head in calibrate(model, inputs, error=10.0, dearer=1, **options).heads)
    return calibrate(model, inputs, error=float(np.mean(uppers[3:5])), dearer=1, **options)


def by_budgets(model, inputs, calibration):
    """The model's output with every head approximated by itself, with its budget."""
    given = {(head.layer, head.head): head.m for head in calibration.heads}

    def see(place, tokens):
        m = given[place.layer, place.head]
        return tokens.approximated("causal" if tokens.causal else "tangent", m)[0] if m else None

    return visited(model, inputs, see)


def test_budgets_are_those_of_choose():
    model, inputs = bert(), tokens(1, N)
    found = mixed(model, inputs, rows=N)
    seen = {}
    visited(model, inputs, lambda place, tokens: seen.setdefault((place.layer, place.head), tokens) and None)
    assert {(head.layer, head.head) for head in found.heads} == set(seen)
    assert len({head.m for head in found.heads}) > 1
    for head in found.heads:
        own = seen[head.layer, head.head]
        told = attention.choose(
            own.q, own.k, own.v, error=found.error, scale=own.scale, dearer=1, rows=N, rng=0
        )
        assert head.m == int(told.m)
        assert head.entries == pytest.approx(int(told.entries) / N**2)
        assert head.upper == pytest.approx(float(told.upper), rel=1e-6)


@pytest.mark.parametrize("make", [bert, llama])
def test_every_head_attends_with_its_own(make):
    model, inputs = make(), tokens(2, 240)
    options = {"budgets": (8, 32, 64)} if make is llama else {}
    found = mixed(model, inputs, **options)
    assert len({head.m for head in found.heads}) > 1, "this test is of heads that differ"
    expected = by_budgets(model, inputs, found)
    register_with_transformers("calibrated", m=4)
    with torch.no_grad():
        exact = model(**inputs)[0]
        with use_nystrom(model, "calibrated"):
            got = model(**inputs)[0]
        assert torch.equal(model(**inputs)[0], exact)
    assert drift_of(got, expected) < 1e-5
    assert drift_of(exact, expected) > 1e-3


def test_of_several_texts_the_one_that_asks_most_counts():
    model, inputs = bert(), tokens(2, N)
    both = calibrate(model, inputs, error=0.5, dearer=1, rows=N)
    alone = [
        calibrate(model, {"input_ids": inputs["input_ids"][i : i + 1]}, error=0.5, dearer=1, rows=N)
        for i in range(2)
    ]
    for head, *others in zip(both.heads, *(one.heads for one in alone), strict=True):
        budgets = [other.m for other in others]
        assert head.m == (0 if 0 in budgets else max(budgets))


def test_a_tolerance_that_none_meets_leaves_the_model_exact():
    model, inputs = bert(), tokens(1, N)
    found = calibrate(model, inputs, error=1e-9)
    assert {head.m for head in found.heads} == {0}
    assert found.entries == 1.0
    assert str(found) == "8 heads within 1e-09: none approximated, 8 exact; 100.0% of the entries"
    register_with_transformers("calibrated", m=4)
    with torch.no_grad():
        exact = model(**inputs)[0]
        with use_nystrom(model, "calibrated"):
            assert drift_of(model(**inputs)[0], exact) < 1e-6


def test_saved_and_loaded_with_the_model_with_another_head_too(tmp_path):
    model, inputs = bert(), tokens(1, N)
    found = mixed(model, inputs)
    expected = by_budgets(model, inputs, found)
    model.save_pretrained(tmp_path)
    register_with_transformers("calibrated", m=4)
    loaded = transformers.BertModel.from_pretrained(tmp_path).eval()
    with torch.no_grad(), use_nystrom(loaded, "calibrated"):
        assert drift_of(loaded(**inputs)[0], expected) < 1e-5
    classifier = transformers.BertForSequenceClassification.from_pretrained(tmp_path).eval()
    with torch.no_grad(), use_nystrom(classifier, "calibrated"):
        hidden = classifier(**inputs, output_hidden_states=True).hidden_states[-1]
    assert drift_of(hidden, expected) < 1e-5


def test_budgets_that_layers_were_not_given_are_not_passed_over(tmp_path):
    model, inputs = bert(), tokens(1, N)
    calibrate(model, inputs, error=0.5, dearer=1)
    model.save_pretrained(tmp_path)
    register_with_transformers("calibrated", m=4)
    loaded = transformers.BertModel.from_pretrained(tmp_path, attn_implementation="calibrated").eval()
    with pytest.raises(UnsupportedModelError, match="use_nystrom"):
        loaded(**inputs)
    use_nystrom(loaded, "calibrated")
    loaded(**inputs)


def test_two_towers_keep_each_its_own(tmp_path):
    torch.manual_seed(0)
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.CLIPConfig(
        text_config={**small, "vocab_size": 64, "max_position_embeddings": 128, "eos_token_id": 63},
        vision_config={**small, "image_size": 40, "patch_size": 4},
        projection_dim=8,
    )
    model = transformers.CLIPModel(config).eval()
    inputs = {**tokens(1, 96), "pixel_values": torch.randn(1, 3, 40, 40)}
    found = calibrate(model, inputs, error=1.0, dearer=1)
    assert {head.layer.split(".")[0] for head in found.heads} == {"text_model", "vision_model"}
    model.save_pretrained(tmp_path)
    loaded = transformers.CLIPModel.from_pretrained(tmp_path).eval()
    for tower in ("text_model", "vision_model"):
        expected = [head.m for head in found.heads if head.layer.startswith(tower)]
        kept = getattr(loaded.config, tower.replace("model", "config")).nystrom_budgets
        assert list(kept["layers"].values()) == [expected]
    assert {head.m for head in found.heads} == {0, 16}, "the text is one causal block"
    register_with_transformers("calibrated", m=4)
    with torch.no_grad(), use_nystrom(loaded, "calibrated"):
        loaded(**inputs)


def test_parts_alone(tmp_path):
    """The layer that is switched has its budgets; the other stays to the bit what it was."""
    model, inputs = bert(), tokens(1, N)
    calibrate(model, inputs, error=0.5, dearer=1)
    register_with_transformers("calibrated", m=4)
    with torch.no_grad():
        exact = model(**inputs, output_hidden_states=True).hidden_states
        with use_nystrom(model, "calibrated", parts=["encoder.layer.1"]):
            got = model(**inputs, output_hidden_states=True).hidden_states
    assert torch.equal(exact[1], got[1])
    assert drift_of(got[2], exact[2]) > 1e-6


def test_judging_a_calibrated_model_judges_its_exact_attention():
    model, inputs = bert(), tokens(1, N)
    before = compare(model, inputs, [("tangent", 16)], rows=N)
    calibrate(model, inputs, error=0.5, dearer=1)
    after = compare(model, inputs, [("tangent", 16)], rows=N)
    assert before == after


def test_short_texts_are_exact():
    model, inputs = bert(), tokens(1, N)
    calibrate(model, inputs, error=2.0, dearer=1)
    register_with_transformers("calibrated", m=4)
    short = tokens(1, 12)
    with torch.no_grad():
        exact = model(**short)[0]
        with use_nystrom(model, "calibrated"):
            assert drift_of(model(**short)[0], exact) < 1e-6


def test_as_a_frame():
    found = calibrate(bert(), tokens(1, N), error=0.5, dearer=1)
    frame = found.to_frame()
    assert list(frame) == ["layer", "head", "m", "upper", "entries"]
    assert len(frame) == 8
    assert found.entries == pytest.approx(frame["entries"].mean())


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"model": 3}, "model"),
        ({"inputs": [1]}, "inputs"),
        ({"error": 0.0}, "error"),
        ({"error": float("nan")}, "error"),
        ({"budgets": (3, 2)}, "budgets"),
        ({"dearer": 0}, "dearer"),
        ({"rows": 3}, "rows"),
        ({"failure": 1.0}, "failure"),
        ({"rng": "x"}, "rng"),
    ],
)
def test_bad_arguments(arguments, named):
    given = {"model": bert(), "inputs": tokens(1, 40), **arguments}
    with pytest.raises(errors.NystromError, match=f"`{named}`"):
        calibrate(given.pop("model"), given.pop("inputs"), **given)
