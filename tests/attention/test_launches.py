"""What a call asks of a device: so many operators and no more, and none for which the host would wait."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nystrom_numerics import backend
from nystrom_numerics.attention import nystrom, tangent

WAITS = {
    "_local_scalar_dense",
    "is_nonzero",
    "nonzero",
    "masked_select",
    "equal",
    "_linalg_eigh",
    "_linalg_svd",
}
"""Operators that a device's host waits for, the last two to see whether they succeeded: no graph could be captured."""


class Launches(TorchDispatchMode):
    """Counts operators but for views, of which a device sees nothing."""

    def __init__(self):
        super().__init__()
        self.found = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket._qualified_op_name.split("::")[1]
        if not function.is_view and name != "_unsafe_view":
            self.found[name] += 1
        if name == "index" and any(x is not None and x.dtype == torch.bool for x in args[1]):
            self.found["nonzero"] += 1
        return function(*args, **(kwargs or {}))


@pytest.fixture
def device(monkeypatch):
    """All items at once, as on a GPU, whose kernel takes a bias too."""
    monkeypatch.setattr(backend, "_on_host", lambda x: False)


def qkv(n, **options):
    return [torch.randn(1, 8, n, 64, **options) for _ in range(3)]


def launches(call):
    with Launches() as counted:
        call()
    return counted.found


@pytest.mark.parametrize(("n", "more"), [(4096, 0), (4000, 50)])
@pytest.mark.parametrize(("position", "budget"), [(4.0, 540), (float("inf"), 260)])
def test_tangent(position, budget, n, more, device):
    """The tree of queries costs half; where blocks are not of one size, some more."""
    q, k, v = qkv(n)
    found = launches(lambda: tangent(q, k, v, position=position))
    assert budget / 2 < found.total() <= budget + more
    assert not WAITS & set(found)


def test_tangent_of_more_items_or_tokens_asks_no_more(device):
    few, many = ([torch.randn(1, h, n, 16) for _ in range(3)] for h, n in ((2, 2048), (8, 4096)))
    assert launches(lambda: tangent(*few)).total() == launches(lambda: tangent(*many)).total()


@pytest.mark.parametrize(("n", "budget"), [(4096, 45), (4000, 75)])
def test_nystrom(n, budget, device):
    q, k, v = qkv(n)
    found = launches(lambda: nystrom(q, k, v, 64))
    assert budget / 2 < found.total() <= budget
    assert not WAITS & set(found)


@pytest.mark.parametrize("position", [4.0, float("inf")])
def test_the_derivative_of_tangents_waits_for_nothing(position, device):
    arrays = qkv(1000, requires_grad=True)
    out = tangent(*arrays, position=position)
    found = launches(lambda: torch.autograd.grad(out.sum(), arrays))
    assert found["bmm"]
    assert not WAITS & set(found)


def test_what_waits_is_seen():
    for call in (lambda x: x.sum().item(), lambda x: x[x > 0], lambda x: torch.linalg.eigh(x)):
        assert WAITS & set(launches(lambda call=call: call(torch.eye(3))))
