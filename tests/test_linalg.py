"""Norms at the ends of the number range, softmax on hard rows."""

import numpy as np
import pytest

from nystrom_numerics import linalg
from nystrom_numerics.backend import to_numpy


def test_norms(lane, dtype, rng):
    x = rng.standard_normal((2, 5, 3))
    a, rtol = lane(x, dtype), 1e-6 if dtype == "float32" else 1e-14
    for ours, order in [(linalg.frobenius, "fro"), (linalg.one_norm, 1), (linalg.sup_norm, np.inf)]:
        expected = np.linalg.norm(to_numpy(a), ord=order, axis=(-2, -1))
        lane.assert_close(ours(a), expected, a, rtol=rtol)


@pytest.mark.parametrize("factor", [1e-37, 1e-30, 1e30, 1e37])
def test_frobenius_neither_overflows_nor_vanishes(lane, factor):
    a = lane(np.full((3, 3), factor), "float32")
    lane.assert_close(linalg.frobenius(a), np.float32(3 * factor), a, rtol=1e-6)


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


def test_masked_softmax(lane, dtype):
    scores = np.array([[1.0, 2.0, 3.0], [1e4, 0.0, -1e4], [5.0, 5.0, 5.0]])
    mask = np.array([[True, True, False], [True, True, True], [False, False, False]])
    expected = [[1 / (1 + np.e), np.e / (1 + np.e), 0], [1, 0, 0], [0, 0, 0]]
    a = lane(scores, dtype)
    lane.assert_close(linalg.masked_softmax(a, lane(mask)), expected, a, rtol=1e-6, atol=1e-30)


def test_backward_residual(lane, dtype, rng):
    a = rng.standard_normal((2, 4, 4))
    a[1] = 0
    z = np.linalg.pinv(a) * 1.25
    x = lane(a, dtype)
    lane.assert_close(linalg.backward_residual(x, lane(z, dtype)), [0.25, 0.0], x, rtol=1e-4)
