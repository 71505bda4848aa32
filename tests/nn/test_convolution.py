"""The convolution of values by band matrices is Torch's, with its derivative and less memory."""

from __future__ import annotations

import pytest
import torch
import torch.nn.utils.prune

from experiments.engine.timing import allocated_peak
from nystrom_numerics.nn import NystromAttention
from nystrom_numerics.nn.convolution import convolve


@pytest.mark.parametrize("n", [1, 5, 64, 128, 129, 300])
@pytest.mark.parametrize("width", [1, 5, 33])
def test_it_is_torchs_convolution(n, width):
    conv = torch.nn.Conv2d(3, 3, (width, 1), padding=(width // 2, 0), groups=3, bias=False).double()
    v = torch.randn(2, 3, n, 4, dtype=torch.float64, requires_grad=True)
    g = torch.randn(2, 3, n, 4, dtype=torch.float64)
    own, theirs = convolve(v, conv), conv(v)
    torch.testing.assert_close(own, theirs)
    inputs = (v, conv.weight)
    for x, y in zip(*(torch.autograd.grad(out, inputs, g) for out in (own, theirs)), strict=True):
        torch.testing.assert_close(x, y)


def test_of_no_tokens_there_are_none():
    """Where Torch's own refuses, as a shard may be empty."""
    conv = torch.nn.Conv2d(3, 3, (5, 1), padding=(2, 0), groups=3, bias=False)
    v = torch.zeros(2, 3, 0, 4, requires_grad=True)
    out = convolve(v, conv)
    out.sum().backward()
    assert out.shape == v.grad.shape == (2, 3, 0, 4)
    assert not conv.weight.grad.any()


@pytest.mark.parametrize(("padded", "conv_kernel"), [(False, None), (False, 33), (True, 33)])
def test_training_takes_no_more_memory_than_the_fused_exact_kernel(padded, conv_kernel):
    """One layer at 2,048 tokens: exact attention keeps the sums of its softmax, Nyström attention its inputs alone.

    Where tokens are masked the peak comes while attention is made once more: then four arrays of m rows are there too.
    """
    n, dim, m = 2048, 64, 64
    x = torch.randn(1, n, dim, requires_grad=True)
    mask = torch.arange(n)[None] < 1500 if padded else None

    def peak(**options):
        layer = NystromAttention(dim, heads=2, landmarks=m, **options)
        return allocated_peak(lambda: layer(x, mask=mask).mean().backward()).bytes / (n * dim * 4)

    slack = 4 * m / n if padded else 0
    assert peak(conv_kernel=conv_kernel) <= peak(exact=True, conv_kernel=None) + slack


def test_what_hooks_change_is_convolved():
    """As pruning does, which sets the weight anew before each call."""
    layer = NystromAttention(8, heads=2, landmarks=4, conv_kernel=3)
    x = torch.randn(1, 20, 8)
    torch.nn.utils.prune.l1_unstructured(layer.conv, "weight", amount=1)
    for _ in range(2):
        layer(x).sum().backward()
        with torch.no_grad():
            layer.conv.weight_orig += 1.0
    seen = layer.conv(torch.ones(1, 2, 20, 4))
    assert torch.equal(layer.conv.weight, layer.conv.weight_orig * layer.conv.weight_mask)
    assert torch.equal(convolve(torch.ones(1, 2, 20, 4), layer.conv), seen)
