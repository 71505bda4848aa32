"""What a public result shows of itself is a line or two, whatever it holds."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import dask.array as da
import numpy as np
import pytest

from nystrom_numerics import attention, bounds, kernels, landmarks, lowrank, nn, pinv
from nystrom_numerics.integrations import dask as chunked
from nystrom_numerics.integrations import transformers
from tests.contracts import models
from tests.contracts.surface import exported

LIMIT = 3000
"""Characters: a certificate of attention has six bounds, and a bound its source and hypotheses in words."""

MANY = 999  # one entry less than NumPy needs to leave some out


@cache
def kernel() -> kernels.Kernel:
    return kernels.gaussian(np.random.default_rng(0).standard_normal((333, 3)), gamma=0.3)


@cache
def in_chunks() -> chunked.ChunkedKernel:
    return chunked.chunked_kernel(partial(kernels.gaussian, gamma=1.0), da.from_array(tokens(), chunks=100))


def factor() -> lowrank.NystromFactor:
    return lowrank.nystrom_factor(kernel(), landmarks.rpcholesky(kernel(), 30), diagonal=True)


@cache
def tokens() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((333, 3))


@cache
def spectrum() -> bounds.Spectrum:
    return bounds.psd_spectrum(kernel().block(slice(0, 31), slice(0, 31)))


@cache
def cross() -> landmarks.CrossSubset:
    return landmarks.adaptive_cross(kernel(), 30)


def nystrom_problem() -> bounds.NystromProblem:
    return bounds.NystromProblem(kernel(), spectrum(), tuple(range(MANY)), tokens(), MANY, MANY, 1, 0.1, 0.3)


def compared() -> Any:
    ids = models.ids()
    return transformers.compare(models.bert(), {"input_ids": ids}, [("tangent", 4)])


def calibrated() -> Any:
    return transformers.calibrate(models.bert(), {"input_ids": models.ids()})


MADE: dict[type, Callable[[], Any]] = {
    attention.AttentionCertificate: lambda: attention.certify_operator(
        attention.nystrom_operator(tokens(), tokens(), 30), tokens()
    ),
    attention.Guaranteed: lambda: (
        attention.certify_operator(attention.nystrom_operator(tokens(), tokens(), 30), tokens()).guaranteed
    ),
    attention.Reach: lambda: attention.certify_output(tokens(), tokens(), tokens(), tokens()).reach,
    attention.Choices: lambda: attention.choose(tokens(), tokens(), tokens()),
    attention.OutputCertificate: lambda: attention.certify_output(tokens(), tokens(), tokens(), tokens()),
    pinv.Convergence: lambda: pinv.convergence(tokens().T @ tokens()),
    pinv.Trace: lambda: pinv.convergence(tokens().T @ tokens()).traces[0],
    attention.LiftBounds: lambda: attention.psd_lift(tokens(), tokens(), tokens()[:30]),
    attention.NystromOperator: lambda: attention.nystrom_operator(tokens(), tokens(), 30),
    transformers.Comparison: compared,
    transformers.Calibration: calibrated,
    transformers.HeadBudget: lambda: calibrated().heads[0],
    transformers.Summary: lambda: compared().summaries[0],
    transformers.HeadError: lambda: compared().heads[0],
    bounds.Audit: lambda: bounds.audit(kernel(), landmarks.rpcholesky(kernel(), 30)),
    bounds.Bound: lambda: bounds.gittens_mahoney(spectrum(), [0, 3, 9], 2)[0],
    bounds.Certificate: lambda: bounds.certify(kernel(), factor(), ratio=1.2),
    bounds.CrossProblem: lambda: bounds.CrossProblem(spectrum().vectors, (0, 3), (1, 4), 1),
    bounds.Estimate: lambda: bounds.certify(kernel(), factor(), ratio=1.2).estimate,
    bounds.Hypothesis: lambda: bounds.gittens_mahoney(spectrum(), [0, 3, 9], 2)[0].holds_under[0],
    bounds.Line: lambda: bounds.audit(kernel(), landmarks.rpcholesky(kernel(), 30)).lines[0],
    bounds.GroupsProblem: lambda: bounds.GroupsProblem(tokens(), tokens()[0], tokens()),
    bounds.NearProblem: lambda: bounds.NearProblem(np.ones(MANY), np.ones(MANY)),
    bounds.TangentProblem: lambda: bounds.TangentProblem(np.ones(MANY), np.ones(MANY)),
    bounds.NystromProblem: nystrom_problem,
    bounds.OperatorProblem: lambda: bounds.OperatorProblem(lambda v: v, np.zeros(MANY), 0.1, 0),
    bounds.PerturbationProblem: lambda: bounds.PerturbationProblem(1.0, 1.0, 0.1, 0.2),
    bounds.PinvError: lambda: bounds.pinv_error(*(np.eye(30) for _ in range(4))),
    bounds.PinvProblem: lambda: bounds.PinvProblem(*(np.eye(30) for _ in range(4))),
    bounds.Registered: lambda: bounds.BOUNDS[0],
    bounds.ScoresProblem: lambda: bounds.ScoresProblem(tokens(), tokens()),
    bounds.SketchProblem: lambda: bounds.SketchProblem(np.ones(MANY), 30, 60),
    bounds.Spectrum: spectrum,
    kernels.EntryCounter: lambda: kernel().counter,
    chunked.ChunkedFactor: lambda: chunked.nystrom_factor(in_chunks(), chunked.uniform(tokens(), 30)),
    chunked.ChunkedKernel: in_chunks,
    kernels.MatrixKernel: lambda: kernels.precomputed(np.ones((31, 32))),
    kernels.PointFunction: lambda: kernel().function,
    kernels.PointKernel: kernel,
    landmarks.Rule: lambda: landmarks.RULES["sketched_leverage"],
    landmarks.ColumnSubset: lambda: landmarks.rpcholesky(kernel(), 30),
    landmarks.CrossSubset: cross,
    landmarks.LandmarkPoints: lambda: landmarks.segment_means(tokens(), 320),
    lowrank.CrossFactor: lambda: lowrank.ready_cross(cross()),
    lowrank.NystromFactor: factor,
    lowrank.NystromPreconditioner: lambda: factor().preconditioner(0.1),
    lowrank.ResidualNorms: lambda: lowrank.residual_norms(kernel(), factor()),
    lowrank.SolveResult: lambda: lowrank.kernel_ridge(kernel(), tokens(), 1.0),
    nn.NystromformerConfig: lambda: nn.NystromformerConfig(30000),
    pinv.PinvResult: lambda: pinv.svd(np.ones((333, 3))),
    pinv.Schedule: lambda: pinv.plan(condition=1e3, tol=1e-6),
    pinv.SolveResult: lambda: pinv.solve(np.ones((3, 3)), np.ones((3, 333))),
    pinv.Step: lambda: pinv.hyperpower_step(9),
    pinv.Verification: lambda: pinv.verify(np.ones((333, 3, 3)), np.ones((333, 3, 3))),
}

PUBLIC = {name: c for name, c in exported().items() if inspect.isclass(c) and dataclasses.is_dataclass(c)}


@pytest.mark.parametrize("name", PUBLIC)
def test_what_is_shown_is_bounded(name):
    assert PUBLIC[name] in MADE, f"{name} has no example in MADE"
    made = MADE[PUBLIC[name]]()
    assert isinstance(made, PUBLIC[name])
    assert len(repr(made)) <= LIMIT, repr(made)[:3000]


def test_a_brief_line_says_what_is_there():
    shown = repr(landmarks.rpcholesky(kernel(), 30))
    for part in ("ColumnSubset(indices=<int64 (30,)>", "valid=None", "seed=0", "factor=<float64 (333, 30)>"):
        assert part in shown
    assert repr(nystrom_problem()).count("\n") == 0
    assert "indices=<999 of tuple>" in repr(nystrom_problem())
    assert "function=eckart_young" in repr(bounds.BOUNDS[0])
