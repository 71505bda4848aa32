"""The inequalities for PSD matrices and for crosses in sixty digits, where float64 could not decide them."""

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
        rest = values[m:] or [mp.mpf(0)]
        yield "Eckart-Young, spectral", rest[0], two + tiny
        yield "Eckart-Young, Frobenius", mp.sqrt(sum(x * x for x in rest)), frobenius + tiny
        yield "Eckart-Young, trace", sum(rest), trace + tiny
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
            one = mp.diag(tail) + x * x.T if n > k else mp.matrix([[0]])
            of_one = [max(t, mp.mpf(0)) for t in mp.eigsy(one, eigvals_only=True)]
            yield "one matrix, spectral", two, max(of_one) + tiny
            yield "one matrix, Frobenius", frobenius, mp.sqrt(sum(t * t for t in of_one)) + tiny
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


def goreinov_tyrtyshnikov(a, rows, columns):
    """The largest entry of the residual, and (k + 1) g σ_{k+1} with every bordered matrix inverted as it stands."""
    with mp.workdps(60):
        k, full = len(rows), mp.matrix(a.tolist())
        w = part(full, rows, columns)
        residual = full - part(full, range(full.rows), columns) * mp.inverse(w) * part(
            full, rows, range(full.cols)
        )
        largest = max(abs(residual[x, y]) for x in range(full.rows) for y in range(full.cols))
        growth = mp.mpf(1)
        for x in set(range(full.rows)) - set(map(int, rows)):
            for y in set(range(full.cols)) - set(map(int, columns)):
                bordered = part(full, [*rows, x], [*columns, y])
                for minor in minors(bordered):
                    growth = max(growth, abs(minor / mp.det(w)))
        sigma = singular_values(full)
        return largest, (k + 1) * growth * (sigma[k] if k < len(sigma) else 0) + tiny(sigma)


def sorensen_embree(a, rows, columns, k):
    with mp.workdps(60):
        full = mp.matrix(a.tolist())
        u, sigma, v = mp.svd_r(full)
        left = orthonormal(part(full, range(full.rows), columns))
        right = orthonormal(part(full, rows, range(full.cols)).T)
        residual = full - left * (left.T * full * right) * right.T
        growth = reach(part(u, rows, range(k))) + reach(part(v, range(k), columns).T)
        return singular_values(residual)[0], growth * (sigma[k] if k < len(sigma) else 0) + tiny(sigma)


def oversampled_cross(a, rows, columns, k):
    with mp.workdps(60):
        full = mp.matrix(a.tolist())
        _, sigma, v = mp.svd_r(full)
        basis = orthonormal(part(full, range(full.rows), columns))
        sampled = part(basis, rows, range(basis.cols))
        inverse = mp.inverse(sampled.T * sampled) * sampled.T
        residual = full - basis * (inverse * part(full, rows, range(full.cols)))
        growth = reach(sampled) * reach(part(v, range(k), columns).T)
        return singular_values(residual)[0], growth * (sigma[k] if k < len(sigma) else 0) + tiny(sigma)


CROSS = {
    "Goreinov-Tyrtyshnikov": goreinov_tyrtyshnikov,
    "Sorensen-Embree": sorensen_embree,
    "oversampled cross": oversampled_cross,
}


def part(a, rows, columns):
    return mp.matrix([[a[int(x), int(y)] for y in columns] for x in rows])


def minors(a):
    """Determinants of what is left without one row and one column."""
    for x in range(a.rows):
        for y in range(a.cols):
            yield mp.det(part(a, [i for i in range(a.rows) if i != x], [i for i in range(a.cols) if i != y]))


def singular_values(a):
    return list(mp.svd_r(a, compute_uv=False))


def reach(x):
    """‖X⁺‖₂ for X of full column rank."""
    return 1 / min(singular_values(x))


def tiny(sigma):
    return MARGIN * MARGIN * max(max(sigma), mp.mpf(10) ** -300)
