"""MRA-2: two resolutions of blocks."""

from __future__ import annotations

import numpy as np

from experiments.rivals.answer import Answer, Array, attend

BLOCK = 8


def mra_2(q: Array, k: Array, v: Array, m: int, *, scale: float, block: int = BLOCK) -> Answer:
    r"""Blocks of 8 × 8 entries by one entry each, that of their mean query and mean key; the largest ones exactly.

    In block (x, y) every entry of exp(scale · QKᵀ) is taken for
    :math:`\mu_{xy} = \exp(s\,\bar q_x\cdot\bar k_y)`, and the blocks of largest :math:`\mu_{xy}` are computed; rows are
    divided by their sums.

    Source: Zeng et al., "Multi Resolution Analysis (MRA) for Approximate Self-Attention" (ICML 2022): sections 4.1 to
    4.4 with two resolutions, which they call MRA-2.  As in the authors' implementation (``mlpen/mra-attention``, also
    in transformers as ``mra2_attention``), what is ranked is the coarse logit less the largest of its row of blocks, so
    that every row has its largest block, and tokens are counted where a block at the end is short.  Departure, kinder
    to it: their blocks are 32 × 32, which suits a GPU; smaller ones have a lower error on the heads of the experiments.

    Entries: one for each block, and those of the refined blocks, as many as 2mn allows.  Exact where it allows all.
    """
    of_query, of_key = np.arange(len(q)) // block, np.arange(len(k)) // block
    coarse = scale * _means(q, of_query) @ _means(k, of_key).T
    areas = np.outer(np.bincount(of_query), np.bincount(of_key))
    order = np.argsort(coarse.max(axis=1, keepdims=True) - coarse, axis=None, kind="stable")
    spent = coarse.size + np.cumsum(areas.ravel()[order])
    refined = np.zeros(coarse.shape, dtype=bool)
    refined.ravel()[order[spent <= 2 * m * len(q)]] = True
    fine = refined[of_query][:, of_key]
    scores = np.where(fine, scale * q @ k.T, coarse[of_query][:, of_key])
    return Answer(attend(scores, v), coarse.size + int(fine.sum()))


def _means(x: Array, of: Array) -> Array:
    """Of each block's tokens."""
    return np.stack([x[of == block].mean(axis=0) for block in range(of[-1] + 1)])
