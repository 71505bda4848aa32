"""The convolution of values by band matrices is Torch's, with its derivative and less memory."""

from __future__ import annotations

import pytest
import torch

from experiments.timing import allocated_peak
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


@pytest.mark.parametrize("padded", [False, True])
def test_training_takes_no_more_memory_than_the_fused_exact_kernel(padded):
    """One layer at 2,048 tokens, without convolution; with it one array of n × d more, two where tokens are masked."""
    b, n, dim = 2, 2048, 64
    x = torch.randn(b, n, dim, requires_grad=True)
    mask = torch.arange(n) < torch.tensor([n, 1500])[:, None] if padded else None

    def peak(**options):
        layer = NystromAttention(dim, heads=2, landmarks=64, **options)
        return allocated_peak(lambda: layer(x, mask=mask).square().mean().backward()).bytes / (
            b * n * dim * 4
        )

    exact = peak(exact=True, conv_kernel=None)
    assert peak(conv_kernel=None) <= exact
    assert peak() <= exact + (2.1 if padded else 1.1)
