"""Typed errors survive pickling (workers send them home) and statuses carry remedies."""

import pickle

import pytest

from nystrom_numerics import errors


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (errors.ShapeError, ValueError),
        (errors.RangeError, ValueError),
        (errors.NonFiniteError, ValueError),
        (errors.DeviceError, ValueError),
        (errors.DTypeError, TypeError),
        (errors.NamespaceError, TypeError),
    ],
)
def test_argument_errors(kind, builtin):
    error = pickle.loads(pickle.dumps(kind("q", "of shape (3,)", "two axes")))
    assert isinstance(error, builtin)
    assert isinstance(error, errors.NystromError)
    assert (error.argument, error.got, error.needs) == ("q", "of shape (3,)", "two axes")
    assert str(error) == "`q` is of shape (3,); it needs two axes"


def test_what_does_not_fit():
    """It comes home from a worker of Dask, which has a way of its own to pickle exceptions."""
    pickling_support = pytest.importorskip("tblib.pickling_support", reason="Dask is an optional peer")
    pickling_support.install()
    made = errors.MemoryLimitError("x", "a chunk", 3e9, 2e9, "the memory of a worker", "smaller chunks", (1,))
    error = pickle.loads(pickle.dumps(made))
    assert isinstance(error, MemoryError)
    assert (error.argument, error.size, error.room, error.ranks) == ("x", 3 * 10**9, 2 * 10**9, (1,))
    assert str(error) == (
        "`x` is too large: a chunk takes 3 GB; it needs at most 2 GB, the memory of a worker: smaller chunks"
    )


def test_every_status_has_a_remedy():
    assert all(len(status.remedy) > 20 for status in errors.Status)
