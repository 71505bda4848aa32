r"""What an inexact pseudoinverse, a row normalisation and a softmax do to an error."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np

from nystrom_numerics.arguments import require_instance, require_nonnegative
from nystrom_numerics.backend import Array, floating, namespace, require_matrix, to_numpy
from nystrom_numerics.bounds.result import Bound, Hypothesis, Norm, Side, bound
from nystrom_numerics.bounds.spectrum import on_host
from nystrom_numerics.errors import RangeError, ShapeError

__all__ = ["PinvError", "pinv_error", "row_normalisation", "softmax_lipschitz", "wedin"]


@dataclass(frozen=True)
class PinvError:
    r"""What Z in place of W⁺ does to CW⁺B, in the Frobenius norm.

    Attributes
    ----------
    exact : float
        :math:`\|C(W^+ - Z)B\|_F` itself.
    backward : Bound
        :math:`\|CW^+\|_2\,\|W - WZW\|_F\,\|W^+B\|_2`.
    naive : Bound
        :math:`\|C\|_2\,\|W^+ - Z\|_F\,\|B\|_2`.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds
    >>> found = bounds.pinv_error(np.diag([2.0, 1.0]), np.diag([0.5, 0.9]), np.eye(2), np.eye(2))
    >>> round(found.exact, 6), round(found.backward.value, 6)
    (0.1, 0.1)
    """

    exact: float
    backward: Bound
    naive: Bound


def pinv_error(core: Array, z: Array, left: Array, right: Array, /) -> PinvError:
    r"""Two bounds of the error that an inexact pseudoinverse adds, and the error itself, from Gram matrices.

    .. math:: C(W^+ - Z)B = (CW^+)(W - WZW)(W^+B)

    Parameters
    ----------
    core, z : array (m, m)
        W, and Z near its inverse.
    left, right : array (m, m)
        :math:`C^TC` and :math:`BB^T`, which take n of each summed up in blocks.

    Returns
    -------
    PinvError

    Raises
    ------
    DTypeError, NamespaceError, NonFiniteError, ShapeError
        Naming the argument.

    Notes
    -----
    Hypothesis of the identity: W is regular.  Cost: three SVDs and some products m × m × m; the norm is
    :math:`\mathrm{tr}(D^TC^TC\,D\,BB^T)`, D = W⁺ − Z, and errs by some :math:`\sqrt u` of its factors.
    Trivial: the naive bound.  Derived; :func:`numpy.linalg.pinv`'s W⁺.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds
    >>> rng = np.random.default_rng(0)
    >>> w, c, b = rng.standard_normal((4, 4)), rng.standard_normal((9, 4)), rng.standard_normal((4, 9))
    >>> z = np.linalg.inv(w) + 0.01 * rng.standard_normal((4, 4))
    >>> found = bounds.pinv_error(w, z, c.T @ c, b @ b.T)
    >>> bool(np.isclose(found.exact, np.linalg.norm(c @ (np.linalg.inv(w) - z) @ b)))
    True
    >>> bool(found.exact <= found.backward.value)
    True
    """
    w, z_, gl, gr = (on_host(n, x) for n, x in (("core", core), ("z", z), ("left", left), ("right", right)))
    if w.shape[0] != w.shape[1]:
        raise ShapeError("core", f"of shape {w.shape}", "a square matrix")
    for name, x in (("z", z_), ("left", gl), ("right", gr)):
        if x.shape != w.shape:
            raise ShapeError(name, f"of shape {x.shape}", f"the core's, {w.shape}")
    sigma = np.linalg.svd(w, compute_uv=False)
    holds = bool(sigma[-1] > 8 * len(w) * 2.0**-52 * sigma[0])
    regular = Hypothesis("W regular", holds, f"σ from {sigma[-1]:.1e} to {sigma[0]:.1e}")
    inverse = np.linalg.pinv(w)
    difference = inverse - z_
    exact = sqrt(max(float(np.trace(difference.T @ gl @ difference @ gr)), 0.0))
    size_left, size_right = _root(gl), _root(gr)
    naive = size_left * float(np.linalg.norm(difference)) * size_right
    spread = _root(inverse.T @ gl @ inverse) * _root(inverse @ gr @ inverse.T)
    backward = spread * float(np.linalg.norm(w - w @ z_ @ w))
    return PinvError(
        exact,
        bound(
            backward,
            Side.UPPER,
            Norm.FROBENIUS,
            "C(W⁺−Z)B = CW⁺(W−WZW)W⁺B; derived here",
            trivial=naive,
            holds_under=(regular,),
        ),
        bound(naive, Side.UPPER, Norm.FROBENIUS, "submultiplicativity", trivial=float("inf")),
    )


def _root(gram: np.ndarray) -> float:
    """‖X‖₂ from XᵀX."""
    return sqrt(max(float(np.linalg.eigvalsh((gram + gram.T) / 2)[-1]), 0.0))


def wedin(
    inverse_norm: float, other_norm: float, perturbation: float, /, *, norm: Norm = Norm.SPECTRAL
) -> Bound:
    r"""How far pseudoinverses are apart: :math:`\|B^+ - A^+\| \le \mu\max(\|A^+\|_2^2, \|B^+\|_2^2)\|B - A\|`.

    Parameters
    ----------
    inverse_norm, other_norm : float
        :math:`\|A^+\|_2` and :math:`\|B^+\|_2`.
    perturbation : float
        :math:`\|B - A\|` in ``norm``.
    norm : Norm
        Spectral or Frobenius.

    Returns
    -------
    Bound
        Trivial: the sum of the two norms, in the spectral norm.

    Raises
    ------
    KindError, RangeError
        Naming the argument.

    Notes
    -----
    Cost: O(1).

    μ is the golden ratio :math:`(1+\sqrt5)/2` in the spectral norm and :math:`\sqrt2` in the Frobenius norm;
    any ranks, equal or not.  Source: Wedin 1973, Theorem 4.1; constants recalled, held to random and adversarial pairs
    in the tests.

    Examples
    --------
    >>> from nystrom_numerics import bounds
    >>> round(bounds.wedin(1.0, 1.0, 0.1).value, 4)
    0.1618
    """
    if require_instance("norm", norm, Norm) not in (Norm.SPECTRAL, Norm.FROBENIUS):
        raise RangeError("norm", norm.value, "the spectral or the Frobenius norm")
    inverse_norm = require_nonnegative("inverse_norm", inverse_norm)
    other_norm = require_nonnegative("other_norm", other_norm)
    perturbation = require_nonnegative("perturbation", perturbation)
    mu = (1 + sqrt(5)) / 2 if norm is Norm.SPECTRAL else sqrt(2)
    trivial = inverse_norm + other_norm if norm is Norm.SPECTRAL else float("inf")
    value = mu * max(inverse_norm, other_norm) ** 2 * perturbation
    source = "Wedin 1973, Theorem 4.1; constant recalled, tested here"
    return bound(value, Side.UPPER, norm, source, trivial=trivial)


def row_normalisation(errors: Array, sums: Array, /) -> Array:
    r"""What normalising rows makes of an error, in ℓ1: at most :math:`2e_i/\hat a_i`.

    Parameters
    ----------
    errors : array (n,)
        Bounds of :math:`\sum_j|A - \hat A|_{ij}`.
    sums : array (n,)
        Row sums of :math:`\hat A`; those of A, at least ``sums − errors``, are not needed.

    Returns
    -------
    array (n,)
        Bounds of :math:`\sum_j|A_{ij}/\sum_lA_{il} - \hat A_{ij}/\sum_l\hat A_{il}|` for A ≥ 0 without a zero
        row; infinity where a row of Â sums to no more than 0.

    Raises
    ------
    DTypeError, DeviceError, NamespaceError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: O(n).

    Derived: with a and â the sums, the difference is at most
    :math:`\|A_i - \hat A_i\|_1/\hat a + a|1/a - 1/\hat a| \le 2e/\hat a`, which for :math:`\delta = e/a` is at
    most :math:`2\delta/(1 - \delta)`.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds
    >>> bounds.row_normalisation(np.array([0.1, 0.1]), np.array([2.0, 0.0]))
    array([0.1, inf])
    """
    xp = namespace(errors=errors, sums=sums)
    floating(xp, errors=errors, sums=sums)
    if errors.ndim != 1 or not errors.shape[0]:
        raise ShapeError("errors", f"of shape {tuple(errors.shape)}", "shape (n,), not empty")
    if errors.shape != sums.shape:
        raise ShapeError("sums", f"of shape {tuple(sums.shape)}", f"the errors', {tuple(errors.shape)}")
    positive = sums > 0
    safe = xp.where(positive, sums, xp.ones_like(sums))
    return xp.where(positive, 2 * errors / safe, xp.full_like(sums, xp.inf))


def softmax_lipschitz(scores: Array, other: Array, /) -> Bound:
    r"""For two sets of scores, :math:`\|\mathrm{softmax}(X) - \mathrm{softmax}(Y)\|_F \le \tfrac12\|X - Y\|_F`.

    Parameters
    ----------
    scores, other : array (n, p)

    Returns
    -------
    Bound
        Of the Frobenius norm.  Trivial: :math:`\sqrt{2n}`, what two stochastic matrices can differ by.

    Raises
    ------
    DTypeError, DeviceError, NamespaceError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: np subtractions.  Row by row; the softmax is ½-Lipschitz in every ℓp, for its Jacobian diag(p) − ppᵀ has norm
    at most ½.  Derived.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds
    >>> print(bounds.softmax_lipschitz(np.zeros((1, 4)), np.full((1, 4), 0.1)))
    Frobenius norm at most 0.1 with certainty (softmax is ½-Lipschitz)
    """
    xp = namespace(scores=scores, other=other)
    floating(xp, scores=scores, other=other)
    require_matrix("scores", scores)
    if scores.shape != other.shape or scores.ndim != 2:
        raise ShapeError("other", f"of shape {tuple(other.shape)}", f"shape (n, p), {tuple(scores.shape)}")
    difference = to_numpy(xp.astype(scores, xp.float64) - xp.astype(other, xp.float64))
    value = float(np.linalg.norm(difference)) / 2
    return bound(
        value, Side.UPPER, Norm.FROBENIUS, "softmax is ½-Lipschitz", trivial=sqrt(2 * scores.shape[0])
    )
