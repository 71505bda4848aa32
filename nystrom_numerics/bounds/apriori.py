r"""Bounds before the fact, for the Nyström approximation of a PSD matrix.

.. math:: R = A - A_{:J}A_{JJ}^+A_{J:} = A^{1/2}(I - \Pi)A^{1/2},\qquad
          \Pi \text{ the projector onto the range of } A^{1/2}S.

Each takes the :class:`~nystrom_numerics.bounds.Spectrum` of A, for a bound of this kind is a statement about
it, and holds for the eigenvalues given.  The trivial bound from above is the norm of A itself, since
:math:`0 \preceq R \preceq A`.  Bounds with a probability speak of landmarks drawn by the rule named, not of
any set that a caller picked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import e, exp, inf, log, sqrt

import numpy as np

from nystrom_numerics.arguments import require_count, require_indices, require_instance, require_positive
from nystrom_numerics.bounds.result import Bound, Hypothesis, Norm, Side, bound, require_failure
from nystrom_numerics.bounds.spectrum import Host, Spectrum, singular_values, tail_norms

__all__ = [
    "additive_uniform",
    "additive_weighted",
    "belabbas_wolfe",
    "coherence",
    "dpp_expectation",
    "drawn_leverage",
    "eckart_young",
    "gaussian_sketch",
    "gittens_mahoney",
    "musco_musco",
    "rpcholesky_expectation",
    "structural",
]

_PSD_NORMS = (Norm.SPECTRAL, Norm.FROBENIUS, Norm.TRACE)


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
        bound(x, Side.LOWER, norm, source, trivial=0.0) for x, norm in zip(found, _PSD_NORMS, strict=True)
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
    x, hypothesis = _oblique(spectrum, indices, k)
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
    return _three(spectrum, found, "Gittens and Mahoney 2016, Theorems {}", "234", holds_under=(hypothesis,))


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
    x, hypothesis = _oblique(spectrum, indices, k)
    found = (inf, inf, inf)
    if hypothesis.holds:
        values = np.maximum(np.linalg.eigvalsh(np.diag(spectrum.values[k:]) + x @ x.T), 0.0)
        found = tail_norms(values[::-1], 0)
    return _three(spectrum, found, "all norms from one matrix; derived here", holds_under=(hypothesis,))


def _size(spectrum: Spectrum) -> int:
    return require_instance("spectrum", spectrum, Spectrum).size


def _oblique(spectrum: Spectrum, indices: Sequence[int], k: int) -> tuple[Host, Hypothesis]:
    """X of the structural bounds, (n − k, k), and whether it exists; empty where it does not."""
    n = _size(spectrum)
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


def _three(
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
        for x, norm, number, trivial in zip(found, _PSD_NORMS, numbers, spectrum.norms, strict=True)
    )
    return one, two, three


def _chernoff(k: int, strength: float, failure: float) -> float:
    """The least ε in [0, 1] with k·exp(−(ε + (1−ε)ln(1−ε))·strength) at most ``failure``; inf if there is none."""
    need = log(k / failure) / strength
    if need >= 1:
        return inf

    def reached(x: float) -> float:
        return x + (1 - x) * log(1 - x) if x < 1 else 1.0

    return _bisect(lambda x: reached(x) >= need, 0.0, 1.0)


def _bisect(holds: Callable[[float], bool], low: float, high: float) -> float:
    """The least number in [low, high] from which ``holds`` is true, to 2⁻⁵⁰ of the range, from above."""
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def coherence(spectrum: Spectrum, m: int, k: int, /, *, failure: float = 0.01) -> tuple[Bound, Bound, Bound]:
    r"""For m landmarks drawn uniformly without replacement, in the spectral, Frobenius and trace norm.

    .. math:: (1 + c)\lambda_{k+1},\qquad
              \|\Lambda_2\|_F + \sqrt{c\lambda_{k+1}\mathrm{tr}\Lambda_2}\,(\sqrt2 + \sqrt c),\qquad
              (1 + c)\,\mathrm{tr}\Lambda_2,\qquad c = \frac{n}{(1 - \varepsilon)m}

    with :math:`k\,(e^{-\varepsilon}/(1-\varepsilon)^{1-\varepsilon})^{m/(\mu k)} = \delta`, the failure, and
    the coherence :math:`\mu = \tfrac nk\max_i\|e_i^TU_1\|_2^2`.

    Parameters
    ----------
    spectrum : Spectrum
    m, k : int
        1 <= k <= m <= n.
    failure : float
        δ, in (0, 1).

    Returns
    -------
    tuple of three Bound
        Without a value where the hypothesis fails.

    Raises
    ------
    KindError, RangeError
        Naming the argument.

    Notes
    -----
    Cost: O(nk), for the lengths of the rows of k eigenvectors.

    Hypothesis: such an ε below 1 exists, that is :math:`m > \mu k\ln(k/\delta)`.  Source: Gittens 2011, Theorem
    2, and Gittens and Mahoney 2016, Lemma 7; here derived anew.  Tropp's matrix Chernoff bound gives
    :math:`\|\Omega_1^+\|_2^2 \le c`, and the structural bounds with :math:`\|\Omega_2\|_2 \le 1` give the rest.
    The printed :math:`m \ge 2\mu\varepsilon^{-2}k\ln(k/\delta)` follows and is weaker.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds
    >>> q = np.linalg.qr(np.random.default_rng(0).standard_normal((40, 40)))[0]
    >>> spectrum = bounds.psd_spectrum((q * 0.5 ** np.arange(40)) @ q.T)
    >>> found, _, _ = bounds.coherence(spectrum, 39, 2)
    >>> found.value is None, [h.text for h in found.failed]
    (True, ['m > μ k ln(k/δ)'])
    """
    n = _size(spectrum)
    m, k = require_count("m", m, 1, n), require_count("k", k, 1, n)
    require_failure(failure)
    mu = n / k * float((spectrum.vectors[:, :k] ** 2).sum(axis=1).max())
    epsilon = _chernoff(k, m / (mu * k), failure) if m < n else 0.0
    enough = Hypothesis(
        "m > μ k ln(k/δ)",
        epsilon < 1,
        f"m = {m}, μ = {mu:.3g}, μ k ln(k/δ) = {mu * k * log(k / failure):.4g}",
    )
    c = n / ((1 - epsilon) * m) if enough.holds else inf
    two, fro, trace = tail_norms(spectrum.values, k)
    tail_f = fro + sqrt(two * trace) * (sqrt(2 * c) + c) if c < inf else inf
    found = ((1 + c) * two, tail_f, (1 + c) * trace) if c < inf else (inf, inf, inf)
    source = "Gittens 2011, Theorem 2; constant derived here from Tropp's matrix Chernoff bound"
    return _three(spectrum, found, source, probability=1 - failure, holds_under=(enough,))


def drawn_leverage(
    spectrum: Spectrum, m: int, k: int, /, *, failure: float = 0.01
) -> tuple[Bound, Bound, Bound]:
    r"""For m landmarks drawn with replacement by leverage scores :math:`\|e_i^TU_1\|_2^2`.

    .. math:: \|R\|_2 \le \|\Lambda_2\|_2 + \frac{2\,\mathrm{tr}\Lambda_2}{\delta(1 - \varepsilon)},\qquad
              \mathrm{tr} R \le \mathrm{tr}\Lambda_2 + \frac{2\,\mathrm{tr}\Lambda_2}{\delta(1-\varepsilon)}

    and the Frobenius form in between, with
    :math:`k\,(e^{-\varepsilon}/(1-\varepsilon)^{1-\varepsilon})^{m/k} = \delta/2`.

    Parameters
    ----------
    spectrum : Spectrum
    m, k : int
        Landmarks, which may exceed n, and 1 <= k <= n.
    failure : float
        δ, in (0, 1).

    Returns
    -------
    tuple of three Bound
        Without a value where the hypothesis fails.

    Raises
    ------
    KindError, RangeError
        Naming the argument.

    Notes
    -----
    Cost: O(n).

    Hypothesis: :math:`m > k\ln(2k/\delta)`.  After Gittens and Mahoney 2016, Lemma 3, whose
    :math:`1 + \varepsilon^2` asks for :math:`m \ge 3200\,\varepsilon^{-1}k\ln(4k/\delta)`; derived here with
    small constants and Markov's inequality for :math:`E\|\Lambda_2^{1/2}\Omega_2\|_F^2 = \mathrm{tr}\Lambda_2`.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds
    >>> q = np.linalg.qr(np.random.default_rng(0).standard_normal((40, 40)))[0]
    >>> spectrum = bounds.psd_spectrum((q * 0.5 ** np.arange(40)) @ q.T)
    >>> spectral, _, trace = bounds.drawn_leverage(spectrum, 200, 8)
    >>> round(spectral.value, 3), round(trace.value, 3), trace.certainty
    (4.623, 4.627, 'with probability at least 1 − 0.01')
    """
    k = require_count("k", k, 1, _size(spectrum))
    m = require_count("m", m)
    require_failure(failure)
    epsilon = _chernoff(k, m / k, failure / 2)
    enough = Hypothesis(
        "m > k ln(2k/δ)", epsilon < 1, f"m = {m}, k ln(2k/δ) = {k * log(2 * k / failure):.4g}"
    )
    two, fro, trace = tail_norms(spectrum.values, k)
    square = 2 * trace / (failure * (1 - epsilon)) if epsilon < 1 else inf
    x = sqrt(square)
    found = (two + square, fro + x * (sqrt(2 * trace) + x), trace + square)
    source = "after Gittens and Mahoney 2016, Lemma 3; constant derived here"
    return _three(spectrum, found, source, probability=1 - failure, holds_under=(enough,))


def additive_weighted(spectrum: Spectrum, m: int, /, *, failure: float | None = None) -> Bound:
    r"""For m landmarks drawn with replacement by the diagonal: :math:`p_i = a_{ii}/\mathrm{tr}A`.

    .. math:: E\|R\|_F^2 \le \frac{(\mathrm{tr}A)^2 - \|A\|_F^2}{m}

    so :math:`\|R\|_F` is at most the root of it in the mean, and :math:`\delta^{-1/2}` times that with
    probability 1 − δ (Chebyshev).

    Parameters
    ----------
    spectrum : Spectrum
    m : int
        At least 1; may exceed n.
    failure : float, optional
        δ, in (0, 1); without it the bound is of the mean.

    Returns
    -------
    Bound
        Of the Frobenius norm.

    Raises
    ------
    KindError, RangeError
        Naming the argument.

    Notes
    -----
    Cost: O(n).

    After Drineas and Mahoney 2005, Theorem 3, who draw by :math:`a_{ii}^2`.  Derived here: with
    :math:`A = X^TX` and C the rescaled columns drawn, :math:`\|R\|_F = \|(I-\Pi)XX^T(I-\Pi)\|_F
    \le \|XX^T - CC^T\|_F`, whose mean square is exactly the right-hand side.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds
    >>> q = np.linalg.qr(np.random.default_rng(0).standard_normal((40, 40)))[0]
    >>> spectrum = bounds.psd_spectrum((q * 0.5 ** np.arange(40)) @ q.T)
    >>> found = bounds.additive_weighted(spectrum, 20)
    >>> round(found.value, 4), found.certainty
    (0.3651, 'in the mean over the draws')
    """
    require_instance("spectrum", spectrum, Spectrum)
    m = require_count("m", m)
    _, frobenius, trace = spectrum.norms
    square = max(trace**2 - frobenius**2, 0.0) / m
    source = "after Drineas and Mahoney 2005, Theorem 3; derived here for draws by the diagonal"
    return _of_square(spectrum, square, failure, source)


def _of_square(spectrum: Spectrum, square: float, failure: float | None, source: str) -> Bound:
    if failure is not None:
        square /= require_failure(failure)
    return bound(
        sqrt(square),
        Side.UPPER,
        Norm.FROBENIUS,
        source,
        trivial=spectrum.norms[1],
        probability=None if failure is None else 1 - failure,
    )


def additive_uniform(spectrum: Spectrum, m: int, /, *, failure: float | None = None) -> Bound:
    r"""For m landmarks drawn uniformly without replacement.

    .. math:: E\|R\|_F^2 \le V = \frac{n - m}{(n-1)m}\Bigl(n\sum_ia_{ii}^2 - \|A\|_F^2\Bigr),\qquad
              \|R\|_F \le \sqrt V + \frac{n}{\sqrt m}\max_ia_{ii}\sqrt{\ln(1/\delta)}

    the second with probability 1 − δ.

    Parameters
    ----------
    spectrum : Spectrum
    m : int
        1 to n.
    failure : float, optional
        δ, in (0, 1); without it the bound is of the mean.

    Returns
    -------
    Bound
        Of the Frobenius norm.

    Raises
    ------
    KindError, RangeError
        Naming the argument.

    Notes
    -----
    Cost: O(n).

    The smaller of this tail and Chebyshev's :math:`\sqrt{V/\delta}` is given.  After Kumar, Mohri and Talwalkar
    2012, Theorem 2, whose constants differ.  Derived here: :math:`\|R\|_F \le \|XX^T - \tfrac nmCC^T\|_F`, V is
    the exact variance of a mean of draws from a finite population, and exchanging one landmark moves the
    right-hand side by at most :math:`\sqrt2\,\tfrac nm\max_ia_{ii}` (Azuma's inequality for the martingale of
    successive draws).

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds
    >>> q = np.linalg.qr(np.random.default_rng(0).standard_normal((40, 40)))[0]
    >>> spectrum = bounds.psd_spectrum((q * 0.5 ** np.arange(40)) @ q.T)
    >>> found = bounds.additive_uniform(spectrum, 20, failure=0.1)
    >>> round(found.value, 4), found.certainty
    (1.1168, 'with probability at least 1 − 0.1')
    """
    n = _size(spectrum)
    m = require_count("m", m, 1, n)
    total = max(n * float((spectrum.diagonal**2).sum()) - spectrum.norms[1] ** 2, 0.0)
    square = (n - m) / max(n - 1, 1) / m * total
    source = "after Kumar, Mohri and Talwalkar 2012, Theorem 2; derived here"
    if failure is not None:
        require_failure(failure)
        step = float(spectrum.diagonal.max()) * n / sqrt(m) * sqrt(log(1 / failure))
        square = min(square, failure * (sqrt(square) + step) ** 2) if m < n else 0.0
    return _of_square(spectrum, square, failure, source)


def dpp_expectation(spectrum: Spectrum, m: int, /) -> Bound:
    r"""The exact mean for landmarks of a determinantal process, :math:`P(J) \propto \det A_{JJ}`, :math:`|J| = m`.

    .. math:: E\,\mathrm{tr}R = (m + 1)\,e_{m+1}(\lambda)/e_m(\lambda)

    with :math:`e_m` the elementary symmetric polynomials, computed by their recurrence in logarithms: nm steps.

    Hypothesis: A has rank m at least, or no such process exists.  Source: Deshpande, Rademacher, Vempala and
    Wang 2006, Theorem 1.3; Belabbas and Wolfe 2009.

    Parameters
    ----------
    spectrum : Spectrum
    m : int
        1 to n.

    Returns
    -------
    Bound
        Of the trace norm, and equal to its mean; without a value where the rank is below m.

    Raises
    ------
    KindError, RangeError
        Naming the argument.

    Notes
    -----
    Cost: O(nm).

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds
    >>> q = np.linalg.qr(np.random.default_rng(0).standard_normal((40, 40)))[0]
    >>> spectrum = bounds.psd_spectrum((q * 0.5 ** np.arange(40)) @ q.T)
    >>> exact, simple = bounds.dpp_expectation(spectrum, 3), bounds.belabbas_wolfe(spectrum, 3)
    >>> round(exact.value, 4), round(simple.value, 4)
    (0.5333, 1.0)
    """
    m = require_count("m", m, 1, _size(spectrum))
    positive = spectrum.values[spectrum.values > 0]
    rank = Hypothesis("rank of A at least m", len(positive) >= m, f"rank {len(positive)}, m = {m}")
    value = 0.0
    if len(positive) > m:
        logs = np.full(m + 2, -inf)
        logs[0] = 0.0
        for one in np.log(positive):
            logs[1:] = np.logaddexp(logs[1:], one + logs[:-1])
        value = (m + 1) * exp(logs[m + 1] - logs[m])
    source = "Belabbas and Wolfe 2009, §2; Deshpande et al. 2006, exact mean"
    trivial = spectrum.norms[2]
    return bound(
        value, Side.UPPER, Norm.TRACE, source, trivial=trivial, probability=None, holds_under=(rank,)
    )


def belabbas_wolfe(spectrum: Spectrum, m: int, /) -> Bound:
    r"""The mean for a determinantal process by a simple bound.

    .. math:: E\,\mathrm{tr}R \le (m + 1)\sum_{j>m}\lambda_j

    Parameters
    ----------
    spectrum : Spectrum
    m : int
        1 to n.

    Returns
    -------
    Bound
        Of the trace norm; without a value where the rank is below m.

    Raises
    ------
    KindError, RangeError
        Naming the argument.

    Notes
    -----
    Cost: O(n).

    Source: Belabbas and Wolfe 2009, Theorem 1; it follows from the exact mean (:func:`dpp_expectation`), as
    :math:`e_{m+1} \le e_m\sum_{j>m}\lambda_j`.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds
    >>> q = np.linalg.qr(np.random.default_rng(0).standard_normal((40, 40)))[0]
    >>> spectrum = bounds.psd_spectrum((q * 0.5 ** np.arange(40)) @ q.T)
    >>> print(bounds.belabbas_wolfe(spectrum, 3))
    trace norm at most 1 in the mean over the draws (Belabbas and Wolfe 2009, Theorem 1)
    """
    m = require_count("m", m, 1, _size(spectrum))
    rank = int((spectrum.values > 0).sum())
    enough = Hypothesis("rank of A at least m", rank >= m, f"rank {rank}, m = {m}")
    value = (m + 1) * tail_norms(spectrum.values, m)[2]
    return bound(
        value,
        Side.UPPER,
        Norm.TRACE,
        "Belabbas and Wolfe 2009, Theorem 1",
        trivial=spectrum.norms[2],
        probability=None,
        holds_under=(enough,),
    )


def rpcholesky_expectation(spectrum: Spectrum, m: int, /) -> Bound:
    r"""The mean after m steps of randomly pivoted Cholesky.

    .. math:: E\,\mathrm{tr}R \le (1 + \varepsilon)\sum_{j>r}\lambda_j

    where ε solves :math:`m = r/\varepsilon + r\ln(1/(\varepsilon\eta))`, with
    :math:`\eta = \sum_{j>r}\lambda_j/\mathrm{tr}A`, and r is the one that gives the least.

    Source: Chen, Epperly, Tropp and Webber 2024, Theorem 5.1; r = 0, the trivial bound, included.

    Parameters
    ----------
    spectrum : Spectrum
    m : int
        1 to n.

    Returns
    -------
    Bound
        Of the trace norm.

    Raises
    ------
    KindError, RangeError
        Naming the argument.

    Notes
    -----
    Cost: O(nm), a bisection for each of m ranks.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds
    >>> q = np.linalg.qr(np.random.default_rng(0).standard_normal((40, 40)))[0]
    >>> spectrum = bounds.psd_spectrum((q * 0.5 ** np.arange(40)) @ q.T)
    >>> print(bounds.rpcholesky_expectation(spectrum, 20))
    trace norm at most 0.1294 in the mean over the draws (Chen, Epperly, Tropp and Webber 2024, Theorem 5.1)
    """
    m = require_count("m", m, 1, _size(spectrum))
    trace = spectrum.norms[2]
    best = trace
    for r in range(1, m + 1):
        tail = tail_norms(spectrum.values, r)[2]
        if tail <= 0:
            break

        def enough(x: float, r: int = r, eta: float = tail / trace) -> bool:
            return r / x + r * log(max(1 / (x * eta), 1.0)) <= m

        limit = trace / tail
        if enough(limit):
            best = min(best, (1 + _bisect(enough, 1e-12, limit)) * tail)
    source = "Chen, Epperly, Tropp and Webber 2024, Theorem 5.1"
    return bound(best, Side.UPPER, Norm.TRACE, source, trivial=trace, probability=None)


def musco_musco(spectrum: Spectrum, m: float, /, *, failure: float = 0.01) -> Bound:
    r"""For landmarks drawn by ridge leverage scores: :math:`\|R\|_2 \le \lambda`, with probability 1 − δ.

    Each point is kept by itself with probability :math:`\min(1, q\ell_i)`,
    :math:`\ell_i = (A(A + \lambda I)^{-1})_{ii}`, and λ is the least ridge for which the number kept,
    :math:`q\sum_i\ell_i = q\,d_{\mathrm{eff}}`, is at most ``m`` in the mean:

    .. math:: q = \tfrac{28}{3}\ln\frac{\min(4d_{\mathrm{eff}}(1 + \lambda/\lambda_1),\, n)}{\delta}

    Parameters
    ----------
    spectrum : Spectrum
    m : float
        Landmarks kept in the mean, above 0; may exceed n.
    failure : float
        δ, in (0, 1).

    Returns
    -------
    Bound
        Of the spectral norm.

    Raises
    ------
    KindError, RangeError
        Naming the argument.

    Notes
    -----
    Cost: O(n) a step of a bisection of 50.

    Hypothesis: some ridge does.  After Musco and Musco 2017, Theorem 3.  The constant is derived here: a
    matrix Bernstein bound, one-sided with L = v = 1/q, keeps :math:`\Psi\Psi^T - \sum_Jp_i^{-1}\psi_i\psi_i^T
    \preceq \tfrac12I` (Tropp 2015, Theorems 6.6.1 and 7.7.1, whose constant 4 was not derived anew), and then
    :math:`(I-\Pi)A(I-\Pi) \preceq \lambda I`.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds
    >>> q = np.linalg.qr(np.random.default_rng(0).standard_normal((40, 40)))[0]
    >>> spectrum = bounds.psd_spectrum((q * 0.5 ** np.arange(40)) @ q.T)
    >>> found = bounds.musco_musco(spectrum, 300)
    >>> round(found.value, 4), found.certainty
    (0.0769, 'with probability at least 1 − 0.01')
    """
    require_instance("spectrum", spectrum, Spectrum)
    m = require_positive("m", m)
    require_failure(failure)
    values, largest = spectrum.values, spectrum.norms[0]

    def cost(ridge: float) -> float:
        effective = float((values / (values + ridge)).sum())
        dimension = min(4 * effective * (1 + ridge / largest), spectrum.size)
        return 28 / 3 * log(max(dimension, 1.0) / failure) * effective

    top = spectrum.norms[2] * 1e3
    possible = Hypothesis(
        "a ridge whose landmarks number m at most",
        largest > 0 and cost(top) <= m,
        f"m = {m:g}, at λ = λ₁ they number {cost(largest):.4g}" if largest > 0 else "a zero matrix",
    )
    value = inf
    if possible.holds:
        log_ridge = _bisect(lambda x: cost(exp(x)) <= m, log(largest) - 80, log(top))
        value = exp(log_ridge)
    source = "after Musco and Musco 2017, Theorem 3; constant derived here from a matrix Bernstein bound"
    return bound(
        value,
        Side.UPPER,
        Norm.SPECTRAL,
        source,
        trivial=largest,
        probability=1 - failure,
        holds_under=(possible,),
    )


def gaussian_sketch(spectrum: Spectrum, m: int, /) -> tuple[Bound, Bound]:
    r"""The mean for a Gaussian sketch :math:`Y = A\Omega`, Ω (n, m), in the spectral and the trace norm.

    .. math:: E\|R\|_2 \le \min_{p}\Bigl(1 + \frac{2(m - p)}{p - 1}\Bigr)\lambda_{m-p+1}
              + \frac{2e^2m}{p^2 - 1}\sum_{j>m-p}\lambda_j,\qquad
              E\,\mathrm{tr}R \le \min_p\Bigl(1 + \frac{m - p}{p - 1}\Bigr)\sum_{j>m-p}\lambda_j

    over 2 <= p <= m − 1.  No landmarks: a sketch of all columns.

    Parameters
    ----------
    spectrum : Spectrum
    m : int
        Columns of Ω, 1 to n.

    Returns
    -------
    tuple of two Bound
        Without a value for m below 3.

    Raises
    ------
    KindError, RangeError
        Naming the argument.

    Notes
    -----
    Cost: O(nm).

    Hypothesis: m at least 3.  Source: Frangella, Tropp and Udell 2023, Proposition 2.2, and Halko, Martinsson
    and Tropp 2011, Theorem 10.5.  Derived anew from the structural bound; the two facts on Gaussian matrices,
    :math:`E\|G^+\|_2^2 \le e^2m/(p^2-1)` and Chevet's inequality for the second moment, are taken from them.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import bounds
    >>> q = np.linalg.qr(np.random.default_rng(0).standard_normal((40, 40)))[0]
    >>> spectrum = bounds.psd_spectrum((q * 0.5 ** np.arange(40)) @ q.T)
    >>> print(bounds.gaussian_sketch(spectrum, 20)[1])
    trace norm at most 0.000145 in the mean over the draws (Halko, Martinsson and Tropp 2011, Theorem 10.5)
    """
    m = require_count("m", m, 1, _size(spectrum))
    enough = Hypothesis("m at least 3", m >= 3, f"m = {m}")
    found = [inf, inf]
    for p in range(2, m):
        two, _, trace = tail_norms(spectrum.values, m - p)
        spectral = (1 + 2 * (m - p) / (p - 1)) * two + 2 * e**2 * m / (p * p - 1) * trace
        found = [min(found[0], spectral), min(found[1], (1 + (m - p) / (p - 1)) * trace)]
    sources = (
        "Frangella, Tropp and Udell 2023, Proposition 2.2",
        "Halko, Martinsson and Tropp 2011, Theorem 10.5",
    )
    spectral_bound, trace_bound = (
        bound(x, Side.UPPER, norm, s, trivial=t, probability=None, holds_under=(enough,))
        for x, norm, s, t in zip(
            found, (Norm.SPECTRAL, Norm.TRACE), sources, (spectrum.norms[0], spectrum.norms[2]), strict=True
        )
    )
    return spectral_bound, trace_bound
