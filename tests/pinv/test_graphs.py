"""Compiled, fake, mapped and exported: a solve is one node of a graph, with the shape that it will have."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from nystrom_numerics import attention, pinv

METHODS = {
    "rank_revealing": pinv.rank_revealing,
    "solve": lambda a, b: pinv.solve(a, b).value,
    "lu": lambda a, b: pinv.solve(a, b, method=pinv.lu).value,
    "complete_orthogonal": lambda a, b: pinv.complete_orthogonal(a).value @ b,
    "svd": lambda a, b: pinv.svd(a).value @ b,
    "tikhonov": lambda a, b: pinv.tikhonov(a, ridge=0.1).value @ b,
    "razavi": lambda a, b: pinv.razavi(a).value @ b,
    "interval_optimal": lambda a, b: pinv.interval_optimal(a, condition=30.0, budget=9).value @ b,
    "residual": lambda a, b: pinv.solve(a, b).residual,
}


def operands(rng):
    a, b = (torch.tensor(rng.standard_normal((2, 4, n))) for n in (4, 2))
    a[1, :, 0] = 0  # deficient in front
    return a, b


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("method", ["rank_revealing", "solve"])
def test_one_graph(method, gradients, rng):
    """``fullgraph`` fails where the graph breaks; forward and backward are those of the call itself."""
    torch._dynamo.reset()
    a, b = (x.requires_grad_(gradients) for x in operands(rng))
    found = torch.compile(METHODS[method], backend="aot_eager", fullgraph=True)(a, b)
    expected = METHODS[method](a, b)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    if gradients:
        ours, theirs = (torch.autograd.grad(x.square().sum(), (a, b)) for x in (found, expected))
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_attention_with_the_pseudoinverse_is_one_graph(rng):
    torch._dynamo.reset()
    q, k, v = torch.tensor(rng.standard_normal((3, 2, 16, 4)))

    def attend(q, k, v):
        return attention.nystrom(q, k, v, 4, solver=pinv.rank_revealing)

    found = torch.compile(attend, backend="aot_eager", fullgraph=True)(q, k, v)
    torch.testing.assert_close(found, attend(q, k, v), rtol=0, atol=1e-13)


@pytest.mark.parametrize("method", METHODS)
def test_shapes_without_data(method, rng):
    a, b = operands(rng)
    expected = METHODS[method](a, b).shape
    assert METHODS[method](a.to("meta"), b.to("meta")).shape == expected
    with FakeTensorMode() as mode:
        found = METHODS[method](mode.from_tensor(a), mode.from_tensor(b))
    assert found.shape == expected
    assert found.device.type == "cpu"


@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("razavi", "interval_optimal")])
def test_a_forward_derivative_is_refused_and_not_zero(method, rng):
    a, b = operands(rng)
    with pytest.raises((RuntimeError, NotImplementedError)), torch.autograd.forward_ad.dual_level():
        METHODS[method](torch.autograd.forward_ad.make_dual(a, torch.ones_like(a)), b)


def test_over_a_batch_of_torch(rng):
    a, b = operands(rng)
    found = torch.vmap(lambda a: pinv.solve(a, b[0]).value)(a)
    torch.testing.assert_close(found, pinv.solve(a, b[:1]).value, rtol=0, atol=0)
