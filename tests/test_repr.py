"""What results say of themselves is bounded, whatever they hold: every public dataclass of the rooms, by a walk."""

from __future__ import annotations

import dataclasses
import inspect
from importlib import import_module

import numpy as np
import pytest

import nystrom_numerics
from nystrom_numerics import attention, bounds, kernels, landmarks, lowrank, pinv

RNG = np.random.default_rng(0)
SMALL, LARGE = 31, 400
"""Rows: with 31 columns just too few for NumPy to leave some out, and so many that it does."""


def public():
    """Public dataclasses by name, with the room that exports them."""
    found = {}
    for room in nystrom_numerics.__all__:
        module = import_module(f"nystrom_numerics.{room}")
        for name in getattr(module, "__all__", ()):
            one = getattr(module, name)
            if inspect.isclass(one) and dataclasses.is_dataclass(one):
                found[f"{room}.{name}"] = one
    return found


def results(n):
    """A result of each kind, of n points."""
    x, y = RNG.standard_normal((2, n, SMALL))
    kernel = kernels.gaussian(x, gamma=0.01)
    matrix = kernel.block(slice(None), slice(None))
    picked = landmarks.rpcholesky(kernel, SMALL)
    factor = lowrank.nystrom_factor(kernel, picked, diagonal=True)
    audited = bounds.audit(kernel, picked)
    operator = attention.nystrom_operator(x, y, 8)
    certificate = attention.certify_operator(operator, y)
    line = audited.lines[0]
    some = bounds.gittens_mahoney(audited.spectrum, range(SMALL), 5)[0]
    made = [
        kernel,
        kernels.precomputed(matrix),
        kernel.function,
        kernel.counter,
        picked,
        landmarks.LandmarkPoints(x, None, 0, None),
        landmarks.adaptive_cross(kernel, SMALL),
        factor,
        factor.preconditioner(1.0),
        lowrank.cur_factor(kernel, range(SMALL), range(SMALL)),
        lowrank.residual_norms(kernel, factor),
        lowrank.kernel_ridge(kernel, x, 1.0),
        audited,
        audited.spectrum,
        line,
        line.bound,
        some.holds_under[0],
        certificate.matrix,
        certificate.matrix.estimate,
        bounds.pinv_error(*4 * [operator.core]),
        operator,
        certificate,
        attention.psd_lift(x, y, x[:8]),
        pinv.svd(matrix),
        pinv.solve(matrix, x),
        pinv.plan(condition=1e3, tol=1e-6),
        pinv.hyperpower_step(3),
    ]
    return {type(one): one for one in made}


ARRAYS = {
    "attention.LiftBounds",
    "attention.NystromOperator",
    "landmarks.ColumnSubset",
    "landmarks.CrossSubset",
    "landmarks.LandmarkPoints",
    "lowrank.CrossFactor",
    "lowrank.NystromFactor",
    "lowrank.NystromPreconditioner",
    "lowrank.SolveResult",
    "pinv.PinvResult",
    "pinv.SolveResult",
}
"""Those that print their arrays as NumPy does, 1,000 numbers of each at most; a list that only shrinks."""


@pytest.fixture(scope="module", params=[SMALL, LARGE])
def made(request):
    return results(request.param)


def test_every_public_dataclass_is_met(made):
    """A new one must be made here."""
    assert {name for name, one in public().items() if one not in made} == set()


@pytest.mark.parametrize("name", public())
def test_what_it_says_of_itself_is_bounded(name, made):
    said = repr(made[public()[name]])
    assert len(said) < (100_000 if name in ARRAYS else 2_500)
    assert name in ARRAYS or "array(" not in said


@pytest.mark.parametrize(
    "name", ["kernels.PointKernel", "kernels.MatrixKernel", "bounds.Audit", "bounds.Spectrum"]
)
def test_kernels_and_audits_say_what_matters_in_a_line(name, made):
    said = repr(made[public()[name]])
    assert len(said) < 200
    assert "\n" not in said
    assert any(str(n) in said for n in (SMALL, LARGE))
