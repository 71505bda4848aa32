"""The attention function alone: exact where it says so, approximated where it says so, refused by name elsewhere."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn

transformers = pytest.importorskip("transformers", reason="transformers is absent")

from transformers import masking_utils as theirs  # noqa: E402

from nystrom_numerics import attention as ours  # noqa: E402
from nystrom_numerics import pinv  # noqa: E402
from nystrom_numerics.integrations.transformers import UnsupportedModelError  # noqa: E402
from nystrom_numerics.integrations.transformers import attention as under_test  # noqa: E402
from nystrom_numerics.integrations.transformers.attention import NystromAttentionFunction  # noqa: E402
from nystrom_numerics.integrations.transformers.masks import mask_by_rule  # noqa: E402
from nystrom_numerics.landmarks import segment_means, strided  # noqa: E402

B, H, G, N, D, M = 2, 4, 2, 24, 4, 6
SCALE = 0.7
PLAIN = NystromAttentionFunction(M, 8, None, False, segment_means, ours.ridge, None, False)
LEAST = torch.finfo(torch.float64).min
TRIL = torch.ones(N, N, dtype=torch.bool).tril()


class Encoder(nn.Module):
    config = SimpleNamespace(model_type="a model")

    def forward(self, hidden_states, attention_mask=None, **kwargs):
        raise NotImplementedError


class Either(Encoder):
    """Takes keys of another text where they are given."""

    def forward(self, hidden_states, key_value_states=None, attention_mask=None, **kwargs):
        raise NotImplementedError


class TheCrossAttention(Encoder):
    pass


def module(kind: type = Encoder, **said) -> nn.Module:
    made = kind().eval()
    for name, value in said.items():
        setattr(made, name, value)
    return made


def qkv(n_q: int = N, n_k: int = N, groups: int = G, d_v: int = D, seed: int = 0):
    g = torch.Generator().manual_seed(seed)
    draw = partial(torch.randn, generator=g, dtype=torch.float64)
    return draw(B, H, n_q, D), draw(B, groups, n_k, D), draw(B, groups, n_k, d_v)


def reference(q, k, v, added=None, scale=SCALE):
    """Eager attention of transformers, with zeros for a query that sees no key."""
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    scores = q @ k.mT * scale
    scores = scores if added is None else scores + added
    alone = (scores <= LEAST / 2).all(dim=-1, keepdim=True)
    return torch.where(alone, 0.0, torch.softmax(scores, dim=-1) @ v).transpose(1, 2)


def attend(function, q, k, v, mask=None, kind=Encoder, said=None, **asked):
    out, weights = function(module(kind, **(said or {})), q, k, v, mask, scaling=SCALE, **asked)
    assert weights is None
    assert out.is_contiguous()
    return out


def hide(seen):
    """What eager attention adds to scores."""
    return torch.where(seen, 0.0, torch.full((), LEAST, dtype=torch.float64))


def same(a, b):
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def rule(function, n_q=N, n_k=N, first=0, padding=None, **options):
    return mask_by_rule(
        B, n_q, n_k, first, mask_function=function, attention_mask=padding, dtype=torch.float64, **options
    )


LEFT = torch.arange(N).expand(B, N) >= torch.tensor([[3], [0]])
causal, full = theirs.causal_mask_function, theirs.bidirectional_mask_function
window = theirs.sliding_window_causal_mask_function(5)


# ---------------------------------------------------------------- exact: of few tokens, under any mask

SEEN = torch.rand(B, H, N, N, generator=torch.Generator().manual_seed(1)) < 0.6
MASKS = {
    "none": lambda: None,
    "causal": lambda: rule(causal),
    "full": lambda: rule(full),
    "full, left padding": lambda: rule(full, padding=LEFT),
    "causal, left padding": lambda: rule(causal, padding=LEFT),
    "window": lambda: rule(window),
    "keys, boolean": lambda: LEFT[:, None, None],
    "keys, added": lambda: hide(LEFT[:, None, None]),
    "pairs, added": lambda: hide(SEEN[:, :1]),
    "pairs of heads": lambda: SEEN,
    "keys of heads": lambda: hide(SEEN[:, :, :1]),
    "bias of heads": lambda: SEEN * 1.5,
    "bias of pairs": lambda: SEEN[:1, :1] * 1.5,
    "for the whole batch": lambda: SEEN[:1, :1],
}


@pytest.mark.parametrize("groups", [H, G, 1])
@pytest.mark.parametrize("name", MASKS)
def test_as_many_landmarks_as_tokens_are_the_models_own_attention(name, groups):
    mask = MASKS[name]()
    q, k, v = qkv(groups=groups, d_v=3)
    added = mask
    if mask is not None and mask.dtype == torch.bool:
        added = hide(mask)
    elif mask is not None:
        added = mask + torch.zeros((), dtype=torch.float64)
    same(attend(replace(PLAIN, m=N), q, k, v, mask), reference(q, k, v, added))


def test_few_queries_or_few_keys_are_exact_and_one_more_is_not():
    for n_q, n_k in ((M, N), (1, N), (N, M)):
        q, k, v = qkv(n_q, n_k)
        same(attend(PLAIN, q, k, v), reference(q, k, v))
    q, k, v = qkv(M + 1, M + 1)
    assert (attend(PLAIN, q, k, v) - reference(q, k, v)).abs().max() > 1e-3


def test_without_a_scale_it_is_that_of_the_width():
    q, k, v = qkv(M, N)
    out, _ = PLAIN(module(), q, k, v, None)
    same(out, reference(q, k, v, scale=D**-0.5))
    q, k, v = qkv()
    for function, mask in ((PLAIN, rule(full)), (PLAIN, rule(causal)), (replace(PLAIN, near=8), rule(full))):
        by_default, stated = (function(module(), q, k, v, mask, scaling=s)[0] for s in (None, D**-0.5))
        same(by_default, stated)


def test_a_mask_of_keys_is_not_repeated_for_each_query(monkeypatch):
    """That would be n × n entries, where heads that share keys become rows of one."""
    given, exactly = [], under_test.exact
    monkeypatch.setattr(
        under_test, "exact", lambda *x, **o: given.append(o["attn_mask"].shape) or exactly(*x, **o)
    )
    q, k, v = qkv()
    attend(replace(PLAIN, m=N), q, k, v, rule(full, padding=LEFT))
    assert given == [(B, 1, 1, N)]


# ---------------------------------------------------------------- approximated

KEYS = LEFT[:, None]


def full_call(function, q, k, v, **options):
    return function(q, k, v, M, scale=SCALE, grouped=True, **options).transpose(1, 2)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize(
    ("options", "call"),
    [
        ({}, ours.nystrom),
        ({"pinv": pinv.svd}, partial(ours.nystrom, pinv=pinv.svd)),
        ({"landmarks": strided}, partial(ours.nystrom, landmarks=strided)),
        ({"solver": pinv.rank_revealing}, partial(ours.nystrom, solver=pinv.rank_revealing)),
        ({"row_normalised": True}, ours.normalised),
        ({"row_normalised": True, "landmarks": strided}, partial(ours.normalised, landmarks=strided)),
        (
            {"row_normalised": True, "solver": pinv.rank_revealing},
            partial(ours.normalised, solver=pinv.rank_revealing),
        ),
    ],
    ids=[*("default", "svd", "strided", "solved"), *("rows", "rows, strided", "rows, solved")],
)
def test_full_attention_of_a_text_to_itself(options, call, padded):
    q, k, v = qkv()
    given = {"key_mask": KEYS, "query_mask": KEYS} if padded else {}
    got = attend(replace(PLAIN, **options), q, k, v, rule(full, padding=LEFT if padded else None))
    same(got, full_call(call, q, k, v, **given))


def test_masks_that_models_make_are_read():
    q, k, v = qkv()
    padded = full_call(ours.nystrom, q, k, v, key_mask=KEYS, query_mask=KEYS)
    same(attend(PLAIN, q, k, v), full_call(ours.nystrom, q, k, v))
    same(attend(PLAIN, q, k, v, LEFT[:, None, None]), padded)
    same(attend(PLAIN, q, k, v, hide(LEFT[:, None, None])), padded)
    tril = TRIL[None, None]
    same(attend(PLAIN, q, k, v, tril), attend(PLAIN, q, k, v, rule(causal)))
    mask = LEFT[:, None, None] & tril
    same(attend(PLAIN, q, k, v, mask), attend(PLAIN, q, k, v, rule(causal, padding=LEFT)))


@pytest.mark.parametrize("solver", [ours.ridge, pinv.rank_revealing])
@pytest.mark.parametrize("padded", [False, True])
def test_a_near_field(padded, solver):
    q, k, v = qkv()
    mask = rule(full, padding=LEFT if padded else None)
    near = replace(PLAIN, near=N - 1, solver=solver)
    given = {"mask": KEYS} if padded else {}
    same(
        attend(near, q, k, v, mask), full_call(ours.near_field, q, k, v, block=N - 1, solver=solver, **given)
    )
    near = replace(near, near=N)
    same(attend(near, q, k, v, mask), reference(q, k, v, hide(KEYS[:, :, None]) if padded else None))


@pytest.mark.parametrize("padded", [False, True])
def test_tangents(padded):
    """With the kernel entries of as many landmarks: half of m in pilots, 5/4 in near keys, a quarter in groups."""
    q, k, v = qkv()
    mask = rule(full, padding=LEFT if padded else None)
    given = {"key_mask": LEFT[:, None], "query_mask": LEFT[:, None]} if padded else {}
    options = {"blocks": max(1, M // 2), "near": 5 * M // 4, "groups": max(1, M // 4), "scale": SCALE}
    got = attend(replace(PLAIN, tangent=True), q, k, v, mask)
    same(got, ours.tangent(q, k, v, grouped=True, **options, **given).transpose(1, 2))
    truth = reference(q, k, v, hide(LEFT[:, None, None]) if padded else None)
    same(attend(replace(PLAIN, tangent=True, m=N), q, k, v, mask), truth)
    assert (got - truth).abs().max() > 1e-6


def causal_call(q, k, v, **options):
    out = ours.causal(
        q.reshape(B, G, H // G, N, D),
        k[:, :, None],
        v[:, :, None],
        block=8,
        near=max(1, M // 2),
        routed=M // 16,
        scale=SCALE,
        **options,
    )
    return out.reshape(B, H, N, -1).transpose(1, 2)


@pytest.mark.parametrize("padded", [False, True])
def test_causal_attention_from_the_first_token(padded):
    q, k, v = qkv(d_v=3)
    given = {"key_mask": LEFT[:, None, None]} if padded else {}
    got = attend(PLAIN, q, k, v, rule(causal, padding=LEFT if padded else None))
    same(got, causal_call(q, k, v, **given))
    assert (got - reference(q, k, v, hide(TRIL))).abs().max() > 1e-3


@pytest.mark.parametrize("padded", [False, True])
def test_a_static_cache_that_is_not_full(padded):
    """Its keys beyond the text are not there; what they hold, NaN included, counts for nothing."""
    q, k, v = qkv()
    padding = LEFT if padded else None
    mine = attend(PLAIN, q, k, v, rule(causal, padding=padding))
    more = torch.full((B, G, 9, D), torch.nan, dtype=torch.float64)
    k, v = torch.cat([k, more], dim=2), torch.cat([v, more], dim=2)
    same(attend(PLAIN, q, k, v, rule(causal, n_k=N + 9, padding=padding)), mine)
    few = attend(PLAIN, q[:, :, :M], k, v, rule(causal, M, N + 9, padding=padding))
    seen = TRIL[:M, :M] & LEFT[:, None, None, :M] if padded else TRIL[:M, :M]
    same(few, reference(q[:, :, :M], k[:, :, :M], v[:, :, :M], hide(seen)))


# ---------------------------------------------------------------- exact: everything that is not one of the two


def test_queries_after_a_cache_are_exact(monkeypatch):
    monkeypatch.setattr(under_test, "ROWS", 5)
    q, k, v = qkv(N - 8)
    seen = TRIL[8:]
    same(attend(PLAIN, q, k, v, rule(causal, N - 8, N, first=8)), reference(q, k, v, hide(seen)))
    same(attend(PLAIN, q, k, v, hide(seen)[None, None]), reference(q, k, v, hide(seen)))
    seen = seen & LEFT[:, None, None]
    same(
        attend(PLAIN, q, k, v, rule(causal, N - 8, N, first=8, padding=LEFT)), reference(q, k, v, hide(seen))
    )


@pytest.mark.parametrize("local", [None, 5])
def test_windows_are_exact_and_read_no_key_out_of_reach(local, monkeypatch):
    monkeypatch.setattr(under_test, "ROWS", 5)
    read = []
    exactly = under_test.exact
    monkeypatch.setattr(
        under_test, "exact", lambda q, k, v, **o: read.append(k.shape[-2]) or exactly(q, k, v, **o)
    )
    q, k, v = qkv()
    added = hide(TRIL & ~TRIL.tril(-5))
    mask = rule(window, local_size=local, allow_is_causal_skip=local is not None)
    same(attend(PLAIN, q, k, v, mask), reference(q, k, v, added))
    assert read == ([5, 9, 9, 9, 8] if local else [N] * 5)


def test_other_patterns_are_exact():
    q, k, v = qkv()
    places = torch.arange(N)[None].expand(B, -1) // 10
    packed = theirs.and_masks(theirs.packed_sequence_mask_function(places), causal)
    seen = (places[0][:, None] == places[0]) & torch.ones(N, N, dtype=torch.bool).tril()
    same(attend(PLAIN, q, k, v, rule(packed)), reference(q, k, v, hide(seen)))


@pytest.mark.parametrize("padded", [False, True])
def test_attention_between_two_texts_is_exact(padded):
    """Landmarks of queries would be made of later ones as well.  Equal lengths make no text the same."""
    added = hide(LEFT[:, None, None]) if padded else None
    mask = rule(full, padding=LEFT if padded else None)
    for said in (
        {"kind": TheCrossAttention},
        {"kind": Encoder, "said": {"is_cross_attention": True}},
        {"kind": Either},
        {"kind": Either, "said": {"is_decoder": True}},
    ):
        q, k, v = qkv()
        same(attend(PLAIN, q, k, v, mask, **said), reference(q, k, v, added))
        same(attend(PLAIN, q, k, v, added, **said), reference(q, k, v, added))
    q, k, v = qkv(N + 1, N)
    same(
        attend(PLAIN, q, k, v, rule(full, N + 1, N, padding=LEFT if padded else None)),
        reference(q, k, v, added),
    )
    same(attend(PLAIN, q, k, v, added), reference(q, k, v, added))


def test_what_a_module_says_of_itself():
    q, k, v = qkv()
    approximated = full_call(ours.nystrom, q, k, v)
    for said in (
        {"kind": Encoder},
        {"kind": Either, "said": {"is_decoder": False}},
        {"kind": Either, "said": {"is_cross_attention": False}},
        {"kind": TheCrossAttention, "said": {"is_cross_attention": False}},
    ):
        same(attend(PLAIN, q, k, v, rule(full), **said), approximated)


@pytest.mark.parametrize("name", sorted(under_test._OF_ONE_TEXT))
def test_arguments_that_bring_no_other_text(name):
    space = {}
    exec(f"def forward(self, x, {name}, **kwargs): raise NotImplementedError", space)
    kind = type("Made", (Encoder,), {"forward": space["forward"]})
    assert under_test._attends_to_itself(kind())
    exec(f"def forward(self, x, {name}, memory=None): raise NotImplementedError", space)
    kind = type("Made", (Encoder,), {"forward": space["forward"]})
    assert not under_test._attends_to_itself(kind())


# ---------------------------------------------------------------- refused


def refused(match, function=PLAIN, mask=None, said=None, q_k_v=None, kind=Encoder, **asked):
    with pytest.raises(
        UnsupportedModelError, match=f"^{kind.__name__} of model 'a model' asks for .*{match}"
    ):
        attend(function, *(q_k_v or qkv()), mask, kind=kind, said=said, **asked)


@pytest.mark.parametrize("n", [2, N])
@pytest.mark.parametrize("option", [*under_test._REFUSED, "something_new"])
def test_options_that_nystrom_does_not_know(option, n):
    """At any length: a model that is refused is not refused for the first time with a longer text."""
    what = under_test._REFUSED.get(option, "'something_new'")
    refused(what, q_k_v=qkv(n, n), **{option: torch.zeros(H)})
    refused(what, q_k_v=qkv(n, n), **{option: 0})
    for nothing in (None, False):
        attend(PLAIN, *qkv(n, n), **{option: nothing})


@pytest.mark.parametrize("option", sorted(under_test._OF_NO_EFFECT))
def test_options_that_eager_attention_does_not_use_either(option):
    q, k, v = qkv()
    same(attend(PLAIN, q, k, v, **{option: 3}), attend(PLAIN, q, k, v))


def test_dropout_in_training():
    training = {"training": True}
    refused("dropout 0.1 of attention weights.*`leave_out_dropout=True`", said=training, dropout=0.1)
    q, k, v = qkv()
    out = attend(PLAIN, q, k, v)
    same(attend(PLAIN, q, k, v, dropout=0.1), out)
    same(attend(PLAIN, q, k, v, said=training, dropout=0.0), out)
    same(attend(PLAIN, q, k, v, said=training), out)
    same(attend(replace(PLAIN, leave_out_dropout=True), q, k, v, said=training, dropout=0.1), out)


def test_causal_attention_without_a_block():
    alone = replace(PLAIN, block=None)
    refused("causal attention; register again with `block=128`", alone, rule(causal))
    attend(alone, *qkv(M, M), rule(causal, M, M))
    attend(alone, *qkv(N - 8), rule(causal, N - 8, N, first=8))


@pytest.mark.parametrize("mask", [SEEN[:, :1], SEEN, SEEN * 1.5], ids=["pairs", "heads", "bias"])
def test_a_mask_of_pairs_of_many_tokens(mask):
    refused("a mask or bias .* of pairs of tokens", mask=mask)


def test_a_causal_module_without_a_mask():
    match = "causal attention without the mask"
    refused(match, said={"is_causal": True})
    refused(match, is_causal=True)
    refused(match, q_k_v=qkv(2, 2), is_causal=True)
    q, k, v = qkv(1, N)
    same(attend(PLAIN, q, k, v, is_causal=True), reference(q, k, v))
    q, k, v = qkv()
    out = full_call(ours.nystrom, q, k, v)
    same(attend(PLAIN, q, k, v, said={"is_causal": True}, is_causal=False), out)
    same(attend(PLAIN, q, k, v, rule(full), said={"is_causal": True}), out)
