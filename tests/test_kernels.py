"""Kernel entries: right, counted, and never more than asked for."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from nystrom_numerics import errors, kernels
from nystrom_numerics.backend import to_numpy


def matern_naive(x, y, nu, scale):
    s = np.sqrt(2 * nu) * cdist(x, y) / scale
    return {0.5: 1, 1.5: 1 + s, 2.5: 1 + s + s * s / 3}[nu] * np.exp(-s)


CASES = {
    "gaussian": (
        lambda *p: kernels.gaussian(*p, gamma=0.3),
        lambda x, y: np.exp(-0.3 * cdist(x, y, "sqeuclidean")),
    ),
    "gaussian, far": (
        lambda *p: kernels.gaussian(*p, gamma=40.0),
        lambda x, y: np.exp(-40.0 * cdist(x, y, "sqeuclidean")),
    ),
    "laplacian": (
        lambda *p: kernels.laplacian(*p, gamma=0.3),
        lambda x, y: np.exp(-0.3 * cdist(x, y, "cityblock")),
    ),
    **{
        f"matern {nu}": (
            lambda *p, nu=nu: kernels.matern(*p, nu=nu, length_scale=1.5),
            lambda x, y, nu=nu: matern_naive(x, y, nu, 1.5),
        )
        for nu in (0.5, 1.5, 2.5)
    },
    "polynomial": (
        lambda *p: kernels.polynomial(*p, degree=2, gamma=0.5, coef0=2.0),
        lambda x, y: (0.5 * x @ y.T + 2) ** 2,
    ),
    "softmax": (kernels.softmax, lambda x, y: np.exp(x @ y.T / np.sqrt(3))),
    "custom": (
        lambda *p: kernels.custom(lambda a, b: 1 / (2.0 + a @ b.mT), *p),
        lambda x, y: 1 / (2 + x @ y.T),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_entries(case, lane, dtype, rng):
    make, naive = CASES[case]
    x, y = rng.uniform(0, 1, (20, 3)).astype(dtype), rng.uniform(0, 1, (7, 3)).astype(dtype)
    full, cross = (naive(x.astype(float), other.astype(float)) for other in (x, y))
    a = lane(x)
    kernel = make(a)
    rtol = 3e-5 if dtype == "float32" else 1e-12
    picked = lane(np.array([3, 0, 11]))

    def check(found, expected):
        lane.assert_close(found, expected, a, rtol=rtol, atol=rtol * 1e-2)

    assert (kernel.shape, kernel.symmetric, kernel.entries) == ((20, 20), True, 0)
    check(kernel.columns(picked), full[:, [3, 0, 11]])
    assert kernel.entries == 60
    check(kernel.rows(picked), full[[3, 0, 11]])
    check(kernel.block(picked, slice(2, 6)), full[[3, 0, 11], 2:6])
    check(kernel.block([1], [2, 2]), full[[1]][:, [2, 2]])
    assert kernel.entries == 60 + 60 + 12 + 2
    before = kernel.entries
    check(kernel.diagonal(), np.diag(full))
    assert kernel.entries - before == (2 * 64 + 16 if case == "custom" else 20)
    before = kernel.entries
    check(kernel.apply(lane(x)), full @ x.astype(float))
    check(kernel.cross(lane(y)), cross)
    check(kernel.cross(lane(y), rows=picked), cross[[3, 0, 11]])
    check(kernel.between(lane(y), lane(x)), cross.T)
    assert kernel.entries - before == 400 + 140 + 21 + 140

    rectangular = make(a, lane(y))
    assert (rectangular.shape, rectangular.symmetric) == ((20, 7), False)
    check(rectangular.block(slice(None), slice(None)), cross)
    check(rectangular.apply(lane(y[:, 0])), cross @ y[:, 0].astype(float))
    with pytest.raises(errors.ShapeError, match="`kernel` is rectangular"):
        rectangular.diagonal()


def test_precomputed(lane, dtype, rng):
    a = rng.standard_normal((9, 9)).astype(dtype)
    given = lane(a)
    kernel = kernels.precomputed(given)
    lane.assert_close(kernel.columns([2, 5]), a[:, [2, 5]], given, rtol=0)
    lane.assert_close(kernel.block([1, 2], slice(0, 4)), a[1:3, :4], given, rtol=0)
    lane.assert_close(kernel.diagonal(), np.diag(a), given, rtol=0)
    lane.assert_close(kernel.apply(lane(a[0])), a @ a[0], given, rtol=1e-4, atol=1e-5)
    assert kernel.entries == 18 + 8 + 9 + 81
    assert not kernels.precomputed(lane(a[:4])).symmetric
    with pytest.raises(errors.NamespaceError, match="given by its matrix"):
        kernel.cross(given)
    with pytest.raises(errors.NamespaceError, match="given by its matrix"):
        kernel.between(given, given)


def test_what_is_read_can_be_written_without_harm(rng):
    a = rng.standard_normal((4, 4))
    kept = a.copy()
    kernel = kernels.precomputed(a)
    for part in (kernel.block(slice(None), slice(None)), kernel.diagonal()):
        part[...] = 0
    np.testing.assert_array_equal(a, kept)


@pytest.mark.parametrize("gamma", [1e-3, 1.0, 100.0])
@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_gaussian_in_float32_keeps_its_digits(gamma, offset, rng):
    """Far from the origin, and with γ‖x‖² large, where expanded squares would not."""
    x = (rng.standard_normal((60, 5)) + offset).astype("float32")
    found = kernels.gaussian(x, gamma=gamma).block(slice(None), slice(None))
    exact = np.exp(-gamma * cdist(x.astype(float), x.astype(float), "sqeuclidean"))
    assert np.abs(found - exact).max() < 4e-5


def test_duplicates_are_equal_entries(rng):
    x = np.repeat(rng.standard_normal((3, 4)), 2, axis=0)
    for make, _ in CASES.values():
        full = make(x[:, :3]).block(slice(None), slice(None))
        np.testing.assert_allclose(full[::2], full[1::2], rtol=1e-14)


@pytest.mark.parametrize("dtype16", [torch.float16, torch.bfloat16])
def test_half_precision_points_give_float32_entries(dtype16, rng):
    x = torch.asarray(rng.standard_normal((8, 3)), dtype=dtype16)
    for make, _ in CASES.values():
        found = make(x).block(slice(None), slice(None))
        assert found.dtype == torch.float32
        assert torch.equal(found, make(x.float()).block(slice(None), slice(None)))


def test_nothing_square_is_formed(rng):
    """The largest block that a product or a rule evaluates is a strip."""
    seen = []

    def function(a, b):
        seen.append(a.shape[0] * b.shape[0])
        return np.exp(-np.abs(a @ b.T))

    n = 6000
    kernel = kernels.custom(function, rng.standard_normal((n, 2)))
    kernel.apply(np.ones(n))
    assert sum(seen) == kernel.entries == n * n
    assert max(seen) < n * n / 100


def test_softmax_is_a_scaled_gaussian(rng):
    """softmax(QKᵀ) rows from the unit-diagonal Gaussian, as the docstring says, where exp would overflow."""
    q, k = 30 * rng.standard_normal((2, 10, 4))
    s = 0.5
    g = kernels.gaussian(q, k, gamma=s / 2).block(slice(None), slice(None))
    with np.errstate(all="ignore"):
        weighted = np.log(g) + s * (k**2).sum(1) / 2
    expected = s * q @ k.T - s * (q**2).sum(1)[:, None] / 2
    np.testing.assert_allclose(weighted[g > 1e-290], expected[g > 1e-290], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("call", "error", "argument"),
    [
        (lambda x: kernels.gaussian(x, gamma=0.0), errors.RangeError, "gamma"),
        (lambda x: kernels.gaussian(x, gamma=float("nan")), errors.RangeError, "gamma"),
        (lambda x: kernels.laplacian(x, gamma=-1.0), errors.RangeError, "gamma"),
        (lambda x: kernels.matern(x, nu=2.0, length_scale=1.0), errors.RangeError, "nu"),
        (lambda x: kernels.matern(x, nu=0.5, length_scale=0.0), errors.RangeError, "length_scale"),
        (lambda x: kernels.polynomial(x, degree=0), errors.RangeError, "degree"),
        (lambda x: kernels.polynomial(x, degree=2.0), errors.RangeError, "degree"),
        (lambda x: kernels.polynomial(x, coef0=-1.0), errors.RangeError, "coef0"),
        (lambda x: kernels.softmax(x, scale=0.0), errors.RangeError, "scale"),
        (lambda x: kernels.gaussian(x.astype("f4"), gamma=1e300), errors.RangeError, "gamma"),
        (lambda x: kernels.laplacian(x.astype("f2"), gamma=1e39), errors.RangeError, "gamma"),
        (
            lambda x: kernels.matern(x.astype("f4"), nu=0.5, length_scale=1e-39),
            errors.RangeError,
            "length_scale",
        ),
        (lambda x: kernels.matern(x, nu=0.5, length_scale=1e-309), errors.RangeError, "length_scale"),
        (lambda x: kernels.polynomial(x.astype("f4"), gamma=1e39), errors.RangeError, "gamma"),
        (lambda x: kernels.polynomial(x.astype("f4"), coef0=1e39), errors.RangeError, "coef0"),
        (lambda x: kernels.softmax(x.astype("f4"), scale=1e39), errors.RangeError, "scale"),
        (lambda x: kernels.softmax(x, x[:, :1]), errors.ShapeError, "k"),
        (lambda x: kernels.gaussian(x[None], gamma=1.0), errors.ShapeError, "x"),
        (lambda x: kernels.gaussian(x[:0], gamma=1.0), errors.ShapeError, "x"),
        (lambda x: kernels.gaussian(x.tolist(), gamma=1.0), errors.NamespaceError, "x"),
        (lambda x: kernels.gaussian(x.astype(int), gamma=1.0), errors.DTypeError, "x"),
        (lambda x: kernels.gaussian(x, x.astype("f4"), gamma=1.0), errors.DTypeError, "y"),
        (lambda x: kernels.gaussian(x, torch.tensor(x), gamma=1.0), errors.NamespaceError, "y"),
        (lambda x: kernels.gaussian(x * np.nan, gamma=1.0, check_finite=True), errors.NonFiniteError, "x"),
        (lambda x: kernels.precomputed(x[0]), errors.ShapeError, "a"),
        (lambda x: kernels.precomputed(x * np.inf, check_finite=True), errors.NonFiniteError, "a"),
        (lambda x: kernels.gaussian(x, gamma=1.0).columns([5]), errors.RangeError, "indices"),
        (lambda x: kernels.gaussian(x, gamma=1.0).rows([-1]), errors.RangeError, "indices"),
        (lambda x: kernels.gaussian(x, gamma=1.0).rows(np.array([0.5])), errors.DTypeError, "indices"),
        (lambda x: kernels.gaussian(x, gamma=1.0).rows(np.zeros((1, 1), int)), errors.ShapeError, "indices"),
        (lambda x: kernels.gaussian(x, gamma=1.0).cross(x[:, :1]), errors.ShapeError, "z"),
        (lambda x: kernels.gaussian(x, gamma=1.0).apply(x[:2]), errors.ShapeError, "v"),
        (lambda x: kernels.custom(lambda a, b: a, x).columns([0]), errors.ShapeError, "function"),
        (lambda x: kernels.custom(lambda a, b: a @ b.T, x, noise=1.0), errors.RangeError, "noise"),
        (lambda x: kernels.custom(lambda a, b: a @ b.T, x, noise="x"), errors.RangeError, "noise"),
        (lambda x: kernels.custom(3, x), errors.KindError, "function"),
        (lambda x: kernels.custom(lambda a, b: a, x, diagonal=3), errors.KindError, "diagonal"),
        (lambda x: kernels.custom(lambda a, b: [1.0], x).columns([0]), errors.NamespaceError, "function"),
        (lambda x: kernels.custom(lambda a, b: None, x).columns([0]), errors.NamespaceError, "function"),
        (lambda x: kernels.custom(lambda a, b: (a @ b.T) > 0, x).columns([0]), errors.DTypeError, "function"),
        (lambda x: kernels.custom(np.dot, x, diagonal=lambda a: a).diagonal(), errors.ShapeError, "diagonal"),
        (
            lambda x: kernels.custom(np.dot, x, diagonal=lambda a: 1).diagonal(),
            errors.NamespaceError,
            "diagonal",
        ),
        (lambda x: kernels.precomputed(x, noise=-1.0), errors.RangeError, "noise"),
        (lambda x: kernels.gaussian(x, gamma=1.0).apply(None), errors.NamespaceError, "v"),
        (lambda x: kernels.gaussian(x, gamma=1.0).apply(np.ones(5, int)), errors.DTypeError, "v"),
        (lambda x: kernels.gaussian(x, gamma=1.0).cross(None), errors.NamespaceError, "z"),
        (lambda x: kernels.gaussian(x, gamma=1.0).between(x, None), errors.NamespaceError, "z"),
        (lambda x: kernels.gaussian(x, gamma=1.0).cross(x[:0]), errors.ShapeError, "z"),
        (lambda x: kernels.gaussian(x, gamma=1.0).block([5], [0]), errors.RangeError, "rows"),
        (lambda x: kernels.gaussian(x, gamma=1.0).block([0], None), errors.KindError, "columns"),
        (lambda x: kernels.gaussian(x, gamma=1.0).columns(None), errors.KindError, "indices"),
        (lambda x: kernels.gaussian(x, gamma=1.0).columns([0.5]), errors.DTypeError, "indices"),
        (lambda x: next(kernels.gaussian(x, gamma=1.0).strips("x")), errors.RangeError, "width"),
    ],
)
def test_bad_input(call, error, argument, rng):
    with pytest.raises(error) as caught:
        call(rng.standard_normal((5, 2)))
    assert caught.value.argument == argument


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_point_that_is_not_finite_shows_on_the_diagonal(bad, lane):
    """As it does off it; the largest parameters that a dtype holds leave the others finite."""
    x = np.array([[0.0, 1.0], [bad, 0.0], [2.0, 0.0]])
    makers = (
        partial(kernels.gaussian, gamma=1.7e308),
        partial(kernels.laplacian, gamma=1e300),
        partial(kernels.matern, nu=2.5, length_scale=1e-300),
    )
    for make in makers:
        with np.errstate(over="ignore", invalid="ignore"):
            kernel = make(lane(x))
            diagonal = to_numpy(kernel.diagonal())
            whole = to_numpy(kernel.block(slice(None), slice(None)))
        np.testing.assert_array_equal(diagonal, [1.0, np.nan, 1.0])
        np.testing.assert_array_equal(whole.diagonal(), diagonal)


MAKERS = {
    "gaussian": (kernels.gaussian, {"gamma": 1.0}),
    "laplacian": (kernels.laplacian, {"gamma": 1.0}),
    "matern": (kernels.matern, {"nu": 0.5, "length_scale": 1.0}),
    "polynomial": (kernels.polynomial, {"degree": 2, "gamma": 1.0, "coef0": 1.0}),
    "softmax": (kernels.softmax, {"scale": 1.0}),
    "custom": (kernels.custom, {"noise": 0.0}),
    "precomputed": (kernels.precomputed, {"noise": 0.0}),
}
NO_NUMBER = ("x", [1.0], {}, np.ones(2), 1j, float("nan"), float("inf"), -1.0, 10**400, True)
NO_ARRAY = (None, "x", 3, 3.0, [[1.0]], (1.0,), {}, object(), np.ma.ones((3, 3)))


def test_makers_are_all_of_them():
    assert set(MAKERS) == {name for name in kernels.__all__ if name.islower()}


@pytest.mark.parametrize("name", MAKERS)
def test_wrong_arguments_of_any_type_are_refused_by_name(name):
    """None, text, lists and numbers that are none, for every argument; a walk, so that a new one is met too."""
    make, options = MAKERS[name]
    first = "q" if name == "softmax" else "a" if name == "precomputed" else "x"
    function = () if name != "custom" else (lambda a, b: a @ b.T,)
    x = np.ones((3, 3))
    for wrong in NO_ARRAY:
        with pytest.raises(errors.ArgumentError) as caught:
            make(*function, wrong, **options)
        assert caught.value.argument == first, wrong
    for option in options:
        optional = name in ("softmax", "precomputed")  # where None is the default
        for wrong in (*NO_NUMBER, *(() if optional else (None,))):
            with pytest.raises(errors.ArgumentError) as caught:
                make(*function, x, **{**options, option: wrong})
            assert caught.value.argument == option, wrong
    for wrong in (0, 1, "x", None):
        with pytest.raises(errors.KindError) as caught:
            make(*function, x, **options, check_finite=wrong)
        assert caught.value.argument == "check_finite"


@pytest.mark.parametrize("name", MAKERS)
def test_what_a_kernel_says_of_itself_is_short(name):
    """Shape, dtype, parameters, entries; not its points."""
    make, options = MAKERS[name]
    x = np.ones((30, 30), dtype="float32")
    kernel = make(*(() if name != "custom" else (lambda a, b: a @ b.T,)), x, **options)
    kernel.columns([0])
    said = repr(kernel)
    assert len(said) < 120
    for text in (name, "(30, 30)", "float32", "30 entries evaluated"):
        assert text in said
    for option, value in options.items():
        assert f"{option}={value:g}" in said or option == "noise"
    assert "noise 0.25" in repr(kernels.custom(lambda a, b: a @ b.T, x, noise=0.25))


def test_a_matrix_of_sixteen_bits_is_known_to_their_roundoff(rng):
    a = rng.standard_normal((4, 4))
    assert kernels.precomputed(a).noise == kernels.precomputed(a.astype("f4")).noise == 0
    assert kernels.precomputed(a.astype("f2")).noise == 2.0**-11
    assert kernels.precomputed(torch.tensor(a, dtype=torch.bfloat16)).noise == 2.0**-8
    assert kernels.precomputed(a.astype("f2"), noise=0.0).noise == 0


def test_custom_diagonal_is_used(rng):
    x = rng.standard_normal((30, 2))
    kernel = kernels.custom(lambda a, b: a @ b.T, x, diagonal=lambda a: (a * a).sum(1))
    np.testing.assert_allclose(kernel.diagonal(), (x * x).sum(1))
    assert kernel.entries == 30
    assert to_numpy(kernel.like).dtype == x.dtype
