"""Faults found in public implementations: each shown where its owner is installed, and absent here."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch

from nystrom_numerics import attention, landmarks, pinv
from nystrom_numerics.nn import NystromAttention, NystromformerConfig, from_hugging_face_state

transformers = pytest.importorskip("transformers", reason="transformers is absent")
N, M = 64, 8


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def ours(**options):
    return NystromAttention(16, **{"heads": 2, "landmarks": M, "conv_kernel": 3, **options}).eval()


def lucidrains(**options):
    peer = pytest.importorskip("nystrom_attention", reason="the peer package nystrom-attention is absent")
    kernel = {"residual_conv_kernel": 3}
    return peer.NystromAttention(
        16, **{"dim_head": 8, "heads": 2, "num_landmarks": M, **kernel, **options}
    ).eval()


def hugging_face(**options):
    torch.manual_seed(0)
    config = transformers.NystromformerConfig(
        **{
            "vocab_size": 40,
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 16,
            "max_position_embeddings": 2 * N,
            "num_landmarks": M,
            "segment_means_seq_len": N,
            "conv_kernel_size": 3,
            **options,
        }
    )
    model = transformers.NystromformerModel(config).eval()
    for name, value in model.named_parameters():
        if "query" in name or "key" in name:
            value.data.mul_(40)
    return model, from_hugging_face_state(config.to_dict(), model.state_dict())


def away(a, b):
    return float(torch.linalg.norm(a - b) / torch.linalg.norm(b))


@torch.no_grad()
def test_batch_coupling():
    """A maximum over the batch: a spiky batch-mate changes an item's result."""
    x = torch.randn(2, N, 16)
    x[1] *= 30
    peer, layer = lucidrains(), ours()
    assert away(peer(x)[:1], peer(x[:1])) > 1e-3
    assert away(layer(x)[:1], layer(x[:1])) < 1e-5


@torch.no_grad()
def test_batch_coupling_in_hugging_face():
    """Its pseudoinverse of one core, alone and beside a core whose rows all look at one column."""
    model, _ = hugging_face()
    inverse = model.encoder.layer[0].attention.self.iterative_inv
    core = torch.softmax(torch.randn(1, 1, M, M), dim=-1)
    spiky = torch.softmax(torch.tensor([9.0] + [0.0] * (M - 1)).expand(1, 1, M, M), dim=-1)
    assert away(inverse(torch.cat([core, spiky]))[:1], inverse(core)) > 0.1
    both = pinv.razavi(torch.cat([core, spiky])).value
    assert away(both[:1], pinv.razavi(core).value) < 1e-5


@torch.no_grad()
def test_default_configuration_runs_exact_attention():
    """64 landmarks of 64 tokens; named here by ExactAttentionWarning, see test_checkpoints."""
    default = transformers.NystromformerConfig()
    assert default.num_landmarks == default.segment_means_seq_len
    assert not NystromformerConfig(40).exact


@torch.no_grad()
def test_padding_mask_raises_on_the_nystrom_branch():
    model, mine = hugging_face()
    ids, mask = torch.randint(2, 40, (2, N)), torch.ones(2, N, dtype=torch.long)
    mask[0, 40:] = 0
    with pytest.raises(RuntimeError):
        model(ids, attention_mask=mask)
    torch.testing.assert_close(mine(ids, mask=mask.bool())[:1, :40], mine(ids[:1, :40]), rtol=1e-4, atol=1e-5)


def test_inv_coeff_init_option_raises():
    with pytest.raises(TypeError):
        hugging_face(inv_coeff_init_option=True)
    _, mine = hugging_face()
    assert mine.config.pinv is not None


@torch.no_grad()
@pytest.mark.parametrize("length", [32, 63, 65])
def test_other_lengths_raise(length):
    model, mine = hugging_face()
    ids = torch.randint(2, 40, (1, length))
    with pytest.raises(RuntimeError):
        model(ids)
    assert mine(ids).shape == (1, length, 16)


@torch.no_grad()
def test_another_length_corrupts_in_silence():
    """A batch of two items of half the length is taken for one of the full length: items mix."""
    model, mine = hugging_face()
    ids = torch.randint(2, 40, (2, N // 2))
    try:
        theirs = model(ids)[0]
    except RuntimeError:
        theirs = None  # it raises in this version; in others it mixes
    assert theirs is None or away(theirs[:1], mine(ids[:1])) > 1e-3
    torch.testing.assert_close(mine(ids)[:1], mine(ids[:1]), rtol=1e-4, atol=1e-5)


def test_masked_means_divide_by_the_full_length(rng):
    x, mask = rng.standard_normal((12, 3)), np.arange(12) < 7
    got = landmarks.segment_means(x, 4, mask=mask).points
    np.testing.assert_allclose(got, landmarks.segment_means(x[:7], 4).points, rtol=1e-12)
    wrong = np.where(mask[:, None], x, 0).reshape(4, 3, 3).sum(1) / 3
    assert np.abs(got - wrong).max() > 0.1


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_mask_constants_overflow_in_half_precision(dtype):
    """1e9·(1 − mask) is infinite in float16, and ∞·0 is NaN; here masks are booleans or −∞."""
    assert not torch.isfinite(torch.tensor(1e9).to(torch.float16) * torch.zeros(1, dtype=torch.float16)).all()
    q, k, v = (torch.randn(1, 2, N, 8, dtype=dtype) for _ in range(3))
    mask = torch.arange(N) < 40
    least = torch.zeros(N, dtype=dtype).masked_fill(~mask, torch.finfo(dtype).min)
    got = attention.nystrom(q, k, v, M, attn_mask=least, query_mask=mask)[..., :40, :]
    wide = attention.nystrom(*(x[..., :40, :].float() for x in (q, k, v)), M)
    assert torch.isfinite(got).all()
    assert away(got.float(), wide) < 0.05


@torch.no_grad()
def test_pure_half_precision():
    """Six iterations on a core in float16 lose it; storage of 16 bits with a core in float32 does not."""
    q, k, v = (3 * torch.randn(1, 2, N, 8) for _ in range(3))
    wide = attention.nystrom(q, k, v, M)
    assert away(attention.nystrom(*(x.half() for x in (q, k, v)), M).float(), wide) < 0.02
    layer, x = ours(), torch.randn(1, N, 16)
    expected = layer(x)
    for dtype, tol in ((torch.float16, 0.02), (torch.bfloat16, 0.1)):
        out = ours().to(dtype)(x.to(dtype))
        assert torch.isfinite(out).all()
        assert away(layer.to(dtype)(x.to(dtype)).float(), expected) < tol
        layer = layer.float()


@torch.no_grad()
def test_unmasked_zero_padding_when_m_does_not_divide_n():
    """Theirs pads with zeros that weigh in every mean and softmax; so its result depends on the padding."""
    x = torch.randn(1, N - 3, 16)
    peer = lucidrains()
    padded = torch.nn.functional.pad(x, (0, 0, 3, 0))
    mask = torch.ones(1, N, dtype=torch.bool)
    mask[:, :3] = False
    assert away(peer(x), peer(padded, mask=mask)[:, 3:]) > 1e-3
    layer = ours()
    assert away(layer(padded, mask=mask)[:, 3:], layer(x)) < 1e-5


@torch.no_grad()
def test_even_convolution_kernels_change_the_length():
    peer = lucidrains(residual_conv_kernel=4)
    with pytest.raises(RuntimeError):
        peer(torch.randn(1, N, 16))
    with pytest.raises(ValueError, match="odd"):
        ours(conv_kernel=4)


def test_attention_weights_build_n_by_n(rng):
    """Theirs multiplies the matrix out for `return_attn`; here it is an operator, and rows are had by applying it."""
    q, k = rng.standard_normal((2, 3000, 4))
    operator = attention.nystrom_operator(q, k, 8)
    largest = max(np.size(x) for x in vars(operator).values() if isinstance(x, np.ndarray))
    assert largest == 3000 * 4
    assert operator.apply(np.eye(3000)[:, :2]).shape == (3000, 2)


@pytest.mark.parametrize("option", ["is_causal", "dropout_p", "mask", "causal", "return_attn"])
def test_options_ignored_in_silence(option):
    q = np.zeros((4, 2))
    with pytest.raises(TypeError, match=option):
        attention.nystrom(q, q, q, 2, **{option: True})
    with pytest.raises(TypeError, match=option):
        NystromAttention(16, **{option: True})


def test_one_setting_read_under_two_names():
    with pytest.raises(TypeError, match="num_landmarks"):
        NystromformerConfig(40, num_landmarks=8)
    catch_all = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    for function in (attention.nystrom, attention.normalised, attention.causal, NystromAttention.__init__):
        assert all(p.kind not in catch_all for p in inspect.signature(function).parameters.values())


@pytest.mark.parametrize("rule", [landmarks.segment_means, landmarks.strided, landmarks.kmeans])
def test_duplicate_keys_divide_by_a_vanished_residual(rule, rng):
    q, k, v = rng.standard_normal((3, 40, 4))
    k[:] = k[0]
    for call in (attention.nystrom, attention.normalised):
        got = call(q, k, v, 8, landmarks=rule)
        np.testing.assert_allclose(got, np.broadcast_to(v.mean(0), got.shape), rtol=0.02, atol=0.02)
