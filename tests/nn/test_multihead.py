"""Torch's multi-head attention and encoder, converted: weights kept, masks honoured, Torch's fused path kept out."""

from __future__ import annotations

import re
from functools import partial

import pytest
import torch
from torch import nn

from nystrom_numerics.errors import ArgumentError, DTypeError, KindError, RangeError
from nystrom_numerics.nn import NystromAttention, from_transformer_encoder

B, N, WIDTH, HEADS, M = 2, 30, 16, 4, 6
PADDING = torch.arange(N) >= torch.tensor([[N - 9], [N]])
CONVERT = partial(NystromAttention.from_multihead, landmarks=M)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def multihead(**options):
    made = nn.MultiheadAttention(WIDTH, HEADS, **options)
    for p in made.parameters():
        nn.init.normal_(p, std=0.3)  # biases are 0 otherwise
    return made.eval()


def encoder(dropout=0.0, bias=True, **options):
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 24, dropout=dropout, bias=bias, **options)
    made = nn.TransformerEncoder(layer, 2, enable_nested_tensor=options.get("batch_first", False))
    for p in made.parameters():
        nn.init.normal_(p, std=0.3)
    return made.eval()


def tokens(batch_first=True, dtype=torch.float32):
    x = torch.randn(B, N, WIDTH, dtype=dtype)
    return x if batch_first else x.transpose(0, 1)


close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-5)

# ---------------------------------------------------------------- one attention


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_projections_are_those_of_torchs(batch_first, bias, dtype):
    own, x = multihead(batch_first=batch_first, bias=bias, dtype=dtype), tokens(batch_first, dtype)
    expected, _ = own(x, x, x, key_padding_mask=PADDING)
    made = NystromAttention.from_multihead(own, landmarks=N)
    first = x if batch_first else x.transpose(0, 1)
    found = made(first, mask=~PADDING)
    expected = expected if batch_first else expected.transpose(0, 1)
    close(found[~PADDING], expected[~PADDING])
    assert (NystromAttention.from_multihead(own, exact=True)(first, mask=~PADDING) == found).all()
    assert (CONVERT(own)(first, mask=~PADDING) - found).abs().max() > 1e-4


def test_weights_are_copies_and_the_mode_is_kept():
    own = multihead()
    made = CONVERT(own)
    assert not made.training
    assert CONVERT(own.train()).training
    before = own.in_proj_weight.clone()
    with torch.no_grad():
        made.query.weight.zero_()
        made.out.weight.zero_()
    assert torch.equal(own.in_proj_weight, before)
    assert own.out_proj.weight.abs().max() > 0


def test_options_are_those_of_the_module():
    made = NystromAttention.from_multihead(multihead(), landmarks=3, near=5)
    assert (made.landmarks, made.near, made.exact, made.conv, made.heads) == (3, 5, False, None, HEADS)
    with pytest.raises(RangeError) as caught:
        NystromAttention.from_multihead(multihead(), landmarks=0)
    assert caught.value.argument == "landmarks"


@pytest.mark.parametrize(
    "options", [{"kdim": 8}, {"vdim": 8}, {"add_bias_kv": True}, {"add_zero_attn": True}], ids=str
)
def test_what_cannot_be_converted_is_refused_by_name(options):
    with pytest.raises(RangeError, match=next(iter(options))) as caught:
        CONVERT(multihead(**options))
    assert caught.value.argument == "multihead"


def test_other_modules_are_refused():
    class Own(nn.MultiheadAttention):
        def forward(self, x):
            return x

    for wrong in (nn.Linear(2, 2), None, Own(WIDTH, HEADS)):
        with pytest.raises(KindError) as caught:
            CONVERT(wrong)
        assert caught.value.argument == "multihead"
    with pytest.raises(KindError) as caught:
        NystromAttention.from_multihead(multihead(dropout=0.1), leave_out_dropout=1)
    assert caught.value.argument == "leave_out_dropout"


def test_the_remedy_for_dropout_works():
    own = multihead(dropout=0.1)
    with pytest.raises(RangeError, match=r"dropout=0\.1") as caught:
        CONVERT(own)
    (remedy,) = re.findall(r"`(\w+=\w+)`", caught.value.needs)
    made = CONVERT(own, **eval(f"dict({remedy})")).train()
    x = tokens()
    assert torch.equal(made(x), made.eval()(x))


# ---------------------------------------------------------------- Torch's encoder

KINDS = {
    "items first": {"batch_first": True},
    "tokens first": {"batch_first": False},
    "norms first": {"batch_first": True, "norm_first": True},
    "gelu, no biases": {"batch_first": True, "activation": "gelu", "bias": False},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("padding", ["none", "boolean", "additive"])
def test_all_tokens_as_landmarks_give_torchs_own(kind, grad, padding):
    """Without derivatives too, where Torch's layers would not call their attention."""
    own, x = encoder(**KINDS[kind]), tokens(KINDS[kind]["batch_first"])
    mask = {"none": None, "boolean": PADDING, "additive": torch.zeros(B, N).masked_fill(PADDING, -torch.inf)}[
        padding
    ]
    made = from_transformer_encoder(own, partial(CONVERT, landmarks=N))
    few = from_transformer_encoder(own, CONVERT)
    with torch.set_grad_enabled(grad):
        expected, found, other = (f(x, src_key_padding_mask=mask) for f in (own, made, few))
    if not KINDS[kind]["batch_first"]:
        expected, found, other = (y.transpose(0, 1) for y in (expected, found, other))
    real = torch.ones(B, N, dtype=torch.bool) if mask is None else ~PADDING
    close(found[real], expected[real])
    assert (other - found)[real].abs().max() > 1e-4
    assert found.requires_grad == grad


@pytest.mark.parametrize("batch_first", [False, True])
def test_padding_changes_nothing(batch_first):
    made, x = from_transformer_encoder(encoder(batch_first=batch_first), CONVERT), tokens(batch_first)
    hidden = (PADDING if batch_first else PADDING.T)[..., None]
    with torch.no_grad():
        one, two = (made(y, src_key_padding_mask=PADDING) for y in (x, torch.where(hidden, 7.0, x)))
    close(*(y.masked_select(~hidden) for y in (one, two)))


def test_one_text_without_an_axis_of_items():
    made, x = from_transformer_encoder(encoder(batch_first=True), CONVERT), tokens()
    close(made(x[0], src_key_padding_mask=PADDING[0]), made(x[:1], src_key_padding_mask=PADDING[:1])[0])
    made = from_transformer_encoder(encoder(batch_first=False), CONVERT)
    close(made(x[0]), made(x[:1].transpose(0, 1))[:, 0])


def test_the_encoder_given_is_left_alone():
    own, x = encoder(batch_first=True), tokens()
    before = own(x)
    made = from_transformer_encoder(own, CONVERT)
    for p in made.parameters():
        nn.init.zeros_(p)
    assert torch.equal(own(x), before)
    assert type(own.layers[0].self_attn) is nn.MultiheadAttention


def test_training_reaches_every_parameter_and_leaves_other_dropouts():
    own = encoder(batch_first=True, dropout=0.1)
    convert = partial(CONVERT, leave_out_dropout=True)
    made = from_transformer_encoder(own, convert).train()
    x = tokens()
    assert not torch.equal(made(x), made(x))
    made(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in made.parameters())


def test_what_is_asked_in_use_and_cannot_be_served():
    made, x = from_transformer_encoder(encoder(batch_first=True), CONVERT), tokens()
    causal = nn.Transformer.generate_square_subsequent_mask(N)
    for options, argument in (
        ({"mask": causal}, "mask"),
        ({"mask": causal, "is_causal": True}, "mask"),
        ({"is_causal": True}, "is_causal"),
        ({"src_key_padding_mask": torch.linspace(0, 1, N).expand(B, N)}, "src_key_padding_mask"),
    ):
        with pytest.raises(RangeError) as caught:
            made(x, **options)
        assert caught.value.argument == argument
    attention = made.layers[0].self_attn
    with pytest.raises(RangeError, match="need_weights"):
        attention(x, x, x)
    with pytest.raises(RangeError, match="self-attention"):
        attention(x, x + 1, x + 1, need_weights=False)
    with pytest.raises(DTypeError, match="src_key_padding_mask"):
        attention(x, x, x, PADDING.long(), need_weights=False)


@pytest.mark.parametrize("wrong", [None, nn.Linear(2, 2), "encoder"])
def test_what_is_no_encoder(wrong):
    with pytest.raises(KindError) as caught:
        from_transformer_encoder(wrong)
    assert caught.value.argument == "encoder"


def test_layers_and_conversions_of_another_kind():
    own = encoder(batch_first=True)
    for convert in (3, lambda one: one):
        with pytest.raises(KindError) as caught:
            from_transformer_encoder(own, convert)
        assert caught.value.argument == "convert"
    with pytest.raises(ArgumentError, match="`encoder`"):
        from_transformer_encoder(from_transformer_encoder(own, CONVERT), CONVERT)
    own.layers[1] = nn.Linear(WIDTH, WIDTH)
    with pytest.raises(ArgumentError, match="a layer Linear"):
        from_transformer_encoder(own, CONVERT)


def test_a_converted_layer_in_an_encoder_of_torchs():
    """Whose own fused path asks the layer for weights that it would multiply by itself."""
    layer = from_transformer_encoder(encoder(batch_first=True), CONVERT).layers[0].eval()
    with pytest.warns(UserWarning, match="enable_nested_tensor"):
        stacked = nn.TransformerEncoder(layer, 1).eval()
    x = tokens()
    with torch.no_grad():
        close(stacked(x, src_key_padding_mask=PADDING), layer(x, src_key_padding_mask=PADDING))
