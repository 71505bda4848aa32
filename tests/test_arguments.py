"""The checks of plain arguments: what passes, what does not, and what the error says."""

from __future__ import annotations

import numpy as np
import pytest

from nystrom_numerics import arguments, errors

PASS = {
    arguments.require_count: [(1, 1), (np.int32(7), 7)],
    arguments.require_number: [(-2, -2.0), (np.float32(0.5), 0.5), (0, 0.0)],
    arguments.require_positive: [(1e-300, 1e-300), (3, 3.0)],
    arguments.require_nonnegative: [(0, 0.0), (2.5, 2.5)],
    arguments.require_tolerance: [(0, 0.0), (0.99, 0.99)],
    arguments.require_probability: [(0.5, 0.5)],
    arguments.require_flag: [(True, True), (np.False_, False)],
}
FAIL = {
    arguments.require_count: [0, -1, -(10**5000), True, 2.0, "2", None, np.ones(()), [1]],
    arguments.require_number: [np.nan, np.inf, True, "1", None, 10**400, 1j, np.ones(1), [1.0]],
    arguments.require_positive: [0, -1, np.inf, np.nan, "x"],
    arguments.require_nonnegative: [-1e-300, np.inf, np.nan, None],
    arguments.require_tolerance: [1, -0.1, np.nan, True],
    arguments.require_probability: [0, 1, np.nan, "0.5"],
    arguments.require_flag: [0, 1, None, "yes", np.ones(1)],
    arguments.require_callable: [None, 3, "f"],
}


@pytest.mark.parametrize("check", PASS)
def test_what_passes(check):
    for given, expected in PASS[check]:
        found = check("it", given)
        assert found == expected
        assert type(found) is type(expected)


@pytest.mark.parametrize("check", FAIL)
def test_what_does_not(check):
    for given in FAIL[check]:
        with pytest.raises(errors.ArgumentError) as caught:
            check("it", given)
        assert caught.value.argument == "it"
        assert len(str(caught.value)) < 160


def test_indices():
    for given in ([0, 3], (3,), range(4), [], np.asarray([1], dtype=np.uint8)):
        found = arguments.require_indices("rows", given, 4)
        assert found.dtype == np.int64
        assert found.tolist() == list(given)
    for given in (
        ([0.5], errors.DTypeError),
        ([True], errors.DTypeError),
        ([10**30], errors.DTypeError),
        ([None], errors.DTypeError),
        ("ab", errors.KindError),
        ({0, 1}, errors.KindError),
        (3, errors.KindError),
        ([[0]], errors.ShapeError),
        ([[0], [1, 2]], errors.ShapeError),
        ([4], errors.RangeError),
        ([-1], errors.RangeError),
    ):
        with pytest.raises(given[1]) as caught:
            arguments.require_indices("rows", given[0], 4)
        assert caught.value.argument == "rows"


def test_limits_types_and_words():
    assert arguments.require_count("m", 5, 2, 5) == 5
    with pytest.raises(
        errors.RangeError, match="`m` is 6; it needs an integer from 2 to the number of points, 5"
    ):
        arguments.require_count("m", 6, 2, 5, of="the number of points")
    assert arguments.require_instance("x", 3, (int, str)) == 3
    with pytest.raises(errors.KindError, match="`x` is a list; it needs int or str"):
        arguments.require_instance("x", [3] * 1000, (int, str))
    assert arguments.require_choice("kind", "a", ("a", "b")) == "a"
    for wrong in ("c", None, ["a"]):
        with pytest.raises(errors.RangeError, match="one of 'a', 'b'"):
            arguments.require_choice("kind", wrong, ("a", "b"))
    assert arguments.require_callable("rule", len) is len
