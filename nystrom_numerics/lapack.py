"""Rank-revealing least squares by LAPACK's ``gelsy``, through SciPy, for stacks of NumPy matrices."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["least_squares"]

_Array = np.ndarray[Any, np.dtype[Any]]


def least_squares(a: _Array, b: _Array, rtol: float) -> _Array:
    r"""A⁺B of stacks (..., m, n) and (..., m, r) of one batch and dtype, real or complex of 32 or 64-bit parts.

    Each matrix is brought near 1 by a power of two, and each column of B by its own.  It is then solved in the same
    aligned memory as every other, with no column fixed beforehand (``jpvt`` = 0), so that an item has the same bits
    alone, in a batch and at every call.  NaN for an item that has NaN or infinity.  A cutoff below the least normal
    number is raised to it: gelsy would divide by zeros.
    """
    from scipy.linalg.lapack import get_lapack_funcs

    (m, n), r = a.shape[-2:], b.shape[-1]
    x = np.full((*a.shape[:-2], n, r), np.nan, a.dtype)
    if not x.size:
        return x
    of_a, of_b = _exponents(a, (-2, -1)), _exponents(b, -2)
    finite = np.isfinite(of_a)[..., 0, 0] & np.all(np.isfinite(of_b), axis=(-2, -1))
    down_a, down_b = (np.exp2(-e) for e in (of_a, of_b))
    back = of_b - of_a  # in two factors, for 2^back itself may overflow or vanish where the result does not
    half = np.floor(back / 2)
    halves = np.exp2(half), np.exp2(back - half)

    gelsy, query = get_lapack_funcs(("gelsy", "gelsy_lwork"), dtype=a.dtype)
    cutoff = max(rtol, float(np.finfo(a.dtype).tiny))
    size, _ = query(m, n, r, cutoff)
    work = int(np.nextafter(a.real.dtype.type(size.real), np.inf))  # a float32 may have been rounded down
    columns_a, columns_b = _aligned((n, m), a.dtype), _aligned((r, max(m, n)), a.dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        for i in np.ndindex(a.shape[:-2]):
            if not finite[i]:
                continue
            np.multiply(a[i].T, down_a[i], out=columns_a)
            np.multiply(b[i].T, down_b[i].T, out=columns_b[:, :m])
            _, found, _, _, info = gelsy(
                columns_a.T, columns_b.T, np.zeros(n, np.int32), cutoff, work, overwrite_a=1, overwrite_b=1
            )
            if info:
                raise ValueError(f"LAPACK's gelsy refuses its argument {-info}")
            np.multiply(found[:n], halves[0][i], out=x[i])
            x[i] *= halves[1][i]
    return x


def _exponents(x: _Array, axis: int | tuple[int, int]) -> _Array:
    """⌊log₂⌋ of the largest part along axes that are kept, within what 2^±e can be; NaN where one is not finite."""
    parts = (x.real, x.imag) if np.iscomplexobj(x) else (x,)
    ends = [np.max(part, axis=axis, keepdims=True) for part in parts]
    ends += [-np.min(part, axis=axis, keepdims=True) for part in parts]
    top = np.maximum.reduce(ends)  # NaN where an entry is
    limit = -float(np.finfo(x.dtype).minexp)
    exponent = np.clip(np.frexp(top)[1] - 1.0, -limit, limit).astype(top.dtype)
    return np.where(np.isfinite(top), exponent, np.nan)


def _aligned(shape: tuple[int, int], dtype: np.dtype[Any]) -> _Array:
    """Memory at a multiple of 64 bytes, which the last bits of vectorised sums may depend on."""
    raw = np.empty(shape[0] * shape[1] * dtype.itemsize + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : raw.size - 64 + start].view(dtype).reshape(shape)
