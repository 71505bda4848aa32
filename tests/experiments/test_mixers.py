"""Ways to let tokens meet: padding changes nothing, and what comes from a package computes what its paper says."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
import torch

from experiments.errors import NotAvailableError
from experiments.inputs import packages
from experiments.training import mixers
from experiments.training.mixers import MIXERS, Sizes

SIZES = Sizes(dim=16, heads=2, length=96, m=8)


def here(name):
    package = MIXERS[name].package
    try:
        return package is None or packages.needs_rival(package) is None
    except NotAvailableError:
        return False


NAMES = [pytest.param(name, marks=() if here(name) else pytest.mark.skip("not installed")) for name in MIXERS]


def made(name, sizes=SIZES):
    torch.manual_seed(0)
    return mixers.make(name, sizes)


def needs(module):
    return pytest.mark.skipif(find_spec(module) is None, reason=f"no {module}")


@pytest.mark.parametrize("name", NAMES)
def test_what_padding_holds_changes_nothing(name):
    mixer, x = made(name), torch.randn(3, 96, 16)
    mask = torch.arange(96) < torch.tensor([96, 70, 41])[:, None]
    other = torch.where(mask[..., None], x, 10 * torch.randn_like(x))
    torch.manual_seed(1)
    one = mixer(x, mask=mask)
    torch.manual_seed(1)
    two = mixer(other, mask=mask)
    assert one.shape == x.shape
    torch.testing.assert_close(one[mask], two[mask])


@pytest.mark.parametrize("name", NAMES)
def test_entries_grow_with_tokens(name):
    entries = MIXERS[name].entries
    few, many = entries(1024, 32), entries(2048, 32)
    if name == mixers.EXACT:
        assert many == 4 * few
    else:
        assert many <= 2 * few <= 2 * 1.1 * 2 * 32 * 1024


@needs("linformer")
def test_linformer_is_attention_to_projected_keys():
    mixer, x = made("Linformer"), torch.randn(2, 96, 16)
    a = mixer.attention
    q, k, v = (linear(x).unflatten(-1, (2, -1)).transpose(1, 2) for linear in (a.to_q, a.to_k, a.to_v))
    weights = (q @ (a.proj_k.T @ k).mT * 8**-0.5).softmax(dim=-1)
    expected = a.to_out((weights @ (a.proj_v.T @ v)).transpose(1, 2).flatten(2))
    torch.testing.assert_close(mixer(x, mask=None), expected)


@needs("performer_pytorch")
def test_performer_is_favor_and_nears_exact_attention():
    """Its features are eq. (5) of its paper plus 1e-4; 1,024 times as many leave 1/32 of the error, here a third."""
    if not here("Performer"):
        pytest.skip("what it imports is not installed")
    torch.manual_seed(0)
    q, k, v = 0.5 * torch.randn(3, 1, 1, 64, 4)
    exact = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    errors = []
    for features in (4, 4096):
        core = made("Performer", Sizes(4, 1, 64, features)).core
        w = core.fast.projection_matrix

        def of(x, axes, w=w):
            scores = x * 4**-0.25 @ w.mT
            return (
                torch.exp(scores - (x**2).sum(-1, keepdim=True) / 4 - scores.amax(axes, keepdim=True)) + 1e-4
            )

        weights = of(q, (-1,)) @ of(k, (-1, -2)).mT
        out = core(q, k, v, None)
        torch.testing.assert_close(out, weights / weights.sum(-1, keepdim=True) @ v)
        errors.append(float((out - exact).norm() / exact.norm()))
    assert errors[1] < errors[0] / 3


@needs("performer_pytorch")
def test_performers_own_module_counts_padded_keys():
    """The fault that ``mixers`` mends: values of padding are hidden, its keys stay in the normalisation."""
    from performer_pytorch import SelfAttention

    torch.manual_seed(0)
    own, x = SelfAttention(16, heads=2, dim_head=8, nb_features=8), torch.randn(1, 32, 16)
    mask = torch.arange(32)[None] < 20
    with torch.no_grad():
        alone, padded = own(x[:, :20]), own(x, mask=mask)[:, :20]
    assert (alone - padded).abs().max() > 0.01 * alone.abs().max()


def reformer(rounds):
    """The module at two buckets, with its queries, values and the scores of all pairs: q·k/|k|, −50,000 to itself."""
    if not here("Reformer"):
        pytest.skip("what it imports is not installed")
    torch.manual_seed(0)
    module = mixers.make("Reformer", Sizes(16, 2, 32, 32)).attention
    module.lsh_attn.n_hashes = rounds
    x = torch.randn(2, 32, 16)
    q, v = (linear(x).unflatten(-1, (2, -1)).transpose(1, 2) for linear in (module.toqk, module.tov))
    scores = q @ torch.nn.functional.normalize(q, dim=-1).mT * 8**-0.5
    scores.diagonal(dim1=-2, dim2=-1).fill_(-5e4)
    return module, x, q, v, scores


def test_reformer_with_two_buckets_is_full_attention_to_others():
    """Each of two buckets sees itself and the one before it, which is all."""
    module, x, _, v, scores = reformer(rounds=1)
    expected = module.to_out((scores.softmax(dim=-1) @ v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(module(x), expected)


def test_reformers_rounds_of_hashing_see_each_other():
    """Its fault, which its authors' code has too: the first bucket of a round looks back into the round before.

    So with two rounds even two buckets are not full attention.  With the buckets as they fell, what it computes is
    this: tokens in the order of their buckets, in chunks that see themselves and the chunk before, of whatever round;
    the rounds are weighed by their sums of exponentials.
    """
    module, _, q, v, scores = reformer(rounds=2)
    torch.manual_seed(1)
    out, _, buckets = module.lsh_attn(q.flatten(0, 1), v.flatten(0, 1))
    outputs = []
    for item, (s, values) in enumerate(zip(scores.flatten(0, 1), v.flatten(0, 1), strict=True)):
        order = torch.argsort(buckets[item] * 32 + torch.arange(64) % 32) % 32
        chunks = order.view(4, 16)
        numerator, denominator = torch.zeros(32, 8), torch.zeros(32, 1)
        for i, chunk in enumerate(chunks):
            seen = torch.cat([chunk, chunks[i - 1]])
            weights = torch.exp(s[chunk][:, seen])
            numerator[chunk] += weights @ values[seen]
            denominator[chunk] += weights.sum(dim=-1, keepdim=True)
        outputs.append(numerator / denominator)
    torch.testing.assert_close(out, torch.stack(outputs))
    full = (scores.softmax(dim=-1) @ v).flatten(0, 1)
    assert (out - full).abs().max() > 0.01 * full.abs().max()


@needs("local_attention")
def test_local_windows_are_a_band_of_blocks():
    if not here("local windows"):
        pytest.skip("what it imports is not installed")
    core = made("local windows").core
    q, k, v = torch.randn(3, 2, 2, 52, 8)
    window = round(2 * SIZES.m / 3)
    block = torch.arange(52) // window
    seen = (block[:, None] - block).abs() <= 1
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=seen)
    torch.testing.assert_close(core(q, k, v, None), expected)
    unmasked = core.attention(q, k, v)  # the package pads 52 to a multiple of the window, and sees the zeros
    assert (unmasked - expected).abs().max() > 1e-3


@needs("nystrom_attention")
def test_the_peer_is_the_papers_form():
    """With the same weights, one sequence and lengths that m divides, it is this package's six iterations."""
    from nystrom_numerics.nn import NystromAttention
    from nystrom_numerics.pinv import razavi

    theirs = made("nystrom-attention").attention.double()
    ours = NystromAttention(16, heads=2, landmarks=8, pinv=razavi).double()
    with torch.no_grad():
        for linear, weight in zip(
            (ours.query, ours.key, ours.value), theirs.to_qkv.weight.chunk(3), strict=True
        ):
            linear.weight.copy_(weight)
            linear.bias.zero_()
        ours.out.load_state_dict(theirs.to_out[0].state_dict())
        ours.conv.load_state_dict(theirs.res_conv.state_dict())
        x = torch.randn(1, 96, 16, dtype=torch.float64)
        apart = (ours(x) - theirs(x)).norm() / ours(x).norm()
    assert apart < 0.05  # the peer scales by the largest sums of all heads together


def test_sampled_keys_are_exact_where_all_are_drawn():
    few = Sizes(16, 2, 16, 8)
    exact, x = made("exact", few), torch.randn(2, 16, 16)
    for name in ("random keys", "strided keys", "important keys"):
        mixer = made(name, few)
        for part in ("query", "key", "value", "out"):
            getattr(mixer, part).load_state_dict(getattr(exact, part).state_dict())
        torch.testing.assert_close(mixer(x, mask=None), exact(x, mask=None), atol=1e-5, rtol=1e-4)


def test_importance_weights_stand_for_all_keys():
    """Means over draws come near exact attention, closer than one draw: the weights correct what drawing prefers."""
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 1, 1, 200, 4)
    core = made("important keys", Sizes(4, 1, 200, 25)).core
    exact = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    draws = torch.stack([core(q, k, v, None) for _ in range(100)])
    one = float((draws - exact).norm() / (10 * exact.norm()))
    assert float((draws.mean(dim=0) - exact).norm() / exact.norm()) < one / 2


def test_a_rival_that_is_not_installed_is_not_available(monkeypatch):
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    for name, mixer in MIXERS.items():
        if mixer.package is not None:
            with pytest.raises(NotAvailableError, match=f"pip install --no-deps {mixer.package.name}"):
                mixers.make(name, SIZES)


def test_two_models_share_all_but_their_mixers():
    from experiments.inputs.tasks import listops
    from experiments.training.learning import Classifier

    data = listops.load((4, 2, 2), 64)
    one, other = (Classifier(data, name, 4, seed=3) for name in ("exact", "strided keys"))
    own, theirs = (dict(model.named_parameters()) for model in (one, other))
    shared = [name for name in own if ".mixer." not in name]
    assert len(shared) > 20
    for name in shared:
        np.testing.assert_array_equal(own[name].detach(), theirs[name].detach())
