"""SciPy's own tests of ``scipy.linalg.pinv`` and ``pinvh``, from the installed package, with ours in their place."""

from __future__ import annotations

import numpy as np
import pytest

theirs = pytest.importorskip("scipy.linalg.tests.test_basic", reason="SciPy is installed without its tests")

from nystrom_numerics import pinv  # noqa: E402
from nystrom_numerics.errors import ShapeError  # noqa: E402
from tests.foreign.adapter import GENERAL, HERMITIAN, behind, runs_of, what_calls  # noqa: E402

PLAIN = runs_of(theirs.TestPinv)
OF_HERMITIAN = runs_of(theirs.TestPinvSymmetric)
EMPTY = {name for name in (*PLAIN, *OF_HERMITIAN) if "test_empty" in name}
"""Meant: a matrix without entries is refused with a typed error, since in attention it is a mistake of the caller."""

DEPARTURES = {
    (test, ours): "its cutoff bounds the condition of the triangle kept, not each singular value"
    for test in ("TestPinv.test_atol_rtol", "TestPinvSymmetric.test_atol_rtol")
    for ours in ("rank_revealing", "complete_orthogonal")
}
"""Meant, and in the docstrings: these two cut no spectrum.  Values well above or below the cutoff they tell apart."""


def put_in_place(monkeypatch, general, hermitian):
    monkeypatch.setattr(theirs, "pinv", general)
    monkeypatch.setattr(theirs, "pinvh", hermitian)


def passes_or_departs(name, ours, run):
    if (name, ours) not in DEPARTURES:
        run()
        return
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        run()


@pytest.mark.parametrize("ours", GENERAL)
@pytest.mark.parametrize("name", sorted(PLAIN.keys() - EMPTY))
def test_of_scipy(name, ours, monkeypatch):
    put_in_place(monkeypatch, GENERAL[ours], None)
    passes_or_departs(name, ours, PLAIN[name])


@pytest.mark.parametrize("ours", HERMITIAN)
@pytest.mark.parametrize("name", sorted(OF_HERMITIAN.keys() - EMPTY))
def test_of_scipy_on_hermitian_matrices(name, ours, monkeypatch):
    put_in_place(monkeypatch, GENERAL["svd"], HERMITIAN[ours])
    passes_or_departs(name, ours, OF_HERMITIAN[name])


@pytest.mark.parametrize("ours", HERMITIAN)
@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
def test_cutoff_at_any_scale(scale, ours):
    theirs.test_auto_rcond(scale, HERMITIAN[ours])


@pytest.mark.parametrize("ours", HERMITIAN)
def test_the_input_is_left_alone(ours, monkeypatch):
    put_in_place(monkeypatch, HERMITIAN[ours], HERMITIAN[ours])
    theirs.TestOverwrite().test_pinv()
    theirs.TestOverwrite().test_pinvh()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
@pytest.mark.parametrize("ours", GENERAL)
def test_a_batch_gives_what_its_items_give(ours, dtype):
    name = "scipy.linalg.tests.test_batch"
    batches = pytest.importorskip(name, reason="this SciPy has no tests of batches")
    batches.TestBatch().test_matmat(GENERAL[ours], dtype)


@pytest.mark.parametrize("ours", HERMITIAN)
@pytest.mark.parametrize("dtype", [float, np.float32, complex, np.complex64])
def test_an_empty_matrix_is_refused(dtype, ours):
    with pytest.raises(ShapeError, match="`a`"):
        HERMITIAN[ours](np.empty((0, 0), dtype=dtype))


def test_what_there_is_to_run():
    """Whatever calls one of the two there is one of the above."""
    classes = {name.rpartition("[")[0] or name for name in (*PLAIN, *OF_HERMITIAN)}
    others = {"test_auto_rcond", "TestOverwrite.test_pinv", "TestOverwrite.test_pinvh"}
    assert what_calls(theirs, "pinvh?_?") == classes | others
    assert len(PLAIN) == 12
    assert len(OF_HERMITIAN) == 10
    assert len(EMPTY) == 8


@pytest.mark.parametrize(
    ("broken", "noticed_by"),
    [
        (lambda a, **_: pinv.svd(a), "test_atol_rtol"),
        (lambda a, **_: pinv.svd(a.conj()), "test_simple_complex"),
        (lambda a, **_: pinv.svd(a, rtol=1e-17), "test_simple_singular"),
    ],
)
def test_they_notice(broken, noticed_by, monkeypatch):
    put_in_place(monkeypatch, behind(broken), None)
    with pytest.raises(AssertionError):
        PLAIN[f"TestPinv.{noticed_by}"]()


def test_they_notice_a_sign_that_is_lost(monkeypatch):
    lost = behind(lambda a, **_: pinv.hermitian(a @ a))
    put_in_place(monkeypatch, GENERAL["svd"], lost)
    with pytest.raises(AssertionError):
        OF_HERMITIAN["TestPinvSymmetric.test_nonpositive"]()
