"""The Nyström approximation of a PSD kernel: its factor, solves with a ridge, and its preconditioner."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nystrom_numerics.arguments import (
    require_count,
    require_flag,
    require_indices,
    require_positive,
    require_tolerance,
)
from nystrom_numerics.backend import (
    Array,
    device_of,
    floating,
    from_numpy,
    namespace,
    require_finite,
    require_held,
    require_matrix,
    to_numpy,
    unit_roundoff,
)
from nystrom_numerics.brief import brief
from nystrom_numerics.errors import NamespaceError, RangeError, ShapeError
from nystrom_numerics.kernels import Kernel, precomputed
from nystrom_numerics.kernels.arguments import require_kernel
from nystrom_numerics.landmarks import ColumnSubset, LandmarkPoints, pivoted_cholesky
from nystrom_numerics.landmarks.result import require_found, require_positions
from nystrom_numerics.linalg import transpose
from nystrom_numerics.lowrank.arguments import require_rows
from nystrom_numerics.solves import solve_lower

__all__ = ["NystromFactor", "NystromPreconditioner", "core_pivots", "nystrom_factor"]


@dataclass(frozen=True, eq=False)
class NystromFactor:
    r"""The Nyström approximation :math:`\hat A = A_{XZ}A_{ZZ}^+A_{ZX} = FF^T` for landmarks Z.

    Attributes
    ----------
    factor : array (n, r)
        F.
    landmarks : LandmarkPoints or ColumnSubset
        Those it was built from.
    kept : array (r,) of int64
        Which of the landmarks the core kept, in the order of its pivots.
    triangle : array (r, r)
        The Cholesky factor of the core of the kept landmarks, lower triangular.
    residual : array (n,) or None
        The diagonal of the residual, where it is known.
    entries : int
        Kernel entries evaluated to build it, those of the landmark rule not included.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import kernels, landmarks, lowrank
    >>> kernel = kernels.gaussian(np.random.default_rng(0).standard_normal((100, 2)), gamma=0.1)
    >>> factor = lowrank.nystrom_factor(kernel, landmarks.rpcholesky(kernel, 20))
    >>> factor.apply(np.ones(100)).shape, factor.diagonal().shape, factor.eigendecomposition()[0].shape
    ((100,), (100,), (20,))
    >>> x = factor.solve(np.ones(100), 0.1)
    >>> bool(np.allclose(factor.apply(x) + 0.1 * x, 1.0))
    True
    """

    factor: Array
    landmarks: LandmarkPoints | ColumnSubset
    kept: Array
    triangle: Array
    residual: Array | None
    entries: int

    __repr__ = brief

    def __post_init__(self) -> None:
        require_found("landmarks", self.landmarks)
        require_positions(kept=self.kept)
        xp = namespace(factor=self.factor, kept=self.kept, triangle=self.triangle, residual=self.residual)
        floating(xp, factor=self.factor, triangle=self.triangle)
        n, r = self.factor.shape if self.factor.ndim == 2 else (0, 0)
        if not n:
            raise ShapeError("factor", f"of shape {tuple(self.factor.shape)}", "shape (n, r)")
        shapes = {"kept": (self.kept, (r,)), "triangle": (self.triangle, (r, r))}
        if self.residual is not None:
            floating(xp, residual=self.residual)
            shapes["residual"] = (self.residual, (n,))
        for name, (x, shape) in shapes.items():
            if tuple(x.shape) != shape:
                needs = f"{shape}, for `factor` of shape {(n, r)}"
                raise ShapeError(name, f"of shape {tuple(x.shape)}", needs)
        require_count("entries", self.entries, 0)

    @property
    def shape(self) -> tuple[int, int]:
        return self.factor.shape[0], self.factor.shape[0]

    @property
    def rank(self) -> int:
        return int(self.factor.shape[1])

    def apply(self, v: Array, /) -> Array:
        r"""The product :math:`\hat A v`; 2nrc multiplications.

        Parameters
        ----------
        v : array (n,) or (n, c)

        Returns
        -------
        array (n,) or (n, c)

        Raises
        ------
        DTypeError, DeviceError, NamespaceError, ShapeError
            Naming the argument.
        """
        require_rows("v", v, self.factor.shape[0], factor=self.factor)
        return self.factor @ (transpose(self.factor) @ v)

    def diagonal(self) -> Array:
        r"""The diagonal of :math:`\hat A`; nr multiplications.

        Returns
        -------
        array (n,)
        """
        return namespace(f=self.factor).sum(self.factor * self.factor, axis=1)

    @property
    def trace_residual(self) -> float | None:
        r""":math:`\mathrm{tr}(A - \hat A)`, which bounds every unitarily invariant norm of the residual.

        ``None`` where the diagonal of A was not evaluated.
        """
        if self.residual is None:
            return None
        xp = namespace(residual=self.residual)
        return float(xp.sum(self.residual, dtype=xp.float64))

    @property
    def frobenius_residual(self) -> tuple[float, float] | None:
        r"""Where :math:`\|A - \hat A\|_F` lies: from :math:`(\sum_i R_{ii}^2)^{1/2}` to tr R, for R ⪰ 0.

        Free with the residual diagonal; the norm itself is in :func:`residual_norms`, for n² entries.
        """
        if self.residual is None:
            return None
        xp = namespace(residual=self.residual)
        wide = xp.astype(self.residual, xp.float64)
        return float(xp.sqrt(xp.sum(wide * wide))), float(xp.sum(wide))

    def eigendecomposition(self) -> tuple[Array, Array]:
        r"""The eigendecomposition of :math:`\hat A`.

        Returns
        -------
        values : array (r,)
            Descending; each errs by some uλ₁ at most.
        vectors : array (n, r)
            Orthonormal.

        Notes
        -----
        Cost: a QR factorisation of F and an SVD of its triangle.
        """
        vectors, singular, _ = self._svd()
        return singular * singular, vectors

    def _svd(self) -> tuple[Array, Array, Array]:
        """U (n, r), σ (r,) descending, Vᵀ (r, r) of F."""
        xp = namespace(f=self.factor)
        if self.rank == 0:
            return self.factor, self.factor[0, :], self.triangle
        q, r = xp.linalg.qr(self.factor)
        left, singular, right = xp.linalg.svd(r, full_matrices=False)
        return q @ left, singular, right

    def _ridge(self, ridge: float) -> float:
        xp = namespace(f=self.factor)
        return require_held(xp, "ridge", require_positive("ridge", ridge), self.factor.dtype, divides=True)

    def solve(self, b: Array, ridge: float, /) -> Array:
        r""":math:`x = (\hat A + \mu I)^{-1}b` for b (n,) or (n, c), by the eigenvectors U of Â.

        .. math:: U(\Lambda + \mu I)^{-1}U^Tb + \tfrac1\mu(b - UU^Tb)

        Parameters
        ----------
        b : array (n,) or (n, c)
        ridge : float
            μ, above 0 and a normal number of the dtype.

        Returns
        -------
        array (n,) or (n, c)

        Raises
        ------
        RangeError, ShapeError
            The ridge μ is not positive, or not a normal number of the dtype; ``b`` has not n rows.

        Notes
        -----
        Cost: that of :meth:`eigendecomposition` and 6nrc multiplications.  Backward stable for every μ: the residual
        is some :math:`u(\|\hat A\|\|x\| + \|b\|)`, so x errs by some uκ, κ = 1 + λ₁/μ.

        What rounding, ε‖b‖, leaves along U in :math:`p = b - UU^Tb` would come out :math:`\lambda/\mu` times too large,
        so that p is projected again.  Where that takes less than half of it, what is left along U is at most 2ε‖p‖,
        and λ/μ times that is within :math:`2\varepsilon\lambda\|x\|` in the residual.  Where it takes more, p was
        mostly rounding and below 2ε‖b‖: zero in its place costs the residual no more.
        """
        ridge = self._ridge(ridge)
        require_rows("b", b, self.factor.shape[0], factor=self.factor)
        xp = namespace(f=self.factor, b=b)
        values, vectors = self.eigendecomposition()
        right = b if b.ndim == 2 else b[:, None]
        along = transpose(vectors) @ right
        rest = right - vectors @ along
        again = rest - vectors @ (transpose(vectors) @ rest)
        size, left = (xp.linalg.vector_norm(x, axis=0) for x in (rest, again))
        again = xp.where(left >= size / 2, again, xp.zeros_like(again))
        x = vectors @ (along / (values + ridge)[:, None]) + again / ridge
        return x if b.ndim == 2 else x[:, 0]

    def coefficients(self, y: Array, ridge: float, /) -> Array:
        r"""Weights w of ridge regression on the features F: :math:`(F^TF + \mu I)^{-1}F^Ty`.

        Predictions are ``factor.features(kernel, x) @ w``.

        Parameters
        ----------
        y : array (n,) or (n, c)
        ridge : float
            μ, as in :meth:`solve`.

        Returns
        -------
        array (r,) or (r, c)

        Raises
        ------
        RangeError, ShapeError
            As :meth:`solve`.

        Notes
        -----
        Cost: that of :meth:`eigendecomposition` and 2nrc multiplications.
        """
        ridge = self._ridge(ridge)
        require_rows("y", y, self.factor.shape[0], factor=self.factor)
        u, singular, vt = self._svd()
        along = transpose(u) @ (y if y.ndim == 2 else y[:, None])
        w = transpose(vt) @ (along * (singular / (singular * singular + ridge))[:, None])
        return w if y.ndim == 2 else w[:, 0]

    def features(self, kernel: Kernel, x: Array, /) -> Array:
        r"""The rows of F that new points would have; lr kernel entries.

        Parameters
        ----------
        kernel : Kernel
            The one that the factor is of.
        x : array (l, d)

        Returns
        -------
        array (l, r)

        Raises
        ------
        DTypeError, NamespaceError, ShapeError
            Naming the argument; the second also for a kernel that knows no points.
        """
        require_kernel(kernel)
        xp = namespace(f=self.factor, x=x)
        floating(xp, x=x)
        require_matrix("x", x)
        if kernel.points is None:
            raise NamespaceError("kernel", "given by its matrix", "points, to compare new ones with")
        z = self.landmarks.gather(kernel.points)
        return solve_lower(self.triangle, kernel.between(x, xp.take(z, self.kept, axis=0)))

    def preconditioner(self, ridge: float, /) -> NystromPreconditioner:
        r"""The Nyström preconditioner for :math:`A + \mu I`; cost that of :meth:`eigendecomposition`.

        Parameters
        ----------
        ridge : float
            μ, above 0 and a normal number of the dtype.

        Returns
        -------
        NystromPreconditioner

        Raises
        ------
        RangeError
            Naming the argument.
        """
        ridge = self._ridge(ridge)
        values, vectors = self.eigendecomposition()
        least = values[-1:] if self.rank else values
        return NystromPreconditioner(vectors, (least + ridge) / (values + ridge) - 1)


@dataclass(frozen=True, eq=False)
class NystromPreconditioner:
    r""":math:`P^{-1} = (\hat\lambda_r + \mu)U(\hat\Lambda + \mu I)^{-1}U^T + I - UU^T`.

    For A = Â + E with 0 ⪯ E the condition number of :math:`P^{-1/2}(A + \mu I)P^{-1/2}` is at most
    :math:`(\hat\lambda_r + \mu + \|E\|_2)/\mu`.  Source: Frangella, Tropp and Udell 2023, eq. (5.3) and
    Proposition 5.3, of which this is the part derived anew.

    Attributes
    ----------
    vectors : array (n, r)
        U.
    weights : array (r,)
        The eigenvalues of P⁻¹ on U, less 1.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import kernels, landmarks, lowrank
    >>> kernel = kernels.gaussian(np.random.default_rng(0).standard_normal((100, 2)), gamma=0.1)
    >>> p = lowrank.nystrom_factor(kernel, landmarks.rpcholesky(kernel, 20)).preconditioner(0.1)
    >>> shifted = kernel.rows(slice(None)) + 0.1 * np.eye(100)
    >>> values = np.linalg.eigvals(p.apply(shifted)).real
    >>> bool(np.linalg.cond(shifted) > 500), bool(values.max() / values.min() < 1.5)
    (True, True)
    """

    vectors: Array
    weights: Array

    __repr__ = brief

    def apply(self, b: Array, /) -> Array:
        """The product P⁻¹ b; 2nrc multiplications.

        Parameters
        ----------
        b : array (n,) or (n, c)

        Returns
        -------
        array (n,) or (n, c)

        Raises
        ------
        DTypeError, DeviceError, NamespaceError, ShapeError
            Naming the argument.
        """
        require_rows("b", b, self.vectors.shape[0], vectors=self.vectors)
        inner = transpose(self.vectors) @ b
        return b + self.vectors @ (inner * (self.weights if b.ndim == 1 else self.weights[:, None]))


def nystrom_factor(
    kernel: Kernel,
    landmarks: LandmarkPoints | ColumnSubset,
    /,
    *,
    rtol: float | None = None,
    diagonal: bool = False,
) -> NystromFactor:
    r"""The Nyström approximation of a PSD kernel from any landmarks.

    Parameters
    ----------
    kernel : Kernel
        Symmetric PSD, of n points.
    landmarks : LandmarkPoints or ColumnSubset
        Without a batch.  A subset that carries its Cholesky factor is used as it is.
    rtol : float, optional
        Where the core :math:`A_{ZZ}` is truncated: pivots of its Cholesky factorisation of at most this times
        its largest diagonal entry are dropped.  By default :math:`16u\sqrt m`.
    diagonal : bool
        Evaluate the diagonal of A, so that the residual's is known; n entries.

    Returns
    -------
    NystromFactor

    Raises
    ------
    IndefiniteError, NamespaceError, NonFiniteError, RangeError, ShapeError
        The core is not PSD, or naming the argument.

    Notes
    -----
    Cost: nr + m² kernel entries for m landmarks of numerical rank r, and nr² multiplications; none for a
    ready factor.  Memory nr and a strip.  A pivoted Cholesky factor of the core is used in place of its
    pseudoinverse: triangular substitution is backward stable row by row, where dividing by small
    eigenvalues is not.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import kernels, landmarks, lowrank
    >>> x = np.random.default_rng(0).standard_normal((200, 3))
    >>> kernel = kernels.gaussian(x, gamma=0.1)
    >>> factor = lowrank.nystrom_factor(kernel, landmarks.accelerated_rpcholesky(kernel, 40))
    >>> factor.rank, factor.entries, factor.trace_residual < 0.02 * 200
    (40, 0, True)
    """
    require_kernel(kernel)
    require_found("landmarks", landmarks)
    if rtol is not None:
        rtol = require_tolerance("rtol", rtol)
    require_flag("diagonal", diagonal)
    before, n = kernel.entries, kernel.shape[0]
    xp = namespace(kernel=kernel.like)
    if isinstance(landmarks, ColumnSubset) and landmarks.factor is not None:
        namespace(kernel=kernel.like, landmarks=landmarks.factor)
        if landmarks.factor.shape[0] != n:
            got = f"a subset with a factor of {landmarks.factor.shape[0]} rows"
            raise ShapeError("landmarks", got, f"one of the kernel's {n} points")
        triangle = xp.take(landmarks.factor, landmarks.indices, axis=0)
        kept = xp.arange(triangle.shape[0], dtype=xp.int64, device=device_of(kernel.like))
        return NystromFactor(landmarks.factor, landmarks, kept, triangle, landmarks.residual, 0)

    core, evaluate = _core(xp, kernel, landmarks)
    kept, triangle = core_pivots(xp, core, rtol)
    rank = int(kept.shape[0])
    factor = xp.zeros((n, rank), dtype=kernel.dtype, device=device_of(kernel.like))
    if rank:
        for strip in kernel.strips(rank):
            factor[strip, :] = solve_lower(triangle, evaluate(strip, kept))
    require_finite(xp, kernel=factor)
    residual = None
    if diagonal:
        # rounding alone makes it negative
        residual = xp.clip(kernel.diagonal() - xp.sum(factor * factor, axis=1), min=0.0)
        require_finite(xp, kernel=residual)
    return NystromFactor(factor, landmarks, kept, triangle, residual, kernel.entries - before)


def core_pivots(xp: Any, core: Array, rtol: float | None) -> tuple[Array, Array]:
    """The landmarks that a core (m, m) keeps, in the order of its pivots, and its Cholesky factor.

    LAPACK's greedy pivoting, on the host in float64; what it cannot judge goes to :func:`pivoted_cholesky`,
    which raises with the pivot or factorises step by step.
    """
    m = core.shape[0]
    if m == 0:
        return xp.zeros((0,), dtype=xp.int64, device=device_of(core)), core
    level = 16 * unit_roundoff(xp, core.dtype) * m**0.5 if rtol is None else rtol
    host = to_numpy(core).astype(np.float64)
    floor = level * float(host.diagonal().max())
    if 0 < level < 1 and floor > 0 and np.isfinite(host).all() and np.abs(host - host.T).max() <= 64 * floor:
        from scipy.linalg.lapack import dpstrf

        packed, order, rank, _ = dpstrf(host, tol=floor, lower=1)
        lower = np.tril(packed[:, :rank])
        left = host.diagonal()[order[rank:] - 1] - (lower[rank:] ** 2).sum(axis=1)
        if left.min(initial=0.0) >= -64 * floor:
            kept = from_numpy(xp, (order[:rank] - 1).astype(np.int64), core)
            return kept, xp.astype(from_numpy(xp, lower[:rank], core), core.dtype)
    found = pivoted_cholesky(precomputed(core), m, rtol=rtol)
    return found.indices, xp.take(found.factor, found.indices, axis=0)


def _core(
    xp: Any, kernel: Kernel, landmarks: LandmarkPoints | ColumnSubset
) -> tuple[Array, Callable[[slice, Array], Array]]:
    """The entries among the landmarks, and those of a strip of rows with some of them."""
    if landmarks.valid is not None and not bool(xp.all(landmarks.valid)):
        raise RangeError("landmarks", "a set of which some are not valid", "landmarks that all exist")
    if isinstance(landmarks, ColumnSubset):
        indices = landmarks.indices
        if indices.ndim != 1:
            raise ShapeError("landmarks", f"of shape {tuple(indices.shape)}", "shape (m,); no batch")
        if isinstance(indices, np.ndarray):
            require_indices("landmarks", indices, kernel.shape[0])
        namespace(kernel=kernel.like, landmarks=indices)
        return kernel.block(indices, indices), lambda strip, kept: kernel.block(strip, xp.take(indices, kept))
    points = landmarks.points
    namespace(kernel=kernel.like, landmarks=points)
    if points.ndim != 2:
        raise ShapeError("landmarks", f"of shape {tuple(points.shape)}", "shape (m, d); no batch")
    if kernel.points is not None and points.shape[1] != kernel.points.shape[1]:
        needs = f"that of the kernel's points, {kernel.points.shape[1]}"
        raise ShapeError("landmarks", f"of width {points.shape[1]}", needs)

    def evaluate(strip: slice, kept: Array) -> Array:
        return kernel.cross(xp.take(points, kept, axis=0), rows=strip)

    return kernel.between(points, points), evaluate
