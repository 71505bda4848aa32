"""Other ways to approximate attention in linear time, each from its published description, at counted kernel entries.

A rival takes one head, q (n, d), k (n, d), v (n, d_v), and ``m``, and gives ŜV and the kernel entries it took: 2mn,
about, as many as Nyström attention with m landmarks.  They say what a method gets out of its entries, and are not fast:
arrays of n × n stand where a real implementation has blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from experiments.rivals.answer import Answer, Array
from experiments.rivals.column_sampling import kdeformer
from experiments.rivals.coreset import wildcat
from experiments.rivals.multiresolution import mra_2
from experiments.rivals.sorted_lsh import hyper_attention
from experiments.rivals.top_keys import top_keys
from experiments.rivals.window import window_with_sinks

__all__ = [
    "DRAWN",
    "FIXED",
    "RIVALS",
    "Answer",
    "answers",
    "hyper_attention",
    "kdeformer",
    "mra_2",
    "top_keys",
    "wildcat",
    "window_with_sinks",
]

FIXED: dict[str, Callable[..., Answer]] = {
    "MRA-2": mra_2,
    "window with sinks": window_with_sinks,
    "top keys (oracle)": top_keys,
}
DRAWN: dict[str, Callable[..., Answer]] = {
    "HyperAttention": hyper_attention,
    "KDEformer (exact probabilities)": kdeformer,
    "WildCat": wildcat,
}
"""Those that take a generator of random numbers, ``rng``."""

RIVALS = (*FIXED, *DRAWN)


def answers(
    name: str, q: Array, k: Array, v: Array, m: int, *, scale: float, seeds: Iterable[int]
) -> list[Answer]:
    """The rival's answer; one for each seed where it draws."""
    if name in FIXED:
        return [FIXED[name](q, k, v, m, scale=scale)]
    return [DRAWN[name](q, k, v, m, scale=scale, rng=np.random.default_rng(seed)) for seed in seeds]
