"""A call as a CUDA graph: what is refused anywhere, what records without a device, and on one the same result."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from nystrom_numerics import attention, backend
from nystrom_numerics.errors import DeviceError, DTypeError, KindError, NamespaceError, ShapeError
from nystrom_numerics.integrations.torch import captured, capturing

CAPTURED = {
    "nystrom": lambda q, k, v: attention.nystrom(q, k, v, 16),
    "tangent": partial(attention.tangent, blocks=8, near=10, groups=4),
    "two levels": partial(attention.tangent, blocks=(4, 16), near=10, groups=(4, 4)),
    "near field": lambda q, k, v: attention.near_field(q, k, v, 3, block=16),
    "causal": partial(attention.causal, block=32),
    "exact": attention.exact,
}


class Graph:
    """A graph of the host: plays what it was given."""

    def __init__(self, play):
        self.replay = play


@pytest.fixture
def recorder(monkeypatch):
    """Stands for a device: records on the host."""

    def recorded(attend, held):
        out = attend(*held)
        return Graph(lambda: out.copy_(attend(*held))), out

    monkeypatch.setattr(capturing, "_recorded", recorded)
    monkeypatch.setattr(capturing, "DEVICE", "cpu")


def qkv(n=100, **options):
    return [torch.randn(1, 2, n, 8, **options) for _ in range(3)]


def test_each_call_has_a_result_of_its_own(recorder):
    play = captured(attention.exact, *qkv())
    first, second = qkv(), qkv()
    one = play(*first)
    kept = one.clone()
    torch.testing.assert_close(play(*second), attention.exact(*second))
    assert torch.equal(one, kept)
    torch.testing.assert_close(one, attention.exact(*first))


def test_derivatives_are_not_recorded(recorder):
    assert not captured(attention.exact, *qkv())(*qkv(requires_grad=True)).requires_grad


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (lambda x: x[..., :-1, :], ShapeError),
        (lambda x: x[0], ShapeError),
        (lambda x: x.double(), DTypeError),
        (lambda x: x.to("meta"), DeviceError),
        (lambda x: x.numpy(), NamespaceError),
    ],
)
@pytest.mark.parametrize("which", range(3))
def test_another_kind_of_argument_is_refused(wrong, error, which, recorder):
    play, arrays = captured(attention.exact, *qkv()), qkv()
    arrays[which] = wrong(arrays[which])
    with pytest.raises(error, match=f"`{'qkv'[which]}`"):
        play(*arrays)


def test_what_has_no_graphs_is_refused():
    with pytest.raises(DeviceError, match=r"`q`.*CUDA"):
        captured(attention.exact, *qkv())
    with pytest.raises(NamespaceError, match="`k`"):
        captured(attention.exact, torch.randn(3, 4), 3.0, 4.0)
    with pytest.raises(KindError, match="attend"):
        captured("nystrom", *qkv())


@pytest.mark.parametrize("name", CAPTURED)
@pytest.mark.parametrize("n", [128, 100])
def test_no_shape_and_no_branch_depends_on_numbers(name, n, monkeypatch):
    """Of tensors without any numbers nothing can be asked: an ``item`` or a ``nonzero`` is an error here."""
    monkeypatch.setattr(backend, "_on_host", lambda x: False)
    with FakeTensorMode():
        assert CAPTURED[name](*(torch.empty(1, 2, n, 8) for _ in range(3))).shape == (1, 2, n, 8)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", CAPTURED)
def test_on_a_device_a_graph_gives_what_the_call_gives(name):
    play = captured(CAPTURED[name], *qkv(device="cuda"))
    for _ in range(2):
        arrays = qkv(device="cuda")
        torch.testing.assert_close(play(*arrays), CAPTURED[name](*arrays))
