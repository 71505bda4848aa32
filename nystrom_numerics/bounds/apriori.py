r"""Bounds before the fact, for the Nyström approximation of a PSD matrix.

.. math:: R = A - A_{:J}A_{JJ}^+A_{J:} = A^{1/2}(I - \Pi)A^{1/2},\qquad
          \Pi \text{ the projector onto the range of } A^{1/2}S.

Each takes the :class:`~nystrom_numerics.bounds.Spectrum` of A, for a bound of this kind is a statement about
it, and holds for the eigenvalues given.  The trivial bound from above is the norm of A itself, since
:math:`0 \preceq R \preceq A`.  Bounds with a probability speak of landmarks drawn by the rule named, not of
any set that a caller picked.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, sqrt

import numpy as np

from nystrom_numerics.arguments import require_count, require_indices, require_instance
from nystrom_numerics.bounds.result import Bound, Hypothesis, Norm, Side, bound
from nystrom_numerics.bounds.spectrum import Host, Spectrum, singular_values, tail_norms

__all__ = ["PSD_NORMS", "eckart_young", "gittens_mahoney", "oblique", "size_of", "structural", "three_norms"]

PSD_NORMS = (Norm.SPECTRAL, Norm.FROBENIUS, Norm.TRACE)


def eckart_young(values: Host, k: int, /) -> tuple[Bound, Bound, Bound]:
    r"""What any approximation of rank k leaves at least, in the spectral, Frobenius and trace norm.

    .. math:: \sigma_{k+1},\qquad \Bigl(\sum_{j>k}\sigma_j^2\Bigr)^{1/2},\qquad \sum_{j>k}\sigma_j

    Parameters
    ----------
    values : array (n,)
        Singular values, descending; of any matrix.
    k : int
        0 to n.

    Returns
    -------
    tuple of three Bound
        From below.

    Raises
    ------
    DTypeError, NamespaceError, NonFiniteError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: O(n).

    Source: Eckart and Young 1936; Mirsky 1960, Theorem 2, for all unitarily invariant norms.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds
    >>> [b.value for b in bounds.eckart_young(np.array([3.0, 2.0, 1.0]), 2)]
    [1.0, 1.0, 1.0]
    """
    values = singular_values("values", values)
    k = require_count("k", k, 0, len(values))
    source = "Eckart and Young 1936; Mirsky 1960, Theorem 2"
    found = tail_norms(values, k)
    spectral, frobenius, trace = (
        bound(x, Side.LOWER, norm, source, trivial=0.0) for x, norm in zip(found, PSD_NORMS, strict=True)
    )
    return spectral, frobenius, trace


def gittens_mahoney(spectrum: Spectrum, indices: Sequence[int], k: int, /) -> tuple[Bound, Bound, Bound]:
    r"""The structural bounds for given landmarks, in the spectral, Frobenius and trace norm.

    .. math:: \|\Lambda_2\|_2 + \|X\|_2^2,\qquad
              \|\Lambda_2\|_F + \|X\|_2\bigl(\sqrt{2\,\mathrm{tr}\Lambda_2} + \|X\|_F\bigr),\qquad
              \mathrm{tr}\Lambda_2 + \|X\|_F^2,\qquad X = \Lambda_2^{1/2}\Omega_2\Omega_1^+

    with :math:`\Omega_1 = U_1^TS`, :math:`\Omega_2 = U_2^TS` split after k eigenvectors.  Deterministic.

    Parameters
    ----------
    spectrum : Spectrum
    indices : sequence of int
        Landmarks, at least k of them.
    k : int
        1 to n.

    Returns
    -------
    tuple of three Bound
        Certain; without a value where the hypothesis fails.

    Raises
    ------
    KindError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Hypothesis: Ω₁ has full row rank, checked by its smallest singular value.  Cost: one SVD k × m and a product
    (n − k) × m × k.  Source: Gittens and Mahoney 2016, Theorems 2 to 4.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds
    >>> q = np.linalg.qr(np.random.default_rng(0).standard_normal((40, 40)))[0]
    >>> spectrum = bounds.psd_spectrum((q * 0.5 ** np.arange(40)) @ q.T)
    >>> [f"{b.value:.2g}" for b in bounds.gittens_mahoney(spectrum, range(12), 8)]
    ['0.018', '0.034', '0.024']
    """
    x, hypothesis = oblique(spectrum, indices, k)
    spectral = frobenius = inf
    if hypothesis.holds:
        frobenius = float(np.linalg.norm(x))
        spectral = float(np.linalg.norm(x, 2)) if x.size else 0.0
    two, fro, trace = tail_norms(spectrum.values, k)
    found = (
        two + spectral**2,
        fro + spectral * (sqrt(2 * trace) + frobenius),
        trace + frobenius**2,
    )
    return three_norms(
        spectrum, found, "Gittens and Mahoney 2016, Theorems {}", "234", holds_under=(hypothesis,)
    )


def structural(spectrum: Spectrum, indices: Sequence[int], k: int, /) -> tuple[Bound, Bound, Bound]:
    r"""One matrix that bounds the residual in every unitarily invariant norm: here spectral, Frobenius and trace.

    .. math:: \|R\| \le \|\Lambda_2 + XX^T\|,\qquad X = \Lambda_2^{1/2}\Omega_2\Omega_1^+

    Never above :func:`gittens_mahoney`, equal to it in the trace norm, and without the term in
    :math:`\sqrt{2\,\mathrm{tr}\Lambda_2}` in the Frobenius norm.

    Parameters
    ----------
    spectrum, indices, k
        As in :func:`gittens_mahoney`.

    Returns
    -------
    tuple of three Bound
        Certain; without a value where the hypothesis of :func:`gittens_mahoney` fails.

    Raises
    ------
    KindError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: of that, and the eigenvalues of a matrix of order n − k.  Source: derived here.  With
    :math:`F = X\Lambda_1^{-1/2}` the range of :math:`A^{1/2}S` holds that of :math:`(I, F^T)^T`, whose complement is
    spanned by :math:`W = (-F, I)^T`; so :math:`R \preceq \Lambda^{1/2}W(I + FF^T)^{-1}W^T\Lambda^{1/2} \preceq
    \Lambda^{1/2}WW^T\Lambda^{1/2}`, and the last has the eigenvalues of :math:`W^T\Lambda W = \Lambda_2 + XX^T`.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds
    >>> q = np.linalg.qr(np.random.default_rng(0).standard_normal((40, 40)))[0]
    >>> spectrum = bounds.psd_spectrum((q * 0.5 ** np.arange(40)) @ q.T)
    >>> ours, theirs = (f(spectrum, range(12), 8) for f in (bounds.structural, bounds.gittens_mahoney))
    >>> all(a.value <= b.value * (1 + 1e-12) for a, b in zip(ours, theirs))
    True
    """
    x, hypothesis = oblique(spectrum, indices, k)
    found = (inf, inf, inf)
    if hypothesis.holds:
        values = np.maximum(np.linalg.eigvalsh(np.diag(spectrum.values[k:]) + x @ x.T), 0.0)
        found = tail_norms(values[::-1], 0)
    return three_norms(spectrum, found, "all norms from one matrix; derived here", holds_under=(hypothesis,))


def size_of(spectrum: Spectrum) -> int:
    return require_instance("spectrum", spectrum, Spectrum).size


def oblique(spectrum: Spectrum, indices: Sequence[int], k: int) -> tuple[Host, Hypothesis]:
    """X of the structural bounds, (n − k, k), and whether it exists; empty where it does not."""
    n = size_of(spectrum)
    chosen = require_indices("indices", indices, n)
    k = require_count("k", k, 1, n)
    omega1 = spectrum.vectors[chosen, :k].T
    smallest = float(np.linalg.svd(omega1, compute_uv=False)[-1]) if len(chosen) >= k else 0.0
    hypothesis = Hypothesis(
        "Ω₁ of full row rank",
        smallest > 8 * n * 2.0**-52,
        f"m = {len(chosen)}, k = {k}, σ_k(Ω₁) = {smallest:.1e}",
    )
    if not hypothesis.holds:
        return np.zeros((0, k)), hypothesis
    omega2 = spectrum.vectors[chosen, k:].T
    return np.sqrt(spectrum.values[k:])[:, None] * (omega2 @ np.linalg.pinv(omega1)), hypothesis


def three_norms(
    spectrum: Spectrum,
    found: tuple[float, float, float],
    source: str,
    numbers: str = "   ",
    *,
    probability: float | None = 1.0,
    holds_under: Sequence[Hypothesis] = (),
) -> tuple[Bound, Bound, Bound]:
    one, two, three = (
        bound(
            x,
            Side.UPPER,
            norm,
            source.format(number).replace("Theorems", "Theorem"),
            trivial=trivial,
            probability=probability,
            holds_under=holds_under,
        )
        for x, norm, number, trivial in zip(found, PSD_NORMS, numbers, spectrum.norms, strict=True)
    )
    return one, two, three
