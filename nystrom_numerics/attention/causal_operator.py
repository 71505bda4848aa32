r"""Causal attention as an operator, known by what it makes of values."""

from __future__ import annotations

from nystrom_numerics.attention.arguments import check_arguments
from nystrom_numerics.attention.causal import causal, checked_sizes
from nystrom_numerics.attention.operators import AttentionOperator, FunctionOperator
from nystrom_numerics.attention.padding import hide
from nystrom_numerics.backend import Array

__all__ = ["causal_entries", "causal_operator"]


def causal_operator(
    q: Array,
    k: Array,
    /,
    *,
    block: int = 128,
    near: int = 32,
    group: int | None = None,
    routed: int = 4,
    key_mask: Array | None = None,
    scale: float | None = None,
    check_finite: bool = False,
) -> AttentionOperator:
    r"""Causal attention as an :class:`~nystrom_numerics.attention.AttentionOperator`: row i is zero behind i.

    Parameters
    ----------
    q, k, block, near, group, routed, key_mask, scale, check_finite
        As in :func:`causal`; masked keys are masked queries.

    Returns
    -------
    AttentionOperator

    Raises
    ------
    DTypeError, DeviceError, NamespaceError, NonFiniteError, RangeError, ShapeError
        As :func:`causal`.

    Notes
    -----
    Cost: entries of a call as :func:`causal` says.

    ``apply`` is a call of :func:`causal`.  Rows come by way of the columns of all tokens up to the last that is asked
    for, 256 at a time; the diagonal and the transpose by way of all columns: n/256 calls for 256 values each, and
    n × 256 numbers held.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import attention
    >>> q, k = np.random.default_rng(0).standard_normal((2, 60, 4))
    >>> made = attention.causal_operator(q, k, block=8, near=4)
    >>> bool(np.allclose(made.rows([3, 50]).sum(axis=-1), 1)), bool(made.rows([3])[0, 4:].any())
    (True, False)
    """

    def attend(v: Array) -> Array:
        return causal(
            q,
            k,
            v,
            block=block,
            near=near,
            group=group,
            routed=routed,
            key_mask=key_mask,
            scale=scale,
            check_finite=check_finite,
        )

    a = check_arguments(q, k, scale=scale, key_mask=key_mask, oneself=True, check_finite=check_finite)
    attend(a.xp.zeros_like(k[..., :1]))  # what is wrong is said here
    xp, mask, n = a.xp, a.key_mask, int(q.shape[-2])
    if mask is not None:
        n = int(xp.max(xp.count_nonzero(mask, axis=-1)))
    entries = causal_entries(n, *checked_sizes(block, near, group, routed))
    tokens = hide(xp, q, mask), hide(xp, k, mask)
    return FunctionOperator(
        *tokens, mask, mask, a.scale, False, entries, attend, causal=True, stochastic=True
    )


def causal_entries(n: int, block: int, near: int, group: int, routed: int) -> int:
    """Kernel entries that :func:`causal` evaluates for n tokens, of the pairs that it does not mask.

    Of each query its own block up to itself, near keys, groups before, and the keys of those that it chooses; of each
    pilot all keys before it.
    """
    total = 0
    for start in range(0, n, block):
        queries, groups = min(block, n - start), start // group
        total += queries * (queries + 1) // 2 + start
        total += queries * (min(near, start) + groups + min(routed, groups) * group)
    return total
