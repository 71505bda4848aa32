"""The kinds of parameters: which one a name and an annotation mean, a good value, and the wrong ones.

``kind_of`` is the one place that reads names.  A parameter that it does not know is an error: whoever exports a new
one says here what it is.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch
import torch.distributed as dist
from matplotlib.figure import Figure

from nystrom_numerics import attention, bounds, kernels, landmarks, lowrank, pinv
from nystrom_numerics.bounds import Norm, Side
from nystrom_numerics.integrations import dask as chunked
from nystrom_numerics.nn import NystromAttention
from tests.contracts import models

N, D, M = 36, 3, 4
"""Tokens, their width, and landmarks of every good call."""

_RNG = np.random.default_rng(7)
X = _RNG.standard_normal((N, D))
A = np.exp(-((X[:, None] - X) ** 2).sum(-1))
NAN, INF = float("nan"), float("inf")
VAST = 10**400
"""An int that no float can hold."""

Cases = Iterable[tuple[str, Any]]


@dataclass(frozen=True)
class Kind:
    """A good value, and the wrong ones made from it, each with a word for it."""

    good: Callable[[], Any]
    wrong: Callable[[Any], Cases]


# ------------------------------------------------------------------------------------------------------- arrays


def no_array(x: Any) -> Cases:
    """What no array parameter takes."""
    host = np.asarray(x)
    yield "a list", host.tolist()
    yield "a string", "x"
    yield "a number", 3.0
    yield "a dict", {}
    yield "a masked array", np.ma.masked_array(host)
    yield "an np.matrix", np.asmatrix(host.reshape(host.shape[0], -1) if host.ndim else [[1.0]])
    yield "a sparse matrix", scipy.sparse.csr_array(np.eye(N))
    yield "objects", host.astype(object)
    yield "text", host.astype(str)


def no_real_array(x: Any) -> Cases:
    """What no array of real floating numbers may be: another dtype, no axis, an empty one."""
    yield from no_array(x)
    host = np.asarray(x)
    yield "integers", np.ones(host.shape, dtype=np.int64)
    yield "booleans", np.ones(host.shape, dtype=bool)
    yield "extended", host.astype(np.longdouble)
    yield "dates", np.zeros(host.shape, dtype="datetime64[s]")
    yield "no axis", np.asarray(1.0)
    yield "empty", np.zeros((0, *host.shape[1:]))


def complex_too(x: Any) -> Cases:
    yield "complex", np.asarray(x).astype(complex)


def no_matrices(x: Any) -> Cases:
    """Of what is only rearranged: without entries it is served as well."""
    yield from ((word, wrong) for word, wrong in no_real_array(x) if word != "empty")
    yield "one axis", np.ones(len(x))


def batchless(x: Any) -> Cases:
    yield "one axis", np.ones(len(x))
    yield "three axes", np.asarray(x)[None]


def needs_two_axes(x: Any) -> Cases:
    yield "one axis", np.ones(len(x))
    yield "no columns", np.zeros((len(x), 0))


def other_rows(x: Any) -> Cases:
    yield "a row less", x[:-1]


def column_less(x: Any) -> Cases:
    yield "a column less", x[:, :-1]


def other_width(x: Any) -> Cases:
    yield "another width", np.ones((len(x), x.shape[1] + 1))


def as_real(*more: Callable[[Any], Cases]) -> Callable[[Any], Cases]:
    def wrong(x: Any) -> Cases:
        for part in (no_real_array, complex_too, *more):
            yield from part(x)

    return wrong


def as_linear(*more: Callable[[Any], Cases]) -> Callable[[Any], Cases]:
    """Of pseudoinverses: complex matrices are served."""

    def wrong(x: Any) -> Cases:
        for part in (no_real_array, *more):
            yield from part(x)

    return wrong


def no_mask(x: Any) -> Cases:
    yield from no_array(x)
    yield "integers", np.ones(x.shape, dtype=np.int64)
    yield "floats", np.ones(x.shape)
    yield "another length", np.ones(x.shape[-1] + 1, dtype=bool)
    yield "two rows for one", np.ones((2, x.shape[-1]), dtype=bool)
    yield "of torch", torch.ones(x.shape, dtype=torch.bool)


def no_attention_mask(x: Any) -> Cases:
    yield from no_array(x)
    yield "integers", np.ones(x.shape, dtype=np.int64)
    yield "complex", np.ones(x.shape, dtype=complex)
    yield "another length", np.ones(x.shape[-1] + 1, dtype=bool)


def no_positions(x: Any) -> Cases:
    yield from no_array(x)
    yield "floats", np.asarray(x).astype(float)
    yield "booleans", np.ones(np.shape(x), dtype=bool)
    yield "no axis", np.asarray(1)


def no_tensor(x: torch.Tensor) -> Cases:
    yield "a list", x.tolist()
    yield "of numpy", x.numpy()
    yield "a string", "x"
    yield "no axis", torch.ones(())
    yield "one axis", torch.ones(x.shape[-1])


def no_states(x: torch.Tensor) -> Cases:
    yield from no_tensor(x)
    yield "integers", torch.ones(x.shape, dtype=torch.int64)
    yield "complex", x.to(torch.complex64)
    yield "another dtype", x.double()
    yield "another width", torch.ones(*x.shape[:-1], x.shape[-1] + 1)


def no_tokens(x: torch.Tensor) -> Cases:
    yield from no_tensor(x)
    yield "floats", x.float()
    yield "booleans", x.bool()
    yield "below 0", x - 1000
    yield "beyond the vocabulary", x + 1000


def no_token_mask(x: torch.Tensor) -> Cases:
    yield from no_tensor(x)
    yield "floats", x.float()
    yield "integers", x.long()
    yield "another length", torch.ones((*x.shape[:-1], x.shape[-1] + 1), dtype=torch.bool)


def no_torch_values(x: torch.Tensor) -> Cases:
    yield from no_tensor(x)
    yield "integers", torch.ones(x.shape, dtype=torch.int64)
    yield "complex", x.to(torch.complex64)
    yield "another dtype", x.float()
    yield "a token less", x[:-1]


def no_torch_tokens(x: torch.Tensor) -> Cases:
    yield from (case for case in no_torch_values(x) if case[0] != "a token less")
    yield "another width", torch.ones(*x.shape[:-1], x.shape[-1] + 1, dtype=x.dtype)


def no_torch_attention_mask(x: torch.Tensor) -> Cases:
    yield from no_tensor(x)
    yield "integers", x.long()
    yield "another dtype", x.float()
    yield "another length", torch.ones((1, x.shape[-1] + 1), dtype=torch.bool)


# ------------------------------------------------------------------------------------------------------- numbers


def no_number(_: Any) -> Cases:
    yield from (("a string", "1"), ("NaN", NAN), ("a list", [0.5]), ("complex", 1j), ("a bool", True))
    yield "an array", np.full(2, 0.5)
    yield "beyond floats", VAST


def number(*values: float, good: float = 0.5) -> Kind:
    """A number for which these values are wrong besides."""

    def wrong(x: Any) -> Cases:
        yield from no_number(x)
        yield from ((repr(value), value) for value in values)

    return Kind(lambda: good, wrong)


def count(low: int = 1, high: int | None = None, good: int = M, *also: Any) -> Kind:
    """An integer from ``low``, to ``high`` where there is a limit."""

    def wrong(_: Any) -> Cases:
        yield from (("a string", "4"), ("a float", 2.0), ("half", 2.5), ("a list", [4]), ("a bool", True))
        yield from (("NaN", NAN), ("an array", np.full(2, 4)))
        yield from ((repr(value), value) for value in (low - 1, -(10**9), *also))
        if high is not None:
            yield from ((repr(value), value) for value in (high + 1, 10**9))

    return Kind(lambda: good, wrong)


def no_counts(_: Any) -> Cases:
    """Of levels: a number or several, each a multiple of the one before and as many here as there."""
    yield from (("empty", ()), ("halves", (2.0, 4.0)), ("words", ("a", "b")), ("None within", (2, None)))
    yield from (("zero within", (0, M)), ("bools", (True, True)), ("three", (2, 4, 8)))


def no_flag(_: Any) -> Cases:
    yield from (("0", 0), ("1", 1), ("a string", "yes"), ("an array", np.ones(2, dtype=bool)), ("a list", []))


def no_word(_: Any) -> Cases:
    yield from (("a number", 3), ("bytes", b"x"), ("a list", ["x"]))


# ------------------------------------------------------------------------------------------------------- callables


def no_callable(_: Any) -> Cases:
    yield from (("a number", 3), ("a string", "uniform"), ("a list", []))


def gives(*results: Callable[..., Any]) -> Callable[[Any], Cases]:
    """No callable at all, or one that gives nonsense."""

    def wrong(x: Any) -> Cases:
        yield from no_callable(x)
        yield "gives None", lambda *_, **__: None
        yield "gives a string", lambda *_, **__: "x"
        for index, result in enumerate(results):
            yield f"gives another shape, {index}", result

    return wrong


def no_instance(_: Any) -> Cases:
    yield from (("a number", 3), ("a string", "x"), ("an array", A), ("a tuple", ()), ("a function", len))


def no_indices(_: Any) -> Cases:
    yield from (("halves", [0.5, 1.5]), ("floats", np.asarray([0.0, 1.0])), ("text", "ab"), ("words", ["a"]))
    yield from (("pairs", [[0], [1]]), ("ragged", [[0], [1, 2]]), ("a number", 3), ("bools", [True, False]))
    yield from (("below 0", [-1]), ("beyond", [10**6]), ("beyond int64", [10**30]), ("a set", {0, 1}))
    yield from (("None within", [0, None]), ("a dict", {0: 1}))


def no_rng(_: Any) -> Cases:
    yield from (("a string", "seed"), ("a float", 1.5), ("below 0", -1), ("a bool", True))
    yield from (("RandomState", np.random.RandomState(0)), ("random", random.Random(0)), ("a list", [1, 2]))


def no_kernel(x: Any) -> Cases:
    yield from no_instance(x)
    yield "a class", kernels.Kernel


def no_symmetric_kernel(x: Any) -> Cases:
    yield from no_kernel(x)
    yield "rectangular", kernels.gaussian(X, X[:5], gamma=0.5)


def no_subset(x: Any) -> Cases:
    yield from no_instance(x)
    yield "indices", np.arange(M)
    yield "beyond the points", landmarks.ColumnSubset(np.asarray([0, N]), None, 0, None)
    yield "below 0", landmarks.ColumnSubset(np.asarray([0, -1]), None, 0, None)
    yield "a batch", landmarks.ColumnSubset(np.zeros((2, M), dtype=np.int64), None, 0, None)
    yield (
        "some not valid",
        landmarks.ColumnSubset(np.zeros(2, dtype=np.int64), np.asarray([True, False]), 0, None),
    )
    yield "points of another width", landmarks.LandmarkPoints(np.ones((M, D + 1)), None, 0, None)
    yield "points of torch", landmarks.LandmarkPoints(torch.ones(M, D, dtype=torch.float64), None, 0, None)
    other = kernels.gaussian(X[:-1], gamma=0.5)
    yield "a factor of another kernel", landmarks.rpcholesky(other, M)


def no_factor(x: Any) -> Cases:
    yield from no_instance(x)
    other = kernels.gaussian(X[:-1], gamma=0.5)
    yield "of another shape", lowrank.nystrom_factor(other, landmarks.rpcholesky(other, M))


def no_pair(*wrong: Any) -> Callable[[Any], Cases]:
    def cases(_: Any) -> Cases:
        yield from (("a number", 3), ("a string", "ab"), ("three", (0, 0, 0)), ("one", (0,)), ("empty", ()))
        yield from ((repr(pair), pair) for pair in wrong)

    return cases


def no_triple(_: Any) -> Cases:
    yield from (("a number", 3.0), ("a string", "abc"), ("two", (1.0, 1.0)), ("words", ("a", "b", "c")))
    yield from (("NaN", (NAN, 1.0, 1.0)), ("below 0", (1.0, -1.0, 1.0)), ("None within", (1.0, None, 1.0)))


# ------------------------------------------------------------------------------------------------------- checkpoints


def no_mapping(_: Any) -> Cases:
    yield from (
        ("a list", []),
        ("a number", 3),
        ("a string", "x"),
        ("keys of numbers", {1: 2}),
    )


def no_state(state: Mapping[str, Any]) -> Cases:
    """A state with an entry less, one more, and each entry of another shape, dtype or type."""
    yield from no_mapping(state)
    yield "empty", {}
    yield "an entry more", {**state, "surplus": torch.ones(2)}
    for name in state:
        if name not in OPTIONAL:
            yield f"without {name}", {other: x for other, x in state.items() if other != name}
        for word, x in (
            ("a list", state[name].tolist()),
            ("None", None),
            ("of numpy", state[name].numpy()),
            ("an axis more", state[name][None]),
            ("a row more", torch.cat([state[name], state[name][:1]])),
            ("no axis", torch.ones(())),
            ("integers", state[name].long()),
            ("complex", state[name].to(torch.complex64)),
        ):
            yield f"{name}: {word}", {**state, name: x}


OPTIONAL = {
    "res_conv.weight",
    *(f"cls.predictions.{name}" for name in ("bias", "decoder.weight", "decoder.bias")),
}
"""Entries that some hold and some do not: a convolution, and what is tied to another entry."""


def no_hugging_face_config(config: Mapping[str, Any]) -> Cases:
    yield from no_mapping(config)
    yield "of BERT", {**config, "model_type": "bert"}
    wrong = {
        "vocab_size": (0, -1, 2.5, "9", None, True),
        "hidden_size": (0, -1, 16.0, "16", None, 7),
        "num_hidden_layers": (0, -1, 1.0, "1", None, True),
        "num_attention_heads": (0, -1, 2.0, "2", None, 3),
        "intermediate_size": (0, -1, 16.0, "16", None),
        "max_position_embeddings": (0, -1, 16.0, "16", None),
        "type_vocab_size": (0, -1, 2.0, "2", None),
        "pad_token_id": (-1, 10**6, 1.0, "1"),
        "num_landmarks": (0, -1, 4.0, "4", None),
        "segment_means_seq_len": (0, -1, 8.0, "8", None),
        "conv_kernel_size": (0, -1, 4, 3.0, "3"),
        "hidden_act": ("nonsense", None, 3, ["gelu"]),
        "hidden_dropout_prob": (-0.1, 1.0, NAN, "0", None),
        "layer_norm_eps": (0.0, -1.0, NAN, INF, "0", None),
        "inv_coeff_init_option": ("nonsense", 3),
        "tie_word_embeddings": (None, "yes", 3),
        "is_decoder": (True, "yes"),
        "add_cross_attention": (True, "yes"),
    }
    for name, values in wrong.items():
        for value in values:
            yield f"{name}={value!r}", {**config, name: value}


def no_location(good: Path) -> Cases:
    yield from (("a number", 3), ("a list", []), ("bytes", b"x"), ("empty", ""), ("a NUL", "a\0b"))
    yield from (
        ("not here", good / "nothing"),
        ("a file", good / "config.json"),
        ("no weights", good / "empty"),
    )
    for word in sorted(path.name for path in good.parent.iterdir() if path.name.startswith("bad")):
        yield f"a folder with {word}", good.parent / word


# ------------------------------------------------------------------------------------------------------- the table


def operator() -> Callable[[Any], Any]:
    return lambda v: A @ v


@cache
def gaussian() -> kernels.Kernel:
    return kernels.gaussian(X, gamma=0.5)


@cache
def nystrom_factor() -> lowrank.NystromFactor:
    return lowrank.nystrom_factor(gaussian(), landmarks.rpcholesky(gaussian(), M), diagonal=True)


@cache
def chunked_kernel() -> chunked.ChunkedKernel:
    return chunked.chunked_kernel(partial(kernels.gaussian, gamma=0.5), X)


@cache
def chunked_factor() -> chunked.ChunkedFactor:
    return chunked.nystrom_factor(chunked_kernel(), landmarks.rpcholesky(gaussian(), M))


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()


def array_file() -> str:
    path = Path(_folder().name) / "x.npy"
    np.save(path, X)
    return str(path)


tokens = as_real(needs_two_axes)
"""Wrong as tokens (..., n, d), whose leading axes are a batch."""
points = as_real(batchless)
indices = Kind(lambda: [0, 3, 9, 20], no_indices)

KINDS: dict[str, Kind] = {
    "tokens": Kind(lambda: X, tokens),
    "landmark points": Kind(lambda: X[5 : 5 + M], tokens),
    "keys": Kind(lambda: X, as_real(needs_two_axes, other_width)),
    "values": Kind(lambda: X, as_real(needs_two_axes, other_rows)),
    "points": Kind(lambda: X, points),
    "other points": Kind(lambda: X[5 : 5 + M], as_real(batchless, other_width)),
    "matrix": Kind(lambda: A, points),
    "square matrix": Kind(lambda: A, as_real(batchless, other_rows)),
    "matrices": Kind(lambda: A, as_linear(needs_two_axes)),
    "matrices, empty too": Kind(lambda: A, no_matrices),
    "square matrices": Kind(lambda: A, as_linear(needs_two_axes, other_rows)),
    "right-hand sides": Kind(lambda: A[:, :2], as_linear(needs_two_axes, other_rows)),
    "rows": Kind(lambda: X, as_real(other_rows, lambda x: [("three axes", x[None])])),
    "right-hand side of an operator": Kind(lambda: X, as_real(lambda x: [("three axes", x[None])])),
    "basis": Kind(lambda: np.linalg.qr(A)[0][:, :M], as_real(batchless, lambda x: [("wide", x.T)])),
    "judged matrices": Kind(lambda: A, as_real(needs_two_axes)),
    "judged inverses": Kind(lambda: A, as_real(needs_two_axes, other_rows)),
    "core": Kind(lambda: A[5 : 5 + M, 5 : 5 + M], as_real(batchless, other_rows)),
    "scores": Kind(lambda: A, as_real(needs_two_axes)),
    "other scores": Kind(lambda: A + 0.1, as_real(needs_two_axes, other_rows)),
    "vector": Kind(lambda: np.linspace(2, 1, N), as_real(lambda x: [("two axes", x[:, None])])),
    "other vector": Kind(
        lambda: np.linspace(3, 1, N), as_real(other_rows, lambda x: [("two axes", x[:, None])])
    ),
    "like": Kind(lambda: np.zeros((N, 1)), as_real()),
    "sketch": Kind(lambda: A @ _gauss(), as_real(batchless, other_rows)),
    "test matrix": Kind(lambda: _gauss(), as_real(batchless, other_rows)),
    "mask": Kind(lambda: np.arange(N) > 2, no_mask),
    "attention mask": Kind(lambda: np.arange(N) > 2, no_attention_mask),
    "positions": Kind(lambda: np.asarray([0, 3, 9, 20]), no_positions),
    "which positions": Kind(lambda: np.ones(M, dtype=bool), no_mask),
    "number": number(INF, -INF),
    "positive": number(0.0, -1.0, INF),
    "at least 0": number(-1e-9, -INF, INF),
    "at least 0 or infinite": number(-1e-9, -INF),
    "tolerance": number(-0.1, 1.0, INF, good=1e-6),
    "probability": number(0.0, 1.0, -0.1, INF, good=0.1),
    "share": number(0.0, -0.1, 1.1, INF, good=0.5),
    "below one": number(-0.1, 1.0, INF, good=0.1),
    "above one": number(1.0, 0.5, -INF, good=2.0),
    "above one, finite": number(1.0, 0.5, -INF, INF, good=2.0),
    "at least one": number(0.99, -1.0, INF, good=2.0),
    "smoothness": number(0.0, -1.0, 1.0, INF, good=1.5),
    "count": count(),
    "count from 0": count(0),
    "counts": Kind(lambda: (2, M), lambda x: [(w, v) for w, v in (*count().wrong(x), *no_counts(x))]),
    "landmarks": count(1, N),
    "landmarks, with repetition": count(1),
    "landmarks on average": number(0.0, -1.0, INF, good=400.0),
    "landmarks of both": Kind(
        lambda: M,
        lambda x: [(w, v) for w, v in (*count(1, N).wrong(x), *no_pair(*PAIRS)(x)) if w != "a number"],
    ),
    "rows to sample": count(2, N, 20),
    "order": count(0, N),
    "place": count(0, N - 1, 0),
    "multiple of 2": count(2, 2 * N, 6, 7, 9),
    "multiple of 3": count(3, N, 6, 7, 8),
    "multiple of 6": count(6, None, 12, 7, 15),
    "odd": count(1, None, 3, 2, 4),
    "step order": count(2, None, 3),
    "flag": Kind(lambda: True, no_flag),
    "flags": Kind(lambda: (True, False), no_pair((1, 0), ("a", "b"), (True, None))),
    "shares": Kind(lambda: (0.1, 0.2), no_pair(("a", "b"), (0.1, 1.0), (-0.1, 0.1), (NAN, 0.1), (True, 0.1))),
    "norms": Kind(lambda: (INF, INF, INF), no_triple),
    "word": Kind(lambda: "contract", no_word),
    "rng": Kind(lambda: 0, no_rng),
    "operator": Kind(operator, gives(lambda v: v[:-1], lambda v: v[..., None], lambda v: v[:, 0])),
    "callable, kept": Kind(lambda: landmarks.strided, no_callable),
    "rectangular operator": Kind(operator, gives(lambda v: v[..., None], lambda v: v[:, 0])),
    "strategy": Kind(lambda: landmarks.strided, gives(lambda x, m, **_: x[..., :m, :])),
    "solver": Kind(lambda: pinv.rank_revealing, gives(lambda a, b: b[..., :-1, :], lambda a, b: b[..., 0])),
    "pinv": Kind(lambda: pinv.svd, gives(lambda a, **_: a)),
    "row maker": Kind(
        lambda: lambda rows: np.full((len(rows), N), 1 / N),
        gives(lambda rows: np.zeros((1, 1)), lambda rows: np.zeros(len(rows))),
    ),
    "entry count": Kind(lambda: lambda: 0, no_callable),
    "hints": Kind(lambda: None, no_instance),
    "rule": Kind(lambda: landmarks.strided, no_callable),
    "basis rule": Kind(lambda: landmarks.deim, no_callable),
    "basis maker": Kind(lambda: landmarks.exact_basis, no_callable),
    "basis maker, called": Kind(lambda: landmarks.exact_basis, gives(lambda k, r, **_: X[:5])),
    "method": Kind(lambda: pinv.svd, no_callable),
    "norm bound": Kind(lambda: pinv.one_sup_bound, gives(lambda a: a)),
    "kernel function": Kind(lambda: lambda x, y: np.exp(-((x[:, None] - y) ** 2).sum(-1)), no_callable),
    "diagonal function": Kind(lambda: lambda x: np.ones(len(x)), no_callable),
    "estimator": Kind(lambda: bounds.hutchpp, gives()),
    "kernel": Kind(gaussian, no_symmetric_kernel),
    "any kernel": Kind(gaussian, no_kernel),
    "matrix or kernel": Kind(lambda: A, lambda x: [*as_real(batchless, other_rows)(x), *_rectangular(x)]),
    "landmark set": Kind(lambda: landmarks.rpcholesky(gaussian(), M), no_subset),
    "landmark record": Kind(lambda: landmarks.rpcholesky(gaussian(), M), no_instance),
    "cross subset": Kind(lambda: landmarks.adaptive_cross(gaussian(), M), no_instance),
    "factor": Kind(nystrom_factor, no_factor),
    "spectrum": Kind(lambda: bounds.psd_spectrum(A), no_instance),
    "attention operator": Kind(lambda: attention.nystrom_operator(X, X, M), no_instance),
    "problem": Kind(
        lambda: bounds.ScoresProblem(A, A + 0.1),
        lambda x: [*no_instance(x), ("another problem", bounds.SketchProblem(np.ones(4), 2, 4))],
    ),
    "norm": Kind(lambda: Norm.SPECTRAL, lambda x: [*no_instance(x), ("a side", Side.UPPER)]),
    "side": Kind(lambda: Side.UPPER, lambda x: [*no_instance(x), ("a norm", Norm.SPECTRAL)]),
    "outputs": Kind(
        lambda: (X + 0.1,), lambda _: [("a number", 3), ("None", None), ("of other rows", (X[1:],))]
    ),
    "budgets": Kind(
        lambda: (4, 8), lambda x: [*no_instance(x), ("none", ()), ("descending", (8, 4)), ("0", (0, 4))]
    ),
    "seeds": Kind(
        lambda: (0, 1),
        lambda _: [
            ("a number", 3),
            ("None", None),
            ("a word", "ab"),
            ("floats", (0.5,)),
            ("below 0", (-1,)),
            ("a bool", (True,)),
        ],
    ),
    "layer": Kind(lambda: "encoder.layer.0.attention.self", lambda x: [*no_word(x), ("another", "encoder")]),
    "labels": Kind(
        lambda: ["a"] * N,
        lambda _: [("a number", 3), ("a word", "a" * N), ("numbers", [3] * N), ("too few", ["a"])],
    ),
    "places": Kind(
        lambda: X[:, :2],
        lambda x: [
            ("a number", 3),
            ("a list", x.tolist()),
            ("complex", x + 1j),
            ("three axes", x[None]),
            ("too few", x[1:]),
            ("one column", x[:, :1]),
        ],
    ),
    "name of an estimator": Kind(lambda: "tangent", lambda x: [*no_word(x), ("another", "best")]),
    "methods": Kind(
        lambda: {"paper": pinv.RAZAVI},
        lambda x: [*no_mapping(x), ("none", {}), ("a number", {"paper": 3}), ("no step", {"paper": []})],
    ),
    "figure": Kind(lambda: Figure(), no_instance),
    "steps": Kind(lambda: [pinv.hyperpower_step(3)], lambda x: [*no_instance(x), ("numbers", [3])]),
    "indices": indices,
    "states": Kind(lambda: models.states(), no_states),
    "torch tokens": Kind(lambda: torch.tensor(X), no_torch_tokens),
    "torch values": Kind(lambda: torch.tensor(X), no_torch_values),
    "torch mask": Kind(lambda: torch.arange(N) > 2, no_token_mask),
    "group": Kind(lambda: dist.group.WORLD, no_instance),
    "torch attention mask": Kind(lambda: torch.arange(N)[None] > 2, no_torch_attention_mask),
    "None alone": Kind(lambda: None, lambda _: [("a tolerance", 0.05), ("a word", "small")]),
    "none but 0": number(-0.1, 0.1, 1.1, INF, good=0.0),
    "parts": Kind(
        lambda: ["encoder"], lambda _: [("a word", "encoder"), ("a number", 3), ("no part", ["head"])]
    ),
    "torch encoder": Kind(lambda: models.torch_encoder(), no_instance),
    "conversion": Kind(lambda: NystromAttention.from_multihead, gives(lambda one: one)),
    "way out": Kind(lambda: "exact", no_word),
    "token numbers": Kind(lambda: models.ids(), no_tokens),
    "token mask": Kind(lambda: models.mask(), no_token_mask),
    "segments": Kind(lambda: models.ids() * 0, no_tokens),
    "model config": Kind(lambda: models.config(), no_instance),
    "attentions": Kind(
        lambda: [models.attention()], lambda x: [*no_instance(x), ("numbers", [3]), ("empty", [])]
    ),
    "hugging face config": Kind(lambda: models.theirs_config(), no_hugging_face_config),
    "hugging face state": Kind(lambda: models.theirs_state(), no_state),
    "peer state": Kind(lambda: models.peer_state(), no_state),
    "peer encoder state": Kind(lambda: models.peer_encoder_state(), no_state),
    "location": Kind(lambda: models.folder(), no_location),
    "model inputs": Kind(
        lambda: {"input_ids": models.ids()}, lambda _: [("a number", 3), ("a list", ["input_ids"])]
    ),
    "estimators": Kind(
        lambda: (("tangent", 4),),
        lambda _: [
            ("a number", 3),
            ("names", ("tangent",)),
            ("another", (("best", 3),)),
            ("of 0", (("tangent", 0),)),
        ],
    ),
    "8 at least": count(8, None, 12),
    "model": Kind(lambda: models.bert(), lambda x: [*no_instance(x), ("a module", torch.nn.Linear(2, 2))]),
    "dtype": Kind(lambda: "float64", lambda _: [("a number", 3), ("a word", "float1000"), ("int8", "int8")]),
    "tall": Kind(lambda: np.asarray(nystrom_factor().factor), as_real(batchless, column_less)),
    "triangle": Kind(lambda: np.asarray(nystrom_factor().triangle), as_real(batchless, other_rows)),
    "tall, of known rows": Kind(
        lambda: np.asarray(nystrom_factor().factor), as_real(batchless, column_less, other_rows)
    ),
    "wide": Kind(lambda: np.asarray(nystrom_factor().factor).T, as_real(batchless, other_rows)),
    "estimator kernel": Kind(
        lambda: "rbf", lambda _: [("a number", 3), ("a word", "nonsense"), ("None", None)]
    ),
    "estimator landmarks": Kind(
        lambda: "uniform",
        lambda _: [
            ("a word", "nonsense"),
            ("pairs", [[0], [1]]),
            ("halves", [0.5]),
            ("beyond", [N]),
            ("empty", []),
        ],
    ),
    "random state": Kind(lambda: 0, lambda _: [("a word", "x"), ("below 0", -1), ("a float", 0.5)]),
    "jobs": Kind(lambda: 1, lambda _: [("a word", "x"), ("a float", 0.5), ("a list", [1])]),
    "keywords": Kind(lambda: {}, lambda _: [("a list", [1]), ("a word", "x"), ("a number", 3)]),
    "samples": Kind(lambda: X, lambda x: [(w, v) for w, v in points(x) if w not in LEARNED]),
    "anything": Kind(lambda: None, lambda _: []),
    "learned targets": Kind(lambda: X[:, 0], lambda x: [("text", x.astype(str)), ("a row less", x[:-1])]),
    "kernel maker": Kind(lambda: partial(kernels.gaussian, gamma=0.5), gives()),
    "chunked kernel": Kind(chunked_kernel, no_kernel),
    "chunked factor": Kind(chunked_factor, no_instance),
    "array file": Kind(
        array_file, lambda _: [("a number", 3), ("a list", []), ("none there", "none.npy"), ("a folder", ".")]
    ),
    "solver by name": Kind(lambda: "falkon", lambda x: [*no_word(x), ("another", "best")]),
}
PAIRS = ((0, M), (M, 0), (M, N + 1), ("4", 4), (M, None), (True, True))
LEARNED = {
    "a sparse matrix",
    "a list",
    "objects",
    "integers",
    "booleans",
    "extended",
    "a masked array",
    "text",
}
"""What scikit-learn turns into an array of floats."""


def _gauss() -> np.ndarray:
    return np.random.default_rng(3).standard_normal((N, M))


def _rectangular(_: Any) -> Cases:
    yield "a rectangular kernel", kernels.gaussian(X, X[:5], gamma=0.5)


# name of the parameter -> kind, for each annotation; a string in place of a table is the kind of all names
NAMED: dict[str, str | dict[str, str]] = {
    "Array": {
        **dict.fromkeys(("x", "q"), "tokens"),
        "k": "keys",
        **dict.fromkeys(("v", "out"), "values"),
        "mask": "mask",
        **dict.fromkeys(("key_mask", "query_mask"), "mask"),
        "attn_mask": "attention mask",
        "a": "matrices",
        "b": "right-hand sides",
        "y": "rows",
        "z": "other points",
        "points": "other points",
        "basis": "basis",
        "core": "core",
        "like": "like",
        "scores": "scores",
        "other": "other scores",
        "diagonal": "vector",
        **dict.fromkeys(("errors", "reach"), "vector"),
        **dict.fromkeys(("sums", "counts", "estimated"), "other vector"),
        "means": "scores",
        "ranges": "other scores",
        "sigma": "vector",
        "sketch": "sketch",
        "places": "places",
        "test": "test matrix",
        "az": "matrices",
        "matrices": "matrices",
        "matrix": "matrix",
        "left": "matrix",
        "right": "matrix",
        "indices": "positions",
        "rows": "positions",
        "columns": "positions",
        "valid": "which positions",
        "values": "vector",
        "vectors": "square matrix",
        **dict.fromkeys(("kept", "rows", "columns"), "positions"),
        "factor": "tall",
        "triangle": "triangle",
        "residual": "vector",
        **dict.fromkeys(("lengths", "rounding", "largest", "spread"), "vector"),
    },
    "Tensor": {
        "x": "states",
        "context": "states",
        "ids": "token numbers",
        "types": "segments",
        "mask": "token mask",
        "context_mask": "token mask",
        **dict.fromkeys(("query", "key", "value", "q", "k"), "torch tokens"),
        "v": "torch values",
        **dict.fromkeys(("key_mask", "query_mask"), "torch mask"),
        "attn_mask": "torch attention mask",
    },
    "int": {
        "m": "landmarks",
        "k": "order",
        "start": "place",
        "degree": "step order",
        "order": "step order",
        "first": "multiple of 6",
        "matvecs": "multiple of 3",
        "conv_kernel": "odd",
        "rows": "count",
        "columns": "count",
        **dict.fromkeys(("head", "pad_id", "text"), "place"),
        **dict.fromkeys(
            (
                "entries",
                "seed",
                "iterations",
                "margin",
                "oversampling",
                "pad_offset",
                "routed",
            ),
            "count from 0",
        ),
        **dict.fromkeys(
            (
                "block",
                "group",
                "check_every",
                "probes",
                "rank",
                "budget",
                "near",
                "heads",
                "dim",
                "dim_head",
                "landmarks",
                "size",
            ),
            "count",
        ),
        **dict.fromkeys(
            (
                "depth",
                "feed_forward",
                "vocabulary",
                "max_positions",
                "types",
                "classes",
                "n_q",
                "n_k",
                "width",
                *("blocks", "groups"),
            ),
            "count",
        ),
        **dict.fromkeys(("n_components", "n_jobs", "matmuls"), "count"),
    },
    "int | tuple[int, int]": {"m": "landmarks of both"},
    "int | tuple[int, ...]": {"blocks": "counts", "groups": "counts"},
    "float": {
        **dict.fromkeys(
            (
                "gamma",
                "length_scale",
                "ridge",
                "sigma_max",
                "sigma_min",
                "eps",
                "strength",
                "error",
                "dearer",
                "within",
            ),
            "positive",
        ),
        **dict.fromkeys(("coef0", "rounding", "inverse_norm", "other_norm", "perturbation"), "at least 0"),
        **dict.fromkeys(
            ("value", "standard_error", "frobenius_residual", "growth", "negative"), "at least 0"
        ),
        "trivial": "at least 0 or infinite",
        **dict.fromkeys(("rtol", "cutoff", "noise"), "tolerance"),
        "dropout": "below one",
        "dropout_p": "none but 0",
        "failure": "probability",
        "ratio": "above one",
        "condition": "at least one",
        "oversampling": "at least one",
        "scale": "number",
        "tol": "positive",
        "guard": "at least 0",
        "nu": "smoothness",
        "m": "landmarks on average",
        "lower": "positive",
        "upper": "positive",
        "degree": "positive",
        "candidates": "share",
        "position": "at least 0 or infinite",
    },
    "bool": "flag",
    "str": {
        "name": "word",
        "source": "word",
        "layer": "layer",
        "estimator": "name of an estimator",
        "otherwise": "way out",
        "causal": "way out",
    },
    "np.random.Generator | int": "rng",
    "Operator": "operator",
    "Strategy": {"landmarks": "strategy", "rule": "strategy"},
    "Solver": "solver",
    "Pinv": "pinv",
    "Basis": "basis maker",
    "NormBound": "norm bound",
    "Callable[[Array], Array]": {
        "apply": "operator",
        "precondition": "operator",
        "diagonal": "diagonal function",
        "activation": "method",
    },
    "Callable[[Tensor], Tensor]": "method",
    "Callable[..., Tensor]": "callable, kept",
    "Callable[[Array, Array], Array]": {"function": "kernel function", "apply": "method"},
    "Callable[[Array], PinvResult]": "method",
    "Callable[..., ColumnSubset]": "basis rule",
    "Callable[..., Estimate]": "estimator",
    "Kernel": "kernel",
    "Array | Kernel": "matrix or kernel",
    "LandmarkPoints | ColumnSubset": "landmark set",
    "CrossSubset": "cross subset",
    "NystromFactor": "factor",
    "ChunkedKernel": "chunked kernel",
    "ChunkedFactor": "chunked factor",
    "KernelMaker": "kernel maker",
    "Points": "points",
    "Targets": "rows",
    "NystromFactor | CrossFactor": "factor",
    "Spectrum": "spectrum",
    "AttentionOperator": "attention operator",
    "Norm": "norm",
    "Side": "side",
    "Sequence[Step]": "steps",
    "Sequence[Array]": "outputs",
    "Step | Iterable[Step]": "steps",
    "Index": "indices",
    "Sequence[int]": "indices",
    "Sequence[str]": "labels",
    "NystromformerConfig": "model config",
    "Sequence[NystromAttention]": "attentions",
    "Mapping[str, Method]": "methods",
    "Mapping[str, Any]": {"config": "hugging face config", "inputs": "model inputs"},
    "Sequence[tuple[str, int]]": "estimators",
    "Mapping[str, Tensor]": {"state": "hugging face state"},
    "str | Path": {"location": "location", "path": "array file"},
    "tuple[float, float, float]": "norms",
    "tuple[float, float]": "shares",
    "tuple[bool, bool]": "flags",
    "RowMaker": "row maker",
    "Group": "group",
    "Hints": "hints",
    "Callable[[], int]": "entry count",
    "dict[str, Any]": "keywords",
    "Parts": "parts",
    "nn.TransformerEncoder": "torch encoder",
    "Callable[[nn.MultiheadAttention], NystromAttention]": "conversion",
    "Any": {
        "dtype": "dtype",
        "model": "model",
        "X": "samples",
        "y": "anything",
        "problem": "problem",
        "figure": "figure",
    },
}
NAMED["Host"] = NAMED["np.ndarray[Any, Any]"] = NAMED["Array"]

# `landmarks` is a rule in some, and a number in these
KEPT_COUNTS = {
    (f"nn.{owner}", "landmarks")
    for owner in (
        "NystromAttention",
        "NystromformerConfig",
        "from_nystrom_attention",
        "from_nystrom_attention_encoder",
    )
}
# where one callable means something else by a name than the others do
EXCEPTIONS: dict[str, str] = {
    **dict.fromkeys(("bounds.certify.kernel", "lowrank.residual_norms.kernel"), "any kernel"),
    **dict.fromkeys(("landmarks.adaptive_cross.kernel", "lowrank.cross_factor.kernel"), "any kernel"),
    "lowrank.cur_factor.kernel": "any kernel",
    "landmarks.leverage.basis": "basis maker, called",
    "landmarks.on_points.rule": "rule",
    "kernels.polynomial.degree": "count",
    "bounds.frobenius_probes.ratio": "above one, finite",
    "bounds.drawn_leverage.m": "landmarks, with repetition",
    "bounds.additive_weighted.m": "landmarks, with repetition",
    "bounds.xnystrace.matvecs": "landmarks",
    "bounds.xtrace.matvecs": "multiple of 2",
    **dict.fromkeys(
        ("attention.normalised.guard", "attention.normalised_operator.guard"), "at least 0 or infinite"
    ),
    **{f"attention.{name}_operator.solver": "callable, kept" for name in ("nystrom", "normalised")},
    **{
        f"integrations.transformers.{name}.m": "count"
        for name in ("head_operator", "register_with_transformers")
    },
    "integrations.torch.sdpa.m": "count",
    "integrations.torch.sdpa().value": "torch values",
    "distributed.near_field.mask": "torch mask",
    **{
        f"{owner}.{name}": "callable, kept"
        for owner in (
            "integrations.transformers.register_with_transformers",
            "nn.NystromAttention",
            "nn.NystromformerConfig",
            "nn.from_nystrom_attention",
            "nn.from_nystrom_attention_encoder",
        )
        for name in ("landmarks", "rule", "solver", "pinv")
        if (owner, name) not in KEPT_COUNTS
    },
    **{f"landmarks.{name}.tol": "at least 0" for name in ("maxvol", "rectangular_maxvol")},
    **dict.fromkeys(("landmarks.on_columns.kernel", "landmarks.on_points().kernel"), "any kernel"),
    **{f"lowrank.{owner}.v": "rows" for owner in ("CrossFactor.apply", "CrossFactor.apply_transpose")},
    "lowrank.NystromFactor.apply.v": "rows",
    **{f"lowrank.{owner}.b": "rows" for owner in ("NystromFactor.solve", "NystromPreconditioner.apply")},
    "lowrank.conjugate_gradients.b": "right-hand side of an operator",
    **{f"kernels.{owner}.apply.v": "rows" for owner in ("MatrixKernel", "PointKernel")},
    "bounds.trace_within.rtol": "positive",
    **{
        f"bounds.{name}.apply": "rectangular operator" for name in ("frobenius_probes", "gaussian_norm_bound")
    },
    "bounds.trace_within.apply": "operator",
    "bounds.Estimate.matvecs": "count from 0",
    "bounds.Estimate.value": "number",
    "bounds.psd_spectrum.a": "square matrix",
    **{
        f"bounds.{name}.a": "matrix"
        for name in ("goreinov_tyrtyshnikov", "oversampled_cross", "sorensen_embree")
    },
    **{f"bounds.pinv_error.{name}": "core" for name in ("z", "left", "right")},
    **{f"kernels.{name}.x": "points" for name in ("gaussian", "laplacian", "matern", "polynomial", "custom")},
    **{
        f"kernels.{name}.y": "other points"
        for name in ("gaussian", "laplacian", "matern", "polynomial", "custom")
    },
    "kernels.softmax.q": "points",
    "kernels.softmax.k": "other points",
    "kernels.precomputed.a": "matrix",
    "landmarks.pivoted_qr.a": "matrix",
    "pinv.hermitian.a": "square matrices",
    "pinv.convergence.products": "count",
    "pinv.verify.a": "judged matrices",
    "pinv.verify.z": "judged inverses",
    "pinv.verify.rank": "landmarks",
    **{f"attention.{name}.rows": "rows to sample" for name in ("certify_output", "choose", "approximate")},
    **{f"attention.{name}.rows": "rows to sample" for name in ("choose", "approximate")},
    **{
        f"attention.{name}.{option}": "rows to sample"
        for name in ("certify_output", "certify_operator", "certify_draws", "certify_rows", "certify_heads")
        for option in ("rows", "most")
    },
    "attention.certify_draws.seeds": "seeds",
    "bounds.near_rows.far": "vector",
    "bounds.tangent_rows.far": "other vector",
    **{f"attention.{name}.budgets": "budgets" for name in ("choose", "approximate")},
    **{f"integrations.transformers.{name}.rows": "8 at least" for name in ("calibrate", "compare")},
    "integrations.transformers.calibrate.budgets": "budgets",
    **dict.fromkeys(("linalg.adjoint.a", "linalg.transpose.a"), "matrices, empty too"),
    "linalg.backward_residual.z": "matrices",
    "landmarks.LandmarkPoints.points": "landmark points",
    "lowrank.NystromFactor.factor": "tall, of known rows",
    "lowrank.NystromFactor.landmarks": "landmark record",
    **{
        f"{name}.{side}": kind
        for name in ("landmarks.CrossSubset", "lowrank.CrossFactor")
        for side, kind in (("left", "tall"), ("right", "wide"))
    },
    "integrations.scikit_learn.Nystroem.n_jobs": "jobs",
    "integrations.transformers.register_with_transformers.error": "None alone",
    **{
        f"integrations.{estimator}.{name}": kind
        for estimator in ("scikit_learn.Nystroem", "dask.Nystroem", "dask.KernelRidge")
        for name, kind in {
            "gamma": "at least 0",
            "degree": "at least 0",
            "coef0": "number",
            "kernel": "estimator kernel",
            "landmarks": "estimator landmarks",
            "random_state": "random state",
        }.items()
    },
    "integrations.dask.KernelRidge.alpha": "positive",
    "integrations.dask.KernelRidge.max_iter": "count",
    "integrations.dask.KernelRidge.solver": "solver by name",
    "integrations.dask.KernelRidge.fit.y": "learned targets",
    "integrations.dask.ChunkedFactor.features.x": "other points",
    "integrations.dask.ChunkedKernel.apply.v": "rows",
    "integrations.dask.ChunkedKernel.between.x": "other points",
    "nn.from_nystrom_attention.state": "peer state",
    "nn.from_nystrom_attention_encoder.state": "peer encoder state",
}


def kind_of(owner: str, name: str, annotation: Any) -> Kind:
    """The kind of the parameter ``name`` of the public callable ``owner``.

    Raises
    ------
    LookupError
        It is not known: say in ``NAMED`` what it is.
    """
    found: Any = EXCEPTIONS.get(f"{owner}.{name}")
    if found is None:
        plain = str(annotation).removesuffix(" | None")
        table = NAMED.get(plain)
        found = table if isinstance(table, str) else (table or {}).get(name)
    if found is None:
        raise LookupError(f"{owner}({name}: {annotation}) is of no known kind")
    return KINDS[found]
