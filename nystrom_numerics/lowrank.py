r"""Low-rank factors built from landmarks: Nyström for PSD kernels, cross (CUR) for rectangular ones.

Neither holds more than its factors and a strip.  The core is truncated where rounding has taken over, so
dependent landmarks, duplicates among them, are harmless.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nystrom_numerics.backend import (
    Array,
    device_of,
    from_numpy,
    namespace,
    solve_lower,
    status_tells,
    to_numpy,
    unit_roundoff,
)
from nystrom_numerics.errors import NamespaceError, RangeError, ShapeError, Status
from nystrom_numerics.kernels import Index, Kernel, precomputed
from nystrom_numerics.landmarks import ColumnSubset, CrossSubset, LandmarkPoints, pivoted_cholesky
from nystrom_numerics.linalg import transpose

__all__ = [
    "CrossFactor",
    "NystromFactor",
    "NystromPreconditioner",
    "ResidualNorms",
    "SolveResult",
    "conjugate_gradients",
    "cross_factor",
    "cur_factor",
    "kernel_ridge",
    "nystrom_factor",
    "ready_cross",
    "residual_norms",
]


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
    """

    factor: Array
    landmarks: LandmarkPoints | ColumnSubset
    kept: Array
    triangle: Array
    residual: Array | None
    entries: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.factor.shape[0], self.factor.shape[0]

    @property
    def rank(self) -> int:
        return int(self.factor.shape[1])

    def apply(self, v: Array, /) -> Array:
        r""":math:`\hat A v` for v (n,) or (n, c); 2nrc multiplications."""
        _require_rows("v", v, self.factor.shape[0])
        return self.factor @ (transpose(self.factor) @ v)

    def diagonal(self) -> Array:
        r"""The diagonal of :math:`\hat A`, shape (n,); nr multiplications."""
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
        r"""Eigenvalues (r,) of :math:`\hat A`, descending, and orthonormal eigenvectors (n, r).

        Cost: a QR factorisation of F and an SVD of its triangle; an eigenvalue errs by some uλ₁ at most.
        """
        xp = namespace(f=self.factor)
        if self.rank == 0:
            return self.factor[0, :], self.factor
        q, r = xp.linalg.qr(self.factor)
        left, singular, _ = xp.linalg.svd(r, full_matrices=False)
        return singular * singular, q @ left

    def solve(self, b: Array, ridge: float, /) -> Array:
        r""":math:`(\hat A + \mu I)^{-1}b` for b (n,) or (n, c), by the identity of Woodbury.

        .. math:: \tfrac1\mu\bigl(b - F(F^TF + \mu I)^{-1}F^Tb\bigr)

        Raises
        ------
        RangeError, ShapeError
            The ridge μ is not positive, or ``b`` has another number of rows than n.

        Notes
        -----
        Cost: nr² + 4nrc multiplications, one eigendecomposition r × r.  The difference loses digits for
        λ₁/μ large, and one step of refinement wins them back.
        """
        _require_ridge(ridge)
        _require_rows("b", b, self.factor.shape[0])
        xp = namespace(f=self.factor, b=b)
        f = self.factor
        values, vectors = _gram_spectrum(f)
        rotated = f @ vectors
        column = b if b.ndim == 2 else b[:, None]

        def once(right: Array) -> Array:
            inner = (transpose(rotated) @ right) / (values + ridge)[:, None]
            return (right - rotated @ inner) / ridge

        x = once(column)
        x = x + once(column - ridge * x - f @ (transpose(f) @ x))
        return x if b.ndim == 2 else xp.reshape(x, (-1,))

    def coefficients(self, y: Array, ridge: float, /) -> Array:
        r"""Weights w of ridge regression on the features F: :math:`(F^TF + \mu I)^{-1}F^Ty`.

        Predictions are ``factor.features(kernel, x) @ w``.  Raises what :meth:`solve` raises.
        """
        _require_ridge(ridge)
        _require_rows("y", y, self.factor.shape[0])
        values, vectors = _gram_spectrum(self.factor)
        right = transpose(self.factor) @ (y if y.ndim == 2 else y[:, None])
        w = vectors @ ((transpose(vectors) @ right) / (values + ridge)[:, None])
        return w if y.ndim == 2 else w[:, 0]

    def features(self, kernel: Kernel, x: Array, /) -> Array:
        r"""The rows of F that points ``x`` (l, d) would have, shape (l, r); lr kernel entries.

        Raises NamespaceError for a kernel that knows no points.
        """
        xp = namespace(f=self.factor, x=x)
        if kernel.points is None:
            raise NamespaceError("kernel", "given by its matrix", "points, to compare new ones with")
        z = self.landmarks.gather(kernel.points)
        return solve_lower(self.triangle, kernel.between(x, xp.take(z, self.kept, axis=0)))

    def preconditioner(self, ridge: float, /) -> NystromPreconditioner:
        r"""The Nyström preconditioner for :math:`A + \mu I`; cost that of :meth:`eigendecomposition`.

        Raises RangeError for a ridge that is not positive.
        """
        _require_ridge(ridge)
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
    """

    vectors: Array
    weights: Array

    def apply(self, b: Array, /) -> Array:
        """P⁻¹ b for b (n,) or (n, c); 2nrc multiplications."""
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
    kernel.require_symmetric()
    before = kernel.entries
    xp = namespace(kernel=kernel.like)
    if isinstance(landmarks, ColumnSubset) and landmarks.factor is not None:
        triangle = xp.take(landmarks.factor, landmarks.indices, axis=0)
        kept = xp.arange(triangle.shape[0], dtype=xp.int64, device=device_of(kernel.like))
        return NystromFactor(landmarks.factor, landmarks, kept, triangle, landmarks.residual, 0)

    core, evaluate = _core(xp, kernel, landmarks)
    n = kernel.shape[0]
    kept, triangle = _pivots(xp, core, rtol)
    rank = int(kept.shape[0])
    factor = xp.zeros((n, rank), dtype=kernel.dtype, device=device_of(kernel.like))
    if rank:
        for strip in kernel.strips(rank):
            factor[strip, :] = solve_lower(triangle, evaluate(strip, kept))
    residual = None
    if diagonal:
        # rounding alone makes it negative
        residual = xp.clip(kernel.diagonal() - xp.sum(factor * factor, axis=1), min=0.0)
    return NystromFactor(factor, landmarks, kept, triangle, residual, kernel.entries - before)


def _pivots(xp: Any, core: Array, rtol: float | None) -> tuple[Array, Array]:
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
        return kernel.block(indices, indices), lambda strip, kept: kernel.block(strip, xp.take(indices, kept))
    points = landmarks.points
    if points.ndim != 2:
        raise ShapeError("landmarks", f"of shape {tuple(points.shape)}", "shape (m, d); no batch")

    def evaluate(strip: slice, kept: Array) -> Array:
        return kernel.cross(xp.take(points, kept, axis=0), rows=strip)

    return kernel.between(points, points), evaluate


def _gram_spectrum(factor: Array) -> tuple[Array, Array]:
    xp = namespace(f=factor)
    gram = transpose(factor) @ factor
    values, vectors = xp.linalg.eigh((gram + transpose(gram)) / 2)
    return xp.clip(values, min=0.0), vectors


def _require_ridge(ridge: float) -> None:
    if not 0 < ridge < float("inf"):
        raise RangeError("ridge", f"{ridge}", "a positive number")


def _require_rows(name: str, x: Array, n: int) -> None:
    if x.ndim not in (1, 2) or x.shape[0] != n:
        raise ShapeError(name, f"of shape {tuple(x.shape)}", f"shape ({n},) or ({n}, columns)")


@dataclass(frozen=True, eq=False)
class CrossFactor:
    """A factorisation ``left @ right`` of a rectangular matrix, from some of its rows and columns.

    Attributes
    ----------
    left, right : array (n, r), (r, p)
    rows, columns : array (|I|,), (|J|,) of int64
    frobenius_residual : float or None
        Of the approximation, where the core was made from all entries.
    entries : int
        Kernel entries evaluated to build it, those of the choice of rows and columns not included.
    """

    left: Array
    right: Array
    rows: Array
    columns: Array
    frobenius_residual: float | None
    entries: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.left.shape[0], self.right.shape[1]

    @property
    def rank(self) -> int:
        return int(self.left.shape[1])

    def apply(self, v: Array, /) -> Array:
        """The product with v (p,) or (p, c); (n + p)rc multiplications."""
        _require_rows("v", v, self.right.shape[1])
        return self.left @ (self.right @ v)

    def apply_transpose(self, v: Array, /) -> Array:
        """The product of the transpose with v (n,) or (n, c)."""
        _require_rows("v", v, self.left.shape[0])
        return transpose(self.right) @ (transpose(self.left) @ v)

    def diagonal(self) -> Array:
        """The entries (i, i), shape (min(n, p),)."""
        xp = namespace(left=self.left)
        k = min(self.shape)
        return xp.sum(self.left[:k, :] * transpose(self.right)[:k, :], axis=1)

    def svd(self) -> tuple[Array, Array, Array]:
        """Thin singular value decomposition U (n, r), σ (r,) descending, Vᵀ (r, p); O((n + p)r²)."""
        xp = namespace(left=self.left)
        if self.rank == 0:
            return self.left, self.left[0, :], self.right
        q1, r1 = xp.linalg.qr(self.left)
        q2, r2 = xp.linalg.qr(transpose(self.right))
        u, s, vt = xp.linalg.svd(r1 @ transpose(r2), full_matrices=False)
        return q1 @ u, s, vt @ transpose(q2)


def cross_factor(kernel: Kernel, rows: Index, columns: Index, /, *, rtol: float | None = None) -> CrossFactor:
    r"""The cross approximation :math:`C W^+ R`, with C columns J, R rows I and :math:`W = A_{IJ}`.

    Parameters
    ----------
    kernel : Kernel
        Of shape (n, p).
    rows, columns : 1-D array of int
        I and J, :math:`|I| \ge |J|`; more rows than columns tame W⁺.
    rtol : float, optional
        Singular values of W of at most this times the largest are dropped; by default
        :math:`2u\max(|I|, |J|)`.

    Returns
    -------
    CrossFactor

    Raises
    ------
    DTypeError, NamespaceError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: n|J| + |I|p kernel entries.  With :math:`C = Q_CT` orthonormal, and J so that :math:`V_k(J,:)` is
    regular, :math:`\|A - CW^+R\|_2 \le \|Q_C(I,:)^+\|_2\|A - CC^+A\|_2`; exact where rank A = rank W.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import kernels, lowrank
    >>> a = np.outer([1.0, 2.0, 3.0], [4.0, 5.0, 6.0])
    >>> factor = lowrank.cross_factor(kernels.precomputed(a), [0, 2], [1])
    >>> bool(np.allclose(factor.apply(np.eye(3)), a))
    True
    """
    before, xp = kernel.entries, namespace(kernel=kernel.like)
    c, r, rows, columns = _crossing(xp, kernel, rows, columns, rtol)
    if r.shape[0] < c.shape[1]:
        raise RangeError("rows", f"{r.shape[0]} for {c.shape[1]} columns", "at least as many as the columns")
    u, s, vt = xp.linalg.svd(xp.take(c, rows, axis=0), full_matrices=False)
    rank = _count_above(xp, s, max(r.shape[0], c.shape[1]), rtol)
    left = c @ (transpose(vt)[:, :rank] / s[:rank][None, :])
    right = transpose(u[:, :rank]) @ r
    return CrossFactor(left, right, rows, columns, None, kernel.entries - before)


def cur_factor(kernel: Kernel, rows: Index, columns: Index, /, *, rtol: float | None = None) -> CrossFactor:
    r"""The best approximation with these rows and columns, :math:`C(C^+AR^+)R`, where all entries may be
    read.

    Parameters, result and errors are those of :func:`cross_factor`; any numbers of rows and columns.

    Notes
    -----
    Cost: np + n|J| + |I|p kernel entries in strips, memory n|J| + |I|p.  With Q and P orthonormal bases of C
    and Rᵀ it is :math:`QQ^TAPP^T`, so :math:`\|A - CUR\|_F^2 = \|A\|_F^2 - \|Q^TAP\|_F^2` comes free, to some
    :math:`\sqrt u\|A\|_F`.  With DEIM rows and columns the spectral error is at most
    :math:`(\eta_p + \eta_q)\sigma_{k+1}` (Sorensen and Embree 2016, Theorem 4.1).
    """
    before, xp = kernel.entries, namespace(kernel=kernel.like)
    c, r, rows, columns = _crossing(xp, kernel, rows, columns, rtol)
    q, p = _range(xp, c, rtol), _range(xp, transpose(r), rtol)
    core = xp.zeros((q.shape[1], p.shape[1]), dtype=kernel.dtype, device=device_of(kernel.like))
    square = 0.0
    for strip in kernel.strips(kernel.shape[1]):
        part = kernel.block(strip, slice(None))
        core = core + transpose(q[strip, :]) @ (part @ p)
        square += float(xp.sum(part * part, dtype=xp.float64))
    captured = float(xp.sum(core * core, dtype=xp.float64))
    residual = max(0.0, square - captured) ** 0.5
    return CrossFactor(q @ core, transpose(p), rows, columns, residual, kernel.entries - before)


def ready_cross(subset: CrossSubset, /) -> CrossFactor:
    """The factor that adaptive cross approximation comes with; no kernel entries."""
    return CrossFactor(subset.left, subset.right, subset.rows, subset.columns, None, 0)


def _crossing(
    xp: Any, kernel: Kernel, rows: Index, columns: Index, rtol: float | None
) -> tuple[Array, Array, Array, Array]:
    if rtol is not None and not 0 <= rtol < 1:
        raise RangeError("rtol", f"{rtol}", "a number in [0, 1)")
    c, r = kernel.columns(columns), kernel.rows(rows)
    for name, count in (("rows", r.shape[0]), ("columns", c.shape[1])):
        if not count:
            raise ShapeError(name, "empty", "one index at least")
    device = device_of(kernel.like)
    return c, r, *(xp.asarray(index, dtype=xp.int64, device=device) for index in (rows, columns))


def _count_above(xp: Any, singular: Array, size: int, rtol: float | None) -> int:
    level = 2 * unit_roundoff(xp, singular.dtype) * size if rtol is None else rtol
    return int(xp.count_nonzero(singular > level * singular[0]))


def _range(xp: Any, c: Array, rtol: float | None) -> Array:
    """An orthonormal basis of what C spans beyond rounding."""
    q, r = xp.linalg.qr(c)
    u, s, _ = xp.linalg.svd(r, full_matrices=False)
    return q @ u[:, : _count_above(xp, s, max(c.shape), rtol)]


@dataclass(frozen=True)
class ResidualNorms:
    """What an approximation leaves: trace (square matrices only), Frobenius norm, largest entry, entries
    read."""

    trace: float | None
    frobenius: float
    largest: float
    entries: int


def residual_norms(kernel: Kernel, factor: NystromFactor | CrossFactor, /) -> ResidualNorms:
    """Exact norms of the residual, by strips: np kernel entries, memory one strip.

    Raises ShapeError for a factor of another shape than the kernel.
    """
    if kernel.shape != factor.shape:
        raise ShapeError("factor", f"of shape {factor.shape}", f"the kernel's, {kernel.shape}")
    xp, before = namespace(kernel=kernel.like), kernel.entries
    nystrom = isinstance(factor, NystromFactor)
    left = factor.factor if isinstance(factor, NystromFactor) else factor.left
    right = transpose(factor.factor) if isinstance(factor, NystromFactor) else factor.right
    trace, square, largest = 0.0, 0.0, 0.0
    for strip in kernel.strips(kernel.shape[1]):
        part = kernel.block(strip, slice(None)) - left[strip, :] @ right
        square += float(xp.sum(part * part, dtype=xp.float64))
        largest = max(largest, float(xp.max(xp.abs(part))))
        if nystrom or kernel.symmetric:
            trace += float(xp.sum(xp.linalg.diagonal(part[:, strip]), dtype=xp.float64))
    known = trace if kernel.symmetric else None
    return ResidualNorms(known, square**0.5, largest, kernel.entries - before)


@dataclass(frozen=True, eq=False)
class SolveResult:
    r"""A solution by an iteration, with its story, per right-hand side.

    Attributes
    ----------
    value : array (n,) or (n, c)
    residual : array () or (c,)
        :math:`\|b - Ax\|_2/\|b\|_2`, computed anew at the end.
    iterations : array () or (c,) of int64
    codes : array () or (c,) of int64
        The :class:`~nystrom_numerics.errors.Status` of each.
    """

    value: Array
    residual: Array
    iterations: Array
    codes: Array

    @property
    def status(self) -> Status:
        """The worst status (synchronises with the device)."""
        codes = to_numpy(self.codes)
        return Status(int(codes.max())) if codes.size else Status.CONVERGED


@status_tells
def conjugate_gradients(
    apply: Callable[[Array], Array],
    b: Array,
    /,
    *,
    precondition: Callable[[Array], Array] | None = None,
    tol: float = 1e-6,
    iterations: int = 1000,
    check_every: int = 1,
) -> SolveResult:
    r"""Preconditioned conjugate gradients for a symmetric positive definite A, all right-hand sides at once.

    Parameters
    ----------
    apply : callable
        v (n, c) to A v.
    b : array (n,) or (n, c)
    precondition : callable, optional
        v (n, c) to P⁻¹ v, symmetric positive definite, such as ``factor.preconditioner(ridge).apply``.
    tol : float
        Above 0: a right-hand side stops where the residual of the recurrence is at most tol‖b‖₂.
    iterations : int
        At most, at least 0.
    check_every : int
        Iterations between looks at the residuals, each one synchronisation with the device.

    Returns
    -------
    SolveResult
        ``STAGNATED``: A or P was met as not positive definite, or the recurrence met ``tol`` and the true
        residual exceeds it tenfold; ``MAX_ITERATIONS`` and ``NON_FINITE`` as their names say.

    Raises
    ------
    RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: one product an iteration, and one at the end.  Error in the A-norm after j iterations: at most
    :math:`2((\sqrt\kappa - 1)/(\sqrt\kappa + 1))^j` times the first.  Source: Golub and Van Loan, Algorithm
    11.5.1.
    """
    if not tol > 0:
        raise RangeError("tol", f"{tol}", "a number above 0")
    if iterations < 0:
        raise RangeError("iterations", f"{iterations}", "an integer of at least 0")
    if check_every < 1:
        raise RangeError("check_every", f"{check_every}", "an integer of at least 1")
    xp = namespace(b=b)
    _require_rows("b", b, b.shape[0] if b.ndim else 0)
    right = b if b.ndim == 2 else b[:, None]

    def inner(x: Array, y: Array) -> Array:
        return xp.sum(x * y, axis=0)

    size = xp.sqrt(inner(right, right))
    x, r = xp.zeros_like(right), right
    z = r if precondition is None else precondition(r)
    p, rz = z, inner(r, z)
    active = size > 0
    broken = active & ~(rz > 0)
    active = active & ~broken
    steps = xp.zeros(size.shape, dtype=xp.int64, device=device_of(b))
    for taken in range(iterations):
        if taken % check_every == 0 and not bool(xp.any(active)):
            break
        ap = apply(p)
        curvature = inner(p, ap)
        lost = active & ~(curvature > 0)  # NaN counts as lost
        broken, active = broken | lost, active & ~lost
        one = xp.ones_like(rz)
        alpha = xp.where(active, rz / xp.where(active, curvature, one), 0 * one)
        alpha = xp.where(active, alpha, xp.zeros_like(alpha))
        x = xp.where(active[None, :], x + alpha[None, :] * p, x)
        r = xp.where(active[None, :], r - alpha[None, :] * ap, r)
        steps = steps + xp.astype(active, xp.int64)
        active = active & (xp.sqrt(inner(r, r)) > tol * size)
        z = r if precondition is None else precondition(r)
        rz_next = inner(r, z)
        lost = active & ~(rz_next > 0)
        broken, active = broken | lost, active & ~lost
        beta = xp.where(active, rz_next / xp.where(rz > 0, rz, one), 0 * one)
        p = xp.where(active[None, :], z + beta[None, :] * p, xp.zeros_like(p))
        rz = rz_next
    true = right - apply(x)
    residual = xp.sqrt(inner(true, true)) / xp.where(size > 0, size, xp.ones_like(size))
    codes = xp.where(active, steps * 0 + int(Status.MAX_ITERATIONS), int(Status.CONVERGED))
    codes = xp.where(broken | (~active & (residual > 10 * tol)), int(Status.STAGNATED), codes)
    codes = xp.where(xp.isfinite(residual), codes, int(Status.NON_FINITE))
    parts = (x, residual, steps, codes)
    return SolveResult(*(parts if b.ndim == 2 else (part[..., 0] for part in parts)))


def kernel_ridge(
    kernel: Kernel,
    y: Array,
    ridge: float,
    /,
    *,
    factor: NystromFactor | None = None,
    tol: float = 1e-6,
    iterations: int = 1000,
    check_every: int = 1,
) -> SolveResult:
    r"""Kernel ridge regression: α of :math:`(A + \mu I)\alpha = y` by conjugate gradients.

    Parameters
    ----------
    kernel : Kernel
        Symmetric PSD, of n points.
    y : array (n,) or (n, c)
    ridge : float
        μ, above 0.
    factor : NystromFactor, optional
        Makes the preconditioner; without it there is none.
    tol, iterations, check_every
        As in :func:`conjugate_gradients`, whose result and errors these are too.

    Notes
    -----
    Cost: n² kernel entries an iteration, by strips; memory one strip and the factor.  Predictions at points x
    are ``kernel.cross(x).T @ alpha``.  Source: Frangella, Tropp and Udell 2023, §5; with randomly pivoted
    Cholesky, Díaz, Epperly, Frangella, Tropp and Webber 2023.
    """
    kernel.require_symmetric()
    _require_ridge(ridge)
    _require_rows("y", y, kernel.shape[0])
    precondition = None if factor is None else factor.preconditioner(ridge).apply
    return conjugate_gradients(
        lambda v: kernel.apply(v) + ridge * v,
        y,
        precondition=precondition,
        tol=tol,
        iterations=iterations,
        check_every=check_every,
    )
