"""Certificates of attention: exact where they can be, covering where they sample, counted."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats

from nystrom_numerics import attention, bounds, errors, landmarks, pinv
from nystrom_numerics.attention import certify_operator, certify_rows, exact_rows, ridge
from nystrom_numerics.attention.hints import Hints
from nystrom_numerics.attention.lift import psd_lift
from nystrom_numerics.attention.operator_rows import OperatorRows, without_padding
from nystrom_numerics.attention.rounding import row_norms, softmax_rounding
from nystrom_numerics.attention.row_sampling import proportional, standard_errors
from nystrom_numerics.backend import namespace
from tests import naive
from tests.thorough import many


def head(n=300, d=8, seed=0, spread=1.5):
    """Smooth tokens with noise and a special first token, as trained heads have."""
    rng = np.random.default_rng(seed)
    t = np.linspace(0, 3, n)[:, None]
    base = np.cos(t * np.arange(1, d + 1)) * spread
    q, k, v = (base + 0.6 * rng.standard_normal((n, d)) for _ in range(3))
    q[0] *= 3
    return q, k, v


def truth(q, k, v, operator):
    eye = np.eye(len(k))
    s = attention.exact(q, k, eye, key_mask=operator.key_mask, scale=operator.scale)
    hat = operator.apply(eye)
    return np.linalg.norm(hat - s), np.linalg.norm((hat - s) @ v)


@pytest.mark.parametrize("method", [pinv.razavi, pinv.svd, partial(pinv.truncated, cutoff=0.05)])
@pytest.mark.parametrize("rule", [landmarks.segment_means, landmarks.strided])
def test_all_rows_give_the_norms(rule, method):
    q, k, v = head(200)
    operator = attention.nystrom_operator(q, k, 16, landmarks=rule, pinv=method)
    found = certify_operator(operator, v, rows=200)
    for c, t in zip((found.matrix, found.output), truth(q, k, v, operator), strict=True):
        assert c.estimate.value == pytest.approx(t, rel=1e-7)
        assert c.lower.value < c.estimate.value < c.upper.value < c.lower.value * (1 + 1e-9)
        assert c.probability == 1
        assert "with certainty" in str(c.upper)
        assert not c.lower.asymptotic
        assert not c.upper.asymptotic
    for side in ("lower", "upper"):
        assert getattr(found.certain, side).value == getattr(found.matrix, side).value


WHERE = {
    "left": np.r_[np.zeros(30, bool), np.ones(90, bool)],
    "right": np.r_[np.ones(90, bool), np.zeros(30, bool)],
    "inside": np.r_[np.ones(20, bool), np.zeros(25, bool), np.ones(70, bool), np.zeros(5, bool)],
}


def close(found, expected):
    """Every number of two certificates."""
    for name in ("matrix", "output", "certain"):
        a, b = getattr(found, name), getattr(expected, name)
        np.testing.assert_allclose(
            [a.lower.value, a.upper.value], [b.lower.value, b.upper.value], rtol=1e-8, err_msg=name
        )
        assert (a.upper.vacuous, a.upper.source) == (b.upper.vacuous, b.upper.source)
        if a.estimate is not None:
            np.testing.assert_allclose(
                [a.estimate.value, a.estimate.standard_error],
                [b.estimate.value, b.estimate.standard_error],
                rtol=1e-8,
            )
    assert (found.rows, found.exact_entries, found.entries) == (
        expected.rows,
        expected.exact_entries,
        expected.entries,
    )


@pytest.mark.parametrize("rows", [40, None, "all"])
@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("how", ["key and query mask", "mask of queries", "mask of keys"])
def test_padding_changes_no_number(where, how, rows, lane):
    """Matrix, output and certain bound, counts and the rows drawn: as those of the head without padding."""
    mask, (q, k, v) = WHERE[where], head(90)
    n = len(mask)

    def pad(x):
        wide = np.full((n, x.shape[1]), np.nan)
        wide[::2], wide[1::2] = np.inf, 1e30
        wide[mask] = x
        return lane(wide)

    options = {
        "key and query mask": ({"key_mask": lane(mask), "query_mask": lane(mask)}, "qkv"),
        "mask of queries": ({"attn_mask": lane(mask[:, None])}, "q"),
        "mask of keys": ({"attn_mask": lane(mask[None, :])}, "kv"),
    }[how]
    a, b, c = (pad(x) if name in options[1] else lane(x) for name, x in zip("qkv", (q, k, v), strict=True))
    found = certify_operator(
        attention.nystrom_operator(a, b, 12, **options[0]), c, rows=a.shape[0] if rows == "all" else rows
    )
    expected = certify_operator(attention.nystrom_operator(q, k, 12), v, rows=90 if rows == "all" else rows)
    close(found, expected)
    assert found.rows == {40: 40, None: 25, "all": 90}[rows]


@pytest.mark.parametrize("where", WHERE)
def test_padding_changes_no_number_of_any_estimator(where):
    """Masked keys may have entries in Ŝ, which are errors; rows of masked queries are not asked for."""
    mask, (q, k, v) = WHERE[where], head(90)
    rng = np.random.default_rng(0)
    hat = attention.exact(q, k, np.eye(90)) + 0.01 * rng.standard_normal((90, 90))
    wide = np.full((120, 120), np.nan)
    wide[mask] = 0.0
    wide[np.ix_(mask, mask)] = hat
    places = np.flatnonzero(mask)

    def padded(x):
        y = np.full((120, *x.shape[1:]), np.nan)
        y[mask] = x
        return y

    lengths, rounding = (hat**2).sum(1), np.full(90, 1e-3)
    hint = rng.random(90)
    for rows in (25, 90):
        expected = certify_rows(
            q, k, v, lambda i: hat[i], rows=rows, lengths=lengths, rounding=rounding,
            hints=Hints(lambda columns: (hint + columns[0] % 7,), columns=1),
        )  # fmt: skip
        found = certify_rows(
            *map(padded, (q, k, v)), lambda i: wide[i], rows=rows, key_mask=mask, query_mask=mask,
            lengths=padded(lengths), rounding=padded(rounding),
            hints=Hints(lambda columns: (padded(hint + np.searchsorted(places, columns[0]) % 7),), columns=1),
        )  # fmt: skip
        assert found.exact_entries == found.rows * 90
        close(found, expected)
    leaks = wide.copy()
    leaks[np.ix_(mask, ~mask)] = 0.1
    more = certify_rows(*map(padded, (q, k, v)), lambda i: leaks[i], rows=120, key_mask=mask, query_mask=mask)
    total = np.sqrt(expected.matrix.estimate.value**2 + 0.01 * (leaks == 0.1).sum())
    assert more.matrix.estimate.value == pytest.approx(total, rel=1e-9)


@pytest.mark.parametrize("spread", [0.1, 1.0, 20.0])
@pytest.mark.parametrize("method", [ridge, pinv.rank_revealing, pinv.by_product(pinv.razavi)])
def test_what_is_certain_holds_to_the_last_bit(method, spread):
    """Against sums of 64 bits of mantissa, where the error is rounding alone and where it is not."""
    wide = np.longdouble
    for seed in range(20):
        rng = np.random.default_rng(seed)
        n, m = 40, (40 if seed % 2 else 9)
        q, k, v = spread * rng.standard_normal((3, n, 3))
        k = q if seed % 3 else k
        operator = attention.nystrom_operator(q, k, m, solver=method)
        made = OperatorRows(namespace(q=q), operator)
        scale = wide(operator.scale)
        qt, kt = (x.astype(wide) for x in (operator.query_landmarks, operator.key_landmarks))
        x, y = q.astype(wide) * scale, k.astype(wide)
        hat = naive.softmax(x @ kt.T) @ made.z.astype(wide) @ naive.softmax(qt @ y.T * scale)
        error = hat - naive.softmax(x @ y.T)
        true = np.sqrt((error**2).sum()), np.sqrt(((error @ v.astype(wide)) ** 2).sum())
        found = certify_operator(operator, v, rows=n)
        for c, t in zip((found.matrix, found.output), true, strict=True):
            assert c.lower.value <= t <= c.upper.value
            assert c.upper.value > 0
        some = certify_operator(operator, v, rows=20).certain
        assert some.lower.value <= true[0] <= some.upper.value
        if method is ridge:
            assert found.matrix.upper.value - found.matrix.lower.value < 1e-10 * max(1, spread**2)


def test_sizes_of_values_beyond_their_squares():
    """Values of 1e200: the squares of errors would overflow."""
    q, k, v = head(40)
    operator = attention.nystrom_operator(q, k, 6)
    for rows in (20, 40):
        plain, huge = (certify_operator(operator, x, rows=rows).output for x in (v, v * 2.0**700))
        for side in ("lower", "estimate", "upper"):
            assert getattr(huge, side).value == getattr(plain, side).value * 2.0**700
        assert huge.estimate.standard_error == plain.estimate.standard_error * 2.0**700


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("which", ["q", "k", "v"])
def test_what_is_not_finite_is_refused(which, value):
    """A key at −∞ has scores of −∞, whose weights are zeros: no NaN would tell of it."""
    x = dict(zip("qkv", head(60), strict=True))
    x["q"][:, 2] = np.abs(x["q"][:, 2])
    x[which][30, 2] = value
    with np.errstate(invalid="ignore"):
        operator = attention.nystrom_operator(x["q"], x["k"], 6)
    with pytest.raises(errors.NonFiniteError) as caught:
        certify_operator(operator, x["v"])
    assert caught.value.argument == ("v" if which == "v" else "operator")
    with pytest.raises(errors.NonFiniteError) as caught:
        certify_rows(*x.values(), lambda i: np.zeros((len(i), 60)), rows=20)
    assert caught.value.argument == which


def test_what_becomes_infinite_is_refused():
    q, k, v = head(60)
    with pytest.raises(errors.NonFiniteError, match="`q` is of queries whose scores"):
        certify_rows(q * 1e200, k * 1e200, v, lambda i: np.zeros((len(i), 60)), rows=20)
    with pytest.raises(errors.NonFiniteError, match="`rows_of`"):
        certify_rows(q, k, v, lambda i: np.full((len(i), 60), np.nan), rows=20)
    with np.errstate(over="ignore", invalid="ignore"):
        overflowed = attention.nystrom_operator(q * 1e200, k * 1e200, 6)
    unsolved = attention.nystrom_operator(q, k, 6, solver=lambda a, b: b * np.nan)
    for operator in (overflowed, unsolved):
        with pytest.raises(errors.NonFiniteError, match="`operator` is not finite in its rows"):
            certify_operator(operator, v)


def test_fewer_real_tokens_than_landmarks():
    q, k, v = head(120)
    mask = np.arange(120) < 10
    operator = attention.nystrom_operator(q, k, 16, key_mask=mask, query_mask=mask)
    found = certify_operator(operator, v)
    short = attention.nystrom_operator(q[:10], k[:10], 10)
    close(found, certify_operator(short, v[:10]))


@pytest.mark.parametrize(("n_q", "n_k", "rows"), [(150, 2500, None), (1300, 1100, 300), (1300, 2049, 1300)])
def test_long_heads_against_every_entry(n_q, n_k, rows):
    """Beyond a block of rows and 1,024 keys: norms, counts, lengths and the bound of rows not seen, in the open."""
    rng = np.random.default_rng(5)
    q, k, v = (rng.standard_normal((n, d)) for n, d in ((n_q, 6), (n_k, 6), (n_k, 3)))
    q[-1] *= 8  # its peak sits anywhere
    k[[0, -1]] *= 4
    mask = rng.random(n_k) < 0.9
    operator = attention.nystrom_operator(q, k, (9, 12), key_mask=mask)
    s = naive.softmax(np.where(mask, q @ k.T / np.sqrt(6), -np.inf))
    hat = operator.apply(np.eye(n_k))
    found = certify_operator(operator, v, rows=rows)
    true = np.linalg.norm(hat - s), np.linalg.norm((hat - s) @ v)
    for c, t in zip((found.matrix, found.output), true, strict=True):
        assert c.lower.value <= t <= c.upper.value
        if rows == n_q:
            assert c.estimate.value == pytest.approx(t, rel=1e-9)
    made = OperatorRows(namespace(q=q), without_padding(namespace(q=q), operator))
    lengths, sums, rounding = made.measures()
    np.testing.assert_allclose(lengths, (hat**2).sum(1), rtol=1e-9)
    np.testing.assert_allclose(sums, hat.sum(1), rtol=1e-9)
    assert (rounding < 1e-10).all()
    some = rng.permutation(n_q)[:270]
    np.testing.assert_allclose(made(some), hat[some][:, mask], rtol=1e-8, atol=1e-12)
    all_but = certify_rows(q, k, v, lambda i: hat[i], rows=n_q - 1, key_mask=mask, lengths=(hat**2).sum(1))
    high = all_but.certain.upper.value**2 - all_but.certain.lower.value**2
    of_one = (np.sqrt((hat**2).sum(1)) + 1) ** 2
    assert np.isclose(high, of_one, rtol=1e-8).any(), "the one row not seen, by its length and 1"


def test_the_default_solver_and_its_pseudoinverse_agree():
    """An operator that solves with the core is certified as one that multiplies by what the solver stands for."""
    q, k, v = head(120)
    default = attention.nystrom_operator(q, k, 16)
    assert default.pinv is None
    found = certify_operator(default, v, rows=120)
    for c, t in zip((found.matrix, found.output), truth(q, k, v, default), strict=True):
        assert c.upper.value == pytest.approx(t, rel=1e-7)


def test_additive_masks_are_refused():
    q, k, v = head(60)
    mask = np.zeros((1, 60))
    mask[0, 3] = -1.5
    with pytest.raises(errors.ShapeError, match="`operator`"):
        certify_operator(attention.nystrom_operator(q, k, 8, attn_mask=mask), v)


def test_lanes_agree(lane, dtype):
    q, k, v = (x.astype(dtype) for x in head(150))
    expected = certify_operator(attention.nystrom_operator(q, k, 8), v, rows=40)
    found = certify_operator(attention.nystrom_operator(lane(q), lane(k), 8), lane(v), rows=40)
    tol = 1e-8 if dtype == "float64" else 2e-2
    for a, b in ((expected.matrix, found.matrix), (expected.output, found.output)):
        np.testing.assert_allclose([b.lower.value, b.upper.value], [a.lower.value, a.upper.value], rtol=tol)
    assert (found.rows, found.exact_entries, found.entries) == (
        expected.rows,
        expected.exact_entries,
        expected.entries,
    )


def test_coverage_and_width():
    """A thousand intervals from 75 rows: nearly the share said holds the truth, and a third of each does not."""
    covered, narrow, count = np.zeros(2), np.zeros(2), 0
    for seed in range(10):
        q, k, v = head(300, seed=seed)
        operator = attention.nystrom_operator(q, k, 24)
        exact = truth(q, k, v, operator)
        for draw in range(50):
            found = certify_operator(operator, v, rows=75, rng=draw)
            for i, (c, t) in enumerate(zip((found.matrix, found.output), exact, strict=True)):
                low, mid, high = c.lower.value, c.estimate.value, c.upper.value
                covered[i] += low <= t <= high
                narrow[i] += abs(np.log(t / mid)) <= np.log(high / mid) / 3
            assert found.certain.lower.value <= exact[0] <= found.certain.upper.value
            count += 1
        assert found.matrix.upper.value < 1.5 * exact[0]
    assert (covered / count >= 0.97).all(), covered / count
    assert (narrow / count < 0.9).all(), narrow / count


class Recorded:
    """Rows of S with known errors, and which were asked for, call by call."""

    def __init__(self, n, sizes, seed=0):
        rng = np.random.default_rng(seed)
        self.q, self.k, self.v = rng.standard_normal((3, n, 4))
        self.q /= np.linalg.norm(self.q, axis=1, keepdims=True)
        self.errors = sizes[:, None] * rng.choice([-1.0, 1.0], (n, n))
        self.hat = attention.exact(self.q, self.k, np.eye(n)) + self.errors
        self.true = np.stack([(self.errors**2).sum(1), ((self.errors @ self.v) ** 2).sum(1)])
        self.asked = []

    def __call__(self, indices):
        self.asked.append(np.array(indices))
        return self.hat[indices]

    def certify(self, rows, **options):
        self.asked = []
        return certify_rows(self.q, self.k, self.v, self, rows=rows, **options)


@pytest.mark.parametrize("failure", [0.01, 0.2])
def test_the_interval_is_its_formula(failure):
    """Nothing is known of equal queries: then rows are drawn evenly, and stand for as many as there are a draw."""
    n, rows = 101, 40
    head = Recorded(n, np.random.default_rng(1).uniform(0.1, 0.2, 101))
    found = head.certify(rows, failure=failure)
    pilot, drawn = head.asked
    assert len(pilot) == 10
    assert pilot[0] == 0
    assert pilot[-1] == n - 1
    assert set(np.diff(pilot[1:-1])) <= {12, 13}
    assert len(drawn) == found.rows - len(pilot) == 30
    assert not set(pilot) & set(drawn)
    chance = len(drawn) / (n - len(pilot))
    place = np.searchsorted(np.setdiff1d(np.arange(n), pilot), drawn)
    carried = np.r_[0, np.maximum((place[:-1] + 1) * chance - np.arange(1, 30), 0)]
    for got, true in zip((found.matrix, found.output), head.true, strict=True):
        rows_ = true[drawn] / chance
        weighed = rows_ + carried * (np.r_[0, rows_[:-1]] - rows_)
        total = true[pilot].sum() + weighed.sum()
        variance = 30 / 29 * (1 - chance) * ((weighed - weighed.mean()) ** 2).sum()
        value = np.sqrt(total)
        error = np.sqrt(variance) / (2 * value)
        assert got.estimate.value == pytest.approx(value, rel=1e-10)
        assert got.estimate.standard_error == pytest.approx(error, rel=1e-10)
        reach = 1.3 * stats.t.ppf(1 - failure / 2, 29) * error / value
        assert got.upper.value == pytest.approx(value * np.exp(reach), rel=1e-10)
        assert got.lower.value == pytest.approx(value * np.exp(-reach), rel=1e-10)
        assert got.upper.probability == got.lower.probability == 1 - failure / 2
    assert found.certain.lower.value == pytest.approx(
        np.sqrt(head.true[0][pilot].sum() + head.true[0][drawn].sum()), rel=1e-10
    )


def test_the_estimate_is_unbiased_and_hints_narrow_it():
    """Horvitz and Thompson: the mean of the squares over the draws is the truth, whatever the hint is."""
    rng = np.random.default_rng(2)
    sizes = rng.uniform(0.05, 1, 60) ** 3
    head = Recorded(60, sizes)
    hints = {
        "none": None,
        "good": Hints(lambda c: (sizes**2,)),
        "bad": Hints(lambda c: (1 - sizes,)),
        "lengths": None,
    }
    spread = {}
    for name, hint in hints.items():
        lengths = sizes**2 if name == "lengths" else None
        found = np.array(
            [
                head.certify(20, hints=hint, lengths=lengths, rng=seed).matrix.estimate.value
                for seed in range(150)
            ]
        )
        error = (found**2).std() / np.sqrt(150)
        assert abs((found**2).mean() - head.true[0].sum()) < 4 * error, name
        spread[name] = found.std()
    assert spread["good"] < spread["none"] / 3
    assert spread["lengths"] < spread["none"] / 3


def test_rows_of_no_predicted_error_are_looked_at_too():
    """A prediction of nothing counts for 0.2 of the mean: 1.8 against 0.2."""
    n = 200
    likely = np.arange(n) % 2 == 0
    head = Recorded(n, np.where(likely, 1.0, 1e-9))
    unlikely = 0
    for seed in range(60):
        head.certify(40, hints=Hints(lambda c: (likely.astype(float),)), rng=seed)
        unlikely += (~likely[head.asked[1]]).sum()
    assert 0.08 < unlikely / (60 * 30) < 0.12


def test_equal_errors_leave_no_doubt_whatever_queries_and_ends_are():
    """The prediction may be flat, and the first and the last row are no rule for the others."""
    sizes = np.full(60, 0.1)
    sizes[[0, -1]] = 3.0
    for ends in ([0], [-1], [0, -1]):
        head = Recorded(60, sizes)
        head.q *= np.random.default_rng(4).uniform(0.3, 1, (60, 1))
        head.q[ends] *= 30
        head.hat = attention.exact(head.q, head.k, np.eye(60)) + head.errors
        found = head.certify(25).matrix
        assert found.estimate.value == pytest.approx(np.sqrt(head.true[0].sum()), rel=1e-6)
        assert found.upper.value < found.lower.value * (1 + 1e-4)


def test_long_queries_are_expected_to_err_most():
    """Squared errors in proportion to ‖q‖², against the same errors of other queries."""
    rng, widths = np.random.default_rng(6), []
    sizes = rng.uniform(0.05, 1, 200)
    for lengths in (sizes, rng.permutation(sizes)):
        head = Recorded(200, sizes)
        head.q *= lengths[:, None]
        head.hat = attention.exact(head.q, head.k, np.eye(200)) + head.errors
        found = head.certify(60).matrix
        widths.append(np.log(found.upper.value / found.lower.value))
    assert widths[0] < widths[1] / 2, widths


@pytest.mark.parametrize("values", [1.0, 0.0])
def test_all_first_rows_but_the_ends_are_learnt_from(values):
    """Two of them, of which the first errs and the second does not; outputs without an error tell nothing."""
    first_half = np.arange(102) < 51
    head = Recorded(102, np.where(first_half, 0.1, 1e-9))
    head.v *= values
    head.certify(14, hints=Hints(lambda c: (first_half.astype(float),)))
    pilot, drawn = head.asked
    assert first_half[pilot].tolist() == [True, True, False, False]
    assert first_half[drawn].sum() >= 0.8 * len(drawn)


def test_the_first_rows_are_the_ends_and_one_of_each_part():
    head, seen = Recorded(12, np.full(12, 0.1)), [set(), set()]
    for seed in range(60):
        head.certify(10, rng=seed)
        first, *inner, last = head.asked[0]
        assert (first, last) == (0, 11)
        for one, part in zip(inner, seen, strict=True):
            part.add(int(one))
    assert seen == [{1, 2, 3, 4, 5}, {6, 7, 8, 9, 10}]


def test_rows_sure_to_be_drawn_add_no_uncertainty():
    """A few rows hold all the error, and the hint says which: they are drawn, and count once."""
    sizes = np.random.default_rng(3).uniform(0.5e-2, 1e-2, 80)
    sizes[[10, 33, 34, 70]] = 1.0
    head = Recorded(80, sizes)
    for seed in range(30):
        found = head.certify(30, hints=Hints(lambda c: (sizes**2,)), rng=seed)
        assert found.matrix.estimate.value == pytest.approx(np.sqrt(head.true[0].sum()), rel=1e-3)
        assert found.matrix.upper.value < found.matrix.lower.value * (1 + 1e-2)
        assert set(np.concatenate(head.asked)) >= {0, 10, 33, 34, 70, 79}
        assert len(np.unique(np.concatenate(head.asked))) == 30


def test_chances_are_those_of_what_is_left():
    """Two rows are sure; of the others, however small, one is drawn."""
    seen = set()
    for seed in range(20):
        drawn = proportional(np.array([0.2, 5.0, 0.2, 5.0]), 3, np.random.default_rng(seed))
        chosen = drawn.chosen
        np.testing.assert_allclose(drawn.chance, np.where(np.isin(chosen, [1, 3]), 1, 0.5))
        assert not drawn.carried.any()
        assert {1, 3} < set(chosen)
        seen |= set(chosen)
    assert seen == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("weighed", "chance", "error"),
    [
        ([1.0, 3.0], [0.5, 0.5], np.sqrt(2 * (0.5 + 0.5))),
        ([1.0, 3.0, 99.0], [0.5, 0.5, 1.0], np.sqrt(2)),
        ([1.0, 99.0], [0.5, 1.0], np.inf),
        ([1.0, 99.0], [1.0, 1.0], 0.0),
    ],
)
def test_the_spread_is_that_of_rows_not_sure(weighed, chance, error):
    found, degrees = standard_errors(np.array([weighed, 2 * np.array(weighed)]), np.array(chance))
    np.testing.assert_allclose(found, [error, 2 * error])
    assert degrees == 1


def test_one_row_drawn_tells_nothing_of_the_others():
    """Nine rows, eight looked at: where all but one of them are sure, the interval is no interval."""
    sizes = np.full(9, 1e-2)
    sizes[[1, 2, 3, 4, 5, 6]] = np.linspace(1, 6, 6)
    head, alone = Recorded(9, sizes), 0
    for seed in range(40):
        found = head.certify(8, hints=Hints(lambda c: (sizes**2,)), rng=seed)
        left_out = np.setdiff1d(np.arange(9), np.concatenate(head.asked))
        if sizes[left_out[0]] < 1:  # the small ones are two: one was drawn
            alone += 1
            assert found.matrix.lower.value < 1e-200
            assert found.matrix.upper.value > 1e200
            assert found.matrix.estimate.standard_error == np.inf
    assert alone > 10


def test_no_error_at_all():
    """One key: S is a column of ones, and Ŝ is the same to the last bit."""
    q, k, v = np.random.default_rng(0).standard_normal((3, 40, 4))
    for rows in (20, 40):
        found = certify_rows(q, k[:1], v[:1], lambda i: np.ones((len(i), 1)), rows=rows, lengths=np.ones(40))
        for one in (found.matrix, found.output):
            assert one.lower.value == one.estimate.value == one.estimate.standard_error == 0
            assert 0 < one.upper.value < 1e-12
        assert found.certain.lower.value == 0


def test_without_any_real_query_there_is_nothing_to_certify():
    q, k, v = head(20)
    none = np.zeros(20, bool)
    with pytest.raises(errors.RangeError, match="`query_mask` is false everywhere"):
        certify_rows(q, k, v, lambda i: np.zeros((len(i), 20)), rows=8, query_mask=none)
    for mask in ({"query_mask": none}, {"key_mask": none}):
        with pytest.raises(errors.RangeError, match="`operator` is of"):
            certify_operator(attention.nystrom_operator(q, k, 4, **mask), v)
    found = certify_rows(q, k, v, lambda i: np.full((len(i), 20), 0.1), rows=20, key_mask=none)
    assert found.matrix.estimate.value == pytest.approx(2.0), "S is zero without a key"


@pytest.mark.parametrize("size", [1.0, 1e-5])
def test_hints_are_asked_for_the_columns_of_most_error(size):
    head = Recorded(60, np.full(60, 1e-3 * size))
    head.hat[:, [7, 50, 21]] += size * np.array([0.3, 0.9, 0.5])
    seen = []
    head.certify(20, hints=Hints(lambda c: (seen.append(c), np.ones(60))[1:], columns=3))
    np.testing.assert_array_equal(seen, [[50, 21, 7]])
    head.certify(60, hints=Hints(lambda c: (seen.append(c),), columns=3))
    assert len(seen) == 1, "all rows exact: there is nothing to predict"
    head.certify(20, hints=Hints(lambda c: (seen.append(c), np.ones(60))[1:]))
    assert seen[1].shape == (0,)


def test_more_rows_than_are_held_at_once():
    n = 700
    head = Recorded(n, np.full(n, 0.1))
    found = head.certify(n)
    assert [len(x) for x in head.asked] == [256, 256, 188]
    np.testing.assert_array_equal(np.concatenate(head.asked), np.arange(n))
    assert found.matrix.estimate.value == pytest.approx(np.sqrt(head.true[0].sum()), rel=1e-10)
    assert found.output.estimate.value == pytest.approx(np.sqrt(head.true[1].sum()), rel=1e-10)
    head.hat[:, 690] += 0.9
    seen = []
    head.certify(600, hints=Hints(lambda c: (seen.append(c), np.ones(n))[1:], columns=1))
    assert seen[0].tolist() == [690]


def test_columns_are_summed_over_all_rows_that_were_held(monkeypatch):
    monkeypatch.setattr(exact_rows, "HELD", 4)
    head = Recorded(60, np.full(60, 1e-3))
    head.hat[:30, 7] += 0.9
    head.hat[:, 50] += 0.3
    seen = []
    head.certify(40, hints=Hints(lambda c: (seen.append(c), np.ones(60))[1:], columns=1))
    assert seen[0].tolist() == [7]


def test_small_heads():
    for n in (1, 2, 3, 7):
        head = Recorded(n, np.full(n, 0.1))
        found = head.certify(n)
        assert found.matrix.estimate.value == pytest.approx(np.sqrt(head.true[0].sum()), rel=1e-10)
        with pytest.raises(errors.RangeError, match=f"an integer from {n} to the number of queries, {n}"):
            head.certify(n - 1)
    head = Recorded(9, np.full(9, 0.1))
    assert head.certify(8).rows == 8


def test_the_counts_of_rows_and_entries():
    head = Recorded(60, np.full(60, 0.1))
    found = head.certify(20, hints=Hints(lambda c: (), columns=2, entries=7), entries=lambda: 1000)
    assert (found.rows, found.exact_entries, found.entries) == (20, 20 * 60 + 7, 20 * 60 + 1007)
    assert found.matrix.estimate.matvecs == 20
    assert "20 exact rows of 60, drawn by predicted error" in found.matrix.upper.source
    for one in (found.certain.lower, found.certain.upper):
        assert one.source == "20 exact rows of 60, drawn by predicted error; ‖S_i‖₂ ≤ 1 for the others"
    found = head.certify(60, hints=Hints(lambda c: (), columns=2, entries=7))
    assert found.exact_entries == found.entries == 3600
    assert found.matrix.upper.source == found.matrix.estimate.source == "all rows exact"


def test_trivial_bounds_and_what_is_vacuous():
    """‖Ŝ‖_F + √n where the lengths are known."""
    n = 40
    head = Recorded(n, np.full(n, 1e-3))
    lengths = (head.hat**2).sum(1)
    sampled = head.certify(20, lengths=lengths)
    assert not sampled.matrix.upper.vacuous
    assert not sampled.matrix.lower.vacuous
    unseen = np.setdiff1d(np.arange(n), np.concatenate(head.asked))
    seen = np.setdiff1d(np.arange(n), unseen)
    high = np.sqrt(head.true[0][seen].sum() + ((np.sqrt(lengths[unseen]) + 1) ** 2).sum())
    assert sampled.certain.upper.value == pytest.approx(high, rel=1e-10)
    assert sampled.certain.upper.vacuous == (high >= np.sqrt(lengths.sum()) + np.sqrt(n))
    assert not sampled.certain.upper.vacuous
    assert 0 < sampled.certain.lower.value < 1
    assert not sampled.certain.lower.vacuous
    without = head.certify(20)
    assert without.certain.upper.value == np.inf
    assert without.certain.upper.vacuous
    huge = head.certify(20, lengths=lengths, rounding=np.full(n, 1e3))
    assert huge.matrix.upper.vacuous
    assert huge.matrix.lower.value == 0
    assert huge.matrix.lower.vacuous


def test_rounding_of_the_rows_given_widens_both_sides():
    head = Recorded(50, np.full(50, 0.1))
    rounding = np.linspace(0, 1e-3, 50)
    plain, wide = head.certify(50), head.certify(50, rounding=rounding)
    more = np.linalg.norm(rounding)
    assert wide.matrix.upper.value - plain.matrix.upper.value == pytest.approx(more, rel=1e-8)
    assert plain.matrix.lower.value - wide.matrix.lower.value == pytest.approx(more, rel=1e-8)
    loud = Recorded(50, np.full(50, 1e4))
    found = loud.certify(50)
    u, above = 2.0**-53, found.matrix.upper.value
    ends = softmax_rounding(np.linalg.norm(loud.q, axis=1) / 2, np.linalg.norm(loud.k, axis=1).max(), 4, 50)
    for one, extra in (
        (found.matrix, np.linalg.norm(ends)),
        (found.output, np.linalg.norm(loud.v) * (np.linalg.norm(ends) + 52 * u * above)),
    ):
        value = one.estimate.value
        assert one.upper.value - value == pytest.approx(108 * u * value + extra, rel=1e-2)
        assert value - one.lower.value == pytest.approx(108 * u * value + extra, rel=1e-2)
    none = Recorded(50, np.zeros(50))
    none.q, none.k = loud.q, loud.k
    none.hat = attention.exact(none.q, none.k, np.eye(50))
    assert none.certify(50, rounding=ends).matrix.upper.value == pytest.approx(
        2 * np.linalg.norm(ends), rel=0.1, abs=0
    )
    size = np.linalg.norm(head.v) * more
    assert wide.output.upper.value - plain.output.upper.value == pytest.approx(size, rel=1e-6)
    assert plain.output.lower.value - wide.output.lower.value == pytest.approx(size, rel=1e-6)


def test_rounding_of_a_softmax_is_its_formula(lane):
    u = 2.0**-53
    found = softmax_rounding(np.array([0.0, 3.0, 1e14]), 5.0, 4, 100)
    np.testing.assert_allclose(found[:2], [110 * u, (2 * 8 * 15 + 110) * u], rtol=1e-10)
    assert found[2] == pytest.approx(np.expm1(2 * 8 * 5e14 * u), rel=1e-6)
    assert softmax_rounding(np.array([1e300]), 1e300, 4, 100)[0] == np.inf
    x = np.array([[3.0, 4.0], [0.0, 0.0], [3e200, -4e200], [3e-200, 4e-200], [0.0, 5e200]])
    expected = [5, 0, 5e200, 5e-200, 5e200]
    np.testing.assert_allclose(row_norms(namespace(x=lane(x)), lane(x)), expected, rtol=1e-15)


def test_rounding_of_an_operator_is_its_formula():
    q, k, _ = head(50)
    operator = attention.nystrom_operator(q, k, (5, 7))
    made = OperatorRows(namespace(q=q), operator)
    lengths, sums, rounding = made.measures()
    u, scale = 2.0**-53, operator.scale
    length = lambda x: np.linalg.norm(x, axis=1)  # noqa: E731
    f = naive.softmax(q @ operator.key_landmarks.T * scale)
    b = naive.softmax(operator.query_landmarks @ k.T * scale)
    size, z = length(b), made.z
    of_f = softmax_rounding(length(q) * scale, length(operator.key_landmarks).max(), 8, 7)
    of_b = softmax_rounding(length(operator.query_landmarks) * scale, length(k).max(), 8, 50).max()
    np.testing.assert_allclose(rounding, (of_f + of_b + 16 * u) * (f @ (np.abs(z) @ size)), rtol=1e-6)
    plain = ((f @ z @ b) ** 2).sum(1)
    np.testing.assert_allclose(lengths, plain, rtol=1e-11)
    np.testing.assert_allclose(sums, (f @ z @ b).sum(1), rtol=1e-11)
    exactly = np.longdouble
    f, b = (naive.softmax(x.astype(exactly) @ y.T * exactly(scale)) for x, y in (
        (q, operator.key_landmarks), (operator.query_landmarks, k)
    ))  # fmt: skip
    allowance = (50 + 2 * 5 + 2) * u * (np.abs(f @ z) @ size) ** 2
    np.testing.assert_allclose((lengths - ((f @ z @ b) ** 2).sum(1)) / allowance, 1, atol=0.2)


def test_a_float32_operator_is_meant_as_if_its_numbers_were_float64():
    q, k, v = (x.astype("float32") for x in head(80))
    for options in ({}, {"pinv": pinv.razavi}):
        operator = attention.nystrom_operator(q, k, (5, 7), **options)
        wide = [x.astype(float) for x in (q, k, operator.query_landmarks, operator.key_landmarks)]
        z = ridge(operator.core, np.eye(5, dtype="float32")) if not options else operator.pinv.value
        f, b, s = (naive.softmax(wide[i] @ wide[j].T * operator.scale) for i, j in ((0, 3), (2, 1), (0, 1)))
        error = f @ z.astype(float) @ b - s
        found = certify_operator(operator, v, rows=80)
        assert found.matrix.estimate.value == pytest.approx(np.linalg.norm(error), rel=1e-12)
        assert found.output.estimate.value == pytest.approx(
            np.linalg.norm(error @ v.astype(float)), rel=1e-12
        )


def test_entries_are_counted():
    q, k, v = head(256)
    operator = attention.nystrom_operator(q, k, 16)
    budget = (256 + 256 + 16) * 16
    found = certify_operator(operator, v)
    hints = 256 * (2 + 2 + 5)  # two heavy columns, the first and the last, five beside the diagonal
    assert found.exact_entries == 256 * found.rows + hints <= budget
    assert found.rows == found.matrix.estimate.matvecs == (budget - hints) // 256
    made = 16 * (256 + 256 + found.rows + 256)  # B, F, F of the rows drawn, and F for the hints
    assert found.entries == found.exact_entries + made
    few = certify_operator(operator, v, rows=24)
    assert few.exact_entries == 24 * 256, "few rows have no hints to pay for"
    assert certify_operator(operator, v, rows=31).exact_entries == 31 * 256
    assert certify_operator(operator, v, rows=32).exact_entries == 32 * 256 + hints
    more = certify_operator(attention.nystrom_operator(q, k, 64), v)
    assert more.exact_entries == 256 * more.rows + 256 * (8 + 2 + 5)
    assert more.rows == (64 * (256 + 256 + 64) - 256 * 15) // 256
    two = certify_operator(attention.nystrom_operator(q[:100], k, (10, 20)), v)
    assert two.rows == (100 * 20 + 256 * 10 + 200) // 256
    assert certify_operator(attention.nystrom_operator(q, k, 1), v).rows == 8


@pytest.mark.parametrize("masked", [False, True])
def test_hints_are_the_errors_where_every_column_is_looked_at(masked):
    q, k, v = head(40)
    mask = np.arange(40) < 33 if masked else None
    operator = attention.nystrom_operator(q, k, 6, key_mask=mask, query_mask=mask)
    xp, shown = namespace(q=q), slice(0, 33 if masked else 40)
    made = OperatorRows(xp, without_padding(xp, operator))
    of_rows, of_outputs = made.errors_at(np.arange(1, shown.stop - 1), v[shown])
    difference = operator.apply(np.eye(40)) - attention.exact(q, k, np.eye(40), key_mask=mask)
    # a landmark stands for all other keys: there are none, so that its share is too much by a known factor
    scores = q @ k.T * operator.scale
    landmarks = np.exp(q @ operator.key_landmarks.T * operator.scale)
    real = np.exp(scores) * (True if mask is None else mask)
    keys = 40 if mask is None else 33
    shares = real / (real.sum(1, keepdims=True) + keys / 6 * landmarks.sum(1, keepdims=True))
    expected = operator.apply(np.eye(40)) - shares
    np.testing.assert_allclose(of_rows, (expected**2).sum(1)[shown], rtol=1e-9)
    np.testing.assert_allclose(of_outputs, ((expected @ v) ** 2).sum(1)[shown], rtol=1e-9)
    assert np.corrcoef(of_rows, (difference**2).sum(1)[shown])[0, 1] > 0.5
    steep = without_padding(xp, attention.nystrom_operator(300 * q, k, 6, key_mask=mask, query_mask=mask))
    assert all(np.isfinite(x).all() for x in OperatorRows(xp, steep).errors_at(np.arange(5), v[shown]))


def test_hints_halve_the_interval_where_errors_are_near_the_diagonal():
    """Some tokens look at themselves; the lengths of queries and of the rows of Ŝ do not tell which."""
    rng = np.random.default_rng(0)
    q = rng.standard_normal((400, 16))
    q /= np.linalg.norm(q, axis=1, keepdims=True) / 4
    k = np.where(rng.random((400, 1)) < 0.2, 2 * q, rng.standard_normal((400, 16)))
    v = rng.standard_normal((400, 8))
    operator = attention.nystrom_operator(q, k, 40)
    made = OperatorRows(namespace(q=q), operator)
    widths = []
    for hints in (None, Hints(lambda columns: made.errors_at(columns, v), columns=8)):
        found = certify_rows(q, k, v, made, rows=80, hints=hints).matrix
        widths.append(found.upper.value / found.lower.value - 1)
    assert widths[1] < widths[0] / 2, widths


def test_any_other_estimator():
    """An estimator given by its rows alone: here the best of rank 10."""
    q, k, v = head(150)
    s = attention.exact(q, k, np.eye(150))
    u, sigma, vt = np.linalg.svd(s)
    hat = (u[:, :10] * sigma[:10]) @ vt[:10]

    def rows_of(indices):
        return hat[indices]

    found = certify_rows(q, k, v, rows_of, rows=150)
    assert found.matrix.upper.value == pytest.approx(np.linalg.norm(sigma[10:]), rel=1e-7)
    some = certify_rows(q, k, v, rows_of, rows=50)
    assert some.matrix.lower.value <= np.linalg.norm(sigma[10:]) <= some.matrix.upper.value
    assert some.certain.upper.value == np.inf
    for bound in (some.matrix.lower, some.matrix.upper, some.output.lower, some.output.upper):
        assert bound.asymptotic
        assert bound.certainty == "with asymptotic probability 1 − 0.005"
    assert "with certainty" in str(some.certain)


def test_an_exact_estimator_has_no_error():
    q, k, v = head(40)
    operator = attention.nystrom_operator(q, k, 40, pinv=pinv.svd)
    found = certify_operator(operator, v, rows=20)
    assert found.matrix.upper.value < 1e-6


@pytest.mark.parametrize(
    ("change", "argument"),
    [
        ({"rows": 3}, "rows"),
        ({"rows": 61}, "rows"),
        ({"failure": 0.0}, "failure"),
        ({"hints": Hints(lambda columns: (np.ones(3),))}, "hints"),
    ],
)
def test_what_cannot_be_done_is_refused(change, argument):
    q, k, v = head(60)
    options = {"rows": 20} | change
    with pytest.raises(errors.ArgumentError) as caught:
        certify_rows(q, k, v, lambda i: np.zeros((len(i), 60)), **options)
    assert caught.value.argument == argument


@pytest.mark.parametrize("value", [-1e-9, np.inf, np.nan])
@pytest.mark.parametrize("argument", ["lengths", "rounding"])
def test_lengths_are_finite_and_not_negative(argument, value):
    numbers = np.ones(60)
    numbers[7] = value
    with pytest.raises(errors.RangeError) as caught:
        Recorded(60, np.full(60, 0.1)).certify(20, **{argument: numbers})
    assert caught.value.argument == argument


def test_lengths_in_float32_are_computed_with_in_float64():
    head = Recorded(60, np.full(60, 0.1))
    lengths = (head.hat**2).sum(1).astype("float32")
    found, expected = (head.certify(20, lengths=x).certain for x in (lengths, lengths.astype(float)))
    assert found.upper.value == expected.upper.value


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x: x[:, 1:],
        lambda x: x.astype(int),
        torch.from_numpy,
        lambda x: x.tolist(),
    ],
    ids=["shape", "dtype", "library", "list"],
)
def test_rows_that_are_none_are_refused(wrong):
    with pytest.raises(errors.ArgumentError) as caught:
        certify_rows(*head(60), lambda i: wrong(np.zeros((len(i), 60))), rows=20)
    assert caught.value.argument == "rows_of"


@pytest.mark.parametrize(("argument", "value"), [("predict", 3), ("columns", -1), ("entries", 0.5)])
def test_hints_that_are_none_are_refused(argument, value):
    with pytest.raises(errors.ArgumentError) as caught:
        Hints(**{"predict": lambda columns: (), argument: value})
    assert caught.value.argument == argument


def test_a_batch_is_refused():
    q, k, v = (np.stack([x, x]) for x in head(60))
    with pytest.raises(errors.ShapeError, match="operator"):
        certify_operator(attention.nystrom_operator(q, k, 8), v)


def lifted(q, k, z, scale):
    """Everything the lift bounds, the plain way."""
    x = np.concatenate([q, k])

    def gaussian(a, b):
        return np.exp(-scale / 2 * ((a[:, None] - b) ** 2).sum(-1))

    values, vectors = np.linalg.eigh(gaussian(z, z))
    kept = values > 1e-13 * values[-1]
    half = gaussian(x, z) @ (vectors[:, kept] / np.sqrt(values[kept]))
    r = gaussian(x, x) - half @ half.T
    n = len(q)
    block = r[:n, n:]
    weights = np.exp(scale / 2 * (k * k).sum(1) - (scale / 2 * (k * k).sum(1)).max())
    hat = (half[:n] @ half[n:].T) * weights
    s = gaussian(q, k) * weights
    return r, block, s / s.sum(1, keepdims=True) - hat / hat.sum(1, keepdims=True)


def test_psd_lift_on_thousands():
    """Spectral by ½λ_max, Frobenius, entrywise, normalised: valid on thousands, tight, and teeth."""
    rng = np.random.default_rng(1)
    ratios = {"spectral": [], "frobenius": [], "largest": [], "normalised": []}
    for index in range(many(5000, 2000)):
        n, p, d, m = (int(i) for i in rng.integers([2, 2, 1, 1], [6, 6, 3, 4]))
        size = 10.0 ** rng.uniform(-1, 0.3)
        q, k = size * rng.standard_normal((n, d)), size * rng.standard_normal((p, d))
        if index % 4 == 0:
            k = q.copy()
        z = (
            np.concatenate([q, k])[rng.permutation(n + len(k))[:m]]
            if index % 2
            else size * rng.standard_normal((m, d))
        )
        r, block, normalised = lifted(q, k, z, 0.7)
        found = psd_lift(q, k, z, scale=0.7)
        half = np.linalg.eigvalsh(r)[-1] / 2
        true = {
            "spectral": np.linalg.norm(block, 2),
            "frobenius": np.linalg.norm(block),
            "largest": np.abs(block).max(),
            "normalised": np.linalg.norm(normalised),
        }
        assert true["spectral"] <= half + 1e-9
        for name, value in true.items():
            high = getattr(found, name).value
            assert value <= high + 1e-6, name
            if value > 1e-4:
                ratios[name].append(high / value)
        if value > 1e-4:
            ratios["spectral"][-1] = half / true["spectral"]
    for name, found in ratios.items():
        assert len(found) > many(2000, 800)
        assert np.median(found) < 25, name
        weaker = 0.5 if name == "normalised" else 0.97
        assert min(found) < 1 / weaker, f"{name}: {weaker} of the bound would be caught"


def test_psd_lift_by_lanczos(lane):
    q, k, _ = head(60)
    z = np.concatenate([q, k])[::10]
    r, block, _ = lifted(q, k, z, 8**-0.5)
    found = psd_lift(lane(q), lane(k), lane(z), ratio=1.2)
    half = np.linalg.eigvalsh(r)[-1] / 2
    assert np.linalg.norm(block, 2) <= half <= found.spectral.value <= 1.25 * half
    assert found.spectral.probability == 0.99
    assert (found.entries - 120 * 12 - 144) % 120**2 == 0
    np.testing.assert_allclose(
        np.asarray(r.diagonal()), [*map(float, found.residual_q), *map(float, found.residual_k)], atol=1e-9
    )
    with pytest.raises(errors.RangeError, match="scale"):
        psd_lift(lane(q), lane(k), lane(z), scale=-1.0)


def test_propagation_on_a_real_core():
    """The backward form beats the naive one for the paper's iteration on a softmax core."""
    q, k, _ = head(300)
    operator = attention.nystrom_operator(q, k, 12, pinv=partial(pinv.razavi, iterations=3))
    eye = np.eye(300)
    f = attention.exact(q, operator.key_landmarks, np.eye(12))
    b = attention.exact(operator.query_landmarks, k, eye)
    found = bounds.pinv_error(operator.core, operator.pinv.value, f.T @ f, b @ b.T)
    true = np.linalg.norm(f @ (np.linalg.pinv(operator.core) - operator.pinv.value) @ b)
    assert found.exact == pytest.approx(true, rel=1e-3)
    assert true <= found.backward.value * (1 + 1e-9)
    assert true <= found.naive.value * (1 + 1e-9)
