"""The door: what it lets in, and what it says to the rest."""

import sys
from types import SimpleNamespace

import array_api_compat
import array_api_strict
import numpy as np
import pytest
import torch
from scipy import linalg

from nystrom_numerics import backend, errors, solves
from nystrom_numerics.torch_vjp import WithVjp


def test_namespace_names_the_stranger():
    with pytest.raises(errors.NamespaceError, match=r"`k` is .*torch.*numpy"):
        backend.namespace(q=np.zeros(2), k=torch.zeros(2))
    with pytest.raises(errors.NamespaceError, match="`k` is a list"):
        backend.namespace(q=np.zeros(2), k=[1.0])
    with pytest.raises(errors.NamespaceError, match="`q` is a MaskedArray"):
        backend.namespace(q=np.ma.zeros(2))


def test_device_is_named():
    here, there = (
        array_api_strict.zeros(2, device=array_api_strict.Device(d)) for d in ("CPU_DEVICE", "device1")
    )
    with pytest.raises(errors.DeviceError, match=r"`k` is on .*device1"):
        backend.namespace(q=here, k=there)


@pytest.mark.parametrize("bad", [np.int64, np.complex64, np.bool_, np.longdouble])
def test_only_real_floating(bad):
    with pytest.raises(errors.DTypeError, match="`k`"):
        backend.floating(np, k=np.zeros(2, bad))


def test_dtypes_must_agree():
    with pytest.raises(errors.DTypeError, match="`k` is of dtype float32"):
        backend.floating(np, q=np.zeros(2), k=np.zeros(2, np.float32))


def test_half_precision_computes_in_float32():
    for dtype in (torch.float16, torch.bfloat16):
        xp = backend.namespace(x=torch.zeros(1, dtype=dtype))
        assert backend.compute_dtype(xp, dtype) == torch.float32


@pytest.mark.parametrize("bad", [np.random.RandomState(0), 1.5, True, None])
def test_rng_must_be_a_generator_or_an_int(bad):
    with pytest.raises(errors.DTypeError, match="`rng`"):
        backend.generator(bad)


def test_rng_records_its_seed():
    assert backend.generator(3)[1] == 3
    assert backend.generator(np.random.default_rng(3))[1] is None
    with pytest.raises(errors.RangeError, match="`rng`"):
        backend.generator(-1)


def test_to_numpy_round_trip(lane):
    x = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(backend.to_numpy(lane(x)), x)
    assert backend.to_numpy(torch.ones(2, dtype=torch.bfloat16)).tolist() == [1.0, 1.0]


# ---------------------------------------------------------------- what each part of the door says by itself


def test_only_numpy_is_told_to_be_quiet():
    """A Torch tensor first, and `errstate`, which cannot be compiled, is left out."""

    @backend.status_tells
    def state_within(*args, **options):
        state = np.geterr()
        return state["over"], state["invalid"], state["divide"], args, options

    x, t = np.zeros(2), torch.zeros(2)
    with np.errstate(over="warn", invalid="warn", divide="warn"):
        assert state_within(x, 3, a=1) == ("ignore", "ignore", "warn", (x, 3), {"a": 1})
        assert state_within(a=t) == ("ignore", "ignore", "warn", (), {"a": t})
        assert state_within(t, 3, a=1) == ("warn", "warn", "warn", (t, 3), {"a": 1})
    assert state_within.__name__ == "state_within"


def test_namespace_passes_over_none_and_gives_the_library(lane):
    x = lane(np.zeros(2))
    assert backend.namespace(q=None, k=x, v=None, w=x) is array_api_compat.array_namespace(x)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_real_floating_of_each_width_is_let_in(dtype):
    backend.floating(np, q=np.zeros(2, dtype), k=np.zeros(2, dtype))


@pytest.mark.parametrize("shape", [(3,), (0, 3), (3, 0), (2, 0, 3)])
def test_no_matrix(shape):
    with pytest.raises(errors.ShapeError, match="`core`") as caught:
        backend.require_matrix("core", np.zeros(shape))
    assert str(shape) in caught.value.got


@pytest.mark.parametrize("shape", [(1, 3), (0, 2, 3)])
def test_a_matrix_or_a_stack_of_none(shape):
    backend.require_matrix("core", np.zeros(shape))


def test_what_is_not_finite_is_counted(lane):
    xp = backend.namespace(x=lane(np.zeros(1)))
    bad = np.asarray([[1.0, np.nan, 3.0], [np.inf, 5.0, 6.0]])
    backend.require_finite(xp, q=lane(np.zeros((2, 3))))
    with pytest.raises(errors.NonFiniteError, match="`k` is not finite in 2 of 6 entries"):
        backend.require_finite(xp, q=lane(np.zeros((2, 3))), k=lane(bad))
    with pytest.raises(errors.NonFiniteError, match="in 1 of 1 "):
        backend.require_finite(xp, q=lane(np.asarray([np.nan])))


def test_masks_are_broadcast(lane):
    xp = backend.namespace(x=lane(np.zeros(1)))
    assert backend.require_mask(xp, "key_mask", None, (2, 3)) is None
    given = np.asarray([True, False, True])
    got = backend.require_mask(xp, "key_mask", lane(given), (2, 3))
    np.testing.assert_array_equal(backend.to_numpy(got), np.broadcast_to(given, (2, 3)))


@pytest.mark.parametrize("shape", [(4,), (2, 1, 3), (3, 3)])
def test_masks_that_do_not_fit(shape):
    """What does not broadcast, and what would make the rest broader."""
    with pytest.raises(errors.ShapeError, match=r"`key_mask` .*\(2, 3\)") as caught:
        backend.require_mask(np, "key_mask", np.ones(shape, bool), (2, 3))
    assert str(shape) in caught.value.got


def test_masks_are_boolean():
    with pytest.raises(errors.DTypeError, match="`key_mask` is of dtype int64"):
        backend.require_mask(np, "key_mask", np.ones(3, np.int64), (3,))


def test_the_first_batch_that_does_not_fit_is_named():
    assert backend.broadcast_shapes(q=(2, 1), k=(3,), v=()) == (2, 3)
    assert backend.broadcast_shapes() == ()
    with pytest.raises(errors.ShapeError, match=r"`v` is of leading axes \(4,\).*\(2, 3\)"):
        backend.broadcast_shapes(q=(2, 1), k=(3,), v=(4,), w=(5,))


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        (np.float32, "float32"),
        (np.dtype("float64"), "float64"),
        (torch.bfloat16, "bfloat16"),
        (array_api_strict.float32, "float32"),
    ],
)
def test_dtypes_have_plain_names(dtype, name):
    assert backend.dtype_name(dtype).strip("')") == name


def test_wider_dtypes_compute_in_themselves():
    assert backend.compute_dtype(np, np.float32) == np.float32
    assert backend.compute_dtype(np, np.float64) == np.float64
    assert backend.compute_dtype(np, np.float16) == np.float32


def test_unit_roundoff_is_the_largest_relative_error_of_rounding():
    assert backend.unit_roundoff(np, np.float32) == 2.0**-24
    assert backend.unit_roundoff(np, np.float64) == 2.0**-53


def on_a_device(*shape):
    """A tensor that is not on the host, as a machine without a GPU has it."""
    return torch.zeros(shape, device="meta")


def test_blocks_of_rows():
    assert [backend.default_block(n) for n in (1, 1023, 1024, 1025)] == [1, 1023, 1024, 1024]


def test_strips_fill_a_cache_on_the_host_and_more_on_a_device(lane):
    for x in (lane(np.zeros(2)), np.zeros(2)):
        assert [backend.strip_rows(x, w) for w in (0, 1, 2, 3, 2**12, 2**13, 2**20)] == [
            2**18,
            2**18,
            2**17,
            2**18 // 3,
            64,
            32,
            32,
        ]
    assert [backend.strip_rows(on_a_device(2), w) for w in (0, 2, 2**19, 2**20, 2**21)] == [
        2**25,
        2**24,
        64,
        32,
        32,
    ]


def test_tiles(lane):
    """On the host at most 1024 each way; on a device 2²³ entries in all, columns first."""
    assert backend.tile(lane(np.zeros((2, 3, 4))), 5000, 700) == (1024, 700)
    assert backend.tile(lane(np.zeros((2, 3, 4))), 10, 5000) == (10, 1024)
    assert backend.tile(on_a_device(2, 3, 4), 50000, 700) == (2**22 // 700, 700)
    assert backend.tile(on_a_device(2, 3, 4), 10, 10**9) == (10, 2**22 // 10)
    assert backend.tile(on_a_device(3, 4), 3000, 3000) == (2**23 // 3000, 3000)
    assert backend.tile(on_a_device(3, 4), 5000, 10000) == (1024, 2**13)
    assert backend.tile(on_a_device(2**20, 3, 4), 5000, 5000) == (1024, 1024)
    assert backend.tile(on_a_device(3, 4), 1, 10**9) == (1, 2**23)
    assert backend.tile(on_a_device(3, 4), 10**9, 1) == (2**23, 1)
    assert {type(x) for x in backend.tile(on_a_device(3, 4), 5000, 10000)} == {int}


def test_rows_against_a_lower_triangle(lane, rng):
    lower = np.tril(rng.standard_normal((4, 4))) + 3 * np.eye(4)
    rows = rng.standard_normal((5, 4))
    lane.assert_close(
        solves.solve_lower(lane(lower), lane(rows)), np.linalg.solve(lower, rows.T).T, lane(rows), rtol=1e-12
    )


def test_a_lower_triangle_of_cupy(monkeypatch, rng):
    """On a machine without CuPy: its arrays are strict ones, and its solver is SciPy's."""
    lower, rows = np.tril(rng.standard_normal((4, 4))) + 3 * np.eye(4), rng.standard_normal((5, 4))

    def solve_triangular(a, b, *, lower=None, check_finite=None):
        assert check_finite is False
        return array_api_strict.asarray(
            linalg.solve_triangular(np.asarray(a), np.asarray(b), lower=lower, check_finite=False)
        )

    monkeypatch.setattr(array_api_compat, "is_cupy_array", lambda x: x is not None)
    monkeypatch.setitem(sys.modules, "cupyx.scipy.linalg", SimpleNamespace(solve_triangular=solve_triangular))
    spoilt = lower + np.triu(np.full((4, 4), np.nan), 1)
    got = solves.solve_lower(array_api_strict.asarray(spoilt), array_api_strict.asarray(rows))
    np.testing.assert_allclose(np.asarray(got), np.linalg.solve(lower, rows.T).T, rtol=1e-12)


def test_arrays_of_cupy_are_fetched(monkeypatch):
    monkeypatch.setattr(array_api_compat, "is_cupy_array", lambda x: x is not None)
    assert backend.to_numpy(SimpleNamespace(get=lambda: [1.0, 2.0])).tolist() == [1.0, 2.0]


def test_what_is_above_the_triangle_is_not_read(rng):
    lower, rows = np.tril(rng.standard_normal((4, 4))) + 3 * np.eye(4), rng.standard_normal((5, 4))
    expected = solves.solve_lower(lower, rows)
    spoilt = lower + np.triu(np.full((4, 4), np.nan), 1)
    np.testing.assert_array_equal(solves.solve_lower(spoilt, rows), expected)
    got = solves.solve_lower(torch.from_numpy(spoilt), torch.from_numpy(rows))
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-12)


def test_rows_by_a_root(lane, rng):
    half, rows = rng.standard_normal((2, 3, 3)), rng.standard_normal((2, 5, 3))
    gram = half @ half.mT
    got = backend.to_numpy(solves.by_root(backend.namespace(x=lane(gram)), lane(gram), lane(rows)))
    np.testing.assert_allclose(got @ np.linalg.cholesky(gram).mT, rows, rtol=1e-9, atol=1e-11)


def test_items_that_a_cache_holds():
    for size, items in ((2**17, 4), (2**21, 1), (1, 2**19), (0, 2**19)):
        assert backend.items_at_once(np.zeros((9, 3)), size) == items
        assert backend.items_at_once(torch.empty((9, 3), device="meta"), size) == 9


def test_a_number_that_the_dtype_holds():
    small, large = float(np.finfo("f4").smallest_normal), float(np.finfo("f4").max)
    for value in (0.0, small / 2, -1.0, large, -large):
        assert backend.require_held(np, "x", value, np.float32) == value
    for value in (small, -small, large):
        assert backend.require_held(np, "x", value, np.float32, divides=True) == value
    for value, divides, needs in (
        (2 * large, False, r"it needs at most 3\.4e\+38 in size"),
        (small / 2, True, r"at least 1\.18e-38 and at most 3\.4e\+38 in size"),
        (0.0, True, "at least"),
    ):
        with pytest.raises(errors.RangeError, match=needs) as caught:
            backend.require_held(np, "x", value, np.float32, divides=divides)
        assert caught.value.argument == "x"


@pytest.mark.parametrize("a", [torch.full((2, 2), torch.inf), torch.full((2, 2), 1e30) ** 2, -torch.eye(2)])
def test_a_factor_that_is_none_solves_nothing(a):
    """Infinite, overflown, not positive: NaN in Torch as in NumPy."""
    both = solves.ridge_solve(torch, torch.stack([a, torch.eye(2)]), 1e-3, torch.ones(2, 2, 1))
    alone = solves.ridge_solve(np, a.numpy()[None], 1e-3, np.ones((1, 2, 1), "f4"))
    assert bool(both[0].isnan().all())
    assert np.isnan(alone).all()
    torch.testing.assert_close(both[1], torch.full((2, 1), 1 / 1.001))


def test_a_seed_is_the_generator_of_numpy():
    for seed in (3, np.int64(3), 0):
        got, recorded = backend.generator(seed)
        assert got.integers(10**9) == np.random.default_rng(int(seed)).integers(10**9)
        assert type(recorded) is int
        assert recorded == seed
    given = np.random.default_rng(1)
    assert backend.generator(given)[0] is given


def test_from_numpy_goes_where_the_other_is(lane):
    like = lane(np.zeros(2))
    got = backend.from_numpy(backend.namespace(x=like), np.arange(3.0), like)
    lane.assert_close(got, np.arange(3.0), like, rtol=0)


def test_to_numpy_leaves_the_graph_and_the_dtype():
    assert backend.to_numpy(torch.ones(2, requires_grad=True)).dtype == np.float32
    assert backend.to_numpy(torch.ones(2, dtype=torch.float64)).dtype == np.float64


def test_the_worst_of_many_is_told(lane):
    codes = np.asarray([[int(errors.Status.CONVERGED), int(errors.Status.STAGNATED)]])
    assert backend.worst_status(lane(codes)) is errors.Status.STAGNATED
    assert backend.worst_status(lane(codes[:0])) is errors.Status.CONVERGED


def test_a_derivative_of_its_own():
    """Three times the right one, so that nobody else's is taken."""

    def forward(x, y):
        return (x * y, x + 0), (x, y)

    def vjp(g, x, y):
        return 3 * g * y, 3 * g * x

    x, y = np.asarray([2.0]), np.asarray([5.0])
    assert [z.tolist() for z in backend.with_vjp(forward, vjp, x, y)] == [[10.0], [2.0]]
    t, u = (torch.from_numpy(z).requires_grad_() for z in (x, y))
    first, second = backend.with_vjp(forward, vjp, t, u)
    assert (first.tolist(), second.tolist()) == ([10.0], [2.0])
    assert not second.requires_grad
    assert [z.tolist() for z in torch.autograd.grad(first, (t, u))] == [[15.0], [6.0]]


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_ridge_solve_is_the_solution_of_the_shifted_system(batch, lane, rng):
    a, b = rng.standard_normal((*batch, 7, 5)), rng.standard_normal((*batch, 5, 2))
    gram = np.swapaxes(a, -1, -2) @ a
    xp = backend.namespace(x=lane(b))
    got = solves.ridge_solve(xp, lane(gram), 0.5, lane(b))
    lane.assert_close(got, np.linalg.solve(gram + 0.5 * np.eye(5), b), lane(b), rtol=1e-10, atol=1e-12)


def test_ridge_solve_keeps_the_dtype(lane):
    b = lane(np.ones((3, 1)), "float32")
    got = solves.ridge_solve(backend.namespace(x=b), lane(np.eye(3), "float32"), 1.0, b)
    lane.assert_close(got, np.full((3, 1), 0.5), b, rtol=1e-6)


def test_ridge_solve_of_no_items():
    got = solves.ridge_solve(np, np.zeros((0, 3, 3)), 0.5, np.zeros((0, 3, 2)))
    assert got.shape == (0, 3, 2)


@pytest.mark.parametrize("bad", [np.nan, -9.0])
@pytest.mark.parametrize("asarray", [np.asarray, torch.tensor], ids=["numpy", "torch"])
def test_ridge_solve_is_nan_for_an_item_without_a_factor_alone(bad, asarray, rng):
    gram, b = np.stack([np.eye(3)] * 3), rng.standard_normal((3, 3, 2))
    gram[1, 0, 0] = bad
    got = backend.to_numpy(
        solves.ridge_solve(backend.namespace(x=asarray(b)), asarray(gram), 1.0, asarray(b))
    )
    np.testing.assert_allclose(got[[0, 2]], b[[0, 2]] / 2, rtol=1e-12)
    if asarray is np.asarray or np.isnan(bad):
        assert np.isnan(got[1]).any()


# ---------------------------------------------------------------- linear algebra that only some libraries have


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64", "complex128"])
def test_real_and_complex_of_each_width_are_let_in(dtype):
    x = np.zeros(2, dtype)
    backend.real_or_complex(np, q=x, k=x)
    assert backend.is_complex(np, x) is dtype.startswith("complex")


@pytest.mark.parametrize("bad", [np.int64, np.bool_, np.longdouble, np.clongdouble])
def test_only_real_and_complex_floating(bad):
    with pytest.raises(errors.DTypeError, match="`k`"):
        backend.real_or_complex(np, k=np.zeros(2, bad))


def test_complex_numbers_of_two_halves_are_refused():
    x = torch.zeros(2, dtype=torch.complex32)
    with pytest.raises(errors.DTypeError, match="`k`"):
        backend.real_or_complex(backend.namespace(k=x), k=x)


@pytest.mark.parametrize("check", [backend.floating, backend.real_or_complex])
def test_what_is_missing_or_of_another_dtype_is_named(check):
    with pytest.raises(errors.NamespaceError, match="`k` is None"):
        check(np, q=np.zeros(2), k=None)
    with pytest.raises(errors.DTypeError, match="`k` is of dtype float32"):
        check(np, q=np.zeros(2), k=np.zeros(2, np.float32))


def test_a_namespace_of_nothing():
    with pytest.raises(errors.NamespaceError, match="`q` is None"):
        backend.namespace(q=None, k=None)
    with pytest.raises(errors.NamespaceError, match="`k` is a matrix"):
        backend.namespace(q=np.zeros(2), k=np.matrix([[1.0]]))


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_square_systems(batch, lane, rng):
    a, b = rng.standard_normal((*batch, 4, 4)) + 3 * np.eye(4), rng.standard_normal((*batch, 4, 2))
    got = solves.solve_square(backend.namespace(x=lane(b)), lane(a), lane(b))
    lane.assert_close(got, np.linalg.solve(a, b), lane(b), rtol=1e-12)


@pytest.mark.parametrize("asarray", [np.asarray, torch.tensor], ids=["numpy", "torch"])
def test_a_singular_item_is_nan_alone(asarray, rng):
    a, b = np.stack([np.eye(3), np.zeros((3, 3)), 2 * np.eye(3), np.eye(3)]), rng.standard_normal((4, 3, 2))
    xp = backend.namespace(x=asarray(b))
    got = backend.to_numpy(solves.solve_square(xp, asarray(a), asarray(b)))
    np.testing.assert_array_equal(got, [b[0], np.full((3, 2), np.nan), b[2] / 2, b[3]])
    got = solves.solve_square(xp, asarray(a[1]), asarray(b[1]))
    np.testing.assert_array_equal(backend.to_numpy(got), np.full((3, 2), np.nan))


def test_least_squares_of_the_host_cut_off_what_is_small(rng):
    a, b = rng.standard_normal((2, 5, 3)), rng.standard_normal((2, 5, 2))
    a[:, :, 2] = a[:, :, 1] + 1e-9 * a[:, :, 0]
    got = solves.least_squares(np, a, b, 1e-6)
    expected = np.stack([np.linalg.lstsq(x, y, rcond=1e-6)[0] for x, y in zip(a, b, strict=True)])
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    t, u = torch.from_numpy(a), torch.from_numpy(b)
    np.testing.assert_array_equal(solves.least_squares(backend.namespace(x=t), t, u, 1e-6).numpy(), got)
    for absent in (array_api_strict.asarray(a), on_a_device(5, 3)):
        assert solves.least_squares(None, absent, absent, 1e-6) is None


def test_a_derivative_is_recorded_where_one_is_asked_for(monkeypatch):
    """Backward, as the graph says; forward, which Torch refuses for a function with a backward derivative alone."""

    def call(x):
        return backend.with_vjp(lambda x: ((2 * x,), ()), lambda g: (2 * g,), x)[0]

    x = torch.ones(1, requires_grad=True)
    assert call(x).requires_grad
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x.detach(), torch.ones(1))
        with pytest.raises((RuntimeError, NotImplementedError)):
            call(dual)
    monkeypatch.setattr(WithVjp, "apply", None)
    assert call(x.detach()).item() == 2
    with torch.no_grad():
        assert call(x).item() == 2
