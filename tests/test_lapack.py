"""gelsy: the same bits whatever lies in memory and in the batch, for NumPy and Torch alike; and Torch's view of it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import numpy as np
import pytest
import torch

from nystrom_numerics import lapack
from nystrom_numerics.torch_lapack import least_squares as of_tensors

DTYPES = ["float32", "float64", "complex64", "complex128"]


def deficient(dtype, rng, count=5, m=7, n=6):
    """Full, of rank 2, with leading columns of zeros, with repeated columns, and zero."""
    a = rng.standard_normal((count, m, n)) + (1j * rng.standard_normal((count, m, n)) if "c" in dtype else 0)
    a[1] = a[1, :, :2] @ a[2, :2, :]
    a[2, :, :3] = 0
    a[3] = a[3][:, [0, 0, 1, 0, 2, 1]]
    a[4] = 0
    return a.astype(dtype), rng.standard_normal((count, m, 3)).astype(dtype)


def shifted(x, offset):
    """A copy whose memory starts ``offset`` bytes after a multiple of 64."""
    raw = np.empty(x.nbytes + 128, np.uint8)
    start = -raw.ctypes.data % 64 + offset
    copy = raw[start : start + x.nbytes].view(x.dtype).reshape(x.shape)
    copy[...] = x
    return copy


@pytest.mark.parametrize("dtype", DTYPES)
def test_solutions_are_those_of_the_pseudoinverse(dtype, rng):
    a, b = deficient(dtype, rng)
    rtol = 1e-5 if dtype in ("float32", "complex64") else 1e-12
    expected = np.linalg.pinv(a.astype(complex), rtol=rtol) @ b
    found = lapack.least_squares(a, b, rtol)
    assert found.dtype == a.dtype
    np.testing.assert_allclose(found, expected, atol=5e-5 if rtol == 1e-5 else 1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_same_bits_alone_in_any_batch_and_from_any_memory(dtype, rng):
    a, b = deficient(dtype, rng)
    together = lapack.least_squares(a, b, 1e-6)
    backwards = lapack.least_squares(a[::-1], b[::-1], 1e-6)[::-1]
    by_columns = lapack.least_squares(np.asfortranarray(a), np.asfortranarray(b), 1e-6)
    np.testing.assert_array_equal(backwards, together)
    np.testing.assert_array_equal(by_columns, together)
    for x, y, expected in zip(a, b, together, strict=True):
        for offset in (0, x.itemsize, 24, 40):
            np.testing.assert_array_equal(
                lapack.least_squares(shifted(x, offset), shifted(y, offset), 1e-6), expected
            )


@pytest.mark.parametrize("dtype", DTYPES)
def test_torch_has_the_bits_of_numpy(dtype, rng):
    a, b = deficient(dtype, rng)
    expected = lapack.least_squares(a, b, 1e-6)
    np.testing.assert_array_equal(
        of_tensors(torch.from_numpy(a), torch.from_numpy(b), 1e-6).numpy(), expected
    )
    turned = torch.from_numpy(np.conj(np.swapaxes(a, -1, -2)).copy()).mH  # conjugated when it is read
    np.testing.assert_array_equal(of_tensors(turned, torch.from_numpy(b), 1e-6).numpy(), expected)


POISONED = """
import numpy, torch
from nystrom_numerics import pinv
a = torch.diag(torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))
b = torch.tensor([[0.0], [0.0], [1.0]], dtype=torch.float64)
batch = torch.stack([torch.diag(torch.tensor(d, dtype=torch.float64)) for d in ([1.0, 2, 3], [0.0, 1, 0])])
for _ in range(20):
    for x in (pinv.solve(a, b), pinv.solve(a.numpy(), b.numpy())):
        assert numpy.asarray(x.value).ravel().tolist() == [0, 0, 1], x
    z = pinv.complete_orthogonal(batch).value[1]
    assert z.diagonal().tolist() == [0, 1, 0], z
raw = {tuple(torch.linalg.lstsq(a, b, driver="gelsy").solution.ravel().tolist()) for _ in range(20)}
print(raw)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the memory of malloc is filled by glibc")
def test_what_freed_memory_holds_has_no_say():
    """glibc fills what it hands out with bytes other than 0, which LAPACK takes for columns to be left in front.

    Torch's own gelsy then finds rank 0, at every call; should that change, its answer here is (0, 0, 1).
    """
    tunables = "glibc.malloc.perturb=1:glibc.malloc.tcache_count=0"
    ran = subprocess.run(
        [sys.executable, "-c", POISONED],
        env={**os.environ, "GLIBC_TUNABLES": tunables},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == "{(0.0, 0.0, 0.0)}"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["a", "b"])
def test_what_is_not_finite_spoils_its_own_item(bad, where, rng):
    a, b = deficient("float64", rng)
    expected = lapack.least_squares(a, b, 1e-6)
    {"a": a, "b": b}[where][3, 1, 1] = bad
    found = lapack.least_squares(a, b, 1e-6)
    assert np.isnan(found[3]).all()
    np.testing.assert_array_equal(np.delete(found, 3, 0), np.delete(expected, 3, 0))


@pytest.mark.parametrize("dtype", DTYPES)
def test_powers_of_two_pass_through(dtype, rng):
    """(2ⁱA)⁺(B 2ʲ), with a power for each column of B: the same mantissas, to the ends of the range."""
    a, b = deficient(dtype, rng, m=6)
    x = lapack.least_squares(a, b, 1e-6)
    top = 120 if dtype in ("float32", "complex64") else 1000
    for i, j in [(top, [0, 5, -9]), (-top, [0, -30, -top]), (0, [top - 10, -top, 0]), (top, [top, 40, 100])]:
        found = lapack.least_squares(
            a * a.real.dtype.type(2.0) ** i, b * np.exp2(j).astype(a.real.dtype), 1e-6
        )
        normal = np.abs(x) * np.exp2(np.subtract(j, float(i))) > 4 * float(np.finfo(dtype).tiny)
        expected = np.where(normal, x, 0) * np.exp2(np.subtract(j, float(i)))
        np.testing.assert_array_equal(np.where(normal, found, 0), expected.astype(dtype))


def test_subnormal_matrices_are_solved_to_their_own_precision():
    a = np.full((2, 2), 0, "float32") + np.diag(np.float32([3e-39, 2e-39]))
    found = lapack.least_squares(a, a @ np.ones((2, 1), "float32"), 1e-6)
    np.testing.assert_allclose(found, 1, rtol=1e-6)


def test_a_cutoff_of_zero_drops_zeros_and_nothing_else():
    a = np.diag([1.0, 1e-200, 0.0])
    np.testing.assert_allclose(
        lapack.least_squares(a, np.eye(3), 0.0), np.diag([1.0, 1e200, 0.0]), rtol=1e-15
    )


@pytest.mark.parametrize("shape", [(0, 3, 2), (2, 0, 3, 2)])
def test_nothing_to_solve(shape):
    assert lapack.least_squares(np.zeros(shape), np.zeros((*shape[:-1], 4)), 0.1).shape == (*shape[:-2], 2, 4)
    assert lapack.least_squares(np.zeros((3, 2)), np.zeros((3, 0)), 0.1).shape == (2, 0)


def test_torch_takes_it_for_an_operator_of_its_own(rng):
    a, b = (torch.from_numpy(x) for x in deficient("float64", rng))
    torch.library.opcheck(of_tensors, (a, b, 1e-6), test_utils=("test_schema", "test_faketensor"))
    over = torch.vmap(lambda a: of_tensors(a, b[0], 1e-6))(a)
    np.testing.assert_array_equal(
        over.numpy(), lapack.least_squares(a.numpy(), b[:1].numpy().repeat(5, 0), 1e-6)
    )
