r"""Bounds before the fact that hold in the mean: landmarks of a determinantal process or of RPCholesky, and a sketch.

Each is a statement about the rule, as :mod:`~nystrom_numerics.bounds.apriori` says.
"""

from __future__ import annotations

from math import e, exp, inf, log

import numpy as np

from nystrom_numerics.arguments import require_count
from nystrom_numerics.bounds.apriori import size_of
from nystrom_numerics.bounds.drawn import bisect
from nystrom_numerics.bounds.result import Bound, Hypothesis, Norm, Side, bound
from nystrom_numerics.bounds.spectrum import Spectrum, tail_norms

__all__ = ["belabbas_wolfe", "dpp_expectation", "gaussian_sketch", "rpcholesky_expectation"]


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
    m = require_count("m", m, 1, size_of(spectrum))
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
    m = require_count("m", m, 1, size_of(spectrum))
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
    m = require_count("m", m, 1, size_of(spectrum))
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
            best = min(best, (1 + bisect(enough, 1e-12, limit)) * tail)
    source = "Chen, Epperly, Tropp and Webber 2024, Theorem 5.1"
    return bound(best, Side.UPPER, Norm.TRACE, source, trivial=trace, probability=None)


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
    m = require_count("m", m, 1, size_of(spectrum))
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
