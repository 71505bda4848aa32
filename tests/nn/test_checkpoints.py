"""Weights of others give the outputs of others, where these are right."""

from __future__ import annotations

import io
import json
import shutil
import warnings
from fnmatch import fnmatchcase
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
    hugging_face_config,
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
def test_a_local_folder(tmp_path, safe, monkeypatch):
    model, ids = theirs("NystromformerForMaskedLM"), torch.randint(2, 40, (1, N))
    if safe:
        model.save_pretrained(tmp_path)
        monkeypatch.delattr(torch, "load")  # which can read them too, in some versions
    else:
        (tmp_path / "config.json").write_text(json.dumps(model.config.to_dict()))
        torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    torch.testing.assert_close(from_hugging_face(tmp_path)(ids), model(ids)[0], rtol=1e-5, atol=1e-5)


MASKED = "NystromformerForMaskedLM"
WORDS = "nystromformer.embeddings.word_embeddings.weight"
DECODER, BIAS, SECOND = (f"cls.predictions.{name}" for name in ("decoder.weight", "bias", "decoder.bias"))


@torch.no_grad()
def test_output_weights_of_their_own():
    """``tie_word_embeddings`` false: theirs multiplies by the decoder's weight and adds the decoder's bias."""
    model, ids = theirs(MASKED, tie_word_embeddings=False), torch.randint(2, 40, (1, N))
    for parameter in model.cls.parameters():
        parameter.normal_()
    state = model.state_dict()
    assert not torch.equal(state[DECODER], state[WORDS])
    assert not torch.equal(state[BIAS], state[SECOND])
    settings = model.config.to_dict()
    ours = from_hugging_face_state(settings, state)
    assert ours.decoder is not None
    torch.testing.assert_close(ours(ids), model(ids).logits, rtol=1e-5, atol=1e-4)
    first_only = {name: x for name, x in state.items() if name != SECOND}
    torch.testing.assert_close(from_hugging_face_state(settings, first_only).bias, state[BIAS])
    with pytest.raises(CheckpointError, match=f"missing {DECODER}"):
        from_hugging_face_state(settings, {name: x for name, x in state.items() if name != DECODER})
    wrong = state | {DECODER: state[DECODER][:-1]}
    with pytest.raises(CheckpointError, match=rf"{DECODER} of shape \(39, 32\), not \(40, 32\)"):
        from_hugging_face_state(settings, wrong)


@torch.no_grad()
def test_tied_weights_that_differ_are_refused():
    """Which of the two were meant, nobody can say."""
    model, ids = theirs(MASKED), torch.randint(2, 40, (1, N))
    model.cls.predictions.bias.normal_()
    state, settings = model.state_dict(), model.config.to_dict()
    expected = model(ids).logits
    for left_out in ((), (DECODER,), (BIAS,), (SECOND,), (DECODER, BIAS), (DECODER, SECOND)):
        part = {name: x for name, x in state.items() if name not in left_out}
        torch.testing.assert_close(
            from_hugging_face_state(settings, part)(ids), expected, rtol=1e-5, atol=1e-5
        )
    assert from_hugging_face_state(settings, state).decoder is None
    del settings["tie_word_embeddings"]
    assert from_hugging_face_state(settings, state).decoder is None
    for name, match in ((DECODER, "tie_word_embeddings"), (SECOND, "differ, though they are tied")):
        with pytest.raises(CheckpointError, match=match):
            from_hugging_face_state(settings, state | {name: state[name] + 1})
    with pytest.raises(CheckpointError, match="tie_word_embeddings"):
        from_hugging_face_state(settings, state | {DECODER: state[DECODER][:-1]})
    neither = {name: x for name, x in state.items() if name not in (BIAS, SECOND)}
    with pytest.raises(CheckpointError, match=f"missing {BIAS}"):
        from_hugging_face_state(settings, neither)


@pytest.mark.parametrize("name", MODELS)
def test_each_entry_has_one_place_and_each_place_one_entry(name):
    """Without any one entry, with any one of another shape, and with entries of other names: refused by name."""
    model = theirs(name)
    state, settings = model.state_dict(), model.config.to_dict()
    for entry, x in state.items():
        if entry not in (DECODER, BIAS, SECOND):
            with pytest.raises(CheckpointError, match=f"missing.*{entry}"):
                from_hugging_face_state(settings, {other: y for other, y in state.items() if other != entry})
        with pytest.raises(CheckpointError):
            from_hugging_face_state(settings, state | {entry: torch.cat([x, x[:1]])})
        with pytest.raises(CheckpointError, match=f"{entry} is of torch.int64"):
            from_hugging_face_state(settings, state | {entry: x.long()})
    entry = next(name for name in state if name.endswith("encoder.layer.0.attention.self.query.weight"))
    ours = next(iter(from_hugging_face_state(settings, state).state_dict()))
    strangers = ("surprise", "cls.more", "classifier.more", ours, "embeddings.position_ids_2")
    twice = (
        entry.removeprefix("nystromformer.")
        if entry.startswith("nystromformer.")
        else f"nystromformer.{entry}"
    )
    for stranger in (
        *strangers,
        twice,
        entry.replace("layer.0", "layer.2"),
        entry.replace("layer.0", "layer.00"),
    ):
        with pytest.raises(CheckpointError, match=r"no place for|missing"):
            from_hugging_face_state(settings, state | {stranger: state[entry]})
    with pytest.raises(CheckpointError, match=r"and \d+ more"):
        from_hugging_face_state(settings, {f"x{i}": torch.zeros(1) for i in range(20)})


def test_positions_and_segments_must_be_theirs():
    """Checkpoints of older versions hold the constants too; others would be other positions."""
    model = theirs()
    settings, state = model.config.to_dict(), model.state_dict()
    positions = {"embeddings.position_ids": torch.arange(N)[None] + 2}
    segments = {"embeddings.token_type_ids": torch.zeros(1, N, dtype=torch.int64)}
    from_hugging_face_state(settings, state | positions | segments)
    for name, x in (positions | segments).items():
        for wrong in (x + 1, x[:, :-1], x[0], x.flip(1) + (x == 0)):
            with pytest.raises(CheckpointError, match=f"{name} is not that of {N} positions"):
                from_hugging_face_state(settings, state | {name: wrong})


def test_classes_are_counted_by_the_weights():
    model = theirs(MODELS[2], num_labels=5)
    ours = from_hugging_face_state(model.config.to_dict(), model.state_dict())
    assert ours.out.out_features == 5
    broken = {name: x for name, x in model.state_dict().items() if name != "classifier.out_proj.weight"}
    with pytest.raises(CheckpointError, match=r"missing classifier\.out_proj\.weight"):
        from_hugging_face_state(model.config.to_dict(), broken)


SETTINGS = {
    "vocab_size": ("vocabulary", 41, 30000),
    "hidden_size": ("dim", 36, 768),
    "num_hidden_layers": ("depth", 3, 12),
    "num_attention_heads": ("heads", 2, 12),
    "intermediate_size": ("feed_forward", 49, 3072),
    "max_position_embeddings": ("max_positions", 65, 510),
    "type_vocab_size": ("types", 3, 2),
    "pad_token_id": ("pad_id", 7, 1),
    "num_landmarks": ("landmarks", 9, 64),
    "conv_kernel_size": ("conv_kernel", 7, 65),
    "hidden_dropout_prob": ("dropout", 0.25, 0.1),
    "layer_norm_eps": ("eps", 1e-6, 1e-5),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_each_setting_has_its_place_and_their_default(name):
    ours, value, default = SETTINGS[name]
    settings = config(num_attention_heads=2).to_dict()
    assert getattr(hugging_face_config(settings | {name: value}), ours) == value
    whole = transformers.NystromformerConfig().to_dict()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        left_out = hugging_face_config({key: x for key, x in whole.items() if key != name})
    assert getattr(left_out, ours) == default == whole[name]


def test_the_rest_of_a_configuration():
    found = hugging_face_config(config().to_dict())
    assert (found.pad_offset, found.pinv, found.exact, found.near) == (2, pinv.razavi, False, None)
    assert hugging_face_config(config(pad_token_id=None).to_dict()).pad_id is None
    assert hugging_face_config(config().to_dict() | {"conv_kernel_size": None}).conv_kernel is None
    with pytest.warns(ExactAttentionWarning):
        assert hugging_face_config({}).exact
    with pytest.warns(ExactAttentionWarning):
        assert hugging_face_config({"num_landmarks": 64}).exact
    x = torch.linspace(-3, 3, 50)
    for name in ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu"):
        activation = hugging_face_config(config(hidden_act=name).to_dict()).activation
        torch.testing.assert_close(activation(x), transformers.activations.ACT2FN[name](x))
    assert hugging_face_config(config().to_dict() | {"hidden_act": "gelu_new"}).activation(x)[0] != 0
    settings = config().to_dict()
    del settings["hidden_act"]
    torch.testing.assert_close(
        hugging_face_config(settings).activation(x), transformers.activations.ACT2FN["gelu_new"](x)
    )


@pytest.mark.parametrize(
    ("setting", "value", "match"),
    [
        ("model_type", "bert", "model_type is 'bert'"),
        ("is_decoder", True, "is_decoder is True"),
        ("is_decoder", 1, "is_decoder is 1"),
        ("is_encoder_decoder", True, "is_encoder_decoder"),
        ("add_cross_attention", True, "add_cross_attention"),
        ("inv_coeff_init_option", True, "inv_coeff_init_option"),
        ("position_embedding_type", "relative_key", "position_embedding_type"),
    ],
)
def test_what_changes_the_computation_is_refused(setting, value, match):
    with pytest.raises(CheckpointError, match=match):
        hugging_face_config(config().to_dict() | {setting: value})


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("vocab_size", 0),
        ("pad_token_id", -1),
        ("pad_token_id", 40),
        ("hidden_dropout_prob", 1.0),
        ("layer_norm_eps", 0.0),
    ],
)
def test_a_number_out_of_its_range_is_named(setting, value):
    with pytest.raises(errors.RangeError) as caught:
        hugging_face_config(config().to_dict() | {setting: value})
    assert caught.value.argument == setting


@pytest.mark.parametrize("pad", [0, 39])
def test_padding_may_be_any_word(pad):
    assert hugging_face_config(config().to_dict() | {"pad_token_id": pad}).pad_id == pad


def test_what_does_not_fit_is_named(tmp_path):
    model = theirs()
    state, settings = model.state_dict(), model.config.to_dict()
    with pytest.raises(CheckpointError, match=r"config\.json"):
        from_hugging_face(tmp_path)
    for setting, value in {"hidden_act": "mish", "num_attention_heads": 3, "conv_kernel_size": 4}.items():
        with pytest.raises(errors.RangeError) as caught:
            from_hugging_face_state(settings | {setting: value}, state)
        assert caught.value.argument == setting
    for wrong in ([], None, {3: 4}):
        with pytest.raises(errors.KindError) as caught:
            hugging_face_config(wrong)
        assert caught.value.argument == "config"
    with pytest.raises(errors.KindError) as caught:
        hugging_face_config(settings | {"tie_word_embeddings": "yes"})
    assert caught.value.argument == "tie_word_embeddings"
    with pytest.raises(errors.KindError) as caught:
        from_hugging_face_state(settings, [])
    assert caught.value.argument == "state"
    with pytest.raises(errors.KindError) as caught:
        from_hugging_face_state(settings, state, exact="yes")
    assert caught.value.argument == "exact"
    assert from_hugging_face_state(settings, state, exact=True).layers[0].attention.exact


def test_folders_that_hold_no_model(tmp_path):
    """Each of the two files missing or damaged; nothing is asked of the hub for a path."""
    model = theirs()
    model.save_pretrained(tmp_path / "good")
    text, weights = ((tmp_path / "good" / name).read_bytes() for name in ("config.json", "model.safetensors"))
    buffer = io.BytesIO()
    torch.save([1, 2], buffer)
    cases = {
        "config.json, or both": ({"model.safetensors": weights}, {"config.json": text}),
        "no JSON": (
            {"config.json": b"{", "model.safetensors": weights},
            {"config.json": b"\xff", "model.safetensors": weights},
        ),
        "no JSON that": ({"config.json": b"[" * 100_000, "model.safetensors": weights},),
        "holds a list": (
            {"config.json": b"[1]", "model.safetensors": weights},
            {"config.json": text, "pytorch_model.bin": buffer.getvalue()},
        ),
        "cannot be read": (
            {"config.json": text, "model.safetensors": weights[:-9]},
            {"config.json": text, "pytorch_model.bin": b"nonsense"},
        ),
    }
    for index, (match, folders) in enumerate(cases.items()):
        for other, files in enumerate(folders):
            folder = tmp_path / f"{index}{other}"
            folder.mkdir()
            for name, content in files.items():
                (folder / name).write_bytes(content)
            with pytest.raises(CheckpointError, match=match):
                from_hugging_face(folder)
    with pytest.raises(CheckpointError, match="there is no folder"):
        from_hugging_face(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="no such model could be had"):
        from_hugging_face(str(tmp_path / "nowhere"))
    with pytest.raises(CheckpointError, match="no such model could be had"):
        from_hugging_face("somebody/a-model-that-is-not-here")
    for wrong in (3, None, "", b"x"):
        with pytest.raises(errors.KindError) as caught:
            from_hugging_face(wrong)
        assert caught.value.argument == "location"


class Harmful:
    """What runs when a pickle of it is read."""

    ran = False

    def __reduce__(self):
        return setattr, (Harmful, "ran", True)


def test_a_pickle_runs_nothing(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(config().to_dict()))
    torch.save({"x": Harmful()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="cannot be read"):
        from_hugging_face(tmp_path)
    assert not Harmful.ran


@torch.no_grad()
@pytest.mark.parametrize("safe", [True, False])
def test_a_model_on_the_hub(tmp_path, safe, monkeypatch):
    """Of its files those with weights and settings are asked for."""
    hub, here, model = tmp_path / "hub", tmp_path / "here", theirs()
    model.save_pretrained(hub)
    if not safe:
        torch.save(model.state_dict(), hub / "pytorch_model.bin")
        (hub / "model.safetensors").unlink()
    (hub / "tf_model.h5").touch()

    def download(name, allow_patterns):
        assert name == "somebody/a-model"
        shutil.copytree(hub, here)
        for file in here.iterdir():
            if not any(fnmatchcase(file.name, pattern) for pattern in allow_patterns):
                file.unlink()
        return str(here)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    ids = torch.randint(2, 40, (1, N))
    torch.testing.assert_close(
        from_hugging_face("somebody/a-model")(ids), model(ids)[0], rtol=1e-5, atol=1e-5
    )
    assert not (here / "tf_model.h5").exists()


def test_a_folder_gives_its_options_on(tmp_path):
    theirs(segment_means_seq_len=M).save_pretrained(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert from_hugging_face(tmp_path).config.exact
        assert not from_hugging_face(str(tmp_path), exact=False).config.exact
    assert not from_hugging_face_state(config().to_dict(), theirs().state_dict()).training


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

    def without(name):
        return {other: x for other, x in state.items() if other != name}

    for broken, match in (
        ({}, "no entries"),
        ({"foo": torch.zeros(1)}, "without a gap"),
        (
            {name: x for name, x in state.items() if not name.startswith("layers.0.")},
            r"numbered \[1\], not from 0",
        ),
        (without("layers.1.1.norm.weight"), "missing layers.1.1.norm.weight"),
        (without("layers.0.1.fn.net.0.weight"), "missing layers.0.1.fn.net.0.weight"),
        (without("layers.1.0.fn.res_conv.weight"), "in some layers"),
        (without("layers.1.0.fn.to_out.0.bias"), r"in layers\.1\.0\.fn\.\*: missing to_out\.0\.bias"),
        (state | {"layers.1.2.weight": torch.zeros(1)}, "no place for layers.1.2.weight"),
        (state | {"layers.1.0.fn.more": torch.zeros(1)}, "no place for more"),
        (state | {"layers.00.0.norm.weight": torch.zeros(24)}, "no place for layers.00.0.norm.weight"),
        (state | {"layers.1.1.fn.net.0.bias": torch.zeros(95)}, r"net.0.bias of shape \(95,\), not \(96,\)"),
        (state | {"layers.0.1.fn.net.0.weight": torch.zeros(96)}, "not a matrix"),
    ):
        with pytest.raises(CheckpointError, match=match):
            from_nystrom_attention_encoder(broken, heads=1, landmarks=M)
    other = torch.nn.functional.pad(state["layers.1.0.fn.to_qkv.weight"], (0, 1))
    narrow = {"layers.1.0.fn.to_qkv.weight": other, "layers.1.0.fn.to_out.0.bias": torch.zeros(25)}
    narrow["layers.1.0.fn.to_out.0.weight"] = torch.zeros(25, 8)
    with pytest.raises(CheckpointError, match=r"width \[24, 25\], and feed-forward of 24"):
        from_nystrom_attention_encoder(state | narrow, heads=1, landmarks=M)


@torch.no_grad()
def test_options_of_the_peers_reach_the_modules():
    state = peer_encoder(heads=2).state_dict()
    method = partial(pinv.razavi, iterations=2)
    ours = from_nystrom_attention_encoder(state, heads=2, landmarks=5, pinv=method, dropout=(0.25, 0.5))
    for layer in ours.layers:
        assert (layer.attention.heads, layer.attention.landmarks, layer.attention.pinv) == (2, 5, method)
        assert (layer.attention.dropout.p, layer.dropout.p) == (0.25, 0.5)
        assert layer.attention.conv.weight.shape == (2, 1, 5, 1)
    alone = from_nystrom_attention(peer(heads=2).state_dict(), heads=2, landmarks=5, dropout=0.125)
    assert (alone.heads, alone.landmarks, alone.dropout.p, alone.pinv) == (2, 5, 0.125, pinv.razavi)
    for name, x in peer(residual=False).state_dict().items():
        assert "conv" not in name, x
    assert from_nystrom_attention(peer(residual=False).state_dict(), heads=1, landmarks=M).conv is None


def test_what_does_not_fit_the_peers_module_is_named():
    state = peer().state_dict()
    for broken, match in (
        ({}, "no entries"),
        ({"foo": torch.zeros(1)}, "missing to_qkv.weight"),
        (state | {"foo": torch.zeros(3)}, "no place for foo"),
        (
            state | {"to_out.0.weight": torch.zeros(24, 9)},
            r"to_out.0.weight of shape \(24, 9\), not \(24, 8\)",
        ),
        (state | {"to_out.0.bias": torch.zeros(24, 1)}, "to_out.0.bias of shape"),
        (state | {"res_conv.weight": torch.zeros(1, 1, 5)}, "res_conv.weight of shape"),
        (state | {"res_conv.weight": torch.zeros(5)}, "res_conv.weight of shape"),
        (state | {"res_conv.weight": torch.zeros(2, 1, 5, 1)}, "res_conv.weight of shape"),
        (state | {"to_qkv.weight": torch.zeros(())}, "not a matrix"),
        (state | {"to_qkv.weight": torch.zeros(24, 0)}, "not a matrix"),
        (state | {"to_qkv.weight": state["to_qkv.weight"].int()}, "is of torch.int32"),
        (state | {"to_qkv.weight": state["to_qkv.weight"].to_sparse()}, "sparse"),
        (state | {"to_qkv.weight": state["to_qkv.weight"].to("meta")}, "without storage"),
        (state | {"to_qkv.weight": None}, "NoneType, not a tensor"),
        ({3: torch.zeros(1)}, "not a tensor under a name"),
    ):
        with pytest.raises(CheckpointError, match=match):
            from_nystrom_attention(broken, heads=1, landmarks=M)
    for rows in (23, 25):  # of 24 that one head has: three times 8
        with pytest.raises(errors.ShapeError, match=f"`state` is of {rows} rows for q, k and v"):
            from_nystrom_attention(state | {"to_qkv.weight": torch.zeros(rows, 24)}, heads=1, landmarks=M)
    for options in ({"heads": 0}, {"landmarks": 0}, {"pinv": "razavi"}, {"dropout": 1.0}):
        with pytest.raises(errors.ArgumentError) as caught:
            from_nystrom_attention(state, **{"heads": 1, "landmarks": M, **options})
        assert caught.value.argument in options
    for dropout in (0.5, (0.5,), (0.1, 1.0)):
        with pytest.raises(errors.ArgumentError) as caught:
            from_nystrom_attention_encoder(peer_encoder().state_dict(), heads=1, landmarks=M, dropout=dropout)
        assert caught.value.argument == "dropout"


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_a_model_has_the_widest_dtype_of_its_entries(dtype):
    wide = dtype if dtype is torch.float64 else torch.float32
    for load, state in (
        (partial(from_nystrom_attention, heads=1, landmarks=M), peer().state_dict()),
        (partial(from_nystrom_attention_encoder, heads=1, landmarks=M), peer_encoder().state_dict()),
        (partial(from_hugging_face_state, config().to_dict()), theirs().state_dict()),
    ):
        all_alike = {name: x.to(dtype) for name, x in state.items()}
        assert {x.dtype for x in load(all_alike).parameters()} == {dtype}
        last = next(reversed(state))
        assert {x.dtype for x in load(all_alike | {last: state[last]}).parameters()} == {wide}


def test_nystrom_attention_with_an_even_kernel_is_refused():
    """Theirs gives a sequence of another length."""
    original = peer(residual_conv_kernel=4)
    with pytest.raises(errors.RangeError, match="conv_kernel"):
        from_nystrom_attention(original.state_dict(), heads=1, landmarks=M)
    with pytest.raises(errors.ShapeError, match="heads"):
        from_nystrom_attention(peer().state_dict(), heads=3, landmarks=M)
    assert module.NystromAttention(8, heads=1).conv.kernel_size == (33, 1)
