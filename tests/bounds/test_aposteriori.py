"""After the fact: what the estimators equal, count, promise and refuse, on every backend."""

from __future__ import annotations

import numpy as np
import pytest

from nystrom_numerics import bounds, errors, kernels, landmarks, lowrank
from tests import families
from tests.thorough import many


def operator(a, count=None):
    def apply(v):
        if count is not None:
            count.append(v.shape[1])
        return a @ v

    return apply


def psd(n, rng, decay=0.8):
    return families.with_spectrum(decay ** np.arange(n), rng)


def numbers(c):
    return [c.lower.value, c.upper.value, *([] if c.estimate is None else [c.estimate.value])]


MAKERS = {
    "gaussian_norm_bound": lambda a, like: numbers(bounds.gaussian_norm_bound(operator(a), like, rng=1)),
    "frobenius_probes": lambda a, like: numbers(bounds.frobenius_probes(operator(a), like, rng=1)),
    "lanczos_norm": lambda a, like: numbers(bounds.lanczos_norm(operator(a), like, rng=1)),
    "lanczos_norm, any": lambda a, like: numbers(
        bounds.lanczos_norm(operator(a), like, apply_transpose=operator(a), rng=1)
    ),
    "hutchpp": lambda a, like: [bounds.hutchpp(operator(a), like, matvecs=12, rng=1).value],
    "xtrace": lambda a, like: [bounds.xtrace(operator(a), like, matvecs=12, rng=1).value],
    "xnystrace": lambda a, like: [bounds.xnystrace(operator(a), like, matvecs=12, rng=1).value],
    "psd_sandwich": lambda a, like: [x for c in bounds.psd_sandwich(like[:, 0]) for x in numbers(c)],
    "leave_one_out": lambda a, like: [bounds.leave_one_out(a @ like[:, :9], like[:, :9]).value],
}


@pytest.mark.parametrize("name", MAKERS)
def test_lanes_agree(name, lane, dtype, rng):
    """One seed, one value, on every backend, up to rounding."""
    a, like = psd(30, rng).astype(dtype), np.abs(rng.standard_normal((30, 30))).astype(dtype)
    expected = MAKERS[name](a.astype(float), like.astype(float))
    found = MAKERS[name](lane(a), lane(like))
    np.testing.assert_allclose(found, expected, rtol=1e-10 if dtype == "float64" else 2e-2)


def test_matvecs_are_counted(rng):
    a = psd(60, rng)
    for make, options in (
        (bounds.frobenius_probes, {"probes": 7}),
        (bounds.lanczos_norm, {"iterations": 9}),
        (bounds.hutchpp, {"matvecs": 12}),
        (bounds.xtrace, {"matvecs": 12}),
        (bounds.xnystrace, {"matvecs": 11}),
    ):
        count = []
        found = make(operator(a, count), a, **options)
        estimate = found if isinstance(found, bounds.Estimate) else found.estimate
        assert estimate.matvecs == sum(count)
    count = []
    found = bounds.lanczos_norm(operator(a, count), a, apply_transpose=operator(a, count))
    assert found.estimate.matvecs == sum(count)


def test_lanczos_stops_at_the_ratio_asked_for(rng):
    a = psd(200, rng, 0.97)
    steps = []
    for ratio in (3.0, 1.5, 1.1):
        c = bounds.lanczos_norm(operator(a), a, ratio=ratio)
        assert c.ratio <= ratio * (1 + 1e-9)
        assert c.lower.value <= 1 + 1e-12 <= c.upper.value + 2e-12
        steps.append(c.estimate.matvecs)
    assert steps[0] < steps[1] < steps[2] < 40
    loose = bounds.lanczos_norm(operator(a), a, ratio=1.0001, iterations=3)
    assert loose.estimate.matvecs == 3
    assert loose.ratio > 1.5


@pytest.mark.parametrize(
    "a", [np.zeros((5, 5)), np.eye(5), np.diag([3.0, 3, 0, 0, 0]), np.array([[2.0]])], ids=str
)
def test_lanczos_meets_an_invariant_space(a):
    c = bounds.lanczos_norm(operator(a), a, ratio=1.0001)
    size = np.linalg.norm(a, 2)
    assert c.lower.value == pytest.approx(size, abs=1e-12)
    assert c.upper.value == pytest.approx(size, rel=1e-6, abs=1e-12)


def test_sandwich_of_a_real_factor(rng):
    x = rng.standard_normal((120, 3))
    kernel = kernels.gaussian(x, gamma=0.4)
    a = kernel.block(slice(None), slice(None))
    factor = lowrank.nystrom_factor(kernel, landmarks.rpcholesky(kernel, 30), diagonal=True)
    residual = a - factor.factor @ factor.factor.T
    truth = np.linalg.norm(residual, 2), np.linalg.norm(residual), np.trace(residual)
    for c, t in zip(bounds.psd_sandwich(factor.residual), truth, strict=True):
        assert c.lower.value <= t * (1 + 1e-9)
        assert t <= c.upper.value * (1 + 1e-9)
        assert c.probability == 1
    vacuous = bounds.psd_sandwich(factor.residual, trivial=(1e-9, 1e-9, 1e-9))
    assert all(c.upper.vacuous for c in vacuous)


def test_traces_are_unbiased_and_exact_at_low_rank(rng):
    a = psd(40, rng, 0.9)
    for make in (bounds.hutchpp, bounds.xtrace, bounds.xnystrace):
        made = [make(operator(a), a, matvecs=12, rng=seed) for seed in range(300)]
        values = np.array([e.value for e in made])
        assert abs(values.mean() - np.trace(a)) < 4 * values.std() / 300**0.5
        assert 0.4 < np.mean([e.standard_error for e in made]) / values.std() < 2.5
        low = a[:, :3] @ a[:3]
        low = low @ low.T
        assert make(operator(low), a, matvecs=12).value == pytest.approx(np.trace(low), rel=1e-8)


def test_xtrace_and_xnystrace_are_their_definitions(rng):
    """Each estimate recomputed from a sketch without its vector."""
    a, m = psd(20, rng, 0.7), 5
    omega = np.random.default_rng(3).choice([-1.0, 1.0], (20, m))
    terms = []
    for i in range(m):
        q = np.linalg.qr(a @ np.delete(omega, i, axis=1))[0]
        rest = omega[:, i] - q @ (q.T @ omega[:, i])
        terms.append(np.trace(q.T @ a @ q) + rest @ a @ rest)
    assert bounds.xtrace(operator(a), a, matvecs=2 * m, rng=3).value == pytest.approx(np.mean(terms))
    terms = []
    for i in range(m):
        few = np.delete(omega, i, axis=1)
        hat = a @ few @ np.linalg.inv(few.T @ a @ few) @ few.T @ a
        terms.append(np.trace(hat) + omega[:, i] @ (a - hat) @ omega[:, i])
    assert bounds.xnystrace(operator(a), a, matvecs=m, rng=3).value == pytest.approx(np.mean(terms))


def test_leave_one_out_is_its_definition_and_unbiased(rng):
    a, m = psd(30, rng, 0.8), 8
    omega = rng.standard_normal((30, m))

    def hat(o):
        return a @ o @ np.linalg.inv(o.T @ a @ o) @ o.T @ a

    left = [np.linalg.norm((a - hat(np.delete(omega, i, 1))) @ omega[:, i]) ** 2 for i in range(m)]
    assert bounds.leave_one_out(a @ omega, omega).value == pytest.approx(np.mean(left) ** 0.5)
    draws = [rng.standard_normal((30, m)) for _ in range(1500)]
    estimates = np.array([bounds.leave_one_out(a @ o, o).value ** 2 for o in draws])
    truth = np.array([np.linalg.norm(a - hat(o[:, 1:])) ** 2 for o in draws])
    assert abs(estimates.mean() - truth.mean()) < 4 * (estimates.std() + truth.std()) / 1500**0.5
    with pytest.raises(errors.RangeError, match="sketch"):
        bounds.leave_one_out(np.zeros((5, 2)), np.ones((5, 2)))


def test_pinv_error_exact_and_bounded(rng):
    """The identity to rounding, both bounds above it, and the backward one not above the naive one here."""
    better = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        m = int(rng.integers(2, 9))
        w = rng.standard_normal((m, m)) + 2 * np.eye(m)
        if np.linalg.cond(w) > 1e4:
            continue
        z = np.linalg.inv(w + 10.0 ** -rng.uniform(1, 6) * rng.standard_normal((m, m)))
        c, b = (w @ rng.standard_normal((m, 30))).T, w @ rng.standard_normal((m, 20))
        found = bounds.pinv_error(w, z, c.T @ c, b @ b.T)
        truth = np.linalg.norm(c @ (np.linalg.inv(w) - z) @ b)
        assert found.exact == pytest.approx(truth, rel=1e-4)
        assert truth <= found.backward.value * (1 + 1e-9)
        assert truth <= found.naive.value * (1 + 1e-9)
        better += found.backward.value < found.naive.value
    assert better > 150
    assert bounds.pinv_error(np.zeros((2, 2)), np.eye(2), np.eye(2), np.eye(2)).backward.value is None


def test_pinv_error_weaker_constants_are_caught():
    w = np.diag([2.0, 1.0])
    found = bounds.pinv_error(w, np.diag([0.4, 1.0]), np.diag([4.0, 0.0]), np.diag([4.0, 0.0]))
    assert found.exact > 0.99 * found.backward.value
    assert found.exact > 0.99 * found.naive.value


def test_wedin():
    """Random, rank-changing and the extremal pair of the golden ratio, and teeth."""
    rng = np.random.default_rng(2)
    worst = {bounds.Norm.SPECTRAL: 0.0, bounds.Norm.FROBENIUS: 0.0}
    for index in range(many(5000, 2000)):
        n, p = rng.integers(1, 4, 2)
        a = (
            rng.standard_normal((n, p))
            if index % 3
            else np.outer(rng.standard_normal(n), rng.standard_normal(p))
        )
        b = a + 10.0 ** -rng.uniform(0, 3) * rng.standard_normal((n, p))
        if index % 5 == 0:
            b = np.outer(b[:, 0], b[0]) / (b[0, 0] or 1.0)
        pa, pb = (np.linalg.pinv(x, rcond=1e-10) for x in (a, b))
        for norm, order in ((bounds.Norm.SPECTRAL, 2), (bounds.Norm.FROBENIUS, "fro")):
            one = bounds.wedin(
                np.linalg.norm(pa, 2), np.linalg.norm(pb, 2), np.linalg.norm(b - a, order), norm=norm
            )
            truth = np.linalg.norm(pb - pa, order)
            assert truth <= one.value * (1 + 1e-9)
            worst[norm] = max(worst[norm], truth / one.value)
    assert worst[bounds.Norm.SPECTRAL] > 0.61, "the constant 1 would be caught"
    assert worst[bounds.Norm.FROBENIUS] > 0.7
    with pytest.raises(errors.RangeError, match="norm"):
        bounds.wedin(1, 1, 1, norm=bounds.Norm.MAX)


def test_softmax_is_half_lipschitz():
    rng = np.random.default_rng(4)
    top = 0.0
    for _ in range(many(5000, 2000)):
        x = rng.standard_normal((2, rng.integers(2, 5))) * 10.0 ** rng.uniform(-2, 1)
        y = x + rng.standard_normal(x.shape) * 10.0 ** rng.uniform(-4, 1)
        one = bounds.softmax_lipschitz(x, y)
        p, q = (np.exp(s - s.max(1, keepdims=True)) for s in (x, y))
        truth = np.linalg.norm(p / p.sum(1, keepdims=True) - q / q.sum(1, keepdims=True))
        assert truth <= one.value * (1 + 1e-9)
        top = max(top, truth / one.value)
    x = np.array([[0.0, 0.0]])
    e = np.array([[1e-4, -1e-4]])
    assert bounds.softmax_lipschitz(x, x + e).value * 0.97 < np.sqrt(2) * 0.5e-4 * (1 - 1e-6)
    assert top > 0.9


def test_row_normalisation():
    rng = np.random.default_rng(5)
    top = 0.0
    for _ in range(many(5000, 2000)):
        a = rng.random((1, rng.integers(1, 6))) ** 3
        b = a + rng.standard_normal(a.shape) * 10.0 ** -rng.uniform(0, 4) * rng.integers(0, 2, a.shape)
        found = bounds.row_normalisation(np.abs(a - b).sum(1), b.sum(1))
        if b.sum() <= 0:
            assert np.isinf(found[0])
            continue
        truth = np.abs(a / a.sum() - b / b.sum()).sum()
        assert truth <= found[0] * (1 + 1e-9) + 1e-12
        top = max(top, truth / max(found[0], 1e-300))
    assert top > 0.9


@pytest.mark.parametrize(
    ("call", "error", "argument"),
    [
        (lambda a: bounds.lanczos_norm(operator(a), a, ratio=1.0), errors.RangeError, "ratio"),
        (lambda a: bounds.lanczos_norm(operator(a), a, iterations=0), errors.RangeError, "iterations"),
        (lambda a: bounds.lanczos_norm(operator(a), a, failure=0.0), errors.RangeError, "failure"),
        (lambda a: bounds.lanczos_norm(operator(a * np.nan), a), errors.NonFiniteError, "apply"),
        (lambda a: bounds.lanczos_norm(operator(a), a[:0]), errors.ShapeError, "like"),
        (lambda a: bounds.frobenius_probes(operator(a), a, probes=0), errors.RangeError, "probes"),
        (lambda a: bounds.gaussian_norm_bound(operator(a), a, failure=2), errors.RangeError, "failure"),
        (lambda a: bounds.hutchpp(operator(a), a, matvecs=7), errors.RangeError, "matvecs"),
        (lambda a: bounds.xtrace(operator(a), a, matvecs=3), errors.RangeError, "matvecs"),
        (lambda a: bounds.psd_sandwich(a), errors.ShapeError, "diagonal"),
        (lambda a: bounds.psd_sandwich(a[0] * np.nan), errors.NonFiniteError, "diagonal"),
        (lambda a: bounds.leave_one_out(a, a[:2]), errors.ShapeError, "test"),
        (lambda a: bounds.psd_spectrum(a[:2]), errors.ShapeError, "a"),
        (lambda a: bounds.psd_spectrum(a - 3 * np.eye(4)), errors.IndefiniteError, "a"),
        (lambda a: bounds.psd_spectrum(a + np.eye(4, k=1)), errors.IndefiniteError, "a"),
        (lambda a: bounds.gittens_mahoney(bounds.psd_spectrum(a), [9], 1), errors.RangeError, "indices"),
        (lambda a: bounds.coherence(bounds.psd_spectrum(a), 9, 1), errors.RangeError, "m"),
        (lambda a: bounds.sorensen_embree(a, [0, 0], [1, 2], 1), errors.RangeError, "rows"),
        (lambda a: bounds.goreinov_tyrtyshnikov(a, [0], [1, 2]), errors.RangeError, "rows"),
        (lambda a: bounds.gaussian_quantisation(a, a, gamma=0.0), errors.RangeError, "gamma"),
        (lambda a: bounds.gaussian_quantisation(a, a[:, :1], gamma=1.0), errors.ShapeError, "z"),
        (lambda a: bounds.eckart_young(a[0], 9), errors.RangeError, "k"),
    ],
)
def test_what_cannot_be_done_is_refused(call, error, argument):
    with pytest.raises(error) as caught:
        call(np.diag([4.0, 3.0, 2.0, 1.0]))
    assert caught.value.argument == argument


def test_a_failed_hypothesis_takes_the_place_of_a_number():
    spectrum = bounds.psd_spectrum(np.diag([4.0, 3.0, 2.0, 1.0]))
    for one in (
        bounds.gittens_mahoney(spectrum, [3], 2)[0],
        bounds.gittens_mahoney(spectrum, [2, 3], 1)[0],
        bounds.coherence(spectrum, 2, 2)[0],
        bounds.drawn_leverage(spectrum, 2, 2)[0],
        bounds.dpp_expectation(bounds.psd_spectrum(np.diag([1.0, 0.0])), 2),
        bounds.musco_musco(bounds.psd_spectrum(np.zeros((3, 3))), 2.0),
        bounds.gaussian_sketch(spectrum, 2)[0],
        bounds.generalised_nystrom(spectrum.values, 2, 3),
        bounds.goreinov_tyrtyshnikov(np.diag([1.0, 0.0]), [1], [1]),
        bounds.sorensen_embree(np.eye(3), [0], [1], 1),
        bounds.oversampled_cross(np.eye(3), [0], [1], 1),
    ):
        assert one.value is None
        assert not one.vacuous
        assert one.failed
        assert "needs" in str(one)


def test_certificates_know_their_ratio_and_probability():
    one = bounds.frobenius_probes(operator(np.eye(3)), np.eye(3), failure=0.1)
    assert one.probability == pytest.approx(0.9)
    assert one.ratio == pytest.approx(one.upper.value / one.lower.value)
    assert one.norm is bounds.Norm.FROBENIUS
    assert "at least" in str(one)
    assert "at most" in str(one)
    nothing = bounds.psd_sandwich(np.zeros(3))[0]
    assert nothing.ratio == 1
    spectrum = bounds.psd_spectrum(np.eye(3))
    mean = bounds.Certificate(one.lower, None, bounds.belabbas_wolfe(spectrum, 1))
    assert mean.probability == 0
