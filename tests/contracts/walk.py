"""Every public callable with every wrong argument: ``python -m tests.contracts.walk`` prints what becomes of them."""

from __future__ import annotations

import inspect
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any

import numpy as np
import torch.distributed as dist
from sklearn.utils._param_validation import InvalidParameterError

from nystrom_numerics import attention, bounds, kernels, landmarks, lowrank, nn, pinv
from nystrom_numerics.errors import ArgumentError, NystromError
from nystrom_numerics.integrations import dask as chunked
from nystrom_numerics.integrations import scikit_learn
from tests.contracts import kinds, models
from tests.contracts.surface import Public, public

A, M, X = kinds.A, kinds.M, kinds.X

# an instance to call methods of, for each class that has some with arguments
INSTANCES: dict[type, Callable[[], Any]] = {
    attention.NystromOperator: lambda: attention.nystrom_operator(X, X, M),
    bounds.Audit: cache(lambda: bounds.audit(kinds.gaussian(), landmarks.rpcholesky(kinds.gaussian(), M))),
    bounds.Bound: lambda: bounds.belabbas_wolfe(bounds.psd_spectrum(A), M),
    bounds.Registered: lambda: next(one for one in bounds.BOUNDS if one.subject is bounds.Subject.SOFTMAX),
    kernels.MatrixKernel: lambda: kernels.precomputed(A),
    kernels.PointKernel: kinds.gaussian,
    landmarks.Rule: lambda: landmarks.RULES["accelerated_rpcholesky"],
    landmarks.ColumnSubset: lambda: landmarks.rpcholesky(kinds.gaussian(), M),
    landmarks.LandmarkPoints: lambda: landmarks.segment_means(X, M),
    lowrank.CrossFactor: lambda: lowrank.cross_factor(kinds.gaussian(), [0, 3, 9], [1, 5]),
    lowrank.NystromFactor: kinds.nystrom_factor,
    lowrank.NystromPreconditioner: lambda: kinds.nystrom_factor().preconditioner(0.1),
    pinv.Convergence: lambda: pinv.convergence(A, {"paper": pinv.RAZAVI}, products=8),
    nn.NystromAttention: models.attention,
    nn.Nystromformer: lambda: nn.Nystromformer(models.config()),
    nn.NystromformerForClassification: lambda: nn.NystromformerForClassification(models.config(), 3),
    nn.NystromformerForMaskedLM: lambda: nn.NystromformerForMaskedLM(models.config()),
    nn.PreNormEncoder: lambda: nn.PreNormEncoder([models.attention()], dim=models.WIDTH, feed_forward=20),
    chunked.ChunkedFactor: kinds.chunked_factor,
    chunked.ChunkedKernel: kinds.chunked_kernel,
    chunked.KernelRidge: lambda: chunked.KernelRidge(n_components=M).fit(X, X[:, 0]),
    chunked.Nystroem: lambda: chunked.Nystroem(n_components=M).fit(X),
    scikit_learn.Nystroem: lambda: scikit_learn.Nystroem(n_components=M).fit(X),
}

ESTIMATORS = (scikit_learn.Nystroem, chunked.Nystroem, chunked.KernelRidge)

# arguments of a good call that its kinds do not give
EXAMPLES: dict[str, dict[str, Any]] = {
    "pinv.interval_step": {"lower": 0.1, "upper": 1.0},
    "pinv.plan": {"condition": 10.0, "tol": 1e-6},
    "pinv.interval_optimal": {"condition": 10.0, "tol": 1e-6},
    "nn.NystromAttention": {"dim": models.WIDTH},
    "nn.PreNormEncoder": {"dim": models.WIDTH},
    "nn.NystromformerForClassification": {"classes": 3},
    "nn.from_nystrom_attention": {"heads": 2},
    "nn.from_nystrom_attention_encoder": {"heads": 2},
    "pinv.known_norm": {"sigma_max": 100.0},
    "bounds.coherence": {"k": 1},
    "bounds.gittens_mahoney": {"k": 2},
    "bounds.structural": {"k": 2},
    "bounds.oversampled_cross": {"k": 2},
    "bounds.sorensen_embree": {"k": 2},
    "bounds.drawn_leverage": {"k": 1},
    "bounds.generalised_nystrom": {"columns": 3, "rows": 6},
    "attention.causal": {"block": 8},
    "attention.causal_operator": {"block": 8},
}


@dataclass(frozen=True)
class Case:
    """One wrong argument, and what came of it: nothing where a typed error named it."""

    owner: str
    parameter: str
    word: str
    fault: str


@contextmanager
def one_rank() -> Iterator[None]:
    """A default process group of this process alone, for what is called over ranks."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


def kind(one: Public, parameter: inspect.Parameter) -> kinds.Kind:
    return kinds.kind_of(one.name, parameter.name, parameter.annotation)


def good_call(one: Public) -> dict[str, Any]:
    """The arguments of a call that is right: those without a default."""
    given = EXAMPLES.get(one.name, {})
    return {
        p.name: given[p.name] if p.name in given else kind(one, p).good()
        for p in one.parameters
        if p.name in given or (p.default is p.empty and p.kind is not p.VAR_KEYWORD)
    }


def call(one: Public, arguments: dict[str, Any]) -> Any:
    """The callable with arguments by name, positional ones in place; what it yields is taken."""
    target = one.call
    if one.owner is not None:
        bound = INSTANCES[one.owner]()
        target = bound if one.name.endswith(".forward") else getattr(bound, one.name.rpartition(".")[2])
    positional, named = [], {}
    for p in one.parameters:
        if p.name not in arguments:
            if p.kind is p.POSITIONAL_ONLY and any(q.name in arguments for q in _after(one, p)):
                positional.append(p.default)
        elif p.kind in (p.POSITIONAL_ONLY, p.VAR_POSITIONAL):
            positional.append(arguments[p.name])
        else:
            named[p.name] = arguments[p.name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = target(*positional, **named)
        if isinstance(found, ESTIMATORS) and one.owner is None:
            found = found.fit(X, X[:, 0])  # scikit-learn checks parameters there, not in the constructor
        return list(islice(found, 5)) if inspect.isgenerator(found) else found


def _after(one: Public, p: inspect.Parameter) -> list[inspect.Parameter]:
    names = [q.name for q in one.parameters]
    return [q for q in one.parameters[names.index(p.name) + 1 :] if q.kind is q.POSITIONAL_ONLY]


def walked() -> Iterator[Public]:
    """What is public, and after each function the one that it makes, if it does: a rule or a solver."""
    for one in public():
        yield one
        if one.makes_a_callable:
            yield Public(f"{one.name}()", None, call(one, good_call(one)))


def wrong_values(one: Public, p: inspect.Parameter) -> Iterator[tuple[str, Any]]:
    its = kind(one, p)
    value = good_call(one).get(p.name, None)
    yield from its.wrong(its.good() if value is None else value)
    optional = p.default is None or "None" in str(p.annotation)
    if not optional and its is not kinds.KINDS["anything"]:
        yield "None", None


def cases(one: Public) -> Iterator[Case]:
    good = good_call(one)
    for p in one.parameters:
        for word, value in wrong_values(one, p):
            yield Case(one.name, p.name, word, _fault(one, p.name, {**good, p.name: value}))
    if any(p.name == "check_finite" for p in one.parameters):
        for name, value in good.items():
            if isinstance(value, np.ndarray) and value.dtype == np.float64:
                spoiled = {
                    **good,
                    name: np.where(np.arange(value.size).reshape(value.shape) == 1, np.nan, value),
                }
                yield Case(
                    one.name, name, "NaN, checked", _fault(one, name, {**spoiled, "check_finite": True})
                )


def _fault(one: Public, parameter: str, arguments: dict[str, Any]) -> str:
    try:
        call(one, arguments)
    except Exception as error:
        return "" if typed(one, parameter, error) else f"{type(error).__name__}: {str(error)[:90]}"
    return "accepted"


def typed(one: Public, parameter: str, error: Exception) -> bool:
    """Whether the error is ours and names the argument; of weights and models, whether it is ours."""
    if isinstance(error, ArgumentError):
        return (
            error.argument == parameter or f"`{parameter}`" in str(error) or parameter in ("config", "state")
        )
    if one.owner in ESTIMATORS or one.call in ESTIMATORS:  # whose contract is that of scikit-learn
        raised = traceback.extract_tb(error.__traceback__)[-1].filename
        return (isinstance(error, InvalidParameterError) and f"'{parameter}'" in str(error)) or (
            parameter in ("X", "y") and isinstance(error, (TypeError, ValueError)) and "sklearn" in raised
        )
    return isinstance(error, NystromError) and parameter in ("config", "state", "location", "model")


def main() -> None:
    total = faults = 0
    everything = list(walked())
    for one in everything:
        try:
            found = list(cases(one))
        except Exception as error:
            print(f"{one.name}: no walk, {type(error).__name__}: {error}")
            faults += 1
            continue
        total += len(found)
        bad = [case for case in found if case.fault]
        faults += len(bad)
        for case in bad:
            print(f"{case.owner}({case.parameter}: {case.word}): {case.fault}")
    print(f"{len(everything)} callables, {total} cases, {faults} untyped")


if __name__ == "__main__":
    with one_rank():
        main()
