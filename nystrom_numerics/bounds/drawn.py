r"""Bounds before the fact that hold in probability: landmarks drawn uniformly, by leverage or by the diagonal.

Each is a statement about the rule, as :mod:`~nystrom_numerics.bounds.apriori` says.
"""

from __future__ import annotations

from collections.abc import Callable
from math import exp, inf, log, sqrt

from nystrom_numerics.arguments import require_count, require_instance, require_positive
from nystrom_numerics.bounds.apriori import size_of, three_norms
from nystrom_numerics.bounds.result import Bound, Hypothesis, Norm, Side, bound, require_failure
from nystrom_numerics.bounds.spectrum import Spectrum, tail_norms

__all__ = ["additive_uniform", "additive_weighted", "bisect", "coherence", "drawn_leverage", "musco_musco"]


def _chernoff(k: int, strength: float, failure: float) -> float:
    """The least ε in [0, 1] with k·exp(−(ε + (1−ε)ln(1−ε))·strength) at most ``failure``; inf if there is none."""
    need = log(k / failure) / strength
    if need >= 1:
        return inf

    def reached(x: float) -> float:
        return x + (1 - x) * log(1 - x) if x < 1 else 1.0

    return bisect(lambda x: reached(x) >= need, 0.0, 1.0)


def bisect(holds: Callable[[float], bool], low: float, high: float) -> float:
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
    n = size_of(spectrum)
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
    return three_norms(spectrum, found, source, probability=1 - failure, holds_under=(enough,))


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
    k = require_count("k", k, 1, size_of(spectrum))
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
    return three_norms(spectrum, found, source, probability=1 - failure, holds_under=(enough,))


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
    n = size_of(spectrum)
    m = require_count("m", m, 1, n)
    total = max(n * float((spectrum.diagonal**2).sum()) - spectrum.norms[1] ** 2, 0.0)
    square = (n - m) / max(n - 1, 1) / m * total
    source = "after Kumar, Mohri and Talwalkar 2012, Theorem 2; derived here"
    if failure is not None:
        require_failure(failure)
        step = float(spectrum.diagonal.max()) * n / sqrt(m) * sqrt(log(1 / failure))
        square = min(square, failure * (sqrt(square) + step) ** 2) if m < n else 0.0
    return _of_square(spectrum, square, failure, source)


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
        log_ridge = bisect(lambda x: cost(exp(x)) <= m, log(largest) - 80, log(top))
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
