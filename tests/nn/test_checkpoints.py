"""Weights of others give the outputs of others, where these are right."""

from __future__ import annotations

import json
import warnings
from functools import partial

import pytest
import torch

from nystrom_numerics import errors, pinv
from nystrom_numerics.nn import (
    CheckpointError,
    ExactAttentionWarning,
    from_hugging_face,
    from_hugging_face_state,
    from_nystrom_attention,
    from_nystrom_attention_encoder,
)
from nystrom_numerics.nn import attention as module

transformers = pytest.importorskip("transformers", reason="transformers is absent")
N, M = 64, 8
MODELS = ["NystromformerModel", "NystromformerForMaskedLM", "NystromformerForSequenceClassification"]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def config(**options):
    return transformers.NystromformerConfig(
        **{
            "vocab_size": 40,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 1,
            "intermediate_size": 48,
            "max_position_embeddings": N,
            "num_landmarks": M,
            "segment_means_seq_len": N,
            "conv_kernel_size": 5,
            **options,
        }
    )


def theirs(name="NystromformerModel", **options):
    model = getattr(transformers, name)(config(**options)).eval()
    with torch.no_grad():  # their initial weights are so small that attention is uniform
        for key, value in model.named_parameters():
            if "query" in key or "key" in key:
                value.mul_(10)
    return model


@torch.no_grad()
@pytest.mark.parametrize("name", MODELS)
def test_parity_with_hugging_face(name):
    """One head and one item, n = segment_means_seq_len, no padding: what theirs defines."""
    model, ids = theirs(name), torch.randint(2, 40, (1, N))
    ours = from_hugging_face_state(model.config.to_dict(), model.state_dict())
    torch.testing.assert_close(ours(ids), model(ids)[0], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_parity_with_hugging_face_on_many_heads_and_items_given_their_start():
    """Theirs starts every head of the batch from one maximum; started alike, all agree."""
    model, ids = theirs(num_attention_heads=4), torch.randint(2, 40, (3, N))

    def coupled(a):
        return pinv.iterate(
            a, [pinv.RAZAVI] * 6, norm_bound=lambda x: x.sum(-2).max().sqrt().expand(x.shape[:-2])
        )

    ours = from_hugging_face_state(model.config.to_dict(), model.state_dict())
    for layer in ours.layers:
        layer.attention.pinv = coupled
    torch.testing.assert_close(ours(ids), model(ids)[0], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_hugging_faces_defaults_run_exact_attention_and_we_say_so():
    model, ids = theirs(segment_means_seq_len=M), torch.randint(2, 40, (2, N))
    with pytest.warns(ExactAttentionWarning, match="exact attention"):
        ours = from_hugging_face_state(model.config.to_dict(), model.state_dict())
    assert ours.config.exact
    torch.testing.assert_close(ours(ids), model(ids)[0], rtol=1e-5, atol=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nystrom = from_hugging_face_state(model.config.to_dict(), model.state_dict(), exact=False)
        assert (
            transformers.NystromformerConfig().num_landmarks
            == 64
            == (transformers.NystromformerConfig().segment_means_seq_len)
        )
    assert torch.linalg.norm(nystrom(ids) - ours(ids)) > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("safe", [True, False])
def test_a_local_folder(tmp_path, safe):
    model, ids = theirs("NystromformerForMaskedLM"), torch.randint(2, 40, (1, N))
    if safe:
        model.save_pretrained(tmp_path)
    else:
        (tmp_path / "config.json").write_text(json.dumps(model.config.to_dict()))
        torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    torch.testing.assert_close(from_hugging_face(tmp_path)(ids), model(ids)[0], rtol=1e-5, atol=1e-5)


def test_what_does_not_fit_is_named(tmp_path):
    model = theirs()
    state = {name: x for name, x in model.state_dict().items() if "layer.1.output.dense.bias" not in name}
    with pytest.raises(CheckpointError, match=r"layers\.1\.down\.bias"):
        from_hugging_face_state(model.config.to_dict(), state)
    with pytest.raises(CheckpointError, match="surprise"):
        from_hugging_face_state(model.config.to_dict(), model.state_dict() | {"surprise": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"config\.json"):
        from_hugging_face(tmp_path)
    with pytest.raises(errors.RangeError, match="hidden_act"):
        from_hugging_face_state(model.config.to_dict() | {"hidden_act": "mish"}, model.state_dict())


# ---------------------------------------------------------------- nystrom-attention


def peer(**options):
    found = pytest.importorskip("nystrom_attention", reason="the peer package nystrom-attention is absent")
    return found.NystromAttention(
        24, **{"dim_head": 8, "heads": 1, "num_landmarks": M, "residual_conv_kernel": 5, **options}
    ).eval()


@torch.no_grad()
@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("iterations", [6, 3])
def test_parity_with_nystrom_attention(residual, iterations):
    original = peer(residual=residual, pinv_iterations=iterations)
    method = partial(pinv.razavi, iterations=iterations)
    ours = from_nystrom_attention(original.state_dict(), heads=1, landmarks=M, pinv=method).eval()
    x = 3 * torch.randn(1, N, 24)
    torch.testing.assert_close(ours(x), original(x), rtol=1e-5, atol=1e-5)


def peer_encoder(**options):
    found = pytest.importorskip("nystrom_attention", reason="the peer package nystrom-attention is absent")
    sizes = {"dim": 24, "depth": 2, "dim_head": 8, "heads": 1, "num_landmarks": M} | options
    return found.Nystromformer(attn_values_residual_conv_kernel=5, **sizes).eval()


@torch.no_grad()
def test_parity_with_the_encoder_of_nystrom_attention():
    original = peer_encoder()
    ours = from_nystrom_attention_encoder(original.state_dict(), heads=1, landmarks=M).eval()
    x = 3 * torch.randn(1, N, 24)
    torch.testing.assert_close(ours(x), original(x), rtol=1e-5, atol=1e-5)
    padded = torch.cat([x, torch.full((1, 7, 24), 9.0)], dim=1)
    mask = torch.arange(N + 7)[None] < N
    torch.testing.assert_close(ours(padded, mask=mask)[:, :N], ours(x), rtol=1e-5, atol=1e-5)


def test_what_does_not_fit_the_encoder_is_named():
    state = peer_encoder().state_dict()
    short = {name: x for name, x in state.items() if name != "layers.1.1.norm.weight"}
    for broken, match in (
        ({}, "without a gap"),
        ({name: x for name, x in state.items() if not name.startswith("layers.0.")}, "without a gap"),
        (short, "layers.1.norm.weight"),
        (state | {"layers.1.2.weight": torch.zeros(1)}, "layers.1.2.weight"),
    ):
        with pytest.raises(CheckpointError, match=match):
            from_nystrom_attention_encoder(broken, heads=1, landmarks=M)


def test_nystrom_attention_with_an_even_kernel_is_refused():
    """Theirs gives a sequence of another length."""
    original = peer(residual_conv_kernel=4)
    with pytest.raises(errors.RangeError, match="conv_kernel"):
        from_nystrom_attention(original.state_dict(), heads=1, landmarks=M)
    with pytest.raises(errors.ShapeError, match="heads"):
        from_nystrom_attention(peer().state_dict(), heads=3, landmarks=M)
    assert module.NystromAttention(8, heads=1).conv.kernel_size == (33, 1)
