"""Masks by rule: the entries of transformers' own, and what attention reads off without them."""

from __future__ import annotations

from functools import partial

import pytest
import torch

transformers = pytest.importorskip("transformers", reason="transformers is absent")

from transformers import masking_utils as theirs  # noqa: E402

from nystrom_numerics.attention import exact  # noqa: E402
from nystrom_numerics.integrations.transformers import (  # noqa: E402
    UnsupportedModelError,
    register_with_transformers,
)
from nystrom_numerics.integrations.transformers.masks import (  # noqa: E402
    Pattern,
    Reading,
    RuleMask,
    mask_by_rule,
    read_entries,
)

B, N, WINDOW = 2, 12, 4
FULL, CAUSAL, OTHER = Pattern.FULL, Pattern.CAUSAL, Pattern.OTHER
PADDING = {
    "no padding": None,
    "right": torch.arange(N).expand(B, N) < torch.tensor([[8], [N]]),
    "left": torch.arange(N).expand(B, N) >= torch.tensor([[3], [0]]),
}


@pytest.fixture(autouse=True)
def registered():
    register_with_transformers(m=4)


def config(implementation: str, **options):
    made = transformers.LlamaConfig(num_hidden_layers=1, hidden_size=8, num_attention_heads=2, **options)
    made._attn_implementation = implementation
    return made


def even(batch, head, q, k):
    return k % 2 == 0


PLACES = torch.cat([torch.arange(5), torch.arange(N - 5)])[None]
MAKERS = {
    "causal": (theirs.create_causal_mask, {}, CAUSAL),
    "full": (theirs.create_bidirectional_mask, {}, FULL),
    "window": (theirs.create_sliding_window_causal_mask, {"sliding_window": WINDOW}, OTHER),
    "window as long as the text": (theirs.create_sliding_window_causal_mask, {"sliding_window": N}, OTHER),
    "window beyond the text": (theirs.create_sliding_window_causal_mask, {"sliding_window": N + 1}, CAUSAL),
    "window to both sides": (theirs.create_bidirectional_sliding_window_mask, {"sliding_window": WINDOW}, OTHER),
    "wide to both sides": (theirs.create_bidirectional_sliding_window_mask, {"sliding_window": N + 1}, FULL),
    "chunks": (theirs.create_chunked_causal_mask, {"attention_chunk_size": WINDOW}, OTHER),
    "packed": (partial(theirs.create_causal_mask, position_ids=PLACES), {}, OTHER),
    "and": (partial(theirs.create_causal_mask, and_mask_function=even), {}, OTHER),
    "or": (partial(theirs.create_causal_mask, or_mask_function=even), {}, OTHER),
    "full and": (partial(theirs.create_bidirectional_mask, and_mask_function=even), {}, OTHER),
    "wide and": (
        partial(theirs.create_sliding_window_causal_mask, and_mask_function=even), {"sliding_window": N + 1}, OTHER,
    ),
    "wide packed": (
        partial(theirs.create_sliding_window_causal_mask, position_ids=PLACES), {"sliding_window": N + 1}, OTHER,
    ),
}  # fmt: skip


def made(maker: str, implementation: str, padding=None, cache=None, n: int = N):
    function, options, _ = MAKERS[maker]
    past = {"past_key_values": cache} if cache is not None or "full" not in maker else {}
    return function(config(implementation, **options), torch.zeros(B, n, 8), padding, **past)


# transformers packs no text that has a mask of padding
CASES = [(m, p) for m in MAKERS for p in PADDING if p == "no padding" or not m.endswith("packed")]


@pytest.mark.parametrize(("maker", "padding"), CASES)
def test_entries_are_those_of_the_models_own_attention_and_the_pattern_is_read_off(maker, padding):
    own = made(maker, "eager", PADDING[padding])
    ours = made(maker, "nystrom", PADDING[padding])
    if MAKERS[maker][2] is FULL and PADDING[padding] is None:  # nothing is hidden: no mask for either
        assert own is None
        assert ours is None
        return
    own = torch.zeros(B, 1, N, N) if own is None else own
    assert isinstance(ours, RuleMask)
    torch.testing.assert_close(ours + torch.zeros(()), own, rtol=0, atol=0)
    assert ours.reading.pattern is MAKERS[maker][2]
    if PADDING[padding] is None:
        assert ours.reading.real is None
    else:
        assert torch.equal(ours.reading.real, PADDING[padding])


@pytest.mark.parametrize("maker", [maker for maker in MAKERS if MAKERS[maker][2] is not FULL])
def test_all_that_queries_see_is_within_reach_and_parts_are_those_of_the_whole(maker):
    ours = made(maker, "nystrom")
    seen = made(maker, "eager")
    seen = torch.ones(B, 1, N, N, dtype=torch.bool) if seen is None else seen == 0
    tight = ours.reading.behind is not None or maker == "causal"
    for start in range(N):
        for stop in range(start + 1, N + 1):
            low, high = ours.reading.reach(start, stop, N)
            assert 0 <= low < high <= N
            keys = seen[..., start:stop, :].any(dim=(0, 1, 2)).nonzero()
            assert low <= keys.min()
            assert keys.max() < high
            if tight and maker != "chunks":
                assert (low, high) == (keys.min(), keys.max() + 1)
            part = ours.seen((start, stop), (low, high))
            assert torch.equal(part.expand(B, -1, -1, -1), seen[..., start:stop, low:high])


def test_windows_and_chunks_are_of_limited_reach():
    reach = {
        m: (r.behind, r.ahead)
        for m in MAKERS
        if MAKERS[m][2] is not FULL
        for r in [made(m, "nystrom").reading]
    }
    assert reach["causal"] == reach["window beyond the text"] == (None, 0)
    assert reach["window"] == reach["chunks"] == (WINDOW - 1, 0)
    assert reach["window as long as the text"] == (N - 1, 0)
    assert reach["window to both sides"] == (WINDOW, WINDOW)
    for maker in ("packed", "and", "or", "full and", "wide and", "wide packed"):
        assert reach[maker] == (None, None)


def test_a_reach_that_holds_no_key_is_one_key():
    """Of queries before and behind all keys; attention of no key at all has no maximum."""
    window = Reading(OTHER, behind=1, ahead=0)
    assert Reading(OTHER, None, 0, 5, 1, 0).reach(0, 2, 8) == (0, 1)
    assert Reading(OTHER, None, 20, 0, 1, 0).reach(0, 2, 8) == (7, 8)
    assert window.reach(3, 5, 8) == (2, 5)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("maker", ["causal", "window", "chunks"])
def test_caches(maker, padded):
    """A second part of a text after a first, in caches that grow and such that do not."""
    first, n = 7, 3
    padding = (torch.arange(first + n).expand(B, -1) >= torch.tensor([[3], [0]])) if padded else None
    for made_cache in (transformers.DynamicCache, partial(transformers.StaticCache, max_cache_len=16)):
        masks = []
        for implementation in ("eager", "nystrom"):
            options = MAKERS[maker][1]
            cache = made_cache(config=config(implementation, **options))
            cache.update(torch.zeros(B, 2, first, 4), torch.zeros(B, 2, first, 4), 0)
            masks.append(made(maker, implementation, padding, cache, n))
        own, ours = masks
        torch.testing.assert_close(ours + torch.zeros(()), own, rtol=0, atol=0)
        assert ours.reading.first_query == first
        assert (
            ours.reading.first_key == {"causal": 0, "chunks": 0}.get(maker, first - WINDOW + 1)
            or maker != "causal"
        )
        real = (own == 0).any(dim=(1, 2))
        low, high = ours.reading.reach(0, n, own.shape[-1])
        if ours.reading.real is not None:
            assert not (real & ~ours.reading.real).any()
        assert not real[:, :low].any()
        assert not real[:, high:].any()


class Counted:
    """Entries that count how often they are made."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, q_length, q_offset, kv_length, kv_offset):
        self.times += 1
        queries, keys = torch.arange(q_length) + q_offset, torch.arange(kv_length) + kv_offset
        return (keys <= queries[:, None]).expand(B, 1, -1, -1)


def counted(dtype: torch.dtype = torch.float32):
    entries = Counted()
    return RuleMask(Reading(CAUSAL), entries, (B, 1, N, N), dtype, "cpu"), entries


def test_looking_at_a_mask_makes_no_entries():
    mask, entries = counted(torch.float64)
    assert mask.shape == (B, 1, N, N)
    assert (mask.ndim, mask.dim(), mask.size(-1), len(mask.shape)) == (4, 4, N, 4)
    assert mask.dtype == torch.float64
    assert mask.device == torch.device("cpu")
    assert not mask.requires_grad
    assert mask.size(dim=-1) == N
    assert "CAUSAL" in repr(mask)
    assert entries.times == 0


def test_computing_with_a_mask_computes_with_its_entries():
    mask, entries = counted()
    own = torch.where(entries(N, 0, N, 0), 0.0, torch.finfo(torch.float32).min)
    scores = torch.randn(B, 3, N, N)
    for compute in (
        lambda x: scores + x,
        lambda x: torch.softmax(x + scores, dim=-1),
        lambda x: x[:, :, :5, 2:],
        lambda x: x.expand(-1, 3, -1, -1),
        lambda x: torch.cat([x, x], dim=-1),
        lambda x: torch.where(x == 0, scores, -1.0),
        lambda x: torch.add(input=scores, other=x),
        lambda x: x.mT,
        lambda x: x.to(torch.float64),
    ):
        got = compute(mask)
        assert type(got) is torch.Tensor
        torch.testing.assert_close(got, compute(own), rtol=0, atol=0)


def test_below_the_python_interface_too():
    mask, entries = counted()
    with torch._C.DisableTorchFunctionSubclass():
        got = torch.ops.aten.mul.Tensor(mask, 1.0)
        assert torch.ops.aten.sum(mask, dtype=torch.float64).dtype == torch.float64
    assert torch.equal(got == 0, entries(N, 0, N, 0))


def test_masks_stay_on_their_device_whatever_the_default():
    mask, entries = counted()
    with torch.device("meta"):
        got = mask + 0.0
        assert read_entries(TRIL[None, None], N).pattern is CAUSAL
    assert torch.equal(got == 0, entries(N, 0, N, 0))


def test_entries_are_zero_and_the_least_number_of_the_dtype():
    mask, _ = counted(torch.bfloat16)
    values = (mask + torch.zeros((), dtype=torch.bfloat16)).unique()
    assert values.tolist() == [torch.finfo(torch.bfloat16).min, 0.0]


def test_a_refusal_of_no_known_model_says_so():
    with pytest.raises(UnsupportedModelError, match="NoneType of model 'unknown' asks for a mask of 1 axes"):
        mask_by_rule(B, N, N, mask_function=even, attention_mask=torch.ones(N))


def test_a_mask_of_padding_with_other_axes_is_refused():
    with pytest.raises(UnsupportedModelError, match="model 'llama' asks for a mask of 3 axes"):
        mask_by_rule(
            B,
            N,
            N,
            mask_function=theirs.causal_mask_function,
            attention_mask=torch.ones(B, N, N),
            config=config("nystrom"),
        )


def test_numbers_as_padding():
    ones = torch.ones(B, N, dtype=torch.long)
    ones[0, :3] = 0
    mask = mask_by_rule(B, N, N, mask_function=theirs.bidirectional_mask_function, attention_mask=ones)
    assert mask.reading.real.dtype == torch.bool
    assert (mask.reading.first_query, mask.reading.first_key) == (0, 0)
    assert mask.shape == (B, 1, N, N)
    assert torch.equal(mask[:, 0, 0] == 0, ones.bool())


def test_padding_that_pads_nothing_is_no_mask_where_there_may_be_none():
    options = {"mask_function": theirs.bidirectional_mask_function, "attention_mask": torch.ones(B, N)}
    assert mask_by_rule(B, N, N, **options, allow_is_bidirectional_skip=True) is None
    assert mask_by_rule(B, N, N, **options) is not None


@pytest.mark.parametrize("asked", [{}, {"use_vmap": True}])
def test_how_entries_are_made_is_asked_of_transformers(asked, monkeypatch):
    heard = {}
    monkeypatch.setattr(theirs, "sdpa_mask", lambda *_, **options: heard.update(options))
    mask_by_rule(B, N, N, mask_function=even, **asked).seen((0, 1), (0, 1))
    assert heard["use_vmap"] is asked.get("use_vmap", False)


def test_a_mask_is_made_where_it_is_asked_for():
    mask = mask_by_rule(B, N, N, mask_function=theirs.causal_mask_function, device="meta")
    assert mask.device == mask.seen((0, N), (0, N)).device == (mask + 0.0).device == torch.device("meta")


def test_positions_on_a_device_are_numbers_here():
    at = torch.tensor(3)
    mask = mask_by_rule(B, 2, 5, at, at - 3, mask_function=theirs.causal_mask_function)
    assert (mask.reading.first_query, mask.reading.first_key) == (3, 0)
    assert type(mask.reading.first_query) is type(mask.reading.first_key) is int


# ---------------------------------------------------------------- masks that models make by themselves

TRIL = torch.ones(N, N, dtype=torch.bool).tril()
KEYS = PADDING["left"][:, None, None]
RIGHT = PADDING["right"][:, None, None]
PAIRS = TRIL.clone()
PAIRS[9, 2] = False
LEAST = torch.finfo(torch.float32).min
READ = {
    "nothing hidden": (torch.ones(B, 1, N, N, dtype=torch.bool), FULL, torch.ones(B, N, dtype=torch.bool)),
    "keys": (KEYS, FULL, KEYS[:, 0, 0]),
    "keys for each query": (KEYS.expand(B, 1, N, N), FULL, KEYS[:, 0, 0]),
    "one for all": (torch.ones(1, 1, 1, 1, dtype=torch.bool), FULL, torch.ones(1, N, dtype=torch.bool)),
    "causal": (TRIL[None, None], CAUSAL, torch.ones(1, N, dtype=torch.bool)),
    "causal, left padding": (TRIL & KEYS, CAUSAL, KEYS[:, 0, 0]),
    "causal, right padding": (TRIL & RIGHT, CAUSAL, RIGHT[:, 0, 0]),
    "causal the other way round": (TRIL.mT[None, None], OTHER, None),
    "pairs": (PAIRS[None, None], OTHER, None),
    "of heads": (TRIL.expand(1, 2, N, N), OTHER, None),
    "without heads": (TRIL[None], OTHER, None),
    "of queries": (KEYS.mT, OTHER, None),
}


@pytest.mark.parametrize("additive", [False, True])
@pytest.mark.parametrize("name", READ)
def test_plain_masks_are_looked_through(name, additive):
    mask, pattern, real = READ[name]
    found = read_entries(torch.where(mask, 0.0, LEAST) if additive else mask, N)
    assert found.pattern is pattern
    if real is None:
        assert found.real is None
    else:
        assert torch.equal(found.real, real)
    assert (found.first_query, found.first_key) == (0, 0)


def test_what_is_added_to_scores_that_count_is_no_mask():
    bias = torch.zeros(B, 1, N, N)
    assert read_entries(bias, N).pattern is FULL
    bias[1, 0, 3, 4] = 1e-3
    assert read_entries(bias, N).pattern is OTHER
    hidden = torch.where(TRIL, 0.0, LEAST)[None, None] - torch.where(
        TRIL, 0.0, 5.0
    )  # of a score that counts nothing
    assert read_entries(hidden, N).pattern is CAUSAL
    assert read_entries(torch.full((1, 1, N, N), -torch.inf).triu(1), N).pattern is CAUSAL


@pytest.mark.parametrize(("entry", "pattern"), [(LEAST / 2, FULL), (LEAST / 2.1, OTHER), (torch.nan, OTHER)])
def test_what_counts_counts_in_exact_attention_too(entry, pattern):
    mask = torch.full((1, 1, 1, N), entry)
    assert read_entries(mask, N).pattern is pattern
    q = torch.ones(1, 1, N, 2)
    seen = exact(q, q, q, attn_mask=mask) != 0  # NaN is
    assert bool(seen.all()) is (pattern is OTHER)
