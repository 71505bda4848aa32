"""HyperAttention: blocks of queries and keys that hash alike, and a uniform sample of the other keys."""

from __future__ import annotations

import numpy as np

from experiments.rivals.answer import Answer, Array, attend

PROJECTIONS = 7


def hyper_attention(
    q: Array, k: Array, v: Array, m: int, *, scale: float, rng: np.random.Generator
) -> Answer:
    """Exact within blocks of queries and keys sorted by one hash, beside m keys drawn for all other entries.

    Tokens are hashed by the signs of their products with seven random directions, and buckets stand in an order in
    which neighbours differ by one sign (a Gray code).  Queries and keys, each so sorted, are cut into as many blocks,
    and the blocks on the diagonal are exact.  Of all keys m are drawn uniformly, with replacement, and stand for those
    outside a query's block, each with a weight of n/m; what a draw has in the block of the query does not count.

    Source: Han et al., "HyperAttention: Long-context Attention in Near-Linear Time" (ICLR 2024): Algorithm 1 (sortLSH),
    Algorithms 2 and 3 in the practical form of section 4, as the authors implement it (``insuhan/hyper-attn``): one
    uniform sample for both the row sums and the product.  Departure: where n is no multiple of the block, blocks are
    balanced instead of padded.

    Entries: n m in blocks, about, and n m in the sample.  Exact where m ≥ n, one block.
    """
    directions = rng.standard_normal((q.shape[1], PROJECTIONS))
    blocks = -(-len(k) // m)
    block_of_query, block_of_key = (_blocks(hashes(x, directions), blocks) for x in (q, k))
    near = block_of_query[:, None] == block_of_key
    scores = scale * q @ k.T
    if blocks == 1:
        return Answer(attend(scores, v), scores.size)
    draws = np.bincount(rng.integers(len(k), size=m), minlength=len(k))
    with np.errstate(divide="ignore"):
        sampled = scores + np.log(draws * len(k) / m)
    return Answer(attend(np.where(near, scores, sampled), v), int(near.sum()) + len(q) * m)


def hashes(x: Array, directions: Array) -> Array:
    """The place of each token's bucket in an order in which neighbours differ by one sign."""
    code = (x @ directions > 0) @ (1 << np.arange(directions.shape[1]))
    place, shift = code.copy(), code >> 1
    while shift.any():
        place ^= shift
        shift >>= 1
    return place


def _blocks(hashed: Array, blocks: int) -> Array:
    """The block of each token, once tokens are sorted by their hashes."""
    of = np.empty(len(hashed), dtype=int)
    for block, members in enumerate(np.array_split(np.argsort(hashed, kind="stable"), blocks)):
        of[members] = block
    return of
