"""Queries dealt out to groups of keys of their own choice, against one query at a time."""

from __future__ import annotations

import numpy as np
import pytest

from nystrom_numerics.attention.dealing import TABLE, attend_chosen
from nystrom_numerics.backend import namespace, to_numpy


def one_at_a_time(q, groups, chosen):
    d = q.shape[1]
    out = np.zeros((*chosen.shape, groups.shape[2] - d))
    top, total = np.full((*chosen.shape, 1), -np.inf), np.zeros((*chosen.shape, 1))
    for place in np.ndindex(*chosen.shape):
        if chosen[place] < len(groups):
            keys, values = groups[chosen[place]][:, :d], groups[chosen[place]][:, d:]
            scores = keys @ q[place[0]]
            top[place], weights = scores.max(), np.exp(scores - scores.max())
            out[place], total[place] = weights @ values, weights.sum()
    return out, top, total


@pytest.mark.parametrize("favourite", [None, 0, 6], ids=["any", "the first by all", "the last by all"])
@pytest.mark.parametrize("n", [1, 5, 3 * TABLE + 1])
def test_each_query_meets_the_groups_that_it_chose(n, favourite, lane, rng):
    """Also where one group fills many tables, where most are chosen by nobody, and where some choose fewer."""
    q, groups = rng.standard_normal((n, 4)), rng.standard_normal((7, 3, 6))
    chosen = np.stack([rng.permutation(8)[:4] for _ in range(n)])  # 7 stands for none
    if favourite is not None:
        chosen = np.full((n, 4), 7)
        chosen[:, 1] = favourite
    q_, groups_, chosen_ = lane(q), lane(groups), lane(chosen)
    got = attend_chosen(namespace(q=q_), q_, groups_, chosen_)
    for x, expected in zip(got, one_at_a_time(q, groups, chosen), strict=True):
        np.testing.assert_array_equal(np.isfinite(to_numpy(x)), np.isfinite(expected))
        np.testing.assert_allclose(to_numpy(x), expected, rtol=1e-12, atol=1e-12)
