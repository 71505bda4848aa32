r"""What rounding can do to a planned schedule, at most: the rounding model that is a theorem.

For a non-singular A with m rows and singular values in [1/κ, 1], let :math:`Y_k = AZ_k` be the exact product with the
matrix that step k left, and :math:`S_k` what exact arithmetic would have, which is symmetric.  A step multiplies
:math:`Z_k` by a polynomial at :math:`Y_k + E_k`, with :math:`E_k` the error of the computed product and of its
centring, and leaves rounding of :math:`L_k` in :math:`Y_{k+1}`.  Then (``schedule_rounding`` in ``proofs_check``)

.. math:: \|Y_k - S_k\|_2 \le \varepsilon_k,\qquad
          \varepsilon_{k+1} = \phi_k(\varepsilon_k + \|E_k\|) + \|E_k\|\|p_k(Y_k + E_k)\| + \|L_k\|,

with :math:`\phi_k` from what a perturbation that is not symmetric does to a Chebyshev polynomial
(``chebyshev_perturbation``), and E and L from :math:`\|\mathrm{fl}(BC) - BC\|_F \le \gamma_m\|B\|_F\|C\|_F`
(``matrix_product_rounding``).  What a step executes is not transcribed here: its own code is run on norms, and on
polynomials with exact coefficients.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import sqrt

from nystrom_numerics.pinv.steps import interval_parts

__all__ = ["State", "advanced", "begun"]

_UP = 1 + 1e-12
"""More than the rounding of the model's own arithmetic, of some thousand operations with positive numbers."""


@dataclass(frozen=True)
class State:
    """After a step: bounds of ‖Y − S‖₂, ‖I − S‖₂ and ‖Z‖₂, and the growth so far."""

    error: float
    residual: float
    size: float
    growth: float


@dataclass(frozen=True)
class _Format:
    """Roundings of matrices with m rows: u, and the least normal number."""

    u: float
    least: float
    m: int

    def gamma(self, k: int) -> float:
        return k * self.u / (1 - k * self.u)


@dataclass(frozen=True)
class _Norms:
    """A computed matrix: a bound of the 2-norm of the exact one, and of the error in the Frobenius norm."""

    exact: float
    error: float
    form: _Format

    @property
    def frobenius(self) -> float:
        return sqrt(self.form.m) * self.exact + self.error

    def __rmul__(self, c: float) -> _Norms:
        """Two roundings, of c and of the product."""
        return _Norms(
            abs(c) * self.exact, abs(c) * (self.error + self.form.gamma(2) * self.frobenius), self.form
        )

    def __add__(self, other: _Norms) -> _Norms:
        rounding = self.form.u * (self.frobenius + other.frobenius)
        return _Norms(self.exact + other.exact, self.error + other.error + rounding, self.form)

    def __matmul__(self, other: _Norms) -> _Norms:
        m = self.form.m
        inherited = self.error * other.exact + (self.exact + self.error) * other.error
        rounding = self.form.gamma(m) * self.frobenius * other.frobenius + m * m * self.form.least
        return _Norms(self.exact * other.exact, inherited + rounding, self.form)


@dataclass(frozen=True)
class _Polynomial:
    """Exact coefficients, from x⁰ on."""

    coefficients: tuple[Fraction, ...]

    def __rmul__(self, c: float) -> _Polynomial:
        return _Polynomial(tuple(Fraction(c) * x for x in self.coefficients))

    def __add__(self, other: _Polynomial) -> _Polynomial:
        return _Polynomial(tuple(_sums(self.coefficients, other.coefficients)))

    def __matmul__(self, other: _Polynomial) -> _Polynomial:
        found = [Fraction(0)] * (len(self.coefficients) + len(other.coefficients) - 1)
        for i, x in enumerate(self.coefficients):
            for j, y in enumerate(other.coefficients):
                found[i + j] += x * y
        return _Polynomial(tuple(found))


def _sums(x: tuple[Fraction, ...], y: tuple[Fraction, ...]) -> Iterator[Fraction]:
    for k in range(max(len(x), len(y))):
        yield (x[k] if k < len(x) else Fraction(0)) + (y[k] if k < len(y) else Fraction(0))


def begun(lower: float, u: float, least: float, size: int) -> State:
    """Z₀ = Aᵀ/β², by two divisions."""
    form = _Format(u, least, size)
    return State(form.gamma(3) * sqrt(size) * _UP, 1 - lower, 1.0 * _UP, 1.0)


def advanced(
    state: State,
    degree: int,
    low: float,
    high: float,
    growth: float,
    lower: float,
    u: float,
    least: float,
    size: int,
) -> State:
    """The state after an interval's step, for S with its spectrum in [low, high] and κ = 1/√lower."""
    form = _Format(u, least, size)
    kappa, root = lower**-0.5, sqrt(size)
    centre, constant, evaluate = interval_parts(degree, low, high)
    half = max(Fraction(high) - Fraction(centre), Fraction(centre) - Fraction(low))
    t0 = Fraction(centre) / half
    top = _first_kind(degree, t0)[-1]
    residual = float(1 / top) * _UP

    # what the step sees in place of Y: the product's rounding, and at most eight of an entry's centring
    largest = high + state.error
    product = form.gamma(size) * size * state.size
    seen = product + form.gamma(8) * root * (centre + largest + product) + size * size * form.least
    moved = (state.error + seen) / float(half) * _UP
    grown = _grown(degree, moved)
    shifts = [moved * _against(grown, j) for j in range(degree + 1)]
    phi = shifts[degree] * residual
    second = _second_kind(degree, t0)
    factor = float(second[degree - 1] / (half * top)) + sum(
        float(2 * second[degree - 1 - j] / (half * top)) * (1 + shifts[j]) for j in range(1, degree)
    )

    # the polynomial: its rounding, and how far the executed coefficients are from the ideal ones
    x = (1 + moved) / float(t0) * _UP
    rest = evaluate(_Norms(x, 0.0, form))
    executed = evaluate(_Polynomial((Fraction(0), Fraction(1)))) + _Polynomial((Fraction(constant),))
    wrong = sum(
        float(abs(a)) * x**k
        for k, a in enumerate(_sums(executed.coefficients, tuple(-c for c in _ideal(degree, t0, centre))))
    )
    z = root * state.size
    scaled = form.gamma(2) * abs(constant) * z
    multiplied = form.gamma(size) * z * rest.frobenius
    added = form.u * (abs(constant) * z + scaled + z * (rest.exact + rest.error) + multiplied)
    left = largest * (rest.error + wrong) + scaled + multiplied + added + 4 * size**3 * form.least

    error = (phi + seen * factor + left) * _UP
    total = state.growth * growth
    size_z = min(sqrt(total * (1 + residual)), kappa * (1 + residual)) + kappa * error
    return State(error, residual, size_z * _UP, total)


def _first_kind(degree: int, t: Fraction) -> list[Fraction]:
    found = [Fraction(1), t]
    while len(found) <= degree:
        found.append(2 * t * found[-1] - found[-2])
    return found


def _second_kind(degree: int, t: Fraction) -> list[Fraction]:
    found = [Fraction(1), 2 * t]
    while len(found) < degree:
        found.append(2 * t * found[-1] - found[-2])
    return found


def _ideal(degree: int, t0: Fraction, centre: float) -> tuple[Fraction, ...]:
    """Coefficients in x of (1 − T_d(t₀x)/T_d(t₀))/(1 − x), over the centre."""
    before, now = _Polynomial((Fraction(1),)), _Polynomial((Fraction(0), Fraction(1)))
    twice = _Polynomial((Fraction(0), Fraction(2)))
    for _ in range(degree - 1):
        before, now = now, twice @ now + (-1.0) * before
    s = [c * t0**k for k, c in enumerate(now.coefficients)]
    whole = sum(s)
    return tuple(sum(s[k + 1 :], Fraction(0)) / whole / Fraction(centre) for k in range(degree))


def _grown(degree: int, moved: float) -> list[float]:
    """a_k ≥ ‖U_k(S + D)‖ for ‖D‖ ≤ ``moved`` and the spectrum of S in [−1, 1]."""
    a: list[float] = []
    for k in range(degree):
        a.append(k + 1 + 2 * moved * sum(a[k - 1 - j] * (j + 1) for j in range(k)))
    return a


def _against(a: list[float], n: int) -> float:
    """‖T_n(S + D) − T_n(S)‖/‖D‖ at most."""
    return sum((1 if j == 0 else 2) * a[n - 1 - j] for j in range(n))
