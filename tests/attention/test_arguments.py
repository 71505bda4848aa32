"""Bad arguments of attention are named in typed errors, before anything is computed with them."""

from __future__ import annotations

import inspect
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nystrom_numerics import errors, landmarks, pinv
from nystrom_numerics.attention import (
    causal,
    certify_operator,
    certify_rows,
    exact,
    near_field,
    normalised,
    nystrom,
    nystrom_operator,
    psd_lift,
    ridge,
    tangent,
)
from nystrom_numerics.attention.hints import Hints

N, M = 12, 3
X = np.random.default_rng(0).standard_normal((N, 4))
NAN, INF = float("nan"), float("inf")


def points(x, m, mask=None):
    return landmarks.LandmarkPoints(np.ones((m, 5)), None, 0, None)


ARRAY = [
    None,
    [[1.0]],
    "x",
    3,
    np.ma.masked_array(X),
    X.astype(int),
    X.astype(complex),
    X > 0,
    X[0],
    X[:, :0],
]
COUNT = [None, "3", [3], 0, -1, 2.5, 3.0, True, NAN, np.ones(1)]
NUMBER = ["x", [0.5], NAN, INF, 1j, True, np.ones(1)]
FLAG = [None, 0, 1, "yes"]
CALLABLE = [None, 3, "means"]
MASK = [[True] * N, "x", np.ones(N), np.ones(N, int), np.ones(N + 1, bool), torch.ones(N, dtype=torch.bool)]
RULE = [*CALLABLE, lambda x, m, mask=None: x[:m], points]
INVERSE = [3, "svd", lambda a: a, lambda a: SimpleNamespace(value=a), lambda a: pinv.svd(a[:2])]
ONE_OFF = [np.where(np.arange(N) == 5, wrong, 1.0) for wrong in (NAN, -1e-9, INF)]
PAIR = [(3,), (3, 3, 3), (0, 3), (3, N + 1), ("3", 3), (), [3, 3]]
TOKENS = {"q": ARRAY, "k": [*ARRAY, X[:, :3], np.ones((2, 3, N, 4), "float32")], "v": [*ARRAY, X[:5]]}
COMMON = {**TOKENS, "scale": NUMBER, "check_finite": FLAG}
MASKS = {"key_mask": MASK, "query_mask": MASK}
FORM = {"landmarks": RULE, "solver": CALLABLE, "grouped": FLAG, **MASKS}
QKV = {"q": X, "k": X, "v": X}
ROWS = {**QKV, "rows_of": lambda i: np.zeros((len(i), N)), "rows": 8}

CASES = {
    exact: (QKV, {**COMMON, "key_mask": MASK}),
    nystrom: ({**QKV, "m": M}, {**COMMON, **FORM, "m": [*COUNT, N + 1, *PAIR], "pinv": INVERSE}),
    nystrom_operator: (
        {"q": X, "k": X, "m": M},
        {**{n: w for n, w in COMMON.items() if n != "v"}, **FORM, "m": [*COUNT, *PAIR], "pinv": INVERSE},
    ),
    normalised: ({**QKV, "m": M}, {**COMMON, **FORM, "m": [*COUNT, *PAIR], "guard": ["x", NAN, -1.0, True]}),
    causal: (
        {**QKV, "block": 4},
        {
            **COMMON,
            "block": COUNT,
            "near": COUNT,
            "routed": ["1", -1, 1.0, True, None],
            "group": [3, *(x for x in COUNT if x is not None)],
            "key_mask": MASK,
        },
    ),
    near_field: (
        {**QKV, "m": M, "block": 4},
        {
            **COMMON,
            "m": [*COUNT, N + 1],
            "block": COUNT,
            "margin": ["1", -1, 5, 1.0, True],
            "mask": MASK,
            "solver": CALLABLE,
            "grouped": FLAG,
        },
    ),
    ridge: (
        {"a": X, "b": X[:, :2]},
        {"a": ARRAY, "b": [*ARRAY, X[:5]], "strength": [*NUMBER, 0.0, -1.0, None]},
    ),
    psd_lift: (
        {"q": X, "k": X, "points": X[:3]},
        {
            "q": [*ARRAY, X[None], X * NAN],
            "k": [*ARRAY, X[None], X * NAN],
            "points": [*ARRAY, X[None], X[:, :3], X * INF],
            "scale": [*NUMBER, 0.0, -1.0],
            "ratio": [*NUMBER[:3], 1.0, True],
            "failure": [*NUMBER, 0.0, 1.0, None],
            "rng": ["x", None, -1, 1.5],
        },
    ),
    certify_operator: (
        {"operator": nystrom_operator(X, X, M), "v": X},
        {
            "operator": [None, X, "x", nystrom_operator(X[None], X, M), nystrom_operator(X * NAN, X, M)],
            "v": [*ARRAY, X[:5], X[None], X * NAN, X.astype("float32")],
            "rows": [*COUNT[1:], 7, N + 1],
            "failure": [*NUMBER, 0.0, 1.0, None],
            "rng": ["x", None, -1, 1.5],
        },
    ),
    certify_rows: (
        ROWS,
        {
            **{name: [*wrong, X[None]] for name, wrong in TOKENS.items() if name == "q"},
            "k": TOKENS["k"],
            "v": [*TOKENS["v"], X * INF],
            "rows_of": [
                *CALLABLE,
                lambda i: None,
                lambda i: [[0.0] * N] * len(i),
                lambda i: np.zeros((1, 1)),
                lambda i: np.zeros((len(i), N), int),
                lambda i: np.full((len(i), N), NAN),
                lambda i: torch.zeros(len(i), N),
            ],
            "rows": [*COUNT[1:], 7, N + 1],
            "lengths": [[1.0] * N, "x", X, X[0], ONE_OFF[0], ONE_OFF[1], np.ones(N, int)],
            "rounding": [[1.0] * N, "x", X, X[0], ONE_OFF[2], ONE_OFF[1], np.ones(N, bool)],
            "hints": [
                3,
                "x",
                (),
                Hints(lambda c: None),
                Hints(lambda c: np.ones(N)),
                Hints(lambda c: (np.ones(3),)),
                Hints(lambda c: ([1.0] * N,)),
            ],
            **{name: [*wrong, np.ones((1, N), bool)] for name, wrong in MASKS.items()},
            "failure": [*NUMBER, 0.0, 1.0, None],
            "rng": ["x", None, -1, 1.5],
            "entries": CALLABLE,
            "scale": NUMBER,
        },
    ),
    nystrom_operator(X, X, M).apply: ({"v": X}, {"v": [*ARRAY, X[:5]]}),
    Hints: (
        {"predict": len, "columns": 0, "entries": 0},
        {"predict": CALLABLE, "columns": [-1, 1.0, None, True], "entries": [-1, "x"]},
    ),
}


def call(function, arguments):
    positional = [
        arguments[p.name]
        for p in inspect.signature(function).parameters.values()
        if p.kind is p.POSITIONAL_ONLY and p.name in arguments
    ]
    names = {
        p.name for p in inspect.signature(function).parameters.values() if p.kind is not p.POSITIONAL_ONLY
    }
    return function(*positional, **{n: x for n, x in arguments.items() if n in names})


@pytest.mark.parametrize("function", CASES, ids=lambda f: f.__name__)
def test_every_wrong_argument_is_named(function):
    good, wrong = CASES[function]
    with np.errstate(invalid="ignore"):
        call(function, good)
    faults = []
    for name, values in wrong.items():
        for value in values:
            try:
                call(function, {**good, name: value})
                faults.append(f"{name}={value!r:.40}: accepted")
            except errors.ArgumentError as error:
                if error.argument != name:
                    faults.append(f"{name}={value!r:.40}: {error}")
            except Exception as error:
                faults.append(f"{name}={value!r:.40}: {type(error).__name__}: {error}")
    assert not faults, "\n".join(faults)


GROUPED = {"nystrom": nystrom, "normalised": normalised, "near_field": near_field}


@pytest.mark.parametrize("name", GROUPED)
def test_wrong_tokens_of_grouped_heads(name):
    heads = np.ones((4, N, 4))
    for which, value in (("q", [1]), ("k", [1]), ("v", [1]), ("q", X), ("k", X), ("k", np.ones((3, N, 4)))):
        x = {"q": heads, "k": heads, "v": heads} | {which: value}
        with pytest.raises(errors.ArgumentError) as caught:
            GROUPED[name](*x.values(), 3, grouped=True)
        assert caught.value.argument == which
    with pytest.raises(errors.ShapeError, match="`q` is of shape"):
        GROUPED[name](heads[:0], heads[:0], heads[:0], 3, grouped=True)


def test_other_lengths_are_no_self_attention():
    for call in (lambda: causal(X, X[:5], X[:5], block=4), lambda: near_field(X, X[:5], X[:5], 3)):
        with pytest.raises(errors.ShapeError, match="`k` is of 5 tokens; it needs the 12 tokens of `q`"):
            call()


@pytest.mark.parametrize("call", [exact, nystrom, near_field, causal, normalised, tangent])
@pytest.mark.parametrize("scale", [1e39, -1e39])
def test_a_scale_beyond_the_dtype_is_refused(call, scale):
    x, m = X.astype("float32"), (3,) if call in (nystrom, near_field, normalised) else ()
    with pytest.raises(errors.RangeError, match=r"`scale` is -?1e[+]39; it needs at most 3.4e[+]38"):
        call(x, x, x, *m, scale=scale)
    assert np.isfinite(call(X, X, X, *m, scale=scale)).all()  # float64 holds it


def test_a_number_of_numpy_is_a_number():
    expected = causal(X, X, X, block=4, near=3, scale=0.25)
    got = causal(X, X, X, near=np.int32(3), block=np.int64(4), scale=np.float32(0.25))
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(
        nystrom(X, X, X, (np.int32(3), 4), scale=np.float64(0.5)), nystrom(X, X, X, (3, 4), scale=0.5)
    )


def test_nan_in_an_additive_mask_is_no_mask():
    bias = np.zeros((1, N))
    bias[0, 3] = NAN
    assert np.isnan(exact(X, X, X, attn_mask=bias)).all()
    assert np.isnan(nystrom(X, X, X, 3, attn_mask=bias)).all()


def test_ridge_does_not_solve_in_16_bits():
    with pytest.raises(errors.DTypeError, match="`a` is of dtype float16"):
        ridge(X.astype("float16"), X.astype("float16"))


def test_an_operator_refuses_values_whose_axes_do_not_fit():
    operator = nystrom_operator(np.stack([X, X]), X, 3)
    with pytest.raises(errors.ShapeError, match="`v` is of leading axes"):
        operator.apply(np.stack([X] * 3))


def test_a_rule_of_another_library_or_width_is_refused():
    for rule, needs in (
        (points, "points"),
        (lambda x, m, mask=None: landmarks.LandmarkPoints(torch.ones(m, 4), None, 0, None), "numpy"),
        (lambda x, m, mask=None: landmarks.ColumnSubset(torch.arange(m), None, 0, None), "numpy"),
    ):
        with pytest.raises(errors.ArgumentError, match=f"`landmarks`.*{needs}"):
            nystrom(X, X, X, 3, landmarks=rule)
