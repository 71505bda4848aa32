"""What is changed in place between a call and its derivative: the derivative is that of the call, or it is refused."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from nystrom_numerics import attention

CALLS = {
    "exact": lambda q, k, v, m: attention.exact(q, k, v, key_mask=m),
    "exact, attn_mask": lambda q, k, v, m: attention.exact(q, k, v, attn_mask=m[:, None, :]),
    "nystrom": lambda q, k, v, m: attention.nystrom(q, k, v, 4, key_mask=m, query_mask=m),
    "nystrom, keys": lambda q, k, v, m: attention.nystrom(q, k, v, 4, key_mask=m),
    "nystrom, queries": lambda q, k, v, m: attention.nystrom(q, k, v, 4, query_mask=m),
    "nystrom, attn_mask of keys": lambda q, k, v, m: attention.nystrom(q, k, v, 4, attn_mask=m[:, None, :]),
    "nystrom, attn_mask of queries": lambda q, k, v, m: attention.nystrom(
        q, k, v, 4, attn_mask=m[:, :, None]
    ),
    "normalised": lambda q, k, v, m: attention.normalised(q, k, v, 4, key_mask=m, query_mask=m),
    "near_field": lambda q, k, v, m: attention.near_field(q, k, v, 4, mask=m, block=4),
    "tangent": lambda q, k, v, m: attention.tangent(
        q, k, v, key_mask=m, query_mask=m, blocks=2, near=4, groups=2
    ),
    "tangent, keys": lambda q, k, v, m: attention.tangent(q, k, v, key_mask=m, blocks=2, near=4, groups=2),
    "causal": lambda q, k, v, m: attention.causal(q, k, v, key_mask=m, block=4, near=4),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_is_changed_in_place_is_told_or_does_not_matter(name):
    """Of q, k and v each alone with a derivative, and all; the mask or one of them changed."""
    rng = torch.Generator().manual_seed(0)
    weights, *given = torch.randn(4, 2, 24, 4, dtype=torch.float64, generator=rng)
    real = torch.rand(2, 24, generator=rng) < 0.7
    told = set()
    for which, changed in product(((0,), (1,), (2,), (0, 1, 2)), range(4)):
        tokens, mask = [x.clone().requires_grad_(i in which) for i, x in enumerate(given)], real.clone()
        asked = [tokens[i] for i in which]

        def of(out, asked=asked):
            return torch.autograd.grad((out * weights).sum(), asked)

        wanted = of(CALLS[name](*tokens, mask))
        out = CALLS[name](*tokens, mask)
        with torch.no_grad():
            (mask.logical_not_ if changed == 3 else tokens[changed].neg_)()
        try:
            found = of(out)
        except RuntimeError as error:
            told.add("modified by an inplace operation" in str(error))
        else:
            for one, other in zip(found, wanted, strict=True):
                torch.testing.assert_close(one, other)
    assert told == {True}
