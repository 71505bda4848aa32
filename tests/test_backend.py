"""The door: what it lets in, and what it says to the rest."""

import array_api_strict
import numpy as np
import pytest
import torch

from nystrom_numerics import backend, errors


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
        backend.floating(np, q=np.zeros(2), k=np.zeros(2, bad))


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
