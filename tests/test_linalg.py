"""Norms, residuals and pivoted QR at the ends of the number range, real and complex; softmax on hard rows."""

from __future__ import annotations

import numpy as np
import pytest

from nystrom_numerics import errors, linalg
from nystrom_numerics.backend import to_numpy

FIELDS = ["float32", "float64", "complex64", "complex128"]


@pytest.fixture(params=FIELDS)
def field(request):
    return request.param


def real_part(dtype):
    return np.dtype(dtype).type(0).real.dtype.name


def draw(shape, dtype, rng):
    x = rng.standard_normal(shape)
    return (x + 1j * rng.standard_normal(shape) if "complex" in dtype else x).astype(dtype)


def test_norms(lane, field, rng):
    x = draw((2, 5, 3), field, rng)
    a, rtol = lane(x), 1e-6 if field in ("float32", "complex64") else 1e-14
    like = lane(np.zeros(1, real_part(field)))
    for ours, order in [(linalg.frobenius, "fro"), (linalg.one_norm, 1), (linalg.sup_norm, np.inf)]:
        lane.assert_close(ours(a), np.linalg.norm(x, ord=order, axis=(-2, -1)), like, rtol=rtol)


@pytest.mark.parametrize("factor", [1e-37, 1e-30, 1e30, 1e37])
@pytest.mark.parametrize("phase", [1.0, 0.6 + 0.8j])
def test_frobenius_neither_overflows_nor_vanishes(lane, factor, phase):
    x = np.full((3, 3), factor * phase, "complex64" if isinstance(phase, complex) else "float32")
    like = lane(np.zeros(1, "float32"))
    lane.assert_close(linalg.frobenius(lane(x)), np.float32(3 * factor), like, rtol=1e-6)


def test_binary_scale_is_exact_and_sound_at_the_edges(lane):
    x = np.zeros((5, 1, 2), "float32")
    x[:, 0, 0] = [0.0, 3.0, 1e-40, 2.0**100, 1e38]
    scale = to_numpy(linalg.binary_scale(lane(x)))[:, 0, 0]
    seen = bool(
        (lane(x)[2, 0, :1] > 0)[0]
    )  # a library that flushes subnormal numbers, as CuPy does, sees a zero
    assert scale.tolist() == [1.0, 2.0, 2.0**-126 if seen else 1.0, 2.0**100, 2.0**126]
    infinite = np.array([[np.inf, 1.0]], "float32")
    assert float(linalg.binary_scale(lane(infinite))[0, 0]) == 1.0


def test_binary_scale_of_complex_entries_is_that_of_the_larger_part(lane):
    scale = linalg.binary_scale(
        lane(np.array([[1 + 3e38j, 2]], "complex64"))
    )  # its modulus overflows beside 3e38
    assert to_numpy(scale).dtype == np.float32
    assert float(scale[0, 0]) == 2.0**127


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_powers_of_two_are_exact(lane, dtype):
    """pow(2, e) for every e, which binary_scale and times_power build on."""
    low, high = (-126, 127) if dtype == "float32" else (-1022, 1023)
    exponents = np.arange(low, high + 1).astype(dtype)
    a = lane(np.ones((len(exponents), 1, 1), dtype))
    e = lane(exponents[:, None, None])
    expected = np.ldexp(np.ones((), dtype), exponents.astype(int))
    np.testing.assert_array_equal(to_numpy(linalg.times_power(a, e))[:, 0, 0], expected)
    np.testing.assert_array_equal(to_numpy(linalg.binary_scale(linalg.times_power(a, e)))[:, 0, 0], expected)


def test_a_product_with_a_power_may_pass_where_the_power_does_not(lane):
    a = lane(np.array([[[2.0**-120]], [[2.0**120]]], "float32"))
    e = lane(np.array([[[240.0]], [[-240.0]]], "float32"))
    assert to_numpy(linalg.times_power(a, e)).ravel().tolist() == [2.0**120, 2.0**-120]


def test_adjoint(lane, field, rng):
    x = draw((2, 5, 3), field, rng)
    lane.assert_close(linalg.adjoint(lane(x)), np.conj(np.swapaxes(x, -1, -2)), lane(x), rtol=0)
    lane.assert_close(linalg.transpose(lane(x)), np.swapaxes(x, -1, -2), lane(x), rtol=0)
    assert linalg.adjoint(lane(x)[..., :0]).shape == (2, 0, 5)


def test_all_finite(lane, field, rng):
    x = draw((4, 3, 3), field, rng)
    x[1, 2, 0], x[2, 0, 0] = np.nan, -np.inf
    if "complex" in field:
        x[3, 1, 1] = complex(0, np.inf)
        x[0, 0, 0] = (1 + 1j) * np.finfo(field).max  # the modulus overflows, the entry does not
    expected = [True, False, False, "complex" not in field]
    assert to_numpy(linalg.all_finite(lane(x))).tolist() == expected
    assert to_numpy(linalg.all_finite(lane(np.ones_like(x)), lane(x))).tolist() == expected


def test_masked_softmax(lane, dtype):
    scores = np.array([[1.0, 2.0, 3.0], [1e4, 0.0, -1e4], [5.0, 5.0, 5.0]])
    mask = np.array([[True, True, False], [True, True, True], [False, False, False]])
    expected = [[1 / (1 + np.e), np.e / (1 + np.e), 0], [1, 0, 0], [0, 0, 0]]
    a = lane(scores, dtype)
    lane.assert_close(linalg.masked_softmax(a, lane(mask)), expected, a, rtol=1e-6, atol=1e-30)


def test_backward_residual(lane, field, rng):
    a = draw((2, 4, 4), field, rng)
    a[1] = 0
    z = (np.linalg.pinv(a) * 1.25).astype(field)
    like = lane(np.zeros(1, real_part(field)))
    lane.assert_close(linalg.backward_residual(lane(a), lane(z)), [0.25, 0.0], like, rtol=1e-4)


# ---------------------------------------------------------------- what scales, scales

KEPT, AS_A, INVERSE = 0, 1, -1
# what becomes of each result when A is multiplied by a power of two, and Z, where there is one, divided by it
LAWS = {
    "adjoint": (lambda a, z: linalg.adjoint(a), [AS_A]),
    "all_finite": (lambda a, z: linalg.all_finite(a), [KEPT]),
    "backward_residual": (lambda a, z: linalg.backward_residual(a, z), [KEPT]),
    "binary_scale": (lambda a, z: linalg.binary_scale(a), [AS_A]),
    "frobenius": (lambda a, z: linalg.frobenius(a), [AS_A]),
    "masked_softmax": None,
    "one_norm": (lambda a, z: linalg.one_norm(a), [AS_A]),
    "pivoted_qr": (lambda a, z: linalg.pivoted_qr(a), [KEPT, AS_A, KEPT]),
    "sup_norm": (lambda a, z: linalg.sup_norm(a), [AS_A]),
    "transpose": (lambda a, z: linalg.transpose(a), [AS_A]),
}


def test_every_function_has_a_law():
    assert LAWS.keys() == set(linalg.__all__)


@pytest.mark.parametrize("name", [name for name, law in LAWS.items() if law])
def test_results_scale_with_the_matrix(name, lane, field, rng):
    """A·2ⁿ from end to end of the range: the same bits, but for what becomes subnormal."""
    function, laws = LAWS[name]
    a = draw((2, 5, 4), field, rng)
    a[1, :, :2] = 0  # deficient in front
    z = np.linalg.pinv(a) * 1.25
    single = field in ("float32", "complex64")
    expected = function(lane(a), lane(z, field))
    expected = [to_numpy(x) for x in (expected if len(laws) > 1 else (expected,))]
    for power in (-110, -64, 63, 110) if single else (-1000, -512, 511, 1000):
        factor = np.dtype(real_part(field)).type(2.0) ** power
        found = function(lane((a * factor).astype(field)), lane((z / factor).astype(field)))
        for x, y, law in zip(found if len(laws) > 1 else (found,), expected, laws, strict=True):
            y = y * factor if law == AS_A else y
            atol = 4 * float(np.finfo(field).tiny) if law == AS_A else 0
            np.testing.assert_allclose(to_numpy(x), y, rtol=0, atol=atol)


# ---------------------------------------------------------------- pivoted QR


def tampered(shape, rank, dtype, rng):
    """Of some rank, the first columns zero, the last two equal."""
    a = draw((shape[0], rank), dtype, rng) @ draw((rank, shape[1]), dtype, rng)
    a[:, 0] = 0
    a[:, -1] = a[:, -2]
    return a


@pytest.mark.parametrize("shape", [(6, 6), (4, 7), (7, 4)])
@pytest.mark.parametrize("rank", [4, 2, 0])
@pytest.mark.parametrize("scale", [1.0, 1e-25, 1e19])
def test_pivoted_qr(shape, rank, scale, lane, field, rng):
    a = np.stack([tampered(shape, rank, field, rng), draw(shape, field, rng)])
    eps, k = float(np.finfo(field).eps), min(shape)
    x = lane((a * np.dtype(real_part(field)).type(scale)).astype(field))
    q, r, order = (to_numpy(y) for y in linalg.pivoted_qr(x))
    r = r / np.dtype(real_part(field)).type(scale)
    gram = np.conj(np.swapaxes(q, -1, -2)) @ q
    np.testing.assert_allclose(gram, np.broadcast_to(np.eye(k), (2, k, k)), atol=30 * eps)
    permuted = np.take_along_axis(a, np.broadcast_to(order[:, None, :], a.shape), axis=-1)
    np.testing.assert_allclose(q @ r, permuted, atol=60 * eps * max(np.abs(a).max(), 1))
    diagonal = np.abs(np.diagonal(r, axis1=-2, axis2=-1))
    assert (diagonal[:, :-1] >= diagonal[:, 1:] * (1 - 30 * eps)).all()
    assert np.abs(np.tril(r, -1)).max() == 0
    assert (diagonal[0, rank:] < 60 * eps * max(np.abs(a).max(), 1)).all()


def test_pivoted_qr_of_columns_far_apart(lane):
    """Their squares relative to that of the largest vanish, and each still has its place on the diagonal."""
    sizes = np.array([1e-20, 1.0, 1e-12, 1e12], "float32")
    q, r, order = (to_numpy(y) for y in linalg.pivoted_qr(lane(np.diag(sizes))))
    assert order.tolist() == [3, 1, 2, 0]
    np.testing.assert_allclose(np.abs(np.diag(r)), sizes[order], rtol=1e-6)
    np.testing.assert_allclose(np.abs(q), np.eye(4)[:, order], atol=1e-7)


# ---------------------------------------------------------------- arguments

ONE, TWO = np.eye(3), np.ones((2, 3, 3))


@pytest.mark.parametrize("name", [name for name in linalg.__all__ if name != "masked_softmax"])
@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ([[1.0]], errors.NamespaceError),
        (None, errors.NamespaceError),
        ("x", errors.NamespaceError),
        (np.eye(2, dtype=int), errors.DTypeError),
        (np.eye(2, dtype=np.longdouble), errors.DTypeError),
        (np.ones(3), errors.ShapeError),
        (np.asarray(1.0), errors.ShapeError),
    ],
)
def test_what_is_no_matrix_is_named(name, bad, error):
    function = getattr(linalg, name)
    with pytest.raises(error) as caught:
        function(bad, ONE) if name == "backward_residual" else function(bad)
    assert caught.value.argument == ("matrices" if name == "all_finite" else "a")


@pytest.mark.parametrize(
    ("call", "error", "argument"),
    [
        (lambda: linalg.backward_residual(ONE, np.ones((2, 3))), errors.ShapeError, "z"),
        (lambda: linalg.backward_residual(ONE, ONE, np.ones((2, 3))), errors.ShapeError, "az"),
        (lambda: linalg.backward_residual(ONE, "x"), errors.NamespaceError, "z"),
        (lambda: linalg.backward_residual(ONE, ONE.astype(complex)), errors.DTypeError, "z"),
        (lambda: linalg.all_finite(), errors.ShapeError, "matrices"),
        (lambda: linalg.all_finite(ONE, None), errors.NamespaceError, "matrices"),
        (lambda: linalg.masked_softmax(ONE.astype(complex)), errors.DTypeError, "scores"),
        (lambda: linalg.masked_softmax(np.ones((3, 0))), errors.ShapeError, "scores"),
        (lambda: linalg.masked_softmax(ONE, np.ones((3, 3))), errors.DTypeError, "mask"),
        (lambda: linalg.masked_softmax(ONE, np.ones((4, 3), bool)), errors.ShapeError, "mask"),
        (lambda: linalg.masked_softmax(ONE, [True] * 3), errors.NamespaceError, "mask"),
    ],
)
def test_wrong_arguments_are_named(call, error, argument):
    with pytest.raises(error) as caught:
        call()
    assert caught.value.argument == argument
