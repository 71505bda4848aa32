"""scikit-learn's own tests of its ``Nystroem``, from the installed package, with ours in its place.

A departure that is meant: arrays of other libraries than NumPy are not dispatched on (the tag says so), so that what
asks for them is left out.
"""

from __future__ import annotations

import inspect
import warnings

import pytest

theirs = pytest.importorskip(
    "sklearn.tests.test_kernel_approximation", reason="scikit-learn is installed without its tests"
)

from nystrom_numerics.integrations.scikit_learn import Nystroem  # noqa: E402

OTHER_ARRAYS = "test_nystroem_approximation_array_api"
OWN = {
    name: function
    for name, function in vars(theirs).items()
    if name.startswith("test_nystroem") and inspect.isfunction(function) and name != OTHER_ARRAYS
}


@pytest.fixture(autouse=True)
def in_their_place(monkeypatch):
    monkeypatch.setattr(theirs, "Nystroem", Nystroem)


@pytest.mark.parametrize("name", OWN)
def test_of_scikit_learn(name):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="n_components is")
        OWN[name]()


def test_feature_names():
    theirs.test_get_feature_names_out(Nystroem)


def test_what_there_is_to_run():
    """Each test of theirs that makes a Nystroem is one of the above, and fails where ours is broken."""
    make_one = {
        name
        for name, function in vars(theirs).items()
        if name.startswith("test_") and "Nystroem(" in inspect.getsource(function)
    }
    assert make_one == OWN.keys() | {OTHER_ARRAYS}
    assert len(OWN) >= 7
    assert not inspect.signature(OWN["test_nystroem_callable"]).parameters


def test_they_notice(monkeypatch):
    monkeypatch.setattr(Nystroem, "_require_numbers", lambda self: None)
    for name in ("test_nystroem_callable", "test_nystroem_precomputed_kernel"):
        with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
            OWN[name]()
