"""What can be registered, which models can be switched, and what is said where not."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

transformers = pytest.importorskip("transformers", reason="transformers is absent")

from nystrom_numerics import attention, pinv  # noqa: E402
from nystrom_numerics.errors import ArgumentError, KindError, RangeError  # noqa: E402
from nystrom_numerics.integrations.transformers import (  # noqa: E402
    UnsupportedModelError,
    register_with_transformers,
    use_nystrom,
)
from nystrom_numerics.integrations.transformers.attention import NystromAttentionFunction  # noqa: E402
from nystrom_numerics.integrations.transformers.masks import mask_by_rule  # noqa: E402
from nystrom_numerics.integrations.transformers.switching import _attends_by_itself  # noqa: E402
from nystrom_numerics.landmarks import segment_means, strided  # noqa: E402
from nystrom_numerics.nn import ExactAttentionWarning  # noqa: E402

SMALL = {
    "vocab_size": 64,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 64,
}


def registered(name: str = "nystrom"):
    return transformers.AttentionInterface().get(name)


def test_what_is_registered_are_the_options_given():
    register_with_transformers()
    assert registered() == NystromAttentionFunction(
        64, None, None, False, segment_means, attention.ridge, None, False
    )
    assert transformers.AttentionMaskInterface()["nystrom"] is mask_by_rule
    solver, rule = partial(pinv.tikhonov, ridge=1e-3), partial(strided)
    register_with_transformers(
        "of_mine",
        m=np.int64(1),
        block=1,
        row_normalised=True,
        landmarks=rule,
        solver=solver,
        leave_out_dropout=True,
    )
    assert registered("of_mine") == NystromAttentionFunction(1, 1, None, True, rule, solver, None, True)
    assert type(registered("of_mine").m) is int
    register_with_transformers("of_mine", near=1, solver=solver)
    assert registered("of_mine") == NystromAttentionFunction(
        64, None, 1, False, segment_means, solver, None, False
    )
    register_with_transformers("of_mine", tangent=True)
    assert registered("of_mine") == replace(registered(), tangent=True)
    register_with_transformers("of_mine", pinv=pinv.svd)
    assert registered("of_mine").pinv is pinv.svd


NO_COUNT = (0, -1, 2.5, 2.0, "x", True, [4], float("nan"))
NO_FLAG = (0, 1, None, "yes")
WRONG = {
    "name": (
        *("my_flash", "paged_nystrom", "not_eager", "sdpa_2", "flexible", ["nystrom"]),
        None,
        3,
        "",
        "two words",
        "a|b",
        "org/kernel",
        "sdpa",
        "eager",
        "flash_attention_2",
        "flex_attention",
    ),
    "m": (*NO_COUNT, None),
    "block": NO_COUNT,
    "near": NO_COUNT,
    "row_normalised": NO_FLAG,
    "tangent": NO_FLAG,
    "landmarks": (None, 3, "strided"),
    "solver": (None, 3, "ridge"),
    "pinv": (3, "svd"),
    "leave_out_dropout": NO_FLAG,
    "error": (0.05, "x"),
}


@pytest.mark.parametrize(
    ("option", "value"), [(o, v) for o, vs in WRONG.items() for v in vs], ids=lambda x: repr(x)[:20]
)
def test_wrong_values_are_named(option, value):
    register_with_transformers(m=7)
    before, keys = registered(), set(transformers.AttentionInterface())
    with pytest.raises(ArgumentError) as caught:
        register_with_transformers(**{option: value})
    assert caught.value.argument == option
    assert isinstance(
        caught.value,
        KindError
        if option in ("landmarks", "solver", "pinv")
        or (value in NO_FLAG and option in ("row_normalised", "tangent", "leave_out_dropout"))
        else RangeError,
    )
    assert registered() is before
    assert set(transformers.AttentionInterface()) == keys


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"pinv": pinv.svd, "block": 4}, "pinv"),
        ({"pinv": pinv.svd, "near": 4}, "pinv"),
        ({"pinv": pinv.svd, "row_normalised": True}, "pinv"),
        ({"near": 4, "row_normalised": True}, "near"),
        ({"near": 4, "landmarks": strided}, "near"),
        ({"tangent": True, "near": 4}, "tangent"),
        ({"tangent": True, "row_normalised": True}, "tangent"),
        ({"tangent": True, "landmarks": strided}, "tangent"),
        ({"tangent": True, "solver": pinv.svd}, "tangent"),
        ({"tangent": True, "pinv": pinv.svd}, "tangent"),
    ],
)
def test_options_that_exclude_each_other(options, argument):
    with pytest.raises(RangeError) as caught:
        register_with_transformers(**options)
    assert caught.value.argument == argument


def test_a_name_of_somebody_else_is_not_taken():
    transformers.AttentionInterface.register("theirs", lambda *_: None)
    with pytest.raises(RangeError, match="`name` is 'theirs'"):
        register_with_transformers("theirs")


# ---------------------------------------------------------------- models


def bert(**options):
    return transformers.BertModel(transformers.BertConfig(**SMALL, **options)).eval()


def test_a_model_is_switched_and_returned():
    register_with_transformers("of_mine", m=4)
    model = bert()
    with warnings.catch_warnings():
        warnings.simplefilter("error", ExactAttentionWarning)
        assert use_nystrom(model, "of_mine").model is model
    assert model.config._attn_implementation == "of_mine"


@pytest.mark.parametrize(
    "model",
    [nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, batch_first=True), 1), None, "bert"],
    ids=type,
)
def test_what_is_no_model_of_transformers(model):
    register_with_transformers()
    with pytest.raises(KindError, match=r"`model` is .*; it needs a transformers\.PreTrainedModel"):
        use_nystrom(model)


@pytest.mark.parametrize("name", ["sdpa", "eager", "never_registered", "flash_attention_2", None])
def test_a_name_that_was_not_registered(name):
    register_with_transformers()
    model = bert()
    before = model.config._attn_implementation
    with pytest.raises(RangeError, match=f"`name` is {name!r}"):
        use_nystrom(model, name)
    assert model.config._attn_implementation == before


def test_a_model_with_attention_of_its_own():
    register_with_transformers()
    config = transformers.NystromformerConfig(**SMALL)
    with pytest.raises(UnsupportedModelError, match="NystromformerModel computes attention by itself"):
        use_nystrom(transformers.NystromformerModel(config))


def test_a_model_one_part_of_which_has_attention_of_its_own():
    register_with_transformers()
    config = transformers.EncoderDecoderConfig.from_encoder_decoder_configs(
        transformers.NystromformerConfig(**SMALL), transformers.BertConfig(**SMALL)
    )
    model = transformers.EncoderDecoderModel(config)
    with pytest.raises(UnsupportedModelError, match="NystromformerModel computes attention by itself"):
        use_nystrom(model)
    assert model.decoder.config._attn_implementation != "nystrom"


def test_a_model_none_of_whose_attention_goes_through_the_interface():
    """Its file has attention that does; the model is made without."""
    register_with_transformers()
    config = transformers.BambaConfig(
        **SMALL, num_key_value_heads=2, attn_layer_indices=[], mamba_n_heads=4, mamba_d_state=8
    )
    with pytest.raises(UnsupportedModelError, match="BambaModel computes attention by itself"):
        use_nystrom(transformers.BambaModel(config))


def test_a_model_some_of_whose_attention_goes_through_the_interface():
    register_with_transformers()
    config = transformers.LongT5Config(vocab_size=64, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    with pytest.warns(
        ExactAttentionWarning, match="LongT5Model has .* stays as it is: LongT5LocalAttention$"
    ):
        use_nystrom(transformers.LongT5Model(config))


class OwnAttention(nn.Module):
    def forward(self, q, k, v):
        return nn.functional.scaled_dot_product_attention(q, k, v)


class SoftAttention(nn.Module):
    def forward(self, q, k, v):
        return torch.softmax(q @ k.mT, dim=-1) @ v


class SwitchedAttention(nn.Module):
    """Its eager form beside what is looked up."""

    def forward(self, q, k, v):
        attend = transformers.AttentionInterface().get_interface(
            "nystrom", lambda q, k, v: (q @ k.mT).softmax(-1) @ v
        )
        return attend(q, k, v)


class Router(nn.Module):
    def forward(self, x):
        return torch.softmax(x, dim=-1)


def test_which_classes_attend_by_themselves():
    made = type("MadeAttention", (nn.Module,), {})
    classes = (OwnAttention, SoftAttention, SwitchedAttention, Router, made)
    assert [_attends_by_itself(kind) for kind in classes] == [True, True, False, False, False]


def test_a_warning_points_to_its_caller():
    register_with_transformers()
    config = transformers.LongT5Config(vocab_size=64, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    with pytest.warns(ExactAttentionWarning) as found:
        use_nystrom(transformers.LongT5Model(config))
    assert found[0].filename == __file__


def test_the_remedy_for_dropout_works_on_a_built_model():
    """As printed: nothing but the argument that the error names is added, and the same model trains."""
    register_with_transformers(m=4)
    model = use_nystrom(bert(attention_probs_dropout_prob=0.1, hidden_dropout_prob=0.0)).model.train()
    x = torch.randint(1, 64, (2, 12), generator=torch.Generator().manual_seed(0))
    with pytest.raises(
        UnsupportedModelError, match=r"register again with `(leave_out_dropout)=(True)`"
    ) as caught:
        model(x)
    remedy = str(caught.value).split("`")[1]
    register_with_transformers(m=4, **eval(f"dict({remedy})"))
    trained = model(x).last_hidden_state
    trained.sum().backward()
    torch.testing.assert_close(trained, model.eval()(x).last_hidden_state)
