"""The fused path of Torch gives what the streamed one gives, in every layout it accepts."""

from __future__ import annotations

import importlib
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nystrom_numerics import attention, fused, pinv
from nystrom_numerics.attention import nystrom, ridge
from nystrom_numerics.attention.streaming import stream
from nystrom_numerics.backend import namespace
from nystrom_numerics.errors import DerivativeError, RangeError
from nystrom_numerics.fused import attention_vjp, attention_with_lse, fused_attention
from tests import naive

SHAPES = {  # batch of q, batch of k and v, n_q, n_k, d, d_v
    "plain": ((2, 3), (2, 3), 9, 13, 8, 8),
    "no batch": ((), (), 9, 13, 8, 8),
    "one axis": ((3,), (3,), 9, 13, 8, 8),
    "three axes": ((2, 2, 3), (2, 2, 3), 9, 13, 8, 8),
    "wide values": ((2, 3), (2, 3), 9, 13, 4, 7),
    "narrow values": ((2, 3), (2, 3), 9, 13, 7, 4),
    "long and wide": ((2,), (2,), 2500, 6, 4, 7),
    "shared keys, few queries": ((2, 3, 4), (2, 3, 1), 5, 13, 8, 8),
    "shared keys, many queries": ((2, 3, 4), (2, 3, 1), 15, 6, 8, 8),
    "keys without a batch": ((2, 3), (), 5, 13, 8, 8),
    "keys of one item": ((2, 3), (1, 3), 5, 13, 8, 8),
}


DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")),
]


@pytest.mark.parametrize("masked", ["nothing", "keys", "bias", "both", "pairs"])
@pytest.mark.parametrize("case", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fused_is_streamed(case, masked, dtype, rng):
    of_q, of_k, n_q, n_k, d, d_v = SHAPES[case]
    shapes = ((*of_q, n_q, d), (*of_k, n_k, d), (*of_k, n_k, d_v))
    q, k, v = (torch.tensor(rng.standard_normal(s), dtype=dtype) for s in shapes)
    mask = bias = None
    if masked in ("keys", "both"):
        mask = torch.tensor(rng.random((*of_k, n_k)) < 0.7)
        mask.reshape(-1, n_k)[0] = False  # an item without any key
        k, v = (torch.where(mask[..., None], x, 1e3) for x in (k, v))
    if masked in ("bias", "both"):
        bias = torch.tensor(rng.standard_normal((*of_k, 1, n_k)), dtype=dtype)
    if masked == "pairs":
        hidden = rng.random((*of_q, n_q, n_k)) < 0.5
        hidden[..., 0] = False  # every query has a key
        bias = torch.tensor(np.where(hidden, -np.inf, rng.standard_normal(hidden.shape)), dtype=dtype)
    got = fused_attention(q, k, v, mask, bias, 0.3)
    expected = stream(namespace(q=q), q, k, v, mask, bias, 0.3)
    tol = 1e-5 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(got, expected.expand(got.shape), rtol=tol, atol=tol)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("parts", [1, 4, 7])
@pytest.mark.parametrize(("n_q", "n_k"), [(5, 1100), (1100, 6)])
def test_parts_of_keys_make_the_whole_and_its_derivative(n_q, n_k, parts, device, rng):
    """The path of a GPU, with log-sum-exp in float64 as the oracle; parts that do not divide the keys too."""
    shapes = ((2, 3, n_q, 8), (2, 3, n_k, 8), (2, 3, n_k, 8))
    q, k, v = (torch.tensor(3 * rng.standard_normal(s), device=device).requires_grad_() for s in shapes)
    scores = 0.3 * (q @ k.mT)
    expected = torch.softmax(scores, dim=-1) @ v
    g = torch.randn_like(expected)
    cotangents = torch.autograd.grad(expected, (q, k, v), g)
    wide = [x.detach().float() for x in (q, k, v)]
    out, lse = attention_with_lse(*wide, 0.3, parts)
    torch.testing.assert_close(out.double(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        lse.double(), torch.logsumexp(scores, dim=-1, keepdim=True), rtol=1e-5, atol=1e-5
    )
    found = attention_vjp(g.float(), *wide, out, lse, 0.3)
    for got, wanted in zip(found, cotangents, strict=True):
        torch.testing.assert_close(got.double(), wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))


@pytest.mark.parametrize(
    ("heads", "n_q", "n_k", "parts"),
    [
        (1, 5, 3000, 8),  # four processors, two blocks each
        (2, 5, 3000, 4),
        (3, 5, 3000, 2),
        (9, 5, 3000, 1),
        (1, 64, 3000, 8),
        (1, 65, 3000, 4),  # a block more
        (1, 5, 1000, 3),  # no part of less than 256 keys
        (1, 5, 200, 1),
        (1, 200, 900, 2),  # nor of less than twice the queries
    ],
)
def test_keys_are_dealt_out_until_the_device_is_filled(heads, n_q, n_k, parts, monkeypatch, rng):
    """The glue of a GPU's path, on a CPU that is told how many processors there are."""
    seen = []

    def recorded(q, k, v, scale, count):
        seen.append(count)
        return attention_with_lse(q, k, v, scale, count)

    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda _: SimpleNamespace(multi_processor_count=4)
    )
    monkeypatch.setattr(fused, "attention_with_lse", recorded)
    shapes = ((1, heads, n_q, 8), (1, heads, n_k, 8), (1, heads, n_k, 8))
    arrays = [torch.tensor(rng.standard_normal(s)).requires_grad_() for s in shapes]
    q, k, v = arrays
    expected = torch.softmax(0.3 * (q @ k.mT), dim=-1) @ v
    got = fused._on_gpu(q, k, v, 0.3)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)
    g = torch.randn_like(expected)
    for one, other in zip(*(torch.autograd.grad(x, arrays, g) for x in (got, expected)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)
    assert seen == [parts]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("n_q", "n_k"), [(9, 3000), (3000, 9)])
def test_cuda_gives_what_a_cpu_gives_with_its_derivative(n_q, n_k, masked, rng):
    shapes = ((2, 3, n_q, 16), (2, 3, n_k, 16), (2, 3, n_k, 16))
    arrays = [torch.tensor(rng.standard_normal(s)) for s in shapes]
    mask = torch.tensor(rng.random((2, 3, n_k)) < 0.7) if masked else None
    found = []
    for device, dtype in (("cpu", torch.float64), ("cuda", torch.float32)):
        q, k, v = (x.to(device, dtype).requires_grad_() for x in arrays)
        there = None if mask is None else mask.to(device)
        out = fused_attention(q, k, v, there, None, 0.3)
        found.append([out, *torch.autograd.grad(out.square().sum(), (q, k, v))])
    for here, there in zip(*found, strict=True):
        torch.testing.assert_close(there.cpu().double(), here, rtol=1e-4, atol=1e-5 * float(here.abs().max()))


def test_no_fused_kernel_for_16_bits_and_for_numpy():
    x = torch.zeros(1, 2, 4, 8, dtype=torch.bfloat16)
    assert fused_attention(x, x, x, None, None, 1.0) is None
    y = np.zeros((2, 4, 8))
    assert fused_attention(y, y, y, None, None, 1.0) is None


def test_only_the_fused_kernel_runs(rng):
    """No product or softmax of n × m entries: nothing falls to the kernel that holds all scores."""
    q, k, v = (torch.tensor(rng.standard_normal((1, 2, 640, 16)), dtype=torch.float32) for _ in range(3))
    with torch.profiler.profile(record_shapes=True) as seen:
        nystrom(q, k, v, 8)
    names = {event.key for event in seen.key_averages()}
    assert any("flash_attention" in name for name in names)
    assert not any("attention_math" in name for name in names)
    sizes = [
        np.prod(s, dtype=int) for e in seen.events() for s in e.input_shapes or [] if s and 640 in s[-2:]
    ]
    assert max(sizes) == 2 * 640 * 16


# ---------------------------------------------------------------- the core


def test_ridge_solves_its_normal_equations(lane, rng):
    a, b = rng.standard_normal((2, 7, 5)), rng.standard_normal((2, 7, 3))
    gram = np.swapaxes(a, -1, -2) @ a + 0.01 * np.eye(5)
    expected = np.linalg.solve(gram, np.swapaxes(a, -1, -2) @ b)
    lane.assert_close(ridge(lane(a), lane(b), strength=0.01), expected, lane(a), rtol=1e-9)


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5)])
def test_ridge_has_its_derivative_at_any_rank(shape, rng):
    a = torch.tensor(rng.standard_normal(shape))
    a[-1] = a[0]
    b = torch.tensor(rng.standard_normal((shape[0], 3)))
    inputs = (a.requires_grad_(), b.requires_grad_())
    assert torch.autograd.gradcheck(lambda x, y: ridge(x, y, strength=0.1), inputs)


@pytest.mark.parametrize("strength", [0.0, -1.0, float("inf"), float("nan")])
def test_ridge_needs_a_strength(strength, rng):
    with pytest.raises(RangeError, match="`strength`"):
        ridge(np.eye(2), np.eye(2), strength=strength)


@pytest.mark.parametrize("strength", [1e-39, 1e39])
def test_ridge_needs_a_strength_that_the_dtype_holds(strength, lane):
    with pytest.raises(RangeError, match="`strength`"):
        ridge(*[lane(np.eye(2, dtype="float32"))] * 2, strength=strength)


@pytest.mark.parametrize("library", [np.asarray, torch.as_tensor])
def test_a_ridge_below_the_roundoff_of_a_singular_core_is_nan_and_no_number(library):
    """Half of the tokens equal, λ = 1e-10 in float32: AᵀA + λI is not positive definite to rounding."""
    q, k, v = np.random.default_rng(0).standard_normal((3, 200, 16)).astype("float32")
    q[::2], k[::2] = q[0], k[0]
    tokens = [library(x) for x in (q, k, v)]
    assert np.isnan(np.asarray(nystrom(*tokens, 50, solver=partial(ridge, strength=1e-10)))).all()
    assert np.isfinite(np.asarray(nystrom(*tokens, 50, solver=partial(ridge, strength=1e-3)))).all()


def test_gradients_reach_landmarks_and_core_through_every_mask(rng):
    """gradcheck in float64 through fused passes, ridge, segment means, and masks of keys and queries."""
    q, k, v = (torch.tensor(rng.standard_normal((2, 9, 4)), requires_grad=True) for _ in range(3))
    mask = torch.tensor(rng.random((2, 9)) < 0.8)
    mask[:, :4] = True
    bias = torch.tensor(rng.standard_normal((2, 1, 9)), requires_grad=True)

    def call(q, k, v, bias):
        return nystrom(q, k, v, 3, key_mask=mask, query_mask=mask, attn_mask=bias)

    assert torch.autograd.gradcheck(call, (q, k, v, bias))


@pytest.mark.parametrize(("d_v", "arrays"), [(64, 0.2), (48, 0.2 + 1.25)])
def test_extra_memory_in_arrays_of_n_by_d(d_v, arrays):
    """Beyond inputs and output, at n = 16,384: next to nothing.

    Where the values must be widened, from 48 to 64, their copy, and a quarter of the output, which is as wide: whether
    the copy is gone when the output is made is the allocator's to say.
    """
    from experiments.engine.timing import peak_memory

    q, k = (torch.randn(1, 4, 16384, 64) for _ in range(2))
    v = torch.randn(1, 4, 16384, d_v)
    with torch.inference_mode():
        peak = peak_memory(lambda: nystrom(q, k, v, 64), array=q)
    assert peak.bytes - v.numel() * v.element_size() <= arrays * q.numel() * q.element_size()


@pytest.mark.parametrize("d_v", [3, 6])
def test_gradients_where_values_have_another_width(d_v, rng):
    shapes = ((2, 7, 4), (2, 7, 4), (2, 7, d_v))
    inputs = [torch.tensor(rng.standard_normal(s), requires_grad=True) for s in shapes]
    assert torch.autograd.gradcheck(lambda q, k, v: nystrom(q, k, v, 3), inputs)


def test_query_landmarks_do_not_see_what_the_keys_mask(rng):
    """Cross-attention: nothing is guessed from equal lengths, each mask is of its own tokens."""
    q, k, v = (torch.tensor(rng.standard_normal((2, 12, 4))) for _ in range(3))
    keys = torch.arange(12) < 9
    got = nystrom(q, k, v, 3, key_mask=keys)
    torch.testing.assert_close(got, nystrom(q, k[:, :9], v[:, :9], 3))


def test_the_default_core_is_the_ridge_solution(rng):
    """F ((AᵀA + λI)⁻¹Aᵀ(BV)), written out."""
    q, k, v = rng.standard_normal((3, 24, 4))
    qt, kt = naive.segment_means(q, 6), naive.segment_means(k, 6)
    f, a, b = (naive.softmax(x @ y.T / 2) for x, y in ((q, kt), (qt, kt), (qt, k)))
    expected = f @ np.linalg.solve(a.T @ a + 1e-3 * np.eye(6), a.T @ (b @ v))
    np.testing.assert_allclose(nystrom(q, k, v, 6), expected, rtol=1e-9, atol=1e-12)


# ---------------------------------------------------------------- the path of a GPU, on a machine without one


class OnGpu(torch.Tensor):
    """A tensor on the host that says it is on a GPU, and has a stand-in for the kernel there."""

    is_cuda = True

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if function in (KERNEL, KERNEL.default):
            return efficient_attention(*args, **(kwargs or {}))
        return super().__torch_function__(function, types, args, kwargs)


KERNEL = torch.ops.aten._scaled_dot_product_efficient_attention


def efficient_attention(q, k, v, bias, compute_log_sumexp, *, scale):
    """What the kernel of a GPU returns, its log-sum-exp in a multiple of 32 rows included."""
    assert bias is None
    assert compute_log_sumexp is True
    scores = scale * (q @ k.mT)
    lse = torch.logsumexp(scores, dim=-1)
    filled = torch.nn.functional.pad(lse, (0, -lse.shape[-1] % 32), value=torch.nan)
    return torch.softmax(scores, dim=-1) @ v, filled, None, None


@pytest.fixture
def parts(monkeypatch):
    """A stand-in for a GPU of 50 processors; the number of parts of each call."""
    dealt = []

    def with_lse(*arguments):
        dealt.append(arguments[-1])
        return attention_with_lse(*arguments)

    def properties(device):
        assert device == torch.device("cpu")
        return SimpleNamespace(multi_processor_count=50)

    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)
    monkeypatch.setattr(fused, "attention_with_lse", with_lse)
    return dealt


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("case", SHAPES)
def test_the_path_of_a_gpu_is_streamed(case, masked, parts, rng):
    of_q, of_k, n_q, n_k, d, d_v = SHAPES[case]
    shapes = ((*of_q, n_q, d), (*of_k, n_k, d), (*of_k, n_k, d_v))
    q, k, v = (torch.tensor(rng.standard_normal(s)).as_subclass(OnGpu) for s in shapes)
    mask = torch.arange(n_k) % 3 > 0 if masked else None
    got = fused_attention(q, k, v, mask, None, 0.3)
    expected = stream(namespace(q=q), q, k, v, mask, None, 0.3)
    torch.testing.assert_close(got, expected.expand(got.shape), rtol=1e-12, atol=1e-12)
    assert (not parts) == masked  # what is masked goes to Torch's own choice of a kernel


@pytest.mark.parametrize(
    ("n_q", "n_k", "expected"),
    [
        (1, 5000, 16),  # 100 places for 6 blocks of 64 queries
        (64, 5000, 16),
        (65, 5000, 8),
        (5, 1100, 4),  # no part of fewer than 256 keys
        (5, 512, 2),
        (5, 511, 1),
        (130, 1050, 4),  # nor of fewer than twice the queries
        (130, 1039, 3),
        (300, 7, 1),
        (1100, 3000, 1),
    ],
)
def test_parts_fill_the_gpu_and_none_is_too_short(n_q, n_k, expected, parts, rng):
    q, k, v = (torch.tensor(rng.standard_normal((2, 3, n, 4))).as_subclass(OnGpu) for n in (n_q, n_k, n_k))
    fused_attention(q, k, v, None, None, 0.5)
    assert parts == [expected]


def test_the_path_of_a_gpu_has_its_derivative(parts, rng):
    arrays = [torch.tensor(rng.standard_normal((2, 3, n, 4))) for n in (5, 600, 600)]
    found = []
    for kind in (torch.Tensor, OnGpu):
        q, k, v = (x.clone().as_subclass(kind).requires_grad_() for x in arrays)
        out = fused_attention(q, k, v, None, None, 0.3)
        found.append(torch.autograd.grad(out.square().sum(), (q, k, v)))
    assert parts == [2]
    for here, there in zip(*found, strict=True):
        torch.testing.assert_close(there.as_subclass(torch.Tensor), here, rtol=1e-10, atol=1e-12)


def test_float64_has_no_fused_kernel_off_the_host():
    q = torch.zeros(1, 2, 4, 8, device="meta")
    assert fused_attention(q, q, q, None, None, 1.0).shape == q.shape
    assert fused_attention(*[q.double()] * 3, None, None, 1.0) is None


@pytest.mark.parametrize("n_q", [1, 5])
@pytest.mark.parametrize("parts", [1, 2, 3, 20])
def test_parts_of_few_keys(n_q, parts, rng):
    """Two parts and no rest, one query, and no more parts than keys."""
    q, k, v = (torch.tensor(rng.standard_normal((2, 3, n, 4))) for n in (n_q, 6, 6))
    scores = 0.3 * (q @ k.mT)
    out, lse = attention_with_lse(q, k, v, 0.3, parts)
    torch.testing.assert_close(out, torch.softmax(scores, dim=-1) @ v)
    torch.testing.assert_close(lse, torch.logsumexp(scores, dim=-1, keepdim=True))


def test_the_derivative_in_tiles(monkeypatch, rng):
    """Tiles that divide neither length, asked for by the lengths of queries and keys."""
    q, k, v = (torch.tensor(rng.standard_normal((2, 3, n, 4))) for n in (7, 11, 11))
    g, (out, lse) = torch.tensor(rng.standard_normal((2, 3, 7, 4))), attention_with_lse(q, k, v, 0.3, 1)
    whole = attention_vjp(g, q, k, v, out, lse, 0.3)
    asked = []
    monkeypatch.setattr(fused, "tile", lambda *given: asked.append(given) or (3, 4))
    for got, expected in zip(attention_vjp(g, q, k, v, out, lse, 0.3), whole, strict=True):
        torch.testing.assert_close(got, expected)
    assert [(like.shape, *lengths) for like, *lengths in asked] == [(q.shape, 7, 11)]


# ---------------------------------------------------------------- layouts


@pytest.mark.parametrize(
    ("of_q", "of_k", "of_v", "of_mask"),
    [
        ((3,), (3,), (2, 3), None),
        ((3,), (2, 3), (3,), None),
        ((), (2, 3), (2, 3), None),
        ((3,), (3,), (3,), (2, 3)),
        ((2, 3), (), (), (2, 1)),
        ((2, 3), (1,), (1,), (2, 3)),
    ],
)
def test_each_argument_may_have_the_wider_batch(of_q, of_k, of_v, of_mask, rng):
    shapes = ((*of_q, 5, 4), (*of_k, 7, 4), (*of_v, 7, 4))
    q, k, v = (torch.tensor(rng.standard_normal(s)) for s in shapes)
    mask = None if of_mask is None else torch.tensor(rng.random((*of_mask, 7)) < 0.7)
    hidden = torch.full((*np.broadcast_shapes(of_q, of_k, of_v, of_mask or ()), 5, 7), 0.0, dtype=q.dtype)
    if mask is not None:
        hidden = hidden.masked_fill(~mask[..., None, :], -torch.inf)
    expected = torch.softmax(0.3 * (q @ k.mT) + hidden, dim=-1) @ v
    torch.testing.assert_close(fused_attention(q, k, v, mask, None, 0.3), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("of_q", "of_k", "n_q", "n_k", "widths", "queries", "keys"),
    [
        ((), (), 5, 13, (8, 8), (1, 1, 5, 8), (1, 1, 13, 8)),
        ((2, 3, 4), (2, 3, 4), 5, 13, (8, 8), (6, 4, 5, 8), (6, 4, 13, 8)),
        ((2, 3, 4), (2, 3, 1), 5, 13, (8, 8), (6, 1, 20, 8), (6, 1, 13, 8)),
        ((2, 3, 4), (2, 3, 1), 13, 13, (8, 8), (6, 1, 52, 8), (6, 1, 13, 8)),
        ((2, 3, 4), (2, 3, 1), 14, 13, (8, 8), (6, 4, 14, 8), (6, 4, 13, 8)),
        ((2, 3, 4), (2, 1, 4), 5, 13, (8, 8), (6, 4, 5, 8), (6, 4, 13, 8)),
        ((2, 3), (2, 1), 5, 13, (8, 8), (2, 1, 15, 8), (2, 1, 13, 8)),
        ((3, 2), (3, 1), 5, 13, (8, 8), (3, 1, 10, 8), (3, 1, 13, 8)),
        ((2, 3), (), 5, 13, (8, 8), (2, 3, 5, 8), (2, 3, 13, 8)),
        ((4,), (1,), 5, 13, (8, 8), (1, 4, 5, 8), (1, 4, 13, 8)),
        ((2, 3), (2, 3), 5, 13, (4, 7), (2, 3, 5, 7), (2, 3, 13, 7)),
        ((2, 3), (2, 3), 5, 13, (7, 4), (2, 3, 5, 7), (2, 3, 13, 7)),
    ],
)
def test_what_the_kernel_is_given(of_q, of_k, n_q, n_k, widths, queries, keys, monkeypatch, rng):
    """Four axes and one width; heads that share keys among the rows of queries, where these are no more than keys."""
    kernel, given = torch.nn.functional.scaled_dot_product_attention, []

    def seen(*arrays, **options):
        given.append(tuple(x.shape for x in arrays))
        assert all(x.stride(-1) == 1 for x in arrays)
        return kernel(*arrays, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", seen)
    d, d_v = widths
    shapes = ((*of_q, n_q, d), (*of_k, n_k, d), (*of_k, n_k, d_v))
    fused_attention(*(torch.tensor(rng.standard_normal(s)) for s in shapes), None, None, 0.3)
    assert given == [(queries, keys, keys)]


@pytest.mark.parametrize("masked", [False, True])
def test_columns_in_memory_and_queries_in_blocks(masked, monkeypatch, rng):
    """Column-major arrays, as a solve gives them; 1024 rows at once where the values have another width."""
    kernel, rows = torch.nn.functional.scaled_dot_product_attention, []

    def seen(q, *arrays, **options):
        rows.append(q.shape[-2])
        assert all(x.stride(-1) == 1 for x in (q, *arrays))
        return kernel(q, *arrays, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", seen)
    q, k, v = (torch.tensor(rng.standard_normal((2, w, n))).mT for w, n in ((4, 2500), (4, 6), (7, 6)))
    mask = torch.arange(6) > 1 if masked else None
    got = fused_attention(q, k, v, mask, None, 0.3)
    torch.testing.assert_close(got, stream(namespace(q=q), q, k, v, mask, None, 0.3), rtol=1e-12, atol=1e-12)
    assert rows == [1024, 1024, 452]


def test_heads_in_the_middle_are_not_copied(monkeypatch, rng):
    """Projections come as (batch, tokens, heads, width), and are seen through a transposition."""
    kernel, given = torch.nn.functional.scaled_dot_product_attention, []

    def seen(*arrays, **options):
        given.extend(x.data_ptr() for x in arrays)
        return kernel(*arrays, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", seen)
    arrays = [torch.tensor(rng.standard_normal((2, 9, 3, 8))).transpose(1, 2) for _ in range(3)]
    fused_attention(*arrays, None, None, 0.3)
    assert given == [x.data_ptr() for x in arrays]


@pytest.mark.parametrize("padded", [False, True])
def test_a_derivative_that_attends_once_more_is_the_recorded_one(padded, monkeypatch):
    """Items without a key included; with a rule of one's own, and where nothing is differentiated, Torch records."""
    of_nystrom = importlib.import_module("nystrom_numerics.attention.nystrom")
    torch.manual_seed(0)
    arrays = [torch.randn(2, 3, 50, 8, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    mask = torch.arange(50) < torch.tensor([31, 0])[:, None, None] if padded else None
    g = torch.randn(2, 3, 50, 8, dtype=torch.float64)

    def found():
        out = nystrom(*arrays, 7, key_mask=mask, query_mask=mask)
        return out, torch.autograd.grad(out, arrays, g)

    out, own = found()
    assert type(out.grad_fn).__name__ == "WithVjpBackward"
    monkeypatch.setattr(of_nystrom, "differentiated_on_cpu", lambda *_: False)
    recorded, expected = found()
    assert type(recorded.grad_fn).__name__ != "WithVjpBackward"
    torch.testing.assert_close(out, recorded)
    for one, other in zip(own, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_a_derivative_that_attends_once_more_keeps_three_arrays_and_is_taken_once():
    arrays = [torch.randn(1, 2, 300, 8, requires_grad=True) for _ in range(3)]
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.shape) or x, lambda x: x):
        out = nystrom(*arrays, 16)
    assert kept == [(1, 2, 300, 8)] * 3
    with pytest.raises(DerivativeError, match="only once"):
        torch.autograd.grad(out.sum(), arrays, create_graph=True)


def test_what_a_pseudoinverse_learns_has_its_derivative():
    """Another's callable may hold what is learnt: nothing is made once more behind its back."""
    q, k, v = torch.randn(3, 40, 4, dtype=torch.float64).unbind()
    weight = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)

    def learnt(core):
        found = pinv.razavi(core)
        return replace(found, value=found.value * weight)

    nystrom(q, k, v, 4, pinv=learnt).sum().backward()
    alone, weight.grad = weight.grad, None
    nystrom(q.requires_grad_(), k, v, 4, pinv=learnt).sum().backward()
    torch.testing.assert_close(weight.grad, alone)


def test_a_derivative_under_autocast_is_that_of_what_was_computed():
    torch.manual_seed(0)
    inputs = [x.requires_grad_() for x in torch.randn(3, 60, 8).unbind()]

    def derivative(attend):
        with torch.autocast("cpu", torch.bfloat16):
            out = attend()
        return torch.autograd.grad(out.float().square().sum(), inputs)

    whole = derivative(lambda: nystrom(*inputs, 6))
    recorded = derivative(lambda: attention.nystrom_operator(*inputs[:2], 6).apply(inputs[2]))
    for got, expected in zip(whole, recorded, strict=True):
        torch.testing.assert_close(got, expected)
