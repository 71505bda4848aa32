"""Systems of equations, by what each array library has for them.

As in :mod:`~nystrom_numerics.backend`, whatever is particular to one library stands here.
"""

from __future__ import annotations

import array_api_compat
import numpy as np

from nystrom_numerics.backend import Array, Namespace, device_of

__all__ = ["by_root", "least_squares", "ridge_solve", "solve_lower", "solve_square"]


def solve_lower(lower: Array, rows: Array) -> Array:
    r"""The rows x of :math:`X L^T = B`, for a lower triangular L (m, m) and B ``rows`` (..., m).

    Triangular substitution where the library has one (SciPy's for NumPy and CuPy's, Torch's); the
    standard has none, and a general solve takes its place.
    """
    xp = array_api_compat.array_namespace(rows)
    if isinstance(rows, np.ndarray):
        from scipy.linalg import solve_triangular

        return solve_triangular(lower, rows.T, lower=True, check_finite=False).T
    if array_api_compat.is_torch_array(rows):
        import torch

        return torch.linalg.solve_triangular(lower.mT, rows, upper=True, left=False)
    if array_api_compat.is_cupy_array(rows):
        from cupyx.scipy.linalg import solve_triangular as on_device  # type: ignore[import-not-found]

        return on_device(lower, rows.T, lower=True, check_finite=False).T
    return xp.matrix_transpose(xp.linalg.solve(lower, xp.matrix_transpose(rows)))


def least_squares(xp: Namespace, a: Array, b: Array, rtol: float) -> Array | None:
    """A⁺B of one batch by LAPACK's ``gelsy`` on the host (see :mod:`~nystrom_numerics.lapack`), or ``None`` elsewhere.

    NumPy arrays and CPU tensors are served by the same code, so that they have the same bits.  Torch's own
    ``lstsq`` is not used: it hands ``gelsy`` uninitialised memory for the columns to be moved to the front (``jpvt``),
    and the pivots of one matrix of a batch for the next.  Others, Torch and CuPy on a GPU included, have none.
    """
    if array_api_compat.is_numpy_array(a):
        from nystrom_numerics import lapack

        return lapack.least_squares(a, b, rtol)
    if array_api_compat.is_torch_array(a) and a.device.type == "cpu":
        from nystrom_numerics.torch_lapack import least_squares as of_tensors

        return of_tensors(a, b, rtol)
    return None


def solve_square(xp: Namespace, a: Array, b: Array) -> Array:
    """A⁻¹B of one batch by elimination; NaN for an item whose elimination meets a zero pivot.

    NumPy refuses the whole batch for one such item, which is then solved item by item.
    """
    if array_api_compat.is_torch_array(a):
        import torch

        x, info = torch.linalg.solve_ex(a, b)
        return torch.where(info[..., None, None] == 0, x, torch.nan)
    try:
        return xp.linalg.solve(a, b)
    except np.linalg.LinAlgError:
        if a.ndim == 2:
            return xp.full_like(b, xp.nan)
        return xp.stack([solve_square(xp, a[i, ...], b[i, ...]) for i in range(a.shape[0])])


def ridge_solve(xp: Namespace, gram: Array, strength: float, b: Array) -> Array:
    """(G + λI)⁻¹B for symmetric positive semidefinite G, of one batch.

    NaN for an item that has NaN, overflows, or is not positive definite to rounding.  By Cholesky's factorisation
    through SciPy, matrix by matrix, for NumPy, and in Torch, without waiting for the device; by elimination in others.
    """
    if array_api_compat.is_torch_array(gram):
        import torch

        unit = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
        gram = gram.add(unit, alpha=strength)  # in place it is the one write that ONNX's exporter cannot undo
        factor, failed = torch.linalg.cholesky_ex(gram)
        sound = (failed == 0) & factor.diagonal(dim1=-2, dim2=-1).sum(dim=-1).isfinite()
        factor = factor.where(sound[..., None, None], torch.nan)
        half = torch.linalg.solve_triangular(factor, b, upper=False)
        return torch.linalg.solve_triangular(factor.mT, half, upper=True)  # `cholesky_solve` waits for a GPU
    gram = gram + strength * xp.eye(gram.shape[-1], dtype=gram.dtype, device=device_of(gram))
    if array_api_compat.is_numpy_array(gram) and gram.size:
        flat_g, flat_b = (np.reshape(x, (-1, *x.shape[-2:])) for x in (gram, b))
        return np.reshape(
            np.stack([_cholesky_solve(g, y) for g, y in zip(flat_g, flat_b, strict=True)]), b.shape
        )
    return xp.linalg.solve(gram, b)


def by_root(xp: Namespace, gram: Array, rows: Array) -> Array:
    """Rows (..., d, r) by the inverse transpose of the Cholesky factor of a positive definite G (..., r, r).

    Nothing waits for a device.
    """
    if array_api_compat.is_torch_array(gram):
        import torch

        return torch.linalg.solve_triangular(
            torch.linalg.cholesky_ex(gram).L.mT, rows, upper=True, left=False
        )
    lower = xp.linalg.cholesky(gram)
    return xp.matrix_transpose(xp.linalg.solve(lower, xp.matrix_transpose(rows)))


def _cholesky_solve(g: np.ndarray, b: np.ndarray) -> np.ndarray:
    from scipy.linalg import LinAlgError, cho_factor, cho_solve

    try:
        factor = cho_factor(g, check_finite=False)
    except LinAlgError:
        return np.full_like(b, np.nan)
    if not np.isfinite(np.trace(factor[0])):
        return np.full_like(b, np.nan)
    solved: np.ndarray = cho_solve(factor, b, check_finite=False)
    return solved
