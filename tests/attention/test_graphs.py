"""Attention in one graph: compiled whole, mapped over, and exported for any length."""

from __future__ import annotations

from functools import partial
from itertools import product

import pytest
import torch

from nystrom_numerics import attention, errors, pinv
from nystrom_numerics.integrations.torch import sdpa
from nystrom_numerics.nn import NystromAttention
from tests.thorough import many

M, N, LEAST, MOST = 8, 60, 20, 4096

ESTIMATORS = {
    "exact": attention.exact,
    "nystrom": lambda q, k, v: attention.nystrom(q, k, v, M),
    "normalised": lambda q, k, v: attention.normalised(q, k, v, M),
    "near_field": lambda q, k, v: attention.near_field(q, k, v, 4, block=16),
    "tangent": partial(attention.tangent, blocks=4, near=12, groups=3),
    "causal": partial(attention.causal, block=8, near=4, group=4, routed=2),
}


def tokens(n=N, seed=0):
    return torch.randn(3, 2, 2, n, 8, generator=torch.Generator().manual_seed(seed)).unbind()


close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Dynamo detected")
@pytest.mark.parametrize("name", many([*ESTIMATORS], ["nystrom", "near_field"]))
def test_one_graph_without_derivatives(name):
    torch._dynamo.reset()
    with torch.no_grad():
        found = torch.compile(ESTIMATORS[name], backend=many("aot_eager", "eager"), fullgraph=True)(*tokens())
    close(found, ESTIMATORS[name](*tokens()))


@pytest.mark.filterwarnings("ignore:Dynamo detected")
@pytest.mark.parametrize("name", many([*ESTIMATORS], ["nystrom", "tangent"]))
def test_one_graph_with_derivatives(name):
    torch._dynamo.reset()
    given = [x.requires_grad_() for x in tokens()]
    compiled = torch.compile(ESTIMATORS[name], backend="aot_eager", fullgraph=True)
    found, expected = (
        torch.autograd.grad(f(*given).square().sum(), given) for f in (compiled, ESTIMATORS[name])
    )
    for ours, theirs in zip(found, expected, strict=True):
        close(ours, theirs)


@pytest.mark.filterwarnings("ignore:There is a performance drop", "ignore:torch.searchsorted")
@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("axes", [(0, 0, 0), (None, 1, 1)])
def test_mapped_over(name, axes):
    q, k, v = tokens()
    given = [x[0] if axis is None else x.movedim(0, axis) for x, axis in zip((q, k, v), axes, strict=True)]
    with torch.no_grad():
        found = torch.func.vmap(ESTIMATORS[name], axes)(*given)
        close(found, ESTIMATORS[name](q if axes[0] == 0 else q[:1], k, v))


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("name", ["tangent", "causal"])
def test_derivatives_are_the_same_mapped_and_transformed(name):
    """Of tangents in closed form; a map and ``torch.func.grad`` go through the steps."""
    given, function = [x.requires_grad_() for x in tokens()], ESTIMATORS[name]
    expected, mapped = (
        torch.autograd.grad(f(*given).square().sum(), given) for f in (function, torch.func.vmap(function))
    )
    transformed = torch.func.grad(lambda *x: function(*x).square().sum(), (0, 1, 2))(*tokens())
    for found in (mapped, transformed):
        for ours, theirs in zip(found, expected, strict=True):
            close(ours, theirs)


class Whole(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *x):
        return self.function(*x)


def masked(n):
    return *tokens(n), torch.rand(2, 1, n, generator=torch.Generator().manual_seed(n)) < 0.8


def states(n):
    q, _, _ = tokens(n)
    return q.flatten(0, 1), masked(n)[3].expand(2, 2, n).flatten(0, 1)


LAYER = NystromAttention(8, heads=2, landmarks=M).eval()
EXPORTED = {
    "nystrom": (ESTIMATORS["nystrom"], tokens),
    "nystrom by six iterations": (lambda q, k, v: attention.nystrom(q, k, v, M, pinv=pinv.razavi), tokens),
    "nystrom, masked": (
        lambda q, k, v, mask: attention.nystrom(q, k, v, M, key_mask=mask, query_mask=mask),
        masked,
    ),
    "sdpa": (sdpa(m=M), tokens),
    "sdpa, masked": (
        lambda q, k, v, mask: sdpa(m=M, self_attention=True)(q, k, v, mask[..., None, :]),
        masked,
    ),
    "module, masked": (lambda x, mask: LAYER(x, mask=mask), states),
}


ONE_LENGTH = [("nystrom", N), ("nystrom", 64), ("sdpa, masked", 64), ("module, masked", N)]


@pytest.mark.parametrize(("name", "n"), many([*product(EXPORTED, (N, 64))], ONE_LENGTH))
def test_exported_for_any_length(name, n):
    """Whether m divides the length that it is traced with or not, and those that it is called with."""
    function, make = EXPORTED[name]
    length = torch.export.Dim("length", min=LEAST, max=MOST)
    given = make(n)
    shapes = tuple({x.ndim - (2 if x.is_floating_point() else 1): length} for x in given)
    with torch.no_grad():
        graph = torch.export.export(Whole(function), given, dynamic_shapes=(shapes,), strict=False).module()
        for other in (LEAST, 33, 64, 1000):
            given = make(other)
            close(graph(*given), function(*given))


@pytest.mark.parametrize(
    "name", many([name for name in ESTIMATORS if name != "nystrom"], ["exact", "tangent"])
)
def test_exported_for_the_length_that_it_is_traced_with(name):
    with torch.no_grad():
        graph = torch.export.export(Whole(ESTIMATORS[name]), tokens(), strict=False).module()
        close(graph(*tokens(seed=3)), ESTIMATORS[name](*tokens(seed=3)))


@pytest.mark.parametrize("name", [name for name in ESTIMATORS if name != "nystrom"])
def test_what_cannot_be_exported_for_any_length_says_what_can(name):
    """Their blocks and strips are counted in steps of their own for each length."""
    shapes = ({2: torch.export.Dim("length", min=LEAST, max=MOST)},) * 3
    with torch.no_grad(), pytest.raises(errors.ShapeError, match="which takes any") as caught:
        torch.export.export(Whole(ESTIMATORS[name]), tokens(), dynamic_shapes=(shapes,), strict=False)
    assert caught.value.argument == "q"


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_masks_of_tangents_are_not_mapped_over():
    """Items of as many tokens are served together, so somebody has to count; one mask for all is counted."""
    q, k, v, mask = masked(N)

    def one(q, k, v, mask):
        return ESTIMATORS["tangent"](q, k, v, key_mask=mask)

    with pytest.raises(errors.RangeError, match=r"attention\.nystrom") as caught:
        torch.func.vmap(one)(q, k, v, mask)
    assert caught.value.argument == "key_mask"
    close(torch.func.vmap(one, (0, 0, 0, None))(q, k, v, mask[0]), one(q, k, v, mask[0]))


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_masks_of_causal_attention_are_mapped_over():
    def one(q, k, v, mask):
        return ESTIMATORS["causal"](q, k, v, key_mask=mask)

    close(torch.func.vmap(one)(*masked(N)), one(*masked(N)))
