"""Certificates of any operator: the truth from all rows, intervals from some, and what they cost."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from nystrom_numerics import attention, errors
from nystrom_numerics.attention import AttentionOperator, certify_draws, certify_operator
from nystrom_numerics.attention.row_errors import KnowsItsErrors
from tests.attention.operator_cases import ONE, PAIRS, every, qkv
from tests.thorough import many


def head(n=300, d=8, seed=0):
    """Smooth tokens with noise, and a special first one."""
    rng = np.random.default_rng(seed)
    base = 1.5 * np.cos(np.linspace(0, 3, n)[:, None] * np.arange(1, d + 1))
    q, k, v = (base + 0.6 * rng.standard_normal((n, d)) for _ in range(3))
    q[0] *= 3
    return q, k, v


def truth(operator, q, k, v, key_mask=None, query_mask=None):
    rows = slice(None) if query_mask is None else query_mask
    ahead = np.tri(len(k), dtype=bool) if operator.causal else None
    exact = attention.exact(q, k, np.eye(len(k)), key_mask=key_mask, attn_mask=ahead)
    error = operator.apply(np.eye(len(k))) - exact
    return np.linalg.norm(error[rows]), np.linalg.norm((error @ v)[rows])


@every
@pytest.mark.parametrize("masked", [False, True])
def test_all_rows_give_the_errors(name, masked, rng):
    q, k, v = head(60)
    mask = rng.random(60) < (0.8 if masked else 2)
    masks = {"key_mask": mask, "query_mask": mask} if masked else {}
    operator = PAIRS[name][1](q, k, **masks)
    found = certify_operator(operator, v, rows=60)
    assert found.rows == mask.sum()
    for c, t in zip((found.matrix, found.output), truth(operator, q, k, v, **masks), strict=True):
        assert c.estimate.value == pytest.approx(t, rel=1e-7, abs=1e-10)
        assert c.probability == 1
    if not name.startswith("exact"):
        assert found.matrix.estimate.value > 0.01 or "all near" in name
    elif not masked:
        assert found.matrix.upper.value < 1e-10


@every
def test_padding_changes_no_number_of_a_certificate(name, rng):
    q, k, v = head(60)
    mask = np.zeros(80, bool)
    mask[np.sort(rng.permutation(80)[:60])] = True
    wide = [np.full((80, 8), np.nan) for _ in range(3)]
    for x, real in zip(wide, (q, k, v), strict=True):
        x[mask] = real
    operators = PAIRS[name][1](q, k), PAIRS[name][1](*wide[:2], key_mask=mask, query_mask=mask)
    assert operators[0].entries == operators[1].entries
    for rows in (None, 20):
        alone, padded = (
            certify_operator(o, x, rows=rows) for o, x in zip(operators, (v, wide[2]), strict=True)
        )
        for side in ("matrix", "output"):
            for end in ("lower", "upper"):
                expected = getattr(getattr(alone, side), end).value
                assert getattr(getattr(padded, side), end).value == pytest.approx(
                    expected, rel=1e-7, abs=1e-9
                )
        assert (padded.rows, padded.exact_entries, padded.entries) == (
            alone.rows, alone.exact_entries, alone.entries,
        )  # fmt: skip


@every
def test_rows_known_to_be_stochastic_are_and_bound_an_error_with_certainty(name, rng):
    q, k, v = head(60)
    operator = PAIRS[name][1](3 * q, k)
    found = certify_operator(operator, v, rows=10).certain
    if operator.stochastic:
        s = operator.rows(range(60))
        assert s.min() >= 0
        np.testing.assert_allclose(s.sum(axis=-1), 1, rtol=1e-12)
        assert found.upper.value >= truth(operator, 3 * q, k, v)[0]
        most = np.sqrt(found.lower.value**2 + 50 * 2)
        if isinstance(operator, KnowsItsErrors):
            assert found.upper.value <= most * (1 + 1e-9)
        else:
            assert found.upper.value == pytest.approx(most, rel=1e-9)
    elif not name.startswith(("nystrom", "near_field")):  # whose rows have lengths that are known
        assert found.upper.value is None or np.isinf(found.upper.value)


def test_certificates_of_causal_attention_count_the_past_alone(rng):
    q, k, v = head(200)
    operator = attention.causal_operator(q, k, block=8, near=4)
    found = certify_operator(operator, v, rows=200)
    assert found.exact_entries == 200 * 201 // 2
    assert found.entries == found.exact_entries + operator.entries
    assert certify_operator(operator, v).rows == int(operator.entries / (201 / 2))
    full = certify_operator(attention.exact_operator(q, k, causal=True), v, rows=20)
    assert full.matrix.upper.value < 1e-10


def test_intervals_of_tangent_hold_the_truth():
    covered, count = np.zeros(2), 0
    for seed in range(many(20, 5)):
        q, k, v = head(seed=seed)
        operator = attention.tangent_operator(q, k, blocks=8, near=12, groups=6)
        errors_there = truth(operator, q, k, v)
        for draw in range(4):
            found = certify_operator(operator, v, rows=75, rng=draw)
            covered += [
                c.lower.value <= t <= c.upper.value
                for c, t in zip((found.matrix, found.output), errors_there, strict=True)
            ]
            count += 1
            assert found.certain.lower.value <= errors_there[0]
            assert found.matrix.upper.value < 3 * errors_there[0]
    assert (covered >= 0.95 * count).all(), covered / count


def test_what_a_certificate_costs_is_counted():
    q, k, v = head()
    operator = attention.tangent_operator(q, k, blocks=8, near=12, groups=6)
    found = certify_operator(operator, v)
    assert found.rows == operator.entries // 300
    assert found.exact_entries == found.rows * 300
    assert found.entries == found.exact_entries + operator.entries


def test_certificates_agree_in_all_libraries(lane, dtype):
    q, k, v = (x.astype(dtype) for x in head(150))
    tol = 1e-3 if dtype == "float32" else 1e-9
    expected, found = (
        certify_operator(attention.tangent_operator(x(q), x(k), **ONE), x(v), rows=40)
        for x in (np.asarray, lane)
    )
    for side in ("matrix", "output"):
        assert getattr(found, side).upper.value == pytest.approx(getattr(expected, side).upper.value, rel=tol)


@pytest.mark.parametrize("name", [name for name in PAIRS if not name.startswith("nystrom")])
def test_what_cannot_be_certified_is_said_of_the_operator(name, rng):
    make, (q, k, v) = PAIRS[name][1], qkv(rng)
    nothing = np.zeros(60, bool)
    with pytest.raises(errors.RangeError, match="`operator` is of"):
        certify_operator(make(q, k, key_mask=nothing, query_mask=nothing), v)
    with pytest.raises(errors.ShapeError, match="`operator` is of a batch"):
        certify_operator(make(q[None], k[None]), v)
    with pytest.raises(errors.ShapeError, match="`v`"):
        certify_operator(make(q, k), v[:-1])
    with pytest.raises(errors.RangeError, match="`rows`"):
        certify_operator(make(q, k), v, rows=61)
    q[3] = np.nan
    with pytest.raises(errors.NonFiniteError, match="`operator`"):
        certify_operator(make(q, k), v)


def test_what_is_no_operator_is_refused(rng):
    q, k, v = qkv(rng)
    for wrong in (None, 3, q, attention.tangent, partial(attention.tangent, q)):
        with pytest.raises(errors.KindError, match="`operator`"):
            certify_operator(wrong, v)
    with pytest.raises(errors.NamespaceError, match="`operator`"):
        certify_operator(AttentionOperator, v)
    spoiled = replace(attention.exact_operator(q, k), k=np.full_like(k, np.inf))
    with pytest.raises(errors.NonFiniteError, match="`operator`"):
        certify_operator(spoiled, v)


@every
@pytest.mark.parametrize("options", [{"rows": 40}, {"within": 0.5}])
def test_many_draws_are_each_a_certificate_of_its_own(name, options, rng):
    """Rows computed once or as they are looked at: the same intervals, and the same entries counted."""
    q, k, v = head(120)
    mask = rng.random(120) < 0.9
    operator = PAIRS[name][1](q, k, key_mask=mask, query_mask=mask)
    for seed, made in enumerate(certify_draws(operator, v, range(3), **options)):
        alone = certify_operator(operator, v, rng=seed, **options)
        assert (made.rows, made.exact_entries, made.entries) == (
            alone.rows,
            alone.exact_entries,
            alone.entries,
        )
        assert made.reach.looks == alone.reach.looks
        for one, other in (
            (made.matrix, alone.matrix),
            (made.output, alone.output),
            (made.certain, alone.certain),
            (made.guaranteed.matrix, alone.guaranteed.matrix),
            (made.guaranteed.relative, alone.guaranteed.relative),
        ):
            ends = [(c.lower.value, c.upper.value) for c in (one, other)]
            assert ends[0] == pytest.approx(ends[1], rel=1e-9, abs=1e-12)


class ButFor:
    """Exact attention, but that some rows are even; it says nothing of its errors."""

    def __init__(self, operator, odd):
        self.operator, self.odd = operator, odd

    def __getattr__(self, name):
        return getattr(self.operator, name)

    def rows(self, indices):
        made = self.operator.rows(indices)
        return np.where(
            np.isin(indices, self.odd)[:, None], self.operator.key_mask / self.operator.key_mask.sum(), made
        )


def test_queries_unlike_their_block_are_looked_at_first():
    """Few rows that hold all of an error: met by every draw, and no padding changes which are seen."""
    q, k, v = (x.copy() for x in head(600))
    odd = np.array([201, 450, 577])
    q[odd] = -q[odd]
    place = [100, 300, 300]
    mask = np.insert(np.ones(600, dtype=bool), place, False)
    whole = ButFor(attention.exact_operator(q, k, key_mask=mask[mask], query_mask=mask[mask]), odd)
    truth = certify_operator(whole, v, rows=600).matrix.estimate.value
    made = certify_draws(whole, v, range(20), rows=64)
    assert all(
        c.matrix.lower.value <= truth * (1 + 1e-9) and truth <= c.matrix.upper.value * (1 + 1e-9)
        for c in made
    )
    q, k, v = (np.insert(x, place, 7.0, axis=0) for x in (q, k, v))
    padded = ButFor(attention.exact_operator(q, k, key_mask=mask, query_mask=mask), np.flatnonzero(mask)[odd])
    for one, other in zip(made, certify_draws(padded, v, range(2), rows=64), strict=False):
        assert one.matrix.upper.value == pytest.approx(other.matrix.upper.value, rel=1e-9)
