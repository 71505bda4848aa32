"""Verified pseudoinverses: never a wrong bound, judged by balls; tight; item by item; in every library."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from flint import arb, ctx

from nystrom_numerics import enclosures, errors, pinv
from nystrom_numerics.backend import namespace, to_numpy
from nystrom_numerics.errors import Verified
from proofs_check.pseudoinverses import ball_matrix, cases, frobenius
from proofs_check.pseudoinverses import errors as truths
from tests.thorough import many

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def known(a, z, rank):
    try:
        return truths(a, z, rank)
    except (ValueError, ZeroDivisionError):  # eigenvalues that balls of this size cannot tell apart
        return None, None


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_bound_is_below_the_truth_and_none_far_above(dtype):
    ratios: dict[tuple[str, bool], list[float]] = {}
    seen = verified = 0
    for a, z, rank in cases(many(1, 11), many(5000, 100), dtype):
        found = pinv.verify(a, z, rank=rank)
        seen += 1
        if found.status:
            assert np.isinf(found.error)
            assert np.isinf(found.projector)
            continue
        verified += 1
        for name, bound, truth in zip(
            ("error", "projector"), (found.error, found.projector), known(a, z, rank), strict=True
        ):
            if truth is None:
                continue
            assert arb(float(bound)) >= truth, (name, a, z, rank)
            if truth > 0:
                full = rank == min(a.shape)
                ratios.setdefault((name, full), []).append(float(arb(float(bound)) / truth))
    assert verified > 0.7 * seen
    for (_, full), found in ratios.items():
        assert np.median(found) <= (1.01 if full or dtype == "float32" else 10)


@pytest.mark.parametrize("rank", [None, 3])
@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4)])
def test_every_library_says_the_same_item_by_item(shape, rank, lane, dtype, rng):
    a = rng.standard_normal((2, 3, *shape))
    if rank:
        u, s, vt = np.linalg.svd(a, full_matrices=False)
        a = (u * np.where(np.arange(s.shape[-1]) < rank, s, 1e-9)[..., None, :]) @ vt
    a = a.astype(dtype)
    z = (np.linalg.pinv(a.astype(float), rcond=1e-5) * (1 + 1e-4)).astype(dtype)
    a[0, 1] = 1.0 if rank is None else 0.0
    a[1, 1, 0, 0], z[1, 2, 0, 0] = np.inf, np.nan
    found = pinv.verify(lane(a), lane(z), rank=rank)
    assert namespace(a=found.error) is namespace(a=lane(a))
    codes = to_numpy(found.codes)
    bad = Verified.NOT_NEAR if rank is None else codes[0, 1]
    assert codes.tolist() == [[0, bad, 0], [0, Verified.NON_FINITE, Verified.NON_FINITE]]
    assert bad in (Verified.NOT_NEAR, Verified.NO_GAP)
    assert found.status is Verified.NON_FINITE
    for index in np.ndindex(2, 3):
        alone = pinv.verify(a[index], z[index], rank=rank)
        for name in ("error", "projector"):
            several, one = to_numpy(getattr(found, name))[index], getattr(alone, name)
            assert np.isfinite(one) == (codes[index] == 0)
            np.testing.assert_allclose(several, one, rtol=1e-6)
    # the disturbance is known, and it is all there is
    np.testing.assert_allclose(
        to_numpy(found.error)[0, 0], 1e-4 * np.linalg.norm(z[0, 0].astype(float)) / (1 + 1e-4), rtol=1e-2
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_what_16_bits_store_is_what_is_judged(dtype, rng):
    a = torch.as_tensor(rng.standard_normal((5, 5)) + 4 * np.eye(5)).to(dtype)
    z = torch.linalg.inv(a.double()).to(dtype)
    found = pinv.verify(a, z)
    truth = torch.linalg.norm(torch.linalg.inv(a.double()) - z.double())
    assert found.error.dtype == torch.float64
    assert 1 - 1e-9 < float(found.error / truth) < 1.01


@pytest.mark.parametrize(
    ("a", "z", "rank", "code"),
    [
        (np.eye(3), np.eye(3), 2, Verified.NO_GAP),
        (np.eye(3), np.zeros((3, 3)), None, Verified.NOT_NEAR),
        (np.zeros((2, 3)), np.zeros((3, 2)), None, Verified.NOT_NEAR),
        (np.zeros((3, 3)), np.zeros((3, 3)), 1, Verified.NOT_NEAR),
        (np.eye(2), np.full((2, 2), np.nan), None, Verified.NON_FINITE),
        (np.eye(2), np.full((2, 2), 1e308), None, Verified.NOT_NEAR),
        (np.eye(3), np.eye(3), None, Verified.VERIFIED),
        (np.diag([1.0, 1e-12, 0.0]), np.diag([1.0, 0.0, 0.0]), 1, Verified.VERIFIED),
    ],
)
def test_what_cannot_be_verified_says_why(a, z, rank, code):
    found = pinv.verify(a, z, rank=rank)
    assert found.status is code
    assert np.isinf(found.error) == (code != Verified.VERIFIED)
    assert found.status.remedy


def test_digits_that_scaling_loses_are_no_bound():
    """The least entry is subnormal once the largest is one: as it is stored no more."""
    a = np.diag([2.0**483, 2.0**-539 * (1 - 2.0**-53)])
    found = pinv.verify(a, np.diag([2.0**-483, 2.0**539]))
    assert found.status is Verified.NON_FINITE
    assert found.error == np.inf


def test_a_device_that_flushes_subnormal_numbers_is_seen():
    if not torch.set_flush_denormal(True):
        pytest.skip("this machine has no such mode")
    try:
        found = pinv.verify(torch.eye(3), torch.eye(3))
    finally:
        torch.set_flush_denormal(False)
    assert found.status is Verified.FLUSHED
    assert pinv.verify(torch.eye(3), torch.eye(3)).status is Verified.VERIFIED


def test_reduced_float32_products_change_nothing(rng):
    """They are made in float64."""
    a = torch.as_tensor(rng.standard_normal((8, 8))).float()
    z = torch.linalg.inv(a.double()).float()
    plain, before = pinv.verify(a, z), torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        reduced = pinv.verify(a, z)
    finally:
        torch.set_float32_matmul_precision(before)
    assert float(reduced.error) == float(plain.error)


def test_wrong_shapes():
    for z in (np.eye(3)[:2], np.eye(3)[None]):
        with pytest.raises(errors.ShapeError) as caught:
            pinv.verify(np.eye(3), z)
        assert caught.value.argument == "z"


@pytest.mark.parametrize("minus", [False, True])
@pytest.mark.parametrize("k", [1, 2, 7, 40])
def test_enclosures_enclose(k, minus, rng):
    """Of products graded along the inner index, with what cancels: value and error against balls."""
    before, ctx.prec = ctx.prec, 3000
    try:
        for span in (0, 30, 300):
            scale = 2.0 ** rng.integers(-span, span + 1, k)
            a, b = rng.standard_normal((5, k)) * scale, rng.standard_normal((k, 4)) / scale[:, None]
            c = a @ b if minus else None
            exact = ball_matrix(a) * ball_matrix(b)
            exact = exact - ball_matrix(c) if minus else exact
            size = float(frobenius(ball_matrix(np.abs(a)) * ball_matrix(np.abs(b))))
            for split in (True, False):
                found = enclosures.accurate(a, b, minus=c, split=split)
                assert frobenius(ball_matrix(found.value) - exact) <= arb(float(found.error))
                assert frobenius(exact) <= arb(float(found.size))
                least = 1e-21 if split and minus else 2.0**-52
                assert float(found.error) <= least * 8 * (k + 4) * size
            plain = enclosures.product(a, b)
            if not minus:
                assert frobenius(ball_matrix(plain.value) - exact) <= arb(float(plain.error))
    finally:
        ctx.prec = before


def test_norms_are_bounds_from_above(rng):
    for scale in (1.0, 1e300, 1e-300, 5e-324):
        x = rng.standard_normal((3, 6, 4)) * scale
        for bound, norm in ((enclosures.size, None), (enclosures.spectral_size, 2)):
            found = bound(x)
            truth = np.linalg.norm(x / scale, norm, axis=(-2, -1)) * scale
            assert (found >= truth * (1 - 1e-14)).all()
            assert (found <= 3 * truth + 1e-306).all()
