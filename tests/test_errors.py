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


def test_every_status_has_a_remedy():
    assert all(len(status.remedy) > 20 for status in errors.Status)
