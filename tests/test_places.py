"""Choosing, ordering and gathering: the same in every library, ties too."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nystrom_numerics import backend, places


def permutations(rng, *batch, n):
    return rng.permuted(np.broadcast_to(np.arange(float(n)), (*batch, n)), axis=-1)


@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_sums_by_label(batch, width, lane, rng):
    """Label 4 is left out, label 2 has no rows."""
    x, labels = rng.standard_normal((*batch, 9, width)), rng.choice([0, 1, 3, 4], (*batch, 9))
    total, count = places.sum_by_label(lane(x), lane(labels), 4)
    member = (labels[..., None] == np.arange(4)).astype(float)
    lane.assert_close(total, np.swapaxes(member, -1, -2) @ x, lane(x), rtol=1e-12, atol=1e-14)
    lane.assert_close(count, member.sum(-2), lane(x), rtol=0)


def test_sums_keep_the_dtype(lane):
    x = np.arange(6, dtype="float32").reshape(3, 2)
    total, count = places.sum_by_label(lane(x), lane(np.asarray([0, 0, 1])), 2)
    assert total.dtype == count.dtype == lane(x).dtype


@pytest.mark.parametrize("batch", [(3,), (2, 3)])
@pytest.mark.parametrize(("n", "count"), [(9, 4), (600, 150)])
def test_the_largest_in_order_of_place(n, count, batch, lane, rng):
    """Short rows are sorted by NumPy whatever is asked, long ones are not."""
    xp = backend.namespace(x=lane(np.zeros(1)))
    x = permutations(rng, *batch, n=n)
    index = places.largest(xp, lane(x), count, 0.5)
    expected = np.sort(np.argsort(-x, axis=-1)[..., :count], axis=-1)
    np.testing.assert_array_equal(backend.to_numpy(index), expected)
    assert index.dtype == xp.int64


@pytest.mark.parametrize("count", [9, 12])
def test_all_are_the_largest_where_there_are_no_more(count, lane, rng):
    xp = backend.namespace(x=lane(np.zeros(1)))
    index = places.largest(xp, lane(rng.standard_normal((3, 9))), count, 0.1)
    np.testing.assert_array_equal(backend.to_numpy(index), np.broadcast_to(np.arange(9), (3, 9)))


def test_of_equal_ones_the_first_are_the_largest(lane, rng):
    """Also where rounding parts them, and whatever is large beside them."""
    xp = backend.namespace(x=lane(np.zeros(1)))
    x = np.where(np.arange(300) % 10 == 0, 1.0, -1.0) + 1e-9 * rng.standard_normal((2, 300)) + 1e-3
    x[:, 299] = 5.0
    index = places.largest(xp, lane(x), 4, 0.1)
    np.testing.assert_array_equal(backend.to_numpy(index), [[0, 10, 20, 299]] * 2)


def test_all_of_the_largest_are_where_the_numbers_are(lane, rng):
    x = lane(rng.standard_normal((2, 9)))
    index = places.largest(backend.namespace(x=x), x, 9, 0.1)
    assert backend.device_of(index) == backend.device_of(x)
    assert index.dtype == backend.namespace(x=x).int64


def test_more_equal_ones_than_are_spare_are_the_largest_all_the_same(lane):
    x = lane(np.ones((2, 600)))
    index = backend.to_numpy(places.largest(backend.namespace(x=x), x, 5, 0.1))
    assert index.shape == (2, 5)
    assert (np.diff(index, axis=-1) > 0).all()


@pytest.mark.parametrize(("n", "dtype"), [(6, "float64"), (600, "float32"), (4000, "float32")])
def test_the_upper_half(n, dtype, lane, rng):
    """By steps of 1/64, to the nearest, and where these are equal by place; also where they are many."""
    x = rng.uniform(-1, 1, (2, 3, n)).astype(dtype)
    x[..., 0] = 1.0
    order = np.argsort(np.round(x.astype(float) * 64), axis=-1, kind="stable")
    expected = np.zeros(x.shape, bool)
    np.put_along_axis(expected, order[..., n // 2 :], True, axis=-1)
    got = places.upper_half(backend.namespace(x=lane(x)), lane(x), 64)
    np.testing.assert_array_equal(backend.to_numpy(got), expected)


def test_what_is_moved_stands_at_its_place(lane, rng):
    order = permutations(rng, 2, 3, n=7).astype("int64")
    x = rng.integers(0, 99, order.shape)
    xp = backend.namespace(x=lane(x))
    expected = np.empty_like(x)
    np.put_along_axis(expected, order, x, axis=-1)
    np.testing.assert_array_equal(backend.to_numpy(places.moved(xp, lane(x), lane(order))), expected)
    np.testing.assert_array_equal(backend.to_numpy(places.inverse_order(xp, lane(order))), np.argsort(order))


def test_rows_and_entries_at_places(lane, rng):
    x, index = rng.standard_normal((3, 5, 4)), np.asarray([4, 0, 0])
    xp = backend.namespace(x=lane(x))
    got = places.rows_of(xp, lane(x), lane(index), -2)
    np.testing.assert_array_equal(backend.to_numpy(got), x[:, index])
    wanted = rng.integers(0, 5, (3, 2, 4))
    got = places.gathered(xp, lane(x), lane(wanted), axis=-2)
    np.testing.assert_array_equal(backend.to_numpy(got), np.take_along_axis(x, wanted, axis=-2))


def test_no_gradient_through_the_choice_of_the_largest():
    x = torch.arange(5.0, requires_grad=True)
    assert not places.largest(backend.namespace(x=x), x, 2, 0.1).requires_grad
    assert not backend.still(x).requires_grad


def test_the_inverse_of_an_order(lane, rng):
    order = np.stack([rng.permutation(9) for _ in range(4)]).reshape(2, 2, 9)
    got = places.inverse_order(backend.namespace(x=lane(np.zeros(1))), lane(order))
    np.testing.assert_array_equal(backend.to_numpy(got), np.argsort(order, axis=-1))


def test_filled_at_places(lane, rng):
    x, index = (
        rng.standard_normal((2, 3, 9)),
        np.stack([rng.permutation(9)[:4] for _ in range(6)]).reshape(2, 3, 4),
    )
    for first in (..., 0, (0, 0)):
        y, at = x[first], index[first]
        expected = y.copy()
        np.put_along_axis(expected, at, -np.inf, axis=-1)
        given = lane(y)
        got = places.filled_at(backend.namespace(x=given), given, lane(at), -np.inf)
        np.testing.assert_array_equal(backend.to_numpy(got), expected)
        np.testing.assert_array_equal(backend.to_numpy(given), y)
