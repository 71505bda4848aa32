"""Ways to let tokens meet, each as a module of one interface at the kernel entries of Nyström attention.

``make(name, sizes)`` gives a module that takes states (b, n, dim) and a mask (b, n), True for real tokens, or None, and
gives states.  ``sizes.m`` is the number of landmarks: a method evaluates about 2m entries a query, or as many values of
features where it has no kernel.  What others keep as a package is taken from there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

from experiments.inputs import packages
from experiments.inputs.packages import Package

__all__ = ["EXACT", "MIXERS", "NONE", "NYSTROM", "Mixer", "Sizes", "make"]

EXACT, NYSTROM, NONE = "exact", "Nyström", "no attention"


@dataclass(frozen=True)
class Sizes:
    """Width, heads, the most tokens of a sequence, and landmarks."""

    dim: int
    heads: int
    length: int
    m: int


@dataclass(frozen=True)
class Mixer:
    """How a method is made, its entries a head for n tokens and m landmarks, and where it comes from.

    ``linear`` methods are those that the paper's is compared with; controls and exact attention are not among them.
    """

    make: Callable[[Sizes], Any]
    entries: Callable[[int, int], int]
    source: str
    linear: bool = True
    package: Package | None = None


def make(name: str, sizes: Sizes) -> Any:
    """The module of a method.

    Raises
    ------
    NotAvailableError
        It comes from a package that is not installed.
    """
    mixer = MIXERS[name]
    if mixer.package is not None:
        packages.needs_rival(mixer.package)
    return mixer.make(sizes)


def _late(module: str, name: str, sizes: Sizes) -> Any:
    """What a module of this folder makes; Torch is loaded with it and not before."""
    return getattr(import_module(f"{__name__}.{module}"), name)(sizes)


_own, _sampled, _packaged = (partial(partial, _late, module) for module in ("own", "sampled", "packaged"))


def _twice(n: int, m: int) -> int:
    return 2 * m * n


_PAPER = "Xiong et al. 2021, eq. (13) and (14)"

MIXERS: dict[str, Mixer] = {
    EXACT: Mixer(
        _own("exact"), lambda n, m: n * n, "Vaswani et al. 2017, by Torch's fused kernel", linear=False
    ),
    NYSTROM: Mixer(
        _own("nystrom"), lambda n, m: 2 * m * n + m * m, f"{_PAPER}, with its convolution of 33 values"
    ),
    "Nyström without convolution": Mixer(_own("nystrom_alone"), lambda n, m: 2 * m * n + m * m, _PAPER),
    "near field": Mixer(
        _own("near"), lambda n, m: 2 * m * n + (m // 4 - 1) ** 2, "attention.near_field of this package"
    ),
    "tangents": Mixer(_own("tangents"), _twice, "attention.tangent of this package"),
    "random keys": Mixer(_sampled("random"), _twice, "2m keys drawn evenly at every call"),
    "strided keys": Mixer(_sampled("strided"), _twice, "2m keys at equal distances"),
    "important keys": Mixer(
        _sampled("important"),
        lambda n, m: 2 * m * n + n,
        "2m keys drawn by their attention to the mean query, with the weights of importance sampling",
    ),
    "Linformer": Mixer(
        _packaged("linformer"), _twice, "Wang et al. 2020, k = 2m", package=packages.LINFORMER
    ),
    "Performer": Mixer(
        _packaged("performer"), _twice, "Choromanski et al. 2021, m features", package=packages.PERFORMER
    ),
    "Reformer": Mixer(
        _packaged("reformer"),
        _twice,
        "Kitaev et al. 2020, 2 hashes, buckets of m/2",
        package=packages.REFORMER,
    ),
    "local windows": Mixer(
        _packaged("local"),
        lambda n, m: 3 * max(1, round(2 * m / 3)) * n,
        "a window and its two neighbours, 2m keys",
        package=packages.LOCAL,
    ),
    "nystrom-attention": Mixer(
        _packaged("nystrom"),
        lambda n, m: 2 * m * n + m * m,
        f"{_PAPER}, as kept by P. Wang",
        package=packages.PEER,
    ),
    "convolution alone": Mixer(
        _own("convolution"),
        lambda n, m: 0,
        "the paper's convolution of values, and no attention",
        linear=False,
    ),
    NONE: Mixer(_own("nothing"), lambda n, m: 0, "tokens do not meet before the mean", linear=False),
}
"""By the names of tables."""
