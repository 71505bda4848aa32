"""Rank deficiency wherever it sits: leading columns of zeros, repeated columns, and what the memory held before."""

from __future__ import annotations

from functools import partial
from itertools import product

import numpy as np
import pytest
import torch

from nystrom_numerics import attention, pinv
from nystrom_numerics.backend import to_numpy
from nystrom_numerics.errors import Status
from tests import naive

RANK_REVEALING = {
    "solve": lambda a, b, **o: pinv.solve(a, b, method=partial(pinv.rank_revealing, **o)).value,
    "rank_revealing": pinv.rank_revealing,
    "complete_orthogonal": lambda a, b, **o: pinv.complete_orthogonal(a, **o).value @ b,
}


def every_pattern(dtype, rng):
    """5 × 4 matrices: each of the 16 ways to have zero columns, and each of the 256 ways to repeat columns."""
    base = rng.standard_normal((5, 4)) + (1j * rng.standard_normal((5, 4)) if "complex" in dtype else 0)
    zeroed = [base * np.array(keep) for keep in product([0.0, 1.0], repeat=4)]
    repeated = [base[:, list(columns)] for columns in product(range(4), repeat=4)]
    return np.stack([*zeroed, *repeated]).astype(dtype)


@pytest.mark.parametrize("method", RANK_REVEALING)
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
def test_zero_and_repeated_columns_anywhere(method, dtype, lane, rng):
    a = every_pattern(dtype, rng)
    b = rng.standard_normal((len(a), 5, 2)).astype(dtype)
    rtol = 1e-5 if dtype == "float32" else 1e-12
    expected = np.linalg.pinv(a.astype(complex), rtol=rtol) @ b
    x = lane(a)
    found = RANK_REVEALING[method](x, lane(b), rtol=rtol)
    lane.assert_close(found, expected, x, rtol=0, atol=(1e-4 if dtype == "float32" else 1e-12))


@pytest.mark.parametrize("method", RANK_REVEALING)
def test_zeros_in_front_with_the_default_cutoff(method, lane, dtype):
    """diag(0, 0, 1), and diag(0, 1, 0) behind a matrix of full rank."""
    eye = lane(np.eye(3), dtype)
    alone = RANK_REVEALING[method](lane(np.diag([0.0, 0.0, 1.0]), dtype), eye)
    lane.assert_close(alone, np.diag([0.0, 0.0, 1.0]), eye, rtol=0, atol=1e-6)
    stack = lane(np.stack([np.diag([1.0, 2.0, 3.0]), np.diag([0.0, 1.0, 0.0])]), dtype)
    beside = RANK_REVEALING[method](stack, lane(np.stack([np.eye(3)] * 2), dtype))
    lane.assert_close(beside, [np.diag([1, 1 / 2, 1 / 3]), np.diag([0, 1, 0])], eye, rtol=0, atol=1e-6)


def cores_with_two_equal_landmarks(rng, count=100, m=6):
    x = rng.standard_normal((count, m, 4))
    x[:, 1] = x[:, 0]
    return naive.softmax(x @ np.swapaxes(x, -1, -2)), rng.standard_normal((count, m, 2))


def test_softmax_cores_with_two_equal_landmarks(rng):
    """Torch has the bits of NumPy, one by one and in a batch, and NumPy those of the pseudoinverse to rounding."""
    a, b = cores_with_two_equal_landmarks(rng)
    together = pinv.solve(torch.from_numpy(a), torch.from_numpy(b))
    host = pinv.solve(a, b).value
    np.testing.assert_array_equal(together.value.numpy(), host)
    assert together.status == Status.CONVERGED
    for x, y, expected in zip(a, b, host, strict=True):
        np.testing.assert_array_equal(pinv.solve(torch.from_numpy(x), torch.from_numpy(y)).value.numpy(), expected)
    np.testing.assert_allclose(host, np.linalg.pinv(a, rtol=1e-12) @ b, atol=1e-9)


def test_the_same_at_every_call_whatever_the_memory_held(rng):
    a, b = (torch.from_numpy(x[0]) for x in cores_with_two_equal_landmarks(rng))
    seen = set()
    for i in range(200):
        junk = [torch.full((6,), i % 3, dtype=torch.int32) for _ in range(20)]
        del junk
        seen.add(pinv.solve(a, b).value.numpy().tobytes() + pinv.complete_orthogonal(a).value.numpy().tobytes())
    assert len(seen) == 1


@pytest.mark.parametrize("mate", [np.nan, 1e200, 0.0])
def test_the_same_bits_beside_any_mates(mate, rng):
    a, b = cores_with_two_equal_landmarks(rng, count=3)
    a[0] = a[2] = mate
    for as_array in (np.asarray, torch.from_numpy):
        beside = to_numpy(pinv.solve(as_array(a), as_array(b)).value)[1]
        np.testing.assert_array_equal(beside, to_numpy(pinv.solve(as_array(a[1]), as_array(b[1])).value))


def test_normalised_attention_is_exact_at_low_rank(lane, rng):
    """Five distinct keys, ten landmarks: the core repeats rows and columns, and A⁺ makes the estimate exact."""
    q, k, v = rng.standard_normal((3, 40, 4))
    k = np.repeat(k[:5], 8, axis=0)
    expected = naive.attention(q, k, v)
    x = lane(q)
    found = attention.normalised(x, lane(k), lane(v), 10, solver=pinv.rank_revealing)
    lane.assert_close(found, expected, x, rtol=0, atol=1e-12)


def test_gradients_do_not_hang_on_the_memory_either(rng):
    """A = X Yᵀ with the first column of Yᵀ zero: its rank is that of perturbations in X and the rest of Y."""
    x = torch.tensor(rng.standard_normal((4, 2)), requires_grad=True)
    y = torch.tensor(rng.standard_normal((2, 3)), requires_grad=True)
    b = torch.tensor(rng.standard_normal((4, 2)))

    def solved(x, y):
        a = torch.cat([torch.zeros(4, 1, dtype=x.dtype), x @ y], dim=1)
        return pinv.solve(a, b).value

    assert torch.autograd.gradcheck(solved, (x, y))


@pytest.mark.parametrize("library", ["numpy", "strict", "torch"])
def test_a_singular_elimination_is_said_and_leaves_its_mates_alone(library, rng):
    import array_api_strict

    as_array = {"numpy": np.asarray, "strict": array_api_strict.asarray, "torch": torch.from_numpy}[library]
    a, b = rng.standard_normal((2, 2, 3, 3)), rng.standard_normal((2, 2, 3, 2))
    a[1, 0] = np.diag([1.0, 0.0, 2.0])
    result = pinv.solve(as_array(a), as_array(b), method=pinv.lu)
    assert to_numpy(result.codes).tolist() == [[0, 0], [int(Status.NON_FINITE), 0]]
    assert np.isnan(to_numpy(result.value)[1, 0]).all()
    good = np.array([[0, 0], [0, 1], [1, 1]]).T
    np.testing.assert_allclose(to_numpy(result.value)[tuple(good)], np.linalg.solve(a[tuple(good)], b[tuple(good)]))
    alone = pinv.solve(as_array(a[1, 0]), as_array(b[1, 0]), method=pinv.lu)
    assert alone.status == Status.NON_FINITE
