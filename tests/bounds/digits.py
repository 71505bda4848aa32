"""The inequalities for PSD matrices in sixty digits, where float64 could not decide them."""

from __future__ import annotations

import mpmath as mp

MARGIN = mp.mpf(10) ** -25


def psd_inequalities(case):
    """(name, smaller, larger) of the structural bounds and of diagonal and trace, for an exactly PSD matrix.

    That is U diag(λ) Uᵀ with U orthonormalised and λ clipped at 0, to sixty digits; it differs from the
    instance by rounding.
    """
    with mp.workdps(60):
        u = orthonormal(mp.matrix(case.spectrum.vectors.tolist()))
        values = [mp.mpf(max(float(x), 0.0)) for x in case.spectrum.values]
        n, m = len(values), len(case.indices)
        s = [int(i) for i in case.indices]
        half = mp.matrix(n, n)
        for i in range(n):
            for j in range(n):
                half[i, j] = mp.sqrt(values[i]) * u[j, i]  # A = halfᵀ half
        basis = range_basis([half[:, i] for i in s])
        left = half.copy()
        for b in basis:
            left = left - b * (b.T * left)
        residual = left.T * left
        eigenvalues = [max(x, mp.mpf(0)) for x in mp.eigsy(residual, eigvals_only=True)]
        two, trace = max(eigenvalues), sum(eigenvalues)
        frobenius = mp.sqrt(sum(x * x for x in eigenvalues))
        diagonal = [residual[i, i] for i in range(n)]
        tiny = MARGIN * MARGIN * max(values[0], mp.mpf(10) ** -300)
        yield "largest diagonal entry", max(diagonal), two + tiny
        yield "diagonal", mp.sqrt(sum(x * x for x in diagonal)), frobenius + tiny
        yield "trace", two, sum(diagonal) + tiny
        for k in range(1, m + 1):
            omega1 = mp.matrix(k, m)
            omega2 = mp.matrix(n - k, m)
            for c, i in enumerate(s):
                for r in range(n):
                    if r < k:
                        omega1[r, c] = u[i, r]
                    else:
                        omega2[r - k, c] = mp.sqrt(values[r]) * u[i, r]
            gram = omega1 * omega1.T
            if min(mp.eigsy(gram, eigvals_only=True)) < mp.mpf(10) ** -20:
                continue  # the hypothesis: Ω₁ of full row rank
            x = omega2 * omega1.T * mp.inverse(gram)
            x2 = max(mp.eigsy(x * x.T, eigvals_only=True)) if n > k else mp.mpf(0)
            xf = sum(x[i, j] ** 2 for i in range(n - k) for j in range(k))
            tail = values[k:] or [mp.mpf(0)]
            yield "structural, spectral", two, tail[0] + x2 + tiny
            yield "structural, trace", trace, sum(tail) + xf + tiny
            middle = mp.sqrt(x2) * (mp.sqrt(2 * sum(tail)) + mp.sqrt(xf))
            yield "structural, Frobenius", frobenius, mp.sqrt(sum(t * t for t in tail)) + middle + tiny


def orthonormal(u):
    """Gram-Schmidt twice over."""
    columns = []
    for j in range(u.cols):
        v = u[:, j]
        for _ in range(2):
            for b in columns:
                v = v - b * (b.T * v)[0]
        columns.append(v / mp.norm(v))
    found = mp.matrix(u.rows, u.cols)
    for j, v in enumerate(columns):
        for i in range(u.rows):
            found[i, j] = v[i]
    return found


def range_basis(columns):
    """An orthonormal basis of what the columns span beyond the digits at hand."""
    basis = []
    for v in columns:
        size = mp.norm(v)
        for _ in range(2):
            for b in basis:
                v = v - b * (b.T * v)[0]
        if mp.norm(v) > mp.mpf(10) ** -50 * max(size, mp.mpf(10) ** -50):
            basis.append(v / mp.norm(v))
    return basis
