"""NumPy's own tests of ``numpy.linalg.pinv``, from the installed package, with ours in its place."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

theirs = pytest.importorskip("numpy.linalg.tests.test_linalg", reason="NumPy is installed without its tests")
of_matrices = pytest.importorskip(
    "numpy.matrixlib.tests.test_matrix_linalg", reason="NumPy is installed without its tests"
)

from nystrom_numerics import pinv  # noqa: E402
from nystrom_numerics.errors import ShapeError  # noqa: E402
from tests.foreign.adapter import GENERAL, HERMITIAN, behind, runs_of, what_calls  # noqa: E402

PLAIN = {**runs_of(theirs.TestPinv), **runs_of(of_matrices.TestPinvMatrix)}
OF_HERMITIAN = runs_of(theirs.TestPinvHermitian)
EMPTY = {name for name in (*PLAIN, *OF_HERMITIAN) if "_empty_" in name}
"""Meant: a matrix without entries is refused with a typed error, since in attention it is a mistake of the caller."""

NOT_OURS = {"test_pinv_rtol_arg": "of two names for one cutoff, of which ours has one"}

# each matrix once: theirs come with many right-hand sides, of which a pseudoinverse sees none
MATRICES = list({id(case.a): case for case in theirs.CASES}.values())


def put_in_place(monkeypatch, ours):
    monkeypatch.setattr(theirs.linalg, "pinv", ours)
    monkeypatch.setattr(theirs.LinalgTestCase, "TEST_CASES", MATRICES)


@pytest.mark.parametrize("ours", GENERAL)
@pytest.mark.parametrize("name", sorted(PLAIN.keys() - EMPTY))
def test_of_numpy(name, ours, monkeypatch):
    put_in_place(monkeypatch, GENERAL[ours])
    PLAIN[name]()


@pytest.mark.parametrize("ours", HERMITIAN)
@pytest.mark.parametrize("name", sorted(OF_HERMITIAN.keys() - EMPTY))
def test_of_numpy_on_hermitian_matrices(name, ours, monkeypatch):
    put_in_place(monkeypatch, HERMITIAN[ours])
    OF_HERMITIAN[name]()


@pytest.mark.parametrize("ours", HERMITIAN)
def test_byte_order(ours, monkeypatch):
    put_in_place(monkeypatch, HERMITIAN[ours])
    theirs.test_byteorder_check()


@pytest.mark.parametrize("ours", HERMITIAN)
def test_an_empty_matrix_is_refused(ours):
    empty = [case.a for case in MATRICES if "size-0" in case.tags]
    assert len(empty) > 4
    for a in empty:
        with pytest.raises(ShapeError, match="`a`"):
            HERMITIAN[ours](a)


def test_what_there_is_to_run():
    """Whatever calls ``pinv`` there is one of the above, and their cases are of every kind."""
    called = what_calls(theirs, "pinv")
    assert called == {"PinvCases.do", "PinvHermitianCases.do", "test_byteorder_check", *NOT_OURS}
    assert not what_calls(of_matrices, "pinv")
    for cases, tests in ((theirs.PinvCases, PLAIN), (theirs.PinvHermitianCases, OF_HERMITIAN)):
        names = {name for name, _ in inspect.getmembers(cases) if name.startswith("test")}
        assert names == {name.partition(".")[2] for name in tests}
    assert len(PLAIN) == 16
    assert len(OF_HERMITIAN) == 4
    assert len(EMPTY) == 10
    assert len(MATRICES) > 500
    assert {np.asarray(case.a).dtype.char for case in MATRICES} >= set("fdFD")
    assert {np.ndim(case.a) for case in MATRICES} >= {2, 3, 4}


@pytest.mark.parametrize(
    ("broken", "noticed_by"),
    [
        (lambda a, **_: pinv.svd(a, rtol=0.3), "TestPinv.test_sq_cases"),
        (lambda a, **_: pinv.svd(a.conj()), "TestPinv.test_nonsq_cases"),
        (lambda a, **_: pinv.svd(a + 1e-9), "TestPinv.test_generalized_nonsq_cases"),
    ],
)
def test_they_notice(broken, noticed_by, monkeypatch):
    put_in_place(monkeypatch, behind(broken))
    with pytest.raises(AssertionError, match="In test case"):
        PLAIN[noticed_by]()


def test_they_notice_another_class(monkeypatch):
    put_in_place(monkeypatch, lambda a: np.asarray(GENERAL["svd"](a)))
    with pytest.raises(AssertionError, match="matrix_a_and_b"):
        PLAIN["TestPinvMatrix.test_sq_cases"]()
