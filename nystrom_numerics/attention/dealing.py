"""Attention of queries to groups of keys that each has chosen: queries are dealt out to groups, not keys to queries."""

from __future__ import annotations

from typing import Any

from nystrom_numerics.backend import Array, device_of
from nystrom_numerics.linalg import transpose
from nystrom_numerics.places import inverse_order

__all__ = ["attend_chosen"]

TABLE = 32
"""Queries that meet one group at a time."""


def attend_chosen(xp: Any, q: Array, groups: Array, chosen: Array) -> tuple[Array, Array, Array]:
    r"""What queries make of each group that they choose.

    Parameters
    ----------
    q : array (n, d)
    groups : array (G, l, d + d_v)
        Keys and values side by side.
    chosen : array (n, r) of int64
        The numbers of groups, in [0, G]; G stands for none.

    Returns
    -------
    array (n, r, d_v), array (n, r, 1), array (n, r, 1)
        :math:`\sum_j e^{x_{ij}-t_i}v_j`, :math:`t_i` and :math:`\sum_j e^{x_{ij}-t_i}` over each group, with
        :math:`x_{ij} = q_i\cdot k_j`; 0, −∞ and 0 for none.

    Notes
    -----
    The pairs of a query and a group, in the order of groups, sit at tables of :data:`TABLE` of one group each.  Tables
    are P/TABLE + G, P = nr, whatever is chosen: shapes do not depend on data, and nothing comes back to the host.
    A place at its group's tables depends on the queries before it alone.  To move queries takes P d numbers; to move
    the keys of P groups would take P l d.  Cost: at most (P + TABLE · G) l kernel entries.
    """
    n, r = chosen.shape
    count, d = groups.shape[0], q.shape[-1]
    pairs, tables = n * r, n * r // TABLE + count
    label = xp.reshape(chosen, (-1,))
    order = xp.argsort(label, stable=True)
    bounds = xp.arange(count + 1, dtype=xp.int64, device=device_of(q))
    begin = xp.searchsorted(xp.take(label, order), bounds)  # of each group among the pairs, and of none
    used = (begin[1:] - begin[:-1] + TABLE - 1) // TABLE
    end = xp.cumulative_sum(used)
    number = xp.arange(tables, dtype=xp.int64, device=device_of(q))
    group = xp.clip(xp.searchsorted(end, number, side="right"), max=count - 1)
    seat = xp.arange(TABLE, dtype=xp.int64, device=device_of(q))
    first = xp.take(begin, group) + TABLE * (number - xp.take(end - used, group))
    pair = xp.take(order, xp.clip(xp.reshape(first[:, None] + seat, (-1,)), max=pairs - 1))
    rows = xp.reshape(xp.take(q, pair // r, axis=0), (tables, TABLE, d))
    met = xp.take(groups, group, axis=0)
    scores = rows @ transpose(met[..., :d])
    top = xp.max(scores, axis=-1, keepdims=True)
    weights = xp.exp(scores - top)
    total, out = xp.sum(weights, axis=-1, keepdims=True), weights @ met[..., d:]
    exists, of = label < count, xp.clip(label, max=count - 1)
    seat = TABLE * xp.take(end - used, of) + inverse_order(xp, order) - xp.take(begin, of)  # of each pair
    seat = xp.where(exists, seat, xp.zeros_like(seat))
    out, top, total = (xp.take(xp.reshape(x, (-1, x.shape[-1])), seat, axis=0) for x in (out, top, total))
    there = exists[:, None]
    out, total = (xp.where(there, x, xp.zeros_like(x[:, :1])) for x in (out, total))
    top = xp.where(there, top, xp.full_like(top, -xp.inf))
    out, top, total = (xp.reshape(x, (n, r, x.shape[-1])) for x in (out, top, total))
    return out, top, total
