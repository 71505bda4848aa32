"""The Nyström feature map and kernel ridge regression as estimators, of Dask arrays and dataframes or of NumPy arrays.

Names, attributes and checks are scikit-learn's, laziness is that of dask-ml: ``fit`` computes what it learns, and
what ``transform`` and ``predict`` give for a collection of Dask's is one.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from numbers import Integral, Real
from typing import Any

import dask.array as da
import dask.dataframe as dd
import numpy as np
from scipy.linalg import solve_triangular
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    MultiOutputMixin,
    RegressorMixin,
    TransformerMixin,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array, check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils._set_output import _get_output_config, _wrap_data_with_container
from sklearn.utils.validation import _check_feature_names, check_is_fitted, validate_data

from nystrom_numerics import kernels
from nystrom_numerics.arguments import (
    require_count,
    require_indices,
    require_number,
    require_points,
    require_positive,
)
from nystrom_numerics.backend import require_finite
from nystrom_numerics.errors import DTypeError, RangeError, ShapeError, Status
from nystrom_numerics.integrations.dask import landmarks as rules
from nystrom_numerics.integrations.dask.chunks import (
    as_points,
    is_chunked,
    require_room_on_workers,
)
from nystrom_numerics.integrations.dask.factor import nystrom_factor
from nystrom_numerics.integrations.dask.kernel import ChunkedKernel, KernelMaker, chunked_kernel, strips_of
from nystrom_numerics.integrations.dask.ridge import falkon, normal_equations
from nystrom_numerics.landmarks import ColumnSubset, LandmarkPoints
from nystrom_numerics.landmarks.result import require_found
from nystrom_numerics.linalg import inverse_root

__all__ = ["KernelRidge", "Nystroem"]

KERNELS: dict[str, tuple[str, ...]] = {
    "linear": (),
    "poly": ("gamma", "degree", "coef0"),
    "polynomial": ("gamma", "degree", "coef0"),
    "laplacian": ("gamma",),
    "rbf": ("gamma",),
}
"""Kernels by scikit-learn's names, and the options of each."""

RULES: dict[str, Callable[..., Any]] = {
    "kmeans": lambda kernel, m, rng: rules.kmeans(kernel.x, m, rng=rng),
    "ridge_leverage": rules.ridge_leverage,
    "accelerated_rpcholesky": rules.accelerated_rpcholesky,
}
"""Those of :data:`nystrom_numerics.landmarks.RULES` that there are for chunks, by their names, beside ``"uniform"``,
which draws as scikit-learn does."""


class _OfPoints(BaseEstimator):  # type: ignore[misc]
    """What both estimators share: their input, their kernel and their landmarks."""

    _parameter_constraints: dict[str, list[Any]] = {  # noqa: RUF012 - as scikit-learn has it
        "kernel": [StrOptions(set(KERNELS)), callable],
        "gamma": [Interval(Real, 0, None, closed="left"), None],
        "coef0": [Interval(Real, None, None, closed="neither"), None],
        "degree": [Interval(Real, 1, None, closed="left"), None],
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "landmarks": [StrOptions({"uniform", *RULES}), callable, "array-like"],
        "random_state": ["random_state"],
    }
    kernel: Any
    gamma: float | None
    coef0: float | None
    degree: float | None
    n_components: int
    landmarks: Any
    random_state: Any

    def _samples(self, X: Any, *, reset: bool) -> da.Array:
        """X as floating points in chunks; of Dask's collections no entry is looked at."""
        if not is_chunked(X):
            return _in_memory(validate_data(self, X, reset=reset))
        frame = isinstance(X, dd.DataFrame)
        _check_feature_names(self, X._meta if frame else X, reset=reset)
        X = _floating(X).to_dask_array(lengths=True if reset else None) if frame else X
        if isinstance(X, da.Array) and X.dtype.kind in "iub":
            X = X.astype(np.float64)
        X = as_points("X", X, lengths=reset)
        if reset:
            self.n_features_in_ = X.shape[1]
        elif X.shape[1] != self.n_features_in_:
            own = f"shape (n, {self.n_features_in_}), as in `fit`"
            raise ShapeError("X", f"of shape {X.shape}", own)
        return X

    def _made(self, d: int) -> KernelMaker:
        """The kernel's maker, with scikit-learn's defaults."""
        given = {name: getattr(self, name) for name in ("gamma", "coef0", "degree")}
        for name, value in given.items():
            if value is not None:
                require_number(name, value)
                if callable(self.kernel) or name not in KERNELS[self.kernel]:
                    needs = "None, beside a kernel that has no use for it"
                    raise RangeError(name, f"{value}", needs)
        if callable(self.kernel):
            made: KernelMaker = self.kernel
            return made
        gamma = 1 / d if self.gamma is None else float(self.gamma)
        if self.kernel == "linear":
            return partial(kernels.polynomial, degree=1, coef0=0.0)
        if self.kernel in ("poly", "polynomial"):
            degree = 3 if self.degree is None else self.degree
            if int(degree) != degree:
                raise RangeError("degree", f"{degree}", "a whole number")
            coef0 = 1.0 if self.coef0 is None else float(self.coef0)
            return partial(kernels.polynomial, degree=int(degree), gamma=gamma, coef0=coef0)
        return partial({"rbf": kernels.gaussian, "laplacian": kernels.laplacian}[self.kernel], gamma=gamma)

    def _chosen(self, x: da.Array) -> tuple[ChunkedKernel, LandmarkPoints | ColumnSubset]:
        kernel = chunked_kernel(self._made(x.shape[1]), x)
        state = check_random_state(self.random_state)
        n = x.shape[0]
        require_count("n_components", self.n_components)
        if not isinstance(self.landmarks, str) and not callable(self.landmarks):
            if np.ndim(self.landmarks) > 1:
                return kernel, LandmarkPoints(
                    require_points("landmarks", self.landmarks, x.shape[1], x.dtype), None, 0, None
                )
            indices = require_indices("landmarks", self.landmarks, n)
            if not len(indices):
                raise ShapeError("landmarks", "empty", "a name, a rule, some indices or some points")
            return kernel, ColumnSubset(indices, None, 0, None)
        if self.n_components > n:
            warnings.warn(
                f"n_components is {self.n_components} and there are {n} samples: all {n} are landmarks",
                stacklevel=3,
            )
        m = min(n, self.n_components)
        if isinstance(self.landmarks, str) and self.landmarks == "uniform":
            return kernel, ColumnSubset(state.permutation(n)[:m], None, 0, None)
        rule = RULES[self.landmarks] if isinstance(self.landmarks, str) else self.landmarks
        found = require_found("landmarks", rule(kernel, m, rng=int(state.randint(2**31 - 1))))
        if found.valid is not None:
            kept = np.nonzero(found.valid)[0]
            if isinstance(found, ColumnSubset):
                return kernel, ColumnSubset(found.indices[kept], None, found.entries, found.seed)
            return kernel, LandmarkPoints(found.points[kept], None, found.entries, found.seed)
        return kernel, found


class _FeatureMap(  # type: ignore[call-arg]
    ClassNamePrefixFeaturesOutMixin,  # type: ignore[misc]
    TransformerMixin,  # type: ignore[misc]
    _OfPoints,
    auto_wrap_output_keys=None,
):
    """Where ``transform`` stands, so that scikit-learn does not wrap it: its frames would be computed at once."""

    def transform(self, X: Any) -> Any:
        """The features of the rows of X, lazily for Dask's collections, now for others.

        Parameters
        ----------
        X : Dask array or dataframe, or what scikit-learn takes, (l, d)

        Returns
        -------
        array (l, m)

        Raises
        ------
        TypeError, ValueError
            Of scikit-learn: X has other columns, or the map is not fitted.
        """
        check_is_fitted(self, "normalization_")
        x = self._samples(X, reset=False)
        m = len(self.normalization_)
        meta = np.empty((0, m), dtype=self.normalization_.dtype)
        require_room_on_workers("X", x, m + 3 * x.shape[1], f"a chunk of {m} features")
        shared = {"make": self._made(x.shape[1]), "z": self.components_, "normal": self.normalization_}
        work = partial(_embedded, **shared)
        found = x.map_blocks(work, chunks=(x.chunks[0], (m,)), dtype=meta.dtype, meta=meta)
        if not is_chunked(X):
            return _wrap_data_with_container("transform", found.compute(), X, self)
        wanted = _get_output_config("transform", self)["dense"]
        if wanted == "default":
            return found
        if wanted != "pandas":
            raise RangeError("transform", f"{wanted!r} in set_output", "'default' or 'pandas', for Dask's")
        names = self.get_feature_names_out()
        if not isinstance(X, dd.DataFrame):
            return dd.from_dask_array(found, columns=list(names))
        frame = partial(_framed, names=names, work=work)
        return X.map_partitions(frame, meta=frame(X._meta))


def _in_memory(X: Any) -> da.Array:
    if X.dtype.kind not in "fiub":  # scikit-learn lets dates pass
        raise DTypeError("X", f"of dtype {X.dtype}", "numbers")
    return as_points("X", _floating(X))


def _embedded(x: Any, *, make: KernelMaker, z: Any, normal: Any) -> Any:
    found = np.empty((len(x), len(normal)), dtype=normal.dtype)
    if len(x):
        for strip, entries in strips_of(make, x.astype(z.dtype, copy=False), z):
            found[strip] = entries @ normal.T
    require_finite(np, kernel=found)
    return found


def _framed(X: Any, *, names: Any, work: Callable[[Any], Any]) -> Any:
    import pandas as pd

    return pd.DataFrame(work(X.to_numpy()), index=X.index, columns=names)


class Nystroem(_FeatureMap):
    r"""Feature map of the Nyström approximation :math:`K_{XZ}K_{ZZ}^{-1/2}`, of data in memory or in chunks.

    scikit-learn's ``Nystroem`` for Dask's arrays and dataframes: same names, same attributes, and with the default
    landmarks the same features for the same ``random_state``.

    Parameters
    ----------
    kernel : {"rbf", "laplacian", "polynomial", "poly", "linear"} or callable, default="rbf"
        A callable makes kernels, as in :func:`chunked_kernel`: ``partial(kernels.matern, nu=1.5, length_scale=2.0)``.
    gamma, coef0, degree, n_components, random_state
        As in scikit-learn; refused beside a kernel that has no use for them.  By default γ = 1/d, c₀ = 1, degree 3.
    landmarks : str, callable, array of int (m,) or array (m, d), default="uniform"
        ``"uniform"`` draws as scikit-learn does, a permutation of n; ``"kmeans"``, ``"ridge_leverage"`` and
        ``"accelerated_rpcholesky"`` are those of this package, and a callable is ``rule(kernel, m, rng=...)`` over a
        :class:`ChunkedKernel`.  Indices, or the landmarks themselves, take the place of ``n_components``.

    Attributes
    ----------
    components_ : array (m, d)
        The landmarks; fewer than ``n_components`` where the kernel matrix is exhausted.
    component_indices_ : array (m,), or None
        Where they stand in the training data; None if they were made, as means are.
    normalization_ : array (m, m)
        :math:`K_{ZZ}^{-1/2}` without the singular values that rounding has taken over.
    entries_ : int
        Kernel entries that the rule evaluated.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Raises
    ------
    DTypeError, IndefiniteError, KindError, MemoryLimitError, NamespaceError, NonFiniteError, RangeError, ShapeError
        As the functions of this package, from ``fit`` and ``transform``; a chunk that turns out not to be finite
        raises when it is computed.  Otherwise what scikit-learn raises.

    Notes
    -----
    ``fit`` computes landmarks and their m² entries; ``transform`` of Dask's collections computes nothing, of others
    all.

    Examples
    --------
    >>> import dask.array as da
    >>> from nystrom_numerics.integrations.dask import Nystroem
    >>> x = da.random.default_rng(0).standard_normal((1000, 4), chunks=(250, 4))
    >>> Nystroem(gamma=0.1, n_components=20, landmarks="accelerated_rpcholesky", random_state=0).fit(x).transform(x)
    dask.array<_embedded, shape=(1000, 20), dtype=float64, chunksize=(250, 20), chunktype=numpy.ndarray>
    """

    def __init__(
        self,
        kernel: Any = "rbf",
        *,
        gamma: float | None = None,
        coef0: float | None = None,
        degree: float | None = None,
        n_components: int = 100,
        landmarks: Any = "uniform",
        random_state: Any = None,
    ) -> None:
        self.kernel = kernel
        self.gamma = gamma
        self.coef0 = coef0
        self.degree = degree
        self.n_components = n_components
        self.landmarks = landmarks
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Nystroem:
        """Choose the landmarks and factorise their kernel matrix.

        Parameters
        ----------
        X : Dask array or dataframe, or what scikit-learn takes, (n, d)
        y : ignored

        Returns
        -------
        Nystroem
            Itself.

        Raises
        ------
        MemoryLimitError, NonFiniteError, RangeError, ShapeError
            As the class says; of options and of X what scikit-learn raises.
        """
        self._validate_params()
        kernel, found = self._chosen(self._samples(X, reset=True))
        self.component_indices_, self.components_, self.entries_ = _told(kernel, found)
        z = self.components_
        core = kernel.make(z, z).block(slice(None), slice(None))
        require_finite(np, kernel=core)
        self.normalization_ = inverse_root(core)
        self._n_features_out = len(z)
        return self


def _told(kernel: ChunkedKernel, found: LandmarkPoints | ColumnSubset) -> tuple[Any, Any, int]:
    """Indices or None, points, and what they took; of a zero kernel, which has no pivot, the first point."""
    if isinstance(found, LandmarkPoints):
        return None, found.points, found.entries
    indices = found.indices if len(found.indices) else np.zeros(1, dtype=np.int64)
    return indices, kernel.gather(indices), found.entries


class KernelRidge(MultiOutputMixin, RegressorMixin, _OfPoints):  # type: ignore[misc]
    r"""Kernel ridge regression on the Nyström features of data in memory or in chunks.

    scikit-learn's ``KernelRidge`` with :math:`\hat K = K_{XZ}K_{ZZ}^+K_{ZX}` in place of K; with all points as
    landmarks it is that estimator.

    Parameters
    ----------
    alpha : float, default=1
        The ridge μ of :math:`(\hat K + \mu I)^{-1}y`, above 0.
    solver : {"normal equations", "falkon"}, default="normal equations"
        :func:`normal_equations` or :func:`falkon`.
    tol, max_iter
        Of ``"falkon"``: the residual to reach, and how many iterations it may take.
    kernel, gamma, coef0, degree, n_components, landmarks, random_state
        As in :class:`Nystroem`.

    Attributes
    ----------
    components_ : array (r, d)
        The landmarks that the core kept, in the order of its pivots.
    dual_coef_ : array (r,) or (r, c) of float64
        Predictions are :math:`K_{XZ}` times it.
    residual_, n_iter_
        Of the solver, the largest of the right-hand sides.
    entries_ : int
        Kernel entries that the rule evaluated.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Raises
    ------
    MemoryLimitError, NonFiniteError, RangeError, ShapeError
        As in :class:`Nystroem`, and ``alpha`` is below the rounding of the normal equations.  A
        ``ConvergenceWarning`` where the solver ends before its tolerance.

    Examples
    --------
    >>> import dask.array as da
    >>> from nystrom_numerics.integrations.dask import KernelRidge
    >>> x = da.random.default_rng(0).standard_normal((1000, 4), chunks=(250, 4))
    >>> model = KernelRidge(alpha=1e-3, gamma=0.1, n_components=50, random_state=0).fit(x, da.sin(x[:, 0]))
    >>> model.predict(x)
    dask.array<_predicted, shape=(1000,), dtype=float64, chunksize=(250,), chunktype=numpy.ndarray>
    """

    _parameter_constraints: dict[str, list[Any]] = {  # noqa: RUF012 - as scikit-learn has it
        **_OfPoints._parameter_constraints,
        "alpha": [Interval(Real, 0, None, closed="neither")],
        "solver": [StrOptions({"normal equations", "falkon"})],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        alpha: float = 1.0,
        *,
        kernel: Any = "rbf",
        gamma: float | None = None,
        coef0: float | None = None,
        degree: float | None = None,
        n_components: int = 100,
        landmarks: Any = "uniform",
        solver: str = "normal equations",
        tol: float = 1e-6,
        max_iter: int = 100,
        random_state: Any = None,
    ) -> None:
        self.alpha = alpha
        self.kernel = kernel
        self.gamma = gamma
        self.coef0 = coef0
        self.degree = degree
        self.n_components = n_components
        self.landmarks = landmarks
        self.solver = solver
        self.tol = tol
        self.max_iter = max_iter
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> KernelRidge:
        """Choose the landmarks and solve for the weights of their features.

        Parameters
        ----------
        X : Dask array or dataframe, or what scikit-learn takes, (n, d)
        y : the like, (n,) or (n, c)

        Returns
        -------
        KernelRidge
            Itself.

        Raises
        ------
        MemoryLimitError, NonFiniteError, RangeError, ShapeError
            As the class says; of options and of X and y what scikit-learn raises.
        """
        self._validate_params()
        alpha, tol = require_positive("alpha", self.alpha), require_positive("tol", self.tol)
        max_iter = require_count("max_iter", self.max_iter)
        if not is_chunked(X) and not is_chunked(y):
            X, y = validate_data(self, X, y, multi_output=True, y_numeric=True)
            x = _in_memory(X)
        else:
            x = self._samples(X, reset=True)
            y = y if y is None or is_chunked(y) else check_array(y, ensure_2d=False, input_name="y")
        kernel, found = self._chosen(x)
        factor = nystrom_factor(kernel, found)
        if self.solver == "falkon":
            solved = falkon(factor, _floating(y), alpha, tol=tol, iterations=max_iter)
        else:
            solved = normal_equations(factor, _floating(y), alpha)
        if solved.status is not Status.CONVERGED:
            text = f"residual {np.max(solved.residual):.3g}: {solved.status.name}. {solved.status.remedy}"
            warnings.warn(text, ConvergenceWarning, stacklevel=2)
        self.components_, self.entries_ = factor.points, found.entries
        lower = factor.triangle.astype(np.float64)
        self.dual_coef_ = (
            solve_triangular(lower, solved.value, lower=True, trans="T") if len(lower) else solved.value
        )
        self.residual_, self.n_iter_ = float(np.max(solved.residual)), max(1, int(np.max(solved.iterations)))
        return self

    def predict(self, X: Any) -> Any:
        """The predictions for the rows of X.

        Parameters
        ----------
        X : Dask array or dataframe, or what scikit-learn takes, (l, d)

        Returns
        -------
        array (l,) or (l, c)
            Lazily for Dask's collections, now for others.

        Raises
        ------
        TypeError, ValueError
            Of scikit-learn: X has other columns, or the model is not fitted.
        """
        check_is_fitted(self, "dual_coef_")
        x = self._samples(X, reset=False)
        shape = self.dual_coef_.shape[1:]
        require_room_on_workers("X", x, 3 * x.shape[1] + sum(shape), "a chunk of predictions")
        z = self.components_
        work = partial(_predicted, make=self._made(x.shape[1]), z=z, dual=self.dual_coef_)
        meta = np.empty((0, *shape), dtype=z.dtype)
        options = {"chunks": (x.chunks[0], shape)} if shape else {"drop_axis": 1}
        found = x.map_blocks(work, dtype=meta.dtype, meta=meta, **options)
        return found if is_chunked(X) else found.compute()


def _floating(x: Any) -> Any:
    """Whole numbers and truth values as float64, of a frame where any of its columns has them."""
    kinds = {dtype.kind for dtype in x.dtypes} if isinstance(x, dd.DataFrame) else {_kind(x)}
    return x.astype(np.float64) if kinds & set("iub") and kinds <= set("iubf") else x


def _kind(x: Any) -> str:
    kind: str = getattr(getattr(x, "dtype", None), "kind", "f")
    return kind


def _predicted(x: Any, *, make: KernelMaker, z: Any, dual: Any) -> Any:
    found = np.zeros((len(x), *dual.shape[1:]), dtype=z.dtype)
    if len(x) and len(z):
        for strip, entries in strips_of(make, x.astype(z.dtype, copy=False), z):
            found[strip] = entries.astype(np.float64) @ dual
    require_finite(np, kernel=found)
    return found
