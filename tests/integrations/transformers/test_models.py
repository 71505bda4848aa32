"""transformers models under attn_implementation="nystrom": equal where they must be, refused by name elsewhere."""

from __future__ import annotations

from functools import partial

import pytest
import torch

transformers = pytest.importorskip("transformers", reason="transformers is absent")

from nystrom_numerics import pinv  # noqa: E402
from nystrom_numerics.integrations.transformers import (  # noqa: E402
    UnsupportedModelError,
    register_with_transformers,
    use_nystrom,
)
from nystrom_numerics.nn import ExactAttentionWarning  # noqa: E402

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


# ---------------------------------------------------------------- caches


@torch.no_grad()
@pytest.mark.parametrize("m", [M, N])
def test_a_static_cache_is_the_growing_one(m):
    """A text of more than m tokens, some more, and one; the keys that are not there yet count for nothing."""
    register_with_transformers(m=m, block=16)
    model, own, x = llama("nystrom"), llama("eager"), ids()
    cut = (slice(0, 30), slice(30, 47), slice(47, N))
    found = {}
    for name, network in (("ours", model), ("own", own)):
        for kind in (transformers.DynamicCache, partial(transformers.StaticCache, max_cache_len=2 * N)):
            past = kind(config=network.config)
            parts = [network(x[:, part], past_key_values=past).logits for part in cut]
            found[name, kind is transformers.DynamicCache] = torch.cat(parts, dim=1)
    close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-5)
    close(found["ours", False], found["ours", True])
    close(found["ours", True][:, :30], model(x[:, :30]).logits)
    if m == N:
        close(found["ours", False], found["own", False])


@torch.no_grad()
def test_generation_with_a_static_cache():
    register_with_transformers(m=M, block=16)
    model, x = llama("nystrom"), ids()
    options = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0, "disable_compile": True}
    grown = model.generate(x, **options)
    assert torch.equal(model.generate(x, cache_implementation="static", **options), grown)


# ---------------------------------------------------------------- what tokens see

BART = {
    "vocab_size": 64,
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "max_position_embeddings": 128,
    "attention_dropout": 0.0,
}


def lively(model):
    """Weights under which attention matters."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim == 2:
                p.copy_(torch.randn(p.shape, generator=generator) * p.shape[1] ** -0.5)
    return model.eval()


@torch.no_grad()
@pytest.mark.parametrize("m", [M, N])
def test_a_decoder_whose_modules_do_not_say_that_they_are_causal(m):
    register_with_transformers(m=m, block=16)
    config = transformers.BigBirdPegasusConfig(**BART, attention_type="original_full")
    model = lively(use_nystrom(transformers.BigBirdPegasusForCausalLM(config)).model)
    x = ids()
    changed = x.clone()
    changed[:, 20:] = 5
    close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-5)
    close(model(changed).logits[:, :20], model(x).logits[:, :20])
    assert (model(changed).logits - model(x).logits)[:, 20:].abs().max() > 1e-2


@torch.no_grad()
def test_modules_with_attention_of_their_own_get_the_mask_that_they_know():
    """They add it to scores, as eager attention does."""
    config = transformers.BigBirdPegasusConfig(**BART, attention_type="original_full")
    model, x = lively(transformers.BigBirdPegasusModel(config)), ids()
    mask = torch.ones_like(x)
    mask[0, 30:] = 0
    given = {"input_ids": x, "attention_mask": mask, "decoder_input_ids": x[:, :12]}
    register_with_transformers(m=N)
    own = model(**given).last_hidden_state
    with pytest.warns(ExactAttentionWarning):
        use_nystrom(model)
    torch.testing.assert_close(model(**given).last_hidden_state, own, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, {"near": 8}, {"row_normalised": True}], ids=str)
def test_a_source_as_long_as_its_target(options):
    """With fewer landmarks than tokens: what the target attends to is exact, to all alike, and tells no future."""
    register_with_transformers(m=M, block=N, **options)
    model = lively(transformers.BartModel(transformers.BartConfig(**BART)))
    x, mask = ids(), torch.ones(2, N, dtype=torch.long)
    mask[:, 34:] = 0
    target = x.flip(1)
    states = model.encoder(x, mask).last_hidden_state
    given = {"encoder_hidden_states": states, "encoder_attention_mask": mask}
    own = model.decoder(target, **given).last_hidden_state
    use_nystrom(model)
    torch.testing.assert_close(model.decoder(target, **given).last_hidden_state, own, rtol=1e-4, atol=1e-5)
    changed = target.clone()
    changed[:, 20:] = 7
    whole = model(input_ids=x, attention_mask=mask, decoder_input_ids=target).last_hidden_state
    other = model(input_ids=x, attention_mask=mask, decoder_input_ids=changed).last_hidden_state
    torch.testing.assert_close(other[:, :20], whole[:, :20], rtol=1e-4, atol=1e-5)
    padded = model(input_ids=torch.where(mask.bool(), x, 9), attention_mask=mask, decoder_input_ids=target)
    torch.testing.assert_close(padded.last_hidden_state, whole, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_sliding_window_is_the_models_own_at_any_length():
    torch.manual_seed(1)
    config = transformers.MistralConfig(**SMALL, num_key_value_heads=2, sliding_window=8)
    model, x = lively(transformers.MistralForCausalLM(config)), ids()
    options = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    own, text = model(x).logits, model.generate(x, **options)
    register_with_transformers(m=M)
    use_nystrom(model)
    torch.testing.assert_close(model(x).logits, own, rtol=1e-4, atol=1e-5)
    assert torch.equal(model.generate(x, **options), text)


@torch.no_grad()
def test_packed_texts_are_the_models_own_at_any_length():
    places = torch.cat([torch.arange(20), torch.arange(N - 20)])[None]
    model, x = lively(llama("eager")), ids(batch=1)
    own = model(x, position_ids=places, use_cache=False).logits
    register_with_transformers(m=M, block=16)
    use_nystrom(model)
    torch.testing.assert_close(
        model(x, position_ids=places, use_cache=False).logits, own, rtol=1e-4, atol=1e-5
    )


# ---------------------------------------------------------------- training


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


@pytest.mark.parametrize("model", [bert, llama])
def test_attention_weights_are_refused(model):
    """However a model hands the wish on; llama's modules do, those of GPT-2 do not."""
    register_with_transformers(m=M, block=16)
    with pytest.raises(UnsupportedModelError, match="attention weights, which are never formed"):
        model("nystrom")(ids(), output_attentions=True)
    config = transformers.GPT2Config(vocab_size=64, n_embd=16, n_layer=1, n_head=2)
    gpt2 = use_nystrom(transformers.GPT2Model(config).eval()).model
    with pytest.raises(
        UnsupportedModelError, match=r"GPT2Attention .* attention weights, which are never formed"
    ):
        gpt2(ids(), output_attentions=True)
    assert len(gpt2(ids(), output_hidden_states=True).hidden_states) == 2


@torch.no_grad()
def test_use_nystrom_switches_a_loaded_model():
    model = use_nystrom(bert("eager")).model
    torch.testing.assert_close(model(ids()).last_hidden_state, bert("nystrom")(ids()).last_hidden_state)
