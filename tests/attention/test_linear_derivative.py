"""The derivative of a linear estimator is linear too: numbers that its operators make, and bytes that it keeps."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils._pytree import tree_leaves  # noqa: E402

from nystrom_numerics import attention, landmarks, pinv  # noqa: E402

ESTIMATORS = {
    "nystrom": lambda q, k, v: attention.nystrom(q, k, v, 16),
    "nystrom, strided": lambda q, k, v: attention.nystrom(q, k, v, 16, landmarks=landmarks.strided),
    "nystrom, values of a width of their own": lambda q, k, v: attention.nystrom(q, k, v[..., :5], 16),
    "nystrom, six iterations": lambda q, k, v: attention.nystrom(q, k, v, 16, pinv=pinv.razavi),
    "normalised": lambda q, k, v: attention.normalised(q, k, v, 16),
    "near field": lambda q, k, v: attention.near_field(q, k, v, 16, block=16),
    "tangents": lambda q, k, v: attention.tangent(q, k, v, blocks=16, near=16, groups=8),
}
SHORT, LONG = 16_384, 131_072


class Made(TorchDispatchMode):
    """Numbers in the new arrays of all operators."""

    def __init__(self):
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.numbers += sum(x.numel() for x in tree_leaves(out) if isinstance(x, torch.Tensor))
        return out


def tokens(n):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(1, n, 8, generator=generator).requires_grad_() for _ in range(3)]


def backward(attend, n):
    out = attend(*tokens(n)).sum()
    with Made() as made:
        out.backward()
    return made.numbers


@pytest.mark.parametrize("name", ESTIMATORS)
def test_numbers_made_by_the_derivative_grow_as_the_sequence(name):
    """Slices recorded one by one would each give a cotangent of all tokens: 30 times as many for 8 times the length."""
    short, long = (backward(ESTIMATORS[name], n) for n in (SHORT, LONG))
    assert long / short <= 1.15 * LONG / SHORT


@pytest.mark.parametrize(("name", "most"), [("nystrom", 6), ("near field", 18), ("tangents", 10)])
def test_what_is_kept_is_the_inputs_and_little_more(name, most):
    """In arrays of n × d; those of n × m, as B of near fields is, are two of these here."""
    kept = {}

    def pack(x):
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    inputs = tokens(SHORT)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        out = ESTIMATORS[name](*inputs)
    assert out.requires_grad
    assert sum(kept.values()) <= most * inputs[0].nbytes
