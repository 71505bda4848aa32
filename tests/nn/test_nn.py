"""The Torch modules: padding, lengths, dtypes, gradients, compilation, training."""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import replace

import pytest
import torch

from nystrom_numerics import attention, landmarks, pinv
from nystrom_numerics.errors import DTypeError, RangeError, ShapeError
from nystrom_numerics.nn import (
    NystromAttention,
    Nystromformer,
    NystromformerConfig,
    NystromformerForClassification,
    NystromformerForMaskedLM,
    PreNormEncoder,
)

CONFIG = NystromformerConfig(
    50, dim=16, depth=2, heads=2, feed_forward=24, max_positions=64, landmarks=4, conv_kernel=3, dropout=0.0
)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def module(**options):
    return NystromAttention(16, **{"heads": 2, "landmarks": 4, "conv_kernel": 5, **options}).eval()


def test_module_is_the_function_between_projections():
    layer, x = module(), torch.randn(2, 30, 16)
    q, k, v = (f(x).reshape(2, 30, 2, 8).transpose(1, 2) for f in (layer.query, layer.key, layer.value))
    y = attention.nystrom(q, k, v, 4)
    taps = layer.conv.weight[:, 0, :, 0]
    padded = torch.nn.functional.pad(v, (0, 0, 2, 2))
    y = y + sum(taps[:, j, None, None] * padded[:, :, j : j + 30] for j in range(5))
    expected = layer.out(y.transpose(1, 2).reshape(2, 30, 16))
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"exact": True}, {"near": 6}], ids=str)
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_of_any_amount_and_side_changes_nothing(side, options):
    layer, x = module(**options), torch.randn(2, 21, 16)
    expected = layer(x)
    for amount in (1, 4, 40):
        junk, mask = torch.full((2, amount, 16), 1e3), torch.zeros(2, 21 + amount, dtype=torch.bool)
        real = slice(amount, None) if side == "left" else slice(0, 21)
        mask[:, real] = True
        padded = torch.cat([junk, x] if side == "left" else [x, junk], dim=1)
        torch.testing.assert_close(layer(padded, mask=mask)[:, real], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("exact", [False, True])
def test_an_item_of_padding_alone_is_finite(exact):
    x = torch.randn(2, 12, 16)
    mask = torch.tensor([[True] * 12, [False] * 12])
    out = module(exact=exact)(x, mask=mask)
    assert torch.isfinite(out).all()
    torch.testing.assert_close(out[1], module(exact=exact).out.bias.expand(12, -1) * 0 + out[1, :1])


def test_short_sequences_are_exact_and_said_to_be():
    layer = module(landmarks=8)
    assert layer.runs_exactly(8, 100)
    assert not layer.runs_exactly(9, 9)
    x = torch.randn(1, 8, 16)
    torch.testing.assert_close(layer(x), NystromAttentionExact(layer)(x))


def NystromAttentionExact(layer):
    """The same weights with exact attention."""
    other = module(landmarks=8, exact=True)
    other.load_state_dict(layer.state_dict())
    return other


def test_cross_attention_takes_a_context_of_another_length():
    layer = module(conv_kernel=None)
    x, context = torch.randn(2, 9, 16), torch.randn(2, 33, 16)
    mask = torch.arange(33) < torch.tensor([[20], [33]])
    got = layer(x, context, context_mask=mask)
    torch.testing.assert_close(got[:1], layer(x[:1], context[:1, :20]), rtol=1e-4, atol=1e-5)


def test_a_near_field_of_the_whole_sequence_is_exact_and_leaves_a_context_to_landmarks():
    x, context = torch.randn(1, 30, 16), torch.randn(1, 25, 16)
    near, plain = module(near=30, conv_kernel=None), module(conv_kernel=None)
    plain.load_state_dict(near.state_dict())
    torch.testing.assert_close(near(x, context), plain(x, context))
    assert not torch.allclose(near(x), plain(x), atol=1e-3)
    plain.exact = True
    torch.testing.assert_close(near(x), plain(x), rtol=1e-4, atol=1e-5)


def test_dropout_is_of_the_output():
    layer = module(dropout=0.5).train()
    x = torch.randn(1, 400, 16)
    out = layer(x)
    dropped = out == 0
    assert 0.4 < dropped.float().mean() < 0.6
    torch.testing.assert_close(out[~dropped], 2 * layer.eval()(x)[~dropped])


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"conv_kernel": 4}, "conv_kernel"),
        ({"conv_kernel": 0}, "conv_kernel"),
        ({"dropout": 1.0}, "dropout"),
        ({"heads": 3}, "heads"),
        ({"landmarks": 0}, "landmarks"),
        ({"near": 0}, "near"),
        ({"near": 4, "pinv": pinv.svd}, "near"),
        ({"near": 4, "rule": landmarks.strided}, "near"),
    ],
)
def test_bad_options(options, argument):
    with pytest.raises(RangeError) as caught:
        module(**options)
    assert caught.value.argument == argument


def test_bad_contexts():
    x = torch.randn(1, 12, 16)
    with pytest.raises(ShapeError, match="`context`"):
        module()(x, x[:, :6])
    with pytest.raises(ShapeError, match="`context_mask`"):
        module()(x, context_mask=torch.ones(1, 12, dtype=torch.bool))


# ---------------------------------------------------------------- the encoder


def test_encoder_does_not_see_padding():
    model = NystromformerForClassification(CONFIG, 3).eval()
    ids = torch.randint(0, 50, (2, 30))
    expected = model(ids)
    for left, right in ((0, 9), (9, 0), (3, 20)):
        wide = torch.nn.functional.pad(ids, (left, right), value=7)
        mask = torch.zeros_like(wide, dtype=torch.bool)
        mask[:, left : left + 30] = True
        torch.testing.assert_close(model(wide, mask=mask), expected, rtol=1e-4, atol=1e-5)


def test_masked_language_model_ties_its_weights():
    model = NystromformerForMaskedLM(CONFIG).eval()
    assert model(torch.randint(0, 50, (2, 12))).shape == (2, 12, 50)
    assert model.encoder.embeddings.words.weight.shape == (50, 16)
    assert sum(p.numel() for p in model.parameters() if p.shape == (50, 16)) == 800


def test_too_long_is_refused():
    with pytest.raises(ShapeError, match="`ids`"):
        Nystromformer(CONFIG)(torch.zeros(1, 65, dtype=torch.long))


def test_more_real_tokens_than_positions_are_refused_behind_a_mask_too():
    """Beyond the last position all tokens would stand at it; padding may be as long as it likes."""
    model = Nystromformer(CONFIG).eval()
    ids, mask = torch.randint(0, 50, (2, 70)), torch.arange(70) < torch.tensor([[64], [3]])
    assert model(ids, mask=mask).shape == (2, 70, 16)
    mask[0, 66] = True
    with pytest.raises(ShapeError, match="`mask` is of 65 real tokens; it needs at most 64"):
        model(ids, mask=mask)


def test_numbers_that_no_embedding_has():
    model = NystromformerForMaskedLM(CONFIG).eval()
    ids = torch.randint(0, 50, (2, 12))
    torch.testing.assert_close(model(ids.int()), model(ids))
    for wrong in (ids - 50, ids + 50):
        with pytest.raises(RangeError, match="`ids` is from"):
            model(wrong)
    for wrong in (ids * 0 - 1, ids * 0 + 2):
        with pytest.raises(RangeError, match="`types` is from"):
            model(ids, types=wrong)
    with pytest.raises(ShapeError, match="`types`"):
        model(ids, types=ids[:, :-1] * 0)


def test_output_weights_tied_or_not():
    tied, own = NystromformerForMaskedLM(CONFIG), NystromformerForMaskedLM(CONFIG, tied=False).eval()
    assert own.state_dict().keys() - tied.state_dict().keys() == {"decoder"}
    ids = torch.randint(0, 50, (1, 12))
    own.load_state_dict(tied.state_dict() | {"decoder": tied.encoder.embeddings.words.weight.detach()})
    torch.testing.assert_close(own(ids), tied.eval()(ids))
    own.decoder.data[:, 0] += 1
    assert not torch.allclose(own(ids), tied(ids))


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"vocabulary": 0}, "vocabulary"),
        ({"heads": 3}, "heads"),
        ({"pad_id": 50}, "pad_id"),
        ({"conv_kernel": 4}, "conv_kernel"),
        ({"dropout": 1.0}, "dropout"),
        ({"eps": 0.0}, "eps"),
    ],
)
def test_bad_configurations(options, argument):
    with pytest.raises(RangeError) as caught:
        dataclasses.replace(CONFIG, **options)
    assert caught.value.argument == argument


def test_an_encoder_takes_states_of_its_width_and_dtype():
    encoder = PreNormEncoder([module(), module()], dim=16, feed_forward=20).eval()
    x = torch.randn(2, 9, 16)
    assert encoder(x).shape == x.shape
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.isfinite(encoder(x.bfloat16())).all()
    with pytest.raises(DTypeError, match=r"`x` is of dtype torch.bfloat16"):
        encoder(x.bfloat16())
    with pytest.raises(ShapeError, match=r"`dim` is 15; it needs the width"):
        PreNormEncoder([module()], dim=15, feed_forward=20)


def test_training_in_bfloat16_stays_finite_and_learns():
    """Forty steps of a pure bfloat16 model on one batch: the loss falls and nothing overflows."""
    model = NystromformerForClassification(CONFIG, 2).to(torch.bfloat16).train()
    ids, labels = torch.randint(0, 50, (8, 40)), torch.arange(8) % 2
    mask = torch.arange(40) < torch.randint(10, 41, (8, 1))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(40):
        loss = torch.nn.functional.cross_entropy(model(ids, mask=mask).float(), labels)
        optimiser.zero_grad()
        loss.backward()
        assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


COMPILER = shutil.which("g++") or shutil.which("clang++")


@pytest.mark.filterwarnings("ignore:Dynamo detected")
@pytest.mark.parametrize(
    "backend",
    [
        "aot_eager",
        pytest.param(
            "inductor", marks=pytest.mark.skipif(COMPILER is None, reason="no C++ compiler is present")
        ),
    ],
)
def test_compiled_whole_is_equal(backend):
    """Through torch.compile with a mask: one graph, forward and backward traced alone, and forward as generated code.

    Its C++ takes a compiler half a minute for each direction.
    """
    layer, x = module().train(), torch.randn(2, 30, 16)
    mask = torch.arange(30) < torch.tensor([[30], [22]])
    results = []
    for call in (layer, torch.compile(layer, backend=backend, fullgraph=True)):
        layer.zero_grad()
        with torch.set_grad_enabled(backend == "aot_eager"):
            out = call(x, mask=mask)
        if out.requires_grad:
            out.square().sum().backward()
        results.append((out.detach(), [p.grad for p in layer.parameters()]))
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:Dynamo detected")
def test_checks_of_the_models_break_no_graph():
    ids, mask = torch.randint(0, 50, (2, 30)), torch.arange(30) < torch.tensor([[30], [22]])
    model = Nystromformer(replace(CONFIG, depth=1)).eval()
    encoder = PreNormEncoder([module()], dim=16, feed_forward=20).eval()
    for one, x in ((model, ids), (encoder, torch.randn(2, 30, 16))):
        compiled = torch.compile(one, backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(x, mask=mask), one(x, mask=mask), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"exact": True}, {"near": 6}], ids=str)
def test_what_padding_holds_reaches_no_derivative(options):
    layer = module(**options)
    x = torch.randn(2, 30, 16)
    mask = torch.arange(30) < torch.tensor([[22], [30]])
    gradients = []
    for held in (0.0, torch.nan):
        given = torch.where(mask[..., None], x, held).requires_grad_()
        layer.zero_grad()
        layer(given, mask=mask)[mask].square().sum().backward()
        gradients.append([given.grad[mask], *(p.grad.clone() for p in layer.parameters())])
    torch.testing.assert_close(gradients[1], gradients[0])
    assert all(bool(g.isfinite().all()) for g in gradients[1])
