"""Torch's attention by its signature: its documented meaning where the estimator is exact, else refusals by name."""

from __future__ import annotations

import inspect
from functools import partial
from itertools import product

import pytest
import torch

from nystrom_numerics import attention
from nystrom_numerics.errors import ArgumentError, KindError, RangeError
from nystrom_numerics.integrations.torch import UnservedArgumentError, sdpa

KERNEL = torch.nn.functional.scaled_dot_product_attention
B, H, N, D = 2, 4, 24, 8

EXACT = {  # as many landmarks as tokens; the estimator itself; as many near keys as keys; no kernel of Torch's
    "nystrom": sdpa(m=N),
    "exact": sdpa(attention.exact, causal=partial(attention.causal, block=N)),
    "tangent": sdpa(partial(attention.tangent, near=2 * N), causal=partial(attention.causal, block=N)),
}


def tokens(n_q=N, n_k=N, heads=H, groups=H, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = ((B, heads, n_q, D), (B, groups, n_k, D), (B, groups, n_k, D + 2))
    return tuple(torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes)


@pytest.fixture(params=EXACT)
def attend(request):
    return EXACT[request.param]


def close(found, expected, tolerance=1e-10):
    """Both are sums of at most 24 products of numbers of size 1, in other orders."""
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


def test_the_signature_is_that_of_torch():
    """That of a builtin is the first line of its documentation, which says of two that they go by name alone."""
    found = KERNEL.__doc__.partition(")")[0].partition("(")[2]
    expected = [p.strip() for p in found.split(",")]
    parameters = inspect.signature(sdpa()).parameters.values()
    named = [p.name if p.default is p.empty else f"{p.name}={p.default}" for p in parameters]
    assert named == expected
    assert [p.name for p in parameters if p.kind is p.KEYWORD_ONLY] == ["scale", "enable_gqa"]


# ---------------------------------------------------------------- the meaning of each argument

PADDED = torch.arange(N) < torch.tensor([[N - 7], [N]])
HOLES = torch.rand(B, N, generator=torch.Generator().manual_seed(5)) < 0.6
OF_KEYS = {
    "of items": PADDED[:, None, None],
    "of items and all queries": PADDED[:, None, None].expand(B, 1, N, N),
    "of items and heads": HOLES[:, None, None].expand(B, H, 1, N),
    "of keys": HOLES[0][None],
    "of queries and keys": HOLES[0].expand(N, N),
    "of heads": torch.stack([HOLES[0], HOLES[1], PADDED[0], PADDED[1]])[:, None],
    "of nothing": torch.ones(1, 1, dtype=torch.bool),
    "of all": torch.ones(B, H, N, N, dtype=torch.bool),
}


def as_float(mask, least=-torch.inf, dtype=torch.float64):
    return torch.zeros(mask.shape, dtype=dtype).masked_fill(~mask, least)


@pytest.mark.parametrize("kind", ["boolean", "infinite", "least"])
@pytest.mark.parametrize("name", OF_KEYS)
def test_masks_of_keys_however_they_broadcast(name, kind, attend):
    mask = OF_KEYS[name]
    if kind != "boolean":
        mask = as_float(mask, -torch.inf if kind == "infinite" else torch.finfo(torch.float64).min)
    q, k, v = tokens()
    close(attend(q, k, v, mask), KERNEL(q, k, v, mask))


@pytest.mark.parametrize(
    "padding", [None, PADDED, ~PADDED.flip(0) | PADDED[1]], ids=["none", "right", "other"]
)
@pytest.mark.parametrize("kind", ["boolean", "infinite"])
def test_a_causal_mask_is_read_as_one(kind, padding, attend):
    """Rows that see nothing are left out: Torch gives what it likes there."""
    mask = torch.ones(N, N, dtype=torch.bool).tril()
    mask = mask if padding is None else mask & padding[:, None, None]
    q, k, v = tokens()
    given = mask if kind == "boolean" else as_float(mask)
    found, expected = attend(q, k, v, given), KERNEL(q, k, v, mask)
    # a padding query between real ones gives zeros here: its own key is no key
    rows = torch.ones(1, 1, N, dtype=torch.bool) if padding is None else padding[:, None]
    close(found[rows.expand(B, H, N)], expected[rows.expand(B, H, N)])


@pytest.mark.parametrize(("n_q", "n_k"), [(N, N), (9, N), (N, 9), (1, N), (N, 1)])
def test_is_causal_is_aligned_to_the_top_left(n_q, n_k, attend):
    """As the reference in Torch's documentation has it: ``ones(n_q, n_k).tril()``."""
    q, k, v = tokens(n_q, n_k)
    found = attend(q, k, v, is_causal=True)
    close(found, KERNEL(q, k, v, attn_mask=torch.ones(n_q, n_k, dtype=torch.bool).tril()))
    close(found, KERNEL(q, k, v, is_causal=True))


@pytest.mark.parametrize("scale", [None, 0.7, 0, -1.5, 2])
def test_scale(scale, attend):
    q, k, v = tokens()
    close(attend(q, k, v, scale=scale), KERNEL(q, k, v, scale=None if scale is None else float(scale)))


@pytest.mark.parametrize("groups", [1, 2, H])
@pytest.mark.parametrize(
    "mask", [None, PADDED[:, None, None], OF_KEYS["of heads"]], ids=["none", "items", "heads"]
)
@pytest.mark.parametrize("is_causal", [False, True])
def test_grouped_heads(groups, mask, is_causal, attend):
    if is_causal and mask is not None:
        return
    q, k, v = tokens(groups=groups)
    options = {"is_causal": is_causal, "enable_gqa": True}
    close(attend(q, k, v, mask, **options), KERNEL(q, k, v, mask, **options))


@pytest.mark.parametrize("axes", [0, 1, 2, 3])
def test_any_number_of_leading_axes(axes, attend):
    q, k, v = (x[(0,) * (2 - axes)] if axes < 3 else x[None] for x in tokens())
    close(attend(q, k, v), KERNEL(q, k, v))


@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"attn_mask": PADDED[:, None, None]}], ids=str)
def test_derivatives(options, attend):
    given = [x.requires_grad_() for x in tokens()]
    weights = torch.randn(B, H, N, D + 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found, expected = (
        torch.autograd.grad((f(*given, **options) * weights).sum(), given) for f in (attend, KERNEL)
    )
    for ours, theirs in zip(found, expected, strict=True):
        close(ours, theirs, 1e-9)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("given", [torch.float32, None])
@pytest.mark.parametrize("masked", [False, True])
def test_autocast(dtype, given, masked, attend):
    """Cast as Torch casts, also where dtypes are mixed; both round to 16 bits what they computed in 32."""
    q, k, v = tokens(dtype=dtype if given is None else given)
    q = q.float()
    mask = as_float(PADDED[:, None, None], dtype=torch.float32) if masked else None
    with torch.autocast("cpu", dtype=dtype):
        found, expected = attend(q, k, v, mask), KERNEL(q, k, v, mask)
        doubles = attend(*tokens())
    assert found.dtype == expected.dtype == dtype
    assert doubles.dtype == torch.float64
    close(found.float(), expected.float(), 8 * float(torch.finfo(dtype).eps))


def test_autocast_reaches_no_further_than_the_arguments():
    """What is computed inside is computed as without it: statistics and the core in 32 bits."""
    cast = [x.to(torch.bfloat16) for x in tokens()]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = sdpa(m=5)(*tokens(dtype=torch.float32))
    assert torch.equal(found, attention.nystrom(*cast, 5))


# ---------------------------------------------------------------- by fewer landmarks


def test_what_is_served_is_the_estimator_itself():
    q, k, v = tokens()
    key_mask = PADDED[:, None]
    of_keys = PADDED[:, None, None]
    by_landmarks = partial(attention.nystrom, q, k, v, 5)
    assert torch.equal(sdpa(m=5)(q, k, v), by_landmarks())
    assert torch.equal(sdpa(m=5)(q, k, v, of_keys), by_landmarks(key_mask=key_mask))
    both = by_landmarks(key_mask=key_mask, query_mask=key_mask)
    assert torch.equal(sdpa(m=5, self_attention=True)(q, k, v, of_keys), both)
    assert not torch.equal(both, by_landmarks(key_mask=key_mask))
    few = q[..., :7, :]
    assert torch.equal(
        sdpa(m=5, self_attention=True)(few, k, v, of_keys), attention.nystrom(few, k, v, 5, key_mask=key_mask)
    )
    small = partial(attention.tangent, blocks=3, near=4, groups=2)
    assert torch.equal(sdpa(small)(q, k, v, scale=0.3), small(q, k, v, scale=0.3))
    past = partial(attention.causal, block=4, near=2)
    assert torch.equal(sdpa(m=5, causal=past)(q, k, v, is_causal=True), past(q, k, v))


def test_padding_of_one_text_changes_nothing_for_real_tokens():
    q, k, v = tokens()
    other = [torch.where(PADDED[:, None, :, None], x, 9.0) for x in (q, k, v)]
    attend = sdpa(m=5, self_attention=True)
    one, two = (
        attend(*x, PADDED[:, None, None])[PADDED[:, None].expand(B, H, N)] for x in ((q, k, v), other)
    )
    assert torch.equal(one, two)


def test_queries_after_the_last_key_see_all_keys():
    q, k, v = tokens(N, 10)
    past = partial(attention.causal, block=4, near=2)
    found = sdpa(m=5, causal=past)(q, k, v, is_causal=True)
    assert torch.equal(found[..., 10:, :], attention.nystrom(q[..., 10:, :], k, v, 5))
    assert torch.equal(found[..., :10, :], past(q[..., :10, :], k, v))


def test_grouped_heads_are_those_of_the_estimator():
    q, k, v = tokens(groups=2)
    found = sdpa(m=5)(q, k, v, enable_gqa=True)
    close(found, attention.nystrom(q, k, v, 5, grouped=True), 1e-13)


# ---------------------------------------------------------------- what cannot be served

PAIRS = torch.rand(N, N, generator=torch.Generator().manual_seed(2)) < 0.5
UNSERVED = {
    "dropout": {"dropout_p": 0.1},
    "pairs": {"attn_mask": PAIRS | torch.eye(N, dtype=torch.bool)},
    "bias": {"attn_mask": torch.randn(N, N, generator=torch.Generator().manual_seed(2), dtype=torch.float64)},
    "bias of keys": {"attn_mask": torch.linspace(0, 1, N, dtype=torch.float64)[None]},
    "window": {
        "attn_mask": torch.ones(N, N, dtype=torch.bool).tril() & torch.ones(N, N, dtype=torch.bool).triu(-3)
    },
    "causal of heads only": {
        "attn_mask": torch.stack(
            [torch.ones(N, N, dtype=torch.bool), torch.ones(N, N, dtype=torch.bool).tril()]
        )[[0, 1, 0, 1]]
    },
}


@pytest.mark.parametrize("name", UNSERVED)
def test_what_cannot_be_served_is_refused_by_name_and_the_remedy_works(name):
    options, (q, k, v) = UNSERVED[name], tokens()
    with pytest.raises(
        UnservedArgumentError, match=r"or `otherwise='exact'` in the call of `sdpa`$"
    ) as caught:
        sdpa(m=5)(q, k, v, **options)
    assert [caught.value.argument] == list(options)
    torch.manual_seed(0)
    found = sdpa(m=5, otherwise="exact")(q, k, v, **options)
    torch.manual_seed(0)
    assert torch.equal(found, KERNEL(q, k, v, **options))


def test_a_short_text_takes_any_mask():
    q, k, v = tokens()
    assert torch.equal(sdpa(m=N)(q, k, v, PAIRS), KERNEL(q, k, v, PAIRS))


def test_wrong_arguments_do_not_fall_to_the_kernel():
    q, k, v = tokens()
    attend, mask = sdpa(m=5, otherwise="exact"), torch.ones(N, N, dtype=torch.bool)
    for options, argument in (
        ({"attn_mask": mask, "is_causal": True}, "is_causal"),
        ({"attn_mask": mask.long()}, "attn_mask"),
        ({"attn_mask": mask[:5]}, "attn_mask"),
        ({"attn_mask": mask[0]}, "attn_mask"),
        ({"dropout_p": 1.5}, "dropout_p"),
        ({"scale": "x"}, "scale"),
        ({"enable_gqa": 1}, "enable_gqa"),
    ):
        with pytest.raises(ArgumentError) as caught:
            attend(q, k, v, **options)
        assert caught.value.argument == argument
        assert not isinstance(caught.value, UnservedArgumentError)
    for heads, argument in ((3, "key"), (2, "value")):
        with pytest.raises(ArgumentError) as caught:
            attend(q, k[:, :heads], v, enable_gqa=True)
        assert caught.value.argument == argument
    with pytest.raises(ArgumentError) as caught:
        attend(q[0, 0], k, v, enable_gqa=True)
    assert caught.value.argument == "query"


def test_what_it_is_made_with():
    with pytest.raises(RangeError) as caught:
        sdpa(attention.tangent, m=8)
    assert caught.value.argument == "m"
    for options, kind in (
        ({"m": 0}, RangeError),
        ({"otherwise": "eager"}, RangeError),
        ({"causal": None}, KindError),
        ({"self_attention": 1}, KindError),
    ):
        with pytest.raises(kind) as caught:
            sdpa(**options)
        assert [caught.value.argument] == list(options)
    with pytest.raises(KindError) as caught:
        sdpa(3)
    assert caught.value.argument == "estimator"


@pytest.mark.parametrize(("is_causal", "masked"), [c for c in product((False, True), repeat=2) if not all(c)])
def test_one_graph(is_causal, masked):
    """A boolean mask of a single row is taken unseen: nothing waits for it, and no graph breaks."""
    torch._dynamo.reset()
    q, k, v = tokens(dtype=torch.float32)
    mask = PADDED[:, None, None] if masked else None
    attend = sdpa(m=5, causal=partial(attention.causal, block=8, near=2))
    with torch.no_grad():
        found = torch.compile(attend, backend="eager", fullgraph=True)(q, k, v, mask, is_causal=is_causal)
    close(found, attend(q, k, v, mask, is_causal=is_causal), 1e-5)
