"""The derivative of tangent attention in closed form, against that which Torch takes of the same operations."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nystrom_numerics import errors
from nystrom_numerics.attention import tangent, tangent_operator

FLAT = float("inf")
ONE, TWO = {"blocks": 5, "groups": 3, "near": 4}, {"blocks": (2, 8), "groups": (3, 2), "near": 5}
THREE = {"blocks": (2, 4, 8), "groups": (3, 2, 2), "near": 3, "candidates": 0.5}


def random(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_()


def recorded(q, k, v, **options):
    """The same operations one by one, as the operator applies them: none has a derivative of its own."""
    return tangent_operator(q, k, **options).apply(v)


@pytest.mark.parametrize("position", [0.0, 4.0, FLAT])
@pytest.mark.parametrize(("n_q", "n_k"), [(40, 40), (37, 50), (64, 33)])
@pytest.mark.parametrize("options", [ONE, TWO, THREE], ids=["one level", "two", "three"])
def test_it_is_that_of_the_operations(options, n_q, n_k, position):
    arrays = random(2, n_q, 3, seed=1), random(2, n_k, 3, seed=2), random(2, n_k, 5, seed=3)
    g = random(2, n_q, 5, seed=4).detach()
    closed, taken = (
        torch.autograd.grad(f(*arrays, position=position, **options), arrays, g) for f in (tangent, recorded)
    )
    for one, other in zip(closed, taken, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
        assert one.abs().max() > 1e-3


@pytest.mark.parametrize("options", [ONE, TWO], ids=["one level", "two"])
def test_with_masks_and_heads_that_share_keys(options):
    """Masked tokens get nothing, and shared keys what comes from all of their heads."""
    q, k, v = random(2, 4, 30, 3), random(2, 2, 35, 3, seed=5), random(2, 2, 35, 3, seed=6)
    queries, keys = torch.arange(30) < torch.tensor([[[30]], [[21]]]), torch.arange(35) % 5 > 0
    given = {"query_mask": queries, "key_mask": keys, "grouped": True, **options}
    g = random(2, 4, 30, 3, seed=7).detach()
    closed, taken = (torch.autograd.grad(f(q, k, v, **given), (q, k, v), g) for f in (tangent, recorded))
    for one, other in zip(closed, taken, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
    assert not closed[0][1, :, 21:].any()
    assert not closed[1][..., ::5, :].any()
    assert not closed[2][..., ::5, :].any()


def test_only_what_asks_has_a_derivative():
    q, k, v = random(30, 3).detach(), random(30, 3, seed=1), random(30, 3, seed=2).detach()
    out = tangent(q, k, v, **ONE)
    assert torch.autograd.grad(out.sum(), k)[0].shape == k.shape
    assert torch.equal(tangent(q, k.detach(), v, **ONE), out.detach())


def test_it_is_taken_once():
    arrays = [random(30, 3, seed=i) for i in range(3)]
    with pytest.raises(errors.DerivativeError, match="only once"):
        torch.autograd.grad(tangent(*arrays, **ONE).sum(), arrays, create_graph=True)


def test_a_graph_that_is_kept_gives_the_same_again():
    arrays = [random(30, 3, seed=i) for i in range(3)]
    out = tangent(*arrays, **TWO).square().sum()
    first, second = (torch.autograd.grad(out, arrays, retain_graph=True) for _ in range(2))
    assert all(map(torch.equal, first, second))


class Held(TorchDispatchMode):
    """The most bytes of tensors at any time that were made meanwhile."""

    def __init__(self):
        super().__init__()
        self.views, self.now, self.peak = {}, 0, 0

    def drop(self, place, size):
        self.views[place] -= 1
        if not self.views[place]:
            del self.views[place]
            self.now -= size

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        known = {x.untyped_storage().data_ptr() for x in tree_leaves((args, kwargs)) if torch.is_tensor(x)}
        out = function(*args, **(kwargs or {}))
        for x in filter(torch.is_tensor, tree_leaves(out)):
            place, size = x.untyped_storage().data_ptr(), x.untyped_storage().nbytes()
            if place not in self.views and place in known:
                continue  # of the caller's
            if place not in self.views:
                self.views[place], self.now = 0, self.now + size
                self.peak = max(self.peak, self.now)
            self.views[place] += 1
            weakref.finalize(x, self.drop, place, size)
        return out


@pytest.mark.parametrize("position", [4.0, FLAT])
def test_memory_is_two_arrays_beyond_the_output_and_the_gradients(position):
    """At n = 8,192 and 8 heads, of which as many are handled at once as a cache holds."""
    arrays = [torch.randn(8, 8192, 64).requires_grad_() for _ in range(3)]
    array = arrays[0].nbytes
    with Held() as alone, torch.no_grad():
        tangent(*arrays, position=position)
    with Held() as both:
        out = tangent(*arrays, position=position)
        torch.autograd.grad(out, arrays, torch.ones_like(out))
    assert array < alone.peak <= 2 * array
    assert 4 * array < both.peak <= (4 + 1 + 2) * array  # the cotangent of ones too
