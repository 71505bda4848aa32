"""Operators beside the functions that they are."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from nystrom_numerics import attention, pinv

ONE = {"blocks": 7, "groups": 5, "near": 4}
TWO = {"blocks": (2, 8), "groups": (3, 2), "near": 5}
THREE = {"blocks": (2, 4, 8), "groups": (2, 3, 2), "near": 4, "candidates": 0.5}


def of_near_field(make):
    """With one mask in place of two, as padding has it."""
    return lambda *tokens, key_mask=None, query_mask=None, **options: make(
        *tokens, 4, block=8, mask=key_mask, **options
    )


def of_causal(make):
    """With one mask in place of two, as padding has it."""
    return lambda *tokens, key_mask=None, query_mask=None, **options: make(
        *tokens, block=8, near=4, key_mask=key_mask, **options
    )


def with_options(function, operator, *m, **options):
    return (
        lambda q, k, v, **masks: function(q, k, v, *m, **options, **masks),
        lambda q, k, **masks: operator(q, k, *m, **options, **masks),
    )


def exactly(q, k, v, query_mask=None, grouped=False, **options):
    """What exact attention gives, with the masks and groups that it does not take."""
    if grouped:
        k, v = (np.repeat(x, q.shape[-3] // k.shape[-3], axis=-3) for x in (k, v))
    out = attention.exact(q, k, v, **options)
    return out if query_mask is None else out * query_mask[..., None]


def exactly_causal(q, k, v, **options):
    return exactly(q, k, v, attn_mask=np.tri(q.shape[-2], dtype=bool), **options)


PAIRS = {
    "exact": (exactly, attention.exact_operator),
    "nystrom": with_options(attention.nystrom, attention.nystrom_operator, 6),
    "nystrom, pinv": with_options(attention.nystrom, attention.nystrom_operator, (5, 7), pinv=pinv.svd),
    "tangent": with_options(attention.tangent, attention.tangent_operator, **ONE),
    "tangent, no tree": with_options(
        attention.tangent, attention.tangent_operator, **ONE, position=float("inf")
    ),
    "tangent, few near": with_options(
        attention.tangent, attention.tangent_operator, blocks=6, groups=40, near=1
    ),
    "tangent, all near": with_options(
        attention.tangent, attention.tangent_operator, blocks=6, groups=2, near=99
    ),
    "tangent, two levels": with_options(attention.tangent, attention.tangent_operator, **TWO),
    "tangent, three levels": with_options(attention.tangent, attention.tangent_operator, **THREE),
    "normalised": with_options(attention.normalised, attention.normalised_operator, 6),
    "near_field": (of_near_field(attention.near_field), of_near_field(attention.near_field_operator)),
    "causal": (of_causal(attention.causal), of_causal(attention.causal_operator)),
    "exact, causal": (exactly_causal, partial(attention.exact_operator, causal=True)),
}
ONESELF = "near_field", "causal", "exact, causal"
"""Those of self-attention."""
ONE_MASK = "near_field", "causal", "exact, causal"
every = pytest.mark.parametrize("name", PAIRS)
crossing = pytest.mark.parametrize("name", [name for name in PAIRS if name not in ONESELF])


def qkv(rng, *batch, n_q=60, n_k=60, d=4):
    return tuple(rng.standard_normal((*batch, n, d)) for n in (n_q, n_k, n_k))
