"""transformers models under attn_implementation="nystrom": equal where they must be, refused by name elsewhere."""

from __future__ import annotations

from functools import partial

import pytest
import torch

transformers = pytest.importorskip("transformers", reason="transformers is absent")

from nystrom_numerics import pinv  # noqa: E402
from nystrom_numerics.errors import RangeError, ShapeError  # noqa: E402
from nystrom_numerics.integrations.transformers import (  # noqa: E402
    UnsupportedModelError,
    register_with_transformers,
    use_nystrom,
)
from nystrom_numerics.landmarks import strided  # noqa: E402

N, M = 48, 8
SMALL = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "max_position_embeddings": 128,
}


@pytest.fixture(autouse=True)
def registered():
    torch.manual_seed(0)
    register_with_transformers(m=M)


def bert(implementation: str, **options):
    torch.manual_seed(1)
    config = transformers.BertConfig(**SMALL, **options, attention_probs_dropout_prob=0.0)
    return transformers.AutoModel.from_config(config, attn_implementation=implementation).eval()


def llama(implementation: str, **options):
    torch.manual_seed(1)
    config = transformers.LlamaConfig(**SMALL, num_key_value_heads=2, **options)
    return transformers.AutoModelForCausalLM.from_config(config, attn_implementation=implementation).eval()


def ids(n=N, batch=2):
    return torch.randint(1, 64, (batch, n), generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def test_all_tokens_as_landmarks_give_the_models_own_attention():
    """m = n - 1 goes through Nyström; the last layer's states differ by the filter alone; at m >= n by rounding."""
    x = ids()
    own = bert("eager")(x).last_hidden_state
    register_with_transformers(m=N)
    torch.testing.assert_close(bert("nystrom")(x).last_hidden_state, own, rtol=1e-4, atol=1e-5)
    register_with_transformers(m=N - 1, solver=partial(pinv.rank_revealing, rtol=1e-4))
    got = bert("nystrom")(x).last_hidden_state
    assert torch.linalg.norm(got - own) < 0.05 * torch.linalg.norm(own)


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, {"row_normalised": True}, {"near": 16}], ids=str)
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_of_either_side_changes_nothing(side, options):
    register_with_transformers(m=M, **options)
    model, x = bert("nystrom"), ids()
    pad = torch.full((2, 9), 5)
    mask = torch.ones(2, N + 9, dtype=torch.long)
    places = torch.arange(N + 9).expand(2, -1)
    if side == "right":
        padded, mask[:, N:], real = torch.cat([x, pad], 1), 0, slice(0, N)
    else:
        padded, mask[:, :9], real = torch.cat([pad, x], 1), 0, slice(9, None)
        places = (places - 9).clamp_min(0)
    got = model(padded, attention_mask=mask, position_ids=places).last_hidden_state[:, real]
    torch.testing.assert_close(got, model(x).last_hidden_state, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_attention_is_in_use_and_no_item_knows_its_batch_mates():
    model, x = bert("nystrom"), ids(batch=3)
    together = model(x).last_hidden_state
    assert torch.linalg.norm(together - bert("eager")(x).last_hidden_state) > 1e-3
    torch.testing.assert_close(model(x[1:2]).last_hidden_state, together[1:2], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_near_field_as_long_as_the_text_is_the_models_own_attention_and_a_shorter_one_is_nearer_than_none():
    x = ids()
    own = bert("eager")(x).last_hidden_state
    distances = []
    for options in ({"near": N}, {"near": N - 1}, {"near": 16}, {}):
        register_with_transformers(m=4, **options)
        distances.append(float(torch.linalg.norm(bert("nystrom")(x).last_hidden_state - own)))
    assert distances[0] < 1e-4
    assert distances[0] < distances[1] < distances[2] < distances[3], distances


@torch.no_grad()
def test_causal_models_with_grouped_heads():
    """The first block is exact; no logit depends on later tokens; generation runs on the cache."""
    register_with_transformers(m=M, block=16)
    model, x = llama("nystrom"), ids()
    logits = model(x).logits
    torch.testing.assert_close(logits[:, :16], llama("eager")(x).logits[:, :16], rtol=1e-4, atol=1e-5)
    changed = x.clone()
    changed[:, 20:] = 1
    torch.testing.assert_close(model(changed).logits[:, :20], logits[:, :20], rtol=1e-4, atol=1e-5)
    assert model.generate(x, max_new_tokens=2, do_sample=False, pad_token_id=0).shape == (2, N + 2)


@torch.no_grad()
def test_cross_attention():
    torch.manual_seed(1)
    config = transformers.BertConfig(**SMALL, is_decoder=True, add_cross_attention=True)
    register_with_transformers(m=M, block=64)
    model = transformers.BertModel(config).eval()
    model.set_attn_implementation("nystrom")
    states, mask = torch.randn(2, 20, 32), torch.ones(2, 20, dtype=torch.long)
    mask[:, 15:] = 0
    got = model(ids(), encoder_hidden_states=states, encoder_attention_mask=mask).last_hidden_state
    states[:, 15:] = 7
    again = model(ids(), encoder_hidden_states=states, encoder_attention_mask=mask).last_hidden_state
    torch.testing.assert_close(got, again, rtol=1e-4, atol=1e-5)


def test_training_reaches_every_parameter():
    model = bert("nystrom").train()
    model(ids()).last_hidden_state.square().sum().backward()
    layer = model.encoder.layer[0].attention.self
    for projection in (layer.query, layer.key, layer.value):
        assert torch.isfinite(projection.weight.grad).all()
        assert projection.weight.grad.abs().max() > 0


# ---------------------------------------------------------------- refused by name


def test_a_causal_model_without_blocks_is_refused():
    with pytest.raises(UnsupportedModelError, match="LlamaAttention of model 'llama' asks for causal"):
        llama("nystrom")(ids())


def test_a_sliding_window_is_refused():
    register_with_transformers(m=M, block=16)
    config = transformers.MistralConfig(**SMALL, num_key_value_heads=2, sliding_window=8)
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="nystrom")
    with pytest.raises(UnsupportedModelError, match="model 'mistral'"):
        model(ids())


def test_dropout_of_weights_is_refused_in_training_only():
    torch.manual_seed(1)
    config = transformers.BertConfig(**SMALL, attention_probs_dropout_prob=0.1)
    model = transformers.AutoModel.from_config(config, attn_implementation="nystrom")
    model.eval()(ids())
    with pytest.raises(UnsupportedModelError, match="dropout"):
        model.train()(ids())


def test_a_mask_of_pairs_is_refused():
    mask = torch.zeros(2, 1, N, N)
    with pytest.raises((UnsupportedModelError, ShapeError), match="mask"):
        bert("nystrom")(ids(), attention_mask=mask)


def test_a_model_with_attention_of_its_own_is_refused():
    config = transformers.NystromformerConfig(**SMALL)
    model = transformers.NystromformerModel(config)
    with pytest.raises(UnsupportedModelError, match="NystromformerModel"):
        use_nystrom(model)


@torch.no_grad()
def test_use_nystrom_switches_a_loaded_model():
    model = use_nystrom(bert("eager"))
    torch.testing.assert_close(model(ids()).last_hidden_state, bert("nystrom")(ids()).last_hidden_state)


BAD = (
    {"m": 0},
    {"block": 0},
    {"block": 4, "pinv": pinv.svd},
    {"near": 0},
    {"near": 4, "pinv": pinv.svd},
    {"near": 4, "row_normalised": True},
    {"near": 4, "landmarks": strided},
)


@pytest.mark.parametrize("options", BAD, ids=lambda options: "-".join(options))
def test_bad_options(options):
    with pytest.raises(RangeError):
        register_with_transformers(**options)
