"""The attention of chosen tokens, drawn: a few rows of an operator, and never all n × n of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nystrom_numerics.arguments import require_indices, require_instance
from nystrom_numerics.attention import AttentionOperator
from nystrom_numerics.backend import Array, floating, namespace, to_numpy
from nystrom_numerics.errors import KindError, RangeError, ShapeError
from nystrom_numerics.extras import brought_by
from nystrom_numerics.kernels import Index

__all__ = ["draw_rows"]

WORDS = 80
"""Keys up to which each has its label beside it."""


def draw_rows(
    operator: AttentionOperator,
    tokens: Index,
    /,
    *,
    labels: Sequence[str] | None = None,
    places: Array | None = None,
) -> Any:
    """A figure of what chosen tokens attend to: a row of keys each, or, with places, a picture each.

    Parameters
    ----------
    operator : AttentionOperator
        Of any estimator, for one head: shape (n_q, n_k).
    tokens : sequence or array of int
        Queries, by number.
    labels : sequence of str, optional
        Of the n_k keys, such as the words of a text.
    places : array (n_k, 2), optional
        Where keys stand, x before y from the top left, such as patches of a slide.

    Returns
    -------
    matplotlib.figure.Figure
        matplotlib is needed.  What is masked is left out.

    Raises
    ------
    DeviceError, DTypeError, KindError, NamespaceError, RangeError, ShapeError
        Naming the argument.

    Notes
    -----
    Cost: ``operator.rows(tokens)``; memory for as many rows of n_k numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from nystrom_numerics import attention
    >>> from nystrom_numerics.integrations.drawing import draw_rows
    >>> q, k = np.random.default_rng(0).standard_normal((2, 900, 8))
    >>> side = np.arange(900)
    >>> figure = draw_rows(attention.tangent_operator(q, k), [0, 450], places=np.stack([side % 30, side // 30], 1))
    >>> [axes.get_title() for axes in figure.axes[:2]]
    ['token 0', 'token 450']
    """
    with brought_by("plots"):
        from matplotlib.figure import Figure

    require_instance("operator", operator, AttentionOperator, "an AttentionOperator")
    if len(operator.shape) != 2:
        raise ShapeError("operator", f"of shape {operator.shape}", "one head: shape (n_q, n_k)")
    n_q, n_k = operator.shape
    words, where, numbers = _labels(labels, n_k), _places(places, n_k), _numbers(tokens, n_q)
    rows = to_numpy(operator.rows(numbers))
    real = np.arange(n_k) if operator.key_mask is None else np.flatnonzero(to_numpy(operator.key_mask))
    rows = rows[:, real]
    if where is None:
        figure = Figure(figsize=(11, 1.2 + 0.35 * len(rows)), layout="constrained")
        axes = figure.subplots()
        image = axes.imshow(rows, aspect="auto", cmap="viridis", interpolation="nearest")
        axes.set_yticks(range(len(rows)), [f"token {i}" for i in numbers])
        axes.set_xlabel("key")
        if words is not None and len(real) <= WORDS:
            axes.set_xticks(range(len(real)), [words[i] for i in real], rotation=90, fontsize=7)
        figure.colorbar(image, ax=axes, label="attention")
        return figure
    figure = Figure(figsize=(3.4 * len(rows) + 0.8, 3.4), layout="constrained")
    for axes, row, number in zip(figure.subplots(1, len(rows), squeeze=False)[0], rows, numbers, strict=True):
        dots = axes.scatter(
            *where[real].T, c=row, s=max(2.0, 4e4 / (9 * len(real))), marker="s", cmap="viridis"
        )
        axes.set(title=f"token {number}", aspect="equal", xticks=[], yticks=[])
        axes.invert_yaxis()
        figure.colorbar(dots, ax=axes, shrink=0.8)
    return figure


def _numbers(tokens: Any, n_q: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    if not isinstance(tokens, (np.ndarray, list, tuple, range)):
        namespace(tokens=tokens)
        tokens = to_numpy(tokens)
    found = require_indices("tokens", tokens, n_q)
    if not found.size:
        raise ShapeError("tokens", "empty", "a token at least")
    return found


def _labels(labels: Any, n_k: int) -> list[str] | None:
    if labels is None:
        return None
    if isinstance(labels, (str, bytes)) or not isinstance(labels, Sequence):
        raise KindError("labels", type(labels).__name__, "a sequence of str")
    for label in labels:
        require_instance("labels", label, str, "a sequence of str")
    if len(labels) != n_k:
        raise RangeError("labels", f"{len(labels)} of them", f"one for each of {n_k} keys")
    return list(labels)


def _places(places: Any, n_k: int) -> np.ndarray[Any, Any] | None:
    if places is None:
        return None
    xp = namespace(places=places)
    if not xp.isdtype(places.dtype, "integral"):
        floating(xp, places=places)
    if tuple(places.shape) != (n_k, 2):
        raise ShapeError("places", f"of shape {tuple(places.shape)}", f"shape ({n_k}, 2)")
    return to_numpy(places)
