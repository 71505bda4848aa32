"""Attention in ONNX, run by onnxruntime, beside Torch: of any length, with padding, by the default solver."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

pytest.importorskip("onnxscript", reason="onnxscript is absent")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is absent")

from nystrom_numerics import attention, pinv  # noqa: E402
from nystrom_numerics.integrations.onnx import translations  # noqa: E402
from nystrom_numerics.integrations.torch import sdpa  # noqa: E402
from nystrom_numerics.nn import NystromAttention  # noqa: E402
from tests.thorough import many  # noqa: E402

M, N, LEAST, MOST = 8, 60, 20, 4096
LENGTHS = (LEAST, 33, 64, 1000)
"""Some that m divides, and some that it does not."""


class Whole(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *x):
        return self.function(*x)


def session(function, given, **options):
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # what the exporter says of itself
        program = torch.onnx.export(
            Whole(function).eval(),
            given,
            dynamo=True,
            verbose=False,
            custom_translation_table=translations(),
            **options,
        )
    made = onnxruntime.InferenceSession(
        program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [one.name for one in made.get_inputs()]
    return lambda *x: made.run(None, dict(zip(names, (t.numpy() for t in x), strict=True)))


def tokens(n):
    return torch.randn(3, 2, 2, n, 8, generator=torch.Generator().manual_seed(0)).unbind()


def masked(n):
    """One item without padding, one with."""
    mask = torch.rand(2, 1, n, generator=torch.Generator().manual_seed(n)) < torch.tensor([[[1.0]], [[0.7]]])
    return *tokens(n), mask


def states(n):
    *_, mask = masked(n)
    return tokens(n)[0][:, 0], mask[:, 0]


torch.manual_seed(0)
LAYER = NystromAttention(8, heads=2, landmarks=M).eval()
EXPORTED = {
    "masked": (lambda q, k, v, mask: attention.nystrom(q, k, v, M, key_mask=mask, query_mask=mask), masked),
    "by six iterations": (lambda q, k, v: attention.nystrom(q, k, v, M, pinv=pinv.razavi), tokens),
    "sdpa": (
        lambda q, k, v, mask: sdpa(m=M, self_attention=True)(q, k, v, mask[..., None, :]),
        masked,
    ),
    "module": (lambda x, mask: LAYER(x, mask=mask), states),
}


@pytest.mark.parametrize("name", many([*EXPORTED], ["masked"]))
def test_what_onnxruntime_computes_is_what_torch_computes(name):
    """To what float32 leaves of a system whose condition is about 10⁴ at most, see `ridge`: 10⁴ · 2⁻²⁴."""
    function, make = EXPORTED[name]
    length = torch.export.Dim("length", min=LEAST, max=MOST)
    given = make(N)
    shapes = tuple({x.ndim - (2 if x.is_floating_point() else 1): length} for x in given)
    run = session(function, given, dynamic_shapes=(shapes,), optimize=False)
    for n in LENGTHS:
        x = make(n)
        with torch.no_grad():
            expected = function(*x)
        (found,) = run(*x)
        assert np.linalg.norm(found - expected.numpy()) < 6e-4 * np.linalg.norm(expected.numpy())


@pytest.mark.parametrize("upper", many([False, True], [False]))
def test_the_operators_themselves(upper):
    """A matrix that is not positive definite is told, and spoils no batch-mate; equal numbers keep their order."""
    x = torch.randn(3, 6, 6, generator=torch.Generator().manual_seed(0))
    gram = x @ x.mT + torch.eye(6)
    gram[1] *= -1
    b = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(1)).round()

    def function(gram, b):
        factor, failed = torch.linalg.cholesky_ex(gram)
        side = factor.mT if upper else factor
        order = torch.sort(b, dim=1, stable=True, descending=upper)
        return (
            factor,
            failed,
            torch.linalg.solve_triangular(side, b, upper=upper),
            order.values,
            order.indices,
        )

    for found, expected in zip(session(function, (gram, b))(gram, b), function(gram, b), strict=True):
        sound = [0, 2] if found.dtype == np.float32 else [0, 1, 2]
        wanted = expected.numpy()[sound]
        if found.dtype == np.int32:
            wanted = np.minimum(wanted, 1)
        np.testing.assert_allclose(found[sound], wanted, rtol=0, atol=1e-5)
