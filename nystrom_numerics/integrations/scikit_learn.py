"""The Nyström feature map as a scikit-learn transformer, with any landmarks."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from nystrom_numerics import kernels
from nystrom_numerics.arguments import require_count, require_indices, require_number, require_points
from nystrom_numerics.backend import require_finite, strip_rows
from nystrom_numerics.errors import DTypeError, RangeError, ShapeError
from nystrom_numerics.extras import brought_by
from nystrom_numerics.kernels import EntryCounter, Index, Kernel
from nystrom_numerics.landmarks import RULES, ColumnSubset, on_points
from nystrom_numerics.landmarks.result import require_found
from nystrom_numerics.linalg import inverse_root

with brought_by("sklearn"):
    from sklearn import kernel_approximation
    from sklearn.metrics.pairwise import KERNEL_PARAMS, pairwise_kernels
    from sklearn.utils import check_random_state
    from sklearn.utils._param_validation import StrOptions
    from sklearn.utils.validation import check_is_fitted, validate_data

__all__ = ["Nystroem"]


@dataclass(frozen=True, eq=False)
class _PairwiseKernel(Kernel):
    """A kernel of scikit-learn's over the rows of X, dense or sparse."""

    x: Any
    pairwise: Callable[[Any, Any], Any]
    unit_diagonal: bool
    noise: float
    counter: EntryCounter = field(default_factory=EntryCounter)
    symmetric: bool = True

    @property
    def shape(self) -> tuple[int, int]:  # type: ignore[override]
        return self.x.shape[0], self.x.shape[0]

    @property
    def points(self) -> Any:  # type: ignore[override]
        return self.x.astype(self.like.dtype, copy=False) if isinstance(self.x, np.ndarray) else None

    @property
    def like(self) -> Any:
        return np.empty(1, dtype=self.x.dtype if self.x.dtype in (np.float32, np.float64) else np.float64)

    def cross(self, z: Any, /, rows: Index = slice(None)) -> Any:
        return self.between(self.x[self._index("rows", rows, self.shape[0])], z)

    def between(self, x: Any, z: Any, /) -> Any:
        found = np.asarray(self.pairwise(x, z), dtype=self.like.dtype)
        self.counter.total += found.size
        return found

    def _block(self, rows: Index, columns: Index) -> Any:
        left = self.x[rows]
        # of one set of points with itself scikit-learn evaluates a callable half as often
        right = left if np.array_equal(rows, columns) else self.x[columns]
        return np.asarray(self.pairwise(left, right), dtype=self.like.dtype)

    def _diagonal(self) -> Any:
        n = self.shape[0]
        if self.unit_diagonal:
            self.counter.total += n
            return np.ones(n, dtype=self.like.dtype)
        parts = (slice(start, min(start + 8, n)) for start in range(0, n, 8))
        return np.concatenate([self.block(part, part).diagonal() for part in parts])


def _floating(x: Any) -> Any:
    return x if x.dtype in (np.float32, np.float64) else x.astype(np.float64)


class Nystroem(kernel_approximation.Nystroem):  # type: ignore[misc]
    r"""Feature map of the Nyström approximation :math:`K_{XZ}K_{ZZ}^{-1/2}`, landmarks Z by any rule.

    Takes the place of ``sklearn.kernel_approximation.Nystroem``: same parameters, same attributes, and with
    the default landmarks the same features for the same ``random_state``.

    Parameters
    ----------
    kernel, gamma, coef0, degree, kernel_params, n_components, random_state, n_jobs
        As in scikit-learn.  With ``kernel="precomputed"`` ``fit`` takes the kernel matrix (n, n), and
        ``transform`` the entries of new points with the n, (l, n).
    landmarks : str, callable, array of int (m,) or array (m, d), default="uniform"
        Which training points, or which points at all.

        * A name of :data:`nystrom_numerics.landmarks.RULES`; ``"uniform"`` is the draw of scikit-learn.
        * A rule of :mod:`nystrom_numerics.landmarks`, its options bound by ``functools.partial``: over a
          kernel, ``rule(kernel, m, rng=...)``, or on points, ``rule(x, m, mask=...)``.
        * The indices of the landmarks, in place of ``n_components``.
        * The landmarks themselves, m points of the width of X, whether they occur in it or not.

    Attributes
    ----------
    components_ : array (m, d), or None for a precomputed kernel
        The landmarks; fewer than ``n_components`` where the kernel matrix is exhausted.
    component_indices_ : array (m,), or None
        Where they stand in the training data; None if they were made, as means are, or given as points.
    normalization_ : array (m, m)
        :math:`K_{ZZ}^{-1/2}` without the singular values that rounding has taken over.
    entries_ : int
        Kernel entries that the rule evaluated.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Raises
    ------
    DTypeError, IndefiniteError, KindError, NamespaceError, NonFiniteError, RangeError, ShapeError
        The kernel overflows.  From ``fit``: a rule for PSD kernels met another, a rule on points met a sparse or
        precomputed kernel, a rule found nothing, the indices are not those of training points, the points are not
        finite, not of the width of X or given beside a precomputed kernel, or ``gamma``, ``coef0`` or ``degree`` is
        given beside a kernel that has no use for it.  Otherwise what scikit-learn raises.

    Notes
    -----
    Cost: that of the rule, and lm entries to transform l points.  Asked of scikit-learn since 2015
    ("user-chosen landmarks").

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics.integrations.scikit_learn import Nystroem
    >>> x = np.random.default_rng(0).standard_normal((300, 4))
    >>> Nystroem(gamma=0.1, n_components=20, landmarks="accelerated_rpcholesky", random_state=0).fit_transform(x).shape
    (300, 20)
    """

    _parameter_constraints: dict[str, list[Any]] = {  # noqa: RUF012 - as scikit-learn has it
        **kernel_approximation.Nystroem._parameter_constraints,
        "landmarks": [StrOptions(set(RULES)), callable, "array-like"],
    }

    def __init__(
        self,
        kernel: Any = "rbf",
        *,
        gamma: float | None = None,
        coef0: float | None = None,
        degree: float | None = None,
        kernel_params: dict[str, Any] | None = None,
        n_components: int = 100,
        landmarks: Any = "uniform",
        random_state: Any = None,
        n_jobs: int | None = None,
    ) -> None:
        super().__init__(
            kernel=kernel,
            gamma=gamma,
            coef0=coef0,
            degree=degree,
            kernel_params=kernel_params,
            n_components=n_components,
            random_state=random_state,
            n_jobs=n_jobs,
        )
        self.landmarks = landmarks

    def fit(self, X: Any, y: Any = None) -> Nystroem:
        """Choose the landmarks and factorise their kernel matrix.

        Parameters
        ----------
        X : array or sparse matrix (n, d)
        y : ignored

        Returns
        -------
        Nystroem
            Itself.

        Raises
        ------
        IndefiniteError, NonFiniteError, RangeError
            As the class says; of options and of X what scikit-learn raises.
        """
        self._validate_params()
        self._require_numbers()
        X = self._samples(X, reset=True)
        n = X.shape[0]
        precomputed = self._is_precomputed()
        if precomputed and n != X.shape[1]:
            raise ShapeError("X", f"of shape {X.shape}", "the square kernel matrix of the training points")
        if self.n_components > n and not self._given():
            warnings.warn(
                f"n_components is {self.n_components} and there are {n} samples: all {n} are landmarks",
                stacklevel=2,
            )
        m = min(n, self.n_components)
        if precomputed:
            kernel = kernels.precomputed(X if isinstance(X, np.ndarray) else X.toarray())
        elif (gamma := self._gaussian(X)) is not None:
            kernel = kernels.gaussian(_floating(X), gamma=gamma)
        else:
            kernel = _PairwiseKernel(X, self._pairwise(), self.kernel in ("rbf", "laplacian"), self._noise(X))
        indices, points, self.entries_ = self._choose(kernel, m)
        if indices is not None and not len(indices):
            if kernel.diagonal().any():
                raise ShapeError("landmarks", "a rule that found none", "one landmark at least")
            indices = np.zeros(1, dtype=np.int64)  # a zero kernel: the feature is zero, as in scikit-learn
        core = kernel.block(indices, indices) if points is None else kernel.between(points, points)
        require_finite(np, kernel=core)
        self.normalization_ = inverse_root(core)
        self.component_indices_ = indices
        if precomputed:
            self.components_ = None
        else:
            self.components_ = X[indices] if points is None else points
        self._n_features_out = len(core)
        return self

    def transform(self, X: Any) -> Any:
        """The features of the rows of X.

        Parameters
        ----------
        X : array or sparse matrix (l, d)

        Returns
        -------
        array (l, m)

        Raises
        ------
        TypeError, ValueError
            Of scikit-learn: X has other columns, or the map is not fitted.
        """
        check_is_fitted(self, "normalization_")
        features = self._embedded(self._samples(X, reset=False))
        require_finite(np, kernel=features)
        return features

    def _embedded(self, X: Any) -> Any:
        if self.components_ is None:
            embedded = X[:, self.component_indices_]
            embedded = embedded if isinstance(embedded, np.ndarray) else embedded.toarray()
            return embedded.astype(self.normalization_.dtype, copy=False) @ self.normalization_.T
        n = X.shape[0]
        features = np.empty((n, self._n_features_out), dtype=self.normalization_.dtype)
        if (gamma := self._gaussian(X)) is not None and isinstance(self.components_, np.ndarray):
            x = _floating(X)
            kernel = kernels.gaussian(x, self.components_.astype(x.dtype, copy=False), gamma=gamma)
            for strip in kernel.strips(self._n_features_out):
                features[strip] = kernel.block(strip, slice(None)) @ self.normalization_.T
            return features
        pairwise = self._pairwise()
        step = max(256, strip_rows(features, self._n_features_out))
        for start in range(0, n, step):  # what a cache holds at once
            embedded = pairwise(X[start : start + step], self.components_)
            features[start : start + step] = embedded @ self.normalization_.T
        return features

    def _samples(self, X: Any, *, reset: bool) -> Any:
        found = validate_data(self, X, accept_sparse=False if self._looks_at_points() else "csr", reset=reset)
        if found.dtype.kind not in "fiub":  # scikit-learn lets dates pass
            raise DTypeError("X", f"of dtype {found.dtype}", "numbers")
        return found

    def _is_precomputed(self) -> bool:
        return isinstance(self.kernel, str) and self.kernel == "precomputed"

    def _require_numbers(self) -> None:
        """The options of a named kernel are finite numbers, and of others there are none; it is the same in
        scikit-learn, which words it in a ValueError."""
        require_count("n_components", self.n_components)
        for name in ("gamma", "coef0", "degree"):
            value = getattr(self, name)
            if value is None:
                continue
            require_number(name, value)
            if callable(self.kernel) or self._is_precomputed():
                needs = "None: Don't pass gamma, coef0 or degree to Nystroem beside a callable or a precomputed kernel"
                raise RangeError(name, f"{value}", needs)

    def _looks_at_points(self) -> bool:
        if isinstance(self.landmarks, str):  # asked before the name is checked
            return (
                self.landmarks in RULES
                and self.landmarks != "uniform"
                and RULES[self.landmarks].looks_at_points
            )
        return callable(self.landmarks) and "mask" in inspect.signature(self.landmarks).parameters

    def _gaussian(self, X: Any) -> float | None:
        """γ where the kernel is Gaussian and X dense: the package's own is then faster, and more accurate."""
        if not isinstance(self.kernel, str) or self.kernel != "rbf" or not isinstance(X, np.ndarray):
            return None
        gamma = self._pairwise().keywords.get("gamma")
        gamma = 1 / X.shape[1] if gamma is None else gamma
        return gamma if gamma > 0 else None

    def _noise(self, X: Any) -> float:
        """The Gaussian kernel of scikit-learn expands squares about the origin: 4uγ‖x‖²."""
        if not isinstance(self.kernel, str) or self.kernel != "rbf":
            return 0.0
        gamma = 1 / X.shape[1] if self.gamma is None else self.gamma
        squares = X.multiply(X) if hasattr(X, "multiply") else X * X
        unit = np.finfo(X.dtype if X.dtype in (np.float32, np.float64) else np.float64).eps / 2
        return float(min(0.5, 4 * unit * gamma * squares.sum(axis=1).max()))

    def _given(self) -> bool:
        return not isinstance(self.landmarks, str) and not callable(self.landmarks)

    def _choose(self, kernel: Kernel, m: int) -> tuple[Any, Any, int]:
        """Indices or None, points or None, and the entries that it took."""
        state = check_random_state(self.random_state)
        if self._given() and np.ndim(self.landmarks) > 1:
            return None, self._points(kernel), 0
        if self._given():
            indices = require_indices("landmarks", self.landmarks, kernel.shape[0])
            if not len(indices):
                raise ShapeError("landmarks", "empty", "a name, a rule, some indices or some points")
            return indices, None, 0
        if isinstance(self.landmarks, str) and self.landmarks == "uniform":
            return state.permutation(kernel.shape[0])[:m], None, 0
        rule = RULES[self.landmarks] if isinstance(self.landmarks, str) else self.landmarks
        if not isinstance(self.landmarks, str) and self._looks_at_points():
            rule = on_points(rule)
        takes_rng = "rng" in inspect.signature(rule).parameters
        options = {"rng": int(state.randint(2**31 - 1))} if takes_rng else {}
        found = require_found("landmarks", rule(kernel, m, **options))
        if isinstance(found, ColumnSubset):
            return found.indices, None, found.entries
        return None, found.points, found.entries

    def _points(self, kernel: Kernel) -> Any:
        """The landmarks that were given as points, in the dtype of the kernel."""
        if self._is_precomputed():
            needs = "a name, a rule or indices, as a precomputed kernel knows no points"
            raise ShapeError("landmarks", f"of shape {np.shape(self.landmarks)}", needs)
        return require_points("landmarks", self.landmarks, self.n_features_in_, kernel.like.dtype)

    def _pairwise(self) -> partial[Any]:
        options = dict(self.kernel_params or {})
        own = {"gamma": self.gamma, "coef0": self.coef0, "degree": self.degree}
        allowed = () if callable(self.kernel) else KERNEL_PARAMS.get(self.kernel, ())
        options |= {name: own[name] for name in allowed if own.get(name) is not None}
        return partial(
            pairwise_kernels, metric=self.kernel, filter_params=True, n_jobs=self.n_jobs, **options
        )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.array_api_support = False
        tags.input_tags.sparse = not self._looks_at_points()
        tags.input_tags.pairwise = self._is_precomputed()
        return tags
